//! Limits that many Envoys share: a question to an Envoy RateLimitService, and what its answer means.
//!
//! The protocol is `envoy.service.ratelimit.v3` as envoyproxy/ratelimit and Limitador speak it. Two
//! descriptors are sent: `user` (issuer, `|`, subject), and `user` with `session`. What isn't a plain
//! answer is no answer, and `failure_mode` says what that means. Touches the service's bytes.

use crate::config::{Otherwise, Service};
use crate::rejection::{Refusal, Rejection};
use prost::Message;
use std::time::Duration;

/// The gRPC service.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";

/// Its method.
pub const METHOD: &str = "ShouldRateLimit";

/// `envoy.service.ratelimit.v3.RateLimitRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Whose limits.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// What is limited; each on its own.
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<Descriptor>,
    /// How much of it. 0 would count as 1.
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

/// `envoy.extensions.common.ratelimit.v3.RateLimitDescriptor`.
#[derive(Clone, PartialEq, Message)]
pub struct Descriptor {
    /// From the outermost to the innermost.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

/// One part of a descriptor.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// `user` or `session`.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Which one.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `envoy.service.ratelimit.v3.RateLimitResponse`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// 1: within the limit. 2: over it. 0: unknown.
    #[prost(int32, tag = "1")]
    pub overall_code: i32,
    /// One for each descriptor.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<DescriptorStatus>,
}

/// What the service says of one descriptor.
#[derive(Clone, PartialEq, Message)]
pub struct DescriptorStatus {
    /// As `overall_code`.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// When the window is over.
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<prost_types::Duration>,
}

const OK: i32 = 1;
const OVER_LIMIT: i32 = 2;

/// A client waits no longer than this for a window to end: who shares the limit may leave it tokens sooner.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The request for a sender's hits.
pub fn question(service: &Service, issuer: &str, subject: &str, session: Option<&str>, hits: u64) -> Vec<u8> {
    let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
    let user = || entry("user", format!("{issuer}|{subject}"));
    let mut descriptors = vec![Descriptor { entries: vec![user()] }];
    if let Some(session) = session.filter(|session| !session.is_empty()) {
        descriptors.push(Descriptor { entries: vec![user(), entry("session", session.to_owned())] });
    }
    let hits_addend = u32::try_from(hits).unwrap_or(u32::MAX);
    Request { domain: service.domain.clone(), descriptors, hits_addend }.encode_to_vec()
}

/// What came of a question; `None`: no answer.
///
/// # Errors
/// Over the limit; or no plain answer, where that is to refuse.
pub fn judge(service: &Service, answer: Option<&[u8]>) -> Result<Heard, Refusal> {
    let response =
        answer.and_then(|bytes| Response::decode(bytes).ok()).filter(|response| [OK, OVER_LIMIT].contains(&response.overall_code));
    match (response, service.failure_mode) {
        (Some(response), _) if response.overall_code == OVER_LIMIT => {
            Err(Refusal { rejection: Rejection::ServiceRateLimited, retry_after: Some(wait(&response)) })
        }
        (Some(_), _) => Ok(Heard::Yes),
        (None, Otherwise::Allow) => Ok(Heard::Nothing),
        (None, Otherwise::Deny) => {
            Err(Refusal { rejection: Rejection::LimitServiceUnavailable, retry_after: Some(Duration::from_secs(1)) })
        }
    }
}

/// Why a request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is within the limits.
    Yes,
    /// There was no answer.
    Nothing,
}

/// Until the last of the windows that are used up is over.
fn wait(response: &Response) -> Duration {
    let over = response.statuses.iter().filter(|status| status.code == OVER_LIMIT);
    let resets = over.filter_map(|status| Duration::try_from(status.duration_until_reset?).ok());
    resets.max().unwrap_or(Duration::from_secs(1)).min(LONGEST_WAIT)
}

/// The Envoy cluster as the host wants to have it, `envoy.config.core.v3.GrpcService` with an
/// `envoy_grpc`: a bare name may happen to read as such a message.
pub fn upstream(service: &Service) -> String {
    let mut message = vec![0x0a, service.cluster.len() as u8 + 2, 0x0a, service.cluster.len() as u8];
    message.extend_from_slice(service.cluster.as_bytes());
    String::from_utf8(message).unwrap_or_default()
}

#[cfg(test)]
mod tests;
