//! The operator's configuration: JSON in, a ready [`Config`] out, or every fault at once.
//!
//! Names, units and defaults are the documented contract (docs/configuration.md). Nothing is
//! looked up later: keys are parsed, durations typed, secrets fetched from the environment, so a
//! request can't find a fault that the start-up didn't. A leaf: bytes and the environment in.

pub mod der;
mod export;
mod fields;
pub mod jwks;
pub mod keys;
mod limits;
mod make;
mod pem;
mod rsa;
mod secret;
pub mod structpb;
mod verify;

pub use export::{Bounds, Compression, Export};
use fields::{Faults, Object};
pub use keys::{Algorithm, Key, RemoteJwks, Source};
pub use limits::{Limit, Limits, Otherwise, RateLimits, Service, TokenBucket, Unit};
pub use secret::Secret;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// How an environment variable of the VM is read: its name in, its value out.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The whole configuration of one filter, checked.
#[derive(Debug)]
pub struct Config {
    /// The ingest path, compared byte for byte; the query string is ignored.
    pub path: String,
    /// The largest body that is taken, in bytes.
    pub max_body_bytes: usize,
    /// Who may send.
    pub auth: Auth,
    /// How much they may send.
    pub rate_limits: RateLimits,
    /// Where it goes.
    pub export: Export,
    /// What is added on the way.
    pub mapping: Mapping,
}

/// Whose tokens are taken, and with how much tolerance.
#[derive(Debug)]
pub struct Auth {
    /// How far the issuer's clock may be from ours.
    pub clock_skew: Duration,
    /// Whether a token without `exp` is refused.
    pub require_expiration: bool,
    /// How many verified tokens a worker remembers; 0: none.
    pub cache_entries: usize,
    /// Envoy's jwt_authn has verified the token already, and left its claims behind.
    pub trusted: Option<Trusted>,
    /// At least one; in the order of the file.
    pub providers: Vec<Provider>,
    /// Senders whom verified claims tell from the others; the first that fits counts.
    pub distinctions: Vec<Distinction>,
}

/// A claim that says who has other limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Distinction {
    /// Its name, or its path with dots.
    pub claim: String,
    /// What it must be, or have among its elements: a string, a number or a boolean.
    pub value: Value,
}

/// Claims that Envoy's jwt_authn filter left in dynamic metadata (its `payload_in_metadata`).
#[derive(Debug)]
pub struct Trusted {
    /// The key in the metadata of `envoy.filters.http.jwt_authn`.
    pub payload_in_metadata: String,
    /// The claim that says who the user is.
    pub subject_claim: String,
    /// The claim that says which login session this is.
    pub session_claim: String,
}

/// One issuer of tokens.
#[derive(Debug)]
pub struct Provider {
    /// For logs.
    pub name: String,
    /// The only `iss` this provider is responsible for; without one it takes the tokens nobody else claims.
    pub issuer: Option<String>,
    /// Any one must stand in `aud`; empty: `aud` isn't looked at.
    pub audiences: Vec<String>,
    /// Where its keys come from.
    pub keys: Source,
    /// The claim that says who the user is.
    pub subject_claim: String,
    /// The claim that says which login session this is.
    pub session_claim: String,
}

/// What the filter adds to what clients say.
#[derive(Debug)]
pub struct Mapping {
    /// Resource attributes that are set whatever the client says.
    pub resource: Map<String, Value>,
    /// What the backend keeps; `None`: timestamps aren't corrected.
    pub window: Option<Window>,
    /// How many records a request may hold (`max_records`, at the top level): what is added to each
    /// makes the output far larger than a body full of the shortest.
    pub max_records: usize,
}

/// The backend's window around its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How old a record may be.
    pub past: Duration,
    /// How far in the future it may be.
    pub future: Duration,
}

/// One thing that is wrong in the configuration; shows as `path: what`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as `auth.providers[0].algorithms[1]`; empty for the whole.
    pub path: String,
    /// What is wrong and what would be right. Never a secret.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "configuration" } else { &self.path };
        write!(f, "{path}: {}", self.what)
    }
}

impl Config {
    /// Reads what Envoy hands over: JSON text, or a serialized `google.protobuf.Struct`.
    ///
    /// # Errors
    /// Every fault of the configuration, in the order of the fields.
    pub fn read(bytes: &[u8], environment: Environment<'_>) -> Result<Config, Vec<Fault>> {
        let value = parse(bytes).map_err(|fault| vec![fault])?;
        let mut faults = Faults::default();
        let config = Config::from_value(&value, environment, &mut faults);
        match (config, faults.into_vec()) {
            (Some(config), faults) if faults.is_empty() => Ok(config),
            (_, faults) => Err(faults),
        }
    }

