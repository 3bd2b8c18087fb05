//! Consumers that keep a delivery for too long: their channel is closed (`consumer_timeout`,
//! `x-consumer-timeout`, the policies' `consumer-timeout`).
//!
//! Nothing is noted for a single delivery. Tags ascend, so it is enough to note at the end of a turn
//! which tag was the last by then: when such a note has grown as old as the timeout, whatever waits up to
//! its tag has waited too long. Notes within a small part of the timeout are one, which bounds how many
//! there are, and lets the verdict come by as much later.
//!
//! ```text
//! the last tag by   10 s: 7   12 s: 40   12.5 s: 41        timeout 5 s, now 17.1 s: who has 8 to 40?
//! ```

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::channel::Channel;
use super::connection::Connection;
use super::unacked::Unacked;
use super::{Phase, Session, SessionContext};
use crate::amqp::error::ChannelError;
use crate::amqp::method::MethodId;
use crate::base::{QueueId, Time, limits};

/// The timeouts of the queues that a channel takes messages from, and how far they have been minded.
#[derive(Default)]
pub(super) struct ConsumerTimeouts {
    of_queues: HashMap<QueueId, Duration>,
    /// One for each timeout that there is.
    watches: Vec<Watch>,
}

/// Deliveries that share a timeout.
struct Watch {
    timeout: Duration,
    notes: VecDeque<Note>,
    /// The last tag that is in a note.
    noted: u64,
    /// Up to this tag nothing has to be looked at again.
    checked: u64,
}

/// What had been delivered by then.
struct Note {
    at: Time,
    last_tag: u64,
}

impl ConsumerTimeouts {
    /// The channel takes messages from this queue, or its timeout is another one from now on.
    fn set(&mut self, queue: QueueId, timeout: Option<Duration>) {
        let before = match timeout {
            Some(timeout) => self.of_queues.insert(queue, timeout),
            None => self.of_queues.remove(&queue),
        };
        if before == timeout {
            return;
        }
        let used = &self.of_queues;
        self.watches
            .retain(|watch| used.values().any(|timeout| *timeout == watch.timeout));
        if let Some(timeout) = timeout {
            let mut watches = self.watches.iter_mut();
            match watches.find(|watch| watch.timeout == timeout) {
                Some(watch) => watch.look_again(),
                None => self.watches.push(Watch::new(timeout)),
            }
        }
    }

    /// Deliveries wait that were looked at, or weren't there.
    pub(super) fn look_again(&mut self) {
        self.watches.iter_mut().for_each(Watch::look_again);
    }

    /// End of a turn: notes what was delivered by now. When somebody may have had something for too long.
    fn note(&mut self, now: Time, last_tag: u64, unacked: &Unacked) -> Option<Time> {
        let deadlines = self
            .watches
            .iter_mut()
            .filter_map(|watch| watch.note(now, last_tag, unacked));
        deadlines.min()
    }

    /// The timeout that has passed for a delivery, if one has.
    fn passed(&mut self, now: Time, unacked: &Unacked) -> Option<Duration> {
        let of_queues = &self.of_queues;
        let mut watches = self.watches.iter_mut();
        watches.find_map(|watch| {
            let timeout = watch.timeout;
            let mut due = unacked.between(watch.take_due(now)?);
            let is_late = due.any(|delivery| of_queues.get(&delivery.queue) == Some(&timeout));
            is_late.then_some(timeout)
        })
    }
}

