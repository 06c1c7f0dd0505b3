//! What a worker knows of keys that come from elsewhere, and of tokens that it has verified.
//!
//! Workers share a [`Record`] for each provider with remote keys. Whoever finds a fetch due and wins
//! the swap that moves `not_before` fetches; the others read what it brought. So there is one fetch
//! for each period and one for all requests that wait for a key, and the same field keeps fetches
//! on demand ten seconds apart and backs off from a host that fails. A bad document never replaces
//! a good one.

use super::cache::Cache;
use super::native::{Host, Signatures};
use super::record::Record;
use crate::config::jwks;
use crate::config::{Auth, Key, RemoteJwks, Source};
use crate::memory::Store;
use crate::stats::{Sink, Stat};
use serde_json::Value;
use std::time::Duration;

/// Fetches on demand, because of a key id that is not known, are this far apart.
const DEMAND_INTERVAL: Duration = Duration::from_secs(10);

/// The longest wait after failures in a row.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// A larger answer is no key set: a hundred RSA keys have some 50 KB.
const LARGEST_DOCUMENT: usize = 256 * 1024;

/// How many requests of a worker may wait for keys at once; each may hold its body.
const MOST_WAITING: usize = 64;

/// Keys and verified tokens of one worker.
#[derive(Debug)]
pub struct Keyring {
    remotes: Vec<Option<Remote>>,
    pub(super) cache: Cache,
    pub(super) host: Option<Host>,
    waiting: usize,
    generation: u64,
    /// This worker's share of jitter, 0 to 1.
    jitter: f64,
}

/// A provider's remote keys, as this worker knows them.
#[derive(Debug, Default)]
struct Remote {
    keys: Vec<Key>,
    mark: Option<u32>,
    record: Record,
    /// When a request last asked for a key that isn't there.
    wanted_at: Duration,
    /// When the fetch that this worker has under way began.
    begun_at: Option<Duration>,
}

/// What the identity host answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAnswer<'a> {
    /// Nothing whole: refused, reset, timed out, or Envoy would not send it.
    None,
    /// A status and a body.
    Response(Option<u16>, &'a [u8]),
}

/// Whether a request that waits for a key may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Not yet.
    Waiting,
    /// The keys are newer than the question.
    Answered,
    /// They can't be had.
    Failed,
}

impl Keyring {
    /// No keys yet, for the providers of `auth`. `random` spreads workers apart, and keeps the places of
    /// verified tokens secret; where it isn't random, see [`Keyring::forgetful`].
    pub fn new(auth: &Auth, random: u128) -> Keyring {
        let remote = |source: &Source| matches!(source, Source::Remote(_)).then(Remote::default);
        // What can be seen of the jitter says nothing about the key.
        let key = hmac_sha256::Hash::hash(&random.to_le_bytes());
        Keyring {
            remotes: auth.providers.iter().map(|provider| remote(&provider.keys)).collect(),
            cache: Cache::new(auth.cache_entries, *key.first_chunk().unwrap_or(&[0; 16])),
            host: None,
            waiting: 0,
            generation: 0,
            jitter: f64::from(random as u32) / f64::from(u32::MAX),
        }
    }

    /// Lets the host verify the signatures that it can.
    pub fn with_signatures(self, signatures: Box<dyn Signatures>) -> Keyring {
        Keyring { host: Some(Host::new(signatures)), ..self }
    }

    /// Remembers no tokens.
    pub fn forgetful(self) -> Keyring {
        Keyring { cache: Cache::default(), ..self }
    }

    /// How many signatures the host has judged since this was last asked.
    pub fn judged_by_host(&self) -> u64 {
        self.host.as_ref().map_or(0, Host::judged)
    }

    /// Makes the records that workers share, where they don't exist yet: the first write under a key
    /// can't be a compare-and-swap, so it has to come before there is more than one worker.
    pub fn prepare(auth: &Auth, store: &mut dyn Store) {
        for provider in &auth.providers {
            let Source::Remote(jwks) = &provider.keys else { continue };
            let key = key(&provider.name, jwks);
            if store.load(&key).is_none() {
                store.swap(&key, &Record::default().encode(), None);
            }
        }
    }

    /// Whether any provider's keys come from elsewhere, so that [`Keyring::tick`] has something to do.
    pub fn is_remote(&self) -> bool {
        self.remotes.iter().any(Option::is_some)
    }

    /// Whether a request waits for keys.
    pub fn is_awaited(&self) -> bool {
        self.waiting > 0
    }

    /// Whether there is a provider without any key.
    pub fn is_missing(&self) -> bool {
        self.remotes.iter().flatten().any(|remote| remote.keys.is_empty())
    }

