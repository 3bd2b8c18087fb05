//! How a queue goes: its core freezes it, checks, and proposes; the catalog decides.

use super::{Shard, ShardContext, names, no_queue};
use crate::amqp::error::ChannelError;
use crate::base::{CoreId, QueueId, SessionId};
use crate::mail::{Answer, Consume, ToCatalog, ToSession};

/// Commands that must not meet a queue which may be about to go.
pub(super) enum Waiting {
    Consume(Consume),
    Delete(Delete),
}

#[derive(Clone, Copy)]
pub(super) struct Delete {
    pub(super) session: SessionId,
    pub(super) channel: u16,
    pub(super) queue: QueueId,
    pub(super) if_unused: bool,
    pub(super) if_empty: bool,
}

impl Shard {
    /// A queue of this core was deleted. Its consumers are told; how many ready messages it had.
    /// `context` still knows the queue.
    pub fn delete(&mut self, id: QueueId, context: &mut ShardContext<'_>) -> u64 {
        self.histories.remove(&id);
        self.deduplication.forget(id);
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
        let callers = owned.callers.unwrap_or_default();
        for waiting in &callers.waiting {
            Self::refuse_waiting(waiting, id, context);
        }
        for getting in &callers.getting {
            context.answer(getting.session, getting.channel, Answer::Empty);
        }
        if let Some(log) = owned.log {
            self.logged.remove(&log);
        }
        self.memory.gone(owned.resident);
        let rubbish = owned.queue.into_rubbish();
        let messages = rubbish.ready_count() as u64;
        self.rubbish.push((owned.log, rubbish));
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
        let callers = owned.callers.as_mut();
        let waiting = callers.map(|callers| std::mem::take(&mut callers.waiting));
        self.used(id);
        for waiting in waiting.unwrap_or_default() {
            match waiting {
                Waiting::Consume(consume) => self.consume(&consume, context),
                Waiting::Delete(delete) => self.propose_delete(delete, context),
            }
        }
    }

    /// A session asks whether all it sent is carried out. The deletion of an auto-delete queue whose
    /// last consumer it took away is part of that: who hears `cancel-ok` finds the queue gone.
    pub(super) fn fence(
        &mut self,
        session: SessionId,
        channel: u16,
        context: &mut ShardContext<'_>,
    ) {
        let mut leaving = self.leaving.iter();
        match leaving.find(|(_, deserter)| *deserter == session) {
            Some((queue, _)) => self.held.push((*queue, session, channel)),
            None => context.answer(session, channel, Answer::Done),
        }
    }

    pub(super) fn propose_delete(&mut self, delete: Delete, context: &mut ShardContext<'_>) {
        let id = delete.queue;
        let Some(owned) = self.owned(id) else {
            let answer = Answer::Removed { messages: 0 };
            context.answer(delete.session, delete.channel, answer);
            return;
        };
        if owned.frozen {
            owned
                .callers
                .get_or_insert_default()
                .waiting
                .push(Waiting::Delete(delete));
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

    pub(super) fn propose(
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
