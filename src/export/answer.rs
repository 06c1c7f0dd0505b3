//! What the backend's answer means.
//!
//! | answer | meaning |
//! | --- | --- |
//! | 2xx with an OTLP response, or with no body | [`Meaning::Accepted`], less what its partial success says was rejected |
//! | 2xx with anything else (a captive portal's page) | [`Meaning::Refused`]: [`Rejection::ExportNotUnderstood`] |
//! | 400, 413, 422 | [`Meaning::Unacceptable`]: something in it can never be accepted |
//! | 429, and a 503 of the backend's own | [`Meaning::Deferred`], for as long as `retry-after` says |
//! | 408, 425, any other 5xx, Envoy's own 503 and 504 | [`Meaning::Failed`]: [`Rejection::ExportRefused`] |
//! | any other status: 401, 403, 404, a redirect | [`Meaning::Refused`]: [`Rejection::ExportDenied`] |
//! | no status at all: reset in mid-answer, or too large | [`Meaning::Failed`]: [`Rejection::ExportReset`] |
//! | Envoy did not take the callout | [`Meaning::Failed`]: [`Rejection::ExportNotDispatched`] |
//!
//! Touches the backend's bytes.

use crate::rejection::Rejection;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// What Envoy reports of a callout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Envoy did not take it: no such cluster, no endpoint, or a circuit breaker is open.
    NotDispatched,
    /// It broke off before there was a whole answer.
    Reset,
    /// The backend's answer, or Envoy's in its place.
    Response(Response<'a>),
}

/// An answer that came in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// `:status`; `None` where it is no number.
    pub status: Option<u16>,
    /// `content-type`.
    pub content_type: Option<&'a [u8]>,
    /// `retry-after`.
    pub retry_after: Option<&'a [u8]>,
    /// Whether it has come from the backend: Envoy marks those with the time that they took.
    pub from_backend: bool,
    /// The body.
    pub body: &'a [u8],
    /// It is longer than any answer that means something, and this only its beginning.
    pub cut: bool,
}

/// What is to be done about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The backend took the records.
    Accepted(Delivery),
    /// Something in it can never be accepted; the rest perhaps can.
    Unacceptable,
    /// Nothing may be sent for so long; `None` where the backend doesn't say how long.
    Deferred(Option<Duration>),
    /// It may well succeed in a moment.
    Failed(Rejection),
    /// Sending it again changes nothing until an operator does something.
    Refused(Rejection),
}

/// The backend took the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How many of them it said it rejected.
    pub rejected: u64,
}

/// No wait that a backend asks for is longer, or shorter.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What an answer means. `now` is time since the Unix epoch.
pub fn judge(answer: Answer<'_>, now: Duration) -> Meaning {
    let response = match answer {
        Answer::NotDispatched => return Meaning::Failed(Rejection::ExportNotDispatched),
        Answer::Reset => return Meaning::Failed(Rejection::ExportReset),
        Answer::Response(response) => response,
    };
    match response.status {
        Some(200..=299) => accepted(response).map_or(Meaning::Refused(Rejection::ExportNotUnderstood), Meaning::Accepted),
        Some(400 | 413 | 422) => Meaning::Unacceptable,
        Some(429) => Meaning::Deferred(wait(response.retry_after, now)),
        Some(503) if response.from_backend => Meaning::Deferred(wait(response.retry_after, now)),
        None | Some(408 | 425 | 500..) => Meaning::Failed(Rejection::ExportRefused),
        Some(_) => Meaning::Refused(Rejection::ExportDenied),
    }
}

/// What of an answer with this status [`judge`] looks at: the rest need not be fetched.
pub fn matters(status: Option<u16>) -> Matters {
    let accepted = matches!(status, Some(200..=299));
    Matters { content: accepted, retry_after: matches!(status, Some(429 | 503)), from_backend: status == Some(503) }
}

/// What matters of an answer beside its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matters {
    /// The body and its type.
    pub content: bool,
    /// `retry-after`.
    pub retry_after: bool,
    /// Whether the backend made it.
    pub from_backend: bool,
}

/// Seconds, or an HTTP date (RFC 9110, section 10.2.3).
fn wait(retry_after: Option<&[u8]>, now: Duration) -> Option<Duration> {
    let text = std::str::from_utf8(retry_after?).ok()?.trim();
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let wait = if seconds {
        // More digits than a number has are a long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?.saturating_sub(now)
    };
    Some(wait.clamp(SHORTEST_WAIT, LONGEST_WAIT))
}

fn accepted(response: Response<'_>) -> Option<Delivery> {
    if response.cut {
        return None;
    }
    let content_type = response.content_type.unwrap_or(b"application/x-protobuf");
    let media_type = content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    if response.body.is_empty() {
        // A response without partial success has no bytes in protobuf. An empty page is still a page.
        return (!media_type.eq_ignore_ascii_case(b"text/html")).then(Delivery::default);
    }
    if media_type.eq_ignore_ascii_case(b"application/x-protobuf") {
        let response = ExportLogsServiceResponse::decode(response.body).ok()?;
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_log_records);
        return Some(Delivery { rejected: u64::try_from(rejected).unwrap_or(0) });
    }
    // Some backends answer in JSON whatever was asked in.
    if media_type.eq_ignore_ascii_case(b"application/json") {
        let response: serde_json::Map<String, Value> = serde_json::from_slice(response.body).ok()?;
        let Some(partial) = response.get("partialSuccess").or_else(|| response.get("partial_success")) else {
            // Nothing but an empty object says that all were taken; any other page might say anything.
            return response.is_empty().then(Delivery::default);
        };
        if partial.is_null() {
            return Some(Delivery::default());
        }
        let partial = partial.as_object()?;
        let Some(count) = partial.get("rejectedLogRecords").or_else(|| partial.get("rejected_log_records")) else {
            return Some(Delivery::default());
        };
        // 64-bit numbers are strings in protobuf's JSON.
        let rejected = count.as_i64().or_else(|| count.as_str()?.parse().ok())?;
        return Some(Delivery { rejected: u64::try_from(rejected).unwrap_or(0) });
    }
    None
}

#[cfg(test)]
mod tests;
