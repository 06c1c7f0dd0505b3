//! Whether it is the record or the backend: what is done about a refusal.
//!
//! The group is halved until a record is alone. That is sent once more, a moment later. Refused
//! again, it is to blame if the backend has accepted other records since; if it has accepted none,
//! a request without records must at least be accepted. That says little, since a backend may look
//! at nothing else, so it counts only a few times between two exports that were accepted. Whoever
//! isn't to blame gets a 502: his records are still his.

use super::group::{Errand, Group, Piece};
use super::retry::FIRST_RETRY;
use super::{Notice, Outbox};
use crate::export::split;
use crate::rejection::Rejection;
use crate::stats::{Sink, Stat};
use std::rc::Rc;
use std::time::Duration;

/// What is known of the backend.
#[derive(Debug, Default)]
pub struct Blame {
    /// Exports of which it has taken at least one record.
    pub accepted: u64,
    /// Records that were blamed since, though it had taken no others.
    unproven: u32,
}

/// So many records may be blamed in a row without others being accepted.
pub const MOST_UNPROVEN: u32 = 8;

impl Blame {
    /// The backend has taken records.
    pub fn took(&mut self) {
        self.accepted = self.accepted.wrapping_add(1);
        self.unproven = 0;
    }

    /// Whether it has taken any since something in the group was refused.
    fn is_proven(&self, group: &Group) -> bool {
        group.refused.is_some_and(|then| then != self.accepted)
    }
}

impl Outbox {
    /// Something in the group can never be accepted.
    pub(super) fn unacceptable(&mut self, mut group: Group, now: Duration, stats: &mut dyn Sink) -> Notice {
        if let Some(refusal) = self.deferral(now) {
            self.refuse(group.pieces, refusal);
            return Notice::Fine;
        }
        group.refused.get_or_insert(self.blame.accepted);
        let alone = group.pieces.len() == 1;
        if alone && group.pieces.iter().all(|piece| piece.records <= 1) {
            return self.suspect(group, now, stats);
        }
        if !group.pay(2) {
            self.refuse(group.pieces, Rejection::ExportUnfinished.into());
            return Notice::Refused(Rejection::ExportUnfinished);
        }
        if alone && !self.halve_piece(&mut group) {
            return self.not_to_blame(group);
        }
        stats.add(Stat::ExportsSplit, 1);
        self.ready.extend(group.halve());
        Notice::Fine
    }

    /// A single record was refused.
    fn suspect(&mut self, mut group: Group, now: Duration, stats: &mut dyn Sink) -> Notice {
        (group.failures, group.failed) = (0, None);
        match group.errand {
            Errand::Deliver | Errand::Confirm if !group.pay(1) => {
                self.refuse(group.pieces, Rejection::ExportUnfinished.into());
                Notice::Refused(Rejection::ExportUnfinished)
            }
            Errand::Deliver => {
                group.errand = Errand::Confirm;
                self.retries.push((now.saturating_add(FIRST_RETRY), group));
                Notice::Fine
            }
            Errand::Confirm if self.blame.is_proven(&group) => self.reject(group, stats),
            Errand::Confirm if self.blame.unproven < MOST_UNPROVEN => {
                group.errand = Errand::Control;
                self.ready.push_back(group);
                Notice::Fine
            }
            Errand::Confirm | Errand::Control => self.not_to_blame(group),
        }
    }

    /// The request without records was accepted.
    pub(super) fn controlled(&mut self, group: Group, stats: &mut dyn Sink) -> Notice {
        self.blame.unproven = self.blame.unproven.saturating_add(1);
        self.reject(group, stats)
    }

    fn reject(&mut self, group: Group, stats: &mut dyn Sink) -> Notice {
        let records = group.pieces.iter().map(|piece| piece.records).sum();
        stats.add(Stat::RecordsRejected, records);
        for piece in group.pieces {
            let records = piece.records;
            self.settle(&piece, records, None);
        }
        Notice::Rejected(records)
    }

    fn not_to_blame(&mut self, group: Group) -> Notice {
        self.refuse(group.pieces, Rejection::ExportRefused.into());
        Notice::Refused(Rejection::ExportRefused)
    }

    /// Makes two pieces of a group's only one.
    fn halve_piece(&mut self, group: &mut Group) -> bool {
        let [piece] = group.pieces.as_slice() else { return false };
        let (ticket, halves) = (piece.ticket, split::halves(&piece.protobuf));
        let Some((first, second)) = halves else { return false };
        // One that is no longer waited for is halved all the same: its records may as well arrive.
        if let Some(request) = self.requests.get_mut(ticket) {
            request.pieces = request.pieces.saturating_add(1);
        }
        group.pieces = [first, second].map(|(protobuf, records)| Piece { ticket, protobuf: Rc::new(protobuf), records }).into();
        true
    }
}
