//! The least that a filter can do which exports a body: it waits for all of it, makes one callout of
//! the same bytes and answers 200 when that is answered. For `make bench`; it is not shipped.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let path = self.get_http_request_header_bytes(":path");
        if path.as_deref() == Some(b"/api/v1/logs") { Action::Pause } else { Action::Continue }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if end {
            let body = self.get_http_request_body(0, size);
            let headers = vec![
                (":method", "POST"),
                (":path", "/v1/logs"),
                (":authority", "backend"),
                ("content-type", "application/x-protobuf"),
            ];
            if self.dispatch_http_call("backend", headers, body.as_deref(), vec![], Duration::from_secs(10)).is_err() {
                self.send_http_response(502, vec![], None);
            }
        }
        Action::Pause
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _: u32, headers: usize, _: usize, _: usize) {
        // The SDK traps on the headers of an answer that has none.
        let status = if headers > 0 { self.get_http_call_response_header(":status") } else { None };
        let status = if status.as_deref() == Some("200") { 200 } else { 502 };
        self.send_http_response(status, vec![("content-type", "application/json")], Some(br#"{"accepted":1,"rejected":0}"#));
    }
}
