//! One record: its fields → a `LogRecord`.

use super::attributes::Attributes;
use super::clock::{Placement, Stamp};
use super::keys::Keys;
use super::uid::Uids;
use super::{Known, Tally, exception, timestamp, value, wire};
use crate::batch::Field;
use crate::batch::json::{Json, Kind, NotJson, Text};
use crate::stats::Oddity;
use std::borrow::Cow;
use std::time::Duration;

/// Field numbers of `LogRecord`.
mod field {
    pub const TIME_UNIX_NANO: u32 = 1;
    pub const SEVERITY_NUMBER: u32 = 2;
    pub const SEVERITY_TEXT: u32 = 3;
    pub const BODY: u32 = 5;
    pub const ATTRIBUTES: u32 = 6;
    pub const DROPPED_ATTRIBUTES_COUNT: u32 = 7;
    pub const TRACE_ID: u32 = 9;
    pub const SPAN_ID: u32 = 10;
    pub const OBSERVED_TIME_UNIX_NANO: u32 = 11;
}

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
    let mut attributes = Attributes::new(field::ATTRIBUTES);
    let received = timestamp::write(known.received);
    attributes.write_own(b"server_received_at", |out| wire::bytes(out, value::field::STRING, received.as_bytes()));
    attributes.write_own(b"enduser.id", |out| wire::bytes(out, value::field::STRING, known.subject.as_bytes()));
    attributes.into_bytes()
}

/// Memory that is used again for each record.
#[derive(Debug, Default)]
pub struct Scratch<'a> {
    attributes: Attributes<'a>,
    /// Fields of the record that mean nothing to the filter.
    others: Keys<'a>,
    body: Vec<u8>,
    /// The last record, encoded.
    pub record: Vec<u8>,
    /// Where a record without a scope would go; there is none.
    pub stray: Vec<u8>,
}

/// What the batch needs to know of a record, beyond its bytes.
pub struct Read<'a> {
    /// Its logger; empty where it has none.
    pub logger: Text<'a>,
    /// Its time.
    pub stamp: Stamp,
    /// Its session id, if it is a string.
    pub session: Option<Text<'a>>,
}

/// The parts of a record that don't stand among the attributes.
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
    /// When the request arrived.
    pub received: Duration,
}

/// Reads one record and leaves it, encoded, in `scratch.record`.
///
/// # Errors
/// Those of `json`; nothing else is a reason to stop.
pub fn read<'a>(
    json: &mut Json<'a>,
    scratch: &mut Scratch<'a>,
    server: Server<'_>,
    placement: Option<Placement>,
    tally: &mut Tally,
) -> Result<Read<'a>, NotJson> {
    let received = server.received;
    scratch.attributes.restart(field::ATTRIBUTES, server.common, COMMON);
    scratch.body.clear();
    scratch.others.clear();
    let mut parts = Parts {
        logger: Cow::Borrowed(b""),
        stamp: Stamp::Missing,
        session: None,
        severity: (0, Cow::Borrowed(b"")),
        trace_id: None,
        span_id: None,
        filled: 0,
        seen: 0,
    };
    let kind = json.peek()?;
    let start = json.position();
    if kind == Kind::Object {
        let mut key = json.object()?;
        while let Some(name) = key {
            parts.field(name, json, scratch, tally)?;
            key = json.next_key()?;
        }
    } else {
        tally.one(Oddity::NotAnObject);
        body(json, &mut scratch.body, tally)?;
    }
    if parts.stamp == Stamp::Unparsable {
        tally.one(Oddity::UnreadableTimestamp);
    }
    let placement = placement.unwrap_or_else(|| Placement::as_sent(parts.stamp, received));
    if let Some(adjustment) = placement.adjustment {
        tally.add(Oddity::MovedTimestamp, u64::from(matches!(parts.stamp, Stamp::At(_))));
        text(scratch, b"timestamp_adjustment", adjustment.name().as_bytes());
    }
    text(scratch, b"log.record.uid", &server.uids.name(json.since(start)));
    scratch.attributes.finish(tally);
    parts.write(placement, received, scratch);
    Ok(Read { logger: parts.logger, stamp: parts.stamp, session: parts.session })
}