    /// The keys of a provider that are in force; `None`: they can't be had.
    pub(super) fn keys<'a>(&'a self, provider: usize, source: &'a Source, now: Duration) -> Option<&'a [Key]> {
        match source {
            Source::Fixed(keys) => Some(keys),
            Source::Remote(jwks) => {
                let remote = self.remotes.get(provider)?.as_ref()?;
                let in_force = !remote.keys.is_empty() && now < remote.record.fetched_at.saturating_add(jwks.max_stale);
                in_force.then_some(&remote.keys)
            }
        }
    }

    /// When it makes sense to ask again for keys that can't be had.
    pub fn retry_after(&self, now: Duration) -> Duration {
        let next = self.remotes.iter().flatten().map(|remote| remote.record.not_before.saturating_sub(now)).max();
        next.unwrap_or_default().clamp(Duration::from_secs(1), LONGEST_BACK_OFF)
    }

    /// A request begins to wait for a key of any of these providers. `false`: too many wait already.
    pub fn wait(&mut self, providers: &[usize], now: Duration) -> bool {
        if self.waiting >= MOST_WAITING {
            return false;
        }
        self.waiting += 1;
        for &provider in providers {
            if let Some(Some(remote)) = self.remotes.get_mut(provider) {
                remote.wanted_at = remote.wanted_at.max(now);
            }
        }
        true
    }

    /// A request no longer waits.
    pub fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Whether what was asked of these providers at `since` has been answered by all of them.
    pub fn asked(&self, providers: &[usize], since: Duration) -> Asked {
        let asked = |&provider: &usize| match self.remotes.get(provider) {
            Some(Some(remote)) if remote.record.fetched_at >= since => Asked::Answered,
            Some(Some(remote)) if remote.record.failed_at < since => Asked::Waiting,
            _ => Asked::Failed,
        };
        let answers = || providers.iter().map(asked);
        if answers().any(|answer| answer == Asked::Waiting) {
            Asked::Waiting
        } else if answers().any(|answer| answer == Asked::Failed) {
            Asked::Failed
        } else {
            Asked::Answered
        }
    }

    /// Takes over what other workers have fetched, and says for which providers this worker is now
    /// to fetch: each must be followed by [`Keyring::fetched`].
    pub fn tick(&mut self, auth: &Auth, now: Duration, store: &mut dyn Store, stats: &mut dyn Sink) -> Vec<usize> {
        let mut due = Vec::new();
        for (i, provider) in auth.providers.iter().enumerate() {
            let Source::Remote(jwks) = &provider.keys else { continue };
            self.sync(i, jwks, &provider.name, store);
            let Some(Some(remote)) = self.remotes.get_mut(i) else { continue };
            remote.record.not_later_than(now);
            remote.wanted_at = remote.wanted_at.min(now);
            if remote.begun_at.is_some() || !remote.is_due(jwks, now, self.jitter) || now < remote.record.not_before {
                continue;
            }
            // One second more than the fetch may take: then whoever had it is gone.
            let lease =
                Record { not_before: now.saturating_add(jwks.timeout).saturating_add(Duration::from_secs(1)), ..remote.record.clone() };
            if store.swap(&key(&provider.name, jwks), &lease.encode(), remote.mark) {
                remote.begun_at = Some(now);
                stats.add(Stat::KeyFetches, 1);
                due.push(i);
            }
        }
        due
    }

    /// Reads the record that workers share; keys are parsed only where the document is new.
    fn sync(&mut self, i: usize, jwks: &RemoteJwks, name: &str, store: &mut dyn Store) {
        let Some(Some(remote)) = self.remotes.get_mut(i) else { return };
        let Some((bytes, mark)) = store.load(&key(name, jwks)) else { return };
        if mark == remote.mark && mark.is_some() {
            return;
        }
        remote.mark = mark;
        let record = Record::decode(&bytes).unwrap_or_default();
        if record.document != remote.record.document
            && let Ok(set) = usable(&record.document, jwks)
        {
            let ids: Vec<u64> = set.keys.iter().map(Key::id).collect();
            remote.keys = set.keys;
            self.cache.retain(i, &ids);
        }
        let moments = |record: &Record| (record.fetched_at, record.failed_at);
        // A lease alone is no news.
        if moments(&record) != moments(&remote.record) || record.document != remote.record.document {
            self.generation += 1;
        }
        remote.record = record;
    }

