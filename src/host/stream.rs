//! One HTTP stream.

use super::{Plugin, limit_service, now};
use crate::config;
use crate::ingest::{Event, Ingest};
use crate::request::{self, Headers};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, Bytes, MapType};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// One HTTP stream.
pub struct Stream {
    id: u32,
    plugin: Rc<Plugin>,
    ingest: Rc<RefCell<Ingest>>,
}

impl Stream {
    /// A stream that has just begun.
    pub fn new(id: u32, plugin: Rc<Plugin>) -> Stream {
        Stream { id, plugin, ingest: Rc::default() }
    }

    fn on(&mut self, event: Event<'_>) -> Action {
        self.plugin.event(self.id, &self.ingest, event, now())
    }

    /// The claims that Envoy's jwt_authn left in dynamic metadata, where it is trusted.
    ///
    /// All metadata at once: Envoy hands over a message as protobuf, but a map in it as pairs of
    /// strings, which would lose the claims' types.
    fn verified(&self) -> Option<Map<String, Value>> {
        let trusted = self.plugin.shared.config.auth.trusted.as_ref()?;
        let metadata = hostcalls::get_property(vec!["metadata"]).ok()??;
        config::structpb::filter_metadata(&metadata, "envoy.filters.http.jwt_authn", &trusted.payload_in_metadata)
    }
}

/// Envoy hands over the first of several headers of the same name; each of these is a coding to undo.
fn all_codings(first: Bytes) -> Bytes {
    let Ok(headers) = hostcalls::get_map_bytes(MapType::HttpRequestHeaders) else { return first };
    let codings: Vec<Bytes> = headers.into_iter().filter(|(name, _)| name == "content-encoding").map(|(_, value)| value).collect();
    codings.join(&b","[..])
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, end: bool) -> Action {
        let path = self.get_http_request_header_bytes(":path");
        if !request::is_ingest(path.as_deref(), &self.plugin.shared.config) {
            let headers = Headers { path: path.as_deref(), ..Headers::default() };
            return self.on(Event::Headers { headers, verified: None, end });
        }
        let header = |name| -> Option<Bytes> { self.get_http_request_header_bytes(name) };
        let (method, authorization) = (header(":method"), header("authorization"));
        let (content_length, content_encoding) = (header("content-length"), header("content-encoding").map(all_codings));
        let (content_type, traceparent) = (header("content-type"), header("traceparent"));
        let headers = Headers {
            method: method.as_deref(),
            path: path.as_deref(),
            authorization: authorization.as_deref(),
            content_length: content_length.as_deref(),
            content_encoding: content_encoding.as_deref(),
            content_type: content_type.as_deref(),
            traceparent: traceparent.as_deref(),
        };
        let verified = self.verified();
        self.on(Event::Headers { headers, verified: verified.as_ref(), end })
    }

    fn on_http_request_body(&mut self, body_size: usize, end: bool) -> Action {
        self.on(Event::Buffered { bytes: body_size, end })
    }

    /// With trailers the body never ends by itself: they are its end.
    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        self.on(Event::Trailers)
    }
}

impl Context for Stream {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        if let Some(((id, ingest), answer)) = self.plugin.answered(token, status, size) {
            self.plugin.event(id, &ingest, limit_service::event(&answer), now());
        }
    }

    fn on_done(&mut self) -> bool {
        self.on(Event::Closed);
        let mut waiting = self.plugin.waiting.borrow_mut();
        if waiting.alive.remove(&self.id).is_some() {
            let id = self.id;
            waiting.line.retain(|&other| other != id);
            waiting.asked.retain(|_, (other, _)| *other != id);
        }
        true
    }
}
