use super::*;
use crate::config::jwks::tests::power_of_65537;
use jwt_simple::prelude::{ES256KeyPair, ES384KeyPair, Ed25519KeyPair, RS256PublicKey};

/// Sizes and times: where, and whether zero is one of them.
const NUMBERS: [(&str, bool); 12] = [
    ("/max_body_bytes", false),
    ("/auth/clock_skew_seconds", true),
    ("/auth/cache_entries", true),
    ("/rate_limits/user/max_tokens", false),
    ("/rate_limits/user/tokens_per_fill", false),
    ("/rate_limits/user/fill_interval_ms", false),
    ("/rate_limits/session/max_tokens", false),
    ("/rate_limits/session/fill_interval_ms", false),
    ("/rate_limits/slots", false),
    ("/export/timeout_ms", false),
    ("/mapping/window/past_seconds", false),
    ("/mapping/window/future_seconds", false),
];

const TEXTS: [&str; 11] = [
    "/path",
    "/auth/providers/0/name",
    "/auth/providers/0/issuer",
    "/auth/providers/0/audiences/0",
    "/auth/providers/0/algorithms/0",
    "/auth/providers/0/public_key_pem",
    "/auth/providers/0/subject_claim",
    "/auth/providers/0/session_claim",
    "/export/cluster",
    "/export/authority",
    "/export/path",
];

const OBJECTS: [&str; 8] =
    ["/auth", "/auth/providers/0", "/rate_limits", "/rate_limits/user", "/export", "/export/headers", "/mapping", "/mapping/resource"];

/// A JSON pointer as faults write it.
fn path(pointer: &str) -> String {
    let part = |part: &str| if part.parse::<usize>().is_ok() { format!("[{part}]") } else { format!(".{part}") };
    let path: String = pointer.split('/').skip(1).map(part).collect();
    path.trim_start_matches('.').to_owned()
}

/// A set that lacks nothing but what is said of its one key.
fn jwks(fields: Value) -> Value {
    with_provider(json!({"algorithms": ["RS256", "ES256", "HS256"], "local_jwks": {"keys": [fields]}}))
}

#[test]
fn a_number_is_whole_and_in_its_range() {
    for (pointer, zero) in NUMBERS {
        let text = |json: &str| with(full(), pointer, serde_json::from_str(json).unwrap());
        for bad in ["-1", "-0.5", "0.5", "1000.5", "1e300", "18446744073709551615", "\"60\"", "null", "true", "[60]", "{}"] {
            assert_eq!(paths(&text(bad)), [path(pointer)], "{bad}");
        }
        assert_eq!(paths(&text("0")).is_empty(), zero, "{pointer}");
        assert_eq!(paths(&text("64.0")), [""; 0], "{pointer}");
    }
    let line = lines(&with(full(), "/rate_limits/user/max_tokens", json!(0)));
    assert_eq!(line, ["rate_limits.user.max_tokens: must be a whole number from 1 to 4294967295, not 0"]);
}

#[test]
fn a_text_is_a_string_with_something_in_it() {
    for pointer in TEXTS {
        for bad in [json!(""), json!(1), json!(null), json!(false), json!(["a"]), json!({"a": 1})] {
            let faults = lines(&with(full(), pointer, bad.clone()));
            let expected = if bad == "" { "must not be empty" } else { "must be a string, not " };
            assert!(faults.iter().any(|line| line.starts_with(&format!("{}: {expected}", path(pointer)))), "{pointer} {bad}: {faults:?}");
        }
    }
}

#[test]
fn an_object_is_an_object() {
    for pointer in OBJECTS {
        for bad in [json!("{}"), json!(1), json!(null), json!([]), json!([{}])] {
            assert_eq!(paths(&with(full(), pointer, bad.clone())), [path(pointer)], "{pointer} {bad}");
        }
    }
    for bad in ["1", "null", "[]", "\"{}\"", "true"] {
        let faults = Config::read(bad.as_bytes(), &environment).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].to_string().starts_with("configuration: must be an object, not "), "{}", faults[0]);
    }
}

#[test]
fn a_list_is_a_list_with_something_in_it() {
    for name in ["audiences", "algorithms"] {
        let pointer = format!("/auth/providers/0/{name}");
        assert_eq!(lines(&with(full(), &pointer, json!([]))), [format!("auth.providers[0].{name}: must not be empty")]);
        assert_eq!(lines(&with(full(), &pointer, json!("RS256"))), [format!("auth.providers[0].{name}: must be a list, not a string")]);
        assert_eq!(paths(&with(full(), &pointer, json!(null))), [format!("auth.providers[0].{name}")]);
    }
    assert_eq!(lines(&with(full(), "/auth/providers", json!([]))), ["auth.providers: must not be empty"]);
    assert_eq!(lines(&with(full(), "/auth/providers", json!({}))), ["auth.providers: must be a list, not an object"]);
    let providers = json!([full()["auth"]["providers"][0], 7, null]);
    assert_eq!(paths(&with(full(), "/auth/providers", providers)), ["auth.providers[1]", "auth.providers[2]"]);
}

