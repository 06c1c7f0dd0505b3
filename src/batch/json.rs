//! A pull parser over the body: jiter, with the few things that this project needs on top.
//!
//! Strings are borrowed from the body where they have no escapes, numbers keep their text, and
//! what a client can make go wrong is one error, [`NotJson`]. Recursion is the caller's, and
//! bounded by it; what it doesn't descend into is skipped with a bound of its own.

use jiter::{Jiter, JiterErrorType, JsonErrorType, Peek};
use std::borrow::Cow;

/// The body is no JSON, or nested deeper than the parser follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// A string's bytes; always UTF-8.
pub type Text<'a> = Cow<'a, [u8]>;

/// Values that nobody descends into may be nested so deep: the VM's stack is 1 MiB, and serde_json
/// stops at 128.
const DEEPEST: usize = 200;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A number, as faithfully as its kind allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number<'a> {
    /// A whole number within 64 bits, signed.
    Int(i64),
    /// A number with fraction or exponent.
    Double(f64),
    /// Any other, as it was sent.
    Text(&'a [u8]),
}

/// The body, and how far it has been read.
pub struct Json<'a> {
    body: &'a [u8],
    /// Where in `body` the inner parser's data begins.
    base: usize,
    inner: Jiter<'a>,
}

impl<'a> Json<'a> {
    /// Begins at the start of `body`.
    #[inline]
    pub fn new(body: &'a [u8]) -> Json<'a> {
        Json { body, base: 0, inner: Jiter::new(body) }
    }

    /// The bytes read so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.base + self.inner.current_index()
    }

