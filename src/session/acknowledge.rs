//! `basic.ack`, `nack`, `reject`, `recover`: from a client's tag to the delivery's queue.

use super::SessionContext;
use super::channel::{Channel, Mode};
use super::connection::Connection;
use super::unacked::{self, Delivery};
use crate::amqp::content::Acknowledgement;
use crate::amqp::error::{AmqpError, ChannelError};
use crate::mail::Outcome;

impl Channel {
    /// An acknowledgement from the client; in a transaction it waits for the commit.
    pub(super) fn acknowledge(
        &mut self,
        one: &Acknowledgement,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        if let Mode::Transaction(transaction) = &mut self.mode {
            return Ok(transaction.acknowledge(*one)?);
        }
        self.settle(one, connection, context)
    }

    /// Carries an acknowledgement out.
    pub(super) fn settle(
        &mut self,
        one: &Acknowledgement,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let outcome = match one.requeue {
            None => Outcome::Ack,
            Some(false) => Outcome::Discard,
            Some(true) => Outcome::Requeue,
        };
        let tag = one.delivery_tag;
        let unknown = ChannelError::UnknownDeliveryTag(tag);
        let mut freed = 0;
        if !one.multiple {
            let delivery = self.unacked.take(tag).ok_or(unknown)?;
            freed += u32::from(self.consumers.settled(&delivery));
            unacked::settle(&delivery, outcome, context.outbox);
        } else if tag == 0 {
            freed += self.settle_all(outcome, context);
        } else {
            let consumers = &mut self.consumers;
            let found = self.unacked.take_upto(tag, |delivery: Delivery| {
                freed += u32::from(consumers.settled(&delivery));
                unacked::settle(&delivery, outcome, context.outbox);
            });
            if !found {
                return Err(unknown.into());
            }
        }
        if freed > 0 {
            self.lend_credit(connection, context);
        }
        Ok(())
    }

    /// Settles every delivery alike; how many of them counted against the channel's prefetch.
    pub(super) fn settle_all(&mut self, outcome: Outcome, context: &mut SessionContext<'_>) -> u32 {
        let mut freed = 0;
        let consumers = &mut self.consumers;
        self.unacked.take_some(usize::MAX, |delivery| {
            freed += u32::from(consumers.settled(&delivery));
            unacked::settle(&delivery, outcome, context.outbox);
        });
        freed
    }
}
