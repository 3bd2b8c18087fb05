//! Consumers that keep a delivery for too long: their channel is closed (`consumer_timeout`,
//! `x-consumer-timeout`, the policies' `consumer-timeout`). What a consumer asks for itself counts before
//! what holds for its queue, as in RabbitMQ 4.3 (`consumer_timeouts.md` there).
//!
//! Nothing is noted for a single delivery. Tags ascend, so it is enough to note at the end of a turn
//! which tag was the last by then: when such a note has grown as old as the timeout, whatever waits up to
//! its tag has waited too long. Notes within a small part of the timeout are one, which bounds how many
//! there are, and lets the verdict come by as much later.
//!
//! ```text
//! the last tag by   10 s: 7   12 s: 40   12.5 s: 41        timeout 5 s, now 17.1 s: who has 8 to 40?
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::channel::Channel;
use super::connection::Connection;
use super::unacked::Unacked;
use super::{Phase, Session, SessionContext};
use crate::amqp::error::ChannelError;
use crate::amqp::method::MethodId;
use crate::base::{QueueId, Time, limits};

/// The timeouts of a channel's consumers and of the queues that it takes messages from, and how far they have
/// been minded.
#[derive(Default)]
pub(super) struct ConsumerTimeouts {
    of_queues: HashMap<QueueId, Duration>,
    /// By the consumers' numbers, which are given away again when a consumer has gone; what it holds stays.
    of_consumers: HashMap<u32, Vec<Own>>,
    /// One for each timeout that there is.
    watches: Vec<Watch>,
}

/// What the consumers of one number ask for themselves.
struct Own {
    /// It holds for deliveries with higher tags, up to the next one's.
    after: u64,
    timeout: OwnTimeout,
}

/// None: that of the queue holds. None inside: there is none.
type OwnTimeout = Option<Option<Duration>>;

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
        if before != timeout {
            self.forget_unused();
            self.watch(timeout);
        }
    }

    /// A consumer comes that is called by that number, after the delivery with that tag. `first_tag`: none
    /// below it waits.
    fn begin_consumer(&mut self, number: u32, timeout: OwnTimeout, after: u64, first_tag: u64) {
        if timeout.is_none() && !self.of_consumers.contains_key(&number) {
            return;
        }
        let owns = self.of_consumers.entry(number).or_default();
        owns.push(Own { after, timeout });
        let done = owns
            .iter()
            .skip(1)
            .take_while(|next| next.after < first_tag);
        let done = done.count();
        owns.drain(..done);
        if let [Own { timeout: None, .. }] = owns[..] {
            self.of_consumers.remove(&number);
        }
        if done > 0 {
            self.forget_unused();
        }
        self.watch(timeout.flatten());
    }

    /// Whether a consumer may ask for this as well.
    fn has_room_for(&self, timeout: Duration) -> bool {
        let mut watches = self.watches.iter();
        self.watches.len() < limits::OWN_CONSUMER_TIMEOUTS_MAX
            || watches.any(|watch| watch.timeout == timeout)
    }

    fn forget_unused(&mut self) {
        let own = self.of_consumers.values().flatten();
        let own = own.filter_map(|own| own.timeout.flatten());
        let used: HashSet<_> = own.chain(self.of_queues.values().copied()).collect();
        self.watches.retain(|watch| used.contains(&watch.timeout));
    }

    fn watch(&mut self, timeout: Option<Duration>) {
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
        let (of_queues, of_consumers) = (&self.of_queues, &self.of_consumers);
        let mut watches = self.watches.iter_mut();
        watches.find_map(|watch| {
            let timeout = watch.timeout;
            let mut due = unacked.between(watch.take_due(now)?);
            let is_late = due.any(|delivery| {
                let owns = of_consumers.get(&delivery.consumer);
                let own = owns.and_then(|owns| own_timeout(owns, delivery.tag));
                own.unwrap_or_else(|| of_queues.get(&delivery.queue).copied()) == Some(timeout)
            });
            is_late.then_some(timeout)
        })
    }
}

