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
//! While fewer than `max_in_flight` groups are under way, whatever is parked goes out at once; else it
//! waits, and goes out as one group when a flight ends. A request is settled when all its records
//! have been accepted or rejected by the backend, or can't be, and at its deadline whatever may be:
//! nobody waits for ever. Pure: time and random numbers are arguments.

mod blame;
mod gate;
mod group;
mod retry;

use super::answer::{Answer, Meaning, judge};
use crate::config::Bounds;
use crate::ids::Ids;
use crate::rejection::{Refusal, Rejection};
use crate::stats::{Sink, Stat};
use blame::Blame;
use gate::Gate;
use group::{Errand, Group, Piece};
use retry::is_past;
use std::collections::VecDeque;
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
    requests: Ids<Ticket, Request>,
    /// The same by the time at which they are settled whatever may be, the first one first.
    deadlines: VecDeque<(Duration, Ticket)>,
    held: usize,
    parked: VecDeque<Piece>,
    /// Halves, and retries that are due.
    ready: VecDeque<Group>,
    /// Whether `ready` has its turn: halves of one client's batch don't hold up the others.
    turn: bool,
    retries: Vec<(Duration, Group)>,
    flights: Ids<Flight, Group>,
    settled: VecDeque<(Ticket, Outcome)>,
    gate: Gate,
    blame: Blame,
}

/// A flight that is so much later than Envoy's timeout isn't heard of again.
const LOST: Duration = Duration::from_secs(5);

impl Outbox {
    /// An empty one. `random` keeps workers from doing things at the same moment.
    pub fn new(bounds: Bounds, random: u64) -> Outbox {
        Outbox {
            bounds,
            random: random | 1,
            names: 0,
            requests: Ids::default(),
            deadlines: VecDeque::new(),
            held: 0,
            parked: VecDeque::new(),
            ready: VecDeque::new(),
            turn: false,
            retries: Vec::new(),
            flights: Ids::default(),
            settled: VecDeque::new(),
            gate: Gate::default(),
            blame: Blame::default(),
        }
    }

    /// Whether a request of so many bytes may come.
    ///
    /// # Errors
    /// The backend wants to be left alone for a while, or too much waits for it already.
    pub fn admit(&self, bytes: usize, now: Duration) -> Result<(), Refusal> {
        self.deferral(now).map_or(Ok(()), Err)?;
        if self.held > 0 && self.held.saturating_add(bytes) > self.bounds.max_parked_bytes {
            return Err(Refusal { rejection: Rejection::ExportBacklog, retry_after: Some(Duration::from_secs(1)) });
        }
        Ok(())
    }

    fn deferral(&self, now: Duration) -> Option<Refusal> {
        let wait = self.gate.closed(now)?;
        Some(Refusal { rejection: Rejection::ExportDeferred, retry_after: Some(wait) })
    }

