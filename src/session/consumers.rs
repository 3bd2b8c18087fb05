//! A channel's consumers, its prefetch, and the credit it lends to them.
//!
//! Prefetch per consumer is kept by the queue. Prefetch for the whole channel (`basic.qos` with
//! `global`) is kept here: a queue that has messages for such a consumer says that it is *hungry*, is
//! lent so many deliveries as the channel has left, and *surrenders* what it can't use at once.

use std::collections::{HashMap, VecDeque};

use amq_protocol::protocol::{AMQPClass, basic, channel};
use slab::Slab;

use super::SessionContext;
use super::channel::Channel;
use super::connection::Connection;
use super::question::Question;
use super::unacked::{Delivery, NO_CONSUMER};
use crate::amqp::error::{AmqpError, ChannelError, ConnectionError};
use crate::amqp::table::Table;
use crate::base::{CoreId, Name, QueueId, limits};
use crate::mail::{Consume, ToShard};
use crate::model::arguments::ConsumerArguments;
use crate::model::decide::Request;
use crate::model::name_rules::{DIRECT_REPLY_TO, strip_cr_lf};

/// The consumers of a channel.
pub(super) struct Consumers {
    all: Numbered,
    by_tag: HashMap<Name, u32>,
    /// Prefetch for consumers to come; 0 is no limit.
    prefetch: u16,
    /// Prefetch for the whole channel; 0 is no limit.
    channel_prefetch: u32,
    /// Deliveries that count against it and are not settled.
    counted: u32,
    /// Deliveries' worth of credit that queues hold.
    lent: u32,
    /// Consumers whose queues wait for credit.
    hungry: VecDeque<u32>,
    /// `channel.flow` stopped deliveries.
    paused: bool,
    next_tag: u64,
}

/// Consumers by number, which is what queues call them by: the channel's number and a place, so that
/// no two of a connection have the same.
struct Numbered {
    channel: u16,
    places: Slab<Consumer>,
}

/// A consumer.
pub(super) struct Consumer {
    pub(super) tag: Name,
    pub(super) core: CoreId,
    pub(super) queue: QueueId,
    /// Credit that its queue holds.
    lent: u32,
}

const _: () = assert!(
    limits::CONSUMERS_PER_CHANNEL_MAX <= u16::MAX as usize,
    "a place takes 16 bits"
);

impl Numbered {
    fn number(&self, place: usize) -> u32 {
        u32::from(self.channel) << 16 | place as u32
    }

    fn place(number: u32) -> usize {
        number as usize & 0xffff
    }

    fn insert(&mut self, consumer: Consumer) -> u32 {
        let place = self.places.insert(consumer);
        self.number(place)
    }

