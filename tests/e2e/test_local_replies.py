"""What Envoy answers by itself. Clients delete a batch after most 4xx, so a request
that was merely slow must get a 5xx; and the filter's replies stay as they are."""

import time

import httpx
import pytest

from harness import bootstrap
from harness.behaviours import hang
from harness.rawhttp import Http1

HEAD = b"POST /api/v1/logs HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"


def exchange(envoy, data):
    """Sends bytes as they are; status, headers and body of the answer."""
    with Http1(envoy.port()) as connection:
        connection.send(data)
        answer = connection.answer()
        return answer.status, dict(answer.headers), answer.body


def problem(status, title):
    return b'{"status":%d,"title":"%s","type":"about:blank"}\n' % (status, title.encode())


@pytest.fixture
def impatient(gateway):
    def edit(document):
        bootstrap.connection_manager(document).update(
            request_timeout="1s", request_headers_timeout="1s", stream_idle_timeout="2s")
    return gateway(edit=edit, config={"export": {"timeout_ms": 60000}})


def token_line(bearer):
    return b"authorization: " + bearer()["authorization"].encode() + b"\r\n"


@pytest.mark.parametrize("what", ["body", "headers"])
def test_a_slow_request_gets_503(what, impatient, bearer):
    half = HEAD + token_line(bearer)
    if what == "body":
        half += b'content-length: 100\r\n\r\n{"logs":'
    status, headers, body = exchange(impatient, half)
    assert (status, body) == (503, problem(503, "Request timed out"))
    assert headers["content-type"] == "application/problem+json"


def test_a_stalled_request_gets_503(impatient, bearer, backend):
    """Envoy gives up before the filter does, which only happens where the timeouts are
    set the wrong way round, or the VM lost the request."""
    stuck = hang()
    backend.script(stuck)
    body = b'{"logs":[{"message":"x"}]}'
    request = HEAD + token_line(bearer) + b"content-length: %d\r\n\r\n" % len(body) + body
    began = time.monotonic()
    status, _, body = exchange(impatient, request)
    assert (status, body) == (503, problem(503, "Request timed out"))
    assert time.monotonic() - began < 10
    stuck.release()


def test_too_large_headers_get_431(gateway, bearer):
    status, headers, body = exchange(gateway(), HEAD + b"x-large: " + b"a" * 70_000 + b"\r\n\r\n")
    assert (status, body) == (431, problem(431, "Request header fields too large"))
    assert headers["content-type"] == "application/problem+json"


def test_too_many_headers_get_431(gateway, bearer):
    many = b"".join(b"x-%d: 1\r\n" % number for number in range(101))
    status, _, body = exchange(gateway(), HEAD + many + b"\r\n")
    assert (status, body) == (431, problem(431, "Request header fields too large"))


def test_the_filters_own_refusals_are_left_alone(gateway, bearer):
    """It says 413 too, and is not Envoy."""
    envoy = gateway(config={"max_body_bytes": 1000})
    status, headers, body = exchange(envoy, HEAD + token_line(bearer) + b"content-length: 1001\r\n\r\n" + b"x" * 1001)
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    (line,) = envoy.wait_for_access_log('" 413 ')
    assert "request_payload_too_large" not in line


def test_the_rest_of_the_world(gateway):
    envoy = gateway()
    status, _, body = exchange(envoy, b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
    assert (status, body) == (200, b"ok\n")
    status, _, _ = exchange(envoy, b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n")
    assert status == 404
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.get(envoy.url("/healthz"))
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")


def test_an_escaped_slash_is_refused(gateway):
    status, _, _ = exchange(gateway(), b"POST /api%2Fv1/logs HTTP/1.1\r\nhost: gateway\r\ncontent-length: 0\r\n\r\n")
    assert status == 400


@pytest.mark.parametrize("name", ["envoy.yaml", "logfire.yaml"])
def test_what_comes_past_the_filter_gets_503(name, gateway, production_files):
    """After a 404 clients stop sending for good, after a 200 they delete the batch."""
    def edit(document):
        document.update(production_files.rewrite(document))
        filters = bootstrap.http_filters(document)
        filters.remove(bootstrap.named(filters, "envoy-log-ingest"))
    status, _, _ = exchange(gateway(name=name, edit=edit), HEAD + b"content-length: 0\r\n\r\n")
    assert status == 503
