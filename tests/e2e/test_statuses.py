"""Every way to be refused, seen by curl through the real Envoy, over HTTP/1.1 and HTTP/2,
with one worker and with two. After each refusal every worker still takes a good request."""

import copy
import http.client
import json
import re
import time

import pytest

from harness import bootstrap, tokens
from harness.common import LOOPBACK, wait_until
from harness.curl import AnswerLost, curl
from harness.echo import Echo
from harness.gateways import PATH, STATS, serving
from harness.rawhttp import LAST_CHUNK, Http1, Http2, chunks, frames_of, head

LIMIT = 1_048_576  # max_body_bytes in envoy/envoy.yaml
RSA = tokens.rsa_key("statuses")

# The refusals' names in access logs and counters, with what the client sees of each.
TOKEN = (401, "A valid session token is required")
PROBLEMS = {
    "method_not_allowed": (405, "Only POST is allowed here"),
    "token_missing": TOKEN,
    "token_malformed": TOKEN,
    "token_too_long": TOKEN,
    "token_algorithm": TOKEN,
    "token_issuer": TOKEN,
    "token_key": TOKEN,
    "token_signature": TOKEN,
    "token_without_expiration": TOKEN,
    "token_expired": TOKEN,
    "token_not_yet_valid": TOKEN,
    "token_audience": TOKEN,
    "token_subject": TOKEN,
    "body_too_large": (413, "The body is too large"),
    "too_many_records": (413, "The batch has too many records"),
    "encoding_unsupported": (415, "The content encoding is not supported"),
    "body_corrupt": (400, "The body is not what its Content-Encoding says"),
    "body_missing": (400, "The request has no body"),
    "body_not_json": (400, "The body is not JSON"),
    "envelope_without_logs": (400, "The body has no array of logs"),
    "keys_unavailable": (503, "Tokens can not be verified at the moment"),
}


@pytest.fixture(scope="module")
def echo():
    with Echo() as running:
        yield running


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared_gate(request, wasm_module, session_key, sink, echo):
    """Everything but the ingest path goes to the echo upstream. A second listener does the
    same without the filter: what it lets through is what the filter must let through."""
    def edit(document):
        route = bootstrap.connection_manager(document)["route_config"]["virtual_hosts"][0]["routes"][-1]
        assert route["match"] == {"prefix": "/"}
        del route["direct_response"]
        route["route"] = {"cluster": "echo"}
        document["static_resources"]["clusters"].append({"name": "echo", "connect_timeout": "2s"})
        bootstrap.point_cluster(document, "echo", echo.port)
        without = copy.deepcopy(bootstrap.listener(document))
        without["name"] = "without"
        document["static_resources"]["listeners"].append(without)
        filters = without["filter_chains"][0]["filters"][-1]["typed_config"]["http_filters"]
        filters.remove(bootstrap.named(filters, "envoy-log-ingest"))
    with serving(sink, session_key, edit=edit, concurrency=request.param) as gate:
        yield gate


@pytest.fixture
def gate(shared_gate, sink, echo):
    sink.forget()
    echo.take()
    yield shared_gate
    shared_gate.good_on_every_worker()


def is_problem(answer, details):
    """The answer is the refusal of that name, and tells nothing more."""
    status, title = PROBLEMS[details]
    assert (answer.status, answer.header("content-type")) == (status, "application/problem+json")
    assert json.loads(answer.body) == {"type": "about:blank", "title": title, "status": status}
    assert (answer.header("allow") == "POST") == (status == 405)
    if status == 401:
        assert answer.header("www-authenticate") == 'Bearer error="invalid_token"'
    else:
        assert answer.header("www-authenticate") is None


