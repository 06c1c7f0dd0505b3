//! What fails for a moment goes again, later and later.

use super::Outbox;
use super::group::Group;
use crate::rejection::Rejection;
use crate::stats::{Sink, Stat};
use std::time::Duration;

/// Waits between tries: each twice as long as the one before.
pub const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

impl Outbox {
    /// Puts a group that failed off for a while, as far as its requests' time allows.
    pub(super) fn retry(&mut self, mut group: Group, rejection: Rejection, now: Duration, stats: &mut dyn Sink) {
        let at = now.saturating_add(self.back_off(group.failures));
        group.failures = group.failures.saturating_add(1);
        if let Some(refusal) = self.deferral(now) {
            return self.refuse(group.pieces, refusal);
        }
        if group.failures > self.bounds.max_retries {
            return self.refuse(group.pieces, rejection.into());
        }
        let (pieces, late) = std::mem::take(&mut group.pieces).into_iter().partition(|piece| self.has_time(piece, at));
        self.refuse(late, rejection.into());
        group.pieces = pieces;
        if group.pieces.is_empty() {
            return;
        }
        stats.add(Stat::ExportsRetried, 1);
        // If the backend has taken others meanwhile, it may be one of these that makes it fail.
        let others = group.failed.is_some_and(|then| then != self.blame.accepted);
        group.failed = Some(self.blame.accepted);
        if others && group.pieces.len() > 1 {
            group.apart = true;
            self.retries.extend(group.halve().map(|half| (at, half)));
        } else {
            self.retries.push((at, group));
        }
    }

    fn back_off(&mut self, failures: u32) -> Duration {
        // Marsaglia's xorshift: workers only have to differ.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let longest = FIRST_RETRY.saturating_mul(1 << failures.min(8)).min(LAST_RETRY);
        longest / 2 + longest.mul_f64((self.random % 512) as f64 / 1024.0)
    }

    /// What is due goes out together again, or after an outage each request would go by itself.
    pub(super) fn collect_retries(&mut self, now: Duration) {
        let mut due = self.retries.extract_if(.., |(at, _)| is_past(*at, now)).map(|(_, group)| group);
        let Some(mut last) = due.next() else { return };
        for group in due {
            if let Err(group) = last.join(group, self.bounds.max_batch_bytes) {
                self.ready.push_back(std::mem::replace(&mut last, group));
            }
        }
        self.ready.push_back(last);
    }
}

/// Whether a moment has come; one that is further away than any wait was set by another clock.
pub fn is_past(at: Duration, now: Duration) -> bool {
    at.saturating_sub(now) > LAST_RETRY || at <= now
}
