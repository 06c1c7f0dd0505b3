//! Protobuf's wire format, written front to back.
//!
//! A message whose length isn't known yet gets one byte for it; if it grows past 127 bytes it is
//! moved to make room, so the output is canonical: the shortest varints, as prost would write them.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// A message that is being written.
#[must_use]
pub struct Open(usize);

/// Begins a message field.
#[inline]
pub fn begin(out: &mut Vec<u8>, tag: u32) -> Open {
    encode_key(tag, WireType::LengthDelimited, out);
    out.push(0);
    Open(out.len())
}

/// Ends it: writes its length.
#[inline]
pub fn end(out: &mut Vec<u8>, open: Open) {
    let start = open.0;
    let len = out.len().saturating_sub(start);
    let room = encoded_len_varint(len as u64);
    if room > 1 {
        let written = out.len();
        out.resize(written + room - 1, 0);
        out.copy_within(start..written, start + room - 1);
    }
    let mut rest = len;
    for byte in out.iter_mut().skip(start.saturating_sub(1)).take(room) {
        let more = if rest > 0x7f { 0x80 } else { 0 };
        *byte = (rest & 0x7f) as u8 | more;
        rest >>= 7;
    }
}

/// Key and length of a length-delimited field whose `len` bytes the caller writes.
#[inline]
pub fn head(out: &mut Vec<u8>, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// A string, bytes or message field.
#[inline]
pub fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    head(out, tag, value.len());
    out.extend_from_slice(value);
}

/// A string field of a plain message; left out where it is empty, which is its default.
#[inline]
pub fn string(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        bytes(out, tag, value);
    }
}

/// The length of a field of `len` bytes with its head.
#[inline]
pub fn message_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

/// The length that [`string`] writes.
#[inline]
pub fn string_len(tag: u32, value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { message_len(tag, value.len()) }
}

/// An unsigned field; left out where it is 0, which is its default.
#[inline]
pub fn uint(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        varint(out, tag, value);
    }
}

/// A varint field, written whatever its value: for members of a `oneof`.
#[inline]
pub fn varint(out: &mut Vec<u8>, tag: u32, value: u64) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

/// A time in nanoseconds; left out where it is 0, which is its default.
pub fn time(out: &mut Vec<u8>, tag: u32, nanos: u64) {
    if nanos != 0 {
        fixed64(out, tag, nanos);
    }
}

/// A fixed64 or double field, given its bits, written whatever they are: for members of a `oneof`.
#[inline]
pub fn fixed64(out: &mut Vec<u8>, tag: u32, bits: u64) {
    encode_key(tag, WireType::SixtyFourBit, out);
    out.extend_from_slice(&bits.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_length_has_the_shortest_head() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let payload = vec![7u8; len];
            let mut open = b"before".to_vec();
            let message = begin(&mut open, 3);
            open.extend_from_slice(&payload);
            end(&mut open, message);
            let mut known = b"before".to_vec();
            bytes(&mut known, 3, &payload);
            assert!(open == known, "{len}");
            assert_eq!(known.len() - 6, message_len(3, len));
        }
    }
}