def refuses(gate, details, *, path=PATH, headers=None, **options):
    """Sends a request with curl, which must be refused under the name `details`: in the
    answer, the access log and the counters, each once. Nothing goes to the backend."""
    headers = gate.bearer() if headers is None else headers
    answer, counted, tag = ask(gate, path, headers, **options)
    if options.get("method") == "HEAD":
        assert (answer.status, answer.body) == (PROBLEMS[details][0], b"")
    else:
        is_problem(answer, details)
    assert counted == {"requests": 1, f"rejected.{details}": 1}
    assert f'" {answer.status} {details} - ' in gate.access_log_line(tag)
    assert gate.backend.requests == []
    return answer


def ask(gate, path, headers, **options):
    """curl's answer, the outcome as it was counted, and the request's tag in the access log.

    Where Envoy answers before it has a request's body it ends the stream with RST_STREAM and
    NO_ERROR, as RFC 9113 (8.1) has it; with Envoy's own answers it is the same. A client must
    not throw the answer away for that, but curl may. Then the request is sent again by hand."""
    pairs = list(headers.items() if hasattr(headers, "items") else headers)
    before, tag = gate.counters(), gate.tag()
    try:
        answer = curl(gate.url(path), headers=[*pairs, ("user-agent", tag)], **options)
    except AnswerLost:
        gate.access_log_line(tag)  # it is over
        before, tag = gate.counters(), gate.tag()
        method, frames = options.get("method", "POST"), frames_of(options.get("body") or b"")
        with Http2(gate.envoy.port()) as client:
            answer = client.request([*pairs, ("user-agent", tag)], frames, method=method, path=path)
    return answer, gate.outcome(before), tag


def padded(size):
    """A good batch of so many bytes."""
    body = b'{"logs":[{"message":"padded"}]'
    return body + b" " * (size - len(body) - 1) + b"}"


class TestMethod:
    @pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "HEAD", "DELETE", "PATCH", "TRACE"])
    def test_only_post(self, gate, http2, method):
        assert refuses(gate, "method_not_allowed", method=method, http2=http2).header("allow") == "POST"

    def test_before_the_token_is_looked_at(self, gate, http2):
        refuses(gate, "method_not_allowed", method="GET", headers={}, http2=http2)

    def test_with_a_body(self, gate, http2):
        refuses(gate, "method_not_allowed", method="PUT", body=padded(100_000), http2=http2)


