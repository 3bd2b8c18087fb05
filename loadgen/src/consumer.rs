//! The consuming side of one connection: acks, the consumer rate, latencies, and questions for more.

use amq_protocol::protocol::{AMQPClass, basic, tx};
use amq_protocol::types::FieldTable;
use anyhow::Result;

use crate::client::short;
use crate::handler::{Arrival, Handled, Handler, HandlingTime};
use crate::options::{Nack, Settings};
use crate::polling::Polling;
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
    /// Whether the consumers ask for each message, and how many questions aren't answered yet.
    asks: bool,
    asked: u64,
    /// With consumers that take a while.
    handling_time: Option<HandlingTime>,
    auto_ack: bool,
    nack: Option<Nack>,
    ack_every: u32,
    /// With transactions: messages in each, and how many commits aren't answered yet.
    commit_every: Option<u32>,
    committing: usize,
    every_latency: bool,
}

#[derive(Debug)]
struct ConsumeChannel {
    number: u16,
    queues: Vec<String>,
    /// With consumers that ask for each message.
    polling: Option<Polling>,
    handler: Handler,
    unacked: u32,
    uncommitted: u32,
    /// The last message that the consumer was done with.
    last_tag: u64,
}

impl Consumer {
    /// `queues[channel]` are the names that each channel consumes from.
    pub(crate) fn new(settings: &Settings, queues: &[Vec<String>]) -> Self {
        let channels = queues.len() as u64;
        let interval_ns = settings.polling_interval_ms.map(|ms| ms * 1_000_000);
        let channel = |(queues, number): (&Vec<String>, u16)| ConsumeChannel {
            number,
            queues: queues.clone(),
            polling: interval_ns.map(|interval_ns| Polling::new(interval_ns, queues.len())),
            handler: Handler::default(),
            unacked: 0,
            uncommitted: 0,
            last_tag: 0,
        };
        Self {
            channels: queues.iter().zip(1..).map(channel).collect(),
            taken: 0,
            received: 0,
            limit: settings
                .consumer_messages
                .map_or(u64::MAX, |limit| limit.saturating_mul(channels)),
            rate: settings.consumer_rate.map(|rate| rate * channels as f64),
            schedule: None,
            asks: interval_ns.is_some(),
            asked: 0,
            handling_time: HandlingTime::of(settings),
            auto_ack: settings.auto_ack,
            nack: settings.nack,
            ack_every: settings.multi_ack_every,
            commit_every: settings.consumer_transaction,
            committing: 0,
            every_latency: settings.records_every_latency(),
        }
    }

