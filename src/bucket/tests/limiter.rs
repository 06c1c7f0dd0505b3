//! Who is let in: users, their sessions, refunds, and workers that get in each other's way.

use super::model::{DAY, Model, NOW, SECOND, at, limit};
use super::{Contended, Counts, Memory, SEED, charge, limits, records, touch};
use crate::bucket::{Cost, Limiter, Seen, Store, TRIES};
use crate::config::{Limit, Limits, Otherwise, RateLimits, Unit};
use crate::rejection::{Refusal, Rejection};
use crate::stats::Stat;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn alice(limits: &RateLimits) -> Limiter<'_> {
    Limiter::new(limits, None, "https://id.example.com", "alice", SEED)
}

/// A user with 100 tokens and one a second, a session with 10 and one a second.
fn hundred_and_ten() -> RateLimits {
    limits(Some(limit(100, 1, 1_000)), Some(limit(10, 1, 1_000)))
}

fn refused(rejection: Rejection, nanos: u64) -> Result<(), Refusal> {
    Err(Refusal { rejection, retry_after: Some(at(nanos)) })
}

#[test]
fn a_request_above_zero_is_let_in_and_may_overdraw_once() {
    let limits = limits(Some(limit(10, 1, 1_000)), None);
    let mut memory = Memory::default();
    assert_eq!(charge(&alice(&limits), None, 9, at(NOW), &mut memory), Ok(()));
    assert_eq!(charge(&alice(&limits), None, 100, at(NOW), &mut memory), Ok(()));
    assert_eq!(charge(&alice(&limits), None, 1, at(NOW), &mut memory), refused(Rejection::UserRateLimited, 99 * SECOND + 1));
    assert_eq!(charge(&alice(&limits), None, 1, at(NOW + 99 * SECOND), &mut memory), refused(Rejection::UserRateLimited, 1));
    assert_eq!(charge(&alice(&limits), None, 1, at(NOW + 99 * SECOND + 1), &mut memory), Ok(()));
}

#[test]
fn the_unit_says_what_a_token_is() {
    for (unit, charges) in [(Unit::Requests, 10), (Unit::Records, 5), (Unit::Bytes, 1)] {
        let limits = RateLimits { unit, ..limits(Some(limit(10, 1, 1_000)), None) };
        let mut memory = Memory::default();
        let cost = Cost { records: 2, bytes: 500 };
        let let_in = |_: &u32| alice(&limits).charge(Seen::default(), None, cost, at(NOW), &mut memory, &mut Counts::default()).is_ok();
        assert_eq!((0..20).take_while(let_in).count(), charges, "{unit:?}");
    }
}

#[test]
fn a_refused_request_is_charged_nothing() {
    let limits = hundred_and_ten();
    let mut memory = Memory::default();
    let limiter = alice(&limits);
    charge(&limiter, Some("s"), 10, at(NOW), &mut memory).unwrap();
    let before = memory.places.values().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
    for _ in 0..100 {
        assert_eq!(charge(&limiter, Some("s"), 50, at(NOW), &mut memory), refused(Rejection::SessionRateLimited, 1));
    }
    let after = memory.places.values().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
    assert_eq!(after, before, "the user's tokens are back");
    assert_eq!(charge(&limiter, Some("other"), 90, at(NOW), &mut memory), Ok(()));
    let before = memory.clone();
    assert_eq!(charge(&limiter, Some("third"), 1, at(NOW), &mut memory), refused(Rejection::UserRateLimited, 1));
    assert_eq!(memory, before, "the session's bucket was not even written");
}

#[test]
fn what_was_not_delivered_is_given_back() {
    let limits = hundred_and_ten();
    let mut memory = Memory::default();
    let mut counts = Counts::default();
    let limiter = alice(&limits);
    charge(&limiter, Some("s"), 3, at(NOW), &mut memory).unwrap();
    let before = memory.places.values().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
    let charged = limiter.charge(Seen::default(), Some("s"), records(500), at(NOW), &mut memory, &mut counts).unwrap();
    assert!(limiter.look(Some("s"), at(NOW), &mut memory).is_err());
    charged.refund(at(NOW), &mut memory, &mut counts);
    let after = memory.places.values().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
    assert_eq!(after, before);
    assert_eq!(counts, Counts::default());
}

