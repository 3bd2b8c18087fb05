//! One client of the simulated world: what it says by the dice, what it has been told, and how both
//! look to the oracle.

use std::collections::{BTreeMap, HashMap, VecDeque};

use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use leveret::broker::SessionIndex;

use crate::oracle::{Binding, Delivered, Gone, Oracle, Standing, Verdict};
use crate::trace;
use crate::wire::{self, Ear, Heard};

/// How a client publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Confirm,
    Transaction,
}

/// A question that the client waits for.
#[derive(Debug)]
pub(crate) enum Call {
    DeclareQueue(usize),
    DeclareExchange(usize),
    Delete(usize),
    Purge(usize, Vec<u64>),
    Bind(Binding),
    Unbind(Binding),
    Consume,
    Cancel,
    Get {
        queue: usize,
        no_ack: bool,
        since: u64,
    },
    Commit(Vec<u64>),
    Recover,
}

pub(crate) struct Consumer {
    pub(crate) queue: usize,
    pub(crate) no_ack: bool,
    since: u64,
    unacked: usize,
    /// The last message that came for the first time, by publisher.
    last: HashMap<u64, u64>,
    pub(crate) is_over: bool,
}

/// A delivery that the client holds.
#[derive(Clone, Copy)]
struct Held {
    queue: usize,
    message: u64,
    consumer: Option<usize>,
}

/// A message that the client has settled.
struct Settled {
    queue: usize,
    message: u64,
    /// Where in the stream it said so.
    end: u64,
    /// A question was open, so that it may not have been heard yet.
    behind_question: bool,
}

/// A publish whose confirm is awaited.
struct Publish {
    number: u64,
    message: u64,
    end: u64,
    /// Settled before it on this channel, in a queue that it goes to.
    hardens: Vec<(usize, u64)>,
}

pub(crate) struct Client {
    pub(crate) uid: u64,
    pub(crate) core: usize,
    pub(crate) session: SessionIndex,
    /// Bytes that its socket has not yet handed over.
    pub(crate) unsent: VecDeque<u8>,
    /// Bytes handed over.
    pub(crate) handed_over: u64,
    ear: Ear,
    pub(crate) is_open: bool,
    /// The broker has ended its session, which it may hear later, or never.
    pub(crate) is_ended: bool,
    pub(crate) is_dead: bool,
    pub(crate) stalled: bool,
    mode: Mode,
    pub(crate) prefetch: u16,
    pub(crate) call: Option<Call>,
    pub(crate) consumers: Vec<Consumer>,
    held: BTreeMap<u64, Held>,
    last_tag: u64,
    numbers: u64,
    publishes: VecDeque<Publish>,
    /// Publishes of the transaction: message, exchange, key.
    transaction: Vec<(u64, usize, usize)>,
    settled: Vec<Settled>,
}

