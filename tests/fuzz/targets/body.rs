//! A client's body: what is refused, what is delivered, and that nothing in it poses as the filter.
//!
//! The input is the body. What is expected of it is worked out here by other means: serde_json says
//! what is JSON and what stands in the envelope, prost what the output holds.

#![no_main]

use envoy_log_ingest::batch;
use envoy_log_ingest::config::{Config, Mapping};
use envoy_log_ingest::otlp::{Encoder, Encoded, Known};
use envoy_log_ingest::rejection::Rejection;
use envoy_log_ingest::stats::Oddity;
use envoy_log_ingest::token;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

fuzz_target!(|body: &[u8]| {
    let expected = Expected::of(body);
    repair(body);
    for case in CASES.iter() {
        case.check(body, &expected);
    }
});

/// What the server knows beside the body.
struct Case {
    subject: &'static str,
    received: Duration,
    mapping: Mapping,
}

/// Two usual ones, and the edges of what the clock can be: 1970 and 2554.
static CASES: LazyLock<[Case; 4]> = LazyLock::new(|| {
    let february = Duration::from_millis(1_770_379_205_123);
    [
        Case { subject: "user-1", received: february, mapping: mapping(r#"{"window":null}"#) },
        Case { subject: "user-1", received: february, mapping: mapping("{}") },
        Case {
            subject: "\u{0}söme\none, 'else'",
            received: Duration::ZERO,
            mapping: mapping(
                r#"{"window":{"past_seconds":1,"future_seconds":1},"resource":{"service.name":"gateway","a":[1,{"b":null}],"client.a":0.5}}"#,
            ),
        },
        Case {
            subject: "9",
            received: Duration::from_nanos(u64::MAX),
            mapping: mapping(r#"{"window":{"past_seconds":31622400000,"future_seconds":31622400000}}"#),
        },
    ]
});

fn mapping(mapping: &str) -> Mapping {
    let config = format!(
        r#"{{"auth":{{"providers":[{{"name":"p","algorithms":["HS256"],"hmac_secret_env":"SECRET"}}]}},
        "export":{{"cluster":"c","authority":"a"}},"mapping":{mapping}}}"#
    );
    let environment = |_: &str| Some("a secret of thirty-two bytes or more".to_owned());
    Config::read(config.as_bytes(), &environment).unwrap().mapping
}

/// What a body should come to.
#[derive(Debug)]
enum Expected {
    /// It is no JSON, or may count as none: it is nested deeper than must be followed.
    NotJson { perhaps: Option<Box<Expected>> },
    /// It is no object with an array `logs`.
    NoLogs,
    /// So many records.
    Records(u64),
}

/// Nesting that is certainly read: docs/mapping.md says about 200.
const READ: usize = 190;

impl Expected {
    fn of(body: &[u8]) -> Expected {
        // The grammar alone: neither numbers nor escapes are looked into, nor depth bounded.
        let json = std::str::from_utf8(body).ok().filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let Some(json) = json else { return Expected::NotJson { perhaps: None } };
        let expected = records(json).map_or(Expected::NoLogs, Expected::Records);
        if depth(json) > READ { Expected::NotJson { perhaps: Some(Box::new(expected)) } } else { expected }
    }

    fn fits(&self, result: &Result<Encoded, Rejection>) -> bool {
        match (self, result) {
            (Expected::NotJson { .. }, Err(Rejection::BodyNotJson)) => true,
            (Expected::NotJson { perhaps: Some(other) }, result) => other.fits(result),
            (Expected::NoLogs, Err(Rejection::EnvelopeWithoutLogs)) => true,
            (Expected::Records(records), Ok(encoded)) => *records == encoded.records,
            (Expected::Records(records), Err(Rejection::TooManyRecords)) => *records > 1_000,
            _ => false,
        }
    }
}

/// How many elements the arrays `logs` of the envelope have together; `None`: there is no such array.
fn records(json: &str) -> Option<u64> {
    let logs = members(json).into_iter().filter(|(name, value)| is_logs(name) && value.starts_with('['));
    let elements = logs.map(|(_, value)| serde_json::from_str::<Vec<IgnoredAny>>(value).expect("a part of what is JSON").len() as u64);
    elements.reduce(|sum, elements| sum + elements)
}

fn is_logs(name: &str) -> bool {
    serde_json::from_str::<String>(name).is_ok_and(|name| name == "logs")
}

/// The names and values of a JSON object as they stand in its text; none, where it is no object.
fn members(json: &str) -> Vec<(&str, &str)> {
    let mut members = Vec::new();
    let (mut begin, mut name) = (0, None);
    structure(json, |at, byte, depth| match byte {
        b'{' if depth == 1 => begin = at + 1,
        b':' if depth == 1 => (name, begin) = (Some(&json[begin..at]), at + 1),
        b',' | b'}' if depth == 1 => {
            members.extend(name.take().map(|name| (name.trim(), json[begin..at].trim())));
            begin = at + 1;
        }
        _ => {}
    });
    members
}

/// How deeply a JSON text is nested.
fn depth(json: &str) -> usize {
    let mut deepest = 0;
    structure(json, |_, _, depth| deepest = deepest.max(depth));
    deepest
}

/// Each byte of a JSON text outside of its strings: where it stands, and in how many containers;
/// those that begin or end one are within it.
fn structure(json: &str, mut each: impl FnMut(usize, u8, usize)) {
    let (mut depth, mut string, mut escape) = (0, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escape => escape = false,
            b'\\' => escape = true,
            b'"' => string = !string,
            _ if string => {}
            _ => {
                depth += usize::from(matches!(byte, b'[' | b'{'));
                each(at, byte, depth);
                depth -= usize::from(matches!(byte, b']' | b'}'));
            }
        }
    }
}

