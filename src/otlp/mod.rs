//! Records + claims + `now` → one OTLP `ExportLogsServiceRequest`, as protobuf.
//!
//! The whole mapping is docs/mapping.md; this folder has a file for each part of it. The body is
//! read once. Bodies and attributes are encoded as they are met; the records are put together at
//! the end, when their lengths are known, and how far the batch's clock is wrong. Nothing here
//! refuses a record: what is odd is kept, renamed or counted.
//!
//! Encoded requests may be concatenated byte for byte: that is how repeated fields work.

mod attributes;
mod clock;
mod entry;
mod exception;
mod keys;
mod meaning;
mod out;
mod record;
mod resource;
mod scopes;
mod scratch;
mod tail;
mod timestamp;
mod uid;
mod value;
mod wire;

use crate::batch::json::{Json, Kind, NotJson};
use crate::batch::{self, Visitor};
use crate::config::Mapping;
use crate::rejection::Rejection;
use crate::stats::Oddity;
use bumpalo::Bump;
use entry::Entry;
use out::Out;
use resource::Resources;
use scopes::Scopes;
use scratch::{Room, Scratch};
use std::rc::Rc;
use std::time::Duration;
use uid::Uids;

/// What the server knows of a request, apart from its body.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Issuer and subject as a number.
    pub sender: u64,
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
    Encoder::default().encode(body, known, mapping)
}

/// Encodes one batch after the other, in the same memory where they aren't large.
#[derive(Debug, Default)]
pub struct Encoder {
    room: Room,
    resources: Resources,
}

impl Encoder {
    /// As [`encode`].
    ///
    /// # Errors
    /// Those of [`encode`].
    // Its parts stand out of line: V8 keeps the memory that its largest functions take.
    #[inline(never)]
    pub fn encode(&mut self, body: &mut [u8], known: Known<'_>, mapping: &Mapping) -> Result<Encoded, Rejection> {
        let repaired = batch::repair(body);
        let arena = Bump::new();
        self.resources.configure(&mapping.resource);
        let room = std::mem::take(&mut self.room).with_capacity(body.len());
        let mut batch = Batch::new(known, mapping, room, &mut self.resources, body.len());
        batch::read(body, &arena, &mut batch)?;
        if batch.too_many {
            return Err(Rejection::TooManyRecords);
        }
        batch.tally.add(Oddity::RepairedText, repaired as u64);
        let encoded = batch.finish();
        self.room = batch.scratch.into_room();
        Ok(encoded)
    }
}

/// The bytes of an ordinary record.
const ORDINARY: usize = 512;

/// How often each oddity was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally([u64; Oddity::ALL.len()]);

impl Tally {
    fn add(&mut self, oddity: Oddity, times: u64) {
        if let Some(count) = self.0.get_mut(oddity as usize) {
            *count += times;
        }
    }

    fn one(&mut self, oddity: Oddity) {
        self.add(oddity, 1);
    }

    /// Those that were seen.
    fn seen(&self) -> Vec<(Oddity, u64)> {
        Oddity::ALL.iter().copied().zip(self.0).filter(|&(_, times)| times > 0).collect()
    }
}

/// A batch while it is read.
struct Batch<'a, 'k> {
    mapping: &'k Mapping,
    /// Nanoseconds since the Unix epoch.
    received: i128,
    sender: u64,
    uids: Uids,
    resources: &'k mut Resources,
    resource: Option<Rc<[u8]>>,
    scratch: Scratch<'a>,
    entries: Vec<Entry<'a>>,
    scopes: Scopes<'a>,
    sent_at: Option<i128>,
    session: Option<&'a [u8]>,
    too_many: bool,
    tally: Tally,
}

