//! What Envoy reports of a callout, fetched without trapping.

use crate::export;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

/// The response of the callout whose callback this is, as far as it matters under its status.
pub struct Response {
    /// `:status`; `None` where it is no number.
    pub status: Option<u16>,
    /// `content-type`.
    pub content_type: Option<Vec<u8>>,
    /// `retry-after`.
    pub retry_after: Option<Vec<u8>>,
    /// Envoy says how long the backend took; it doesn't of answers that it makes itself.
    pub from_backend: bool,
    /// The body, up to the bound that was asked for.
    pub body: Vec<u8>,
    /// There is more of it.
    pub cut: bool,
}

/// The response, with at most `most` bytes of its body; `None` if it broke off.
pub fn read(num_headers: usize, body_size: usize, most: usize) -> Option<Response> {
    if num_headers == 0 {
        return None;
    }
    let header = |name| hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, name).ok().flatten();
    let status = header(":status").and_then(|status| String::from_utf8(status).ok()?.parse().ok());
    let matters = export::matters(status);
    let content_type = if matters.content { header("content-type") } else { None };
    let retry_after = if matters.retry_after { header("retry-after") } else { None };
    let from_backend = matters.from_backend && header("x-envoy-upstream-service-time").is_some();
    let body_size = if matters.content { body_size } else { 0 };
    let size = body_size.min(most);
    let body = match size {
        0 => Vec::new(),
        // A body that isn't there would look like one that is empty, and that says that all is well.
        _ => hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size).ok()?.filter(|body| body.len() == size)?,
    };
    Some(Response { status, content_type, retry_after, from_backend, body, cut: size < body_size })
}

impl Response {
    /// As an export's answer.
    pub fn as_answer(&self) -> export::Answer<'_> {
        export::Answer::Response(export::Response {
            status: self.status,
            content_type: self.content_type.as_deref(),
            retry_after: self.retry_after.as_deref(),
            from_backend: self.from_backend,
            body: &self.body,
            cut: self.cut,
        })
    }
}
