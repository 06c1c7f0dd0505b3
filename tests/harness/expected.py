"""What a batch must become, said a second time: the rules of the mapping from a client's
record to an OTLP LogRecord, written from their description and independently of the
filter, so that each is the other's test.

    (record, …) = expected(body, subject="u-1", received=moment, window=Window())

gives the records as harness.otlp.records_of() does, in the order in which they are
encoded. `received` is the server's clock in nanoseconds; times that depend on it say so
(see Moment), for the server shows it in milliseconds only. state() says besides what is
odd about them.
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field

import xxhash

from .clocks import MICROSECOND, SECOND, Moment, Stamp, Window, correct, nanoseconds, rfc3339
from .jsontext import Array, NotJson, Number, Object, Text, mend, parse, text_of

__all__ = ["MICROSECOND", "SECOND", "Moment", "Refused", "Window", "differences", "expected", "nanoseconds", "rfc3339",
           "state", "typed"]

DEEPEST = 16
MOST_ATTRIBUTES = 1_024
MOST_RECORDS = 10_000
LONGEST_NAME = 256
INT_DIGITS = 20  # no number of 64 bits has more, sign and all

SEVERITIES = {
    "trace": (1, "TRACE"),
    "debug": (5, "DEBUG"),
    "info": (9, "INFO"),
    "warning": (13, "WARN"),
    "warn": (13, "WARN"),
    "error": (17, "ERROR"),
    "fatal": (21, "FATAL"),
    "critical": (21, "FATAL"),
}

# The filter writes these itself; a client's attribute of such a name moves to client.<name>.
RESERVED = {"server_received_at", "client_timestamp", "timestamp_adjustment", "enduser.id", "user.id", "session.id",
            "app.installation.id", "trace_id", "span_id", "attributes", "breadcrumbs", "active_run", "log.record.uid"}
RESERVED_BELOW = ("exception.", "active_run.")

# A client's field, in both generations' spellings.
FIELDS = {name: name for name in ("timestamp", "level", "logger", "message", "attributes", "error", "active_run")}
# These are attributes too, under another name.
ATTRIBUTES = {
    "stackTrace": "exception.stacktrace", "stack_trace": "exception.stacktrace",
    "installId": "app.installation.id", "install_id": "app.installation.id",
    "sessionId": "session.id", "session_id": "session.id",
    "userId": "user.id", "user_id": "user.id",
    "breadcrumbs": "breadcrumbs",
}
IDS = {"traceId": "trace_id", "trace_id": "trace_id", "spanId": "span_id", "span_id": "span_id"}
HEX_DIGITS = {"trace_id": 32, "span_id": 16}
FIELDS |= ATTRIBUTES | IDS

# What Dart itself puts before the first ": ", besides the name of a type.
DART_OPENINGS = {"Bad state", "Invalid argument(s)", "Invalid argument", "Unsupported operation",
                 "Concurrent modification during iteration", "Assertion failed"}
TYPE_NAME = re.compile(r"(?:[A-Za-z_$][\w$]*\.)*[_$]*[A-Z][\w$]*", re.ASCII)


class Refused(Exception):
    """The request as a whole, for the reason in `args`; no record is a reason."""


@dataclass
class State:
    """What a batch must become. `odd` is what is counted, by kind."""

    records: list = field(default_factory=list)
    resource_dropped: int = 0
    odd: Counter = field(default_factory=Counter)


def expected(body, **known):
    """The records of a body, as the backend must find them."""
    return state(body, **known).records


def state(body, *, subject, received, issuer="", window=None, configured=None, received_at=None):
    """`configured` is mapping.resource; `received_at` is the text of server_received_at, made
    from `received` if it is not given. Raises Refused."""
    found = State()
    envelope, logs = envelope_of(body, found.odd)
    resource = resource_of(next(iter(given_values(envelope, "resource")), None), configured or {}, found)
    server = {"server_received_at": received_at or rfc3339(received), "enduser.id": subject}
    mapped = [Record(value, received, found.odd) for value in logs]
    if window:
        correct([each.stamp for each in mapped], received, window, sent_at(envelope))
    by_scope = {}
    for each in mapped:
        found.odd["moved_timestamp"] += each.stamp.adjustment in ("clock_drift", "too_old", "too_new")
        by_scope.setdefault(each.logger, []).append(each)
    for each, uid in zip(mapped, uids_of(logs, issuer, subject)):
        each.uid = uid
    found.records = [each.finish(resource, {**server, "log.record.uid": each.uid})
                     for group in by_scope.values() for each in group]
    found.odd = +found.odd
    return found


def uids_of(logs, issuer, subject):
    """log.record.uid of each record: by its text, whose it is, and its place among records of the same text."""
    seed, seen = int.from_bytes(hashlib.sha256(f"{issuer}\0{subject}".encode()).digest()[:8], "little"), Counter()
    for value in logs:
        text = text_of(value).encode()
        place, seen[text] = seen[text], seen[text] + 1
        uid = xxhash.xxh3_128_digest(text, seed)
        if place:
            uid = xxhash.xxh3_128_digest(uid + place.to_bytes(8, "big"), seed)
        yield uid.hex()


# The envelope.

def envelope_of(body, odd):
    """The envelope, and the records of each `logs` that stands in it."""
    try:
        text, odd["repaired_text"] = mend(body.decode())
        envelope = parse(text)
    except (NotJson, UnicodeDecodeError):
        raise Refused("body_not_json") from None
    lists = [value for name, value in envelope.pairs if name == "logs"] if isinstance(envelope, Object) else []
    lists = [value for value in lists if isinstance(value, Array)]
    if not lists:
        raise Refused("envelope_without_logs")
    records = [record for each in lists for record in each]
    if len(records) > MOST_RECORDS:
        raise Refused("too_many_records")
    return envelope, records


def resource_of(resource, configured, found):
    attributes = Attributes(found.odd, dict(configured))
    if isinstance(resource, Object):
        attributes.all_of(resource)
    else:
        attributes.add("resource", resource)
    if "service.name" not in attributes.bounded():
        attributes.own["service.name"] = "unknown_service"
    made = attributes.bounded()
    found.resource_dropped = attributes.dropped
    return made


def given_values(envelope, *names):
    """Those of the envelope's fields that aren't null, which is the same as absent; the first one counts."""
    return [value for name, value in envelope.pairs if name in names and value is not None]


def sent_at(envelope):
    """The device's clock at sending, if it can be read."""
    given = given_values(envelope, "sent_at", "sentAt")
    return nanoseconds(given[0]) if given and is_string(given[0]) else None


