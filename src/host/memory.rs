//! Envoy's shared data: one memory for all workers, by `vm_id`.

use crate::bucket::Seed;
use crate::memory::Store;
use proxy_wasm::hostcalls;

/// The shared data of this `vm_id`.
pub struct SharedData;

impl Store for SharedData {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        match hostcalls::get_shared_data(key) {
            Ok((Some(bytes), mark)) => Some((bytes, mark)),
            _ => None,
        }
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        hostcalls::set_shared_data(key, Some(bytes), mark).is_ok()
    }
}

const SEED: &str = "seed";

/// This process's seed. The first VM to be configured, which Envoy makes before its workers', puts
/// it there; whoever comes later takes what is there.
pub fn seed(memory: &mut SharedData) -> Seed {
    if memory.load(SEED).is_none() {
        let mut fresh = [0u8; 16];
        if let Err(error) = getrandom::fill(&mut fresh) {
            log::warn!("no random seed, buckets can be aimed at: {error}");
        }
        memory.swap(SEED, &fresh, None);
    }
    let stored = memory.load(SEED).and_then(|(bytes, _)| bytes.try_into().ok());
    Seed(stored.unwrap_or_default())
}

/// A number that nobody can guess, if there is one to be had.
pub fn secret() -> Option<u128> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).ok().map(|()| u128::from_le_bytes(bytes))
}

/// A random number; where there is none to be had, workers merely act at the same moments.
pub fn random() -> u32 {
    let mut bytes = [0u8; 4];
    let _ = getrandom::fill(&mut bytes);
    u32::from_le_bytes(bytes)
}
