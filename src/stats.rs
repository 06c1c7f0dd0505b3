//! Every counter and histogram, with its meaning.
//!
//! A leaf: names only. The host room defines them in Envoy and adds to them through [`Sink`];
//! Envoy shows each as `wasmcustom.envoy_log_ingest.<name>` in `/stats`, and as
//! `envoy_log_ingest_<name>` to Prometheus. None has a label that a client could choose.

use crate::rejection::Rejection;

/// Something that is counted, or measured into a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stat {
    /// Requests on the ingest path, whatever came of them.
    Requests,
    /// Bytes of request bodies that were read.
    RequestBytes,
    /// Requests answered 200.
    RequestsAccepted,
    /// Records that the backend accepted.
    RecordsAccepted,
    /// Records that the backend rejected: OTLP's partial success, or refused also when it was sent alone.
    RecordsRejected,
    /// Callouts handed to Envoy.
    Exports,
    /// Exports that failed and were put off to be tried again.
    ExportsRetried,
    /// Exports that the backend refused for something in them, and that were sent again in halves.
    ExportsSplit,
    /// Bytes of the callouts' bodies, after compression.
    ExportBytes,
    /// Clients that left while their export was under way; its records are delivered all the same.
    ClientsGone,
    /// Buckets in shared data whose bytes had an unknown layout and were begun anew.
    BucketsUnreadable,
    /// Buckets that other workers changed on every try; `on_contention` says what became of the request.
    BucketsContended,
    /// Requests that the user's limit would have refused, were it not in the shadow.
    ShadowedUser,
    /// Requests that the session's limit would have refused, were it not in the shadow.
    ShadowedSession,
    /// Questions to the rate limit service.
    LimitServiceAsked,
    /// Those that it didn't answer, or not in time, or not so that it could be understood.
    LimitServiceFailed,
    /// Tokens that were known already, so that no signature was verified.
    TokensRemembered,
    /// Signatures that Envoy judged, natively; the others jwt-simple did.
    SignaturesByHost,
    /// Key sets asked for.
    KeyFetches,
    /// Key sets that could not be had, or could not be used; the keys already held stay in force.
    KeyFetchesFailed,
    /// Keys in fetched sets that are broken, too short or stand twice, and are not used.
    KeysIgnored,
    /// Histogram: milliseconds from a callout to the backend's answer.
    ExportMilliseconds,
    /// Histogram: records in a request that was parsed.
    RecordsPerRequest,
    /// Histogram: clients' requests, or parts of them, in an export.
    RequestsPerExport,
    /// Requests refused, by reason.
    Rejected(Rejection),
    /// Oddities that were repaired, kept or counted instead of refused, by kind.
    Odd(Oddity),
}

/// What can be odd in a record that is delivered all the same. Counted by kind, never by client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Oddity {
    /// A level that no severity belongs to.
    UnknownLevel,
    /// A timestamp that can't be read.
    UnreadableTimestamp,
    /// A timestamp that was moved: the device's clock is wrong, or the record too old or too new.
    MovedTimestamp,
    /// A trace or span id that isn't hex of the right length.
    InvalidId,
    /// A client's attribute whose name belongs to the filter, or was taken.
    RenamedAttribute,
    /// A lone surrogate.
    RepairedText,
    /// A subtree that is nested too deeply and became text.
    CutDepth,
    /// An attribute beyond the bound.
    DroppedAttribute,
    /// A second value under the same key.
    DuplicateKey,
    /// A record that is no object.
    NotAnObject,
}

impl Oddity {
    /// All of them.
    pub const ALL: &'static [Oddity] = &[
        Oddity::UnknownLevel,
        Oddity::UnreadableTimestamp,
        Oddity::MovedTimestamp,
        Oddity::InvalidId,
        Oddity::RenamedAttribute,
        Oddity::RepairedText,
        Oddity::CutDepth,
        Oddity::DroppedAttribute,
        Oddity::DuplicateKey,
        Oddity::NotAnObject,
    ];

    fn name(self) -> &'static str {
        match self {
            Oddity::UnknownLevel => "unknown_level",
            Oddity::UnreadableTimestamp => "unreadable_timestamp",
            Oddity::MovedTimestamp => "moved_timestamp",
            Oddity::InvalidId => "invalid_id",
            Oddity::RenamedAttribute => "renamed_attribute",
            Oddity::RepairedText => "repaired_text",
            Oddity::CutDepth => "cut_depth",
            Oddity::DroppedAttribute => "dropped_attribute",
            Oddity::DuplicateKey => "duplicate_key",
            Oddity::NotAnObject => "not_an_object",
        }
    }
}

