"""Somebody ends in the middle: Envoy, by SIGTERM, with and without draining; the backend, by
SIGKILL, with half an answer out. Nobody is told 200 whose records the backend did not say it has."""

import http.client
import json
import subprocess
import sys

import pytest

from harness.behaviours import hang, status
from harness.common import LOOPBACK, wait_until
from harness.rawhttp import Http1, Http2, head

BODY = json.dumps({"logs": [{"message": "one"}, {"message": "two"}]}).encode()

# Takes one connection, reads a request, answers with half of a good answer, and says so.
HALF = """
import re, socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
data = b""
while b"\\r\\n\\r\\n" not in data:
    data += connection.recv(65536)
head, _, body = data.partition(b"\\r\\n\\r\\n")
length = int(re.search(rb"content-length: *(\\d+)", head.lower()).group(1))
while len(body) < length:
    body += connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-type: application/x-protobuf\\r\\n" + bytes.fromhex(sys.argv[1]))
print("half", flush=True)
sys.stdin.read()
"""


def post(bearer):
    return head({**bearer(), "content-length": str(len(BODY))}) + BODY


class TestEnvoyIsEnded:
    def test_a_request_that_waits_has_no_answer(self, gateway, backend, bearer):
        """The records may be at the backend, but nobody knows: the client sends them again."""
        envoy = gateway()
        envoy.may_end = True
        backend.default = stuck = hang()
        with Http1(envoy.port()) as first, Http2(envoy.port()) as second:
            first.send(post(bearer))
            stream = second.begin(bearer(), [BODY], end=True)
            envoy.wait_for_stat("http.ingest.downstream_rq_active", 2)
            backend.wait_for(1)
            envoy.stop()
            stuck.release()
            assert first.rest() == b""
            with pytest.raises(ConnectionError):
                second.answer(stream)

    def test_draining_lets_it_end(self, gateway, backend, bearer):
        """The documented order: drain, wait for what is under way, then end."""
        envoy = gateway(arguments=["--drain-time-s", "1"])
        envoy.may_end = True
        backend.default = stuck = hang()
        # Not over HTTP/2: the library here takes a GOAWAY for the end.
        with Http1(envoy.port()) as first, Http1(envoy.port()) as second:
            first.send(post(bearer))
            second.send(post(bearer))
            envoy.wait_for_stat("http.ingest.downstream_rq_active", 2)
            backend.wait_for(1)
            port = envoy.port()
            envoy.admin("/drain_listeners?graceful", "POST")
            wait_until(lambda: refused(port), 20, "Envoy to take no new connection")
            stuck.release()
            answers = [first.answer(), second.answer()]
        assert [(answer.status, answer.body) for answer in answers] == [(200, b'{"accepted":2,"rejected":0}')] * 2
        assert len(backend.taken_records) == 4
        envoy.wait_for_stat("http.ingest.downstream_rq_2xx", 2)
        wait_until(lambda: not envoy.stats()["http.ingest.downstream_rq_active"], 10, "no request to be under way")
        assert envoy.stop() == 0


def refused(port):
    try:
        Http1(port).close()
    except OSError:
        return True
    return False


class TestTheBackendIsKilled:
    @pytest.mark.parametrize("rest", [
        b"content-length: 10\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n2\r\n\n\0\r\n",
    ], ids=["before the body", "between chunks"])
    def test_in_mid_answer(self, gateway, bearer, rest, backend):
        """Its status was 200, and its answer has no end."""
        backend.stop()
        with subprocess.Popen([sys.executable, "-c", HALF, rest.hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as half:
            try:
                backend.port = int(half.stdout.readline())
                envoy = gateway(config={"export": {"timeout_ms": 3000}})
                with Http1(envoy.port()) as client:
                    client.send(post(bearer))
                    assert half.stdout.readline() == "half\n"
                    assert client.silent(0.2)
                    half.kill()
                    assert client.answer().status == 502
            finally:
                half.kill()


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_wrong_token_or_address_is_the_operators(gateway, backend, bearer, code):
    """The gateway's token or URL is wrong: clients keep their records, and the log says once where to look."""
    envoy = gateway()
    backend.default = status(code, b"no")
    connection = http.client.HTTPConnection(LOOPBACK, envoy.port(), timeout=20)
    for _ in range(5):
        connection.request("POST", "/api/v1/logs", BODY, bearer())
        answer = connection.getresponse()
        assert answer.status == 502
        answer.read()
    lines = [line for line in envoy.wait_for_log(str(code)).splitlines() if "cluster backend" in line]
    assert len(lines) == 1 and str(code) in lines[0], lines
    backend.forget()
    connection.request("POST", "/api/v1/logs", BODY, bearer())
    assert connection.getresponse().status == 200
    connection.close()
