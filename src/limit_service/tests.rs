use super::*;

fn service(failure_mode: Otherwise) -> Service {
    Service { cluster: "ratelimit".to_owned(), domain: "logs".to_owned(), timeout: Duration::from_millis(200), failure_mode }
}

fn answer(overall_code: i32, resets: &[(i32, i64)]) -> Vec<u8> {
    let status =
        |&(code, seconds): &(i32, i64)| DescriptorStatus { code, duration_until_reset: Some(prost_types::Duration { seconds, nanos: 0 }) };
    Response { overall_code, statuses: resets.iter().map(status).collect() }.encode_to_vec()
}

fn retry_after(response: &[u8]) -> Option<Duration> {
    let refusal = judge(&service(Otherwise::Allow), Some(response)).unwrap_err();
    assert_eq!(refusal.rejection, Rejection::ServiceRateLimited);
    refusal.retry_after
}

#[test]
fn the_question_names_user_and_session_and_how_much() {
    let asked = |session, hits| {
        let request = Request::decode(&*question(&service(Otherwise::Allow), "https://id", "alice", session, hits)).unwrap();
        let entries = |descriptor: &Descriptor| {
            descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect::<Vec<_>>().join(" ")
        };
        (request.domain, request.descriptors.iter().map(entries).collect::<Vec<_>>(), request.hits_addend)
    };
    let user = "user=https://id|alice".to_owned();
    assert_eq!(asked(Some("s"), 7), ("logs".to_owned(), vec![user.clone(), format!("{user} session=s")], 7));
    assert_eq!(asked(None, 1), ("logs".to_owned(), vec![user.clone()], 1));
    assert_eq!(asked(Some(""), u64::MAX), ("logs".to_owned(), vec![user], u32::MAX), "an empty value is none to the service");
}

/// Bytes as the protocol's own encoder writes them.
#[test]
fn the_question_is_the_protocols() {
    let asked = question(&service(Otherwise::Allow), "i", "s", None, 300);
    assert_eq!(asked, b"\x0a\x04logs\x12\x0d\x0a\x0b\x0a\x04user\x12\x03i|s\x18\xac\x02");
}

#[test]
fn what_is_within_the_limit_goes_on() {
    assert_eq!(judge(&service(Otherwise::Deny), Some(&answer(OK, &[(OK, 5)]))), Ok(Heard::Yes));
}

#[test]
fn what_is_over_it_waits_for_the_last_window() {
    assert_eq!(retry_after(&answer(OVER_LIMIT, &[(OVER_LIMIT, 3), (OVER_LIMIT, 40), (OK, 90)])), Some(Duration::from_secs(40)));
    assert_eq!(retry_after(&answer(OVER_LIMIT, &[])), Some(Duration::from_secs(1)));
    assert_eq!(retry_after(&answer(OVER_LIMIT, &[(OVER_LIMIT, -1)])), Some(Duration::from_secs(1)));
    assert_eq!(retry_after(&answer(OVER_LIMIT, &[(OVER_LIMIT, i64::MAX)])), Some(LONGEST_WAIT));
}

#[test]
fn anything_else_is_no_answer() {
    for nothing in [None, Some(&b""[..]), Some(b"<html>"), Some(&answer(0, &[])), Some(&answer(3, &[])), Some(&[0x08])] {
        assert_eq!(judge(&service(Otherwise::Allow), nothing), Ok(Heard::Nothing), "{nothing:?}");
        let refusal = judge(&service(Otherwise::Deny), nothing).unwrap_err();
        assert_eq!((refusal.rejection, refusal.retry_after), (Rejection::LimitServiceUnavailable, Some(Duration::from_secs(1))));
    }
}

#[test]
fn the_cluster_is_named_in_a_message_that_envoy_reads() {
    let mut named = service(Otherwise::Allow);
    assert_eq!(upstream(&named).as_bytes(), b"\x0a\x0b\x0a\x09ratelimit");
    named.cluster = "c".repeat(120);
    assert_eq!(upstream(&named).len(), 124);
}
