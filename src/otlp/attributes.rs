//! A list of attributes in which no name stands twice, and the client never poses as the server.

use super::keys::Keys;
use super::{Tally, value, wire};
use crate::batch::json::{Json, Kind, NotJson, Text};
use crate::stats::Oddity;
use std::borrow::Cow;

/// Attributes of one record or resource, the filter's own among them; more are counted as dropped.
/// OpenTelemetry's SDKs keep 128 by default; this bounds what one record may cost a backend's index.
const MOST: u64 = 1_024;

/// A longer name is cut. Backends that index names refuse or truncate above a few hundred bytes.
const LONGEST_NAME: usize = 256;

/// How many names are tried for one attribute: until `client.` fills a name and no try makes another.
const RENAMES: usize = LONGEST_NAME / b"client.".len() + 2;

/// Whether a name belongs to the filter.
pub type Own<'f> = &'f dyn Fn(&[u8]) -> bool;

/// Attributes while they are written.
#[derive(Debug, Default)]
pub struct Attributes<'a> {
    tag: u32,
    out: Vec<u8>,
    names: Keys<'a>,
    raw: Keys<'a>,
    /// The filter's own, and the client's.
    own: u64,
    count: u64,
    dropped: u64,
    /// Where the client's stand, in case the last must make room.
    places: Vec<(usize, usize)>,
}

impl<'a> Attributes<'a> {
    /// None yet, to be written as field `tag`.
    pub fn new(tag: u32) -> Attributes<'a> {
        Attributes { tag, ..Attributes::default() }
    }

    /// Begins anew with the `own` attributes that `out` holds; keeps the memory.
    pub fn restart(&mut self, tag: u32, out: &[u8], own: u64) {
        self.tag = tag;
        self.out.clear();
        self.out.extend_from_slice(out);
        self.names.clear();
        self.raw.clear();
        self.own = own;
        self.count = 0;
        self.dropped = 0;
        self.places.clear();
    }

    /// Ends the list: the last of the client's make room for the filter's own.
    pub fn finish(&mut self, tally: &mut Tally) {
        while self.own + self.count > MOST
            && let Some((start, end)) = self.places.pop()
        {
            self.out.splice(start..end.min(self.out.len()), []);
            self.count -= 1;
            self.dropped += 1;
            tally.one(Oddity::DroppedAttribute);
        }
    }

    /// How many of the client's had no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What has been written.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Writes an attribute of the filter's own; no client's name can be the same.
    pub fn write_own(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.own += 1;
        self.write(name, value);
    }

    fn write(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        let pair = wire::begin(&mut self.out, self.tag);
        wire::string(&mut self.out, value::field::KEY, name);
        let any = wire::begin(&mut self.out, value::field::VALUE);
        value(&mut self.out);
        wire::end(&mut self.out, any);
        wire::end(&mut self.out, pair);
    }

    /// Reads one value and writes it as an attribute of the filter's own; null is left out.
    ///
    /// # Errors
    /// Those of `json`.
    pub fn read_own(&mut self, name: &[u8], json: &mut Json<'a>, tally: &mut Tally) -> Result<(), NotJson> {
        if json.peek()? == Kind::Null {
            return json.null();
        }
        let mut result = Ok(());
        self.write_own(name, |out| result = value::any(json, out, tally));
        result
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
        let Some(name) = room.then(|| self.free(name, own, tally)).flatten() else {
            self.dropped += 1;
            tally.one(Oddity::DroppedAttribute);
            return json.skip().map(|()| false);
        };
        let start = self.out.len();
        let mut result = Ok(());
        self.write(&name, |out| result = value::any(json, out, tally));
        self.count += 1;
        self.places.push((start, self.out.len()));
        self.names.insert(&name);
        result.map(|()| true)
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
            if !self.raw.insert(&name) {
                tally.one(Oddity::DuplicateKey);
                json.skip()?;
            } else {
                let is_wanted = wanted(&name);
                if self.read(name, json, own, tally)? && is_wanted {
                    found = Some(self.count);
                }
            }
            key = json.next_key()?;
        }
        Ok(found)
    }

    /// The name under which an attribute of the client's may stand, if there is one.
    fn free(&self, name: Text<'a>, own: Own<'_>, tally: &mut Tally) -> Option<Text<'a>> {
        let mut name = cut(name);
        for tries in 0..RENAMES {
            if !own(&name) && !self.names.contains(&name) {
                if tries > 0 {
                    tally.one(Oddity::RenamedAttribute);
                }
                return Some(name);
            }
            let mut longer = b"client.".to_vec();
            longer.extend_from_slice(&name);
            name = cut(Cow::Owned(longer));
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
    Cow::Owned(name.get(..end).unwrap_or_default().to_vec())
}
