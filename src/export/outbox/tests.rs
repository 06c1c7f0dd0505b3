mod blame;
mod failing;

use super::*;
use crate::export::answer::Response;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(10),
    try_timeout: Duration::from_secs(5),
    max_retries: 4,
    max_in_flight: 1,
    max_batch_bytes: 1 << 20,
    max_parked_bytes: 1 << 24,
};

#[derive(Default)]
struct Counts(HashMap<Stat, u64>);

impl Sink for Counts {
    fn add(&mut self, stat: Stat, amount: u64) {
        *self.0.entry(stat).or_default() += amount;
    }
}

/// An outbox, its clock, and a backend that is asked record by record.
struct Worker {
    outbox: Outbox,
    now: Duration,
    counts: Counts,
    names: u64,
}

/// A shipment with the names of the records in it.
struct Sent {
    shipment: Shipment,
    names: Vec<u64>,
}

impl Worker {
    fn new(bounds: Bounds) -> Worker {
        Worker { outbox: Outbox::new(bounds, 7), now: Duration::from_secs(1_770_379_200), counts: Counts::default(), names: 0 }
    }

    /// Parks a request of so many records, which have names of their own.
    fn park(&mut self, records: u64) -> Ticket {
        self.park_traced(records, None)
    }

    fn park_traced(&mut self, records: u64, traceparent: Option<&str>) -> Ticket {
        let names = self.names..self.names + records;
        self.names += records;
        let log_records = names.map(|name| LogRecord { time_unix_nano: name, ..LogRecord::default() }).collect();
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let request = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] };
        self.outbox.park(request.encode_to_vec(), records, traceparent.map(str::to_owned), self.now)
    }

    fn next(&mut self) -> Option<Sent> {
        let shipment = self.outbox.next(self.now, &mut self.counts)?;
        let joined: Vec<u8> = shipment.parts.iter().flat_map(|part| part.iter().copied()).collect();
        let request = ExportLogsServiceRequest::decode(&joined[..]).unwrap();
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        let names = scopes.flat_map(|scope| &scope.log_records).map(|record| record.time_unix_nano).collect();
        Some(Sent { shipment, names })
    }

    fn answer(&mut self, sent: &Sent, answer: Answer<'_>) -> Notice {
        self.outbox.answered(sent.shipment.flight, answer, self.now, &mut self.counts)
    }

    fn outcomes(&mut self) -> Vec<(Ticket, Outcome)> {
        std::iter::from_fn(|| self.outbox.settled()).collect()
    }

    fn later(&mut self, wait: Duration) {
        self.now += wait;
    }

    /// Runs until nothing moves: `backend` answers each shipment, time passes where all wait.
    fn run(&mut self, mut backend: impl FnMut(&[u64], Duration) -> Answer<'static>) -> (usize, BTreeMap<Ticket, Outcome>) {
        let mut callouts = 0;
        let mut outcomes = BTreeMap::new();
        loop {
            let mut sent = Vec::new();
            while let Some(shipment) = self.next() {
                sent.push(shipment);
            }
            callouts += sent.len();
            for sent in &sent {
                let answer = backend(&sent.names, self.now);
                self.answer(sent, answer);
            }
            for (ticket, outcome) in self.outcomes() {
                assert!(outcomes.insert(ticket, outcome).is_none(), "settled twice");
            }
            if sent.is_empty() && !self.outbox.is_waiting() {
                assert_eq!((self.outbox.held, self.outbox.requests.len(), self.outbox.parked.len()), (0, 0, 0), "nothing is left");
                return (callouts, outcomes);
            }
            assert!(callouts < 10_000, "for ever");
            self.later(Duration::from_millis(20));
        }
    }

    fn count(&self, stat: Stat) -> u64 {
        self.counts.0.get(&stat).copied().unwrap_or_default()
    }
}

fn status(status: u16) -> Answer<'static> {
    Answer::Response(Response { status: Some(status), from_backend: true, ..Response::default() })
}

