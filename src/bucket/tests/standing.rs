//! What a sender is told.

use super::model::{NOW, SECOND, at, limit};
use super::{Memory, SEED, charge, limits};
use crate::bucket::{Limiter, Standing};
use crate::config::{Limit, RateLimits, TokenBucket, Unit};
use proptest::prelude::*;

fn told(standing: &Standing) -> (String, String) {
    (standing.policy().unwrap_or_default(), standing.rate_limit().unwrap_or_default())
}

/// How alice's buckets stand after so many records.
fn after(limits: &RateLimits, records: u64, later: u64) -> (String, String) {
    let mut memory = Memory::default();
    let limiter = Limiter::new(limits, None, "i", "alice", SEED);
    charge(&limiter, Some("s"), records, at(NOW), &mut memory).unwrap();
    told(&limiter.standing(Some("s"), at(NOW + later), &mut memory))
}

#[test]
fn each_bucket_is_an_item_of_a_list() {
    let limits = limits(Some(limit(2_000, 50, 1_000)), Some(limit(100, 3, 1_000)));
    let policy = r#""user";q=2000;qu="records";w=40, "session";q=100;qu="records";w=34"#.to_owned();
    assert_eq!(after(&limits, 0, 0), (policy.clone(), r#""user";r=2000;t=0, "session";r=100;t=0"#.to_owned()));
    assert_eq!(after(&limits, 90, 0), (policy.clone(), r#""user";r=1910;t=2, "session";r=10;t=30"#.to_owned()));
    assert_eq!(after(&limits, 90, SECOND), (policy.clone(), r#""user";r=1960;t=1, "session";r=13;t=29"#.to_owned()));
    assert_eq!(after(&limits, 150, 0), (policy, r#""user";r=1850;t=3, "session";r=0;t=50"#.to_owned()), "overdrawn");
}

#[test]
fn the_unit_is_named_where_it_is_not_requests() {
    for (unit, policy) in [
        (Unit::Requests, r#""user";q=10;w=10"#),
        (Unit::Bytes, r#""user";q=10;qu="content-bytes";w=10"#),
        (Unit::Records, r#""user";q=10;qu="records";w=10"#),
    ] {
        let limits = RateLimits { unit, ..limits(Some(limit(10, 1, 1_000)), None) };
        assert_eq!(after(&limits, 1, 0).0, policy);
    }
}

#[test]
fn nothing_is_said_where_there_is_no_limit_or_one_in_the_shadow() {
    assert_eq!(after(&limits(None, None), 5, 0), Default::default());
    let mut limits = limits(Some(limit(10, 1, 1_000)), Some(limit(10, 1, 1_000)));
    limits.limits.user = limits.limits.user.map(|limit| Limit { shadow: true, ..limit });
    assert_eq!(after(&limits, 5, 0).1, r#""session";r=5;t=5"#);
}

/// An Integer of a structured field (RFC 9651, 3.3.1).
fn is_integer(text: &str) -> bool {
    !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit())
}

proptest! {
    #[test]
    fn numbers_are_those_of_structured_fields_whatever_the_limit(
        max in 1..=u32::MAX, fill in 1..=u32::MAX, interval in 1..=366 * 86_400_000_u64, cost in any::<u32>(), later in 0..u64::MAX / 4,
    ) {
        let bucket: TokenBucket = limit(max, fill, interval);
        let (policy, left) = after(&limits(Some(bucket), None), u64::from(cost), later);
        for part in policy.split(';').chain(left.split(';')) {
            if let Some((name, value)) = part.split_once('=').filter(|(name, _)| *name != "qu") {
                prop_assert!(is_integer(value), "{name}={value}");
            }
        }
        let remaining: u64 = left.split(";r=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
        prop_assert!(remaining <= u64::from(max));
        prop_assert!(remaining >= u64::from(max.saturating_sub(cost)));
    }
}
