//! Token buckets, from whatever bytes they are kept in.
//!
//! The input is a script, then perhaps an empty line and bytes that the script can store. A line is
//! a word and what belongs to it; lines that say nothing are passed over.
//!
//! ```text
//! user 10 2 1000        the user's limit: tokens at most, tokens per fill, milliseconds
//! session 5 1 100       the session's
//! slots 64
//! charge ann s-1 3      3 tokens for a user's session; or - for none
//! refund                of the last charge that isn't refunded
//! look ann s-1
//! ms 1500               so much later; or before
//! ns -1
//! busy 3                so many swaps fail
//! store                 the bytes become every set
//! ```

#![no_main]

mod memory;

use envoy_log_ingest::bucket::{Charge, Cost, Limiter, Seed, Seen};
use envoy_log_ingest::config::{Limit, RateLimits, TokenBucket};
use envoy_log_ingest::rejection::{Refusal, Rejection};
use libfuzzer_sys::fuzz_target;
use memory::{Memory, Nowhere};
use std::collections::HashMap;
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (script, bytes) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
    let script = String::from_utf8_lossy(script);
    let mut run = Run::new(&script, bytes);
    for line in script.lines().take(200) {
        run.line(&line.split_ascii_whitespace().collect::<Vec<_>>());
    }
});

/// Some moment in 2026.
const NOW: u64 = 1_770_379_200_000_000_000;

/// Clocks of workers may be so far apart, in nanoseconds.
const SKEW: u64 = 1_000_000_000;

/// The owner of a bucket: a user, or a user's session.
type Owner<'s> = (&'s str, Option<&'s str>);

fn meant(bucket: TokenBucket) -> Limit {
    Limit { bucket, shadow: false }
}

struct Run<'s> {
    limits: RateLimits,
    memory: Memory,
    bytes: &'s [u8],
    now: u64,
    charges: Vec<(Vec<Owner<'s>>, u64, Charge)>,
    /// What the buckets should hold; `None` once that can't be known.
    model: Option<HashMap<Owner<'s>, Model>>,
}

