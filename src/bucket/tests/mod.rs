mod level;
mod limiter;
mod model;
mod seen;
mod standing;
mod table;

use super::{Cost, Limiter, Refusal, Seed, Seen, Store};
use crate::config::{Limit, Limits, RateLimits, TokenBucket, Unit};
use crate::stats::{Sink, Stat};
use std::collections::BTreeMap;
use std::time::Duration;

/// Shared data as Envoy has it: a mark that changes with every write; without a mark a write is
/// unconditional, and under a key that isn't there any mark will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Memory {
    places: BTreeMap<String, (Vec<u8>, u32)>,
    writes: u32,
}

impl Store for Memory {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.places.get(key).map(|(bytes, mark)| (bytes.clone(), Some(*mark)))
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        let current = self.places.get(key).map(|(_, mark)| *mark);
        if mark.is_some() && current.is_some() && mark != current {
            return false;
        }
        self.writes += 1;
        self.places.insert(key.to_owned(), (bytes.to_vec(), self.writes));
        true
    }
}

/// A memory in which another worker may get in between a load and the swap that follows.
struct Contended<F> {
    memory: Memory,
    swaps: usize,
    before_swap: F,
}

impl<F: FnMut(&str, &mut Memory)> Contended<F> {
    fn new(memory: Memory, before_swap: F) -> Contended<F> {
        Contended { memory, swaps: 0, before_swap }
    }
}

impl<F: FnMut(&str, &mut Memory)> Store for Contended<F> {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.memory.load(key)
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        self.swaps += 1;
        (self.before_swap)(key, &mut self.memory);
        self.memory.swap(key, bytes, mark)
    }
}

/// Writes what is there once more: all that matters to the mark.
fn touch(key: &str, memory: &mut Memory) {
    let bytes = memory.load(key).unwrap_or_default().0;
    assert!(memory.swap(key, &bytes, None));
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts(BTreeMap<String, u64>);

impl Sink for Counts {
    fn add(&mut self, stat: Stat, amount: u64) {
        *self.0.entry(stat.name()).or_default() += amount;
    }
}

impl Counts {
    fn of(&self, stat: Stat) -> u64 {
        self.0.get(&stat.name()).copied().unwrap_or(0)
    }
}

const SEED: Seed = Seed(*b"0123456789abcdef");

fn limits(user: Option<TokenBucket>, session: Option<TokenBucket>) -> RateLimits {
    let limit = |bucket: TokenBucket| Limit { bucket, shadow: false };
    let limits = Limits { user: user.map(limit), session: session.map(limit) };
    RateLimits { unit: Unit::Records, limits, ..RateLimits::default() }
}

fn records(records: u64) -> Cost {
    Cost { records, bytes: records.saturating_mul(1_000) }
}

/// A charge for `tokens` records whose counters nobody looks at.
fn charge(limiter: &Limiter<'_>, session: Option<&str>, tokens: u64, now: Duration, store: &mut dyn Store) -> Result<(), Refusal> {
    limiter.charge(Seen::default(), session, records(tokens), now, store, &mut Counts::default()).map(|_| ())
}
