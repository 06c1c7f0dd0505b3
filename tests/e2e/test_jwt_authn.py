"""Envoy's own jwt_authn filter in front: what it has verified is taken as it is, and nothing
that a client can send stands in for it."""

import base64
import copy
import functools
import json
import time
import uuid

import httpx
import pytest

from harness import bootstrap, tokens
from harness.gateways import PATH, serving
from harness.rawhttp import Http1, Http2, head

KEY, OTHER = tokens.rsa_key("jwt_authn"), tokens.rsa_key("another")
ISSUER = "https://id.example.com/realms/field"
METADATA = "jwt_payload"
FILTER = "envoy.filters.http.jwt_authn"
BATCH = b'{"logs":[{"message":"one"}]}'
# By the query jwt_authn is told to let requests without a token through; the filter doesn't mind it.
PATHS = {"required": PATH, "allow missing": f"{PATH}?lenient"}


def jwt_authn(payload_in_metadata=METADATA):
    provider = {"issuer": ISSUER, "local_jwks": {"inline_string": json.dumps({"keys": [KEY.jwk("session-1")]})},
                "payload_in_metadata": payload_in_metadata, "forward": True}
    required = {"provider_name": "session"}
    # Who brings a token must bring a good one, even so.
    lenient = {"requires_any": {"requirements": [required, {"allow_missing": {}}]}}
    by_query = {"prefix": PATH, "query_parameters": [{"name": "lenient", "present_match": True}]}
    return {"name": FILTER, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"session": provider},
        "rules": [{"match": by_query, "requires": lenient}, {"match": {"prefix": PATH}, "requires": required}]}}


def trust(document, **more):
    """The filter trusts what jwt_authn leaves in the metadata."""
    auth = bootstrap.filter_config(document)["auth"]
    del auth["providers"]
    auth["trust_envoy_jwt_authn"] = {"payload_in_metadata": METADATA, **more}


def ready(gate):
    """Its good requests are such as jwt_authn takes."""
    gate.key = KEY
    gate.bearer = functools.partial(gate.bearer, iss=ISSUER)
    return gate


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared_gate(request, wasm_module, session_key, sink):
    def edit(document):
        trust(document)
        bootstrap.http_filters(document).insert(0, jwt_authn())
    with serving(sink, session_key, edit=edit, concurrency=request.param) as gate:
        yield ready(gate)


@pytest.fixture
def gate(shared_gate, sink):
    sink.forget()
    yield shared_gate
    shared_gate.good_on_every_worker()


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


def ask(gate, headers, http2=False, path=PATH, listener=None):
    port = gate.envoy.port(listener)
    if http2:
        with Http2(port) as client:
            return client.request(headers, [BATCH], path=path)
    with Http1(port) as client:
        client.send(head({**headers, "content-length": str(len(BATCH))}, path=path), BATCH)
        return client.answer()


def sender(gate, headers, **how):
    """Who sent a request that must be accepted."""
    before = len(gate.backend.records)
    answer = ask(gate, headers, **how)
    assert (answer.status, answer.body) == (200, b'{"accepted":1,"rejected":0}')
    (record,) = gate.backend.records[before:]
    return record["attributes"]["enduser.id"]


def refused_by_jwt_authn(gate, headers, **how):
    before = gate.counters()
    answer = ask(gate, headers, **how)
    assert answer.status == 401 and b"Jwt" in answer.body, answer
    assert gate.counted(before) == {}
    assert gate.backend.requests == []


def refused_by_the_filter(gate, name, headers, **how):
    before = gate.counters()
    answer = ask(gate, headers, **how)
    assert answer.status == 401 and json.loads(answer.body)["title"] == "A valid session token is required"
    assert answer.header("www-authenticate") == 'Bearer error="invalid_token"'
    assert gate.outcome(before) == {"requests": 1, f"rejected.{name}": 1}
    assert gate.backend.requests == []


