//! JSON's numbers: where one ends, and what it is.

use super::{NotJson, Number};

/// So many digits are always a whole number within 64 bits.
const FEW: usize = 18;

/// The number that a text begins with (RFC 8259, 6), and its length.
///
/// # Errors
/// There is none.
#[inline]
pub fn read(text: &[u8]) -> Result<(Number<'_>, usize), NotJson> {
    let negative = text.first() == Some(&b'-');
    let first = usize::from(negative);
    let mut at = first;
    let mut value = 0i64;
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
        at += 1;
    }
    let digits = at - first;
    if digits == 0 || (digits > 1 && text.get(first) == Some(&b'0')) {
        return Err(NotJson);
    }
    if digits <= FEW && !matches!(text.get(at), Some(b'.' | b'e' | b'E')) {
        return Ok((Number::Int(if negative { -value } else { value }), at));
    }
    other(text, at)
}

/// A number whose whole part ends at `at`, with more behind it, or a very long one.
fn other(text: &[u8], at: usize) -> Result<(Number<'_>, usize), NotJson> {
    let digits = |at: usize| text.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = at;
    if text.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        end = if fraction > 0 { end + 1 + fraction } else { return Err(NotJson) };
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        end = if exponent > 0 { end + 1 + sign + exponent } else { return Err(NotJson) };
    }
    let text = text.get(..end).unwrap_or_default();
    let as_text = std::str::from_utf8(text).unwrap_or_default();
    let number = if end == at {
        as_text.parse().map_or(Number::Text(text), Number::Int)
    } else {
        match as_text.parse::<f64>() {
            Ok(double) if double.is_finite() => Number::Double(double),
            _ => Number::Text(text),
        }
    };
    Ok((number, end))
}
