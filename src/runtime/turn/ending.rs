//! What a core heeds besides its clients: alarms, and the order to stop.

use std::time::Duration;

use super::Turn;
use crate::base::Time;

/// From the order to stop to the end of a core, whatever its connections do.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// The broker ends.
pub(super) struct Stopping {
    pub(super) deadline: Time,
    /// Whether this core has said that its connections are closed.
    said_so: bool,
}

impl Turn {
    /// Begins to stop when told to.
    pub(super) fn heed_stop(&mut self) -> bool {
        if self.stopping.is_some() || !self.links.beds().is_stopping() {
            return false;
        }
        self.listeners.close();
        self.core.shut_down(self.now);
        self.blocked.look_now();
        self.stopping = Some(Stopping {
            deadline: self.now + STOP_TIMEOUT,
            said_so: false,
        });
        true
    }

    /// Tells the broker's core of alarms that were raised or cleared, and the others if the disk has no
    /// room for its log.
    pub(super) fn heed_alarms(&mut self) -> bool {
        if self.core.is_disk_full() != self.is_full {
            self.is_full = !self.is_full;
            let core = self.links.core();
            self.links.beds().set_full(core, self.is_full);
        }
        let alarms = self.links.beds().alarms();
        if alarms == self.alarms {
            return false;
        }
        self.alarms = alarms;
        self.core.set_alarms(self.now, alarms);
        self.blocked.look_now();
        true
    }

    /// Whether the core has nothing left to do for ever.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(stopping) = &mut self.stopping else {
            return false;
        };
        if !stopping.said_so && self.core.session_count() == 0 && !self.core.has_letters() {
            stopping.said_so = true;
            self.links.beds().has_closed_all();
        }
        if self.links.beds().have_all_closed() {
            self.core.finish();
            // The kernel may still read from a buffer of ours, and write it is to be.
            if self.core.is_quiet() && !self.disk.is_busy() {
                return true;
            }
        }
        let is_late = self.now >= stopping.deadline;
        if is_late {
            tracing::warn!(
                "core {} has not settled everything within {} s: the next start recovers as after a kill",
                self.links.core().0,
                STOP_TIMEOUT.as_secs()
            );
        }
        is_late
    }
}
