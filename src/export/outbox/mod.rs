//! Group commit: what waits for the backend, and in whose company it goes there.
//!
//! ```text
//!            park            next                    answered
//!   request ──────> parked ────────> a group in flight ──────> settled, one outcome a request
//!                                     ^   ^        │ fails: waits, then goes again
//!                                     │   └────────┤ can't be accepted: goes again in two halves
//!                                     └────────────┘
//! ```
//!
//! While no more than `max_in_flight` groups are under way, whatever is parked goes out at once;
//! else it waits, and goes out as one group when a flight ends. A request is settled when all its
//! records have been accepted or rejected by the backend, or when the first of them can't be
//! delivered. Pure: time and random numbers are arguments.

mod gate;

use super::answer::{Answer, Meaning, judge};
use super::split;
use crate::config::Bounds;
use crate::rejection::{Refusal, Rejection};
use crate::stats::{Sink, Stat};
use gate::Gate;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// Names a request until it is settled.
pub type Ticket = u64;

/// Names a group that is under way.
pub type Flight = u64;

/// How a request ended: the backend has its records, or the client is told why not.
pub type Outcome = Result<super::Delivery, Refusal>;

/// A group that is to go out now.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// To be named with the answer.
    pub flight: Flight,
    /// Serialized `ExportLogsServiceRequest`s, to be joined. None for the request that shows whether
    /// the backend accepts anything.
    pub parts: Vec<Rc<Vec<u8>>>,
    /// How long the callout may take.
    pub timeout: Duration,
    /// The `traceparent` of the client's request, if it is only one.
    pub traceparent: Option<String>,
}

/// What the operator should hear of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing.
    Fine,
    /// It failed, and may well succeed soon.
    Failed(Rejection),
    /// It won't succeed until somebody does something.
    Refused(Rejection),
    /// The backend rejected so many records; the clients were told that they needn't keep them.
    Rejected(u64),
}

/// A request, or a part of one.
#[derive(Debug)]
struct Piece {
    ticket: Ticket,
    protobuf: Rc<Vec<u8>>,
    records: u64,
}

/// Pieces that go out together.
#[derive(Debug)]
struct Group {
    pieces: Vec<Piece>,
    failures: u32,
    failed_at: Option<Duration>,
    sent_at: Duration,
    /// Callouts that may still be made for what began as one group.
    splits: Rc<Cell<usize>>,
    errand: Errand,
}

/// What a group goes out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To be delivered.
    Deliver,
    /// A single record was refused: once more, in case it wasn't meant.
    Confirm,
    /// It was refused again: without records, to learn whether it is the record or the backend.
    Control,
}

/// A request that isn't settled.
#[derive(Debug)]
struct Request {
    bytes: usize,
    deadline: Duration,
    /// Its pieces that are on their way.
    pieces: u32,
    rejected: u64,
    refusal: Option<Refusal>,
    traceparent: Option<String>,
}

/// The requests of a worker that wait for the backend.
#[derive(Debug)]
pub struct Outbox {
    bounds: Bounds,
    random: u64,
    names: u64,
    requests: HashMap<Ticket, Request>,
    held: usize,
    parked: VecDeque<Piece>,
    /// Halves, and retries that are due.
    ready: VecDeque<Group>,
    /// Whether `ready` has its turn: halves of one client's batch don't hold up the others.
    turn: bool,
    retries: Vec<(Duration, Group)>,
    flights: HashMap<Flight, Group>,
    settled: VecDeque<(Ticket, Outcome)>,
    gate: Gate,
    accepted_at: Option<Duration>,
}

/// What a group may cost in callouts when it is halved: this, and twice its pieces.
const SPLITS: usize = 64;

/// For so long an accepted export shows that a refused record is itself the reason.
const EVIDENCE: Duration = Duration::from_secs(60);

/// Waits between tries: each twice as long as the one before.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

impl Outbox {
    /// An empty one. `random` keeps workers from doing things at the same moment.
    pub fn new(bounds: Bounds, random: u64) -> Outbox {
        Outbox {
            bounds,
            random: random | 1,
            names: 0,
            requests: HashMap::new(),
            held: 0,
            parked: VecDeque::new(),
            ready: VecDeque::new(),
            turn: false,
            retries: Vec::new(),
            flights: HashMap::new(),
            settled: VecDeque::new(),
            gate: Gate::default(),
            accepted_at: None,
        }
    }