impl Client {
    pub(crate) fn new(
        uid: u64,
        core: usize,
        session: SessionIndex,
        mode: Mode,
        prefetch: u16,
        heartbeat: u16,
    ) -> Self {
        let mut out = wire::hello(heartbeat);
        wire::open_channel(&mut out, 1);
        match mode {
            Mode::Confirm => wire::select_confirms(&mut out),
            Mode::Transaction => wire::transaction(&mut out, false),
        }
        wire::qos(&mut out, prefetch);
        Self {
            uid,
            core,
            session,
            unsent: out.into(),
            handed_over: 0,
            ear: Ear::default(),
            is_open: false,
            is_ended: false,
            is_dead: false,
            stalled: false,
            mode,
            prefetch,
            call: None,
            consumers: Vec::new(),
            held: BTreeMap::new(),
            last_tag: 0,
            numbers: 0,
            publishes: VecDeque::new(),
            transaction: Vec::new(),
            settled: Vec::new(),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> u64 {
        self.unsent.extend(bytes);
        self.handed_over + self.unsent.len() as u64
    }

    /// How many publishes wait for their confirm.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.publishes.len() + self.transaction.len()
    }

    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn publish(
        &mut self,
        (exchange, key): (usize, usize),
        (persistent, mandatory): (bool, bool),
        len: usize,
        oracle: &mut Oracle,
    ) {
        let message = oracle.messages.len() as u64;
        oracle.messages.push(crate::oracle::Message {
            persistent,
            len,
            publisher: self.uid,
        });
        trace::note(
            "publish",
            [self.uid, message, exchange as u64 * 100 + key as u64],
        );
        let mut out = Vec::new();
        let body = wire::body(message, len);
        wire::publish(&mut out, 1, (exchange, key), (persistent, mandatory), &body);
        let end = self.say(&out);
        if self.mode == Mode::Transaction {
            self.transaction.push((message, exchange, key));
            return;
        }
        let must = oracle.published(message, exchange, key);
        self.numbers += 1;
        let hardens = if persistent {
            let mine = self
                .settled
                .iter()
                .rev()
                .take(64)
                .filter(|one| must.contains(&one.queue));
            mine.map(|one| (one.queue, one.message)).collect()
        } else {
            Vec::new()
        };
        let number = self.numbers;
        self.publishes.push_back(Publish {
            number,
            message,
            end,
            hardens,
        });
    }

    pub(crate) fn commit(&mut self, oracle: &mut Oracle) {
        let mut messages = Vec::new();
        for (message, exchange, key) in std::mem::take(&mut self.transaction) {
            oracle.published(message, exchange, key);
            messages.push(message);
        }
        trace::note("commit", [self.uid, messages.len() as u64, 0]);
        self.ask(Call::Commit(messages), |out| wire::transaction(out, true));
    }

    pub(crate) fn ask(&mut self, call: Call, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.say(&out);
        self.call = Some(call);
    }

    pub(crate) fn consume(&mut self, queue: usize, no_ack: bool, oracle: &mut Oracle) {
        let found = &mut oracle.queues[queue];
        found.consumed = true;
        found.lossy |= no_ack;
        trace::note("consume", [self.uid, queue as u64, u64::from(no_ack)]);
        let tag = self.consumers.len().to_string();
        self.consumers.push(Consumer {
            queue,
            no_ack,
            since: found.deletions,
            unacked: 0,
            last: HashMap::new(),
            is_over: false,
        });
        self.ask(Call::Consume, |out| {
            wire::consume(out, 1, queue, &tag, no_ack)
        });
    }

    pub(crate) fn cancel(&mut self, consumer: usize) {
        self.consumers[consumer].is_over = true;
        let consumer_tag = consumer.to_string().into();
        let cancel = basic::AMQPMethod::Cancel(basic::Cancel {
            consumer_tag,
            nowait: false,
        });
        self.ask(Call::Cancel, |out| wire::basic_method(out, 1, cancel));
    }

    pub(crate) fn get(&mut self, queue: usize, no_ack: bool, oracle: &mut Oracle) {
        oracle.queues[queue].consumed = true;
        oracle.queues[queue].lossy |= no_ack;
        let queue_name = wire::queue_name(queue).into();
        let get = basic::AMQPMethod::Get(basic::Get {
            queue: queue_name,
            no_ack,
        });
        let since = oracle.queues[queue].deletions;
        self.ask(
            Call::Get {
                queue,
                no_ack,
                since,
            },
            |out| wire::basic_method(out, 1, get),
        );
    }

    pub(crate) fn recover(&mut self, oracle: &mut Oracle) {
        let recover = basic::AMQPMethod::Recover(basic::Recover { requeue: true });
        self.release_all(oracle);
        self.ask(Call::Recover, |out| wire::basic_method(out, 1, recover));
    }

    /// Everything that is held goes back.
    fn release_all(&mut self, oracle: &mut Oracle) {
        for held in std::mem::take(&mut self.held).into_values() {
            oracle.released(held.queue, held.message);
            if let Some(consumer) = held.consumer {
                self.consumers[consumer].unacked -= 1;
            }
        }
    }

    /// Settles the `at`th of the deliveries held, or all up to it; `requeue` as in `basic.nack`, none
    /// is an ack.
    pub(crate) fn settle(
        &mut self,
        at: usize,
        multiple: bool,
        requeue: Option<bool>,
        oracle: &mut Oracle,
    ) {
        let Some(tag) = self.held.keys().nth(at).copied() else {
            return;
        };
        trace::note(
            "settle",
            [
                self.uid,
                tag,
                u64::from(multiple) * 4 + requeue.map_or(2, u64::from),
            ],
        );
        let one = match requeue {
            None => basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag: tag,
                multiple,
            }),
            Some(requeue) if multiple => basic::AMQPMethod::Nack(basic::Nack {
                delivery_tag: tag,
                multiple,
                requeue,
            }),
            Some(requeue) => basic::AMQPMethod::Reject(basic::Reject {
                delivery_tag: tag,
                requeue,
            }),
        };
        let mut out = Vec::new();
        wire::basic_method(&mut out, 1, one);
        let end = self.say(&out);
        let first = if multiple { 0 } else { tag };
        let tags: Vec<u64> = self.held.range(first..=tag).map(|(tag, _)| *tag).collect();
        for tag in tags {
            let Some(held) = self.held.remove(&tag) else {
                continue;
            };
            if let Some(consumer) = held.consumer {
                self.consumers[consumer].unacked -= 1;
            }
            if requeue == Some(true) {
                oracle.released(held.queue, held.message);
                continue;
            }
            oracle.settled(held.queue, held.message);
            self.settled.push(Settled {
                queue: held.queue,
                message: held.message,
                end,
                behind_question: self.call.is_some(),
            });
        }
    }

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
            AMQPClass::Basic(method) => self.heard_basic(method, &heard.body, oracle),
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
        body: &[u8],
        oracle: &mut Oracle,
    ) -> Verdict {
        match method {
            basic::AMQPMethod::QosOk(_) => self.is_open = true,
            basic::AMQPMethod::Ack(ack) => {
                return self.confirmed(ack.delivery_tag, ack.multiple, oracle);
            }
            basic::AMQPMethod::Return(_) => {
                let (message, _) = wire::read_body(body).ok_or("a return of nobody's body")?;
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
                let (queue, no_ack, since) = (consumer.queue, consumer.no_ack, consumer.since);
                let tag = deliver.delivery_tag;
                let message = self.received(
                    queue,
                    (no_ack, since),
                    (tag, deliver.redelivered),
                    body,
                    oracle,
                )?;
                let consumer = &mut self.consumers[number];
                if !no_ack && !self.is_ended {
                    self.held.insert(
                        tag,
                        Held {
                            queue,
                            message,
                            consumer: Some(number),
                        },
                    );
                    consumer.unacked += 1;
                    if self.prefetch > 0 && consumer.unacked > usize::from(self.prefetch) {
                        return Err(format!(
                            "{} deliveries unacked, prefetch {}",
                            consumer.unacked, self.prefetch
                        ));
                    }
                }
                let publisher = oracle.messages[message as usize].publisher;
                if !deliver.redelivered
                    && let Some(last) = consumer.last.insert(publisher, message)
                    && last > message
                {
                    return Err(format!(
                        "queue {queue}: message {message} comes behind {last} of its channel"
                    ));
                }
            }
            basic::AMQPMethod::GetOk(get_ok) => {
                let Some(Call::Get {
                    queue,
                    no_ack,
                    since,
                }) = self.call.take()
                else {
                    return Err("a get-ok that nobody asked for".to_owned());
                };
                let tag = get_ok.delivery_tag;
                let message = self.received(
                    queue,
                    (no_ack, since),
                    (tag, get_ok.redelivered),
                    body,
                    oracle,
                )?;
                if !no_ack && !self.is_ended {
                    self.held.insert(
                        tag,
                        Held {
                            queue,
                            message,
                            consumer: None,
                        },
                    );
                }
            }
            other => return self.answered(&AMQPClass::Basic(other), oracle),
        }
        Ok(())
    }

    fn received(
        &mut self,
        queue: usize,
        (no_ack, since): (bool, u64),
        (tag, redelivered): (u64, bool),
        body: &[u8],
        oracle: &mut Oracle,
    ) -> Verdict<u64> {
        trace::count(|counts| counts.deliveries += 1);
        let (message, len) = wire::read_body(body).ok_or("a delivery of nobody's body")?;
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
            since,
        };
        oracle.delivered(&one)?;
        if matches!(self.call, Some(Call::Recover)) && !no_ack {
            oracle.released(queue, message);
        }
        Ok(message)
    }

    fn confirmed(&mut self, number: u64, multiple: bool, oracle: &mut Oracle) -> Verdict {
        let first = self.publishes.front().map(|first| first.number);
        if first.is_none_or(|first| first > number || !multiple && first != number) {
            return Err(format!(
                "confirm of {number} (multiple: {multiple}), but {first:?} is next"
            ));
        }
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
                oracle.queues[queue].standing = Standing::Present;
                oracle.queues[queue].busy = false;
            }
            (Call::DeclareExchange(exchange), AMQPClass::Exchange(_)) => {
                oracle.exchanges[exchange].standing = Standing::Present;
                oracle.exchanges[exchange].busy = false;
            }
            (Call::Delete(queue), AMQPClass::Queue(Q::DeleteOk(_))) => {
                oracle.deleted(queue);
                oracle.queues[queue].busy = false;
            }
            (Call::Purge(queue, sure), AMQPClass::Queue(Q::PurgeOk(_))) => {
                oracle.purged(queue, &sure);
                oracle.queues[queue].busy = false;
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
                        });
                    }
                }
            }
            (Call::Bind(binding), AMQPClass::Queue(Q::BindOk(_))) => {
                oracle.bindings.insert(binding, Standing::Present);
                oracle.queues[binding.2].busy = false;
            }
            (Call::Unbind(binding), AMQPClass::Queue(Q::UnbindOk(_))) => {
                oracle.bindings.remove(&binding);
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

    /// Whether its end would leave a definition in doubt.
    pub(crate) fn is_defining(&self) -> bool {
        let harmless = [
            matches!(
                self.call,
                None | Some(Call::Consume | Call::Cancel | Call::Recover)
            ),
            matches!(self.call, Some(Call::Get { .. } | Call::Commit(_))),
        ];
        !harmless.contains(&true)
    }

    /// Its socket is gone.
    pub(crate) fn died(&mut self, oracle: &mut Oracle) {
        trace::note("died", [self.uid, 0, 0]);
        self.ended(oracle);
        self.is_dead = true;
        self.publishes.clear();
    }

    /// Its session is over: what it said and nobody heard is void, what it held goes back.
    pub(crate) fn ended(&mut self, oracle: &mut Oracle) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        trace::note("ended", [self.uid, 0, 0]);
        self.unsent.clear();
        let handed_over = self.handed_over;
        self.publishes.retain(|publish| {
            let was_heard = publish.end <= handed_over;
            if !was_heard {
                oracle.unpublished(publish.message);
            }
            was_heard
        });
        for one in std::mem::take(&mut self.settled) {
            if one.end > handed_over {
                oracle.released(one.queue, one.message);
            }
        }
        self.release_all(oracle);
        for consumer in &self.consumers {
            oracle.deserted(consumer.queue);
        }
        if let Some(Call::Get { queue, .. }) = self.call {
            oracle.deserted(queue);
        }
    }

    /// The broker stops in order: what it has heard holds.
    pub(crate) fn was_heard(&mut self, oracle: &mut Oracle) {
        for one in &self.settled {
            if one.end <= self.handed_over && !one.behind_question {
                oracle.settled_for_ever(one.queue, one.message);
            }
        }
    }
}