impl Watch {
    fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            notes: VecDeque::new(),
            noted: 0,
            checked: 0,
        }
    }

    fn look_again(&mut self) {
        self.noted = 0;
        self.checked = 0;
    }

    /// For how long notes are one.
    fn grain(&self) -> Duration {
        self.timeout / limits::CONSUMER_TIMEOUT_NOTES_MAX
    }

    fn deadline(&self) -> Option<Time> {
        let first = self.notes.front()?;
        Some(first.at + self.grain() + self.timeout)
    }

    fn note(&mut self, now: Time, last_tag: u64, unacked: &Unacked) -> Option<Time> {
        let first = unacked.first_tag().unwrap_or(u64::MAX);
        while self
            .notes
            .pop_front_if(|note| note.last_tag < first)
            .is_some()
        {}
        if last_tag > self.noted && first <= last_tag {
            self.noted = last_tag;
            let grain = self.grain();
            match self.notes.back_mut() {
                Some(note) if now.since(note.at) < grain => note.last_tag = last_tag,
                _ => self.notes.push_back(Note { at: now, last_tag }),
            }
        }
        self.deadline()
    }

    /// The tags that have to be looked at by now.
    fn take_due(&mut self, now: Time) -> Option<RangeInclusive<u64>> {
        let mut due = None;
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            due = self.notes.pop_front();
        }
        let last = due?.last_tag;
        let first = std::mem::replace(&mut self.checked, last) + 1;
        Some(first..=last)
    }
}

impl Channel {
    /// The channel takes messages from this queue that it is to acknowledge.
    pub(super) fn mind_timeout(
        &mut self,
        queue: QueueId,
        connection: &mut Connection,
        context: &SessionContext<'_>,
    ) {
        let timeout = context.consumer_timeout(queue);
        if timeout.is_none() && self.timeouts.is_none() {
            return;
        }
        let timeouts = self.timeouts.get_or_insert_default();
        timeouts.set(queue, timeout);
        if !connection.timed.contains(&self.number) {
            connection.timed.push(self.number);
        }
    }
}

impl SessionContext<'_> {
    fn consumer_timeout(&self, queue: QueueId) -> Option<Duration> {
        let default = self.settings.consumer_timeout;
        self.topology.consumer_timeout(queue, default)
    }
}

impl Session {
    /// Policies have changed, and with them what consumers may do.
    pub fn policies_changed(&mut self, context: &mut SessionContext<'_>) {
        for channel in self.channels.iter_mut().flatten() {
            let mut queues = channel.consumers.queues();
            if let Some(timeouts) = &channel.timeouts {
                queues.extend(timeouts.of_queues.keys());
            }
            for queue in queues {
                channel.mind_timeout(queue, &mut self.connection, context);
            }
        }
    }

    /// End of a turn: notes what was delivered on channels with timeouts.
    pub(super) fn note_deliveries(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let mut earliest = None::<Time>;
        let channels = &mut self.channels;
        self.connection.timed.retain(|number| {
            let Some(Some(channel)) = channels.get_mut(usize::from(*number)) else {
                return false;
            };
            let Some(timeouts) = &mut channel.timeouts else {
                return false;
            };
            let deadline = timeouts.note(now, channel.last_delivery_tag, &channel.unacked);
            earliest = earliest.into_iter().chain(deadline).min();
            true
        });
        if let Some(earliest) = earliest
            && self.timeout_due.is_none_or(|due| earliest < due)
        {
            self.timeout_due = Some(earliest);
            self.new_deadline = Some(earliest.min(self.heartbeat.next(now)));
        }
    }

    /// Closes the channels whose consumers have kept something for too long; when to look again.
    pub(super) fn close_timed_out(&mut self, context: &mut SessionContext<'_>) -> Option<Time> {
        let now = context.now;
        if self.timeout_due? > now {
            return self.timeout_due;
        }
        for number in self.connection.timed.clone() {
            let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
                continue;
            };
            if channel.is_open()
                && let Some(timeouts) = &mut channel.timeouts
                && let Some(timeout) = timeouts.passed(now, &channel.unacked)
            {
                let timeout_ms = timeout.as_millis() as u64;
                let user = &self.connection.user;
                context.notices.add(|| {
                    format!(
                        "channel {number} of a connection of user '{user}' closed: a delivery was not \
                         acknowledged within {timeout_ms} ms"
                    )
                });
                // It is nobody's answer.
                channel.blamed = MethodId::default();
                let error = ChannelError::AcknowledgementTimeout {
                    channel: number,
                    timeout_ms,
                };
                self.refuse(number, error.into(), context);
            }
        }
        // What is still to come is found at the end of this turn.
        self.timeout_due = None;
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::unacked::Delivery;
    use super::*;
    use crate::base::CoreId;

