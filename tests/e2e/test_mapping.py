"""From JSON to OTLP, through the release module: every record is compared, field by field,
with what harness/expected.py says that it must be. The official decoder reads both."""

import json
import time
from datetime import datetime, timedelta, timezone

import pytest

from harness import expected as rules
from harness import otlp
from harness.common import FIXTURES
from harness.expected import SECOND, Window, differences, expected, rfc3339
from harness.gateways import serving

SUBJECT = "subject-of-the-token"
NOW = "2026-02-06T12:00:00.000Z"


@pytest.fixture(scope="module")
def shared_exact(wasm_module, session_key, sink):
    """Timestamps arrive as they were sent."""
    config = {"rate_limits": None, "mapping": {"window": None}}
    with serving(sink, session_key, config=config) as gate:
        gate.window = None
        yield gate


@pytest.fixture(scope="module")
def shared_windowed(wasm_module, session_key, sink):
    """Timestamps are corrected, which is the default."""
    with serving(sink, session_key, config={"rate_limits": None}) as gate:
        gate.window = Window()
        yield gate


@pytest.fixture
def exact(shared_exact, sink):
    sink.forget()
    return shared_exact


@pytest.fixture
def windowed(shared_windowed, sink):
    sink.forget()
    return shared_windowed


@pytest.fixture(params=["exact", "windowed"])
def gate(request):
    return request.getfixturevalue(request.param)


def deliver(gate, batch, **more):
    """Sends a batch (a value, or the body's bytes) and compares all that arrives with what is
    expected. The records as they arrived."""
    body = batch if isinstance(batch, bytes) else json.dumps(batch, separators=(",", ":")).encode()
    records = gate.deliver(body, sub=SUBJECT).records
    stamps = {record["attributes"]["server_received_at"] for record in records}
    assert len(stamps) == 1
    received = rules.nanoseconds(stamps.pop())
    wanted = expected(body, subject=SUBJECT, received=received, window=gate.window, **more)
    assert differences(records, wanted) == []
    return records


def one(gate, **record):
    """The only record of a batch, sent and compared."""
    (arrived,) = deliver(gate, {"logs": [record]})
    return arrived


def raw(gate, text):
    """The same for a record given as JSON text."""
    (arrived,) = deliver(gate, b'{"logs":[' + text.encode() + b"]}")
    return arrived


class TestFixtures:
    @pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("*.json")))
    def test_as_they_are(self, gate, name):
        body = (FIXTURES / name).read_bytes()
        assert len(deliver(gate, body)) == len(json.loads(body)["logs"])

    def test_there_are_some(self):
        names = {path.name for path in FIXTURES.glob("*.json")}
        assert {"first-generation.json", "second-generation.json", "odd-records.json", "full-batch-100.json"} <= names

    def test_both_generations_in_one_batch(self, gate):
        batches = [json.loads((FIXTURES / f"{which}-generation.json").read_bytes()) for which in ("first", "second")]
        mixed = [record for pair in zip(*(batch["logs"] for batch in batches)) for record in pair]
        deliver(gate, {"logs": mixed, "resource": batches[0]["resource"]})

    def test_both_generations_say_the_same(self, exact):
        first = one(exact, timestamp=NOW, stackTrace="s", spanId="a1b2c3d4e5f67890", installId="i", sessionId="s",
                    userId="u", traceId="2858b245789667e5f284d6f014f510ec")
        second = one(exact, timestamp=NOW, stack_trace="s", span_id="a1b2c3d4e5f67890", install_id="i", session_id="s",
                     user_id="u", trace_id="2858b245789667e5f284d6f014f510ec")
        for record in (first, second):
            del record["attributes"]["server_received_at"], record["attributes"]["log.record.uid"]
        assert first == second
        assert first["trace_id"] and first["span_id"] and first["attributes"]["user.id"] == "u"