    /// Whether a request with a body of so many bytes may come.
    ///
    /// # Errors
    /// The backend wants to be left alone for a while, or too much waits for it already.
    pub fn admit(&self, bytes: usize, now: Duration) -> Result<(), Refusal> {
        if let Some(wait) = self.gate.closed(now) {
            return Err(Refusal { rejection: Rejection::ExportDeferred, retry_after: Some(wait) });
        }
        if self.held.saturating_add(bytes) > self.bounds.max_parked_bytes {
            return Err(Refusal { rejection: Rejection::ExportBacklog, retry_after: Some(Duration::from_secs(1)) });
        }
        Ok(())
    }

    /// Takes a request's records: a serialized `ExportLogsServiceRequest`.
    pub fn park(&mut self, protobuf: Vec<u8>, records: u64, traceparent: Option<String>, now: Duration) -> Ticket {
        let ticket = self.name();
        let bytes = protobuf.len();
        self.held += bytes;
        let deadline = now.saturating_add(self.bounds.timeout);
        self.requests.insert(ticket, Request { bytes, deadline, pieces: 1, rejected: 0, refusal: None, traceparent });
        self.parked.push_back(Piece { ticket, protobuf: Rc::new(protobuf), records });
        ticket
    }

    /// Whether [`next`](Outbox::next) has something to send.
    pub fn is_due(&self, now: Duration) -> bool {
        self.may_send(now) && !(self.parked.is_empty() && self.ready.is_empty() && !self.retries.iter().any(|(at, _)| is_past(*at, now)))
    }

    /// Whether something has to happen by itself in a moment, without any callback but a tick.
    pub fn is_waiting(&self) -> bool {
        !self.retries.is_empty() || (self.flights.is_empty() && !(self.parked.is_empty() && self.ready.is_empty()))
    }

    fn may_send(&self, now: Duration) -> bool {
        self.flights.len() < self.bounds.max_in_flight && self.gate.lets_through(now)
    }

    /// The next group to send, until there is none.
    pub fn next(&mut self, now: Duration, stats: &mut dyn Sink) -> Option<Shipment> {
        self.collect_retries(now);
        while self.may_send(now) {
            self.turn = !self.turn && !self.ready.is_empty() || self.parked.is_empty();
            let mut group = if self.turn { self.ready.pop_front()? } else { self.gather() };
            let late = |piece: &Piece| self.requests.get(&piece.ticket).is_none_or(|request| request.deadline <= now);
            let (late, pieces) = group.pieces.into_iter().partition(late);
            group.pieces = pieces;
            self.refuse(late, Rejection::ExportExpired.into());
            if !group.pieces.is_empty() {
                return Some(self.ship(group, now, stats));
            }
        }
        None
    }

    /// As much of what is parked as goes into a group.
    fn gather(&mut self) -> Group {
        let mut bytes = 0usize;
        let mut pieces = Vec::new();
        while let Some(piece) = self.parked.pop_front() {
            bytes = bytes.saturating_add(piece.protobuf.len());
            if bytes > self.bounds.max_batch_bytes && !pieces.is_empty() {
                self.parked.push_front(piece);
                break;
            }
            pieces.push(piece);
        }
        let splits = Rc::new(Cell::new(SPLITS + 2 * pieces.len()));
        Group { pieces, failures: 0, failed_at: None, sent_at: Duration::ZERO, splits, errand: Errand::Deliver }
    }

    fn ship(&mut self, mut group: Group, now: Duration, stats: &mut dyn Sink) -> Shipment {
        let flight = self.name();
        group.sent_at = now;
        let requests = || group.pieces.iter().filter_map(|piece| self.requests.get(&piece.ticket));
        let left = requests().map(|request| request.deadline.saturating_sub(now)).min().unwrap_or_default();
        let alone = group.pieces.windows(2).all(|pair| matches!(pair, [one, other] if one.ticket == other.ticket));
        let traceparent = if alone { requests().next().and_then(|request| request.traceparent.clone()) } else { None };
        let parts = if group.errand == Errand::Control { Vec::new() } else { group.pieces.iter().map(|piece| Rc::clone(&piece.protobuf)).collect() };
        stats.add(Stat::Exports, 1);
        if group.errand == Errand::Deliver {
            stats.add(Stat::RequestsPerExport, group.pieces.len() as u64);
        }
        self.gate.sent(flight);
        self.flights.insert(flight, group);
        Shipment { flight, parts, timeout: left.min(self.bounds.try_timeout), traceparent }
    }

