//! Wrong clocks: where on the backend's clock the records of a batch belong.
//!
//! Backends drop what lies outside their window and say 200 all the same. So a batch whose device's
//! clock is known to be wrong moves as a whole, and what then still lies outside is put at the
//! edge, a microsecond apart in the client's order. The device's own time stays in the record.

use crate::config::Window;

/// What a record says of its time, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// A timestamp that can be read.
    At(i128),
    /// None, or null.
    Missing,
    /// One that can't be read.
    Unparsable,
}

/// Why a record's time is not the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// The device's clock is wrong, and by how much is known.
    ClockDrift,
    /// Older than the backend keeps.
    TooOld,
    /// Further in the future than the backend keeps.
    TooNew,
    /// No timestamp.
    Missing,
    /// An unreadable one.
    Unparsable,
}

impl Adjustment {
    /// The value of the attribute `timestamp_adjustment`.
    pub fn name(self) -> &'static str {
        match self {
            Adjustment::ClockDrift => "clock_drift",
            Adjustment::TooOld => "too_old",
            Adjustment::TooNew => "too_new",
            Adjustment::Missing => "missing",
            Adjustment::Unparsable => "unparsable",
        }
    }
}

/// Where a record is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Nanoseconds since the Unix epoch.
    pub at: i128,
    /// Why it isn't where the client put it.
    pub adjustment: Option<Adjustment>,
}

impl Placement {
    /// Where a record stands if its batch needs no correction. `received`: nanoseconds since the Unix epoch.
    pub fn as_sent(stamp: Stamp, received: i128) -> Placement {
        match stamp {
            Stamp::At(at) => Placement { at, adjustment: None },
            Stamp::Missing => Placement { at: received, adjustment: Some(Adjustment::Missing) },
            Stamp::Unparsable => Placement { at: received, adjustment: Some(Adjustment::Unparsable) },
        }
    }
}

/// A clock is taken as right up to this: networks and queues take their time.
const TOLERANCE: i128 = 60 * 1_000_000_000;

const MICROSECOND: i128 = 1_000;

/// Where each record of a batch belongs; `None` if all may stay where they are.
///
/// `sent_at` is the device's clock when it sent the batch, if it said so; it and `received` are nanoseconds
/// since the Unix epoch.
pub fn plan(
    stamps: impl Iterator<Item = Stamp> + Clone,
    sent_at: Option<i128>,
    received: i128,
    window: Option<Window>,
) -> Option<Vec<Placement>> {
    let window = window?;
    let now = received;
    let (oldest, newest) = (now - window.past.as_nanos() as i128, now + window.future.as_nanos() as i128);
    let drift = drift(stamps.clone(), sent_at, now);
    let moved = |stamp: Stamp| match stamp {
        Stamp::At(at) => Some(at.saturating_add(drift)),
        Stamp::Missing | Stamp::Unparsable => None,
    };
    let inside = stamps.clone().filter_map(moved).all(|at| (oldest..=newest).contains(&at));
    if drift == 0 && inside {
        return None;
    }
    let mut old = 0;
    let mut new = stamps.clone().filter_map(moved).filter(|&at| at > newest).count() as i128;
    let place = |stamp: Stamp| match moved(stamp) {
        None => Placement::as_sent(stamp, received),
        Some(at) if at < oldest => {
            old += 1;
            Placement { at: (oldest + (old - 1) * MICROSECOND).min(now), adjustment: Some(Adjustment::TooOld) }
        }
        Some(at) if at > newest => {
            new -= 1;
            Placement { at: newest - new * MICROSECOND, adjustment: Some(Adjustment::TooNew) }
        }
        Some(at) => Placement { at, adjustment: (drift != 0).then_some(Adjustment::ClockDrift) },
    };
    Some(stamps.map(place).collect())
}

/// How far all timestamps of the batch move; 0 where the clock isn't known to be wrong.
fn drift(stamps: impl Iterator<Item = Stamp>, sent_at: Option<i128>, now: i128) -> i128 {
    if let Some(sent_at) = sent_at {
        let drift = now.saturating_sub(sent_at);
        return if drift.abs() >= TOLERANCE { drift } else { 0 };
    }
    let newest = stamps.filter_map(|stamp| if let Stamp::At(at) = stamp { Some(at) } else { None }).max();
    // A clock that is ahead shows in a record from the future. One that is slow looks like a phone
    // that was offline.
    match newest {
        Some(newest) if newest > now + TOLERANCE => now - newest,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Duration = Duration::from_secs(1_770_379_200);
    const WINDOW: Window = Window { past: Duration::from_secs(84_600), future: Duration::from_secs(3_000) };

    fn at(seconds_from_now: i128) -> Stamp {
        Stamp::At(now() + seconds_from_now * 1_000_000_000)
    }

    fn now() -> i128 {
        NOW.as_nanos() as i128
    }

    fn planned(stamps: &[Stamp], sent_at: Option<Stamp>) -> Option<Vec<(i128, Option<Adjustment>)>> {
        let sent_at = sent_at.map(|stamp| if let Stamp::At(at) = stamp { at } else { 0 });
        let plan = plan(stamps.iter().copied(), sent_at, now(), Some(WINDOW))?;
        Some(plan.into_iter().map(|p| (p.at - now(), p.adjustment)).collect())
    }

    const S: i128 = 1_000_000_000;

    #[test]
    fn a_right_clock_is_left_alone() {
        assert_eq!(planned(&[at(-84_600), at(0), at(60)], None), None);
        assert_eq!(planned(&[Stamp::Missing, Stamp::Unparsable], None), None);
        assert_eq!(planned(&[at(-10)], Some(at(59))), None);
        assert_eq!(plan([at(9_999_999)].into_iter(), None, now(), None), None);
    }

    #[test]
    fn a_batch_from_the_future_moves_as_a_whole() {
        let drift = Some(Adjustment::ClockDrift);
        assert_eq!(planned(&[at(290), at(300)], None), Some(vec![(-10 * S, drift), (0, drift)]));
        assert_eq!(planned(&[at(3 * 3600), Stamp::Missing], None), Some(vec![(0, drift), (0, Some(Adjustment::Missing))]));
    }

    #[test]
    fn a_known_drift_moves_both_ways() {
        let drift = Some(Adjustment::ClockDrift);
        assert_eq!(planned(&[at(-700), at(-650)], Some(at(-600))), Some(vec![(-100 * S, drift), (-50 * S, drift)]));
        assert_eq!(planned(&[at(500)], Some(at(600))), Some(vec![(-100 * S, drift)]));
    }

    #[test]
    fn what_lies_outside_stands_at_the_edge_in_the_clients_order() {
        let old = Some(Adjustment::TooOld);
        let low = -84_600 * S;
        assert_eq!(planned(&[at(-200_000), at(-1), at(-300_000)], None), Some(vec![(low, old), (-S, None), (low + 1_000, old)]));
        let new = Some(Adjustment::TooNew);
        let high = 3_000 * S;
        assert_eq!(planned(&[at(9_000), at(8_000)], Some(at(0))), Some(vec![(high - 1_000, new), (high, new)]));
    }

    #[test]
    fn no_clock_is_too_wrong() {
        for stamp in [i128::MIN, i128::MAX, 0] {
            let plan = plan([Stamp::At(stamp), at(0)].into_iter(), None, now(), Some(WINDOW)).unwrap();
            assert!(plan.iter().all(|p| (p.at - now()).abs() <= 84_600 * S));
        }
    }
}
