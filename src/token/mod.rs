//! A token and `now` → [`Claims`], or why not.
//!
//! Cheap checks come first: length, shape, issuer, algorithm. The key, not the token, chooses the
//! algorithm; claims are judged only after the signature. Nothing here logs a token.

mod cache;
mod claims;
mod keyring;
mod native;
mod record;

use crate::config::{Auth, Key, Provider, Source};
use crate::rejection::Rejection;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
pub use claims::{Claims, sender};
use jwt_simple::token::Token;
pub use keyring::{Asked, KeyAnswer, Keyring};
use native::Host;
pub use native::{Signatures, Signed};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::rc::Rc;
use std::time::Duration;

/// Longer tokens are refused before anything is decoded: a session token has 1 to 2 KB.
pub const LONGEST: usize = 8 * 1024;

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Verified(Rc<Claims>),
    /// It was good before, and still is.
    Remembered(Rc<Claims>),
    /// It isn't.
    Refused(Rejection),
    /// It names a key that has not been fetched yet, if there is one: of these providers, by index.
    KeyUnknown(Vec<usize>),
    /// The keys that it would take can't be had.
    NoKeys,
}

/// Verifies a token against the configured providers.
///
/// `now` is the time since the Unix epoch.
pub fn verify(token: &[u8], auth: &Auth, keyring: &mut Keyring, now: Duration) -> Verdict {
    if token.len() > LONGEST {
        return Verdict::Refused(Rejection::TokenTooLong);
    }
    let digest = keyring.cache.digest(token);
    if let Some((claims, provider)) = keyring.cache.find(digest, now, auth.clock_skew) {
        // What keys vouched for holds as long as they are in force.
        let in_force = auth.providers.get(provider).is_some_and(|from| keyring.keys(provider, &from.keys, now).is_some());
        return if in_force { Verdict::Remembered(claims) } else { Verdict::NoKeys };
    }
    match afresh(token, auth, keyring, now) {
        Ok((claims, provider, key)) => {
            let claims = Rc::new(claims);
            keyring.cache.put(digest, Rc::clone(&claims), provider, key);
            Verdict::Verified(claims)
        }
        Err(verdict) => verdict,
    }
}

/// Takes the claims that Envoy's jwt_authn left behind, where it has verified the token.
///
/// # Errors
/// There are none, or they name no subject.
pub fn trust(payload: Option<&Map<String, Value>>, trusted: &crate::config::Trusted, auth: &Auth) -> Result<Claims, Rejection> {
    claims::trust(payload.ok_or(Rejection::TokenMissing)?, trusted, auth)
}

impl From<Rejection> for Verdict {
    fn from(rejection: Rejection) -> Self {
        Verdict::Refused(rejection)
    }
}

/// The claims, and whose key vouched for them; or whatever else there is to say. Out of line, as is what it
/// calls: V8 keeps the memory that its largest functions take.
#[inline(never)]
fn afresh(token: &[u8], auth: &Auth, keyring: &Keyring, now: Duration) -> Result<(Claims, usize, u64), Verdict> {
    let token = shape(token)?;
    let payload = payload(token)?;
    let header = header(token)?;
    let host = keyring.host.as_ref().filter(|_| header.is_plain);
    let mut verdict = Verdict::Refused(Rejection::TokenIssuer);
    for (i, provider) in responsible(&auth.providers, payload.get("iss").and_then(Value::as_str)) {
        let judged = signature(token, &header, host, (i, provider), keyring, now);
        match judged.and_then(|key| Ok((claims::judge(&payload, provider, auth, now)?, i, key))) {
            Ok(verified) => return Ok(verified),
            Err(next) => verdict = verdict.or(next),
        }
    }
    Err(verdict)
}

impl Verdict {
    /// What two providers' verdicts come to, neither of them good. Where keys are missing nothing can
    /// be said for sure, so that outweighs a refusal; of two refusals the one that came further is the
    /// more telling.
    fn or(self, next: Verdict) -> Verdict {
        match (self, next) {
            (Verdict::NoKeys, _) | (_, Verdict::NoKeys) => Verdict::NoKeys,
            (Verdict::KeyUnknown(some), Verdict::KeyUnknown(more)) => Verdict::KeyUnknown([some, more].concat()),
            (unknown @ Verdict::KeyUnknown(_), _) => unknown,
            (Verdict::Refused(one), Verdict::Refused(other)) if progress(one) > progress(other) => Verdict::Refused(one),
            (_, next) => next,
        }
    }
}

/// How far a token came: refusals are listed in the order of the checks.
fn progress(rejection: Rejection) -> usize {
    let order = [Rejection::TokenIssuer, Rejection::TokenAlgorithm, Rejection::TokenKey, Rejection::TokenSignature];
    order.iter().position(|&known| known == rejection).unwrap_or(order.len())
}

