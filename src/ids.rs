//! Maps by names that no client can choose: ids that the host gives or that are counted here, numbers
//! of a keyed hash, values of an enum.
//!
//! The standard library's maps hash so that nobody can aim at a slot, at a price that a request pays a
//! dozen times. Where the name isn't a sender's to choose, one multiplication does. A leaf.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such a name. What a client sends must never be the key.
pub type Ids<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;

/// One multiplication for each 64 bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Multiply(u64);

/// 2^64 over the golden ratio, and odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(SPREAD);
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // The product's low bits know only the low bits of the name.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stat;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    fn hash(value: impl Hash) -> u64 {
        BuildHasherDefault::<Multiply>::default().hash_one(value)
    }

    /// A map takes the low bits for the place, and to tell entries in it apart the seven highest, or in 32
    /// bits the seven highest of those.
    fn spread(hashes: &[u64]) {
        let places: HashSet<u64> = hashes.iter().map(|hash| hash % hashes.len().next_power_of_two() as u64).collect();
        assert!(places.len() * 2 > hashes.len(), "{} places for {}", places.len(), hashes.len());
        for lowest in [57, 25] {
            let tags: HashSet<u64> = hashes.iter().map(|hash| hash >> lowest & 127).collect();
            assert!(tags.len() > hashes.len().min(128) / 2, "{} tags", tags.len());
        }
    }

    #[test]
    fn counted_names_are_spread() {
        spread(&(0..1024u64).map(hash).collect::<Vec<_>>());
        spread(&(7..1031u32).map(|id| hash(id * 2)).collect::<Vec<_>>());
        spread(&Stat::all().map(hash).collect::<Vec<_>>());
    }
}
