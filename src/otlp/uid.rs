//! `log.record.uid`: the same for the same record sent again, different for different records.
//!
//! Clients send a batch again when they didn't see its answer, so a record can be at the backend
//! twice; by this attribute a backend or a query drops the second. It is a hash of the record's
//! text as it was sent, which has install, session, time and content in it, and of its place among
//! records of the same text in the batch. Issuer and subject are the hash's seed, so that the same text
//! of two users has two names. XXH3, as it is made for such texts and WebAssembly's vectors. It is no
//! signature, and who wants to can make two records of one name: whose a record is, `enduser.id` says,
//! and only among one user's records does a name count.

use super::clock::Stamp;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A record's name: 128 bits.
pub type Uid = u128;

/// The names of one request's records.
#[derive(Debug)]
pub struct Uids {
    seed: u64,
    /// The latest time of a record so far. One that is later has a text that none before it has.
    latest: Option<i128>,
    /// Names that are not in `seen` yet: mostly no record asks for it.
    fresh: Vec<Uid>,
    /// How often each text has been seen. Ordered, as hashing a hash again would cost more.
    seen: BTreeMap<Uid, u64>,
}

impl Uids {
    /// None named yet; `sender` is the number of issuer and subject.
    pub fn new(sender: u64) -> Uids {
        Uids { seed: sender, latest: None, fresh: Vec::new(), seen: BTreeMap::new() }
    }

    /// Names the next record, by its JSON text, in which its time stands.
    pub fn name(&mut self, record: &[u8], stamp: Stamp) -> Uid {
        let uid = xxh3_128_with_seed(record, self.seed);
        if let Stamp::At(at) = stamp
            && self.latest.is_none_or(|latest| at > latest)
        {
            self.latest = Some(at);
            self.fresh.push(uid);
            return uid;
        }
        self.seen.extend(self.fresh.drain(..).map(|uid| (uid, 1)));
        let before = self.seen.entry(uid).or_default();
        let place = *before;
        *before += 1;
        if place == 0 {
            return uid;
        }
        xxh3_128_with_seed(&[&uid.to_be_bytes()[..], &place.to_be_bytes()].concat(), self.seed)
    }
}

/// A name as it is written: 32 lower-case hex digits.
pub fn hex(uid: Uid) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut text = [0; 32];
    let (pairs, _) = text.as_chunks_mut();
    for ([high, low], byte) in pairs.iter_mut().zip(uid.to_be_bytes()) {
        (*high, *low) = (digit(byte >> 4), digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn text(uid: Uid) -> String {
        String::from_utf8(hex(uid).to_vec()).unwrap()
    }

    fn names(sender: u64, records: &[&str]) -> Vec<String> {
        let mut uids = Uids::new(sender);
        records.iter().map(|record| text(uids.name(record.as_bytes(), Stamp::Missing))).collect()
    }

    #[test]
    fn the_same_batch_has_the_same_names_and_all_differ() {
        let batch = ["{}", r#"{"a":1}"#, "{}", "{ }", "{}", "", "7"];
        let first = names(1, &batch);
        assert_eq!(first, names(1, &batch));
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), batch.len());
        assert!(first.iter().all(|name| name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))));
    }

    #[test]
    fn a_record_keeps_its_name_in_other_company() {
        assert_eq!(names(1, &["{}", "7"])[1], names(1, &["7", "8"])[0]);
    }

    #[test]
    fn nobody_has_somebody_elses_names() {
        assert_ne!(names(1, &["{}"]), names(2, &["{}"]));
    }

    #[test]
    fn the_same_text_is_found_again_whatever_came_between() {
        // A text has one time, so it is its own here: a digit is its time, and `-` has none.
        let stamp = |record: &str| record.parse().map_or(Stamp::Missing, Stamp::At);
        for batch in ["1 2 3 3 2 1", "3 1 1 3 4 4 - 4 -", "- - 1 - 1 2 2", "5 4 3 2 1 1", "1 1 1"] {
            let batch: Vec<&str> = batch.split(' ').collect();
            let mut uids = Uids::new(1);
            let found: Vec<String> = batch.iter().map(|record| text(uids.name(record.as_bytes(), stamp(record)))).collect();
            assert_eq!(found, names(1, &batch), "{batch:?}");
            assert_eq!(found.iter().collect::<HashSet<_>>().len(), batch.len(), "{batch:?}");
        }
    }
}
