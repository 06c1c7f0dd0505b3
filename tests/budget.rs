//! Work of which tests/native/test_budget.py has the instructions counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails that way")]
#![allow(clippy::disallowed_methods, reason = "told by its environment what to do")]

use envoy_log_ingest::config::{Config, Mapping, Window};
use envoy_log_ingest::export::{self, Outbox};
use envoy_log_ingest::otlp::{self, Known};
use envoy_log_ingest::stats::{Sink, Stat};
use envoy_log_ingest::token::{self, Keyring, Signatures, Signed, Verdict};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

/// Some seconds after the last record of the full batch; and by a clock that is behind it.
const RECEIVED: Duration = Duration::from_nanos(1_770_379_320_123_456_789);
const BEHIND: Duration = Duration::from_nanos(1_770_379_205_123_456_789);

/// Does BUDGET_CASE so many times as BUDGET_TIMES says: what a second time costs is the difference.
#[test]
#[ignore = "tests/tools/count runs it, in valgrind"]
fn work() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (case, times) = (variable("BUDGET_CASE"), variable("BUDGET_TIMES").parse().unwrap());
    let (what, fixture) = case.split_once(' ').unwrap();
    match what {
        "map" => map(&read(fixture), RECEIVED, times),
        "move" => map(&read(fixture), BEHIND, times),
        "gzip" => gzip(&read(fixture), times),
        "token" => token(fixture == "remembered", times),
        _ => panic!("{what}"),
    }
}

fn read(fixture: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).with_extension("json")).unwrap()
}

fn encode(body: &mut [u8], received: Duration) -> Vec<u8> {
    let window = Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) };
    let mapping = Mapping { resource: serde_json::Map::new(), window: Some(window), max_records: 10_000 };
    otlp::encode(body, Known { issuer: "https://id.example.com", subject: "user-1", received }, &mapping).unwrap().protobuf
}

/// From a body to OTLP.
fn map(body: &[u8], received: Duration, times: usize) {
    for _ in 0..times {
        black_box(encode(black_box(&mut body.to_vec()), received));
    }
}

/// From OTLP to a compressed callout.
fn gzip(body: &[u8], times: usize) {
    let protobuf = encode(&mut body.to_vec(), RECEIVED);
    let config = configured("");
    let mut outbox = Outbox::new(config.export.bounds, 0);
    outbox.park(protobuf, 100, None, RECEIVED);
    let shipment = outbox.next(RECEIVED, &mut Nobody).unwrap();
    for _ in 0..times {
        black_box(export::callout(&config.export, black_box(&shipment)));
    }
}

/// Nobody counts.
struct Nobody;

impl Sink for Nobody {
    fn add(&mut self, _: Stat, _: u64) {}
}

/// A host that says yes.
#[derive(Debug)]
struct Yes;

impl Signatures for Yes {
    fn hold(&self, _: &Signed<'_>) -> Option<bool> {
        Some(true)
    }
}

/// A token's way past everything but the arithmetic of its signature.
fn token(is_remembered: bool, times: usize) {
    const TOKEN: &[u8] = b"eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJzdWIiOiIzZjFjOWE1Mi03YTUzLTRmMGUtOWI1NS0wYzFkOWQwYThjMTEiLCJzaWQiOiI5ZDViMmM3ZSIsImlhdCI6MTc3MDM3OTIwMCwiZXhwIjo0MDAwMDAwMDAwfQ.AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ";
    let config = configured(if is_remembered { "" } else { r#", "cache_entries": 0"# });
    let mut keyring = Keyring::new(&config.auth, 0).with_signatures(Box::new(Yes));
    for _ in 0..times {
        let verdict = token::verify(black_box(TOKEN), &config.auth, &mut keyring, RECEIVED);
        assert!(matches!(verdict, Verdict::Verified(_) | Verdict::Remembered(_)));
    }
}

fn configured(auth: &str) -> Config {
    // The key of RFC 7515, A.3.
    let jwk = r#"{"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let provider = format!(r#"{{"name": "p", "algorithms": ["ES256"], "local_jwks": {{"keys": [{jwk}]}}}}"#);
    let config = format!(r#"{{"auth": {{"providers": [{provider}]{auth}}}, "export": {{"cluster": "c", "authority": "a"}}}}"#);
    Config::read(config.as_bytes(), &|_| None).unwrap()
}
