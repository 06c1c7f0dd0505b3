//! Requests that wait for a key which their token names.

use super::*;
use crate::ingest::awaiting::LONGEST_WAIT;

/// A gateway whose keys come from an identity host, and a token signed with a key that it doesn't know yet.
fn remote() -> (Gateway, Ed25519KeyPair, Request<'static>) {
    let auth = json!({"providers": [{"name": "idp", "algorithms": ["EdDSA"], "remote_jwks": {"cluster": "idp", "uri": "https://idp.example/certs"}}]});
    let mut gateway = Gateway::new(json!({"auth": auth, "max_body_bytes": 5000}));
    gateway.serve(&[("old", &Ed25519KeyPair::generate())]);
    gateway.now += std::time::Duration::from_secs(60);
    let signer = Ed25519KeyPair::generate().with_key_id("new");
    let claims: JWTClaims<serde_json::Value> = serde_json::from_value(json!({"sub": "u", "exp": START.as_secs() + 3600})).unwrap();
    let authorization = Some(format!("Bearer {}", signer.sign(claims).unwrap()).into_bytes());
    (gateway, signer, Request { authorization, ..good() })
}

impl Gateway {
    /// A tick, at which the identity host answers with these keys; `None`: it is down.
    fn fetch(&mut self, keys: Option<&[(&str, &Ed25519KeyPair)]>) {
        use jwt_simple::reexports::ct_codecs::Encoder;
        let auth = &self.shared.config.auth;
        for provider in self.keyring.tick(auth, self.now, &mut self.memory, &mut self.counts) {
            let jwk = |(kid, pair): &(&str, &Ed25519KeyPair)| {
                let x = jwt_simple::reexports::ct_codecs::Base64UrlSafeNoPadding::encode_to_string(pair.public_key().to_bytes()).unwrap();
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            };
            let document = keys.map(|keys| json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()}).to_string());
            let answer =
                document.as_ref().map_or(token::KeyAnswer::None, |document| token::KeyAnswer::Response(Some(200), document.as_bytes()));
            let _ = self.keyring.fetched(auth, provider, answer, self.now, &mut self.memory, &mut self.counts);
        }
    }

    fn serve(&mut self, keys: &[(&str, &Ed25519KeyPair)]) {
        self.fetch(Some(keys));
    }

    fn awaiting(&mut self, request: &Request<'_>) -> Ingest {
        match self.send(request) {
            Outcome::Awaiting(ingest) => ingest,
            _ => panic!("doesn't wait for keys"),
        }
    }
}

#[test]
fn a_request_whose_key_is_new_waits_for_it_with_its_body() {
    let (mut gateway, signer, request) = remote();
    let body = request.body.clone().unwrap();
    let mut ingest = gateway.awaiting(&request);
    assert!(gateway.on(&mut ingest, Event::Buffered { bytes: body.len(), end: true }) == Effect::Wait);
    assert!(gateway.on(&mut ingest, Event::Keys) == Effect::Wait, "nothing new");
    gateway.serve(&[("new", &signer)]);
    assert!(gateway.on(&mut ingest, Event::Keys) == Effect::Read(body.len()));
    assert!(matches!(gateway.on(&mut ingest, Event::Body(Some(body.clone()))), Effect::Deliver(_)));
}

#[test]
fn the_body_may_also_come_after_the_key() {
    for trailers in [false, true] {
        let (mut gateway, signer, request) = remote();
        let body = request.body.clone().unwrap();
        let mut ingest = gateway.awaiting(&Request { body: None, trailers: true, ..request });
        gateway.serve(&[("new", &signer)]);
        assert!(gateway.on(&mut ingest, Event::Keys) == Effect::Wait);
        let read = if trailers {
            assert!(gateway.on(&mut ingest, Event::Buffered { bytes: body.len(), end: false }) == Effect::Wait);
            gateway.on(&mut ingest, Event::Trailers)
        } else {
            gateway.on(&mut ingest, Event::Buffered { bytes: body.len(), end: true })
        };
        assert!(read == Effect::Read(body.len()));
    }
}

#[test]
fn a_key_that_is_not_there_either_is_a_401_and_a_host_that_is_down_a_503() {
    let (mut gateway, _, request) = remote();
    let mut ingest = gateway.awaiting(&request);
    gateway.serve(&[("another", &Ed25519KeyPair::generate())]);
    assert!(matches!(gateway.on(&mut ingest, Event::Keys), Effect::Reply(reply) if (reply.status, reply.details) == (401, "token_key")));

    let (mut gateway, _, request) = remote();
    let mut ingest = gateway.awaiting(&request);
    gateway.fetch(None);
    let reply = match gateway.on(&mut ingest, Event::Keys) {
        Effect::Reply(reply) => reply,
        _ => panic!("no reply"),
    };
    assert_eq!((reply.status, reply.details), (503, "keys_unavailable"));
    assert!(reply.headers.iter().any(|(name, _)| *name == "retry-after"));
}

#[test]
fn nobody_waits_for_ever() {
    let (mut gateway, _, request) = remote();
    let mut ingest = gateway.awaiting(&request);
    gateway.now += LONGEST_WAIT + std::time::Duration::from_secs(1);
    assert!(matches!(gateway.on(&mut ingest, Event::Keys), Effect::Reply(reply) if reply.status == 503));
    assert!(!ingest.is_awaiting());
}

#[test]
fn a_body_over_the_limit_is_not_held_while_its_sender_is_unknown() {
    let (mut gateway, signer, request) = remote();
    let mut ingest = gateway.awaiting(&request);
    assert!(gateway.on(&mut ingest, Event::Buffered { bytes: 4_000, end: false }) == Effect::Wait);
    assert!(gateway.on(&mut ingest, Event::Buffered { bytes: 6_000, end: false }) == Effect::Discard(6_000));
    assert!(gateway.on(&mut ingest, Event::Buffered { bytes: 100, end: true }) == Effect::Discard(100));
    gateway.serve(&[("new", &signer)]);
    assert!(matches!(gateway.on(&mut ingest, Event::Keys), Effect::Reply(reply) if reply.status == 413));
}

#[test]
fn those_that_leave_make_room_for_others() {
    let (mut gateway, _, request) = remote();
    for _ in 0..1_000 {
        let mut ingest = gateway.awaiting(&request);
        assert!(gateway.on(&mut ingest, Event::Closed) == Effect::Wait);
    }
    let waiting: Vec<Ingest> = (0..64).map(|_| gateway.awaiting(&request)).collect();
    assert_eq!(gateway.reply(&request).details, "keys_unavailable");
    drop(waiting);
}
