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

use crate::bucket::{Charge, Cost, Limiter, Seed, Standing};
use crate::config::Config;
use crate::encoding::{self, Coding};
use crate::export::outbox::{Outcome, Ticket};
use crate::export::{Delivery, Outbox};
use crate::limit_service::{self, Heard};
use crate::memory::Store;
use crate::otlp::{self, Known};
use crate::rejection::{Refusal, Rejection};
use crate::reply::{self, Reply};
use crate::request::{self, Announced, Headers};
use crate::stats::{Sink, Stat};
use crate::token::{self, Asked, Claims, Keyring, Verdict};
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

/// Records that are on their way to the backend, and what they were charged.
#[derive(Debug)]
struct Parcel {
    records: u64,
    charge: Charge,
}

/// A request that waits for a key which its token names.
#[derive(Debug)]
struct Awaiting {
    token: Vec<u8>,
    providers: Vec<usize>,
    /// What the keyring had learnt when the token was last judged.
    generation: u64,
    received: Duration,
    announced: Result<Announced, Rejection>,
    body: Body,
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
    /// How the sender's buckets stand.
    standing: Standing,
}

/// A body over the limit is read and thrown away up to this many times the limit, so that the
/// client sees its 413 instead of a reset connection, which it would answer by sending it again.
const DRAIN: u64 = 4;

/// A request waits for a key no longer than this: less than Envoy's idle timeout in the examples,
/// more than the time between two fetches on demand and what one may take.
const LONGEST_WAIT: Duration = Duration::from_secs(13);

/// A step that ends here ends with an answer.
type Step = Result<Effect, Refusal>;

impl Ingest {
    /// A request that has just begun.
    pub fn new() -> Ingest {
        Ingest { phase: Phase::Start, grpc: false, traceparent: None, codings: Vec::new(), standing: Standing::default() }
    }

