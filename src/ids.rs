//! Maps by numbers that no client can choose: ids that the host gives or that are counted here, those of a
//! keyed hash, and a sender's, which an identity host has a part in.
//!
//! The standard library's maps hash so that nobody can aim at a slot, at a price that a request pays a
//! dozen times. Where the name isn't a sender's to choose, one multiplication does. And each kind of
//! entry brings the code of a whole map into the module, so there is one map, from numbers to places,
//! and the entries stand in a list. A leaf.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such a number. What a client sends must never be the key.
#[derive(Debug)]
pub struct Ids<K, V> {
    places: Places,
    entries: Vec<Option<(K, V)>>,
    /// Places in the list where no entry stands.
    free: Vec<usize>,
}

/// Where in a list the entry of a number stands.
type Places = HashMap<u128, usize, BuildHasherDefault<Multiply>>;

impl<K, V> Default for Ids<K, V> {
    fn default() -> Self {
        Ids { places: Places::default(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<K: Copy + Into<u128>, V> Ids<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether there is an entry of this key.
    pub fn contains_key(&self, key: K) -> bool {
        find(&self.places, key.into()).is_some()
    }

    /// The entry of this key.
    pub fn get(&self, key: K) -> Option<&V> {
        let place = find(&self.places, key.into())?;
        self.entries.get(place)?.as_ref().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let place = find(&self.places, key.into())?;
        self.entries.get_mut(place)?.as_mut().map(|(_, value)| value)
    }

    /// Sets the entry of this key, whether there was one or not.
    pub fn insert(&mut self, key: K, value: V) {
        let place = settle(&mut self.places, key.into(), &mut self.free, self.entries.len());
        match self.entries.get_mut(place) {
            Some(entry) => *entry = Some((key, value)),
            None => self.entries.push(Some((key, value))),
        }
    }

    /// Takes the entry of this key out.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let place = leave(&mut self.places, key.into(), &mut self.free)?;
        self.entries.get_mut(place)?.take().map(|(_, value)| value)
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.entries.iter().flatten().map(|(key, value)| (*key, value))
    }

    /// Takes out those of which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        for entry in &mut self.entries {
            if let Some((key, value)) = entry
                && !keep(value)
            {
                leave(&mut self.places, (*key).into(), &mut self.free);
                *entry = None;
            }
        }
    }
}

// Out of line, as there is one of each for all maps.

#[inline(never)]
fn find(places: &Places, number: u128) -> Option<usize> {
    places.get(&number).copied()
}

/// The place of a number; where it has none, a free one, or else the `next`.
#[inline(never)]
fn settle(places: &mut Places, number: u128, free: &mut Vec<usize>, next: usize) -> usize {
    *places.entry(number).or_insert_with(|| free.pop().unwrap_or(next))
}

#[inline(never)]
fn leave(places: &mut Places, number: u128, free: &mut Vec<usize>) -> Option<usize> {
    let place = places.remove(&number)?;
    free.push(place);
    Some(place)
}

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
    use proptest::prelude::*;
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
        spread(&(7..1031u128).map(|id| hash(id * 2)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_of_the_standard_library_holds(steps in prop::collection::vec((0u32..12, 0u8..4), 0..200)) {
            let (mut ids, mut map) = (Ids::default(), HashMap::new());
            for (value, (key, what)) in steps.into_iter().enumerate() {
                match what {
                    0 => prop_assert_eq!(ids.remove(key), map.remove(&key)),
                    1 => {
                        ids.retain(|value| value % 3 != 0);
                        map.retain(|_, value| *value % 3 != 0);
                    }
                    2 => prop_assert_eq!(ids.get_mut(key).map(|held| { *held += 1; *held }), map.get_mut(&key).map(|held| { *held += 1; *held })),
                    _ => {
                        ids.insert(key, value);
                        map.insert(key, value);
                    }
                }
                prop_assert_eq!((ids.len(), ids.is_empty(), ids.contains_key(key)), (map.len(), map.is_empty(), map.contains_key(&key)));
                prop_assert_eq!(ids.get(key), map.get(&key));
                prop_assert_eq!(ids.iter().map(|(key, value)| (key, *value)).collect::<HashMap<_, _>>(), map.clone());
                prop_assert!(ids.entries.len() <= 12, "places that are free are used again");
            }
        }
    }
}
