//! What the texts of some fields mean: levels and ids.

use super::Tally;
use crate::batch::json::Text;
use crate::stats::Oddity;

/// The severity number and text of a level, in any case; 0 and the text itself where there is none.
pub fn severity<'a>(level: Text<'a>, tally: &mut Tally) -> (u64, Text<'a>) {
    let known: [(&[u8], u64, &'static [u8]); 8] = [
        (b"info", 9, b"INFO"),
        (b"debug", 5, b"DEBUG"),
        (b"warning", 13, b"WARN"),
        (b"error", 17, b"ERROR"),
        (b"trace", 1, b"TRACE"),
        (b"fatal", 21, b"FATAL"),
        (b"warn", 13, b"WARN"),
        (b"critical", 21, b"FATAL"),
    ];
    for (name, number, text) in known {
        if level.eq_ignore_ascii_case(name) {
            return (number, text);
        }
    }
    tally.one(Oddity::UnknownLevel);
    (0, level)
}

/// `N` bytes from twice as many hex digits, not all zero.
pub fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != N {
        return None;
    }
    let mut id = [0u8; N];
    for (byte, [high, low]) in id.iter_mut().zip(pairs) {
        let digit = |b: &u8| char::from(*b).to_digit(16);
        *byte = (digit(high)? * 16 + digit(low)?) as u8;
    }
    (id != [0u8; N]).then_some(id)
}