class TestEnvelope:
    def test_one_resource_and_one_scope_a_logger(self, exact):
        """Scopes in order of first appearance, records in the client's order."""
        loggers = ["Http", "Auth", "Http", "", "Router.Home", "Auth", "Http"]
        batch = {"logs": [{"logger": logger, "message": number} for number, logger in enumerate(loggers)]}
        request = exact.deliver(batch)
        (resource_logs,) = request.message.resource_logs
        scopes = [(scope_logs.scope.name, [record.body.int_value for record in scope_logs.log_records])
                  for scope_logs in resource_logs.scope_logs]
        assert scopes == [("Http", [0, 2, 6]), ("Auth", [1, 5]), ("", [3]), ("Router.Home", [4])]

    @pytest.mark.parametrize("resource", [
        {}, None, {"service.name": None}, {"service.name": "app"}, {"": "empty name"}, {"nested": {"a": [None]}},
        {"a": 1, "b": 1.5, "c": True, "d": None, "e": ["x", 2]},
    ], ids=str)
    def test_resource(self, exact, resource):
        deliver(exact, {"logs": [{"message": "x"}], "resource": resource})

    def test_no_resource(self, exact):
        assert one(exact, message="x")["resource"] == {"service.name": "unknown_service"}

    @pytest.mark.parametrize("resource", ["text", 7, ["a"]], ids=str)
    def test_a_resource_that_is_no_object_fails_no_record(self, exact, resource):
        deliver(exact, {"logs": [{"message": "x"}], "resource": resource})

    def test_the_envelope_in_any_order(self, exact):
        body = b'{"resource":{"a":1},"extra":[{"logs":[1]}],"logs":[{"message":"x"}]}'
        assert deliver(exact, body)[0]["resource"]["a"] == 1

    def test_configured_attributes_win(self, wasm_module, session_key, sink):
        """Over the client's, whatever their type, which do not vanish for that."""
        configured = {"deployment.environment.name": "production", "service.name": "gateway", "n": 7, "f": 1.5,
                      "b": True}
        mapping = {"resource": configured, "window": None}
        with serving(sink, session_key, config={"mapping": mapping}) as gate:
            sink.forget()
            gate.window = None
            resource = {"service.name": "app", "n": "x", "deployment.environment.name": None, "own": 1}
            records = deliver(gate, {"logs": [{"message": "x"}], "resource": resource}, configured=configured)
            overruled = {"client.service.name": "app", "client.n": "x"}
            assert rules.typed(records[0]["resource"]) == rules.typed({**configured, **overruled, "own": 1})
            assert records[0]["duplicate_names"] == []