fn own_timeout(owns: &[Own], tag: u64) -> OwnTimeout {
    let own = owns.iter().rev().find(|own| own.after < tag);
    own.and_then(|own| own.timeout)
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
        if timeout.is_some() || self.timeouts.is_some() {
            self.timed(connection).set(queue, timeout);
        }
    }

    /// A consumer of that number asks for this, or for nothing.
    pub(super) fn mind_own_timeout(
        &mut self,
        number: u32,
        own: OwnTimeout,
        connection: &mut Connection,
    ) {
        if own.is_some() || self.timeouts.is_some() {
            let first_tag = self.unacked.first_tag().unwrap_or(u64::MAX);
            let after = self.last_delivery_tag;
            self.timed(connection)
                .begin_consumer(number, own, after, first_tag);
        }
    }

    /// Refuses a consumer that asks for yet another time.
    pub(super) fn check_own_timeout(&self, own: OwnTimeout) -> Result<(), ChannelError> {
        if let (Some(timeouts), Some(Some(own))) = (&self.timeouts, own)
            && !timeouts.has_room_for(own)
        {
            let most = limits::OWN_CONSUMER_TIMEOUTS_MAX;
            return Err(ChannelError::PreconditionFailed(format!(
                "the consumers of a channel may have {most} different timeouts"
            )));
        }
        Ok(())
    }

    fn timed(&mut self, connection: &mut Connection) -> &mut ConsumerTimeouts {
        if !connection.timed.contains(&self.number) {
            connection.timed.push(self.number);
        }
        self.timeouts.get_or_insert_default()
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

    /// Of a queue, to a consumer that is called by the queue's number as well.
    fn delivery(tag: u64, number: u8) -> Delivery {
        Delivery {
            tag,
            core: CoreId(0),
            queue: queue(number),
            slot: tag as u32,
            consumer: u32::from(number),
        }
    }

    fn own_timeout() -> impl Strategy<Value = OwnTimeout> {
        let own = prop::sample::select(&[0, 2_000, 60_000][..]);
        prop::option::of(own.prop_map(|ms| (ms > 0).then(|| Duration::from_millis(ms))))
    }

    proptest! {
        /// Against a list of who has had what since when: never too early, and late by no more than a
        /// small part of the timeout. What a consumer has when it goes keeps its time, whoever has its number then.
        #[test]
        fn a_delivery_times_out_when_its_consumers_time_is_over_or_else_its_queues(
            steps in prop::collection::vec((0u8..7, 0u64..3_000, own_timeout()), 1..400),
        ) {
            let mut timeouts = ConsumerTimeouts::default();
            for number in 0..3 {
                timeouts.set(queue(number), timeout(number));
            }
            let mut unacked = Unacked::default();
            let mut held: Vec<(u64, Option<Duration>, Time)> = Vec::new();
            let (mut now, mut last_tag, mut owns) = (Time(1), 0, [None; 3]);
            for (kind, number, own) in steps {
                match kind {
                    0..=2 => {
                        last_tag += 1;
                        unacked.push(delivery(last_tag, kind));
                        let timeout = owns[usize::from(kind)].unwrap_or_else(|| timeout(kind));
                        held.push((last_tag, timeout, now));
                    }
                    6 => {
                        let number = number as usize % owns.len();
                        owns[number] = own;
                        let first_tag = unacked.first_tag().unwrap_or(u64::MAX);
                        timeouts.begin_consumer(number as u32, own, last_tag, first_tag);
                    }
                    3 if !held.is_empty() => {
                        let (tag, ..) = held.remove(number as usize % held.len());
                        prop_assert!(unacked.take(tag).is_some());
                    }
                    _ => now = now + Duration::from_millis(number),
                }
                let due = timeouts.note(now, last_tag, &unacked);
                let passed = timeouts.passed(now, &unacked);
                let longest = held.iter().filter_map(|(_, timeout, since)| {
                    timeout.map(|timeout| now.since(*since).as_secs_f64() / timeout.as_secs_f64())
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
            prop_assert!(timeouts.watches.len() <= TIMEOUTS_MS.len());
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
    fn consumers_that_come_and_go_leave_nothing_behind() {
        let mut timeouts = ConsumerTimeouts::default();
        for tag in 0..1_000 {
            let own = Some(Some(Duration::from_millis(1 + tag)));
            timeouts.begin_consumer(1, own, tag, u64::MAX);
            assert_eq!(
                (timeouts.of_consumers.len(), timeouts.watches.len()),
                (1, 1)
            );
        }
        timeouts.begin_consumer(1, None, 1_000, 1_000);
        assert_eq!(timeouts.watches.len(), 1, "what it has is minded still");
        timeouts.begin_consumer(1, None, 1_001, 1_002);
        assert!(timeouts.of_consumers.is_empty() && timeouts.watches.is_empty());
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
