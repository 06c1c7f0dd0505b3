//! Records + claims + `now` → one OTLP `ExportLogsServiceRequest`, as protobuf.
//!
//! The whole mapping is docs/mapping.md; this folder has a file for each part of it. The body is
//! read once and written straight into the output. Only a batch whose clock is wrong is read a
//! second time, since how far it moves is known at its end. Nothing here refuses a record: what is
//! odd is kept, renamed or counted.
//!
//! Encoded requests may be concatenated byte for byte: that is how repeated fields work.

mod attributes;
mod clock;
mod exception;
mod keys;
mod record;
mod timestamp;
mod uid;
mod value;
mod wire;

use crate::batch::json::{Json, Kind, NotJson};
use crate::batch::{self, Visitor};
use crate::config::Mapping;
use crate::rejection::Rejection;
use crate::stats::Oddity;
use attributes::Attributes;
use clock::{Placement, Stamp};
use record::Scratch;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;
use uid::Uids;

/// What the server knows of a request, apart from its body.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Whose subject it is; empty where the token doesn't say.
    pub issuer: &'a str,
    /// The verified subject.
    pub subject: &'a str,
    /// When the request's headers arrived, as time since the Unix epoch.
    pub received: Duration,
}

/// A batch on its way to the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// A serialized `ExportLogsServiceRequest`; empty where there are no records.
    pub protobuf: Vec<u8>,
    /// How many records it holds.
    pub records: u64,
    /// The first session id that a record names.
    pub session: Option<Vec<u8>>,
    /// What was odd, and how often.
    pub oddities: Vec<(Oddity, u64)>,
}

/// Reads a batch and encodes it. Lone surrogates in `body` are overwritten on the way.
///
/// # Errors
/// A body that is no JSON or no envelope, or too many records. What a record holds is no reason.
pub fn encode(body: &mut [u8], known: Known<'_>, mapping: &Mapping) -> Result<Encoded, Rejection> {
    let repaired = batch::repair(body);
    let mut batch = Batch::new(known, mapping, None);
    batch::read(body, &mut batch)?;
    if batch.too_many {
        return Err(Rejection::TooManyRecords);
    }
    if let Some(plan) = clock::plan(&batch.stamps, batch.sent_at, known.received, mapping.window) {
        batch = Batch::new(known, mapping, Some(plan));
        batch::read(body, &mut batch)?;
    }
    batch.tally.add(Oddity::RepairedText, repaired as u64);
    Ok(batch.finish())
}

/// How often each oddity was seen.
#[derive(Debug, Default)]
struct Tally(HashMap<Oddity, u64>);

impl Tally {
    fn add(&mut self, oddity: Oddity, times: u64) {
        if times > 0 {
            *self.0.entry(oddity).or_default() += times;
        }
    }

    fn one(&mut self, oddity: Oddity) {
        self.add(oddity, 1);
    }
}

/// A logger's records, encoded.
struct Scope<'a> {
    name: Cow<'a, [u8]>,
    records: Vec<u8>,
}

/// A batch while it is read.
struct Batch<'a, 'k> {
    mapping: &'k Mapping,
    received: Duration,
    /// The attributes that every record of the request has, encoded once.
    common: Vec<u8>,
    uids: Uids,
    resource: Option<Vec<u8>>,
    scopes: Vec<Scope<'a>>,
    by_name: HashMap<Cow<'a, [u8]>, usize>,
    scratch: Scratch<'a>,
    stamps: Vec<Stamp>,
    sent_at: Option<i128>,
    plan: Option<Vec<Placement>>,
    session: Option<Cow<'a, [u8]>>,
    too_many: bool,
    tally: Tally,
}

impl<'a, 'k> Batch<'a, 'k> {
    fn new(known: Known<'_>, mapping: &'k Mapping, plan: Option<Vec<Placement>>) -> Batch<'a, 'k> {
        Batch {
            mapping,
            received: known.received,
            common: record::common(known),
            uids: Uids::new(known.issuer, known.subject),
            resource: None,
            scopes: Vec::new(),
            by_name: HashMap::new(),
            scratch: Scratch::default(),
            stamps: Vec::new(),
            sent_at: None,
            plan,
            session: None,
            too_many: false,
            tally: Tally::default(),
        }
    }

    /// The records of a logger; a new scope at its first appearance.
    fn scope(&mut self, name: Cow<'a, [u8]>) -> &mut Vec<u8> {
        let next = self.scopes.len();
        let index = *self.by_name.entry(name.clone()).or_insert(next);
        if index == next {
            self.scopes.push(Scope { name, records: Vec::new() });
        }
        match self.scopes.get_mut(index) {
            Some(scope) => &mut scope.records,
            // Not reached: every index in `by_name` is one of `scopes`.
            None => &mut self.scratch.stray,
        }
    }

