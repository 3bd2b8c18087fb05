//! How a channel ends: its consumers let go, what it holds goes back to the queues, and only then is
//! anybody told.
//!
//! First every consumer is cancelled and every core that was touched is asked for a sign (*detach*):
//! it stands in the ring behind the last delivery. Then all deliveries go back to their queues, and
//! the queues' cores are asked again (*return*), so that whoever hears `close-ok` finds them there.

use super::SessionContext;
use super::channel::Channel;
use super::connection::Connection;
use super::question::{Answered, Question};
use super::unacked;
use crate::base::CoreId;
use crate::mail::{Outcome, ToShard};

impl Channel {
    /// The channel takes no more frames: lets go of everything. Its question must be answered.
    pub(super) fn detach(
        &mut self,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Answered {
        self.content.reset(connection);
        for number in self.consumers.numbers() {
            self.detach_consumer(number, connection, context);
        }
        let mut waiting = 0;
        for core in self.touched() {
            self.ask_for_sign(core, connection, context);
            waiting += 1;
        }
        if waiting == 0 {
            return self.detached_from_one(0, connection, context);
        }
        self.ask(Question::Detach { waiting });
        Answered::Waiting
    }

    /// A core has nothing more for this channel; `waiting` others may have.
    pub(super) fn detached_from_one(
        &mut self,
        waiting: usize,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Answered {
        if waiting > 0 {
            self.ask(Question::Detach { waiting });
            return Answered::Waiting;
        }
        for number in self.consumers.numbers() {
            self.consumers.remove(number);
        }
        self.take_back_acknowledgements();
        if self.unacked.is_empty() {
            return Answered::Detached;
        }
        let mut cores = Vec::new();
        self.unacked.take_some(usize::MAX, |delivery| {
            if !cores.contains(&delivery.core) {
                cores.push(delivery.core);
            }
            unacked::settle(&delivery, Outcome::Requeue, context.outbox);
        });
        let waiting = cores.len();
        for core in cores {
            self.ask_for_sign(core, connection, context);
        }
        self.ask(Question::Return { waiting });
        Answered::Waiting
    }

    /// A core is to say when it is through with all that was sent on behalf of this channel.
    pub(super) fn ask_for_sign(
        &self,
        core: CoreId,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) {
        context.outbox.to(core).to_shard.push(ToShard::Fence {
            session: connection.id,
            channel: self.number,
        });
    }
}
