//! Verified claims: who the user is, and until when.

use crate::config::{Auth, Distinction, Provider, Trusted};
use crate::rejection::Rejection;
use serde_json::{Map, Value};
use std::time::Duration;

/// What is known about the sender. The signature vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`, empty where the token has none.
    pub issuer: String,
    /// The provider's subject claim; never empty.
    pub subject: String,
    /// Issuer and subject as a number, by [`sender`].
    pub sender: u64,
    /// The provider's session claim, if the token has it.
    pub session: Option<String>,
    /// When the token ends, as time since the Unix epoch; `None` where it has no `exp`.
    pub expires: Option<Duration>,
    /// Which of the configured distinctions the sender has, by index; the first that fits.
    pub distinction: Option<usize>,
}

/// OpenID Connect allows a subject 255 characters. It is repeated in every record.
const LONGEST_SUBJECT: usize = 1024;

/// Judges the claims of a token whose signature has been verified with a key of `provider`.
///
/// # Errors
/// The first claim that doesn't hold.
pub(super) fn judge(payload: &Map<String, Value>, provider: &Provider, auth: &Auth, now: Duration) -> Result<Claims, Rejection> {
    let expires = date(payload, "exp")?;
    match expires {
        None if auth.require_expiration => return Err(Rejection::TokenWithoutExpiration),
        Some(exp) if now >= exp.saturating_add(auth.clock_skew) => {
            return Err(Rejection::TokenExpired);
        }
        _ => {}
    }
    for claim in ["nbf", "iat"] {
        if date(payload, claim)?.is_some_and(|begin| begin > now.saturating_add(auth.clock_skew)) {
            return Err(Rejection::TokenNotYetValid);
        }
    }
    if !audience(payload.get("aud"), &provider.audiences) {
        return Err(Rejection::TokenAudience);
    }
    known(payload, &provider.subject_claim, &provider.session_claim, expires, auth)
}

/// Takes the claims of a token that Envoy's jwt_authn has verified, dates and all.
///
/// # Errors
/// No subject.
pub(super) fn trust(payload: &Map<String, Value>, trusted: &Trusted, auth: &Auth) -> Result<Claims, Rejection> {
    known(payload, &trusted.subject_claim, &trusted.session_claim, date(payload, "exp").ok().flatten(), auth)
}

fn known(payload: &Map<String, Value>, subject: &str, session: &str, expires: Option<Duration>, auth: &Auth) -> Result<Claims, Rejection> {
    let subject = text(payload, subject).filter(|subject| subject.len() <= LONGEST_SUBJECT).ok_or(Rejection::TokenSubject)?;
    let distinction = auth.distinctions.iter().position(|distinction| has(payload, distinction));
    let issuer = text(payload, "iss").unwrap_or_default();
    Ok(Claims { sender: sender(&issuer, &subject), issuer, subject, session: text(payload, session), expires, distinction })
}

/// A number for a subject of an issuer, the same in every process: the first eight bytes of the SHA-256 of
/// both with a zero byte between them, the lowest first. Worked out once for a token, as it takes as long
/// as reading half a record.
pub fn sender(issuer: &str, subject: &str) -> u64 {
    let digest = hmac_sha256::Hash::hash(&[issuer.as_bytes(), &[0], subject.as_bytes()].concat());
    u64::from_le_bytes(*digest.first_chunk().unwrap_or(&[0; 8]))
}

/// A NumericDate (RFC 7519): seconds, perhaps with a fraction. One beyond what a [`Duration`]
/// holds is the far future, one before 1970 is 1970; anything but a number is no date.
fn date(payload: &Map<String, Value>, claim: &str) -> Result<Option<Duration>, Rejection> {
    match payload.get(claim) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let seconds = number.as_f64().unwrap_or(f64::MAX).max(0.0);
            let whole = number.as_u64().map(Duration::from_secs);
            Ok(Some(whole.unwrap_or_else(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))))
        }
        Some(_) => Err(Rejection::TokenMalformed),
    }
}

fn audience(aud: Option<&Value>, accepted: &[String]) -> bool {
    let accepts = |value: &Value| value.as_str().is_some_and(|aud| accepted.iter().any(|a| a == aud));
    match aud {
        _ if accepted.is_empty() => true,
        Some(Value::Array(all)) => all.iter().any(accepts),
        Some(one) => accepts(one),
        None => false,
    }
}

/// Whether the claim is what the distinction says, or has it among its elements.
fn has(payload: &Map<String, Value>, distinction: &Distinction) -> bool {
    let is = |value: &Value| match (value, &distinction.value) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    };
    match claim(payload, &distinction.claim) {
        Some(Value::Array(all)) => all.iter().any(is),
        Some(one) => is(one),
        None => false,
    }
}

/// A claim of that name, which may have dots in it, or else at that path.
fn claim<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    payload.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        claim(payload.get(outer)?.as_object()?, inner)
    })
}

/// A string that isn't empty, or a whole number as its digits.
fn text(payload: &Map<String, Value>, claim: &str) -> Option<String> {
    match payload.get(claim)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}
