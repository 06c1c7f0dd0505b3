//! What goes out together.

use super::Ticket;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A request, or a part of one.
#[derive(Debug)]
pub struct Piece {
    /// Whose it is.
    pub ticket: Ticket,
    /// A serialized `ExportLogsServiceRequest`.
    pub protobuf: Rc<Vec<u8>>,
    /// How many records it has.
    pub records: u64,
}

/// What a group goes out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To be delivered.
    Deliver,
    /// A single record was refused: once more, in case it wasn't meant.
    Confirm,
    /// It was refused again: without records, to learn whether it is the record or the backend.
    Control,
}

/// Pieces that go out together, and what has come of it so far.
#[derive(Debug)]
pub struct Group {
    /// At least one.
    pub pieces: Vec<Piece>,
    /// What for.
    pub errand: Errand,
    /// How often it has failed.
    pub failures: u32,
    /// How many exports had been accepted when it last failed.
    pub failed: Option<u64>,
    /// How many exports had been accepted when something in it was first refused.
    pub refused: Option<u64>,
    /// Halved since it fails and others don't: it isn't joined with any again.
    pub apart: bool,
    /// When it last went out.
    pub sent: Duration,
    /// When it should have come back at the latest.
    pub back: Duration,
    /// Callouts that may still be made to find out what is refused in it.
    splits: Rc<Cell<usize>>,
}

/// What finding out may cost in callouts: this, and twice the pieces.
pub const SPLITS: usize = 64;

impl Group {
    /// One that has never gone out.
    pub fn new(pieces: Vec<Piece>) -> Group {
        let splits = Rc::new(Cell::new(SPLITS + 2 * pieces.len()));
        let (sent, back) = (Duration::ZERO, Duration::ZERO);
        Group { pieces, errand: Errand::Deliver, failures: 0, failed: None, refused: None, apart: false, sent, back, splits }
    }

    /// Pays for callouts to find out what is refused in it; `false` if it can't.
    pub fn pay(&self, callouts: usize) -> bool {
        let left = self.splits.get().checked_sub(callouts);
        self.splits.set(left.unwrap_or_default());
        left.is_some()
    }

    /// Both halves of a group of at least two pieces.
    pub fn halve(self) -> [Group; 2] {
        let half = self.pieces.len() / 2;
        let mut pieces = self.pieces.into_iter();
        let first = pieces.by_ref().take(half).collect();
        let other = Group { pieces: pieces.collect(), splits: Rc::clone(&self.splits), ..self };
        [Group { pieces: first, splits: self.splits, ..other }, other]
    }

    /// Bytes before compression.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.protobuf.len()).sum()
    }

    /// Takes another's pieces, if nothing has to be found out about either.
    ///
    /// # Errors
    /// The other as it is.
    pub fn join(&mut self, other: Group, max_bytes: usize) -> Result<(), Group> {
        let plain = |group: &Group| group.errand == Errand::Deliver && group.refused.is_none() && !group.apart;
        let fits = self.bytes().saturating_add(other.bytes()) <= max_bytes;
        if !(plain(self) && plain(&other) && fits && self.failures == other.failures) {
            return Err(other);
        }
        self.failed = self.failed.max(other.failed);
        self.splits = Rc::new(Cell::new(self.splits.get().saturating_add(other.splits.get())));
        self.pieces.extend(other.pieces);
        Ok(())
    }
}
