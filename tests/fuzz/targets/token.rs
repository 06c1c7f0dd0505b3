//! A token from anywhere: only those verify that a key of the configuration has signed.
//!
//! An input of one line is a token as it comes. One of more lines holds a header in the first and
//! claims in the rest; it is signed here, since no mutation finds a signature: with the secret that
//! is configured, and in ways that must never do.

#![no_main]

use ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use envoy_log_ingest::config::{Auth, Config};
use envoy_log_ingest::token::{self, Claims, Keyring, LONGEST, Verdict, sender};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use std::rc::Rc;
use std::time::Duration;

const SECRET: &str = "a secret that stands in the fuzz target, for nobody to trust";

/// 2026-02-06T12:00:00Z, when the tokens below are ten minutes old and have an hour to go.
const NOW: u64 = 1_770_379_200;

const SKEW: f64 = 60.0;

/// The private halves are gone, so there are no others.
const VALID: [&[u8]; 3] = [
    include_bytes!("../seeds/token/valid-hs256"),
    include_bytes!("../seeds/token/valid-rs256"),
    include_bytes!("../seeds/token/valid-es256"),
];
const RSA: &str = include_str!("../seeds/keys/rsa.pem");
const EC: &str = include_str!("../seeds/keys/p256.pem");

thread_local! {
    static AUTH: Auth = {
        let auth = auth();
        for token in VALID {
            assert!(matches!(verify(token, &auth), Verdict::Verified(_)), "a valid token was refused");
        }
        auth
    };
}

fuzz_target!(|input: &[u8]| {
    AUTH.with(|auth| match input.iter().position(|&b| b == b'\n') {
        None => as_it_comes(input, auth),
        Some(end) => signed(&input[..end], &input[end + 1..], auth),
    });
});

fn auth() -> Auth {
    let config = json!({
        "auth": {"clock_skew_seconds": SKEW, "cache_entries": 4, "providers": [
            {"name": "hs", "issuer": "https://hs.example", "audiences": ["field-app"], "algorithms": ["HS256"], "hmac_secret_env": "SECRET"},
            {"name": "rs", "issuer": "https://rs.example", "algorithms": ["RS256"], "public_key_pem": RSA},
            {"name": "es", "algorithms": ["ES256"], "public_key_pem": EC},
        ]},
        "export": {"cluster": "c", "authority": "a"},
    });
    Config::read(config.to_string().as_bytes(), &|_| Some(SECRET.to_owned())).unwrap().auth
}

/// Twice, so that the second time it may be remembered: the answer is the same.
fn verify(token: &[u8], auth: &Auth) -> Verdict {
    let mut keyring = Keyring::new(auth, 0);
    let mut verify = || token::verify(token, auth, &mut keyring, Duration::from_secs(NOW));
    let first = verify();
    let expected = match &first {
        Verdict::Verified(claims) => Verdict::Remembered(Rc::clone(claims)),
        Verdict::Refused(rejection) => Verdict::Refused(*rejection),
        other => panic!("{other:?} of a provider whose keys are at hand"),
    };
    assert_eq!(verify(), expected);
    first
}

fn as_it_comes(token: &[u8], auth: &Auth) {
    if let Verdict::Verified(claims) = verify(token, auth) {
        assert!(VALID.contains(&token), "nobody signed this: {claims:?}");
    }
}

fn signed(header: &[u8], claims: &[u8], auth: &Auth) {
    let encode = |bytes: &[u8]| Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap();
    let message = format!("{}.{}", encode(header), encode(claims));
    let with = |signature: &[u8]| format!("{message}.{}", encode(signature));
    // What is public is no secret, nor is nothing.
    for secret in [RSA.as_bytes(), RSA.trim_end().as_bytes(), EC.as_bytes(), b""] {
        let signature = hmac_sha256::HMAC::mac(&message, secret);
        assert!(matches!(verify(with(&signature).as_bytes(), auth), Verdict::Refused(_)), "signed with a public key");
    }
    for none in [with(b""), message.clone(), with(&[0; 32]), with(&[0; 64]), with(&[0; 256])] {
        assert!(matches!(verify(none.as_bytes(), auth), Verdict::Refused(_)), "not signed");
    }
    let signature = hmac_sha256::HMAC::mac(&message, SECRET);
    let token = with(&signature);
    let verified = match verify(token.as_bytes(), auth) {
        Verdict::Verified(claims) => Some(claims),
        _ => None,
    };
    let object = |bytes| serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    match (verified, object(header), object(claims)) {
        (Some(known), Some(header), Some(claims)) => {
            assert_eq!(header.get("alg"), Some(&json!("HS256")));
            assert!(!header.contains_key("crit") && !header.contains_key("b64"));
            assert_eq!(should_be(&claims).as_ref(), Some(&*known));
        }
        (Some(known), ..) => panic!("no objects, and yet {known:?}"),
        // Of headers, one that says nothing unusual is enough.
        (None, Some(_), Some(claims)) if header == br#"{"alg":"HS256"}"# => {
            assert!(should_be(&claims).is_none() || token.len() > LONGEST, "refused without a reason");
        }
        (None, ..) => {}
    }
}

/// The claims of a token with the right signature, if they hold. RFC 7519's rules, apart from the code.
fn should_be(claims: &Map<String, Value>) -> Option<Claims> {
    let now = NOW as f64;
    let date = |name: &str| match claims.get(name) {
        None => Some(None),
        Some(Value::Number(date)) => Some(Some(date.as_f64().unwrap())),
        Some(_) => None,
    };
    let (exp, nbf, iat) = (date("exp")??, date("nbf")?, date("iat")?);
    let text = |name: &str| match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    };
    let audience = match claims.get("aud")? {
        Value::Array(all) => all.contains(&json!("field-app")),
        one => one == "field-app",
    };
    let in_time = now < exp.max(0.0) + SKEW && [nbf, iat].into_iter().flatten().all(|begin| begin <= now + SKEW);
    let issuer = claims.get("iss")?.as_str()?;
    if !in_time || !audience || issuer != "https://hs.example" {
        return None;
    }
    let expires = match claims.get("exp")?.as_u64() {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::try_from_secs_f64(exp.max(0.0)).unwrap_or(Duration::MAX),
    };
    let subject = text("sub").filter(|subject| subject.len() <= 1_024)?;
    Some(Claims {
        sender: sender(issuer, &subject),
        issuer: issuer.to_owned(),
        subject,
        session: text("sid"),
        expires: Some(expires),
        distinction: None,
    })
}
