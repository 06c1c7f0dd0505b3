//! How a record ends, where the next one is likely to end the same.
//!
//! Who sent a record stands in each of a client's, behind what is the record's own, and with it a row of
//! fields that have no value. Where such an end stands once more, byte for byte, comparing it is a fraction
//! of reading it, and what comes of it is copied.

use std::ops::Range;

/// A shorter one isn't worth the comparison.
const LEAST: usize = 32;

/// Where a tail may begin: at a field, and what the record's state is there.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Which field it is.
    pub place: usize,
    /// Where its text begins.
    pub at: usize,
    /// Where the attributes that are written from here on will begin, and how many of the filter's own
    /// there are.
    pub written: (usize, u64),
    /// Fields that had been seen, and those that had a value.
    pub seen: u32,
    /// Those that had a value.
    pub filled: u32,
}

/// The end of a record, and what came of it. Of its fields nothing comes but what is here: none was odd,
/// and none was given the client's name.
#[derive(Debug)]
pub struct Tail<'a> {
    /// Which field it begins with.
    pub place: usize,
    /// From there to the brace that ends the record.
    pub text: &'a [u8],
    /// Its attributes, encoded.
    pub attributes: Range<usize>,
    /// How many they are, all of them the filter's own.
    pub own: u64,
    /// Fields that it has, by spelling.
    pub seen: u32,
    /// Those that have a value.
    pub filled: u32,
}

impl<'a> Tail<'a> {
    /// What has the `text` since the mark; `written` as there, but after it. `None`: it is too short.
    pub fn new(mark: Mark, text: &'a [u8], written: (usize, u64), (seen, filled): (u32, u32)) -> Option<Tail<'a>> {
        let (start, before) = mark.written;
        let (end, own) = written;
        let tail = Tail { place: mark.place, text, attributes: start..end, own: own.saturating_sub(before), seen, filled };
        (text.len() >= LEAST).then_some(tail)
    }
}
