//! Token buckets for users and their sessions: who may send how much.
//!
//! Shared data in Envoy has no eviction and no delete, so the number of keys is fixed: a bucket
//! lives in one of `slots` places, found by a keyed hash of whom it is for ([`table`]). Filling and
//! charging are exact integer arithmetic on `now` ([`level`]). What is shared between workers goes
//! through [`Store`], whose compare-and-swap makes a charge happen once.
//!
//! A request is let in while its buckets are above zero and may overdraw them once, so that a
//! batch larger than a bucket can pass after a rest. A refused request is charged nothing.

mod level;
mod standing;
mod table;

use crate::config::{Limit, Limits, Otherwise, RateLimits, TokenBucket, Unit};
use crate::memory::Store;
use crate::rejection::{Refusal, Rejection};
use crate::stats::{Sink, Stat};
pub use level::Level;
use siphasher::sip128::{Hasher128, SipHasher13};
pub use standing::Standing;
use std::hash::Hasher;
use std::time::Duration;

/// Where hashes begin: random for each process, so that nobody can aim at a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(pub [u8; 16]);

/// A swap is tried this often before the request is refused: a spin would hold the worker.
const TRIES: usize = 16;

/// Whom a bucket is for. Two never share one but by a collision of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    set: u64,
    fingerprint: u64,
}

/// One limit on its owner.
#[derive(Clone, Copy, Debug)]
struct Line {
    name: &'static str,
    limit: TokenBucket,
    owner: Owner,
    refused: Rejection,
    /// What is counted instead, where it refuses nothing.
    shadowed: Option<Stat>,
}

/// The limits that apply to one request.
#[derive(Debug)]
pub struct Limiter<'a> {
    limits: &'a RateLimits,
    own: Limits,
    seed: Seed,
    issuer: &'a str,
    subject: &'a str,
}

/// The user's and the session's bucket as a request saw them before its body came.
#[derive(Debug, Default)]
pub struct Seen([Option<(Line, table::Set)>; 2]);

/// What was taken from which buckets, so that it can be given back.
#[derive(Debug, Default)]
pub struct Charge {
    taken: Vec<(Line, u64)>,
    slots: u32,
    /// How the buckets stood after it.
    pub standing: Standing,
}

/// What became of one bucket.
enum Change {
    Made(Level),
    Refused(Duration),
    Contended,
}

