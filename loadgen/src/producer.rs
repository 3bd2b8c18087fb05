//! The publishing side of one connection: whose turn it is, how many messages may go, and their
//! stamps.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, tx};

use crate::confirms::ConfirmWindow;
use crate::options::Settings;
use crate::output::Output;
use crate::routing_key::{self, RandomKeys};
use crate::schedule::{Schedule, Step, step_at};
use crate::stats::Tally;
use crate::wire::{Publication, PublishTemplate};

/// One producer connection's channels.
#[derive(Debug)]
pub(crate) struct Producer {
    channels: Vec<PublishChannel>,
    /// The channel whose turn it is.
    next: usize,
    /// Messages per write, for each size.
    batches: Vec<u64>,
    /// With a size that changes: which one when, counted from the start. Empty otherwise.
    size_steps: Vec<Step>,
    start_ns: u64,
    /// Whether each confirm's latency counts, or one per confirm frame.
    every_latency: bool,
}

#[derive(Debug)]
struct PublishChannel {
    number: u16,
    /// For each size one for each queue of this channel, used in turn.
    templates: Vec<Vec<PublishTemplate>>,
    published: u64,
    limit: u64,
    rate: Rate,
    /// The part of an interval by which this channel's schedule is shifted.
    phase: f64,
    /// Laid down when the run begins.
    schedule: Option<Schedule>,
    window: Option<ConfirmWindow>,
    transaction: Option<Transaction>,
    /// Where each message has a routing key of its own.
    random_keys: Option<RandomKeys>,
    /// The server asked for a pause by channel.flow.
    paused: bool,
}

/// Publishes that a commit makes valid.
#[derive(Debug)]
struct Transaction {
    size: u64,
    /// How many more belong to the current one.
    left: u64,
    /// Whether its commit isn't answered yet.
    committing: bool,
}

/// How fast a channel publishes.
#[derive(Clone, Debug)]
enum Rate {
    Unlimited,
    /// Messages per second.
    Fixed(f64),
    Steps(Arc<[Step]>),
}

impl Producer {
    /// The producer connection with this index; `queues[channel]` are the names that each of its
    /// channels publishes to. One write gathers up to `write_bytes`, one message at least.
    pub(crate) fn new(
        settings: &Settings,
        index: usize,
        queues: &[Vec<String>],
        frame_max: usize,
        write_bytes: usize,
    ) -> Self {
        let producers = f64::from(settings.producers) * f64::from(settings.producer_channels);
        let rate = match settings.rate {
            Some(rate) => Rate::Fixed(rate),
            None if settings.variable_rate.is_empty() => Rate::Unlimited,
            None => Rate::Steps(settings.variable_rate.as_slice().into()),
        };
        let channels: Vec<_> = queues
            .iter()
            .zip(1u16..)
            .map(|(queues, number)| {
                let position =
                    index * usize::from(settings.producer_channels) + usize::from(number) - 1;
                PublishChannel {
                    number,
                    templates: templates(settings, number, queues, frame_max),
                    published: 0,
                    limit: settings.producer_messages.unwrap_or(u64::MAX),
                    rate: rate.clone(),
                    phase: position as f64 / producers,
                    schedule: None,
                    window: settings.confirm.map(ConfirmWindow::new),
                    transaction: settings.producer_transaction.map(Transaction::new),
                    random_keys: settings.random_routing_key.then(RandomKeys::new),
                    paused: false,
                }
            })
            .collect();
        let batch = |templates: &Vec<PublishTemplate>| {
            let message_bytes = templates[0].bytes().len();
            (write_bytes / message_bytes).max(1) as u64
        };
        let batches = channels[0].templates.iter().map(batch).collect();
        Self {
            channels,
            next: 0,
            batches,
            size_steps: settings.variable_size.clone(),
            start_ns: 0,
            every_latency: settings.records_every_latency(),
        }
    }

