//! Protobuf's wire format, written front to back.
//!
//! Where a message's length is known it is written first. One whose length isn't gets one byte for it; if
//! it grows past 127 bytes it is moved to make room, so the output is canonical either way: the shortest
//! varints, as prost would write them. Field numbers are below 16 throughout, so a key is one byte.

use super::out::Out;
use prost::encoding::{encode_varint, encoded_len_varint};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// The key of a length-delimited field.
pub const fn key(tag: u32) -> u8 {
    (tag << 3 | LENGTH_DELIMITED) as u8
}

#[inline(always)]
fn any_key(out: &mut Out, tag: u32, wire_type: u32) {
    out.push((tag << 3 | wire_type) as u8);
}

#[inline(always)]
fn number(out: &mut Out, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        long(out, value);
    }
}

#[inline(never)]
fn long(out: &mut Out, value: u64) {
    let mut bytes = [0u8; 10];
    let mut rest = &mut bytes[..];
    encode_varint(value, &mut rest);
    let written = 10 - rest.len();
    out.put(bytes.get(..written).unwrap_or_default());
}

/// The length of a varint.
#[inline(always)]
pub fn number_len(value: u64) -> usize {
    if value < 0x80 { 1 } else { encoded_len_varint(value) }
}

/// A message that is being written.
#[must_use]
pub struct Open(usize);

/// Begins a message field.
#[inline]
pub fn begin(out: &mut Out, tag: u32) -> Open {
    out.push(key(tag));
    out.push(0);
    Open(out.len())
}

/// Ends it: writes its length.
#[inline]
pub fn end(out: &mut Out, open: Open) {
    let start = open.0;
    let len = out.len().saturating_sub(start);
    let room = number_len(len as u64);
    if room > 1 {
        out.shift(start, room - 1);
    }
    let mut rest = len;
    for at in (start.saturating_sub(1)..).take(room) {
        let more = if rest > 0x7f { 0x80 } else { 0 };
        out.set(at, (rest & 0x7f) as u8 | more);
        rest >>= 7;
    }
}

/// Key and length of a length-delimited field whose `len` bytes the caller writes.
#[inline(always)]
pub fn head(out: &mut Out, tag: u32, len: usize) {
    out.push(key(tag));
    number(out, len as u64);
}

/// A string, bytes or message field.
#[inline(always)]
pub fn bytes(out: &mut Out, tag: u32, value: &[u8]) {
    head(out, tag, value.len());
    out.put(value);
}

/// A string field of a plain message; left out where it is empty, which is its default.
#[inline(always)]
pub fn string(out: &mut Out, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        bytes(out, tag, value);
    }
}

/// The length of a field of `len` bytes with its head.
#[inline(always)]
pub fn message_len(len: usize) -> usize {
    1 + number_len(len as u64) + len
}

/// The length that [`string`] writes.
#[inline(always)]
pub fn string_len(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { message_len(value.len()) }
}

/// An unsigned field; left out where it is 0, which is its default.
#[inline(always)]
pub fn uint(out: &mut Out, tag: u32, value: u64) {
    if value != 0 {
        varint(out, tag, value);
    }
}

/// The length that [`uint`] writes.
#[inline(always)]
pub fn uint_len(value: u64) -> usize {
    if value == 0 { 0 } else { varint_len(value) }
}

/// A varint field, written whatever its value: for members of a `oneof`.
#[inline(always)]
pub fn varint(out: &mut Out, tag: u32, value: u64) {
    any_key(out, tag, VARINT);
    number(out, value);
}

/// The length that [`varint`] writes.
#[inline(always)]
pub fn varint_len(value: u64) -> usize {
    1 + number_len(value)
}

/// A time in nanoseconds; left out where it is 0, which is its default.
#[inline(always)]
pub fn time(out: &mut Out, tag: u32, nanos: u64) {
    if nanos != 0 {
        fixed64(out, tag, nanos);
    }
}

/// The length that [`time`] writes.
#[inline(always)]
pub fn time_len(nanos: u64) -> usize {
    if nanos == 0 { 0 } else { FIXED64_LEN }
}

/// A fixed64 or double field, given its bits, written whatever they are: for members of a `oneof`.
#[inline(always)]
pub fn fixed64(out: &mut Out, tag: u32, bits: u64) {
    any_key(out, tag, FIXED64);
    out.array(&bits.to_le_bytes());
}

/// The length that [`fixed64`] writes.
pub const FIXED64_LEN: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_length_has_the_shortest_head() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let payload = vec![7u8; len];
            let mut open = Out::default();
            open.put(b"before");
            let message = begin(&mut open, 3);
            open.put(&payload);
            end(&mut open, message);
            let mut known = Out::default();
            known.put(b"before");
            bytes(&mut known, 3, &payload);
            assert!(open.as_slice() == known.as_slice(), "{len}");
            assert_eq!(known.len() - 6, message_len(len));
        }
    }

    #[test]
    fn lengths_are_what_is_written() {
        let written = |write: &dyn Fn(&mut Out)| {
            let mut out = Out::default();
            write(&mut out);
            out.len()
        };
        for value in [0, 1, 127, 128, 300, 1 << 32, u64::MAX] {
            assert_eq!(written(&|out| varint(out, 1, value)), varint_len(value));
            assert_eq!(written(&|out| uint(out, 1, value)), uint_len(value));
            assert_eq!(written(&|out| time(out, 1, value)), time_len(value));
            assert_eq!(written(&|out| fixed64(out, 1, value)), FIXED64_LEN);
        }
        for text in [&b""[..], b"a", &[b'a'; 200]] {
            assert_eq!(written(&|out| string(out, 1, text)), string_len(text));
        }
    }
}
