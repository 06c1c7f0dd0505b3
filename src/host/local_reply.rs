//! Envoy's local reply, with details.
//!
//! The SDK's own call passes no details, so `%RESPONSE_CODE_DETAILS%` would stay empty; declaring
//! the import once more with them gives every refusal its name in the access log at no cost.

use crate::reply::Reply;

#[allow(unsafe_code)]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// proxy-wasm ABI 0.2.1. Copies what it is given before it returns.
    fn proxy_send_local_response(
        status_code: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}

/// Answers the current stream. A second answer is ignored by Envoy.
#[allow(unsafe_code)]
pub fn send(reply: &Reply) {
    let headers = pairs(&reply.headers);
    // SAFETY: each pointer and length are those of a slice that outlives the call.
    let status = unsafe {
        proxy_send_local_response(
            reply.status,
            reply.details.as_ptr(),
            reply.details.len(),
            reply.body.as_ptr(),
            reply.body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    };
    if status != 0 {
        log::error!("Envoy did not take a reply: proxy-wasm status {status}");
    }
}

/// The ABI's map of headers: their number, the two lengths of each, then name and value of each,
/// both ended by a zero byte. Numbers are 32 bits, little-endian.
fn pairs(headers: &[(&'static str, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    for (name, value) in headers {
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in headers {
        for text in [name.as_bytes(), value.as_bytes()] {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
    bytes
}