    const TIMEOUTS_MS: [Option<u64>; 3] = [Some(1_000), Some(60_000), None];

    fn queue(number: u8) -> QueueId {
        QueueId {
            index: u32::from(number),
            generation: 1,
        }
    }

    fn timeout(number: u8) -> Option<Duration> {
        TIMEOUTS_MS[usize::from(number)].map(Duration::from_millis)
    }

    fn delivery(tag: u64, number: u8) -> Delivery {
        Delivery {
            tag,
            core: CoreId(0),
            queue: queue(number),
            slot: tag as u32,
            consumer: 0,
        }
    }

    proptest! {
        /// Against a list of who has had what since when: never too early, and late by no more than a
        /// small part of the timeout.
        #[test]
        fn a_delivery_times_out_when_its_queues_time_is_over(
            steps in prop::collection::vec((0u8..6, 0u64..3_000), 1..400),
        ) {
            let mut timeouts = ConsumerTimeouts::default();
            for number in 0..3 {
                timeouts.set(queue(number), timeout(number));
            }
            let mut unacked = Unacked::default();
            let mut held: Vec<(u64, u8, Time)> = Vec::new();
            let (mut now, mut last_tag) = (Time(1), 0);
            for (kind, number) in steps {
                match kind {
                    0..=2 => {
                        last_tag += 1;
                        unacked.push(delivery(last_tag, kind));
                        held.push((last_tag, kind, now));
                    }
                    3 if !held.is_empty() => {
                        let (tag, ..) = held.remove(number as usize % held.len());
                        prop_assert!(unacked.take(tag).is_some());
                    }
                    _ => now = now + Duration::from_millis(number),
                }
                let due = timeouts.note(now, last_tag, &unacked);
                let passed = timeouts.passed(now, &unacked);
                let longest = held.iter().filter_map(|(_, queue, since)| {
                    timeout(*queue).map(|timeout| now.since(*since).as_secs_f64() / timeout.as_secs_f64())
                });
                let longest = longest.fold(0.0, f64::max);
                match passed {
                    Some(_) => prop_assert!(longest >= 1.0, "too early: {longest}"),
                    None => prop_assert!(longest < 1.001, "too late: {longest}"),
                }
                if longest > 0.0 && passed.is_none() {
                    prop_assert!(due.is_some(), "nobody would look");
                }
                if passed.is_some() {
                    break; // The channel is closed.
                }
            }
            for watch in &timeouts.watches {
                prop_assert!(watch.notes.len() <= limits::CONSUMER_TIMEOUT_NOTES_MAX as usize + 2);
            }
        }
    }

    #[test]
    fn notes_are_few_however_many_deliveries_wait() {
        let mut timeouts = ConsumerTimeouts::default();
        timeouts.set(queue(1), timeout(1));
        let mut unacked = Unacked::default();
        for tag in 1..=50_000 {
            unacked.push(delivery(tag, 1));
            let now = Time(tag * 1_000_000);
            timeouts.note(now, tag, &unacked);
            assert_eq!(timeouts.passed(now, &unacked), None);
        }
        assert!(timeouts.watches[0].notes.len() <= limits::CONSUMER_TIMEOUT_NOTES_MAX as usize);
    }

    #[test]
    fn a_queue_that_gets_a_timeout_later_has_it_for_what_is_out_already() {
        let mut timeouts = ConsumerTimeouts::default();
        let mut unacked = Unacked::default();
        unacked.push(delivery(1, 2));
        assert_eq!(timeouts.note(Time(1), 1, &unacked), None);
        timeouts.set(queue(2), Some(Duration::from_secs(1)));
        let due = timeouts
            .note(Time(2), 1, &unacked)
            .expect("it is minded now");
        assert_eq!(timeouts.passed(due, &unacked), Some(Duration::from_secs(1)));
        timeouts.look_again();
        timeouts.set(queue(2), None);
        assert_eq!(timeouts.note(due, 1, &unacked), None);
        assert!(timeouts.watches.is_empty(), "nobody has it any more");
    }
}
