//! Time as a number: the pure rooms are told what time it is and never ask.

use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since an arbitrary moment before the process began to serve (monotonic).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// How long it is from `earlier` to `self`; zero if it is the other way round.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    fn as_ms(self) -> u64 {
        self.0 / NANOS_PER_MS
    }
}

const NANOS_PER_MS: u64 = 1_000_000;

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_nanos() as u64))
    }
}

/// What the clock on the wall shows, for what must hold across restarts: it may be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WallClock {
    /// What it shows at [`Time`] 0, in milliseconds since 1970.
    start_ms: i64,
}

impl WallClock {
    /// A clock that shows `unix_ms`, milliseconds since 1970, at `now`.
    pub fn showing(unix_ms: u64, now: Time) -> Self {
        Self {
            start_ms: unix_ms as i64 - now.as_ms() as i64,
        }
    }

    /// What it shows at `time`, in milliseconds since 1970.
    pub fn ms(self, time: Time) -> u64 {
        (self.start_ms + time.as_ms() as i64).max(0) as u64
    }

    /// When it will show that; [`Time`] 0 if it was before.
    pub fn time(self, unix_ms: u64) -> Time {
        let ms = (unix_ms as i64).saturating_sub(self.start_ms).max(0);
        Time((ms as u64).saturating_mul(NANOS_PER_MS))
    }
}
