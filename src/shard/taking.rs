//! Who takes messages: consumers as they come and go, and `basic.get`.

use super::leaving::Waiting;
use super::{Shard, ShardContext, find, names, no_queue};
use crate::amqp::error::ChannelError;
use crate::base::{QueueId, SessionId};
use crate::mail::{Answer, Batch, Consume, Got, NO_SLOT, Rebind, ToSession};
use crate::model::queue::Consumer;

/// A `basic.get`.
#[derive(Clone, Copy)]
pub(super) struct Getting {
    pub(super) session: SessionId,
    pub(super) channel: u16,
    pub(super) no_ack: bool,
}

/// Whoever waits for a queue's answer.
#[derive(Default)]
pub(super) struct Callers {
    /// What waits while it is frozen.
    pub(super) waiting: Vec<Waiting>,
    /// `basic.get`s that wait for messages from the log.
    pub(super) getting: Vec<Getting>,
}

impl Shard {
    pub(super) fn consume(&mut self, consume: &Consume, context: &mut ShardContext<'_>) {
        let (session, channel, id) = (consume.session, consume.channel, consume.queue);
        if let Some(owned) = self.owned(id)
            && owned.frozen
        {
            owned
                .callers
                .get_or_insert_default()
                .waiting
                .push(Waiting::Consume(consume.clone()));
            return;
        }
        // Attaching delivers at once, and `consume-ok` must stand in the ring before the first
        // delivery: so check, answer, attach.
        let Some(owned) = self.owned(id) else {
            let error = no_queue(id, context.topology);
            context.answer(session, channel, Answer::Refused(error.into()));
            return;
        };
        if !owned.queue.admits(consume.exclusive) {
            let (queue, vhost) = names(id, context.topology);
            let error = ChannelError::ExclusiveUse { queue, vhost };
            context.answer(session, channel, Answer::Refused(error.into()));
            return;
        }
        context.answer(session, channel, Answer::Consuming);
        let consumer = Consumer {
            session,
            channel,
            number: consume.consumer,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority: consume.priority,
            prefetch: u32::from(consume.prefetch),
            credits: consume.metered.then_some(0),
            paused: consume.paused,
        };
        self.with_queue(id, context, |queue, sink| queue.consume(consumer, sink));
    }

    pub(super) fn cancel(
        &mut self,
        session: SessionId,
        consumer: u32,
        queue: QueueId,
        context: &mut ShardContext<'_>,
    ) {
        let Some(owned) = self.owned(queue) else {
            return;
        };
        let was_there = owned.queue.cancel((session, consumer));
        let deserted = owned.queue.consumer_count() == 0;
        if was_there && owned.auto_delete && deserted && !owned.frozen {
            owned.frozen = true;
            self.leaving.push((queue, session));
            let touched = context.topology.queue_touches(queue);
            Self::propose(queue, touched, None, context);
        } else if was_there && deserted {
            self.used(queue);
        }
        // Where one consumer is served alone, it is another's turn.
        self.with_queue(queue, context, |queue, sink| queue.pump(sink));
    }

    /// A session moves: what its consumers are sent from now on goes to its new core, and the sign that this is so
    /// stands in the ring behind all that went to the old one. It has no question open and no confirm to come; what it
    /// published and may get back is renamed.
    pub(super) fn rebind(&mut self, rebind: &Rebind, context: &mut ShardContext<'_>) {
        let Rebind { from, to, .. } = *rebind;
        for (queue, consumer) in &rebind.consumers {
            if let Some(owned) = self.owned(*queue) {
                owned.queue.rebind((from, *consumer), to);
            }
        }
        self.links.rebind(from, to);
        self.deduplication.rebind(from, to);
        let to_session = &mut context.outbox.to(from.core).to_session;
        to_session.push(ToSession::Rebound { session: from });
    }

    /// How many messages and consumers a queue has, for whoever declares it.
    pub(super) fn count(
        &mut self,
        (session, channel): (SessionId, u16),
        queue: QueueId,
        context: &mut ShardContext<'_>,
    ) {
        self.used(queue);
        let counts = self.owned(queue).map(|owned| Answer::Counts {
            messages: owned.queue.ready_count() as u64,
            consumers: owned.queue.consumer_count() as u32,
        });
        // A queue that went between its declaration and the count is an empty one.
        let none = Answer::Counts {
            messages: 0,
            consumers: 0,
        };
        context.answer(session, channel, counts.unwrap_or(none));
    }

    /// Takes the first message out for `basic.get`, as soon as it is in memory.
    pub(super) fn get(&mut self, id: QueueId, getting: Getting, context: &mut ShardContext<'_>) {
        let Getting {
            session,
            channel,
            no_ack,
        } = getting;
        let now_ms = self.now_ms();
        let leave_from = self.memory.leave_from(&self.journal);
        let Some(owned) = find(&mut self.queues, id) else {
            return context.answer(session, channel, Answer::Empty);
        };
        if owned.queue.is_consumed_only() {
            let (queue, vhost) = names(id, context.topology);
            let error = ChannelError::GetFromSingleActive { queue, vhost };
            return context.answer(session, channel, Answer::Refused(error.into()));
        }
        if owned.queue.is_starved() {
            owned.callers.get_or_insert_default().getting.push(getting);
            return self.fetch_and_serve(id, context);
        }
        let taken = owned.queue.get(no_ack, now_ms, leave_from);
        let ready = owned.queue.ready_count();
        if taken.is_none() && ready > 0 {
            // What was in memory has expired.
            owned.callers.get_or_insert_default().getting.push(getting);
            self.gather(id);
            return self.fetch_and_serve(id, context);
        }
        let Some(mut taken) = taken else {
            self.gather(id);
            return context.answer(session, channel, Answer::Empty);
        };
        if no_ack && let Some(slot) = taken.slot.take() {
            let gone = owned.queue.settle(slot);
            owned.forget(gone, &mut self.journal, self.now);
        }
        owned.account(&mut self.memory);
        let mut batch = Batch::default();
        let mut message = taken.message.as_ref();
        if let Some(properties) = &taken.properties {
            message.properties = properties;
        }
        let message = batch.write_message(&message);
        let got = Got {
            core: context.outbox.own(),
            queue: id,
            slot: taken.slot.unwrap_or(NO_SLOT),
            redelivered: taken.redelivered,
            messages: ready as u64,
            batch,
            message,
        };
        context.answer(session, channel, Answer::Got(Box::new(got)));
        self.gather(id);
        self.fetch_and_serve(id, context);
    }
}