# Values.

def is_string(value):
    return isinstance(value, str) and not isinstance(value, Number)


def as_text(value):
    return value if is_string(value) else text_of(value)


def any_value(value, odd, depth=1):
    """An AnyValue as harness.otlp shows it."""
    if isinstance(value, Number):
        return number(value)
    if not isinstance(value, (Array, Object)):
        return value  # a string, true, false, null
    if depth > DEEPEST:
        odd["cut_depth"] += 1
        return value.text
    if isinstance(value, Array):
        return [any_value(item, odd, depth + 1) for item in value]
    odd["duplicate_key"] += value.repeated()
    return {name: any_value(item, odd, depth + 1) for name, item in value.first().items()}


def number(digits):
    """Whole within 64 bits, whole beyond, with fraction or exponent, beyond what a double holds."""
    if not re.search("[.eE]", digits):
        fits = len(digits) <= INT_DIGITS and -(2**63) <= int(digits) < 2**63
        return int(digits) if fits else str(digits)
    value = float(digits)
    return value if abs(value) != float("inf") else str(digits)


class Attributes:
    """The attributes of a record or a resource: `own` are the filter's, which always have room,
    `clients` are those under names that the client chose. No name stands twice."""

    def __init__(self, odd, own, reserved=lambda name: False):
        self.odd = odd
        self.own = own
        self.clients = {}
        self.reserved = reserved
        self.dropped = 0

    def all_of(self, fields):
        self.odd["duplicate_key"] += fields.repeated()
        for name, value in fields.first().items():
            self.add(name, value)

    def add(self, name, value, reserved=None):
        """An attribute under a name that the client chose."""
        if value is None:
            return
        chosen = self.free(cut(name), reserved or self.reserved)
        if chosen is None:
            self.drop()
            return
        self.odd["renamed_attribute"] += chosen != cut(name)
        self.clients[chosen] = any_value(value, self.odd)

    def free(self, name, reserved):
        """That name, or the first client.<name> that is free; None if there is no other."""
        while reserved(name) or name in self.own or name in self.clients:
            name, before = cut("client." + name), name
            if name == before:
                return None
        return name

    def write(self, name, value):
        """An attribute under a name of the filter's own."""
        if value is not None:
            self.own[name] = any_value(value, self.odd)

    def drop(self):
        self.dropped += 1
        self.odd["dropped_attribute"] += 1

    def bounded(self):
        """All that there is room for: the client's last make way."""
        while self.clients and len(self.own) + len(self.clients) > MOST_ATTRIBUTES:
            self.clients.popitem()
            self.drop()
        return {**self.clients, **self.own}


def cut(name):
    """At most so many bytes, all characters whole."""
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")


def is_reserved(name):
    return name in RESERVED or name.startswith(RESERVED_BELOW)


def exception(error):
    """What Dart's toString() says: type and message."""
    kind, found, message = error.partition(": ")
    if found and (kind in DART_OPENINGS or is_type(kind)):
        return {"exception.type": kind, "exception.message": message}
    return {"exception.message": error}


def is_type(text):
    """One type's name, perhaps with generics."""
    name = text.partition("<")[0]
    left, before = text, None
    while left != before:
        # The innermost <…>, which holds names with commas between them, becomes one mark.
        left, before = re.sub(r"(?<=[\w$])<[\w$.\0]+\??(?:, ?[\w$.\0]+\??)*>", "\0", left, flags=re.ASCII), left
    return bool(TYPE_NAME.fullmatch(name)) and left in (name, name + "\0")


# One record.