class TestVerifiedClaims:
    def test_say_who_the_sender_is(self, gate, http2, path):
        assert sender(gate, gate.bearer(sub="u-7"), http2=http2, path=path) == "u-7"

    def test_of_another_request_do_not(self, gate):
        """On one connection, with different workers, one after the other."""
        for worker in gate.workers():
            for user in ("first", "second", "third"):
                assert gate.post_on(worker, {"logs": [{"message": user}]}, sub=user)[0] == 200
        seen = [(record["body"], record["attributes"]["enduser.id"]) for record in gate.backend.records]
        assert seen == [(user, user) for _ in gate.workers() for user in ("first", "second", "third")]

    @pytest.mark.parametrize("claims", [
        {"roles": ["a", {"b": None}], "n": 1.5, "big": 2**63, "t": True, "o": {"sub": "root"}},
        {"sub.": "root", "": "x", "ключ": "значение \U0001f600"},
        {"long": "x" * 30_000},
        {"many": {f"claim {number}": number for number in range(1_000)}},
        {"deep": functools.reduce(lambda value, _: [value], range(40), 1)},
        {"aud": ["a", "b"], "jti": "1", "auth_time": 1, "acr": "0"},
    ], ids=["of all kinds", "with odd names", "long", "many", "deep", "usual"])
    def test_may_be_whatever_they_are(self, gate, claims):
        assert sender(gate, gate.bearer(sub="u-8", **claims)) == "u-8"

    def test_with_a_number_for_a_subject(self, gate):
        """jwt_authn does not take that for `sub`; for another claim see below."""
        refused_by_jwt_authn(gate, gate.bearer(sub=1234567890))

    @pytest.mark.parametrize("sub", [None, "", ["a"], {"a": 1}, True], ids=repr)
    def test_without_a_subject(self, gate, sub):
        """jwt_authn does not mind, or refuses a claim of the wrong type itself."""
        answer = ask(gate, gate.bearer(sub=sub))
        assert answer.status == 401 and gate.backend.requests == []
        if sub in (None, ""):
            refused_by_the_filter(gate, "token_subject", gate.bearer(sub=sub))

    @pytest.mark.timeout(60)
    def test_nested_without_end(self, gate):
        """Whether jwt_authn takes such a thing or not, no VM may die of it."""
        for depth in (100, 1_000, 5_000):
            claims = b'{"iss":"%s","sub":"u","exp":%d,"deep":%b%b}' % (
                ISSUER.encode(), 4_000_000_000, b"[" * depth, b"]" * depth)
            token = tokens.assemble(KEY, {"alg": "RS256", "kid": "session-1"}, claims, "RS256")
            assert ask(gate, {"authorization": f"Bearer {token}"}).status in (200, 401)
        gate.good_on_every_worker()


class TestOthers:
    def test_without_a_token_jwt_authn_refuses(self, gate, http2):
        refused_by_jwt_authn(gate, {}, http2=http2)

    def test_or_the_filter_where_jwt_authn_does_not(self, gate, http2):
        refused_by_the_filter(gate, "token_missing", {}, http2=http2, path=PATHS["allow missing"])

    def test_with_another_scheme(self, gate, http2):
        """For jwt_authn that is no token at all, and so nothing to verify."""
        good = tokens.mint(KEY, iss=ISSUER)
        for value in (f"Basic {good}", good, f"DPoP {good}"):
            headers = {"authorization": value}
            refused_by_the_filter(gate, "token_missing", headers, http2=http2, path=PATHS["allow missing"])
            refused_by_jwt_authn(gate, headers, http2=http2)

    def test_a_bad_token_is_refused_by_jwt_authn(self, gate, path):
        good = tokens.mint(KEY, iss=ISSUER)
        made = {
            "wrong key": tokens.mint(OTHER, iss=ISSUER),
            "another issuer": tokens.mint(KEY, iss="https://other.example.com"),
            "no issuer": tokens.mint(KEY),
            "expired": tokens.mint(KEY, iss=ISSUER, lifetime=-120),
            "not yet valid": tokens.mint(KEY, iss=ISSUER, nbf=int(time.time()) + 600),
            "alg none": tokens.mint(KEY, iss=ISSUER, algorithm="none"),
            "public key as secret": tokens.mint(KEY, iss=ISSUER, algorithm="HS256"),
            "signature empty": good.rpartition(".")[0] + ".",
            "signature changed": good[:-8] + ("A" if good[-8] != "A" else "B") + good[-7:],
            "no token": "none",
        }
        for name, token in made.items():
            try:
                refused_by_jwt_authn(gate, {"authorization": f"Bearer {token}"}, path=path)
            except AssertionError as fault:
                raise AssertionError(name) from fault