    fn get(&self, number: u32) -> Option<&Consumer> {
        self.places.get(Self::place(number))
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Consumer> {
        self.places.get_mut(Self::place(number))
    }

    fn remove(&mut self, number: u32) -> Option<Consumer> {
        self.places.try_remove(Self::place(number))
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &Consumer)> {
        let numbered = |(place, consumer)| (self.number(place), consumer);
        self.places.iter().map(numbered)
    }
}

impl Consumers {
    pub(super) fn new(channel: u16) -> Self {
        Self {
            all: Numbered {
                channel,
                places: Slab::new(),
            },
            by_tag: HashMap::new(),
            prefetch: 0,
            channel_prefetch: 0,
            counted: 0,
            lent: 0,
            hungry: VecDeque::new(),
            paused: false,
            next_tag: 0,
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&Consumer> {
        self.all.get(number)
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        self.all.iter().map(|(number, _)| number).collect()
    }

    /// The queues that they take messages from.
    pub(super) fn queues(&self) -> Vec<QueueId> {
        let consumers = self.all.iter();
        consumers.map(|(_, consumer)| consumer.queue).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// What its queues call each of them: core, queue and number.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (CoreId, QueueId, u32)> {
        let consumers = self.all.iter();
        consumers.map(|(number, consumer)| (consumer.core, consumer.queue, number))
    }

    /// Forgets a consumer; credit it held is free again.
    pub(super) fn remove(&mut self, number: u32) -> Option<Consumer> {
        let consumer = self.all.remove(number)?;
        self.by_tag.remove(&consumer.tag);
        self.lent -= consumer.lent;
        self.hungry.retain(|hungry| *hungry != number);
        Some(consumer)
    }

    /// A message was delivered that waits for an acknowledgement.
    #[inline]
    pub(super) fn delivered(&mut self, number: u32) {
        self.counted += 1;
        if let Some(consumer) = self.all.get_mut(number)
            && consumer.lent > 0
        {
            consumer.lent -= 1;
            self.lent -= 1;
        }
    }

    /// A delivery was settled. Whether it counted against the channel's prefetch.
    #[inline]
    pub(super) fn settled(&mut self, delivery: &Delivery) -> bool {
        let counts = delivery.consumer != NO_CONSUMER;
        self.counted -= u32::from(counts);
        counts
    }

    /// A queue gave credit back.
    pub(super) fn surrendered(&mut self, number: u32, credits: u32) {
        if let Some(consumer) = self.all.get_mut(number) {
            let credits = credits.min(consumer.lent);
            consumer.lent -= credits;
            self.lent -= credits;
        }
    }

    /// A queue waits for credit.
    pub(super) fn hungry(&mut self, number: u32) {
        if self.all.get(number).is_some() {
            self.hungry.push_back(number);
        }
    }

    /// The next consumer to be lent credit, and how much: what is left, in equal shares.
    fn next_loan(&mut self) -> Option<(u32, u32)> {
        let free = match self.channel_prefetch {
            0 => u32::from(u16::MAX),
            limit => limit.saturating_sub(self.counted + self.lent),
        };
        if free == 0 {
            return None;
        }
        let share = (free / self.hungry.len().max(1) as u32).max(1);
        let (number, consumer) = loop {
            let number = self.hungry.pop_front()?;
            if let Some(consumer) = self.all.get_mut(number) {
                break (number, consumer);
            }
        };
        consumer.lent += share;
        self.lent += share;
        Some((number, share))
    }
}

impl Channel {
    /// `basic.qos`
    pub(super) fn qos(
        &mut self,
        qos: &basic::Qos,
        arguments: &[u8],
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let prefetch_size = arguments
            .first_chunk::<4>()
            .map(|size| u32::from_be_bytes(*size));
        if let Some(size @ 1..) = prefetch_size {
            return Err(ConnectionError::PrefetchSize(size).into());
        }
        if qos.global {
            self.set_channel_prefetch(qos.prefetch_count, connection, context);
        } else {
            self.consumers.prefetch = qos.prefetch_count;
        }
        let method = basic::AMQPMethod::QosOk(basic::QosOk {});
        connection.send(self.number, &AMQPClass::Basic(method));
        Ok(())
    }

    fn set_channel_prefetch(
        &mut self,
        limit: u16,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) {
        let was_metered = self.consumers.channel_prefetch != 0;
        self.consumers.channel_prefetch = u32::from(limit);
        let metered = limit != 0;
        if metered != was_metered {
            for number in self.consumers.numbers() {
                self.meter(number, metered, connection, context);
            }
        }
        self.lend_credit(connection, context);
    }

    fn meter(
        &mut self,
        number: u32,
        metered: bool,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) {
        let Some(consumer) = self.consumers.all.get_mut(number) else {
            return;
        };
        if !metered {
            self.consumers.lent -= consumer.lent;
            consumer.lent = 0;
        }
        let core = consumer.core;
        context.outbox.to(core).to_shard.push(ToShard::Meter {
            session: connection.id,
            consumer: number,
            queue: consumer.queue,
            metered,
        });
    }

    /// Lends what the channel's prefetch has left to the queues that wait for it.
    pub(super) fn lend_credit(
        &mut self,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) {
        if connection.is_leaving {
            return;
        }
        while let Some((number, credits)) = self.consumers.next_loan() {
            let Some(consumer) = self.consumers.get(number) else {
                continue;
            };
            let (core, queue) = (consumer.core, consumer.queue);
            context.outbox.to(core).to_shard.push(ToShard::Grant {
                session: connection.id,
                channel: self.number,
                consumer: number,
                queue,
                credits,
            });
        }
    }

    /// `basic.consume`
    pub(super) fn consume(
        &mut self,
        consume: &basic::Consume,
        table: Table<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let tag = Name::from(consume.consumer_tag.as_str());
        if self.consumers.by_tag.contains_key(&tag) {
            return Err(ConnectionError::ConsumerTagReused(tag.as_str().to_owned()).into());
        }
        if consume.queue.as_str() == DIRECT_REPLY_TO {
            return self.consume_replies(consume, connection, context);
        }
        let name = self.queue_name(consume.queue.as_str())?;
        let (queue, core) = context.readable_queue(&name, connection)?;
        let vhost = context.topology.vhost_name(connection.vhost);
        let arguments = ConsumerArguments::parse(table)
            .map_err(|fault| fault.of("queue", &strip_cr_lf(&name), vhost))?;
        let own_timeout = arguments.timeout().filter(|_| !consume.no_ack);
        self.check_own_timeout(own_timeout)?;
        let number = self.add_consumer(consume, core, queue, connection)?;
        if !consume.no_ack {
            self.mind_timeout(queue, connection, context);
            self.mind_own_timeout(number, own_timeout, connection);
        }
        self.attach(number, consume, arguments, connection, context);
        Ok(())
    }

    /// A consumer of direct replies: first its queue is declared.
    fn consume_replies(
        &mut self,
        consume: &basic::Consume,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        if self.reply_queue(context).is_some() {
            return Err(ChannelError::ReplyConsumerSet.into());
        }
        if !consume.no_ack {
            return Err(ChannelError::ReplyConsumerAcknowledges.into());
        }
        let request = Request::DeclareReplyQueue {
            vhost: connection.vhost,
            owner: connection.id.core,
        };
        let consume = Box::new(consume.clone());
        let question = Question::DeclareReplies { consume };
        self.ask_catalog(request, question, connection, context);
        Ok(())
    }

    /// The queue for direct replies is there: attaches its consumer.
    pub(super) fn replies_declared(
        &mut self,
        consume: &basic::Consume,
        queue: QueueId,
        name: Name,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        // It goes with its consumer; should there never be one, with the connection.
        connection.owns(queue, context.topology);
        let number = self.add_consumer(consume, connection.id.core, queue, connection)?;
        self.replies = Some((name, queue));
        let arguments = ConsumerArguments::default();
        self.attach(number, consume, arguments, connection, context);
        Ok(())
    }

    /// The queue for direct replies to this channel, if it has one.
    pub(super) fn reply_queue(&self, context: &SessionContext<'_>) -> Option<&Name> {
        let (name, queue) = self.replies.as_ref()?;
        context.topology.queue(*queue).map(|_| name)
    }

    fn add_consumer(
        &mut self,
        consume: &basic::Consume,
        core: CoreId,
        queue: QueueId,
        connection: &Connection,
    ) -> Result<u32, AmqpError> {
        let tag = self.consumer_tag(consume.consumer_tag.as_str(), connection);
        if self.consumers.all.len() >= limits::CONSUMERS_PER_CHANNEL_MAX {
            let most = limits::CONSUMERS_PER_CHANNEL_MAX;
            return Err(ConnectionError::TooManyConsumers(most).into());
        }
        let number = self.consumers.all.insert(Consumer {
            tag: tag.clone(),
            core,
            queue,
            lent: 0,
        });
        self.consumers.by_tag.insert(tag, number);
        Ok(number)
    }

    /// Asks the consumer's queue to deliver to it.
    fn attach(
        &mut self,
        number: u32,
        consume: &basic::Consume,
        arguments: ConsumerArguments,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) {
        let Some(consumer) = self.consumers.get(number) else {
            return;
        };
        let (core, queue) = (consumer.core, consumer.queue);
        self.touch(core);
        let consumers = &self.consumers;
        context
            .outbox
            .to(core)
            .to_shard
            .push(ToShard::Consume(Box::new(Consume {
                session: connection.id,
                channel: self.number,
                consumer: number,
                queue,
                no_ack: consume.no_ack,
                exclusive: consume.exclusive,
                priority: arguments.priority,
                prefetch: consumers.prefetch,
                metered: consumers.channel_prefetch != 0,
                paused: consumers.paused,
            })));
        let nowait = consume.nowait;
        self.ask(Question::Consume { number, nowait });
    }

    fn consumer_tag(&mut self, wanted: &str, connection: &Connection) -> Name {
        if wanted.is_empty() {
            self.consumers.next_tag += 1;
            // Unique on this channel is enough (AMQP 0-9-1, basic.consume); the rest tells an
            // operator where it came from.
            return Name::from(format!(
                "amq.ctag-{}.{}.{}.{}",
                connection.id.core, connection.id.index, self.number, self.consumers.next_tag
            ));
        }
        Name::from(wanted)
    }

    /// `basic.cancel`: answered when no delivery of the consumer is under way any more.
    pub(super) fn cancel(
        &mut self,
        cancel: &basic::Cancel,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) {
        let tag = cancel.consumer_tag.as_str();
        let Some(&number) = self.consumers.by_tag.get(tag) else {
            if !cancel.nowait {
                self.send_cancel_ok(tag, connection);
            }
            return;
        };
        let core = self.detach_consumer(number, connection, context);
        if let Some(core) = core {
            self.ask_for_sign(core, connection, context);
            let nowait = cancel.nowait;
            self.ask(Question::Cancel { number, nowait });
        }
    }

    pub(super) fn send_cancel_ok(&self, tag: &str, connection: &mut Connection) {
        let cancel_ok = basic::CancelOk {
            consumer_tag: tag.into(),
        };
        let method = basic::AMQPMethod::CancelOk(cancel_ok);
        connection.send(self.number, &AMQPClass::Basic(method));
    }

    /// Tells the consumer's queue to deliver no more; the queue's core.
    pub(super) fn detach_consumer(
        &self,
        number: u32,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) -> Option<CoreId> {
        let consumer = self.consumers.get(number)?;
        context
            .outbox
            .to(consumer.core)
            .to_shard
            .push(ToShard::Cancel {
                session: connection.id,
                consumer: number,
                queue: consumer.queue,
            });
        Some(consumer.core)
    }

    /// The queue of a consumer was deleted.
    pub(super) fn consumer_cancelled(&mut self, number: u32, connection: &mut Connection) {
        // A cancel that is under way gets its own answer.
        if matches!(self.question, Some(Question::Cancel { number: open, .. }) if open == number) {
            return;
        }
        // Who deletes a queue hears that it is done before it hears of its own consumers.
        if let Some(Question::Delete { .. }) = self.question {
            self.late_cancels.push(number);
            return;
        }
        let Some(consumer) = self.consumers.remove(number) else {
            return;
        };
        if self.is_open() && connection.client.consumer_cancel_notify {
            let cancel = basic::Cancel {
                consumer_tag: consumer.tag.as_str().into(),
                nowait: true,
            };
            let method = basic::AMQPMethod::Cancel(cancel);
            connection.send(self.number, &AMQPClass::Basic(method));
        }
    }

    /// `channel.flow`: answered when deliveries have stopped (or may flow again).
    pub(super) fn flow(
        &mut self,
        active: bool,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) {
        self.consumers.paused = !active;
        let mut cores = Vec::new();
        for (number, consumer) in self.consumers.all.iter() {
            context
                .outbox
                .to(consumer.core)
                .to_shard
                .push(ToShard::Pause {
                    session: connection.id,
                    consumer: number,
                    queue: consumer.queue,
                    paused: !active,
                });
            if !cores.contains(&consumer.core) {
                cores.push(consumer.core);
            }
        }
        if cores.is_empty() {
            self.send_flow_ok(active, connection);
            return;
        }
        let waiting = cores.len();
        for core in cores {
            self.ask_for_sign(core, connection, context);
        }
        self.ask(Question::Flow { active, waiting });
    }

    pub(super) fn send_flow_ok(&self, active: bool, connection: &mut Connection) {
        let method = channel::AMQPMethod::FlowOk(channel::FlowOk { active });
        connection.send(self.number, &AMQPClass::Channel(method));
    }
}
