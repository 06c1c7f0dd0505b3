//! One record: its fields → what its `LogRecord` is made of.

use super::attributes::Attributes;
use super::clock::{Placement, Stamp};
use super::entry::{self, ADDED, Entry, unsigned};
use super::keys::Keys;
use super::meaning::{hex, severity};
use super::out::Out;
use super::uid::Uids;
use super::value::{self, Place};
use super::{Known, Tally, exception, timestamp};
use crate::batch::json::{Json, Kind, NotJson, Print, Text};
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

/// How many [`common`] writes.
const COMMON: u64 = 2;

/// The attributes that every record of a request begins with.
pub fn common(known: Known<'_>) -> Vec<u8> {
    let mut attributes = Attributes::new(entry::field::ATTRIBUTES);
    attributes.text(b"server_received_at", timestamp::write(known.received).as_bytes());
    attributes.text(b"enduser.id", known.subject.as_bytes());
    attributes.into_bytes()
}

/// Memory for the records of a batch: what is encoded of them, and what is forgotten after each.
#[derive(Debug)]
pub struct Scratch<'a> {
    attributes: Attributes<'a>,
    bodies: Out,
    /// Fields of the record that mean nothing to the filter.
    others: Keys<'a>,
    /// What stood before the values of the last record's fields. Records of a client are alike, and to find
    /// the same again is cheaper than to read it.
    shape: [Option<Shape<'a>>; SHAPE],
}

/// What stood before a value: the print of all of it, the name in it, and what that means.
type Shape<'a> = (Print, Text<'a>, Field, Spelling);

/// As many fields as a client's records have, and some.
const SHAPE: usize = 24;

/// What is encoded of all records of a batch.
pub struct Texts<'t> {
    /// Their bodies, one after the other.
    pub bodies: &'t [u8],
    /// Their attributes.
    pub attributes: &'t [u8],
}

impl Scratch<'_> {
    /// For a body of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Scratch {
            // Most of a body becomes attributes, and the server adds some to each record.
            attributes: Attributes::with_capacity(entry::field::ATTRIBUTES, bytes + bytes / 4),
            bodies: Out::with_capacity(bytes / 4),
            others: Keys::default(),
            shape: [None; SHAPE],
        }
    }

    /// What has been encoded.
    pub fn texts(&self) -> Texts<'_> {
        Texts { bodies: self.bodies.as_slice(), attributes: self.attributes.bytes() }
    }
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
    /// What [`common`] made.
    pub common: &'s [u8],
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
    scratch.attributes.begin(server.common, COMMON);
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
        uid: server.uids.name(json.since(start)),
        next: None,
        len: 0,
    });
    Ok((parts.logger, parts.session))
}

impl<'a> Parts<'a> {
    /// Reads the fields of the record, which is an object.
    fn fields(&mut self, json: &mut Json<'a>, scratch: &mut Scratch<'a>, tally: &mut Tally) -> Result<(), NotJson> {
        for place in 0.. {
            if let Some(Some((print, name, field, spelling))) = scratch.shape.get(place)
                && json.again(print)
            {
                let known = (*name, *field, *spelling);
                self.field(known, json, scratch, tally)?;
                continue;
            }
            let start = json.position();
            let Some(name) = (if place == 0 { json.object()? } else { json.next_key()? }) else { break };
            match Field::named(name) {
                Some((field, spelling)) => {
                    if let Some(shape) = scratch.shape.get_mut(place) {
                        *shape = json.print(start).map(|print| (print, name, field, spelling));
                    }
                    self.field((name, field, spelling), json, scratch, tally)?;
                }
                None if scratch.others.insert(name) => {
                    scratch.attributes.read(name, json, &is_own, tally)?;
                }
                None => {
                    tally.one(Oddity::DuplicateKey);
                    json.skip()?;
                }
            }
        }
        Ok(())
    }

    /// Reads the value of a field that means something to the filter.
    #[inline]
    fn field(
        &mut self,
        (name, field, spelling): (Text<'a>, Field, Spelling),
        json: &mut Json<'a>,
        scratch: &mut Scratch<'a>,
        tally: &mut Tally,
    ) -> Result<(), NotJson> {
        let bit = 1u32 << field as u32;
        let spelt = if spelling == Spelling::Second { bit << 16 } else { bit };
        if self.seen & spelt != 0 {
            tally.one(Oddity::DuplicateKey);
            return json.skip();
        }
        self.seen |= spelt;
        let kind = json.peek()?;
        if kind == Kind::Null {
            return json.null();
        }
        if self.filled & bit != 0 {
            // Both spellings, both with a value: the second is the client's own attribute.
            return scratch.attributes.read(name, json, &is_own, tally).map(|_| ());
        }
        self.filled |= bit;
        if kind == Kind::String {
            self.string(field, json.text()?, scratch, tally);
            return Ok(());
        }
        self.value(field, kind, json, scratch, tally)
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
