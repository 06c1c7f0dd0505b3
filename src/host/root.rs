//! The filter as configured, in one worker: configuration, keys, and streams that wait for them.

use super::{
    Done, Doorbell, Plugin, SOMETIME, SOON, SOONER, SharedData, Troubles, Waiting, answer, limit_service, memory, now, signatures, stream,
};
use crate::bucket::Limiter;
use crate::config::{Config, Source};
use crate::export::outbox::Flight;
use crate::export::{self, Answer, Gzip, Outbox, USER_AGENT};
use crate::ids::Ids;
use crate::ingest::{Event, Ingest, Shared};
use crate::stats::{Sink, Stat};
use crate::token::{KeyAnswer, Keyring};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Envoy sends the replies of one callback recursively when it ends, and traps at some 300.
const RESUMED_AT_ONCE: usize = 16;

/// More of a key set than this isn't looked at; the keyring refuses what is larger than its bound.
const MOST_OF_A_KEY_SET: usize = 256 * 1024 + 1;

/// More of a backend's answer isn't looked at: the VM's memory never shrinks.
const MOST_OF_AN_ANSWER: usize = 1024 * 1024;

/// The root context.
pub struct Root {
    id: u32,
    plugin: Option<Rc<Plugin>>,
    /// Key sets that are being fetched: the callout's token, the provider's index.
    fetches: Ids<u32, usize>,
    /// Exports that are under way, by the callout's token.
    flights: Ids<u32, Flight>,
    gzip: Gzip,
}

impl Root {
    /// Not configured yet.
    pub fn new(id: u32) -> Root {
        Root { id, plugin: None, fetches: Ids::default(), flights: Ids::default(), gzip: Gzip::default() }
    }

    #[inline(never)]
    fn configure(&mut self, config: Config) {
        let mut memory = SharedData;
        Limiter::prepare(&config.rate_limits, &mut memory);
        Keyring::prepare(&config.auth, &mut memory);
        let keyring = match memory::secret() {
            Some(secret) => Keyring::new(&config.auth, secret),
            None => {
                log::warn!("no random numbers: verified tokens are not remembered");
                Keyring::new(&config.auth, 0).forgetful()
            }
        };
        let keyring = keyring.with_signatures(Box::new(signatures::VerifySignature));
        let ticks = keyring.is_remote();
        let outbox = Outbox::new(config.export.bounds, u64::from(memory::random()) << 32 | u64::from(memory::random()));
        let shared = Shared { config, seed: memory::seed(&mut memory) };
        self.plugin = Some(Rc::new(Plugin {
            root: self.id,
            shared,
            metrics: super::Metrics::define(),
            troubles: Troubles::default(),
            keyring: RefCell::new(keyring),
            encoder: RefCell::default(),
            outbox: RefCell::new(outbox),
            doorbell: Doorbell::install(),
            waiting: RefCell::new(Waiting::default()),
            period: Cell::new(Duration::ZERO),
        }));
        (self.fetches, self.flights) = (Ids::default(), Ids::default());
        if let Some(plugin) = &self.plugin {
            plugin.tick_every(if ticks { SOON } else { SOMETIME });
        }
    }

    fn fetch(&mut self, plugin: &Plugin, provider: usize) {
        let Some(Source::Remote(jwks)) = plugin.shared.config.auth.providers.get(provider).map(|provider| &provider.keys) else { return };
        let headers = vec![
            (":method", "GET"),
            (":path", jwks.path.as_str()),
            (":authority", jwks.authority.as_str()),
            ("accept", "application/jwk-set+json, application/json"),
            ("user-agent", USER_AGENT),
        ];
        match self.dispatch_http_call(&jwks.cluster, headers, None, vec![], jwks.timeout) {
            Ok(token) => {
                self.fetches.insert(token, provider);
            }
            Err(_) => plugin.fetched(provider, KeyAnswer::None),
        }
    }

    /// Hands Envoy whatever may go out now.
    fn send(&mut self, plugin: &Plugin, now: Duration) {
        let mut stats = plugin.metrics.sink();
        let mut outbox = plugin.outbox.borrow_mut();
        let export = &plugin.shared.config.export;
        while let Some(shipment) = outbox.next(now, &mut stats) {
            let callout = export::callout(export, &shipment, &mut self.gzip);
            stats.add(Stat::ExportBytes, callout.body.len() as u64);
            match self.dispatch_http_call(callout.cluster, callout.headers, Some(&callout.body), vec![], callout.timeout) {
                Ok(token) => {
                    self.flights.insert(token, shipment.flight);
                }
                Err(_) => {
                    let notice = outbox.answered(shipment.flight, Answer::NotDispatched, now, &mut stats);
                    plugin.troubles.export(&export.cluster, None, notice, now);
                }
            }
        }
    }

    /// Sends what can be sent, answers who can be answered, and sees to it that somebody comes back for the rest.
    #[inline(never)]
    fn go_on(&mut self, plugin: &Plugin, now: Duration) {
        self.send(plugin, now);
        plugin.resume(self.id, now);
        let outbox = plugin.outbox.borrow();
        if outbox.has_settled() || outbox.is_due(now) {
            plugin.ring();
        }
        if outbox.is_waiting() {
            plugin.tick_every(SOON);
        }
    }
}

impl Plugin {
    fn fetched(&self, provider: usize, answer: KeyAnswer<'_>) {
        let auth = &self.shared.config.auth;
        let outcome = self.keyring.borrow_mut().fetched(auth, provider, answer, now(), &mut SharedData, &mut self.metrics.sink());
        if let Err(why) = outcome {
            let name = auth.providers.get(provider).map(|provider| provider.name.as_str()).unwrap_or_default();
            self.troubles.keys(name, why, now());
        }
    }