fn wait(status: u16, seconds: &'static str) -> Answer<'static> {
    let retry_after = Some(seconds.as_bytes());
    Answer::Response(Response { status: Some(status), retry_after, from_backend: true, ..Response::default() })
}

const fn all() -> Outcome {
    Ok(crate::export::Delivery { rejected: 0 })
}

fn less(rejected: u64) -> Outcome {
    Ok(crate::export::Delivery { rejected })
}

#[test]
fn an_idle_worker_sends_at_once_and_a_busy_one_lets_requests_gather() {
    let mut worker = Worker::new(BOUNDS);
    let first = worker.park(1);
    assert!(worker.outbox.is_due(worker.now));
    let sent = worker.next().unwrap();
    let others = [worker.park(2), worker.park(3), worker.park(1)];
    assert!(!worker.outbox.is_due(worker.now));
    assert!(worker.next().is_none(), "one is under way");
    worker.answer(&sent, status(200));
    assert_eq!(worker.outcomes(), [(first, all())]);
    let sent = worker.next().unwrap();
    assert_eq!((sent.shipment.parts.len(), sent.names.as_slice()), (3, &[1, 2, 3, 4, 5, 6][..]));
    worker.answer(&sent, status(200));
    assert_eq!(worker.outcomes(), others.map(|ticket| (ticket, all())));
    assert_eq!(worker.count(Stat::Exports), 2);
    assert_eq!(worker.count(Stat::RequestsPerExport), 4);
}

#[test]
fn no_more_are_in_flight_than_configured() {
    let mut worker = Worker::new(Bounds { max_in_flight: 3, ..BOUNDS });
    let flights: Vec<Sent> = (0..3)
        .map(|_| {
            worker.park(1);
            worker.next().unwrap()
        })
        .collect();
    worker.park(1);
    assert!(worker.next().is_none());
    worker.answer(&flights[1], status(200));
    assert!(worker.next().is_some());
    assert!(worker.next().is_none());
}

#[test]
fn a_group_is_no_larger_than_configured_but_a_request_of_any_size_goes() {
    let mut worker = Worker::new(Bounds { max_batch_bytes: 100, max_in_flight: 10, ..BOUNDS });
    for records in [1, 2, 100, 1, 1] {
        worker.park(records);
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| worker.next()).map(|sent| sent.names.len()).collect();
    assert_eq!(sizes, [3, 100, 2]);
}

#[test]
fn what_is_held_is_bounded() {
    let mut worker = Worker::new(Bounds { max_parked_bytes: 1_000, ..BOUNDS });
    assert_eq!(worker.outbox.admit(1_000, worker.now), Ok(()));
    worker.park(50);
    let refusal = worker.outbox.admit(900, worker.now).unwrap_err();
    assert_eq!((refusal.rejection, refusal.retry_after), (Rejection::ExportBacklog, Some(Duration::from_secs(1))));
    let sent = worker.next().unwrap();
    assert!(worker.outbox.admit(900, worker.now).is_err(), "what is under way is held too");
    worker.answer(&sent, status(200));
    assert_eq!(worker.outbox.admit(9_000, worker.now), Ok(()), "one of any size, or it would never come in");
}

#[test]
fn a_trace_context_goes_with_one_request_and_with_no_two() {
    let mut worker = Worker::new(BOUNDS);
    worker.park_traced(2, Some("a"));
    let alone = worker.next().unwrap();
    assert_eq!(alone.shipment.traceparent.as_deref(), Some("a"));
    worker.park_traced(1, Some("b"));
    worker.park_traced(1, Some("c"));
    worker.answer(&alone, status(400));
    let traces: Vec<_> = (0..3)
        .map(|_| {
            let sent = worker.next().unwrap();
            worker.answer(&sent, status(200));
            sent.shipment.traceparent
        })
        .collect();
    assert_eq!(traces.iter().filter(|trace| trace.as_deref() == Some("a")).count(), 2, "both halves are the same client's");
    assert_eq!(traces.iter().filter(|trace| trace.is_none()).count(), 1);
}

#[test]
fn a_partial_success_is_told_to_all_that_it_may_concern() {
    let mut worker = Worker::new(BOUNDS);
    let tickets = [worker.park(1), worker.park(5)];
    let sent = worker.next().unwrap();
    let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "too old".to_owned() });
    let body = ExportLogsServiceResponse { partial_success }.encode_to_vec();
    let notice = worker.answer(&sent, Answer::Response(Response { status: Some(200), body: &body, ..Response::default() }));
    assert_eq!(notice, Notice::Rejected(2));
    assert_eq!(worker.outcomes(), [(tickets[0], less(1)), (tickets[1], less(2))]);
    assert_eq!(worker.count(Stat::RecordsRejected), 2);
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    let mut worker = Worker::new(BOUNDS);
    worker.park(1);
    assert_eq!(worker.outbox.answered(99, status(429), worker.now, &mut worker.counts), Notice::Fine);
    assert_eq!(worker.outcomes(), []);
    assert!(worker.next().is_some());
}

