//! One record: its fields → what its `LogRecord` is made of.

use super::attributes::Attributes;
use super::clock::{Placement, Stamp};
use super::entry::{self, ADDED, Entry, unsigned};
use super::keys::Keys;
use super::meaning::{hex, severity};
use super::scratch::{COMMON, Scratch};
use super::tail::{Mark, Tail};
use super::uid::Uids;
use super::value::{self, Place};
use super::{Tally, exception, timestamp};
use crate::batch::json::{Json, Kind, NotJson, Text};
use crate::batch::{Field, Spelling};
use crate::stats::Oddity;

/// Attributes that the filter writes. A client's of the same name moves to `client.<name>`.
fn is_own(name: &[u8]) -> bool {
    matches!(
        name,
        b"server_received_at"
            | b"client_timestamp"
            | b"timestamp_adjustment"
            | b"enduser.id"
            | b"user.id"
            | b"session.id"
            | b"app.installation.id"
            | b"trace_id"
            | b"span_id"
            | b"attributes"
            | b"active_run"
            | b"breadcrumbs"
            | b"log.record.uid"
    ) || name.starts_with(b"exception.")
        || name.starts_with(b"active_run.")
}

/// A record while it is read.
struct Parts<'a> {
    logger: Text<'a>,
    stamp: Stamp,
    session: Option<Text<'a>>,
    severity: (u64, Text<'a>),
    trace_id: Option<[u8; 16]>,
    span_id: Option<[u8; 8]>,
    /// Fields that have had a value.
    filled: u32,
    /// Fields that were seen, by spelling.
    seen: u32,
}

/// What the server adds to a record.
pub struct Server<'s> {
    /// Names for the request's records.
    pub uids: &'s mut Uids,
    /// When the request arrived, in nanoseconds since the Unix epoch.
    pub received: i128,
}

/// Reads one record and adds it to `entries`. Its body and attributes are left, encoded, in `scratch`.
/// What it says of its logger, which is empty where it says nothing, and of its session.
///
/// # Errors
/// Those of `json`; nothing else is a reason to stop.
pub fn read<'a>(
    json: &mut Json<'a>,
    scratch: &mut Scratch<'a>,
    server: Server<'_>,
    entries: &mut Vec<Entry<'a>>,
    tally: &mut Tally,
) -> Result<(Text<'a>, Option<Text<'a>>), NotJson> {
    scratch.attributes.begin(scratch.common.as_slice(), COMMON);
    scratch.others.clear();
    let body = scratch.bodies.len();
    let mut parts =
        Parts { logger: b"", stamp: Stamp::Missing, session: None, severity: (0, b""), trace_id: None, span_id: None, filled: 0, seen: 0 };
    let kind = json.peek()?;
    let start = json.position();
    if kind == Kind::Object {
        parts.fields(json, scratch, tally)?;
    } else {
        tally.one(Oddity::NotAnObject);
        if kind == Kind::Null { json.null()? } else { value::read(json, &mut scratch.bodies, Place::Field(entry::field::BODY), tally)? }
    }
    if parts.stamp == Stamp::Unparsable {
        tally.one(Oddity::UnreadableTimestamp);
    }
    scratch.attributes.finish(ADDED, tally);
    if scratch.attributes.dropped() > 0 {
        // What is remembered may have moved.
        scratch.tail = None;
    }
    entries.push(Entry {
        stamp: parts.stamp,
        observed: match parts.stamp {
            Stamp::At(at) => unsigned(at),
            Stamp::Missing | Stamp::Unparsable => unsigned(server.received),
        },
        placement: Placement::as_sent(parts.stamp, server.received),
        severity: parts.severity,
        body: body..scratch.bodies.len(),
        attributes: scratch.attributes.range(),
        last: scratch.attributes.last_if_full(ADDED),
        dropped: scratch.attributes.dropped(),
        trace_id: parts.trace_id,
        span_id: parts.span_id,
        uid: server.uids.name(json.since(start), parts.stamp),
        next: None,
        len: 0,
    });
    Ok((parts.logger, parts.session))
}