#[test]
fn what_is_required_is_missed_where_it_should_be() {
    for (pointer, expected) in [
        ("/auth", "auth"),
        ("/auth/providers", "auth.providers"),
        ("/auth/providers/0/name", "auth.providers[0].name"),
        ("/auth/providers/0/algorithms", "auth.providers[0].algorithms"),
        ("/auth/providers/0/public_key_pem", "auth.providers[0].public_key_pem"),
        ("/rate_limits/user/max_tokens", "rate_limits.user.max_tokens"),
        ("/rate_limits/session/fill_interval_ms", "rate_limits.session.fill_interval_ms"),
        ("/export", "export"),
        ("/export/cluster", "export.cluster"),
        ("/export/authority", "export.authority"),
    ] {
        assert_eq!(paths(&without(full(), pointer)), [expected]);
    }
}

#[test]
fn an_unknown_field_is_a_fault_wherever_it_stands() {
    let root = lines(&with(full(), "/unknown", json!(1)));
    assert_eq!(root.len(), 1);
    assert!(root[0].starts_with("unknown: unknown field; known here: path, max_body_bytes, max_records, auth"), "{root:?}");
    for parent in ["/auth", "/auth/providers/0", "/rate_limits", "/rate_limits/user", "/export", "/mapping", "/mapping/window"] {
        let pointer = format!("{parent}/Unknown");
        assert_eq!(paths(&with(full(), &pointer, json!({"a": 1}))), [path(&pointer)]);
    }
    let remote = json!({"cluster": "idp", "uri": "https://id", "ttl": 1});
    assert_eq!(paths(&with_provider(json!({"algorithms": ["RS256"], "remote_jwks": remote}))), ["auth.providers[0].remote_jwks.ttl"]);
}

#[test]
fn all_faults_come_at_once_each_with_its_path() {
    let config = json!({
        "path": "logs",
        "max_body_bytes": -5,
        "colour": "red",
        "auth": {
            "clock_skew_seconds": 1.5,
            "require_expiration": "yes",
            "providers": [
                {"name": "a", "algorithms": ["RS256", "none", "RS256"], "public_key_pem": "-----BEGIN PUBLIC KEY-----"},
                {"algorithms": ["HS512"], "hmac_secret_env": "MISSING"},
                {"name": "c", "algorithms": ["ES256"], "issuer": 7},
                "d",
            ],
        },
        "rate_limits": {"unit": "logs", "user": {"tokens_per_fill": 0}, "slots": 7},
        "export": {"cluster": "", "path": "v1", "token_env": "MISSING", "headers": {"a b": "c", "d": 1}, "timeout_ms": 0, "compression": "zstd"},
        "mapping": {"resource": 1, "window": {"past_seconds": 0, "next": 1}},
    });
    assert_eq!(
        paths(&config),
        [
            "path",
            "max_body_bytes",
            "auth.clock_skew_seconds",
            "auth.require_expiration",
            "auth.providers[3]",
            "auth.providers[0].algorithms[1]",
            "auth.providers[0].algorithms[2]",
            "auth.providers[0].public_key_pem",
            "auth.providers[1].name",
            "auth.providers[1].hmac_secret_env",
            "auth.providers[2].issuer",
            "auth.providers[2].public_key_pem",
            "rate_limits.unit",
            "rate_limits.user.max_tokens",
            "rate_limits.user.tokens_per_fill",
            "rate_limits.user.fill_interval_ms",
            "rate_limits.slots",
            "export.cluster",
            "export.authority",
            "export.path",
            "export.token_env",
            "export.headers.a b",
            "export.headers.d",
            "export.timeout_ms",
            "export.compression",
            "mapping.resource",
            "mapping.window.past_seconds",
            "mapping.window.next",
            "colour",
        ]
    );
}

