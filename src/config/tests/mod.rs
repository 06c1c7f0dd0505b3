mod accepted;
mod refused;
mod secrets;
mod structs;

use super::*;
use serde_json::json;

/// RSA with 2048 bits, and with 1024; nobody has the other halves.
const RSA_2048: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu7J2iC0DhjbZxPbuF4F7
nDiGK/oKTDab5THX6Tfxqy16q3IjuVhToeMHF1DoWkb0vfM1eUSaS31ShurtqzeV
+aMa7FmNVgLNagTdDxIWQ6/NF5kr10knUMmDQBgR6cW3bDv8opBldZUc8jnJkZf2
dBG0tdI4RdEOwsIgxOyJ33nv/oTylLPqpJeJnWjkHENqiNOVQt6a3saSEnkO+OQ/
PnIPvEuAWCyiWUlVrvVKMwhKU/m2kRPUAwkttw/XL8W4J5rrJMUGSFLsuRJwsok1
1ahFYkBcIatQ2k5sYAqmIPGogPtmPGrLpfMxzxhCBPu3Dk7IGVuo1QhuSlktMUg7
QwIDAQAB
-----END PUBLIC KEY-----
";
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDN+TBnjbRJYZfxQDEz8JNPIFF2
XQPI9LP11K/LH5+T3Bb+wz7xwaFfeex8xT5f8WKXjOyOlKH4+dECBp1JpLQyVxMc
UNXq3zIjbNxcljb51rAcv0rQvmkggIhzDjGJiH6YXq1YexD/YnWbIOdXfoXxEy7d
rZuhCP0+xPjH6HywSwIDAQAB
-----END PUBLIC KEY-----
";

/// 64 bytes: enough for every HMAC.
const SECRET: &str = "sixty-four characters of a secret that is known to nobody else!!";
const TOKEN: &str = "Bearer the write token";

fn environment(name: &str) -> Option<String> {
    match name {
        "SESSION_JWT_SECRET" => Some(SECRET.to_owned()),
        "LOGFIRE_TOKEN" => Some(TOKEN.to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Everything that can be said, as it stands in the documentation.
fn full() -> Value {
    json!({
        "path": "/api/v1/logs",
        "max_body_bytes": 1_048_576,
        "auth": {
            "clock_skew_seconds": 60,
            "require_expiration": true,
            "cache_entries": 1024,
            "providers": [{
                "name": "session",
                "issuer": "https://id.example.com/realms/field",
                "audiences": ["field-app"],
                "algorithms": ["RS256"],
                "public_key_pem": RSA_2048,
                "subject_claim": "sub",
                "session_claim": "sid",
            }],
        },
        "rate_limits": {
            "unit": "records",
            "user": {"max_tokens": 2000, "tokens_per_fill": 50, "fill_interval_ms": 1000},
            "session": {"max_tokens": 1000, "tokens_per_fill": 25, "fill_interval_ms": 1000},
            "slots": 16384,
        },
        "export": {
            "cluster": "logfire",
            "authority": "logfire-us.pydantic.dev",
            "path": "/v1/logs",
            "token_env": "LOGFIRE_TOKEN",
            "headers": {},
            "timeout_ms": 10000,
            "compression": "gzip",
        },
        "mapping": {
            "resource": {},
            "window": {"past_seconds": 84600, "future_seconds": 3000},
        },
    })
}

/// No more than is required.
fn least() -> Value {
    json!({
        "auth": {"providers": [{"name": "session", "algorithms": ["HS256"], "hmac_secret_env": "SESSION_JWT_SECRET"}]},
        "export": {"cluster": "logfire", "authority": "logfire-us.pydantic.dev"},
    })
}

/// `config` with another value, or one more, at a JSON pointer.
fn with(mut config: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        fields => fields[name] = value,
    }
    config
}

fn without(mut config: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    config
}

/// The least configuration with a provider that has these fields beside its name.
fn with_provider(fields: Value) -> Value {
    with(least(), "/auth/providers/0", with(fields, "/name", json!("session")))
}

fn read(config: &Value) -> Result<Config, Vec<Fault>> {
    Config::read(config.to_string().as_bytes(), &environment)
}

/// The lines of the log.
fn lines(config: &Value) -> Vec<String> {
    read(config).err().unwrap_or_default().iter().map(Fault::to_string).collect()
}

fn paths(config: &Value) -> Vec<String> {
    read(config).err().unwrap_or_default().into_iter().map(|fault| fault.path).collect()
}

/// The algorithms of a provider's keys.
fn algorithms(config: &Config) -> Vec<&'static str> {
    let Source::Fixed(keys) = &config.auth.providers[0].keys else { panic!("{config:?}") };
    keys.iter().map(|key| key.algorithm().name()).collect()
}
