//! Where the pure rooms' [`Time`] comes from.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::Time;

/// The monotonic clock, the same on every core. Read once a turn.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self {
            epoch: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Time {
        // 64 bits of nanoseconds last for 584 years.
        Time(self.epoch.elapsed().as_nanos() as u64)
    }

    /// What the clock on the wall shows, in milliseconds since 1970.
    pub(crate) fn unix_ms() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is as good as none.
        since.map_or(0, |since| since.as_millis() as u64)
    }
}
