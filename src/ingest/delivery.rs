//! From a whole body to the backend, and back.

use super::{Effect, Ingest, Phase, Shared, Step, World, limiter};
use crate::bucket::{Charge, Cost, Standing};
use crate::encoding;
use crate::export::Delivery;
use crate::export::outbox::Outcome;
use crate::limit_service::{self, Heard};
use crate::otlp::Known;
use crate::rejection::Rejection;
use crate::reply;
use crate::stats::Stat;
use crate::token::Claims;
use std::time::Duration;

/// Records that are on their way to the backend, and what they were charged.
#[derive(Debug)]
pub(super) struct Parcel {
    records: u64,
    charge: Charge,
}

impl Ingest {
    #[inline(never)]
    pub(super) fn body(
        &mut self,
        shared: &Shared,
        claims: &Claims,
        received: Duration,
        body: Option<Vec<u8>>,
        world: &mut World<'_>,
    ) -> Step {
        let body = body.ok_or(Rejection::BodyUnavailable)?;
        world.stats.add(Stat::RequestBytes, body.len() as u64);
        let mut body = self.decoded(body, shared)?;
        let bytes = body.len() as u64;
        // Before the work of reading it, and before anything is charged.
        world.outbox.admit(body.len(), world.now)?;
        let known = Known { sender: claims.sender, subject: &claims.subject, received };
        let encoded = world.encoder.encode(&mut body, known, &shared.config.mapping)?;
        drop(body);
        let records = encoded.records;
        world.stats.add(Stat::RecordsPerRequest, records);
        // The login session if the token names one; otherwise the app's, which is the client's word
        // and so counts within its own user alone.
        let named = encoded.session.as_deref().map(String::from_utf8_lossy);
        let session = claims.session.as_deref().or(named.as_deref());
        let cost = Cost { records, bytes };
        let limiter = limiter(shared, claims);
        let seen = std::mem::take(&mut self.seen);
        let mut charge = match limiter.charge(seen, session, cost, world.now, world.store, world.stats) {
            Ok(charge) => charge,
            Err(refusal) => {
                self.standing = limiter.standing(session, world.now, world.store);
                return Err(refusal);
            }
        };
        self.standing = std::mem::take(&mut charge.standing);
        for (oddity, times) in encoded.oddities {
            world.stats.add(Stat::Odd(oddity), times);
        }
        if records == 0 {
            return Ok(accepted(0, Delivery::default(), world));
        }
        let parcel = Parcel { records, charge };
        match &shared.config.rate_limits.service {
            None => Ok(self.deliver(parcel, encoded.protobuf, world)),
            Some(service) => {
                world.stats.add(Stat::LimitServiceAsked, 1);
                let hits = cost.of(shared.config.rate_limits.unit);
                let question = limit_service::question(service, &claims.issuer, &claims.subject, session, hits);
                self.phase = Phase::Asking(parcel, encoded.protobuf);
                Ok(Effect::Ask(question))
            }
        }
    }

    /// The body with its Content-Encoding undone; at most as large as a body may be.
    pub(super) fn decoded(&self, body: Vec<u8>, shared: &Shared) -> Result<Vec<u8>, Rejection> {
        if self.codings.is_empty() {
            return Ok(body);
        }
        let body = encoding::decode(&body, &self.codings, shared.config.max_body_bytes)?;
        if body.is_empty() { Err(Rejection::BodyMissing) } else { Ok(body) }
    }

    /// What the rate limit service says, or what its silence means.
    #[inline(never)]
    pub(super) fn heard(
        &mut self,
        shared: &Shared,
        parcel: Parcel,
        protobuf: Vec<u8>,
        answer: Option<&[u8]>,
        world: &mut World<'_>,
    ) -> Step {
        let Some(service) = &shared.config.rate_limits.service else { return Ok(self.deliver(parcel, protobuf, world)) };
        let heard = limit_service::judge(service, answer);
        let failed = match &heard {
            Ok(heard) => *heard == Heard::Nothing,
            Err(refusal) => refusal.rejection == Rejection::LimitServiceUnavailable,
        };
        world.stats.add(Stat::LimitServiceFailed, u64::from(failed));
        // Much may have changed while it was asked.
        let admitted = world.outbox.admit(protobuf.len(), world.now);
        match heard.map(drop).and(admitted) {
            Ok(()) => Ok(self.deliver(parcel, protobuf, world)),
            Err(refusal) => {
                // The buckets here have nothing to do with it.
                self.standing = Standing::default();
                parcel.charge.refund(world.now, world.store, world.stats);
                Err(refusal)
            }
        }
    }

    #[inline(never)]
    pub(super) fn deliver(&mut self, parcel: Parcel, protobuf: Vec<u8>, world: &mut World<'_>) -> Effect {
        let ticket = world.outbox.park(protobuf, parcel.records, self.traceparent.take(), world.now);
        self.phase = Phase::Exporting(parcel);
        Effect::Deliver(ticket)
    }
}

/// The end of a delivery. What wasn't delivered isn't charged.
#[inline(never)]
pub(super) fn settled(parcel: Parcel, outcome: Outcome, world: &mut World<'_>) -> Step {
    match outcome {
        Ok(delivery) => Ok(accepted(parcel.records, delivery, world)),
        Err(refusal) => {
            parcel.charge.refund(world.now, world.store, world.stats);
            Err(refusal)
        }
    }
}

pub(super) fn accepted(records: u64, delivery: Delivery, world: &mut World<'_>) -> Effect {
    let rejected = delivery.rejected.min(records);
    world.stats.add(Stat::RequestsAccepted, 1);
    world.stats.add(Stat::RecordsAccepted, records - rejected);
    Effect::Reply(reply::accept(records, delivery))
}
