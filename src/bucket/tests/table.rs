//! Where buckets are kept: bounded, forgetful where it costs least, and never trusted.

use super::model::{CENTURY, NOW, SECOND, any_limit, at, limit};
use super::{Counts, Memory, SEED, charge, limits, records};
use crate::bucket::table;
use crate::bucket::{Level, Limiter, Seed, Seen, Store};
use crate::config::RateLimits;
use crate::stats::Stat;
use proptest::prelude::*;

const FULL: u64 = 100;

/// One set of eight places for buckets of a hundred tokens, one a second.
fn one_set() -> RateLimits {
    RateLimits { slots: 8, ..limits(Some(limit(FULL as u32, 1, 1_000)), None) }
}

fn user<'a>(limits: &'a RateLimits, name: &'a str) -> Limiter<'a> {
    Limiter::new(limits, None, "issuer", name, SEED)
}

fn remembered(limits: &RateLimits, name: &str, memory: &mut Memory) -> Option<Level> {
    table::load(memory, limits.slots, user(limits, name).user().unwrap().owner).level()
}

/// Which of the users `0..count` have a bucket.
fn all_remembered(limits: &RateLimits, count: u64, memory: &mut Memory) -> Vec<u64> {
    (0..count).filter(|name| remembered(limits, &name.to_string(), memory).is_some()).collect()
}

#[test]
fn slots_bound_the_memory_however_many_users_and_sessions_there_are() {
    let bucket = Some(limit(10, 1, 1_000));
    let limits = RateLimits { slots: 64, ..limits(bucket, bucket) };
    let mut memory = Memory::default();
    for i in 0..100_000 {
        let now = at(NOW + i * SECOND / 1_000);
        assert_eq!(charge(&user(&limits, &i.to_string()), Some(&format!("session {i}")), 3, now, &mut memory), Ok(()));
    }
    assert_eq!(memory.places.len(), 64 / 8);
    for (bytes, _) in memory.places.values() {
        assert_eq!(bytes.len(), 1 + 8 * 36);
    }
}

#[test]
fn every_number_of_slots_has_its_sets() {
    for (slots, sets) in [(8, 1), (15, 1), (16, 2), (1_000, 125)] {
        let limits = RateLimits { slots, ..one_set() };
        let mut memory = Memory::default();
        Limiter::prepare(&limits, &mut memory);
        assert_eq!(memory.places.len(), sets, "{slots}");
        for name in 0..2_000 {
            charge(&user(&limits, &name.to_string()), None, 1, at(NOW), &mut memory).unwrap();
        }
        assert_eq!(memory.places.len(), sets, "{slots}: all sets were there before the first charge");
    }
}

#[test]
fn preparing_again_keeps_what_is_there() {
    let limits = one_set();
    let mut memory = Memory::default();
    Limiter::prepare(&limits, &mut memory);
    charge(&user(&limits, "a"), None, 5, at(NOW), &mut memory).unwrap();
    let before = memory.clone();
    Limiter::prepare(&limits, &mut memory);
    assert_eq!(memory, before);
}

#[test]
fn without_limits_nothing_is_stored() {
    let limits = limits(None, None);
    let mut memory = Memory::default();
    Limiter::prepare(&limits, &mut memory);
    charge(&user(&limits, "a"), Some("s"), u64::MAX, at(NOW), &mut memory).unwrap();
    assert_eq!(user(&limits, "a").look(Some("s"), at(NOW), &mut memory), Ok(()));
    assert_eq!(memory, Memory::default());
}

#[test]
fn in_a_crowded_set_the_bucket_nearest_to_full_gives_way() {
    let limits = one_set();
    let mut memory = Memory::default();
    for (name, taken) in [50, 30, 80, 20, 70, 60, 10, 40].into_iter().enumerate() {
        charge(&user(&limits, &name.to_string()), None, taken, at(NOW), &mut memory).unwrap();
    }
    assert_eq!(all_remembered(&limits, 8, &mut memory), [0, 1, 2, 3, 4, 5, 6, 7]);
    charge(&user(&limits, "8"), None, 90, at(NOW), &mut memory).unwrap();
    assert_eq!(all_remembered(&limits, 9, &mut memory), [0, 1, 2, 3, 4, 5, 7, 8], "the one that lacked 10");
    charge(&user(&limits, "9"), None, 1, at(NOW), &mut memory).unwrap();
    assert_eq!(all_remembered(&limits, 10, &mut memory), [0, 1, 2, 4, 5, 7, 8, 9], "the one that lacked 20");
}

#[test]
fn a_newcomer_with_little_to_remember_makes_room_for_the_next() {
    let limits = one_set();
    let mut memory = Memory::default();
    for name in 0..8 {
        charge(&user(&limits, &name.to_string()), None, 150, at(NOW), &mut memory).unwrap();
    }
    // One of eight is given up to a thousand names, not eight.
    for name in 8..1_008 {
        charge(&user(&limits, &name.to_string()), None, 1, at(NOW), &mut memory).unwrap();
    }
    assert_eq!(all_remembered(&limits, 8, &mut memory).len(), 7);
}