/// Three parts of base64url's characters.
fn shape(token: &[u8]) -> Result<&str, Rejection> {
    // Two headers arrive as one value, joined by a comma; which one to believe is not ours to say.
    if !token.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(Rejection::TokenMalformed);
    }
    let token = std::str::from_utf8(token).map_err(|_| Rejection::TokenMalformed)?;
    if token.split('.').count() != 3 {
        return Err(Rejection::TokenMalformed);
    }
    Ok(token)
}

/// A token's header, as far as it matters.
struct Header {
    alg: String,
    kid: Option<String>,
    /// Whether it is [plain](native::is_plain).
    is_plain: bool,
}

/// The header that nearly every token has: nothing that jwt-simple could refuse to read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Usual {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
}

/// `jku`, `x5u`, `jwk` and `x5c` in it are never followed.
#[inline(never)]
fn header(token: &str) -> Result<Header, Rejection> {
    let part = token.split('.').next().unwrap_or_default();
    let bytes = decoded(part)?;
    // Of an array serde would make one too.
    if bytes.trim_ascii_start().starts_with(b"{")
        && let Ok(Usual { alg, kid, typ }) = serde_json::from_slice(&bytes)
    {
        return Ok(Header { alg, kid, is_plain: typ.is_none_or(|typ| native::is_plain_type(&typ)) });
    }
    // A header that changes what the signature means is refused, whatever it says: `crit` (RFC 7515)
    // names extensions that must be understood, `b64` (RFC 7797) is one, and none is here.
    let header: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| Rejection::TokenMalformed)?;
    if header.keys().any(|name| name == "crit" || name == "b64") {
        return Err(Rejection::TokenMalformed);
    }
    let metadata = Token::decode_metadata(token).map_err(|_| Rejection::TokenMalformed)?;
    let (alg, kid) = (metadata.algorithm().to_owned(), metadata.key_id().map(str::to_owned));
    Ok(Header { alg, kid, is_plain: native::is_plain(&header) })
}

/// The claims, unverified: until the signature is, only `iss` is looked at, to choose the provider.
fn payload(token: &str) -> Result<Map<String, Value>, Rejection> {
    let bytes = decoded(token.split('.').nth(1).unwrap_or_default())?;
    serde_json::from_slice(&bytes).map_err(|_| Rejection::TokenMalformed)
}

/// A part of the token: base64url without padding (RFC 7515, 2), and none of its last bits left over.
fn decoded(part: &str) -> Result<Vec<u8>, Rejection> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::TokenMalformed)
}

/// The providers whose issuer it is, in order; where there is none, those without an issuer.
fn responsible<'a>(providers: &'a [Provider], issuer: Option<&str>) -> impl Iterator<Item = (usize, &'a Provider)> {
    let claimed = issuer.is_some() && providers.iter().any(|provider| provider.issuer.as_deref() == issuer);
    let issuer = issuer.filter(|_| claimed).map(str::to_owned);
    providers.iter().enumerate().filter(move |(_, provider)| provider.issuer == issuer)
}

/// How many keys are tried for one token, so that a token without `kid` can't buy a hundred
/// signatures' worth of time.
const TRIED: usize = 8;

/// The key that vouches for the token.
#[inline(never)]
fn signature(
    token: &str,
    header: &Header,
    host: Option<&Host>,
    (i, provider): (usize, &Provider),
    keyring: &Keyring,
    now: Duration,
) -> Result<u64, Verdict> {
    // An algorithm that the provider may use at all, now or after its keys have changed.
    let accepted = match &provider.keys {
        Source::Fixed(keys) => keys.iter().any(|key| key.algorithm().name() == header.alg),
        Source::Remote(jwks) => jwks.algorithms.iter().any(|algorithm| algorithm.name() == header.alg),
    };
    if !accepted {
        return Err(Rejection::TokenAlgorithm.into());
    }
    let keys = keyring.keys(i, &provider.keys, now).ok_or(Verdict::NoKeys)?;
    let fits = |key: &&Key| key.algorithm().name() == header.alg;
    // A key without an id may be the one that is meant, as may any where the token names none.
    let named = |key: &&Key| header.kid.is_some() && key.kid() == header.kid.as_deref();
    let nameless = |key: &&Key| header.kid.is_none() || key.kid().is_none();
    let mut tried = keys.iter().filter(fits).filter(named).chain(keys.iter().filter(fits).filter(nameless)).take(TRIED);
    let holds = |key: &&Key| match host.and_then(|host| host.judge(token, key)) {
        Some(holds) => holds,
        None => key.verifies(token),
    };
    if let Some(key) = tried.find(holds) {
        return Ok(key.id());
    }
    let is_named = keys.iter().filter(fits).any(|key| named(&key));
    match &provider.keys {
        // Keys that are fetched may have changed since. Without ids that shows in the signature alone.
        Source::Remote(_) if !is_named => Err(Verdict::KeyUnknown(vec![i])),
        _ if !is_named && !keys.iter().filter(fits).any(|key| nameless(&key)) => Err(Rejection::TokenKey.into()),
        _ => Err(Rejection::TokenSignature.into()),
    }
}

#[cfg(test)]
mod tests;
