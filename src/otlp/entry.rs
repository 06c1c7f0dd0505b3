//! A record that has been read, and how it is written as a `LogRecord`.

use super::clock::{Placement, Stamp};
use super::out::Out;
use super::scratch::Texts;
use super::uid::{self, Uid};
use super::value::{self, Place};
use super::{Tally, wire};
use crate::batch::json::Text;
use crate::stats::Oddity;
use std::ops::Range;

/// Field numbers of `LogRecord`.
pub mod field {
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

const UID: Place<'_> = Place::Pair(field::ATTRIBUTES, b"log.record.uid");
const ADJUSTMENT: Place<'_> = Place::Pair(field::ATTRIBUTES, b"timestamp_adjustment");

/// How many attributes [`Entry::write`] adds to those that were read, the adjustment aside.
pub const ADDED: u64 = 1;

/// What is known of a record once it has been read; its place in time can change until the batch ends.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What it says of its time.
    pub stamp: Stamp,
    /// The client's clock as it was sent; the server's where that can't be read.
    pub observed: u64,
    /// Its time.
    pub placement: Placement,
    /// Its severity number and text.
    pub severity: (u64, Text<'a>),
    /// Where its body stands, encoded, among the bodies.
    pub body: Range<usize>,
    /// Where its attributes stand, encoded, among the attributes.
    pub attributes: Range<usize>,
    /// The attribute of the client's that makes room for an adjustment, where there is no room.
    pub last: Option<Range<usize>>,
    /// Attributes that had no room.
    pub dropped: u64,
    /// Its trace.
    pub trace_id: Option<[u8; 16]>,
    /// Its span.
    pub span_id: Option<[u8; 8]>,
    /// Its name.
    pub uid: Uid,
    /// The next record of the same logger, by its place in the batch.
    pub next: Option<usize>,
    /// The length of the `LogRecord`.
    pub len: usize,
}

impl Entry<'_> {
    /// To be called once its place in time is final, and before it is written.
    pub fn settle(&mut self, tally: &mut Tally) {
        if self.placement.adjustment.is_none() {
            self.last = None;
        } else {
            tally.add(Oddity::MovedTimestamp, u64::from(matches!(self.stamp, Stamp::At(_))));
            if self.last.is_some() {
                self.dropped += 1;
                tally.one(Oddity::DroppedAttribute);
            }
        }
        let adjustment = self.placement.adjustment.map_or(0, |why| value::text_len(ADJUSTMENT, why.name().as_bytes()));
        self.len = wire::time_len(unsigned(self.placement.at))
            + wire::uint_len(self.severity.0)
            + wire::string_len(self.severity.1)
            + self.body.len()
            + self.attributes.len()
            - self.last.as_ref().map_or(0, Range::len)
            + adjustment
            + value::text_len(UID, &[0; 32])
            + wire::uint_len(self.dropped)
            + self.trace_id.map_or(0, |id| wire::message_len(id.len()))
            + self.span_id.map_or(0, |id| wire::message_len(id.len()))
            + wire::time_len(self.observed);
    }

    /// Writes its fields in the order of their numbers: `len` bytes.
    pub fn write(&self, out: &mut Out, texts: &Texts<'_>) {
        let before = out.len();
        wire::time(out, field::TIME_UNIX_NANO, unsigned(self.placement.at));
        wire::uint(out, field::SEVERITY_NUMBER, self.severity.0);
        wire::string(out, field::SEVERITY_TEXT, self.severity.1);
        out.put(texts.bodies.get(self.body.clone()).unwrap_or_default());
        let attributes = |range: Range<usize>| texts.attributes.get(range).unwrap_or_default();
        match &self.last {
            None => out.put(attributes(self.attributes.clone())),
            Some(last) => {
                out.put(attributes(self.attributes.start..last.start));
                out.put(attributes(last.end..self.attributes.end));
            }
        }
        if let Some(why) = self.placement.adjustment {
            value::text(out, ADJUSTMENT, why.name().as_bytes());
        }
        value::text(out, UID, &uid::hex(self.uid));
        wire::uint(out, field::DROPPED_ATTRIBUTES_COUNT, self.dropped);
        if let Some(id) = &self.trace_id {
            wire::bytes(out, field::TRACE_ID, id);
        }
        if let Some(id) = &self.span_id {
            wire::bytes(out, field::SPAN_ID, id);
        }
        wire::time(out, field::OBSERVED_TIME_UNIX_NANO, self.observed);
        debug_assert_eq!(out.len() - before, self.len, "a LogRecord's length");
    }
}

/// OTLP's times are unsigned and end in the year 2554.
pub fn unsigned(nanos: i128) -> u64 {
    u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
}