    /// Changes whenever something has been learnt about keys.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What came of a fetch that [`Keyring::tick`] asked for. Why it can't be used, if it can't.
    ///
    /// # Errors
    /// In a word or two, for the log.
    pub fn fetched(
        &mut self,
        auth: &Auth,
        i: usize,
        answer: KeyAnswer<'_>,
        now: Duration,
        store: &mut dyn Store,
        stats: &mut dyn Sink,
    ) -> Result<(), &'static str> {
        let Some((provider, Source::Remote(jwks))) = auth.providers.get(i).map(|provider| (provider, &provider.keys)) else {
            return Ok(());
        };
        let Some(begun) = self.remotes.get_mut(i).and_then(Option::as_mut).and_then(|remote| remote.begun_at.take()) else { return Ok(()) };
        let document = judge(answer, jwks);
        match &document {
            Ok((_, ignored)) => stats.add(Stat::KeysIgnored, *ignored as u64),
            Err(_) => stats.add(Stat::KeyFetchesFailed, 1),
        }
        // Nobody else writes while this worker has the lease, unless it took too long.
        for _ in 0..4 {
            let loaded = store.load(&key(&provider.name, jwks));
            let (record, mark) = loaded.map(|(bytes, mark)| (Record::decode(&bytes).unwrap_or_default(), mark)).unwrap_or_default();
            if record.fetched_at > begun {
                break; // This fetch outlived its lease, and another brought something newer.
            }
            let next = match &document {
                Ok((bytes, _)) => Record {
                    fetched_at: begun,
                    failed_at: record.failed_at,
                    not_before: begun.saturating_add(DEMAND_INTERVAL),
                    failures: 0,
                    document: bytes.to_vec(),
                },
                Err(_) => record.failed(now, self.jitter),
            };
            if store.swap(&key(&provider.name, jwks), &next.encode(), mark) {
                break;
            }
        }
        self.sync(i, jwks, &provider.name, store);
        document.map(|_| ())
    }
}

impl Remote {
    fn is_due(&self, jwks: &RemoteJwks, now: Duration, jitter: f64) -> bool {
        let record = &self.record;
        let demanded = self.wanted_at > record.fetched_at && self.wanted_at > record.failed_at;
        // Before the period runs out, by as much as the fetch may take and a little that differs by worker.
        let early = jwks.timeout.saturating_add(jwks.cache.mul_f64(0.05 * jitter)).min(jwks.cache / 4);
        demanded || record.fetched_at.is_zero() || now >= record.fetched_at.saturating_add(jwks.cache.saturating_sub(early))
    }
}

impl Record {
    /// A clock that was set back leaves moments in the future behind; none may hold up a fetch, or
    /// pass for the answer to a question that was asked later.
    fn not_later_than(&mut self, now: Duration) {
        // Before any request that came since the last tick.
        let before = now.saturating_sub(Duration::from_secs(2));
        for moment in [&mut self.fetched_at, &mut self.failed_at] {
            if *moment > now {
                *moment = before;
            }
        }
        self.not_before = self.not_before.min(now.saturating_add(LONGEST_BACK_OFF));
    }

    /// After a failure at `now`: what is held stays, the next try comes later each time.
    fn failed(&self, now: Duration, jitter: f64) -> Record {
        let doubled = Duration::from_secs(1 << self.failures.min(5));
        let back_off = doubled.min(LONGEST_BACK_OFF).mul_f64(0.75 + 0.25 * jitter);
        // Where there are keys, nothing is so urgent as to ask more often than on demand.
        let least = if self.document.is_empty() { Duration::ZERO } else { DEMAND_INTERVAL };
        Record {
            failed_at: now,
            not_before: now.saturating_add(back_off.max(least)),
            failures: self.failures.saturating_add(1),
            fetched_at: self.fetched_at,
            document: self.document.clone(),
        }
    }
}

/// Where a provider's record is. One that fetches from elsewhere, or for other algorithms, has another,
/// so that no configuration takes over the keys of its predecessor or of a namesake.
fn key(provider: &str, jwks: &RemoteJwks) -> String {
    let algorithms: Vec<&str> = jwks.algorithms.iter().map(|algorithm| algorithm.name()).collect();
    let target = [&jwks.cluster, &jwks.authority, &jwks.path, &algorithms.join(",")].map(|part| format!("{}:{part}", part.len())).concat();
    let hash = hmac_sha256::Hash::hash(target.as_bytes());
    let hash = hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    format!("jwks/{provider}/{hash:016x}")
}

/// The document, if it can be used, and how many of its keys can't.
fn judge<'a>(answer: KeyAnswer<'a>, jwks: &RemoteJwks) -> Result<(&'a [u8], usize), &'static str> {
    match answer {
        KeyAnswer::None => Err("no whole answer"),
        KeyAnswer::Response(Some(200), body) if body.len() > LARGEST_DOCUMENT => Err("more than 256 KB"),
        KeyAnswer::Response(Some(200), body) => usable(body, jwks).map(|set| (body, set.faults.len())),
        KeyAnswer::Response(..) => Err("a status other than 200"),
    }
}

/// A set that has at least one key for the provider.
fn usable(document: &[u8], jwks: &RemoteJwks) -> Result<jwks::Set, &'static str> {
    let value: Value = serde_json::from_slice(document).map_err(|_| "no JSON")?;
    let set = jwks::parse(&value, &jwks.algorithms);
    if set.keys.is_empty() { Err("no key set with a usable key") } else { Ok(set) }
}

#[cfg(test)]
mod tests;