fn text(scratch: &mut Scratch<'_>, name: &[u8], text: &[u8]) {
    scratch.attributes.write_own(name, |out| wire::bytes(out, value::field::STRING, text));
}

fn body(json: &mut Json<'_>, out: &mut Vec<u8>, tally: &mut Tally) -> Result<(), NotJson> {
    if json.peek()? == Kind::Null {
        return json.null();
    }
    let message = wire::begin(out, field::BODY);
    value::any(json, out, tally)?;
    wire::end(out, message);
    Ok(())
}

/// A string as it is, anything else as its JSON text.
fn as_text<'a>(json: &mut Json<'a>) -> Result<Text<'a>, NotJson> {
    match json.peek()? {
        Kind::String => json.text(),
        _ => json.raw().map(Cow::Borrowed),
    }
}

impl<'a> Parts<'a> {
    /// Reads one field of the record.
    fn field(&mut self, name: Text<'a>, json: &mut Json<'a>, scratch: &mut Scratch<'a>, tally: &mut Tally) -> Result<(), NotJson> {
        let Some(field) = Field::named(&name) else {
            if !scratch.others.insert(&name) {
                tally.one(Oddity::DuplicateKey);
                return json.skip();
            }
            return scratch.attributes.read(name, json, &is_own, tally).map(|_| ());
        };
        let bit = 1u32 << field as u32;
        // The second generation writes its names with `_`.
        let spelling = if name.contains(&b'_') { bit << 16 } else { bit };
        if self.seen & spelling != 0 {
            tally.one(Oddity::DuplicateKey);
            return json.skip();
        }
        self.seen |= spelling;
        if json.peek()? == Kind::Null {
            return json.null();
        }
        if self.filled & bit != 0 {
            // Both spellings, both with a value: the second is the client's own attribute.
            return scratch.attributes.read(name, json, &is_own, tally).map(|_| ());
        }
        self.filled |= bit;
        self.value(field, json, scratch, tally)
    }

    /// Reads a field's value; it isn't null.
    fn value(&mut self, field: Field, json: &mut Json<'a>, scratch: &mut Scratch<'a>, tally: &mut Tally) -> Result<(), NotJson> {
        let attributes = &mut scratch.attributes;
        match field {
            Field::Timestamp => {
                let sent = as_text(json)?;
                self.stamp = timestamp::parse(&sent).map_or(Stamp::Unparsable, Stamp::At);
                text(scratch, b"client_timestamp", &sent);
                Ok(())
            }
            Field::Level => {
                self.severity = severity(as_text(json)?, tally);
                Ok(())
            }
            Field::Logger => {
                self.logger = as_text(json)?;
                Ok(())
            }
            Field::Message => body(json, &mut scratch.body, tally),
            Field::Attributes if json.peek()? == Kind::Object => attributes.read_object(json, &is_own, tally, |_| false).map(|_| ()),
            Field::Attributes => attributes.read_own(b"attributes", json, tally),
            Field::Error if json.peek()? == Kind::String => {
                let error = json.text()?;
                let (kind, message) = exception::split(&error);
                if let Some(kind) = kind {
                    text(scratch, b"exception.type", kind);
                }
                text(scratch, b"exception.message", message);
                Ok(())
            }
            Field::Error => attributes.read_own(b"exception.message", json, tally),
            Field::StackTrace => attributes.read_own(b"exception.stacktrace", json, tally),
            Field::TraceId => self.id(b"trace_id", json, scratch, tally, |parts, id| parts.trace_id = Some(id)),
            Field::SpanId => self.id(b"span_id", json, scratch, tally, |parts, id| parts.span_id = Some(id)),
            Field::InstallId => attributes.read_own(b"app.installation.id", json, tally),
            Field::SessionId if json.peek()? == Kind::String => {
                let session = json.text()?;
                text(scratch, b"session.id", &session);
                self.session = Some(session);
                Ok(())
            }
            Field::SessionId => attributes.read_own(b"session.id", json, tally),
            Field::UserId => attributes.read_own(b"user.id", json, tally),
            Field::ActiveRun if json.peek()? == Kind::Object => active_run(json, attributes, tally),
            Field::ActiveRun => attributes.read_own(b"active_run", json, tally),
            Field::Breadcrumbs => attributes.read_own(b"breadcrumbs", json, tally),
        }
    }

