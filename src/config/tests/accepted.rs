use super::*;
use jwt_simple::prelude::{ES256KeyPair, ES384KeyPair, Ed25519KeyPair};

#[test]
fn the_documented_example_reads_as_it_is_written() {
    let config = read(&full()).unwrap();
    assert_eq!((config.path.as_str(), config.max_body_bytes), ("/api/v1/logs", 1_048_576));

    let auth = &config.auth;
    assert_eq!((auth.clock_skew, auth.require_expiration, auth.cache_entries), (Duration::from_secs(60), true, 1_024));
    assert!(auth.trusted.is_none());
    let [provider] = &auth.providers[..] else { panic!("{auth:?}") };
    assert_eq!((provider.name.as_str(), provider.issuer.as_deref()), ("session", Some("https://id.example.com/realms/field")));
    assert_eq!(provider.audiences, ["field-app"]);
    assert_eq!((provider.subject_claim.as_str(), provider.session_claim.as_str()), ("sub", "sid"));
    assert_eq!(algorithms(&config), ["RS256"]);

    let second = Duration::from_secs(1);
    let limits = &config.rate_limits;
    assert_eq!((limits.unit, limits.slots), (Unit::Records, 16_384));
    let user = TokenBucket { max_tokens: 2_000, tokens_per_fill: 50, fill_interval: second };
    let session = TokenBucket { max_tokens: 1_000, tokens_per_fill: 25, fill_interval: second };
    let limit = |bucket| Some(Limit { bucket, shadow: false });
    assert_eq!(limits.limits, Limits { user: limit(user), session: limit(session) });

    let export = &config.export;
    assert_eq!(
        (export.cluster.as_str(), export.authority.as_str(), export.path.as_str()),
        ("logfire", "logfire-us.pydantic.dev", "/v1/logs")
    );
    assert_eq!(export.token.as_ref().map(Secret::reveal), Some(TOKEN));
    assert!(export.headers.is_empty());
    assert_eq!((export.bounds.timeout, export.compression), (Duration::from_secs(10), Compression::Gzip));

    assert!(config.mapping.resource.is_empty());
    assert_eq!(config.mapping.window, Some(Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) }));
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let config = read(&least()).unwrap();
    assert_eq!((config.path.as_str(), config.max_body_bytes), ("/api/v1/logs", 1_048_576));
    let auth = &config.auth;
    assert_eq!((auth.clock_skew, auth.require_expiration, auth.cache_entries), (Duration::from_secs(60), true, 1_024));
    let provider = &auth.providers[0];
    assert_eq!((&provider.issuer, provider.audiences.len()), (&None, 0));
    assert_eq!((provider.subject_claim.as_str(), provider.session_claim.as_str()), ("sub", "sid"));
    let limits = &config.rate_limits;
    assert_eq!((limits.unit, limits.limits, limits.slots), (Unit::Records, Limits::default(), 16_384));
    let export = &config.export;
    assert!(export.token.is_none() && export.headers.is_empty());
    assert_eq!((export.path.as_str(), export.bounds.timeout, export.compression), ("/v1/logs", Duration::from_secs(10), Compression::Gzip));
    assert!(config.mapping.resource.is_empty());
    assert_eq!(config.mapping.window, Some(Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) }));
    assert_eq!(config.mapping.max_records, 1_000);
    assert_eq!((limits.on_contention, limits.service.is_some(), limits.overrides.len()), (Otherwise::Deny, false, 0));
}

#[test]
fn an_empty_section_is_a_section_of_defaults() {
    let config = read(&with(with(least(), "/rate_limits", json!({})), "/mapping", json!({"window": {}}))).unwrap();
    assert_eq!((config.rate_limits.limits.user, config.rate_limits.slots), (None, 16_384));
    assert!(config.mapping.window.is_some());
    let bucket = json!({"max_tokens": 7, "fill_interval_ms": 250});
    let config = read(&with(least(), "/rate_limits", json!({"user": bucket}))).unwrap();
    let bucket = TokenBucket { max_tokens: 7, tokens_per_fill: 1, fill_interval: Duration::from_millis(250) };
    assert_eq!(config.rate_limits.limits, Limits { user: Some(Limit { bucket, shadow: false }), session: None });
}