class TestServer:
    """What the server knows, on every record."""

    def test_on_each_record(self, gate):
        records = deliver(gate, {"logs": [{"timestamp": NOW}, {}, 7, None]})
        assert [record["attributes"]["enduser.id"] for record in records] == [SUBJECT] * 4

    def test_its_clock(self, exact):
        before = time.time_ns()
        stamp = one(exact, message="x")["attributes"]["server_received_at"]
        # Cut to milliseconds; Envoy's clock may lag by as much as its event loop turns.
        assert rfc3339(before - SECOND // 20) <= stamp <= rfc3339(time.time_ns())

    @pytest.mark.parametrize("stamp", [NOW, "2026-02-06T12:00:00.000123Z", "nonsense", "", " 2026-02-06T12:00:00Z"])
    def test_what_the_client_said(self, exact, stamp):
        assert one(exact, timestamp=stamp)["attributes"]["client_timestamp"] == stamp


class TestSeverity:
    @pytest.mark.parametrize("level", [
        "trace", "debug", "info", "warning", "error", "fatal", "warn", "critical", "TRACE", "Warning", "FATAL", "eRRor",
        "notice", "", "verbose", " info", "informational",
    ])
    def test_levels(self, exact, level):
        one(exact, level=level)

    def test_none(self, exact):
        for record in deliver(exact, {"logs": [{}, {"level": None}]}):
            assert (record["severity_number"], record["severity_text"]) == (0, "")


class TestTimestamp:
    GOOD = [
        "2026-02-06T12:00:00.000Z", "2026-02-06T12:00:00.000123Z", "2026-02-06T12:00:00.123456789Z",
        "2026-02-06T12:00:00Z", "2026-02-06T12:00:00.5Z", "2026-02-06T12:00:00+02:00", "2026-02-06T12:00:00.25-11:30",
        "2026-02-06T12:00:00.000", "2026-02-06 12:00:00.000Z", "2026-02-06t12:00:00z", "2024-02-29T23:59:59.999Z",
        "2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z", "1970-01-01T00:00:00.000Z", "2000-02-29T00:00:00Z",
        "2091-02-06T12:00:00Z", "2026-02-06T00:30:00+14:00",
    ]

    @pytest.mark.parametrize("stamp", GOOD)
    def test_to_the_nanosecond(self, exact, stamp):
        record = one(exact, timestamp=stamp)
        assert record["time_unix_nano"] == record["observed_time_unix_nano"]
        assert "timestamp_adjustment" not in record["attributes"]

    @pytest.mark.parametrize("stamp", [
        "06/02/2026 12:00", "", "now", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z",
        "2026-02-06T24:30:00Z", "2026-02-06T12:60:00Z", "2026-02-06T12:00:61Z", "20260206", "2026-02-06T12:00:00+",
        "2026-02-06T12:00:00Zx", "２０２６-02-06T12:00:00Z",
    ])
    def test_what_cannot_be_read(self, gate, stamp):
        record = one(gate, timestamp=stamp)
        assert record["attributes"]["client_timestamp"] == stamp

    def test_that_is_missing(self, gate):
        for record in deliver(gate, {"logs": [{"message": "a"}, {"message": "b", "timestamp": None}]}):
            assert "client_timestamp" not in record["attributes"]

    @pytest.mark.parametrize("stamp", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z",
                                       "1969-12-31T23:59:59-23:59"])
    def test_beyond_what_otlp_can_say(self, gate, stamp):
        """Nanoseconds in 64 bits begin in 1970 and end in 2554; the record is delivered anyway."""
        (record,) = gate.deliver({"logs": [{"timestamp": stamp, "message": "x"}]}).records
        assert (record["body"], record["attributes"]["client_timestamp"]) == ("x", stamp)

    @pytest.mark.parametrize("stamp", ["1707220800000", "1.5", "true", '["2026-02-06T12:00:00Z"]', "{}"])
    def test_of_another_type_fails_no_record(self, gate, stamp):
        (record,) = gate.deliver(b'{"logs":[{"message":"x","timestamp":%b}]}' % stamp.encode()).records
        assert record["body"] == "x"
        assert record["time_unix_nano"] == record["observed_time_unix_nano"]


class TestBody:
    @pytest.mark.parametrize("text", [
        '"text"', '""', "17", "-1.5", "true", "false", "null", "[]", "{}", '[1,"a",null]', '{"a":{"b":[true]}}',
        '"\\u0000\\n\\t\\"\\\\ \\u00e9 \\ud83d\\ude00"', '"你好 ✅"',
    ])
    def test_keeps_its_type(self, exact, text):
        raw(exact, f'{{"message":{text}}}')

    def test_none(self, exact):
        (arrived,) = exact.deliver({"logs": [{"level": "info"}]}).message.resource_logs[0].scope_logs[0].log_records
        assert not arrived.HasField("body")

    def test_a_long_one(self, exact):
        assert len(one(exact, message="é" * 100_000)["body"]) == 100_000


class TestException:
    @pytest.mark.parametrize("error", [
        "FormatException: Unexpected character (at character 1)", "SocketException: Connection reset: again",
        "_TypeError: x", "package.Name: x", "Foo<Bar>: x", "Bad state: No element", "Invalid argument(s): x",
        "Unsupported operation: x", "no type at all", "two words: and more", "", "Exception: ", ": x",
        "FormatException:x", "http://example.com: gone", "Ошибка: x", "9Lives: x",
        "NoSuchMethodError: The method 'x' was called on null.\nReceiver: null",
        "type 'Null' is not a subtype of type 'String': in x", "Map<String, List<int>>: x",
    ])
    def test_error(self, exact, error):
        one(exact, level="error", error=error)

    def test_stack_trace(self, exact):
        stack = "#0      A.b (package:app/a.dart:42:7)\n<asynchronous suspension>\n"
        assert one(exact, stackTrace=stack)["attributes"]["exception.stacktrace"] == stack

    @pytest.mark.parametrize("fields", [{"error": None}, {"stackTrace": None}, {"stack_trace": None}], ids=str)
    def test_null_is_nothing(self, exact, fields):
        assert not [name for name in one(exact, **fields)["attributes"] if name.startswith("exception")]