#[test]
fn an_algorithm_is_one_of_the_known_to_the_letter_and_stands_once() {
    for bad in ["none", "rs256", "RS256 ", "ES512", "ES256K", "Ed25519", "HMAC", "*"] {
        let faults = lines(&with(full(), "/auth/providers/0/algorithms", json!(["RS256", bad])));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("auth.providers[0].algorithms[1]: must be one of HS256, HS384"), "{faults:?}");
    }
    let twice = with(full(), "/auth/providers/0/algorithms", json!(["RS256", "PS256", "RS256"]));
    assert_eq!(lines(&twice), ["auth.providers[0].algorithms[2]: stands twice"]);
}

#[test]
fn a_provider_has_one_source_of_keys() {
    let fields = |fields: Value| with_provider(with(fields, "/algorithms", json!(["RS256"])));
    assert!(lines(&fields(json!({})))[0].starts_with("auth.providers[0].public_key_pem: no source of keys: give one of local_jwks, "));
    for two in [
        json!({"public_key_pem": RSA_2048, "hmac_secret_env": "SESSION_JWT_SECRET"}),
        json!({"public_key_pem": RSA_2048, "local_jwks": {"keys": []}}),
        json!({"public_key_pem": RSA_2048, "remote_jwks": {"cluster": "idp", "uri": "https://id"}}),
        json!({"public_key_pem": RSA_2048, "local_jwks": {}, "hmac_secret_env": "X", "remote_jwks": {}}),
    ] {
        let faults = lines(&fields(two.clone()));
        assert_eq!(faults.len(), 1, "{two}: {faults:?}");
        assert!(faults[0].contains(": a provider has one source of keys: "), "{faults:?}");
    }
    let trusting = with(full(), "/auth/trust_envoy_jwt_authn", json!({"payload_in_metadata": "jwt"}));
    assert_eq!(paths(&trusting), ["auth.trust_envoy_jwt_authn"]);
    assert_eq!(paths(&with(least(), "/auth", json!({"trust_envoy_jwt_authn": {}}))), ["auth.trust_envoy_jwt_authn.payload_in_metadata"]);
}

#[test]
fn a_provider_has_a_name_of_its_own() {
    let providers = json!([full()["auth"]["providers"][0], full()["auth"]["providers"][0]]);
    assert_eq!(lines(&with(full(), "/auth/providers", providers)), ["auth.providers: the name \"session\" stands twice"]);
}

#[test]
fn a_pem_is_a_public_key_for_each_algorithm() {
    let es256 = ES256KeyPair::generate();
    let cut = RSA_2048.replace("nDiGK", "");
    let off_curve =
        es256.public_key().to_pem().unwrap().replace("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAF");
    for (algorithm, pem) in [
        ("RS256", "not PEM"),
        ("RS256", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"),
        ("PS512", &cut),
        ("ES256", &off_curve),
        ("EdDSA", "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="),
        // Good keys of another family.
        ("RS256", &es256.public_key().to_pem().unwrap()),
        ("ES256", RSA_2048),
        ("ES256", &ES384KeyPair::generate().public_key().to_pem().unwrap()),
        ("ES384", &es256.public_key().to_pem().unwrap()),
        ("EdDSA", &es256.public_key().to_pem().unwrap()),
        ("ES256", &Ed25519KeyPair::generate().public_key().to_pem()),
    ] {
        let faults = lines(&with_provider(json!({"algorithms": [algorithm], "public_key_pem": pem})));
        assert_eq!(
            faults,
            [format!(
                "auth.providers[0].public_key_pem: is no public key for {algorithm} in PEM (SPKI, \"BEGIN PUBLIC KEY\"; RSA: at least 2048 bits)"
            )]
        );
    }
    let mixed = with_provider(json!({"algorithms": ["RS256", "ES256", "HS256"], "public_key_pem": RSA_2048}));
    let faults = lines(&mixed);
    assert_eq!(faults.len(), 2);
    assert!(faults[0].contains("ES256") && faults[1].contains("HS256"), "{faults:?}");
}

#[test]
fn an_rsa_key_has_at_least_2048_bits() {
    for algorithm in ["RS256", "PS512"] {
        let faults = lines(&with_provider(json!({"algorithms": [algorithm], "public_key_pem": RSA_1024})));
        let expected = format!(
            "auth.providers[0].public_key_pem: is no public key for {algorithm} in PEM (SPKI, \"BEGIN PUBLIC KEY\"; RSA: at least 2048 bits)"
        );
        assert_eq!(faults, [expected]);
    }
}

#[test]
fn an_rsa_key_has_no_private_half_that_can_be_computed() {
    let modulus = power_of_65537(140);
    let pem = RS256PublicKey::from_components(&modulus, &[1, 0, 1]).unwrap().to_pem().unwrap();
    for algorithm in ["RS256", "PS512"] {
        let faults = lines(&with_provider(json!({"algorithms": [algorithm], "public_key_pem": pem})));
        let what = "is an RSA key whose private half can be computed from it (ROCA, CVE-2017-15361)";
        assert_eq!(faults, [format!("auth.providers[0].public_key_pem: {what}")]);
    }
}

#[test]
fn a_secret_is_as_long_as_its_hash() {
    for (algorithm, shortest) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        let config = with_provider(json!({"algorithms": [algorithm], "hmac_secret_env": "S"})).to_string();
        let read = |length: usize| Config::read(config.as_bytes(), &|_| Some("s".repeat(length)));
        assert!(read(shortest).is_ok());
        let faults = read(shortest - 1).unwrap_err();
        assert_eq!(faults.len(), 1);
        let expected = format!("auth.providers[0].hmac_secret_env: the secret is too short for {algorithm}: at least {shortest} bytes");
        assert_eq!(faults[0].to_string(), expected);
    }
}

