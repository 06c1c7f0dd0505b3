//! A list of attributes in which no name stands twice, and the client never poses as the server.

use super::Tally;
use super::keys::Keys;
use super::out::Out;
use super::value::{self, Place};
use crate::batch::json::{Json, Kind, NotJson, Text};
use crate::stats::Oddity;
use serde_json::Value;
use std::ops::Range;

/// Attributes of one record or resource, the filter's own among them; more are counted as dropped.
/// OpenTelemetry's SDKs keep 128 by default; this bounds what one record may cost a backend's index.
const MOST: u64 = 1_024;

/// No list has so many of the filter's own that are written behind a client's.
const RESERVE: u64 = 64;

/// A longer name is cut. Backends that index names refuse or truncate above a few hundred bytes.
const LONGEST_NAME: usize = 256;

/// How many names are tried for one attribute: until `client.` fills a name and no try makes another.
const RENAMES: usize = LONGEST_NAME / b"client.".len() + 2;

/// Whether a name belongs to the filter.
pub type Own<'f> = &'f dyn Fn(&[u8]) -> bool;

/// Attributes while they are written, one list after another.
#[derive(Debug, Default)]
pub struct Attributes<'a> {
    tag: u32,
    out: Out,
    /// Where the present list begins.
    start: usize,
    names: Keys<'a>,
    raw: Keys<'a>,
    /// The filter's own, and the client's.
    own: u64,
    count: u64,
    dropped: u64,
    /// Where those of the client's stand that may have to make room: the last ones of a long list.
    places: Vec<Range<usize>>,
}

impl<'a> Attributes<'a> {
    /// None yet, to be written as field `tag` into `out`.
    pub fn new(tag: u32, out: Out) -> Attributes<'a> {
        Attributes { tag, out, ..Attributes::default() }
    }

    /// Begins another list, with the `own` attributes that `written` holds.
    pub fn begin(&mut self, written: &[u8], own: u64) {
        self.start = self.out.len();
        self.out.put(written);
        self.names.clear();
        self.raw.clear();
        self.own = own;
        self.count = 0;
        self.dropped = 0;
        self.places.clear();
    }

    /// Ends the list: the last of the client's make room for the filter's own, and for `later` ones that
    /// are written elsewhere.
    pub fn finish(&mut self, later: u64, tally: &mut Tally) {
        while self.own + later + self.count > MOST
            && let Some(place) = self.places.pop()
        {
            self.out.remove(place);
            self.count -= 1;
            self.dropped += 1;
            tally.one(Oddity::DroppedAttribute);
        }
    }

    /// Which of the client's makes room if there is one more than the `later` ones; `None`: there is room.
    pub fn last_if_full(&self, later: u64) -> Option<Range<usize>> {
        if self.own + later + self.count < MOST { None } else { self.places.last().cloned() }
    }

    /// How many of the client's had no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Where the next attribute will stand, and how many of the filter's own there are in the list.
    pub fn written(&self) -> (usize, u64) {
        (self.out.len(), self.own)
    }

    /// Writes once more what stands there: `own` attributes of the filter's own.
    pub fn again(&mut self, range: Range<usize>, own: u64) {
        self.own += own;
        self.out.again(range);
    }

    /// Where the present list stands in what has been written.
    pub fn range(&self) -> Range<usize> {
        self.start..self.out.len()
    }

    /// All lists that have been written.
    pub fn bytes(&self) -> &[u8] {
        self.out.as_slice()
    }

    /// All lists that have been written.
    pub fn into_out(self) -> Out {
        self.out
    }

    /// Writes an attribute of the filter's own, a string; no client's name can be the same.
    #[inline]
    pub fn text(&mut self, name: &[u8], text: &[u8]) {
        self.own += 1;
        value::text(&mut self.out, Place::Pair(self.tag, name), text);
    }

    /// The same for a value of the configuration.
    pub fn configured(&mut self, name: &[u8], value: &Value) {
        self.own += 1;
        value::configured(&mut self.out, Place::Pair(self.tag, name), value);
    }

    /// Reads one value and writes it as an attribute of the filter's own; null is left out.
    ///
    /// # Errors
    /// Those of `json`.
    pub fn read_own(&mut self, name: &[u8], json: &mut Json<'a>, tally: &mut Tally) -> Result<(), NotJson> {
        if json.peek()? == Kind::Null {
            return json.null();
        }
        self.own += 1;
        value::read(json, &mut self.out, Place::Pair(self.tag, name), tally)
    }

    /// Reads one value and writes it as the client's attribute of that name; null is left out. Whether
    /// it was written.
    ///
    /// # Errors
    /// Those of `json`.
    pub fn read(&mut self, name: Text<'a>, json: &mut Json<'a>, own: Own<'_>, tally: &mut Tally) -> Result<bool, NotJson> {
        if json.peek()? == Kind::Null {
            return json.null().map(|()| false);
        }
        let room = self.count < MOST;
        let Some(name) = room.then(|| self.free(name, json, own, tally)).flatten() else {
            self.dropped += 1;
            tally.one(Oddity::DroppedAttribute);
            return json.skip().map(|()| false);
        };
        let start = self.out.len();
        value::read(json, &mut self.out, Place::Pair(self.tag, name), tally)?;
        self.count += 1;
        if self.own + self.count + RESERVE > MOST {
            self.places.push(start..self.out.len());
        }
        self.names.add(name);
        Ok(true)
    }

    /// How many of the client's are there.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads an object: each field an attribute. Which of the client's, counted from 1, is the one that
    /// `wanted` names.
    ///
    /// # Errors
    /// Those of `json`.
    pub fn read_object(
        &mut self,
        json: &mut Json<'a>,
        own: Own<'_>,
        tally: &mut Tally,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<u64>, NotJson> {
        let mut found = None;
        let mut key = json.object()?;
        while let Some(name) = key {
            if !self.raw.insert(name) {
                tally.one(Oddity::DuplicateKey);
                json.skip()?;
            } else {
                let is_wanted = wanted(name);
                if self.read(name, json, own, tally)? && is_wanted {
                    found = Some(self.count);
                }
            }
            key = json.next_key()?;
        }
        Ok(found)
    }

    /// The name under which an attribute of the client's may stand, if there is one.
    fn free(&self, name: Text<'a>, json: &Json<'a>, own: Own<'_>, tally: &mut Tally) -> Option<Text<'a>> {
        let name = cut(name);
        let taken = |name: &[u8]| own(name) || self.names.contains(name);
        if !taken(name) {
            return Some(name);
        }
        let mut renamed = name.to_vec();
        for _ in 1..RENAMES {
            renamed.splice(..0, *b"client.");
            renamed.truncate(cut(&renamed).len());
            if !taken(&renamed) {
                tally.one(Oddity::RenamedAttribute);
                return Some(json.keep(&renamed));
            }
        }
        None
    }
}

/// At most [`LONGEST_NAME`] bytes, ending with a whole character.
fn cut(name: Text<'_>) -> Text<'_> {
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let end = (0..=LONGEST_NAME).rev().find(|&end| name.get(end).is_some_and(|b| b & 0xC0 != 0x80)).unwrap_or(0);
    name.get(..end).unwrap_or_default()
}
