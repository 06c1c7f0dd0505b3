//! A provider's keys: one for each algorithm that it accepts.
//!
//! The key carries its algorithm, so what a token claims can select nothing: a public RSA key is
//! never a secret for HMAC, because no such [`Key`] can be made.

use super::fields::{Faults, Object};
use super::jwks::{self, Set};
use super::make::{from_pem, from_secret};
use super::{Environment, der, verify};
use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike, ECDSAP384PublicKeyLike, ES256PublicKey, ES384PublicKey, Ed25519PublicKey, HS256Key, HS384Key, HS512Key,
    PS256PublicKey, PS384PublicKey, PS512PublicKey, RS256PublicKey, RS384PublicKey, RS512PublicKey, RSAPublicKey, RSAPublicKeyComponents,
    RSAPublicKeyLike,
};
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

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

            pub(super) fn family(self) -> Family {
                match self { $(Algorithm::$variant => Family::$family,)+ }
            }
        }

        /// A key of jwt-simple's for each algorithm.
        #[derive(Clone)]
        pub(super) enum Material {
            $($variant($key),)+
        }

        impl Key {
            /// The one algorithm that this key verifies.
            pub fn algorithm(&self) -> Algorithm {
                match &self.material { $(Material::$variant(_) => Algorithm::$variant,)+ }
            }
        }

        $(impl From<$key> for Key {
            fn from(key: $key) -> Key {
                let material = Material::$variant(key);
                let native = material.spki().map(|spki| Native { spki, proven: Cell::new(false) });
                Key { kid: None, id: 0, material, native }
            }
        })+
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
pub(super) enum Family {
    Hmac,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Key material bound to one algorithm. Its `Debug` shows the algorithm alone.
#[derive(Clone)]
pub struct Key {
    kid: Option<String>,
    id: u64,
    material: Material,
    native: Option<Native>,
}

/// A key as a host takes it that verifies signatures natively.
#[derive(Clone)]
pub struct Native {
    /// `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7) in DER.
    pub spki: Vec<u8>,
    /// The host has said yes to a signature of this key.
    pub proven: Cell<bool>,
}

impl Key {
    /// The id under which the key's set knows it, if it does.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Tells keys of a provider apart, so that what a key vouched for can be dropped with it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The key as the host takes it; `None` where jwt-simple alone can judge.
    pub fn native(&self) -> Option<&Native> {
        self.native.as_ref()
    }

    /// Whether header, algorithm and signature of a compact JWS hold, by jwt-simple. Its header
    /// must have been read by jwt-simple before; what the claims say is not judged.
    pub fn verifies(&self, token: &str) -> bool {
        verify::holds(self.algorithm(), &self.material, token)
    }

    pub(super) fn with_kid(self, kid: Option<String>, id: u64) -> Key {
        Key { kid, id, ..self }
    }
}

impl Material {
    /// For the algorithms that hosts can be asked about: PSS and EdDSA they answer with no, whatever the
    /// signature is worth.
    fn spki(&self) -> Option<Vec<u8>> {
        let rsa = |key: &RSAPublicKey| {
            let RSAPublicKeyComponents { n, e } = key.to_components();
            Some(der::rsa_key(&n, &e))
        };
        match self {
            Material::Rs256(key) => rsa(key.public_key()),
            Material::Rs384(key) => rsa(key.public_key()),
            Material::Rs512(key) => rsa(key.public_key()),
            Material::Es256(key) => Some(der::p256_key(&key.public_key().to_bytes_uncompressed())),
            Material::Es384(key) => Some(der::p384_key(&key.public_key().to_bytes_uncompressed())),
            _ => None,
        }
    }
}

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
    pub(super) fn shortest_secret(self) -> usize {
        match self {
            Algorithm::Hs384 => 48,
            Algorithm::Hs512 => 64,
            _ => 32,
        }
    }
}

/// The fields that can hold a provider's keys; exactly one is given.
const SOURCES: [&str; 4] = ["local_jwks", "public_key_pem", "hmac_secret_env", "remote_jwks"];

