//! `google.protobuf.Struct` → JSON value, in the configuration and in dynamic metadata.
//!
//! Plain YAML in the Envoy file arrives as a serialized Struct. In it every number is a double,
//! so whole ones become integers again; keys come in no order that means anything.

use prost::Message;
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

/// The Struct as JSON, or `None` if the bytes are no Struct. An empty message is an empty object.
pub fn decode(bytes: &[u8]) -> Option<Value> {
    prost_types::Struct::decode(bytes).ok().map(object)
}

/// `envoy.config.core.v3.Metadata`, as far as it is read here.
#[derive(prost::Message)]
struct Metadata {
    #[prost(message, repeated, tag = "1")]
    filter_metadata: Vec<Named>,
}

/// An entry of a map from strings to Structs: what a map is on the wire.
#[derive(prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<prost_types::Struct>,
}

/// An object in a filter's dynamic metadata, given all of a stream's metadata serialized.
pub fn filter_metadata(bytes: &[u8], filter: &str, key: &str) -> Option<Map<String, Value>> {
    let metadata = Metadata::decode(bytes).ok()?;
    // Of two entries with one name the last one counts.
    let mut fields = metadata.filter_metadata.into_iter().rfind(|named| named.key == filter)?.value?.fields;
    match value(fields.remove(key)?) {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn object(fields: prost_types::Struct) -> Value {
    let mut object = Map::new();
    // Collecting would bring sorting into the module.
    for (name, field) in fields.fields {
        object.insert(name, value(field));
    }
    Value::Object(object)
}

// The depth is bounded by prost's own recursion limit while decoding.
fn value(value_: prost_types::Value) -> Value {
    match value_.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => self::number(number),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}

/// Below 2^53 a double tells whole numbers apart; at it, two read the same.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < EXACT {
        Value::Number(Number::from(number as i64))
    } else {
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: Option<&str>) -> Named {
        let text = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let object = |sub: &str| {
            let payload = prost_types::Struct { fields: [("sub".to_owned(), text(sub))].into() };
            prost_types::Struct { fields: [("payload".to_owned(), prost_types::Value { kind: Some(Kind::StructValue(payload)) })].into() }
        };
        Named { key: key.to_owned(), value: value.map(object) }
    }

    #[test]
    fn of_a_filters_metadata_the_last_entry_counts_as_in_any_map() {
        let sub = |entries: Vec<Named>| {
            let bytes = Metadata { filter_metadata: entries }.encode_to_vec();
            Some(filter_metadata(&bytes, "jwt", "payload")?.get("sub")?.as_str()?.to_owned())
        };
        let (one, two, other) = (|| entry("jwt", Some("1")), || entry("jwt", Some("2")), || entry("other", Some("3")));
        assert_eq!(sub(vec![other(), one(), other()]).as_deref(), Some("1"));
        assert_eq!(sub(vec![one(), two()]).as_deref(), Some("2"));
        assert_eq!(sub(vec![one(), entry("jwt", None)]), None);
        assert_eq!(sub(vec![other()]), None);
        assert_eq!(filter_metadata(b"\xff", "jwt", "payload"), None);
    }
}
