//! The windows: Envoy's callbacks become events, effects become host calls.
//!
//! The only room that touches the host. The clock is read once for each callback. Header values
//! are fetched as bytes alone: the SDK's string getters trap on a byte that isn't UTF-8, and a
//! trap takes the worker's VM with everything that it holds. Call responses are looked at only
//! where there are headers: after a reset there are none, and the getters trap on that too.

mod local_reply;
mod memory;
mod metrics;

use crate::bucket::Limiter;
use crate::config::Config;
use crate::export::Answer;
use crate::ingest::{Effect, Event, Ingest, Shared, World};
use crate::request::{self, Headers};
use memory::SharedData;
use metrics::Metrics;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

/// Time since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The filter as configured, in one worker.
#[derive(Default)]
struct Root {
    plugin: Option<Rc<Plugin>>,
}

/// What the requests of a worker share.
struct Plugin {
    shared: Shared,
    metrics: Metrics,
    failures: Throttle,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match Config::read(&bytes, &environment) {
            Ok(config) => {
                let mut memory = SharedData;
                Limiter::prepare(&config.rate_limits, &mut memory);
                let shared = Shared { config, seed: memory::seed(&mut memory) };
                self.plugin = Some(Rc::new(Plugin { shared, metrics: Metrics::define(), failures: Throttle::default() }));
                true
            }
            Err(faults) => {
                for fault in faults {
                    log::error!("{fault}");
                }
                false
            }
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let plugin = self.plugin.clone()?;
        Some(Box::new(Stream { plugin, ingest: Ingest::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// One HTTP stream.
struct Stream {
    plugin: Rc<Plugin>,
    ingest: Ingest,
}

impl Stream {
    /// Takes an event to its end: effects that ask for an answer at once get it.
    fn on(&mut self, event: Event<'_>) -> Action {
        let plugin = Rc::clone(&self.plugin);
        let now = now();
        let mut store = SharedData;
        let mut stats = plugin.metrics.sink();
        let mut world = World { now, store: &mut store, stats: &mut stats };
        let mut effect = self.ingest.on(&plugin.shared, event, &mut world);
        loop {
            effect = match effect {
                Effect::Pass => return Action::Continue,
                Effect::Wait => return Action::Pause,
                Effect::Discard(bytes) => {
                    self.set_http_request_body(0, bytes, b"");
                    return Action::Pause;
                }
                Effect::Reply(reply) => {
                    local_reply::send(&reply);
                    return Action::Pause;
                }
                Effect::Read(bytes) => {
                    let mut body = self.get_http_request_body(0, bytes);
                    self.ingest.on(&plugin.shared, Event::Body(body.as_deref_mut()), &mut world)
                }
                Effect::Export(callout) => {
                    let sent = self.dispatch_http_call(callout.cluster, callout.headers, Some(&callout.body), vec![], callout.timeout);
                    if sent.is_ok() {
                        return Action::Pause;
                    }
                    let failures = &plugin.failures;
                    failures
                        .warn(now, || format!("export to cluster {}: Envoy has no such cluster, or no endpoint for it", callout.cluster));
                    self.ingest.on(&plugin.shared, Event::NotDispatched, &mut world)
                }
            };
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        let path = self.get_http_request_header_bytes(":path");
        if !request::is_ingest(path.as_deref(), &self.plugin.shared.config) {
            let headers = Headers { path: path.as_deref(), ..Headers::default() };
            return self.on(Event::Headers { headers, end: end_of_stream });
        }
        let header = |name| -> Option<Bytes> { self.get_http_request_header_bytes(name) };
        let (method, authorization) = (header(":method"), header("authorization"));
        let (content_length, content_encoding) = (header("content-length"), header("content-encoding"));
        let headers = Headers {
            method: method.as_deref(),
            path: path.as_deref(),
            authorization: authorization.as_deref(),
            content_length: content_length.as_deref(),
            content_encoding: content_encoding.as_deref(),
        };
        self.on(Event::Headers { headers, end: end_of_stream })
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        self.on(Event::Buffered { bytes: body_size, end: end_of_stream })
    }

    /// With trailers the body never ends by itself: they are its end.
    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        self.on(Event::Trailers)
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, num_headers: usize, body_size: usize, _num_trailers: usize) {
        if num_headers == 0 {
            self.warn(|| "the answer broke off, or was too large".to_owned());
            self.on(Event::Answer(Answer::Reset));
            return;
        }
        let status = self.get_http_call_response_header_bytes(":status");
        let status = status.and_then(|status| String::from_utf8(status).ok()?.parse().ok());
        let content_type = self.get_http_call_response_header_bytes("content-type");
        let body = if body_size == 0 { None } else { self.get_http_call_response_body(0, body_size) };
        let answer = Answer::Response { status, content_type: content_type.as_deref(), body: body.as_deref().unwrap_or_default() };
        if let Err(rejection) = crate::export::judge(answer) {
            self.warn(|| match status {
                Some(status) => format!("{} (status {status})", rejection.meaning().trim()),
                None => rejection.meaning().trim().to_owned(),
            });
        }
        self.on(Event::Answer(answer));
    }

    fn on_done(&mut self) -> bool {
        if self.ingest.is_exporting() {
            self.on(Event::Closed);
        }
        true
    }
}

impl Stream {
    fn warn(&self, what: impl FnOnce() -> String) {
        let cluster = &self.plugin.shared.config.export.cluster;
        self.plugin.failures.warn(now(), || format!("export to cluster {cluster}: {}", what()));
    }
}

/// At most one warning a minute: a backend that is down fails every request.
#[derive(Default)]
struct Throttle {
    last: Cell<Option<Duration>>,
    left_out: Cell<u64>,
}

impl Throttle {
    fn warn(&self, now: Duration, what: impl FnOnce() -> String) {
        const INTERVAL: Duration = Duration::from_secs(60);
        if self.last.get().is_some_and(|last| now.abs_diff(last) < INTERVAL) {
            self.left_out.set(self.left_out.get() + 1);
            return;
        }
        self.last.set(Some(now));
        match self.left_out.replace(0) {
            0 => log::warn!("{}", what()),
            more => log::warn!("{} ({more} more failures since the last warning)", what()),
        }
    }
}
