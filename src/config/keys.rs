//! A provider's keys: one for each algorithm that it accepts.
//!
//! The key carries its algorithm, so what a token claims can select nothing: a public RSA key is
//! never a secret for HMAC, because no such [`Key`] can be made.

use super::fields::{Faults, Object};
use super::{Environment, Secret};
use jwt_simple::prelude::*;
use serde::de::DeserializeOwned;
use std::fmt;

macro_rules! algorithms {
    ($($variant:ident $name:literal $family:ident $key:ty,)+) => {
        /// A JWS algorithm (RFC 7518, RFC 8037).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Algorithm {
            $(#[doc = $name] $variant,)+
        }

        impl Algorithm {
            /// All that can be configured.
            pub const ALL: &'static [Algorithm] = &[$(Algorithm::$variant,)+];

            /// As in `alg`.
            pub fn name(self) -> &'static str {
                match self { $(Algorithm::$variant => $name,)+ }
            }

            fn family(self) -> Family {
                match self { $(Algorithm::$variant => Family::$family,)+ }
            }
        }

        #[derive(Clone)]
        enum Material {
            $($variant($key),)+
        }

        impl Key {
            /// The one algorithm that this key verifies.
            pub fn algorithm(&self) -> Algorithm {
                match &self.0 { $(Material::$variant(_) => Algorithm::$variant,)+ }
            }

            /// Verifies header, algorithm and signature of a compact JWS, and reads its claims,
            /// with jwt-simple. What is checked of the claims is up to `options`.
            ///
            /// # Errors
            /// Any; which one is for nobody but a debugger.
            pub fn verify<C: DeserializeOwned>(&self, token: &str, options: VerificationOptions) -> Result<JWTClaims<C>, jwt_simple::Error> {
                match &self.0 { $(Material::$variant(key) => key.verify_token(token, Some(options)),)+ }
            }
        }
    };
}

algorithms! {
    Hs256 "HS256" Hmac HS256Key,
    Hs384 "HS384" Hmac HS384Key,
    Hs512 "HS512" Hmac HS512Key,
    Rs256 "RS256" Rsa RS256PublicKey,
    Rs384 "RS384" Rsa RS384PublicKey,
    Rs512 "RS512" Rsa RS512PublicKey,
    Ps256 "PS256" Rsa PS256PublicKey,
    Ps384 "PS384" Rsa PS384PublicKey,
    Ps512 "PS512" Rsa PS512PublicKey,
    Es256 "ES256" P256 ES256PublicKey,
    Es384 "ES384" P384 ES384PublicKey,
    EdDsa "EdDSA" Ed25519 Ed25519PublicKey,
}

/// What kind of key an algorithm needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Hmac,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Key material bound to one algorithm. Its `Debug` shows the algorithm alone.
#[derive(Clone)]
pub struct Key(Material);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.algorithm().name())
    }
}

impl Algorithm {
    /// The algorithm of that name, to the letter.
    pub fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// RFC 7518, 3.2: an HMAC key must be at least as long as the hash.
    fn shortest_secret(self) -> usize {
        match self {
            Algorithm::Hs384 => 48,
            Algorithm::Hs512 => 64,
            _ => 32,
        }
    }
}

/// The fields that can hold a provider's keys; exactly one is given.
const SOURCES: [&str; 4] = ["local_jwks", "public_key_pem", "hmac_secret_env", "remote_jwks"];

pub(super) fn read(node: &mut Object<'_>, algorithms: &[Algorithm], environment: Environment<'_>, faults: &mut Faults) -> Vec<Key> {
    let given: Vec<&'static str> = SOURCES.into_iter().filter(|source| node.has(source)).collect();
    let sources = SOURCES.join(", ");
    match given.as_slice() {
        ["public_key_pem"] => {
            let pem = node.text("public_key_pem", faults);
            let path = node.at("public_key_pem");
            pem.map(|pem| each(algorithms, &path, faults, |algorithm| from_pem(algorithm, &pem))).unwrap_or_default()
        }
        ["hmac_secret_env"] => {
            let secret = node.variable("hmac_secret_env", environment, faults);
            let path = node.at("hmac_secret_env");
            secret.map(|secret| each(algorithms, &path, faults, |algorithm| from_secret(algorithm, &secret))).unwrap_or_default()
        }
        [source] => {
            faults.add(&node.at(source), "is not available in this version; use public_key_pem or hmac_secret_env");
            Vec::new()
        }
        [] => {
            faults.add(&node.at("public_key_pem"), &format!("no source of keys: give one of {sources}"));
            Vec::new()
        }
        several => {
            faults.add(
                &node.at(several.last().copied().unwrap_or_default()),
                &format!("a provider has one source of keys: give only one of {sources}"),
            );
            Vec::new()
        }
    }
}

/// One key for each algorithm; what can't be had is a fault at `path`.
fn each(algorithms: &[Algorithm], path: &str, faults: &mut Faults, key: impl Fn(Algorithm) -> Result<Key, String>) -> Vec<Key> {
    let mut keys = Vec::new();
    for &algorithm in algorithms {
        match key(algorithm) {
            Ok(key) => keys.push(key),
            Err(what) => faults.add(path, &what),
        }
    }
    keys
}

fn from_secret(algorithm: Algorithm, secret: &Secret) -> Result<Key, String> {
    let bytes = secret.reveal().as_bytes();
    let shortest = algorithm.shortest_secret();
    let material = match algorithm {
        _ if algorithm.family() != Family::Hmac => {
            return Err(format!("a secret can't verify {}: use public_key_pem", algorithm.name()));
        }
        _ if bytes.len() < shortest => {
            return Err(format!("the secret is too short for {}: at least {shortest} bytes", algorithm.name()));
        }
        Algorithm::Hs384 => Material::Hs384(HS384Key::from_bytes(bytes)),
        Algorithm::Hs512 => Material::Hs512(HS512Key::from_bytes(bytes)),
        _ => Material::Hs256(HS256Key::from_bytes(bytes)),
    };
    Ok(Key(material))
}

fn from_pem(algorithm: Algorithm, pem: &str) -> Result<Key, String> {
    let unreadable = |_| format!("is no public key for {} in PEM (SPKI, \"BEGIN PUBLIC KEY\")", algorithm.name());
    if pem.contains("PRIVATE KEY") {
        return Err("holds a private key: the gateway needs the public one alone".to_owned());
    }
    if algorithm.family() == Family::Rsa {
        let rsa = RSAPublicKey::from_pem(pem).map_err(unreadable)?;
        if bits(&rsa.to_components().n) < 2048 {
            return Err("an RSA key must have at least 2048 bits".to_owned());
        }
    }
    let material = match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            return Err(format!("a public key can't verify {}: use hmac_secret_env", algorithm.name()));
        }
        Algorithm::Rs256 => Material::Rs256(RS256PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::Rs384 => Material::Rs384(RS384PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::Rs512 => Material::Rs512(RS512PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::Ps256 => Material::Ps256(PS256PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::Ps384 => Material::Ps384(PS384PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::Ps512 => Material::Ps512(PS512PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::Es256 => Material::Es256(ES256PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::Es384 => Material::Es384(ES384PublicKey::from_pem(pem).map_err(unreadable)?),
        Algorithm::EdDsa => Material::EdDsa(Ed25519PublicKey::from_pem(pem).map_err(unreadable)?),
    };
    Ok(Key(material))
}

/// The length of a big-endian number in bits.
fn bits(number: &[u8]) -> usize {
    let significant: &[u8] = number.iter().position(|&b| b != 0).and_then(|zeros| number.get(zeros..)).unwrap_or(&[]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}
