//! Limits and bounds as a client meets them: what it is told, encodings, the rate limit service.

use super::*;
use crate::limit_service;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::io::Write;

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
}

fn told(reply: &Reply) -> (Option<&str>, Option<&str>) {
    (header(reply, "ratelimit-policy"), header(reply, "ratelimit"))
}

fn with_claims(claims: serde_json::Value) -> Request<'static> {
    let mut payload = json!({"sub": "user", "exp": START.as_secs() + 3600});
    payload.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let claims: JWTClaims<serde_json::Value> = serde_json::from_value(payload).unwrap();
    let token = HS256Key::from_bytes(SECRET.as_bytes()).authenticate(claims).unwrap();
    Request { authorization: Some(format!("Bearer {token}").into_bytes()), ..good() }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_200_says_what_is_left_and_a_429_says_of_what() {
    let bucket = json!({"max_tokens": 3, "tokens_per_fill": 1, "fill_interval_ms": 10_000});
    let mut gateway = limited(json!({"user": bucket, "session": {"max_tokens": 100, "fill_interval_ms": 1000}}));
    let reply = gateway.deliver(&from("a", "1"), ok()).0;
    assert_eq!((reply.status, told(&reply)), (200, (None, Some(r#""user";r=1;t=20, "session";r=98;t=2"#))));
    let reply = gateway.deliver(&from("a", "1"), ok()).0;
    assert_eq!(told(&reply).1, Some(r#""user";r=0;t=40, "session";r=96;t=4"#));
    let reply = gateway.reply(&from("a", "1"));
    let policy = r#""user";q=3;qu="records";w=30, "session";q=100;qu="records";w=100"#;
    assert_eq!((reply.status, told(&reply)), (429, (Some(policy), Some(r#""user";r=0;t=40, "session";r=96;t=4"#))));
    assert_eq!(retry_after(&reply), Some("11"));
    // A token without a session: what the batch names is found out too late for the cheap look.
    let request = Request { body: Some(br#"{"logs":[{"sessionId":"x"}]}"#.to_vec()), ..with_claims(json!({"sub": "b"})) };
    assert_eq!(told(&gateway.deliver(&request, ok()).0).1, Some(r#""user";r=2;t=10, "session";r=99;t=1"#));
}

#[test]
fn nothing_is_told_with_other_answers_or_without_limits() {
    let mut gateway = Gateway::new(json!({}));
    assert_eq!(told(&gateway.deliver(&good(), ok()).0), (None, None));
    let mut gateway = limited(json!({"user": {"max_tokens": 3, "fill_interval_ms": 1000}}));
    let broken = Request { body: Some(b"{".to_vec()), ..good() };
    assert_eq!(told(&gateway.reply(&broken)), (None, None));
    let denied = Answer::Response(Response { status: Some(401), ..Response::default() });
    assert_eq!(told(&gateway.deliver(&good(), denied).0), (None, None));
}

#[test]
fn a_limit_in_the_shadow_refuses_nothing_and_is_not_spoken_of() {
    let mut gateway = limited(json!({"user": {"max_tokens": 1, "fill_interval_ms": 60_000, "shadow": true}}));
    for _ in 0..5 {
        let reply = gateway.deliver(&good(), ok()).0;
        assert_eq!((reply.status, told(&reply)), (200, (None, None)));
    }
    assert_eq!(gateway.count(Stat::ShadowedUser), 4);
}

#[test]
fn who_is_told_apart_by_a_claim_has_another_limit_from_the_cache_too() {
    let mut gateway = limited(json!({
        "user": {"max_tokens": 1, "fill_interval_ms": 60_000},
        "overrides": [{"claim": "channel", "value": "beta", "user": {"max_tokens": 5, "fill_interval_ms": 60_000}}],
    }));
    let beta = with_claims(json!({"channel": "beta"}));
    for _ in 0..3 {
        assert_eq!(gateway.deliver(&beta, ok()).0.status, 200, "five tokens, two records each, the last overdrawn");
    }
    assert_eq!(gateway.reply(&beta).status, 429);
    assert_eq!(gateway.count(Stat::TokensRemembered), 3);
    for claims in [json!({"sub": "b", "channel": "stable"}), json!({"sub": "c"})] {
        let other = with_claims(claims);
        assert_eq!(gateway.deliver(&other, ok()).0.status, 200);
        assert_eq!(gateway.reply(&other).status, 429);
    }
}

#[test]
fn claims_that_envoy_has_verified_tell_apart_too() {
    let mut gateway = Gateway::new(json!({
        "auth": {"trust_envoy_jwt_authn": {"payload_in_metadata": "jwt"}},
        "rate_limits": {"user": {"max_tokens": 1, "fill_interval_ms": 60_000}, "overrides": [{"claim": "a", "value": 1, "user": null}]},
    }));
    let headers = Headers { method: Some(b"POST"), path: Some(b"/api/v1/logs"), ..Headers::default() };
    let mut send = |payload: serde_json::Value| {
        let mut ingest = Ingest::new();
        let verified = payload.as_object();
        match gateway.on(&mut ingest, Event::Headers { headers, verified, end: false }) {
            Effect::Reply(reply) => return reply.status,
            _ => gateway.on(&mut ingest, Event::Buffered { bytes: 13, end: true }),
        };
        match gateway.on(&mut ingest, Event::Body(Some(br#"{"logs":[{}]}"#.to_vec()))) {
            Effect::Deliver(_) => 200,
            _ => 0,
        }
    };
    assert_eq!([(); 3].map(|()| send(json!({"sub": "u", "a": 1}))), [200, 200, 200]);
    assert_eq!([(); 3].map(|()| send(json!({"sub": "u", "a": 2}))), [200, 429, 429]);
}

#[test]
fn encodings_are_undone() {
    let body = good().body.unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&body).unwrap();
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
    bare.write_all(&body).unwrap();
    let mut gateway = Gateway::new(json!({}));
    for (encoding, body) in [
        ("gzip", gzip(&body)),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", bare.finish().unwrap()),
        ("gzip, gzip", gzip(&gzip(&body))),
        ("identity", body.clone()),
    ] {
        for trailers in [false, true] {
            let request = Request { content_encoding: Some(encoding), body: Some(body.clone()), trailers, ..good() };
            let (reply, sent) = gateway.deliver(&request, ok());
            assert_eq!((reply.status, sent.resource_logs[0].scope_logs[0].log_records.len()), (200, 2), "{encoding}");
        }
    }
}

#[test]
fn what_comes_out_is_bounded_and_what_is_corrupt_can_never_succeed() {
    let mut gateway = Gateway::new(json!({"max_body_bytes": 50_000}));
    let encoded = |body: Vec<u8>| Request { content_encoding: Some("gzip"), body: Some(body), ..good() };
    let filled = |length: usize| [br#"{"logs":["#.to_vec(), vec![b' '; length - 11], b"]}".to_vec()].concat();
    assert_eq!(gateway.reply(&encoded(gzip(&filled(50_000)))).status, 200);
    let reply = gateway.reply(&encoded(gzip(&filled(50_001))));
    assert_eq!((reply.status, reply.details), (413, "body_too_large"));
    let reply = gateway.reply(&encoded(gzip(&vec![b' '; 100_000_000])[..20_000].to_vec()));
    assert_eq!((reply.status, reply.details), (413, "body_too_large"), "a bomb that breaks off");
    for body in [b"{\"logs\":[]}".to_vec(), gzip(b"{\"logs\":[]}")[..12].to_vec()] {
        let reply = gateway.reply(&encoded(body));
        assert_eq!((reply.status, reply.details), (400, "body_corrupt"));
    }
    assert_eq!(gateway.reply(&encoded(gzip(b""))).details, "body_missing");
    assert_eq!(gateway.reply(&encoded(gzip(b"{"))).details, "body_not_json");
    let reply = gateway.reply(&Request { content_encoding: Some("gzip, br"), ..good() });
    assert_eq!((reply.status, header(&reply, "accept-encoding")), (415, Some("gzip, deflate")));
}

#[test]
fn bytes_are_those_of_the_body_itself() {
    let mut gateway = limited(json!({"unit": "bytes", "user": {"max_tokens": 10_000, "fill_interval_ms": 60_000}}));
    let body = format!(r#"{{"logs":[{{"message":"{}"}}]}}"#, "x".repeat(9_000 - 25));
    assert_eq!(body.len(), 9_000);
    let request = Request { content_encoding: Some("gzip"), body: Some(gzip(body.as_bytes())), ..good() };
    assert_eq!(told(&gateway.deliver(&request, ok()).0).1, Some(r#""user";r=1000;t=540000"#));
}

#[test]
fn so_many_records_and_not_one_more() {
    let records = |count: usize| Request { body: Some(format!(r#"{{"logs":[{}]}}"#, vec!["0"; count].join(",")).into_bytes()), ..good() };
    let mut gateway = Gateway::new(json!({"max_records": 7}));
    assert_eq!(gateway.deliver(&records(7), ok()).0.status, 200);
    let reply = gateway.reply(&records(8));
    assert_eq!((reply.status, reply.details), (413, "too_many_records"));
    let mut gateway = Gateway::new(json!({}));
    assert_eq!(gateway.deliver(&records(1_000), ok()).0.status, 200);
    assert_eq!(gateway.reply(&records(1_001)).status, 413);
}

/// A gateway that asks a service, and has a bucket of four in front of it.
fn asking(failure_mode: &str) -> Gateway {
    limited(json!({
        "user": {"max_tokens": 4, "fill_interval_ms": 60_000},
        "service": {"cluster": "ratelimit", "domain": "logs", "failure_mode": failure_mode},
    }))
}

fn verdict(overall_code: i32) -> Vec<u8> {
    let reset = Some(prost_types::Duration { seconds: 9, nanos: 500_000_000 });
    let statuses = vec![limit_service::DescriptorStatus { code: overall_code, duration_until_reset: reset }];
    limit_service::Response { overall_code, statuses }.encode_to_vec()
}

#[test]
fn the_service_is_asked_with_what_the_batch_costs_and_its_yes_lets_it_go_on() {
    let mut gateway = asking("deny");
    let Outcome::Asking(mut ingest, question) = gateway.send(&good()) else { panic!("doesn't ask") };
    let question = limit_service::Request::decode(&*question).unwrap();
    assert_eq!((question.domain.as_str(), question.hits_addend, question.descriptors.len()), ("logs", 2, 2));
    assert!(gateway.outbox.next(gateway.now, &mut gateway.counts).is_none(), "nothing is sent before the answer");
    assert!(matches!(gateway.on(&mut ingest, Event::Answered(Some(&verdict(1)))), Effect::Deliver(_)));
    let shipment = gateway.outbox.next(gateway.now, &mut gateway.counts).unwrap();
    let Effect::Reply(reply) = gateway.answer(&mut ingest, &shipment, ok()) else { panic!("no reply") };
    assert_eq!((reply.status, told(&reply).1), (200, Some(r#""user";r=2;t=120"#)));
    assert_eq!((gateway.count(Stat::LimitServiceAsked), gateway.count(Stat::LimitServiceFailed)), (1, 0));
}

#[test]
fn the_services_no_is_a_429_and_costs_nothing_here() {
    let mut gateway = asking("allow");
    for _ in 0..5 {
        let Outcome::Asking(mut ingest, _) = gateway.send(&good()) else { panic!("doesn't ask") };
        let Effect::Reply(reply) = gateway.on(&mut ingest, Event::Answered(Some(&verdict(2)))) else { panic!("no reply") };
        assert_eq!((reply.status, reply.details, retry_after(&reply)), (429, "service_rate_limited", Some("10")));
        assert_eq!(told(&reply), (None, None), "the buckets here have nothing to do with it");
    }
}

#[test]
fn the_bucket_in_front_spares_the_service() {
    let mut gateway = asking("allow");
    for _ in 0..2 {
        assert!(matches!(gateway.send(&good()), Outcome::Asking(..)));
    }
    assert_eq!(gateway.reply(&good()).details, "user_rate_limited");
    assert_eq!(gateway.count(Stat::LimitServiceAsked), 2);
}

#[test]
fn without_an_answer_the_failure_mode_decides() {
    for nothing in [None, Some(&b"\xff"[..]), Some(b"")] {
        let mut gateway = asking("allow");
        let Outcome::Asking(mut ingest, _) = gateway.send(&good()) else { panic!("doesn't ask") };
        assert!(matches!(gateway.on(&mut ingest, Event::Answered(nothing)), Effect::Deliver(_)));
        assert_eq!(gateway.count(Stat::LimitServiceFailed), 1);

        let mut gateway = asking("deny");
        for _ in 0..5 {
            let Outcome::Asking(mut ingest, _) = gateway.send(&good()) else { panic!("doesn't ask") };
            let Effect::Reply(reply) = gateway.on(&mut ingest, Event::Answered(nothing)) else { panic!("no reply") };
            // Never a status after which the client throws its records away.
            assert_eq!((reply.status, reply.details, retry_after(&reply)), (503, "limit_service_unavailable", Some("1")));
        }
        assert_eq!(gateway.count(Stat::LimitServiceFailed), 5);
    }
}

#[test]
fn a_client_that_leaves_while_the_service_is_asked_delivers_nothing() {
    let mut gateway = asking("allow");
    let Outcome::Asking(mut ingest, _) = gateway.send(&good()) else { panic!("doesn't ask") };
    assert!(gateway.on(&mut ingest, Event::Closed) == Effect::Wait);
    assert!(gateway.on(&mut ingest, Event::Answered(Some(&verdict(1)))) == Effect::Wait, "a late answer asks for nothing");
    assert!(gateway.outbox.next(gateway.now, &mut gateway.counts).is_none());
}

#[test]
fn a_batch_without_records_asks_nobody() {
    let mut gateway = asking("deny");
    assert_eq!(gateway.reply(&Request { body: Some(br#"{"logs":[]}"#.to_vec()), ..good() }).status, 200);
}

#[test]
fn a_user_at_the_limit_waits_and_nobody_else_does() {
    let mut gateway = limited(json!({"user": {"max_tokens": 3, "tokens_per_fill": 1, "fill_interval_ms": 10_000}}));
    assert_eq!(gateway.deliver(&from("a", "1"), ok()).0.status, 200);
    assert_eq!(gateway.deliver(&from("a", "2"), ok()).0.status, 200, "one token is left, and may be overdrawn");
    let reply = gateway.reply(&from("a", "3"));
    assert_eq!((reply.status, reply.details), (429, "user_rate_limited"));
    assert_eq!(retry_after(&reply), Some("11"), "a token that is owed, and then more than nothing");
    assert_eq!(gateway.deliver(&from("b", "1"), ok()).0.status, 200);
    gateway.now += std::time::Duration::from_secs(11);
    assert_eq!(gateway.deliver(&from("a", "3"), ok()).0.status, 200);
}

#[test]
fn a_session_at_the_limit_leaves_its_users_other_sessions_alone() {
    let mut gateway = limited(json!({"session": {"max_tokens": 1, "fill_interval_ms": 60_000}}));
    assert_eq!(gateway.deliver(&from("a", "1"), ok()).0.status, 200);
    assert_eq!(gateway.reply(&from("a", "1")).details, "session_rate_limited");
    assert_eq!(gateway.deliver(&from("a", "2"), ok()).0.status, 200);
    assert_eq!(gateway.deliver(&from("b", "1"), ok()).0.status, 200, "another user's session of the same name");
}

#[test]
fn without_a_session_in_the_token_the_batchs_own_counts() {
    let mut gateway = limited(json!({"session": {"max_tokens": 1, "fill_interval_ms": 60_000}}));
    let request =
        |session: &str| Request { body: Some(format!(r#"{{"logs":[{{"sessionId":"{session}"}}]}}"#).into_bytes()), ..from("a", "") };
    assert_eq!(gateway.deliver(&request("x"), ok()).0.status, 200);
    assert_eq!(gateway.reply(&request("x")).details, "session_rate_limited");
    assert_eq!(gateway.deliver(&request("y"), ok()).0.status, 200);
}

#[test]
fn what_was_not_delivered_is_not_charged() {
    let mut gateway = limited(json!({"user": {"max_tokens": 1, "fill_interval_ms": 60_000}}));
    for _ in 0..5 {
        assert_eq!(gateway.deliver(&good(), Answer::Reset).0.status, 502);
    }
    assert_eq!(gateway.deliver(&good(), ok()).0.status, 200);
    assert_eq!(gateway.reply(&good()).status, 429);
}

#[test]
fn what_is_refused_for_its_body_is_not_charged() {
    let mut gateway = limited(json!({"unit": "requests", "user": {"max_tokens": 1, "fill_interval_ms": 60_000}}));
    for _ in 0..5 {
        assert_eq!(gateway.reply(&Request { body: Some(b"{".to_vec()), ..good() }).status, 400);
    }
    assert_eq!(gateway.deliver(&good(), ok()).0.status, 200);
}