class TestPath:
    @pytest.mark.parametrize("path", [f"{PATH}?", f"{PATH}?access_token=x/y", "//api/v1/logs",
                                      "/api/v1/%6Cogs", "/api/./v1/x/../logs"])
    def test_other_spellings_of_it(self, gate, http2, path):
        """The query is no part of the path, and Envoy normalizes the rest before."""
        refuses(gate, "token_missing", headers={}, path=path, body=b"{}", http2=http2)

    OTHERS = ["/", "/api/v1/logs/", "/api/v1/logsx", "/api/v1", "/API/v1/logs", "/other?x=/api/v1/logs"]

    @pytest.mark.parametrize("path", OTHERS)
    def test_others_pass_through(self, gate, echo, http2, path):
        self.same_as_without(gate, echo, path, http2=http2, method="GET")

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE"])
    def test_any_method_passes_through(self, gate, echo, http2, method):
        self.same_as_without(gate, echo, "/other", http2=http2, method=method)

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    @pytest.mark.parametrize("size", [0, 1, 70_000, 6_000_000])
    def test_bodies_pass_through(self, gate, echo, http2, size, chunked):
        body = (bytes(range(256)) * (size // 256 + 1))[:size]
        (_, received), answer = self.same_as_without(gate, echo, "/other", http2=http2, body=body, chunked=chunked)
        assert received == answer.body == body

    def test_odd_headers_pass_through(self, gate, echo, http2):
        headers = [("x-odd", b"\xff\xfe"), ("x-twice", "1"), ("x-twice", "2"), ("x-empty", ""),
                   ("authorization", b"Bearer \xff"), ("content-encoding", "br"), ("x-long", "a" * 20_000)]
        (head, _), answer = self.same_as_without(gate, echo, "/other", http2=http2, body=b"{}", headers=headers)
        assert b"x-odd: \xff\xfe\r\n" in head and b"authorization: Bearer \xff\r\n" in head
        assert ("x-odd", "\xff\xfe") in answer.headers

    def test_it_is_none_of_the_filters_business(self, gate, http2):
        before = gate.counters()
        assert curl(gate.url("/other"), headers=gate.bearer(), body=b"{", http2=http2).status == 299
        assert gate.counted(before) == {}

    @staticmethod
    def same_as_without(gate, echo, path, *, headers=(), **options):
        """Sends a request past the filter, and another where there is none. Both must arrive as
        the same bytes, and the answers must be the same. What arrived, and the answer."""
        headers = [("host", "app.example.com"), *headers]
        urls = [gate.envoy.url(path, listener) for listener in ("ingest", "without")]
        answers = [curl(url, headers=headers, **options) for url in urls]
        through, past = [(re.sub(rb"(x-request-id: )[0-9a-f-]{36}", rb"\1", head), body) for head, body in echo.take()]
        assert through == past
        for answer in answers:
            varying = ("date", "x-envoy-upstream-service-time")
            answer.headers = [pair for pair in answer.headers if pair[0] not in varying]
        assert answers[0] == answers[1]
        assert answers[0].status == 299
        return through, answers[0]


def short(body):
    """A name for a test."""
    return body[:24].decode("latin-1")


BATCH = json.dumps({"logs": [{"message": "in pieces " * 20}]}).encode()
BYTES = [BATCH[at : at + 1] for at in range(len(BATCH))]


def bearer_of(token):
    raw = token if isinstance(token, bytes) else token.encode()
    return {"authorization": b"Bearer " + raw, "content-type": b"application/json"}


@pytest.fixture(scope="module")
def bad_tokens(session_key):
    return tokens.bad_tokens(session_key)


class TestToken:
    BODY = b'{"logs":[{"message":"not for you"}]}'

    @pytest.mark.parametrize("name", tokens.bad_tokens(tokens.hmac_key()))
    def test_bad_ones(self, gate, http2, bad_tokens, name):
        """One by one; how each is called in logs matters only for those below."""
        answer, counted, _ = ask(gate, PATH, bearer_of(bad_tokens[name]), body=self.BODY, http2=http2)
        is_problem(answer, "token_malformed")
        (counter,) = [name for name in counted if name.startswith("rejected.")]
        assert counter.startswith("rejected.token_")
        assert gate.backend.requests == []

    @pytest.mark.parametrize("details, name", [
        ("token_malformed", "empty"),
        ("token_malformed", "two parts"),
        ("token_malformed", "claims are no JSON"),
        ("token_malformed", "a byte that is no UTF-8"),
        ("token_malformed", "two tokens"),
        ("token_too_long", "long"),
        ("token_signature", "wrong key"),
        ("token_signature", "claims of another token"),
        ("token_algorithm", "another HMAC"),
        ("token_algorithm", "alg none"),
        ("token_algorithm", "alg None"),
        ("token_expired", "expired"),
        ("token_not_yet_valid", "not yet valid"),
        ("token_without_expiration", "no exp"),
    ])
    def test_operators_see_why(self, gate, http2, bad_tokens, details, name):
        refuses(gate, details, headers=bearer_of(bad_tokens[name]), body=self.BODY, http2=http2)

    def test_no_header(self, gate, http2):
        refuses(gate, "token_missing", headers={"content-type": "application/json"}, body=self.BODY, http2=http2)

    def test_an_empty_header(self, gate, http2):
        refuses(gate, "token_missing", headers={"authorization": ""}, body=self.BODY, http2=http2)

    @pytest.mark.parametrize("scheme", ["Basic", "Digest", "Bearerx", "Bearer:", "DPoP", ""])
    def test_another_scheme(self, gate, http2, scheme):
        headers = {"authorization": f"{scheme} {tokens.mint(gate.key)}"}
        refuses(gate, "token_malformed", headers=headers, body=self.BODY, http2=http2)

    def test_two_headers(self, gate, http2):
        """Even if both are good: which one to believe is not for the filter to say."""
        good = gate.bearer()["authorization"]
        headers = [("authorization", good), ("authorization", good)]
        refuses(gate, "token_malformed", headers=headers, body=self.BODY, http2=http2)

    @pytest.mark.parametrize("place", ["scheme", "start", "end"])
    def test_bytes_that_are_no_text(self, gate, http2, place):
        good = tokens.mint(gate.key).encode()
        value = {"scheme": b"Bearer\xc3 " + good, "start": b"Bearer \xff" + good, "end": b"Bearer " + good + b"\x80"}
        refuses(gate, "token_malformed", headers={"authorization": value[place]}, body=self.BODY, http2=http2)

    @pytest.mark.parametrize("size", [8_193, 20_000, 60_000])
    def test_long_ones(self, gate, http2, size):
        """The last one is about what Envoy takes at all."""
        token = tokens.mint(gate.key, filler="a" * (size * 3 // 4))[:size]
        refuses(gate, "token_too_long", headers=bearer_of(token), body=self.BODY, http2=http2)

    @pytest.mark.parametrize("claims", [{"sub": None}, {"sub": ""}, {"sub": ["a"]}, {"sub": {"a": 1}}, {"sub": True}])
    def test_without_a_subject(self, gate, http2, claims):
        token = tokens.mint(gate.key, **claims)
        refuses(gate, "token_subject", headers=bearer_of(token), body=self.BODY, http2=http2)

    # The skew is 60 s; two seconds on either side of it are for a slow machine.

    @pytest.mark.parametrize("lifetime, good", [(-57, True), (-60, False), (-61, False)])
    def test_the_edge_of_exp(self, gate, http2, lifetime, good):
        self.edge(gate, http2, good, "token_expired", lifetime=lifetime)

    @pytest.mark.parametrize("claim", ["nbf", "iat"])
    @pytest.mark.parametrize("ahead, good", [(59, True), (63, False)])
    def test_the_edge_of_nbf_and_iat(self, gate, http2, claim, ahead, good):
        self.edge(gate, http2, good, "token_not_yet_valid", **{claim: int(time.time()) + ahead})

    def edge(self, gate, http2, good, details, **claims):
        token = tokens.mint(gate.key, **claims)
        if good:
            assert curl(gate.url(), headers=bearer_of(token), body=self.BODY, http2=http2).status == 200
        else:
            refuses(gate, details, headers=bearer_of(token), body=self.BODY, http2=http2)

    def test_answers_cannot_be_told_apart(self, gate, http2, bad_tokens):
        """Not by the body, nor by a header, of all that curl shows."""
        seen = {}
        for name, token in bad_tokens.items():
            answer, _, _ = ask(gate, PATH, bearer_of(token), body=self.BODY, http2=http2)
            headers = [pair for pair in answer.headers if pair[0] not in ("date", ":status")]
            seen.setdefault(repr((answer.status, headers, answer.body)), []).append(name)
        assert len(seen) == 1, seen

    def test_before_a_body_of_any_size(self, gate, http2):
        refuses(gate, "token_missing", headers={}, body=b" " * 20_000_000, http2=http2)

    def test_clients_that_write_all_before_they_read(self, gate):
        """They must see the 401 and not a broken connection: for them that is a batch to be sent
        again and again with the same token, and in the end deleted."""
        for _ in range(5):
            connection = http.client.HTTPConnection(LOOPBACK, gate.envoy.port(), timeout=20)
            connection.request("POST", PATH, padded(900_000), bearer_of(tokens.mint(gate.key, lifetime=-120)))
            assert connection.getresponse().status == 401
            connection.close()


@pytest.fixture(scope="module")
def shared_rsa_gate(wasm_module, session_key, sink):
    """The only provider has a public key."""
    def edit(document):
        (provider,) = bootstrap.filter_config(document)["auth"]["providers"]
        del provider["hmac_secret_env"]
        provider.update(algorithms=["RS256"], public_key_pem=RSA.public_pem)
    with serving(sink, session_key, edit=edit) as gate:
        gate.key = RSA
        yield gate


@pytest.fixture
def rsa_gate(shared_rsa_gate, sink):
    sink.forget()
    yield shared_rsa_gate
    shared_rsa_gate.good_on_every_worker()


class TestRs256:
    BAD = {**tokens.bad_tokens(RSA), "another RSA": tokens.mint(RSA, algorithm="RS512"),
           "PSS": tokens.mint(RSA, algorithm="PS256")}

    def test_a_good_one(self, rsa_gate):
        assert rsa_gate.send({"logs": []}).json() == {"accepted": 0, "rejected": 0}

    @pytest.mark.parametrize("name", BAD)
    def test_bad_ones(self, rsa_gate, name):
        answer = curl(rsa_gate.url(), headers=bearer_of(self.BAD[name]), body=TestToken.BODY)
        is_problem(answer, "token_malformed")
        assert rsa_gate.backend.requests == []

    @pytest.mark.parametrize("details, name", [
        ("token_algorithm", "public key as HMAC secret"),
        ("token_algorithm", "another RSA"),
        ("token_algorithm", "PSS"),
        ("token_algorithm", "alg none"),
        ("token_signature", "wrong key"),
    ])
    def test_the_key_chooses_the_algorithm(self, rsa_gate, details, name):
        """Above all, the public key is no HMAC secret: everybody has it."""
        refuses(rsa_gate, details, headers=bearer_of(self.BAD[name]), body=TestToken.BODY)

    def test_the_secret_of_another_provider_is_no_key(self, rsa_gate, session_key):
        refuses(rsa_gate, "token_algorithm", headers=bearer_of(tokens.mint(session_key)), body=TestToken.BODY)


class TestOtherHeaders:
    """Bytes that are no UTF-8 are no reason to refuse anything, let alone to die."""

    @pytest.mark.parametrize("name", ["x-odd", "user-agent", "content-type", "accept", "referer", "cookie", "origin"])
    def test_bytes_that_are_no_text(self, gate, http2, name):
        headers = {**gate.bearer(), name: b"\xff\xfe\x80"}
        answer = curl(gate.url(), headers=headers, body=b'{"logs":[{"message":"fine"}]}', http2=http2)
        assert (answer.status, answer.body) == (200, b'{"accepted":1,"rejected":0}')

    @pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=utf-8", "application/grpc"])
    def test_any_content_type_will_do(self, gate, http2, content_type):
        """No contract refuses one, and a refusal would make the client delete its records."""
        headers = {**gate.bearer(), "content-type": content_type}
        assert curl(gate.url(), headers=headers, body=b'{"logs":[]}', http2=http2).status == 200

    @pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto"])
    def test_a_refusal_is_never_200(self, gate, http2, content_type):
        """Envoy turns local replies to gRPC requests into 200 with a grpc-status. A client that
        looks at the status would delete what was never delivered."""
        headers = {"authorization": "Bearer none", "content-type": content_type}
        before = gate.counters()
        with pytest.raises((AnswerLost, AssertionError), match="no answer|^$"):
            curl(gate.url(), headers=headers, body=TestToken.BODY, http2=http2)
        assert gate.counted(before)["rejected.token_malformed"] == 1


class TestSize:
    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_exactly_the_limit(self, gate, http2, chunked):
        answer = curl(gate.url(), headers=gate.bearer(), body=padded(LIMIT), chunked=chunked, http2=http2)
        assert (answer.status, answer.body) == (200, b'{"accepted":1,"rejected":0}')

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    @pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 3 * LIMIT])
    def test_more_than_the_limit(self, gate, http2, size, chunked):
        refuses(gate, "body_too_large", body=padded(size), chunked=chunked, http2=http2)

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_far_more_than_the_limit(self, gate, http2, chunked):
        """Where Envoy reads more at once than it may buffer, its own 413 comes first."""
        answer, _, _ = ask(gate, PATH, gate.bearer(), body=padded(20 * LIMIT), chunked=chunked, http2=http2)
        assert (answer.status, answer.header("content-type")) == (413, "application/problem+json")
        assert json.loads(answer.body)["title"] in ("The body is too large", "Content too large")
        assert gate.backend.requests == []

    def test_the_token_comes_first(self, gate, http2):
        """A 413 makes the client delete its records: only a client that is known may be told so."""
        refuses(gate, "token_missing", headers={}, body=padded(LIMIT + 1), http2=http2)

    def test_more_records_than_any_client_sends(self, gate, http2):
        """A hundred at most; bare numbers are records too, so a small body could hold half a million."""
        refuses(gate, "too_many_records", body=b'{"logs":[' + b"0," * 1_000 + b"0]}", http2=http2)

    @pytest.mark.parametrize("digits", ["1048577", "99999999999", "18446744073709551615"])
    def test_a_length_that_is_only_announced(self, gate, digits):
        """Whoever waits for such a body to come waits for long."""
        request = head({**gate.bearer(), "content-length": digits})
        with Http1(gate.envoy.port()) as client:
            client.send(request, b"{")
            if digits == "1048577":
                client.send(b" " * LIMIT)
            is_problem(client.answer(), "body_too_large")


class TestEncoding:
    @pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "gzip," * 5, "gzip;q=1", "x", b"\xff"])
    def test_is_not_undone(self, gate, http2, encoding):
        headers = {**gate.bearer(), "content-encoding": encoding}
        refuses(gate, "encoding_unsupported", headers=headers, body=b'{"logs":[]}', http2=http2)

    @pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
    def test_identity_is_none(self, gate, http2, encoding):
        headers = {**gate.bearer(), "content-encoding": encoding}
        assert curl(gate.url(), headers=headers, body=b'{"logs":[]}', http2=http2).status == 200

    def test_the_token_comes_first(self, gate, http2):
        refuses(gate, "token_missing", headers={"content-encoding": "gzip"}, body=b"x", http2=http2)