class Record:
    """A record: what of it is an attribute, and what is not."""

    def __init__(self, value, received, odd):
        self.odd = odd
        self.attributes = Attributes(odd, {}, is_reserved)
        self.logger = ""
        self.parts = {}
        self.sent = None
        self.adjustment = "missing"
        if isinstance(value, Object):
            self.read(value)
        else:
            odd["not_an_object"] += 1
            self.read_message(value)
        self.observed = Moment(received, of_server=True) if self.sent is None else Moment(self.sent)
        self.stamp = Stamp(self.sent, self.observed, self.adjustment)

    def read(self, fields):
        """A field that has a value already, in its other spelling, is an attribute like any."""
        self.odd["duplicate_key"] += fields.repeated()
        filled = set()
        for name, value in fields.first().items():
            known = FIELDS.get(name)
            if value is None:
                continue
            if known is None or known in filled:
                self.attributes.add(name, value)
                continue
            filled.add(known)
            if name in ATTRIBUTES:
                self.attributes.write(known, value)
            elif name in IDS:
                self.read_id(known, value)
            else:
                getattr(self, f"read_{name}")(value)

    def read_timestamp(self, value):
        sent = as_text(value)
        self.attributes.write("client_timestamp", sent)
        self.sent = nanoseconds(sent) if is_string(value) else None
        self.adjustment = "unparsable" if self.sent is None else None
        self.odd["unreadable_timestamp"] += self.sent is None

    def read_level(self, value):
        sent = as_text(value)
        known = SEVERITIES.get(sent.lower())
        self.odd["unknown_level"] += known is None
        self.parts["severity_number"], self.parts["severity_text"] = known or (0, sent)

    def read_logger(self, value):
        self.logger = as_text(value)

    def read_message(self, value):
        self.parts["body"] = any_value(value, self.odd)

    def read_attributes(self, value):
        if isinstance(value, Object):
            self.attributes.all_of(value)
        else:
            self.attributes.write("attributes", value)

    def read_error(self, value):
        """Something else than a string has no type to split off."""
        parts = exception(value) if is_string(value) else {"exception.message": value}
        for name, part in parts.items():
            self.attributes.write(name, part)

    def read_id(self, name, value):
        if is_string(value) and re.fullmatch(f"[0-9a-fA-F]{{{HEX_DIGITS[name]}}}", value) and value.strip("0"):
            self.parts[name] = value.lower()
        else:
            self.odd["invalid_id"] += 1
            self.attributes.write(name, value)

    def read_active_run(self, value):
        if not isinstance(value, Object):
            self.attributes.write("active_run", value)
            return
        self.odd["duplicate_key"] += value.repeated()
        for name, item in value.first().items():
            if name in ("thread_id", "run_id"):
                self.attributes.write(f"active_run.{name}", item)
            else:
                self.attributes.add(f"active_run.{name}", item, reserved=lambda _: False)

    def finish(self, resource, server):
        self.attributes.own |= server
        if self.stamp.adjustment:
            self.attributes.own["timestamp_adjustment"] = self.stamp.adjustment
        attributes = self.attributes.bounded()
        return {
            "resource": resource,
            "scope": self.logger,
            "time_unix_nano": self.stamp.time,
            "observed_time_unix_nano": self.observed,
            "severity_number": 0,
            "severity_text": "",
            "body": None,
            "trace_id": "",
            "span_id": "",
            "dropped_attributes_count": self.attributes.dropped,
            "flags": 0,
            "duplicate_names": [],
            **self.parts,
            "attributes": attributes,
        }


# Comparing.

def typed(value):
    """A value with its types spelled out: to Python 1, 1.0 and True are the same, and so are
    0.0 and -0.0."""
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return ("str" if isinstance(value, Text) else type(value).__name__, repr(value))


def different(actual, wanted):
    for name in sorted(actual.keys() | wanted.keys()):
        value, aim = actual.get(name, "nothing"), wanted.get(name, "nothing")
        if typed(value) != typed(aim):
            yield f"{name!r} is {value!r}, not {aim!r}"


def differences(actual, wanted, exact=False):
    """How the records at the backend differ from those expected, one line each.

    Unless the server's clock is known exactly, it is known to a millisecond, cut off: all times
    reckoned from it may be later by the same rest, which is less than that."""
    lines = []
    if len(actual) != len(wanted):
        lines.append(f"{len(actual)} records instead of {len(wanted)}")
    rests = set()
    for number, (got, want) in enumerate(zip(actual, wanted)):
        for name in sorted(got.keys() | want.keys()):
            value, aim = got.get(name, "nothing"), want.get(name, "nothing")
            if isinstance(aim, Moment):
                if aim.of_server and not exact:
                    rests.add(value - aim.as_sent())
                elif value != aim.as_sent():
                    lines.append(f"record {number}: {name} is {value}, not {aim.as_sent()}")
            elif name == "attributes":
                lines += [f"record {number}: attribute {line}" for line in different(value, aim)]
            elif typed(value) != typed(aim):
                lines.append(f"record {number}: {name} is {value!r}, not {aim!r}")
    if len(rests) > 1 or any(not 0 <= rest < 1_000_000 for rest in rests):
        lines.append(f"times reckoned from the server's clock are off by {sorted(rests)} ns")
    return lines