fn any_answer() -> impl Strategy<Value = Option<Answer<'static>>> {
    prop_oneof![
        4 => Just(Some(status(200))),
        2 => Just(Some(status(400))),
        2 => Just(Some(status(500))),
        1 => Just(Some(status(401))),
        1 => Just(Some(wait(429, "3"))),
        1 => Just(Some(Answer::Reset)),
        1 => Just(Some(Answer::NotDispatched)),
        1 => Just(None),
    ]
}

proptest! {
    /// Whatever the backend does: every request is settled once, and what is called accepted was accepted.
    #[test]
    fn a_200_is_a_promise(
        requests in prop::collection::vec((1u64..40, 0u64..300), 1..40),
        answers in prop::collection::vec(any_answer(), 1..30),
        poisoned in prop::collection::btree_set(0u64..400, 0..5),
        max_in_flight in 1usize..4,
        max_batch_bytes in 1usize..2_000,
    ) {
        let mut worker = Worker::new(Bounds { max_in_flight, max_batch_bytes, ..BOUNDS });
        let mut answers = answers.into_iter();
        let mut owners = BTreeMap::new();
        let mut accepted = BTreeSet::new();
        let mut outcomes = BTreeMap::new();
        let mut hanging = Vec::new();
        let mut refused_alone = BTreeMap::<u64, u32>::new();
        let mut deadlines = BTreeMap::new();
        let mut requests = requests.into_iter();
        let mut rounds = 0;
        loop {
            let request = requests.next();
            if let Some((records, pause)) = request {
                worker.later(Duration::from_millis(pause));
                if worker.outbox.admit(100, worker.now).is_ok() {
                    let first = worker.names;
                    let ticket = worker.park(records);
                    owners.insert(ticket, first..worker.names);
                    deadlines.insert(ticket, worker.now + BOUNDS.timeout);
                }
            } else {
                worker.later(Duration::from_millis(20));
            }
            while let Some(sent) = worker.next() {
                let answer = answers.next().unwrap_or(Some(status(200)));
                let poison = sent.names.iter().any(|name| poisoned.contains(name));
                match answer {
                    Some(answer) if answer == status(200) && !poison => {
                        accepted.extend(sent.names.iter().copied());
                        worker.answer(&sent, answer);
                    }
                    Some(answer) => {
                        let answer = if answer == status(200) { status(400) } else { answer };
                        if answer == status(400) && sent.names.len() == 1 {
                            *refused_alone.entry(sent.names[0]).or_default() += 1;
                        }
                        worker.answer(&sent, answer);
                    }
                    None => hanging.push((worker.now + sent.shipment.timeout, sent)),
                }
            }
            let (late, others): (Vec<_>, Vec<_>) = hanging.into_iter().partition(|(at, _)| *at <= worker.now);
            hanging = others;
            for (_, sent) in late {
                worker.answer(&sent, Answer::Response(Response { status: Some(504), ..Response::default() }));
            }
            for (ticket, outcome) in worker.outcomes() {
                prop_assert!(outcomes.insert(ticket, outcome).is_none());
                prop_assert!(worker.now <= deadlines[&ticket] + Duration::from_millis(300), "late");
            }
            if request.is_none() && hanging.is_empty() && outcomes.len() == owners.len() && !worker.outbox.is_waiting() {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 5_000, "for ever");
        }
        prop_assert_eq!((worker.outbox.held, worker.outbox.requests.len(), worker.outbox.flights.len()), (0, 0, 0));
        for (ticket, names) in owners {
            if let Ok(delivery) = outcomes[&ticket] {
                let missing: Vec<u64> = names.clone().filter(|name| !accepted.contains(name)).collect();
                prop_assert_eq!(missing.len() as u64, delivery.rejected);
                let twice = |name: &u64| refused_alone.get(name).copied().unwrap_or_default() >= 2;
                prop_assert!(missing.iter().all(twice), "given up without having been refused alone, twice");
            }
        }
    }
}
