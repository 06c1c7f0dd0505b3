//! What a request saw before its body came, and charges after it.

use super::model::{DAY, NOW, SECOND, at, limit};
use super::{Counts, Memory, SEED, charge, limits, records};
use crate::bucket::{Limiter, Store};
use crate::config::{Limit, Limits, RateLimits};
use crate::stats::Stat;

/// A memory that counts what is loaded, and may give no marks.
#[derive(Default)]
struct Counting {
    memory: Memory,
    loads: usize,
    swaps: usize,
    without_marks: bool,
}

impl Store for Counting {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.loads += 1;
        self.memory.load(key).map(|(bytes, mark)| (bytes, mark.filter(|_| !self.without_marks)))
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        self.swaps += 1;
        self.memory.swap(key, bytes, mark)
    }
}

fn alice(limits: &RateLimits) -> Limiter<'_> {
    Limiter::new(limits, None, "issuer", "alice", SEED)
}

/// Both with ten tokens; one set, or as many as usual.
fn both(slots: u32) -> (RateLimits, Counting) {
    let ten = Some(limit(10, 1, 1_000));
    let limits = RateLimits { slots, ..limits(ten, ten) };
    let mut store = Counting::default();
    Limiter::prepare(&limits, &mut store.memory);
    (limits, store)
}

/// Looks, lets somebody do something, and charges. (loads, swaps) of it all, and whether it was let in.
fn ask(limits: &RateLimits, store: &mut Counting, amount: u64, between: impl FnOnce(&mut Memory)) -> (usize, usize, bool) {
    (store.loads, store.swaps) = (0, 0);
    let mut counts = Counts::default();
    let seen = alice(limits).first_look(Some("s"), at(NOW), store).unwrap();
    between(&mut store.memory);
    let charged = alice(limits).charge(seen, Some("s"), records(amount), at(NOW), store, &mut counts);
    assert_eq!(counts.of(Stat::BucketsContended), 0);
    (store.loads, store.swaps, charged.is_ok())
}

/// How much can still be taken at once, one token at a time.
fn left(limits: &RateLimits, store: &Counting) -> usize {
    let mut memory = store.memory.clone();
    (0..20).take_while(|_| charge(&alice(limits), Some("s"), 1, at(NOW), &mut memory).is_ok()).count()
}

#[test]
fn it_is_loaded_once_and_charged_once() {
    let (limits, mut store) = both(16_384);
    assert_eq!(ask(&limits, &mut store, 4, |_| {}), (2, 2, true));
    assert_eq!(left(&limits, &store), 6);
}

#[test]
fn where_both_are_in_one_set_each_is_charged_once() {
    let (limits, mut store) = both(8);
    assert_eq!(ask(&limits, &mut store, 4, |_| {}), (3, 2, true));
    assert_eq!(left(&limits, &store), 6);
}

#[test]
fn bytes_of_an_unknown_layout_are_counted_once_also_where_both_saw_them() {
    let (limits, mut store) = both(8);
    store.memory.swap("bucket/0", b"{}", None);
    let mut counts = Counts::default();
    let seen = alice(&limits).first_look(Some("s"), at(NOW), &mut store).unwrap();
    assert!(alice(&limits).charge(seen, Some("s"), records(4), at(NOW), &mut store, &mut counts).is_ok());
    assert_eq!(counts.of(Stat::BucketsUnreadable), 1);
    assert_eq!(left(&limits, &store), 6);
}

#[test]
fn where_a_clock_was_set_back_the_look_has_noted_it_and_the_charge_knows() {
    let (mut limits, mut store) = both(16_384);
    limits.limits = Limits { user: limits.limits.user.map(|limit| Limit { shadow: true, ..limit }), session: None };
    charge(&alice(&limits), None, 30, at(NOW), &mut store.memory).unwrap();
    let mut counts = Counts::default();
    let mut ask = |now: u64| {
        let seen = alice(&limits).first_look(None, at(now), &mut store).unwrap();
        assert!(alice(&limits).charge(seen, None, records(1), at(now), &mut store, &mut counts).is_ok());
        counts.of(Stat::ShadowedUser)
    };
    assert_eq!(ask(NOW - DAY), 1);
    assert_eq!(ask(NOW - DAY + 20 * SECOND), 2);
    assert_eq!(ask(NOW - DAY + 20 * SECOND + 1), 2, "it refills from there");
}

#[test]
fn what_has_changed_since_is_what_counts() {
    let (limits, mut store) = both(16_384);
    let other = |memory: &mut Memory| charge(&alice(&limits), Some("s"), 3, at(NOW), memory).unwrap();
    assert!(ask(&limits, &mut store, 4, other).2);
    assert_eq!(left(&limits, &store), 3);
    assert!(!ask(&limits, &mut store, 1, other).2, "there was something when it looked");
}

#[test]
fn without_marks_nothing_is_written_over() {
    let (limits, mut store) = both(16_384);
    store.without_marks = true;
    let other = |memory: &mut Memory| charge(&alice(&limits), Some("s"), 3, at(NOW), memory).unwrap();
    assert_eq!(ask(&limits, &mut store, 4, other), (4, 2, true));
    assert_eq!(left(&limits, &store), 3);
}

#[test]
fn a_session_that_comes_with_the_body_is_charged_too() {
    let (limits, mut store) = both(16_384);
    let seen = alice(&limits).first_look(None, at(NOW), &mut store).unwrap();
    assert!(alice(&limits).charge(seen, Some("s"), records(4), at(NOW), &mut store, &mut Counts::default()).is_ok());
    assert_eq!((store.loads, left(&limits, &store)), (2, 6));
    let mut memory = store.memory.clone();
    assert!(charge(&alice(&limits), Some("s"), 6, at(NOW), &mut memory).is_ok());
    assert!(charge(&alice(&limits), Some("other"), 1, at(NOW), &mut memory).is_err(), "the user's is the same");
}
