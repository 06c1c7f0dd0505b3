//! Keys of what they are made of: a secret, numbers, points, a PEM.
//!
//! Whether that is a good key is jwt-simple's judgement, but for secrets that are too short, and RSA
//! keys that can be factored.

use super::keys::{Algorithm, Family, Key};
use super::pem::{self, PublicKey};
use super::{Secret, rsa};
use jwt_simple::prelude::{
    ES256PublicKey, ES384PublicKey, Ed25519PublicKey, HS256Key, HS384Key, HS512Key, PS256PublicKey, PS384PublicKey, PS512PublicKey,
    RS256PublicKey, RS384PublicKey, RS512PublicKey,
};

/// A key for HMAC of a secret that was configured, or what is wrong with it.
pub(super) fn from_secret(algorithm: Algorithm, secret: &Secret) -> Result<Key, String> {
    if algorithm.family() != Family::Hmac {
        return Err(format!("a secret can't verify {}: use public_key_pem or local_jwks", algorithm.name()));
    }
    let short = || format!("the secret is too short for {}: at least {} bytes", algorithm.name(), algorithm.shortest_secret());
    hmac(algorithm, secret.reveal().as_bytes()).ok_or_else(short)
}

/// A key for HMAC; `None` if the secret is too short, or the algorithm another.
pub(super) fn hmac(algorithm: Algorithm, secret: &[u8]) -> Option<Key> {
    if secret.len() < algorithm.shortest_secret() {
        return None;
    }
    match algorithm {
        Algorithm::Hs256 => Some(HS256Key::from_bytes(secret).into()),
        Algorithm::Hs384 => Some(HS384Key::from_bytes(secret).into()),
        Algorithm::Hs512 => Some(HS512Key::from_bytes(secret).into()),
        _ => None,
    }
}

/// An RSA key of its modulus and exponent, big-endian; `None` if it can't be used, or the algorithm is another.
pub(super) fn rsa_key(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Option<Key> {
    match algorithm {
        Algorithm::Rs256 => RS256PublicKey::from_components(n, e).ok().map(Key::from),
        Algorithm::Rs384 => RS384PublicKey::from_components(n, e).ok().map(Key::from),
        Algorithm::Rs512 => RS512PublicKey::from_components(n, e).ok().map(Key::from),
        Algorithm::Ps256 => PS256PublicKey::from_components(n, e).ok().map(Key::from),
        Algorithm::Ps384 => PS384PublicKey::from_components(n, e).ok().map(Key::from),
        Algorithm::Ps512 => PS512PublicKey::from_components(n, e).ok().map(Key::from),
        _ => None,
    }
}

/// A key of its point (SEC 1, 2.3.3); `None` if that isn't on P-256.
pub(super) fn p256_key(point: &[u8]) -> Option<Key> {
    ES256PublicKey::from_bytes(point).ok().map(Key::from)
}

/// The same on P-384.
pub(super) fn p384_key(point: &[u8]) -> Option<Key> {
    ES384PublicKey::from_bytes(point).ok().map(Key::from)
}

/// A key of its 32 bytes (RFC 8032, 5.1.5); `None` if they are no good key.
pub(super) fn ed25519_key(bytes: &[u8]) -> Option<Key> {
    Ed25519PublicKey::from_bytes(bytes).ok().map(Key::from)
}

/// A key of a text in PEM, or what is wrong with it.
pub(super) fn from_pem(algorithm: Algorithm, pem: &str) -> Result<Key, String> {
    if pem.contains("PRIVATE KEY") {
        return Err("holds a private key: the gateway needs the public one alone".to_owned());
    }
    if algorithm.family() == Family::Hmac {
        return Err(format!("a public key can't verify {}: use hmac_secret_env", algorithm.name()));
    }
    let found = pem::public_key(pem);
    let key = match (algorithm.family(), &found) {
        (Family::Rsa, Some(PublicKey::Rsa { n, e })) => {
            let key = rsa_key(algorithm, n, e);
            if let Some(fault) = key.as_ref().and_then(|_| rsa::fault(n)) {
                return Err(fault.to_owned());
            }
            key
        }
        (Family::P256, Some(PublicKey::P256(point))) => p256_key(point),
        (Family::P384, Some(PublicKey::P384(point))) => p384_key(point),
        (Family::Ed25519, Some(PublicKey::Ed25519(point))) => ed25519_key(point),
        _ => None,
    };
    // jwt-simple refuses RSA keys under 2048 bits too, and doesn't say which it was.
    key.ok_or_else(|| format!("is no public key for {} in PEM (SPKI, \"BEGIN PUBLIC KEY\"; RSA: at least 2048 bits)", algorithm.name()))
}
