"""Tokens made by an attacker, through the real Envoy, against keys of every kind at once. Each
must be refused by every worker, and afterwards every worker takes a good one."""

import base64
import hmac
import itertools
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harness import tokens
from harness.gateways import PATH, serving
from harness.rawhttp import Http1, Http2, head

RSA, EC, OKP = tokens.rsa_key("tokens"), tokens.ec_key("tokens"), tokens.ed25519_key("tokens")
EC384 = tokens.ec_key("tokens", "ES384")
BODY = b'{"logs":[{"message":"one"}]}'
JSON = [("content-type", "application/json")]
# The order of the group of P-256.
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def issuer(name):
    return f"https://{name}.example.com"


# One provider for each kind of key. That with the secret has no issuer: it is asked about
# all tokens that name none of the others.
PROVIDERS = [
    {"name": "rsa", "issuer": issuer("rsa"), "algorithms": ["RS256", "PS256"], "public_key_pem": RSA.public_pem},
    {"name": "ec", "issuer": issuer("ec"), "algorithms": ["ES256"], "local_jwks": {"keys": [EC.jwk("ec-1")]}},
    {"name": "ec384", "issuer": issuer("ec384"), "algorithms": ["ES384"], "public_key_pem": EC384.public_pem},
    {"name": "okp", "issuer": issuer("okp"), "algorithms": ["EdDSA"],
     "local_jwks": json.dumps({"keys": [OKP.jwk("okp-1")]})},
    {"name": "secret", "algorithms": ["HS256"], "hmac_secret_env": "SESSION_JWT_SECRET"},
]
KEYS = {"rsa": RSA, "ec": EC, "ec384": EC384, "okp": OKP}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared_gate(request, wasm_module, session_key, sink):
    config = {"auth": {"providers": PROVIDERS}}
    with serving(sink, session_key, config=config, concurrency=request.param) as gate:
        yield gate


@pytest.fixture
def gate(shared_gate, sink):
    sink.forget()
    yield shared_gate
    shared_gate.good_on_every_worker()


def good(name, **claims):
    return tokens.mint(KEYS[name], iss=issuer(name), **claims)


def bearer(token):
    return [("authorization", b"Bearer " + (token if isinstance(token, bytes) else token.encode())), *JSON]


def refuses(gate, names, made):
    """Every worker refuses each of the tokens, for one of the reasons called `names`."""
    before, count = gate.counters(), 0
    for token in made:
        for worker, connection in gate.workers().items():
            # Without a body, or Envoy would end the connection, and the next might lead elsewhere.
            connection.request("POST", PATH, headers=dict(bearer(token)))
            response = connection.getresponse()
            answer = response.read()
            assert (response.status, response.will_close) == (401, False), f"worker {worker}: {answer!r} for {token!r}"
            count += 1
    assert count
    outcome = gate.outcome(before)
    assert outcome.pop("requests") == count
    assert sum(outcome.values()) == count and outcome.keys() <= {f"rejected.{name}" for name in names}, outcome
    assert gate.backend.requests == []