#[test]
fn a_bucket_that_is_full_again_is_the_first_to_go() {
    let limits = one_set();
    let mut memory = Memory::default();
    charge(&user(&limits, "0"), None, 100, at(NOW), &mut memory).unwrap();
    for name in 1..8 {
        charge(&user(&limits, &name.to_string()), None, 20, at(NOW + 95 * SECOND), &mut memory).unwrap();
    }
    charge(&user(&limits, "8"), None, 1, at(NOW + 100 * SECOND), &mut memory).unwrap();
    assert_eq!(all_remembered(&limits, 9, &mut memory), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn after_a_clock_was_set_back_it_is_still_what_is_missing_that_counts() {
    let limits = one_set();
    let mut memory = Memory::default();
    for name in 0..7 {
        charge(&user(&limits, &name.to_string()), None, 1, at(NOW + CENTURY), &mut memory).unwrap();
    }
    charge(&user(&limits, "7"), None, 150, at(NOW), &mut memory).unwrap();
    charge(&user(&limits, "8"), None, 1, at(NOW), &mut memory).unwrap();
    assert!(remembered(&limits, "7", &mut memory).is_some(), "the only one that is empty was forgotten");
}

#[test]
fn the_seed_decides_where_a_bucket_is() {
    let limits = limits(Some(limit(1, 1, 1_000)), None);
    let owners = |seed: Seed| -> Vec<_> {
        (0..50).map(|name: u32| Limiter::new(&limits, None, "issuer", &name.to_string(), seed).user().unwrap().owner).collect()
    };
    assert_eq!(owners(SEED), owners(SEED));
    let same = owners(SEED).into_iter().zip(owners(Seed([9; 16]))).filter(|(a, b)| a.set % 2_048 == b.set % 2_048).count();
    assert!(same < 5, "{same} of 50 did not move");
}

#[test]
fn bytes_of_an_unknown_layout_are_an_empty_set_and_counted() {
    let limits = one_set();
    let mut good = Memory::default();
    charge(&user(&limits, "a"), None, 150, at(NOW), &mut good).unwrap();
    let (key, (bytes, _)) = good.places.first_key_value().unwrap();
    let mut newer = bytes.clone();
    newer[0] += 1;
    let mut crowded = vec![bytes[0]];
    crowded.extend(bytes[1..].iter().cycle().take(9 * 36));
    for unreadable in [newer, crowded, bytes[..36].to_vec(), [&bytes[..], &[0]].concat(), b"{}".to_vec(), vec![0]] {
        let mut memory = Memory::default();
        memory.swap(key, &unreadable, None);
        let mut counts = Counts::default();
        let limiter = user(&limits, "a");
        assert_eq!(limiter.look(None, at(NOW), &mut memory), Ok(()));
        assert!(limiter.charge(Seen::default(), None, records(150), at(NOW), &mut memory, &mut counts).is_ok());
        assert_eq!(counts.of(Stat::BucketsUnreadable), 1, "{unreadable:?}");
        assert_eq!(memory.places[key].0, *bytes, "it is begun anew");
        assert!(limiter.charge(Seen::default(), None, records(1), at(NOW), &mut memory, &mut counts).is_err());
        assert_eq!(counts.of(Stat::BucketsUnreadable), 1);
    }
}

#[test]
fn an_entry_of_nobodys_is_the_first_to_go() {
    let limits = one_set();
    let mut memory = Memory::default();
    for name in 0..8 {
        charge(&user(&limits, &name.to_string()), None, 50, at(NOW), &mut memory).unwrap();
    }
    let key = memory.places.keys().next().unwrap().clone();
    let (mut bytes, mark) = memory.load(&key).unwrap();
    // The last one's fingerprint; what is left says that its bucket is the emptiest.
    let last = bytes.len() - 36;
    bytes[last..last + 8].fill(0);
    bytes[last + 8..last + 24].fill(0x7f);
    assert!(memory.swap(&key, &bytes, mark));
    charge(&user(&limits, "8"), None, 1, at(NOW), &mut memory).unwrap();
    assert_eq!(all_remembered(&limits, 9, &mut memory), [0, 1, 2, 3, 4, 5, 6, 8]);
}

#[test]
fn a_place_that_was_emptied_is_empty_and_nothing_odd() {
    let limits = one_set();
    for bytes in [&[][..], &[1]] {
        let mut memory = Memory::default();
        memory.swap("bucket/0", bytes, None);
        let mut counts = Counts::default();
        assert!(user(&limits, "a").charge(Seen::default(), None, records(1), at(NOW), &mut memory, &mut counts).is_ok());
        assert_eq!(counts, Counts::default());
    }
}

proptest! {
    #[test]
    fn any_bytes_in_the_store_are_survived(
        limit in any_limit(),
        version in prop_oneof![Just(1), any::<u8>()],
        entries in prop::collection::vec(any::<u8>(), 0..300),
        cut in prop_oneof![Just(true), Just(false)],
        now in any::<u64>(),
    ) {
        let limits = RateLimits { slots: 8, ..limits(Some(limit), None) };
        let whole = if cut { entries.len() } else { entries.len() - entries.len() % 28 };
        let bytes = [&[version], &entries[..whole]].concat();
        let mut memory = Memory::default();
        memory.swap("bucket/0", &bytes, None);
        let limiter = user(&limits, "a");
        let _ = limiter.look(None, at(now), &mut memory);
        if charge(&limiter, None, 1, at(now), &mut memory).is_ok() {
            let mut counts = Counts::default();
            let _ = limiter.charge(Seen::default(), None, records(1), at(now), &mut memory, &mut counts);
            prop_assert_eq!(counts, Counts::default(), "what was written can be read");
        }
    }
}
