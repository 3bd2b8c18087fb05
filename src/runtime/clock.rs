//! Where the pure rooms' [`Time`] comes from.

use std::time::Instant;

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
}
