//! Open-loop schedules: message n is due at start + n / rate, fixed before the run.
//!
//! A generator that waits for a slow broker before it sends the next message hides the very
//! latency it is there to measure ("coordinated omission"). So the times are laid down in advance
//! and a message carries its *due* time: what is sent late is charged its lateness.

/// When each message of one channel is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start_ns: u64,
    interval_ns: f64,
}

impl Schedule {
    /// `rate` is in messages per second. `phase` in 0..1 shifts the whole schedule by that part
    /// of an interval, so that many channels don't fire in the same instant.
    pub(crate) fn new(start_ns: u64, rate: f64, phase: f64) -> Self {
        let interval_ns = 1e9 / rate;
        Self {
            start_ns: start_ns + (interval_ns * phase) as u64,
            interval_ns,
        }
    }

    /// When message `index`, counted from 0, is due.
    #[inline]
    pub(crate) fn due_at_ns(&self, index: u64) -> u64 {
        self.start_ns + (index as f64 * self.interval_ns) as u64
    }

    /// How many messages are due at `now_ns`, of which `done` have been handled; at most `most`.
    pub(crate) fn due(&self, now_ns: u64, done: u64, most: u64) -> u64 {
        if now_ns < self.start_ns {
            return 0;
        }
        let total = ((now_ns - self.start_ns) as f64 / self.interval_ns) as u64 + 1;
        let mut due = total.saturating_sub(done).min(most);
        // The division may round up across a due time: the multiplication is what counts.
        while due > 0 && self.due_at_ns(done + due - 1) > now_ns {
            due -= 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_n_is_due_n_intervals_after_the_start() {
        let schedule = Schedule::new(1_000, 1_000_000.0, 0.0);
        assert_eq!(schedule.due_at_ns(0), 1_000);
        assert_eq!(schedule.due_at_ns(5), 6_000);
        assert_eq!(schedule.due(999, 0, 10), 0);
        assert_eq!(schedule.due(1_000, 0, 10), 1);
        assert_eq!(schedule.due(2_999, 0, 10), 2);
    }

    #[test]
    fn a_stalled_sender_owes_every_message_at_its_own_time() {
        let schedule = Schedule::new(0, 1_000.0, 0.0);
        // The sender was held up for 10 ms after message 2: eight messages are late by now, and
        // the first of them is charged its full lateness.
        let (now, done) = (10_000_000, 3);
        assert_eq!(schedule.due(now, done, 100), 8);
        assert_eq!(now - schedule.due_at_ns(done), 7_000_000);
        assert_eq!(now - schedule.due_at_ns(10), 0);
        assert_eq!(schedule.due(now, done, 5), 5);
    }

    #[test]
    fn no_message_is_early_at_an_uneven_rate() {
        let schedule = Schedule::new(17, 30_011.0, 0.3);
        let mut done = 0;
        for step in 0..10_000 {
            let now = 17 + step * 7_919;
            let due = schedule.due(now, done, u64::MAX);
            done += due;
            assert!(done == 0 || schedule.due_at_ns(done - 1) <= now);
            assert!(schedule.due_at_ns(done) > now);
        }
    }
}
