//! What goes to the backend, and what its answer means.
//!
//! | answer | meaning |
//! | --- | --- |
//! | 2xx with an OTLP response, or with no body | accepted, less what its partial success says was rejected |
//! | 2xx with anything else (a captive portal's page) | [`Rejection::ExportNotUnderstood`] |
//! | any other status, Envoy's own 503 and 504 among them | [`Rejection::ExportRefused`] |
//! | no status at all: reset in mid-answer, or too large | [`Rejection::ExportReset`] |
//!
//! Touches the backend's bytes.

use crate::config::{Compression, Export};
use crate::rejection::Rejection;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// A request to the backend, ready to be handed to Envoy.
#[derive(Clone, PartialEq, Eq)]
pub struct Callout<'a> {
    /// The Envoy cluster.
    pub cluster: &'a str,
    /// Pseudo-headers first.
    pub headers: Vec<(&'a str, &'a str)>,
    /// A serialized `ExportLogsServiceRequest`, compressed if a header says so.
    pub body: Vec<u8>,
    /// How long Envoy waits for the whole answer.
    pub timeout: Duration,
}

/// Sent with each request that the filter makes; OTLP asks exporters to name themselves.
pub const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Makes the callout for encoded records.
pub fn callout(export: &Export, protobuf: Vec<u8>) -> Callout<'_> {
    let mut headers = vec![
        (":method", "POST"),
        (":path", export.path.as_str()),
        (":authority", export.authority.as_str()),
        ("content-type", "application/x-protobuf"),
        ("user-agent", USER_AGENT),
    ];
    if let Some(token) = &export.token {
        headers.push(("authorization", token.reveal()));
    }
    headers.extend(export.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())));
    let compressed = match export.compression {
        Compression::Gzip => gzip(&protobuf),
        Compression::None => None,
    };
    if compressed.is_some() {
        headers.push(("content-encoding", "gzip"));
    }
    Callout { cluster: &export.cluster, headers, body: compressed.unwrap_or(protobuf), timeout: export.timeout }
}

/// Level 1: in wasm, level 6 takes four times as long for a few percent.
fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4 + 64), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).ok()
}

/// What Envoy reports of a callout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It broke off before there was a whole answer.
    Reset,
    /// The backend's answer, or Envoy's in its place.
    Response {
        /// `:status`; `None` where it is no number.
        status: Option<u16>,
        /// `content-type`.
        content_type: Option<&'a [u8]>,
        /// The whole body.
        body: &'a [u8],
    },
}

/// The backend took the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How many of them it said it rejected.
    pub rejected: u64,
}

/// What an answer means.
///
/// # Errors
/// Everything but the backend saying that it took the records.
pub fn judge(answer: Answer<'_>) -> Result<Delivery, Rejection> {
    match answer {
        Answer::Reset => Err(Rejection::ExportReset),
        Answer::Response { status: Some(200..=299), content_type, body } => {
            accepted(content_type, body).ok_or(Rejection::ExportNotUnderstood)
        }
        Answer::Response { .. } => Err(Rejection::ExportRefused),
    }
}

fn accepted(content_type: Option<&[u8]>, body: &[u8]) -> Option<Delivery> {
    if body.is_empty() {
        // A response without partial success has no bytes in protobuf.
        return Some(Delivery::default());
    }
    let media_type = content_type.unwrap_or(b"application/x-protobuf").split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/x-protobuf") {
        let response = ExportLogsServiceResponse::decode(body).ok()?;
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_log_records);
        return Some(Delivery { rejected: u64::try_from(rejected).unwrap_or(0) });
    }
    // Some backends answer in JSON whatever was asked in.
    if media_type.eq_ignore_ascii_case(b"application/json") {
        let response: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
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
