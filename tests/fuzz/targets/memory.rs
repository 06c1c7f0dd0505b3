//! What the host gives the filter, for the targets: shared memory, and somewhere to count.

use envoy_log_ingest::memory::Store;
use envoy_log_ingest::stats::{Sink, Stat};
use std::collections::HashMap;

/// Values, each with the number of its last write.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub values: HashMap<String, (Vec<u8>, u32)>,
    /// So many swaps will fail, as if another worker had come first.
    pub busy: u32,
    writes: u32,
}

impl Memory {
    /// As another worker would, or one with another version of the filter.
    pub fn write(&mut self, key: &str, bytes: &[u8]) {
        self.writes += 1;
        self.values.insert(key.to_owned(), (bytes.to_vec(), self.writes));
    }
}

impl Store for Memory {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.values.get(key).map(|(bytes, mark)| (bytes.clone(), Some(*mark)))
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        if self.busy > 0 {
            self.busy -= 1;
            return false;
        }
        let current = self.values.get(key).is_none_or(|(_, now)| mark.is_none_or(|mark| mark == *now));
        if current {
            self.write(key, bytes);
        }
        current
    }
}

/// Counts nothing.
pub struct Nowhere;

impl Sink for Nowhere {
    fn add(&mut self, _: Stat, _: u64) {}
}
