//! JSON value → OTLP `AnyValue`.

use super::keys::Keys;
use super::{Tally, wire};
use crate::batch::json::{Json, Kind, NotJson, Number};
use crate::stats::Oddity;
use serde_json::Value;

/// Field numbers of `AnyValue`, `ArrayValue`, `KeyValueList` and `KeyValue`.
pub mod field {
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

/// Reads one value and writes what stands inside its `AnyValue`; null writes nothing.
///
/// # Errors
/// Those of `json`.
pub fn any(json: &mut Json<'_>, out: &mut Vec<u8>, tally: &mut Tally) -> Result<(), NotJson> {
    nested(json, out, tally, 1)
}

fn nested(json: &mut Json<'_>, out: &mut Vec<u8>, tally: &mut Tally, depth: usize) -> Result<(), NotJson> {
    match json.peek()? {
        Kind::Null => json.null()?,
        Kind::Bool => wire::varint(out, field::BOOL, u64::from(json.boolean()?)),
        Kind::String => wire::bytes(out, field::STRING, &json.text()?),
        Kind::Number => number(json.number()?, out),
        Kind::Array | Kind::Object if depth > DEEPEST => {
            tally.one(Oddity::CutDepth);
            wire::bytes(out, field::STRING, json.raw()?);
        }
        Kind::Array => array(json, out, tally, depth)?,
        Kind::Object => object(json, out, tally, depth)?,
    }
    Ok(())
}

fn number(number: Number<'_>, out: &mut Vec<u8>) {
    match number {
        // Two's complement, as protobuf's int64 has it.
        Number::Int(int) => wire::varint(out, field::INT, int as u64),
        Number::Double(double) => wire::fixed64(out, field::DOUBLE, double.to_bits()),
        Number::Text(text) => wire::bytes(out, field::STRING, text),
    }
}

fn array(json: &mut Json<'_>, out: &mut Vec<u8>, tally: &mut Tally, depth: usize) -> Result<(), NotJson> {
    let array = wire::begin(out, field::ARRAY);
    let mut more = json.array()?;
    while more {
        let element = wire::begin(out, field::VALUES);
        nested(json, out, tally, depth + 1)?;
        wire::end(out, element);
        more = json.next_element()?;
    }
    wire::end(out, array);
    Ok(())
}

fn object(json: &mut Json<'_>, out: &mut Vec<u8>, tally: &mut Tally, depth: usize) -> Result<(), NotJson> {
    let list = wire::begin(out, field::KVLIST);
    let mut seen = Keys::default();
    let mut key = json.object()?;
    while let Some(name) = key {
        if seen.insert(&name) {
            let pair = wire::begin(out, field::VALUES);
            wire::string(out, field::KEY, &name);
            let value = wire::begin(out, field::VALUE);
            nested(json, out, tally, depth + 1)?;
            wire::end(out, value);
            wire::end(out, pair);
        } else {
            tally.one(Oddity::DuplicateKey);
            json.skip()?;
        }
        key = json.next_key()?;
    }
    wire::end(out, list);
    Ok(())
}

/// The same for a value of the configuration.
pub fn configured(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => wire::varint(out, field::BOOL, u64::from(*flag)),
        Value::String(text) => wire::bytes(out, field::STRING, text.as_bytes()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => wire::varint(out, field::INT, int as u64),
            (None, Some(double)) => wire::fixed64(out, field::DOUBLE, double.to_bits()),
            (None, None) => wire::bytes(out, field::STRING, number.to_string().as_bytes()),
        },
        Value::Array(_) | Value::Object(_) => {
            // It was parsed from JSON a moment ago.
            let text = value.to_string();
            let _ = any(&mut Json::new(text.as_bytes()), out, &mut Tally::default());
        }
    }
}
