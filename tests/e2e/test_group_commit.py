"""Group commit: while an export is under way, requests park; when it returns, they go out as one.
An idle filter sends at once. Each request is answered for itself."""

import json
import random
from contextlib import contextmanager

import pytest

from harness import bootstrap
from harness.behaviours import BEFORE_HEADERS, broken, hang, status
from harness.common import wait_until
from harness.crowd import Crowd, allow_files
from harness.gateways import PATH, serving

# What hangs must hang until the test lets it go, however slow the machine is.
EXPORT = {"max_in_flight": 1, "timeout_ms": 60_000, "try_timeout_ms": 50_000}
STREAMS = 4000
FIRST = "first.0"


def crowded(document):
    """Lets thousands be there at once."""
    (monitor,) = document["overload_manager"]["resource_monitors"]
    monitor["typed_config"]["max_active_downstream_connections"] = 2 * STREAMS
    manager = bootstrap.connection_manager(document)
    manager["http2_protocol_options"]["max_concurrent_streams"] = STREAMS
    manager["stream_idle_timeout"] = "90s"


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared_gate(request, wasm_module, session_key, sink):
    if not allow_files(2 * STREAMS):
        pytest.fail(f"allow this process {2 * STREAMS} open files (ulimit -Hn)", pytrace=False)
    config = {"export": EXPORT, "rate_limits": None}
    with serving(sink, session_key, config=config, edit=crowded, concurrency=request.param) as gate:
        yield gate


@pytest.fixture
def stuck(gate, sink):
    """An export hangs on each worker until this is released, so that whatever comes now is parked."""
    with busy(gate, sink) as answer:
        yield answer


@contextmanager
def busy(gate, sink):
    answer, body = hang(), json.dumps(batch("first", 1))
    connections = gate.workers().values()
    sink.script(*[answer] * len(connections))
    for connection in connections:
        connection.request("POST", PATH, body, gate.bearer())
    sink.wait_for(len(connections))
    try:
        yield answer
    finally:
        answer.release()
        for connection in connections:
            assert connection.getresponse().read() == b'{"accepted":1,"rejected":0}'


@pytest.fixture(params=[False, True], ids=["HTTP/1.1", "HTTP/2"])
def crowd(request, gate, stuck):
    """Comes while an export hangs. All that come over HTTP/2 are at one worker."""
    with Crowd(gate, http2=request.param) as made:
        yield made


def later(gate, sink):
    """The requests at the backend after those that hung."""
    return sink.requests[gate.envoy.concurrency:]


def batch(name, records):
    return {"logs": [{"message": f"{name}.{number}"} for number in range(records)]}


def bodies(records):
    return [record["body"] for record in records]


