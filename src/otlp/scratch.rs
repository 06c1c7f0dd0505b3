//! Memory for a batch: what is encoded of its records, and what is remembered of them while it is read.

use super::attributes::Attributes;
use super::keys::Keys;
use super::out::Out;
use super::tail::Tail;
use super::value::{self, Place};
use super::{Known, entry, timestamp};
use crate::batch::json::{Print, Text};
use crate::batch::{Field, Spelling};

/// How many [`common`] writes.
pub const COMMON: u64 = 2;

/// The attributes that every record of a request begins with.
fn common(known: Known<'_>, out: &mut Out) {
    let mut text = |name: &[u8], text: &[u8]| value::text(out, Place::Pair(entry::field::ATTRIBUTES, name), text);
    text(b"server_received_at", timestamp::write(known.received).as_bytes());
    text(b"enduser.id", known.subject.as_bytes());
}

/// Memory in which one batch after the other is encoded.
#[derive(Debug, Default)]
pub struct Room {
    attributes: Out,
    bodies: Out,
    common: Out,
}

/// What a batch needed beyond this isn't kept for the next.
const KEPT: usize = 256 * 1024;

impl Room {
    /// Enough for a body of so many bytes.
    pub fn with_capacity(mut self, bytes: usize) -> Room {
        // Most of a body becomes attributes, and the server adds some to each record.
        self.attributes.empty(bytes + bytes / 4);
        self.bodies.empty(bytes / 4);
        self.common.empty(0);
        self
    }
}

/// Memory for the records of a batch: what is encoded of them, and what is forgotten after each.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// The records' attributes.
    pub attributes: Attributes<'a>,
    /// Their bodies.
    pub bodies: Out,
    /// The attributes that every record of the request has.
    pub common: Out,
    /// Fields of the record that mean nothing to the filter.
    pub others: Keys<'a>,
    /// What stood before the values of the last record's fields. Records of a client are alike, and to find
    /// the same again is cheaper than to read it.
    pub shape: [Option<Shape<'a>>; SHAPE],
    /// How the last record ended.
    pub tail: Option<Tail<'a>>,
}

/// What stood before a value: the print of all of it, the name in it, and what that means.
pub type Shape<'a> = (Print, Text<'a>, Field, Spelling);

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
    /// For records of a request, in memory that is empty.
    pub fn new(known: Known<'_>, mut room: Room) -> Self {
        common(known, &mut room.common);
        Scratch {
            attributes: Attributes::new(entry::field::ATTRIBUTES, room.attributes),
            bodies: room.bodies,
            common: room.common,
            others: Keys::default(),
            shape: [None; SHAPE],
            tail: None,
        }
    }

    /// The memory, as far as it is worth keeping.
    pub fn into_room(self) -> Room {
        let kept = |out: Out| if out.capacity() > KEPT { Out::default() } else { out };
        Room { attributes: kept(self.attributes.into_out()), bodies: kept(self.bodies), common: kept(self.common) }
    }

    /// What has been encoded.
    pub fn texts(&self) -> Texts<'_> {
        Texts { bodies: self.bodies.as_slice(), attributes: self.attributes.bytes() }
    }
}
