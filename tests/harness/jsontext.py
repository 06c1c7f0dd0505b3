"""JSON as it was sent: every value knows its text, objects keep keys that stand twice, and
numbers their digits. Python's own parser does the reading.

    parse(b'{"a": 1.50, "a": [ ]}').pairs  ->  [("a", Number("1.50")), ("a", Array(...))]
"""

import json
import re
import sys
from json.decoder import JSONArray, JSONObject
from json.scanner import py_make_scanner

# The filter follows about 200 levels; no test has what lies between the two.
LEVELS = 300
CALLS_A_LEVEL = 8  # what Python's parser needs, and more


class NotJson(ValueError):
    """The text is no JSON, by RFC 8259."""


class Number(str):
    """A number's digits, as sent."""


class Text(str):
    """A string; `text` is what was sent."""

    text = ""


class Array(list):
    """`text` is what was sent."""

    text = ""


class Object:
    """`pairs` are (name, value), in order; `text` is what was sent."""

    def __init__(self, pairs, text=""):
        self.pairs = pairs
        self.text = text

    def __eq__(self, other):
        return isinstance(other, Object) and self.pairs == other.pairs

    def __repr__(self):
        return f"Object({self.pairs!r})"

    def first(self):
        """(name, value) of each name where it stands for the first time."""
        found = {}
        for name, value in self.pairs:
            found.setdefault(name, value)
        return found

    def repeated(self):
        """How many names stand there again."""
        return len(self.pairs) - len(self.first())


def parse(body):
    """The value of a body (bytes, or str). Raises NotJson."""
    limit = sys.getrecursionlimit()
    try:
        text = body if isinstance(body, str) else body.decode()
        sys.setrecursionlimit(max(limit, LEVELS * CALLS_A_LEVEL))
        return _Decoder().decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None
    finally:
        sys.setrecursionlimit(limit)


def text_of(value):
    """What was sent for a value that is no string."""
    if isinstance(value, (Array, Object, Text)):
        return value.text
    return {None: "null", True: "true", False: "false"}[value] if not isinstance(value, Number) else str(value)


def write(value):
    """JSON text of a value, all that is not ASCII escaped."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, Object):
        return "{" + ",".join(f"{json.dumps(name)}:{write(item)}" for name, item in value.pairs) + "}"
    return json.dumps(value)


class _Decoder(json.JSONDecoder):
    """The one in C cannot be told to note where a value begins and ends; the one in Python,
    which is the same but for that, can."""

    def __init__(self):
        super().__init__(object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=_refuse)
        self.parse_object = self._noting(JSONObject, lambda pairs: pairs)
        self.parse_array = self._noting(JSONArray, Array)
        read_string = self.parse_string
        self.parse_string = lambda where, begin, strict=True: _noted(where, begin, read_string(where, begin, strict))
        self.scan_once = py_make_scanner(self)
        self.level = 0

    def _noting(self, read, made):
        def note(where, *rest):
            self.level += 1
            if self.level > LEVELS:
                raise NotJson(f"more than {LEVELS} levels")
            found, end = read(where, *rest)
            self.level -= 1
            text, begin = where
            value = made(found)
            value.text = text[begin - 1:end]
            return value, end
        return note


def _noted(where, begin, read):
    value, end = Text(read[0]), read[1]
    value.text = where[begin - 1:end]
    return value, end


def _refuse(name):
    raise NotJson(f"{name} is no JSON")


# An escaped pair; half of one; any other escape.
_ESCAPE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|(\\.)", re.DOTALL)


def mend(text):
    """JSON text with the escapes of lone surrogates replaced by U+FFFD's; and how many."""
    halves = 0

    def replace(found):
        nonlocal halves
        halves += bool(found[2])
        return "\\ufffd" if found[2] else found[0]

    return _ESCAPE.sub(replace, text), halves
