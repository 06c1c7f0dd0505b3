//! The state machine of one request: events in, effects out; it owns the order of the steps.
//!
//! ```text
//!            Headers                  Body                  Settled
//!   Start ───────────> Reading ───────────────> Exporting ───────────> Done: 200, 502
//!     │ other path      ^ │ too large              │ client leaves: its records still go out
//!     ├──> Passing      │ ├──> Draining ──> Done: 413  └──> Abandoned ──> Done
//!     │ key not known   │ │ refused             ^
//!     ├──> Awaiting ────┘ ├──> Asking ──────────┘ the rate limit service, where there is one
//!     │                   └──> Done: 400, 429
//!     │ refused  │ Keys: refused, or not to be had
//!     └──────────┴──> Done: 401, 503 …
//! ```
//!
//! `now` comes with each event. An event that the phase doesn't expect changes nothing and asks
//! for nothing: a late answer, a body after the reply.

mod awaiting;
mod delivery;

use crate::bucket::{Limiter, Seed, Seen, Standing};
use crate::config::Config;
use crate::encoding::{self, Coding};
use crate::export::Outbox;
use crate::export::outbox::{Outcome, Ticket};
use crate::memory::Store;
use crate::otlp::Encoder;
use crate::rejection::{Refusal, Rejection};
use crate::reply::{self, Reply};
use crate::request::{self, Announced, Headers};
use crate::stats::{Sink, Stat};
use crate::token::{self, Claims, Keyring, Verdict};
use awaiting::{Awaiting, no_keys};
use delivery::{Parcel, settled};
use serde_json::{Map, Value};
use std::rc::Rc;
use std::time::Duration;

/// What all requests of a worker have in common.
#[derive(Debug)]
pub struct Shared {
    /// The operator's configuration.
    pub config: Config,
    /// Where this process's hashes begin.
    pub seed: Seed,
}

/// The world as a step sees it.
pub struct World<'w> {
    /// Time since the Unix epoch.
    pub now: Duration,
    /// Keys and tokens that this worker knows.
    pub keyring: &'w mut Keyring,
    /// What makes OTLP of batches.
    pub encoder: &'w mut Encoder,
    /// What waits for the backend in this worker.
    pub outbox: &'w mut Outbox,
    /// What workers share.
    pub store: &'w mut dyn Store,
    /// Where counts go.
    pub stats: &'w mut dyn Sink,
}

/// What happened.
pub enum Event<'e> {
    /// The request's headers.
    Headers {
        /// Those that matter.
        headers: Headers<'e>,
        /// Claims that Envoy's jwt_authn has verified, where it is trusted.
        verified: Option<&'e Map<String, Value>>,
        /// Nothing follows.
        end: bool,
    },
    /// More of the body is in the host's buffer.
    Buffered {
        /// Bytes in the buffer now.
        bytes: usize,
        /// Nothing follows.
        end: bool,
    },
    /// Trailers: the body had ended with what is in the buffer.
    Trailers,
    /// The whole body, asked for by [`Effect::Read`]; `None` where the host doesn't have it.
    Body(Option<Vec<u8>>),
    /// What the rate limit service answered to [`Effect::Ask`]; `None`: nothing.
    Answered(Option<&'e [u8]>),
    /// Something may have been learnt about keys, or time has passed: asked for by [`Effect::AwaitKeys`].
    Keys,
    /// What came of the records that were parked with [`Effect::Deliver`].
    Settled(Outcome),
    /// The stream is gone, answered or not.
    Closed,
}

/// What is to be done.
#[derive(PartialEq, Eq)]
pub enum Effect {
    /// The request is none of ours.
    Pass,
    /// Wait for the next event.
    Wait,
    /// Come back with [`Event::Keys`] when there is news of keys, and every now and then.
    AwaitKeys,
    /// Read so many bytes of the body and come back with [`Event::Body`].
    Read(usize),
    /// Throw away so many buffered bytes, and wait.
    Discard(usize),
    /// Send this to the rate limit service and come back with [`Event::Answered`].
    Ask(Vec<u8>),
    /// The records are in the outbox; come back with [`Event::Settled`] when that has an outcome for the ticket.
    Deliver(Ticket),
    /// Answer the client.
    Reply(Reply),
    /// End the stream without an answer: after that a client sends again.
    Reset,
}

#[derive(Debug)]
enum Phase {
    Start,
    Passing,
    Awaiting(Awaiting),
    Reading { claims: Rc<Claims>, received: Duration, buffered: usize },
    Draining { seen: u64 },
    Asking(Parcel, Vec<u8>),
    Exporting(Parcel),
    Abandoned(Parcel),
    Done,
}

/// How much of a body has come.
#[derive(Clone, Copy, Debug, Default)]
struct Body {
    buffered: usize,
    /// Bytes that were thrown away because the body is too large.
    discarded: u64,
    end: bool,
}