    /// The run begins: schedules count from here.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        self.start_ns = now_ns;
        for channel in &mut self.channels {
            channel.schedule = match &channel.rate {
                Rate::Unlimited => None,
                Rate::Fixed(rate) => Some(Schedule::new(now_ns, *rate, channel.phase)),
                Rate::Steps(steps) => Some(Schedule::with_steps(now_ns, steps, channel.phase)),
            };
        }
    }

    /// Lays out what the next channel in turn may publish now; returns the number of messages.
    pub(crate) fn fill(&mut self, now_ns: u64, output: &mut Output) -> u64 {
        let channels = self.channels.len();
        let size = match &self.size_steps[..] {
            [] => 0,
            steps => step_at(steps, now_ns - self.start_ns),
        };
        for _ in 0..channels {
            let channel = &mut self.channels[self.next];
            self.next = (self.next + 1) % channels;
            let count = channel.allowance(now_ns, self.batches[size]);
            if count > 0 {
                channel.lay_out(now_ns, count, size, output);
                return count;
            }
        }
        0
    }

    /// When there is next something to publish: now, at a due time, or not before an event.
    pub(crate) fn next_due_ns(&self, now_ns: u64) -> Option<u64> {
        let due = self
            .channels
            .iter()
            .filter(|channel| channel.allowance(u64::MAX, 1) > 0);
        due.map(|channel| {
            let schedule = channel.schedule.as_ref();
            schedule.map_or(now_ns, |schedule| schedule.due_at_ns(channel.published))
        })
        .min()
    }

    /// Whether every channel has published its -C messages, and has them confirmed or committed.
    pub(crate) fn is_done(&self) -> bool {
        let done = |channel: &PublishChannel| {
            channel.published == channel.limit
                && channel.window.as_ref().is_none_or(ConfirmWindow::is_empty)
                && !channel.is_committing()
        };
        self.channels.iter().all(done)
    }

    /// A confirm arrived.
    #[inline]
    pub(crate) fn settled(
        &mut self,
        now_ns: u64,
        channel: u16,
        (sequence, multiple, accepted): (u64, bool, bool),
        tally: &mut Tally,
    ) {
        let channel = self.channels.get_mut(usize::from(channel).wrapping_sub(1));
        let Some(window) = channel.and_then(|channel| channel.window.as_mut()) else {
            return;
        };
        let mut settled = 0;
        window.settle(sequence, multiple, |time_ns| {
            settled += 1;
            if self.every_latency || settled == 1 {
                tally
                    .confirm_latencies_ns
                    .push(now_ns.saturating_sub(time_ns));
            }
        });
        *(if accepted {
            &mut tally.confirmed
        } else {
            &mut tally.nacked
        }) += settled;
    }

    /// tx.commit-ok arrived.
    pub(crate) fn committed(&mut self, channel: u16) {
        let channel = self.channels.get_mut(usize::from(channel).wrapping_sub(1));
        if let Some(transaction) = channel.and_then(|channel| channel.transaction.as_mut()) {
            transaction.committing = false;
        }
    }

    /// channel.flow arrived.
    pub(crate) fn pause(&mut self, channel: u16, paused: bool) {
        if let Some(channel) = self.channels.get_mut(usize::from(channel).wrapping_sub(1)) {
            channel.paused = paused;
        }
    }
}

impl PublishChannel {
    /// How many messages may go now, `most` at most.
    fn allowance(&self, now_ns: u64, most: u64) -> u64 {
        if self.paused || self.is_committing() {
            return 0;
        }
        let room = self.window.as_ref().map_or(u64::MAX, ConfirmWindow::room);
        let left = self.transaction.as_ref().map_or(u64::MAX, |it| it.left);
        let most = most.min(room).min(left).min(self.limit - self.published);
        match (&self.schedule, most) {
            (Some(schedule), 1..) if now_ns != u64::MAX => {
                schedule.due(now_ns, self.published, most)
            }
            _ => most,
        }
    }

    fn is_committing(&self) -> bool {
        let transaction = self.transaction.as_ref();
        transaction.is_some_and(|transaction| transaction.committing)
    }

