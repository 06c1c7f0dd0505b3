//! The backend's answer: only one that says that the records were taken is a delivery.
//!
//! The first line of the input is a status, or `reset`, and perhaps a content type; the rest is the
//! body. Whatever it says, the same bytes are also sent as the message of an answer that is right.

#![no_main]

use envoy_log_ingest::export::answer::judge;
use envoy_log_ingest::export::{Answer, Delivery, Meaning, Response};
use envoy_log_ingest::rejection::Rejection;
use envoy_log_ingest::reply;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use prost::Message;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1_770_379_200);

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&b| b == b'\n');
    let (line, body) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 1..]));
    let space = line.iter().position(|&b| b == b' ');
    let (status, content_type) = space.map_or((line, None), |space| (&line[..space], Some(&line[space + 1..])));
    as_it_comes(status, content_type, body);
    as_it_should_be(body);
});

fn as_it_comes(status: &[u8], content_type: Option<&[u8]>, body: &[u8]) {
    if status == b"reset" {
        assert_eq!(judge(Answer::Reset, NOW), Meaning::Failed(Rejection::ExportReset));
        return;
    }
    let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
    let response = Response { status, content_type, retry_after: Some(body), from_backend: body.len() % 2 == 0, body, cut: false };
    let meaning = judge(Answer::Response(response), NOW);
    match (meaning, status) {
        (Meaning::Deferred(wait), Some(429)) => waits(wait, body),
        (Meaning::Deferred(wait), Some(503)) if response.from_backend => waits(wait, body),
        (meaning, status) => assert_eq!(meaning, expected(status, &response), "judged by what it says"),
    }
}

/// What an answer means that doesn't say when to come back.
fn expected(status: Option<u16>, response: &Response<'_>) -> Meaning {
    match status {
        Some(200..300) => {
            said(response.content_type, response.body).map_or(Meaning::Refused(Rejection::ExportNotUnderstood), Meaning::Accepted)
        }
        Some(400 | 413 | 422) => Meaning::Unacceptable,
        Some(429) => panic!("not deferred"),
        Some(503) if response.from_backend => panic!("not deferred"),
        None | Some(408 | 425 | 500..) => Meaning::Failed(Rejection::ExportRefused),
        Some(_) => Meaning::Refused(Rejection::ExportDenied),
    }
}

/// Seconds are taken by the word, within bounds; a date is within them too.
fn waits(wait: Option<Duration>, retry_after: &[u8]) {
    assert!(wait.is_none_or(|wait| (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&wait)), "{wait:?}");
    if let Some(seconds) = std::str::from_utf8(retry_after).ok().and_then(|text| text.parse::<u64>().ok())
        && !retry_after.starts_with(b"+")
    {
        assert_eq!(wait, Some(Duration::from_secs(seconds.clamp(1, 300))));
    }
}

/// What a 2xx says, if it is an OTLP response.
fn said(content_type: Option<&[u8]>, body: &[u8]) -> Option<Delivery> {
    let media_type = content_type.map(|value| {
        let text = String::from_utf8_lossy(value);
        text.split(';').next().unwrap().trim_matches(|c: char| c.is_ascii_whitespace()).to_ascii_lowercase()
    });
    if body.is_empty() {
        return (media_type.as_deref() != Some("text/html")).then_some(Delivery { rejected: 0 });
    }
    match media_type.as_deref() {
        None | Some("application/x-protobuf") => {
            let response = ExportLogsServiceResponse::decode(body).ok()?;
            let rejected = response.partial_success.unwrap_or_default().rejected_log_records;
            Some(Delivery { rejected: rejected.max(0) as u64 })
        }
        Some("application/json") => {
            let Value::Object(response) = serde_json::from_slice(body).ok()? else { return None };
            json_response(&response)
        }
        _ => None,
    }
}

/// Protobuf's JSON. An object that says nothing of a partial success is a response only if it says
/// nothing else either: it might be an error's.
fn json_response(response: &serde_json::Map<String, Value>) -> Option<Delivery> {
    let partial = match ["partialSuccess", "partial_success"].into_iter().find_map(|name| response.get(name)) {
        None => return response.is_empty().then_some(Delivery { rejected: 0 }),
        Some(Value::Null) => return Some(Delivery { rejected: 0 }),
        Some(Value::Object(partial)) => partial,
        Some(_) => return None,
    };
    let rejected = match partial.get("rejectedLogRecords").or_else(|| partial.get("rejected_log_records")) {
        None | Some(Value::Null) => 0,
        Some(Value::Number(number)) => number.as_i64()?,
        Some(Value::String(digits)) => digits.parse::<i64>().ok()?,
        Some(_) => return None,
    };
    Some(Delivery { rejected: rejected.max(0) as u64 })
}

/// A response made of the same bytes, in both encodings, says what was put in.
fn as_it_should_be(bytes: &[u8]) {
    let number = bytes.first_chunk().map_or(0, |chunk| i64::from_le_bytes(*chunk));
    let message = String::from_utf8_lossy(bytes).into_owned();
    let expected = Meaning::Accepted(Delivery { rejected: number.max(0) as u64 });
    let as_json = json!({"partialSuccess": {"rejectedLogRecords": number.to_string(), "errorMessage": message}}).to_string();
    let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: number, error_message: message });
    let as_protobuf = ExportLogsServiceResponse { partial_success }.encode_to_vec();
    for (content_type, body) in [("application/x-protobuf", as_protobuf), ("application/json; charset=utf-8", as_json.into_bytes())] {
        let content_type = Some(content_type.as_bytes());
        let answer = |status| Answer::Response(Response { status: Some(status), content_type, body: &body, ..Response::default() });
        assert_eq!(judge(answer(200), NOW), expected);
        assert_eq!(judge(answer(503), NOW), Meaning::Failed(Rejection::ExportRefused));
    }
    let records = u64::from(*bytes.last().unwrap_or(&0));
    let reply = reply::accept(records, Delivery { rejected: number.max(0) as u64 });
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(body["accepted"].as_u64().unwrap() + body["rejected"].as_u64().unwrap(), records);
}
