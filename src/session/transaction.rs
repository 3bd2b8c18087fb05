//! `tx.*`: publishes and acknowledgements that wait for `tx.commit`.
//!
//! A commit publishes in order, then settles, and is answered once every queue has what it got: there
//! is no atomicity across queues, as with RabbitMQ.

use super::SessionContext;
use super::channel::{Channel, Mode};
use super::connection::Connection;
use super::question::Question;
use super::unacked::{self, Delivery, Unacked};
use crate::amqp::content::Acknowledgement;
use crate::amqp::error::{AmqpError, ChannelError};
use crate::base::{MessageRef, limits};
use crate::mail::{Batch, Confirms, MessageSpan, Outcome};

/// What a channel in transaction mode has gathered.
#[derive(Default)]
pub(super) struct Transaction {
    publishes: Batch<PendingPublish>,
    /// Deliveries that were acknowledged, taken off the channel's list, and how.
    settled: Vec<(Delivery, Outcome)>,
    /// Bytes of both.
    bytes: usize,
    /// Tells when what was committed is settled.
    pub(super) confirms: Confirms,
}

/// A publish that waits.
struct PendingPublish {
    mandatory: bool,
    message: MessageSpan,
}

impl Transaction {
    pub(super) fn publish(
        &mut self,
        mandatory: bool,
        message: &MessageRef<'_>,
    ) -> Result<(), ChannelError> {
        self.grow(message.weight() as usize)?;
        let message = self.publishes.write_message(message);
        self.publishes.push(PendingPublish { mandatory, message });
        Ok(())
    }

    /// Takes what an acknowledgement names off those that wait; it is settled at the commit.
    pub(super) fn acknowledge(
        &mut self,
        one: &Acknowledgement,
        outcome: Outcome,
        unacked: &mut Unacked,
    ) -> Result<(), ChannelError> {
        let before = self.settled.len();
        unacked.take_named(one, |delivery| self.settled.push((delivery, outcome)))?;
        self.grow((self.settled.len() - before) * size_of::<(Delivery, Outcome)>())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ChannelError> {
        self.bytes += bytes;
        if self.bytes > limits::TRANSACTION_BYTES_MAX {
            return Err(ChannelError::TransactionTooLarge(
                limits::TRANSACTION_BYTES_MAX,
            ));
        }
        Ok(())
    }
}

impl Channel {
    /// `tx.select`
    pub(super) fn select_transaction(
        &mut self,
        connection: &Connection,
    ) -> Result<(), ChannelError> {
        match self.mode {
            Mode::Confirm(_) => return Err(ChannelError::ConfirmToTx),
            Mode::Transaction(_) => {}
            Mode::Plain => {
                self.mode = Mode::Transaction(Box::new(Transaction {
                    confirms: Confirms::after(connection.last_confirm),
                    ..Transaction::default()
                }));
            }
        }
        Ok(())
    }

    /// `tx.rollback`: as if nothing had been said. What was acknowledged waits again.
    pub(super) fn rollback(&mut self) -> Result<(), ChannelError> {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return Err(ChannelError::NotTransactional);
        };
        transaction.publishes = Batch::default();
        transaction.bytes = 0;
        self.take_back_acknowledgements();
        Ok(())
    }

    /// What was acknowledged in a transaction that isn't committed waits again.
    pub(super) fn take_back_acknowledgements(&mut self) {
        if let Mode::Transaction(transaction) = &mut self.mode
            && !transaction.settled.is_empty()
        {
            let settled = std::mem::take(&mut transaction.settled);
            self.unacked
                .put_back(settled.into_iter().map(|(delivery, _)| delivery));
            if let Some(timeouts) = &mut self.timeouts {
                timeouts.look_again();
            }
        }
    }

    /// `tx.commit`: carries everything out; the answer follows when it is settled.
    pub(super) fn commit(
        &mut self,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return Err(ChannelError::NotTransactional.into());
        };
        transaction.bytes = 0;
        let mut publishes = std::mem::take(&mut transaction.publishes);
        for PendingPublish { mandatory, message } in publishes.take_records() {
            let Mode::Transaction(transaction) = &mut self.mode else {
                break;
            };
            let number = transaction.confirms.next_number();
            let message = publishes.message(&message);
            self.route_and_send(mandatory, &message, number, connection, context)?;
        }
        self.settle_transaction(connection, context);
        self.ask(Question::Commit);
        connection.confirming.push(self.number);
        Ok(())
    }

    fn settle_transaction(&mut self, connection: &Connection, context: &mut SessionContext<'_>) {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return;
        };
        let mut freed = 0;
        for (delivery, outcome) in std::mem::take(&mut transaction.settled) {
            freed += u32::from(self.consumers.settled(&delivery));
            unacked::settle(&delivery, outcome, context.outbox);
        }
        if freed > 0 {
            self.lend_credit(connection, context);
        }
    }

    /// Whether a commit is waiting and everything it published is settled.
    pub(super) fn commit_is_settled(&self) -> bool {
        matches!(&self.mode, Mode::Transaction(transaction) if transaction.confirms.all_settled())
            && matches!(self.question, Some(Question::Commit))
    }
}