    fn from_value(value: &Value, environment: Environment<'_>, faults: &mut Faults) -> Option<Config> {
        let mut root = Object::root(value, faults)?;
        let path = root.text("path", faults).unwrap_or_else(|| "/api/v1/logs".to_owned());
        if !path.starts_with('/') || path.contains(['?', '#']) {
            faults.add("path", "must begin with / and have neither ? nor #");
        }
        let max_body_bytes = root.size("max_body_bytes", faults).unwrap_or(1_048_576);
        let max_records = root.whole("max_records", 1..=10_000, faults).unwrap_or(DEFAULT_RECORDS) as usize;
        let mut auth = root.required("auth", faults).and_then(|node| Auth::read(node, environment, faults));
        let rate_limits = match root.object("rate_limits", faults) {
            Some(node) => RateLimits::read(node, auth.as_mut(), faults),
            None => RateLimits::default(),
        };
        let export = root.required("export", faults).and_then(|node| Export::read(node, environment, faults));
        let mapping = match root.object("mapping", faults) {
            Some(node) => Mapping::read(node, max_records, faults),
            None => Mapping { resource: Map::new(), window: Some(DEFAULT_WINDOW), max_records },
        };
        root.finish(faults);
        Some(Config { path, max_body_bytes: max_body_bytes as usize, auth: auth?, rate_limits, export: export?, mapping })
    }
}

/// Clients send at most 100.
const DEFAULT_RECORDS: u64 = 1_000;

/// Fits Logfire, which keeps −24 h to +1 h around its own clock, with a margin for the way there.
const DEFAULT_WINDOW: Window = Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) };

fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    let whole = |what: &str| Fault { path: String::new(), what: what.to_owned() };
    if bytes.is_empty() {
        return Err(whole("is empty; give the filter's `configuration` as a Struct or a StringValue with JSON"));
    }
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        // Envoy hands a Struct over as its serialized protobuf, not as JSON.
        Err(error) => structpb::decode(bytes).ok_or_else(|| {
            // Only the place: the text around it may hold a key.
            whole(&format!("is neither JSON (error at line {}, column {}) nor a google.protobuf.Struct", error.line(), error.column()))
        }),
    }
}

impl Auth {
    fn read(mut node: Object<'_>, environment: Environment<'_>, faults: &mut Faults) -> Option<Auth> {
        let clock_skew = node.whole("clock_skew_seconds", 0..=86_400, faults).unwrap_or(60);
        let require_expiration = node.flag("require_expiration", faults).unwrap_or(true);
        let cache_entries = node.whole("cache_entries", 0..=1_048_576, faults).unwrap_or(1_024) as usize;
        let trusted = node.object("trust_envoy_jwt_authn", faults).and_then(|node| Trusted::read(node, faults));
        let mut providers = Vec::new();
        let nodes = node.objects("providers", faults);
        let trusts = node.has("trust_envoy_jwt_authn");
        match &nodes {
            Some(_) if trusts => {
                faults.add(&node.at("trust_envoy_jwt_authn"), "excludes providers: either Envoy verifies the tokens or the filter does")
            }
            None if !trusts => faults.add(&node.at("providers"), "is required: at least one provider of tokens"),
            _ => {}
        }
        for provider in nodes.into_iter().flatten() {
            providers.extend(Provider::read(provider, environment, faults));
        }
        for (i, provider) in providers.iter().enumerate() {
            if providers.iter().take(i).any(|earlier: &Provider| earlier.name == provider.name) {
                faults.add(&node.at("providers"), &format!("the name {:?} stands twice", provider.name));
            }
        }
        node.finish(faults);
        Some(Auth {
            clock_skew: Duration::from_secs(clock_skew),
            require_expiration,
            cache_entries,
            trusted,
            providers,
            distinctions: Vec::new(),
        })
    }
}

impl Trusted {
    fn read(mut node: Object<'_>, faults: &mut Faults) -> Option<Trusted> {
        let payload_in_metadata = node.required_text("payload_in_metadata", faults);
        let subject_claim = node.text("subject_claim", faults).unwrap_or_else(|| "sub".to_owned());
        let session_claim = node.text("session_claim", faults).unwrap_or_else(|| "sid".to_owned());
        node.finish(faults);
        Some(Trusted { payload_in_metadata: payload_in_metadata?, subject_claim, session_claim })
    }
}

impl Provider {
    fn read(mut node: Object<'_>, environment: Environment<'_>, faults: &mut Faults) -> Option<Provider> {
        let name = node.required_text("name", faults);
        let issuer = node.text("issuer", faults);
        let audiences = node.texts("audiences", faults).unwrap_or_default();
        let algorithms = node.algorithms(faults);
        let keys = keys::read(&mut node, &algorithms, environment, faults);
        let subject_claim = node.text("subject_claim", faults).unwrap_or_else(|| "sub".to_owned());
        let session_claim = node.text("session_claim", faults).unwrap_or_else(|| "sid".to_owned());
        node.finish(faults);
        Some(Provider { name: name?, issuer, audiences, keys: keys?, subject_claim, session_claim })
    }
}

const YEAR_MS: u64 = 366 * 24 * 60 * 60 * 1000;

impl Mapping {
    fn read(mut node: Object<'_>, max_records: usize, faults: &mut Faults) -> Mapping {
        let resource = node.map("resource", faults).cloned().unwrap_or_default();
        let window = match node.nullable("window", faults) {
            None => Some(DEFAULT_WINDOW),
            Some(None) => None,
            Some(Some(mut node)) => {
                let past = node.whole("past_seconds", 1..=YEAR_MS, faults).map_or(DEFAULT_WINDOW.past, Duration::from_secs);
                let future = node.whole("future_seconds", 1..=YEAR_MS, faults).map_or(DEFAULT_WINDOW.future, Duration::from_secs);
                node.finish(faults);
                Some(Window { past, future })
            }
        };
        node.finish(faults);
        Mapping { resource, window, max_records }
    }
}

#[cfg(test)]
mod tests;
