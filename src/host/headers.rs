//! All headers of a request in one call: each value that the host hands over costs more than its bytes.

use proxy_wasm::types::MapType;
use std::ptr::null_mut;

#[allow(unsafe_code)]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// proxy-wasm ABI 0.2.1. Sets both on success: bytes that it had this module allocate.
    fn proxy_get_header_map_pairs(map: MapType, data: *mut *mut u8, size: *mut usize) -> u32;
}

/// The headers of the effective context's request, as [`Headers::read`](crate::request::Headers::read)
/// takes them; empty where there are none.
///
/// The SDK's own call makes two allocations of each header.
#[allow(unsafe_code)]
pub fn of_request() -> Vec<u8> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both pointers are to variables that outlive the call.
    let status = unsafe { proxy_get_header_map_pairs(MapType::HttpRequestHeaders, &mut data, &mut size) };
    if status != 0 || data.is_null() {
        return Vec::new();
    }
    // SAFETY: the SDK's `proxy_on_memory_allocate` has made them as a vector of just this capacity, and
    // the host doesn't keep them.
    unsafe { Vec::from_raw_parts(data, size, size) }
}
