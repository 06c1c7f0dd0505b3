//! How much may be sent: token buckets, who has others, and the service that many Envoys share.

use super::fields::{Faults, Object};
use super::{Auth, Distinction};
use std::time::Duration;

/// What a token bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Log records.
    Records,
    /// Requests, whatever they hold.
    Requests,
    /// Bytes of the body, its Content-Encoding undone.
    Bytes,
}

/// The limits, each of which may be absent.
#[derive(Debug)]
pub struct RateLimits {
    /// What a token stands for.
    pub unit: Unit,
    /// Those of everybody else.
    pub limits: Limits,
    /// Those of the senders that [`Auth::distinctions`] tells apart, in the same order.
    pub overrides: Vec<Limits>,
    /// How many buckets are remembered at most.
    pub slots: u32,
    /// What becomes of a request whose bucket other workers changed on every try.
    pub on_contention: Otherwise,
    /// What many Envoys share.
    pub service: Option<Service>,
}

/// A sender's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// For each user: issuer and subject.
    pub user: Option<Limit>,
    /// For each session of a user.
    pub session: Option<Limit>,
}

/// A bucket, and whether it means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its figures.
    pub bucket: TokenBucket,
    /// Decide and count, refuse nothing.
    pub shadow: bool,
}

/// Envoy's `TokenBucket`: so many tokens at most, so many added in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Capacity, in tokens; at least 1.
    pub max_tokens: u32,
    /// Tokens added in each interval; at least 1.
    pub tokens_per_fill: u32,
    /// The interval; at least a millisecond. Refill is continuous at this rate.
    pub fill_interval: Duration,
}

/// What is done where a limit can't be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// The request goes on.
    Allow,
    /// The client is told to come again.
    Deny,
}

/// An Envoy RateLimitService, as envoyproxy/ratelimit and Limitador are.
#[derive(Debug)]
pub struct Service {
    /// The Envoy cluster; it must speak HTTP/2.
    pub cluster: String,
    /// Whose limits, in the service's configuration.
    pub domain: String,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// What is done where it doesn't.
    pub failure_mode: Otherwise,
}

const DEFAULT_SLOTS: u32 = 16_384;
const YEAR_MS: u64 = 366 * 24 * 60 * 60 * 1000;

/// The name goes to Envoy in a message whose length must fit into seven bits.
const LONGEST_CLUSTER: usize = 120;

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits {
            unit: Unit::Records,
            limits: Limits::default(),
            overrides: Vec::new(),
            slots: DEFAULT_SLOTS,
            on_contention: Otherwise::Deny,
            service: None,
        }
    }
}

impl RateLimits {
    /// Reads `rate_limits`, and what `auth` has to look for in tokens on its behalf.
    pub(super) fn read(mut node: Object<'_>, auth: Option<&mut Auth>, faults: &mut Faults) -> RateLimits {
        let unit = node.choice("unit", &[("records", Unit::Records), ("requests", Unit::Requests), ("bytes", Unit::Bytes)], faults);
        let user = node.object("user", faults).and_then(|node| Limit::read(node, faults));
        let session = node.object("session", faults).and_then(|node| Limit::read(node, faults));
        let limits = Limits { user, session };
        let mut overrides = Vec::new();
        let mut distinctions = Vec::new();
        for node in node.objects("overrides", faults).into_iter().flatten() {
            let (distinction, others) = limits.overridden(node, faults);
            distinctions.extend(distinction);
            overrides.push(others);
        }
        if let Some(auth) = auth {
            auth.distinctions = distinctions;
        }
        let slots = node.whole("slots", 8..=4_194_304, faults).map_or(DEFAULT_SLOTS, |slots| slots as u32);
        let on_contention = Otherwise::read(&mut node, "on_contention", faults).unwrap_or(Otherwise::Deny);
        let service = node.object("service", faults).and_then(|node| Service::read(node, faults));
        node.finish(faults);
        RateLimits { unit: unit.unwrap_or(Unit::Records), limits, overrides, slots, on_contention, service }
    }
}

impl Limits {
    /// One of `overrides`: who is meant, and these limits with those that it gives instead. What it
    /// leaves out stays; `null` is no limit.
    fn overridden(self, mut node: Object<'_>, faults: &mut Faults) -> (Option<Distinction>, Limits) {
        let claim = node.required_text("claim", faults);
        let value = node.scalar("value", faults);
        let mut others = self;
        let mut given = false;
        for (name, limit) in [("user", &mut others.user), ("session", &mut others.session)] {
            if let Some(instead) = node.nullable(name, faults) {
                given = true;
                *limit = instead.and_then(|node| Limit::read(node, faults));
            }
        }
        if !given {
            faults.add(&node.at("user"), "is required, or session: an override gives another limit");
        }
        node.finish(faults);
        (claim.zip(value).map(|(claim, value)| Distinction { claim, value }), others)
    }
}

impl Limit {
    fn read(mut node: Object<'_>, faults: &mut Faults) -> Option<Limit> {
        let range = 1..=u64::from(u32::MAX);
        let max_tokens = node.required_whole("max_tokens", range.clone(), faults);
        let tokens_per_fill = node.whole("tokens_per_fill", range, faults).unwrap_or(1);
        let fill_interval = node.required_whole("fill_interval_ms", 1..=YEAR_MS, faults);
        let shadow = node.flag("shadow", faults).unwrap_or(false);
        node.finish(faults);
        let bucket = TokenBucket {
            max_tokens: max_tokens? as u32,
            tokens_per_fill: tokens_per_fill as u32,
            fill_interval: Duration::from_millis(fill_interval?),
        };
        Some(Limit { bucket, shadow })
    }
}

impl Otherwise {
    fn read(node: &mut Object<'_>, name: &'static str, faults: &mut Faults) -> Option<Otherwise> {
        node.choice(name, &[("allow", Otherwise::Allow), ("deny", Otherwise::Deny)], faults)
    }
}

impl Service {
    fn read(mut node: Object<'_>, faults: &mut Faults) -> Option<Service> {
        let cluster = node.required_text("cluster", faults);
        if cluster.as_ref().is_some_and(|cluster| cluster.len() > LONGEST_CLUSTER) {
            faults.add(&node.at("cluster"), "must not be longer than 120 bytes");
        }
        let domain = node.required_text("domain", faults);
        let timeout = node.whole("timeout_ms", 1..=10_000, faults).unwrap_or(200);
        let failure_mode = Otherwise::read(&mut node, "failure_mode", faults).unwrap_or(Otherwise::Allow);
        node.finish(faults);
        Some(Service { cluster: cluster?, domain: domain?, timeout: Duration::from_millis(timeout), failure_mode })
    }
}
