//! Questions to the rate limit service: gRPC calls, which live on the root context.
//!
//! Envoy keeps a call's answer where the root context reads it, and drops a call with the context that
//! made it, which the SDK would never hear of; so the root context is in effect while one is made. The
//! SDK brings the answer to the context whose callback that was, which may be gone by then.

use super::{Plugin, Waiter, now};
use crate::ingest::Event;
use crate::limit_service::{METHOD, SERVICE, upstream};
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

/// More of an answer isn't looked at: it has a status for each of two descriptors.
const MOST_OF_AN_ANSWER: usize = 64 * 1024;

impl Plugin {
    /// Asks on behalf of a stream, which is the effective context. `None`: Envoy doesn't.
    pub fn ask(&self, id: u32, question: &[u8]) -> Option<u32> {
        let service = self.shared.config.rate_limits.service.as_ref()?;
        let _ = hostcalls::set_effective_context(self.root);
        let call = hostcalls::dispatch_grpc_call(&upstream(service), SERVICE, METHOD, vec![], Some(question), service.timeout);
        let _ = hostcalls::set_effective_context(id);
        call.ok()
    }

    /// The service's answer to a stream that is alive, or the lack of one, and who has waited for it.
    pub fn answered(&self, token: u32, status: u32, size: usize) -> Option<(Waiter, Option<Vec<u8>>)> {
        let waiter = self.waiting.borrow_mut().asked.remove(token)?;
        let answer = (status == 0).then(|| body(size));
        if answer.is_none() {
            self.troubles.limits(&format!("gRPC status {status}"), now());
        }
        Some((waiter, answer))
    }
}

/// An answer's message; empty where there is none.
fn body(size: usize) -> Vec<u8> {
    let size = size.min(MOST_OF_AN_ANSWER);
    let message = if size == 0 { None } else { hostcalls::get_buffer(BufferType::GrpcReceiveBuffer, 0, size).ok().flatten() };
    message.unwrap_or_default()
}

/// As an event.
pub fn event(answer: &Option<Vec<u8>>) -> Event<'_> {
    Event::Answered(answer.as_deref())
}
