//! The encoder for tests/native: those tests compare what the filter makes of a body with what the
//! official decoder and an independent statement of the rules say, and need it without an Envoy.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails that way")]

use envoy_log_ingest::config::{Mapping, Window};
use envoy_log_ingest::otlp::{self, Encoded, Known};
use envoy_log_ingest::rejection::Rejection;
use envoy_log_ingest::stats::{Oddity, Stat};
use envoy_log_ingest::token;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As many as can be configured.
const MOST_RECORDS: usize = 10_000;

/// A body, and what the server knows of it.
struct Request {
    subject: String,
    received: Duration,
    mapping: Mapping,
    body: Vec<u8>,
}

impl Request {
    fn encode(&self) -> Result<Encoded, Rejection> {
        let known = Known { sender: token::sender("", &self.subject), subject: &self.subject, received: self.received };
        otlp::encode(&mut self.body.clone(), known, &self.mapping)
    }
}

/// Reads the requests in the file that GOLDEN_REQUESTS names, writes an answer to each into the one
/// that GOLDEN_ANSWERS names.
///
/// Both files hold blocks, each behind its length in four bytes, the lowest first. A request is two
/// of them: `{"subject": …, "received": <nanoseconds>, "resource": {…}, "window": [past, future] or
/// null}` and the body. So is an answer: `{"refused": <name>}`, or `{"records": n, "odd": {<counter>:
/// n}}`; and the protobuf.
#[test]
#[ignore = "tests/native runs it, and gives it the requests"]
fn answers_to_requests() {
    let requests = std::fs::read(path("GOLDEN_REQUESTS")).unwrap();
    let mut answers = Vec::new();
    let mut rest = requests.as_slice();
    while !rest.is_empty() {
        let request = request(&mut rest);
        let (facts, protobuf) = match request.encode() {
            Ok(encoded) => (facts(&encoded), encoded.protobuf),
            Err(rejection) => (json!({"refused": rejection.name()}), Vec::new()),
        };
        for block in [facts.to_string().as_bytes(), &protobuf] {
            answers.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            answers.extend(block);
        }
    }
    std::fs::write(path("GOLDEN_ANSWERS"), answers).unwrap();
}

/// The same body gives the same bytes, or golden files would be of no use.
#[test]
fn the_same_bytes_each_time() {
    let mut seen = 0;
    for file in folder("tests/golden").chain(folder("tests/fixtures")) {
        let received = Duration::from_nanos(1_770_379_205_123_456_789);
        let mapping = Mapping { resource: serde_json::Map::new(), window: None, max_records: MOST_RECORDS };
        let request = Request { subject: "user-1".to_owned(), received, mapping, body: std::fs::read(&file).unwrap() };
        for _ in 0..5 {
            assert_eq!(request.encode(), request.encode(), "{}", file.display());
        }
        seen += 1;
    }
    assert!(seen > 10, "the golden cases are not where they are looked for");
}

fn folder(name: &str) -> impl Iterator<Item = PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
}

fn path(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set")))
}

fn request(rest: &mut &[u8]) -> Request {
    let settings: Value = serde_json::from_slice(block(rest)).unwrap();
    let seconds = |at: usize| Duration::from_secs(settings["window"][at].as_u64().unwrap());
    Request {
        subject: settings["subject"].as_str().unwrap().to_owned(),
        received: Duration::from_nanos(settings["received"].as_u64().unwrap()),
        mapping: Mapping {
            resource: settings["resource"].as_object().unwrap().clone(),
            window: (!settings["window"].is_null()).then(|| Window { past: seconds(0), future: seconds(1) }),
            max_records: MOST_RECORDS,
        },
        body: block(rest).to_vec(),
    }
}

fn block<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (length, behind) = rest.split_first_chunk::<4>().unwrap();
    let (block, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).unwrap();
    *rest = behind;
    block
}

/// What is known of a batch beside its bytes.
fn facts(encoded: &Encoded) -> Value {
    let odd: serde_json::Map<String, Value> =
        encoded.oddities.iter().map(|&(oddity, times)| (counter(oddity), Value::from(times))).collect();
    json!({"records": encoded.records, "odd": odd})
}

/// The last part of its counter's name.
fn counter(oddity: Oddity) -> String {
    Stat::Odd(oddity).name().rsplit('.').next().unwrap_or_default().to_owned()
}
