//! Where buckets are kept: a fixed number of sets, each one value in shared data with eight places.
//!
//! Layout of a set: one version byte, then up to eight entries of 36 bytes, little-endian:
//! fingerprint u64 (0: empty), `full_at` u128, `part` u32, `changed_at` u64. Bytes that don't fit
//! are treated as an empty set. In a crowded set the bucket that is nearest to full gives way, so
//! that forgetting it gives away the least; one that is full is as good as absent.

use super::Owner;
use super::level::{Level, nanos};
use crate::memory::Store;
use std::time::Duration;

const VERSION: u8 = 1;
const PLACES: u32 = 8;
const ENTRY: usize = 36;

#[derive(Clone, Copy, Default)]
struct Entry {
    fingerprint: u64,
    level: Level,
}

/// One set as it was loaded, and whose bucket in it is meant.
pub struct Set {
    key: String,
    mark: Option<u32>,
    entries: [Entry; PLACES as usize],
    owner: Owner,
    /// Whether there were bytes of an unknown layout.
    pub unreadable: bool,
}

/// The set that the owner's bucket is in, or would be.
pub fn load(store: &mut dyn Store, slots: u32, owner: Owner) -> Set {
    let key = key(owner.set % sets(slots));
    let (bytes, mark) = store.load(&key).unwrap_or_default();
    let entries = decode(&bytes);
    let unreadable = entries.is_none() && !bytes.is_empty();
    Set { key, mark, entries: entries.unwrap_or_default(), owner, unreadable }
}

fn sets(slots: u32) -> u64 {
    u64::from((slots / PLACES).max(1))
}

fn key(set: u64) -> String {
    ["bucket/", itoa::Buffer::new().format(set)].concat()
}

/// Writes an empty set wherever there is none.
pub fn prepare(slots: u32, store: &mut dyn Store) {
    for key in (0..sets(slots)).map(key) {
        if store.load(&key).is_none() {
            store.swap(&key, &encode(&[]), None);
        }
    }
}

impl Set {
    /// The owner's bucket, if it is remembered.
    pub fn level(&self) -> Option<Level> {
        self.entries.iter().find(|entry| entry.fingerprint == self.owner.fingerprint).map(|entry| entry.level)
    }

    /// Puts the owner's bucket in its place, or in that of the one nearest to full.
    pub fn put(&mut self, level: Level, now: Duration) {
        let now = nanos(now);
        let owner = self.owner.fingerprint;
        let cost = |entry: &Entry| match entry.fingerprint {
            fingerprint if fingerprint == owner => (0, 0),
            0 => (1, 0),
            _ => (2, entry.level.missing_time(now)),
        };
        if let Some(entry) = self.entries.iter_mut().min_by_key(|entry| cost(entry)) {
            *entry = Entry { fingerprint: owner, level };
        }
    }

    /// Writes the set back; `false` if another worker came first.
    pub fn store(&self, store: &mut dyn Store) -> bool {
        store.swap(&self.key, &encode(&self.entries), self.mark)
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + entries.len() * ENTRY);
    bytes.push(VERSION);
    for entry in entries.iter().filter(|entry| entry.fingerprint != 0) {
        bytes.extend_from_slice(&entry.fingerprint.to_le_bytes());
        bytes.extend_from_slice(&entry.level.full_at.to_le_bytes());
        bytes.extend_from_slice(&entry.level.part.to_le_bytes());
        bytes.extend_from_slice(&entry.level.changed_at.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<[Entry; PLACES as usize]> {
    let (&VERSION, rest) = bytes.split_first()? else {
        return None;
    };
    let (chunks, []) = rest.as_chunks::<ENTRY>() else {
        return None;
    };
    let mut entries = [Entry::default(); PLACES as usize];
    if chunks.len() > entries.len() {
        return None;
    }
    for (entry, chunk) in entries.iter_mut().zip(chunks) {
        let (fingerprint, rest) = chunk.split_first_chunk::<8>()?;
        let (full_at, rest) = rest.split_first_chunk::<16>()?;
        let (part, rest) = rest.split_first_chunk::<4>()?;
        let (changed_at, _) = rest.split_first_chunk::<8>()?;
        *entry = Entry {
            fingerprint: u64::from_le_bytes(*fingerprint),
            level: Level {
                full_at: u128::from_le_bytes(*full_at),
                part: u32::from_le_bytes(*part),
                changed_at: u64::from_le_bytes(*changed_at),
                seen_at: 0,
            },
        };
    }
    Some(entries)
}