    /// Without a schedule a whole fill has one time: a clock read for each message would cost
    /// more than the message.
    fn lay_out(&mut self, now_ns: u64, count: u64, size: usize, output: &mut Output) {
        let sequences = self.published..self.published + count;
        let time_ns = |sequence| {
            let schedule = self.schedule.as_ref();
            schedule.map_or(now_ns, |schedule| schedule.due_at_ns(sequence))
        };
        let templates = &self.templates[size];
        if let ([template], None) = (&templates[..], &self.transaction) {
            let messages = output.lay((self.number, size), template, count as usize);
            let message_bytes = template.bytes().len();
            let stamp = template.stamp();
            for (message, sequence) in messages
                .chunks_exact_mut(message_bytes)
                .zip(sequences.clone())
            {
                stamp.write(message, time_ns(sequence), sequence);
            }
            if let Some(keys) = &mut self.random_keys {
                for message in messages.chunks_exact_mut(message_bytes) {
                    keys.write(&mut message[template.routing_key()]);
                }
            }
        } else {
            output.begin_mixed();
            for sequence in sequences.clone() {
                let template = &templates[sequence as usize % templates.len()];
                let message = output.push_mixed(template);
                let stamp = template.stamp();
                stamp.write(message, time_ns(sequence), sequence);
                if let Some(keys) = &mut self.random_keys {
                    keys.write(&mut message[template.routing_key()]);
                }
            }
        }
        if let Some(window) = &mut self.window {
            sequences.for_each(|sequence| window.push(time_ns(sequence)));
        }
        self.published += count;
        if let Some(transaction) = &mut self.transaction {
            transaction.left -= count;
            if transaction.left == 0 || self.published == self.limit {
                output.end_mixed_with(self.number, transaction.commit());
            }
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.advance(self.published);
        }
    }
}

impl Transaction {
    fn new(size: u32) -> Self {
        let size = u64::from(size);
        Self {
            size,
            left: size,
            committing: false,
        }
    }

    /// It ends, and the next one begins when this is answered.
    fn commit(&mut self) -> AMQPClass {
        self.left = self.size;
        self.committing = true;
        AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))
    }
}

/// For each size one for each queue.
fn templates(
    settings: &Settings,
    channel: u16,
    queues: &[String],
    frame_max: usize,
) -> Vec<Vec<PublishTemplate>> {
    // A message that gets to all of them need not name each in turn, nor one whose key is drawn.
    let named = match settings.copies() {
        1 if !settings.random_routing_key => queues,
        _ => &queues[..1],
    };
    let template = |queue: &String, size_bytes| {
        let publication = Publication {
            exchange: &settings.exchange,
            routing_key: match settings.random_routing_key {
                true => routing_key::BLANK,
                false => settings.routing_key_of(queue),
            },
            mandatory: settings.mandatory,
            properties: &settings.properties.amqp,
            size_bytes,
        };
        PublishTemplate::new(channel, &publication, frame_max)
    };
    let of_size = |size_bytes| {
        let templates = named.iter().map(|queue| template(queue, size_bytes));
        templates.collect::<Vec<_>>()
    };
    settings.sizes_bytes().into_iter().map(of_size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::settings;

    #[test]
    fn a_transaction_begins_when_the_last_one_is_committed() {
        let settings = settings("lg throughput -m 3 -C 5").expect("valid");
        let queues = [settings.queues.clone()];
        let mut producer = Producer::new(&settings, 0, &queues, 4_096, 1 << 16);
        producer.begin(1);
        let fill = |producer: &mut Producer| {
            let (mut output, mut written) = (Output::default(), Vec::new());
            let count = producer.fill(2, &mut output);
            while !output.is_empty() {
                output.write_once(&mut written).expect("memory takes all");
            }
            // tx.commit is 12 bytes: class 90, method 20.
            let commits = written.ends_with(&[1, 0, 1, 0, 0, 0, 4, 0, 90, 0, 20, 0xCE]);
            (count, commits)
        };
        assert_eq!(fill(&mut producer), (3, true));
        assert_eq!(fill(&mut producer), (0, false));
        assert_eq!(producer.next_due_ns(2), None);
        producer.committed(1);
        // What is left of -C is committed, too.
        assert_eq!(fill(&mut producer), (2, true));
        assert!(!producer.is_done());
        producer.committed(1);
        assert!(producer.is_done());
    }
}
