//! What fails, what comes too late, and a backend that wants to be left alone.

use super::*;

#[test]
fn what_fails_for_a_moment_goes_again() {
    for failure in [status(500), status(502), status(504), Answer::Reset, Answer::NotDispatched] {
        let mut worker = Worker::new(BOUNDS);
        let ticket = worker.park(3);
        let began = worker.now;
        let mut left = 4;
        let (callouts, outcomes) = worker.run(|_, _| {
            left -= 1;
            if left >= 0 { failure } else { status(200) }
        });
        assert_eq!((callouts, outcomes[&ticket]), (5, all()));
        assert_eq!(worker.count(Stat::ExportsRetried), 4);
        assert!(worker.now - began >= Duration::from_millis(50 + 100 + 200 + 400), "with back-off");
    }
}

#[test]
fn what_fails_for_long_is_a_502_in_time() {
    let mut worker = Worker::new(BOUNDS);
    let ticket = worker.park(3);
    let (callouts, outcomes) = worker.run(|_, _| status(500));
    assert_eq!((callouts, outcomes[&ticket].unwrap_err().rejection), (5, Rejection::ExportRefused));

    let mut worker = Worker::new(Bounds { max_retries: 100, ..BOUNDS });
    let ticket = worker.park(3);
    let began = worker.now;
    let (_, outcomes) = worker.run(|_, _| Answer::Reset);
    assert_eq!(outcomes[&ticket].unwrap_err().rejection, Rejection::ExportReset);
    assert!(worker.now - began <= BOUNDS.timeout);
}

#[test]
fn a_callout_may_take_no_longer_than_its_requests_have() {
    let mut worker = Worker::new(BOUNDS);
    worker.park(1);
    let sent = worker.next().unwrap();
    assert_eq!(sent.shipment.timeout, Duration::from_secs(5));
    worker.later(Duration::from_secs(5));
    worker.answer(&sent, Answer::Response(Response { status: Some(504), ..Response::default() }));
    worker.later(Duration::from_secs(1));
    assert_eq!(worker.next().unwrap().shipment.timeout, Duration::from_secs(4));
}

#[test]
fn nobody_waits_longer_than_until_the_deadline() {
    let mut worker = Worker::new(Bounds { try_timeout: BOUNDS.timeout, ..BOUNDS });
    let first = worker.park(1);
    let sent = worker.next().unwrap();
    let parked = worker.park(1);
    worker.later(BOUNDS.timeout);
    assert!(worker.next().is_none(), "the flight isn't over");
    let expired = Err(Refusal::from(Rejection::ExportExpired));
    assert_eq!(worker.outcomes(), [(first, expired), (parked, expired)]);
    worker.answer(&sent, status(200));
    assert_eq!(worker.outcomes(), [], "too late");
    assert!(worker.next().is_none(), "what is settled isn't sent");
    assert_eq!((worker.outbox.held, worker.outbox.deadlines.len()), (0, 0));
}

/// A group that has no time left would fail, and take with it whoever has.
#[test]
fn who_has_no_time_for_a_try_is_not_sent() {
    let mut worker = Worker::new(BOUNDS);
    worker.park(1);
    let sent = worker.next().unwrap();
    let late = worker.park(1);
    worker.later(Duration::from_millis(9_500));
    let fresh = worker.park(1);
    worker.answer(&sent, status(200));
    let sent = worker.next().unwrap();
    assert_eq!((sent.names.as_slice(), sent.shipment.timeout), (&[2][..], BOUNDS.try_timeout));
    assert_eq!(worker.outcomes()[1..], [(late, Err(Refusal::from(Rejection::ExportExpired)))]);
    worker.answer(&sent, status(200));
    assert_eq!(worker.outcomes(), [(fresh, all())]);
}

#[test]
fn a_callout_always_has_a_timeout() {
    let bounds = Bounds { timeout: Duration::from_millis(1), try_timeout: Duration::from_millis(1), ..BOUNDS };
    let mut worker = Worker::new(bounds);
    worker.park(1);
    worker.later(Duration::from_micros(500));
    let timeout = worker.next().unwrap().shipment.timeout;
    assert!(timeout >= Duration::from_millis(1), "{timeout:?}: for Envoy 0 is no timeout");
}

#[test]
fn a_flight_that_is_not_heard_of_again_makes_room() {
    let mut worker = Worker::new(BOUNDS);
    worker.park(1);
    worker.next().unwrap();
    worker.later(BOUNDS.try_timeout);
    let other = worker.park(1);
    worker.outbox.tick(worker.now, &mut worker.counts);
    assert!(worker.next().is_none());
    worker.later(LOST);
    worker.outbox.tick(worker.now, &mut worker.counts);
    let sent = worker.next().unwrap();
    worker.answer(&sent, status(200));
    assert!(worker.outcomes().contains(&(other, all())));
}

#[test]
fn a_wrong_token_or_url_is_not_tried_again() {
    for denied in [401, 403, 404, 301, 405] {
        let mut worker = Worker::new(BOUNDS);
        let ticket = worker.park(1);
        let (callouts, outcomes) = worker.run(|_, _| status(denied));
        assert_eq!((callouts, outcomes[&ticket].unwrap_err().rejection), (1, Rejection::ExportDenied));
    }
}

