//! Tokens that have been verified, so that a session's second request costs no signature.
//!
//! Keyed by SHA-256: the token itself isn't kept. Two generations of half the size each; when one is
//! full the older is forgotten, so what is in use stays, and an entry costs no bookkeeping.

use super::Claims;
use std::collections::HashMap;
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
    young: HashMap<[u8; 32], Entry>,
    old: HashMap<[u8; 32], Entry>,
}

/// A token's place in the cache.
pub fn digest(token: &[u8]) -> [u8; 32] {
    hmac_sha256::Hash::hash(token)
}

impl Cache {
    /// For at most `most` tokens; 0 remembers none.
    pub fn new(most: usize) -> Cache {
        Cache { half: most.div_ceil(2), ..Cache::default() }
    }

    /// The claims of a token and whose they are, by the provider's index, unless it has run out at `now`.
    pub fn find(&mut self, digest: &[u8; 32], now: Duration, skew: Duration) -> Option<(Rc<Claims>, usize)> {
        let entry = match self.young.get(digest) {
            Some(entry) => entry.clone(),
            None => {
                let entry = self.old.remove(digest)?;
                self.keep(*digest, entry.clone());
                entry
            }
        };
        let expired = entry.claims.expires.is_some_and(|exp| now >= exp.saturating_add(skew));
        (!expired).then_some((entry.claims, entry.provider))
    }

    /// Remembers a token that `key` of `provider` vouched for.
    pub fn put(&mut self, digest: [u8; 32], claims: Rc<Claims>, provider: usize, key: u64) {
        self.keep(digest, Entry { claims, provider, key });
    }

    fn keep(&mut self, digest: [u8; 32], entry: Entry) {
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
        self.young.retain(|_, entry| keep(entry));
        self.old.retain(|_, entry| keep(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expires: u64) -> Rc<Claims> {
        let expires = Some(Duration::from_secs(expires));
        Rc::new(Claims { issuer: String::new(), subject: "s".to_owned(), session: None, expires, distinction: None })
    }

    fn known(cache: &mut Cache, token: u64, now: u64) -> bool {
        cache.find(&digest(&token.to_le_bytes()), Duration::from_secs(now), Duration::from_secs(60)).is_some()
    }

    #[test]
    fn a_token_is_known_until_it_expires() {
        let mut cache = Cache::new(10);
        cache.put(digest(&1u64.to_le_bytes()), claims(100), 0, 1);
        assert!(known(&mut cache, 1, 159) && !known(&mut cache, 1, 160) && !known(&mut cache, 2, 0));
    }

    #[test]
    fn no_more_are_kept_than_was_asked_for_and_those_in_use_stay() {
        let mut cache = Cache::new(10);
        for token in 0..1_000u64 {
            cache.put(digest(&token.to_le_bytes()), claims(100), 0, 1);
            assert!(known(&mut cache, 0, 0), "used all the time, {token}");
            assert!(cache.young.len() + cache.old.len() <= 10);
        }
        let mut none = Cache::new(0);
        none.put(digest(&0u64.to_le_bytes()), claims(100), 0, 1);
        assert!(!known(&mut none, 0, 0));
    }

    #[test]
    fn a_token_goes_with_its_key() {
        let mut cache = Cache::new(10);
        for (token, provider, key) in [(1u64, 0, 1), (2, 0, 2), (3, 1, 1)] {
            cache.put(digest(&token.to_le_bytes()), claims(100), provider, key);
        }
        cache.retain(0, &[2]);
        assert_eq!([1, 2, 3].map(|token| known(&mut cache, token, 0)), [false, true, true]);
    }
}
