//! A bucket as one would explain it, exact and slow: how much it holds, and when that was last said.

use crate::config::TokenBucket;
use proptest::prelude::*;
use std::time::Duration;

pub const SECOND: u64 = 1_000_000_000;
pub const DAY: u64 = 86_400 * SECOND;
pub const CENTURY: u64 = 36_525 * DAY;

/// Some moment in 2026.
pub const NOW: u64 = 1_770_379_200 * SECOND;

/// Counts in parts of a token so small that nothing is ever rounded: a token has as many as its
/// fill interval has nanoseconds, and each nanosecond refills `tokens_per_fill` of them.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    limit: TokenBucket,
    holds: i128,
    seen: u64,
}

impl Model {
    pub fn full(limit: TokenBucket, now: u64) -> Model {
        Model { limit, holds: parts(u64::from(limit.max_tokens), limit), seen: now }
    }

    /// Time passes. Up to a second backwards is another worker's clock and no time at all; more is
    /// a clock that was set back, from where time goes on.
    pub fn at(mut self, now: u64) -> Model {
        if self.seen.saturating_sub(now) > SECOND {
            self.seen = now;
        }
        let refill = i128::from(now.saturating_sub(self.seen)) * i128::from(self.limit.tokens_per_fill);
        self.seen = self.seen.max(now);
        self.holding(self.holds + refill)
    }

    pub fn take(self, tokens: u64) -> Option<Model> {
        (self.holds > 0).then(|| self.holding(self.holds - parts(tokens, self.limit)))
    }

    pub fn give(self, tokens: u64) -> Model {
        self.holding(self.holds + parts(tokens, self.limit))
    }

    fn holding(self, holds: i128) -> Model {
        Model { holds: holds.min(parts(u64::from(self.limit.max_tokens), self.limit)), ..self }
    }

    /// Parts that are missing from a full bucket.
    pub fn missing(self) -> i128 {
        parts(u64::from(self.limit.max_tokens), self.limit) - self.holds
    }

    /// Whether the moment at which it will be full can be written down: 2554 is the end of the nanoseconds.
    pub fn ends_in_time(self) -> bool {
        let wait = self.missing() / i128::from(self.limit.tokens_per_fill) + 1;
        i128::from(self.seen) + wait < i128::from(u64::MAX)
    }
}

pub fn parts(tokens: u64, limit: TokenBucket) -> i128 {
    i128::from(tokens) * limit.fill_interval.as_nanos() as i128
}

pub fn limit(max_tokens: u32, tokens_per_fill: u32, fill_interval_ms: u64) -> TokenBucket {
    TokenBucket { max_tokens, tokens_per_fill, fill_interval: Duration::from_millis(fill_interval_ms) }
}

pub fn at(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// All that can be configured, the usual more often.
pub fn any_limit() -> impl Strategy<Value = TokenBucket> {
    let tokens = || prop_oneof![1..=10_u32, 1..=10_000_u32, 1..=u32::MAX];
    let millis = prop_oneof![1..=5_u64, Just(1_000), Just(86_400_000), 1..=366 * 86_400_000_u64];
    (tokens(), tokens(), millis).prop_map(|(max, fill, millis)| limit(max, fill, millis))
}

/// From one event to the next, in nanoseconds; forwards.
pub fn any_pause() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 3 => 0..1_000_i64, 3 => 0..10 * SECOND as i64, 2 => 0..400 * DAY as i64]
}

/// As clocks go: on, a little behind, or set back or ahead by whatever it may be.
pub fn any_step() -> impl Strategy<Value = i64> {
    let century = CENTURY as i64;
    prop_oneof![8 => any_pause(), 2 => -2 * SECOND as i64..0, 1 => -century..0, 1 => Just(century), 1 => Just(-century)]
}
