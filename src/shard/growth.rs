//! How fast a queue drains, to tell a flood from a slow consumer (consumer bias).
//!
//! While a queue grows that has delivered something lately, its publishers are read in smaller
//! portions: turns are short then, and consumers don't wait for them. A backlog that the consumers
//! would work off within [`Growth::CATCH_UP_SAMPLES`] at the pace they have shown is there because
//! publishers take what the drain needs: they rest as well. A larger one means that the consumers are
//! slow for a reason of their own, and the queue takes what comes.
//!
//! A thousand queues with a small backlog each are a large one: where all of them together take up much of
//! the memory, publishers wait for the drain of their queues at once, and for longer.

use std::time::Duration;

use crate::base::Time;
use crate::mail::Ease;

/// How a queue has drained lately.
#[derive(Default)]
pub(super) struct Growth {
    /// When the running sample began, and what was delivered since.
    since: Time,
    delivered: u32,
    /// The most that one sample delivered; fades.
    peak: u32,
}

impl Growth {
    const SAMPLE: Duration = Duration::from_millis(10);
    /// 100 ms worth of drain.
    const CATCH_UP_SAMPLES: usize = 10;
    /// A second's worth.
    const CATCH_UP_SAMPLES_OF_MANY: usize = 100;
    /// The peak fades by half in about 0.7 times so many samples: a second.
    const FADE: u32 = 128;
    /// A backlog that is no reason to do anything.
    const BACKLOG: usize = 2048;
    /// The same where many queues have one, so that together they take up much of the memory.
    const BACKLOG_OF_MANY: usize = 64;

    /// Whether and how those who publish should be read less. `crowded`: the messages of all queues take up
    /// much of the memory.
    pub(super) fn eases(&self, now: Time, backlog: usize, crowded: bool) -> Option<Ease> {
        let (harmless, samples, how) = if crowded {
            let samples = Self::CATCH_UP_SAMPLES_OF_MANY;
            (Self::BACKLOG_OF_MANY, samples, Ease::Waits)
        } else {
            (Self::BACKLOG, Self::CATCH_UP_SAMPLES, Ease::Rests)
        };
        if backlog <= harmless {
            None
        } else if backlog < self.peak as usize * samples {
            Some(how)
        } else {
            let drains = self.delivered > 0 && now.since(self.since) < 2 * Self::SAMPLE;
            drains.then_some(Ease::Portions)
        }
    }

    pub(super) fn departed(&mut self, now: Time, count: u32) {
        if count == 0 {
            return;
        }
        let elapsed = now.since(self.since);
        if elapsed >= Self::SAMPLE {
            // After a pause what was seen before it says nothing.
            let idle = elapsed > Self::SAMPLE * Self::FADE;
            let faded = if idle {
                0
            } else {
                self.peak - self.peak / Self::FADE
            };
            self.peak = faded.max(self.delivered);
            self.since = now;
            self.delivered = 0;
        }
        self.delivered += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A queue that delivers `count` messages each millisecond for `span` milliseconds.
    fn drained(growth: &mut Growth, from: Time, span: u32, count: u32) -> Time {
        let mut now = from;
        for _ in 0..span {
            now = now + MS;
            growth.departed(now, count);
        }
        now
    }

    #[test]
    fn a_backlog_that_fast_consumers_could_work_off_makes_publishers_rest() {
        let mut growth = Growth::default();
        let now = drained(&mut growth, Time(0), 50, 1000);
        assert_eq!(growth.eases(now, 1000, false), None, "that is no backlog");
        assert_eq!(growth.eases(now, 50_000, false), Some(Ease::Rests));
        assert_eq!(
            growth.eases(now, 200_000, false),
            Some(Ease::Portions),
            "that takes them too long"
        );
    }

    #[test]
    fn in_a_crowd_a_small_backlog_makes_publishers_wait_unless_consumers_are_slow() {
        let mut growth = Growth::default();
        let now = drained(&mut growth, Time(0), 50, 1);
        assert_eq!(growth.eases(now, 64, true), None, "that is no backlog");
        assert_eq!(growth.eases(now, 500, true), Some(Ease::Waits));
        assert_eq!(growth.eases(now, 500, false), None);
        assert_eq!(growth.eases(now, 5000, true), Some(Ease::Portions));
    }

    #[test]
    fn a_queue_with_slow_consumers_takes_what_comes() {
        let mut growth = Growth::default();
        let now = drained(&mut growth, Time(0), 50, 2);
        assert_eq!(growth.eases(now, 10_000, false), Some(Ease::Portions));
        assert_eq!(
            growth.eases(now + 100 * MS, 10_000, false),
            None,
            "they have stopped"
        );
    }

    #[test]
    fn nobody_rests_for_a_queue_that_never_delivered() {
        assert_eq!(Growth::default().eases(Time(1), 1_000_000, false), None);
    }
}
