//! JSON's strings: where one ends, and what its escapes stand for.

use super::super::repair::code_unit;
use super::{NotJson, Text};
use bumpalo::Bump;

/// Where the first byte stands from `from` on that ends a run of plain ones, or where the body ends: a quote, a
/// backslash, a control character, and with `ASCII` also what isn't ASCII.
#[inline(always)]
fn run<const ASCII: bool>(body: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = body.get(at..).and_then(<[u8]>::first_chunk) {
        let place = vector::first::<ASCII>(chunk);
        at += place;
        if place < vector::STEP {
            return at;
        }
    }
    let ends = |byte: u8| matches!(byte, b'"' | b'\\' | 0..b' ') || ASCII && byte >= 0x80;
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| ends(byte)).unwrap_or(rest.len())
}

/// Sixteen bytes at once, with WebAssembly's vector instructions.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod vector {
    use std::arch::wasm32::{i8x16_lt, i8x16_splat, u8x16_bitmask, u8x16_eq, u8x16_lt, u8x16_splat, u64x2, v128_or};

    /// Bytes that are looked at together.
    pub const STEP: usize = 16;

    /// The place of the first byte that ends a run; [`STEP`] if none does.
    #[inline(always)]
    pub fn first<const ASCII: bool>(chunk: &[u8; STEP]) -> usize {
        let bytes = u128::from_le_bytes(*chunk);
        let bytes = u64x2(bytes as u64, (bytes >> 64) as u64);
        let controls = if ASCII { i8x16_lt(bytes, i8x16_splat(0x20)) } else { u8x16_lt(bytes, u8x16_splat(0x20)) };
        let marks = v128_or(u8x16_eq(bytes, u8x16_splat(b'"')), u8x16_eq(bytes, u8x16_splat(b'\\')));
        (u32::from(u8x16_bitmask(v128_or(controls, marks))) | 1 << STEP).trailing_zeros() as usize
    }
}

/// Eight bytes at once, with arithmetic on whole words.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod vector {
    /// Bytes that are looked at together.
    pub const STEP: usize = 8;

    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; STEP])
    }

    /// The place of the first byte that ends a run; [`STEP`] if none does. Bytes behind that may be marked
    /// without cause, since the subtractions borrow from them.
    #[inline(always)]
    pub fn first<const ASCII: bool>(chunk: &[u8; STEP]) -> usize {
        let bytes = u64::from_le_bytes(*chunk);
        let quote = bytes ^ each(b'"');
        let backslash = bytes ^ each(b'\\');
        let marks = quote.wrapping_sub(each(1)) & !quote | backslash.wrapping_sub(each(1)) & !backslash;
        let controls = bytes.wrapping_sub(each(b' ')) & !bytes;
        let others = if ASCII { bytes } else { 0 };
        ((marks | controls | others) & each(0x80)).trailing_zeros() as usize / 8
    }
}

/// The string whose opening quote stands just before `start`, and where what follows it begins.
///
/// # Errors
/// One that doesn't end, holds a control character or an escape that there isn't, or isn't UTF-8.
#[inline(always)]
pub fn read<'a>(body: &'a [u8], start: usize, arena: &'a Bump) -> Result<(Text<'a>, usize), NotJson> {
    let end = run::<true>(body, start);
    if body.get(end) == Some(&b'"') {
        return Ok((body.get(start..end).unwrap_or_default(), end + 1));
    }
    unusual(body, start, end, arena)
}

/// The same for a string with an escape or what isn't ASCII at `end`.
#[inline(never)]
fn unusual<'a>(body: &'a [u8], start: usize, end: usize, arena: &'a Bump) -> Result<(Text<'a>, usize), NotJson> {
    let end = run::<false>(body, end);
    let (text, end) = if body.get(end) == Some(&b'"') {
        (body.get(start..end).unwrap_or_default(), end)
    } else {
        let (text, end) = unescape(body, start, end)?;
        (&*arena.alloc_slice_copy(&text), end)
    };
    if std::str::from_utf8(text).is_err() {
        return Err(NotJson);
    }
    Ok((text, end + 1))
}