/// Repairing changes no length, has an end, and leaves alone what was whole.
fn repair(body: &[u8]) {
    let mut repaired = body.to_vec();
    let times = batch::repair(&mut repaired);
    assert_eq!(repaired.len(), body.len());
    assert_eq!(times > 0, repaired != body);
    assert_eq!(batch::repair(&mut repaired), 0);
    if serde_json::from_slice::<Value>(body).is_ok() {
        assert_eq!(times, 0, "serde_json takes no lone surrogate, and took this");
    }
}

impl Case {
    fn encode(&self, encoder: &mut Encoder, body: &[u8]) -> Result<Encoded, Rejection> {
        let known = Known { sender: token::sender("", self.subject), subject: self.subject, received: self.received };
        encoder.encode(&mut body.to_vec(), known, &self.mapping)
    }

    fn check(&self, body: &[u8], expected: &Expected) {
        let mut encoder = Encoder::default();
        let result = self.encode(&mut encoder, body);
        assert!(expected.fits(&result), "expected {expected:?}, got {:?}", result.map(|encoded| encoded.records));
        let Ok(encoded) = result else { return };
        // In the same memory, where something is known of it.
        assert_eq!(self.encode(&mut encoder, body).as_ref(), Ok(&encoded), "the same input, other bytes");
        if encoded.records == 0 {
            assert!(encoded.protobuf.is_empty());
            return;
        }
        let request = ExportLogsServiceRequest::decode(&*encoded.protobuf).expect("protobuf");
        assert!(request.encode_to_vec() == encoded.protobuf, "not as prost writes it");
        let [logs] = &request.resource_logs[..] else { panic!("{} resources", request.resource_logs.len()) };
        assert_eq!(logs.schema_url, "");
        self.resource(logs.resource.as_ref().expect("a resource"));
        scopes(&logs.scope_logs);
        let records: Vec<&LogRecord> = logs.scope_logs.iter().flat_map(|scope| &scope.log_records).collect();
        assert_eq!(records.len() as u64, encoded.records);
        for record in &records {
            self.record(record);
        }
        named(&records);
        if let Some(session) = &encoded.session {
            let session = std::str::from_utf8(session).expect("a session id is text");
            assert!(records.iter().any(|record| text(&record.attributes, "session.id") == Some(session)));
        }
        let adjusted = records.iter().filter(|record| adjustment(record).is_some_and(|why| !matches!(why, "missing" | "unparsable")));
        assert_eq!(adjusted.count() as u64, times(&encoded, Oddity::MovedTimestamp));
        nothing_is_lost(body, &encoded);
    }

    fn resource(&self, resource: &Resource) {
        attributes(&resource.attributes);
        for name in self.mapping.resource.keys().map(String::as_str).chain(["service.name"]) {
            assert!(resource.attributes.iter().any(|attribute| attribute.key == name), "no {name}");
        }
        if let Some(Value::String(configured)) = self.mapping.resource.get("service.name") {
            assert_eq!(text(&resource.attributes, "service.name"), Some(&**configured));
        }
    }

    fn record(&self, record: &LogRecord) {
        attributes(&record.attributes);
        assert_eq!(text(&record.attributes, "enduser.id"), Some(self.subject));
        assert!(text(&record.attributes, "server_received_at").is_some_and(|at| at.ends_with('Z') && at.len() == 24));
        let (number, name) = (record.severity_number, record.severity_text.as_str());
        let known = [(1, "TRACE"), (5, "DEBUG"), (9, "INFO"), (13, "WARN"), (17, "ERROR"), (21, "FATAL")];
        assert!(number == 0 || known.contains(&(number, name)), "severity {number} {name}");
        for (id, len) in [(&record.trace_id, 16), (&record.span_id, 8)] {
            assert!(id.is_empty() || (id.len() == len && id.iter().any(|&b| b != 0)), "an id of {} bytes", id.len());
        }
        assert_eq!((record.flags, record.event_name.as_str()), (0, ""));
        self.time(record);
    }