/// Where a provider's keys come from.
#[derive(Debug)]
pub enum Source {
    /// They are known.
    Fixed(Vec<Key>),
    /// They are fetched.
    Remote(RemoteJwks),
}

/// A key set that is fetched from the identity host.
#[derive(Debug)]
pub struct RemoteJwks {
    /// The Envoy cluster of the host.
    pub cluster: String,
    /// `:authority` of the request.
    pub authority: String,
    /// `:path` of the request.
    pub path: String,
    /// How long a set is used before the next is fetched.
    pub cache: Duration,
    /// How long a set stays in force while no next one can be had.
    pub max_stale: Duration,
    /// How long the host may take.
    pub timeout: Duration,
    /// What the provider accepts.
    pub algorithms: Vec<Algorithm>,
}

pub(super) fn read(node: &mut Object<'_>, algorithms: &[Algorithm], environment: Environment<'_>, faults: &mut Faults) -> Option<Source> {
    let given: Vec<&'static str> = SOURCES.into_iter().filter(|source| node.has(source)).collect();
    if given.as_slice() == ["remote_jwks"] {
        let remote = node.object("remote_jwks", faults)?;
        return RemoteJwks::read(remote, algorithms, faults).map(Source::Remote);
    }
    Some(Source::Fixed(fixed(node, &given, algorithms, environment, faults)))
}

impl RemoteJwks {
    fn read(mut node: Object<'_>, algorithms: &[Algorithm], faults: &mut Faults) -> Option<RemoteJwks> {
        let cluster = node.required_text("cluster", faults);
        let uri = node.required_text("uri", faults);
        let cache = node.whole("cache_seconds", 10..=604_800, faults).unwrap_or(600);
        let max_stale = node.whole("max_stale_seconds", 10..=31_536_000, faults).unwrap_or(86_400);
        let timeout = node.whole("timeout_ms", 1..=9_000, faults).unwrap_or(2_000);
        if max_stale < cache {
            faults.add(&node.at("max_stale_seconds"), "must be at least cache_seconds");
        }
        if algorithms.iter().any(|algorithm| algorithm.family() == Family::Hmac) {
            faults.add(&node.at("uri"), "a secret is never fetched: algorithms must not name HS256, HS384 or HS512");
        }
        let target = uri.as_deref().and_then(target);
        if uri.is_some() && target.is_none() {
            faults.add(&node.at("uri"), "must be an http or https URI with a host, without user, fragment or spaces");
        }
        node.finish(faults);
        let (authority, path) = target?;
        Some(RemoteJwks {
            cluster: cluster?,
            authority,
            path,
            cache: Duration::from_secs(cache),
            max_stale: Duration::from_secs(max_stale),
            timeout: Duration::from_millis(timeout),
            algorithms: algorithms.to_vec(),
        })
    }
}

/// `:authority` and `:path` of an absolute URI.
fn target(uri: &str) -> Option<(String, String)> {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let good = !authority.is_empty() && uri.bytes().all(|b| b.is_ascii_graphic()) && !uri.contains(['#', '@', '"', '<', '>']);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    good.then(|| (authority.to_owned(), path))
}

fn fixed(
    node: &mut Object<'_>,
    given: &[&'static str],
    algorithms: &[Algorithm],
    environment: Environment<'_>,
    faults: &mut Faults,
) -> Vec<Key> {
    let sources = SOURCES.join(", ");
    match given {
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
        ["local_jwks"] => local(node, algorithms, faults),
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

/// The keys of a set that stands in the configuration: there, every fault of it counts.
fn local(node: &mut Object<'_>, algorithms: &[Algorithm], faults: &mut Faults) -> Vec<Key> {
    let path = node.at("local_jwks");
    let Some(set) = node.json("local_jwks", faults) else { return Vec::new() };
    let Set { keys, faults: found } = jwks::parse(&set, algorithms);
    for (at, what) in &found {
        faults.add(&format!("{path}.{at}"), what);
    }
    if keys.is_empty() && found.is_empty() && !algorithms.is_empty() {
        faults.add(&path, "has no key for any of the algorithms");
    }
    keys
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
