//! Memory that workers share. A leaf: the host room gives Envoy's shared data, tests a map.
//!
//! A load is dear, as Envoy has the VM allocate what it hands over. What a request has looked at it
//! need not load again to change it ([`Seen`]): the mark tells whether it is still as it was.

/// Values under keys, with compare-and-swap.
pub trait Store {
    /// The bytes under a key and the mark to swap them with; `None` where nothing is there.
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)>;
    /// Writes if nobody has written since the mark was read. `false`: somebody has.
    ///
    /// Without a mark it always writes, so a key that matters is made before there are requests.
    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool;
}

/// What a request has loaded, for one swap.
#[derive(Clone, Debug, Default)]
pub struct Seen(Vec<(String, Vec<u8>, u32)>);

/// A store that notes what is loaded.
pub struct Noting<'s> {
    /// What is noted.
    pub seen: &'s mut Seen,
    /// Where it comes from.
    pub store: &'s mut dyn Store,
}

impl Store for Noting<'_> {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        let loaded = self.store.load(key);
        // Without a mark it could be swapped for something newer.
        if let Some((bytes, Some(mark))) = &loaded {
            self.seen.0.push((key.to_owned(), bytes.clone(), *mark));
        }
        loaded
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        self.store.swap(key, bytes, mark)
    }
}

/// A store whose first load of what was noted is the note.
pub struct Recalling<'s> {
    /// What was noted.
    pub seen: Seen,
    /// Where the rest comes from.
    pub store: &'s mut dyn Store,
}

impl Store for Recalling<'_> {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        // All of that name: after a swap none of them is true.
        match self.seen.0.extract_if(.., |(noted, ..)| noted == key).last() {
            Some((_, bytes, mark)) => Some((bytes, Some(mark))),
            None => self.store.load(key),
        }
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        self.store.swap(key, bytes, mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct One {
        bytes: Vec<u8>,
        mark: u32,
        loads: u32,
    }

    impl Store for One {
        fn load(&mut self, _: &str) -> Option<(Vec<u8>, Option<u32>)> {
            self.loads += 1;
            Some((self.bytes.clone(), (self.mark > 0).then_some(self.mark)))
        }

        fn swap(&mut self, _: &str, bytes: &[u8], mark: Option<u32>) -> bool {
            let current = mark.is_none_or(|mark| mark == self.mark);
            if current {
                (self.bytes, self.mark) = (bytes.to_vec(), self.mark + 1);
            }
            current
        }
    }

    fn noted(store: &mut One) -> Seen {
        let mut seen = Seen::default();
        Noting { seen: &mut seen, store }.load("k");
        seen
    }

    #[test]
    fn what_was_noted_is_swapped_without_loading_it_again() {
        let mut store = One { mark: 1, ..One::default() };
        let mut recalling = Recalling { seen: noted(&mut store), store: &mut store };
        let (_, mark) = recalling.load("k").unwrap();
        assert!(recalling.swap("k", b"mine", mark));
        assert_eq!((store.bytes.as_slice(), store.loads), (&b"mine"[..], 1));
    }

    #[test]
    fn what_has_changed_since_is_loaded() {
        let mut store = One { mark: 1, ..One::default() };
        let seen = noted(&mut store);
        assert!(store.swap("k", b"theirs", Some(1)));
        let mut recalling = Recalling { seen, store: &mut store };
        let (_, mark) = recalling.load("k").unwrap();
        assert!(!recalling.swap("k", b"mine", mark));
        assert_eq!(recalling.load("k").unwrap(), (b"theirs".to_vec(), Some(2)));
    }

    #[test]
    fn what_has_no_mark_is_not_noted() {
        let mut store = One::default();
        let mut recalling = Recalling { seen: noted(&mut store), store: &mut store };
        recalling.load("k");
        assert_eq!(store.loads, 2);
    }
}
