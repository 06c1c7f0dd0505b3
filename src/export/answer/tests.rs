use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1_770_379_200);

fn answered(status: u16, content_type: &str, body: &[u8]) -> Meaning {
    let content_type = Some(content_type.as_bytes());
    judge(Answer::Response(Response { status: Some(status), content_type, body, ..Response::default() }), NOW)
}

fn json(body: &str) -> Meaning {
    answered(200, "application/json", body.as_bytes())
}

fn partial(rejected: i64, message: &str) -> Vec<u8> {
    let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message: message.to_owned() });
    ExportLogsServiceResponse { partial_success }.encode_to_vec()
}

const ALL: Meaning = Meaning::Accepted(Delivery { rejected: 0 });
const SEVEN: Meaning = Meaning::Accepted(Delivery { rejected: 7 });
const NOT_UNDERSTOOD: Meaning = Meaning::Refused(Rejection::ExportNotUnderstood);

#[test]
fn any_2xx_without_a_body_took_all_records() {
    for status in [200, 201, 202, 204, 299] {
        for content_type in [None, Some(&b"application/x-protobuf"[..]), Some(b"text/plain")] {
            assert_eq!(
                judge(Answer::Response(Response { status: Some(status), content_type, ..Response::default() }), NOW),
                ALL,
                "{status}"
            );
        }
    }
}

#[test]
fn an_otlp_response_took_all_but_what_it_says() {
    let protobuf = "application/x-protobuf";
    assert_eq!(answered(200, protobuf, &partial(0, "")), ALL);
    assert_eq!(answered(200, protobuf, &partial(0, "only a warning")), ALL);
    assert_eq!(answered(200, protobuf, &partial(7, "too old")), SEVEN);
    assert_eq!(answered(200, protobuf, &partial(i64::MAX, "")), Meaning::Accepted(Delivery { rejected: i64::MAX as u64 }));
    assert_eq!(answered(200, protobuf, &partial(-1, "")), ALL);
}

#[test]
fn the_media_type_is_read_as_http_writes_it() {
    let body = partial(7, "");
    for content_type in ["application/x-protobuf; charset=utf-8", "Application/X-Protobuf", " application/x-protobuf ;a=b"] {
        assert_eq!(answered(200, content_type, &body), SEVEN, "{content_type}");
    }
    assert_eq!(judge(Answer::Response(Response { status: Some(200), body: &body, ..Response::default() }), NOW), SEVEN);
    for content_type in ["", "application/protobuf-x", "application/octet-stream", "text/html; application/x-protobuf"] {
        assert_eq!(answered(200, content_type, &body), NOT_UNDERSTOOD, "{content_type}");
    }
}

#[test]
fn a_response_in_json_is_read_in_either_spelling() {
    for all in ["{}", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":null}"#, r#"{"partialSuccess":{"errorMessage":"a warning"}}"#] {
        assert_eq!(json(all), ALL, "{all}");
    }
    for seven in [
        r#"{"partialSuccess":{"rejectedLogRecords":"7","errorMessage":"too old"}}"#,
        r#"{"partialSuccess":{"rejectedLogRecords":7}}"#,
        r#"{"partial_success":{"rejected_log_records":"7"}}"#,
    ] {
        assert_eq!(json(seven), SEVEN, "{seven}");
    }
    assert_eq!(answered(200, "application/json; charset=utf-8", b"{}"), ALL);
}