#[test]
fn what_is_given_back_late_never_fills_a_bucket_beyond_its_capacity() {
    let limits = limits(Some(limit(10, 1, 1_000)), None);
    let mut memory = Memory::default();
    let charged = alice(&limits).charge(Seen::default(), None, records(10), at(NOW), &mut memory, &mut Counts::default()).unwrap();
    charged.refund(at(NOW + 8 * SECOND), &mut memory, &mut Counts::default());
    assert_eq!(charge(&alice(&limits), None, 10, at(NOW + 8 * SECOND), &mut memory), Ok(()));
    assert_eq!(charge(&alice(&limits), None, 1, at(NOW + 8 * SECOND), &mut memory), refused(Rejection::UserRateLimited, 1));
}

#[test]
fn the_look_sees_what_the_charge_left_and_never_writes() {
    let limits = hundred_and_ten();
    let mut memory = Memory::default();
    let limiter = alice(&limits);
    let look = |session, now, memory: &Memory| {
        let mut store = memory.clone();
        let seen = limiter.look(session, at(now), &mut store);
        assert_eq!(store, *memory);
        seen
    };
    assert_eq!(look(Some("s"), NOW, &memory), Ok(()));
    charge(&limiter, Some("s"), 12, at(NOW), &mut memory).unwrap();
    assert_eq!(look(Some("s"), NOW, &memory), refused(Rejection::SessionRateLimited, 2 * SECOND + 1));
    assert_eq!(look(Some("t"), NOW, &memory), Ok(()));
    assert_eq!(look(None, NOW, &memory), Ok(()));
    assert_eq!(look(Some("s"), NOW + 2 * SECOND + 1, &memory), Ok(()));
    charge(&limiter, None, 100, at(NOW), &mut memory).unwrap();
    assert_eq!(look(None, NOW, &memory), refused(Rejection::UserRateLimited, 12 * SECOND + 1));
}

#[test]
fn where_both_buckets_are_empty_the_wait_is_until_neither_is() {
    let limits = limits(Some(limit(10, 1, 1_000)), Some(limit(10, 1, 60_000)));
    let mut memory = Memory::default();
    let limiter = alice(&limits);
    charge(&limiter, Some("s"), 15, at(NOW), &mut memory).unwrap();
    let both = |refusal: Refusal| refusal.retry_after == Some(at(300 * SECOND + 1));
    let looked = limiter.look(Some("s"), at(NOW), &mut memory).unwrap_err();
    assert!(both(looked), "the look: {looked:?}");
    let charged = charge(&limiter, Some("s"), 1, at(NOW), &mut memory).unwrap_err();
    assert!(both(charged), "the charge: {charged:?}");
}

#[test]
fn a_worker_whose_clock_is_a_little_behind_names_the_wait_on_its_own_clock() {
    let limits = limits(Some(limit(10, 1, 1_000)), None);
    let mut memory = Memory::default();
    charge(&alice(&limits), None, 10, at(NOW), &mut memory).unwrap();
    let behind = NOW - SECOND / 2;
    let expected = refused(Rejection::UserRateLimited, SECOND / 2 + 1);
    assert_eq!(charge(&alice(&limits), None, 1, at(behind), &mut memory), expected);
    assert_eq!(alice(&limits).look(None, at(behind), &mut memory), expected);
    assert_eq!(charge(&alice(&limits), None, 1, at(NOW + 1), &mut memory), Ok(()));
}

#[test]
fn where_a_clock_was_set_back_an_empty_bucket_refills_from_there() {
    let limits = hundred_and_ten();
    let limiter = alice(&limits);
    let (set_back, wait) = (NOW - DAY, 110 * SECOND + 1);
    for looks in [true, false] {
        let ask = |now, memory: &mut Memory| match looks {
            true => limiter.look(Some("s"), at(now), memory),
            false => charge(&limiter, Some("s"), 1, at(now), memory),
        };
        let mut memory = Memory::default();
        charge(&limiter, Some("s"), 120, at(NOW), &mut memory).unwrap();
        assert_eq!(ask(set_back, &mut memory), refused(Rejection::UserRateLimited, wait));
        assert_eq!(ask(set_back + wait - 1, &mut memory), refused(Rejection::SessionRateLimited, 1));
        assert_eq!(ask(set_back + wait, &mut memory), Ok(()), "not only once the clock is where it was");
    }
}