impl<'s> Run<'s> {
    fn new(script: &'s str, bytes: &'s [u8]) -> Run<'s> {
        let mut limits = RateLimits { slots: 8, ..RateLimits::default() };
        for line in script.lines() {
            match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                ["user", max, fill, interval] => limits.limits.user = limit(max, fill, interval).map(meant),
                ["session", max, fill, interval] => limits.limits.session = limit(max, fill, interval).map(meant),
                ["slots", slots] => limits.slots = number(slots).clamp(8, 256) as u32,
                _ => {}
            }
        }
        let mut memory = Memory::default();
        Limiter::prepare(&limits, &mut memory);
        Run { limits, memory, bytes, now: NOW, charges: Vec::new(), model: Some(HashMap::new()) }
    }

    fn line(&mut self, words: &[&'s str]) {
        match *words {
            ["charge", user, session, cost] => self.charge(user, some(session), number(cost)),
            ["look", user, session] => self.look(user, some(session)),
            ["refund"] => self.refund(),
            ["ms", step] => self.pass(number(step).saturating_mul(1_000_000)),
            ["ns", step] => self.pass(number(step)),
            ["busy", times] => {
                self.memory.busy = number(times).clamp(0, 40) as u32;
                // Whoever is beaten too often gives up, perhaps with one bucket charged of two.
                self.model = self.model.take().filter(|_| self.memory.busy < 8);
            }
            ["store"] => {
                let keys: Vec<String> = self.memory.values.keys().cloned().collect();
                keys.iter().for_each(|key| self.memory.write(key, self.bytes));
                self.model = None;
            }
            _ => {}
        }
        self.bounded();
    }

    fn pass(&mut self, step: i64) {
        self.now = self.now.saturating_add_signed(step);
    }

    /// The number of keys and the size of each never grow, whoever comes.
    fn bounded(&self) {
        let sets = if self.limits.limits.user.or(self.limits.limits.session).is_some() { self.limits.slots / 8 } else { 0 };
        assert_eq!(self.memory.values.len() as u32, sets);
        let largest = self.memory.values.values().map(|(bytes, _)| bytes.len()).max().unwrap_or(0);
        assert!(largest <= self.bytes.len().max(8 * 40), "{largest} bytes under one key");
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// The buckets that count for a request, in the order in which they are charged.
    fn owners(&self, user: &'s str, session: Option<&'s str>) -> Vec<Owner<'s>> {
        let of_user = self.limits.limits.user.map(|_| (user, None));
        let of_session = self.limits.limits.session.and(session).map(|session| (user, Some(session)));
        of_user.into_iter().chain(of_session).collect()
    }

    fn limit(&self, owner: Owner<'s>) -> TokenBucket {
        let (user, session) = (self.limits.limits.user, self.limits.limits.session);
        if owner.1.is_some() { session.unwrap().bucket } else { user.unwrap().bucket }
    }

    /// What a bucket should be now.
    fn modelled(&self, owner: Owner<'s>) -> Option<Model> {
        let model = self.model.as_ref()?;
        Some(model.get(&owner).copied().unwrap_or_default().at(self.now, self.limit(owner)))
    }

    fn change(&mut self, owner: Owner<'s>, change: impl FnOnce(Model) -> Model) {
        let Some(next) = self.modelled(owner).map(change) else { return };
        self.model = self.model.take().map(|mut model| {
            model.insert(owner, next);
            model
        });
        // One more may push another out of the smallest table.
        self.model = self.model.take().filter(|model| model.len() <= 8);
    }

    fn is_empty(&self, owner: Owner<'s>) -> Option<bool> {
        Some(self.modelled(owner)?.missing >= capacity(self.limit(owner)))
    }

    /// Empty buckets are left as they are, but that they note where the clock was set back.
    fn set_back(&mut self, owners: &[Owner<'s>], quiet: bool) {
        for &owner in owners {
            let noted = self.model.as_ref().and_then(|model| model.get(&owner)).map_or(0, |model| model.at);
            if self.is_empty(owner) == Some(true) && noted.saturating_sub(self.now) > SKEW {
                match quiet {
                    true => self.change(owner, |model| model),
                    false => self.model = None,
                }
            }
        }
    }

    /// The bucket that should refuse; `Some(None)`: none does.
    fn refuses(&self, owners: &[Owner<'s>]) -> Option<Option<Rejection>> {
        for &owner in owners {
            if self.is_empty(owner)? {
                return Some(Some(rejection(owner)));
            }
        }
        Some(None)
    }

    fn look(&mut self, user: &'s str, session: Option<&'s str>) {
        let limiter = Limiter::new(&self.limits, None, "issuer", user, Seed::default());
        let quiet = self.memory.busy == 0;
        let result = limiter.look(session, Duration::from_nanos(self.now), &mut self.memory);
        let refused = result.err().map(|refusal| refusal.rejection);
        let owners = self.owners(user, session);
        if let Some(expected) = self.refuses(&owners) {
            assert_eq!(refused, expected);
        }
        self.set_back(&owners, quiet);
        if let Err(refusal) = result
            && quiet
        {
            self.opens(user, session, refusal);
        }
    }

    /// After the wait that was asked for no bucket is empty. Not where another worker came
    /// between: then nothing was written, not even that the clock was set back.
    fn opens(&self, user: &'s str, session: Option<&'s str>, refusal: Refusal) {
        let wait = refusal.retry_after.expect("a bucket that says when").as_nanos();
        assert!(wait > 0);
        let Some(then) = u64::try_from(wait).ok().and_then(|wait| self.now.checked_add(wait)).filter(|&then| then < u64::MAX) else {
            return;
        };
        let limiter = Limiter::new(&self.limits, None, "issuer", user, Seed::default());
        // In a copy: the look itself may note that the clock was set back.
        let result = limiter.look(session, Duration::from_nanos(then), &mut self.memory.clone());
        assert_eq!(result, Ok(()), "still, after the wait");
    }

    fn charge(&mut self, user: &'s str, session: Option<&'s str>, cost: i64) {
        let cost = cost.unsigned_abs();
        let (owners, now) = (self.owners(user, session), self.now());
        let expected = self.refuses(&owners);
        let limiter = Limiter::new(&self.limits, None, "issuer", user, Seed::default());
        let quiet = self.memory.busy == 0;
        let result = limiter.charge(Seen::default(), session, Cost { records: cost, bytes: 1 }, now, &mut self.memory, &mut Nowhere);
        match (result, expected) {
            (Ok(charge), None | Some(None)) => {
                for &owner in &owners {
                    let taken = parts(cost, self.limit(owner));
                    self.change(owner, |model| Model { missing: model.missing + taken, ..model });
                }
                self.charges.push((owners, cost, charge));
            }
            (Err(Refusal { rejection: Rejection::LimiterContended, .. }), None) => {}
            (Err(refusal), expected) => {
                assert!(expected.is_none_or(|expected| expected == Some(refusal.rejection)), "{refusal:?}, expected {expected:?}");
                self.set_back(&owners, quiet);
                // The user's was charged before the session's refused, and is given back.
                if refusal.rejection == Rejection::SessionRateLimited && owners.len() == 2 {
                    self.change(owners[0], |model| model);
                }
                if quiet {
                    self.opens(user, session, refusal);
                }
            }
            (Ok(_), expected) => panic!("let in, expected {expected:?}"),
        }
    }

    fn refund(&mut self) {
        let Some((owners, cost, charge)) = self.charges.pop() else { return };
        charge.refund(self.now(), &mut self.memory, &mut Nowhere);
        for owner in owners {
            let given = parts(cost, self.limit(owner));
            self.change(owner, |model| Model { missing: (model.missing - given).max(0), ..model });
        }
    }
}

/// A bucket by the definition: what is missing from it, and when that was said. Counted in parts of
/// a token so small that each nanosecond brings `tokens_per_fill` of them.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    missing: i128,
    at: u64,
}

impl Model {
    /// Time passes; a second backwards is another worker's clock, more is a clock that was set.
    fn at(self, now: u64, limit: TokenBucket) -> Model {
        let skewed = self.at > now && self.at - now <= SKEW;
        let passed = i128::from(now.saturating_sub(self.at)) * i128::from(limit.tokens_per_fill);
        Model { missing: (self.missing - passed).max(0), at: if skewed { self.at } else { now } }
    }
}

fn parts(tokens: u64, limit: TokenBucket) -> i128 {
    i128::from(tokens) * limit.fill_interval.as_nanos() as i128
}

fn capacity(limit: TokenBucket) -> i128 {
    parts(u64::from(limit.max_tokens), limit)
}

fn rejection(owner: Owner<'_>) -> Rejection {
    if owner.1.is_some() { Rejection::SessionRateLimited } else { Rejection::UserRateLimited }
}

/// Whatever can be configured.
fn limit(max: &str, fill: &str, interval: &str) -> Option<TokenBucket> {
    let tokens = |word| number(word).clamp(1, i64::from(u32::MAX)) as u32;
    let fill_interval = Duration::from_millis(number(interval).clamp(1, 366 * 86_400_000) as u64);
    Some(TokenBucket { max_tokens: tokens(max), tokens_per_fill: tokens(fill), fill_interval })
}

fn number(word: &str) -> i64 {
    word.parse().unwrap_or(1)
}

fn some(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}
