//! The filter as configured, in one worker: configuration, keys, and streams that wait for them.

use super::{Done, Plugin, SOMETIME, SOON, SOONER, SharedData, Throttle, Waiting, answer, memory, now, stream};
use crate::bucket::Limiter;
use crate::config::{Config, Source};
use crate::export::USER_AGENT;
use crate::ingest::{Event, Shared};
use crate::token::{KeyAnswer, Keyring};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Envoy sends the replies of one callback recursively when it ends, and traps at some 300.
const RESUMED_AT_ONCE: usize = 16;

/// More of a key set than this isn't looked at; the keyring refuses what is larger than its bound.
const MOST_OF_A_KEY_SET: usize = 256 * 1024 + 1;

/// The root context.
pub struct Root {
    id: u32,
    plugin: Option<Rc<Plugin>>,
    /// Key sets that are being fetched: the callout's token, the provider's index.
    fetches: HashMap<u32, usize>,
}

impl Root {
    /// Not configured yet.
    pub fn new(id: u32) -> Root {
        Root { id, plugin: None, fetches: HashMap::new() }
    }

    fn configure(&mut self, config: Config) {
        let mut memory = SharedData;
        Limiter::prepare(&config.rate_limits, &mut memory);
        Keyring::prepare(&config.auth, &mut memory);
        let keyring = Keyring::new(&config.auth, memory::random());
        let ticks = keyring.is_remote();
        let shared = Shared { config, seed: memory::seed(&mut memory) };
        self.plugin = Some(Rc::new(Plugin {
            shared,
            metrics: super::Metrics::define(),
            failures: Throttle::default(),
            key_failures: Throttle::default(),
            keyring: RefCell::new(keyring),
            waiting: RefCell::new(Waiting::default()),
            period: Cell::new(Duration::ZERO),
        }));
        if ticks && let Some(plugin) = &self.plugin {
            plugin.tick_every(SOON);
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
}

impl Plugin {
    fn fetched(&self, provider: usize, answer: KeyAnswer<'_>) {
        let auth = &self.shared.config.auth;
        let outcome = self.keyring.borrow_mut().fetched(auth, provider, answer, now(), &mut SharedData, &mut self.metrics.sink());
        if let Err(why) = outcome {
            let name = auth.providers.get(provider).map(|provider| provider.name.as_str()).unwrap_or_default();
            self.key_failures.warn(now(), || format!("keys of provider {name} could not be fetched: {why}; those held stay in force"));
        }
    }

    /// Lets the first few in the line try again.
    fn resume(&self, root: u32) {
        let count = self.waiting.borrow().line.len().min(RESUMED_AT_ONCE);
        for _ in 0..count {
            let (id, ingest) = {
                let mut waiting = self.waiting.borrow_mut();
                let Some(id) = waiting.line.pop_front() else { break };
                let Some(ingest) = waiting.alive.get(&id).map(Rc::clone) else { continue };
                (id, ingest)
            };
            self.effectively(id, || self.event(id, &ingest, Event::Keys));
        }
        let _ = hostcalls::set_effective_context(root);
    }

    /// Does something as the stream, which must be alive.
    fn effectively(&self, id: u32, act: impl FnOnce()) {
        if hostcalls::set_effective_context(id).is_ok() {
            act();
        }
    }

    fn event(&self, id: u32, ingest: &RefCell<crate::ingest::Ingest>, event: Event<'_>) {
        let mut ingest = ingest.borrow_mut();
        let done = self.run(&mut ingest, event);
        let mut waiting = self.waiting.borrow_mut();
        match done {
            // The SDK brings the answer to the context that is active: the root, not the stream.
            Done::Exporting(token) => {
                waiting.exports.insert(token, id);
            }
            Done::Action(_) | Done::Waiting if ingest.is_awaiting() => waiting.line.push_back(id),
            Done::Action(_) | Done::Waiting => {}
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _num_trailers: usize) {
        let Some(plugin) = self.plugin.clone() else { return };
        if let Some(provider) = self.fetches.remove(&token) {
            let response = answer::read(num_headers, body_size, MOST_OF_A_KEY_SET);
            let answer = response.as_ref().map_or(KeyAnswer::None, |response| KeyAnswer::Response(response.status, &response.body));
            plugin.fetched(provider, answer);
            plugin.resume(self.id);
            return;
        }
        let stream = plugin.waiting.borrow_mut().exports.remove(&token);
        let response = answer::read(num_headers, body_size, body_size);
        let answer = plugin.report(response.as_ref());
        let alive = stream.and_then(|id| Some((id, Rc::clone(plugin.waiting.borrow().alive.get(&id)?))));
        if let Some((id, ingest)) = alive {
            plugin.effectively(id, || plugin.event(id, &ingest, Event::Answer(answer)));
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
        let due = plugin.keyring.borrow_mut().tick(&plugin.shared.config.auth, now(), &mut SharedData, &mut plugin.metrics.sink());
        for provider in due {
            self.fetch(&plugin, provider);
        }
        plugin.resume(self.id);
        let (awaited, missing) = {
            let keyring = plugin.keyring.borrow();
            (keyring.is_awaited(), keyring.is_missing())
        };
        plugin.tick_every(match (awaited, missing) {
            (true, _) => SOON,
            (false, true) => SOONER,
            (false, false) => SOMETIME,
        });
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
