//! What is refused, and who is to blame for it.

use super::*;
use crate::export::outbox::blame::MOST_UNPROVEN;
use crate::export::outbox::group::SPLITS;

#[test]
fn a_record_that_can_not_be_accepted_is_found_and_all_others_are_delivered() {
    for refused in [400, 413, 422] {
        for requests in [&[1u64][..], &[100], &[1, 1, 1], &[7, 100, 3], &[50; 20]] {
            let mut worker = Worker::new(BOUNDS);
            let tickets: Vec<Ticket> = requests.iter().map(|&records| worker.park(records)).collect();
            let records: u64 = requests.iter().sum();
            let poisoned = records / 2;
            let mut accepted = BTreeSet::new();
            let (callouts, outcomes) = worker.run(|names, _| {
                if names.contains(&poisoned) {
                    return status(refused);
                }
                accepted.extend(names.iter().copied());
                status(200)
            });
            assert_eq!(accepted, (0..records).filter(|&name| name != poisoned).collect());
            let rejected: u64 = outcomes.values().map(|outcome| outcome.unwrap().rejected).sum();
            assert_eq!((outcomes.len(), rejected, worker.count(Stat::RecordsRejected)), (tickets.len(), 1, 1));
            assert!(callouts <= 2 * 11 + 3, "{requests:?}: {callouts}");
        }
    }
}

/// A proxy on the way may say 413 once, and take the same a moment later.
#[test]
fn a_record_that_is_refused_once_is_not_given_up() {
    let mut worker = Worker::new(BOUNDS);
    let ticket = worker.park(1);
    let mut answers = [status(413), status(200)].into_iter();
    let (callouts, outcomes) = worker.run(|names, _| {
        assert_eq!(names, [0]);
        answers.next().unwrap()
    });
    assert_eq!((callouts, outcomes[&ticket]), (2, all()));
}

/// A backend may take a request without records and nothing else: a few may be blamed, and no more
/// until it has taken others.
#[test]
fn a_backend_that_takes_only_nothing_has_few_to_blame() {
    let mut worker = Worker::new(BOUNDS);
    let mut rejected = 0;
    for _ in 0..50 {
        let ticket = worker.park(1);
        let (_, outcomes) = worker.run(|names, _| status(if names.is_empty() { 200 } else { 400 }));
        rejected += outcomes[&ticket].map_or(0, |delivery| delivery.rejected);
    }
    assert_eq!(rejected, u64::from(MOST_UNPROVEN));
    worker.park(1);
    worker.run(|_, _| status(200));
    let ticket = worker.park(1);
    let (_, outcomes) = worker.run(|names, _| status(if names.is_empty() { 200 } else { 400 }));
    assert_eq!(outcomes[&ticket], less(1));
}

/// What was accepted before a record was refused says nothing of the backend now.
#[test]
fn only_what_is_accepted_since_proves_anything() {
    let mut worker = Worker::new(BOUNDS);
    worker.park(1);
    worker.run(|_, _| status(200));
    let ticket = worker.park(1);
    let (_, outcomes) = worker.run(|_, _| status(400));
    assert_eq!(outcomes[&ticket].unwrap_err().rejection, Rejection::ExportRefused);
}

/// A backend that refuses all is no reason for a client to throw its records away.
#[test]
fn a_backend_that_refuses_even_nothing_has_a_fault_of_its_own() {
    for records in [1, 2, 100] {
        let mut worker = Worker::new(BOUNDS);
        let ticket = worker.park(records);
        let (callouts, outcomes) = worker.run(|_, _| status(400));
        let refusal = outcomes[&ticket].unwrap_err();
        assert!(matches!(refusal.rejection, Rejection::ExportRefused | Rejection::ExportUnfinished), "{refusal:?}");
        assert!(callouts <= 300, "{callouts}");
        assert_eq!(worker.count(Stat::RecordsRejected), 0);
    }
}

#[test]
fn splitting_is_bounded_and_what_is_left_is_not_called_rejected() {
    let mut worker = Worker::new(BOUNDS);
    let ticket = worker.park(1_000);
    let (callouts, outcomes) = worker.run(|names, _| status(if names.len() > 1 { 413 } else { 200 }));
    assert_eq!(outcomes[&ticket].unwrap_err().rejection, Rejection::ExportUnfinished);
    assert!(callouts <= SPLITS + 4, "{callouts}");
}

#[test]
fn halves_of_one_batch_do_not_hold_up_the_others() {
    let mut worker = Worker::new(BOUNDS);
    worker.park(1_000);
    let sent = worker.next().unwrap();
    worker.answer(&sent, status(400));
    let other = worker.park(1);
    let settled = (0..2).any(|_| {
        let sent = worker.next().unwrap();
        worker.answer(&sent, if sent.names == [1_000] { status(200) } else { status(400) });
        worker.outcomes() == [(other, all())]
    });
    assert!(settled);
}

/// To accept a request and reject all of its records is no sign of a backend that is well.
#[test]
fn what_is_rejected_in_full_proves_nothing() {
    let mut worker = Worker::new(BOUNDS);
    let ticket = worker.park(1);
    let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: 1, error_message: String::new() });
    let body = ExportLogsServiceResponse { partial_success }.encode_to_vec();
    let sent = worker.next().unwrap();
    worker.answer(&sent, status(400));
    worker.park(1);
    let other = worker.next().unwrap();
    assert_eq!(other.names, [1]);
    worker.answer(&other, Answer::Response(Response { status: Some(200), body: &body, ..Response::default() }));
    let (_, outcomes) = worker.run(|_, _| status(400));
    assert_eq!(outcomes[&ticket].unwrap_err().rejection, Rejection::ExportRefused);
}
