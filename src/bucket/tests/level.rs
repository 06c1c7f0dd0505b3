//! One bucket, against the model and by hand.

use super::model::{CENTURY, DAY, Model, NOW, SECOND, any_limit, any_pause, any_step, at, limit, parts};
use crate::bucket::Level;
use crate::config::TokenBucket;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Action {
    Take(u64),
    Give(u64),
}

fn any_cost() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..=10_u64, 3 => 0..=2_000_u64, 1 => any::<u64>()]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![4 => any_cost().prop_map(Action::Take), 1 => any_cost().prop_map(Action::Give)]
}

/// Parts that are missing, read off what is stored.
fn missing(level: Level, limit: TokenBucket) -> i128 {
    (level.full_at as i128 - i128::from(level.changed_at)) * i128::from(limit.tokens_per_fill) + i128::from(level.part)
}

/// Takes `tokens` from a full bucket at `NOW`.
fn after_taking(tokens: u64, limit: TokenBucket) -> Level {
    Level::default().at(at(NOW), limit).take(tokens, limit).unwrap()
}

/// How many single tokens get through when one is asked for every `step`, until `end`.
fn admitted(limit: TokenBucket, step: u64, end: u64) -> u64 {
    let mut level = Level::default();
    let mut admitted = 0;
    for now in (NOW..=NOW + end).step_by(step as usize) {
        if let Ok(taken) = level.at(at(now), limit).take(1, limit) {
            level = taken;
            admitted += 1;
        }
    }
    admitted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_bucket_does_what_the_exact_model_does_whatever_the_clock_does(
        limit in any_limit(),
        events in prop::collection::vec((any_step(), any_action()), 1..60),
    ) {
        let mut now = NOW;
        let (mut level, mut model) = (Level::default(), Model::full(limit, 0));
        for (step, action) in events {
            now = now.saturating_add_signed(step);
            let (seen, expected) = (level.at(at(now), limit), model.at(now));
            prop_assert_eq!(missing(seen, limit), expected.missing(), "before {:?}", action);
            let next = match action {
                Action::Give(tokens) => Some((seen.give(tokens, limit), expected.give(tokens))),
                Action::Take(tokens) => {
                    let (taken, allowed) = (seen.take(tokens, limit), expected.take(tokens));
                    prop_assert_eq!(taken.is_ok(), allowed.is_some(), "{:?} with {} missing", action, expected.missing());
                    taken.ok().zip(allowed)
                }
            };
            // What is refused is not written.
            let Some(next) = next else { continue };
            if !next.1.ends_in_time() {
                break;
            }
            (level, model) = next;
            prop_assert_eq!(missing(level, limit), model.missing(), "after {:?}", action);
            prop_assert!(level.part < limit.tokens_per_fill);
        }
    }

    #[test]
    fn no_window_lets_in_more_than_capacity_and_refill_and_one_overdraft(
        limit in any_limit(),
        events in prop::collection::vec((any_pause(), 0..5_000_u64), 1..40),
    ) {
        let (mut now, mut level) = (NOW, Level::default());
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (pause, tokens) in events {
            now = now.saturating_add_signed(pause);
            if let Ok(taken) = level.at(at(now), limit).take(tokens, limit) {
                level = taken;
                admitted.push((now, tokens));
            }
        }
        for (i, &(begin, _)) in admitted.iter().enumerate() {
            let mut before = 0;
            for &(end, tokens) in &admitted[i..] {
                let bound = parts(u64::from(limit.max_tokens), limit) + i128::from(end - begin) * i128::from(limit.tokens_per_fill);
                prop_assert!(before < bound, "{} in {} ns", tokens, end - begin);
                before += parts(tokens, limit);
            }
        }
    }

    #[test]
    fn after_the_wait_it_passes_and_a_nanosecond_earlier_it_does_not(limit in any_limit(), cost in 1..100_000_u64, later in any_pause()) {
        let empty = after_taking(u64::from(limit.max_tokens) + cost, limit);
        let now = NOW.saturating_add_signed(later);
        prop_assume!(empty.full_at < u128::from(u64::MAX));
        if let Err(wait) = empty.at(at(now), limit).take(1, limit) {
            let passes = at(now) + wait;
            prop_assert!(empty.at(passes, limit).take(1, limit).is_ok());
            prop_assert!(empty.at(passes - at(1), limit).take(1, limit).is_err());
        }
    }

    #[test]
    fn what_is_taken_and_given_back_was_never_gone(limit in any_limit(), before in 0..10_000_u64, cost in 0..100_000_u64, later in any_pause()) {
        let level = after_taking(before, limit).at(at(NOW.saturating_add_signed(later)), limit);
        if let Ok(taken) = level.take(cost, limit) {
            prop_assume!(taken.full_at < u128::from(u64::MAX));
            prop_assert_eq!(taken.give(cost, limit), level);
        }
    }

    #[test]
    fn any_stored_numbers_are_a_bucket(
        limit in any_limit(),
        (full_at, part, changed_at) in any::<(u128, u32, u64)>(),
        now in any::<u64>(),
        tokens in any::<u64>(),
    ) {
        let seen = Level { full_at, part, changed_at, seen_at: 0 }.at(at(now), limit);
        prop_assert!(seen.full_at >= u128::from(seen.changed_at));
        let taken = seen.take(tokens, limit).unwrap_or(seen).give(tokens, limit);
        prop_assert!(taken.part < limit.tokens_per_fill);
        prop_assert_eq!(taken.wait(limit).is_none(), taken.take(0, limit).is_ok());
    }
}

