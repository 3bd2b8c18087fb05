//! The window of unconfirmed publishes of one channel.

use std::collections::VecDeque;

/// How far the newest publish may run ahead of the oldest unconfirmed one, in windows. A broker
/// that forgets one confirm must not make the window grow for ever.
const SPAN_WINDOWS: usize = 16;

/// Marks an entry as confirmed; no message has this time.
const SETTLED: u64 = 0;

/// Publishes in order, each with its time until it is confirmed.
#[derive(Debug)]
pub(crate) struct ConfirmWindow {
    most: usize,
    outstanding: usize,
    /// The sequence number of the first entry of `times_ns`.
    first: u64,
    times_ns: VecDeque<u64>,
}

impl ConfirmWindow {
    /// A window of at most `most` unconfirmed publishes. AMQP counts publishes from 1.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most: most as usize,
            outstanding: 0,
            first: 1,
            times_ns: VecDeque::with_capacity(most as usize),
        }
    }

    /// How many more may be published now.
    #[inline]
    pub(crate) fn room(&self) -> u64 {
        let span = self.most * SPAN_WINDOWS;
        (self.most - self.outstanding).min(span.saturating_sub(self.times_ns.len())) as u64
    }

    /// Whether nothing is unconfirmed.
    pub(crate) fn is_empty(&self) -> bool {
        self.outstanding == 0
    }

    /// Notes the next publish; `time_ns` is not 0.
    #[inline]
    pub(crate) fn push(&mut self, time_ns: u64) {
        self.times_ns.push_back(time_ns);
        self.outstanding += 1;
    }

    /// Settles this publish, or all up to it, and calls `settled` with the time of each that
    /// wasn't settled before. Numbers that were never published are ignored.
    #[inline]
    pub(crate) fn settle(&mut self, sequence: u64, multiple: bool, mut settled: impl FnMut(u64)) {
        if sequence < self.first {
            return;
        }
        let index = (sequence - self.first) as usize;
        if multiple {
            for time_ns in self.times_ns.drain(..(index + 1).min(self.times_ns.len())) {
                self.first += 1;
                if time_ns != SETTLED {
                    self.outstanding -= 1;
                    settled(time_ns);
                }
            }
        } else if let Some(time_ns) = self
            .times_ns
            .get_mut(index)
            .filter(|time_ns| **time_ns != SETTLED)
        {
            settled(std::mem::replace(time_ns, SETTLED));
            self.outstanding -= 1;
        }
        while self.times_ns.front() == Some(&SETTLED) {
            self.times_ns.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(window: &mut ConfirmWindow, sequence: u64, multiple: bool) -> Vec<u64> {
        let mut times = Vec::new();
        window.settle(sequence, multiple, |time_ns| times.push(time_ns));
        times
    }

    #[test]
    fn singles_in_any_order_and_multiples_count_each_publish_once() {
        let mut window = ConfirmWindow::new(5);
        (101..=105).for_each(|time_ns| window.push(time_ns));
        assert_eq!(window.room(), 0);
        assert_eq!(settle(&mut window, 3, false), [103]);
        assert_eq!(settle(&mut window, 3, false), [0; 0]);
        assert_eq!(settle(&mut window, 4, true), [101, 102, 104]);
        assert_eq!(settle(&mut window, 2, true), [0; 0]);
        assert_eq!(window.room(), 4);
        assert_eq!(settle(&mut window, 99, true), [105]);
        assert!(window.is_empty());
        window.push(106);
        assert_eq!(settle(&mut window, 6, false), [106]);
    }

    #[test]
    fn a_forgotten_confirm_ends_the_run_ahead() {
        let mut window = ConfirmWindow::new(2);
        window.push(1);
        let mut sequence = 1;
        while window.room() > 0 {
            sequence += 1;
            window.push(sequence);
            settle(&mut window, sequence, false);
        }
        assert_eq!(sequence as usize, 2 * SPAN_WINDOWS);
    }
}