class TestIds:
    @pytest.mark.parametrize("value", [
        "2858b245789667e5f284d6f014f510ec", "2858B245789667E5F284D6F014F510EC", "0" * 31 + "1", "0" * 32, "xyz", "",
        "2858b245789667e5f284d6f014f510e", "2858b245789667e5f284d6f014f510ecc", "2858b245-7896-67e5-f284-d6f014f510ec",
        "é858b245789667e5f284d6f014f510e", 7, ["a"], None,
    ], ids=str)
    @pytest.mark.parametrize("spelling", ["traceId", "trace_id"])
    def test_trace_id(self, exact, spelling, value):
        one(exact, **{spelling: value})

    @pytest.mark.parametrize("value", ["a1b2c3d4e5f67890", "A1B2C3D4E5F67890", "0" * 16, "a1b2c3d4e5f6789", "", None],
                             ids=str)
    @pytest.mark.parametrize("spelling", ["spanId", "span_id"])
    def test_span_id(self, exact, spelling, value):
        one(exact, **{spelling: value})

    @pytest.mark.parametrize("value", ["id", "", "é", None, 7, {"a": 1}], ids=str)
    @pytest.mark.parametrize("name", ["installId", "install_id", "sessionId", "session_id", "userId", "user_id"])
    def test_of_install_session_and_user(self, exact, name, value):
        one(exact, **{name: value})


class TestAttributes:
    @pytest.mark.parametrize("text", [
        "0", "-0", "1", "-1", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
        "-9223372036854775809", "18446744073709551615", "123456789012345678901234567890", "0.0", "1.0", "-2.5", "1e3",
        "1E-2", "1e400", "-1e400", "0.1", "1.7976931348623157e308", "5e-324", "1e-400", "123456789.123456789",
    ])
    def test_numbers(self, exact, text):
        raw(exact, f'{{"attributes":{{"n":{text},"list":[{text}]}}}}')

    @pytest.mark.parametrize("value", [
        "", "text", True, False, None, [], {}, [None], [[]], {"": ""}, [1, "a", True, 1.5],
        {"a": None, "b": [{"c": {}}]},
    ], ids=str)
    def test_other_types(self, exact, value):
        one(exact, attributes={"value": value})

    @pytest.mark.parametrize("given", ['["a",1]', '"text"', "7", "1.5", "true", "[]", "null", "{}"])
    def test_no_object(self, exact, given):
        raw(exact, f'{{"attributes":{given}}}')

    @pytest.mark.parametrize("name", [
        "server_received_at", "client_timestamp", "enduser.id", "session.id", "user.id", "app.installation.id",
        "exception.type", "exception.message", "exception.stacktrace", "exception.anything", "timestamp_adjustment",
    ])
    def test_names_of_the_filter(self, exact, name):
        """The client's value neither wins nor vanishes."""
        record = one(exact, timestamp=NOW, sessionId="s", userId="u", installId="i", error="E: x", stackTrace="t",
                     attributes={name: "client's"})
        assert record["attributes"][f"client.{name}"] == "client's"

    @pytest.mark.parametrize("name", ["trace_id", "span_id", "active_run.thread_id", "active_run.run_id", "breadcrumbs",
                                      "attributes", "battery", "client.session.id", "client.client.session.id"])
    def test_no_name_stands_twice(self, exact, name):
        """Wherever two things want one name, both are there, the filter's own under it."""
        fields = {"trace_id": "no id", "span_id": "no id", "active_run": {"thread_id": "own", "run_id": "own"},
                  "breadcrumbs": ["own"], "battery": "own", "session_id": "s"}
        attributes = {name: "marked", "session.id": "spoofed"}
        (record,) = exact.deliver({"logs": [{**fields, "attributes": attributes}]}).records
        assert record["duplicate_names"] == []
        values = list(record["attributes"].values())
        assert "marked" in values and "spoofed" in values and ["own"] in values
        assert values.count("no id") == 2 and values.count("own") == 3
        assert record["attributes"]["session.id"] == "s"

    @pytest.mark.parametrize("fields", [
        {"screen_size": {"w": 1080, "h": 2400}, "battery": 0.42}, {"": "no name"}, {"Level": "x"},
        {"resource": {"a": 1}}, {"logs": []}, {"severity_number": 9}, {"body": "b"}, {"time_unix_nano": 1},
    ], ids=str)
    def test_fields_of_a_later_client(self, exact, fields):
        one(exact, message="x", **fields)

    def test_a_later_field_with_a_name_of_the_filter(self, exact):
        names = ("server_received_at", "enduser.id")
        (record,) = exact.deliver({"logs": [dict.fromkeys(names, "marked")]}).records
        assert "marked" not in [record["attributes"][name] for name in names]
        assert list(record["attributes"].values()).count("marked") == 2 and record["duplicate_names"] == []

    @pytest.mark.parametrize("run", [
        {"thread_id": "t-19", "run_id": None}, {"thread_id": "t-19", "run_id": "r-7"}, {"thread_id": 1, "run_id": [1]},
        {}, None,
    ], ids=str)
    def test_active_run(self, exact, run):
        one(exact, active_run=run)

    @pytest.mark.parametrize("crumbs", [[], [{"timestamp": NOW, "level": "info", "n": 1, "x": None}], ["text"], None],
                             ids=str)
    def test_breadcrumbs(self, exact, crumbs):
        one(exact, breadcrumbs=crumbs)


