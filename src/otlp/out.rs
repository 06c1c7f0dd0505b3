//! A buffer that is written front to back, in pieces of which most are a few bytes long.
//!
//! A `Vec` is the same, but to append to it is a call, and in WebAssembly one that ends in a call out of
//! the VM's code. Here there is room ahead, and what is short is stored in steps of a length that is known.

use std::io::Write;
use std::ops::Range;

/// What has been written, and room for more.
#[derive(Debug, Default)]
pub struct Out {
    /// Room behind `len`.
    bytes: Vec<u8>,
    len: usize,
}

/// Pieces up to here are stored in steps; longer ones are worth a call.
const SHORT: usize = 64;

/// The first growth.
const LEAST: usize = 128;

impl Out {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Out {
        Out { bytes: vec![0; bytes], len: 0 }
    }

    /// Forgets what has been written, and makes room for so many bytes.
    pub fn empty(&mut self, bytes: usize) {
        self.len = 0;
        self.reserve(bytes);
    }

    /// How much can be written without taking more memory.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// How much has been written.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What has been written.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// What has been written.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    /// Appends one byte.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.array(&[byte]);
    }

    /// Appends bytes whose number is known.
    #[inline(always)]
    pub fn array<const N: usize>(&mut self, bytes: &[u8; N]) {
        match self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
            Some(place) => {
                *place = *bytes;
                self.len += N;
            }
            None => self.long(bytes),
        }
    }

    /// Appends bytes.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        match self.bytes.get_mut(self.len..).and_then(|room| room.get_mut(..len)) {
            Some(place) if len <= SHORT => {
                self.len += len;
                copy(bytes, place);
            }
            _ => self.long(bytes),
        }
    }

    #[inline(never)]
    fn long(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let end = self.len + bytes.len();
        if let Some(mut room) = self.bytes.get_mut(self.len..end) {
            // A copy of memory that can't panic. The room is as long as what is written, so it can't fail;
            // a loop stays one where code is made small, and took a fifth of the mapping.
            let _ = room.write(bytes);
            self.len = end;
        }
    }

    /// Appends what stands there once more.
    pub fn again(&mut self, range: Range<usize>) {
        let len = range.len();
        if range.start > range.end || range.end > self.len {
            return;
        }
        self.reserve(len);
        self.bytes.copy_within(range, self.len);
        self.len += len;
    }

    /// Makes room for so many bytes.
    fn reserve(&mut self, more: usize) {
        let end = self.len + more;
        if end > self.bytes.len() {
            self.bytes.resize(end.max(2 * self.bytes.len()).max(LEAST), 0);
        }
    }

    /// Moves what stands from `start` on by `by` bytes; what is there then is to be overwritten.
    pub fn shift(&mut self, start: usize, by: usize) {
        let end = self.len;
        for _ in 0..by {
            self.push(0);
        }
        if start <= end {
            self.bytes.copy_within(start..end, start + by);
        }
    }

    /// Overwrites one byte that has been written.
    #[inline(always)]
    pub fn set(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.bytes.get_mut(at) {
            *place = byte;
        }
    }

    /// Takes out what stands there.
    pub fn remove(&mut self, range: Range<usize>) {
        if range.start <= range.end && range.end <= self.len {
            self.bytes.copy_within(range.end..self.len, range.start);
            self.len -= range.len();
        }
    }
}

/// Copies between slices of the same length, which is at most [`SHORT`]: a first and a last piece of a
/// length that is known, which may overlap, and what is between them.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8]) {
    if let Some(last) = from.last_chunk::<16>() {
        let (mut rest, mut room) = (from, &mut *to);
        while let (Some((piece, after)), Some((place, more))) = (rest.split_first_chunk::<16>(), room.split_first_chunk_mut::<16>()) {
            *place = *piece;
            (rest, room) = (after, more);
        }
        if let Some(place) = to.last_chunk_mut() {
            *place = *last;
        }
    } else if !ends::<8>(from, to) && !ends::<4>(from, to) {
        for (place, &byte) in to.iter_mut().zip(from) {
            *place = byte;
        }
    }
}

/// Copies the first and the last `N` bytes. `false`: there aren't so many.
#[inline(always)]
fn ends<const N: usize>(from: &[u8], to: &mut [u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
    if let Some(place) = to.first_chunk_mut() {
        *place = *first;
    }
    if let Some(place) = to.last_chunk_mut() {
        *place = *last;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_vec_would(
            room in 0usize..300,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..12),
        ) {
            let mut out = Out::with_capacity(room);
            let mut vec = Vec::new();
            for piece in &pieces {
                out.put(piece);
                out.push(7);
                out.array(&[1, 2, 3, 4]);
                vec.extend_from_slice(piece);
                vec.extend_from_slice(&[7, 1, 2, 3, 4]);
                prop_assert_eq!((out.as_slice(), out.len()), (&vec[..], vec.len()));
            }
            if vec.len() > 4 {
                out.remove(1..3);
                vec.drain(1..3);
                out.shift(2, 3);
                vec.splice(2..2, vec[2..].iter().copied().chain([0; 3]).take(3).collect::<Vec<_>>());
                prop_assert_eq!(out.as_slice().get(5..), vec.get(5..));
                out.set(0, 9);
                prop_assert_eq!(out.as_slice()[0], 9);
            }
            let len = out.len();
            prop_assert_eq!(out.into_vec().len(), len);
        }
    }
}
