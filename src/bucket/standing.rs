//! What a sender is told of its buckets: the `RateLimit` and `RateLimit-Policy` fields.
//!
//! Both are lists of structured fields (RFC 9651) after draft-ietf-httpapi-ratelimit-headers-10, with
//! one item for each bucket, named for what it limits. A bucket's window is the time in which it
//! fills from empty; what is left is in whole tokens, and `t` says when it is full again.

use super::level::{Level, window};
use crate::config::{TokenBucket, Unit};
use std::time::Duration;

/// How the buckets of one request stand. Empty where none is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(Vec<Quota>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    name: &'static str,
    unit: Unit,
    limit: TokenBucket,
    left: u64,
    until_full: Duration,
}

/// An Integer of a structured field has fifteen digits at most.
const LARGEST: u64 = 999_999_999_999_999;

impl Standing {
    /// Adds a bucket at its level.
    pub(super) fn add(&mut self, name: &'static str, unit: Unit, limit: TokenBucket, level: Level) {
        self.0.push(Quota { name, unit, limit, left: level.tokens(limit), until_full: level.until_full(limit) });
    }

    /// `RateLimit`: what is left in each bucket, and the seconds until it is full.
    pub fn rate_limit(&self) -> Option<String> {
        self.list(|out, quota| {
            parameter(out, "r", quota.left.min(LARGEST));
            parameter(out, "t", seconds(quota.until_full));
        })
    }

    /// `RateLimit-Policy`: how large each bucket is, and the seconds in which it fills.
    pub fn policy(&self) -> Option<String> {
        self.list(|out, quota| {
            parameter(out, "q", u64::from(quota.limit.max_tokens));
            out.push_str(match quota.unit {
                // What is counted where nothing else is said.
                Unit::Requests => "",
                Unit::Bytes => ";qu=\"content-bytes\"",
                // Not in the draft's registry, which can be added to.
                Unit::Records => ";qu=\"records\"",
            });
            parameter(out, "w", seconds(window(quota.limit)));
        })
    }

    fn list(&self, parameters: impl Fn(&mut String, &Quota)) -> Option<String> {
        let mut out = String::with_capacity(self.0.len() * 48);
        for quota in &self.0 {
            if !out.is_empty() {
                out.push_str(", ");
            }
            for part in ["\"", quota.name, "\""] {
                out.push_str(part);
            }
            parameters(&mut out, quota);
        }
        (!out.is_empty()).then_some(out)
    }
}

fn parameter(out: &mut String, name: &str, value: u64) {
    for part in [";", name, "=", itoa::Buffer::new().format(value)] {
        out.push_str(part);
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).min(LARGEST)
}
