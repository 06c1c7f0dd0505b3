//! Several providers: whose token is it, and which key is meant?

use super::*;

fn issued(issuer: &str) -> Value {
    good_with(json!({"iss": issuer}))
}

fn names(providers: &[Value], token: &str) -> Result<String, Rejection> {
    verified(token, &auth(providers)).map(|claims| claims.subject)
}

/// A provider that reads the subject from a claim of its own, so that it shows which one took the token.
fn marked(signer: &Signer, mark: &str, fields: Value) -> Value {
    merge(&[signer.provider(json!({"name": mark, "subject_claim": mark})), fields])
}

fn with_marks(claims: Value) -> Value {
    merge(&[claims, json!({"first": "first", "second": "second", "third": "third"})])
}

#[test]
fn the_issuer_chooses_the_provider() {
    let (hmac, ec) = (signer("HS256"), signer("ES256"));
    let providers = [hmac.provider(json!({"issuer": "https://a"})), ec.provider(json!({"issuer": "https://b"}))];
    assert!(names(&providers, &hmac.token(&issued("https://a"))).is_ok());
    assert!(names(&providers, &ec.token(&issued("https://b"))).is_ok());
    // The other provider's key vouches for nothing here.
    assert_eq!(names(&providers, &ec.token(&issued("https://a"))), Err(Rejection::TokenAlgorithm));
    assert_eq!(names(&providers, &hmac.token(&issued("https://b"))), Err(Rejection::TokenAlgorithm));
}

#[test]
fn an_issuer_that_nobody_claims_is_refused_to_the_letter() {
    let providers = [signer("HS256").provider(json!({"issuer": "https://a"}))];
    for issuer in ["https://b", "https://a/", "HTTPS://A", "https://a ", ""] {
        assert_eq!(names(&providers, &signer("HS256").token(&issued(issuer))), Err(Rejection::TokenIssuer), "{issuer:?}");
    }
    assert_eq!(names(&providers, &signer("HS256").token(&good())), Err(Rejection::TokenIssuer));
    for issuer in [json!(null), json!(1), json!(["https://a"]), json!({"https://a": 1})] {
        assert_eq!(names(&providers, &signer("HS256").token(&good_with(json!({"iss": issuer})))), Err(Rejection::TokenIssuer));
    }
}

#[test]
fn a_provider_without_issuer_takes_what_nobody_else_claims() {
    let (hmac, ec) = (signer("HS256"), signer("ES256"));
    let providers = [hmac.provider(json!({})), ec.provider(json!({"issuer": "https://b"}))];
    assert!(names(&providers, &hmac.token(&good())).is_ok());
    assert!(names(&providers, &hmac.token(&issued("https://anything"))).is_ok());
    assert!(names(&providers, &ec.token(&issued("https://b"))).is_ok());
    assert_eq!(names(&providers, &hmac.token(&issued("https://b"))), Err(Rejection::TokenAlgorithm), "it is claimed");
    assert_eq!(names(&providers, &ec.token(&good())), Err(Rejection::TokenAlgorithm));
}

#[test]
fn providers_of_one_issuer_are_tried_in_order() {
    let (hmac, ec) = (signer("HS256"), signer("ES256"));
    let issuer = json!({"issuer": "https://a"});
    let providers = [marked(hmac, "first", issuer.clone()), marked(ec, "second", issuer.clone()), marked(ec, "third", issuer)];
    assert_eq!(names(&providers, &hmac.token(&with_marks(issued("https://a")))), Ok("first".to_owned()));
    assert_eq!(names(&providers, &ec.token(&with_marks(issued("https://a")))), Ok("second".to_owned()));
    assert_eq!(names(&providers, &signer("ES384").token(&with_marks(issued("https://a")))), Err(Rejection::TokenAlgorithm));
}

#[test]
fn providers_of_one_issuer_may_differ_in_their_audience() {
    let signer = signer("ES256");
    let fields = |audience: &str| json!({"issuer": "https://a", "audiences": [audience]});
    let providers = [marked(signer, "first", fields("phones")), marked(signer, "second", fields("desktops"))];
    let token = |audience: &str| signer.token(&with_marks(good_with(json!({"iss": "https://a", "aud": audience}))));
    assert_eq!(names(&providers, &token("phones")), Ok("first".to_owned()));
    assert_eq!(names(&providers, &token("desktops")), Ok("second".to_owned()), "the first one is not the only one");
    assert_eq!(names(&providers, &token("others")), Err(Rejection::TokenAudience));
}

/// Ten keys in one set, and who signs with each.
fn ten_keys(with_ids: bool) -> (Value, Vec<Ed25519KeyPair>) {
    let pairs: Vec<Ed25519KeyPair> = (0..10).map(|_| Ed25519KeyPair::generate()).collect();
    let jwk = |(i, pair): (usize, &Ed25519KeyPair)| {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().to_bytes())});
        if with_ids { merge(&[jwk, json!({"kid": format!("key {i}")})]) } else { jwk }
    };
    let keys: Vec<Value> = pairs.iter().enumerate().map(jwk).collect();
    (json!({"name": "set", "algorithms": ["EdDSA"], "local_jwks": {"keys": keys}}), pairs)
}

fn signed(pair: &Ed25519KeyPair, kid: Option<&str>) -> String {
    let pair = Ed25519KeyPair::from_bytes(&pair.to_bytes()).unwrap();
    let pair = if let Some(kid) = kid { pair.with_key_id(kid) } else { pair };
    pair.sign(JWTClaims { custom: Payload(good().as_object().unwrap().clone()), ..JWTClaims::new() }).unwrap()
}

#[test]
fn a_kid_finds_its_key_wherever_it_stands() {
    let (provider, pairs) = ten_keys(true);
    for (i, pair) in pairs.iter().enumerate() {
        assert!(names(std::slice::from_ref(&provider), &signed(pair, Some(&format!("key {i}")))).is_ok(), "{i}");
    }
    assert_eq!(names(std::slice::from_ref(&provider), &signed(&pairs[0], Some("key 1"))), Err(Rejection::TokenSignature), "another's id");
    for unknown in ["key 10", "KEY 1", "", "../key 1", "key 1' OR '1'='1"] {
        assert_eq!(names(std::slice::from_ref(&provider), &signed(&pairs[1], Some(unknown))), Err(Rejection::TokenKey), "{unknown:?}");
    }
}

#[test]
fn without_a_kid_at_most_eight_keys_are_tried() {
    for with_ids in [true, false] {
        let (provider, pairs) = ten_keys(with_ids);
        for (i, pair) in pairs.iter().enumerate() {
            let expected = if i < TRIED { None } else { Some(Rejection::TokenSignature) };
            assert_eq!(names(std::slice::from_ref(&provider), &signed(pair, None)).err(), expected, "{i}");
        }
    }
}

#[test]
fn a_key_without_an_id_may_be_the_one_that_is_meant() {
    let (provider, pairs) = ten_keys(false);
    assert!(names(&[provider], &signed(&pairs[3], Some("some id"))).is_ok());
}

#[test]
fn keys_for_another_algorithm_are_not_among_those_tried() {
    let secrets: Vec<[u8; 64]> = (0..TRIED as u8).map(|i| [i; 64]).collect();
    let keys: Vec<Value> = secrets.iter().map(|secret| json!({"kty": "oct", "k": encode(secret)})).collect();
    let provider = json!({"name": "set", "algorithms": ["HS512", "HS384", "HS256"], "local_jwks": {"keys": keys}});
    for secret in &secrets {
        assert!(names(std::slice::from_ref(&provider), &hs256(HS256, &good().to_string(), secret)).is_ok());
    }
}
