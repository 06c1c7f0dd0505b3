//! The body: what a batch and its records are.
//!
//! Reads the envelope `{"logs": […], "resource": {…}}` once, front to back, and hands each part to
//! a [`Visitor`] at the moment it is reached, so that no tree is built. Knows which field is which
//! in both generations of clients; knows nothing of what becomes of them. Touches body bytes alone.

pub mod json;
mod repair;

use crate::rejection::Rejection;
use bumpalo::Bump;
use json::{Json, Kind, NotJson};
pub use repair::repair;

/// The fields of a record that mean something to the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The device's clock when the record was made.
    Timestamp,
    /// Severity.
    Level,
    /// Logger name.
    Logger,
    /// The message.
    Message,
    /// The record's attributes.
    Attributes,
    /// The error's `toString()`.
    Error,
    /// Its stack trace.
    StackTrace,
    /// 32 hex digits.
    TraceId,
    /// 16 hex digits.
    SpanId,
    /// The install.
    InstallId,
    /// The start of the app.
    SessionId,
    /// The user, as the client says.
    UserId,
    /// `{thread_id, run_id}`.
    ActiveRun,
    /// What happened before.
    Breadcrumbs,
}

impl Field {
    /// The field of that name, and in which generation's spelling it is.
    #[inline]
    pub fn named(name: &[u8]) -> Option<(Field, Spelling)> {
        use Spelling::{First, Second};
        Some(match name {
            b"timestamp" => (Field::Timestamp, First),
            b"level" => (Field::Level, First),
            b"logger" => (Field::Logger, First),
            b"message" => (Field::Message, First),
            b"attributes" => (Field::Attributes, First),
            b"error" => (Field::Error, First),
            b"stackTrace" => (Field::StackTrace, First),
            b"stack_trace" => (Field::StackTrace, Second),
            b"traceId" => (Field::TraceId, First),
            b"trace_id" => (Field::TraceId, Second),
            b"spanId" => (Field::SpanId, First),
            b"span_id" => (Field::SpanId, Second),
            b"installId" => (Field::InstallId, First),
            b"install_id" => (Field::InstallId, Second),
            b"sessionId" => (Field::SessionId, First),
            b"session_id" => (Field::SessionId, Second),
            b"userId" => (Field::UserId, First),
            b"user_id" => (Field::UserId, Second),
            b"active_run" => (Field::ActiveRun, First),
            b"breadcrumbs" => (Field::Breadcrumbs, First),
            _ => return None,
        })
    }
}

/// The two generations of clients spell some fields differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As the first does, or as both do.
    First,
    /// With `_`.
    Second,
}

/// Who is told what the body holds. Each method must read exactly one value from `json`.
pub trait Visitor<'a> {
    /// One element of `logs`, of any kind.
    ///
    /// # Errors
    /// Those of `json`.
    fn record(&mut self, json: &mut Json<'a>) -> Result<(), NotJson>;

    /// The value of `resource`, of any kind.
    ///
    /// # Errors
    /// Those of `json`.
    fn resource(&mut self, json: &mut Json<'a>) -> Result<(), NotJson>;

    /// The value of `sent_at` or `sentAt`, of any kind.
    ///
    /// # Errors
    /// Those of `json`.
    fn sent_at(&mut self, json: &mut Json<'a>) -> Result<(), NotJson>;
}

/// Reads a body from front to back. What it says with escapes is kept in `arena`.
///
/// Every `logs` array is read, so that no record is lost; of `resource` and `sent_at` the first one
/// that isn't null counts. Other fields of the envelope are passed over.
///
/// # Errors
/// A body that is no JSON, or no envelope. What was visited until then must not be used.
pub fn read<'a>(body: &'a [u8], arena: &'a Bump, visitor: &mut impl Visitor<'a>) -> Result<(), Rejection> {
    let mut json = Json::new(body, arena);
    let found = envelope(&mut json, visitor).and_then(|found| json.end().map(|()| found));
    match found {
        Ok(true) => Ok(()),
        Ok(false) => Err(Rejection::EnvelopeWithoutLogs),
        Err(NotJson) => Err(Rejection::BodyNotJson),
    }
}

/// Whether there is an array `logs`.
fn envelope<'a>(json: &mut Json<'a>, visitor: &mut impl Visitor<'a>) -> Result<bool, NotJson> {
    if json.peek()? != Kind::Object {
        return json.skip().map(|()| false);
    }
    let mut found = false;
    let (mut resource, mut sent_at) = (false, false);
    let mut key = json.object()?;
    while let Some(name) = key {
        match name {
            b"logs" if json.peek()? == Kind::Array => {
                found = true;
                records(json, visitor)?;
            }
            b"resource" if !resource && json.peek()? != Kind::Null => {
                resource = true;
                visitor.resource(json)?;
            }
            b"sent_at" | b"sentAt" if !sent_at && json.peek()? != Kind::Null => {
                sent_at = true;
                visitor.sent_at(json)?;
            }
            _ => json.skip()?,
        }
        key = json.next_key()?;
    }
    Ok(found)
}

fn records<'a>(json: &mut Json<'a>, visitor: &mut impl Visitor<'a>) -> Result<(), NotJson> {
    let mut more = json.array()?;
    while more {
        visitor.record(json)?;
        more = json.next_element()?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
