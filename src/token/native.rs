//! A signature's arithmetic at native speed: what the host is asked, and what its answer counts for.
//!
//! Only RS* and ES* can be asked about. The host's yes holds; its no holds once it has said yes to the
//! same key, which shows that it was asked rightly. Whatever else it says, and wherever it is not
//! asked, jwt-simple judges. Everything but the arithmetic (header, claims, keys, `alg`) is judged in
//! one place for both.

use super::decoded;
use crate::config::{Algorithm, Key, der};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;

/// Somebody who can verify signatures faster than this code.
pub trait Signatures: fmt::Debug {
    /// Whether the signature holds; `None` where there is no plain answer.
    fn hold(&self, signed: &Signed<'_>) -> Option<bool>;
}

/// A text and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// `sha256`, `sha384` or `sha512`.
    pub hash: &'static str,
    /// The public key: a `SubjectPublicKeyInfo` in DER. RSA means PKCS #1 version 1.5.
    pub key: &'a [u8],
    /// For ECDSA in DER, not as a JWS has it.
    pub signature: &'a [u8],
    /// Header and payload of the JWS, as they are signed.
    pub text: &'a [u8],
}

/// A host that verifies signatures.
#[derive(Debug)]
pub(super) struct Host {
    signatures: Box<dyn Signatures>,
    judged: Cell<u64>,
}

/// Whether a header has nothing by which jwt-simple could refuse it before the signature: then, and
/// only then, the arithmetic is all that is left to judge.
pub(super) fn is_plain(header: &Map<String, Value>) -> bool {
    let typed = header.get("typ").is_none_or(|typ| typ.as_str().is_some_and(is_plain_type));
    typed && !header.contains_key("salt")
}

/// Whether jwt-simple takes it for a `typ`.
pub(super) fn is_plain_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("JWT") || typ == "at+jwt"
}

impl Host {
    pub fn new(signatures: Box<dyn Signatures>) -> Host {
        Host { signatures, judged: Cell::new(0) }
    }

    /// How many signatures it has judged since this was last asked.
    pub fn judged(&self) -> u64 {
        self.judged.take()
    }

    /// What it says of a compact JWS whose header is plain and names the key's algorithm; `None`:
    /// jwt-simple is to judge.
    pub fn judge(&self, token: &str, key: &Key) -> Option<bool> {
        let native = key.native()?;
        let (text, signature) = token.rsplit_once('.')?;
        let raw = decoded(signature).ok()?;
        let (hash, signature) = match key.algorithm() {
            Algorithm::Rs256 => ("sha256", raw),
            Algorithm::Rs384 => ("sha384", raw),
            Algorithm::Rs512 => ("sha512", raw),
            Algorithm::Es256 => ("sha256", der::signature::<32>(&raw)?),
            Algorithm::Es384 => ("sha384", der::signature::<48>(&raw)?),
            _ => return None,
        };
        let holds = self.signatures.hold(&Signed { hash, key: &native.spki, signature: &signature, text: text.as_bytes() })?;
        if holds {
            native.proven.set(true);
        }
        let counts = native.proven.get();
        self.judged.set(self.judged.get() + u64::from(counts));
        counts.then_some(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_plain_where_jwt_simple_takes_it_for_sure() {
        let plain = |header: &str| is_plain(&serde_json::from_str(header).unwrap());
        for header in [r#"{"alg":"RS256"}"#, r#"{"typ":"JWT"}"#, r#"{"typ":"jwt","kid":"1"}"#, r#"{"typ":"at+jwt"}"#] {
            assert!(plain(header), "{header}");
        }
        for header in [r#"{"typ":"JOSE"}"#, r#"{"typ":null}"#, r#"{"typ":1}"#, r#"{"salt":"AA"}"#, r#"{"typ":""}"#] {
            assert!(!plain(header), "{header}");
        }
    }
}
