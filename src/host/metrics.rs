//! [`Stat`]s as Envoy's metrics.

use crate::stats::{Kind, Sink, Stat};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// The metrics' ids in this VM, in the order of the stats.
pub struct Metrics(Vec<(Stat, u32)>);

impl Metrics {
    /// Defines all of them, so that each is seen as 0 from the start.
    pub fn define() -> Metrics {
        let define = |stat: Stat| {
            let kind = match stat.kind() {
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
            };
            Some((stat, hostcalls::define_metric(kind, &stat.name()).ok()?))
        };
        Metrics(Stat::all().filter_map(define).collect())
    }

    /// A sink for one callback.
    pub fn sink(&self) -> impl Sink {
        Counting(self)
    }
}

struct Counting<'a>(&'a Metrics);

impl Sink for Counting<'_> {
    fn add(&mut self, stat: Stat, amount: u64) {
        // Nothing more is no call to the host; as a value of a histogram it is one.
        if amount == 0 && stat.kind() == Kind::Counter {
            return;
        }
        let metrics = &self.0.0;
        let place = metrics.binary_search_by_key(&stat, |(stat, _)| *stat);
        let Some(&(_, id)) = place.ok().and_then(|place| metrics.get(place)) else {
            return;
        };
        // A metric that Envoy no longer knows is no reason to stop a request.
        let _ = match stat.kind() {
            Kind::Counter => hostcalls::increment_metric(id, i64::try_from(amount).unwrap_or(i64::MAX)),
            Kind::Histogram => hostcalls::record_metric(id, amount),
        };
    }
}
