//! What goes wrong behind the gateway, in Envoy's log: each kind at most once a minute, since a
//! backend that is down fails every request.

use crate::export::outbox::Notice;
use crate::rejection::Rejection;
use log::Level;
use std::cell::Cell;
use std::time::Duration;

/// The kinds of trouble, each with its own silence.
#[derive(Default)]
pub struct Troubles {
    failed: Throttle,
    refused: Throttle,
    rejected: Throttle,
    keys: Throttle,
    limits: Throttle,
}

impl Troubles {
    /// What came of an export.
    pub fn export(&self, cluster: &str, status: Option<u16>, notice: Notice, now: Duration) {
        let status = || status.map(|status| format!(" (status {status})")).unwrap_or_default();
        let meaning = |rejection: Rejection| rejection.meaning().trim();
        match notice {
            Notice::Fine => {}
            Notice::Failed(rejection) => {
                self.failed.say(Level::Warn, now, || format!("export to cluster {cluster}: {}{}", meaning(rejection), status()));
            }
            Notice::Refused(rejection) => {
                self.refused.say(Level::Error, now, || format!("export to cluster {cluster}: {}{}", meaning(rejection), status()));
            }
            Notice::Rejected(records) => self.rejected.say(Level::Warn, now, || {
                format!("export to cluster {cluster}: the backend rejected {records} records for what is in them{}", status())
            }),
        }
    }

    /// Keys could not be fetched.
    pub fn keys(&self, provider: &str, why: &str, now: Duration) {
        self.keys.say(Level::Warn, now, || format!("keys of provider {provider} could not be fetched: {why}; those held stay in force"));
    }

    /// The rate limit service did not answer.
    pub fn limits(&self, why: &str, now: Duration) {
        self.limits.say(Level::Warn, now, || format!("rate limit service: {why}; rate_limits.service.failure_mode decides"));
    }
}

/// Says something at most once a minute.
#[derive(Default)]
struct Throttle {
    last: Cell<Option<Duration>>,
    left_out: Cell<u64>,
}

impl Throttle {
    fn say(&self, level: Level, now: Duration, what: impl FnOnce() -> String) {
        const INTERVAL: Duration = Duration::from_secs(60);
        if self.last.get().is_some_and(|last| now.abs_diff(last) < INTERVAL) {
            self.left_out.set(self.left_out.get().saturating_add(1));
            return;
        }
        self.last.set(Some(now));
        match self.left_out.replace(0) {
            0 => log::log!(level, "{}", what()),
            more => log::log!(level, "{} ({more} more times since it was last said)", what()),
        }
    }
}
