//! An ingest gateway for client logs, inside Envoy.
//!
//! Clients POST batches of JSON log records with a session JWT; the filter verifies the token,
//! limits the rate, maps each record to OpenTelemetry's log model and sends the batch to an
//! OTLP/HTTP backend. The client is told 200 once the backend has said that it took the records.
//!
//! ```text
//! bytes(headers) ─request─> Head ─token(now)─> Claims ─bucket(now)─> Verdict::Allow
//! bytes(body)    ─batch──>  records ─otlp(&Claims, now)─> bytes ─export─> Callout
//! (status, headers, body) ─export─> Delivery ─reply─> Reply
//! any step ──────────────── Rejection ──────────────> reply ─> Reply
//! ```
//!
//! Everything but [`host`](self) is free of I/O: `now` is an argument (a [`std::time::Duration`]
//! since the Unix epoch), shared memory is the trait [`memory::Store`], counters are the trait
//! [`stats::Sink`]. Imports point one way: host → ingest → stages → leaves.

pub mod batch;
pub mod bucket;
pub mod config;
pub mod encoding;
pub mod export;
pub mod ids;
pub mod ingest;
pub mod limit_service;
pub mod memory;
pub mod otlp;
pub mod rejection;
pub mod reply;
pub mod request;
pub mod stats;
pub mod token;

#[cfg(all(target_arch = "wasm32", feature = "host"))]
mod host;
