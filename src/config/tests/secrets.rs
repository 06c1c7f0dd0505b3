//! A secret stands in no line of a log, whatever is wrong around it.

use super::*;
use proptest::prelude::*;

/// Long enough for every HMAC, printable, and found wherever it goes.
const MARK: &str = "MARK-of-a-secret-that-must-never-show-and-is-long-enough-for-HS512";

/// Its base64url, as a key set holds it.
const MARK_IN_JWKS: &str = "TUFSSy1vZi1hLXNlY3JldC10aGF0LW11c3QtbmV2ZXItc2hvdy1hbmQtaXMtbG9uZy1lbm91Z2gtZm9yLUhTNTEy";

fn shows(text: &str) -> bool {
    let bytes = format!("{:?}", &MARK.as_bytes()[..12]);
    text.contains("MARK") || text.contains("TUFSSy") || text.contains(bytes.trim_matches(['[', ']']))
}

/// All that a log could show of a configuration whose variables hold `secret`.
fn shown(config: &str, secret: &str) -> String {
    match Config::read(config.as_bytes(), &|_| Some(secret.to_owned())) {
        Ok(config) => format!("{config:?}\n{config:#?}"),
        Err(faults) => faults.iter().map(|fault| format!("{fault}\n{fault:?}\n")).collect(),
    }
}

#[test]
fn the_debug_output_of_a_configuration_shows_none_of_its_secrets() {
    let hmac = json!({"name": "hmac", "algorithms": ["HS256", "HS384", "HS512"], "hmac_secret_env": "S"});
    let jwks = json!({"name": "jwks", "algorithms": ["HS512"], "local_jwks": {"keys": [{"kty": "oct", "k": MARK_IN_JWKS}]}});
    let config = with(full(), "/auth/providers", json!([hmac, jwks]));
    let shown = shown(&config.to_string(), MARK);
    assert!(shown.starts_with("Config {") && shown.contains("HS512") && shown.contains("logfire-us"), "{shown}");
    assert!(!shows(&shown), "{shown}");
}

#[test]
fn the_debug_output_of_a_configuration_shows_no_value_of_a_header() {
    for name in ["authorization", "x-api-key", "cookie"] {
        let config = with(without(full(), "/export/token_env"), "/export/headers", json!({name: MARK}));
        let shown = shown(&config.to_string(), SECRET);
        assert!(shown.starts_with("Config {"), "{shown}");
        assert!(!shows(&shown), "{name}");
    }
}

#[test]
fn faults_show_none_of_the_secrets_that_they_are_about() {
    let provider = |fields: Value| with_provider(fields).to_string();
    let private = format!("-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----");
    let broken = format!("-----BEGIN PUBLIC KEY-----\n{MARK}\n-----END PUBLIC KEY-----");
    let oct = |k: String| provider(json!({"algorithms": ["HS512"], "local_jwks": {"keys": [{"kty": "oct", "k": k, "kid": "a"}]}}));
    for (config, secret) in [
        (provider(json!({"algorithms": ["HS256"], "hmac_secret_env": "S"})), "MARK".to_owned()),
        (provider(json!({"algorithms": ["RS256"], "hmac_secret_env": "S"})), MARK.to_owned()),
        (provider(json!({"algorithms": ["RS256"], "public_key_pem": private})), String::new()),
        (provider(json!({"algorithms": ["RS256"], "public_key_pem": broken})), String::new()),
        (oct("TUFSSw".to_owned()), String::new()),
        (oct(format!("{MARK}!")), String::new()),
        (provider(json!({"algorithms": ["HS512"], "local_jwks": format!("{{\"keys\": {MARK_IN_JWKS}")})), String::new()),
        (full().to_string(), format!("{MARK}\n")),
        (with(full(), "/export/headers", json!({"x-api-key": format!("{MARK}\n")})).to_string(), MARK.to_owned()),
        (with(full(), "/export/headers", json!({"authorization": MARK})).to_string(), MARK.to_owned()),
        (format!("{{\"export\": {{\"headers\": {{\"authorization\": \"{MARK}"), String::new()),
        (format!("\"{MARK}\""), String::new()),
        (MARK.to_owned(), String::new()),
    ] {
        let shown = shown(&config, &secret);
        assert!(!shown.starts_with("Config"), "{config} should be refused");
        assert!(!shows(&shown), "{shown}");
    }
}

#[test]
fn a_private_key_is_refused_as_one() {
    for kind in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let pem = format!("-----BEGIN {kind}-----\n{MARK}\n-----END {kind}-----");
        let faults = lines(&with_provider(json!({"algorithms": ["RS256"], "public_key_pem": pem})));
        assert_eq!(faults, ["auth.providers[0].public_key_pem: holds a private key: the gateway needs the public one alone"]);
    }
}

/// Pointers to everything in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

proptest! {
    /// Whatever the operator puts in the wrong place, the line that says so doesn't repeat it. Names
    /// are repeated: of unknown fields, of variables, and of providers.
    #[test]
    fn a_fault_never_repeats_the_value_that_it_is_about(
        place in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        wrap in 0..4,
    ) {
        let mut config = full();
        let mut found = Vec::new();
        places(&config, "", &mut found);
        found.retain(|at| !at.is_empty() && !at.ends_with("_env") && !at.ends_with("/name"));
        let value = match wrap {
            0 => json!(MARK),
            1 => json!([MARK]),
            2 => json!([{"keys": MARK}]),
            _ => json!(format!("{MARK}\r\n")),
        };
        config = with(config, place.get::<String>(&found), value);
        // A second fault, so that every configuration is refused.
        let second = other.get::<String>(&found);
        if config.pointer(second).is_some() {
            config = with(config, second, json!([]));
        }
        config = with(config, "/unknown", json!(MARK));
        let shown = shown(&config.to_string(), MARK);
        prop_assert!(!shown.starts_with("Config"));
        prop_assert!(!shows(&shown), "{}", shown);
    }
}
