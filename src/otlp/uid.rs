//! `log.record.uid`: the same for the same record sent again, different for different records.
//!
//! Clients send a batch again when they didn't see its answer, so a record can be at the backend
//! twice; by this attribute a backend or a query drops the second. It is a hash of the record's
//! text as it was sent, which has install, session, time and content in it, and of its place among
//! records of the same text in the batch. Issuer and subject are the hash's key, so that the same text
//! of two users has two names. It is no signature: whose a record is, `enduser.id` says.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::HashMap;
use std::hash::Hasher;

/// 128 bits, as lower-case hex.
pub type Uid = [u8; 32];

/// The names of one request's records.
#[derive(Debug)]
pub struct Uids {
    key: [u8; 16],
    /// How often each text has been seen.
    seen: HashMap<u128, u64>,
}

impl Uids {
    /// None named yet.
    pub fn new(issuer: &str, subject: &str) -> Uids {
        let digest = hmac_sha256::Hash::hash(&[issuer.as_bytes(), &[0], subject.as_bytes()].concat());
        Uids { key: *digest.first_chunk().unwrap_or(&[0; 16]), seen: HashMap::new() }
    }

    /// Names the next record, by its JSON text.
    pub fn name(&mut self, record: &[u8]) -> Uid {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(record);
        let uid = hasher.finish128().as_u128();
        let before = self.seen.entry(uid).or_default();
        let place = *before;
        *before += 1;
        if place == 0 {
            return hex(uid);
        }
        hasher.write(&place.to_le_bytes());
        hex(hasher.finish128().as_u128())
    }
}

fn hex(uid: u128) -> Uid {
    let mut text = [0; 32];
    for (place, digit) in text.iter_mut().rev().enumerate() {
        let nibble = (uid >> (4 * place) & 15) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn names(subject: &str, records: &[&str]) -> Vec<String> {
        let mut uids = Uids::new("issuer", subject);
        records.iter().map(|record| String::from_utf8(uids.name(record.as_bytes()).to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_same_batch_has_the_same_names_and_all_differ() {
        let batch = ["{}", r#"{"a":1}"#, "{}", "{ }", "{}", "", "7"];
        let first = names("user", &batch);
        assert_eq!(first, names("user", &batch));
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), batch.len());
        assert!(first.iter().all(|name| name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))));
    }

    #[test]
    fn a_record_keeps_its_name_in_other_company() {
        assert_eq!(names("user", &["{}", "7"])[1], names("user", &["7", "8"])[0]);
    }

    #[test]
    fn nobody_has_somebody_elses_names() {
        assert_ne!(names("user", &["{}"]), names("another", &["{}"]));
        assert_ne!(Uids::new("a", "bc").name(b"{}"), Uids::new("ab", "c").name(b"{}"));
    }
}
