"""Envoy's `verify_signature` and jwt-simple judge the same signatures in the same way.

jwt-simple has the last word about a key's signatures until Envoy has said yes to one of them, and
always about a token with a header such as `typ: test+jwt`; the counter `signatures_by_host` tells
who it was. So each vector is sent to both.
"""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from harness import tokens
from harness.gateways import serving

BATCH = {"logs": [{"message": "one"}]}
KEYS = {
    "RS256": tokens.rsa_key("native"),
    "RS384": tokens.rsa_key("native", 3072, "RS384"),
    "RS512": tokens.rsa_key("native", 4096, "RS512"),
    "ES256": tokens.ec_key("native"),
    "ES384": tokens.ec_key("native", "ES384"),
}
# The orders of the groups of P-256 and P-384.
ORDERS = {
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ES384": int("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
                 "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16),
}
HASHES = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384()}


@pytest.fixture(params=KEYS)
def algorithm(request):
    return request.param


@pytest.fixture
def gate(wasm_module, session_key, sink, algorithm):
    """A worker that remembers no tokens."""
    provider = {"name": "p", "algorithms": [algorithm], "public_key_pem": KEYS[algorithm].public_pem}
    config = {"auth": {"providers": [provider], "cache_entries": 0}}
    with serving(sink, session_key, config=config) as gate:
        yield gate


def judged(gate, vectors):
    """{name: status and reason}, and how many of them Envoy judged."""
    before, verdicts = gate.counters(), {}
    for name, token in vectors.items():
        earlier = gate.counters()
        status = gate.send(BATCH, headers={"authorization": f"Bearer {token}"}).status_code
        reasons = [counter for counter in gate.counted(earlier) if counter.startswith("rejected.")]
        verdicts[name] = (status, *reasons)
    return verdicts, gate.counted(before).get("signatures_by_host", 0)


def signed(header, payload, signature):
    tokens.minted.append(f"{header}.{payload}.{tokens.base64url(signature)}")
    return tokens.minted[-1]


