//! Every way to say no.
//!
//! A refusal is a value: a stage returns it, nothing is logged or answered on the way, and
//! [`crate::reply`] is the one place that turns it into a status. The name is what operators see
//! in `%RESPONSE_CODE_DETAILS%` and in the counters; clients see only the title of its status.
//! A leaf: touches nothing.

use std::time::Duration;

macro_rules! rejections {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a request was not accepted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rejection {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Rejection {
            /// All of them, in the order in which the stages come.
            pub const ALL: &'static [Rejection] = &[$(Rejection::$variant,)+];

            /// The name in access logs and counters: lower case, words joined by `_`.
            pub fn name(self) -> &'static str {
                match self { $(Rejection::$variant => $name,)+ }
            }

            /// One sentence on when it is given, for the documentation of the counters.
            pub fn meaning(self) -> &'static str {
                match self { $(Rejection::$variant => concat!($($doc,)+),)+ }
            }
        }
    };
}

rejections! {
    /// The ingest path was asked for with a method other than POST.
    MethodNotAllowed => "method_not_allowed",
    /// No `authorization` header.
    TokenMissing => "token_missing",
    /// Not one compact JWS behind one `Bearer`, or a header or claims that can't be read.
    TokenMalformed => "token_malformed",
    /// The token is longer than any that is looked at.
    TokenTooLong => "token_too_long",
    /// The token's `alg` isn't one that a provider accepts.
    TokenAlgorithm => "token_algorithm",
    /// No configured provider is responsible for the token's `iss`.
    TokenIssuer => "token_issuer",
    /// The token's `kid` names no key of the provider.
    TokenKey => "token_key",
    /// The signature doesn't verify with any key of the provider.
    TokenSignature => "token_signature",
    /// The token has no `exp`, and one is required.
    TokenWithoutExpiration => "token_without_expiration",
    /// `exp` is past, the clock skew counted in.
    TokenExpired => "token_expired",
    /// `nbf` or `iat` is in the future, the clock skew counted in.
    TokenNotYetValid => "token_not_yet_valid",
    /// `aud` names none of the provider's audiences.
    TokenAudience => "token_audience",
    /// The subject claim is missing, empty or no string.
    TokenSubject => "token_subject",
    /// The provider's keys can't be had at the moment, or too many requests wait for them.
    KeysUnavailable => "keys_unavailable",
    /// The body is larger than `max_body_bytes`.
    BodyTooLarge => "body_too_large",
    /// The batch has more than `max_records` records.
    TooManyRecords => "too_many_records",
    /// The body has a Content-Encoding that the filter doesn't undo.
    EncodingUnsupported => "encoding_unsupported",
    /// The body is not what its Content-Encoding says, or breaks off.
    BodyCorrupt => "body_corrupt",
    /// The request has no body.
    BodyMissing => "body_missing",
    /// The body is no JSON.
    BodyNotJson => "body_not_json",
    /// The body is JSON, but no object with an array `logs`.
    EnvelopeWithoutLogs => "envelope_without_logs",
    /// The host did not hand over the body that it had announced.
    BodyUnavailable => "body_unavailable",
    /// The user's token bucket is empty.
    UserRateLimited => "user_rate_limited",
    /// The session's token bucket is empty.
    SessionRateLimited => "session_rate_limited",
    /// The bucket was changed by other workers on every try, and `on_contention` is `deny`.
    LimiterContended => "limiter_contended",
    /// The rate limit service says that there is too much of this user or session.
    ServiceRateLimited => "service_rate_limited",
    /// The rate limit service can't be asked, and its `failure_mode` is `deny`.
    LimitServiceUnavailable => "limit_service_unavailable",
    /// Envoy did not take the callout: cluster unknown, no endpoint, or circuit breaker open.
    ExportNotDispatched => "export_not_dispatched",
    /// The backend's answer broke off, was too large or never came in full.
    ExportReset => "export_reset",
    /// The backend, or Envoy in its place, said that it failed (5xx), or refuses whatever it is sent (400, 413, 422).
    ExportRefused => "export_refused",
    /// The backend doesn't let the gateway in, or isn't there: 401, 403, 404 and the like. Look at its token and URL.
    ExportDenied => "export_denied",
    /// The backend asked to be left alone for a while (429, 503).
    ExportDeferred => "export_deferred",
    /// The time in which a request is delivered was over before it could be sent.
    ExportExpired => "export_expired",
    /// The batch was refused by the backend, and its culprit not found within the bounds.
    ExportUnfinished => "export_unfinished",
    /// More waits for the backend than `export.max_parked_bytes`.
    ExportBacklog => "export_backlog",
    /// The backend answered 2xx with something that is no OTLP response.
    ExportNotUnderstood => "export_not_understood",
}

/// A [`Rejection`] on its way to the client, with the wait that is asked for where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub rejection: Rejection,
    /// How long until the same request would pass; `None` where waiting doesn't help, or isn't known to.
    pub retry_after: Option<Duration>,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Refusal { rejection, retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_fit_for_a_metric() {
        let mut seen = HashSet::new();
        for rejection in Rejection::ALL {
            let name = rejection.name();
            assert!(seen.insert(name), "{name} stands twice");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(rejection.meaning().trim().ends_with('.'), "{name} has no sentence");
        }
    }
}