class TestBody:
    def test_none(self, gate, http2):
        refuses(gate, "body_missing", http2=http2)

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_an_empty_one(self, gate, http2, chunked):
        refuses(gate, "body_missing", body=b"", chunked=chunked, http2=http2)

    @pytest.mark.parametrize("body", [
        b"{", b" ", b"logs", b'{"logs":[}', b'{"logs":[]', b'{"logs":[]} x', b'{"logs":[{"a":1]}', b'{"logs":[],}',
        b"{'logs':[]}", b'{"logs":[NaN]}', b'{"logs":[01]}', b'{"logs":["\x01"]}', b"<html>", b"\0", b"\xff\xfe",
        b"\x1f\x8b\x08\0", b'{"logs":[{"message":"', b'{"logs":[tru', b'{"logs":["\\x"]}', b"[" * 100_000,
        b'{"logs":' + b"[" * 100_000,
    ], ids=short)
    def test_no_json(self, gate, http2, body):
        refuses(gate, "body_not_json", body=body, http2=http2)

    @pytest.mark.parametrize("body", [
        b"{}", b"[]", b"null", b"42", b"true", b'"logs"', b'{"logs":{}}', b'{"logs":null}', b'{"logs":"[]"}',
        b'{"Logs":[]}', b'{"records":[{}]}', b'[{"logs":[]}]', b'{"resource":{"logs":[]}}',
    ], ids=short)
    def test_no_logs(self, gate, http2, body):
        refuses(gate, "envelope_without_logs", body=body, http2=http2)

    @pytest.mark.parametrize("body", [
        b'{"logs":[]}', b' \r\n\t{ "resource" : {} , "logs" : [ ] } \n', b'{"logs":[],"x":1}',
    ], ids=short)
    def test_empty_logs_are_accepted(self, gate, http2, body):
        """Without asking the backend."""
        answer = curl(gate.url(), headers=gate.bearer(), body=body, http2=http2)
        assert (answer.status, answer.header("content-type")) == (200, "application/json")
        assert json.loads(answer.body) == {"accepted": 0, "rejected": 0}
        assert gate.backend.requests == []

    def test_many_small_chunks(self, gate):
        with Http1(gate.envoy.port()) as client:
            client.send(head(gate.bearer(), "transfer-encoding: chunked"), *chunks(*BYTES), LAST_CHUNK)
            self.arrived(client.answer(), gate)

    def test_many_small_frames(self, gate):
        with Http2(gate.envoy.port()) as client:
            self.arrived(client.request(gate.bearer(), [*BYTES, b""], {}), gate)

    def test_a_body_that_ends_with_an_empty_frame(self, gate):
        with Http2(gate.envoy.port()) as client:
            stream = client.begin(gate.bearer(), [BATCH, b""], end=True)
            self.arrived(client.answer(stream), gate)

    def arrived(self, answer, gate):
        assert (answer.status, answer.body) == (200, b'{"accepted":1,"rejected":0}')
        (record,) = gate.backend.taken_records
        assert record["body"] == json.loads(BATCH)["logs"][0]["message"]