#[test]
fn fewer_than_none_rejected_is_none_in_either_encoding() {
    assert_eq!(answered(200, "application/x-protobuf", &partial(i64::MIN, "")), ALL);
    for count in ["-1", r#""-1""#, r#""-9223372036854775808""#] {
        assert_eq!(json(&format!(r#"{{"partialSuccess":{{"rejectedLogRecords":{count}}}}}"#)), ALL, "{count}");
    }
}

#[test]
fn fields_that_a_later_otlp_adds_change_nothing_in_protobuf() {
    let mut later = partial(7, "");
    later.extend([0xfa, 0x01, 3, b'n', b'e', b'w']);
    assert_eq!(answered(200, "application/x-protobuf", &later), SEVEN);
}

#[test]
fn fields_that_a_later_otlp_adds_change_nothing_in_json() {
    let later = r#"{"partialSuccess":{"rejectedLogRecords":"7","retryable":true},"warnings":["new"]}"#;
    assert_eq!(json(later), SEVEN);
}

#[test]
fn a_count_that_cannot_be_read_is_not_taken_for_none() {
    for body in [
        r#"{"partialSuccess":{"rejectedLogRecords":"many"}}"#,
        r#"{"partialSuccess":{"rejectedLogRecords":{}}}"#,
        r#"{"partialSuccess":"everything was rejected"}"#,
    ] {
        assert_eq!(json(body), NOT_UNDERSTOOD, "{body}");
    }
}

#[test]
fn a_2xx_that_is_no_otlp_response_took_nothing() {
    let portal = b"<html><body>Please log in</body></html>";
    assert_eq!(answered(200, "text/html", portal), NOT_UNDERSTOOD);
    assert_eq!(answered(200, "text/html; charset=utf-8", b""), NOT_UNDERSTOOD);
    let cut = Response { status: Some(200), body: b"\n\0", cut: true, ..Response::default() };
    assert_eq!(judge(Answer::Response(cut), NOW), NOT_UNDERSTOOD);
    assert_eq!(judge(Answer::Response(Response { cut: false, ..cut }), NOW), ALL);
    assert_eq!(answered(200, "application/x-protobuf", portal), NOT_UNDERSTOOD);
    assert_eq!(judge(Answer::Response(Response { status: Some(200), body: portal, ..Response::default() }), NOW), NOT_UNDERSTOOD);
    assert_eq!(
        judge(Answer::Response(Response { status: Some(200), content_type: Some(b"\xff/\xfe"), body: b"\0", ..Response::default() }), NOW),
        NOT_UNDERSTOOD
    );
    assert_eq!(answered(200, "application/x-protobuf", &partial(7, "cut off")[..5]), NOT_UNDERSTOOD);
    for body in [r#"{"error":"login required"}"#, "[]", "null", "\"ok\"", "true", "{", " "] {
        assert_eq!(json(body), NOT_UNDERSTOOD, "{body}");
    }
}

/// The table in the module's documentation, row by row; what stands in the body of these changes nothing.
#[test]
fn any_other_status_means_what_the_table_says() {
    let failed = Meaning::Failed(Rejection::ExportRefused);
    let denied = Meaning::Refused(Rejection::ExportDenied);
    let rows: [(&[u16], bool, Meaning); 7] = [
        (&[400, 413, 422], true, Meaning::Unacceptable),
        (&[401, 403, 404, 402, 405, 406, 410, 411, 415, 418, 431, 451, 300, 301, 302, 304, 307, 0, 100, 199], true, denied),
        (&[408, 425], true, failed),
        (&[500, 501, 502, 504, 505, 599, 600, u16::MAX], true, failed),
        (&[429], true, Meaning::Deferred(None)),
        (&[503], true, Meaning::Deferred(None)),
        (&[503, 504, 502], false, failed),
    ];
    for (statuses, from_backend, meaning) in rows {
        for &status in statuses {
            for (content_type, body) in [("application/x-protobuf", &partial(0, "")[..]), ("application/json", b"{}"), ("", b"")] {
                let response = Response {
                    status: Some(status),
                    content_type: Some(content_type.as_bytes()),
                    from_backend,
                    body,
                    ..Response::default()
                };
                assert_eq!(judge(Answer::Response(response), NOW), meaning, "{status}");
            }
        }
    }
    assert_eq!(judge(Answer::Response(Response::default()), NOW), failed);
    assert_eq!(judge(Answer::Reset, NOW), Meaning::Failed(Rejection::ExportReset));
    assert_eq!(judge(Answer::NotDispatched, NOW), Meaning::Failed(Rejection::ExportNotDispatched));
}

#[test]
fn a_backend_says_how_long_to_wait_in_seconds_or_as_a_date() {
    for (text, seconds) in [
        ("7", Some(7)),
        (" 7 ", Some(7)),
        ("0", Some(1)),
        ("300", Some(300)),
        ("301", Some(300)),
        ("99999999999999999999999999", Some(300)),
        ("Fri, 06 Feb 2026 12:00:30 GMT", Some(30)),
        ("Fri, 06 Feb 2026 11:00:00 GMT", Some(1)),
        ("Fri, 06 Feb 2099 12:00:00 GMT", Some(300)),
        ("Friday, 06-Feb-26 12:00:30 GMT", Some(30)),
        ("", None),
        ("soon", None),
        ("-7", None),
        ("1.5", None),
        ("\u{661}", None),
    ] {
        for status in [429, 503] {
            let response = Response { status: Some(status), retry_after: Some(text.as_bytes()), from_backend: true, ..Response::default() };
            let meaning = Meaning::Deferred(seconds.map(Duration::from_secs));
            assert_eq!(judge(Answer::Response(response), NOW), meaning, "{text:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_answer_is_judged_and_only_a_2xx_can_be_a_delivery(
        status in prop::option::of(prop_oneof![Just(200), any::<u16>()]),
        content_type in prop::option::of(prop_oneof![
            Just(b"application/x-protobuf".to_vec()),
            Just(b"application/json".to_vec()),
            prop::collection::vec(any::<u8>(), 0..40),
        ]),
        retry_after in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        from_backend in any::<bool>(),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "[{}\\[\\]\":, a-z0-9]{0,40}".prop_map(String::into_bytes),
        ],
    ) {
        let response = Response { status, content_type: content_type.as_deref(), retry_after: retry_after.as_deref(), from_backend, body: &body, cut: false };
        let delivered = matches!(judge(Answer::Response(response), NOW), Meaning::Accepted(_));
        prop_assert!(!delivered || status.is_some_and(|status| (200..300).contains(&status)));
    }
}

#[test]
fn what_does_not_matter_under_a_status_changes_nothing() {
    let now = Duration::from_secs(1);
    for status in (0..=999).map(Some).chain([None]) {
        for (body, content_type) in [(&b""[..], &b"text/html"[..]), (b"{}", b"application/json"), (b"x", b"application/x-protobuf")] {
            for from_backend in [true, false] {
                let whole = Response { status, content_type: Some(content_type), retry_after: Some(b"7"), from_backend, body, cut: true };
                for whole in [whole, Response { cut: false, ..whole }] {
                    let matters = matters(status);
                    let content = if matters.content { whole } else { Response::default() };
                    let fetched = Response {
                        status,
                        retry_after: whole.retry_after.filter(|_| matters.retry_after),
                        from_backend: from_backend && matters.from_backend,
                        ..content
                    };
                    assert_eq!(judge(Answer::Response(whole), now), judge(Answer::Response(fetched), now), "{status:?}");
                }
            }
        }
    }
}
