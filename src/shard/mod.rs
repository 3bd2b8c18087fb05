//! One core's queues: commands in, mail out. PURE.
//!
//! A shard owns queues and nobody else touches them. It is told what to do by mail ([`ToShard`]),
//! answers by mail, and learns from the catalog, through the topology's changes, which queues it has.

mod confirms;
mod growth;
mod links;

use confirms::Confirms;
use growth::Growth;
use links::{Deliveries, Links};

use crate::amqp::error::ChannelError;
use crate::base::{CoreId, Name, QueueId, SessionId, Time, limits};
use crate::mail::{
    Answer, Batch, Consume, Got, Mail, NO_SLOT, Outbox, Outcome, Publish, Settle, ToCatalog,
    ToSession, ToShard,
};
use crate::model::queue::{Consumer, Incoming, Queue, Rubbish};
use crate::model::{QueueDefinition, Topology};

/// One core's queues.
#[derive(Default)]
pub struct Shard {
    /// By [`QueueId::index`]; queues of other cores leave holes.
    queues: Vec<Option<Box<Owned>>>,
    links: Links,
    confirms: Confirms,
    rubbish: Vec<Rubbish>,
    /// Auto-delete queues that are proposed for deletion, and whose last consumer's session did it.
    leaving: Vec<(QueueId, SessionId)>,
    /// Fences that wait for that.
    held: Vec<(QueueId, SessionId, u16)>,
    /// The time of this turn.
    now: Time,
}

/// A queue of this core.
struct Owned {
    id: QueueId,
    queue: Queue,
    auto_delete: bool,
    /// A proposal to delete it is under way: what could change its mind waits.
    frozen: bool,
    /// What waits while it is frozen.
    waiting: Vec<Waiting>,
    growth: Growth,
}

/// Commands that must not meet a queue which may be about to go.
enum Waiting {
    Consume(Consume),
    Delete(Delete),
}

#[derive(Clone, Copy)]
struct Delete {
    session: SessionId,
    channel: u16,
    queue: QueueId,
    if_unused: bool,
    if_empty: bool,
}

/// What a shard works with besides its own state.
pub struct ShardContext<'a> {
    /// The core's copy of the topology.
    pub topology: &'a Topology,
    /// Where answers and deliveries go.
    pub outbox: &'a mut Outbox,
}

impl ShardContext<'_> {
    fn answer(&mut self, session: SessionId, channel: u16, answer: Answer) {
        self.outbox
            .to(session.core)
            .to_session
            .push(ToSession::Answer {
                session,
                channel,
                answer: Box::new(answer),
            });
    }
}

impl Shard {
    /// Carries out a batch of commands.
    pub fn handle(&mut self, mail: &Mail, context: &mut ShardContext<'_>) {
        let batch = &mail.to_shard;
        for command in batch.records() {
            match command {
                ToShard::Publish(publish) => self.publish(publish, batch, context),
                ToShard::Settle(settle) => self.settle(settle, batch, context),
                other => self.command(other, context),
            }
        }
        self.confirms.send(context.outbox);
        self.links.end_batch();
    }

    /// A queue of this core was created.
    pub fn create(&mut self, id: QueueId, definition: &QueueDefinition) {
        let index = id.index as usize;
        if self.queues.len() <= index {
            self.queues.resize_with(index + 1, || None);
        }
        self.queues[index] = Some(Box::new(Owned {
            id,
            queue: Queue::default(),
            auto_delete: definition.auto_delete,
            frozen: false,
            waiting: Vec::new(),
            growth: Growth::default(),
        }));
    }

    /// A queue of this core was deleted. Its consumers are told; how many ready messages it had.
    /// `context` still knows the queue.
    pub fn delete(&mut self, id: QueueId, context: &mut ShardContext<'_>) -> u64 {
        let Some(slot) = self.queues.get_mut(id.index as usize) else {
            return 0;
        };
        let Some(owned) = slot.take_if(|owned| owned.id == id) else {
            return 0;
        };
        for consumer in owned.queue.consumers() {
            context.outbox.to(consumer.session.core).to_session.push(
                ToSession::ConsumerCancelled {
                    session: consumer.session,
                    channel: consumer.channel,
                    consumer: consumer.number,
                },
            );
        }
        for waiting in &owned.waiting {
            Self::refuse_waiting(waiting, id, context);
        }
        let rubbish = owned.queue.into_rubbish();
        let messages = rubbish.ready_count() as u64;
        self.rubbish.push(rubbish);
        messages
    }

