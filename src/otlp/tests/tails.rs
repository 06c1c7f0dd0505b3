//! Records that end as the one before did.

use super::*;

const LONG: &str = r#""c0a8f3de-5a3b-4f55-b6d0-97b1f4e2a6c3""#;

/// A record's fields: names that mean something and one that doesn't, with values of which many repeat.
fn field() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "installId",
        "install_id",
        "sessionId",
        "session_id",
        "userId",
        "user_id",
        "error",
        "trace_id",
        "traceId",
        "active_run",
        "breadcrumbs",
        "attributes",
        "other",
        "message",
        "timestamp",
    ]);
    let value = prop::sample::select(vec!["null", "null", LONG, LONG, r#""a""#, "7", r#"{"a":1}"#, r#"{"session.id":"x"}"#]);
    (name, value, prop::sample::select(vec!["", "", " "])).prop_map(|(name, value, space)| format!(r#""{name}":{space}{value}"#))
}

/// Some ends, and records that have one of them.
fn batch() -> impl Strategy<Value = Vec<String>> {
    let ends = prop::collection::vec(prop::collection::vec(field(), 1..7), 1..3);
    let records = prop::collection::vec((prop::collection::vec(field(), 0..3), any::<prop::sample::Index>()), 2..8);
    (ends, records).prop_map(|(ends, records)| {
        let record =
            |(begin, end): (Vec<String>, prop::sample::Index)| format!("{{{}}}", [begin, end.get(&ends).clone()].concat().join(","));
        records.into_iter().map(record).collect()
    })
}

fn body(records: &[String]) -> String {
    format!(r#"{{"logs":[{}]}}"#, records.join(","))
}

/// But for its name, which tells its place among records of the same text.
fn unnamed(body: &str) -> Vec<LogRecord> {
    let mut records = super::records(body);
    records.iter_mut().for_each(|record| record.attributes.retain(|pair| pair.key != "log.record.uid"));
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_record_is_the_same_in_company_as_alone(batch in batch()) {
        let alone: Vec<String> = batch.iter().map(|record| body(std::slice::from_ref(record))).collect();
        let together = encode(&body(&batch));
        prop_assert_eq!(unnamed(&body(&batch)), alone.iter().flat_map(|body| unnamed(body)).collect::<Vec<_>>());
        prop_assert_eq!(&together.session, &alone.iter().find_map(|body| encode(body).session));
        let mut oddities = Tally::default();
        alone.iter().flat_map(|body| odd(body)).for_each(|(oddity, times)| oddities.add(oddity, times));
        prop_assert_eq!(together.oddities, oddities.seen());
    }
}

#[test]
fn an_end_that_is_remembered_from_a_record_with_too_much_is_not_mistaken() {
    let many: String = (0..2_000).map(|i| format!(r#""a{i}":{i},"#)).collect();
    let end = format!(r#""install_id":{LONG},"session_id":{LONG}}}"#);
    let batch = [format!("{{{many}{end}"), format!("{{{many}{end}"), format!("{{{end}"), format!("{{{end}")];
    let alone: Vec<LogRecord> = batch.iter().flat_map(|record| unnamed(&body(std::slice::from_ref(record)))).collect();
    assert_eq!(unnamed(&body(&batch)), alone);
    assert_eq!(alone[0].attributes.len(), 1_024 - 1);
}

#[test]
fn memory_is_used_again_and_what_was_in_it_is_not() {
    let mut encoder = Encoder::default();
    let large = body(&vec![format!(r#"{{"message":{LONG},"install_id":{LONG},"a":{LONG}}}"#); 300]);
    for body in [&large, &body(&["{}".to_owned()]), "{", &large, "7", &body(&[]), &large] {
        let once = super::super::encode(&mut body.as_bytes().to_vec(), KNOWN, &mapping(None));
        assert_eq!(encoder.encode(&mut body.as_bytes().to_vec(), KNOWN, &mapping(None)), once);
    }
}