class TestParking:
    def test_what_is_parked_goes_out_as_one(self, gate, sink, stuck, crowd):
        crowd.send([batch(f"b{number}", number % 4) for number in range(60)]).parked()
        assert later(gate, sink) == []
        stuck.release()
        assert crowd.outcomes() == [(200, number % 4, 0) for number in range(60)]
        exports = later(gate, sink)
        # One for each worker; that of a worker at which nothing is parked is left out.
        assert 1 <= len(exports) <= gate.envoy.concurrency
        wanted = {f"b{number}.{record}" for number in range(60) for record in range(number % 4)}
        arrived = [body for request in exports for body in bodies(request.records)]
        assert len(arrived) == len(set(arrived)) and wanted == set(arrived)
        # Each request keeps its own resource: 45 of the 60 have records.
        assert sum(len(request.message.resource_logs) for request in exports) == 45

    def test_in_the_order_of_arrival(self, gate, sink, stuck):
        with Crowd(gate, http2=True) as crowd:
            crowd.send([batch(f"b{number}", 2) for number in range(40)]).parked()
            stuck.release()
            assert crowd.outcomes() == [(200, 2, 0)] * 40
        (export,) = later(gate, sink)
        assert bodies(export.records) == [f"b{number}.{record}" for number in range(40) for record in (0, 1)]

    def test_an_idle_filter_sends_at_once(self, gate, sink):
        """And alone: nothing waits for company."""
        for number in range(5):
            request = gate.deliver(batch(f"b{number}", 2))
            assert bodies(request.records) == [f"b{number}.0", f"b{number}.1"]

    def test_everybody_is_who_he_is(self, gate, sink, stuck, crowd):
        """In one export records of many users: each under the name in his own token."""
        for number in range(20):
            crowd.send([batch(f"u{number}", 3)], sub=f"user-{number}", sid=f"login-{number}")
        crowd.parked()
        stuck.release()
        assert set(crowd.outcomes()) == {(200, 3, 0)}
        seen = {record["body"]: record["attributes"]["enduser.id"] for record in sink.taken_records}
        for number in range(20):
            assert {seen[f"u{number}.{record}"] for record in range(3)} == {f"user-{number}"}

    def test_the_next_goes_out_while_others_are_answered(self, gate, sink, stuck, crowd):
        """Several rounds: what comes while the second export hangs is in the third."""
        for round_ in range(3):
            crowd.send([batch(f"r{round_}.{number}", 1) for number in range(25)]).parked()
            following = hang()
            sink.default, before = following, len(sink.requests)
            stuck.release()
            sink.wait_for(before + 1)
            stuck = following
        stuck.release()
        assert set(crowd.outcomes()) == {(200, 1, 0)}
        arrived = bodies(record for record in sink.taken_records if record["body"] != FIRST)
        assert sorted(arrived) == sorted(f"r{round_}.{number}.0" for round_ in range(3) for number in range(25))

    def test_parked_together_failed_together(self, gate, sink, stuck, crowd):
        """Nobody is told 200 for an export that was refused; sent again, all is well."""
        crowd.send([batch(f"b{number}", 1) for number in range(30)]).parked()
        sink.default = status(403)
        stuck.release()
        assert crowd.outcomes() == [(502,)] * 30
        assert set(bodies(sink.taken_records)) == {FIRST}
        sink.forget()
        assert gate.send(batch("again", 1)).status_code == 200

    def test_whose_backend_breaks_is_retried_together(self, gate, sink, stuck, crowd):
        crowd.send([batch(f"b{number}", 1) for number in range(30)]).parked()
        sink.script(*[broken(BEFORE_HEADERS)] * gate.envoy.concurrency)
        stuck.release()
        assert crowd.outcomes() == [(200, 1, 0)] * 30
        arrived = [body for body in bodies(sink.taken_records) if body != FIRST]
        assert sorted(arrived) == sorted(f"b{number}.0" for number in range(30))


class TestLeaving:
    def test_while_parked(self, gate, sink, stuck, crowd):
        """Its records were complete: they are exported, and the others have their answers."""
        crowd.send([batch(f"b{number}", 2) for number in range(40)]).parked()
        before = gate.counters()
        for number in range(0, 40, 2):
            crowd.leave(number)
        wait_until(lambda: gate.counted(before).get("clients_gone") == 20, 10, "the filter to see 20 clients leave")
        stuck.release()
        assert crowd.outcomes() == [None, (200, 2, 0)] * 20
        sink.wait_for_records(80 + gate.envoy.concurrency)
        arrived = [body for body in bodies(sink.taken_records) if body != FIRST]
        assert sorted(arrived) == sorted(f"b{number}.{record}" for number in range(40) for record in (0, 1))

    def test_everybody(self, gate, sink, stuck, crowd):
        crowd.send([batch(f"b{number}", 1) for number in range(30)]).parked()
        before = gate.counters()
        for number in range(30):
            crowd.leave(number)
        wait_until(lambda: gate.counted(before).get("clients_gone") == 30, 10, "the filter to see them leave")
        stuck.release()
        records = sink.wait_for_records(30 + gate.envoy.concurrency)
        assert len(set(bodies(records))) == 31

    def test_and_the_export_fails(self, gate, sink, stuck, crowd):
        """The others are told; those who left are missed by nobody."""
        crowd.send([batch(f"b{number}", 1) for number in range(30)]).parked()
        before = gate.counters()
        for number in range(0, 30, 3):
            crowd.leave(number)
        wait_until(lambda: gate.counted(before).get("clients_gone") == 10, 10, "the filter to see 10 clients leave")
        sink.default = status(401)
        stuck.release()
        assert crowd.outcomes() == [None, (502,), (502,)] * 10