#[test]
fn a_secret_is_no_public_key() {
    for algorithm in ["RS256", "PS384", "ES256", "EdDSA"] {
        let faults = lines(&with_provider(json!({"algorithms": [algorithm], "hmac_secret_env": "SESSION_JWT_SECRET"})));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with(&format!("auth.providers[0].hmac_secret_env: a secret can't verify {algorithm}")), "{faults:?}");
    }
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    for name in ["MISSING", "EMPTY"] {
        let faults = lines(&with(full(), "/export/token_env", json!(name)));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with(&format!("export.token_env: the environment variable {name} is not set")), "{faults:?}");
        let faults = lines(&with_provider(json!({"algorithms": ["HS256"], "hmac_secret_env": name})));
        assert_eq!(faults.len(), 1);
        assert!(
            faults[0].starts_with(&format!("auth.providers[0].hmac_secret_env: the environment variable {name} is not set")),
            "{faults:?}"
        );
    }
}

#[test]
fn a_fault_of_a_key_set_has_the_path_of_its_member() {
    for (key, expected) in [
        (json!({"kty": "RSA", "n": "!", "e": "AQAB"}), "keys[0].n"),
        (json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}), "keys[0].x"),
        (json!({"kty": "oct", "k": "AAAA"}), "keys[0].k"),
        (json!({"use": "sig"}), "keys[0].kty"),
        (json!(7), "keys[0]"),
    ] {
        assert_eq!(paths(&jwks(key)), [format!("auth.providers[0].local_jwks.{expected}")]);
    }
    for nothing in [json!({"kty": "RSA", "use": "enc"}), json!({"kty": "OKP", "crv": "X25519", "x": "AA"})] {
        assert_eq!(paths(&jwks(nothing)), ["auth.providers[0].local_jwks"]);
    }
    for bad in [json!("not JSON"), json!("[]"), json!(1), json!([]), json!(null)] {
        assert_eq!(paths(&with_provider(json!({"algorithms": ["RS256"], "local_jwks": bad}))), ["auth.providers[0].local_jwks"]);
    }
}

#[test]
fn a_remote_key_set_has_an_address_and_no_secrets() {
    let remote = |algorithm: &str, remote: Value| paths(&with_provider(json!({"algorithms": [algorithm], "remote_jwks": remote})));
    let under = |name: &str| [format!("auth.providers[0].remote_jwks.{name}")];
    for uri in [
        "id.example.com/certs",
        "ftp://id",
        "https://",
        "https:///certs",
        "https://user@id/",
        "https://id/#a",
        "https://id/a b",
        "https://id/\r\nx: y",
        "//id",
    ] {
        assert_eq!(remote("RS256", json!({"cluster": "idp", "uri": uri})), under("uri"), "{uri:?}");
    }
    assert_eq!(remote("HS256", json!({"cluster": "idp", "uri": "https://id"})), under("uri"));
    assert_eq!(remote("RS256", json!({"uri": "https://id"})), under("cluster"));
    assert_eq!(remote("RS256", json!({"cluster": "idp"})), under("uri"));
    for name in ["cache_seconds", "max_stale_seconds", "timeout_ms"] {
        for bad in [json!(0), json!(-1), json!(600.5), json!("600"), json!(1e18)] {
            assert_eq!(remote("RS256", json!({"cluster": "idp", "uri": "https://id", name: bad})), under(name), "{bad}");
        }
    }
}

#[test]
fn a_path_begins_with_a_slash_and_has_no_query() {
    for bad in ["logs", "/logs?a=1", "/logs#a", "http://host/logs"] {
        assert_eq!(paths(&with(full(), "/path", json!(bad))), ["path"], "{bad}");
    }
    assert_eq!(paths(&with(full(), "/export/path", json!("v1/logs"))), ["export.path"]);
}