class TestTrailers:
    """With trailers a body has no end of its own."""

    TRAILERS = {"x-checksum": "1", "x-odd": b"\xff"}

    def test_a_good_batch(self, gate):
        with Http2(gate.envoy.port()) as client:
            answer = client.request(gate.bearer(), [b'{"logs":[{"message"', b':"x"}]}'], self.TRAILERS)
        assert (answer.status, answer.body) == (200, b'{"accepted":1,"rejected":0}')
        assert [record["body"] for record in gate.backend.taken_records] == ["x"]

    @pytest.mark.parametrize("details, frames", [
        ("body_missing", []),
        ("body_missing", [b""]),
        ("body_not_json", [b'{"logs":[', b"{"]),
        ("envelope_without_logs", [b"{}"]),
        ("body_too_large", [b" " * 16_000] * 67),
    ])
    def test_refusals(self, gate, details, frames):
        with Http2(gate.envoy.port()) as client:
            is_problem(client.request(gate.bearer(), frames, self.TRAILERS), details)

    def test_a_bad_token(self, gate):
        with Http2(gate.envoy.port()) as client:
            is_problem(client.request({}, [b"{}"], self.TRAILERS), "token_missing")

    def test_over_http_1(self, gate):
        """Envoy drops them there."""
        with Http1(gate.envoy.port()) as client:
            request = head(gate.bearer(), "transfer-encoding: chunked", "te: trailers", "trailer: x-checksum")
            client.send(request, *chunks(b'{"logs":[{"message":"x"}]}'), b"0\r\nx-checksum: 1\r\n\r\n")
            assert client.answer().status == 200

    def test_past_the_filter(self, gate, echo):
        with Http2(gate.envoy.port()) as client:
            answer = client.request({}, [b"a", b"b"], self.TRAILERS, path="/other")
        assert (answer.status, answer.body) == (299, b"ab")
        assert [body for _, body in echo.take()] == [b"ab"]


