"""Batches that nobody would send, but somebody will: generated, and made small again where
one of them shows a fault.

    random = Random(seed)
    body = batch(random, received)

All that depends on chance comes from `random`, so a seed gives the same batches again.
SECOND_OPINION_SEED in the environment is that seed, SECOND_OPINION_BATCHES how many there are.
"""

import json
import os
import random as chance
from datetime import datetime, timedelta, timezone

from .jsontext import Array, NotJson, Number, Object, parse, write

SEED = int(os.environ.get("SECOND_OPINION_SEED") or chance.SystemRandom().getrandbits(32))
COUNT = int(os.environ.get("SECOND_OPINION_BATCHES") or 4_000)

LEVELS = [
    "trace", "debug", "info", "warning", "warn", "error", "fatal", "critical", "Info", "ERROR", "notice", "",
    "Fehler",
]
LOGGERS = ["Auth", "Router.Home", "Http", "", "Größe", "a.b.c", "Auth "]
OWN_NAMES = ["server_received_at", "client_timestamp", "timestamp_adjustment", "enduser.id", "user.id", "session.id",
             "app.installation.id", "trace_id", "span_id", "attributes", "breadcrumbs", "active_run", "log.record.uid",
             "exception.type", "exception.message", "exception.stacktrace", "exception.x", "active_run.thread_id"]
FIELDS = [
    "timestamp", "level", "logger", "message", "attributes", "error", "stackTrace", "stack_trace", "spanId",
    "span_id", "traceId", "trace_id", "installId", "install_id", "sessionId", "session_id", "userId", "user_id",
    "active_run", "breadcrumbs",
]
NAMES = [
    "a", "b", "http.status", "battery", "screen_size", "", "ключ", "a b", "Level", "service.name", "resource",
    "logs", "\ud83d",
]
ERRORS = [
    "FormatException: Unexpected character (at character 1)", "_TypeError: type 'Null'", "package.Name: x", "x: y",
    "Result<List<int>, Error?>: a: b", "Bad state: No element", "Invalid argument(s): x", "no colon", "Exception:",
    "", "Unsupported operation: y", ": z", "Two Words: z", "SocketException: a\nb: c", "A<b: c", "lower: c",
    "Ошибка: x",
]
NUMBERS = [
    "0", "-0", "1", "-1", "42", "9007199254740993", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "18446744073709551616", "123456789012345678901234567890", "0.0",
    "-0.0", "1.5", "0.1", "1e3", "1E+2", "1e-7", "5e-324", "1e-400", "1.7976931348623157e308",
    "1.7976931348623159e308", "1e309", "-1e999", "0e0", "-0e-0", "3.141592653589793238462643383279",
    "2.2250738585072011e-308",
]
TEXTS = [
    "", "x", "User logged in", "Nachricht gesendet ✅", "你好", "a\nb\t\"c\"\\d/", "\u0000\u001f\u007f",
    "\u2028\ufeff\uffff", "\ud83d", "half \ude00 of it", "\ud83d\ud83d", "e\u0301", "\U0001f600", "null", "1",
]
BREAKING = [
    *(bytes([char]) for char in b'{}[]",:\\0-.eEtfn \n\x00\x1f\x7f\x80\xff'), b"", b"", b"\\u", b"\\ud83d", b"NaN",
    b"-Infinity", b"01", b"\xed\xa0\xbd", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"null", b"'", b"//",
    b"true", b'""',
]
DIGITS = "0123456789abcdefABCDEF"
YEAR = 31_557_600


def batch(random, received):
    """The body of one request, as bytes. `received` is the server's clock, in nanoseconds."""
    return Batch(random, received, ERRORS).body()


def broken(random, received):
    """The same with some bytes changed, which mostly makes it no JSON."""
    # Which names are those of types is said of real ones only.
    made = bytearray(Batch(random, received, [error for error in ERRORS if "<" not in error]).body())
    for _ in range(random.choice([1, 1, 2])):
        at, size = random.randrange(len(made) + 1), random.choice([0, 1, 1, 2])
        made[at:at + size] = random.choice(BREAKING)
        if random.random() < 0.1:
            del made[random.randrange(len(made) + 1):]
    return bytes(made)