def ask(gate, headers, http2):
    """The answer to a request with a body, sent by hand: clients' libraries don't send such headers."""
    pairs = [(name, value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    if http2:
        with Http2(gate.envoy.port()) as client:
            return client.request(pairs, [BODY])
    lines = [name.encode() + b": " + value for name, value in [*pairs, ("content-length", b"%d" % len(BODY))]]
    with Http1(gate.envoy.port()) as client:
        client.send(b"\r\n".join([b"POST %b HTTP/1.1" % PATH.encode(), b"host: app.example.com", *lines, b"", BODY]))
        return client.answer()


def refused_with_a_body(gate, headers, http2):
    """The same, as clients send it."""
    answer = ask(gate, headers, http2)
    assert (answer.status, answer.header("content-type")) == (401, "application/problem+json")
    assert json.loads(answer.body)["title"] == "A valid session token is required"
    assert gate.backend.requests == []


def forged(name, algorithm, signature=b""):
    """A token of the provider with whatever algorithm and signature."""
    claims = {"iss": issuer(name), "sub": "root", "exp": 4_000_000_000}
    signed = f"{tokens.part({'alg': algorithm, 'typ': 'JWT'})}.{tokens.part(claims)}"
    made = signature(signed.encode()) if callable(signature) else signature
    tokens.minted.append(f"{signed}.{tokens.base64url(made)}")
    return tokens.minted[-1]


class TestEveryKindOfKey:
    @pytest.mark.parametrize("name", KEYS)
    def test_a_good_token_is_taken(self, gate, sink, http2, name):
        answer = ask(gate, bearer(good(name, sub=f"user of {name}")), http2)
        assert (answer.status, answer.body) == (200, b'{"accepted":1,"rejected":0}')
        (record,) = sink.records
        assert record["attributes"]["enduser.id"] == f"user of {name}"

    def test_nobody_speaks_for_another(self, gate):
        """A good signature, but of another issuer's key."""
        made = [tokens.mint(KEYS[signer], iss=issuer(claimed)) for signer, claimed in itertools.permutations(KEYS, 2)]
        refuses(gate, {"token_algorithm"}, made)


class TestAlgorithm:
    NONE = ["".join(letters) for letters in itertools.product("nN", "oO", "nN", "eE")]

    @pytest.mark.parametrize("name", [*KEYS, "nobody"])
    def test_none_in_all_spellings(self, gate, name):
        made = [forged(name, none) for none in self.NONE]
        made += [forged(name, none) for none in ["none ", " none", "non\u0435", "none\0", "", None, ["none"]]]
        refuses(gate, {"token_algorithm", "token_malformed"}, made)

    @pytest.mark.parametrize("name", KEYS)
    def test_none_with_a_signature_that_holds(self, gate, name):
        """It is a good one but for what the header says."""
        key = KEYS[name]
        made = [forged(name, none, lambda data: tokens.signature(key, key.algorithm, data)) for none in self.NONE]
        refuses(gate, {"token_algorithm"}, made)

    def test_none_as_clients_send_it(self, gate, http2):
        refused_with_a_body(gate, bearer(forged("rsa", "none")), http2)

    # A public key is known to everybody. Were it ever taken for a secret, all could sign with it.

    @staticmethod
    def secrets(key):
        """The key, in each form in which somebody may have it at hand."""
        pem = key.public_pem.encode()
        der = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        jwk = {name: value for name, value in key.jwk().items() if name not in ("alg", "use")}
        forms = [pem, pem.strip(), pem.replace(b"\n", b""), pem.replace(b"\n", b"\r\n"), der, json.dumps(jwk).encode()]
        return forms + [jwk[part].encode() for part in ("n", "x") if part in jwk] + [b""]

    @pytest.mark.parametrize("name", KEYS)
    def test_a_public_key_is_no_secret(self, gate, name):
        made = [forged(name, f"HS{bits}", self.hmac(secret, bits))
                for secret in self.secrets(KEYS[name]) for bits in (256, 384, 512)]
        refuses(gate, {"token_algorithm"}, made)

    @pytest.mark.parametrize("name", KEYS)
    def test_nor_where_another_provider_has_a_secret(self, gate, name):
        """Who names no issuer is judged by the provider with the secret, which takes HS256."""
        made = [forged("nobody", "HS256", self.hmac(secret, 256)) for secret in self.secrets(KEYS[name])]
        refuses(gate, {"token_signature"}, made)

    def test_a_public_key_as_clients_send_it(self, gate, http2):
        refused_with_a_body(gate, bearer(forged("rsa", "HS256", self.hmac(RSA.public_pem.encode(), 256))), http2)

    @staticmethod
    def hmac(secret, bits):
        return lambda data: hmac.digest(secret, data, f"sha{bits}")


class TestSignature:
    @pytest.mark.parametrize("name", KEYS)
    def test_empty(self, gate, name):
        signed = good(name).rpartition(".")[0]
        refuses(gate, {"token_signature"}, [f"{signed}."])
        refuses(gate, {"token_malformed"}, [signed, f"{signed}..", f"{signed}.="])

    def test_empty_as_clients_send_it(self, gate, http2):
        refused_with_a_body(gate, bearer(good("ec").rpartition(".")[0] + "."), http2)

    @pytest.mark.parametrize("name", KEYS)
    def test_of_another_length(self, gate, name):
        signed, _, signature = good(name).rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        made = [b"", b"\0", raw[:-1], raw + b"\0", b"\0" + raw, raw + raw, b"\0" * len(raw), b"\xff" * len(raw)]
        refuses(gate, {"token_signature"}, [f"{signed}.{tokens.base64url(each)}" for each in made])

    # The signature that many verifiers of ECDSA have accepted for anything: 0 and 0.
    NUMBERS = [0, 1, ORDER, ORDER - 1, ORDER + 1, 2**256 - 1]

    def test_degenerate_numbers_for_es256(self, gate):
        made = [forged("ec", "ES256", r.to_bytes(32, "big") + s.to_bytes(32, "big"))
                for r, s in itertools.product(self.NUMBERS, repeat=2)]
        refuses(gate, {"token_signature"}, made)

    def test_zero_and_zero_as_clients_send_it(self, gate, http2):
        refused_with_a_body(gate, bearer(forged("ec", "ES256", b"\0" * 64)), http2)


class TestHeader:
    @pytest.mark.parametrize("which", ["good, good", "good, bad", "bad, good"])
    def test_two_of_them(self, gate, http2, which):
        """Which one to believe is not for the filter to say, even if it is the same."""
        values = {"good": b"Bearer " + good("ec").encode(), "bad": b"Bearer none"}
        headers = [("authorization", values[each]) for each in which.split(", ")]
        refused_with_a_body(gate, [*headers, *JSON], http2)

    def test_bearer_in_any_case(self, gate, sink):
        schemes = ["".join(letters) for letters in itertools.product(*zip("bearer", "BEARER"))]
        assert len(schemes) == 64
        for (scheme, spaces), connection in zip(itertools.product(schemes, (" ", "   ")),
                                                itertools.cycle(gate.workers().values())):
            token = good("okp", sub=f"{scheme}{spaces}")
            connection.request("POST", PATH, BODY, {"authorization": f"{scheme}{spaces}{token}", **dict(JSON)})
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b'{"accepted":1,"rejected":0}'), scheme
        assert len(sink.taken_records) == 128

    def test_bearer_in_any_case_over_http_2(self, gate):
        with Http2(gate.envoy.port()) as client:
            for scheme in ("bearer", "BEARER", "bEaReR"):
                assert client.request([("authorization", f"{scheme} {good('okp')}"), *JSON], [BODY]).status == 200

    def test_bytes_that_are_no_ascii(self, gate):
        """Each of them, in the middle and at the end; text or not."""
        token = good("okp").encode()
        odd = [bytes([byte]) for byte in range(0x80, 0x100)]
        refuses(gate, {"token_malformed"}, [token[:-20] + each + token[-19:] for each in odd])
        refuses(gate, {"token_malformed"}, [token + each for each in odd])

    @pytest.mark.parametrize("value", [b"Bearer \xff", b"\xffearer a.b.c", b"Bearer\xc2\xa0a.b.c",
                                       b"Bearer \xc3\xa4.b.c", b"\x80", b"Bearer a.b.c\xed\xa0\x80"])
    def test_bytes_that_are_no_ascii_as_clients_send_them(self, gate, http2, value):
        refused_with_a_body(gate, [("authorization", value), *JSON], http2)


class TestLength:
    """Envoy takes 60 KiB of headers. What is longer it refuses itself."""

    @pytest.mark.parametrize("size", [8_196, 30_000, 60_000])
    def test_too_long_for_the_filter(self, gate, http2, size):
        before = gate.counters()
        refused_with_a_body(gate, bearer(self.token(size)), http2)
        assert gate.outcome(before) == {"requests": 1, "rejected.token_too_long": 1}

    def test_long_and_good(self, gate, http2):
        token = self.token(8_192)
        answer = ask(gate, bearer(token), http2)
        assert answer.status == 200, len(token)

    @pytest.mark.parametrize("size", [61_440, 200_000])
    def test_too_long_for_envoy(self, gate, size):
        before = gate.counters()
        with Http1(gate.envoy.port()) as client:
            client.send(head({"authorization": f"Bearer {self.token(size)}", "content-length": "0"}))
            assert client.answer().status == 431
        assert gate.counted(before) == {}

    def test_too_long_for_envoy_over_http_2(self, gate):
        """Envoy resets the stream: no answer, after which a client keeps its batch."""
        before = gate.counters()
        with Http2(gate.envoy.port()) as client:
            with pytest.raises(ConnectionError, match="the stream was reset"):
                client.request(bearer(self.token(61_440)), [BODY])
            assert gate.counted(before) == {}
            assert client.request(bearer(good("ec")), [BODY]).status == 200

    @staticmethod
    def token(size):
        """A good one of at most so many bytes; base64 leaves some three of them out."""
        filler = "a" * (size * 3 // 4)
        while len(token := good("okp", filler=filler)) > size:
            filler = filler[:len(filler) - max(1, (len(token) - size) * 3 // 4)]
        return token
