mod names;
mod tails;
mod values;

use super::*;
use crate::batch::Field;
use crate::config::Window;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Map, json};

const RECEIVED: Duration = Duration::from_millis(1_770_379_205_123);
const KNOWN: Known<'_> = Known { sender: 1, subject: "user-1", received: RECEIVED };

const MOST_RECORDS: usize = 1_000;

fn mapping(window: Option<Window>) -> Mapping {
    Mapping { resource: Map::new(), window, max_records: MOST_RECORDS }
}

fn encode(body: &str) -> Encoded {
    super::encode(&mut body.as_bytes().to_vec(), KNOWN, &mapping(None)).unwrap()
}

fn decode(encoded: &Encoded) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(&*encoded.protobuf).unwrap()
}

/// The one record of a batch, wrapped into an envelope.
fn record(record: &str) -> LogRecord {
    records(&format!(r#"{{"logs":[{record}]}}"#)).pop().unwrap()
}

fn records(body: &str) -> Vec<LogRecord> {
    decode(&encode(body)).resource_logs.into_iter().flat_map(|r| r.scope_logs).flat_map(|s| s.log_records).collect()
}

fn attribute(record: &LogRecord, name: &str) -> Option<Any> {
    let found: Vec<&KeyValue> = record.attributes.iter().filter(|kv| kv.key == name).collect();
    assert!(found.len() < 2, "{name} stands twice");
    found.first().and_then(|kv| kv.value.clone()?.value)
}

fn text(value: &str) -> Option<Any> {
    Some(Any::StringValue(value.to_owned()))
}

fn odd(body: &str) -> Vec<(Oddity, u64)> {
    encode(body).oddities
}

#[test]
fn a_record_of_either_generation_is_the_same_record() {
    let first = record(
        r#"{"timestamp":"2026-02-06T12:00:02.999Z","level":"error","logger":"Auth","message":"m","attributes":{"attempt":2},"error":"FormatException: bad",
        "stackTrace":"st","spanId":"a1b2c3d4e5f67890","traceId":"2858B245789667e5f284d6f014f510ec","installId":"i","sessionId":"s","userId":"u"}"#,
    );
    let second = record(
        r#"{"timestamp":"2026-02-06T12:00:02.999Z","level":"error","logger":"Auth","message":"m","attributes":{"attempt":2},"error":"FormatException: bad",
        "stack_trace":"st","span_id":"a1b2c3d4e5f67890","trace_id":"2858b245789667e5f284d6f014f510ec","install_id":"i","session_id":"s","user_id":"u"}"#,
    );
    let but_its_name = |record: &LogRecord| {
        let mut record = record.clone();
        record.attributes.retain(|pair| pair.key != "log.record.uid");
        assert!(record.attributes.len() < first.attributes.len());
        record
    };
    assert_eq!(but_its_name(&first), but_its_name(&second));
    assert_eq!(first.time_unix_nano, 1_770_379_202_999_000_000);
    assert_eq!(first.observed_time_unix_nano, first.time_unix_nano);
    assert_eq!((first.severity_number, first.severity_text.as_str()), (17, "ERROR"));
    assert_eq!(first.body, Some(AnyValue { value: text("m") }));
    assert_eq!(first.trace_id, [0x28, 0x58, 0xb2, 0x45, 0x78, 0x96, 0x67, 0xe5, 0xf2, 0x84, 0xd6, 0xf0, 0x14, 0xf5, 0x10, 0xec]);
    assert_eq!(first.span_id, [0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x78, 0x90]);
    for (name, value) in [
        ("client_timestamp", "2026-02-06T12:00:02.999Z"),
        ("server_received_at", "2026-02-06T12:00:05.123Z"),
        ("exception.type", "FormatException"),
        ("exception.message", "bad"),
        ("exception.stacktrace", "st"),
        ("app.installation.id", "i"),
        ("session.id", "s"),
        ("user.id", "u"),
        ("enduser.id", "user-1"),
    ] {
        assert_eq!(attribute(&first, name), text(value), "{name}");
    }
    assert_eq!(attribute(&first, "attempt"), Some(Any::IntValue(2)));
    assert_eq!(first.attributes.len(), 11);
}

#[test]
fn scopes_come_in_the_order_of_their_first_record() {
    let request = decode(&encode(
        r#"{"logs":[{"logger":"B","message":1},{"logger":"A","message":2},{"message":3},{"logger":"B","message":4},{"logger":null,"message":5},{"logger":7}]}"#,
    ));
    let scopes: Vec<(String, usize)> =
        request.resource_logs[0].scope_logs.iter().map(|s| (s.scope.clone().unwrap_or_default().name, s.log_records.len())).collect();
    assert_eq!(scopes, [("B".to_owned(), 2), ("A".to_owned(), 1), (String::new(), 2), ("7".to_owned(), 1)]);
}

