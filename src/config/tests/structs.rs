//! The same configuration as Envoy hands it over from plain YAML, and bytes that are no configuration at all.

use super::*;
use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};

/// A value as a `google.protobuf.Struct` has it: every number a double.
fn pb_value(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(pb_value).collect() }),
        Value::Object(_) => Kind::StructValue(pb_struct(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn pb_struct(value: &Value) -> Struct {
    Struct { fields: value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), pb_value(value))).collect() }
}

/// All that can be compared: secrets and keys show in neither.
fn outcome(config: Result<Config, Vec<Fault>>) -> Result<String, Vec<String>> {
    let sorted = |faults: Vec<Fault>| {
        let mut lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
        lines.sort();
        lines
    };
    config.map(|config| format!("{config:?}")).map_err(sorted)
}

fn both(config: &Value) -> [Result<Config, Vec<Fault>>; 2] {
    [read(config), Config::read(&pb_struct(config).encode_to_vec(), &environment)]
}

#[test]
fn a_struct_gives_the_same_configuration_as_json() {
    let resource = json!({"name": "prod", "whole": 12, "negative": -3, "fraction": 0.5, "list": [1, null, true, {"a": "b"}], "empty": {}});
    let remote = json!({"name": "remote", "algorithms": ["ES256"], "remote_jwks": {"cluster": "idp", "uri": "https://id/certs"}});
    let providers = json!([full()["auth"]["providers"][0], least()["auth"]["providers"][0].as_object().unwrap(), remote]);
    let providers = with(providers, "/1/name", json!("second"));
    let rich = with(with(full(), "/mapping/resource", resource), "/auth/providers", providers);
    let rich = with(rich, "/export/headers", json!({"b": "2", "A": "1"}));
    for config in [full(), least(), with(full(), "/mapping/window", Value::Null), rich] {
        let [json, pb] = both(&config);
        assert!(json.is_ok(), "{json:?}");
        assert_eq!(
            pb.as_ref().unwrap().export.token.as_ref().map(Secret::reveal),
            json.as_ref().unwrap().export.token.as_ref().map(Secret::reveal)
        );
        assert_eq!(outcome(pb), outcome(json));
    }
}

#[test]
fn a_struct_has_the_same_faults_as_json() {
    for config in [
        json!({}),
        json!({"path": 7, "auth": [], "export": null}),
        with(full(), "/max_body_bytes", json!(0.5)),
        with(full(), "/rate_limits/slots", json!(-1)),
        with(full(), "/auth/providers/0/algorithms", json!(["RS256", "none"])),
    ] {
        // An empty Struct has no bytes at all, which says something else.
        let config = with(config, "/unknown", json!({}));
        let [json, pb] = both(&config);
        assert!(json.is_err());
        assert_eq!(outcome(pb), outcome(json));
    }
}

#[test]
fn numbers_that_json_does_not_have_are_faults() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.5] {
        let mut config = pb_struct(&full());
        config.fields.insert("max_body_bytes".to_owned(), prost_types::Value { kind: Some(Kind::NumberValue(number)) });
        let faults = Config::read(&config.encode_to_vec(), &environment).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["max_body_bytes"], "{number}");
    }
}

#[test]
fn nesting_is_no_trap() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [100, 127, 128, 1_000, 100_000] {
        let config = full().to_string().replace("\"resource\":{}", &format!("\"resource\":{{\"a\":{}}}", deep(depth)));
        let _ = Config::read(config.as_bytes(), &environment);
    }
    let mut value = prost_types::Value { kind: None };
    for _ in 0..1_000 {
        value = prost_types::Value { kind: Some(Kind::ListValue(ListValue { values: vec![value] })) };
    }
    let config = Struct { fields: [("path".to_owned(), value)].into() };
    assert!(Config::read(&config.encode_to_vec(), &environment).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53)..1_i64 << 53).prop_map(Value::from),
        (-1000..1000_i32).prop_map(|halves| json!(f64::from(halves) + 0.5)),
        "[a-zA-Z0-9/:_. ]{0,12}".prop_map(Value::from),
        "RS256|ES256|EdDSA|HS512|records|none|SESSION_JWT_SECRET".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let name = "keys|kty|name|cluster|uri|max_tokens|fill_interval_ms|[a-z_]{0,6}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const PLACES: [&str; 16] = [
    "/path",
    "/max_body_bytes",
    "/auth",
    "/auth/clock_skew_seconds",
    "/auth/providers",
    "/auth/providers/0/audiences",
    "/auth/providers/0/algorithms",
    "/auth/providers/0/local_jwks",
    "/auth/providers/0/remote_jwks",
    "/auth/trust_envoy_jwt_authn",
    "/rate_limits",
    "/rate_limits/user",
    "/export/headers",
    "/export/timeout_ms",
    "/mapping/resource",
    "/mapping/window",
];

proptest! {
    #[test]
    fn json_and_struct_agree_on_whatever_stands_anywhere(place in 0..PLACES.len(), value in any_json()) {
        let base = match PLACES[place] {
            "/auth/providers/0/local_jwks" | "/auth/providers/0/remote_jwks" => without(full(), "/auth/providers/0/public_key_pem"),
            _ => full(),
        };
        let [json, pb] = both(&with(base, PLACES[place], value));
        prop_assert!(json.as_ref().err().is_none_or(|faults| !faults.is_empty()));
        prop_assert_eq!(outcome(pb), outcome(json));
    }

    #[test]
    fn any_bytes_are_read_without_a_trap(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let faults = Config::read(&bytes, &environment).unwrap_err();
        prop_assert!(!faults.is_empty());
    }

    #[test]
    fn a_damaged_configuration_is_read_without_a_trap(
        json in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = if json { full().to_string().into_bytes() } else { pb_struct(&full()).encode_to_vec() };
        for (place, byte) in damage {
            let i = place.index(bytes.len());
            bytes[i] = byte;
        }
        let _ = Config::read(&bytes, &environment);
    }
}
