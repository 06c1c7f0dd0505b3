//! Times the mapping and encoding of a batch, without a request around it: in Envoy's V8 as a module
//! that does it when it is configured, natively as a program. For `make bench`; it is not shipped.

use envoy_log_ingest::config::{Mapping, Window};
use envoy_log_ingest::otlp::{Encoder, Known};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How often a batch is mapped for one time, and how many times there are. The least of them is what the
/// work takes; more is what else the machine did.
const REPEATED: u32 = 50;
const TIMES: usize = 60;

/// What one batch takes.
pub fn least(body: &[u8], received: Duration) -> Duration {
    let window = Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) };
    let mapping = Mapping { resource: serde_json::Map::new(), window: Some(window), max_records: 10_000 };
    let known = Known { sender: 1, subject: "user-1", received };
    let mut body = body.to_vec();
    let mut encoder = Encoder::default();
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..REPEATED {
                let encoded = encoder.encode(black_box(&mut body), known, &mapping);
                let _ = black_box(encoded);
            }
            began.elapsed() / REPEATED
        })
        .collect();
    times.sort();
    times[0]
}

#[cfg(target_arch = "wasm32")]
mod host {
    use proxy_wasm::traits::{Context, RootContext};
    use std::time::{SystemTime, UNIX_EPOCH};

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Root));
    }}

    struct Root;

    impl Context for Root {}

    impl RootContext for Root {
        fn on_configure(&mut self, _: usize) -> bool {
            let body = self.get_plugin_configuration().unwrap_or_default();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let least = super::least(&body, now);
            let _ = proxy_wasm::hostcalls::log(proxy_wasm::types::LogLevel::Critical, &format!("mapping: {} ns", least.as_nanos()));
            true
        }
    }
}