/// One request.
#[derive(Debug)]
pub struct Ingest {
    phase: Phase,
    /// Envoy would send a refusal as a 200.
    grpc: bool,
    /// The client's trace context, for the export.
    traceparent: Option<String>,
    /// What the body's Content-Encoding is made of.
    codings: Vec<Coding>,
    /// The sender's buckets as they were looked at.
    seen: Seen,
    /// How the sender's buckets stand.
    standing: Standing,
}

/// A body over the limit is read and thrown away up to this many times the limit, so that the
/// client sees its 413 instead of a reset connection, which it would answer by sending it again.
const DRAIN: u64 = 4;

/// A step that ends here ends with an answer.
type Step = Result<Effect, Refusal>;

impl Ingest {
    /// A request that has just begun.
    pub fn new() -> Ingest {
        Ingest {
            phase: Phase::Start,
            grpc: false,
            traceparent: None,
            codings: Vec::new(),
            seen: Seen::default(),
            standing: Standing::default(),
        }
    }

    /// Whether it waits for keys.
    pub fn is_awaiting(&self) -> bool {
        matches!(self.phase, Phase::Awaiting(_))
    }

    /// Whether it has something to be told when its stream is gone.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.phase, Phase::Awaiting(_) | Phase::Asking(..) | Phase::Exporting(_))
    }

    /// Takes one event to the next effect.
    pub fn on(&mut self, shared: &Shared, event: Event<'_>, world: &mut World<'_>) -> Effect {
        let step = match (std::mem::replace(&mut self.phase, Phase::Done), event) {
            (Phase::Start, Event::Headers { headers, verified, end }) => self.headers(shared, &headers, verified, end, world),
            (Phase::Passing, _) => {
                self.phase = Phase::Passing;
                return Effect::Pass;
            }
            (Phase::Awaiting(awaiting), Event::Keys) => self.keys(shared, awaiting, world),
            (Phase::Awaiting(awaiting), Event::Buffered { bytes, end }) => Ok(self.buffered_while_awaiting(shared, awaiting, bytes, end)),
            (Phase::Awaiting(mut awaiting), Event::Trailers) => {
                awaiting.body.end = true;
                self.phase = Phase::Awaiting(awaiting);
                return Effect::Wait;
            }
            (Phase::Awaiting(_), Event::Closed) => {
                world.keyring.leave();
                return Effect::Wait;
            }
            (Phase::Reading { claims, received, .. }, Event::Buffered { bytes, end }) => {
                self.buffered(shared, claims, received, bytes, end)
            }
            (Phase::Reading { claims, received, buffered }, Event::Trailers) => self.buffered(shared, claims, received, buffered, true),
            (Phase::Reading { claims, received, buffered }, Event::Body(body)) => {
                // Less than what was announced would look like JSON that breaks off.
                let whole = body.filter(|body: &Vec<u8>| body.len() == buffered);
                self.body(shared, &claims, received, whole, world)
            }
            (Phase::Draining { seen }, Event::Buffered { bytes, end }) => self.drain(shared, seen, bytes, end),
            (Phase::Draining { seen }, Event::Trailers) => self.drain(shared, seen, 0, true),
            (Phase::Asking(parcel, protobuf), Event::Answered(answer)) => self.heard(shared, parcel, protobuf, answer, world),
            // What was taken is not given back: else one could have the service asked without end.
            (Phase::Asking(..), Event::Closed) => return Effect::Wait,
            (Phase::Exporting(parcel), Event::Settled(outcome)) => settled(parcel, outcome, world),
            (Phase::Exporting(parcel), Event::Closed) => {
                world.stats.add(Stat::ClientsGone, 1);
                self.phase = Phase::Abandoned(parcel);
                return Effect::Wait;
            }
            // Nobody is there to be answered, but the counts and the charge are as they would be.
            (Phase::Abandoned(parcel), Event::Settled(outcome)) => {
                if let Err(refusal) = settled(parcel, outcome, world) {
                    world.stats.add(Stat::Rejected(refusal.rejection), 1);
                }
                return Effect::Wait;
            }
            (_, Event::Closed) => return Effect::Wait,
            (phase, _) => {
                self.phase = phase;
                return Effect::Wait;
            }
        };
        let effect = step.unwrap_or_else(|refusal| {
            world.stats.add(Stat::Rejected(refusal.rejection), 1);
            if self.grpc { Effect::Reset } else { Effect::Reply(reply::refuse(refusal)) }
        });
        match effect {
            Effect::Reply(reply) => Effect::Reply(reply::tell(reply, &self.standing)),
            other => other,
        }
    }

    #[inline(never)]
    fn headers(
        &mut self,
        shared: &Shared,
        headers: &Headers<'_>,
        verified: Option<&Map<String, Value>>,
        end: bool,
        world: &mut World<'_>,
    ) -> Step {
        let config = &shared.config;
        if !request::is_ingest(headers.path, config) {
            self.phase = Phase::Passing;
            return Ok(Effect::Pass);
        }
        world.stats.add(Stat::Requests, 1);
        self.grpc = request::is_grpc(headers);
        self.traceparent = request::traceparent(headers);
        request::method(headers)?;
        let announced = request::announced(headers, config);
        self.codings = encoding::codings(headers.content_encoding).unwrap_or_default();
        let body = Body { end, ..Body::default() };
        if let Some(trusted) = &config.auth.trusted {
            let claims = Rc::new(token::trust(verified, trusted, &config.auth)?);
            return self.admit(shared, claims, world.now, announced, body, world);
        }
        let token = request::token(headers)?;
        match verify(token, shared, world) {
            Verdict::Verified(claims) => self.admit(shared, claims, world.now, announced, body, world),
            Verdict::Remembered(claims) => {
                world.stats.add(Stat::TokensRemembered, 1);
                self.admit(shared, claims, world.now, announced, body, world)
            }
            Verdict::Refused(rejection) => Err(rejection.into()),
            Verdict::KeyUnknown(providers) if world.keyring.wait(&providers, world.now) => {
                let generation = world.keyring.generation();
                let token = token.to_vec();
                self.phase = Phase::Awaiting(Awaiting { token, providers, generation, received: world.now, announced, body });
                Ok(Effect::AwaitKeys)
            }
            Verdict::KeyUnknown(_) | Verdict::NoKeys => Err(no_keys(world)),
        }
    }

    /// A sender who is known: may go on as far as the limits and the body allow.
    fn admit(
        &mut self,
        shared: &Shared,
        claims: Rc<Claims>,
        received: Duration,
        announced: Result<Announced, Rejection>,
        body: Body,
        world: &mut World<'_>,
    ) -> Step {
        // The cheap look: an empty bucket is seen before a body is held.
        let (limiter, session) = (limiter(shared, &claims), claims.session.as_deref());
        match limiter.first_look(session, world.now, world.store) {
            Ok(seen) => self.seen = seen,
            Err(refusal) => {
                self.standing = limiter.standing(session, world.now, world.store);
                return Err(refusal);
            }
        }
        let announced = announced?;
        if body.discarded > 0 {
            return self.drain(shared, body.discarded, body.buffered, body.end);
        }
        if body.end {
            return self.buffered(shared, claims, received, body.buffered, true);
        }
        match announced {
            Announced::Acceptable => self.phase = Phase::Reading { claims, received, buffered: body.buffered },
            Announced::TooLarge(length) if length > drained_at_most(shared) => return Err(Rejection::BodyTooLarge.into()),
            Announced::TooLarge(_) if body.buffered > 0 => return self.drain(shared, 0, body.buffered, false),
            Announced::TooLarge(_) => self.phase = Phase::Draining { seen: 0 },
        }
        Ok(Effect::Wait)
    }

    #[inline(never)]
    fn buffered(&mut self, shared: &Shared, claims: Rc<Claims>, received: Duration, bytes: usize, end: bool) -> Step {
        if bytes > shared.config.max_body_bytes {
            return self.drain(shared, 0, bytes, end);
        }
        self.phase = Phase::Reading { claims, received, buffered: bytes };
        match (end, bytes) {
            (true, 0) => {
                self.phase = Phase::Done;
                Err(Rejection::BodyMissing.into())
            }
            (true, bytes) => Ok(Effect::Read(bytes)),
            (false, _) => Ok(Effect::Wait),
        }
    }

    #[inline(never)]
    fn drain(&mut self, shared: &Shared, seen: u64, bytes: usize, end: bool) -> Step {
        let seen = seen.saturating_add(bytes as u64);
        if end || seen > drained_at_most(shared) {
            return Err(Rejection::BodyTooLarge.into());
        }
        self.phase = Phase::Draining { seen };
        Ok(Effect::Discard(bytes))
    }
}

impl Default for Ingest {
    fn default() -> Self {
        Ingest::new()
    }
}

fn verify(token: &[u8], shared: &Shared, world: &mut World<'_>) -> Verdict {
    let verdict = token::verify(token, &shared.config.auth, world.keyring, world.now);
    match world.keyring.judged_by_host() {
        0 => {}
        judged => world.stats.add(Stat::SignaturesByHost, judged),
    }
    verdict
}

fn limiter<'s>(shared: &'s Shared, claims: &'s Claims) -> Limiter<'s> {
    Limiter::new(&shared.config.rate_limits, claims.distinction, &claims.issuer, &claims.subject, shared.seed)
}

fn drained_at_most(shared: &Shared) -> u64 {
    (shared.config.max_body_bytes as u64).saturating_mul(DRAIN)
}

#[cfg(test)]
mod tests;