    /// What came of a flight. Outcomes are fetched with [`settled`](Outbox::settled).
    pub fn answered(&mut self, flight: Flight, answer: Answer<'_>, now: Duration, stats: &mut dyn Sink) -> Notice {
        let Some(group) = self.flights.remove(&flight) else { return Notice::Fine };
        stats.add(Stat::ExportMilliseconds, now.saturating_sub(group.sent_at).as_millis() as u64);
        let meaning = judge(answer, now);
        self.gate.answered(flight, meaning, now);
        match meaning {
            Meaning::Accepted(delivery) => self.accepted(group, delivery.rejected, now, stats),
            Meaning::Unacceptable => return self.unacceptable(group, now, stats),
            Meaning::Failed(rejection) => {
                self.retry(group, rejection, now, stats);
                return Notice::Failed(rejection);
            }
            Meaning::Refused(rejection) => {
                self.refuse(group.pieces, rejection.into());
                return Notice::Refused(rejection);
            }
            Meaning::Deferred(_) => {
                self.defer(group, now);
                return Notice::Failed(Rejection::ExportDeferred);
            }
        }
        match meaning {
            Meaning::Accepted(delivery) if delivery.rejected > 0 => Notice::Rejected(delivery.rejected),
            _ => Notice::Fine,
        }
    }

    fn accepted(&mut self, group: Group, rejected: u64, now: Duration, stats: &mut dyn Sink) {
        self.accepted_at = Some(now);
        if group.errand == Errand::Control {
            // It takes others, so it is this record that it doesn't take.
            stats.add(Stat::RecordsRejected, group.pieces.len() as u64);
            group.pieces.into_iter().for_each(|piece| self.settle(piece, 1, None));
            return;
        }
        let records = group.pieces.iter().map(|piece| piece.records).sum();
        let rejected = rejected.min(records);
        stats.add(Stat::RecordsRejected, rejected);
        for piece in group.pieces {
            // The backend doesn't say whose they were: each is told the most that it can be.
            let most = rejected.min(piece.records);
            self.settle(piece, most, None);
        }
    }

    /// Halves what can be halved. A record that is alone is the culprit, if it isn't the backend.
    fn unacceptable(&mut self, mut group: Group, now: Duration, stats: &mut dyn Sink) -> Notice {
        const REFUSED: Rejection = Rejection::ExportRefused;
        if group.errand == Errand::Control {
            self.refuse(group.pieces, REFUSED.into());
            return Notice::Refused(REFUSED);
        }
        let alone = group.pieces.len() == 1;
        if alone && group.pieces.iter().all(|piece| piece.records <= 1) {
            let proven = self.accepted_at.is_some_and(|at| now.abs_diff(at) < EVIDENCE);
            group.errand = match group.errand {
                Errand::Deliver => Errand::Confirm,
                _ if proven => {
                    stats.add(Stat::RecordsRejected, 1);
                    group.pieces.into_iter().for_each(|piece| self.settle(piece, 1, None));
                    return Notice::Rejected(1);
                }
                _ => Errand::Control,
            };
            (group.failures, group.failed_at) = (0, None);
            self.ready.push_back(group);
            return Notice::Fine;
        }
        let Some(left) = group.splits.get().checked_sub(2) else {
            self.refuse(group.pieces, Rejection::ExportUnfinished.into());
            return Notice::Refused(Rejection::ExportUnfinished);
        };
        group.splits.set(left);
        if alone && !self.halve_piece(&mut group) {
            self.refuse(group.pieces, REFUSED.into());
            return Notice::Refused(REFUSED);
        }
        stats.add(Stat::ExportsSplit, 1);
        self.ready.extend(halve(group));
        Notice::Fine
    }

    /// Makes two pieces of a group's only one.
    fn halve_piece(&mut self, group: &mut Group) -> bool {
        let [piece] = group.pieces.as_slice() else { return false };
        let (ticket, halves) = (piece.ticket, split::halves(&piece.protobuf));
        let (Some((first, second)), Some(request)) = (halves, self.requests.get_mut(&ticket)) else { return false };
        request.pieces += 1;
        group.pieces = [first, second].map(|(protobuf, records)| Piece { ticket, protobuf: Rc::new(protobuf), records }).into();
        true
    }