#[test]
fn a_window_of_null_turns_the_correction_off() {
    assert_eq!(read(&with(full(), "/mapping/window", Value::Null)).unwrap().mapping.window, None);
}

#[test]
fn whole_numbers_may_be_doubles_and_zero_means_none_where_that_is_documented() {
    let config = r#"{"max_body_bytes": 6e1, "auth": {"clock_skew_seconds": 60.0, "cache_entries": 0,
        "providers": [{"name": "p", "algorithms": ["HS256"], "hmac_secret_env": "SESSION_JWT_SECRET"}]},
        "export": {"cluster": "c", "authority": "a", "timeout_ms": 1.0e3}}"#;
    let config = Config::read(config.as_bytes(), &environment).unwrap();
    assert_eq!((config.max_body_bytes, config.auth.clock_skew, config.auth.cache_entries), (60, Duration::from_secs(60), 0));
    assert_eq!(config.export.bounds.timeout, Duration::from_secs(1));
    assert_eq!(read(&with(full(), "/auth/clock_skew_seconds", json!(0))).unwrap().auth.clock_skew, Duration::ZERO);
}

#[test]
fn every_unit_and_compression_has_its_word() {
    for (word, unit) in [("records", Unit::Records), ("requests", Unit::Requests), ("bytes", Unit::Bytes)] {
        assert_eq!(read(&with(full(), "/rate_limits/unit", json!(word))).unwrap().rate_limits.unit, unit);
    }
    for (word, compression) in [("gzip", Compression::Gzip), ("none", Compression::None)] {
        assert_eq!(read(&with(full(), "/export/compression", json!(word))).unwrap().export.compression, compression);
    }
}

#[test]
fn headers_are_in_lower_case_and_otherwise_as_they_are() {
    let headers = json!({"X-Scope-OrgID": "field, EU", "x-b": "~"});
    let config = read(&with(full(), "/export/headers", headers)).unwrap();
    let headers: Vec<(&str, &str)> = config.export.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(headers, [("x-scope-orgid", "field, EU"), ("x-b", "~")]);
}

#[test]
fn resource_attributes_are_any_json() {
    let resource = json!({"deployment.environment.name": "prod", "n": 1, "f": 1.5, "list": [null, true, {"a": []}]});
    let config = read(&with(full(), "/mapping/resource", resource.clone())).unwrap();
    assert_eq!(Value::Object(config.mapping.resource), resource);
}

#[test]
fn every_algorithm_has_a_key_of_its_family() {
    for algorithms in [vec!["HS256"], vec!["HS512", "HS384", "HS256"]] {
        let config = with_provider(json!({"algorithms": algorithms, "hmac_secret_env": "SESSION_JWT_SECRET"}));
        assert_eq!(super::algorithms(&read(&config).unwrap()), algorithms);
    }
    let rsa = RSA_2048.to_owned();
    let p256 = ES256KeyPair::generate().public_key().to_pem().unwrap();
    let p384 = ES384KeyPair::generate().public_key().to_pem().unwrap();
    let ed25519 = Ed25519KeyPair::generate().public_key().to_pem();
    let all_rsa = vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    for (pem, algorithms) in [(rsa, all_rsa), (p256, vec!["ES256"]), (p384, vec!["ES384"]), (ed25519, vec!["EdDSA"])] {
        for pem in [pem.trim().to_owned(), pem.replace('\n', "\r\n"), pem] {
            let config = read(&with_provider(json!({"algorithms": algorithms, "public_key_pem": pem})));
            assert_eq!(super::algorithms(&config.unwrap()), algorithms);
        }
    }
}