#[test]
fn a_full_bucket_gives_its_capacity_and_the_overdraft_of_the_last_request() {
    let limit = limit(100, 10, 1_000);
    let level = after_taking(99, limit);
    let overdrawn = level.take(1_000, limit).unwrap();
    assert_eq!(overdrawn.take(1, limit), Err(Duration::from_nanos(99_900_000_001)));
    assert_eq!(overdrawn.take(0, limit).is_ok(), overdrawn.take(1, limit).is_ok());
    assert_eq!(after_taking(100, limit).wait(limit), Some(Duration::from_nanos(1)));
}

#[test]
fn thirds_of_a_nanosecond_add_up() {
    for (tokens_per_fill, taken) in [(3, 3), (7, 14), (1_000_000, 1_000_000), (999_983, 999_983)] {
        let limit = limit(u32::MAX, tokens_per_fill, 1_000);
        let mut level = Level::default().at(at(NOW), limit);
        for _ in 0..taken {
            level = level.take(1, limit).unwrap();
        }
        assert_eq!(level, after_taking(taken, limit));
        assert_eq!((level.full_at as u64 - NOW, level.part), (SECOND * taken / u64::from(tokens_per_fill), 0));
    }
}

#[test]
fn what_is_missing_by_less_than_a_nanosecond_is_missing() {
    // Four thousand tokens refill in one nanosecond here: all of them at the same instant would be a leak.
    let limit = limit(1_000, u32::MAX, 1);
    let level = after_taking(1_000, limit);
    assert!(level.at(at(NOW), limit).take(1, limit).is_err());
    assert!(level.at(at(NOW + 1), limit).take(1, limit).is_ok());
}

#[test]
fn one_a_day_is_one_a_day_however_often_it_is_asked() {
    // The bucket's one, one for each day, and the one that overdraws.
    for step in [DAY / 3 + 1, DAY / 24, DAY / 1_000 + 7] {
        let admitted = admitted(limit(1, 1, 86_400_000), step, 365 * DAY);
        assert!((365..=366).contains(&admitted), "{admitted} with a step of {step} ns");
    }
}

#[test]
fn a_million_a_second_is_a_million_a_second() {
    let limit = limit(1_000, 1_000, 1);
    assert_eq!(admitted(limit, 1_000, SECOND / 10), 100_001);
    let admitted = admitted(limit, 700, SECOND / 10);
    assert!((100_999..=101_000).contains(&admitted), "{admitted}");
}

#[test]
fn a_clock_that_is_set_back_neither_fills_nor_empties() {
    let limit = limit(100, 1, 1_000);
    let level = after_taking(150, limit);
    for back in [SECOND + 1, DAY, CENTURY / 2] {
        let seen = level.at(at(NOW - back), limit);
        assert_eq!(missing(seen, limit), missing(level, limit), "{back}");
        assert_eq!(seen.wait(limit), level.wait(limit));
        let minute = seen.at(at(NOW - back + 60 * SECOND), limit);
        assert!(minute.take(1, limit).is_ok(), "time goes on from there");
    }
}

#[test]
fn a_clock_that_is_set_ahead_fills_at_most_and_is_forgotten_when_set_right() {
    let limit = limit(100, 1, 1_000);
    let ahead = after_taking(150, limit).at(at(NOW + CENTURY), limit).take(130, limit).unwrap();
    assert_eq!(missing(ahead, limit), parts(130, limit), "a full bucket, not a century of tokens");
    let right = ahead.at(at(NOW + SECOND), limit);
    assert_eq!(missing(right, limit), parts(130, limit));
    assert!(right.at(at(NOW + 32 * SECOND), limit).take(1, limit).is_ok());
}

#[test]
fn the_end_of_time_is_no_trap() {
    let limit = limit(10, 1, 366 * 86_400_000);
    for now in [Duration::ZERO, at(1), at(NOW)] {
        let level = Level::default().at(now, limit).take(u64::MAX, limit).unwrap();
        assert!(level.wait(limit).is_some(), "{now:?}");
        assert_eq!(level.give(u64::MAX, limit).wait(limit), None);
    }
    for now in [at(u64::MAX), Duration::MAX] {
        assert!(Level::default().at(now, limit).take(u64::MAX, limit).is_ok());
    }
}

#[test]
fn a_bucket_that_takes_longer_to_fill_than_time_has_left_runs_out_all_the_same() {
    let limit = limit(1_000_000, 1, 86_400_000);
    let mut level = Level::default().at(at(NOW), limit);
    for _ in 0..5 {
        level = level.take(200_000, limit).unwrap_or(level);
    }
    assert!(level.take(1, limit).is_err(), "all of its tokens were taken at once");
}
