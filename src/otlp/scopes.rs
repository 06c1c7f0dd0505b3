//! The loggers of a batch, in the order in which they first appear, and whose the records are.

use super::entry::Entry;
use super::wire;
use crate::batch::json::Text;
use std::collections::HashMap;
use std::iter::successors;

/// Up to here comparing is cheaper than hashing.
const FEW: usize = 16;

/// A logger.
#[derive(Debug)]
pub struct Scope<'a> {
    /// Its name; empty for records without one.
    pub name: Text<'a>,
    /// Its first and last record, by their places in the batch.
    first: usize,
    last: usize,
}

impl<'a> Scope<'a> {
    /// Its records, in the client's order.
    pub fn entries<'e>(&self, entries: &'e [Entry<'a>]) -> impl Iterator<Item = &'e Entry<'a>> {
        successors(entries.get(self.first), |entry| entries.get(entry.next?))
    }
}

/// The loggers of a batch.
#[derive(Debug, Default)]
pub struct Scopes<'a> {
    scopes: Vec<Scope<'a>>,
    /// Where those beyond the first few stand.
    many: HashMap<Text<'a>, usize>,
}

impl<'a> Scopes<'a> {
    /// Adds the record at `place`, which is the last.
    pub fn add(&mut self, name: Text<'a>, place: usize, entries: &mut [Entry<'a>]) {
        let found = self.scopes.iter().take(FEW).position(|scope| scope.name == name).or_else(|| self.many.get(name).copied());
        if let Some(scope) = found.and_then(|index| self.scopes.get_mut(index)) {
            if let Some(before) = entries.get_mut(scope.last) {
                before.next = Some(place);
            }
            scope.last = place;
            return;
        }
        let index = self.scopes.len();
        if index >= FEW {
            self.many.insert(name, index);
        }
        self.scopes.push(Scope { name, first: place, last: place });
    }

    /// In the order of their first records.
    pub fn iter(&self) -> impl Iterator<Item = &Scope<'a>> {
        self.scopes.iter()
    }

    /// The length of each one's `ScopeLogs`.
    pub fn lengths(&self, entries: &[Entry<'a>]) -> Vec<usize> {
        let len = |scope: &Scope<'a>| {
            let records: usize = scope.entries(entries).map(|entry| wire::message_len(entry.len)).sum();
            wire::message_len(wire::string_len(scope.name)) + records
        };
        self.scopes.iter().map(len).collect()
    }
}