class TestLeavingHalfway:
    """A client that is gone before its body was complete has sent nothing."""

    def test_over_http_1(self, gate):
        before = gate.counters()
        with Http1(gate.envoy.port()) as client:
            client.send(head({**gate.bearer(), "content-length": "100"}), b'{"logs":[')
            self.until_seen(gate, before)
        self.nothing_came_of_it(gate, before)

    def test_over_http_2(self, gate):
        before = gate.counters()
        with Http2(gate.envoy.port()) as client:
            stream = client.begin(gate.bearer(), [b'{"logs":['])
            self.until_seen(gate, before)
            client.reset(stream)
            # The connection is still good for the next one.
            assert client.request(gate.bearer(), [b'{"logs":[]}', b""], {}).status == 200
        self.nothing_came_of_it(gate, before, accepted=1)

    @staticmethod
    def until_seen(gate, before):
        wait_until(lambda: gate.counted(before).get("requests") == 1, 5, "the request to be counted")

    @staticmethod
    def nothing_came_of_it(gate, before, accepted=0):
        wanted = {"requests": 1 + accepted, "requests_accepted": accepted}
        assert gate.outcome(before) == {name: value for name, value in wanted.items() if value}
        assert gate.backend.requests == []


def test_no_refusal_is_forgotten(gate):
    """Each one that the filter can count is tested somewhere."""
    in_other_files = {
        "user_rate_limited", "session_rate_limited",  # test_rate_limits.py
        "export_not_dispatched", "export_reset", "export_refused", "export_not_understood",  # test_delivery.py
        "export_denied",  # there too
        "export_deferred", "export_unfinished", "export_expired", "export_backlog",  # test_backend_answers.py
        "keys_unavailable", "too_many_records",  # test_remote_keys.py, test_bodies.py
        "service_rate_limited", "limit_service_unavailable",  # test_limit_service.py
        "body_unavailable", "limiter_contended",  # natively: no client can bring them about
    }
    prefix = STATS + "rejected."
    assert {name[len(prefix):] for name in gate.envoy.stats(prefix)} == PROBLEMS.keys() | in_other_files