    fn finish(mut self) -> Encoded {
        let records = self.stamps.len() as u64;
        let resource = self.resource.take().unwrap_or_else(|| resource(None, &self.mapping.resource, &mut self.tally).unwrap_or_default());
        let protobuf = if records == 0 { Vec::new() } else { join(&resource, &self.scopes) };
        let mut oddities: Vec<(Oddity, u64)> = self.tally.0.into_iter().collect();
        oddities.sort();
        Encoded { protobuf, records, session: self.session.map(Cow::into_owned), oddities }
    }
}

impl<'a> Visitor<'a> for Batch<'a, '_> {
    fn record(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        if self.stamps.len() >= self.mapping.max_records {
            self.too_many = true;
            return json.skip();
        }
        let placement = self.plan.as_ref().and_then(|plan| plan.get(self.stamps.len())).copied();
        let server = record::Server { common: &self.common, uids: &mut self.uids, received: self.received };
        let read = record::read(json, &mut self.scratch, server, placement, &mut self.tally)?;
        self.stamps.push(read.stamp);
        if self.session.is_none() {
            self.session = read.session;
        }
        let bytes = std::mem::take(&mut self.scratch.record);
        wire::bytes(self.scope(read.logger), field::SCOPE_LOGS_LOG_RECORDS, &bytes);
        self.scratch.record = bytes;
        Ok(())
    }

    fn resource(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        self.resource = Some(resource(Some(json), &self.mapping.resource, &mut self.tally)?);
        Ok(())
    }

    fn sent_at(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        let text = if json.peek()? == Kind::String { json.text()? } else { Cow::Borrowed(json.raw()?) };
        self.sent_at = timestamp::parse(&text);
        Ok(())
    }
}

/// Field numbers of opentelemetry-proto's `common`, `resource`, `logs` and `collector/logs`.
mod field {
    pub const REQUEST_RESOURCE_LOGS: u32 = 1;
    pub const RESOURCE_LOGS_RESOURCE: u32 = 1;
    pub const RESOURCE_LOGS_SCOPE_LOGS: u32 = 2;
    pub const RESOURCE_ATTRIBUTES: u32 = 1;
    pub const RESOURCE_DROPPED_ATTRIBUTES_COUNT: u32 = 2;
    pub const SCOPE_LOGS_SCOPE: u32 = 1;
    pub const SCOPE_LOGS_LOG_RECORDS: u32 = 2;
    pub const SCOPE_NAME: u32 = 1;
}

/// A `Resource`: the client's attributes, those of the configuration over them, and a service name.
fn resource(json: Option<&mut Json<'_>>, configured: &Map<String, Value>, tally: &mut Tally) -> Result<Vec<u8>, NotJson> {
    let own = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| configured.contains_key(name));
    let mut attributes = Attributes::new(field::RESOURCE_ATTRIBUTES);
    for (name, value) in configured {
        attributes.write_own(name.as_bytes(), |out| value::configured(out, value));
    }
    let mut named = None;
    if let Some(json) = json {
        if json.peek()? == Kind::Object {
            named = attributes.read_object(json, &own, tally, |name| name == SERVICE_NAME.as_bytes())?;
        } else {
            attributes.read(Cow::Borrowed(b"resource"), json, &own, tally)?;
        }
    }
    attributes.finish(tally);
    // Named by the client, and not among the last that had to make room.
    let named = named.is_some_and(|place| place <= attributes.count());
    if !named && !configured.contains_key(SERVICE_NAME) {
        attributes.write_own(SERVICE_NAME.as_bytes(), |out| wire::bytes(out, value::field::STRING, b"unknown_service"));
        attributes.finish(tally);
    }
    attributes.finish(tally);
    let dropped = attributes.dropped();
    let mut resource = attributes.into_bytes();
    wire::uint(&mut resource, field::RESOURCE_DROPPED_ATTRIBUTES_COUNT, dropped);
    Ok(resource)
}

const SERVICE_NAME: &str = "service.name";

/// `ExportLogsServiceRequest { ResourceLogs { resource, [ScopeLogs { scope, records }] } }`.
fn join(resource: &[u8], scopes: &[Scope<'_>]) -> Vec<u8> {
    let records: usize = scopes.iter().map(|scope| scope.records.len() + scope.name.len() + 32).sum();
    let mut out = Vec::with_capacity(resource.len() + records + 32);
    let request = wire::begin(&mut out, field::REQUEST_RESOURCE_LOGS);
    wire::bytes(&mut out, field::RESOURCE_LOGS_RESOURCE, resource);
    for scope in scopes {
        let name = wire::string_len(field::SCOPE_NAME, &scope.name);
        let head = wire::message_len(field::SCOPE_LOGS_SCOPE, name);
        wire::head(&mut out, field::RESOURCE_LOGS_SCOPE_LOGS, head + scope.records.len());
        wire::head(&mut out, field::SCOPE_LOGS_SCOPE, name);
        wire::string(&mut out, field::SCOPE_NAME, &scope.name);
        out.extend_from_slice(&scope.records);
    }
    wire::end(&mut out, request);
    out
}

#[cfg(test)]
mod tests;