class TestOddRecords:
    @pytest.mark.parametrize("text", ['"text"', '""', "42", "1.5", "true", "null", "[]", "[1,[2]]"])
    def test_no_object(self, gate, text):
        raw(gate, text)

    def test_an_empty_one(self, gate):
        one(gate)

    @pytest.mark.parametrize("logger", ["", "é", "a" * 1000, None], ids=lambda logger: str(logger)[:10])
    def test_loggers(self, exact, logger):
        one(exact, logger=logger, message="x")

    ODD = [7, 1.5, True, ["a"], {"a": "b"}]

    @pytest.mark.parametrize("value", ODD, ids=str)
    @pytest.mark.parametrize("name", ["level", "logger", "error", "stackTrace", "stack_trace", "active_run",
                                      "breadcrumbs"])
    def test_fields_of_another_type_fail_no_record(self, gate, name, value):
        """And the other records are untouched."""
        batch = {"logs": [{"message": "before"}, {"message": "odd", name: value}, {"message": "after"}]}
        records = gate.deliver(batch).records
        assert sorted(record["body"] for record in records) == ["after", "before", "odd"]


class TestText:
    @pytest.mark.parametrize("text", ['"\\ud83d"', '"a\\ud83d b"', '"\\ude00\\ud83d"', '"\\ud83d\\ud83d\\ude00"',
                                      '"\\uD83Dx\\uDE00"', '"\\ud83d\\n"', '"\\ud83d\\u0041"'])
    def test_lone_surrogates(self, exact, text):
        """Dart writes them for an emoji that was cut in half."""
        fields = ("message", "logger", "error", "stackTrace", "userId", "level")
        everywhere = [f'"{name}":{text}' for name in fields]
        everywhere += [f'"attributes":{{{text}:{text},"list":[{text}]}}', f'"breadcrumbs":[{{"message":{text}}}]']
        later = f'"later {text[1:]}:1'
        raw(exact, "{" + ",".join([*everywhere, later]) + "}")

    def test_lone_surrogates_elsewhere(self, exact):
        body = b'{"\\ud83d":1,"resource":{"\\ud83d":"\\ud83d"},"logs":["\\ud83d",{"timestamp":"\\ud83d"}]}'
        assert deliver(exact, body)[0]["body"] == "\ufffd"

    def test_bytes_that_are_no_utf8(self, exact):
        """No JSON at all: this can never succeed."""
        assert exact.send(b'{"logs":[{"message":"\xff"}]}').status_code == 400


