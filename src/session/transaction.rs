//! `tx.*`: publishes and acknowledgements that wait for `tx.commit`.
//!
//! A commit publishes in order, then settles, and is answered once every queue has what it got: there
//! is no atomicity across queues, as with RabbitMQ.

use super::SessionContext;
use super::channel::{Channel, Mode};
use super::connection::Connection;
use super::question::Question;
use crate::amqp::content::Acknowledgement;
use crate::amqp::error::{AmqpError, ChannelError};
use crate::base::{StoredMessage, limits};
use crate::mail::Confirms;

/// What a channel in transaction mode has gathered.
#[derive(Default)]
pub(super) struct Transaction {
    publishes: Vec<PendingPublish>,
    acknowledgements: Vec<Acknowledgement>,
    /// Bytes of both.
    bytes: usize,
    /// Tells when what was committed is settled.
    pub(super) confirms: Confirms,
}

/// A publish that waits.
pub(super) struct PendingPublish {
    pub(super) mandatory: bool,
    pub(super) message: StoredMessage,
}

impl Transaction {
    pub(super) fn publish(&mut self, publish: PendingPublish) -> Result<(), ChannelError> {
        self.grow(publish.message.as_ref().weight() as usize)?;
        self.publishes.push(publish);
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, one: Acknowledgement) -> Result<(), ChannelError> {
        self.grow(size_of::<Acknowledgement>())?;
        self.acknowledgements.push(one);
        Ok(())
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
    pub(super) fn select_transaction(&mut self) -> Result<(), ChannelError> {
        match self.mode {
            Mode::Confirm(_) => return Err(ChannelError::ConfirmToTx),
            Mode::Transaction(_) => {}
            Mode::Plain => self.mode = Mode::Transaction(Box::default()),
        }
        Ok(())
    }

    /// `tx.rollback`: as if nothing had been said. What was acknowledged waits again.
    pub(super) fn rollback(&mut self) -> Result<(), ChannelError> {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return Err(ChannelError::NotTransactional);
        };
        transaction.publishes = Vec::new();
        transaction.acknowledgements = Vec::new();
        transaction.bytes = 0;
        Ok(())
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
        let publishes = std::mem::take(&mut transaction.publishes);
        let acknowledgements = std::mem::take(&mut transaction.acknowledgements);
        for PendingPublish { mandatory, message } in publishes {
            let Mode::Transaction(transaction) = &mut self.mode else {
                break;
            };
            let number = transaction.confirms.next_number();
            self.route_and_send(mandatory, &message.as_ref(), number, connection, context)?;
        }
        for acknowledgement in acknowledgements {
            self.settle(&acknowledgement, connection, context)?;
        }
        self.ask(Question::Commit);
        connection.confirming.push(self.number);
        Ok(())
    }

    /// Whether a commit is waiting and everything it published is settled.
    pub(super) fn commit_is_settled(&self) -> bool {
        matches!(&self.mode, Mode::Transaction(transaction) if transaction.confirms.all_settled())
            && matches!(self.question, Some(Question::Commit))
    }
}
