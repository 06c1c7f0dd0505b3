//! Whether the backend wants to be left alone.
//!
//! Closed for as long as a 429 or 503 asks for. After that one export is let through, and only
//! when that is accepted all others are.

use super::Flight;
use crate::export::answer::{LONGEST_WAIT, Meaning};
use std::time::Duration;

/// Open, closed until some time, or being tried.
#[derive(Debug, Default)]
pub struct Gate {
    /// Closed until then; afterwards one export at a time is let through.
    until: Option<Duration>,
    /// The one that was let through.
    probe: Option<Flight>,
    /// How often in a row it was closed.
    closed: u32,
}

/// The wait where the backend names none: each twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(32);

impl Gate {
    /// How long it stays closed; `None` where it isn't.
    pub fn closed(&self, now: Duration) -> Option<Duration> {
        // What is further away than any wait was set by another clock.
        self.until?.checked_sub(now).filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT)
    }

    /// Whether an export may be sent.
    pub fn lets_through(&self, now: Duration) -> bool {
        self.until.is_none() || (self.closed(now).is_none() && self.probe.is_none())
    }

    /// An export was sent.
    pub fn sent(&mut self, flight: Flight) {
        if self.until.is_some() {
            self.probe = Some(flight);
        }
    }

    /// An export was answered.
    pub fn answered(&mut self, flight: Flight, meaning: Meaning, now: Duration) {
        let is_probe = self.probe == Some(flight);
        if is_probe {
            self.probe = None;
        }
        match meaning {
            Meaning::Deferred(wait) => {
                let wait = wait.unwrap_or_else(|| FIRST_WAIT.saturating_mul(1 << self.closed.min(8)).min(LAST_WAIT));
                // One of several answers to what was sent together doesn't make the wait shorter, or longer the next time.
                if self.closed(now).is_none_or(|left| left < wait) {
                    self.until = Some(now.saturating_add(wait));
                }
                if is_probe || self.closed == 0 {
                    self.closed = self.closed.saturating_add(1);
                }
            }
            // The backend speaks to us again, whatever it says.
            Meaning::Accepted(_) | Meaning::Unacceptable | Meaning::Refused(_) if is_probe => {
                self.until = None;
                self.closed = 0;
            }
            _ => {}
        }
    }
}