class TestDuplicateKeys:
    """The first one counts."""

    @pytest.mark.parametrize("text", [
        '{"message":"first","message":"second"}', '{"level":"info","level":"error"}', '{"attributes":{"a":1,"a":2}}',
        '{"attributes":{"a":1},"attributes":{"b":2}}', '{"attributes":{"a":{"b":1,"b":2}}}',
        '{"attributes":{"a":1,"\\u0061":2}}', '{"timestamp":"2026-02-06T12:00:00Z","timestamp":"x"}',
        '{"battery":1,"battery":2}', '{"error":"E: 1","error":"F: 2"}',
        '{"sessionId":"a","sessionId":"b"}', '{"breadcrumbs":[{"a":1,"a":2}]}',
    ])
    def test_in_a_record(self, exact, text):
        before = exact.counters()
        raw(exact, text)
        assert exact.counted(before)["odd.duplicate_key"] == 1

    def test_in_the_resource(self, exact):
        deliver(exact, b'{"logs":[{}],"resource":{"a":1,"a":2,"service.name":"x","service.name":"y"}}')

    def test_in_the_envelope(self, exact):
        deliver(exact, b'{"logs":[{"message":"first"}],"logs":[{"message":"second"}]}')


def depth(value):
    """How many objects and lists stand within each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


class TestBounds:
    @staticmethod
    def nested(levels, kind):
        value = "core"
        for _ in range(levels):
            value = [value] if kind == "list" else {"k": value}
        return value

    @pytest.mark.parametrize("kind", ["list", "object"])
    @pytest.mark.parametrize("levels", [1, 8, 15, 16, 17, 40, 100])
    @pytest.mark.parametrize("place", ["attributes", "message", "battery"])
    def test_depth(self, exact, levels, kind, place):
        """Beyond 16 the rest is its JSON as text: decoders downstream refuse deep trees."""
        value = self.nested(levels, kind)
        record = one(exact, **{place: {"v": value} if place == "attributes" else value})
        found = {"attributes": "v", "battery": "battery"}.get(place)
        assert depth(record["attributes"][found] if found else record["body"]) == min(levels, 16)

    @pytest.mark.parametrize("levels", [500, 5_000, 200_000])
    def test_depth_beyond_the_parsers_bound(self, exact, levels):
        """It counts as no JSON, and costs nothing."""
        text = b'{"logs":[{"attributes":{"deep":%b"core"%b}}]}' % (b"[" * levels, b"]" * levels)
        assert exact.send(text).status_code == 400
        assert exact.send(b'{"logs":[]}').status_code == 200

    @pytest.mark.parametrize("levels", [126, 180])
    def test_depth_that_a_parser_stands(self, exact, levels):
        """It is no reason to lose the batch."""
        text = b'{"logs":[{"message":"good"},{"attributes":{"deep":%b"core"%b}}]}' % (b"[" * levels, b"]" * levels)
        answer = exact.send(text)
        assert answer.status_code == 200, answer.text
        assert "good" in [record["body"] for record in exact.backend.taken_records]

    def test_many_attributes(self, exact):
        attributes = {f"a{number}": number for number in range(1500)}
        (record,) = exact.deliver({"logs": [{"timestamp": NOW, "attributes": attributes}]}).records
        kept, own = record["attributes"], {"server_received_at", "client_timestamp", "enduser.id", "log.record.uid"}
        assert own <= kept.keys() and len(kept) == 1024
        assert len(kept) + record["dropped_attributes_count"] == 1500 + len(own)
        assert all(kept[name] == int(name[1:]) for name in kept.keys() - own)

    @pytest.mark.parametrize("size", [255, 256, 257, 1000])
    def test_long_names(self, exact, size):
        (record,) = exact.deliver({"logs": [{"attributes": {"n" * size: "marked", "m" * size: "too"}}]}).records
        assert all(len(name.encode()) <= 256 for name in record["attributes"])
        assert {"marked", "too"} <= set(record["attributes"].values()) or record["dropped_attributes_count"] == 2
        if size <= 256:
            assert record["attributes"]["n" * size] == "marked"

    def test_long_names_that_begin_alike(self, exact):
        """Cutting them must not make one of two."""
        names = ["n" * 300 + "1", "n" * 300 + "2"]
        (record,) = exact.deliver({"logs": [{"attributes": dict.fromkeys(names, "marked")}]}).records
        assert record["duplicate_names"] == []
        assert list(record["attributes"].values()).count("marked") + record["dropped_attributes_count"] == 2

    def test_a_record_of_any_size(self, exact):
        assert one(exact, attributes={"big": "x" * 900_000})["dropped_attributes_count"] == 0

    def test_many_records(self, exact):
        """Ten times as many as clients send."""
        deliver(exact, {"logs": [{"message": str(number), "logger": f"L{number % 7}"} for number in range(1000)]})


def test_no_byte_is_lost(exact):
    """Whatever is odd about a record, each of its strings arrives somewhere."""
    marks = iter(f"mark-{number}" for number in range(1000))

    def odd(value=None):
        return {"deep": [next(marks), {next(marks): next(marks)}], "value": value or next(marks)}
    record = {
        "timestamp": next(marks), "level": next(marks), "logger": next(marks), "message": odd(), "attributes": [odd()],
        "error": next(marks), "stackTrace": next(marks), "stack_trace": next(marks), "spanId": next(marks),
        "span_id": next(marks), "traceId": next(marks), "trace_id": next(marks), "installId": next(marks),
        "install_id": next(marks), "sessionId": next(marks), "session_id": next(marks), "userId": odd(),
        "active_run": {"thread_id": odd(), "run_id": next(marks), "more": next(marks)}, "breadcrumbs": odd(),
        "later": odd(), "exception.type": next(marks), "client.exception.type": next(marks),
        "attributes.deep": next(marks),
    }
    others = [{"error": odd(), "active_run": next(marks), "level": odd(), "logger": odd(), "timestamp": odd()},
              {"attributes": next(marks), "stackTrace": odd(), "active_run": [odd()]},
              odd(), [next(marks)], next(marks)]
    resource = {"a": odd(), "service.name": odd()}
    batch = {"logs": [record, *others], "resource": resource}
    arrived = json.dumps(exact.deliver(batch).records)
    sent = json.dumps(batch)
    all_marks = [f"mark-{number}" for number in range(1000) if f'"mark-{number}"' in sent]
    assert len(all_marks) > 50
    assert [mark for mark in all_marks if f"{mark}\\" not in arrived and f'{mark}"' not in arrived] == []


def ago(seconds):
    """A timestamp so many seconds in the past (or future)."""
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def adjustments(records):
    return [record["attributes"].get("timestamp_adjustment") for record in records]


class TestWrongClocks:
    HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400

    @pytest.mark.parametrize("seconds", [0, 1, 60, 3600, 84_000])
    def test_a_clock_that_may_be_right_is_left_alone(self, windowed, seconds):
        """A slow one can't be told from a phone that was offline."""
        batch = {"logs": [{"timestamp": ago(seconds)}, {"timestamp": ago(seconds + 5)}]}
        assert adjustments(deliver(windowed, batch)) == [None, None]

    @pytest.mark.parametrize("ahead", [1, 30, 55])
    def test_a_clock_that_is_a_little_ahead_is_left_alone(self, windowed, ahead):
        assert adjustments(deliver(windowed, {"logs": [{"timestamp": ago(-ahead)}]})) == [None]

    @pytest.mark.parametrize("ahead", [65, HOUR, DAY, 30 * YEAR])
    def test_a_clock_that_is_ahead(self, windowed, ahead):
        """The whole request moves, so that its newest record is now."""
        batch = {"logs": [{"timestamp": ago(-ahead + back)} for back in (20, 0, 10)]}
        records = deliver(windowed, batch)
        assert adjustments(records) == ["clock_drift"] * 3
        times = [record["time_unix_nano"] for record in records]
        assert times[0] < times[2] < times[1]

    @pytest.mark.parametrize("age", [DAY, 10 * DAY, 30 * YEAR])
    def test_records_too_old_are_put_at_the_edge(self, windowed, age):
        """A microsecond apart, in the client's order, even where their own is another."""
        ages = ((5, "a"), (9, "b"), (1, "a"))
        batch = {"logs": [{"timestamp": ago(age + more), "logger": logger} for more, logger in ages]}
        records = deliver(windowed, batch)
        assert adjustments(records) == ["too_old"] * 3
        by_scope = sorted(records, key=lambda record: record["time_unix_nano"])
        assert [record["scope"] for record in by_scope] == ["a", "b", "a"]

    def test_some_too_old(self, windowed):
        batch = {"logs": [{"timestamp": ago(seconds)} for seconds in (10, 2 * self.DAY, 5, 3 * self.DAY)]}
        assert adjustments(deliver(windowed, batch)) == [None, "too_old", None, "too_old"]

    def test_ahead_and_too_old(self, windowed):
        """Moved with the request, and then still outside."""
        batch = {"logs": [{"timestamp": ago(-self.YEAR)}, {"timestamp": ago(0)}]}
        assert adjustments(deliver(windowed, batch)) == ["clock_drift", "too_old"]

    def test_missing_ones_do_not_count(self, windowed):
        batch = {"logs": [{"timestamp": ago(-self.DAY)}, {}, {"timestamp": "x"}, 7]}
        assert adjustments(deliver(windowed, batch)) == ["clock_drift", "missing", "unparsable", "missing"]

    @pytest.mark.parametrize("spelling", ["sent_at", "sentAt"])
    @pytest.mark.parametrize("drift", [-40 * YEAR, -HOUR, -65, 65, HOUR, 40 * YEAR])
    def test_the_clock_at_sending(self, windowed, spelling, drift):
        batch = {spelling: ago(drift), "logs": [{"timestamp": ago(drift + 30)}, {"timestamp": ago(drift + 10)}, {}]}
        assert adjustments(deliver(windowed, batch)) == ["clock_drift", "clock_drift", "missing"]

    @pytest.mark.parametrize("drift", [-50, 0, 50])
    def test_the_clock_at_sending_is_about_right(self, windowed, drift):
        batch = {"sent_at": ago(drift), "logs": [{"timestamp": ago(100)}, {"timestamp": ago(5)}]}
        assert adjustments(deliver(windowed, batch)) == [None, None]

    def test_too_new_by_the_clock_at_sending(self, windowed):
        """That clock was right, so these were made in the future; they end at the edge."""
        batch = {"sent_at": ago(0), "logs": [{"timestamp": ago(-2 * self.HOUR)}, {"timestamp": ago(-3 * self.HOUR)},
                                             {"timestamp": ago(5)}]}
        assert adjustments(deliver(windowed, batch)) == ["too_new", "too_new", None]

    @pytest.mark.parametrize("sent_at", ["nonsense", "", None, 7, {}], ids=str)
    def test_a_clock_at_sending_that_cannot_be_read(self, windowed, sent_at):
        """Then it is as if there were none."""
        batch = {"sent_at": sent_at, "logs": [{"timestamp": ago(-self.DAY)}]}
        assert adjustments(deliver(windowed, batch)) == ["clock_drift"]

    def test_the_evidence_is_kept(self, windowed):
        stamp = ago(-self.DAY)
        record = one(windowed, timestamp=stamp)
        assert record["attributes"]["client_timestamp"] == stamp
        assert record["observed_time_unix_nano"] == rules.nanoseconds(stamp) != record["time_unix_nano"]

    def test_a_configured_window(self, wasm_module, session_key, sink):
        window = Window(past_seconds=100, future_seconds=10)
        mapping = {"window": {"past_seconds": 100, "future_seconds": 10}}
        with serving(sink, session_key, config={"mapping": mapping}) as gate:
            sink.forget()
            gate.window = window
            batch = {"logs": [{"timestamp": ago(seconds)} for seconds in (50, 150, -30)]}
            assert adjustments(deliver(gate, batch)) == [None, "too_old", "too_new"]


def test_requests_can_be_joined_byte_for_byte(exact):
    """Which is what makes batching across requests cheap."""
    first, second = (exact.deliver({"logs": [{"message": text}, {"message": text}]}).body for text in ("a", "b"))
    joined = otlp.records_of(otlp.decode(first + second))
    assert [record["body"] for record in joined] == ["a", "a", "b", "b"]
