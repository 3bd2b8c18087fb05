//! The consuming side of one connection: acks, the consumer rate, and latencies.

use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::FieldTable;
use anyhow::Result;

use crate::client::short;
use crate::options::Settings;
use crate::schedule::Schedule;
use crate::stats::Tally;
use crate::wire::{push_ack, push_method};

/// One consumer connection's channels.
#[derive(Debug)]
pub(crate) struct Consumer {
    channels: Vec<ConsumeChannel>,
    received: u64,
    limit: u64,
    rate: Option<f64>,
    schedule: Option<Schedule>,
    auto_ack: bool,
    ack_every: u32,
    every_latency: bool,
}

#[derive(Debug)]
struct ConsumeChannel {
    queues: Vec<String>,
    unacked: u32,
}

impl Consumer {
    /// `queues[channel]` are the names that each channel consumes from.
    pub(crate) fn new(settings: &Settings, queues: &[Vec<String>]) -> Self {
        let channels = queues.len() as u64;
        Self {
            channels: queues
                .iter()
                .map(|queues| ConsumeChannel {
                    queues: queues.clone(),
                    unacked: 0,
                })
                .collect(),
            received: 0,
            limit: settings
                .consumer_messages
                .map_or(u64::MAX, |limit| limit.saturating_mul(channels)),
            rate: settings.consumer_rate.map(|rate| rate * channels as f64),
            schedule: None,
            auto_ack: settings.auto_ack,
            ack_every: settings.multi_ack_every,
            every_latency: settings.records_every_latency(),
        }
    }

    /// The run begins: asks for deliveries. Returns the number of consume-ok frames to expect.
    pub(crate) fn begin(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<usize> {
        self.schedule = self.rate.map(|rate| Schedule::new(now_ns, rate, 0.0));
        let mut consumers = 0;
        for (channel, number) in self.channels.iter().zip(1u16..) {
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
                    number,
                    AMQPClass::Basic(basic::AMQPMethod::Consume(consume)),
                );
            }
        }
        Ok(consumers)
    }

    /// How many deliveries may be taken now.
    pub(crate) fn allowance(&self, now_ns: u64) -> u64 {
        let left = self.limit - self.received;
        let schedule = self.schedule.as_ref();
        schedule.map_or(left, |schedule| schedule.due(now_ns, self.received, left))
    }

    /// With a consumer rate: when the next delivery may be taken.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.schedule
            .as_ref()
            .filter(|_| !self.is_done())
            .map(|schedule| schedule.due_at_ns(self.received))
    }

    /// Whether the connection has had its -D messages.
    pub(crate) fn is_done(&self) -> bool {
        self.received == self.limit
    }

    /// A message arrived; appends an ack if one is due. `first` says that it is the first of this
    /// read, the one whose latency counts when not all do.
    #[inline]
    pub(crate) fn delivered(
        &mut self,
        now_ns: u64,
        channel: u16,
        (delivery_tag, time_ns): (u64, u64),
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        self.received += 1;
        if time_ns != 0 && (self.every_latency || tally.received == 0) {
            tally
                .consumer_latencies_ns
                .push(now_ns.saturating_sub(time_ns));
        }
        tally.received += 1;
        if self.auto_ack {
            return;
        }
        // The scanner has checked the number: channel 0 has no content.
        let unacked = &mut self.channels[usize::from(channel) - 1].unacked;
        *unacked += 1;
        if *unacked == self.ack_every {
            *unacked = 0;
            push_ack(out, channel, delivery_tag, self.ack_every > 1);
        }
    }

    /// Acknowledges what -A has not yet completed, at the end.
    pub(crate) fn ack_rest(&mut self, out: &mut Vec<u8>) {
        for (channel, number) in self.channels.iter_mut().zip(1u16..) {
            if std::mem::take(&mut channel.unacked) > 0 {
                // Delivery tag 0 with multiple: all that is outstanding on the channel.
                push_ack(out, number, 0, true);
            }
        }
    }
}