    /// Puts a group that failed off for a while, as far as its requests' time allows.
    fn retry(&mut self, mut group: Group, rejection: Rejection, now: Duration, stats: &mut dyn Sink) {
        let at = now.saturating_add(self.back_off(group.failures));
        group.failures += 1;
        if group.failures > self.bounds.max_retries {
            return self.refuse(group.pieces, rejection.into());
        }
        let late = |piece: &Piece| self.requests.get(&piece.ticket).is_none_or(|request| request.deadline <= at);
        let (late, pieces): (Vec<_>, Vec<_>) = std::mem::take(&mut group.pieces).into_iter().partition(late);
        self.refuse(late, rejection.into());
        if pieces.is_empty() {
            return;
        }
        group.pieces = pieces;
        stats.add(Stat::ExportsRetried, 1);
        // If the backend has taken others meanwhile, it may be one of these that makes it fail.
        let others = group.failed_at.zip(self.accepted_at).is_some_and(|(failed, accepted)| accepted > failed);
        group.failed_at = Some(now);
        let apart = others && group.pieces.len() > 1;
        let groups = if apart { halve(group).into() } else { vec![group] };
        self.retries.extend(groups.into_iter().map(|group| (at, group)));
    }

    fn back_off(&mut self, failures: u32) -> Duration {
        // Marsaglia's xorshift: workers only have to differ.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let longest = FIRST_RETRY.saturating_mul(1 << failures.min(8)).min(LAST_RETRY);
        longest / 2 + longest.mul_f64((self.random % 512) as f64 / 1024.0)
    }

    fn collect_retries(&mut self, now: Duration) {
        let due = |(at, _): &mut (Duration, Group)| is_past(*at, now);
        self.ready.extend(self.retries.extract_if(.., due).map(|(_, group)| group));
    }

    /// The backend wants to be left alone: nobody waits for it meanwhile.
    fn defer(&mut self, group: Group, now: Duration) {
        let refusal = Refusal { rejection: Rejection::ExportDeferred, retry_after: self.gate.closed(now) };
        let groups = std::iter::once(group).chain(self.ready.drain(..)).chain(self.retries.drain(..).map(|(_, group)| group));
        let pieces: Vec<Piece> = groups.flat_map(|group| group.pieces).chain(self.parked.drain(..)).collect();
        self.refuse(pieces, refusal);
    }

    fn refuse(&mut self, pieces: Vec<Piece>, refusal: Refusal) {
        for piece in pieces {
            self.settle(piece, 0, Some(refusal));
        }
    }

    fn settle(&mut self, piece: Piece, rejected: u64, refusal: Option<Refusal>) {
        let Some(request) = self.requests.get_mut(&piece.ticket) else { return };
        request.rejected = request.rejected.saturating_add(rejected);
        request.refusal = request.refusal.or(refusal);
        request.pieces = request.pieces.saturating_sub(1);
        if request.pieces > 0 {
            return;
        }
        if let Some(request) = self.requests.remove(&piece.ticket) {
            self.held = self.held.saturating_sub(request.bytes);
            let delivery = super::Delivery { rejected: request.rejected };
            self.settled.push_back((piece.ticket, request.refusal.map_or(Ok(delivery), Err)));
        }
    }

    /// The next request that is settled, until there is none.
    pub fn settled(&mut self) -> Option<(Ticket, Outcome)> {
        self.settled.pop_front()
    }

    /// Whether there is a request that is settled.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }
}

/// Both halves of a group of at least two pieces.
fn halve(group: Group) -> [Group; 2] {
    let half = group.pieces.len() / 2;
    let mut pieces = group.pieces.into_iter();
    let first = pieces.by_ref().take(half).collect();
    let other = Group { pieces: pieces.collect(), splits: Rc::clone(&group.splits), ..group };
    [Group { pieces: first, splits: group.splits, ..other }, other]
}

/// Whether a moment has come; one that is further away than any wait was set by another clock.
fn is_past(at: Duration, now: Duration) -> bool {
    at <= now || at - now > LAST_RETRY
}

#[cfg(test)]
mod tests;