#[test]
fn a_key_set_is_an_object_or_a_string_that_holds_one() {
    let set = json!({"keys": [{"kty": "oct", "k": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE", "kid": "a"}]});
    for set in [json!(set.to_string()), json!(format!("\n  {set}\n")), set] {
        let config = read(&with_provider(json!({"algorithms": ["HS256"], "local_jwks": set}))).unwrap();
        assert_eq!(algorithms(&config), ["HS256"]);
    }
}

#[test]
fn a_remote_key_set_is_an_address_and_three_times() {
    let remote =
        json!({"cluster": "idp", "uri": "https://id.example.com:8443/realms/field/certs?x=1", "cache_seconds": 300, "timeout_ms": 1500});
    let config = read(&with_provider(json!({"algorithms": ["RS256", "EdDSA"], "remote_jwks": remote}))).unwrap();
    let Source::Remote(remote) = &config.auth.providers[0].keys else { panic!("{config:?}") };
    assert_eq!(
        (remote.cluster.as_str(), remote.authority.as_str(), remote.path.as_str()),
        ("idp", "id.example.com:8443", "/realms/field/certs?x=1")
    );
    assert_eq!((remote.cache, remote.timeout), (Duration::from_secs(300), Duration::from_millis(1_500)));
    assert_eq!(remote.max_stale, Duration::from_secs(86_400));
    assert_eq!(remote.algorithms, [Algorithm::Rs256, Algorithm::EdDsa]);

    for (uri, authority, path) in [("http://[::1]:80", "[::1]:80", "/"), ("https://id?kid=1", "id", "/?kid=1"), ("https://id/", "id", "/")]
    {
        let config = read(&with_provider(json!({"algorithms": ["ES256"], "remote_jwks": {"cluster": "idp", "uri": uri}}))).unwrap();
        let Source::Remote(remote) = &config.auth.providers[0].keys else { panic!("{config:?}") };
        assert_eq!((remote.authority.as_str(), remote.path.as_str()), (authority, path));
        assert_eq!((remote.cache, remote.timeout), (Duration::from_secs(600), Duration::from_secs(2)));
    }
}

#[test]
fn jwt_authn_may_be_trusted_instead() {
    let config = read(&with(least(), "/auth", json!({"trust_envoy_jwt_authn": {"payload_in_metadata": "jwt"}}))).unwrap();
    let trusted = config.auth.trusted.unwrap();
    assert_eq!(
        (trusted.payload_in_metadata.as_str(), trusted.subject_claim.as_str(), trusted.session_claim.as_str()),
        ("jwt", "sub", "sid")
    );
    assert!(config.auth.providers.is_empty());
}

#[test]
fn limits_may_be_in_the_shadow_others_for_some_and_shared_with_other_envoys() {
    let limits = json!({
        "user": {"max_tokens": 10, "fill_interval_ms": 1, "shadow": true},
        "session": {"max_tokens": 5, "fill_interval_ms": 1},
        "overrides": [
            {"claim": "channel", "value": "beta", "user": {"max_tokens": 20, "fill_interval_ms": 1}},
            {"claim": "support", "value": true, "user": null, "session": {"max_tokens": 7, "fill_interval_ms": 1}},
            {"claim": "version", "value": 3, "session": null},
        ],
        "on_contention": "allow",
        "service": {"cluster": "ratelimit", "domain": "logs"},
    });
    let config = read(&with(least(), "/rate_limits", limits)).unwrap();
    let limit = |max_tokens, shadow| {
        let bucket = TokenBucket { max_tokens, tokens_per_fill: 1, fill_interval: Duration::from_millis(1) };
        Some(Limit { bucket, shadow })
    };
    let (user, session) = (limit(10, true), limit(5, false));
    assert_eq!(config.rate_limits.limits, Limits { user, session });
    assert_eq!(
        config.rate_limits.overrides,
        [Limits { user: limit(20, false), session }, Limits { user: None, session: limit(7, false) }, Limits { user, session: None }]
    );
    let told = config.auth.distinctions.iter().map(|told| (told.claim.as_str(), told.value.clone())).collect::<Vec<_>>();
    assert_eq!(told, [("channel", json!("beta")), ("support", json!(true)), ("version", json!(3))]);
    assert_eq!(config.rate_limits.on_contention, Otherwise::Allow);
    let service = config.rate_limits.service.unwrap();
    assert_eq!((service.cluster.as_str(), service.domain.as_str()), ("ratelimit", "logs"));
    assert_eq!((service.timeout, service.failure_mode), (Duration::from_millis(200), Otherwise::Allow));
}
