//! Keys and the configuration that they come with: whatever stands in them is taken whole, or is a
//! fault that says where and gives nothing away.
//!
//! The same input is read as the configuration itself, as a public key in PEM, as a key set in the
//! configuration, as one fetched from the identity host, and as the bytes that workers share.

#![no_main]

mod memory;

use ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use envoy_log_ingest::bucket::{Cost, Limiter, Seed, Seen};
use envoy_log_ingest::config::{Algorithm, Auth, Config, Fault, Source, jwks};
use envoy_log_ingest::otlp::{self, Known};
use envoy_log_ingest::token::{self, KeyAnswer, Keyring, Verdict};
use libfuzzer_sys::fuzz_target;
use memory::{Memory, Nowhere};
use prost::Message;
use serde_json::{Map, Value, json};
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    configuration(input);
    let text = String::from_utf8_lossy(input);
    if text.contains("-----BEGIN") {
        public_key(&text);
    }
    if let Ok(value) = serde_json::from_slice::<Value>(input) {
        as_struct(input, &value);
        key_set(&value);
        REMOTE.with(|auth| fetched(input, &text, auth));
    }
    // A record begins with its version.
    if input.first().is_some_and(|&version| version < b' ') {
        REMOTE.with(|auth| shared(input, &text, auth));
    }
});

/// When the tokens below are valid.
const NOW: Duration = Duration::from_secs(1_770_379_200);

/// Signed with the keys of this set, whose private halves are gone.
const KEY_SET: &str = include_str!("../seeds/keys/key-set.json");
const TOKENS: [&[u8]; 2] = [include_bytes!("../seeds/token/valid-rs256"), include_bytes!("../seeds/token/valid-es256")];

/// What is public of those keys: nothing without it verifies the tokens.
const PUBLIC: [&str; 2] = ["sqJIkiqpQGAaktn_vVHIY4N_RxyxYdI4ATAHOIzp-gYBpI1dGChTKcmk", "OSUtv_4UM9zm6tGhWo0FCL_WZOr2W-6qlbvembyn-QM"];

const SECRET: &str = "a secret in a variable, which must never be shown: 64 bytes and more";

/// One of each kind: a signature takes more time than all the rest here.
const KINDS: [&str; 6] = ["RS256", "PS512", "ES256", "ES384", "EdDSA", "HS256"];

thread_local! {
    static REMOTE: Auth = auth(&json!({
        "name": "remote", "algorithms": KINDS[..5],
        "remote_jwks": {"cluster": "identity", "uri": "https://id.example/keys", "cache_seconds": 600, "max_stale_seconds": 86_400},
    })).unwrap();
}

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "EMPTY" => Some(String::new()),
        "SHORT" => Some("short".to_owned()),
        "LINES" => Some("two\r\nlines".to_owned()),
        _ => None,
    }
}

fn read(bytes: &[u8]) -> Result<Config, Vec<Fault>> {
    Config::read(bytes, &environment)
}

/// The `auth` of a configuration with that provider.
fn auth(provider: &Value) -> Result<Auth, Vec<String>> {
    let config = json!({"auth": {"providers": [provider]}, "export": {"cluster": "c", "authority": "a"}});
    let config = read(config.to_string().as_bytes());
    config.map(|config| config.auth).map_err(|faults| faults.iter().map(Fault::to_string).collect())
}

/// Taken, and then of use; or refused for reasons that show no secret.
fn configuration(input: &[u8]) {
    let shown = match read(input) {
        Ok(config) => {
            usable(&config);
            format!("{config:?}")
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            faults.iter().map(|fault| format!("{fault}\n")).collect()
        }
    };
    assert!(!shown.contains(SECRET), "shows a secret: {shown}");
    let again = match read(input) {
        Ok(config) => format!("{config:?}"),
        Err(faults) => faults.iter().map(|fault| format!("{fault}\n")).collect(),
    };
    assert_eq!(shown, again);
}

fn usable(config: &Config) {
    assert!(config.path.starts_with('/') && config.export.path.starts_with('/'));
    assert!(config.max_body_bytes > 0 && !config.export.bounds.timeout.is_zero());
    assert_ne!(config.auth.providers.is_empty(), config.auth.trusted.is_none());
    for provider in &config.auth.providers {
        match &provider.keys {
            Source::Fixed(keys) => assert!(!keys.is_empty(), "a provider without keys"),
            Source::Remote(remote) => assert!(!remote.algorithms.is_empty() && remote.path.starts_with('/')),
        }
    }
    for limits in config.rate_limits.overrides.iter().chain([&config.rate_limits.limits]) {
        for bucket in [limits.user, limits.session].into_iter().flatten().map(|limit| limit.bucket) {
            assert!(bucket.max_tokens > 0 && bucket.tokens_per_fill > 0 && !bucket.fill_interval.is_zero());
        }
    }
    // Whatever it says, a request does no harm.
    let mut keyring = Keyring::new(&config.auth, 7);
    for token in TOKENS {
        token::verify(token, &config.auth, &mut keyring, NOW);
    }
    let limiter = Limiter::new(&config.rate_limits, None, "i", "s", Seed::default());
    let cost = Cost { records: 1, bytes: 20 };
    assert!(limiter.charge(Seen::default(), Some("s"), cost, NOW, &mut Memory::default(), &mut Nowhere).is_ok(), "a full bucket refuses");
    let known = Known { sender: 1, subject: "s", received: NOW };
    let mut body = *br#"{"logs":[{"timestamp":"2091-01-01T00:00:00Z"},{"timestamp":"1970-01-01T00:00:00Z"}]}"#;
    assert_eq!(otlp::encode(&mut body, known, &config.mapping).map(|encoded| encoded.records), Ok(2));
}

