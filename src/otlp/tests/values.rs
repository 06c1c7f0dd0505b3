//! Values, levels, ids: what becomes of them whatever their type.

use super::*;

#[test]
fn levels_in_any_case() {
    for (level, number, severity) in [
        ("trace", 1, "TRACE"),
        ("Debug", 5, "DEBUG"),
        ("INFO", 9, "INFO"),
        ("warning", 13, "WARN"),
        ("warn", 13, "WARN"),
        ("error", 17, "ERROR"),
        ("fatal", 21, "FATAL"),
        ("Critical", 21, "FATAL"),
        ("notice", 0, "notice"),
        ("", 0, ""),
    ] {
        let record = record(&json!({ "level": level }).to_string());
        assert_eq!((record.severity_number, record.severity_text.as_str()), (number, severity), "{level}");
    }
    assert_eq!(record(r#"{"level":3}"#).severity_text, "3");
    assert_eq!((record("{}").severity_number, record("{}").severity_text.as_str()), (0, ""));
}

#[test]
fn values_keep_their_types() {
    let record = record(
        r#"{"attributes":{"s":"x","e":"","t":true,"f":false,"i":-7,"big":9007199254740993,"huge":123456789012345678901234567890,"d":0.5,"x":1e3,"over":1e999,
        "n":null,"a":[1,null,"x",[],{}],"o":{"k":{"l":[true]},"n":null}}}"#,
    );
    let any = |value| AnyValue { value };
    let pair = |key: &str, value| KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() };
    let list = |values| Some(Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values }));
    let map = |values| Some(Any::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList { values }));
    for (name, value) in [
        ("s", text("x")),
        ("e", text("")),
        ("t", Some(Any::BoolValue(true))),
        ("f", Some(Any::BoolValue(false))),
        ("i", Some(Any::IntValue(-7))),
        ("big", Some(Any::IntValue(9_007_199_254_740_993))),
        ("huge", text("123456789012345678901234567890")),
        ("d", Some(Any::DoubleValue(0.5))),
        ("x", Some(Any::DoubleValue(1000.0))),
        ("over", text("1e999")),
        ("a", list(vec![any(Some(Any::IntValue(1))), any(None), any(text("x")), any(list(vec![])), any(map(vec![]))])),
        ("o", map(vec![pair("k", map(vec![pair("l", list(vec![any(Some(Any::BoolValue(true)))]))])), pair("n", None)])),
    ] {
        assert_eq!(attribute(&record, name), value, "{name}");
    }
    assert!(record.attributes.iter().all(|kv| kv.key != "n"));
}

#[test]
fn ids_that_are_none_become_attributes() {
    for (id, valid) in [
        ("2858b245789667e5f284d6f014f510ec", true),
        ("00000000000000000000000000000000", false),
        ("2858b245789667e5f284d6f014f510e", false),
        ("2858b245789667e5f284d6f014f510eg", false),
        ("+858b245789667e5f284d6f014f510ec", false),
        ("", false),
    ] {
        let record = record(&json!({ "trace_id": id }).to_string());
        assert_eq!(record.trace_id.len(), if valid { 16 } else { 0 }, "{id}");
        assert_eq!(attribute(&record, "trace_id"), if valid { None } else { text(id) }, "{id}");
    }
    assert_eq!(attribute(&record(r#"{"span_id":5}"#), "span_id"), Some(Any::IntValue(5)));
}

#[test]
fn a_record_that_is_no_object_is_a_body() {
    let records = records(r#"{"logs":["text",42,null,[1],true]}"#);
    let bodies: Vec<Option<Any>> = records.iter().map(|r| r.body.clone().and_then(|b| b.value)).collect();
    assert_eq!(bodies[0], text("text"));
    assert_eq!(bodies[1], Some(Any::IntValue(42)));
    assert_eq!(bodies[2], None);
    assert!(matches!(&bodies[3], Some(Any::ArrayValue(list)) if list.values.len() == 1));
    for record in &records {
        assert_eq!((record.severity_number, record.time_unix_nano), (0, RECEIVED.as_nanos() as u64));
        assert_eq!(attribute(record, "enduser.id"), text("user-1"));
        assert_eq!(attribute(record, "timestamp_adjustment"), text("missing"));
    }
}

#[test]
fn fields_of_another_type_are_kept_as_what_they_are() {
    let record = record(
        r#"{"timestamp":1770379200000,"level":{"a":1},"logger":["x"],"message":17,"attributes":["a",1],"error":{"code":5},"stack_trace":["f1"],"install_id":3,
        "session_id":true,"user_id":[1],"active_run":"run","breadcrumbs":{"a":1}}"#,
    );
    assert_eq!(attribute(&record, "client_timestamp"), text("1770379200000"));
    assert_eq!(attribute(&record, "timestamp_adjustment"), text("unparsable"));
    assert_eq!(record.severity_text, r#"{"a":1}"#);
    assert_eq!(record.body.clone().unwrap().value, Some(Any::IntValue(17)));
    assert!(matches!(attribute(&record, "attributes"), Some(Any::ArrayValue(list)) if list.values.len() == 2));
    assert!(matches!(attribute(&record, "exception.message"), Some(Any::KvlistValue(_))));
    assert!(matches!(attribute(&record, "exception.stacktrace"), Some(Any::ArrayValue(_))));
    assert_eq!(attribute(&record, "app.installation.id"), Some(Any::IntValue(3)));
    assert_eq!(attribute(&record, "session.id"), Some(Any::BoolValue(true)));
    assert_eq!(attribute(&record, "active_run"), text("run"));
    assert!(matches!(attribute(&record, "breadcrumbs"), Some(Any::KvlistValue(_))));
}

#[test]
fn deep_values_become_their_text_at_the_seventeenth_level() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let depth_and_text = |value: Option<Any>| {
        let (mut depth, mut value) = (0, value);
        loop {
            match value {
                Some(Any::ArrayValue(list)) => (depth, value) = (depth + 1, list.values.into_iter().next().and_then(|any| any.value)),
                other => return (depth, other),
            }
        }
    };
    let at = |depth| depth_and_text(attribute(&record(&format!(r#"{{"attributes":{{"d":{}}}}}"#, nested(depth))), "d"));
    assert_eq!(at(16), (16, Some(Any::IntValue(1))));
    assert_eq!(at(17), (16, text("[1]")));
    assert_eq!(at(127), (16, text(&nested(111))));
    assert_eq!(odd(&format!(r#"{{"logs":[{}]}}"#, nested(17))).iter().find(|(o, _)| *o == Oddity::CutDepth), Some(&(Oddity::CutDepth, 1)));
}

#[test]
fn a_cut_emoji_costs_its_character_alone() {
    let body = r#"{"logs":[{"message":"cut \ud83d","attributes":{"\ude00":"\ud83d\ude00"}}]}"#;
    let record = records(body).pop().unwrap();
    assert_eq!(record.body.clone().unwrap().value, text("cut \u{fffd}"));
    assert_eq!(attribute(&record, "\u{fffd}"), text("😀"));
    assert_eq!(odd(body)[0], (Oddity::RepairedText, 2));
}