#[test]
fn a_run_is_told_by_its_parts() {
    let record = record(r#"{"active_run":{"thread_id":"t-19","run_id":null,"later":{"x":1},"thread_id":"again"}}"#);
    assert_eq!(attribute(&record, "active_run.thread_id"), text("t-19"));
    assert_eq!(attribute(&record, "active_run.run_id"), None);
    assert!(matches!(attribute(&record, "active_run.later"), Some(Any::KvlistValue(_))));
}

#[test]
fn the_resource_is_the_clients_with_the_operators_over_it() {
    let mut mapping = mapping(None);
    mapping.resource = json!({"deployment.environment.name": "prod", "list": ["a", 1.5], "n": 3}).as_object().unwrap().clone();
    let resource = |body: &str, mapping: &Mapping| {
        let encoded = super::encode(&mut body.as_bytes().to_vec(), KNOWN, mapping).unwrap();
        let attributes = decode(&encoded).resource_logs.pop().unwrap().resource.unwrap().attributes;
        attributes.into_iter().map(|kv| (kv.key, kv.value.and_then(|v| v.value))).collect::<Vec<_>>()
    };
    let both = resource(r#"{"logs":[1],"resource":{"service.name":"app","deployment.environment.name":"dev","x":null,"y":[1]}}"#, &mapping);
    let find = |name: &str| both.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect::<Vec<_>>();
    assert_eq!(find("service.name"), [text("app")]);
    assert_eq!(find("deployment.environment.name"), [text("prod")]);
    assert_eq!(find("client.deployment.environment.name"), [text("dev")]);
    assert_eq!(find("n"), [Some(Any::IntValue(3))]);
    assert!(matches!(&find("list")[..], [Some(Any::ArrayValue(list))] if list.values.len() == 2));
    assert!(find("x").is_empty());
    for (body, name) in [
        (r#"{"logs":[1]}"#, "unknown_service"),
        (r#"{"logs":[1],"resource":null}"#, "unknown_service"),
        (r#"{"logs":[1],"resource":{"service.name":null}}"#, "unknown_service"),
        (r#"{"logs":[1],"resource":{"service.name":"late"}}"#, "late"),
    ] {
        let plain = resource(body, &self::mapping(None));
        assert_eq!(
            plain.iter().filter(|(key, _)| key == "service.name").map(|(_, v)| v.clone()).collect::<Vec<_>>(),
            [text(name)],
            "{body}"
        );
    }
    assert!(resource(r#"{"logs":[1],"resource":[1]}"#, &self::mapping(None)).iter().any(|(key, _)| key == "resource"));
}

#[test]
fn a_wrong_clock_moves_the_batch_and_leaves_the_evidence() {
    let window = Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) };
    let body = r#"{"logs":[{"timestamp":"2026-02-06T15:00:00.000Z"},{"timestamp":"2026-02-06T14:59:50.000Z"},{"timestamp":"1970-01-01T00:00:00Z"},{}]}"#;
    let encoded = super::encode(&mut body.as_bytes().to_vec(), KNOWN, &mapping(Some(window))).unwrap();
    let records = decode(&encoded).resource_logs.pop().unwrap().scope_logs.pop().unwrap().log_records;
    let received = RECEIVED.as_nanos() as u64;
    let times: Vec<u64> = records.iter().map(|r| r.time_unix_nano).collect();
    assert_eq!(times, [received, received - 10_000_000_000, received - 84_600_000_000_000, received]);
    let why: Vec<Option<Any>> = records.iter().map(|r| attribute(r, "timestamp_adjustment")).collect();
    assert_eq!(why, [text("clock_drift"), text("clock_drift"), text("too_old"), text("missing")]);
    assert_eq!(records[0].observed_time_unix_nano, 1_770_390_000_000_000_000);
    assert_eq!(attribute(&records[0], "client_timestamp"), text("2026-02-06T15:00:00.000Z"));
    assert_eq!(encoded.oddities, [(Oddity::MovedTimestamp, 3)]);
}

#[test]
fn fields_in_another_order_than_the_last_records_are_read_all_the_same() {
    let records = records(
        r#"{"logs":[{"level":"info","message":"a","userId":"u"},{"level":"warn","message":"b","userId":"v"},{"message":"c","level":"debug"},
        { "message":"d" , "user_id":"w"},{},{"level":"info","level":"warn","message":"e"},{"level":"info","levels":1,"message":"f"},{"message":"g"}]}"#,
    );
    let read = |record: &LogRecord| (record.severity_number, record.body.clone().and_then(|body| body.value), attribute(record, "user.id"));
    let expected = [
        (9, text("a"), text("u")),
        (13, text("b"), text("v")),
        (5, text("c"), None),
        (0, text("d"), text("w")),
        (0, None, None),
        (9, text("e"), None),
        (9, text("f"), None),
        (0, text("g"), None),
    ];
    assert_eq!(records.iter().map(read).collect::<Vec<_>>(), expected);
    for broken in [r#"{"level";"warn"}"#, r#"{"level":"warn";"message":"b"}"#, r#"{"level":"warn" "message":"b"}"#, r#"["level":"warn"]"#] {
        let body = format!(r#"{{"logs":[{{"level":"info","message":"a"}},{broken}]}}"#);
        assert_eq!(super::encode(&mut body.into_bytes(), KNOWN, &mapping(None)), Err(Rejection::BodyNotJson), "{broken}");
    }
}

#[test]
fn records_are_bounded_in_number() {
    let body = |count: usize| format!(r#"{{"logs":[{}]}}"#, vec!["1"; count].join(","));
    assert_eq!(encode(&body(MOST_RECORDS)).records, MOST_RECORDS as u64);
    let refused = super::encode(&mut body(MOST_RECORDS + 1).into_bytes(), KNOWN, &mapping(None));
    assert_eq!(refused, Err(Rejection::TooManyRecords));
}

#[test]
fn an_empty_batch_is_nothing_to_send() {
    let encoded = encode(r#"{"logs":[]}"#);
    assert_eq!((encoded.records, encoded.protobuf.len()), (0, 0));
}

#[test]
fn the_session_of_a_batch_is_the_first_that_is_named() {
    assert_eq!(encode(r#"{"logs":[{},{"sessionId":null},{"session_id":"a"},{"sessionId":"b"}]}"#).session, Some(b"a".to_vec()));
    assert_eq!(encode(r#"{"logs":[{"sessionId":5}]}"#).session, None);
}

#[test]
fn a_record_of_the_first_moment_of_1970_is_in_canonical_bytes_too() {
    let encoded = encode(r#"{"logs":[{"timestamp":"1970-01-01T00:00:00Z"}]}"#);
    let decoded = decode(&encoded);
    let record = &decoded.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (0, 0));
    assert_eq!(attribute(record, "client_timestamp"), text("1970-01-01T00:00:00Z"));
    assert_eq!(decoded.encode_to_vec(), encoded.protobuf);
}

#[test]
fn encoded_requests_can_be_concatenated() {
    let (one, two) = (encode(r#"{"logs":[{"message":"a"}]}"#), encode(r#"{"logs":[{"message":"b"}]}"#));
    let both = [one.protobuf.clone(), two.protobuf.clone()].concat();
    let decoded = ExportLogsServiceRequest::decode(&*both).unwrap();
    assert_eq!(decoded.resource_logs, [decode(&one).resource_logs, decode(&two).resource_logs].concat());
}

proptest! {
    /// Canonical: prost reads it and writes the same bytes. Deterministic: so does the filter.
    #[test]
    fn any_record_is_delivered_in_canonical_bytes(values in proptest::collection::vec(crate::batch::tests::any_json(), 0..5)) {
        let body = format!(r#"{{"logs":[{}]}}"#, values.join(","));
        let encoded = encode(&body);
        prop_assert_eq!(encoded.records, values.len() as u64);
        prop_assert_eq!(&encoded, &encode(&body));
        let decoded = decode(&encoded);
        prop_assert_eq!(decoded.encode_to_vec(), encoded.protobuf);
    }

    #[test]
    fn any_field_of_any_type_is_delivered(name in "timestamp|level|logger|message|attributes|error|stackTrace|trace_id|spanId|install_id|sessionId|user_id|active_run|breadcrumbs|other", value in crate::batch::tests::any_json()) {
        let encoded = encode(&format!(r#"{{"logs":[{{"{name}":{value}}}],"resource":{value}}}"#));
        prop_assert_eq!(encoded.records, 1);
        prop_assert_eq!(decode(&encoded).encode_to_vec(), encoded.protobuf);
    }

    #[test]
    fn no_bytes_trap(mut body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = super::encode(&mut body, KNOWN, &mapping(None));
    }
}