def halves(raw):
    return int.from_bytes(raw[:len(raw) // 2], "big"), int.from_bytes(raw[len(raw) // 2:], "big")


def joined(r, s, size):
    return r.to_bytes(size // 2, "big") + s.to_bytes(size // 2, "big")


def made(algorithm, typ):
    """Good signatures and bad ones, under a header of that type."""
    key = KEYS[algorithm]
    header = tokens.part({"alg": algorithm, "typ": typ})
    payload = tokens.part({"sub": "user-1", "exp": 4_000_000_000})
    raw = tokens.signature(key, algorithm, f"{header}.{payload}".encode())
    good, bad = {"good": raw}, {}
    for i in (0, 1, len(raw) // 2 - 1, len(raw) // 2, len(raw) - 1):
        bad[f"byte {i} changed"] = raw[:i] + bytes([raw[i] ^ 0x10]) + raw[i + 1:]
    bad["of another text"] = tokens.signature(key, algorithm, b"text")
    bad["zeros"], bad["ones"] = bytes(len(raw)), b"\xff" * len(raw)
    if algorithm in ORDERS:
        order, size = ORDERS[algorithm], len(raw)
        r, s = halves(raw)
        # As good as the other: ECDSA is malleable, and RFC 7518 allows both.
        good["the other s"] = joined(r, order - s, size)
        good |= of_each_shape(key, algorithm, f"{header}.{payload}".encode())
        bad |= {"r is 0": joined(0, s, size), "s is 0": joined(r, 0, size), "both are 1": joined(1, 1, size)}
        bad |= {"r is the order": joined(order, s, size), "s is the order": joined(r, order, size)}
        bad["halves exchanged"] = joined(s, r, size)
        bad["of another key"] = tokens.signature(tokens.ec_key("else", algorithm), algorithm, b"text")
    else:
        bits = KEYS[algorithm].private.key_size
        other = tokens.rsa_key("else", bits)
        bad["of another key"] = tokens.signature(other, algorithm, f"{header}.{payload}".encode())
        bad["of another hash"] = tokens.signature(
            key, "RS512" if algorithm != "RS512" else "RS256", f"{header}.{payload}".encode())
        bad["PSS"] = tokens.signature(key, "PS" + algorithm[2:], f"{header}.{payload}".encode())
        modulus = key.private.public_key().public_numbers().n
        above = int.from_bytes(raw, "big") + modulus
        if above.bit_length() <= bits:
            bad["not below the modulus"] = above.to_bytes(bits // 8, "big")
    return tuple({name: signed(header, payload, raw) for name, raw in vectors.items()} for vectors in (good, bad))


def of_each_shape(key, algorithm, text):
    """Signatures with r and s of which DER takes one byte more, as many, and fewer."""
    found, wanted = {}, {("more", "more"), ("more", "same"), ("same", "more"), ("same", "same"), "fewer"}
    while wanted - found.keys():
        raw = tokens.signature(key, algorithm, text)
        r, s = halves(raw)
        bits = len(raw) * 4
        shape = tuple("more" if number.bit_length() == bits else "same" for number in (r, s))
        found.setdefault(shape, raw)
        if min(r, s).bit_length() <= bits - 9:
            found.setdefault("fewer", raw)
    return {f"of shape {shape}": raw for shape, raw in found.items()}


def test_both_give_the_same_verdict(gate, algorithm):
    refused, accepted = (401, "rejected.token_signature"), (200,)
    good, bad = made(algorithm, "JWT")
    good_for_jwt_simple, bad_for_jwt_simple = made(algorithm, "test+jwt")

    by_jwt_simple, count = judged(gate, good_for_jwt_simple)
    assert count == 0 and set(by_jwt_simple.values()) == {accepted}, by_jwt_simple
    # Envoy's no is not taken before its first yes.
    by_jwt_simple, count = judged(gate, bad)
    assert count == 0 and set(by_jwt_simple.values()) == {refused}, by_jwt_simple

    by_envoy, count = judged(gate, good)
    assert count == len(good) and set(by_envoy.values()) == {accepted}, by_envoy
    by_envoy, count = judged(gate, bad)
    assert count == len(bad) and by_envoy == by_jwt_simple

    by_jwt_simple, count = judged(gate, good_for_jwt_simple | bad_for_jwt_simple)
    assert count == 0
    assert {name for name, verdict in by_jwt_simple.items() if verdict == accepted} == good_for_jwt_simple.keys()


def test_what_envoy_gets_wrong_is_left_to_jwt_simple(wasm_module, session_key, sink):
    """It has no PSS and no Ed25519, and would say no to a good signature."""
    keys = {"PS256": tokens.rsa_key("native"), "EdDSA": tokens.ed25519_key("native"), "HS256": session_key}
    source = {name: {"public_key_pem": key.public_pem} for name, key in keys.items() if name != "HS256"}
    source["HS256"] = {"hmac_secret_env": "SESSION_JWT_SECRET"}
    providers = [{"name": name, "issuer": f"https://{name}", "algorithms": [name], **source[name]} for name in keys]
    with serving(sink, session_key, config={"auth": {"providers": providers, "cache_entries": 0}}) as gate:
        vectors = {name: tokens.mint(key, algorithm=name, iss=f"https://{name}") for name, key in keys.items()}
        assert judged(gate, vectors) == (dict.fromkeys(vectors, (200,)), 0)


@pytest.mark.parametrize("algorithm", ORDERS)
def test_der_is_no_jws_signature(gate, algorithm):
    """The form in which Envoy takes it is not the one in which a client may send it."""
    good, _ = made(algorithm, "JWT")
    assert judged(gate, {"good": good["good"]}) == ({"good": (200,)}, 1)
    header, payload, _ = good["good"].split(".")
    der = KEYS[algorithm].private.sign(f"{header}.{payload}".encode(), ec.ECDSA(HASHES[algorithm]))
    assert decode_dss_signature(der)
    assert judged(gate, {"der": signed(header, payload, der)}) == ({"der": (401, "rejected.token_signature")}, 0)
