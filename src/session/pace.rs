//! How fast a session is read. Normally as fast as it comes; a session that floods a queue whose
//! consumers drain it is read in smaller portions, then less often, until the queue catches up.

use std::time::Duration;

use crate::base::{Time, limits};
use crate::mail::Ease;

/// A session's pace.
pub(super) struct Pace {
    /// Bytes to be read in a turn.
    budget: usize,
    /// How long it rests after each portion, once portions are at their smallest.
    rest: Duration,
    resting_until: Time,
    /// Whether it was asked to ease in this turn.
    eased: bool,
}

/// Less than this at a time would only multiply system calls.
const BUDGET_MIN: usize = 16 * 1024;
const REST_MIN: Duration = Duration::from_micros(20);
/// A session that is eased for long is still read [`BUDGET_MIN`] each so often: 32 MB/s.
const REST_MAX: Duration = Duration::from_micros(500);
/// A session that waits for the disk or for memory is read once in so long, and if that is not enough, once in
/// [`WAIT_MAX`]: 16 GB/s of a thousand sessions become 256 MB/s.
const WAIT_MIN: Duration = Duration::from_millis(1);
const WAIT_MAX: Duration = Duration::from_millis(64);

impl Default for Pace {
    fn default() -> Self {
        Self {
            budget: limits::LANDING_BYTES,
            rest: Duration::ZERO,
            resting_until: Time::default(),
            eased: false,
        }
    }
}

impl Pace {
    /// How many bytes may be read now.
    pub(super) fn budget(&self, now: Time) -> usize {
        if now < self.resting_until {
            0
        } else {
            self.budget
        }
    }

    /// A queue asks for less.
    pub(super) fn ease(&mut self, how: Ease, now: Time) {
        self.eased = true;
        if how == Ease::Waits {
            self.budget = BUDGET_MIN;
            self.rest = (self.rest * 2).clamp(WAIT_MIN, WAIT_MAX);
            self.resting_until = now + self.rest;
        } else if self.budget > BUDGET_MIN {
            self.budget = (self.budget - self.budget / 4).max(BUDGET_MIN);
        } else if how == Ease::Rests {
            self.rest = (self.rest * 2).clamp(REST_MIN, REST_MAX);
            self.resting_until = now + self.rest;
        }
    }

    /// A turn in which no queue asked brings the pace up again.
    pub(super) fn end_turn(&mut self) {
        if std::mem::take(&mut self.eased) {
            return;
        }
        if self.rest > REST_MIN {
            self.rest /= 2;
        } else {
            self.rest = Duration::ZERO;
            self.budget = (self.budget + self.budget / 8).min(limits::LANDING_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_portions_alone_come_without_rests() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.ease(Ease::Portions, Time(1));
            pace.end_turn();
        }
        assert_eq!(pace.budget(Time(1)), BUDGET_MIN);
    }

    #[test]
    fn who_waits_for_the_disk_is_not_read_for_a_while_and_longer_each_time() {
        let mut pace = Pace::default();
        let mut now = Time(1_000_000);
        for expected in [WAIT_MIN, 2 * WAIT_MIN, 4 * WAIT_MIN] {
            pace.ease(Ease::Waits, now);
            pace.end_turn();
            now = now + expected;
            assert_eq!(pace.budget(Time(now.0 - 1)), 0);
            assert_eq!(pace.budget(now), BUDGET_MIN);
        }
    }

    #[test]
    fn portions_shrink_first_then_rests_grow_and_both_come_back() {
        let mut pace = Pace::default();
        let now = Time(1_000_000);
        let mut asked = 0;
        while pace.budget(now) > 0 {
            pace.ease(Ease::Rests, now);
            pace.end_turn();
            asked += 1;
            assert!(asked < 20);
        }
        assert_eq!(pace.budget, BUDGET_MIN);
        for _ in 0..20 {
            pace.ease(Ease::Rests, now);
        }
        pace.end_turn();
        assert_eq!(pace.rest, REST_MAX);
        assert_eq!(
            pace.budget(now + REST_MAX),
            BUDGET_MIN,
            "it is never shut out"
        );
        for _ in 0..100 {
            pace.end_turn();
        }
        assert_eq!(pace.budget(now + REST_MAX), limits::LANDING_BYTES);
    }
}
