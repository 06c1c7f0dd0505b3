//! The whole filter with a virtual clock: header bytes in, reply out. A [`Gateway`] plays the host.

mod awaiting;
mod limits;

use super::*;
use crate::config::Config;
use crate::export::{self, Answer, Delivery, Response, Shipment};
use jwt_simple::prelude::*;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse};
use prost::Message;
use serde_json::json;
use std::collections::HashMap;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const START: std::time::Duration = std::time::Duration::from_secs(1_770_379_200);

#[derive(Default)]
struct Memory(HashMap<String, (Vec<u8>, u32)>);

impl Store for Memory {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.0.get(key).map(|(bytes, mark)| (bytes.clone(), Some(*mark)))
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        let entry = self.0.entry(key.to_owned()).or_default();
        if mark.is_some_and(|mark| mark != entry.1) {
            return false;
        }
        *entry = (bytes.to_vec(), entry.1 + 1);
        true
    }
}

#[derive(Default)]
struct Counts(HashMap<Stat, u64>);

impl Sink for Counts {
    fn add(&mut self, stat: Stat, amount: u64) {
        *self.0.entry(stat).or_default() += amount;
    }
}

struct Gateway {
    shared: Shared,
    now: std::time::Duration,
    memory: Memory,
    counts: Counts,
    keyring: Keyring,
    encoder: Encoder,
    outbox: Outbox,
}

/// A request, as far as it deviates from a good one.
struct Request<'r> {
    method: &'r str,
    path: &'r str,
    authorization: Option<Vec<u8>>,
    content_length: Option<&'r str>,
    content_encoding: Option<&'r str>,
    body: Option<Vec<u8>>,
    trailers: bool,
    traceparent: Option<&'r str>,
}

enum Outcome {
    Passed,
    Replied(Reply),
    Exporting(Ingest, Shipment),
    Waiting,
    Awaiting(Ingest),
    Asking(Ingest, Vec<u8>),
}

impl Gateway {
    fn new(patch: serde_json::Value) -> Gateway {
        let mut config = json!({
            "auth": {"providers": [{"name": "session", "algorithms": ["HS256"], "hmac_secret_env": "SECRET"}]},
            "export": {"cluster": "backend", "authority": "backend.example", "compression": "none", "max_retries": 0},
            "mapping": {"window": null},
        });
        for (name, value) in patch.as_object().unwrap() {
            config[name] = value.clone();
        }
        let config = Config::read(config.to_string().as_bytes(), &|name| (name == "SECRET").then(|| SECRET.to_owned())).unwrap();
        let mut memory = Memory::default();
        Limiter::prepare(&config.rate_limits, &mut memory);
        Keyring::prepare(&config.auth, &mut memory);
        let keyring = Keyring::new(&config.auth, 0);
        let outbox = Outbox::new(config.export.bounds, 1);
        Gateway {
            shared: Shared { config, seed: Seed([7; 16]) },
            now: START,
            memory,
            counts: Counts::default(),
            keyring,
            encoder: Encoder::default(),
            outbox,
        }
    }

    /// One event of a stream.
    fn on(&mut self, ingest: &mut Ingest, event: Event<'_>) -> Effect {
        let Gateway { shared, now, memory, counts, keyring, encoder, outbox } = self;
        ingest.on(shared, event, &mut World { now: *now, keyring, encoder, outbox, store: memory, stats: counts })
    }

