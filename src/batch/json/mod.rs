//! A pull parser over the body.
//!
//! Strings are slices of the body, or where they have escapes of an arena beside it; numbers keep the
//! digits that their type can't hold; nothing is built, and what a client can make go wrong is one error,
//! [`NotJson`].
//! Recursion is the caller's, and bounded by it; what it doesn't descend into is skipped with a bound
//! of its own. The parsers to be had were measured first: serde_json builds or drives, and jiter's
//! scanning of strings, which is most of the work, is written for processors that WebAssembly isn't.
//! serde_json is the judge in the tests: what it takes is taken, what it refuses is refused.

mod number;
mod string;

use bumpalo::Bump;

/// The body is no JSON, or nested deeper than the parser follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// A string's bytes; always UTF-8.
pub type Text<'a> = &'a [u8];

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

/// A short piece of a body, to be known again where it stands once more.
#[derive(Clone, Copy, Debug)]
pub struct Print {
    bytes: u128,
    /// Those of the sixteen that count.
    mask: u128,
    len: usize,
}

/// The body, and how far it has been read.
pub struct Json<'a> {
    body: &'a [u8],
    at: usize,
    /// Strings that don't stand in the body as they are.
    arena: &'a Bump,
}

impl<'a> Json<'a> {
    /// Begins at the start of `body`. What is unescaped goes to `arena`: less than the body's length.
    #[inline]
    pub fn new(body: &'a [u8], arena: &'a Bump) -> Json<'a> {
        Json { body, at: 0, arena }
    }

    /// Keeps a text for as long as the body is kept.
    pub fn keep(&self, text: &[u8]) -> Text<'a> {
        self.arena.alloc_slice_copy(text)
    }

    /// The bytes read so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The body's text from `start` to here.
    #[inline]
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.body.get(start..self.at).unwrap_or_default()
    }

    /// The body's text from `start` to here, if it is short enough.
    #[inline]
    pub fn print(&self, start: usize) -> Option<Print> {
        let len = self.at.checked_sub(start).filter(|len| (1..=16).contains(len))?;
        let mask = u128::MAX >> (8 * (16 - len));
        let bytes = u128::from_le_bytes(*self.body.get(start..).and_then(<[u8]>::first_chunk)?) & mask;
        Some(Print { bytes, mask, len })
    }

    /// Passes over a text if it stands here, byte for byte. Whether it did.
    #[inline(always)]
    pub fn again(&mut self, print: &Print) -> bool {
        let Some(here) = self.body.get(self.at..).and_then(<[u8]>::first_chunk) else { return false };
        let same = u128::from_le_bytes(*here) & print.mask == print.bytes;
        self.at += if same { print.len } else { 0 };
        same
    }

    /// The same for a text of any length.
    pub fn again_all(&mut self, text: &[u8]) -> bool {
        let same = self.body.get(self.at..).and_then(|rest| rest.get(..text.len())).is_some_and(|here| equal(here, text));
        self.at += if same { text.len() } else { 0 };
        same
    }

    /// Passes over white space. The byte behind it, which isn't read yet; `None` at the end.
    #[inline(always)]
    fn look(&mut self) -> Option<u8> {
        loop {
            match self.body.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Reads one byte behind white space, which must be `expected`.
    #[inline(always)]
    fn take(&mut self, expected: u8) -> Result<(), NotJson> {
        if self.look() != Some(expected) {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a word behind white space.
    #[inline(always)]
    fn word<const N: usize>(&mut self, word: &[u8; N]) -> Result<(), NotJson> {
        self.look();
        if self.body.get(self.at..).and_then(<[u8]>::first_chunk) != Some(word) {
            return Err(NotJson);
        }
        self.at += N;
        Ok(())
    }

    /// What comes next; white space before it is passed over.
    ///
    /// # Errors
    /// Nothing that could begin a value.
    #[inline]
    pub fn peek(&mut self) -> Result<Kind, NotJson> {
        Ok(match self.look() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => return Err(NotJson),
        })
    }

    /// Reads `null`.
    ///
    /// # Errors
    /// Something else.
    #[inline]
    pub fn null(&mut self) -> Result<(), NotJson> {
        self.word(b"null")
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// Something else.
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, NotJson> {
        if self.look() == Some(b't') { self.word(b"true").map(|()| true) } else { self.word(b"false").map(|()| false) }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// Something else, or a string that isn't UTF-8 or has an escape that there isn't.
    #[inline(always)]
    pub fn text(&mut self) -> Result<Text<'a>, NotJson> {
        self.take(b'"')?;
        let text;
        (text, self.at) = string::read(self.body, self.at, self.arena)?;
        Ok(text)
    }

    /// Reads a number.
    ///
    /// # Errors
    /// Something else.
    #[inline]
    pub fn number(&mut self) -> Result<Number<'a>, NotJson> {
        self.look();
        let (number, length) = number::read(self.body.get(self.at..).unwrap_or_default())?;
        self.at += length;
        Ok(number)
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
            Kind::Number => drop(self.number()?),
            Kind::String => drop(self.text()?),
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
                let mut more = self.object()?.is_some();
                while more {
                    self.skip_within(inside)?;
                    more = self.next_key()?.is_some();
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
        self.look();
        let start = self.at;
        self.skip()?;
        Ok(self.since(start))
    }

    /// Enters an array. `true`: there is an element to read.
    ///
    /// # Errors
    /// No array here.
    #[inline]
    pub fn array(&mut self) -> Result<bool, NotJson> {
        self.take(b'[')?;
        let empty = self.look() == Some(b']');
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// After an element: `true`, there is another, which must be read.
    ///
    /// # Errors
    /// Neither a comma nor the end.
    #[inline]
    pub fn next_element(&mut self) -> Result<bool, NotJson> {
        let more = match self.look() {
            Some(b',') => true,
            Some(b']') => false,
            _ => return Err(NotJson),
        };
        self.at += 1;
        Ok(more)
    }

    /// Enters an object: its first key, unless it is empty.
    ///
    /// # Errors
    /// No object here, or no key in it.
    #[inline]
    pub fn object(&mut self) -> Result<Option<Text<'a>>, NotJson> {
        self.take(b'{')?;
        if self.look() == Some(b'}') {
            self.at += 1;
            return Ok(None);
        }
        self.key().map(Some)
    }

    /// After a field's value: the next key, or `None` at the end of the object.
    ///
    /// # Errors
    /// Neither a comma with a key behind it nor the end.
    #[inline]
    pub fn next_key(&mut self) -> Result<Option<Text<'a>>, NotJson> {
        match self.look() {
            Some(b',') => {
                self.at += 1;
                self.key().map(Some)
            }
            Some(b'}') => {
                self.at += 1;
                Ok(None)
            }
            _ => Err(NotJson),
        }
    }

    /// A key and its colon.
    #[inline(always)]
    fn key(&mut self) -> Result<Text<'a>, NotJson> {
        let key = self.text()?;
        self.take(b':')?;
        Ok(key)
    }

    /// Makes sure that nothing but white space follows.
    ///
    /// # Errors
    /// Something does.
    #[inline]
    pub fn end(&mut self) -> Result<(), NotJson> {
        if self.look().is_none() { Ok(()) } else { Err(NotJson) }
    }
}

/// Whether two texts of the same length are the same: sixteen bytes at a time, as what compares slices in
/// WebAssembly takes one after the other.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let same = |(piece, other): (&[u8; 16], &[u8; 16])| u128::from_le_bytes(*piece) == u128::from_le_bytes(*other);
    let ((pieces, _), (others, _)) = (one.as_chunks(), other.as_chunks());
    // The last sixteen may be looked at twice; only what is shorter is left.
    let last = one.last_chunk().zip(other.last_chunk()).map_or_else(|| one == other, same);
    last && pieces.iter().zip(others).all(same)
}
