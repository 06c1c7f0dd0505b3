//! One HTTP stream.

use super::{Plugin, headers, limit_service, now};
use crate::config;
use crate::ingest::{Event, Ingest};
use crate::request::{self, Headers};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// One HTTP stream.
pub struct Stream {
    id: u32,
    plugin: Rc<Plugin>,
    /// None while the stream isn't known to be ours.
    ingest: Option<Rc<RefCell<Ingest>>>,
}

impl Stream {
    /// A stream that has just begun.
    pub fn new(id: u32, plugin: Rc<Plugin>) -> Stream {
        Stream { id, plugin, ingest: None }
    }

    fn on(&self, event: Event<'_>) -> Action {
        match &self.ingest {
            Some(ingest) => self.plugin.event(self.id, ingest, event, now()),
            None => Action::Continue,
        }
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

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, end: bool) -> Action {
        // All of them: what one value costs is nearly all that all of them cost.
        let map = headers::of_request();
        let mut headers = Headers::read(&map);
        if !request::is_ingest(headers.path, &self.plugin.shared.config) {
            return Action::Continue;
        }
        self.ingest = Some(Rc::default());
        let codings = headers.content_encoding.map(|_| request::codings(&map));
        headers.content_encoding = codings.as_deref();
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
}

/// Envoy calls `on_done` and `on_delete` one right after the other; doing without the former spares each
/// stream a call into the VM.
impl Drop for Stream {
    fn drop(&mut self) {
        let Some(ingest) = &self.ingest else { return };
        if ingest.borrow().is_unfinished() {
            self.on(Event::Closed);
        }
        let mut waiting = self.plugin.waiting.borrow_mut();
        if waiting.alive.remove(self.id).is_some() {
            let id = self.id;
            waiting.line.retain(|&other| other != id);
            waiting.asked.retain(|(other, _)| *other != id);
        }
    }
}
