//! The windows: Envoy's callbacks become events, effects become host calls.
//!
//! The only room that touches the host. The clock is read once for each callback. Header values
//! are fetched as bytes alone: the SDK's string getters trap on a byte that isn't UTF-8, and a
//! trap takes the worker's VM with everything that it holds. Call responses are looked at only
//! where there are headers: after a reset there are none, and the getters trap on that too.
//!
//! A stream that waits for keys is resumed from the root context, at a tick or when keys have come: at
//! most sixteen in one callback, since Envoy sends replies recursively when a callback ends, and only those that this
//! VM knows to be alive, since the SDK traps on one that isn't.

mod answer;
mod local_reply;
mod memory;
mod metrics;
mod root;
mod stream;

use crate::ingest::{Effect, Event, Ingest, Shared, World};
use crate::token::Keyring;
use memory::SharedData;
use metrics::Metrics;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, LogLevel};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}}

/// Time since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What the requests of a worker share.
struct Plugin {
    shared: Shared,
    metrics: Metrics,
    failures: Throttle,
    key_failures: Throttle,
    keyring: RefCell<Keyring>,
    waiting: RefCell<Waiting>,
    /// How often the root context ticks now.
    period: Cell<Duration>,
}

/// Streams that the root context may have to resume.
#[derive(Default)]
struct Waiting {
    /// Those that are alive, by context id.
    alive: HashMap<u32, Rc<RefCell<Ingest>>>,
    /// Those that wait for keys, the longest waiting first.
    line: VecDeque<u32>,
    /// Exports that the root context has under way for a stream, by their token.
    exports: HashMap<u32, u32>,
}

/// Ticks while a request waits for keys, while there are none, and otherwise.
const SOON: Duration = Duration::from_millis(20);
const SOONER: Duration = Duration::from_millis(200);
const SOMETIME: Duration = Duration::from_secs(1);

/// What an event came to.
enum Done {
    /// For the callback to return.
    Action(Action),
    /// A callout with this token is under way.
    Exporting(u32),
    /// Keys are waited for.
    Waiting,
}

impl Plugin {
    /// Sets how often the root context ticks, where that changes: each call begins a new interval, so
    /// calls that come faster than the interval would put the tick off for ever.
    fn tick_every(&self, period: Duration) {
        if self.period.replace(period) != period {
            let _ = hostcalls::set_tick_period(period);
        }
    }

    /// Takes an event of the effective context's stream to its end: effects that ask for an answer at
    /// once get it.
    fn run(&self, ingest: &mut Ingest, event: Event<'_>) -> Done {
        let now = now();
        let mut store = SharedData;
        let mut stats = self.metrics.sink();
        let mut keyring = self.keyring.borrow_mut();
        let mut world = World { now, keyring: &mut keyring, store: &mut store, stats: &mut stats };
        let mut effect = ingest.on(&self.shared, event, &mut world);
        loop {
            effect = match effect {
                Effect::Pass => return Done::Action(Action::Continue),
                Effect::Wait => return Done::Action(Action::Pause),
                Effect::AwaitKeys => return Done::Waiting,
                Effect::Discard(bytes) => {
                    // Nothing in the buffer, nothing to throw away.
                    let _ = hostcalls::set_buffer(BufferType::HttpRequestBody, 0, bytes, b"");
                    return Done::Action(Action::Pause);
                }
                Effect::Reply(reply) => {
                    local_reply::send(&reply);
                    return Done::Action(Action::Pause);
                }
                Effect::Reset => {
                    let _ = hostcalls::reset_http_request();
                    return Done::Action(Action::Pause);
                }
                Effect::Read(bytes) => {
                    let mut body = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, bytes).ok().flatten();
                    ingest.on(&self.shared, Event::Body(body.as_deref_mut()), &mut world)
                }
                Effect::Export(callout) => {
                    let sent =
                        hostcalls::dispatch_http_call(callout.cluster, callout.headers, Some(&callout.body), vec![], callout.timeout);
                    match sent {
                        Ok(token) => return Done::Exporting(token),
                        Err(_) => {
                            self.failures.warn(now, || {
                                format!("export to cluster {}: Envoy has no such cluster, or no endpoint for it", callout.cluster)
                            });
                            ingest.on(&self.shared, Event::NotDispatched, &mut world)
                        }
                    }
                }
            };
        }
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
