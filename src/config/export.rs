//! The backend: where it is, and what may wait for it.

use super::Environment;
use super::fields::{Faults, Object};
use super::secret::Secret;
use std::time::Duration;

/// How the request body of a callout is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `content-encoding: gzip`.
    Gzip,
    /// As it is.
    None,
}

/// The backend.
#[derive(Debug)]
pub struct Export {
    /// The Envoy cluster.
    pub cluster: String,
    /// `:authority` of the callout.
    pub authority: String,
    /// `:path` of the callout.
    pub path: String,
    /// The value of `authorization`, if the VM is to send one.
    pub token: Option<Secret>,
    /// Further headers, names in lower case. A value may well be a key.
    pub headers: Vec<(String, Secret)>,
    /// Of the callout's body.
    pub compression: Compression,
    /// What may wait for the backend, how long, and how much at once.
    pub bounds: Bounds,
}

/// What bounds the exports of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a request may wait to be delivered, retries included.
    pub timeout: Duration,
    /// How long one callout may take.
    pub try_timeout: Duration,
    /// How often a callout that failed is made again.
    pub max_retries: u32,
    /// Callouts under way at the same time.
    pub max_in_flight: usize,
    /// Bytes of one callout, before compression. A request that is larger goes alone.
    pub max_batch_bytes: usize,
    /// Bytes held for all requests that aren't delivered.
    pub max_parked_bytes: usize,
}

const HOUR_MS: u64 = 60 * 60 * 1000;
const MIB: u64 = 1024 * 1024;

/// What the filter itself says about the body that it sends.
const OWN_HEADERS: &[&str] =
    &["content-type", "content-length", "content-encoding", "transfer-encoding", "host", "user-agent", "traceparent"];

impl Export {
    pub(super) fn read(mut node: Object<'_>, environment: Environment<'_>, faults: &mut Faults) -> Option<Export> {
        let cluster = node.required_text("cluster", faults);
        let authority = node.required_text("authority", faults);
        let path = node.text("path", faults).unwrap_or_else(|| "/v1/logs".to_owned());
        if !path.starts_with('/') {
            faults.add(&node.at("path"), "must begin with /");
        }
        for (name, text) in [("authority", authority.as_deref()), ("path", Some(path.as_str()))] {
            if text.is_some_and(|text| !text.bytes().all(|b| b.is_ascii_graphic())) {
                faults.add(&node.at(name), "must be printable ASCII without spaces");
            }
        }
        let token = node.variable("token_env", environment, faults);
        if let Some(token) = &token
            && !token.reveal().bytes().all(|b| (b' '..=b'~').contains(&b))
        {
            faults.add(&node.at("token_env"), "the variable's value is no header value: printable ASCII without line breaks");
        }
        let headers = node.headers("headers", faults);
        for (name, _) in &headers {
            if OWN_HEADERS.contains(&name.as_str()) || (name == "authorization" && token.is_some()) {
                faults.add(&format!("{}.{name}", node.at("headers")), "is set by the filter itself");
            }
        }
        let bounds = Bounds::read(&mut node, faults);
        let compression = node.choice("compression", &[("gzip", Compression::Gzip), ("none", Compression::None)], faults);
        node.finish(faults);
        Some(Export {
            cluster: cluster?,
            authority: authority?,
            path,
            token,
            headers,
            compression: compression.unwrap_or(Compression::Gzip),
            bounds,
        })
    }
}

impl Bounds {
    fn read(node: &mut Object<'_>, faults: &mut Faults) -> Bounds {
        let timeout = node.whole("timeout_ms", 1..=HOUR_MS, faults).unwrap_or(10_000);
        let try_timeout = node.whole("try_timeout_ms", 1..=HOUR_MS, faults).unwrap_or(timeout.div_ceil(2));
        let bounds = Bounds {
            timeout: Duration::from_millis(timeout),
            try_timeout: Duration::from_millis(try_timeout),
            max_retries: node.whole("max_retries", 0..=100, faults).unwrap_or(4) as u32,
            max_in_flight: node.whole("max_in_flight", 1..=1_000, faults).unwrap_or(4) as usize,
            max_batch_bytes: node.size("max_batch_bytes", faults).unwrap_or(4 * MIB) as usize,
            max_parked_bytes: node.size("max_parked_bytes", faults).unwrap_or(64 * MIB) as usize,
        };
        if try_timeout > timeout {
            faults.add(&node.at("try_timeout_ms"), "must not be longer than timeout_ms");
        }
        if bounds.max_parked_bytes < bounds.max_batch_bytes {
            faults.add(&node.at("max_parked_bytes"), "must not be smaller than max_batch_bytes");
        }
        bounds
    }
}