#[test]
fn names_that_read_alike_side_by_side_are_different_owners() {
    let limits = hundred_and_ten();
    let owners =
        [("a", "bc", "s"), ("ab", "c", "s"), ("", "abc", "s"), ("abc", "", "s"), ("a", "b", "cs"), ("1:a", "bc", "s"), ("a", "bc", "")];
    let mut memory = Memory::default();
    for (issuer, subject, session) in owners {
        let limiter = Limiter::new(&limits, None, issuer, subject, SEED);
        assert_eq!(charge(&limiter, Some(session), 10, at(NOW), &mut memory), Ok(()), "{issuer:?} {subject:?} {session:?}");
    }
    for (issuer, subject, session) in owners {
        let limiter = Limiter::new(&limits, None, issuer, subject, SEED);
        assert!(limiter.look(Some(session), at(NOW), &mut memory).is_err(), "{issuer:?} {subject:?} {session:?}");
    }
}

#[test]
fn a_limit_that_was_changed_begins_with_a_full_bucket() {
    let (before, after) = (limits(Some(limit(10, 1, 60_000)), None), limits(Some(limit(10, 1, 1_000)), None));
    let mut memory = Memory::default();
    charge(&alice(&before), None, 500, at(NOW), &mut memory).unwrap();
    assert_eq!(alice(&after).look(None, at(NOW), &mut memory), Ok(()));
    assert!(alice(&before).look(None, at(NOW), &mut memory).is_err());
}

#[test]
fn a_charge_counts_once_though_others_get_in_between() {
    for interruptions in 1..TRIES {
        let limits = limits(Some(limit(1_000, 1, 1_000)), None);
        let mut left = interruptions;
        let rival = |_: &str, memory: &mut Memory| {
            if left > 0 {
                left -= 1;
                charge(&alice(&limits), None, 7, at(NOW), memory).unwrap();
            }
        };
        let mut memory = Memory::default();
        Limiter::prepare(&limits, &mut memory);
        let mut store = Contended::new(memory, rival);
        assert_eq!(charge(&alice(&limits), None, 100, at(NOW), &mut store), Ok(()));
        assert_eq!(store.swaps, interruptions + 1);
        let spent = 100 + 7 * interruptions as u64;
        let mut memory = store.memory;
        charge(&alice(&limits), None, 1_000 - spent, at(NOW), &mut memory).unwrap();
        assert_eq!(charge(&alice(&limits), None, 1, at(NOW), &mut memory), refused(Rejection::UserRateLimited, 1));
    }
}

#[test]
fn the_last_token_goes_to_one_of_two_workers() {
    let limits = limits(Some(limit(10, 1, 1_000)), None);
    let mut memory = Memory::default();
    charge(&alice(&limits), None, 9, at(NOW), &mut memory).unwrap();
    let mut store = Contended::new(memory, |_: &str, memory: &mut Memory| {
        let _ = charge(&alice(&limits), None, 1, at(NOW), memory);
    });
    assert_eq!(charge(&alice(&limits), None, 1, at(NOW), &mut store), refused(Rejection::UserRateLimited, 1));
}

#[test]
fn under_endless_contention_the_request_is_refused_and_not_charged() {
    let limits = limits(Some(limit(10, 1, 1_000)), None);
    let mut store = Contended::new(Memory::default(), touch);
    Limiter::prepare(&limits, &mut store.memory);
    let mut counts = Counts::default();
    let refusal = alice(&limits).charge(Seen::default(), None, records(5), at(NOW), &mut store, &mut counts).unwrap_err();
    assert_eq!(refusal, Refusal { rejection: Rejection::LimiterContended, retry_after: Some(Duration::from_secs(1)) });
    assert_eq!(store.swaps, TRIES);
    let mut memory = store.memory;
    assert_eq!(charge(&alice(&limits), None, 10, at(NOW), &mut memory), Ok(()), "still all ten");
    assert!(alice(&limits).look(None, at(NOW), &mut memory).is_err());
}

#[test]
fn a_session_under_contention_gives_the_user_his_tokens_back() {
    let limits = hundred_and_ten();
    let mut users_place = None;
    let mut store = Contended::new(Memory::default(), |key: &str, memory: &mut Memory| {
        // The user's bucket is charged first.
        if users_place.get_or_insert_with(|| key.to_owned()) != key {
            touch(key, memory);
        }
    });
    Limiter::prepare(&limits, &mut store.memory);
    let refusal = charge(&alice(&limits), Some("s"), 60, at(NOW), &mut store).unwrap_err();
    assert_eq!(refusal.rejection, Rejection::LimiterContended);
    let mut memory = store.memory;
    assert_eq!(charge(&alice(&limits), Some("s"), 100, at(NOW), &mut memory), Ok(()));
    assert_eq!(charge(&alice(&limits), None, 1, at(NOW), &mut memory), refused(Rejection::UserRateLimited, 1));
}

