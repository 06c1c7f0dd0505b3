//! A token and `now` → [`Claims`], or why not.
//!
//! Cheap checks come first: length, shape, issuer, algorithm. The key, not the token, chooses the
//! algorithm; claims are judged only after the signature. Nothing here logs a token.

mod claims;

use crate::config::{Auth, Key, Provider};
use crate::rejection::Rejection;
pub use claims::Claims;
use jwt_simple::prelude::{Duration as JwtDuration, UnixTimeStamp, VerificationOptions};
use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use jwt_simple::token::{Token, TokenMetadata};
use serde_json::{Map, Value};
use std::time::Duration;

/// Longer tokens are refused before anything is decoded: a session token has 1 to 2 KB.
pub const LONGEST: usize = 8 * 1024;

/// Verifies a token against the configured providers.
///
/// `now` is the time since the Unix epoch.
///
/// # Errors
/// The refusal that applies; all of them are 401 to the client.
pub fn verify(token: &[u8], auth: &Auth, now: Duration) -> Result<Claims, Rejection> {
    let token = shape(token)?;
    let payload = payload(token)?;
    let header = header(token)?;
    let mut refusal = Rejection::TokenIssuer;
    for provider in responsible(&auth.providers, payload.get("iss").and_then(Value::as_str)) {
        match signature(token, &header, provider) {
            Ok(()) => return claims::judge(&payload, provider, auth, now),
            // What stopped the last provider is the most telling: the key was there, or it wasn't.
            Err(rejection) => refusal = rejection,
        }
    }
    Err(refusal)
}

/// Three parts of base64url, not empty but for what `alg` has to say about the signature.
fn shape(token: &[u8]) -> Result<&str, Rejection> {
    if token.len() > LONGEST {
        return Err(Rejection::TokenTooLong);
    }
    let token = std::str::from_utf8(token).map_err(|_| Rejection::TokenMalformed)?;
    if token.split('.').count() != 3 {
        return Err(Rejection::TokenMalformed);
    }
    Ok(token)
}

/// The header. `jku`, `x5u`, `jwk` and `x5c` in it are never followed.
fn header(token: &str) -> Result<TokenMetadata, Rejection> {
    let part = token.split('.').next().unwrap_or_default();
    // A header that changes what the signature means is refused, whatever it says: `crit` (RFC 7515)
    // names extensions that must be understood, `b64` (RFC 7797) is one, and none is here.
    if object(part)?.keys().any(|name| name == "crit" || name == "b64") {
        return Err(Rejection::TokenMalformed);
    }
    Token::decode_metadata(token).map_err(|_| Rejection::TokenMalformed)
}

/// The claims, unverified: until the signature is, only `iss` is looked at, to choose the provider.
fn payload(token: &str) -> Result<Map<String, Value>, Rejection> {
    object(token.split('.').nth(1).unwrap_or_default())
}

/// A part of the token that holds a JSON object.
fn object(part: &str) -> Result<Map<String, Value>, Rejection> {
    let bytes = Base64UrlSafeNoPadding::decode_to_vec(part, None).map_err(|_| Rejection::TokenMalformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Rejection::TokenMalformed)
}

/// The providers whose issuer it is, in order; where there is none, those without an issuer.
fn responsible<'a>(providers: &'a [Provider], issuer: Option<&str>) -> impl Iterator<Item = &'a Provider> {
    let claimed = issuer.is_some() && providers.iter().any(|provider| provider.issuer.as_deref() == issuer);
    let issuer = issuer.filter(|_| claimed).map(str::to_owned);
    providers.iter().filter(move |provider| provider.issuer == issuer)
}

/// How many keys are tried for one token, so that a token without `kid` can't buy a hundred
/// signatures' worth of time.
const TRIED: usize = 8;

fn signature(token: &str, header: &TokenMetadata, provider: &Provider) -> Result<(), Rejection> {
    let mut keys = provider.keys.iter().filter(|key| key.algorithm().name() == header.algorithm()).peekable();
    keys.peek().ok_or(Rejection::TokenAlgorithm)?;
    // A key without an id may be the one that is meant, as may any where the token names none.
    let named = |key: &&Key| header.key_id().is_none_or(|kid| key.kid().is_none_or(|own| own == kid));
    let mut keys = keys.filter(named).take(TRIED).peekable();
    keys.peek().ok_or(Rejection::TokenKey)?;
    let verified = keys.any(|key| key.verify::<Map<String, Value>>(token, signature_alone()).is_ok());
    if verified { Ok(()) } else { Err(Rejection::TokenSignature) }
}

/// Options under which jwt-simple judges header and signature and lets all dates pass:
/// its dates wrap at 2^32 seconds and its defaults are 15 minutes of skew and no `exp`, so
/// [`claims`] judges them, in full range and by name.
fn signature_alone() -> VerificationOptions {
    VerificationOptions {
        accept_future: true,
        artificial_time: Some(UnixTimeStamp::from_secs(0)),
        time_tolerance: Some(JwtDuration::from_secs(0)),
        max_token_length: Some(LONGEST),
        ..VerificationOptions::default()
    }
}

#[cfg(test)]
mod tests;
