//! What a client is told, and what that says to the oracle.

use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};

use super::{Call, Client, Held, Settled};
use crate::letters::Deaths;
use crate::oracle::{Asked, Delivered, Gone, Oracle, Standing, Verdict};
use crate::trace;
use crate::wire::{self, Heard};

impl Client {
    /// Bytes came from the broker.
    pub(crate) fn hear(&mut self, bytes: &[u8], oracle: &mut Oracle) -> Verdict {
        self.ear.hear(bytes);
        for heard in self.ear.take()? {
            self.heard(heard, oracle)
                .map_err(|what| format!("client {}: {what}", self.uid))?;
        }
        Ok(())
    }

    fn heard(&mut self, heard: Heard, oracle: &mut Oracle) -> Verdict {
        match heard.method {
            AMQPClass::Basic(method) => {
                let content = (&heard.body[..], &heard.deaths);
                self.heard_basic(method, content, oracle)
            }
            AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
                let forced = close.reply_code == 320;
                if forced {
                    Ok(())
                } else {
                    Err(format!("the connection was closed: {close:?}"))
                }
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                Err(format!("the channel was closed: {close:?}"))
            }
            AMQPClass::Connection(_) | AMQPClass::Channel(_) | AMQPClass::Confirm(_) => Ok(()),
            AMQPClass::Tx(amq_protocol::protocol::tx::AMQPMethod::SelectOk(_)) => Ok(()),
            other => self.answered(&other, oracle),
        }
    }

    fn heard_basic(
        &mut self,
        method: basic::AMQPMethod,
        content: (&[u8], &Deaths),
        oracle: &mut Oracle,
    ) -> Verdict {
        match method {
            basic::AMQPMethod::QosOk(_) => self.is_open = true,
            basic::AMQPMethod::Ack(ack) => {
                return self.confirmed(ack.delivery_tag, ack.multiple, oracle);
            }
            basic::AMQPMethod::Nack(nack) => {
                return self.refused(nack.delivery_tag, nack.multiple, oracle);
            }
            basic::AMQPMethod::Return(_) => {
                let (message, _) = wire::read_body(content.0).ok_or("a return of nobody's body")?;
                return oracle.returned(message);
            }
            basic::AMQPMethod::Cancel(cancel) => {
                let number: usize = cancel
                    .consumer_tag
                    .as_str()
                    .parse()
                    .map_err(|_| "whose tag?")?;
                self.consumers[number].is_over = true;
            }
            basic::AMQPMethod::Deliver(deliver) => {
                let number: usize = deliver
                    .consumer_tag
                    .as_str()
                    .parse()
                    .map_err(|_| "whose tag?")?;
                let consumer = &self.consumers[number];
                let (queue, no_ack, asked) = (consumer.queue, consumer.no_ack, consumer.asked);
                let message = self.received(
                    (queue, Some(number)),
                    (no_ack, asked),
                    (deliver.delivery_tag, deliver.redelivered),
                    content,
                    oracle,
                )?;
                let consumer = &mut self.consumers[number];
                if !no_ack && !self.is_ended {
                    consumer.unacked += 1;
                    if self.prefetch > 0 && consumer.unacked > usize::from(self.prefetch) {
                        return Err(format!(
                            "{} deliveries unacked, prefetch {}",
                            consumer.unacked, self.prefetch
                        ));
                    }
                }
                let (publisher, turn) = oracle.turn(message);
                let lane = oracle.lane(queue, message);
                let is_first = !deliver.redelivered && !oracle.may_be_late(queue, message);
                if is_first
                    && let Some(last) = consumer.last.insert((publisher, lane), turn)
                    && last > turn
                {
                    return Err(format!(
                        "queue {queue}: message {turn} comes behind {last} of its channel"
                    ));
                }
                if let Some(last) = &mut consumer.last_lane
                    && lane > std::mem::replace(last, lane)
                {
                    return Err(format!(
                        "queue {queue}: message {message} comes behind one with a lower priority"
                    ));
                }
            }
            basic::AMQPMethod::GetOk(get_ok) => {
                let Some(Call::Get {
                    queue,
                    no_ack,
                    asked,
                }) = self.call.take()
                else {
                    return Err("a get-ok that nobody asked for".to_owned());
                };
                self.received(
                    (queue, None),
                    (no_ack, asked),
                    (get_ok.delivery_tag, get_ok.redelivered),
                    content,
                    oracle,
                )?;
            }
            other => return self.answered(&AMQPClass::Basic(other), oracle),
        }
        Ok(())
    }

    /// A message came from a queue, by a consumer or a get; it is held until it is settled.
    fn received(
        &mut self,
        (queue, consumer): (usize, Option<usize>),
        (no_ack, asked): (bool, Asked),
        (tag, redelivered): (u64, bool),
        (body, deaths): (&[u8], &Deaths),
        oracle: &mut Oracle,
    ) -> Verdict<u64> {
        trace::count(|counts| counts.deliveries += 1);
        let (root, len) = wire::read_body(body).ok_or("a delivery of nobody's body")?;
        let letter = oracle.letter(root, deaths);
        let message = letter.ok_or_else(|| format!("message {root} with a history: {deaths:?}"))?;
        trace::note("delivered", [self.uid, queue as u64, message]);
        let expected = oracle.messages.get(message as usize);
        if expected.is_none_or(|expected| expected.len != len) {
            return Err(format!(
                "message {message} came with {len} bytes: {expected:?}"
            ));
        }
        if tag <= self.last_tag {
            return Err(format!("delivery tag {tag} after {}", self.last_tag));
        }
        self.last_tag = tag;
        if self.is_ended && !no_ack {
            // It has gone back already, and somebody else may have it.
            oracle.overheard(queue, message)?;
            return Ok(message);
        }
        let holder = (self.uid, tag);
        let one = Delivered {
            queue,
            message,
            redelivered,
            no_ack,
            holder,
            asked,
        };
        if matches!(self.call, Some(Call::Recover)) && !no_ack {
            // It was sent before the broker heard the question, and has gone back: somebody else may have it.
            oracle.went_back(queue, message)?;
        } else {
            oracle.delivered(&one)?;
        }
        if no_ack {
            return Ok(message);
        }
        let held = Held {
            queue,
            message,
            consumer,
        };
        self.held.insert(tag, held);
        Ok(message)
    }

    /// Some queue had no room for it, whoever has it otherwise.
    fn refused(&mut self, number: u64, multiple: bool, oracle: &mut Oracle) -> Verdict {
        self.expects_word_of(number, multiple)?;
        while let Some(one) = self.publishes.pop_front_if(|one| one.number <= number) {
            trace::count(|counts| counts.refusals += 1);
            trace::note("refused", [self.uid, one.message, 0]);
            oracle.refused(one.message)?;
        }
        Ok(())
    }

    fn expects_word_of(&self, number: u64, multiple: bool) -> Verdict {
        let first = self.publishes.front().map(|first| first.number);
        if first.is_none_or(|first| first > number || !multiple && first != number) {
            return Err(format!(
                "confirm of {number} (multiple: {multiple}), but {first:?} is next"
            ));
        }
        Ok(())
    }

    fn confirmed(&mut self, number: u64, multiple: bool, oracle: &mut Oracle) -> Verdict {
        self.expects_word_of(number, multiple)?;
        while let Some(one) = self.publishes.pop_front_if(|one| one.number <= number) {
            trace::count(|counts| counts.confirms += 1);
            trace::note("confirmed", [self.uid, one.message, 0]);
            let must = oracle.confirmed(one.message)?;
            for (queue, message) in one.hardens {
                if must.contains(&queue) {
                    oracle.harden(queue, message, one.message);
                }
            }
        }
        Ok(())
    }

    /// The answer to the open question.
    fn answered(&mut self, answer: &AMQPClass, oracle: &mut Oracle) -> Verdict {
        use queue::AMQPMethod as Q;
        let Some(call) = self.call.take() else {
            return Err(format!("{answer:?}, and nobody asked"));
        };
        trace::note("answered", [self.uid, 0, 0]);
        match (call, answer) {
            (Call::DeclareQueue(queue), AMQPClass::Queue(Q::DeclareOk(_))) => {
                oracle.declared(queue);
            }
            (Call::DeclareExchange(exchange), AMQPClass::Exchange(_)) => {
                oracle.exchanges[exchange].standing = Standing::Present;
                oracle.exchanges[exchange].busy = false;
                oracle.exchange_changed(exchange);
            }
            (Call::Delete(queue), AMQPClass::Queue(Q::DeleteOk(_))) => {
                oracle.deleted(queue);
                oracle.queues[queue].busy = false;
            }
            (Call::Purge { queue, sure, more }, AMQPClass::Queue(Q::PurgeOk(_))) => {
                oracle.purged(queue, &sure, more > 0);
                oracle.queues[queue].busy = more > 0;
                if let Some(more) = more.checked_sub(1) {
                    let sure = Vec::new();
                    self.call = Some(Call::Purge { queue, sure, more });
                }
                for message in sure {
                    let (end, behind_question) = (0, false);
                    let gone = oracle.queues[queue]
                        .records
                        .get(&message)
                        .map(|record| record.gone);
                    if gone == Some(Gone::Settled) {
                        self.settled.push(Settled {
                            queue,
                            message,
                            end,
                            behind_question,
                            is_letter: false,
                        });
                    }
                }
            }
            (Call::Bind(binding), AMQPClass::Queue(Q::BindOk(_))) => {
                oracle.bindings.insert(binding, Standing::Present);
                oracle.exchange_changed(binding.0);
                oracle.queues[binding.2].busy = false;
            }
            (Call::Unbind(binding), AMQPClass::Queue(Q::UnbindOk(_))) => {
                oracle.bindings.remove(&binding);
                oracle.exchange_changed(binding.0);
                oracle.queues[binding.2].busy = false;
                oracle.reroute();
            }
            (Call::Consume, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)))
            | (Call::Cancel, AMQPClass::Basic(basic::AMQPMethod::CancelOk(_)))
            | (Call::Get { .. }, AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_))) => {}
            (Call::Recover, AMQPClass::Basic(basic::AMQPMethod::RecoverOk(_))) => {
                // What came meanwhile was sent before, and went back as well.
                for held in std::mem::take(&mut self.held).into_values() {
                    if let Some(consumer) = held.consumer {
                        self.consumers[consumer].unacked -= 1;
                    }
                }
            }
            (Call::Commit(messages), AMQPClass::Tx(_)) => {
                for message in messages {
                    trace::count(|counts| counts.confirms += 1);
                    oracle.confirmed(message)?;
                }
            }
            (call, answer) => return Err(format!("{answer:?} is no answer to {call:?}")),
        }
        Ok(())
    }
}
