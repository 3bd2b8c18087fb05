//! Open questions and their answers: what a channel asked another core, and what the client is told
//! when the answer comes.

use amq_protocol::protocol::{AMQPClass, basic, queue, tx};

use super::SessionContext;
use super::channel::{Channel, Mode};
use super::connection::Connection;
use super::unacked::{Delivery, NO_CONSUMER};
use crate::amqp::content;
use crate::amqp::error::{AmqpError, ChannelError, ConnectionError};
use crate::base::Name;
use crate::mail::{Answer, Got, NO_SLOT, ToShard};

/// What a channel waits for.
#[derive(Debug)]
pub(super) enum Question {
    /// The catalog's yes; what to say then.
    Catalog {
        /// None with nowait.
        ok: Option<AMQPClass>,
    },
    /// The catalog declares a queue.
    DeclareQueue { nowait: bool, exclusive: bool },
    /// The catalog makes a queue for direct replies; its consumer is to follow.
    DeclareReplies { consume: Box<basic::Consume> },
    /// The queue's core counts, for `queue.declare-ok`.
    Count { queue: Name },
    /// The queue's core drops ready messages.
    Purge { nowait: bool },
    /// The queue's core and the catalog delete it.
    Delete { nowait: bool },
    /// The queue's core attaches a consumer.
    Consume { number: u32, nowait: bool },
    /// The queue's core has let go of a consumer.
    Cancel { number: u32, nowait: bool },
    /// The queue's core takes a message out.
    Get,
    /// So many cores still deliver.
    Flow { active: bool, waiting: usize },
    /// Publishes of a transaction are not settled yet.
    Commit,
    /// The channel ends: so many cores may still have something for it.
    Detach { waiting: usize },
    /// The channel has ended: so many cores haven't taken its deliveries back yet.
    Return { waiting: usize },
}

/// What follows from an answer.
pub(super) enum Answered {
    /// The channel goes on with its next frame.
    Settled,
    /// The question stays open.
    Waiting,
    /// The channel has nothing under way any more.
    Detached,
}