/// A string whose first run of plain bytes ends at `end`, without its escapes, and where its quote stands.
fn unescape(body: &[u8], start: usize, end: usize) -> Result<(Vec<u8>, usize), NotJson> {
    let (mut start, mut end) = (start, end);
    let mut text = Vec::with_capacity(2 * (end - start) + 32);
    loop {
        text.extend_from_slice(body.get(start..end).unwrap_or_default());
        match body.get(end) {
            Some(b'"') => return Ok((text, end)),
            Some(b'\\') => start = escape(body, end, &mut text)?,
            _ => return Err(NotJson),
        }
        end = run::<false>(body, start);
    }
}

/// Adds what the escape at `at` stands for. Where the escape ends.
fn escape(body: &[u8], at: usize, text: &mut Vec<u8>) -> Result<usize, NotJson> {
    text.push(match body.get(at + 1) {
        Some(&same @ (b'"' | b'\\' | b'/')) => same,
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 8,
        Some(b'f') => 12,
        _ => return unicode(body, at, text),
    });
    Ok(at + 2)
}

/// The same for an escape that gives one or two UTF-16 code units.
fn unicode(body: &[u8], at: usize, text: &mut Vec<u8>) -> Result<usize, NotJson> {
    let first = code_unit(body, at).ok_or(NotJson)?;
    let (scalar, end) = match first {
        0xD800..=0xDBFF => {
            let second = code_unit(body, at + 6).filter(|unit| (0xDC00..=0xDFFF).contains(unit)).ok_or(NotJson)?;
            (0x10000 + ((first - 0xD800) << 10 | (second - 0xDC00)), at + 12)
        }
        _ => (first, at + 6),
    };
    let character = char::from_u32(scalar).ok_or(NotJson)?;
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_ends_where_one_that_looks_at_each_byte_says(
            mut body in proptest::collection::vec(prop_oneof![4 => 0x20u8..0x7f, 1 => any::<u8>()], 0..60),
            from in 0usize..10,
        ) {
            body.extend(std::iter::repeat_n(b'"', from % 3));
            let rest = body.get(from..).unwrap_or_default();
            let place = |ends: fn(u8) -> bool| from + rest.iter().position(|&b| ends(b)).unwrap_or(rest.len());
            prop_assert_eq!(run::<false>(&body, from), place(|b| matches!(b, b'"' | b'\\' | 0..0x20)));
            prop_assert_eq!(run::<true>(&body, from), place(|b| matches!(b, b'"' | b'\\' | 0..0x20 | 0x80..)));
        }
    }

    #[test]
    fn every_byte_ends_a_run_or_does_not_wherever_it_stands() {
        for byte in 0..=255u8 {
            for place in 0..40 {
                let mut body = [b'a'; 40];
                body[place] = byte;
                let special = matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(run::<false>(&body, 0), if special { place } else { 40 }, "{byte} at {place}");
                assert_eq!(run::<true>(&body, 0), if special || byte >= 0x80 { place } else { 40 }, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn escapes() {
        let arena = Bump::new();
        let read = |text: &str| read(text.as_bytes(), 0, &arena).map(|(text, end)| (String::from_utf8(text.to_vec()).unwrap(), end));
        assert_eq!(read(r#"\"\\\/\b\f\n\r\t""#), Ok(("\"\\/\u{8}\u{c}\n\r\t".to_owned(), 17)));
        assert_eq!(read(r#"\u00e9\uD83d\uDe00é\u0000"x"#), Ok(("é😀é\0".to_owned(), 27)));
        for bad in
            [r#"\x""#, r#"\ud83d""#, r#"\ud83dx""#, r#"\ud83d\u0041""#, r#"\ude00""#, r#"\u12g4""#, r#"\u123"#, r"\", "", "a", "\n\""]
        {
            assert_eq!(read(bad), Err(NotJson), "{bad}");
        }
        assert_eq!(super::read(b"\xe2\\u0041\"", 0, &arena), Err(NotJson));
    }
}