    /// The run begins: asks for deliveries, unless it asks for each.
    pub(crate) fn begin(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<()> {
        self.schedule = self.rate.map(|rate| Schedule::new(now_ns, rate, 0.0));
        if let Some(time) = &mut self.handling_time {
            time.begin(now_ns);
        }
        if self.asks {
            return Ok(());
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
        Ok(())
    }

    /// How many deliveries may be read now. What was asked for is always read.
    pub(crate) fn allowance(&self, now_ns: u64) -> u64 {
        let most = self.room();
        match &self.schedule {
            Some(schedule) if !self.asks => schedule.due(now_ns, self.taken, most),
            _ => most,
        }
    }

    /// Regardless of the rate. While a commit isn't answered there is room for all, even beyond -D,
    /// since what is behind may be the answer.
    fn room(&self) -> u64 {
        if self.committing > 0 {
            return u64::MAX;
        }
        let left = self.limit.saturating_sub(self.taken);
        if self.handling_time.is_none() {
            return left;
        }
        let most = WAITING_MAX * self.channels.len() as u64;
        left.min(most.saturating_sub(self.taken - self.received))
    }

    /// When there is next something to do without an event: `input` says whether some lies there to
    /// be read.
    pub(crate) fn next_due_ns(&self, input: bool) -> Option<u64> {
        if self.is_done() {
            return None;
        }
        let room = self.room();
        let read = (input && room > 0).then(|| match self.asks {
            true => 0,
            false => self.scheduled_ns(self.taken),
        });
        let channels = self.channels.iter();
        let ask = match self.asks && room > self.asked {
            true => channels.clone().filter_map(ConsumeChannel::ask_at_ns).min(),
            false => None,
        };
        let ask = ask.map(|ask_ns| ask_ns.max(self.scheduled_ns(self.taken + self.asked)));
        let done = self.handling_time.as_ref().and_then(|time| {
            let times = channels.filter_map(|it| it.handler.done_at_ns(time));
            times.min()
        });
        [read, ask, done].into_iter().flatten().min()
    }

    /// When the rate allows this message.
    fn scheduled_ns(&self, index: u64) -> u64 {
        let schedule = self.schedule.as_ref();
        schedule.map_or(0, |schedule| schedule.due_at_ns(index))
    }

    /// Whether there are due times that matter to less than a millisecond.
    pub(crate) fn takes_a_while(&self) -> bool {
        self.handling_time.is_some() || self.asks
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
        if self.asks {
            self.asked = self.asked.saturating_sub(1);
        }
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
        let handled = Handled {
            delivery_tag,
            latency_ns: (time_ns != 0).then(|| now_ns.saturating_sub(time_ns)),
        };
        self.finish(now_ns, channel, handled, out, tally);
    }

    /// basic.get-empty arrived.
    pub(crate) fn got_nothing(&mut self, now_ns: u64, channel: u16) {
        let channel = self.channels.get_mut(usize::from(channel).wrapping_sub(1));
        if let Some(polling) = channel.and_then(|channel| channel.polling.as_mut()) {
            self.asked = self.asked.saturating_sub(1);
            polling.answered(now_ns);
        }
    }

    /// tx.commit-ok arrived: the consumer goes on.
    pub(crate) fn committed(&mut self, now_ns: u64, channel: u16) {
        let channel = self.channels.get_mut(usize::from(channel).wrapping_sub(1));
        if let Some(channel) = channel {
            self.committing = self.committing.saturating_sub(1);
            channel.go_on(now_ns);
        }
    }

    /// Lets consumers that take a while be done with what they are done with by now, and asks for
    /// what is to be asked for.
    pub(crate) fn work(&mut self, now_ns: u64, out: &mut Vec<u8>, tally: &mut Tally) -> Result<()> {
        if let Some(time) = self.handling_time.clone() {
            for channel in 0..self.channels.len() {
                while self.received < self.limit
                    && let Some(handled) = self.channels[channel].handler.next_done(now_ns, &time)
                {
                    self.finish(now_ns, channel, handled, out, tally);
                }
            }
        }
        if self.asks {
            self.ask(now_ns, out)?;
        }
        Ok(())
    }

    fn ask(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<()> {
        for index in 0..self.channels.len() {
            let is_allowed =
                self.room() > self.asked && self.scheduled_ns(self.taken + self.asked) <= now_ns;
            let channel = &mut self.channels[index];
            let Some(polling) = &mut channel.polling else {
                continue;
            };
            if is_allowed && polling.ask_at_ns().is_some_and(|at_ns| at_ns <= now_ns) {
                let get = basic::Get {
                    queue: short(&channel.queues[polling.ask()])?,
                    no_ack: self.auto_ack,
                };
                let get = AMQPClass::Basic(basic::AMQPMethod::Get(get));
                push_method(out, channel.number, get);
                self.asked += 1;
            }
        }
        Ok(())
    }

    /// Counts a message, and appends an ack and a commit if they are due. When not every latency
    /// counts, that of the first message of each turn does.
    #[inline]
    fn finish(
        &mut self,
        now_ns: u64,
        channel: usize,
        handled: Handled,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        self.received += 1;
        if let Some(latency_ns) = handled.latency_ns
            && (self.every_latency || tally.received == 0)
        {
            tally.consumer_latencies_ns.push(latency_ns);
        }
        tally.received += 1;
        if self.auto_ack && !self.asks {
            return;
        }
        let channel = &mut self.channels[channel];
        if !self.auto_ack {
            channel.last_tag = handled.delivery_tag;
            channel.unacked += 1;
            if channel.unacked == self.ack_every {
                channel.unacked = 0;
                channel.settle(self.nack, self.ack_every > 1, out);
            }
        }
        if let Some(commit_every) = self.commit_every {
            channel.uncommitted += 1;
            if channel.uncommitted == commit_every {
                channel.commit(out);
                channel.handler.wait();
                self.committing += 1;
                return;
            }
        }
        if let Some(polling) = &mut channel.polling {
            polling.answered(now_ns);
        }
    }

    /// Acknowledges, or refuses, what -A has not yet completed, and commits what -n hasn't, at the
    /// end.
    pub(crate) fn settle_rest(&mut self, out: &mut Vec<u8>) {
        for channel in &mut self.channels {
            if std::mem::take(&mut channel.unacked) > 0 {
                channel.settle(self.nack, true, out);
            }
            if channel.uncommitted > 0 {
                channel.commit(out);
            }
        }
    }
}

impl ConsumeChannel {
    fn ask_at_ns(&self) -> Option<u64> {
        self.polling.as_ref().and_then(Polling::ask_at_ns)
    }

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

    fn commit(&mut self, out: &mut Vec<u8>) {
        self.uncommitted = 0;
        let commit = AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}));
        push_method(out, self.number, commit);
    }