/// How Envoy is to treat a [`Stat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Envoy's histogram; its sum and quantiles are approximate.
    Histogram,
}

const PLAIN: &[Stat] = &[
    Stat::Requests,
    Stat::RequestBytes,
    Stat::RequestsAccepted,
    Stat::RecordsAccepted,
    Stat::RecordsRejected,
    Stat::Exports,
    Stat::ExportsRetried,
    Stat::ExportsSplit,
    Stat::ExportBytes,
    Stat::ClientsGone,
    Stat::BucketsUnreadable,
    Stat::BucketsContended,
    Stat::ShadowedUser,
    Stat::ShadowedSession,
    Stat::LimitServiceAsked,
    Stat::LimitServiceFailed,
    Stat::TokensRemembered,
    Stat::SignaturesByHost,
    Stat::KeyFetches,
    Stat::KeyFetchesFailed,
    Stat::KeysIgnored,
    Stat::ExportMilliseconds,
    Stat::RecordsPerRequest,
    Stat::RequestsPerExport,
];

impl Stat {
    /// All of them, each once and in their order.
    pub fn all() -> impl Iterator<Item = Stat> {
        let rejected = Rejection::ALL.iter().map(|&rejection| Stat::Rejected(rejection));
        let odd = Oddity::ALL.iter().map(|&oddity| Stat::Odd(oddity));
        PLAIN.iter().copied().chain(rejected).chain(odd)
    }

    /// The full name in Envoy, dots between its parts.
    pub fn name(self) -> String {
        let name = match self {
            Stat::Requests => "requests",
            Stat::RequestBytes => "request_bytes",
            Stat::RequestsAccepted => "requests_accepted",
            Stat::RecordsAccepted => "records_accepted",
            Stat::RecordsRejected => "records_rejected",
            Stat::Rejected(rejection) => {
                return format!("envoy_log_ingest.rejected.{}", rejection.name());
            }
            Stat::Odd(oddity) => return format!("envoy_log_ingest.odd.{}", oddity.name()),
            Stat::Exports => "exports",
            Stat::ExportsRetried => "exports_retried",
            Stat::ExportsSplit => "exports_split",
            Stat::ExportBytes => "export_bytes",
            Stat::ClientsGone => "clients_gone",
            Stat::BucketsUnreadable => "buckets_unreadable",
            Stat::BucketsContended => "buckets_contended",
            Stat::ShadowedUser => "shadow.user_rate_limited",
            Stat::ShadowedSession => "shadow.session_rate_limited",
            Stat::LimitServiceAsked => "limit_service_asked",
            Stat::LimitServiceFailed => "limit_service_failed",
            Stat::TokensRemembered => "tokens_remembered",
            Stat::SignaturesByHost => "signatures_by_host",
            Stat::KeyFetches => "key_fetches",
            Stat::KeyFetchesFailed => "key_fetches_failed",
            Stat::KeysIgnored => "keys_ignored",
            Stat::ExportMilliseconds => "export_milliseconds",
            Stat::RecordsPerRequest => "records_per_request",
            Stat::RequestsPerExport => "requests_per_export",
        };
        format!("envoy_log_ingest.{name}")
    }

    /// Counter or histogram.
    pub fn kind(self) -> Kind {
        match self {
            Stat::ExportMilliseconds | Stat::RecordsPerRequest | Stat::RequestsPerExport => Kind::Histogram,
            _ => Kind::Counter,
        }
    }
}

/// Where numbers go. The host gives Envoy's metrics, tests a map.
pub trait Sink {
    /// Adds `amount` to a counter, or records it as one value of a histogram.
    fn add(&mut self, stat: Stat, amount: u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_stat_is_listed_once_under_a_name_of_its_own() {
        let names: Vec<String> = Stat::all().map(Stat::name).collect();
        let unique: HashSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert_eq!(names.len(), PLAIN.len() + Rejection::ALL.len() + Oddity::ALL.len());
        assert!(Stat::all().is_sorted(), "the host looks them up by their order");
    }
}
