//! Where buckets are kept: a fixed number of sets, each one value in shared data with eight places.
//!
//! Layout of a set: one version byte, then up to eight entries of 36 bytes, little-endian:
//! fingerprint u64 (0: empty), `full_at` u128, `part` u32, `changed_at` u64. Bytes that don't fit
//! are treated as an empty set. In a crowded set the bucket that is nearest to full gives way, so
//! that forgetting it gives away the least; one that is full is as good as absent.
//!
//! A set stays as its bytes: of eight entries a request reads one and writes one.

use super::Owner;
use super::level::{Level, nanos};
use crate::memory::Store;
use std::io::Write;
use std::time::Duration;

const VERSION: u8 = 1;
const PLACES: usize = 8;
const ENTRY: usize = 36;

/// A set without buckets.
const EMPTY: [u8; 1] = [VERSION];

/// One set as it was loaded, and whose bucket in it is meant.
#[derive(Debug)]
pub struct Set {
    key: String,
    mark: Option<u32>,
    /// In the layout above, whatever was loaded.
    bytes: Vec<u8>,
    owner: Owner,
    /// Whether there were bytes of an unknown layout.
    pub unreadable: bool,
}

/// The set that the owner's bucket is in, or would be.
pub fn load(store: &mut dyn Store, slots: u32, owner: Owner) -> Set {
    let key = key(owner.set % sets(slots));
    let (mut bytes, mark) = store.load(&key).unwrap_or_default();
    let readable = entries(&bytes).is_some();
    let unreadable = !readable && !bytes.is_empty();
    if !readable {
        bytes = EMPTY.to_vec();
    }
    Set { key, mark, bytes, owner, unreadable }
}

fn sets(slots: u32) -> u64 {
    (u64::from(slots) / PLACES as u64).max(1)
}

fn key(set: u64) -> String {
    ["bucket/", itoa::Buffer::new().format(set)].concat()
}

/// Writes an empty set wherever there is none.
pub fn prepare(slots: u32, store: &mut dyn Store) {
    for key in (0..sets(slots)).map(key) {
        if store.load(&key).is_none() {
            store.swap(&key, &EMPTY, None);
        }
    }
}

impl Set {
    /// The owner's bucket, if it is remembered.
    pub fn level(&self) -> Option<Level> {
        entries(&self.bytes)?.iter().find(|entry| fingerprint(entry) == self.owner.fingerprint).map(level)
    }

    /// Puts the owner's bucket in its place, or in an empty one, or in that of the one nearest to full.
    pub fn put(&mut self, level: Level, now: Duration) {
        let (now, owner) = (nanos(now), self.owner.fingerprint);
        let (entries, _) = self.bytes.get_mut(EMPTY.len()..).unwrap_or_default().as_chunks_mut::<ENTRY>();
        let of = |wanted: u64| entries.iter().position(|entry| fingerprint(entry) == wanted);
        let nearest = || (0..entries.len()).min_by_key(|&place| entries.get(place).map(|entry| self::level(entry).missing_time(now)));
        let place = of(owner).or_else(|| of(0)).or_else(|| if entries.len() < PLACES { None } else { nearest() });
        let entry = encode(owner, level);
        match place.and_then(|place| entries.get_mut(place)) {
            Some(old) => *old = entry,
            None => self.bytes.extend_from_slice(&entry),
        }
    }

    /// Whether both are the same set.
    pub fn is_same_place(&self, other: &Set) -> bool {
        self.key == other.key
    }

    /// Whether a swap would fail if another worker had come in between.
    pub fn is_marked(&self) -> bool {
        self.mark.is_some()
    }

    /// Writes the set back; `false` if another worker came first.
    pub fn store(&self, store: &mut dyn Store) -> bool {
        store.swap(&self.key, &self.bytes, self.mark)
    }
}

/// The entries of a set; `None` where the bytes are no set.
fn entries(bytes: &[u8]) -> Option<&[[u8; ENTRY]]> {
    match bytes.strip_prefix(&EMPTY)?.as_chunks() {
        (entries, []) if entries.len() <= PLACES => Some(entries),
        _ => None,
    }
}

/// The bytes of an entry from `start` on.
fn part<const N: usize>(entry: &[u8; ENTRY], start: usize) -> [u8; N] {
    entry.get(start..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn fingerprint(entry: &[u8; ENTRY]) -> u64 {
    u64::from_le_bytes(part(entry, 0))
}

fn level(entry: &[u8; ENTRY]) -> Level {
    Level {
        full_at: u128::from_le_bytes(part(entry, 8)),
        part: u32::from_le_bytes(part(entry, 24)),
        changed_at: u64::from_le_bytes(part(entry, 28)),
        seen_at: 0,
    }
}

fn encode(fingerprint: u64, level: Level) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let mut rest = &mut entry[..];
    let (full_at, part) = (level.full_at.to_le_bytes(), level.part.to_le_bytes());
    for piece in [&fingerprint.to_le_bytes()[..], &full_at, &part, &level.changed_at.to_le_bytes()] {
        // They are as long as the entry.
        let _ = rest.write_all(piece);
    }
    entry
}
