//! One client of the simulated world: what it says by the dice, what it has been told, and how both
//! look to the oracle.

mod hearing;

use std::collections::{BTreeMap, HashMap, VecDeque};

use amq_protocol::protocol::basic;
use leveret::broker::SessionIndex;

use crate::oracle::{Asked, Binding, Message, Oracle};
use crate::rules::Stamp;
use crate::trace;
use crate::wire::{self, Ear};

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
    Purge {
        queue: usize,
        /// What it surely meets.
        sure: Vec<u64>,
        /// So many were sent behind it in the same breath.
        more: usize,
    },
    Bind(Binding),
    Unbind(Binding),
    Consume,
    Cancel,
    Get {
        queue: usize,
        no_ack: bool,
        asked: Asked,
    },
    Commit(Vec<u64>),
    Recover,
}

pub(crate) struct Consumer {
    pub(crate) queue: usize,
    pub(crate) no_ack: bool,
    asked: Asked,
    unacked: usize,
    /// The last message that came for the first time, by publisher and priority.
    last: HashMap<(u64, u8), u64>,
    /// The priority of the last one, if it must not rise.
    pub(crate) last_lane: Option<u8>,
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
    /// It was rejected, and goes elsewhere.
    is_letter: bool,
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

    /// What the broker, at rest, owes the client.
    pub(crate) fn waits_for(&self) -> Option<String> {
        if self.is_dead || self.is_ended || !self.is_open {
            return None;
        }
        let uid = self.uid;
        let owed = match (&self.call, self.publishes.front()) {
            (Some(call), _) => format!("client {uid} has no answer to {call:?}"),
            (None, Some(publish)) => {
                format!("client {uid} has no confirm of message {}", publish.message)
            }
            (None, None) => return None,
        };
        Some(owed)
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
        (persistent, mandatory, stamp): (bool, bool, Stamp),
        len: usize,
        oracle: &mut Oracle,
    ) {
        let message = oracle.messages.len() as u64;
        // Those of other delays, and those that are compared with others, overtake each other.
        let way = stamp.delay_ms.unwrap_or(0) << 32 | u64::from(oracle.compares(exchange)) << 63;
        let published = Message::new(persistent, len, self.uid | way, stamp);
        oracle.messages.push(published);
        trace::note(
            "publish",
            [self.uid, message, exchange as u64 * 100 + key as u64],
        );
        self.send((exchange, key), mandatory, message, oracle);
    }

    /// Publishes a message again that was published to a deduplicating exchange.
    pub(crate) fn repeat(&mut self, to: (usize, usize), message: u64, oracle: &mut Oracle) {
        let number = oracle.repeated(message);
        trace::note("repeat", [self.uid, number, message]);
        trace::count(|counts| counts.repeats += 1);
        self.send(to, false, number, oracle);
    }

    /// `message`: its number as a publish.
    fn send(
        &mut self,
        (exchange, key): (usize, usize),
        mandatory: bool,
        message: u64,
        oracle: &mut Oracle,
    ) {
        let Message {
            persistent,
            len,
            stamp,
            ..
        } = oracle.messages[message as usize];
        let mut out = Vec::new();
        let body = wire::body(oracle.first(message), len);
        let how = (persistent, mandatory, stamp);
        wire::publish(&mut out, 1, (exchange, key), how, &body);
        let end = self.say(&out);
        if self.mode == Mode::Transaction {
            self.transaction.push((message, exchange, key));
            return;
        }
        let must = oracle.published(message, exchange, key);
        self.numbers += 1;
        // What takes a way of its own may overtake what was settled before.
        let hardens = if persistent && !oracle.compares(exchange) {
            let mine = self
                .settled
                .iter()
                .rev()
                .take(64)
                .filter(|one| must.contains(&one.queue) && !one.is_letter);
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
        let asked = oracle.asked(queue);
        let found = &mut oracle.queues[queue];
        found.consumed = true;
        found.lossy |= no_ack;
        trace::note("consume", [self.uid, queue as u64, u64::from(no_ack)]);
        let tag = self.consumers.len().to_string();
        self.consumers.push(Consumer {
            queue,
            no_ack,
            asked,
            unacked: 0,
            last: HashMap::new(),
            last_lane: None,
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
        trace::note("get", [self.uid, queue as u64, u64::from(no_ack)]);
        let queue_name = wire::queue_name(queue).into();
        let get = basic::AMQPMethod::Get(basic::Get {
            queue: queue_name,
            no_ack,
        });
        let asked = oracle.asked(queue);
        self.ask(
            Call::Get {
                queue,
                no_ack,
                asked,
            },
            |out| wire::basic_method(out, 1, get),
        );
    }

    pub(crate) fn recover(&mut self, oracle: &mut Oracle) {
        trace::note("recover", [self.uid, 0, 0]);
        let recover = basic::AMQPMethod::Recover(basic::Recover { requeue: true });
        self.release_all(oracle);
        self.desert(oracle);
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
            let is_letter = if requeue == Some(false) {
                oracle.rejected(held.queue, held.message)
            } else {
                oracle.settled(held.queue, held.message);
                false
            };
            self.settled.push(Settled {
                queue: held.queue,
                message: held.message,
                end,
                behind_question: self.call.is_some(),
                is_letter,
            });
        }
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
            } else if one.behind_question {
                oracle.perhaps_released(one.queue, one.message);
            }
        }
        self.release_all(oracle);
        self.desert(oracle);
        if let Some(Call::Get { queue, .. }) = self.call {
            oracle.deserted(queue);
        }
    }

    /// What is on the way to its consumers goes back.
    fn desert(&self, oracle: &mut Oracle) {
        for consumer in &self.consumers {
            oracle.deserted(consumer.queue);
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
