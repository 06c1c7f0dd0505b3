"""Session tokens, good and bad.

    key = hmac_key()
    mint(key)                                    # good for five minutes
    mint(key, sub="u-7", sid=None, lifetime=-120)  # no sid, expired two minutes ago
    mint(rsa_key(), algorithm="RS512", aud="field-app", header={"kid": "k1"})

Signing is done here, not by a JWT library: those refuse to make what an attacker
would send.
"""

import base64
import functools
import hashlib
import hmac
import json
import secrets
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

# Every token made by this process: tests look for them in logs, where none may be.
minted = []


class Key:
    """A key to sign with. `algorithm` is the one it uses unless told otherwise;
    `secret` (HMAC) or `public_pem` and `jwk()` are what the filter is given."""

    def __init__(self, algorithm, private):
        self.algorithm = algorithm
        self.private = private

    @property
    def secret(self) -> str:
        return self.private.decode()

    @property
    def public_pem(self) -> str:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    @property
    def private_pem(self) -> str:
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def jwk(self, kid=None, **more) -> dict:
        """The public key as a JWK (for HMAC: the secret)."""
        fields = {"alg": self.algorithm, "use": "sig", **({"kid": kid} if kid else {}), **more}
        if isinstance(self.private, bytes):
            return {"kty": "oct", "k": base64url(self.private), **fields}
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return {"kty": "RSA", "n": unsigned(numbers.n), "e": unsigned(numbers.e), **fields}
        if isinstance(public, ec.EllipticCurvePublicKey):
            numbers, size = public.public_numbers(), (public.curve.key_size + 7) // 8
            curve = {256: "P-256", 384: "P-384", 521: "P-521"}[public.curve.key_size]
            return {"kty": "EC", "crv": curve, "x": unsigned(numbers.x, size), "y": unsigned(numbers.y, size), **fields}
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw), **fields}


def hmac_key(secret=None, algorithm="HS256") -> Key:
    """A random secret of 256 bits, in hex so that it fits in an environment variable."""
    return Key(algorithm, (secret or secrets.token_hex(32)).encode())


@functools.cache
def rsa_key(name="", bits=2048, algorithm="RS256") -> Key:
    """The same key for the same arguments; RSA keys are slow to make."""
    return Key(algorithm, rsa.generate_private_key(65537, bits))


@functools.cache
def ec_key(name="", algorithm="ES256") -> Key:
    return Key(algorithm, ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm]))


@functools.cache
def ed25519_key(name="") -> Key:
    return Key("EdDSA", ed25519.Ed25519PrivateKey.generate())


def mint(key, *, algorithm=None, lifetime=300, header=None, **claims) -> str:
    """A signed token. `claims` are set beside sub, sid, iat and exp, or in their
    stead; a claim or header field given as None is left out."""
    now = int(time.time())
    fields = {"sub": "user-1", "sid": "login-1", "iat": now, "exp": now + lifetime, **claims}
    algorithm = algorithm or key.algorithm
    head = {"alg": algorithm, "typ": "JWT", **(header or {})}
    return assemble(key, without_none(head), without_none(fields), algorithm)


def assemble(key, head, claims, algorithm) -> str:
    """Header and claims, each a dict or raw bytes, signed as they are."""
    signed = f"{part(head)}.{part(claims)}"
    token = f"{signed}.{base64url(signature(key, algorithm, signed.encode()))}"
    minted.append(token)
    return token


def signature(key, algorithm, data) -> bytes:
    if algorithm == "none":
        return b""
    if algorithm == "EdDSA":
        return key.private.sign(data)
    digest = algorithm[2:]
    if algorithm.startswith("HS"):
        secret = key.private if isinstance(key.private, bytes) else key.public_pem.encode()
        return hmac.new(secret, data, getattr(hashlib, f"sha{digest}")).digest()
    chosen = getattr(hashes, f"SHA{digest}")()
    if algorithm.startswith("RS"):
        return key.private.sign(data, padding.PKCS1v15(), chosen)
    if algorithm.startswith("PS"):
        return key.private.sign(data, padding.PSS(padding.MGF1(chosen), chosen.digest_size), chosen)
    size = (key.private.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.private.sign(data, ec.ECDSA(chosen)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def bad_tokens(key) -> dict:
    """Tokens that must all be refused where `key` is the right one, by the reason.
    Values are bytes: some are no text."""
    good = mint(key)
    head, claims, mac = good.split(".")
    other = Key(key.algorithm, hmac_key().private) if isinstance(key.private, bytes) else rsa_key("another")
    now = int(time.time())
    flipped = mac[:-6] + ("A" if mac[-6] != "A" else "B") + mac[-5:]
    tokens = {
        "empty": "",
        "no dots": "token",
        "two parts": f"{head}.{claims}",
        "four parts": f"{good}.{mac}",
        "five parts, as an encrypted token has": f"{good}.{mac}.{mac}",
        "empty parts": "..",
        "no signature": f"{head}.{claims}.",
        "signature changed": f"{head}.{claims}.{flipped}",
        "signature cut": good[:-8],
        "padded base64": f"{head}.{claims}.{mac}==",
        "not base64": f"{head}.{claims}.%%%%",
        "space inside": f"{head}. {claims}.{mac}",
        "claims of another token": f"{head}.{part({'sub': 'root', 'exp': now + 300})}.{mac}",
        "wrong key": mint(other),
        "alg none": mint(key, algorithm="none"),
        "alg None": assemble(key, {"alg": "None"}, {"sub": "u", "exp": now + 300}, "none"),
        "alg none, signed": assemble(key, {"alg": "none"}, {"sub": "u", "exp": now + 300}, key.algorithm),
        "alg missing": mint(key, header={"alg": None}),
        "alg unknown": mint(key, header={"alg": "XX256"}),
        "alg is a number": mint(key, header={"alg": 256}),
        "critical header": mint(key, header={"crit": ["b64"], "b64": False}),
        "header is no JSON": assemble(key, b"{", {"sub": "u", "exp": now + 300}, key.algorithm),
        "header is a list": assemble(key, [], {"sub": "u", "exp": now + 300}, key.algorithm),
        "claims are no JSON": assemble(key, {"alg": key.algorithm}, b"sub", key.algorithm),
        "claims are a list": assemble(key, {"alg": key.algorithm}, [], key.algorithm),
        "claims are deep": assemble(key, {"alg": key.algorithm}, b"[" * 5000, key.algorithm),
        "expired": mint(key, lifetime=-120),
        "no exp": mint(key, exp=None),
        "exp is text": mint(key, exp="tomorrow"),
        "exp is negative": mint(key, exp=-1),
        "not yet valid": mint(key, nbf=now + 600),
        "long": "a" * 20_000,
    }
    if isinstance(key.private, bytes):
        tokens["another HMAC"] = mint(key, algorithm="HS512" if key.algorithm != "HS512" else "HS256")
    else:
        tokens["public key as HMAC secret"] = mint(key, algorithm="HS256")
    as_bytes = {name: token.encode() for name, token in tokens.items()}
    as_bytes["a byte that is no UTF-8"] = good.encode() + b"\xff"
    as_bytes["two tokens"] = f"{good}, Bearer {good}".encode()
    return as_bytes


def part(value) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64url(raw)


def base64url(raw) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(number, size=None) -> str:
    return base64url(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def without_none(fields) -> dict:
    return {name: value for name, value in fields.items() if value is not None}