    /// A proposal to delete a queue is decided: it was refused, or every core has forgotten it.
    pub fn unfreeze(&mut self, id: QueueId, context: &mut ShardContext<'_>) {
        self.leaving.retain(|(queue, _)| *queue != id);
        let (released, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(queue, ..)| *queue == id);
        self.held = held;
        let released: Vec<_> = released;
        for (_, session, channel) in released {
            self.fence(session, channel, context);
        }
        let Some(owned) = self.owned(id) else { return };
        owned.frozen = false;
        for waiting in std::mem::take(&mut owned.waiting) {
            match waiting {
                Waiting::Consume(consume) => self.consume(&consume, context),
                Waiting::Delete(delete) => self.propose_delete(delete, context),
            }
        }
    }

    /// Whether [`Shard::begin_turn`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.rubbish.is_empty()
    }

    /// Begins a turn, with its share of the work that needs no input: dropping the messages of purged
    /// and deleted queues.
    pub fn begin_turn(&mut self, now: Time) {
        self.now = now;
        if let Some(rubbish) = self.rubbish.last_mut()
            && rubbish.drop_some(limits::JOB_STEPS_PER_TURN)
        {
            self.rubbish.pop();
        }
    }

    fn owned(&mut self, id: QueueId) -> Option<&mut Owned> {
        let owned = self.queues.get_mut(id.index as usize)?.as_deref_mut()?;
        (owned.id == id).then_some(owned)
    }

    fn publish(
        &mut self,
        publish: &Publish,
        batch: &Batch<ToShard>,
        context: &mut ShardContext<'_>,
    ) {
        let mut incoming = Incoming::new(batch.message(&publish.message));
        let (ids, _) = batch.bytes(publish.queues).as_chunks::<8>();
        let mut ease = None;
        for id in ids {
            let id = QueueId::from_bytes(*id);
            // A queue that was deleted while the message was on its way takes it along.
            let Some(Some(owned)) = self.queues.get_mut(id.index as usize) else {
                continue;
            };
            if owned.id != id {
                continue;
            }
            let mut sink = Deliveries::new(id, &mut self.links, context.outbox);
            owned.queue.publish(&mut incoming, &mut sink);
            owned.growth.departed(self.now, sink.delivered);
            ease = ease.max(owned.growth.eases(self.now, owned.queue.ready_count()));
        }
        if publish.confirm != 0 {
            self.confirms
                .settled(publish.session, publish.channel, publish.confirm);
        }
        if let Some(how) = ease {
            self.links.ease(publish.session, how, context.outbox);
        }
    }

    fn settle(&mut self, settle: &Settle, batch: &Batch<ToShard>, context: &mut ShardContext<'_>) {
        let Some(Some(owned)) = self.queues.get_mut(settle.queue.index as usize) else {
            return;
        };
        if owned.id != settle.queue {
            return;
        }
        let (slots, _) = batch.bytes(settle.slots).as_chunks::<4>();
        for slot in slots {
            let slot = u32::from_le_bytes(*slot);
            match settle.outcome {
                Outcome::Ack | Outcome::Discard => owned.queue.settle(slot),
                Outcome::Requeue => owned.queue.requeue(slot),
            }
        }
        let mut sink = Deliveries::new(settle.queue, &mut self.links, context.outbox);
        owned.queue.pump(&mut sink);
        owned.growth.departed(self.now, sink.delivered);
    }

    /// Everything that isn't a message or its acknowledgement.
    fn command(&mut self, command: &ToShard, context: &mut ShardContext<'_>) {
        match *command {
            ToShard::Publish(_) | ToShard::Settle(_) => {}
            ToShard::WindowReturn {
                session,
                messages,
                bytes,
            } => self.window_return(session, messages, bytes, context),
            ToShard::Consume(ref consume) => self.consume(consume, context),
            ToShard::Cancel {
                session,
                consumer,
                queue,
            } => self.cancel(session, consumer, queue, context),
            ToShard::Grant {
                session,
                channel,
                consumer,
                queue,
                credits,
            } => {
                let left = self.with_queue(queue, context, |queue, sink| {
                    queue.grant((session, consumer), credits, sink)
                });
                if let Some(credits @ 1..) = left.or(Some(credits)) {
                    context
                        .outbox
                        .to(session.core)
                        .to_session
                        .push(ToSession::Surrender {
                            session,
                            channel,
                            consumer,
                            credits,
                        });
                }
            }
            ToShard::Meter {
                session,
                consumer,
                queue,
                metered,
            } => {
                self.with_queue(queue, context, |queue, sink| {
                    queue.meter((session, consumer), metered, sink);
                });
            }
            ToShard::Pause {
                session,
                consumer,
                queue,
                paused,
            } => {
                self.with_queue(queue, context, |queue, sink| {
                    queue.pause((session, consumer), paused, sink);
                });
            }
            ToShard::Get {
                session,
                channel,
                queue,
                no_ack,
            } => self.get(session, channel, queue, no_ack, context),
            ToShard::Count {
                session,
                channel,
                queue,
            } => {
                let counts = self.owned(queue).map(|owned| {
                    let consumers = owned.queue.consumer_count() as u32;
                    (owned.queue.ready_count() as u64, consumers)
                });
                // A queue that went between its declaration and the count is an empty one.
                let (messages, consumers) = counts.unwrap_or_default();
                context.answer(
                    session,
                    channel,
                    Answer::Counts {
                        messages,
                        consumers,
                    },
                );
            }
            ToShard::Purge {
                session,
                channel,
                queue,
            } => self.purge(session, channel, queue, context),
            ToShard::Delete {
                session,
                channel,
                queue,
                if_unused,
                if_empty,
            } => self.propose_delete(
                Delete {
                    session,
                    channel,
                    queue,
                    if_unused,
                    if_empty,
                },
                context,
            ),
            ToShard::Fence { session, channel } => self.fence(session, channel, context),
            ToShard::SessionGone { session } => self.links.forget(session),
        }
    }

    /// A session asks whether all it sent is carried out. The deletion of an auto-delete queue whose
    /// last consumer it took away is part of that: who hears `cancel-ok` finds the queue gone.
    fn fence(&mut self, session: SessionId, channel: u16, context: &mut ShardContext<'_>) {
        let mut leaving = self.leaving.iter();
        match leaving.find(|(_, deserter)| *deserter == session) {
            Some((queue, _)) => self.held.push((*queue, session, channel)),
            None => context.answer(session, channel, Answer::Done),
        }
    }

    /// Runs `act` on a queue with a sink for its deliveries; none if the queue is gone.
    fn with_queue<R>(
        &mut self,
        id: QueueId,
        context: &mut ShardContext<'_>,
        act: impl FnOnce(&mut Queue, &mut Deliveries<'_>) -> R,
    ) -> Option<R> {
        let owned = self.queues.get_mut(id.index as usize)?.as_deref_mut()?;
        if owned.id != id {
            return None;
        }
        let mut sink = Deliveries::new(id, &mut self.links, context.outbox);
        let result = act(&mut owned.queue, &mut sink);
        owned.growth.departed(self.now, sink.delivered);
        Some(result)
    }

    fn window_return(
        &mut self,
        session: SessionId,
        messages: u32,
        bytes: u32,
        context: &mut ShardContext<'_>,
    ) {
        for (queue, consumer) in self.links.give_back(session, messages, bytes) {
            self.with_queue(queue, context, |queue, sink| {
                queue.resume((session, consumer), sink);
            });
        }
    }

    fn consume(&mut self, consume: &Consume, context: &mut ShardContext<'_>) {
        let (session, channel, id) = (consume.session, consume.channel, consume.queue);
        if let Some(owned) = self.owned(id)
            && owned.frozen
        {
            owned.waiting.push(Waiting::Consume(consume.clone()));
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
            prefetch: u32::from(consume.prefetch),
            credits: consume.metered.then_some(0),
            paused: consume.paused,
        };
        self.with_queue(id, context, |queue, sink| queue.consume(consumer, sink));
    }

    fn cancel(
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
        }
    }

    fn get(
        &mut self,
        session: SessionId,
        channel: u16,
        id: QueueId,
        no_ack: bool,
        context: &mut ShardContext<'_>,
    ) {
        let taken = self
            .owned(id)
            .and_then(|owned| Some((owned.queue.get(no_ack)?, owned.queue.ready_count())));
        let Some((taken, ready)) = taken else {
            context.answer(session, channel, Answer::Empty);
            return;
        };
        let mut batch = Batch::default();
        let message = batch.write_message(&taken.message.as_ref());
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
    }

    fn purge(
        &mut self,
        session: SessionId,
        channel: u16,
        id: QueueId,
        context: &mut ShardContext<'_>,
    ) {
        let rubbish = self.with_queue(id, context, |queue, sink| queue.purge(sink));
        let messages = rubbish.as_ref().map_or(0, Rubbish::ready_count) as u64;
        self.rubbish.extend(rubbish);
        context.answer(session, channel, Answer::Removed { messages });
    }

    fn propose_delete(&mut self, delete: Delete, context: &mut ShardContext<'_>) {
        let id = delete.queue;
        let Some(owned) = self.owned(id) else {
            let answer = Answer::Removed { messages: 0 };
            context.answer(delete.session, delete.channel, answer);
            return;
        };
        if owned.frozen {
            owned.waiting.push(Waiting::Delete(delete));
            return;
        }
        let used = delete.if_unused && owned.queue.consumer_count() > 0;
        let filled = delete.if_empty && owned.queue.ready_count() > 0;
        if used || filled {
            let (queue, vhost) = names(id, context.topology);
            let error = if used {
                ChannelError::InUse {
                    entity: "queue",
                    name: queue,
                    vhost,
                }
            } else {
                ChannelError::NotEmpty { queue, vhost }
            };
            context.answer(
                delete.session,
                delete.channel,
                Answer::Refused(error.into()),
            );
            return;
        }
        owned.frozen = true;
        Self::propose(id, None, Some((delete.session, delete.channel)), context);
    }

    fn propose(
        queue: QueueId,
        touched: Option<u64>,
        asked_by: Option<(SessionId, u16)>,
        context: &mut ShardContext<'_>,
    ) {
        let owner = context.outbox.own();
        context
            .outbox
            .to(CoreId::CATALOG)
            .to_catalog
            .push(ToCatalog::DeleteQueue {
                owner,
                queue,
                touched,
                asked_by,
            });
    }

    /// The queue went while a command waited for its fate.
    fn refuse_waiting(waiting: &Waiting, id: QueueId, context: &mut ShardContext<'_>) {
        match waiting {
            Waiting::Consume(consume) => {
                let error = no_queue(id, context.topology);
                let answer = Answer::Refused(error.into());
                context.answer(consume.session, consume.channel, answer);
            }
            Waiting::Delete(delete) => {
                let answer = Answer::Removed { messages: 0 };
                context.answer(delete.session, delete.channel, answer);
            }
        }
    }
}

/// The queue's and its vhost's names, for an error.
fn names(id: QueueId, topology: &Topology) -> (Name, Name) {
    match topology.queue(id) {
        Some(definition) => (
            definition.name.clone(),
            topology.vhost_name(definition.vhost).clone(),
        ),
        None => (Name::from(""), Name::from("")),
    }
}

fn no_queue(id: QueueId, topology: &Topology) -> ChannelError {
    let (queue, vhost) = names(id, topology);
    ChannelError::NoQueue { queue, vhost }
}
