//! A request whose key isn't known: it waits, with its body, while the keys are fetched.

use super::{Body, Effect, Ingest, Phase, Shared, Step, World, verify};
use crate::rejection::{Refusal, Rejection};
use crate::request::Announced;
use crate::token::{Asked, Verdict};
use std::time::Duration;

/// A request that waits for a key which its token names.
#[derive(Debug)]
pub(super) struct Awaiting {
    pub(super) token: Vec<u8>,
    pub(super) providers: Vec<usize>,
    /// What the keyring had learnt when the token was last judged.
    pub(super) generation: u64,
    pub(super) received: Duration,
    pub(super) announced: Result<Announced, Rejection>,
    pub(super) body: Body,
}

/// A request waits for a key no longer than this: less than Envoy's idle timeout in the examples,
/// more than the time between two fetches on demand and what one may take.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(13);

impl Ingest {
    /// Judges a waiting request's token again, where there is something new.
    #[inline(never)]
    pub(super) fn keys(&mut self, shared: &Shared, mut awaiting: Awaiting, world: &mut World<'_>) -> Step {
        let waited = world.now.saturating_sub(awaiting.received) > LONGEST_WAIT;
        if awaiting.generation == world.keyring.generation() && !waited {
            self.phase = Phase::Awaiting(awaiting);
            return Ok(Effect::Wait);
        }
        awaiting.generation = world.keyring.generation();
        let step = match verify(&awaiting.token, shared, world) {
            Verdict::Verified(claims) | Verdict::Remembered(claims) => {
                self.admit(shared, claims, awaiting.received, awaiting.announced, awaiting.body, world)
            }
            Verdict::Refused(rejection) => Err(rejection.into()),
            Verdict::NoKeys => Err(no_keys(world)),
            Verdict::KeyUnknown(_) => match world.keyring.asked(&awaiting.providers, awaiting.received) {
                // The keys are newer than the question: there is no such key.
                Asked::Answered => Err(Rejection::TokenKey.into()),
                Asked::Waiting if !waited => {
                    self.phase = Phase::Awaiting(awaiting);
                    return Ok(Effect::Wait);
                }
                Asked::Waiting | Asked::Failed => Err(no_keys(world)),
            },
        };
        world.keyring.leave();
        step
    }

    /// Holds a body within the limit, and throws a larger one away: whether that is refused is said
    /// when the sender is known.
    pub(super) fn buffered_while_awaiting(&mut self, shared: &Shared, mut awaiting: Awaiting, bytes: usize, end: bool) -> Effect {
        awaiting.body.end = end;
        let discard = awaiting.body.discarded > 0 || bytes > shared.config.max_body_bytes;
        if discard {
            awaiting.body = Body { buffered: 0, discarded: awaiting.body.discarded.saturating_add(bytes as u64), end };
        } else {
            awaiting.body.buffered = bytes;
        }
        self.phase = Phase::Awaiting(awaiting);
        if discard { Effect::Discard(bytes) } else { Effect::Wait }
    }
}

/// Nothing can be said of the token until the keys can be had: a fault that passes, never a 401.
pub(super) fn no_keys(world: &World<'_>) -> Refusal {
    Refusal { rejection: Rejection::KeysUnavailable, retry_after: Some(world.keyring.retry_after(world.now)) }
}