#[test]
fn where_contention_lets_in_the_request_goes_on_and_is_counted() {
    let limits = RateLimits { on_contention: Otherwise::Allow, ..hundred_and_ten() };
    let mut store = Contended::new(Memory::default(), touch);
    Limiter::prepare(&limits, &mut store.memory);
    let mut counts = Counts::default();
    let charged = alice(&limits).charge(Seen::default(), Some("s"), records(5), at(NOW), &mut store, &mut counts).unwrap();
    assert_eq!((store.swaps, counts.of(Stat::BucketsContended)), (2 * TRIES, 2));
    charged.refund(at(NOW), &mut store, &mut counts);
    assert_eq!(store.swaps, 2 * TRIES, "nothing was taken");
}

#[test]
fn in_the_shadow_a_limit_counts_and_refuses_nothing() {
    let shadowed = |limit: Option<Limit>| limit.map(|limit| Limit { shadow: true, ..limit });
    let mut limits = hundred_and_ten();
    limits.limits.session = shadowed(limits.limits.session);
    let mut memory = Memory::default();
    let mut counts = Counts::default();
    for round in 0..5 {
        assert_eq!(alice(&limits).look(Some("s"), at(NOW), &mut memory), Ok(()));
        assert!(alice(&limits).charge(Seen::default(), Some("s"), records(20), at(NOW), &mut memory, &mut counts).is_ok(), "{round}");
    }
    // The session's ten let the first one in, as they would outside the shadow.
    assert_eq!(counts.of(Stat::ShadowedSession), 4);
    assert_eq!(
        charge(&alice(&limits), Some("s"), 1, at(NOW), &mut memory),
        refused(Rejection::UserRateLimited, 1),
        "the user's limit means it"
    );
    limits.limits.user = shadowed(limits.limits.user);
    assert!(alice(&limits).charge(Seen::default(), Some("s"), records(1), at(NOW), &mut memory, &mut counts).is_ok());
    assert_eq!((counts.of(Stat::ShadowedUser), counts.of(Stat::ShadowedSession)), (1, 5));
}

#[test]
fn the_shadow_knows_what_the_limit_would_have_known() {
    let mut limits = hundred_and_ten();
    let mut memory = Memory::default();
    charge(&alice(&limits), None, 150, at(NOW), &mut memory).unwrap();
    limits.limits.user = limits.limits.user.map(|limit| Limit { shadow: true, ..limit });
    let mut counts = Counts::default();
    let taken = alice(&limits).charge(Seen::default(), None, records(500), at(NOW), &mut memory, &mut counts).unwrap();
    taken.refund(at(NOW), &mut memory, &mut counts);
    assert_eq!(counts.of(Stat::ShadowedUser), 1);
    assert!(alice(&limits).charge(Seen::default(), None, records(1), at(NOW + 51 * SECOND), &mut memory, &mut counts).is_ok());
    assert_eq!(counts.of(Stat::ShadowedUser), 1, "what it would have refused was not charged");
}

#[test]
fn what_was_given_back_since_the_look_is_there_when_it_comes_to_the_charge() {
    let mut limits = hundred_and_ten();
    limits.limits.user = limits.limits.user.map(|limit| Limit { shadow: true, ..limit });
    let mut memory = Memory::default();
    let mut counts = Counts::default();
    Limiter::prepare(&limits, &mut memory);
    let taken = alice(&limits).charge(Seen::default(), None, records(200), at(NOW), &mut memory, &mut counts).unwrap();
    let seen = alice(&limits).first_look(None, at(NOW), &mut memory).unwrap();
    taken.refund(at(NOW), &mut memory, &mut counts);
    assert!(alice(&limits).charge(seen, None, records(1), at(NOW), &mut memory, &mut counts).is_ok());
    assert_eq!(counts.of(Stat::ShadowedUser), 0);
}

