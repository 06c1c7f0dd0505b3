"""What an attacker with a valid token can send: each gets its stated status, the VM lives, and memory
is what it was. Bombs are in test_encodings.py."""

import itertools
import json
import time

import pytest

from harness import bootstrap
from harness.behaviours import hang
from harness.common import wait_until
from harness.gateways import serving
from harness.memory import resident
from harness.rawhttp import Http1, Http2, chunks, frames_of, head

LIMIT = 1_048_576
# Envoy's own buffers, and what the allocators keep, come and go by some megabytes.
NOISE = 12_000_000


def record(fields):
    return b'{"logs":[{"message":"x",' + fields + b"}]}"


def many(count, value=b"1"):
    return b"{" + b",".join(b'"%d":%b' % (number, value) for number in range(count)) + b"}"


NESTED = 100_000
BODIES = {
    "10,000 attributes": (200, record(b'"attributes":' + many(10_000))),
    "10,000 attributes of the resource": (200, b'{"logs":[{}],"resource":' + many(10_000) + b"}"),
    "10,000 fields of a record": (200, record(many(10_000)[1:-1])),
    "10,000 attributes of the same name": (200, record(b'"attributes":{' + b",".join([b'"a":1'] * 10_000) + b"}")),
    "100,000 nested arrays": (400, record(b'"attributes":{"a":' + b"[" * NESTED + b"]" * NESTED + b"}")),
    "100,000 nested arrays in the envelope": (400, b'{"logs":[],"x":' + b"[" * NESTED + b"]" * NESTED + b"}"),
    "100,000 nested arrays for a body": (400, b"[" * NESTED + b"]" * NESTED),
    "100,000 arrays that never end": (400, b'{"logs":[{"message":' + b"[" * NESTED),
    "100,000 nested objects": (400, record(b'"a":' + b'{"a":' * NESTED + b"1" + b"}" * NESTED)),
    "a key of a megabyte": (200, record(b'"attributes":{"%b":1}' % (b"k" * 1_048_000))),
    "a key of a megabyte in the envelope": (200, b'{"%b":1,"logs":[{}]}' % (b"k" * 1_048_000)),
    "a key of a megabyte, of escapes": (200, record(b'"attributes":{"%b":1}' % (b"\\u0001" * 174_000))),
    "keys that differ at their end": (200, record(
        b'"attributes":{%b}' % b",".join(b'"%b%d":1' % (b"k" * 1000, n) for n in range(1000)))),
    "a message of a megabyte": (200, b'{"logs":[{"message":"%b"}]}' % (b"m" * 1_048_000)),
    "a number of a megabyte": (200, record(b'"attributes":{"a":%b}' % (b"1" * 1_048_000))),
    "a thousand loggers": (200, b'{"logs":[%b]}' % b",".join(b'{"logger":"%d"}' % n for n in range(1000))),
    "too many records": (413, b'{"logs":[' + b"0," * 500_000 + b"0]}"),
    "a logs for each record": (200, b"{" + b",".join([b'"logs":[0]'] * 1000) + b"}"),
    "nothing but brackets": (400, b'{"logs":' + b"]" * 1_000_000),
}


@pytest.fixture(scope="module")
def gate(wasm_module, session_key, sink):
    with serving(sink, session_key, config={"rate_limits": None}, concurrency=2) as gate:
        yield gate


@pytest.mark.parametrize("what", BODIES)
def test_bodies(gate, sink, what):
    expected, body = BODIES[what]
    assert len(body) <= LIMIT
    sink.forget()
    answer = gate.send(body)
    assert answer.status_code == expected, answer.text
    gate.good_on_every_worker()


def test_bodies_leave_nothing_behind(gate, sink):
    def salvo(times):
        for _, (_, body) in itertools.product(range(times), BODIES.values()):
            gate.send(body)
            sink.forget()
    salvo(3)
    before = resident(gate.envoy.pid)
    salvo(10)
    assert resident(gate.envoy.pid) - before < NOISE
    gate.good_on_every_worker()


