//! What a consumer does with a message besides receiving it: something that takes a while (-L, -vl).
//!
//! A thread serves many consumers, so none of them may sleep, nor may it look at the clock in vain.
//! Instead the times are reckoned: a consumer begins with a message when it has arrived and the one
//! before is done, and is done with it the latency later. The thread sleeps until the next message
//! of any consumer is done. If it comes late, the message was still done at its own time, and the
//! next one begun: only the acknowledgement is late. A consumer that waits for a commit (-n) begins
//! with nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::options::Settings;
use crate::schedule::{Step, step_at};

/// How long a consumer takes for a message.
#[derive(Clone, Debug)]
pub(crate) enum HandlingTime {
    Nanoseconds(u64),
    /// Microseconds that change over time, counted from this start.
    Steps {
        steps: Arc<[Step]>,
        start_ns: u64,
    },
}

impl HandlingTime {
    /// `None` if the settings ask for no time at all, nor for waiting for commits: messages are then
    /// done when they arrive.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        if !settings.variable_latency.is_empty() {
            return Some(Self::Steps {
                steps: settings.variable_latency.as_slice().into(),
                start_ns: 0,
            });
        }
        let time_ns = settings.consumer_latency_us * 1_000;
        let waits = time_ns > 0 || settings.consumer_transaction.is_some();
        waits.then_some(Self::Nanoseconds(time_ns))
    }

    /// The run begins: steps count from here.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        if let Self::Steps { start_ns, .. } = self {
            *start_ns = now_ns;
        }
    }

    fn of_one_begun_at(&self, begun_ns: u64) -> u64 {
        match self {
            Self::Nanoseconds(time_ns) => *time_ns,
            Self::Steps { steps, start_ns } => {
                let step = steps[step_at(steps, begun_ns.saturating_sub(*start_ns))];
                (step.value * 1e3) as u64
            }
        }
    }
}

/// A message that a consumer has not done yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) arrived_ns: u64,
    pub(crate) delivery_tag: u64,
    /// The message's stamp, 0 if it has none.
    pub(crate) time_ns: u64,
}

/// A message that a consumer is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handled {
    pub(crate) delivery_tag: u64,
    /// From the message's stamp to the moment when the consumer began with it.
    pub(crate) latency_ns: Option<u64>,
}

/// One consumer's messages, oldest first; it is busy with the first one.
#[derive(Debug, Default)]
pub(crate) struct Handler {
    waiting: VecDeque<Arrival>,
    /// When the last one was done.
    free_ns: u64,
}

impl Handler {
    pub(crate) fn take(&mut self, arrival: Arrival) {
        self.waiting.push_back(arrival);
    }

    /// When the next message is done, if there is one.
    pub(crate) fn done_at_ns(&self, time: &HandlingTime) -> Option<u64> {
        let begun_ns = self.begun_ns()?;
        Some(begun_ns.saturating_add(time.of_one_begun_at(begun_ns)))
    }

    /// A message that is done by now. Call it until there is none.
    pub(crate) fn next_done(&mut self, now_ns: u64, time: &HandlingTime) -> Option<Handled> {
        let begun_ns = self.begun_ns()?;
        let done_ns = self.done_at_ns(time).filter(|&done_ns| done_ns <= now_ns)?;
        let arrival = self.waiting.pop_front()?;
        self.free_ns = done_ns;
        Some(Handled {
            delivery_tag: arrival.delivery_tag,
            latency_ns: (arrival.time_ns != 0).then(|| begun_ns.saturating_sub(arrival.time_ns)),
        })
    }

    /// The consumer begins with nothing before it is told to go on.
    pub(crate) fn wait(&mut self) {
        self.free_ns = u64::MAX;
    }

    pub(crate) fn go_on(&mut self, now_ns: u64) {
        self.free_ns = now_ns;
    }

    fn begun_ns(&self) -> Option<u64> {
        let first = self.waiting.front()?;
        Some(first.arrived_ns.max(self.free_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(arrivals_ns: &[u64]) -> Handler {
        let mut handler = Handler::default();
        for (arrived_ns, delivery_tag) in arrivals_ns.iter().copied().zip(1..) {
            handler.take(Arrival {
                arrived_ns,
                delivery_tag,
                time_ns: 5,
            });
        }
        handler
    }

    /// The tags and latencies of what is done by now.
    fn done(handler: &mut Handler, now_ns: u64, time: &HandlingTime) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| handler.next_done(now_ns, time))
            .map(|handled| (handled.delivery_tag, handled.latency_ns.expect("a stamp")))
            .collect()
    }

    #[test]
    fn a_message_begins_when_the_one_before_is_done() {
        let time = HandlingTime::Nanoseconds(100);
        let mut handler = handler(&[10, 20, 500]);
        assert_eq!(handler.done_at_ns(&time), Some(110));
        assert_eq!(done(&mut handler, 109, &time), []);
        assert_eq!(done(&mut handler, 110, &time), [(1, 5)]);
        assert_eq!(handler.done_at_ns(&time), Some(210));
        assert_eq!(done(&mut handler, 599, &time), [(2, 105)]);
        assert_eq!(done(&mut handler, 600, &time), [(3, 495)]);
        assert_eq!(handler.done_at_ns(&time), None);
    }

    #[test]
    fn a_late_thread_makes_no_consumer_slower() {
        let time = HandlingTime::Nanoseconds(100);
        let mut handler = handler(&[0; 5]);
        // It looks at 350 only: by then three are done, and the fourth is under way for 50.
        assert_eq!(done(&mut handler, 350, &time).len(), 3);
        assert_eq!(handler.done_at_ns(&time), Some(400));
    }

    #[test]
    fn the_time_is_that_of_the_step_in_which_a_message_is_begun() {
        let steps = [(0.0, 1.0), (400_000.0, 1.0)];
        let steps = steps.map(|(value, seconds)| Step { value, seconds });
        let time = HandlingTime::Steps {
            steps: steps.into(),
            start_ns: 0,
        };
        let ms = |ms: u64| ms * 1_000_000;
        let mut handler = handler(&[ms(999), ms(1_000), ms(1_001), ms(1_002), ms(1_003)]);
        assert_eq!(done(&mut handler, ms(999), &time).len(), 1);
        // Begun at 1,000, 1,400 and 1,800, and the last in the next round, which takes no time.
        assert_eq!(handler.done_at_ns(&time), Some(ms(1_400)));
        assert_eq!(done(&mut handler, ms(2_199), &time).len(), 2);
        assert_eq!(done(&mut handler, ms(2_200), &time).len(), 2);
    }

    #[test]
    fn nothing_is_begun_before_the_consumer_may_go_on() {
        let time = HandlingTime::Nanoseconds(100);
        let mut handler = handler(&[10, 20]);
        handler.wait();
        assert_eq!(done(&mut handler, 1_000, &time), []);
        handler.go_on(2_000);
        assert_eq!(done(&mut handler, 2_199, &time), [(1, 1_995)]);
    }

    #[test]
    fn a_message_without_a_stamp_has_no_latency() {
        let mut handler = Handler::default();
        handler.take(Arrival {
            arrived_ns: 3,
            delivery_tag: 1,
            time_ns: 0,
        });
        let handled = handler.next_done(3, &HandlingTime::Nanoseconds(0));
        assert_eq!(handled.expect("it takes no time").latency_ns, None);
    }
}
