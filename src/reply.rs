//! A [`Refusal`] or a [`Delivery`] → status, headers, body. The only file with status codes.
//!
//! The status decides over the client's records, so it follows the wire contract: 400, 405, 413
//! and 415 make it throw them away, 401 and 429 make it wait, 5xx makes it try again; 404 would
//! stop it for good and is never given. Titles are fixed and say nothing that came from outside.

use crate::bucket::Standing;
use crate::export::Delivery;
use crate::rejection::{Refusal, Rejection};
use std::time::Duration;

/// An answer to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u32,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
    /// What the access log shows as `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
}

/// Status and title of a refusal.
fn problem(rejection: Rejection) -> (u32, &'static str) {
    match rejection {
        Rejection::BodyMissing => (400, "The request has no body"),
        Rejection::BodyCorrupt => (400, "The body is not what its Content-Encoding says"),
        Rejection::BodyNotJson => (400, "The body is not JSON"),
        Rejection::EnvelopeWithoutLogs => (400, "The body has no array of logs"),
        // One answer for all of them: which check failed is nobody's business but the operator's.
        Rejection::TokenMissing
        | Rejection::TokenMalformed
        | Rejection::TokenTooLong
        | Rejection::TokenAlgorithm
        | Rejection::TokenIssuer
        | Rejection::TokenKey
        | Rejection::TokenSignature
        | Rejection::TokenWithoutExpiration
        | Rejection::TokenExpired
        | Rejection::TokenNotYetValid
        | Rejection::TokenAudience
        | Rejection::TokenSubject => (401, "A valid session token is required"),
        Rejection::MethodNotAllowed => (405, "Only POST is allowed here"),
        Rejection::BodyTooLarge => (413, "The body is too large"),
        Rejection::TooManyRecords => (413, "The batch has too many records"),
        Rejection::EncodingUnsupported => (415, "The content encoding is not supported"),
        Rejection::UserRateLimited | Rejection::SessionRateLimited | Rejection::LimiterContended | Rejection::ServiceRateLimited => {
            (429, "Too many records")
        }
        // The client did nothing wrong: it keeps its records and tries again.
        Rejection::KeysUnavailable => (503, "Tokens can not be verified at the moment"),
        Rejection::LimitServiceUnavailable => (503, "Limits can not be checked at the moment"),
        Rejection::BodyUnavailable => (503, "The request could not be read"),
        Rejection::ExportBacklog => (503, "Too much is waiting to be delivered"),
        Rejection::ExportNotDispatched
        | Rejection::ExportReset
        | Rejection::ExportRefused
        | Rejection::ExportDenied
        | Rejection::ExportDeferred
        | Rejection::ExportExpired
        | Rejection::ExportUnfinished
        | Rejection::ExportNotUnderstood => (502, "The records could not be delivered"),
    }
}

/// The status of a refusal.
pub fn status(rejection: Rejection) -> u32 {
    problem(rejection).0
}

/// Says no, as `application/problem+json` (RFC 9457).
pub fn refuse(refusal: Refusal) -> Reply {
    let (status, title) = problem(refusal.rejection);
    let mut headers = vec![("content-type", "application/problem+json".to_owned())];
    match status {
        401 => headers.push(("www-authenticate", "Bearer error=\"invalid_token\"".to_owned())),
        405 => headers.push(("allow", "POST".to_owned())),
        415 => headers.push(("accept-encoding", "gzip, deflate".to_owned())),
        _ => {}
    }
    if let Some(wait) = refusal.retry_after {
        headers.push(("retry-after", whole_seconds(wait).to_string()));
    }
    Reply {
        status,
        headers,
        body: format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status}}}"),
        details: refusal.rejection.name(),
    }
}

/// Says how the client's buckets stand: on a 200, so that it can slow down before it is told to, and
/// with the limits themselves on a 429.
pub fn tell(mut reply: Reply, standing: &Standing) -> Reply {
    if reply.status == 429 {
        reply.headers.extend(standing.policy().map(|policy| ("ratelimit-policy", policy)));
    }
    if matches!(reply.status, 200 | 429) {
        reply.headers.extend(standing.rate_limit().map(|left| ("ratelimit", left)));
    }
    reply
}

/// Rounded up, so that a client that waits so long finds something; at least 1.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Says that the backend has the records.
pub fn accept(records: u64, delivery: Delivery) -> Reply {
    let rejected = delivery.rejected.min(records);
    let accepted = records - rejected;
    Reply {
        status: 200,
        headers: vec![("content-type", "application/json".to_owned())],
        body: ["{\"accepted\":", itoa::Buffer::new().format(accepted), ",\"rejected\":", itoa::Buffer::new().format(rejected), "}"]
            .concat(),
        details: "records_delivered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
        reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn every_refusal_is_a_problem_with_its_status() {
        for &rejection in Rejection::ALL {
            let reply = refuse(rejection.into());
            let body: Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!(body["status"], json!(reply.status), "{rejection:?}");
            assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
            assert_eq!(header(&reply, "content-type"), Some("application/problem+json"));
            assert!((400..600).contains(&reply.status) && reply.status != 404, "{rejection:?}: {}", reply.status);
            assert_eq!(reply.details, rejection.name());
        }
    }

    #[test]
    fn refusals_of_a_token_can_not_be_told_apart() {
        let replies: Vec<Reply> = Rejection::ALL.iter().filter(|r| r.name().starts_with("token_")).map(|&r| refuse(r.into())).collect();
        assert_eq!(replies.len(), 12);
        for reply in &replies {
            assert_eq!((reply.status, &reply.headers, &reply.body), (401, &replies[0].headers, &replies[0].body));
            assert_eq!(header(reply, "www-authenticate"), Some("Bearer error=\"invalid_token\""));
        }
    }

    /// 4xx other than 401, 403 and 429 destroys the client's records, so the list of those is closed.
    #[test]
    fn only_what_can_never_succeed_destroys_records() {
        let destroying: Vec<&str> =
            Rejection::ALL.iter().filter(|&&r| matches!(status(r), 400 | 402..=428 | 430..=499)).map(|r| r.name()).collect();
        let expected = [
            "method_not_allowed",
            "body_too_large",
            "too_many_records",
            "encoding_unsupported",
            "body_corrupt",
            "body_missing",
            "body_not_json",
            "envelope_without_logs",
        ];
        assert_eq!(destroying, expected);
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_at_least_one() {
        for (wait, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (59_999, "60")] {
            let refusal = Refusal { rejection: Rejection::UserRateLimited, retry_after: Some(Duration::from_millis(wait)) };
            assert_eq!(header(&refuse(refusal), "retry-after"), Some(seconds));
        }
    }

    #[test]
    fn rejected_records_are_not_accepted_ones() {
        assert_eq!(accept(5, Delivery { rejected: 2 }).body, r#"{"accepted":3,"rejected":2}"#);
        assert_eq!(accept(5, Delivery { rejected: 9 }).body, r#"{"accepted":0,"rejected":5}"#);
        assert_eq!(accept(0, Delivery::default()).body, r#"{"accepted":0,"rejected":0}"#);
    }
}