    /// Answers the first few whose records are settled, and lets the first few who wait for keys try again.
    #[inline(never)]
    fn resume(&self, root: u32, now: Duration) {
        let mut left = RESUMED_AT_ONCE;
        while left > 0 {
            let Some((ticket, outcome)) = self.outbox.borrow_mut().settled() else { break };
            let Some((id, ingest)) = self.waiting.borrow_mut().parked.remove(ticket) else { continue };
            if self.is_alive(id) {
                left -= 1;
                self.effectively(id, || {
                    self.event(id, &ingest, Event::Settled(outcome), now);
                });
            } else {
                self.event(id, &ingest, Event::Settled(outcome), now);
            }
        }
        // On a line of its own: the borrow must have ended when the loop begins.
        let left = self.waiting.borrow().line.len().min(left);
        for _ in 0..left {
            let (id, ingest) = {
                let mut waiting = self.waiting.borrow_mut();
                let Some(id) = waiting.line.pop_front() else { break };
                let Some(ingest) = waiting.alive.get(id).map(Rc::clone) else { continue };
                (id, ingest)
            };
            self.effectively(id, || {
                self.event(id, &ingest, Event::Keys, now);
            });
            if ingest.borrow().is_awaiting() {
                self.waiting.borrow_mut().line.push_back(id);
            }
        }
        let _ = hostcalls::set_effective_context(root);
    }

    fn is_alive(&self, id: u32) -> bool {
        self.waiting.borrow().alive.contains_key(id)
    }

    /// Does something as the stream, which must be alive.
    fn effectively(&self, id: u32, act: impl FnOnce()) {
        if hostcalls::set_effective_context(id).is_ok() {
            act();
        }
    }

    /// Takes an event to a stream, and notes what the stream waits for then.
    pub fn event(&self, id: u32, ingest: &Rc<RefCell<Ingest>>, event: Event<'_>, now: Duration) -> Action {
        let done = self.run(id, &mut ingest.borrow_mut(), event, now);
        let mut waiting = self.waiting.borrow_mut();
        match done {
            Done::Action(action) => action,
            Done::Waiting => {
                waiting.alive.insert(id, Rc::clone(ingest));
                waiting.line.push_back(id);
                self.tick_every(SOON);
                Action::Pause
            }
            Done::Asked(token) => {
                waiting.alive.insert(id, Rc::clone(ingest));
                waiting.asked.insert(token, (id, Rc::clone(ingest)));
                Action::Pause
            }
            Done::Parked(ticket) => {
                waiting.alive.insert(id, Rc::clone(ingest));
                waiting.parked.insert(ticket, (id, Rc::clone(ingest)));
                if self.outbox.borrow().is_due(now) {
                    self.ring();
                }
                Action::Pause
            }
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _num_trailers: usize) {
        let Some(plugin) = self.plugin.clone() else { return };
        let now = now();
        if let Some(provider) = self.fetches.remove(token) {
            let response = answer::read(num_headers, body_size, MOST_OF_A_KEY_SET);
            let answer = response.as_ref().map_or(KeyAnswer::None, |response| KeyAnswer::Response(response.status, &response.body));
            plugin.fetched(provider, answer);
        } else if let Some(flight) = self.flights.remove(token) {
            let response = answer::read(num_headers, body_size, MOST_OF_AN_ANSWER);
            let answer = response.as_ref().map_or(Answer::Reset, answer::Response::as_answer);
            let notice = plugin.outbox.borrow_mut().answered(flight, answer, now, &mut plugin.metrics.sink());
            let status = response.as_ref().and_then(|response| response.status);
            plugin.troubles.export(&plugin.shared.config.export.cluster, status, notice, now);
        }
        self.go_on(&plugin, now);
    }

    /// Of a call that was made when the stream was resumed from here.
    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let Some(plugin) = self.plugin.clone() else { return };
        if let Some(((id, ingest), answer)) = plugin.answered(token, status, size) {
            plugin.effectively(id, || {
                plugin.event(id, &ingest, limit_service::event(&answer), now());
            });
            let _ = hostcalls::set_effective_context(self.id);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match Config::read(&bytes, &environment) {
            Ok(config) => {
                self.configure(config);
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

    fn on_tick(&mut self) {
        let Some(plugin) = self.plugin.clone() else { return };
        let now = now();
        let due = plugin.keyring.borrow_mut().tick(&plugin.shared.config.auth, now, &mut SharedData, &mut plugin.metrics.sink());
        for provider in due {
            self.fetch(&plugin, provider);
        }
        plugin.outbox.borrow_mut().tick(now, &mut plugin.metrics.sink());
        plugin.doorbell.forget();
        self.go_on(&plugin, now);
        let (keyring, outbox) = (plugin.keyring.borrow(), plugin.outbox.borrow());
        plugin.tick_every(if keyring.is_awaited() || outbox.is_waiting() || outbox.has_settled() || outbox.is_due(now) {
            SOON
        } else if keyring.is_missing() {
            SOONER
        } else {
            SOMETIME
        });
    }

    fn on_queue_ready(&mut self, queue: u32) {
        let Some(plugin) = self.plugin.clone() else { return };
        plugin.doorbell.answer(queue);
        self.go_on(&plugin, now());
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let plugin = self.plugin.clone()?;
        Some(Box::new(stream::Stream::new(id, plugin)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