    /// The body's text from `start` to here.
    #[inline]
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.body.get(start..self.position()).unwrap_or_default()
    }

    #[inline]
    fn look(&mut self) -> Result<Peek, NotJson> {
        self.inner.peek().map_err(|_| NotJson)
    }

    /// Makes sure of what comes next, so that jiter need not: it would say of what type a number is that
    /// stands in its place, and bring a second parser of floating-point numbers for that.
    #[inline]
    fn expect(&mut self, expected: Peek) -> Result<(), NotJson> {
        if self.look()? == expected { Ok(()) } else { Err(NotJson) }
    }

    /// What comes next; white space before it is passed over.
    ///
    /// # Errors
    /// Nothing that could begin a value.
    #[inline]
    pub fn peek(&mut self) -> Result<Kind, NotJson> {
        Ok(match self.look()? {
            Peek::Null => Kind::Null,
            Peek::True | Peek::False => Kind::Bool,
            Peek::String => Kind::String,
            Peek::Array => Kind::Array,
            Peek::Object => Kind::Object,
            Peek::Infinity | Peek::NaN => return Err(NotJson),
            number if number.is_num() => Kind::Number,
            _ => return Err(NotJson),
        })
    }

    /// Reads `null`.
    ///
    /// # Errors
    /// Something else.
    #[inline]
    pub fn null(&mut self) -> Result<(), NotJson> {
        self.expect(Peek::Null)?;
        self.inner.known_null().map_err(|_| NotJson)
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// Something else.
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, NotJson> {
        match self.look()? {
            Peek::True => self.inner.known_bool(Peek::True).map_err(|_| NotJson),
            Peek::False => self.inner.known_bool(Peek::False).map_err(|_| NotJson),
            _ => Err(NotJson),
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// Something else, or a string that isn't UTF-8 or has an escape that there isn't.
    #[inline]
    pub fn text(&mut self) -> Result<Text<'a>, NotJson> {
        self.expect(Peek::String)?;
        let text = self.inner.known_str().map_err(|_| NotJson)?;
        Ok(borrow(self.body, text))
    }

    /// Reads a number.
    ///
    /// # Errors
    /// Something else.
    #[inline]
    pub fn number(&mut self) -> Result<Number<'a>, NotJson> {
        Ok(number(self.digits()?))
    }

    /// The text of a number.
    #[inline]
    fn digits(&mut self) -> Result<&'a [u8], NotJson> {
        let peek = self.look()?;
        let start = self.position();
        match self.inner.known_number_bytes(peek) {
            Ok(_) => {}
            // jiter stops at some thousand digits; JSON doesn't.
            Err(error) if matches!(error.error_type, JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange)) => {
                self.skip_digits(start)?
            }
            Err(_) => return Err(NotJson),
        }
        Ok(self.since(start))
    }

    /// Passes over a number with a very long run of digits: what follows it is read by a parser that
    /// begins there.
    fn skip_digits(&mut self, start: usize) -> Result<(), NotJson> {
        let rest = self.body.get(start..).unwrap_or_default();
        let length = number_length(rest).ok_or(NotJson)?;
        self.base = start + length;
        self.inner = Jiter::new(self.body.get(self.base..).unwrap_or_default());
        Ok(())
    }

    /// Passes over any value.
    ///
    /// # Errors
    /// What isn't JSON, or is nested deeper than [`DEEPEST`].
    pub fn skip(&mut self) -> Result<(), NotJson> {
        self.skip_within(DEEPEST)
    }

    fn skip_within(&mut self, levels: usize) -> Result<(), NotJson> {
        match self.peek()? {
            Kind::Null => self.null()?,
            Kind::Bool => drop(self.boolean()?),
            Kind::Number => drop(self.digits()?),
            Kind::String => drop(self.inner.known_str().map_err(|_| NotJson)?),
            Kind::Array => {
                let inside = levels.checked_sub(1).ok_or(NotJson)?;
                let mut more = self.array()?;
                while more {
                    self.skip_within(inside)?;
                    more = self.next_element()?;
                }
            }
            Kind::Object => {
                let inside = levels.checked_sub(1).ok_or(NotJson)?;
                let mut more = self.inner.known_object().map_err(|_| NotJson)?.is_some();
                while more {
                    self.skip_within(inside)?;
                    more = self.inner.next_key().map_err(|_| NotJson)?.is_some();
                }
            }
        }
        Ok(())
    }

    /// Any value as its text.
    ///
    /// # Errors
    /// As [`Json::skip`].
    pub fn raw(&mut self) -> Result<&'a [u8], NotJson> {
        self.look()?;
        let start = self.position();
        self.skip()?;
        Ok(self.since(start))
    }

    /// Enters an array. `true`: there is an element to read.
    ///
    /// # Errors
    /// No array here.
    #[inline]
    pub fn array(&mut self) -> Result<bool, NotJson> {
        self.expect(Peek::Array)?;
        self.inner.known_array().map(|first| first.is_some()).map_err(|_| NotJson)
    }

    /// After an element: `true`, there is another.
    ///
    /// # Errors
    /// Neither a comma with a value behind it nor the end.
    #[inline]
    pub fn next_element(&mut self) -> Result<bool, NotJson> {
        self.inner.array_step().map(|next| next.is_some()).map_err(|_| NotJson)
    }

    /// Enters an object: its first key, unless it is empty.
    ///
    /// # Errors
    /// No object here.
    #[inline]
    pub fn object(&mut self) -> Result<Option<Text<'a>>, NotJson> {
        self.expect(Peek::Object)?;
        let key = self.inner.known_object().map_err(|_| NotJson)?;
        Ok(key.map(|key| borrow(self.body, key)))
    }

    /// After a field's value: the next key, or `None` at the end of the object.
    ///
    /// # Errors
    /// Neither a comma with a key behind it nor the end.
    #[inline]
    pub fn next_key(&mut self) -> Result<Option<Text<'a>>, NotJson> {
        let key = self.inner.next_key().map_err(|_| NotJson)?;
        Ok(key.map(|key| borrow(self.body, key)))
    }

    /// Makes sure that nothing but white space follows.
    ///
    /// # Errors
    /// Something does.
    #[inline]
    pub fn end(&mut self) -> Result<(), NotJson> {
        self.inner.finish().map_err(|_| NotJson)
    }
}

/// jiter lends a string for as long as it isn't called again. Most are slices of the body, and
/// those can be had for as long as the body lasts.
#[inline]
fn borrow<'a>(body: &'a [u8], text: &str) -> Text<'a> {
    let offset = (text.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    let end = offset.wrapping_add(text.len());
    match body.get(offset..end) {
        // The address decides, so a slice of the same place is the same bytes.
        Some(slice) if offset < body.len() => Cow::Borrowed(slice),
        _ => Cow::Owned(text.as_bytes().to_vec()),
    }
}

/// The length of the number that a text begins with (RFC 8259, 6).
fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |at: usize| text.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text.get(at) == Some(&b'0')) {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at = if fraction > 0 { at + 1 + fraction } else { return None };
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        at = if exponent > 0 { at + 1 + sign + exponent } else { return None };
    }
    Some(at)
}

#[inline]
fn number(text: &[u8]) -> Number<'_> {
    let as_text = std::str::from_utf8(text).unwrap_or_default();
    if text.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        return match as_text.parse::<f64>() {
            Ok(double) if double.is_finite() => Number::Double(double),
            _ => Number::Text(text),
        };
    }
    as_text.parse().map_or(Number::Text(text), Number::Int)
}