impl<'a> Limiter<'a> {
    /// The limits for a verified sender: the token's issuer, its subject, and which of the configured
    /// overrides is meant for it.
    pub fn new(limits: &'a RateLimits, distinction: Option<usize>, issuer: &'a str, subject: &'a str, seed: Seed) -> Limiter<'a> {
        let own = distinction.and_then(|index| limits.overrides.get(index)).copied().unwrap_or(limits.limits);
        Limiter { limits, own, seed, issuer, subject }
    }

    fn user(&self) -> Option<Line> {
        let Limit { bucket, shadow } = self.own.user?;
        Some(Line {
            name: "user",
            limit: bucket,
            owner: owner(self.seed, &[b"user", self.issuer.as_bytes(), self.subject.as_bytes()], bucket),
            refused: Rejection::UserRateLimited,
            shadowed: shadow.then_some(Stat::ShadowedUser),
        })
    }

    fn session(&self, session: &str) -> Option<Line> {
        let Limit { bucket, shadow } = self.own.session?;
        Some(Line {
            name: "session",
            limit: bucket,
            owner: owner(self.seed, &[b"session", self.issuer.as_bytes(), self.subject.as_bytes(), session.as_bytes()], bucket),
            refused: Rejection::SessionRateLimited,
            shadowed: shadow.then_some(Stat::ShadowedSession),
        })
    }

    fn lines(&self, session: Option<&str>) -> [Option<Line>; 2] {
        [self.user(), session.and_then(|session| self.session(session))]
    }

    /// The lines that may refuse, and their buckets' levels.
    fn levels(&self, session: Option<&str>, now: Duration, store: &mut dyn Store) -> impl Iterator<Item = (Line, Level)> {
        self.lines(session).into_iter().flatten().filter(|line| line.shadowed.is_none()).map(move |line| {
            let level = table::load(store, self.limits.slots, line.owner).level().unwrap_or_default().at(now, line.limit);
            (line, level)
        })
    }

    /// Makes the places of all buckets, where they don't exist yet: the first write under a key can't be
    /// a compare-and-swap, so it has to come before the first request.
    pub fn prepare(limits: &RateLimits, store: &mut dyn Store) {
        let mut all = limits.overrides.iter().chain([&limits.limits]);
        if all.any(|limits| limits.user.is_some() || limits.session.is_some()) {
            table::prepare(limits.slots, store);
        }
    }

    /// The cheap look, before the body is read: is there anything left at all?
    ///
    /// # Errors
    /// The first bucket that is empty, and when none will be.
    pub fn look(&self, session: Option<&str>, now: Duration, store: &mut dyn Store) -> Result<(), Refusal> {
        self.first_look(session, now, store).map(drop)
    }

    /// As [`Limiter::look`]: what was seen, so that [`Limiter::charge`] need not find and load it again.
    ///
    /// # Errors
    /// Those of [`Limiter::look`].
    pub fn first_look(&self, session: Option<&str>, now: Duration, store: &mut dyn Store) -> Result<Seen, Refusal> {
        let mut refusal: Option<Refusal> = None;
        let mut seen = Seen::default();
        for (line, seen) in self.lines(session).into_iter().zip(&mut seen.0) {
            let Some(line) = line else { continue };
            let mut set = table::load(store, self.limits.slots, line.owner);
            self.look_at(&line, &mut set, now, store, &mut refusal);
            *seen = Some((line, set));
        }
        refusal.map_or(Ok(seen), Err)
    }

    fn look_at(&self, line: &Line, set: &mut table::Set, now: Duration, store: &mut dyn Store, refusal: &mut Option<Refusal>) {
        let Some(stored) = set.level() else { return };
        let level = stored.at(now, line.limit);
        let Some(wait) = level.wait(line.limit) else { return };
        if level.changed_at < stored.changed_at {
            // The clock was set back. Nothing else writes to an empty bucket: without a note its
            // time would stand still until the clock is where it was. Whoever came first noted it.
            set.put(level, now);
            set.store(store);
        }
        if line.shadowed.is_none() {
            let (rejection, longest) =
                refusal.map_or((line.refused, wait), |first| (first.rejection, first.retry_after.unwrap_or_default().max(wait)));
            *refusal = Some(Refusal { rejection, retry_after: Some(longest) });
        }
    }

    /// How the buckets stand.
    pub fn standing(&self, session: Option<&str>, now: Duration, store: &mut dyn Store) -> Standing {
        let mut standing = Standing::default();
        for (line, level) in self.levels(session, now, store) {
            standing.add(line.name, self.limits.unit, line.limit, level);
        }
        standing
    }

    /// Charges every bucket of the request, or none. One in the shadow is charged as if it refused,
    /// and doesn't. What [`Limiter::first_look`] has `seen` isn't found and loaded again; a session that was
    /// looked at is the one that is charged.
    ///
    /// # Errors
    /// The bucket that is empty, and when it won't be; or too much contention to say.
    pub fn charge(
        &self,
        seen: Seen,
        session: Option<&str>,
        cost: Cost,
        now: Duration,
        store: &mut dyn Store,
        stats: &mut dyn Sink,
    ) -> Result<Charge, Refusal> {
        let Seen([users, mut sessions]) = seen;
        // In one set, what becomes of the user's isn't what was seen of the session's.
        let shared = |(_, set): &(Line, table::Set)| users.as_ref().is_some_and(|(_, other)| set.is_same_place(other));
        if sessions.as_ref().is_some_and(shared) {
            sessions = None;
        }
        let of_user = known(users).or_else(|| self.user().map(|line| (line, None)));
        let of_session = known(sessions).or_else(|| self.session(session?).map(|line| (line, None)));
        let amount = cost.of(self.limits.unit);
        let mut charge = Charge { taken: Vec::new(), slots: self.limits.slots, standing: Standing::default() };
        for (line, set) in of_user.into_iter().chain(of_session) {
            let changed = change(&line, set, self.limits.slots, now, store, stats, |level| level.take(amount, line.limit));
            let refusal = match (changed, line.shadowed) {
                (Change::Made(level), shadowed) => {
                    charge.taken.push((line, amount));
                    if shadowed.is_none() {
                        charge.standing.add(line.name, self.limits.unit, line.limit, level);
                    }
                    continue;
                }
                (Change::Refused(_), Some(shadowed)) => {
                    stats.add(shadowed, 1);
                    continue;
                }
                (Change::Contended, Some(_)) => continue,
                (Change::Contended, None) if self.limits.on_contention == Otherwise::Allow => continue,
                (Change::Refused(wait), None) => Refusal { rejection: line.refused, retry_after: Some(wait) },
                (Change::Contended, None) => Refusal { rejection: Rejection::LimiterContended, retry_after: Some(Duration::from_secs(1)) },
            };
            charge.refund(now, store, stats);
            // Another bucket may be empty for longer.
            let longest = self.look(session, now, store).err().and_then(|other| other.retry_after).max(refusal.retry_after);
            return Err(Refusal { retry_after: longest, ..refusal });
        }
        Ok(charge)
    }
}

impl Charge {
    /// Gives back what was taken: nothing was delivered.
    pub fn refund(self, now: Duration, store: &mut dyn Store, stats: &mut dyn Sink) {
        for (line, amount) in &self.taken {
            let give = |level: Level| Ok(level.give(*amount, line.limit));
            // Contention on the way back costs the user a few tokens, and nobody else anything.
            let _ = change(line, None, self.slots, now, store, stats, give);
        }
    }
}

/// What a request would cost in each unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Records in the batch.
    pub records: u64,
    /// Bytes of the body.
    pub bytes: u64,
}