    /// A commit was answered.
    fn go_on(&mut self, now_ns: u64) {
        self.handler.go_on(now_ns);
        if let Some(polling) = &mut self.polling {
            polling.answered(now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::settings;
    use crate::wire::{complete_frame, decode_method};

    /// A consumer with what it writes and counts.
    struct Bench {
        consumer: Consumer,
        out: Vec<u8>,
        tally: Tally,
    }

    impl Bench {
        fn new(line: &str) -> Self {
            let settings = settings(line).expect("valid");
            let queues = vec![settings.queues.clone(); usize::from(settings.consumer_channels)];
            let mut consumer = Consumer::new(&settings, &queues);
            let mut out = Vec::new();
            consumer.begin(0, &mut out).expect("short names");
            out.clear();
            Self {
                consumer,
                out,
                tally: Tally::default(),
            }
        }

        fn deliver(&mut self, now_ns: u64, delivery_tag: u64) {
            let message = (delivery_tag, 0);
            self.consumer
                .delivered(now_ns, 1, message, &mut self.out, &mut self.tally);
        }

        /// What is written by now: tags of acks (with a star for multiple), commits, and questions.
        fn written(&mut self, now_ns: u64) -> Vec<String> {
            self.consumer
                .work(now_ns, &mut self.out, &mut self.tally)
                .expect("short names");
            let bytes = std::mem::take(&mut self.out);
            let mut rest = &bytes[..];
            let mut written = Vec::new();
            while let Some(length) = complete_frame(rest) {
                let method = decode_method(&rest[..length]).expect("it is ours");
                let (_, method) = method.expect("methods alone");
                written.push(match method {
                    AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                        format!(
                            "{}{}",
                            ack.delivery_tag,
                            if ack.multiple { "*" } else { "" }
                        )
                    }
                    AMQPClass::Tx(tx::AMQPMethod::Commit(_)) => "commit".to_owned(),
                    AMQPClass::Basic(basic::AMQPMethod::Get(get)) => get.queue.to_string(),
                    other => format!("{other:?}"),
                });
                rest = &rest[length..];
            }
            written
        }
    }

    #[test]
    fn what_is_left_is_acknowledged_at_the_end_and_no_more() {
        let mut bench = Bench::new("lg throughput -A 3 -L 10");
        (1..=6).for_each(|tag| bench.deliver(0, tag));
        assert_eq!(bench.written(50_000), ["3*"]);
        bench.consumer.settle_rest(&mut bench.out);
        assert_eq!(bench.written(50_000), ["5*"]);
        assert_eq!(bench.tally.received, 5);
    }

    #[test]
    fn a_busy_consumer_lets_a_thousand_wait_for_each_channel() {
        let mut bench = Bench::new("lg throughput -L 10 -Y 2");
        assert_eq!(bench.consumer.allowance(0), 2_000);
        (1..=2_000).for_each(|tag| bench.deliver(0, tag));
        assert_eq!(bench.consumer.allowance(0), 0);
        assert_eq!(bench.consumer.next_due_ns(true), Some(10_000));
        assert_eq!(bench.written(10_000), ["1"]);
        assert_eq!(bench.consumer.allowance(0), 1);
        assert_eq!(bench.consumer.next_due_ns(true), Some(0));
    }

    #[test]
    fn a_consumer_goes_on_when_its_commit_is_answered() {
        let mut bench = Bench::new("lg throughput -A 2 -n 3");
        (1..=8).for_each(|tag| bench.deliver(5, tag));
        assert_eq!(bench.written(9), ["2*", "commit"]);
        assert_eq!(bench.consumer.next_due_ns(false), Some(u64::MAX));
        bench.consumer.committed(10, 1);
        assert_eq!(bench.written(10), ["4*", "6*", "commit"]);
        bench.consumer.committed(11, 1);
        assert_eq!(bench.written(11), ["8*"]);
        bench.consumer.settle_rest(&mut bench.out);
        assert_eq!(bench.written(12), ["commit"]);
    }

    #[test]
    fn an_answer_behind_a_thousand_deliveries_is_reached() {
        let mut bench = Bench::new("lg throughput -n 1 -D 1002");
        bench.deliver(0, 1);
        assert_eq!(bench.written(0), ["1", "commit"]);
        (2..=1_500).for_each(|tag| bench.deliver(0, tag));
        assert!(bench.consumer.allowance(0) > 0);
        bench.consumer.committed(1, 1);
        assert_eq!(bench.consumer.allowance(1), 0);
        // It has read more than it is to have; the others go back to the queue, unacknowledged.
        (2..=1_002).for_each(|_| {
            bench.written(2);
            bench.consumer.committed(2, 1);
        });
        assert!(bench.consumer.is_done());
        assert_eq!(bench.written(3), [""; 0]);
        assert_eq!(bench.tally.received, 1_002);
        assert_eq!(bench.consumer.next_due_ns(true), None);
    }

    #[test]
    fn a_polling_consumer_asks_its_queues_in_turn() {
        let mut bench = Bench::new("lg throughput -po -pi 1 -L 500 -qp q%d -qpt 2");
        assert_eq!(bench.consumer.next_due_ns(false), Some(0));
        assert_eq!(bench.written(0), ["q1"]);
        assert_eq!(bench.consumer.next_due_ns(false), None);
        bench.consumer.got_nothing(100, 1);
        assert_eq!(bench.consumer.next_due_ns(false), Some(1_000_100));
        assert_eq!(bench.written(1_000_099), [""; 0]);
        assert_eq!(bench.written(1_000_100), ["q2"]);
        bench.deliver(1_100_000, 1);
        assert_eq!(bench.consumer.next_due_ns(false), Some(1_600_000));
        assert_eq!(bench.written(1_600_000), ["1"]);
        assert_eq!(bench.written(2_600_000), ["q1"]);
    }

    #[test]
    fn a_polling_consumer_asks_no_more_than_it_is_to_have() {
        let mut bench = Bench::new("lg throughput -po -D 1 -Y 2");
        bench.consumer.limit = 1;
        assert_eq!(bench.written(0), ["leveret-loadgen"]);
        bench.consumer.got_nothing(0, 1);
        assert_eq!(bench.written(0), ["leveret-loadgen"]);
        bench.deliver(0, 1);
        assert_eq!(bench.written(0), ["1"]);
        assert!(bench.consumer.is_done());
    }

    #[test]
    fn a_polling_consumer_keeps_to_its_rate() {
        let mut bench = Bench::new("lg throughput -po -R 10");
        assert_eq!(bench.written(0), ["leveret-loadgen"]);
        bench.deliver(1_000, 1);
        assert_eq!(bench.consumer.next_due_ns(false), Some(100_000_000));
        assert_eq!(bench.written(99_999_999), ["1"]);
        assert_eq!(bench.written(100_000_000), ["leveret-loadgen"]);
        // Nothing was there: asking again takes no part of the rate.
        bench.consumer.got_nothing(100_000_001, 1);
        assert_eq!(bench.written(100_000_001), ["leveret-loadgen"]);
    }
}
