//! An encoded request in two halves, by records.
//!
//! For a batch that the backend refuses because of something in it: halved until the culprit is
//! alone, so that all else is delivered. Works on the bytes: an `ExportLogsServiceRequest` is cut
//! between two log records, and both halves keep the resource and the scope around theirs.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use std::ops::Range;

/// `ExportLogsServiceRequest.resource_logs`, `ResourceLogs.scope_logs`, `ScopeLogs.log_records`.
const RESOURCE_LOGS: u32 = 1;
const SCOPE_LOGS: u32 = 2;
const LOG_RECORDS: u32 = 2;

/// A part of a request, and how many records it has.
pub type Half = (Vec<u8>, u64);

/// Both halves of a request; `None` where it has fewer than two records, or can't be read.
pub fn halves(request: &[u8]) -> Option<(Half, Half)> {
    let total = count(request)?;
    let first = total / 2;
    if first == 0 {
        return None;
    }
    Some(((cut(request, 0..first)?, first), (cut(request, first..total)?, total - first)))
}

/// The records of a request.
fn count(request: &[u8]) -> Option<u64> {
    let mut records = 0;
    for field in Fields(request) {
        let (number, resource_logs, _) = field?;
        for field in Fields(resource_logs).filter(|_| number == RESOURCE_LOGS) {
            let (number, scope_logs, _) = field?;
            for field in Fields(scope_logs).filter(|_| number == SCOPE_LOGS) {
                records += u64::from(field?.0 == LOG_RECORDS);
            }
        }
    }
    Some(records)
}

/// The request with only those of its records, by their place in it, that are in the range.
fn cut(request: &[u8], kept: Range<u64>) -> Option<Vec<u8>> {
    let mut place = 0;
    let mut out = Vec::with_capacity(request.len() / 2 + 64);
    let mut resource_logs = Vec::new();
    let mut scope_logs = Vec::new();
    for field in Fields(request) {
        let (number, content, whole) = field?;
        if number != RESOURCE_LOGS {
            out.extend_from_slice(whole);
            continue;
        }
        resource_logs.clear();
        let mut any = false;
        for field in Fields(content) {
            let (number, content, whole) = field?;
            if number != SCOPE_LOGS {
                resource_logs.extend_from_slice(whole);
                continue;
            }
            scope_logs.clear();
            let mut here = false;
            for field in Fields(content) {
                let (number, _, whole) = field?;
                let keep = number != LOG_RECORDS || kept.contains(&place);
                here |= number == LOG_RECORDS && keep;
                place += u64::from(number == LOG_RECORDS);
                if keep {
                    scope_logs.extend_from_slice(whole);
                }
            }
            any |= here;
            if here {
                write(&mut resource_logs, SCOPE_LOGS, &scope_logs);
            }
        }
        if any {
            write(&mut out, RESOURCE_LOGS, &resource_logs);
        }
    }
    Some(out)
}

fn write(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// The fields of a message: number, content, and all their bytes. Only the kinds that the encoder
/// writes at these levels: strings, messages and varints.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, &'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u32, &'a [u8], &'a [u8])> {
        let mut rest = self.0;
        let (number, kind) = decode_key(&mut rest).ok()?;
        let content = match kind {
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (content, after) = rest.split_at_checked(length)?;
                rest = after;
                content
            }
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                &[]
            }
            _ => return None,
        };
        let (whole, after) = self.0.split_at_checked(self.0.len() - rest.len())?;
        self.0 = after;
        Some((number, content, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, any_value};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message;

    fn record(name: u64) -> LogRecord {
        let body = Some(AnyValue { value: Some(any_value::Value::IntValue(i64::try_from(name).unwrap())) });
        LogRecord { time_unix_nano: name, body, ..LogRecord::default() }
    }

    /// A request whose scopes have so many records each.
    fn request(resources: &[Vec<usize>]) -> ExportLogsServiceRequest {
        let mut names = 0..;
        let resource_logs = resources
            .iter()
            .enumerate()
            .map(|(resource, scopes)| ResourceLogs {
                resource: Some(Resource { dropped_attributes_count: resource as u32 + 1, ..Resource::default() }),
                scope_logs: scopes
                    .iter()
                    .enumerate()
                    .map(|(scope, &records)| ScopeLogs {
                        scope: Some(InstrumentationScope { name: format!("{resource}.{scope}"), ..InstrumentationScope::default() }),
                        log_records: names.by_ref().take(records).map(record).collect(),
                        ..ScopeLogs::default()
                    })
                    .collect(),
                ..ResourceLogs::default()
            })
            .collect();
        ExportLogsServiceRequest { resource_logs }
    }

    /// Each record with what stands around it.
    fn told(request: &ExportLogsServiceRequest) -> Vec<(Option<Resource>, String, LogRecord)> {
        let mut told = Vec::new();
        for resource_logs in &request.resource_logs {
            for scope_logs in &resource_logs.scope_logs {
                for record in &scope_logs.log_records {
                    told.push((resource_logs.resource.clone(), scope_logs.scope.as_ref().unwrap().name.clone(), record.clone()));
                }
            }
        }
        told
    }

    #[test]
    fn a_single_record_can_not_be_halved_and_neither_can_junk() {
        assert_eq!(halves(&request(&[vec![1]]).encode_to_vec()), None);
        assert_eq!(halves(&request(&[vec![0, 1]]).encode_to_vec()), None);
        assert_eq!(halves(b""), None);
        for junk in [&b"\x0a"[..], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x05abc", b"\x09", b"\xff", b"<html>"] {
            assert_eq!(halves(junk), None, "{junk:?}");
        }
    }

    proptest! {
        #[test]
        fn the_halves_have_all_records_in_order_with_their_surroundings(resources in prop::collection::vec(prop::collection::vec(0usize..5, 0..4), 0..4)) {
            let whole = request(&resources);
            let records = told(&whole);
            match halves(&whole.encode_to_vec()) {
                None => prop_assert!(records.len() < 2),
                Some(((first, n), (second, m))) => {
                    let first = told(&ExportLogsServiceRequest::decode(&first[..]).unwrap());
                    let second = told(&ExportLogsServiceRequest::decode(&second[..]).unwrap());
                    prop_assert_eq!((first.len() as u64, second.len() as u64), (n, m));
                    prop_assert!(n.abs_diff(m) <= 1);
                    prop_assert_eq!([first, second].concat(), records);
                }
            }
        }

        #[test]
        fn no_bytes_trap(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = halves(&bytes);
        }
    }
}