class TestBounds:
    @pytest.fixture
    def serve(self, wasm_module, session_key, sink):
        sink.forget()
        yield lambda **export: serving(sink, session_key, edit=crowded,
                                       config={"export": {**EXPORT, **export}, "rate_limits": None})
        sink.forget()

    def test_as_many_in_flight_as_configured(self, serve, sink):
        stuck = hang()
        sink.script(stuck, stuck, stuck)
        with serve(max_in_flight=3) as gate, Crowd(gate) as crowd:
            for number in range(3):
                crowd.send([batch(f"b{number}", 1)]).parked()
                sink.wait_for(number + 1)
            crowd.send([batch(f"c{number}", 1) for number in range(20)]).parked()
            assert gate.counted(crowd.before)["exports"] == 3
            stuck.release()
            assert crowd.outcomes() == [(200, 1, 0)] * 23
            # The rest went out when the first of the three came back.
            assert len(sink.requests) <= 6

    def test_max_batch_bytes(self, serve, sink):
        """Of the protobuf. What is larger by itself goes alone."""
        with serve(max_batch_bytes=4096) as gate:
            chance = random.Random(7)
            sizes = [chance.choice([1, 1, 2, 5, 40]) for _ in range(60)]
            with busy(gate, sink) as stuck, Crowd(gate, http2=True) as crowd:
                crowd.send([batch(f"b{number}", size) for number, size in enumerate(sizes)]).parked()
                stuck.release()
                assert crowd.outcomes() == [(200, size, 0) for size in sizes]
                exports = later(gate, sink)
            assert all(len(request.body) <= 4096 or len(request.message.resource_logs) == 1 for request in exports)
            assert any(len(request.body) > 4096 for request in exports)
            assert len(exports) < len(sizes)
            assert len(bodies(sink.taken_records)) == len(set(bodies(sink.taken_records))) == 1 + sum(sizes)


class TestThousands:
    """Envoy sends the answers of one callback recursively, and traps at some three hundred."""

    COUNT = 3000

    @pytest.mark.parametrize("streams", [None, 100, COUNT + 1], ids=["HTTP/1.1", "HTTP/2", "one connection"])
    @pytest.mark.parametrize("fails", [False, True], ids=["accepted", "refused"])
    def test_parked_at_once(self, gate, sink, stuck, streams, fails):
        with Crowd(gate, http2=bool(streams), streams=streams) as crowd:
            crowd.send([batch(f"b{number}", 1) for number in range(self.COUNT)]).parked(60)
            if fails:
                sink.default = status(403)
            stuck.release()
            outcomes = crowd.outcomes()
        assert len(outcomes) == self.COUNT
        assert set(outcomes) == ({(502,)} if fails else {(200, 1, 0)})
        exports = later(gate, sink)
        assert len(exports) <= gate.envoy.concurrency
        arrived = bodies(record for request in exports for record in request.records)
        assert sorted(arrived) == sorted(f"b{number}.0" for number in range(self.COUNT))

    def test_half_of_them_leave(self, gate, sink, stuck):
        with Crowd(gate) as crowd:
            crowd.send([batch(f"b{number}", 1) for number in range(1000)]).parked(60)
            for number in range(0, 1000, 2):
                crowd.leave(number)
            # Some are still leaving while others are answered.
            stuck.release()
            assert crowd.outcomes() == [None, (200, 1, 0)] * 500
            records = sink.wait_for_records(1000 + gate.envoy.concurrency)
        assert len(set(bodies(records))) == 1001


class TestTraceparent:
    PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    def test_of_the_only_request(self, gate, sink):
        assert gate.send(batch("b", 1), headers={"traceparent": self.PARENT}).status_code == 200
        (request,) = sink.requests
        assert request.headers["traceparent"] == self.PARENT

    def test_without_one(self, gate, sink):
        assert "traceparent" not in gate.deliver(batch("b", 1)).headers

    def test_of_several_requests(self, gate, sink, stuck, crowd):
        """Whose would it be?"""
        crowd.send([batch(f"b{number}", 1) for number in range(20)], headers={"traceparent": self.PARENT}).parked()
        stuck.release()
        assert {answer[0] for answer in crowd.outcomes()} == {200}
        exports = later(gate, sink)
        for request in exports:
            assert ("traceparent" in request.headers) == (len(request.message.resource_logs) == 1)
        assert any(len(request.message.resource_logs) > 1 for request in exports)

    @pytest.mark.parametrize("value", ["", "x" * 5000, "00-zz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"],
                             ids=["empty", "long", "short", "zeros"])
    def test_that_is_none(self, gate, sink, value):
        """It harms nobody: the records are delivered."""
        assert gate.send(batch("b", 1), headers={"traceparent": value}).status_code == 200
        (request,) = sink.requests
        assert len(request.headers.get("traceparent", "")) <= 5000


def test_after_a_crowd_the_filter_is_idle_again(gate, sink, stuck):
    """One request, one export, with an answer of its own."""
    with Crowd(gate) as crowd:
        crowd.send([batch(f"b{number}", 1) for number in range(50)]).parked()
        stuck.release()
        assert {answer[0] for answer in crowd.outcomes()} == {200}
    sink.forget()
    for number in range(3):
        assert gate.send(json.dumps(batch(f"c{number}", 1)).encode()).json() == {"accepted": 1, "rejected": 0}
        assert len(sink.requests) == number + 1
