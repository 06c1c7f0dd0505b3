//! Work of which tests/native/test_budget.py has the instructions counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails that way")]
#![allow(clippy::disallowed_methods, reason = "told by its environment what to do")]

use envoy_log_ingest::bucket::{Limiter, Seed};
use envoy_log_ingest::config::{Config, Mapping, Window};
use envoy_log_ingest::export::{self, Answer, Gzip, Outbox, Response};
use envoy_log_ingest::ingest::{Effect, Event, Ingest, Shared, World};
use envoy_log_ingest::memory::Store;
use envoy_log_ingest::otlp::{Encoder, Known};
use envoy_log_ingest::request::Headers;
use envoy_log_ingest::stats::{Sink, Stat};
use envoy_log_ingest::token::{self, Keyring, Signatures, Signed, Verdict};
use std::collections::HashMap;
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
        "request" => request(fixture == "remembered", times),
        _ => panic!("{what}"),
    }
}

fn read(fixture: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).with_extension("json")).unwrap()
}

fn encode(encoder: &mut Encoder, body: &mut [u8], received: Duration) -> Vec<u8> {
    let window = Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) };
    let mapping = Mapping { resource: serde_json::Map::new(), window: Some(window), max_records: 10_000 };
    encoder.encode(body, Known { sender: 1, subject: "user-1", received }, &mapping).unwrap().protobuf
}

/// From a body to OTLP.
fn map(body: &[u8], received: Duration, times: usize) {
    let mut encoder = Encoder::default();
    for _ in 0..times {
        black_box(encode(&mut encoder, black_box(&mut body.to_vec()), received));
    }
}

/// From OTLP to a compressed callout.
fn gzip(body: &[u8], times: usize) {
    let protobuf = encode(&mut Encoder::default(), &mut body.to_vec(), RECEIVED);
    let config = configured("");
    let mut outbox = Outbox::new(config.export.bounds, 0);
    outbox.park(protobuf, 100, None, RECEIVED);
    let shipment = outbox.next(RECEIVED, &mut Nobody).unwrap();
    let mut gzip = Gzip::default();
    for _ in 0..times {
        black_box(export::callout(&config.export, black_box(&shipment), &mut gzip));
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

/// What workers share, with one worker.
#[derive(Default)]
struct Memory(HashMap<String, (Vec<u8>, u32)>);

impl Store for Memory {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.0.get(key).map(|(bytes, mark)| (bytes.clone(), Some(*mark)))
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        match self.0.get_mut(key) {
            Some((_, now)) if mark.is_some_and(|mark| mark != *now) => return false,
            Some((held, now)) => (*held, *now) = (bytes.to_vec(), *now + 1),
            None => _ = self.0.insert(key.to_owned(), (bytes.to_vec(), 1)),
        }
        true
    }
}

/// A request of one record from its headers to its answer: all but the host's part and the signature's arithmetic.
fn request(is_remembered: bool, times: usize) {
    let mut batch: serde_json::Value = serde_json::from_slice(&read("full-batch-100")).unwrap();
    batch.get_mut("logs").unwrap().as_array_mut().unwrap().truncate(1);
    let body = batch.to_string().into_bytes();
    // RS256 with the claims that identity hosts put into a token, and a signature of 2048 bits.
    const HEADER: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6IjVkYzYxZTMyIn0";
    const CLAIMS: &str = "eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tL3JlYWxtcy9maWVsZCIsInN1YiI6IjNmMWM5YTUyLTdhNTMtNGYwZS05YjU1LTBjMWQ5ZDBhOGMxMSIsInNpZCI6IjlkNWIyYzdlLTE4MDAtNGI3Ni05ZDJlLTZhM2Y3ZjBlNGIxYSIsImF1ZCI6WyJmaWVsZC1hcHAiLCJhY2NvdW50Il0sImV4cCI6NDAwMDAwMDAwMCwiaWF0IjoxNzcwMzc5MjAwLCJqdGkiOiI4ZDExMGI3MC00YzM0LTQwZWMtOTFjYy1mMmU4MmUwYzJkNTYiLCJzY29wZSI6Im9wZW5pZCBwcm9maWxlIGVtYWlsIn0";
    let bearer = format!("Bearer {HEADER}.{CLAIMS}.{}", "AQEB".repeat(85) + "AQ");
    // The key of RFC 7515, A.2.
    let jwk = r#"{"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
    let provider = format!(r#"{{"name": "p", "algorithms": ["RS256"], "local_jwks": {{"keys": [{jwk}]}}}}"#);
    let cache = if is_remembered { 1024 } else { 0 };
    let bucket = r#"{"max_tokens": 1000000, "tokens_per_fill": 1000000, "fill_interval_ms": 1000}"#;
    let config = format!(
        r#"{{"auth": {{"providers": [{provider}], "cache_entries": {cache}}}, "rate_limits": {{"user": {bucket}, "session": {bucket}}}, "export": {{"cluster": "c", "authority": "a", "compression": "none"}}}}"#
    );
    let config = Config::read(config.as_bytes(), &|_| None).unwrap();
    let mut store = Memory::default();
    Limiter::prepare(&config.rate_limits, &mut store);
    let mut keyring = Keyring::new(&config.auth, 0).with_signatures(Box::new(Yes));
    let mut outbox = Outbox::new(config.export.bounds, 0);
    let (mut encoder, mut gzip) = (Encoder::default(), Gzip::default());
    let shared = Shared { config, seed: Seed::default() };
    let headers = Headers {
        method: Some(b"POST"),
        path: Some(b"/api/v1/logs"),
        authorization: Some(bearer.as_bytes()),
        content_type: Some(b"application/json"),
        ..Headers::default()
    };
    for _ in 0..times {
        let mut ingest = Ingest::new();
        let mut stats = Nobody;
        let mut world = World {
            now: RECEIVED,
            keyring: &mut keyring,
            encoder: &mut encoder,
            outbox: &mut outbox,
            store: &mut store,
            stats: &mut stats,
        };
        ingest.on(&shared, Event::Headers { headers: black_box(headers), verified: None, end: false }, &mut world);
        let read = ingest.on(&shared, Event::Buffered { bytes: body.len(), end: true }, &mut world);
        assert!(matches!(read, Effect::Read(_)));
        ingest.on(&shared, Event::Body(Some(body.clone())), &mut world);
        let shipment = world.outbox.next(RECEIVED, world.stats).unwrap();
        black_box(export::callout(&shared.config.export, &shipment, &mut gzip));
        let accepted = Response { status: Some(200), content_type: None, retry_after: None, from_backend: true, body: &[], cut: false };
        world.outbox.answered(shipment.flight, Answer::Response(accepted), RECEIVED, world.stats);
        let (_, outcome) = world.outbox.settled().unwrap();
        let answer = ingest.on(&shared, Event::Settled(outcome), &mut world);
        assert!(matches!(answer, Effect::Reply(reply) if reply.status == 200));
        ingest.on(&shared, Event::Closed, &mut world);
    }
}

fn configured(auth: &str) -> Config {
    // The key of RFC 7515, A.3.
    let jwk = r#"{"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let provider = format!(r#"{{"name": "p", "algorithms": ["ES256"], "local_jwks": {{"keys": [{jwk}]}}}}"#);
    let config = format!(r#"{{"auth": {{"providers": [{provider}]{auth}}}, "export": {{"cluster": "c", "authority": "a"}}}}"#);
    Config::read(config.as_bytes(), &|_| None).unwrap()
}