class TestAForger:
    """Sends in headers what he would like to stand in the metadata."""

    CLAIMS = {"sub": "root", "iss": ISSUER, "exp": 4_000_000_000}

    @property
    def headers(self):
        text = json.dumps(self.CLAIMS)
        encoded = base64.b64encode(text.encode()).decode()
        names = [METADATA, FILTER, f"{FILTER}.{METADATA}", "x-jwt-payload", "x-jwt-claim-sub", "x-forwarded-user",
                 "x-envoy-metadata", "metadata", f"metadata.filter_metadata.{FILTER}", "x-envoy-peer-metadata",
                 "x-envoy-dynamic-metadata", "x-goog-authenticated-user-id", "sub", "enduser.id"]
        return [{name: value for name in names} for value in (text, encoded, "root")]

    def test_without_a_token(self, gate, http2):
        for headers in self.headers:
            refused_by_the_filter(gate, "token_missing", headers, http2=http2, path=PATHS["allow missing"])

    def test_with_a_token_of_his_own(self, gate, http2, path):
        for headers in self.headers:
            assert sender(gate, {**gate.bearer(sub="mallory"), **headers}, http2=http2, path=path) == "mallory"

    def test_with_an_unsigned_token(self, gate, http2, path):
        token = tokens.mint(KEY, algorithm="none", **self.CLAIMS)
        for headers in self.headers:
            refused_by_jwt_authn(gate, {**headers, "authorization": f"Bearer {token}"}, http2=http2, path=path)


class TestOtherConfigurations:
    """Each is a listener of its own."""

    @pytest.fixture(scope="class")
    def listeners(self, wasm_module, session_key, sink):
        def edit(document):
            original = copy.deepcopy(bootstrap.listener(document))
            trust(document)
            bootstrap.http_filters(document).insert(0, jwt_authn())
            self.add(document, original, "none")
            self.add(document, original, "behind", lambda filters: filters.insert(1, jwt_authn()))
            self.add(document, original, "by another name", lambda filters: filters.insert(0, jwt_authn("another")))
            self.add(document, original, "no metadata", lambda filters: filters.insert(0, jwt_authn("")))
            self.add(document, original, "claims", lambda filters: filters.insert(0, jwt_authn()),
                     subject_claim="user_id", session_claim="login")
        with serving(sink, session_key, edit=edit) as gate:
            yield ready(gate)

    @staticmethod
    def add(document, original, name, change=None, **more):
        listener = {**copy.deepcopy(original), "name": name}
        part = {"static_resources": {"listeners": [listener]}}
        trust(part, **more)
        if change:
            change(bootstrap.http_filters(part))
        document["static_resources"]["listeners"].append(listener)

    @pytest.fixture
    def gate(self, listeners, sink):
        sink.forget()
        yield listeners
        listeners.good_on_every_worker()

    @pytest.mark.parametrize("listener", ["none", "behind", "by another name", "no metadata"])
    def test_where_jwt_authn_leaves_nothing_nobody_is_let_in(self, gate, http2, listener):
        refused_by_the_filter(gate, "token_missing", gate.bearer(), http2=http2, listener=listener)

    def test_the_subject_has_another_name(self, gate, http2):
        headers = gate.bearer(sub="u-1", user_id="u-2")
        assert sender(gate, headers, http2=http2, listener="claims") == "u-2"
        gate.backend.forget()
        refused_by_the_filter(gate, "token_subject", gate.bearer(sub="u-1"), http2=http2, listener="claims")

    @pytest.mark.parametrize("number", [0, 7, 1234567890, -1, 2**53 - 1])
    def test_the_subject_is_a_number(self, gate, number):
        assert sender(gate, gate.bearer(user_id=number), listener="claims") == str(number)

    @pytest.mark.parametrize("number", [1.5, 2**53 + 1, 2**63, 10**30, 1e300])
    def test_the_subject_is_a_number_that_cannot_be_told_from_others(self, gate, number):
        """In metadata all numbers have 53 bits: rounded, it would be somebody else."""
        refused_by_the_filter(gate, "token_subject", gate.bearer(user_id=number), listener="claims")

    @pytest.mark.parametrize("listener, claim", [("ingest", "sid"), ("claims", "login")])
    def test_a_session_has_its_limit(self, gate, listener, claim):
        """It is the token's, whatever the records say."""
        user = str(uuid.uuid4())

        def send(login, records=1):
            headers = gate.bearer(sub=user, user_id=user, **{claim: login})
            body = {"logs": [{"sessionId": str(uuid.uuid4())}] * records}
            url = gate.envoy.url(PATH, listener)
            return httpx.post(url, json=body, headers=headers, timeout=20).status_code
        one, two = str(uuid.uuid4()), str(uuid.uuid4())
        # More than its bucket holds, so that it doesn't fill in a moment.
        assert [send(one, 900) for _ in range(2)] == [200, 200]
        assert send(one) == 429
        assert send(two) == 200


def test_paths_of_others_need_no_token(gate):
    with Http1(gate.envoy.port()) as client:
        client.send(head({"content-length": "0"}, path="/healthz", method="GET"))
        assert client.answer().status == 200