impl Cost {
    /// In that unit.
    pub fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::Records => self.records,
            Unit::Requests => 1,
            Unit::Bytes => self.bytes,
        }
    }
}

/// A line and its set, which is good for a swap only if that can fail.
fn known(seen: Option<(Line, table::Set)>) -> Option<(Line, Option<table::Set>)> {
    seen.map(|(line, set)| (line, Some(set).filter(table::Set::is_marked)))
}

/// Reads the owner's bucket, changes it, writes it; again if another worker came between. What was `seen`
/// of it needs no reading: the mark tells whether it is still as it was.
fn change(
    line: &Line,
    mut seen: Option<table::Set>,
    slots: u32,
    now: Duration,
    store: &mut dyn Store,
    stats: &mut dyn Sink,
    change: impl Fn(Level) -> Result<Level, Duration>,
) -> Change {
    for tries in 0..TRIES {
        let mut set = seen.take().unwrap_or_else(|| table::load(store, slots, line.owner));
        if set.unreadable {
            stats.add(Stat::BucketsUnreadable, 1);
        }
        let level = set.level().unwrap_or_default().at(now, line.limit);
        let level = match change(level) {
            Ok(level) => level,
            // What was loaded first may be what the request saw before its body came; a refusal must
            // rest on what is there now, as no swap will tell.
            Err(_) if tries == 0 => continue,
            Err(wait) => return Change::Refused(wait),
        };
        set.put(level, now);
        if set.store(store) {
            return Change::Made(level);
        }
    }
    stats.add(Stat::BucketsContended, 1);
    Change::Contended
}

fn owner(seed: Seed, parts: &[&[u8]], limit: TokenBucket) -> Owner {
    let mut hasher = SipHasher13::new_with_key(&seed.0);
    for part in parts {
        // The length in front keeps "a" + "bc" from being "ab" + "c".
        hasher.write_u64(part.len() as u64);
        hasher.write(part);
    }
    // A bucket's bytes mean something under its own limit only: another limit, another bucket.
    hasher.write_u32(limit.max_tokens);
    hasher.write_u32(limit.tokens_per_fill);
    hasher.write_u64(limit.fill_interval.as_millis() as u64);
    let hash = hasher.finish128();
    // 0 marks an empty place.
    Owner { set: hash.h1, fingerprint: hash.h2.max(1) }
}

#[cfg(test)]
mod tests;