    /// Plays the host up to an answer, a callout or a wait.
    fn send(&mut self, request: &Request<'_>) -> Outcome {
        let mut ingest = Ingest::new();
        let headers = Headers {
            method: Some(request.method.as_bytes()),
            path: Some(request.path.as_bytes()),
            authorization: request.authorization.as_deref(),
            content_length: request.content_length.map(str::as_bytes),
            content_encoding: request.content_encoding.map(str::as_bytes),
            content_type: None,
            traceparent: request.traceparent.map(str::as_bytes),
        };
        let end = request.body.is_none() && !request.trailers;
        let mut effect = self.on(&mut ingest, Event::Headers { headers, verified: None, end });
        let body = request.body.clone().unwrap_or_default();
        // Envoy's buffer grows by chunks of what it read; after the last there may be trailers.
        let mut chunks = body.len().div_ceil(1024);
        let mut taken = 0;
        let mut buffered = 0;
        loop {
            effect = match effect {
                Effect::Pass => return Outcome::Passed,
                Effect::Reply(reply) => return Outcome::Replied(reply),
                Effect::Deliver(_) => {
                    let shipment = self.outbox.next(self.now, &mut self.counts).unwrap();
                    return Outcome::Exporting(ingest, shipment);
                }
                Effect::Read(bytes) => {
                    assert_eq!(bytes, body.len(), "the body is read whole");
                    self.on(&mut ingest, Event::Body(Some(body.clone())))
                }
                Effect::Discard(bytes) => {
                    assert_eq!(bytes, buffered);
                    buffered = 0;
                    Effect::Wait
                }
                Effect::Wait if chunks > 0 => {
                    chunks -= 1;
                    let chunk = (body.len() - taken).min(1024);
                    taken += chunk;
                    buffered += chunk;
                    let end = chunks == 0 && !request.trailers;
                    self.on(&mut ingest, Event::Buffered { bytes: buffered, end })
                }
                Effect::Wait if request.trailers && taken == body.len() && buffered != usize::MAX => {
                    buffered = usize::MAX;
                    self.on(&mut ingest, Event::Trailers)
                }
                Effect::Wait => return Outcome::Waiting,
                Effect::Ask(question) => return Outcome::Asking(ingest, question),
                Effect::AwaitKeys => return Outcome::Awaiting(ingest),
                Effect::Reset => panic!("reset"),
            };
        }
    }

    fn reply(&mut self, request: &Request<'_>) -> Reply {
        match self.send(request) {
            Outcome::Replied(reply) => reply,
            Outcome::Passed => panic!("passed"),
            Outcome::Exporting(..) => panic!("exported"),
            Outcome::Waiting | Outcome::Awaiting(_) | Outcome::Asking(..) => panic!("waits"),
        }
    }

    /// Sends a request whose records the backend answers in the given way.
    fn deliver(&mut self, request: &Request<'_>, answer: Answer<'_>) -> (Reply, ExportLogsServiceRequest) {
        let (mut ingest, shipment) = match self.send(request) {
            Outcome::Exporting(ingest, shipment) => (ingest, shipment),
            Outcome::Replied(reply) => panic!("{reply:?}"),
            _ => panic!("no export"),
        };
        let sent =
            ExportLogsServiceRequest::decode(&*export::callout(&self.shared.config.export, &shipment, &mut export::Gzip::default()).body)
                .unwrap();
        match self.answer(&mut ingest, &shipment, answer) {
            Effect::Reply(reply) => (reply, sent),
            _ => panic!("no reply"),
        }
    }

    /// The backend's answer, and what becomes of the stream that waited for it.
    fn answer(&mut self, ingest: &mut Ingest, shipment: &Shipment, answer: Answer<'_>) -> Effect {
        self.outbox.answered(shipment.flight, answer, self.now, &mut self.counts);
        let (_, outcome) = self.outbox.settled().unwrap();
        self.on(ingest, Event::Settled(outcome))
    }

    fn count(&self, stat: Stat) -> u64 {
        self.counts.0.get(&stat).copied().unwrap_or_default()
    }
}

fn bearer(subject: &str, session: &str, expires: std::time::Duration) -> Vec<u8> {
    let payload = json!({"sub": subject, "sid": session, "exp": expires.as_secs()});
    let claims: JWTClaims<serde_json::Value> = serde_json::from_value(payload).unwrap();
    let key = HS256Key::from_bytes(SECRET.as_bytes());
    format!("Bearer {}", key.authenticate(claims).unwrap()).into_bytes()
}

fn good() -> Request<'static> {
    Request {
        method: "POST",
        path: "/api/v1/logs",
        authorization: Some(bearer("user", "session", START + std::time::Duration::from_secs(3600))),
        content_length: None,
        content_encoding: None,
        body: Some(br#"{"logs":[{"message":"a"},{"message":"b"}]}"#.to_vec()),
        trailers: false,
        traceparent: None,
    }
}

fn retry_after(reply: &Reply) -> Option<&str> {
    reply.headers.iter().find(|(name, _)| *name == "retry-after").map(|(_, value)| value.as_str())
}

fn ok() -> Answer<'static> {
    Answer::Response(Response { status: Some(200), ..Response::default() })
}

