//! The windows: Envoy's callbacks become events, effects become host calls.
//!
//! The only room that touches the host. The clock is read once for each callback. Header values
//! are fetched as bytes alone: the SDK's string getters trap on a byte that isn't UTF-8, and a
//! trap takes the worker's VM with everything that it holds. Call responses are looked at only
//! where there are headers: after a reset there are none, and the getters trap on that too.
//!
//! A stream that waits, for keys or for the backend, is resumed from the root context: at most sixteen
//! in one callback, since Envoy sends replies recursively when a callback ends, and only those that this
//! VM knows to be alive, since the SDK traps on one that isn't. Exports are sent from the root context
//! alone: the answer to one that a stream has sent is lost with that stream, and with it all others in it.

mod answer;
mod headers;
mod limit_service;
mod local_reply;
mod memory;
mod metrics;
mod root;
mod signatures;
mod stream;
mod troubles;

use crate::export::Outbox;
use crate::export::outbox::Ticket;
use crate::ids::Ids;
use crate::ingest::{Effect, Event, Ingest, Shared, World};
use crate::otlp::Encoder;
use crate::token::Keyring;
use memory::SharedData;
use metrics::Metrics;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, LogLevel};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};
use troubles::Troubles;

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
    /// The root context's id.
    root: u32,
    shared: Shared,
    metrics: Metrics,
    troubles: Troubles,
    keyring: RefCell<Keyring>,
    encoder: RefCell<Encoder>,
    outbox: RefCell<Outbox>,
    doorbell: Doorbell,
    waiting: RefCell<Waiting>,
    /// How often the root context ticks now.
    period: Cell<Duration>,
}

/// Streams that the root context may have to resume.
#[derive(Default)]
struct Waiting {
    /// Those that are alive and wait, by context id.
    alive: Ids<u32, Rc<RefCell<Ingest>>>,
    /// Those that wait for keys, the longest waiting first.
    line: VecDeque<u32>,
    /// Those that wait for the backend; also when they are no longer alive.
    parked: Ids<Ticket, Waiter>,
    /// Those that wait for the rate limit service, by the call's token; only while they are alive.
    asked: Ids<u32, Waiter>,
}

/// A stream that waits, by its context id.
type Waiter = (u32, Rc<RefCell<Ingest>>);

/// A shared queue that is nobody else's: what is put into it makes Envoy call the root context, on the
/// same thread, as soon as the current callback is over.
struct Doorbell {
    queue: Option<u32>,
    rung: Cell<bool>,
}

impl Doorbell {
    /// Of two VMs with a queue of the same name only one would be called, so the name is random.
    fn install() -> Doorbell {
        let name = format!("envoy-log-ingest/{:08x}{:08x}", memory::random(), memory::random());
        let queue = hostcalls::register_shared_queue(&name).ok();
        if queue.is_none() {
            log::warn!("no shared queue: exports wait for the next tick");
        }
        Doorbell { queue, rung: Cell::new(false) }
    }

    /// Asks for the root context to be called; `false` if it won't be.
    fn ring(&self) -> bool {
        let Some(queue) = self.queue else { return false };
        if !self.rung.get() {
            self.rung.set(hostcalls::enqueue_shared_queue(queue, None).is_ok());
        }
        self.rung.get()
    }

    /// Rings again when next asked to, in case the root context was never called.
    fn forget(&self) {
        self.rung.set(false);
    }

    /// The root context has been called.
    fn answer(&self, queue: u32) {
        let _ = hostcalls::dequeue_shared_queue(queue);
        self.rung.set(false);
    }
}

/// Ticks while a request waits for keys, while there are none, and otherwise.
const SOON: Duration = Duration::from_millis(20);
const SOONER: Duration = Duration::from_millis(200);
const SOMETIME: Duration = Duration::from_secs(1);

/// What an event came to.
enum Done {
    /// For the callback to return.
    Action(Action),
    /// The rate limit service is asked, by a call with this token.
    Asked(u32),
    /// The records are in the outbox.
    Parked(Ticket),
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

    /// Has the root context called soon, as there is something to send or somebody to answer.
    fn ring(&self) {
        if !self.doorbell.ring() {
            self.tick_every(SOON);
        }
    }

    /// Takes an event of a stream, which is the effective context, to its end: effects that ask for an
    /// answer at once get it.
    #[inline(never)]
    fn run(&self, id: u32, ingest: &mut Ingest, event: Event<'_>, now: Duration) -> Done {
        let mut store = SharedData;
        let mut stats = self.metrics.sink();
        let mut keyring = self.keyring.borrow_mut();
        let mut outbox = self.outbox.borrow_mut();
        let mut encoder = self.encoder.borrow_mut();
        let mut world =
            World { now, keyring: &mut keyring, encoder: &mut encoder, outbox: &mut outbox, store: &mut store, stats: &mut stats };
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
                    let body = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, bytes).ok().flatten();
                    // A stream may wait for long; Envoy need not hold what has been read.
                    let _ = hostcalls::set_buffer(BufferType::HttpRequestBody, 0, bytes, b"");
                    ingest.on(&self.shared, Event::Body(body), &mut world)
                }
                Effect::Ask(question) => match self.ask(id, &question) {
                    Some(token) => return Done::Asked(token),
                    None => {
                        self.troubles.limits("Envoy has no such cluster, or no endpoint for it", now);
                        ingest.on(&self.shared, Event::Answered(None), &mut world)
                    }
                },
                Effect::Deliver(ticket) => return Done::Parked(ticket),
            };
        }
    }
}