class TestProviders:
    """Which provider is responsible for a token, and which of its keys."""

    ISSUER, KEYS, REMOTE = "https://id.example.com", "https://keys.example.com", "https://remote.example.com"

    @pytest.fixture(scope="class")
    def providers(self, wasm_module, session_key, sink):
        def edit(document):
            config = bootstrap.filter_config(document)
            (provider,) = config["auth"]["providers"]
            provider.update(issuer=self.ISSUER, audiences=["field-app", "other-app"])
            config["auth"]["providers"] += [
                {"name": "set", "issuer": self.KEYS, "algorithms": ["RS256"], "local_jwks": {"keys": [RSA.jwk("a")]}},
                {"name": "remote", "issuer": self.REMOTE, "algorithms": ["RS256"],
                 "remote_jwks": {"cluster": "nowhere", "uri": f"{self.REMOTE}/keys"}},
            ]
        with serving(sink, session_key, edit=edit) as gate:
            yield gate

    @pytest.fixture
    def gate(self, providers, sink):
        sink.forget()
        return providers

    GOOD = {"iss": ISSUER, "aud": "field-app"}

    @pytest.mark.parametrize("details, claims", [
        ("token_issuer", {"iss": None}),
        ("token_issuer", {"iss": "https://id.example.com/"}),
        ("token_issuer", {"iss": 7}),
        ("token_audience", {"aud": None}),
        ("token_audience", {"aud": "field"}),
        ("token_audience", {"aud": []}),
        ("token_audience", {"aud": ["a", "b"]}),
        ("token_audience", {"aud": {"field-app": 1}}),
        ("token_algorithm", {"iss": KEYS}),
    ])
    def test_others_are_refused(self, gate, details, claims):
        refuses(gate, details, headers=gate.bearer(**{**self.GOOD, **claims}), body=TestToken.BODY)

    @pytest.mark.parametrize("audience", ["field-app", "other-app", ["x", "other-app"]])
    def test_good_ones(self, gate, audience):
        assert gate.send({"logs": []}, **{**self.GOOD, "aud": audience}).status_code == 200

    @pytest.mark.parametrize("kid", [None, "a"])
    def test_a_key_of_the_set(self, gate, kid):
        token = tokens.mint(RSA, iss=self.KEYS, header={"kid": kid})
        assert gate.send({"logs": []}, headers=bearer_of(token)).status_code == 200

    def test_a_key_that_the_set_does_not_have(self, gate):
        token = tokens.mint(RSA, iss=self.KEYS, header={"kid": "b"})
        refuses(gate, "token_key", headers=bearer_of(token), body=TestToken.BODY)

    def test_keys_that_cannot_be_had(self, gate):
        """Nobody knows whether such a token is good: that is no 401."""
        token = tokens.mint(RSA, iss=self.REMOTE, header={"kid": "a"})
        refuses(gate, "keys_unavailable", headers=bearer_of(token), body=TestToken.BODY)
