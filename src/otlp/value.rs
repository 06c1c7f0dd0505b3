//! JSON value → OTLP `AnyValue`.

use super::keys::Keys;
use super::out::Out;
use super::{Tally, wire};
use crate::batch::json::{Json, Kind, NotJson, Number};
use crate::stats::Oddity;
use bumpalo::Bump;
use serde_json::Value;

/// Field numbers of `AnyValue`, `ArrayValue`, `KeyValueList` and `KeyValue`.
mod field {
    pub const STRING: u32 = 1;
    pub const BOOL: u32 = 2;
    pub const INT: u32 = 3;
    pub const DOUBLE: u32 = 4;
    pub const ARRAY: u32 = 5;
    pub const KVLIST: u32 = 6;
    pub const VALUES: u32 = 1;
    pub const KEY: u32 = 1;
    pub const VALUE: u32 = 2;
}

/// Containers within containers up to this are kept as such. Decoders downstream refuse messages
/// nested deeper than 100, of which a level here takes up to three, and one such record would
/// poison its batch; deeper subtrees become their JSON text.
const DEEPEST: usize = 16;

/// A name and a text that are together shorter than this need one byte for each length.
const SHORT: usize = 0x80 - 6;

/// Where an `AnyValue` stands in the message around it.
#[derive(Clone, Copy, Debug)]
pub enum Place<'n> {
    /// It is the field of this number.
    Field(u32),
    /// It is the value of a `KeyValue` with this name, and that is the field of this number.
    Pair(u32, &'n [u8]),
}

impl Place<'_> {
    /// Writes all that stands before what is inside an `AnyValue` of `len` bytes.
    #[inline(always)]
    fn head(self, out: &mut Out, len: usize) {
        match self {
            Place::Field(tag) => wire::head(out, tag, len),
            Place::Pair(tag, name) => {
                wire::head(out, tag, wire::string_len(name) + wire::message_len(len));
                wire::string(out, field::KEY, name);
                wire::head(out, field::VALUE, len);
            }
        }
    }

    /// The length of the whole, where the `AnyValue` has `len` bytes.
    #[inline(always)]
    fn len(self, len: usize) -> usize {
        match self {
            Place::Field(_) => wire::message_len(len),
            Place::Pair(_, name) => wire::message_len(wire::string_len(name) + wire::message_len(len)),
        }
    }

    fn begin(self, out: &mut Out) -> (Option<wire::Open>, wire::Open) {
        match self {
            Place::Field(tag) => (None, wire::begin(out, tag)),
            Place::Pair(tag, name) => {
                let pair = wire::begin(out, tag);
                wire::string(out, field::KEY, name);
                (Some(pair), wire::begin(out, field::VALUE))
            }
        }
    }
}

/// Writes a string.
#[inline]
pub fn text(out: &mut Out, place: Place<'_>, text: &[u8]) {
    if let Place::Pair(tag, name) = place
        && !name.is_empty()
        && name.len() + text.len() < SHORT
    {
        // As below, but every length is one byte.
        let (name_len, len) = (name.len() as u8, text.len() as u8);
        out.array(&[wire::key(tag), name_len + len + 6, wire::key(field::KEY), name_len]);
        out.put(name);
        out.array(&[wire::key(field::VALUE), len + 2, wire::key(field::STRING), len]);
        out.put(text);
        return;
    }
    place.head(out, wire::message_len(text.len()));
    wire::bytes(out, field::STRING, text);
}

/// The length of what [`text()`] writes.
pub fn text_len(place: Place<'_>, text: &[u8]) -> usize {
    place.len(wire::message_len(text.len()))
}

/// Reads one value and writes it; null is an `AnyValue` without a value.
///
/// # Errors
/// Those of `json`.
#[inline]
pub fn read(json: &mut Json<'_>, out: &mut Out, place: Place<'_>, tally: &mut Tally) -> Result<(), NotJson> {
    nested(json, out, place, tally, 1)
}

fn nested(json: &mut Json<'_>, out: &mut Out, place: Place<'_>, tally: &mut Tally, depth: usize) -> Result<(), NotJson> {
    match json.peek()? {
        Kind::String => text(out, place, json.text()?),
        Kind::Number => number(json.number()?, out, place),
        Kind::Bool => boolean(json.boolean()?, out, place),
        Kind::Null => {
            json.null()?;
            place.head(out, 0);
        }
        Kind::Array | Kind::Object if depth > DEEPEST => {
            tally.one(Oddity::CutDepth);
            text(out, place, json.raw()?);
        }
        kind => {
            let (pair, any) = place.begin(out);
            if kind == Kind::Array {
                array(json, out, tally, depth)?
            } else {
                object(json, out, tally, depth)?
            };
            wire::end(out, any);
            if let Some(pair) = pair {
                wire::end(out, pair);
            }
        }
    }
    Ok(())
}

fn boolean(flag: bool, out: &mut Out, place: Place<'_>) {
    place.head(out, wire::varint_len(1));
    wire::varint(out, field::BOOL, u64::from(flag));
}

fn number(number: Number<'_>, out: &mut Out, place: Place<'_>) {
    match number {
        // Two's complement, as protobuf's int64 has it.
        Number::Int(int) => {
            place.head(out, wire::varint_len(int as u64));
            wire::varint(out, field::INT, int as u64);
        }
        Number::Double(double) => {
            place.head(out, wire::FIXED64_LEN);
            wire::fixed64(out, field::DOUBLE, double.to_bits());
        }
        Number::Text(digits) => text(out, place, digits),
    }
}

fn array(json: &mut Json<'_>, out: &mut Out, tally: &mut Tally, depth: usize) -> Result<(), NotJson> {
    let array = wire::begin(out, field::ARRAY);
    let mut more = json.array()?;
    while more {
        nested(json, out, Place::Field(field::VALUES), tally, depth + 1)?;
        more = json.next_element()?;
    }
    wire::end(out, array);
    Ok(())
}

fn object(json: &mut Json<'_>, out: &mut Out, tally: &mut Tally, depth: usize) -> Result<(), NotJson> {
    let list = wire::begin(out, field::KVLIST);
    let mut seen = Keys::default();
    let mut key = json.object()?;
    while let Some(name) = key {
        if seen.insert(name) {
            nested(json, out, Place::Pair(field::VALUES, name), tally, depth + 1)?;
        } else {
            tally.one(Oddity::DuplicateKey);
            json.skip()?;
        }
        key = json.next_key()?;
    }
    wire::end(out, list);
    Ok(())
}

/// Writes a value of the configuration.
pub fn configured(out: &mut Out, place: Place<'_>, value: &Value) {
    match value {
        Value::Null => place.head(out, 0),
        Value::Bool(flag) => boolean(*flag, out, place),
        Value::String(string) => text(out, place, string.as_bytes()),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            // It was parsed from JSON a moment ago.
            let json = value.to_string();
            let arena = Bump::new();
            let _ = read(&mut Json::new(json.as_bytes(), &arena), out, place, &mut Tally::default());
        }
    }
}