impl<'a, 'k> Batch<'a, 'k> {
    /// For a body of so many bytes.
    fn new(known: Known<'_>, mapping: &'k Mapping, room: Room, resources: &'k mut Resources, bytes: usize) -> Batch<'a, 'k> {
        Batch {
            mapping,
            received: known.received.as_nanos() as i128,
            sender: known.sender,
            uids: Uids::new(known.sender),
            resources,
            resource: None,
            scratch: Scratch::new(known, room),
            entries: Vec::with_capacity((bytes / ORDINARY + 1).min(mapping.max_records)),
            scopes: Scopes::default(),
            sent_at: None,
            session: None,
            too_many: false,
            tally: Tally::default(),
        }
    }

    #[inline(never)]
    fn finish(&mut self) -> Encoded {
        let records = self.entries.len() as u64;
        let stamps = self.entries.iter().map(|entry| entry.stamp);
        if let Some(plan) = clock::plan(stamps, self.sent_at, self.received, self.mapping.window) {
            self.entries.iter_mut().zip(plan).for_each(|(entry, placement)| entry.placement = placement);
        }
        for entry in &mut self.entries {
            entry.settle(&mut self.tally);
        }
        let protobuf = if records == 0 { Vec::new() } else { self.join() };
        Encoded { protobuf, records, session: self.session.map(<[u8]>::to_vec), oddities: self.tally.seen() }
    }

    /// `ExportLogsServiceRequest { ResourceLogs { resource, [ScopeLogs { scope, [LogRecord] }] } }`.
    #[inline(never)]
    fn join(&mut self) -> Vec<u8> {
        let resource = self.resource.take().unwrap_or_else(|| self.resources.unsaid(&mut self.tally));
        let lengths = self.scopes.lengths(&self.entries);
        let inside = wire::message_len(resource.len()) + lengths.iter().map(|&len| wire::message_len(len)).sum::<usize>();
        let mut out = Out::with_capacity(wire::message_len(inside));
        wire::head(&mut out, field::REQUEST_RESOURCE_LOGS, inside);
        wire::bytes(&mut out, field::RESOURCE_LOGS_RESOURCE, &resource);
        let texts = self.scratch.texts();
        for (scope, len) in self.scopes.iter().zip(lengths) {
            wire::head(&mut out, field::RESOURCE_LOGS_SCOPE_LOGS, len);
            wire::head(&mut out, field::SCOPE_LOGS_SCOPE, wire::string_len(scope.name));
            wire::string(&mut out, field::SCOPE_NAME, scope.name);
            for entry in scope.entries(&self.entries) {
                wire::head(&mut out, field::SCOPE_LOGS_LOG_RECORDS, entry.len);
                entry.write(&mut out, &texts);
            }
        }
        out.into_vec()
    }
}

impl<'a> Visitor<'a> for Batch<'a, '_> {
    fn record(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        if self.entries.len() >= self.mapping.max_records {
            self.too_many = true;
            return json.skip();
        }
        let server = record::Server { uids: &mut self.uids, received: self.received };
        let place = self.entries.len();
        let (logger, session) = record::read(json, &mut self.scratch, server, &mut self.entries, &mut self.tally)?;
        if self.session.is_none() {
            self.session = session;
        }
        self.scopes.add(logger, place, &mut self.entries);
        Ok(())
    }

    fn resource(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        self.resource = Some(self.resources.read(self.sender, json, &mut self.tally)?);
        Ok(())
    }

    fn sent_at(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        let text = if json.peek()? == Kind::String { json.text()? } else { json.raw()? };
        self.sent_at = timestamp::parse(text);
        Ok(())
    }
}

/// Field numbers of opentelemetry-proto's `common`, `logs` and `collector/logs`.
mod field {
    pub const REQUEST_RESOURCE_LOGS: u32 = 1;
    pub const RESOURCE_LOGS_RESOURCE: u32 = 1;
    pub const RESOURCE_LOGS_SCOPE_LOGS: u32 = 2;
    pub const SCOPE_LOGS_SCOPE: u32 = 1;
    pub const SCOPE_LOGS_LOG_RECORDS: u32 = 2;
    pub const SCOPE_NAME: u32 = 1;
}

#[cfg(test)]
mod tests;
