//! Memory that workers share. A leaf: the host room gives Envoy's shared data, tests a map.
//! A load is dear there, as Envoy has the VM allocate what it hands over.

/// Values under keys, with compare-and-swap.
pub trait Store {
    /// The bytes under a key and the mark to swap them with; `None` where nothing is there.
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)>;
    /// Writes if nobody has written since the mark was read. `false`: somebody has.
    ///
    /// Without a mark it always writes, so a key that matters is made before there are requests.
    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool;
}