    fn time(&self, record: &LogRecord) {
        let (time, observed) = (record.time_unix_nano, record.observed_time_unix_nano);
        let received = self.received.as_nanos() as u64;
        let window = self.mapping.window;
        match (adjustment(record), window) {
            (None, _) => assert_eq!(time, observed, "moved, and not said so"),
            (Some("missing" | "unparsable"), _) => assert_eq!((time, observed), (received, received)),
            (Some("clock_drift" | "too_old" | "too_new"), Some(_)) => {}
            (Some(other), _) => panic!("adjusted: {other}"),
        }
        assert_eq!(text(&record.attributes, "client_timestamp").is_none(), adjustment(record) == Some("missing"));
        if let Some(window) = window {
            let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            let (oldest, newest) = (received.saturating_sub(nanos(window.past)), received.saturating_add(nanos(window.future)));
            assert!((oldest..=newest).contains(&time), "{time} is outside of {oldest} to {newest}");
        }
    }
}

/// Each record has a name, and no two have the same.
fn named(records: &[&LogRecord]) {
    let uids = records.iter().filter_map(|record| text(&record.attributes, "log.record.uid"));
    let uids: HashSet<&str> = uids.filter(|uid| uid.len() == 32 && uid.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    assert_eq!(uids.len(), records.len());
}

fn adjustment(record: &LogRecord) -> Option<&str> {
    text(&record.attributes, "timestamp_adjustment")
}

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    match attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

fn times(encoded: &Encoded, oddity: Oddity) -> u64 {
    encoded.oddities.iter().find(|(odd, _)| *odd == oddity).map_or(0, |(_, times)| *times)
}

/// Names that are made longer by `client.` may be that much longer than what is cut.
const LONGEST_NAME: usize = 256 + 7 * 7;

/// No name twice, none too long, and each with a value.
fn attributes(attributes: &[KeyValue]) {
    let mut names = HashSet::new();
    for KeyValue { key, value, .. } in attributes {
        assert!(names.insert(key), "{key:?} stands twice");
        assert!(key.len() <= LONGEST_NAME, "a name of {} bytes", key.len());
        let value = value.as_ref().expect("a value");
        assert!(value.value.is_some(), "{key:?} has none");
        bounded(value, 16);
    }
    assert!(attributes.len() <= 1_024);
}

/// At most so many containers within each other, and no key twice in one.
fn bounded(value: &AnyValue, levels: usize) {
    match &value.value {
        Some(Any::ArrayValue(array)) => {
            assert!(levels > 0, "nested too deeply");
            array.values.iter().for_each(|value| bounded(value, levels - 1));
        }
        Some(Any::KvlistValue(list)) => {
            assert!(levels > 0, "nested too deeply");
            let mut names = HashSet::new();
            for KeyValue { key, value, .. } in &list.values {
                assert!(names.insert(key), "{key:?} stands twice");
                bounded(value.as_ref().expect("a value"), levels - 1);
            }
        }
        _ => {}
    }
}

/// Each logger once, with records.
fn scopes(scopes: &[ScopeLogs]) {
    let mut names = HashSet::new();
    for scope in scopes {
        let name = &scope.scope.as_ref().expect("a scope").name;
        assert!(names.insert(name), "the scope {name:?} stands twice");
        assert!(!scope.log_records.is_empty());
    }
}

/// Every text of every record stands somewhere in the output, where serde_json can read the records
/// and nothing had to give way.
fn nothing_is_lost(body: &[u8], encoded: &Encoded) {
    let gives_way = [Oddity::DuplicateKey, Oddity::DroppedAttribute, Oddity::CutDepth];
    if gives_way.iter().any(|&oddity| times(encoded, oddity) > 0) {
        return;
    }
    let Ok(Value::Object(envelope)) = serde_json::from_slice::<Value>(body) else { return };
    let Some(Value::Array(records)) = envelope.get("logs") else { return };
    let mut texts = HashSet::new();
    for record in records {
        match record {
            Value::Object(fields) => {
                // Levels and ids are translated, and an error is split in two.
                let translated = ["level", "traceId", "trace_id", "spanId", "span_id", "error"];
                for (name, value) in fields.iter().filter(|(name, _)| !translated.contains(&name.as_str())) {
                    let name: &str = if value.is_null() { "" } else { name };
                    if batch::Field::named(name.as_bytes()).is_none() && name.len() <= 256 {
                        texts.insert(name);
                    }
                    collect(value, &mut texts);
                }
                if let Some(Value::String(error)) = fields.get("error") {
                    texts.extend(error.splitn(2, ": "));
                }
            }
            value => collect(value, &mut texts),
        }
    }
    for text in texts.into_iter().take(64) {
        assert!(contains(&encoded.protobuf, text.as_bytes()), "{text:?} is lost");
    }
}

fn collect<'a>(value: &'a Value, texts: &mut HashSet<&'a str>) {
    match value {
        Value::String(text) => drop(texts.insert(text)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}