    /// Takes a request's records: a serialized `ExportLogsServiceRequest` of at least one.
    pub fn park(&mut self, protobuf: Vec<u8>, records: u64, traceparent: Option<String>, now: Duration) -> Ticket {
        let ticket = self.name();
        let bytes = protobuf.len();
        self.held = self.held.saturating_add(bytes);
        let deadline = now.saturating_add(self.bounds.timeout);
        self.deadlines.push_back((deadline, ticket));
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

    /// Settles who has waited long enough, and gives up flights that nobody has heard of; to be called
    /// every now and then.
    pub fn tick(&mut self, now: Duration, stats: &mut dyn Sink) {
        self.expire(now);
        let lost: Vec<Flight> =
            self.flights.iter().filter(|(_, group)| group.back.saturating_add(LOST) <= now).map(|(flight, _)| flight).collect();
        for flight in lost {
            self.answered(flight, Answer::Reset, now, stats);
        }
    }

    /// The next group to send, until there is none.
    pub fn next(&mut self, now: Duration, stats: &mut dyn Sink) -> Option<Shipment> {
        self.expire(now);
        self.collect_retries(now);
        while self.may_send(now) {
            self.turn = !self.turn && !self.ready.is_empty() || self.parked.is_empty();
            let mut group = if self.turn { self.ready.pop_front()? } else { self.gather(stats) };
            group.pieces = self.in_time(std::mem::take(&mut group.pieces), now);
            if !group.pieces.is_empty() {
                return Some(self.ship(group, now, stats));
            }
        }
        None
    }

    /// As much of what is parked as goes into a group.
    fn gather(&mut self, stats: &mut dyn Sink) -> Group {
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
        stats.add(Stat::RequestsPerExport, pieces.len() as u64);
        Group::new(pieces)
    }

    /// Those pieces whose requests have time for a try; the others' are settled.
    fn in_time(&mut self, pieces: Vec<Piece>, now: Duration) -> Vec<Piece> {
        let (pieces, late) = pieces.into_iter().partition(|piece| self.has_time(piece, now));
        self.refuse(late, Rejection::ExportExpired.into());
        pieces
    }

    /// Whether there is time for a try that begins then.
    fn has_time(&self, piece: &Piece, then: Duration) -> bool {
        let least = (self.bounds.try_timeout / 4).min(Duration::from_secs(1));
        self.deadline(piece).is_some_and(|deadline| deadline > then.saturating_add(least))
    }

    fn deadline(&self, piece: &Piece) -> Option<Duration> {
        self.requests.get(piece.ticket).map(|request| request.deadline)
    }

    fn ship(&mut self, mut group: Group, now: Duration, stats: &mut dyn Sink) -> Shipment {
        let flight = self.name();
        // A flight may well go on after the deadline of some in it.
        let left = group.pieces.iter().filter_map(|piece| self.deadline(piece)).max().unwrap_or_default().saturating_sub(now);
        // For Envoy no time at all is all the time in the world.
        let timeout = left.min(self.bounds.try_timeout).max(Duration::from_millis(1));
        (group.sent, group.back) = (now, now.saturating_add(timeout));
        let alone = group.pieces.windows(2).all(|pair| matches!(pair, [one, other] if one.ticket == other.ticket));
        let first = group.pieces.first().filter(|_| alone).and_then(|piece| self.requests.get(piece.ticket));
        let traceparent = first.and_then(|request| request.traceparent.clone());
        let parts = match group.errand {
            Errand::Control => Vec::new(),
            Errand::Deliver | Errand::Confirm => group.pieces.iter().map(|piece| Rc::clone(&piece.protobuf)).collect(),
        };
        stats.add(Stat::Exports, 1);
        self.gate.sent(flight);
        self.flights.insert(flight, group);
        Shipment { flight, parts, timeout, traceparent }
    }

    /// What came of a flight. Outcomes are fetched with [`settled`](Outbox::settled).
    pub fn answered(&mut self, flight: Flight, answer: Answer<'_>, now: Duration, stats: &mut dyn Sink) -> Notice {
        let Some(group) = self.flights.remove(flight) else { return Notice::Fine };
        stats.add(Stat::ExportMilliseconds, now.saturating_sub(group.sent).as_millis() as u64);
        let meaning = judge(answer, now);
        self.gate.answered(flight, meaning, now);
        match meaning {
            Meaning::Accepted(_) if group.errand == Errand::Control => self.controlled(group, stats),
            Meaning::Accepted(delivery) => self.accepted(group, delivery.rejected, stats),
            Meaning::Unacceptable => self.unacceptable(group, now, stats),
            Meaning::Failed(rejection) => {
                self.retry(group, rejection, now, stats);
                Notice::Failed(rejection)
            }
            Meaning::Refused(rejection) => {
                self.refuse(group.pieces, rejection.into());
                Notice::Refused(rejection)
            }
            Meaning::Deferred(_) => {
                self.defer(group, now);
                Notice::Failed(Rejection::ExportDeferred)
            }
        }
    }

    fn accepted(&mut self, group: Group, rejected: u64, stats: &mut dyn Sink) -> Notice {
        let records = group.pieces.iter().map(|piece| piece.records).sum();
        let rejected = rejected.min(records);
        stats.add(Stat::RecordsRejected, rejected);
        if rejected < records {
            self.blame.took();
        }
        for piece in &group.pieces {
            // The backend doesn't say whose they were: each is told the most that it can be.
            self.settle(piece, rejected.min(piece.records), None);
        }
        if rejected > 0 { Notice::Rejected(rejected) } else { Notice::Fine }
    }

    /// The backend wants to be left alone: nobody waits for it meanwhile.
    fn defer(&mut self, group: Group, now: Duration) {
        let refusal = self.deferral(now).unwrap_or(Rejection::ExportDeferred.into());
        let groups = std::iter::once(group).chain(self.ready.drain(..)).chain(self.retries.drain(..).map(|(_, group)| group));
        let pieces: Vec<Piece> = groups.flat_map(|group| group.pieces).chain(self.parked.drain(..)).collect();
        self.refuse(pieces, refusal);
    }

    fn refuse(&mut self, pieces: Vec<Piece>, refusal: Refusal) {
        for piece in pieces {
            self.settle(&piece, 0, Some(refusal));
        }
    }

    fn settle(&mut self, piece: &Piece, rejected: u64, refusal: Option<Refusal>) {
        let Some(request) = self.requests.get_mut(piece.ticket) else { return };
        request.rejected = request.rejected.saturating_add(rejected);
        request.refusal = request.refusal.or(refusal);
        request.pieces = request.pieces.saturating_sub(1);
        if request.pieces == 0 {
            let outcome = request.refusal.map_or(Ok(super::Delivery { rejected: request.rejected }), Err);
            self.end(piece.ticket, outcome);
        }
    }

    /// Nobody waits longer than until the deadline; what is still under way may arrive all the same.
    fn expire(&mut self, now: Duration) {
        while let Some(&(deadline, ticket)) = self.deadlines.front() {
            match self.requests.get(ticket) {
                Some(_) if deadline > now => return,
                Some(request) => self.end(ticket, Err(request.refusal.unwrap_or(Rejection::ExportExpired.into()))),
                None => {}
            }
            self.deadlines.pop_front();
        }
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(request) = self.requests.remove(ticket) {
            self.held = self.held.saturating_sub(request.bytes);
            self.settled.push_back((ticket, outcome));
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

#[cfg(test)]
mod tests;