    /// Whether it waits for keys.
    pub fn is_awaiting(&self) -> bool {
        matches!(self.phase, Phase::Awaiting(_))
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
        if let Err(refusal) = limiter.look(session, world.now, world.store) {
            self.standing = limiter.standing(session, world.now, world.store);
            return Err(refusal);
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

    /// Judges a waiting request's token again, where there is something new.
    fn keys(&mut self, shared: &Shared, mut awaiting: Awaiting, world: &mut World<'_>) -> Step {
        let waited = world.now.saturating_sub(awaiting.received) > LONGEST_WAIT;
        if awaiting.generation == world.keyring.generation() && !waited {
            self.phase = Phase::Awaiting(awaiting);
            return Ok(Effect::Wait);
        }
        awaiting.generation = world.keyring.generation();
        let step = match verify(&awaiting.token, shared, world) {
            Verdict::Verified(claims) | Verdict::Remembered(claims) => {
                self.admit(shared, claims, awaiting.received, awaiting.announced, awaiting.body, world)
            }
            Verdict::Refused(rejection) => Err(rejection.into()),
            Verdict::NoKeys => Err(no_keys(world)),
            Verdict::KeyUnknown(_) => match world.keyring.asked(&awaiting.providers, awaiting.received) {
                // The keys are newer than the question: there is no such key.
                Asked::Answered => Err(Rejection::TokenKey.into()),
                Asked::Waiting if !waited => {
                    self.phase = Phase::Awaiting(awaiting);
                    return Ok(Effect::Wait);
                }
                Asked::Waiting | Asked::Failed => Err(no_keys(world)),
            },
        };
        world.keyring.leave();
        step
    }

    /// Holds a body within the limit, and throws a larger one away: whether that is refused is said
    /// when the sender is known.
    fn buffered_while_awaiting(&mut self, shared: &Shared, mut awaiting: Awaiting, bytes: usize, end: bool) -> Effect {
        awaiting.body.end = end;
        let discard = awaiting.body.discarded > 0 || bytes > shared.config.max_body_bytes;
        if discard {
            awaiting.body = Body { buffered: 0, discarded: awaiting.body.discarded.saturating_add(bytes as u64), end };
        } else {
            awaiting.body.buffered = bytes;
        }
        self.phase = Phase::Awaiting(awaiting);
        if discard { Effect::Discard(bytes) } else { Effect::Wait }
    }

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

    fn drain(&mut self, shared: &Shared, seen: u64, bytes: usize, end: bool) -> Step {
        let seen = seen.saturating_add(bytes as u64);
        if end || seen > drained_at_most(shared) {
            return Err(Rejection::BodyTooLarge.into());
        }
        self.phase = Phase::Draining { seen };
        Ok(Effect::Discard(bytes))
    }

    fn body(&mut self, shared: &Shared, claims: &Claims, received: Duration, body: Option<Vec<u8>>, world: &mut World<'_>) -> Step {
        let body = body.ok_or(Rejection::BodyUnavailable)?;
        world.stats.add(Stat::RequestBytes, body.len() as u64);
        let mut body = self.decoded(body, shared)?;
        let bytes = body.len() as u64;
        // Before the work of reading it, and before anything is charged.
        world.outbox.admit(body.len(), world.now)?;
        let known = Known { issuer: &claims.issuer, subject: &claims.subject, received };
        let encoded = otlp::encode(&mut body, known, &shared.config.mapping)?;
        drop(body);
        let records = encoded.records;
        world.stats.add(Stat::RecordsPerRequest, records);
        // The login session if the token names one; otherwise the app's, which is the client's word
        // and so counts within its own user alone.
        let named = encoded.session.as_deref().map(String::from_utf8_lossy);
        let session = claims.session.as_deref().or(named.as_deref());
        let cost = Cost { records, bytes };
        let limiter = limiter(shared, claims);
        let mut charge = match limiter.charge(session, cost, world.now, world.store, world.stats) {
            Ok(charge) => charge,
            Err(refusal) => {
                self.standing = limiter.standing(session, world.now, world.store);
                return Err(refusal);
            }
        };
        self.standing = std::mem::take(&mut charge.standing);
        for (oddity, times) in encoded.oddities {
            world.stats.add(Stat::Odd(oddity), times);
        }
        if records == 0 {
            return Ok(accepted(0, Delivery::default(), world));
        }
        let parcel = Parcel { records, charge };
        match &shared.config.rate_limits.service {
            None => Ok(self.deliver(parcel, encoded.protobuf, world)),
            Some(service) => {
                world.stats.add(Stat::LimitServiceAsked, 1);
                let hits = cost.of(shared.config.rate_limits.unit);
                let question = limit_service::question(service, &claims.issuer, &claims.subject, session, hits);
                self.phase = Phase::Asking(parcel, encoded.protobuf);
                Ok(Effect::Ask(question))
            }
        }
    }

    /// The body with its Content-Encoding undone; at most as large as a body may be.
    fn decoded(&self, body: Vec<u8>, shared: &Shared) -> Result<Vec<u8>, Rejection> {
        if self.codings.is_empty() {
            return Ok(body);
        }
        let body = encoding::decode(&body, &self.codings, shared.config.max_body_bytes)?;
        if body.is_empty() { Err(Rejection::BodyMissing) } else { Ok(body) }
    }

    /// What the rate limit service says, or what its silence means.
    fn heard(&mut self, shared: &Shared, parcel: Parcel, protobuf: Vec<u8>, answer: Option<&[u8]>, world: &mut World<'_>) -> Step {
        let Some(service) = &shared.config.rate_limits.service else { return Ok(self.deliver(parcel, protobuf, world)) };
        let heard = limit_service::judge(service, answer);
        let failed = match &heard {
            Ok(heard) => *heard == Heard::Nothing,
            Err(refusal) => refusal.rejection == Rejection::LimitServiceUnavailable,
        };
        world.stats.add(Stat::LimitServiceFailed, u64::from(failed));
        // Much may have changed while it was asked.
        let admitted = world.outbox.admit(protobuf.len(), world.now);
        match heard.map(drop).and(admitted) {
            Ok(()) => Ok(self.deliver(parcel, protobuf, world)),
            Err(refusal) => {
                // The buckets here have nothing to do with it.
                self.standing = Standing::default();
                parcel.charge.refund(world.now, world.store, world.stats);
                Err(refusal)
            }
        }
    }

    fn deliver(&mut self, parcel: Parcel, protobuf: Vec<u8>, world: &mut World<'_>) -> Effect {
        let ticket = world.outbox.park(protobuf, parcel.records, self.traceparent.take(), world.now);
        self.phase = Phase::Exporting(parcel);
        Effect::Deliver(ticket)
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

/// Nothing can be said of the token until the keys can be had: a fault that passes, never a 401.
fn no_keys(world: &World<'_>) -> Refusal {
    Refusal { rejection: Rejection::KeysUnavailable, retry_after: Some(world.keyring.retry_after(world.now)) }
}

fn limiter<'s>(shared: &'s Shared, claims: &Claims) -> Limiter<'s> {
    Limiter::new(&shared.config.rate_limits, claims.distinction, &claims.issuer, &claims.subject, shared.seed)
}

fn drained_at_most(shared: &Shared) -> u64 {
    (shared.config.max_body_bytes as u64).saturating_mul(DRAIN)
}

/// The end of a delivery. What wasn't delivered isn't charged.
fn settled(parcel: Parcel, outcome: Outcome, world: &mut World<'_>) -> Step {
    match outcome {
        Ok(delivery) => Ok(accepted(parcel.records, delivery, world)),
        Err(refusal) => {
            parcel.charge.refund(world.now, world.store, world.stats);
            Err(refusal)
        }
    }
}

fn accepted(records: u64, delivery: Delivery, world: &mut World<'_>) -> Effect {
    let rejected = delivery.rejected.min(records);
    world.stats.add(Stat::RequestsAccepted, 1);
    world.stats.add(Stat::RecordsAccepted, records - rejected);
    Effect::Reply(reply::accept(records, delivery))
}

#[cfg(test)]
mod tests;
