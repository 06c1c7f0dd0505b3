//! Reading an object field by field, collecting faults instead of stopping at the first.
//!
//! Each reader returns `None` both for "not given" and for "given and wrong"; the latter leaves a
//! fault behind, and a configuration with a fault is never used, so the default that follows a
//! `None` does no harm.

use super::{Algorithm, Environment, Fault, Secret};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

#[derive(Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn add(&mut self, path: &str, what: &str) {
        self.0.push(Fault { path: path.to_owned(), what: what.to_owned() });
    }

    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

/// An object, its path, and the names that were asked for, so that the rest can be called unknown.
pub struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Object<'a> {
    pub fn root(value: &'a Value, faults: &mut Faults) -> Option<Object<'a>> {
        Object::at_path(String::new(), value, faults)
    }

    fn at_path(path: String, value: &'a Value, faults: &mut Faults) -> Option<Object<'a>> {
        match value {
            Value::Object(fields) => Some(Object { path, fields, known: Vec::new() }),
            other => {
                faults.add(&path, &format!("must be an object, not {}", kind(other)));
                None
            }
        }
    }

    /// The path of a field of this object.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.fields.get(name)
    }

    fn missing(&self, name: &str, faults: &mut Faults) {
        faults.add(&self.at(name), "is required");
    }

    /// Says of each field that nobody asked for that it is unknown.
    pub fn finish(self, faults: &mut Faults) {
        for name in self.fields.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let known = self.known.join(", ");
            faults.add(&self.at(name), &format!("unknown field; known here: {known}"));
        }
    }

    pub fn has(&mut self, name: &'static str) -> bool {
        self.take(name).is_some()
    }

    pub fn object(&mut self, name: &'static str, faults: &mut Faults) -> Option<Object<'a>> {
        let value = self.take(name)?;
        Object::at_path(self.at(name), value, faults)
    }

    pub fn required(&mut self, name: &'static str, faults: &mut Faults) -> Option<Object<'a>> {
        if !self.fields.contains_key(name) {
            self.missing(name, faults);
        }
        self.object(name, faults)
    }

    /// `None`: not given. `Some(None)`: null, or wrong.
    pub fn nullable(&mut self, name: &'static str, faults: &mut Faults) -> Option<Option<Object<'a>>> {
        match self.take(name)? {
            Value::Null => Some(None),
            value => Some(Object::at_path(self.at(name), value, faults)),
        }
    }

    pub fn map(&mut self, name: &'static str, faults: &mut Faults) -> Option<&'a Map<String, Value>> {
        self.object(name, faults).map(|object| object.fields)
    }

    fn array(&mut self, name: &'static str, faults: &mut Faults) -> Option<&'a [Value]> {
        match self.take(name)? {
            Value::Array(items) if items.is_empty() => {
                faults.add(&self.at(name), "must not be empty");
                Some(&[])
            }
            Value::Array(items) => Some(items),
            other => {
                faults.add(&self.at(name), &format!("must be a list, not {}", kind(other)));
                Some(&[])
            }
        }
    }

    pub fn objects(&mut self, name: &'static str, faults: &mut Faults) -> Option<Vec<Object<'a>>> {
        let items = self.array(name, faults)?;
        let path = self.at(name);
        let object = |(i, item)| Object::at_path(format!("{path}[{i}]"), item, faults);
        Some(items.iter().enumerate().filter_map(object).collect())
    }

    pub fn texts(&mut self, name: &'static str, faults: &mut Faults) -> Option<Vec<String>> {
        let items = self.array(name, faults)?;
        let path = self.at(name);
        let text = |(i, item)| text(&format!("{path}[{i}]"), item, faults);
        Some(items.iter().enumerate().filter_map(text).collect())
    }

    pub fn text(&mut self, name: &'static str, faults: &mut Faults) -> Option<String> {
        let value = self.take(name)?;
        text(&self.at(name), value, faults)
    }

    pub fn required_text(&mut self, name: &'static str, faults: &mut Faults) -> Option<String> {
        if !self.fields.contains_key(name) {
            self.missing(name, faults);
        }
        self.text(name, faults)
    }

    pub fn flag(&mut self, name: &'static str, faults: &mut Faults) -> Option<bool> {
        let value = self.take(name)?;
        if value.as_bool().is_none() {
            faults.add(&self.at(name), &format!("must be true or false, not {}", kind(value)));
        }
        value.as_bool()
    }

    pub fn whole(&mut self, name: &'static str, range: RangeInclusive<u64>, faults: &mut Faults) -> Option<u64> {
        let value = self.take(name)?;
        // A Struct's numbers are doubles, and JSON allows 60.0 for 60.
        let whole = value.as_u64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..=EXACT).contains(f)).map(|f| f as u64));
        match whole {
            Some(whole) if range.contains(&whole) => Some(whole),
            _ => {
                let (low, high) = (range.start(), range.end());
                let given = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
                faults.add(&self.at(name), &format!("must be a whole number from {low} to {high}, not {given}"));
                None
            }
        }
    }

    pub fn required_whole(&mut self, name: &'static str, range: RangeInclusive<u64>, faults: &mut Faults) -> Option<u64> {
        if !self.fields.contains_key(name) {
            self.missing(name, faults);
        }
        self.whole(name, range, faults)
    }

    /// A size in bytes: at least one, at most what a VM could hold.
    pub fn size(&mut self, name: &'static str, faults: &mut Faults) -> Option<u64> {
        self.whole(name, 1..=268_435_456, faults)
    }

    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        let given = self.take(name)?;
        let found = choices.iter().find(|(word, _)| given.as_str() == Some(word)).map(|(_, choice)| *choice);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            faults.add(&self.at(name), &format!("must be one of {}", words.join(", ")));
        }
        found
    }

    /// A string, a number or a boolean.
    pub fn scalar(&mut self, name: &'static str, faults: &mut Faults) -> Option<Value> {
        if !self.fields.contains_key(name) {
            self.missing(name, faults);
        }
        let value = self.take(name)?;
        let scalar = value.is_string() || value.is_number() || value.is_boolean();
        if !scalar {
            faults.add(&self.at(name), &format!("must be a string, a number or a boolean, not {}", kind(value)));
        }
        scalar.then(|| value.clone())
    }

    /// An object, or a string that holds one as JSON.
    pub fn json(&mut self, name: &'static str, faults: &mut Faults) -> Option<Value> {
        let value = self.take(name)?;
        let object = match value {
            Value::Object(_) => Some(value.clone()),
            Value::String(text) => serde_json::from_slice(text.as_bytes()).ok().filter(Value::is_object),
            _ => None,
        };
        if object.is_none() {
            faults.add(&self.at(name), "must be an object, or a string that holds one as JSON");
        }
        object
    }

    pub fn algorithms(&mut self, faults: &mut Faults) -> Vec<Algorithm> {
        let path = self.at("algorithms");
        let Some(names) = self.texts("algorithms", faults) else {
            faults.add(&path, "is required: the only algorithms that are accepted");
            return Vec::new();
        };
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match Algorithm::named(name) {
                Some(algorithm) if algorithms.contains(&algorithm) => faults.add(&format!("{path}[{i}]"), "stands twice"),
                Some(algorithm) => algorithms.push(algorithm),
                None => {
                    let known: Vec<&str> = Algorithm::ALL.iter().map(|a| a.name()).collect();
                    faults.add(&format!("{path}[{i}]"), &format!("must be one of {}", known.join(", ")));
                }
            }
        }
        algorithms
    }

    /// The value of the environment variable that the field names.
    pub fn variable(&mut self, name: &'static str, environment: Environment<'_>, faults: &mut Faults) -> Option<Secret> {
        let variable = self.text(name, faults)?;
        match environment(&variable) {
            Some(value) if !value.is_empty() => Some(Secret::new(value)),
            _ => {
                faults.add(
                    &self.at(name),
                    &format!(
                        "the environment variable {variable} is not set in the VM; name it in vm_config.environment_variables.host_env_keys"
                    ),
                );
                None
            }
        }
    }

    /// Header names and values, names in lower case, in the order of the names.
    pub fn headers(&mut self, name: &'static str, faults: &mut Faults) -> Vec<(String, Secret)> {
        let path = self.at(name);
        let mut headers = Vec::new();
        for (header, value) in self.map(name, faults).into_iter().flatten() {
            let path = format!("{path}.{header}");
            let Some(value) = text(&path, value, faults) else {
                continue;
            };
            let header = header.to_ascii_lowercase();
            if header.is_empty() || !header.bytes().all(is_token) {
                faults.add(&path, "is no header name");
            } else if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                faults.add(&path, "is no header value: printable ASCII without line breaks");
            } else {
                headers.push((header, Secret::new(value)));
            }
        }
        headers
    }
}

const EXACT: f64 = 9_007_199_254_740_992.0;

/// RFC 9110's `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn text(path: &str, value: &Value, faults: &mut Faults) -> Option<String> {
    match value {
        Value::String(text) if text.is_empty() => {
            faults.add(path, "must not be empty");
            None
        }
        Value::String(text) => Some(text.clone()),
        other => {
            faults.add(path, &format!("must be a string, not {}", kind(other)));
            None
        }
    }
}

/// What a value is, never what it says: it may be a key.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
