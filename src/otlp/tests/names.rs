//! Attribute names: whose they are, which stand twice, how many there may be.

use super::*;

#[test]
fn what_belongs_to_the_filter_can_not_be_taken() {
    let names = [
        "server_received_at",
        "client_timestamp",
        "timestamp_adjustment",
        "enduser.id",
        "user.id",
        "session.id",
        "app.installation.id",
        "exception.type",
        "exception.message",
        "exception.stacktrace",
        "exception.other",
        "trace_id",
        "span_id",
        "attributes",
        "active_run",
        "active_run.run_id",
        "breadcrumbs",
        "log.record.uid",
    ];
    for name in names {
        // As an attribute before and behind the fields, and, where it isn't one of those, as a field.
        let attributes = json!({ name: "spoof" }).to_string();
        let rest = r#""timestamp":"2026-02-06T12:00:00Z","session_id":"s","user_id":"u","install_id":"i","error":"E: m","stack_trace":"st","active_run":{"run_id":"r"},"breadcrumbs":[],"trace_id":"bad","span_id":"bad""#;
        let mut bodies = vec![format!(r#"{{"attributes":{attributes},{rest}}}"#), format!(r#"{{{rest},"attributes":{attributes}}}"#)];
        if Field::named(name.as_bytes()).is_none() {
            bodies.push(format!(r#"{{"{name}":"spoof",{rest}}}"#));
        }
        for body in bodies {
            let record = record(&body);
            assert_eq!(attribute(&record, &format!("client.{name}")), text("spoof"), "{body}");
            assert_ne!(attribute(&record, name), text("spoof"), "{body}");
            assert_eq!(attribute(&record, "session.id"), text("s"));
            assert_eq!(attribute(&record, "enduser.id"), text("user-1"));
            assert_eq!(attribute(&record, "active_run.run_id"), text("r"));
        }
    }
}

#[test]
fn no_name_stands_twice_and_nothing_vanishes() {
    let record = record(r#"{"battery":1,"attributes":{"battery":2,"client.battery":3,"session.id":4},"client.battery":5}"#);
    let numbers: Vec<(String, i64)> = record
        .attributes
        .iter()
        .filter_map(|kv| match kv.value.clone()?.value? {
            Any::IntValue(int) => Some((kv.key.clone(), int)),
            _ => None,
        })
        .collect();
    let expected = [
        ("battery", 1),
        ("client.battery", 2),
        ("client.client.battery", 3),
        ("client.session.id", 4),
        ("client.client.client.battery", 5),
    ];
    assert_eq!(numbers, expected.map(|(name, int)| (name.to_owned(), int)));
}

#[test]
fn of_duplicate_keys_the_first_counts_and_the_others_are_counted() {
    let body = r#"{"logs":[{"message":"a","message":"b","attributes":{"k":1,"k":2,"o":{"x":1,"x":2}},"zzz":1,"zzz":2}]}"#;
    let record = records(body).pop().unwrap();
    assert_eq!(record.body.clone().unwrap().value, text("a"));
    assert_eq!(attribute(&record, "k"), Some(Any::IntValue(1)));
    assert_eq!(attribute(&record, "zzz"), Some(Any::IntValue(1)));
    assert_eq!(odd(body), [(Oddity::DuplicateKey, 4)]);
}

#[test]
fn both_spellings_of_a_field_are_kept() {
    let record = record(r#"{"stackTrace":null,"stack_trace":"real","installId":"i","install_id":"j"}"#);
    assert_eq!(attribute(&record, "exception.stacktrace"), text("real"));
    assert_eq!(attribute(&record, "app.installation.id"), text("i"));
    assert_eq!(attribute(&record, "install_id"), text("j"));
}

#[test]
fn attributes_are_bounded_in_number_and_name() {
    let many: Vec<String> = (0..1_100).map(|i| format!(r#""k{i}":{i}"#)).collect();
    let record = record(&format!(r#"{{"attributes":{{{}}},"session_id":"s"}}"#, many.join(",")));
    // Its own are five: when it was received, the subject, the session, its name, and why it has that time.
    assert_eq!((record.attributes.len(), record.dropped_attributes_count), (1_024, 81));
    assert_eq!(attribute(&record, "k1018"), Some(Any::IntValue(1018)));
    assert_eq!(attribute(&record, "k1019"), None);
    assert_eq!(attribute(&record, "session.id"), text("s"), "the filter's own always has room");

    let record = self::record(&format!(r#"{{"attributes":{{"{}é":1,"{}":2}}}}"#, "n".repeat(255), "m".repeat(300)));
    assert_eq!(attribute(&record, &"n".repeat(255)), Some(Any::IntValue(1)), "cut before the character that doesn't fit");
    assert_eq!(attribute(&record, &"m".repeat(256)), Some(Any::IntValue(2)));
}

#[test]
fn names_made_to_collide_cost_no_more_than_their_length() {
    let many: Vec<String> = (0..1_000).map(|i| format!(r#""{}{i}":{i}"#, "n".repeat(256))).collect();
    let record = record(&format!(r#"{{"attributes":{{{}}}}}"#, many.join(",")));
    // As many as there are ways to put `client.` before a name of 256 bytes.
    assert_eq!(record.dropped_attributes_count, 1_000 - 38);
    assert!(record.attributes.iter().all(|kv| kv.key.len() <= 256));
}

#[test]
fn a_record_that_is_full_makes_room_for_why_its_time_moved() {
    let full = |timestamp: &str| {
        let many: Vec<String> = (0..1_020).map(|i| format!(r#""k{i}":{i}"#)).collect();
        format!(r#"{{"timestamp":"{timestamp}","attributes":{{{}}}}}"#, many.join(","))
    };
    for (timestamp, adjustment, dropped) in [("2026-02-06T12:00:00Z", None, 0), ("2020-01-01T00:00:00Z", text("too_old"), 1)] {
        let body = format!(r#"{{"logs":[{},{{"message":"after"}}]}}"#, full(timestamp));
        let encoded = crate::otlp::encode(
            &mut body.into_bytes(),
            KNOWN,
            &mapping(Some(Window { past: Duration::from_secs(3_600), future: Duration::from_secs(60) })),
        )
        .unwrap();
        let records = decode(&encoded).resource_logs.pop().unwrap().scope_logs.pop().unwrap().log_records;
        let record = &records[0];
        assert_eq!((record.attributes.len(), record.dropped_attributes_count), (1_024, dropped), "{timestamp}");
        assert_eq!(attribute(record, "timestamp_adjustment"), adjustment);
        assert_eq!(attribute(record, "k1018"), Some(Any::IntValue(1_018)));
        assert_eq!(attribute(record, "k1019"), (dropped == 0).then_some(Any::IntValue(1_019)));
        assert_eq!(encoded.oddities.contains(&(Oddity::DroppedAttribute, 1)), dropped == 1);
        assert_eq!(records[1].body.clone().unwrap().value, text("after"));
    }
}

#[test]
fn a_run_and_a_service_name_always_have_room_or_say_that_they_had_none() {
    let many: Vec<String> = (0..1_024).map(|i| format!(r#""k{i}":{i}"#)).collect();
    let many = many.join(",");
    let record = record(&format!(r#"{{"attributes":{{{many}}},"active_run":{{"run_id":"r"}}}}"#));
    assert_eq!(attribute(&record, "active_run.run_id"), text("r"));
    let request = decode(&encode(&format!(r#"{{"logs":[1],"resource":{{{many},"service.name":"late"}}}}"#)));
    let names: Vec<&KeyValue> =
        request.resource_logs[0].resource.as_ref().unwrap().attributes.iter().filter(|kv| kv.key == "service.name").collect();
    assert_eq!(names.len(), 1);
}
