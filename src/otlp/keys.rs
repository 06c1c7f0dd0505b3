//! A set of names: linear while it is small, hashed when it grows, so that a body full of keys
//! costs no more than its length.

use crate::batch::json::Text;
use std::collections::HashMap;

/// Up to here comparing is cheaper than hashing.
const FEW: usize = 16;

/// Names that have been seen.
#[derive(Debug, Default)]
pub struct Keys<'a> {
    few: [Text<'a>; FEW],
    /// How many of those there are.
    count: usize,
    /// The others. Their numbers mean nothing; a map like that of the loggers is no more code.
    many: Option<HashMap<Text<'a>, usize>>,
}

impl<'a> Keys<'a> {
    /// Adds a name. `false`: it was there already.
    #[inline]
    pub fn insert(&mut self, name: Text<'a>) -> bool {
        let new = !self.contains(name);
        if new {
            self.add(name);
        }
        new
    }

    /// Adds a name that isn't there yet.
    #[inline]
    pub fn add(&mut self, name: Text<'a>) {
        match self.few.get_mut(self.count) {
            Some(place) => {
                *place = name;
                self.count += 1;
            }
            None => _ = self.many.get_or_insert_default().insert(name, 0),
        }
    }

    /// Whether the name has been added.
    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.few.iter().take(self.count).any(|&few| few == name) || self.many.as_ref().is_some_and(|many| many.contains_key(name))
    }

    /// Forgets all names.
    #[inline]
    pub fn clear(&mut self) {
        self.count = 0;
        self.many = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_new_once_however_many_there_are() {
        let mut keys = Keys::default();
        let names: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
        for round in 0..2 {
            for name in &names {
                assert_eq!(keys.insert(name.as_bytes()), round == 0, "{name} in round {round}");
            }
        }
        keys.clear();
        assert!(!keys.contains(b"k1") && !keys.contains(b"k99"));
    }
}