#[test]
fn a_backend_that_wants_to_be_left_alone_is() {
    for (answer, seconds) in [(wait(429, "7"), 7), (wait(503, "7"), 7), (wait(429, "9999"), 300), (status(503), 1), (wait(429, "x"), 1)] {
        let mut worker = Worker::new(Bounds { max_in_flight: 2, ..BOUNDS });
        let first = worker.park(1);
        let sent = worker.next().unwrap();
        let other = worker.park(1);
        let under_way = worker.next().unwrap();
        let parked = worker.park(1);
        worker.answer(&sent, answer);
        let told = Refusal { rejection: Rejection::ExportDeferred, retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(worker.outcomes(), [(first, Err(told)), (parked, Err(told))]);
        assert_eq!(worker.outbox.admit(1, worker.now), Err(told));
        worker.answer(&under_way, status(200));
        assert_eq!(worker.outcomes(), [(other, all())], "what was under way may well succeed");
        assert!(worker.outbox.admit(1, worker.now).is_err(), "and changes nothing");
        worker.later(Duration::from_secs(seconds));

        assert_eq!(worker.outbox.admit(1, worker.now), Ok(()));
        worker.park(1);
        let probe = worker.next().unwrap();
        worker.park(1);
        assert!(worker.next().is_none(), "one at a time");
        worker.answer(&probe, status(200));
        assert!(worker.next().is_some());
        worker.park(1);
        assert!(worker.next().is_some(), "as before");
    }
}

/// Those that come back to a closed gate are not kept behind it.
#[test]
fn what_fails_while_the_backend_wants_to_be_left_alone_is_a_502_at_once() {
    for answer in [status(500), status(400), Answer::Reset] {
        let mut worker = Worker::new(Bounds { max_in_flight: 2, ..BOUNDS });
        let tickets = [worker.park(2), worker.park(1)];
        worker.outbox.bounds.max_batch_bytes = 1;
        let flights = [worker.next().unwrap(), worker.next().unwrap()];
        worker.answer(&flights[0], wait(429, "300"));
        worker.answer(&flights[1], answer);
        let told = Refusal { rejection: Rejection::ExportDeferred, retry_after: Some(Duration::from_secs(300)) };
        assert_eq!(worker.outcomes(), tickets.map(|ticket| (ticket, Err(told))));
        assert!(!worker.outbox.is_waiting());
    }
}

#[test]
fn after_an_outage_what_waits_goes_out_together() {
    let mut worker = Worker::new(Bounds { max_in_flight: 1, ..BOUNDS });
    for _ in 0..20 {
        worker.park(1);
        let sent = worker.next().unwrap();
        worker.answer(&sent, Answer::NotDispatched);
    }
    worker.later(Duration::from_millis(200));
    assert_eq!(worker.next().unwrap().names.len(), 20);
}

#[test]
fn a_backend_that_stays_closed_is_asked_less_and_less() {
    let mut worker = Worker::new(BOUNDS);
    let mut waits = Vec::new();
    for _ in 0..8 {
        worker.park(1);
        let probe = worker.next().unwrap();
        worker.answer(&probe, status(503));
        let wait = worker.outcomes()[0].1.unwrap_err().retry_after.unwrap();
        waits.push(wait.as_secs());
        worker.later(wait);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32, 32]);
}

#[test]
fn a_clock_that_jumps_back_closes_nothing_for_ever() {
    let mut worker = Worker::new(BOUNDS);
    worker.park(1);
    let sent = worker.next().unwrap();
    worker.answer(&sent, wait(429, "300"));
    worker.park(2);
    worker.now -= Duration::from_secs(86_400);
    assert_eq!(worker.outbox.admit(1, worker.now), Ok(()));
    let probe = worker.next().unwrap();
    worker.answer(&probe, Answer::Reset);
    worker.now -= Duration::from_secs(86_400);
    assert!(worker.next().is_some(), "the retry is due");
}

/// One client's record that makes the backend fail doesn't take the others with it for ever.
#[test]
fn what_keeps_failing_is_set_apart_from_others_when_the_backend_is_well() {
    let mut worker = Worker::new(Bounds { max_in_flight: 2, max_retries: 20, ..BOUNDS });
    let tickets: Vec<Ticket> = (0..16).map(|_| worker.park(1)).collect();
    let mut fresh = Vec::new();
    let mut outcomes = BTreeMap::new();
    for _ in 0..500 {
        fresh.push(worker.park(1));
        while let Some(sent) = worker.next() {
            let answer = if sent.names.contains(&3) { status(500) } else { status(200) };
            worker.answer(&sent, answer);
        }
        outcomes.extend(worker.outcomes());
        worker.later(Duration::from_millis(20));
    }
    let delivered = tickets.iter().filter(|ticket| outcomes[ticket].is_ok()).count();
    assert_eq!(delivered, 15);
    assert!(fresh.iter().filter(|ticket| outcomes.contains_key(ticket)).all(|ticket| outcomes[ticket].is_ok()));
}