    /// An id of `N` bytes in hex, or else an attribute of that name.
    fn id<const N: usize>(
        &mut self,
        name: &[u8],
        json: &mut Json<'a>,
        scratch: &mut Scratch<'a>,
        tally: &mut Tally,
        set: impl FnOnce(&mut Self, [u8; N]),
    ) -> Result<(), NotJson> {
        if json.peek()? != Kind::String {
            tally.one(Oddity::InvalidId);
            return scratch.attributes.read_own(name, json, tally);
        }
        let sent = json.text()?;
        match hex(&sent) {
            Some(id) => set(self, id),
            None => {
                tally.one(Oddity::InvalidId);
                text(scratch, name, &sent);
            }
        }
        Ok(())
    }

    /// Writes the record, its fields in the order of their numbers.
    fn write(&self, placement: Placement, received: Duration, scratch: &mut Scratch<'a>) {
        let observed = match self.stamp {
            Stamp::At(at) => at,
            Stamp::Missing | Stamp::Unparsable => received.as_nanos() as i128,
        };
        let out = &mut scratch.record;
        out.clear();
        wire::time(out, field::TIME_UNIX_NANO, unsigned(placement.at));
        wire::uint(out, field::SEVERITY_NUMBER, self.severity.0);
        wire::string(out, field::SEVERITY_TEXT, &self.severity.1);
        out.extend_from_slice(&scratch.body);
        out.extend_from_slice(scratch.attributes.bytes());
        wire::uint(out, field::DROPPED_ATTRIBUTES_COUNT, scratch.attributes.dropped());
        if let Some(id) = &self.trace_id {
            wire::bytes(out, field::TRACE_ID, id);
        }
        if let Some(id) = &self.span_id {
            wire::bytes(out, field::SPAN_ID, id);
        }
        wire::time(out, field::OBSERVED_TIME_UNIX_NANO, unsigned(observed));
    }
}

/// OTLP's times are unsigned and end in the year 2554.
fn unsigned(nanos: i128) -> u64 {
    u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
}

fn severity<'a>(level: Text<'a>, tally: &mut Tally) -> (u64, Text<'a>) {
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
            return (number, Cow::Borrowed(text));
        }
    }
    tally.one(Oddity::UnknownLevel);
    (0, level)
}

/// `N` bytes from twice as many hex digits, not all zero.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
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

/// Each field of the run is an attribute below `active_run.`.
fn active_run<'a>(json: &mut Json<'a>, attributes: &mut Attributes<'a>, tally: &mut Tally) -> Result<(), NotJson> {
    let mut seen = Keys::default();
    let mut key = json.object()?;
    while let Some(name) = key {
        if seen.insert(&name) {
            let mut full = b"active_run.".to_vec();
            full.extend_from_slice(&name);
            // These two always have room; others are the client's as any.
            if matches!(name.as_ref(), b"thread_id" | b"run_id") {
                attributes.read_own(&full, json, tally)?;
            } else {
                attributes.read(Cow::Owned(full), json, &|_| false, tally)?;
            }
        } else {
            tally.one(Oddity::DuplicateKey);
            json.skip()?;
        }
        key = json.next_key()?;
    }
    Ok(())
}