/// A Struct is the same configuration as its JSON, as far as a Struct can say it.
fn as_struct(input: &[u8], value: &Value) {
    let Value::Object(fields) = value else { return };
    if fields.is_empty() || !fits_struct(value, 0) {
        return;
    }
    let bytes = message(fields).encode_to_vec();
    let (from_struct, from_json) = (read(&bytes), read(input));
    assert_eq!(format!("{from_struct:?}"), format!("{from_json:?}"));
}

/// Numbers that a double holds and that come out of it as they went in; a depth that protobuf reads.
fn fits_struct(value: &Value, depth: usize) -> bool {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() => double.fract() != 0.0,
            Some(double) => double.abs() < 9_007_199_254_740_992.0,
            None => false,
        },
        Value::Array(values) => depth < 25 && values.iter().all(|value| fits_struct(value, depth + 1)),
        Value::Object(fields) => depth < 25 && fields.values().all(|value| fits_struct(value, depth + 1)),
        _ => true,
    }
}

fn message(fields: &Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct { fields: fields.iter().map(|(name, field)| (name.clone(), value_message(field))).collect() }
}

fn value_message(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue { values: values.iter().map(value_message).collect() }),
        Value::Object(fields) => Kind::StructValue(message(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A PEM text gives keys of its own kind, and its text never shows.
fn public_key(pem: &str) {
    for algorithms in [&["RS256", "PS512"][..], &["ES256"], &["ES384"], &["EdDSA"], &["HS256"]] {
        match auth(&json!({"name": "p", "algorithms": algorithms, "public_key_pem": pem})) {
            Ok(auth) => {
                assert!(algorithms != ["HS256"] && !pem.contains("PRIVATE KEY"));
                let Source::Fixed(keys) = &auth.providers[0].keys else { panic!("fetched from nowhere") };
                let names: Vec<&str> = keys.iter().map(|key| key.algorithm().name()).collect();
                assert_eq!(names, algorithms);
                unforgeable(&auth, &names);
            }
            Err(faults) => {
                let faults = faults.join("\n");
                for line in pem.lines().filter(|line| line.len() >= 24 && !line.contains("KEY")) {
                    assert!(!faults.contains(line), "shows {line}");
                }
            }
        }
    }
}

/// A key set in the configuration: each key for what it is, none too short, no secret shown.
fn key_set(value: &Value) {
    let set = jwks::parse(value, Algorithm::ALL);
    let jwks = value.get("keys").and_then(Value::as_array).filter(|jwks| jwks.len() <= 100);
    let Some(jwks) = jwks else {
        assert_eq!((set.keys.len(), set.faults.len()), (0, 1));
        return;
    };
    // A JWK is a fault, or a key for each algorithm of its kind; both where an earlier one has taken its
    // id for some of them.
    assert!(set.faults.len() <= jwks.len() && set.keys.len() <= (jwks.len() - set.faults.len()) * 6);
    let longest = |field: &str| jwks.iter().filter_map(|jwk| jwk.get(field)?.as_str()).map(str::len).max().unwrap_or(0);
    for key in &set.keys {
        let name = key.algorithm().name();
        match &name[..2] {
            // 2048 and 256 bits in base64url.
            "RS" | "PS" => assert!(longest("n") >= 342, "a short key for {name}"),
            "HS" => assert!(longest("k") >= 43, "a short secret for {name}"),
            _ => assert!(longest("x") >= 43, "no point for {name}"),
        }
        assert!(key.kid().is_none_or(|kid| jwks.iter().any(|jwk| jwk.get("kid").and_then(Value::as_str) == Some(kid))));
    }
    let mut faults: Vec<String> = set.faults.iter().map(|(path, what)| format!("{path}: {what}")).collect();
    match auth(&json!({"name": "p", "algorithms": KINDS, "local_jwks": value})) {
        Ok(auth) => {
            assert!(!set.keys.is_empty() || !faults.is_empty());
            unforgeable(&auth, &KINDS);
        }
        Err(found) => faults = found,
    }
    let faults = faults.join("\n");
    for secret in jwks.iter().flat_map(|jwk| [jwk.get("k"), jwk.get("d")]).filter_map(|field| field?.as_str()) {
        assert!(secret.len() < 16 || !faults.contains(secret), "shows a secret");
    }
}

/// No key of any kind takes a signature that nobody made, of whatever length.
fn unforgeable(auth: &Auth, algorithms: &[&str]) {
    let mut keyring = Keyring::new(auth, 0);
    let encode = |bytes: &[u8]| Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap();
    for algorithm in algorithms {
        let header = json!({"alg": algorithm}).to_string();
        let message = format!("{}.{}", encode(header.as_bytes()), encode(br#"{"sub":"u","exp":1770382800}"#));
        let length = match algorithm.as_bytes() {
            [b'R' | b'P', ..] => 256,
            b"ES384" => 96,
            _ => 64,
        };
        for signature in [vec![0x5a; length], vec![0xff; length * 2], vec![]] {
            let token = format!("{message}.{}", encode(&signature));
            let verdict = token::verify(token.as_bytes(), auth, &mut keyring, NOW);
            assert!(matches!(verdict, Verdict::Refused(_)), "{algorithm}: {verdict:?}");
        }
    }
}

/// A key set from the identity host is taken if it holds a key, and never gives way to a worse one.
fn fetched(input: &[u8], text: &str, auth: &Auth) {
    let mut memory = Memory::default();
    let mut keyring = Keyring::new(auth, 0);
    Keyring::prepare(auth, &mut memory);
    let mut fetch = |keyring: &mut Keyring, answer, now: Duration| {
        assert_eq!(keyring.tick(auth, now, &mut memory, &mut Nowhere), [0], "no fetch is due");
        keyring.fetched(auth, 0, answer, now, &mut memory, &mut Nowhere)
    };
    assert!(fetch(&mut keyring, KeyAnswer::Response(Some(500), input), NOW).is_err());
    let later = NOW + Duration::from_secs(60);
    let taken = fetch(&mut keyring, KeyAnswer::Response(Some(200), input), later);
    let before = verdicts(&mut keyring, text, auth, later);
    assert_eq!(taken.is_err(), before.contains(&Verdict::NoKeys));
    if taken.is_ok() {
        // A period later, at which time what there is stays in force.
        let then = NOW + Duration::from_secs(3_600);
        assert!(fetch(&mut keyring, KeyAnswer::Response(Some(200), br#"{"keys":[{"kty":"RSA"}]}"#), then).is_err());
        assert_eq!(verdicts(&mut keyring, text, auth, later), before, "other keys than before");
    }
}

/// Whatever another worker left behind, there is a verdict, and a fetch brings the right keys.
fn shared(input: &[u8], text: &str, auth: &Auth) {
    let mut memory = Memory::default();
    Keyring::prepare(auth, &mut memory);
    let key = memory.values.keys().next().expect("a record for the provider").clone();
    memory.write(&key, input);
    let mut keyring = Keyring::new(auth, u128::MAX);
    let mut now = NOW;
    for _ in 0..3 {
        let due = keyring.tick(auth, now, &mut memory, &mut Nowhere);
        verdicts(&mut keyring, text, auth, now);
        assert!((Duration::from_secs(1)..=Duration::from_secs(30)).contains(&keyring.retry_after(now)));
        if due == [0] {
            let answer = KeyAnswer::Response(Some(200), KEY_SET.as_bytes());
            assert_eq!(keyring.fetched(auth, 0, answer, now, &mut memory, &mut Nowhere), Ok(()));
            let good = |verdict: &Verdict| matches!(verdict, Verdict::Verified(_) | Verdict::Remembered(_));
            assert!(keyring_verdicts(&mut keyring, auth, now).iter().all(good), "the right keys, and yet refused");
            return;
        }
        now += Duration::from_secs(1_000);
    }
    panic!("no fetch is due, long after a period");
}

fn keyring_verdicts(keyring: &mut Keyring, auth: &Auth, now: Duration) -> [Verdict; 2] {
    TOKENS.map(|token| token::verify(token, auth, keyring, now))
}

/// What the keys say of the tokens: good only if they are the tokens' own.
fn verdicts(keyring: &mut Keyring, text: &str, auth: &Auth, now: Duration) -> [Verdict; 2] {
    let verdicts = keyring_verdicts(keyring, auth, now);
    for (verdict, public) in verdicts.iter().zip(PUBLIC) {
        if matches!(verdict, Verdict::Verified(_) | Verdict::Remembered(_)) {
            assert!(text.contains(public), "verified by another key");
        }
    }
    // Whether it was remembered makes no difference here.
    verdicts.map(|verdict| if let Verdict::Remembered(claims) = verdict { Verdict::Verified(claims) } else { verdict })
}