#[test]
fn a_batch_goes_to_the_backend_and_is_accepted_when_the_backend_says_so() {
    let mut gateway = Gateway::new(json!({}));
    let (reply, sent) = gateway.deliver(&good(), ok());
    assert_eq!((reply.status, reply.body.as_str(), reply.details), (200, r#"{"accepted":2,"rejected":0}"#, "records_delivered"));
    assert_eq!(sent.resource_logs[0].scope_logs[0].log_records.len(), 2);
    assert_eq!(gateway.count(Stat::RecordsAccepted), 2);
    assert_eq!(gateway.count(Stat::RequestsAccepted), 1);
    assert_eq!(gateway.count(Stat::Requests), 1);
}

#[test]
fn another_path_is_none_of_ours() {
    let mut gateway = Gateway::new(json!({}));
    for path in ["/", "/api/v1/logs/", "/api/v1/log", "/api/v1/logs2", "/API/v1/logs", "", "/x?/api/v1/logs"] {
        let request = Request { path, method: "GET", authorization: None, ..good() };
        assert!(matches!(gateway.send(&request), Outcome::Passed), "{path}");
    }
    assert_eq!(gateway.count(Stat::Requests), 0);
}

#[test]
fn the_query_is_not_part_of_the_path() {
    let mut gateway = Gateway::new(json!({}));
    assert_eq!(gateway.deliver(&Request { path: "/api/v1/logs?batch=1?x", ..good() }, ok()).0.status, 200);
}

#[test]
fn refusals_come_in_the_order_that_spares_the_clients_records() {
    let mut gateway = Gateway::new(json!({"max_body_bytes": 2000}));
    let expired = Some(bearer("u", "s", START - std::time::Duration::from_secs(3600)));
    for (request, status, details) in [
        (Request { method: "GET", authorization: None, ..good() }, 405, "method_not_allowed"),
        (Request { authorization: None, content_length: Some("9999999"), ..good() }, 401, "token_missing"),
        (Request { authorization: expired, content_encoding: Some("br"), ..good() }, 401, "token_expired"),
        (Request { content_encoding: Some("br"), ..good() }, 415, "encoding_unsupported"),
        (Request { content_length: Some("9999999"), ..good() }, 413, "body_too_large"),
        (Request { body: None, ..good() }, 400, "body_missing"),
        (Request { body: Some(vec![]), trailers: true, ..good() }, 400, "body_missing"),
        (Request { body: Some(b"{".to_vec()), ..good() }, 400, "body_not_json"),
        (Request { body: Some(b"{}".to_vec()), ..good() }, 400, "envelope_without_logs"),
    ] {
        let reply = gateway.reply(&request);
        assert_eq!((reply.status, reply.details), (status, details));
    }
    assert_eq!(gateway.count(Stat::Requests), 9);
    assert_eq!(gateway.count(Stat::Rejected(Rejection::TokenExpired)), 1);
}

#[test]
fn a_body_may_be_as_large_as_the_limit_and_not_a_byte_larger() {
    let body = good().body.unwrap();
    for (limit, fits) in [(body.len(), true), (body.len() - 1, false)] {
        for trailers in [false, true] {
            let mut gateway = Gateway::new(json!({"max_body_bytes": limit}));
            let request = Request { trailers, ..good() };
            if fits {
                assert_eq!(gateway.deliver(&request, ok()).0.status, 200);
            } else {
                assert_eq!(gateway.reply(&request).details, "body_too_large");
            }
        }
    }
}

/// A client that is cut off sends the same again; one that sees 413 doesn't.
#[test]
fn a_body_over_the_limit_is_drained_up_to_a_bound_before_it_is_refused() {
    let mut gateway = Gateway::new(json!({"max_body_bytes": 10_000}));
    for (length, announced) in [(30_000, None), (30_000, Some("30000")), (90_000, None), (90_000, Some("90000"))] {
        let request = Request { body: Some(vec![b' '; length]), content_length: announced, ..good() };
        assert_eq!(gateway.reply(&request).details, "body_too_large", "{length} {announced:?}");
    }
}

#[test]
fn trailers_end_a_body() {
    let mut gateway = Gateway::new(json!({}));
    assert_eq!(gateway.deliver(&Request { trailers: true, ..good() }, ok()).0.status, 200);
}

#[test]
fn no_records_are_accepted_without_asking_anybody() {
    let mut gateway = Gateway::new(json!({}));
    let reply = gateway.reply(&Request { body: Some(br#"{"logs":[]}"#.to_vec()), ..good() });
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"accepted":0,"rejected":0}"#));
    assert_eq!(gateway.count(Stat::Exports), 0);
}

#[test]
fn what_the_backend_does_not_take_is_a_502() {
    let mut gateway = Gateway::new(json!({}));
    let status = |status| Answer::Response(Response { status: Some(status), ..Response::default() });
    let html = Response { status: Some(200), content_type: Some(b"text/html"), body: b"<html>", ..Response::default() };
    for (answer, details) in [
        (status(401), "export_denied"),
        (status(404), "export_denied"),
        (status(302), "export_denied"),
        (status(500), "export_refused"),
        (status(503), "export_refused"),
        (Answer::Reset, "export_reset"),
        (Answer::NotDispatched, "export_not_dispatched"),
        (Answer::Response(Response::default()), "export_refused"),
        (Answer::Response(html), "export_not_understood"),
        (status(429), "export_deferred"),
    ] {
        let (reply, _) = gateway.deliver(&good(), answer);
        assert_eq!((reply.status, reply.details), (502, details), "{answer:?}");
    }
    assert_eq!(gateway.count(Stat::RecordsAccepted), 0);
}

/// Envoy sends a refusal to a gRPC request as 200 with a grpc-status, which would look like a promise.
#[test]
fn a_refusal_that_would_go_out_as_a_200_is_no_answer_at_all() {
    let mut gateway = Gateway::new(json!({}));
    for (content_type, reset) in [
        (&b"application/grpc"[..], true),
        (b"application/grpc+proto", true),
        (b"application/grpc; charset=x", true),
        (b"application/grpc-web", false),
        (b"application/json", false),
        (b"", false),
    ] {
        let headers =
            Headers { method: Some(b"POST"), path: Some(b"/api/v1/logs"), content_type: Some(content_type), ..Headers::default() };
        let effect = gateway.on(&mut Ingest::new(), Event::Headers { headers, verified: None, end: false });
        assert_eq!(effect == Effect::Reset, reset, "{}", String::from_utf8_lossy(content_type));
    }
}

#[test]
fn while_the_backend_wants_to_be_left_alone_nobody_is_charged_or_sent() {
    let mut gateway = limited(json!({"user": {"max_tokens": 1, "fill_interval_ms": 60_000}}));
    let deferred = Response { status: Some(429), retry_after: Some(b"7"), ..Response::default() };
    assert_eq!(retry_after(&gateway.deliver(&good(), Answer::Response(deferred)).0), Some("7"));
    gateway.now += std::time::Duration::from_millis(1_500);
    let reply = gateway.reply(&good());
    assert_eq!((reply.status, reply.details, retry_after(&reply)), (502, "export_deferred", Some("6")));
    gateway.now += std::time::Duration::from_secs(6);
    assert_eq!(gateway.deliver(&good(), ok()).0.status, 200);
}

#[test]
fn the_clients_trace_context_goes_with_its_records() {
    let mut gateway = Gateway::new(json!({}));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let shipment = |gateway: &mut Gateway, traceparent| {
        let request = Request { traceparent, ..good() };
        match gateway.send(&request) {
            Outcome::Exporting(_, shipment) => shipment,
            _ => panic!("no export"),
        }
    };
    assert_eq!(shipment(&mut gateway, Some(traceparent)).traceparent.as_deref(), Some(traceparent));
    assert_eq!(shipment(&mut gateway, Some("nonsense")).traceparent, None);
}

#[test]
fn records_that_the_backend_rejects_are_not_called_accepted() {
    let mut gateway = Gateway::new(json!({}));
    let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "bad".to_owned() };
    let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let (reply, _) = gateway.deliver(&good(), Answer::Response(Response { status: Some(200), body: &body, ..Response::default() }));
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"accepted":1,"rejected":1}"#));
    assert_eq!((gateway.count(Stat::RecordsAccepted), gateway.count(Stat::RecordsRejected)), (1, 1));
}

#[test]
fn a_client_that_leaves_is_counted_and_answered_by_nobody() {
    let mut gateway = Gateway::new(json!({}));
    let Outcome::Exporting(mut ingest, shipment) = gateway.send(&good()) else { panic!("no export") };
    assert!(gateway.on(&mut ingest, Event::Closed) == Effect::Wait);
    assert!(gateway.answer(&mut ingest, &shipment, ok()) == Effect::Wait, "nobody is there");
    assert!(gateway.on(&mut ingest, Event::Closed) == Effect::Wait);
    assert_eq!((gateway.count(Stat::ClientsGone), gateway.count(Stat::RecordsAccepted)), (1, 2));
}

#[test]
fn who_has_left_is_not_charged_for_what_was_not_delivered() {
    let mut gateway = limited(json!({"user": {"max_tokens": 1, "fill_interval_ms": 60_000}}));
    let Outcome::Exporting(mut ingest, shipment) = gateway.send(&good()) else { panic!("no export") };
    assert!(gateway.on(&mut ingest, Event::Closed) == Effect::Wait);
    assert!(gateway.answer(&mut ingest, &shipment, Answer::Reset) == Effect::Wait);
    assert_eq!(gateway.count(Stat::Rejected(Rejection::ExportReset)), 1);
    assert_eq!(gateway.deliver(&good(), ok()).0.status, 200);
}

#[test]
fn events_that_come_after_the_answer_change_nothing() {
    let mut gateway = Gateway::new(json!({}));
    let mut ingest = Ingest::new();
    let mut step = |event| gateway.on(&mut ingest, event);
    let headers = Headers { method: Some(b"GET"), path: Some(b"/api/v1/logs"), ..Headers::default() };
    assert!(matches!(step(Event::Headers { headers, verified: None, end: false }), Effect::Reply(_)));
    for event in [
        Event::Headers { headers, verified: None, end: true },
        Event::Buffered { bytes: 10, end: true },
        Event::Trailers,
        Event::Body(Some(Vec::new())),
        Event::Body(None),
        Event::Settled(Ok(Delivery::default())),
        Event::Closed,
    ] {
        assert!(step(event) == Effect::Wait);
    }
}

#[test]
fn a_body_that_the_host_does_not_have_is_a_fault_that_passes() {
    let mut gateway = Gateway::new(json!({}));
    let mut ingest = Ingest::new();
    let request = good();
    let headers = Headers {
        method: Some(b"POST"),
        path: Some(b"/api/v1/logs"),
        authorization: request.authorization.as_deref(),
        ..Headers::default()
    };
    let mut step = |event| gateway.on(&mut ingest, event);
    assert!(step(Event::Headers { headers, verified: None, end: false }) == Effect::Wait);
    assert!(step(Event::Buffered { bytes: 5, end: true }) == Effect::Read(5));
    assert!(matches!(step(Event::Body(None)), Effect::Reply(reply) if reply.status == 503));
}

fn limited(limits: serde_json::Value) -> Gateway {
    Gateway::new(json!({"rate_limits": limits}))
}

fn from(subject: &str, session: &str) -> Request<'static> {
    Request { authorization: Some(bearer(subject, session, START + std::time::Duration::from_secs(3600))), ..good() }
}

#[test]
fn claims_that_envoy_has_verified_are_taken_where_that_is_configured() {
    let mut gateway = Gateway::new(json!({"auth": {"trust_envoy_jwt_authn": {"payload_in_metadata": "jwt_payload"}}}));
    let headers = Headers { method: Some(b"POST"), path: Some(b"/api/v1/logs"), ..Headers::default() };
    let mut judge = |payload: Option<serde_json::Value>| {
        let payload = payload.and_then(|payload| payload.as_object().cloned());
        let event = Event::Headers { headers, verified: payload.as_ref(), end: false };
        match gateway.on(&mut Ingest::new(), event) {
            Effect::Reply(reply) => reply.details,
            Effect::Wait => "admitted",
            _ => "something else",
        }
    };
    assert_eq!(judge(Some(json!({"sub": "u"}))), "admitted");
    assert_eq!(judge(Some(json!({"sub": 17}))), "admitted");
    assert_eq!(judge(Some(json!({"sub": ""}))), "token_subject");
    assert_eq!(judge(None), "token_missing");
}
