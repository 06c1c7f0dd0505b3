//! Tokens that have been verified, so that a session's second request costs no signature.
//!
//! The token itself isn't kept, but its SipHash-2-4 of 128 bits under a key that is drawn at random for
//! each VM and never leaves it: as long as nobody knows the key, a text with the hash of somebody's token
//! can only be guessed. SHA-256 needs no key, and took a quarter of a small request's instructions. Two
//! generations of half the size each; when one is full the older is forgotten, so what is in use stays,
//! and an entry costs no bookkeeping.

use super::Claims;
use crate::ids::Ids;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::rc::Rc;
use std::time::Duration;

/// What is remembered of a token.
#[derive(Clone, Debug)]
struct Entry {
    claims: Rc<Claims>,
    provider: usize,
    key: u64,
}

/// Verified tokens of one worker.
#[derive(Debug, Default)]
pub struct Cache {
    half: usize,
    key: [u8; 16],
    young: Ids<u128, Entry>,
    old: Ids<u128, Entry>,
}

impl Cache {
    /// For at most `most` tokens; 0 remembers none. Whoever knows the key can make up tokens.
    pub fn new(most: usize, key: [u8; 16]) -> Cache {
        Cache { half: most.div_ceil(2), key, ..Cache::default() }
    }

    /// A token's place in the cache.
    pub fn digest(&self, token: &[u8]) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(token);
        hasher.finish128().as_u128()
    }

    /// The claims of a token and whose they are, by the provider's index, unless it has run out at `now`.
    pub fn find(&mut self, digest: u128, now: Duration, skew: Duration) -> Option<(Rc<Claims>, usize)> {
        let entry = match self.young.get(digest) {
            Some(entry) => entry.clone(),
            None => {
                let entry = self.old.remove(digest)?;
                self.keep(digest, entry.clone());
                entry
            }
        };
        let expired = entry.claims.expires.is_some_and(|exp| now >= exp.saturating_add(skew));
        (!expired).then_some((entry.claims, entry.provider))
    }

    /// Remembers a token that `key` of `provider` vouched for.
    pub fn put(&mut self, digest: u128, claims: Rc<Claims>, provider: usize, key: u64) {
        self.keep(digest, Entry { claims, provider, key });
    }

    fn keep(&mut self, digest: u128, entry: Entry) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, entry);
    }

    /// Forgets the tokens of a provider's keys that are no longer among `keys`.
    pub fn retain(&mut self, provider: usize, keys: &[u64]) {
        let keep = |entry: &Entry| entry.provider != provider || keys.contains(&entry.key);
        self.young.retain(keep);
        self.old.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expires: u64) -> Rc<Claims> {
        let expires = Some(Duration::from_secs(expires));
        Rc::new(Claims { sender: 0, issuer: String::new(), subject: "s".to_owned(), session: None, expires, distinction: None })
    }

    fn put(cache: &mut Cache, token: u64, provider: usize, key: u64) {
        let digest = cache.digest(&token.to_le_bytes());
        cache.put(digest, claims(100), provider, key);
    }

    fn known(cache: &mut Cache, token: u64, now: u64) -> bool {
        let digest = cache.digest(&token.to_le_bytes());
        cache.find(digest, Duration::from_secs(now), Duration::from_secs(60)).is_some()
    }

    #[test]
    fn a_token_is_known_until_it_expires() {
        let mut cache = Cache::new(10, [7; 16]);
        put(&mut cache, 1, 0, 1);
        assert!(known(&mut cache, 1, 159) && !known(&mut cache, 1, 160) && !known(&mut cache, 2, 0));
    }

    #[test]
    fn no_more_are_kept_than_was_asked_for_and_those_in_use_stay() {
        let mut cache = Cache::new(10, [7; 16]);
        for token in 0..1_000u64 {
            put(&mut cache, token, 0, 1);
            assert!(known(&mut cache, 0, 0), "used all the time, {token}");
            assert!(cache.young.len() + cache.old.len() <= 10);
        }
        let mut none = Cache::new(0, [7; 16]);
        put(&mut none, 0, 0, 1);
        assert!(!known(&mut none, 0, 0));
    }

    #[test]
    fn a_token_goes_with_its_key() {
        let mut cache = Cache::new(10, [7; 16]);
        for (token, provider, key) in [(1u64, 0, 1), (2, 0, 2), (3, 1, 1)] {
            put(&mut cache, token, provider, key);
        }
        cache.retain(0, &[2]);
        assert_eq!([1, 2, 3].map(|token| known(&mut cache, token, 0)), [false, true, true]);
    }

    #[test]
    fn where_a_token_is_kept_depends_on_the_key() {
        let digest = |key: u8| Cache::new(10, [key; 16]).digest(b"token");
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }
}