#[test]
fn those_whose_token_says_so_have_other_limits_and_buckets_of_their_own() {
    let mut limits = hundred_and_ten();
    let user = |max| Some(Limit { bucket: limit(max, 1, 1_000), shadow: false });
    limits.overrides = vec![Limits { user: user(3), session: None }, Limits { user: None, session: None }];
    let of = |distinction| Limiter::new(&limits, distinction, "https://id.example.com", "alice", SEED);
    let mut memory = Memory::default();
    assert_eq!(charge(&of(Some(0)), Some("s"), 3, at(NOW), &mut memory), Ok(()));
    assert!(charge(&of(Some(0)), Some("s"), 1, at(NOW), &mut memory).is_err());
    for _ in 0..5 {
        assert_eq!(charge(&of(Some(1)), Some("s"), 1_000_000, at(NOW), &mut memory), Ok(()));
    }
    assert_eq!(charge(&of(None), None, 100, at(NOW), &mut memory), Ok(()));
    assert!(charge(&of(None), None, 1, at(NOW), &mut memory).is_err());
}

/// A memory in the hands of several threads.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Memory>>);

impl Store for Shared {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.0.lock().unwrap().load(key)
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        self.0.lock().unwrap().swap(key, bytes, mark)
    }
}

#[test]
fn four_threads_together_admit_no_more_than_one() {
    let limits = limits(Some(limit(2_000, 1, 1_000)), None);
    let mut store = Shared::default();
    Limiter::prepare(&limits, &mut store);
    let admitted: u64 = std::thread::scope(|scope| {
        let work = |mut store: Shared| {
            let limits = &limits;
            move || (0..1_000).filter(|_| charge(&alice(limits), None, 3, at(NOW), &mut store).is_ok()).count() as u64 * 3
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work(store.clone()))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!((1_998..2_003).contains(&admitted), "{admitted}");
}

proptest! {
    #[test]
    fn users_and_sessions_are_let_in_as_if_each_had_a_model_of_its_own(
        requests in prop::collection::vec((0..3_usize, 0..3_usize, 0..40_u64, 0..3 * SECOND, any::<bool>()), 1..120),
    ) {
        let (user_limit, session_limit) = (limit(100, 7, 1_000), limit(30, 3, 1_000));
        let limits = limits(Some(user_limit), Some(session_limit));
        let (mut memory, mut now) = (Memory::default(), NOW);
        let mut users: HashMap<usize, Model> = HashMap::new();
        let mut sessions: HashMap<(usize, usize), Model> = HashMap::new();
        for (user, session, cost, pause, delivered) in requests {
            now += pause;
            let subject = format!("user {user}");
            let limiter = Limiter::new(&limits, None, "issuer", &subject, SEED);
            // All users call their sessions the same.
            let name = format!("session {session}");
            let users_model = users.entry(user).or_insert_with(|| Model::full(user_limit, now)).at(now);
            let sessions_model = sessions.entry((user, session)).or_insert_with(|| Model::full(session_limit, now)).at(now);
            let expected = users_model.take(cost).zip(sessions_model.take(cost));
            let mut counts = Counts::default();
            let looked = limiter.first_look(Some(&name), at(now), &mut memory);
            prop_assert_eq!(looked.is_ok(), expected.is_some());
            let charged = limiter.charge(looked.unwrap_or_default(), Some(&name), records(cost), at(now), &mut memory, &mut counts);
            prop_assert_eq!(charged.is_ok(), expected.is_some());
            if let (Ok(charge), Some((mut user_after, mut session_after))) = (charged, expected) {
                if !delivered {
                    charge.refund(at(now), &mut memory, &mut counts);
                    (user_after, session_after) = (user_after.give(cost), session_after.give(cost));
                }
                users.insert(user, user_after);
                sessions.insert((user, session), session_after);
            }
            prop_assert_eq!(counts.of(Stat::BucketsUnreadable), 0);
        }
    }

    #[test]
    fn whoever_else_empties_a_session_it_is_not_this_users(
        mine in ("[ab:/]{0,3}", "[ab:/]{0,3}", "[ab:/]{0,3}"),
        theirs in ("[ab:/]{0,3}", "[ab:/]{0,3}", "[ab:/]{0,3}"),
    ) {
        prop_assume!((&mine.0, &mine.1) != (&theirs.0, &theirs.1));
        let limits = hundred_and_ten();
        let mut memory = Memory::default();
        let their_limiter = Limiter::new(&limits, None, &theirs.0, &theirs.1, SEED);
        charge(&their_limiter, Some(&theirs.2), 1_000, at(NOW), &mut memory).unwrap();
        let my_limiter = Limiter::new(&limits, None, &mine.0, &mine.1, SEED);
        prop_assert_eq!(my_limiter.look(Some(&mine.2), at(NOW), &mut memory), Ok(()));
        prop_assert_eq!(charge(&my_limiter, Some(&mine.2), 10, at(NOW), &mut memory), Ok(()));
    }
}
