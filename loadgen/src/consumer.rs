//! The consuming side of one connection: acks, the consumer rate, and latencies.

use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::FieldTable;
use anyhow::Result;

use crate::client::short;
use crate::handler::{Arrival, Handler, HandlingTime};
use crate::options::{Nack, Settings};
use crate::schedule::Schedule;
use crate::stats::Tally;
use crate::wire::{push_ack, push_method, push_nack};

/// Messages that may wait for the consumers of one connection, for each of them, before it reads no
/// more: what the Java client, and so PerfTest, keeps for a busy consumer.
const WAITING_MAX: u64 = 1_000;

/// One consumer connection's channels.
#[derive(Debug)]
pub(crate) struct Consumer {
    channels: Vec<ConsumeChannel>,
    /// Deliveries read, of which the last ones may still wait for their consumers.
    taken: u64,
    /// Messages that their consumers are done with.
    received: u64,
    limit: u64,
    rate: Option<f64>,
    schedule: Option<Schedule>,
    /// With consumers that take a while.
    handling_time: Option<HandlingTime>,
    auto_ack: bool,
    nack: Option<Nack>,
    ack_every: u32,
    every_latency: bool,
}

#[derive(Debug)]
struct ConsumeChannel {
    number: u16,
    queues: Vec<String>,
    handler: Handler,
    unacked: u32,
    /// The last message that the consumer was done with.
    last_tag: u64,
}

impl Consumer {
    /// `queues[channel]` are the names that each channel consumes from.
    pub(crate) fn new(settings: &Settings, queues: &[Vec<String>]) -> Self {
        let channels = queues.len() as u64;
        Self {
            channels: queues
                .iter()
                .zip(1u16..)
                .map(|(queues, number)| ConsumeChannel {
                    number,
                    queues: queues.clone(),
                    handler: Handler::default(),
                    unacked: 0,
                    last_tag: 0,
                })
                .collect(),
            taken: 0,
            received: 0,
            limit: settings
                .consumer_messages
                .map_or(u64::MAX, |limit| limit.saturating_mul(channels)),
            rate: settings.consumer_rate.map(|rate| rate * channels as f64),
            schedule: None,
            handling_time: HandlingTime::of(settings),
            auto_ack: settings.auto_ack,
            nack: settings.nack,
            ack_every: settings.multi_ack_every,
            every_latency: settings.records_every_latency(),
        }
    }

    /// The run begins: asks for deliveries. Returns the number of consume-ok frames to expect.
    pub(crate) fn begin(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<usize> {
        self.schedule = self.rate.map(|rate| Schedule::new(now_ns, rate, 0.0));
        if let Some(time) = &mut self.handling_time {
            time.begin(now_ns);
        }
        let mut consumers = 0;
        for channel in &self.channels {
            for queue in &channel.queues {
                consumers += 1;
                let consume = basic::Consume {
                    queue: short(queue)?,
                    consumer_tag: format!("ctag-{consumers}").into(),
                    no_local: false,
                    no_ack: self.auto_ack,
                    exclusive: false,
                    nowait: false,
                    arguments: FieldTable::default(),
                };
                push_method(
                    out,
                    channel.number,
                    AMQPClass::Basic(basic::AMQPMethod::Consume(consume)),
                );
            }
        }
        Ok(consumers)
    }

    /// How many deliveries may be read now.
    pub(crate) fn allowance(&self, now_ns: u64) -> u64 {
        let most = self.room();
        let schedule = self.schedule.as_ref();
        schedule.map_or(most, |schedule| schedule.due(now_ns, self.taken, most))
    }

    /// Regardless of the rate.
    fn room(&self) -> u64 {
        let left = self.limit - self.taken;
        if self.handling_time.is_none() {
            return left;
        }
        let most = WAITING_MAX * self.channels.len() as u64;
        left.min(most.saturating_sub(self.taken - self.received))
    }

    /// When there is next something to do without an event: `input` says whether some lies there to
    /// be read.
    pub(crate) fn next_due_ns(&self, input: bool) -> Option<u64> {
        let schedule = self.schedule.as_ref();
        let read = (input && self.room() > 0)
            .then(|| schedule.map_or(0, |schedule| schedule.due_at_ns(self.taken)));
        let done = self.handling_time.as_ref().and_then(|time| {
            let channels = self.channels.iter();
            channels.filter_map(|it| it.handler.done_at_ns(time)).min()
        });
        read.into_iter().chain(done).min()
    }

    /// Whether there are due times that matter to less than a millisecond.
    pub(crate) fn takes_a_while(&self) -> bool {
        self.handling_time.is_some()
    }

    /// Whether the connection has had its -D messages.
    pub(crate) fn is_done(&self) -> bool {
        self.received == self.limit
    }

    /// A message arrived. If the consumer does nothing with it, appends an ack if one is due.
    #[inline]
    pub(crate) fn delivered(
        &mut self,
        now_ns: u64,
        channel: u16,
        (delivery_tag, time_ns): (u64, u64),
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        self.taken += 1;
        // The scanner has checked the number: channel 0 has no content.
        let channel = usize::from(channel) - 1;
        if self.handling_time.is_some() {
            self.channels[channel].handler.take(Arrival {
                arrived_ns: now_ns,
                delivery_tag,
                time_ns,
            });
            return;
        }
        let latency_ns = (time_ns != 0).then(|| now_ns.saturating_sub(time_ns));
        self.handled(channel, delivery_tag, latency_ns, out, tally);
    }

    /// Lets consumers that take a while be done with what they are done with by now.
    pub(crate) fn handle(&mut self, now_ns: u64, out: &mut Vec<u8>, tally: &mut Tally) {
        let Some(time) = self.handling_time.clone() else {
            return;
        };
        for channel in 0..self.channels.len() {
            while let Some(done) = self.channels[channel].handler.next_done(now_ns, &time) {
                self.handled(channel, done.delivery_tag, done.latency_ns, out, tally);
            }
        }
    }

    /// Counts a message, and appends an ack if one is due. When not every latency counts, that of the
    /// first message of each turn does.
    #[inline]
    fn handled(
        &mut self,
        channel: usize,
        delivery_tag: u64,
        latency_ns: Option<u64>,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        self.received += 1;
        if let Some(latency_ns) = latency_ns
            && (self.every_latency || tally.received == 0)
        {
            tally.consumer_latencies_ns.push(latency_ns);
        }
        tally.received += 1;
        if self.auto_ack {
            return;
        }
        let channel = &mut self.channels[channel];
        channel.last_tag = delivery_tag;
        channel.unacked += 1;
        if channel.unacked == self.ack_every {
            channel.unacked = 0;
            channel.settle(self.nack, self.ack_every > 1, out);
        }
    }

    /// Acknowledges, or refuses, what -A has not yet completed, at the end.
    pub(crate) fn ack_rest(&mut self, out: &mut Vec<u8>) {
        for channel in &mut self.channels {
            if std::mem::take(&mut channel.unacked) > 0 {
                channel.settle(self.nack, true, out);
            }
        }
    }
}

impl ConsumeChannel {
    /// Acknowledges or refuses what the consumer was done with last; with `multiple` all before, too.
    #[inline]
    fn settle(&self, nack: Option<Nack>, multiple: bool, out: &mut Vec<u8>) {
        match nack {
            None => push_ack(out, self.number, self.last_tag, multiple),
            Some(nack) => {
                let requeue = nack == Nack::Requeue;
                push_nack(out, self.number, self.last_tag, multiple, requeue);
            }
        }
    }
}
