//! What goes to the backend, and what its answer means.
//!
//! [`outbox`] decides when requests' records go out, and together with which; [`answer`] what the
//! backend's answer means; [`split`] cuts a batch that it refuses. Here a shipment becomes a
//! callout. Touches the backend's bytes.

pub mod answer;
mod gzip;
pub mod outbox;
mod split;

use crate::config::{Compression, Export};
pub use answer::{Answer, Delivery, Meaning, Response, matters};
pub use gzip::Gzip;
pub use outbox::{Outbox, Shipment};
use std::borrow::Cow;
use std::time::Duration;

/// A request to the backend, ready to be handed to Envoy.
#[derive(Clone, PartialEq, Eq)]
pub struct Callout<'a> {
    /// The Envoy cluster.
    pub cluster: &'a str,
    /// Pseudo-headers first.
    pub headers: Vec<(&'a str, &'a str)>,
    /// A serialized `ExportLogsServiceRequest`, compressed if a header says so.
    pub body: Cow<'a, [u8]>,
    /// How long Envoy waits for the whole answer.
    pub timeout: Duration,
}

/// Sent with each request that the filter makes; OTLP asks exporters to name themselves.
pub const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Makes the callout for a shipment.
pub fn callout<'a>(export: &'a Export, shipment: &'a Shipment, gzip: &mut Gzip) -> Callout<'a> {
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
    if let Some(traceparent) = &shipment.traceparent {
        headers.push(("traceparent", traceparent));
    }
    let parts = || shipment.parts.iter().map(|part| part.as_slice());
    let compressed = match export.compression {
        Compression::Gzip => gzip.compress(parts()),
        Compression::None => None,
    };
    if compressed.is_some() {
        headers.push(("content-encoding", "gzip"));
    }
    // Requests joined byte for byte are one request: that is how protobuf's repeated fields work.
    let body = match (compressed, shipment.parts.as_slice()) {
        (Some(compressed), _) => compressed.into(),
        (None, [part]) => part.as_slice().into(),
        (None, _) => parts().collect::<Vec<_>>().concat().into(),
    };
    Callout { cluster: &export.cluster, headers, body, timeout: shipment.timeout }
}

#[cfg(test)]
mod tests;