impl<'a> Parts<'a> {
    /// Reads the fields of the record, which is an object.
    fn fields(&mut self, json: &mut Json<'a>, scratch: &mut Scratch<'a>, tally: &mut Tally) -> Result<(), NotJson> {
        let mut mark = None;
        for place in 0.. {
            if self.ends_as_the_last(place, json, scratch) {
                return Ok(());
            }
            let start = json.position();
            let here = mark.unwrap_or_else(|| self.mark(place, start, scratch));
            let known = match scratch.shape.get(place) {
                Some(Some((print, name, field, spelling))) if json.again(print) => Some((*name, *field, *spelling)),
                _ => {
                    let Some(name) = (if place == 0 { json.object()? } else { json.next_key()? }) else {
                        scratch.tail = mark.and_then(|mark: Mark| self.tail(mark, json, scratch));
                        break;
                    };
                    let known = Field::named(name).map(|(field, spelling)| (name, field, spelling));
                    match known {
                        Some((name, field, spelling)) => {
                            if let Some(shape) = scratch.shape.get_mut(place) {
                                *shape = json.print(start).map(|print| (print, name, field, spelling));
                            }
                        }
                        None if scratch.others.insert(name) => _ = scratch.attributes.read(name, json, &is_own, tally)?,
                        None => {
                            tally.one(Oddity::DuplicateKey);
                            json.skip()?;
                        }
                    }
                    known
                }
            };
            let same_again = match known {
                Some(known) => self.field(known, json, scratch, tally)?,
                None => false,
            };
            mark = same_again.then_some(here);
        }
        Ok(())
    }

    /// Where the record is, before its field at `place`.
    fn mark(&self, place: usize, at: usize, scratch: &Scratch<'a>) -> Mark {
        Mark { place, at, written: scratch.attributes.written(), seen: self.seen, filled: self.filled }
    }

