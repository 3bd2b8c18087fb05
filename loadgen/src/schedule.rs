//! Open-loop schedules: message n is due at start + n / rate, fixed before the run.
//!
//! A generator that waits for a slow broker before it sends the next message hides the very
//! latency it is there to measure ("coordinated omission"). So the times are laid down in advance
//! and a message carries its *due* time: what is sent late is charged its lateness.
//!
//! A rate may change over time, in steps that begin anew when the last is over. Then message n is
//! due when the integral of the rate reaches n; within a step that is again a straight line.

use std::sync::Arc;

use serde::Serialize;

/// A value for some time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Step {
    pub(crate) value: f64,
    /// More than 0.
    pub(crate) seconds: f64,
}

/// When each message of one channel is due.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    line: Line,
    /// With a rate that changes: what follows this line.
    changes: Option<Changes>,
}

/// A time of constant rate. Message `index` is due at start + (index - origin) * interval.
#[derive(Clone, Copy, Debug)]
struct Line {
    start_ns: u64,
    interval_ns: f64,
    /// The index, with a fraction, that is due at the start.
    origin: f64,
    /// The first index that is not due in this time.
    end: u64,
}

#[derive(Clone, Debug)]
struct Changes {
    steps: Arc<[Step]>,
    /// The step that the current line stands for.
    at: usize,
    /// Where the current step ends: when, and how many messages of the schedule are due until
    /// then, with a fraction.
    end_ns: f64,
    end_index: f64,
}

impl Schedule {
    /// `rate` is in messages per second. `phase` in 0..1 shifts the whole schedule by that part
    /// of an interval, so that many channels don't fire in the same instant.
    pub(crate) fn new(start_ns: u64, rate: f64, phase: f64) -> Self {
        let line = Line {
            start_ns,
            interval_ns: 1e9 / rate,
            origin: -phase,
            end: u64::MAX,
        };
        Self {
            line,
            changes: None,
        }
    }

    /// With a rate that changes. At least one step has a rate above 0.
    pub(crate) fn with_steps(start_ns: u64, steps: &Arc<[Step]>, phase: f64) -> Self {
        let mut changes = Changes {
            steps: Arc::clone(steps),
            at: steps.len() - 1,
            end_ns: start_ns as f64,
            end_index: -phase,
        };
        let line = changes.next();
        let mut schedule = Self {
            line,
            changes: Some(changes),
        };
        schedule.advance(0);
        schedule
    }

    /// When message `index`, counted from 0, is due. It must not lie before the last one that
    /// [`Self::advance`] was told of.
    #[inline]
    pub(crate) fn due_at_ns(&self, index: u64) -> u64 {
        let line = &self.line;
        line.start_ns + ((index as f64 - line.origin) * line.interval_ns) as u64
    }

    /// How many messages are due at `now_ns`, of which `done` have been handled; at most `most`,
    /// and none of a later step.
    pub(crate) fn due(&self, now_ns: u64, done: u64, most: u64) -> u64 {
        let line = &self.line;
        if now_ns < line.start_ns {
            return 0;
        }
        let passed = (now_ns - line.start_ns) as f64 / line.interval_ns + line.origin;
        if passed < 0.0 {
            return 0;
        }
        let total = (passed as u64 + 1).min(line.end);
        let mut due = total.saturating_sub(done).min(most);
        // The division may round up across a due time: the multiplication is what counts.
        while due > 0 && self.due_at_ns(done + due - 1) > now_ns {
            due -= 1;
        }
        due
    }

    /// `done` messages have been handled: goes on to the step in which the next one is due.
    #[inline]
    pub(crate) fn advance(&mut self, done: u64) {
        while done >= self.line.end {
            let Some(changes) = &mut self.changes else {
                return;
            };
            self.line = changes.next();
        }
    }
}

impl Changes {
    fn next(&mut self) -> Line {
        self.at = (self.at + 1) % self.steps.len();
        let step = self.steps[self.at];
        let (start_ns, origin) = (self.end_ns, self.end_index);
        self.end_ns += step.seconds * 1e9;
        self.end_index += step.seconds * step.value;
        Line {
            start_ns: start_ns as u64,
            interval_ns: 1e9 / step.value,
            origin,
            end: self.end_index.ceil().max(0.0) as u64,
        }
    }
}

/// The step that holds `elapsed_ns` after the start.
pub(crate) fn step_at(steps: &[Step], elapsed_ns: u64) -> usize {
    let round_s: f64 = steps.iter().map(|step| step.seconds).sum();
    let mut left_s = (elapsed_ns as f64 / 1e9) % round_s;
    for (index, step) in steps.iter().enumerate() {
        if left_s < step.seconds {
            return index;
        }
        left_s -= step.seconds;
    }
    0
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

    fn steps(steps: &[(f64, f64)]) -> Arc<[Step]> {
        let step = |&(value, seconds): &(f64, f64)| Step { value, seconds };
        steps.iter().map(step).collect()
    }

    /// The due times in milliseconds of the first messages.
    fn due_times_ms(steps: &Arc<[Step]>, phase: f64, count: u64) -> Vec<u64> {
        let mut schedule = Schedule::with_steps(0, steps, phase);
        let due = |index| {
            schedule.advance(index);
            schedule.due_at_ns(index) / 1_000_000
        };
        (0..count).map(due).collect()
    }

    #[test]
    fn a_rate_changes_in_steps_and_begins_anew() {
        let steps = steps(&[(2.0, 1.0), (10.0, 0.3)]);
        let expected = [0, 500, 1_000, 1_100, 1_200, 1_300, 1_800, 2_300, 2_400];
        assert_eq!(due_times_ms(&steps, 0.0, 9), expected);
    }

    #[test]
    fn nothing_is_due_in_a_pause() {
        let steps = steps(&[(0.0, 2.0), (4.0, 0.5)]);
        assert_eq!(
            due_times_ms(&steps, 0.0, 5),
            [2_000, 2_250, 4_500, 4_750, 7_000]
        );
        let mut schedule = Schedule::with_steps(0, &steps, 0.0);
        assert_eq!(schedule.due(1_999_999_999, 0, 9), 0);
        // Late by far, a sender gets the messages of one step at a time.
        assert_eq!(schedule.due(60_000_000_000, 0, 9), 2);
        schedule.advance(2);
        assert_eq!(schedule.due(60_000_000_000, 2, 9), 2);
    }

    #[test]
    fn parts_of_messages_add_up_over_the_steps() {
        // Half a message a step: every other step has one.
        let steps = steps(&[(0.5, 1.0), (0.5, 1.0)]);
        assert_eq!(due_times_ms(&steps, 0.0, 3), [0, 2_000, 4_000]);
        assert_eq!(due_times_ms(&steps, 0.5, 3), [1_000, 3_000, 5_000]);
    }

    #[test]
    fn the_step_of_a_time_is_found_in_every_round() {
        let steps = steps(&[(10.0, 1.0), (20.0, 2.0)]);
        let at = |seconds: f64| step_at(&steps, (seconds * 1e9) as u64);
        assert_eq!([0.0, 0.9, 1.0, 2.9, 3.0, 4.5].map(at), [0, 0, 1, 1, 0, 1]);
    }
}