class Batch:
    """Values are made as JSON text, since two texts can be one value."""

    def __init__(self, random, received, errors):
        self.random = random
        self.errors = errors
        self.now = datetime.fromtimestamp(received // 10**9, timezone.utc)
        # How wrong the device's clock is, which is the same for most of a batch.
        self.drift = random.choice([0, 0, 0, -5, 20, 59, 61, 300, 10_800, -90_000, -172_800, 65 * YEAR, -56 * YEAR])
        self.spaces = random.random() < 0.1
        self.odd = random.choice([0.02, 0.2, 0.6])

    def body(self):
        size = self.random.choice([0, 1, 1, 1, 2, 3, 5, 8])
        parts = [("logs", self.array([self.record() for _ in range(size)]))]
        if self.chance(0.6):
            parts.append(("resource", self.resource()))
        if self.chance(0.3):
            parts.append((self.pick("sent_at", "sentAt"), self.timestamp() if self.chance(0.9) else self.value()))
        if self.chance(self.odd / 4):
            parts.append((self.pick("resource", "extra", "logs", "sentAt"), self.array([self.record()])))
        self.random.shuffle(parts)
        return self.object(parts).encode()

    def resource(self):
        if self.chance(self.odd / 4):
            return self.value()
        names = ["service.name", "service.version", "os.name", "deployment.environment", "n", "client.n", *NAMES]
        return self.object([(self.pick(*names), self.value()) for _ in range(self.random.randrange(6))])

    # One record.

    def record(self):
        if self.chance(self.odd / 8):
            return self.value()
        fields = []
        for name in FIELDS:
            if self.chance(0.35 if name in ("error", "active_run", "breadcrumbs") else 0.5):
                fields.append((name, self.field(name)))
        for _ in range(self.random.choice([0, 0, 0, 1, 3])):
            fields.append((self.name(), self.value()))
        if self.chance(self.odd):
            self.random.shuffle(fields)
        if fields and self.chance(self.odd / 2):
            fields.append((self.pick(*fields)[0], self.value()))
        return self.object(fields)

    def field(self, name):
        """As the field is meant, mostly."""
        if self.chance(self.odd / 3):
            return self.value()
        if self.chance(0.1):
            return "null"
        made = {
            "timestamp": self.timestamp, "attributes": self.attributes, "active_run": self.active_run,
            "breadcrumbs": self.breadcrumbs, "level": lambda: self.string(self.pick(*LEVELS)),
            "logger": lambda: self.string(self.pick(*LOGGERS)), "error": lambda: self.string(self.pick(*self.errors)),
        }.get(name)
        if name.startswith(("span", "trace")):
            return self.string(self.hex(16 if name.startswith("span") else 32))
        return made() if made else self.text()

    def timestamp(self):
        away = self.drift - self.random.choice([0, 1, 30, 3_000, 84_600, 84_601, 90_000]) * self.random.random()
        if self.chance(self.odd / 4):
            away = self.pick(-60 * YEAR, 7 * 86_400, 3_000, 3_001, -84_600, 60)
        at = self.now + timedelta(seconds=away)
        form = self.random.random()
        if form < 0.1 * self.odd:
            return self.string(self.pick(
                "06/02/2026 12:00", "", "2026-02-06", "2026-02-30T00:00:00Z", "2026-02-06T12:00Z",
                "2026-02-06T24:00:00Z",
                "2016-12-31T23:59:60Z", "2026-02-06T23:59:60Z", "2026-02-06T12:00:60Z", "0000-02-29T00:00:00Z",
                "-000001-01-01T00:00:00Z", "+275760-09-13T00:00:00.000Z", "9999-12-31T23:59:59.999999999Z",
                "1969-12-31T23:59:59.999999999Z", "2554-07-21T23:34:33.709551615Z", "2554-07-21T23:34:33.709551616Z"))
        micros = at.microsecond
        fraction = self.pick("", ".5", ".1234567890123", f".{micros // 1000:03}", f".{micros:06}", f".{micros:06}789")
        zone = self.pick("Z", "Z", "z", "", "+00:00", "-00:00")
        if self.chance(0.2):
            hours, minutes = self.random.randrange(24), self.pick(0, 30, 45, 59)
            sign = self.pick(1, -1)
            at += timedelta(minutes=sign * (60 * hours + minutes))
            zone = f"{'+' if sign > 0 else '-'}{hours:02}:{minutes:02}"
        return self.string(f"{at.year:04}-{at:%m-%d}{self.pick('T', 'T', 't', ' ')}{at:%H:%M:%S}{fraction}{zone}")

    def attributes(self):
        size = 1_030 if self.chance(0.002) else self.random.choice([0, 1, 2, 4, 8])
        names = [f"n{n}" for n in range(size)] if size > 1_000 else [self.name() for _ in range(size)]
        return self.object([(name, "1" if size > 1_000 else self.value()) for name in names])

    def name(self):
        """Of an attribute: some are the filter's, some are long, some stand there already."""
        kind = self.random.random()
        if kind < 0.5:
            return self.pick(*NAMES)
        if kind < 0.75:
            return "client." * self.random.choice([0, 0, 0, 1, 1, 2]) + self.pick(*OWN_NAMES)
        if kind < 0.75 + 0.1 * self.odd:
            char, times = self.pick("é", "n", "€", "\U0001f600"), self.pick(60, 85, 128, 129, 240)
            return char * times + self.pick("", "x", "yz")
        return "".join(self.random.choice("abcdefgh._") for _ in range(self.random.randrange(1, 12)))

    def active_run(self):
        fields = [("thread_id", self.pick('"t-19"', "null", self.value())), ("run_id", self.pick('"r-7"', "null"))]
        if self.chance(self.odd / 2):
            fields.append((self.pick("thread_id", "more", "", self.name()), self.value()))
        return self.object(fields)

    def breadcrumbs(self):
        names = ["timestamp", "level", "logger", "message", "category", "more"]
        return self.array([
            self.object([(name, self.value() if self.chance(self.odd / 2) else self.text()) for name in names])
            for _ in range(self.random.randrange(4))
        ])

    def hex(self, digits):
        if self.chance(self.odd):
            return self.pick("", "xyz", "0" * digits, "g" * digits, "a" * (digits - 1), "é" * (digits // 2))
        return "".join(self.random.choice(DIGITS) for _ in range(digits))

    # Values of any kind, as JSON text.

    def value(self, depth=0):
        kind = self.random.random() + depth / 8
        if kind < 0.1:
            return self.array([self.value(depth + 1) for _ in range(self.pick(0, 1, 2, 3))])
        if kind < 0.2:
            return self.object([(self.pick(*NAMES), self.value(depth + 1)) for _ in range(self.pick(0, 1, 2, 3))])
        if kind < 0.2 + self.odd / 20:
            return self.deep()
        made = self.pick(self.text, self.text, self.number, self.number, "true", "false", "null")
        return made if isinstance(made, str) else made()

    def deep(self):
        value, levels = self.value(depth=8), self.random.choice([14, 15, 16, 17, 18, 40, 100])
        for _ in range(levels):
            pairs = [(self.pick("k", "k2"), value), ("k", "0")]
            value = f"[{value}]" if self.chance(0.5) else self.object(pairs[:self.pick(1, 2)])
        return value

    def number(self):
        if self.chance(0.5):
            return self.pick(*NUMBERS)
        if self.chance(0.02):
            return "9" * self.random.choice([400, 5_000]) + self.pick("", ".5", "e1", "e-5000")
        random = self.random
        return repr(self.pick(random.randrange(-10**6, 10**6), random.uniform(-1e6, 1e6), random.getrandbits(70),
                              random.random() * 10.0 ** random.randrange(-300, 300)))

    def text(self):
        return self.string("".join(self.pick(*TEXTS) for _ in range(self.random.choice([0, 1, 1, 2]))))

    def string(self, text):
        """Escaped where it must be, where it can be, or here and there."""
        if self.chance(0.7):
            made = json.dumps(text, ensure_ascii=self.chance(0.3))
        else:
            made = '"' + "".join(self.escaped(char) if self.chance(0.3) else json.dumps(char, ensure_ascii=False)[1:-1]
                                 for char in text) + '"'
        # What is no character has no bytes: it can only be sent as an escape.
        return "".join(self.escaped(char) if "\ud800" <= char <= "\udfff" else char for char in made)

    def escaped(self, char):
        form = self.pick("\\u{:04x}", "\\u{:04X}")
        units = char.encode("utf-16-be", "surrogatepass")
        return "".join(form.format(int.from_bytes(units[at:at + 2], "big")) for at in range(0, len(units), 2))

    def array(self, items):
        return "[" + self.space() + ",".join(item + self.space() for item in items) + "]"

    def object(self, pairs):
        return "{" + self.space() + ",".join(
            self.string(name) + self.space() + ":" + self.space() + value + self.space() for name, value in pairs) + "}"

    def space(self):
        return self.random.choice(["", " ", "\n", "\t\r\n"]) if self.spaces else ""

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, *choices):
        return self.random.choice(choices)


# Making a batch small.

def smaller(body):
    """Bodies with a little less in them than this one, those with much less first."""
    try:
        value = parse(body)
    except NotJson:
        return []
    made = {write(each).encode() for each in less(value)} - {body}
    return sorted((each for each in made if len(each) < len(body)), key=len)


def less(value):
    """Each value that lacks one part of `value`, at any depth."""
    if isinstance(value, Array):
        for at, item in enumerate(value):
            yield Array(value[:at] + value[at + 1:])
            yield from (Array([*value[:at], each, *value[at + 1:]]) for each in less(item))
        if len(value) == 1:
            yield value[0]
    elif isinstance(value, Object):
        for at, (name, item) in enumerate(value.pairs):
            before, after = value.pairs[:at], value.pairs[at + 1:]
            yield Object(before + after)
            yield from (Object([*before, (name, each), *after]) for each in less(item))
            if len(value.pairs) == 1:
                yield item
    elif isinstance(value, str) and len(value) > 1 and not isinstance(value, Number):
        yield from (value[:len(value) // 2], value[len(value) // 2:], value[:-1])
