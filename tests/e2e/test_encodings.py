"""Bodies that clients compress, through the release module: undone in the filter, whoever sends
them; a bomb costs no more than a large body."""

import gzip
import json
import zlib

import pytest

from harness.curl import curl
from harness.gateways import serving
from harness.memory import resident
from harness.rawhttp import LAST_CHUNK, Http1, Http2, chunks, frames_of, head

LIMIT = 1_048_576
BATCH = json.dumps({"logs": [{"message": "compressed", "attributes": {"n": n}} for n in range(100)]}).encode()


def bare(body):
    """RFC 1951 without RFC 1950 around it, as some clients write `deflate`."""
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(body) + coder.flush()


CODERS = {
    "gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress,
    "deflate, gzip": lambda body: gzip.compress(zlib.compress(body)),
    "gzip, identity, gzip": lambda body: gzip.compress(gzip.compress(body)),
}


@pytest.fixture(scope="module")
def shared_gate(wasm_module, session_key, sink):
    with serving(sink, session_key, config={"rate_limits": None, "max_records": 100}, concurrency=2) as gate:
        yield gate


def sent(gate, body, encoding, http2=False, chunked=False):
    headers = {**gate.bearer(), "content-encoding": encoding}
    return curl(gate.url(), headers=headers, body=body, http2=http2, chunked=chunked)


def outcome(answer):
    return answer.status, json.loads(answer.body).get("title")


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
class TestUndone:
    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    @pytest.mark.parametrize("encoding", CODERS)
    def test_each_coding(self, gate, sink, encoding, http2, chunked):
        answer = sent(gate, CODERS[encoding](BATCH), encoding, http2, chunked)
        assert (answer.status, answer.body) == (200, b'{"accepted":100,"rejected":0}')
        (request,) = sink.requests
        assert [record["attributes"]["n"] for record in request.records] == list(range(100))

    def test_deflate_without_its_frame(self, gate, http2):
        assert sent(gate, bare(BATCH), "deflate", http2).status == 200

    def test_several_members(self, gate, http2):
        half = len(BATCH) // 2
        assert sent(gate, gzip.compress(BATCH[:half]) + gzip.compress(BATCH[half:]), "gzip", http2).status == 200

    def test_several_headers(self, gate, http2):
        """They say the same as one with commas."""
        headers = [*gate.bearer().items(), ("content-encoding", "deflate"), ("content-encoding", "gzip")]
        body = gzip.compress(zlib.compress(BATCH))
        if http2:
            with Http2(gate.envoy.port()) as client:
                assert client.request(headers, frames_of(body)).status == 200
        else:
            with Http1(gate.envoy.port()) as client:
                client.send(head(gate.bearer(), "content-encoding: deflate", "content-encoding: gzip",
                                 f"content-length: {len(body)}"), body)
                assert client.answer().status == 200


def padded(length):
    body = b'{"logs":[{"message":"%b"}]}'
    return body % (b" " * (length - len(body) + 2))


class TestBounds:
    def test_as_large_as_a_body_may_be(self, gate):
        assert sent(gate, gzip.compress(padded(LIMIT)), "gzip").status == 200

    def test_a_byte_larger(self, gate):
        assert outcome(sent(gate, gzip.compress(padded(LIMIT + 1)), "gzip")) == (413, "The body is too large")

    def test_too_many_records(self, gate):
        body = gzip.compress(b'{"logs":[' + b"0," * 100 + b"0]}")
        assert outcome(sent(gate, body, "gzip")) == (413, "The batch has too many records")

    def test_bombs_cost_no_more_than_large_bodies(self, gate):
        """A gigabyte in a megabyte, and ten megabytes in 10 KB: again and again."""
        coder = zlib.compressobj(9, wbits=31)
        bomb = b"".join(coder.compress(bytes(1 << 20)) for _ in range(1024)) + coder.flush()
        assert len(bomb) < LIMIT
        bombs = [
            (bomb, "gzip"), (gzip.compress(bytes(10_000_000)), "gzip"), (zlib.compress(bytes(50_000_000)), "deflate"),
            (bare(bytes(50_000_000)), "deflate"), (gzip.compress(bomb), "gzip, gzip"),
        ]

        def salvo(times):
            for _ in range(times):
                for body, encoding in bombs:
                    assert outcome(sent(gate, body, encoding)) == (413, "The body is too large")
        salvo(4)
        before = resident(gate.envoy.pid)
        salvo(20)
        # Envoy's own buffers come and go by some megabytes.
        assert resident(gate.envoy.pid) - before < 8_000_000


CORRUPT = {
    "not gzip": (BATCH, "gzip"),
    "not deflate": (BATCH, "deflate"),
    "cut off": (gzip.compress(BATCH)[:-9], "gzip"),
    "without its end": (gzip.compress(BATCH)[:-1], "gzip"),
    "a wrong checksum": (gzip.compress(BATCH)[:-8] + bytes(4) + gzip.compress(BATCH)[-4:], "gzip"),
    "junk behind it": (gzip.compress(BATCH) + b"junk", "gzip"),
    "an empty deflate": (b"\x78\x9c", "deflate"),
    "fewer codings than named": (gzip.compress(BATCH), "gzip, gzip"),
}


@pytest.mark.parametrize("what", CORRUPT)
def test_corrupt_bodies_can_never_succeed(gate, what):
    body, encoding = CORRUPT[what]
    before = gate.counters()
    assert outcome(sent(gate, body, encoding)) == (400, "The body is not what its Content-Encoding says")
    assert gate.outcome(before) == {"requests": 1, "rejected.body_corrupt": 1}


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_what_is_not_undone_says_what_is(gate, encoding):
    answer = sent(gate, BATCH, encoding)
    assert (answer.status, answer.header("accept-encoding")) == (415, "gzip, deflate")


def test_in_chunks_of_a_byte(gate):
    body = gzip.compress(BATCH)
    with Http1(gate.envoy.port()) as client:
        parts = chunks(*(body[at : at + 1] for at in range(len(body))))
        client.send(head({**gate.bearer(), "content-encoding": "gzip"}, "transfer-encoding: chunked"),
                    b"".join(parts), LAST_CHUNK)
        assert client.answer().status == 200