class TestTrickles:
    """Bodies that never end: Envoy ends them, with a status after which nobody deletes a batch."""

    STREAMS, EACH = 100, 100_000

    @pytest.fixture(scope="class")
    def impatient(self, wasm_module, session_key, sink):
        def edit(document):
            bootstrap.connection_manager(document).update(request_timeout="2s", stream_idle_timeout="5s")
        with serving(sink, session_key, config={"rate_limits": None}, edit=edit, concurrency=2) as gate:
            yield gate

    def trickle(self, gate):
        """A hundred streams that have sent 100 KB each, and send a byte now and then. The statuses
        with which they end, and the time that takes."""
        headers = gate.bearer(sub="slow")
        body = frames_of(b'{"logs":["' + b"x" * self.EACH)
        began = time.monotonic()
        with Http2(gate.envoy.port()) as client:
            streams = [client.begin(headers, body) for _ in range(self.STREAMS)]
            ended = {}
            while len(ended) < self.STREAMS:
                for stream in streams:
                    if stream not in ended:
                        client.trickle(stream, b"x", ended)
        return list(ended.values()), time.monotonic() - began

    def test_they_end_by_the_timeout_of_the_whole_request(self, impatient):
        """Each byte comes long before the idle timeout: that alone would never end them."""
        statuses, seconds = self.trickle(impatient)
        assert set(statuses) == {503}
        assert seconds >= 2

    def test_others_are_served_meanwhile(self, impatient):
        headers = impatient.bearer(sub="slow")
        with Http2(impatient.envoy.port()) as client:
            for _ in range(self.STREAMS):
                client.begin(headers, frames_of(b'{"logs":["' + b"x" * self.EACH))
            impatient.good_on_every_worker()

    def test_they_leave_nothing_behind(self, impatient):
        for _ in range(2):
            self.trickle(impatient)
        before = resident(impatient.envoy.pid)
        for _ in range(4):
            self.trickle(impatient)
        assert resident(impatient.envoy.pid) - before < NOISE
        impatient.good_on_every_worker()

    def test_a_byte_in_a_chunk_now_and_then(self, impatient):
        with Http1(impatient.envoy.port()) as client:
            client.send(head(impatient.bearer(), "transfer-encoding: chunked"), *chunks(b'{"logs":["'))
            while client.silent(0.1):
                client.send(*chunks(b"x"))
            answer = client.answer()
            assert (answer.status, json.loads(answer.body)["title"]) == (503, "Request timed out")


def test_what_waits_for_the_backend_is_held_once(wasm_module, session_key, sink):
    """Envoy gives its buffer back when the filter has read it: what is held is what will be sent."""
    count, size = 40, 1_000_000
    export = {"timeout_ms": 60_000, "max_in_flight": 1, "max_parked_bytes": 128_000_000}
    config = {"rate_limits": None, "export": export}

    def edit(document):
        bootstrap.connection_manager(document)["stream_idle_timeout"] = "60s"
    with serving(sink, session_key, config=config, edit=edit) as gate:
        body = b'{"logs":[{"message":"%b"}]}' % (b"x" * size)
        gate.send(body)
        sink.forget()
        stuck = sink.default = hang()
        before = resident(gate.envoy.pid)
        headers = gate.bearer()
        with Http2(gate.envoy.port(), timeout=60) as client:
            streams = [client.begin(headers, frames_of(body), end=True) for _ in range(count)]
            wait_until(lambda: gate.counters()["request_bytes"] >= (count + 1) * size, 30, "the bodies to be read")
            grown = resident(gate.envoy.pid) - before
            stuck.release()
            sink.forget()
            assert {client.answer(stream).status for stream in streams} == {200}
        # Once in the VM, whose memory grows by leaps; twice would be 80 MB.
        assert grown < 1.7 * count * size, f"{grown} bytes for {count * size}"
        sink.forget()
