//! Lone surrogates become U+FFFD, in place.
//!
//! Dart writes half an emoji as `"\ud83d"`: legal by JSON's grammar, no character by Unicode's, and
//! refused by every strict parser. Such an escape is as long as `\ufffd`, so it is overwritten
//! before the body is parsed, and one cut emoji doesn't cost a batch. Backslashes stand in strings
//! only, so looking at them alone is enough; a body where they don't is no JSON anyway.

use memchr::memchr;

/// Overwrites every escape of a lone surrogate. How many there were.
pub fn repair(body: &mut [u8]) -> usize {
    let mut repaired = 0;
    let mut at = 0;
    while let Some(found) = body.get(at..).and_then(|rest| memchr(b'\\', rest)) {
        let escape = at + found;
        at = escape + 2;
        let Some(unit) = code_unit(body, escape) else {
            continue;
        };
        at = escape + 6;
        match unit {
            0xD800..=0xDBFF if code_unit(body, escape + 6).is_some_and(|low| (0xDC00..=0xDFFF).contains(&low)) => {
                at = escape + 12;
            }
            0xD800..=0xDFFF => {
                if let Some(digits) = body.get_mut(escape + 2..escape + 6) {
                    digits.iter_mut().zip(b"fffd").for_each(|(digit, &replacement)| *digit = replacement);
                    repaired += 1;
                }
            }
            _ => {}
        }
    }
    repaired
}

/// The UTF-16 code unit of the escape `\uXXXX` at `at`, if one stands there.
pub(super) fn code_unit(body: &[u8], at: usize) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = body.get(at..at + 6)? else {
        return None;
    };
    digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(text: &str) -> (String, usize) {
        let mut body = text.as_bytes().to_vec();
        let count = repair(&mut body);
        (String::from_utf8(body).unwrap(), count)
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character() {
        assert_eq!(repaired(r#""\ud83d""#), (r#""\ufffd""#.to_owned(), 1));
        assert_eq!(repaired(r#""\uDE00 x""#), (r#""\ufffd x""#.to_owned(), 1));
        assert_eq!(repaired(r#""\ud83d\ud83d\ude00""#), (r#""\ufffd\ud83d\ude00""#.to_owned(), 1));
        assert_eq!(repaired(r#""\ud83d\n""#), (r#""\ufffd\n""#.to_owned(), 1));
    }

    #[test]
    fn everything_else_stays() {
        for text in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\u00e9""#, r#""\ud83""#, r#""\\\\""#, r"\", r"\u", ""] {
            assert_eq!(repaired(text), (text.to_owned(), 0), "{text}");
        }
        // An escaped backslash followed by a real escape.
        assert_eq!(repaired(r#""\\\ud83d""#).1, 1);
    }
}
