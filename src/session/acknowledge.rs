//! `basic.ack`, `nack`, `reject`, `recover`: from a client's tag to the delivery's queue.

use super::SessionContext;
use super::channel::{Channel, Mode};
use super::connection::Connection;
use super::unacked;
use crate::amqp::content::Acknowledgement;
use crate::amqp::error::AmqpError;
use crate::mail::Outcome;

impl Channel {
    /// An acknowledgement from the client; in a transaction it waits for the commit.
    pub(super) fn acknowledge(
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
        if let Mode::Transaction(transaction) = &mut self.mode {
            return Ok(transaction.acknowledge(one, outcome, &mut self.unacked)?);
        }
        let mut freed = 0;
        let consumers = &mut self.consumers;
        self.unacked.take_named(one, |delivery| {
            freed += u32::from(consumers.settled(&delivery));
            unacked::settle(&delivery, outcome, context.outbox);
        })?;
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
