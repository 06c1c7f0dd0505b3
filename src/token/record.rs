//! A fetched key set in shared data, with all that workers must agree on about fetching it.
//!
//! Layout: version u8, `fetched_at` u64, `failed_at` u64, `not_before` u64 (nanoseconds since the
//! Unix epoch, little-endian), `failures` u32, then the document as it was received. Bytes that
//! don't fit are treated as no record.

use std::time::Duration;

const VERSION: u8 = 1;

/// What is known of a provider's key set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When the fetch began that brought the document; zero: there is none.
    pub fetched_at: Duration,
    /// When a fetch last failed; zero: never.
    pub failed_at: Duration,
    /// No fetch may begin before: one is under way, has just been made, or has just failed.
    pub not_before: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// The key set.
    pub document: Vec<u8>,
}

impl Record {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for moment in [self.fetched_at, self.failed_at, self.not_before] {
            bytes.extend_from_slice(&u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
        }
        bytes.extend_from_slice(&self.failures.to_le_bytes());
        bytes.extend_from_slice(&self.document);
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut moments = [Duration::ZERO; 3];
        for moment in &mut moments {
            let (nanos, after) = rest.split_first_chunk::<8>()?;
            *moment = Duration::from_nanos(u64::from_le_bytes(*nanos));
            rest = after;
        }
        let (failures, document) = rest.split_first_chunk::<4>()?;
        let [fetched_at, failed_at, not_before] = moments;
        Some(Record { fetched_at, failed_at, not_before, failures: u32::from_le_bytes(*failures), document: document.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written_and_junk_is_none() {
        let record = Record {
            fetched_at: Duration::from_nanos(5),
            failed_at: Duration::from_secs(6),
            not_before: Duration::from_secs(7),
            failures: 8,
            document: b"{}".to_vec(),
        };
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Some(record));
        for end in 0..29 {
            assert_eq!(Record::decode(&bytes[..end]), None);
        }
        assert_eq!(Record::decode(&[2; 40]), None);
    }
}
