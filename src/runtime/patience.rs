//! How long a core without work looks on before it parks.
//!
//! A park and a wake cost some 50 µs: as long is always looked on. While work keeps coming in shorter
//! intervals than [`SPAN_MAX`], a core looks on from one piece to the next, and messages don't wait for a
//! wake; it takes its CPU for that, as it would with four times as many messages. An idle core, and one
//! whose work comes seldom, parks.

use std::time::Duration;
use std::{hint, thread};

use super::clock::Clock;
use crate::base::Time;

/// How often a core looks. Each look is a system call for each socket, and a message waits half as long.
const LOOK_EVERY: Duration = Duration::from_micros(5);
/// A park and a wake cost about as much.
const SPAN_MIN: Duration = Duration::from_micros(50);
/// Enough for 2,500 messages a second and more, one by one. Beyond that the CPU is worth more than the
/// wakes.
const SPAN_MAX: Duration = Duration::from_micros(400);

/// What a core has learnt of the intervals between its work.
pub(super) struct Patience {
    span: Duration,
    /// Looking on would take the CPU from another executor.
    has_none: bool,
}

impl Patience {
    /// `spins`: whether to look on at all.
    pub(super) fn new(spins: bool) -> Self {
        Self {
            span: SPAN_MIN,
            has_none: !spins,
        }
    }

    /// How long to look on from now.
    pub(super) fn span(&self) -> Duration {
        if self.has_none {
            Duration::ZERO
        } else {
            self.span
        }
    }

    /// What was learnt holds no more: commits need the CPU that looking on takes.
    pub(super) fn forget(&mut self) {
        self.span = SPAN_MIN;
    }

    /// There was work after so long a silence.
    pub(super) fn heard_after(&mut self, silence: Duration) {
        self.span = if silence > SPAN_MAX {
            (self.span / 2).max(SPAN_MIN)
        } else {
            let faded = self.span - self.span / 64;
            (2 * silence).max(faded).clamp(SPAN_MIN, SPAN_MAX)
        };
    }
}

/// Between two looks, the first of which was `now`.
pub(super) fn look_away(clock: &Clock, now: Time) {
    thread::yield_now();
    let until = now + LOOK_EVERY;
    while clock.now() < until {
        hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn work_in_short_intervals_is_waited_for() {
        let mut patience = Patience::new(true);
        for _ in 0..100 {
            // A message makes several turns, close upon each other.
            patience.heard_after(200 * US);
            patience.heard_after(3 * US);
            patience.heard_after(5 * US);
            assert!(patience.span() > 200 * US);
        }
    }

    #[test]
    fn work_that_comes_seldom_is_not() {
        let mut patience = Patience::new(true);
        patience.heard_after(200 * US);
        for _ in 0..4 {
            patience.heard_after(2000 * US);
        }
        assert_eq!(patience.span(), SPAN_MIN);
    }

    #[test]
    fn a_core_whose_work_comes_at_once_forgets_longer_intervals() {
        let mut patience = Patience::new(true);
        patience.heard_after(200 * US);
        for _ in 0..300 {
            patience.heard_after(2 * US);
        }
        assert_eq!(patience.span(), SPAN_MIN);
    }

    #[test]
    fn nobody_looks_on_where_that_takes_the_cpu_from_another() {
        let mut patience = Patience::new(false);
        patience.heard_after(200 * US);
        assert_eq!(patience.span(), Duration::ZERO);
    }
}