impl Channel {
    /// An answer came.
    pub(super) fn answered(
        &mut self,
        answer: Answer,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<Answered, AmqpError> {
        let Some(question) = self.question.take() else {
            // Whoever answers was asked: there is no way here, and nothing to lose if there were.
            return Ok(Answered::Settled);
        };
        match (question, answer) {
            (question, Answer::Refused(error)) => {
                if let Question::Consume { number, .. } = question {
                    self.consumers.remove(number);
                }
                return Err(error);
            }
            (Question::Catalog { ok }, Answer::Done) => {
                if let Some(ok) = ok {
                    connection.send(self.number, &ok);
                }
            }
            (
                Question::DeclareQueue { nowait, exclusive },
                Answer::QueueDeclared { queue, name },
            ) => {
                if exclusive {
                    connection.owns(queue, context.topology);
                }
                self.last_queue = Some(name.clone());
                let owner = context.topology.queue(queue).map(|found| found.owner);
                match owner {
                    Some(owner) if !nowait => {
                        context.outbox.to(owner).to_shard.push(ToShard::Count {
                            session: connection.id,
                            channel: self.number,
                            queue,
                        });
                        self.ask(Question::Count { queue: name });
                        return Ok(Answered::Waiting);
                    }
                    Some(_) => {}
                    // Deleted by somebody else since: it was there, and empty.
                    None if !nowait => self.send_declare_ok(&name, 0, 0, connection),
                    None => {}
                }
            }
            (Question::DeclareReplies { consume }, Answer::QueueDeclared { queue, name }) => {
                self.replies_declared(&consume, queue, name, connection, context)?;
                return Ok(Answered::Waiting);
            }
            (
                Question::Count { queue },
                Answer::Counts {
                    messages,
                    consumers,
                },
            ) => {
                self.send_declare_ok(&queue, messages, consumers, connection);
            }
            (Question::Purge { nowait }, Answer::Removed { messages }) => {
                if !nowait {
                    let message_count = saturated(messages);
                    let purge_ok = queue::PurgeOk { message_count };
                    let method = queue::AMQPMethod::PurgeOk(purge_ok);
                    connection.send(self.number, &AMQPClass::Queue(method));
                }
            }
            (Question::Delete { nowait }, Answer::Removed { messages }) => {
                if !nowait {
                    let message_count = saturated(messages);
                    let delete_ok = queue::DeleteOk { message_count };
                    let method = queue::AMQPMethod::DeleteOk(delete_ok);
                    connection.send(self.number, &AMQPClass::Queue(method));
                }
                for number in std::mem::take(&mut self.late_cancels) {
                    self.consumer_cancelled(number, connection);
                }
            }
            (Question::Consume { number, nowait }, Answer::Consuming) => {
                if !nowait && let Some(consumer) = self.consumers.get(number) {
                    let consumer_tag = consumer.tag.as_str().into();
                    let consume_ok = basic::ConsumeOk { consumer_tag };
                    let method = basic::AMQPMethod::ConsumeOk(consume_ok);
                    connection.send(self.number, &AMQPClass::Basic(method));
                }
            }
            (Question::Cancel { number, nowait }, Answer::Done) => {
                if let Some(consumer) = self.consumers.remove(number)
                    && !nowait
                {
                    self.send_cancel_ok(consumer.tag.as_str(), connection);
                }
                // What the consumer had been lent is free for others.
                self.lend_credit(connection, context);
            }
            (Question::Get, Answer::Got(got)) => self.got(&got, connection),
            (Question::Get, Answer::Empty) => {
                let method = basic::AMQPMethod::GetEmpty(basic::GetEmpty {});
                connection.send(self.number, &AMQPClass::Basic(method));
            }
            (Question::Flow { active, waiting }, Answer::Done) => {
                if waiting > 1 {
                    let waiting = waiting - 1;
                    self.ask(Question::Flow { active, waiting });
                    return Ok(Answered::Waiting);
                }
                self.send_flow_ok(active, connection);
            }
            (Question::Detach { waiting }, Answer::Done) => {
                return Ok(self.detached_from_one(waiting - 1, connection, context));
            }
            (Question::Return { waiting }, Answer::Done) => {
                if waiting > 1 {
                    let waiting = waiting - 1;
                    self.ask(Question::Return { waiting });
                    return Ok(Answered::Waiting);
                }
                return Ok(Answered::Detached);
            }
            (question, answer) => {
                debug_assert!(false, "{answer:?} is no answer to {question:?}");
                return Err(ConnectionError::Internal("a core gave the wrong answer").into());
            }
        }
        Ok(Answered::Settled)
    }

    /// Everything a transaction published is settled.
    pub(super) fn committed(&mut self, connection: &mut Connection) -> Result<(), ChannelError> {
        self.question = None;
        if let Mode::Transaction(transaction) = &mut self.mode
            && !transaction.confirms.all_accepted()
        {
            return Err(ChannelError::PartialTransaction);
        }
        let method = tx::AMQPMethod::CommitOk(tx::CommitOk {});
        connection.send(self.number, &AMQPClass::Tx(method));
        Ok(())
    }

    pub(super) fn send_declare_ok(
        &self,
        name: &Name,
        messages: u64,
        consumers: u32,
        connection: &mut Connection,
    ) {
        let declare_ok = queue::DeclareOk {
            queue: name.as_str().into(),
            message_count: saturated(messages),
            consumer_count: consumers,
        };
        let method = queue::AMQPMethod::DeclareOk(declare_ok);
        connection.send(self.number, &AMQPClass::Queue(method));
    }

    /// A message for `basic.get`.
    fn got(&mut self, got: &Got, connection: &mut Connection) {
        self.last_delivery_tag += 1;
        if got.slot != NO_SLOT {
            self.unacked.push(Delivery {
                tag: self.last_delivery_tag,
                core: got.core,
                queue: got.queue,
                slot: got.slot,
                consumer: NO_CONSUMER,
            });
        }
        if connection.mute || !self.is_open() {
            return;
        }
        let message = got.batch.message(&got.message);
        content::write_get_ok(
            connection.output.block(),
            self.number,
            self.last_delivery_tag,
            got.redelivered,
            saturated(got.messages),
            &message,
        );
        connection.send_content(self.number, &message);
    }
}

/// Counts on the wire have 32 bits.
fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
