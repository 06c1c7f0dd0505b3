//! The arithmetic of one bucket, exact and total.
//!
//! A bucket is the moment at which it will be full again: `full_at` nanoseconds and a fraction of
//! one, counted in parts of `tokens_per_fill`. A token takes `fill_interval / tokens_per_fill`
//! nanoseconds to refill, so charging adds a whole number of such parts and nothing is rounded,
//! at one token a day as at a million a second.

use crate::config::TokenBucket;
use std::time::Duration;

/// A bucket at a moment. The default is a full one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// When it is full, in nanoseconds since the Unix epoch, rounded down. A slow and large bucket may
    /// take longer than 64 bits last, which is until 2554.
    pub full_at: u128,
    /// What was rounded off, in parts of `tokens_per_fill`; always less than that.
    pub part: u32,
    /// When it was last changed, in nanoseconds since the Unix epoch.
    pub changed_at: u64,
    /// When it is looked at; not kept. The clock of another worker may have been a little ahead.
    pub seen_at: u64,
}

/// Workers read the clock at slightly different moments; more than this backwards is a jump.
const SKEW: u64 = 1_000_000_000;

impl Level {
    /// The same bucket seen at `now`.
    ///
    /// A clock that was set back leaves what is missing as it was: `full_at` moves along. One that
    /// was set forward can at most fill the bucket.
    pub fn at(self, now: Duration, limit: TokenBucket) -> Level {
        let now = nanos(now);
        let seen = Level { changed_at: self.changed_at.max(now), seen_at: now, ..self };
        let back = self.changed_at.saturating_sub(now);
        if back > SKEW {
            return Level { full_at: self.full_at.saturating_sub(u128::from(back)), changed_at: now, ..seen }.valid(limit);
        }
        seen.valid(limit)
    }

    /// A full bucket is full now, and a part is less than a whole.
    fn valid(self, limit: TokenBucket) -> Level {
        let at = u128::from(self.changed_at);
        let full = self.full_at < at || (self.full_at == at && self.part == 0);
        if full || self.part >= limit.tokens_per_fill { Level { full_at: at, part: 0, ..self } } else { self }
    }

    /// How long until it is full, in nanoseconds, whatever its limit.
    pub fn missing_time(self, now: u64) -> u128 {
        let back = self.changed_at.saturating_sub(now);
        let at = if back > SKEW { self.changed_at } else { now };
        self.full_at.saturating_sub(u128::from(at))
    }

    /// Nanosecond parts that are missing from a full bucket at `changed_at`.
    fn missing(self, limit: TokenBucket) -> u128 {
        let whole = self.full_at.saturating_sub(u128::from(self.changed_at));
        whole.saturating_mul(u128::from(limit.tokens_per_fill)).saturating_add(u128::from(self.part))
    }

    fn with_missing(self, missing: u128, limit: TokenBucket) -> Level {
        let parts = u128::from(limit.tokens_per_fill.max(1));
        let full_at = u128::from(self.changed_at).saturating_add(missing / parts);
        Level { full_at, part: (missing % parts) as u32, ..self }
    }

    /// Takes tokens if there is more than none, and may overdraw.
    ///
    /// # Errors
    /// How long until there is more than none.
    pub fn take(self, tokens: u64, limit: TokenBucket) -> Result<Level, Duration> {
        match self.wait(limit) {
            Some(wait) => Err(wait),
            None => Ok(self.with_missing(self.missing(limit).saturating_add(parts(tokens, limit)), limit)),
        }
    }

    /// Gives tokens back; never more than fit.
    pub fn give(self, tokens: u64, limit: TokenBucket) -> Level {
        self.with_missing(self.missing(limit).saturating_sub(parts(tokens, limit)), limit)
    }

    /// How long until there is more than nothing in it; `None`: there is now.
    pub fn wait(self, limit: TokenBucket) -> Option<Duration> {
        let capacity = parts(u64::from(limit.max_tokens), limit);
        let over = self.missing(limit).checked_sub(capacity)?;
        let nanos = over / u128::from(limit.tokens_per_fill.max(1)) + 1;
        let nanos = nanos.saturating_add(u128::from(self.changed_at.saturating_sub(self.seen_at)));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

impl Level {
    /// Whole tokens that are left.
    pub fn tokens(self, limit: TokenBucket) -> u64 {
        let left = parts(u64::from(limit.max_tokens), limit).saturating_sub(self.missing(limit));
        u64::try_from(left / limit.fill_interval.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// How long until it is full.
    pub fn until_full(self, limit: TokenBucket) -> Duration {
        let nanos = self.missing(limit).div_ceil(u128::from(limit.tokens_per_fill.max(1)));
        let nanos = if nanos == 0 { 0 } else { nanos.saturating_add(u128::from(self.changed_at.saturating_sub(self.seen_at))) };
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How long an empty bucket takes to be full.
pub fn window(limit: TokenBucket) -> Duration {
    let nanos = parts(u64::from(limit.max_tokens), limit).div_ceil(u128::from(limit.tokens_per_fill.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Tokens as nanosecond parts: how long they take to refill.
fn parts(tokens: u64, limit: TokenBucket) -> u128 {
    u128::from(tokens).saturating_mul(limit.fill_interval.as_nanos())
}

/// Nanoseconds since the epoch; the year 2554 is the end.
pub fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
