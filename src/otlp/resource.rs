//! What sent the records: a `Resource`, of what the client says of itself and what the configuration adds.
//!
//! A client says the same of itself in every batch. Where it does, byte for byte, comparing it is a fraction
//! of reading it, so what came of it is kept for some senders, the last that were heard.

use super::attributes::Attributes;
use super::out::Out;
use super::{Tally, wire};
use crate::batch::json::{Json, Kind, NotJson};
use crate::ids::Ids;
use serde_json::{Map, Value};
use std::rc::Rc;

/// Field numbers of `Resource`.
mod field {
    pub const ATTRIBUTES: u32 = 1;
    pub const DROPPED_ATTRIBUTES_COUNT: u32 = 2;
}

/// So many senders' at most, in two generations: when the younger is full the older is forgotten.
const SENDERS: usize = 512;

/// A longer text isn't kept: all together are less than a megabyte.
const LONGEST: usize = 768;

/// A client's own text, and what came of it. Nothing in it was odd.
#[derive(Clone, Debug)]
struct Said {
    text: Rc<[u8]>,
    encoded: Rc<[u8]>,
}

/// What senders said of themselves.
#[derive(Debug, Default)]
pub struct Resources {
    /// What was added to all that is kept.
    configured: Map<String, Value>,
    young: Ids<u64, Said>,
    old: Ids<u64, Said>,
}

impl Resources {
    /// Says what is to be added from here on.
    pub fn configure(&mut self, configured: &Map<String, Value>) {
        if self.configured != *configured {
            *self = Resources { configured: configured.clone(), ..Resources::default() };
        }
    }

    /// Where a client says nothing.
    pub fn unsaid(&self, tally: &mut Tally) -> Rc<[u8]> {
        encode(None, &self.configured, tally).unwrap_or_default().into()
    }

    /// Reads what the sender of this number says, which may be any value.
    ///
    /// # Errors
    /// Those of `json`.
    pub fn read(&mut self, sender: u64, json: &mut Json<'_>, tally: &mut Tally) -> Result<Rc<[u8]>, NotJson> {
        // An object's text is no other's beginning.
        let is_object = json.peek()? == Kind::Object;
        let young = self.young.get(sender);
        if is_object
            && let Some(said) = young.or_else(|| self.old.get(sender))
            && json.again_all(&said.text)
        {
            let (said, is_young) = (said.clone(), young.is_some());
            let encoded = Rc::clone(&said.encoded);
            if !is_young {
                self.keep(sender, said);
            }
            return Ok(encoded);
        }
        let (start, before) = (json.position(), tally.clone());
        let encoded: Rc<[u8]> = encode(Some(json), &self.configured, tally)?.into();
        let text = json.since(start);
        if is_object && text.len().max(encoded.len()) <= LONGEST && *tally == before {
            self.keep(sender, Said { text: text.into(), encoded: Rc::clone(&encoded) });
        }
        Ok(encoded)
    }

    fn keep(&mut self, sender: u64, said: Said) {
        if self.young.len() >= SENDERS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(sender, said);
    }
}

/// A `Resource`: the client's attributes, those of the configuration over them, and a service name.
fn encode(json: Option<&mut Json<'_>>, configured: &Map<String, Value>, tally: &mut Tally) -> Result<Vec<u8>, NotJson> {
    let own = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| configured.contains_key(name));
    let mut attributes = Attributes::new(field::ATTRIBUTES, Out::with_capacity(USUAL_RESOURCE));
    for (name, value) in configured {
        attributes.configured(name.as_bytes(), value);
    }
    let mut named = None;
    if let Some(json) = json {
        if json.peek()? == Kind::Object {
            named = attributes.read_object(json, &own, tally, |name| name == SERVICE_NAME.as_bytes())?;
        } else {
            attributes.read(b"resource", json, &own, tally)?;
        }
    }
    attributes.finish(0, tally);
    // Named by the client, and not among the last that had to make room.
    let named = named.is_some_and(|place| place <= attributes.count());
    if !named && !configured.contains_key(SERVICE_NAME) {
        attributes.text(SERVICE_NAME.as_bytes(), b"unknown_service");
        attributes.finish(0, tally);
    }
    attributes.finish(0, tally);
    let dropped = attributes.dropped();
    let mut resource = attributes.into_out();
    wire::uint(&mut resource, field::DROPPED_ATTRIBUTES_COUNT, dropped);
    Ok(resource.into_vec())
}

/// Few have more bytes.
const USUAL_RESOURCE: usize = 512;

const SERVICE_NAME: &str = "service.name";

#[cfg(test)]
mod tests {
    use super::*;
    use bumpalo::Bump;

    fn read(resources: &mut Resources, sender: u64, text: &str) -> (Vec<u8>, usize, Tally) {
        let (arena, mut tally) = (Bump::new(), Tally::default());
        let body = format!("{text},7");
        let mut json = Json::new(body.as_bytes(), &arena);
        let encoded = resources.read(sender, &mut json, &mut tally).unwrap();
        (encoded.to_vec(), json.position(), tally)
    }

    #[test]
    fn whatever_was_said_before_it_is_read_as_if_for_the_first_time() {
        let mut resources = Resources::default();
        let said = [
            r#"{"service.name":"app"}"#,
            r#"{"service.name":"app","x":1}"#,
            r#"{"service.name":"app" }"#,
            r#"{"service.name":"app"}"#,
            r#"  {"service.name":"app"}"#,
            "{}",
            "7",
            "71",
            "7",
            r#""text""#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"\u0061":[null,{"b":"\ud83d\ude00"}]}"#,
            r#"{"\u0061":[null,{"b":"\ud83d\ude00"}]}"#,
        ];
        for sender in [1, 2, 1] {
            for text in said {
                let first = read(&mut Resources::default(), sender, text);
                assert_eq!(first.1, text.len(), "{text}");
                assert_eq!(read(&mut resources, sender, text), first, "{text}");
            }
        }
    }

    #[test]
    fn what_is_configured_is_in_all_that_follows() {
        let mut resources = Resources::default();
        let text = r#"{"service.name":"app","region":"x"}"#;
        let without = read(&mut resources, 1, text).0;
        let configured: Map<String, Value> = serde_json::from_str(r#"{"region": "eu"}"#).unwrap();
        resources.configure(&configured);
        let with = read(&mut resources, 1, text).0;
        assert_ne!(with, without);
        resources.configure(&configured);
        assert_eq!(read(&mut resources, 1, text).0, with);
        resources.configure(&Map::new());
        assert_eq!(read(&mut resources, 1, text).0, without);
    }

    #[test]
    fn a_bounded_number_is_kept_and_of_those_in_use_the_same_memory_is_given() {
        let mut resources = Resources::default();
        let arena = Bump::new();
        let mut read =
            |sender: u64, text: &str| resources.read(sender, &mut Json::new(text.as_bytes(), &arena), &mut Tally::default()).unwrap();
        let first = read(0, r#"{"a":"0"}"#);
        for sender in 1..5_000 {
            read(sender, r#"{"a":"1"}"#);
            assert!(Rc::ptr_eq(&first, &read(0, r#"{"a":"0"}"#)), "{sender}");
        }
        assert!(!Rc::ptr_eq(&read(1, r#"{"a":"1"}"#), &first));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(LONGEST));
        assert!(!Rc::ptr_eq(&read(7, &long), &read(7, &long)));
        assert!(resources.young.len() + resources.old.len() <= SENDERS);
    }
}