#[test]
fn a_header_can_be_sent() {
    for name in ["", "a b", "a:b", ":path", "ä", "a\n", "(a)"] {
        assert_eq!(paths(&with(full(), "/export/headers", json!({name: "v"}))), [format!("export.headers.{name}")]);
    }
    for value in [json!("a\r\nb: c"), json!("\u{0}"), json!("ä"), json!("a\tb"), json!(""), json!(1), json!(null), json!(["a"])] {
        assert_eq!(paths(&with(full(), "/export/headers", json!({"x": value}))), ["export.headers.x"], "{value}");
    }
    for own in ["Content-Type", "content-length", "content-encoding", "Transfer-Encoding", "Host", "Authorization"] {
        assert_eq!(paths(&with(full(), "/export/headers", json!({own: "v"}))), [format!("export.headers.{}", own.to_ascii_lowercase())]);
    }
    let without_token = with(without(full(), "/export/token_env"), "/export/headers", json!({"authorization": "v"}));
    assert_eq!(paths(&without_token), [""; 0], "the filter sets none of its own here");
}

#[test]
fn a_token_that_cannot_be_a_header_is_refused() {
    for token in ["Bearer a\nb", "Bearer a\r\n", "ä", "\u{7f}", "\0"] {
        let faults = Config::read(full().to_string().as_bytes(), &|_| Some(token.to_owned())).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["export.token_env"], "{token:?}");
    }
}

#[test]
fn nothing_and_junk_are_one_fault_of_the_whole() {
    for bytes in [&b""[..], b"{", b"\xff\xfe", b"path: /api/v1/logs", b"{\"a\":1}}", b"\x0a\x05ab"] {
        let faults = Config::read(bytes, &environment).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), [""], "{bytes:?}");
    }
    let faults = Config::read(b"{\"path\":\n /}", &environment).unwrap_err();
    assert_eq!(faults[0].to_string(), "configuration: is neither JSON (error at line 2, column 2) nor a google.protobuf.Struct");
}

#[test]
fn an_override_says_who_and_what() {
    let faults = |overridden: Value| lines(&with(least(), "/rate_limits", json!({"overrides": [overridden]})));
    let bucket = json!({"max_tokens": 1, "fill_interval_ms": 1});
    assert_eq!(faults(json!({"claim": "a", "value": "b", "user": bucket})), [""; 0]);
    assert_eq!(faults(json!({"value": "b", "user": bucket})), ["rate_limits.overrides[0].claim: is required"]);
    assert_eq!(faults(json!({"claim": "a", "user": bucket})), ["rate_limits.overrides[0].value: is required"]);
    assert_eq!(
        faults(json!({"claim": "a", "value": [1], "session": bucket})),
        ["rate_limits.overrides[0].value: must be a string, a number or a boolean, not a list"]
    );
    assert_eq!(
        faults(json!({"claim": "a", "value": 1})),
        ["rate_limits.overrides[0].user: is required, or session: an override gives another limit"]
    );
    assert_eq!(
        faults(json!({"claim": "a", "value": 1, "user": {"max_tokens": 0}})),
        [
            "rate_limits.overrides[0].user.max_tokens: must be a whole number from 1 to 4294967295, not 0",
            "rate_limits.overrides[0].user.fill_interval_ms: is required"
        ]
    );
    assert_eq!(lines(&with(least(), "/rate_limits", json!({"overrides": []}))), ["rate_limits.overrides: must not be empty"]);
}

#[test]
fn a_rate_limit_service_has_a_cluster_and_a_domain() {
    let faults = |service: Value| paths(&with(least(), "/rate_limits", json!({"service": service})));
    assert_eq!(faults(json!({})), ["rate_limits.service.cluster", "rate_limits.service.domain"]);
    assert_eq!(faults(json!({"cluster": "c".repeat(121), "domain": "d"})), ["rate_limits.service.cluster"]);
    assert_eq!(faults(json!({"cluster": "c", "domain": "d", "timeout_ms": 0})), ["rate_limits.service.timeout_ms"]);
    assert_eq!(faults(json!({"cluster": "c", "domain": "d", "failure_mode": "open"})), ["rate_limits.service.failure_mode"]);
    assert_eq!(paths(&with(least(), "/rate_limits", json!({"on_contention": "wait"}))), ["rate_limits.on_contention"]);
    assert_eq!(paths(&with(least(), "/max_records", json!(10_001))), ["max_records"]);
}