    /// What has been read since the mark, to be known when it stands once more.
    fn tail(&self, mark: Mark, json: &Json<'a>, scratch: &Scratch<'a>) -> Option<Tail<'a>> {
        let (seen, filled) = (self.seen & !mark.seen, self.filled & !mark.filled);
        Tail::new(mark, json.since(mark.at), scratch.attributes.written(), (seen, filled))
    }

    /// Passes over the rest of the record, if it is byte for byte how the last one ended.
    #[inline]
    fn ends_as_the_last(&mut self, place: usize, json: &mut Json<'a>, scratch: &mut Scratch<'a>) -> bool {
        let Some(tail) = scratch.tail.as_ref().filter(|tail| tail.place == place) else { return false };
        if self.seen & tail.seen != 0 || self.filled & tail.filled != 0 || !json.again_all(tail.text) {
            return false;
        }
        self.seen |= tail.seen;
        self.filled |= tail.filled;
        // A session that it names has counted already: the first one does, and this is the second at least.
        scratch.attributes.again(tail.attributes.clone(), tail.own);
        true
    }

    /// Reads the value of a field that means something to the filter. Whether all that comes of it is what
    /// would come of the same bytes in another record, and whether they are likely to stand there.
    #[inline]
    fn field(
        &mut self,
        (name, field, spelling): (Text<'a>, Field, Spelling),
        json: &mut Json<'a>,
        scratch: &mut Scratch<'a>,
        tally: &mut Tally,
    ) -> Result<bool, NotJson> {
        let bit = 1u32 << field as u32;
        let spelt = if spelling == Spelling::Second { bit << 16 } else { bit };
        if self.seen & spelt != 0 {
            tally.one(Oddity::DuplicateKey);
            return json.skip().map(|()| false);
        }
        self.seen |= spelt;
        let kind = json.peek()?;
        if kind == Kind::Null {
            return json.null().map(|()| true);
        }
        if self.filled & bit != 0 {
            // Both spellings, both with a value: the second is the client's own attribute.
            return scratch.attributes.read(name, json, &is_own, tally).map(|_| false);
        }
        self.filled |= bit;
        if kind == Kind::String {
            self.string(field, json.text()?, scratch, tally);
            return Ok(matches!(field, Field::InstallId | Field::SessionId | Field::UserId));
        }
        self.value(field, kind, json, scratch, tally).map(|()| false)
    }

    /// A field whose value is a string, as most are.
    #[inline]
    fn string(&mut self, field: Field, text: Text<'a>, scratch: &mut Scratch<'a>, tally: &mut Tally) {
        let attributes = &mut scratch.attributes;
        let name: &[u8] = match field {
            Field::Timestamp => {
                self.stamp = timestamp::parse(text).map_or(Stamp::Unparsable, Stamp::At);
                b"client_timestamp"
            }
            Field::Level => {
                self.severity = severity(text, tally);
                return;
            }
            Field::Logger => {
                self.logger = text;
                return;
            }
            Field::Message => return value::text(&mut scratch.bodies, Place::Field(entry::field::BODY), text),
            Field::Error => {
                let (kind, message) = exception::split(text);
                if let Some(kind) = kind {
                    attributes.text(b"exception.type", kind);
                }
                return attributes.text(b"exception.message", message);
            }
            Field::TraceId => {
                self.trace_id = hex(text);
                if self.trace_id.is_some() {
                    return;
                }
                tally.one(Oddity::InvalidId);
                b"trace_id"
            }
            Field::SpanId => {
                self.span_id = hex(text);
                if self.span_id.is_some() {
                    return;
                }
                tally.one(Oddity::InvalidId);
                b"span_id"
            }
            Field::SessionId => {
                self.session = Some(text);
                b"session.id"
            }
            Field::StackTrace => b"exception.stacktrace",
            Field::InstallId => b"app.installation.id",
            Field::UserId => b"user.id",
            Field::Attributes => b"attributes",
            Field::ActiveRun => b"active_run",
            Field::Breadcrumbs => b"breadcrumbs",
        };
        attributes.text(name, text);
    }

    /// A field whose value is neither a string nor null.
    fn value(
        &mut self,
        field: Field,
        kind: Kind,
        json: &mut Json<'a>,
        scratch: &mut Scratch<'a>,
        tally: &mut Tally,
    ) -> Result<(), NotJson> {
        let attributes = &mut scratch.attributes;
        let name: &[u8] = match field {
            // These mean something as text alone, so they count as their JSON text.
            Field::Timestamp | Field::Level | Field::Logger => {
                self.string(field, json.raw()?, scratch, tally);
                return Ok(());
            }
            Field::Message => return value::read(json, &mut scratch.bodies, Place::Field(entry::field::BODY), tally),
            Field::Attributes if kind == Kind::Object => return attributes.read_object(json, &is_own, tally, |_| false).map(|_| ()),
            Field::ActiveRun if kind == Kind::Object => return active_run(json, attributes, tally),
            Field::TraceId => {
                tally.one(Oddity::InvalidId);
                b"trace_id"
            }
            Field::SpanId => {
                tally.one(Oddity::InvalidId);
                b"span_id"
            }
            Field::Error => b"exception.message",
            Field::StackTrace => b"exception.stacktrace",
            Field::InstallId => b"app.installation.id",
            Field::SessionId => b"session.id",
            Field::UserId => b"user.id",
            Field::Attributes => b"attributes",
            Field::ActiveRun => b"active_run",
            Field::Breadcrumbs => b"breadcrumbs",
        };
        attributes.read_own(name, json, tally)
    }
}

/// Each field of the run is an attribute below `active_run.`.
fn active_run<'a>(json: &mut Json<'a>, attributes: &mut Attributes<'a>, tally: &mut Tally) -> Result<(), NotJson> {
    let mut seen = Keys::default();
    let mut key = json.object()?;
    while let Some(name) = key {
        if seen.insert(name) {
            let full = json.keep(&[b"active_run.", name].concat());
            // These two always have room; others are the client's as any.
            if matches!(name, b"thread_id" | b"run_id") {
                attributes.read_own(full, json, tally)?;
            } else {
                attributes.read(full, json, &|_| false, tally)?;
            }
        } else {
            tally.one(Oddity::DuplicateKey);
            json.skip()?;
        }
        key = json.next_key()?;
    }
    Ok(())
}
