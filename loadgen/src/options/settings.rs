//! One run, fully spelled out: what is left of the options once defaults are filled in.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::broker::Broker;
use super::properties::MessageProperties;
use super::queue_kind::QueueKind;
use crate::schedule::Step;

/// The longest exchange, queue or routing key name that AMQP can carry.
const NAME_MAX_BYTES: usize = 255;
/// The largest message the generator sends; RabbitMQ's own limit.
const SIZE_MAX_BYTES: usize = 512 << 20;

/// The longest that a consumer takes for a message: an hour, as the histograms have it.
pub(super) const LATENCY_MAX_US: u64 = 3_600_000_000;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// How many messages per second go through; with -r the same at a fixed rate.
    Throughput,
    Latency,
    /// One message in, a copy for every queue out. The received rate counts copies: with ten queues it is ten times the
    /// sent one when the broker keeps up.
    Fanout,
    /// Many queues at once, each with a producer and a consumer of its own. Producers are channels, spread over few
    /// connections or over one each: what differs for the broker is the number of queues, or that of sockets too.
    Queues,
    Backlog,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "Throughput",
            Self::Latency => "Latency",
            Self::Fanout => "Fanout",
            Self::Queues => "Many queues",
            Self::Backlog => "Backlog",
        }
    }
}

/// What becomes of messages that consumers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Nack {
    Requeue,
    Discard,
}

/// The rates of one run after the other, in messages per second per producer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ladder {
    Rates(Vec<f64>),
    /// From the settings' rate upwards by this factor, until the broker no longer keeps up.
    Factor(f64),
}

/// One run, fully spelled out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) scenario: Scenario,
    pub(crate) id: String,
    /// A phase or a rung, if the run consists of such.
    #[serde(skip)]
    pub(crate) part: Option<String>,
    #[serde(rename = "uri")]
    pub(crate) broker: Broker,
    pub(crate) producers: u32,
    pub(crate) consumers: u32,
    pub(crate) producer_channels: u16,
    pub(crate) consumer_channels: u16,
    pub(crate) queues: Vec<String>,
    pub(crate) queue_kind: QueueKind,
    pub(crate) exchange: String,
    pub(crate) exchange_type: String,
    pub(crate) routing_key: Option<String>,
    /// Publish with a key of its own for each message.
    pub(crate) random_routing_key: bool,
    pub(crate) size_bytes: usize,
    pub(crate) time_s: Option<f64>,
    /// Per producer channel, messages per second.
    pub(crate) rate: Option<f64>,
    /// Per producer channel, messages per second, 0 for a pause; instead of `rate`.
    pub(crate) variable_rate: Vec<Step>,
    /// Bytes; instead of `size_bytes`.
    pub(crate) variable_size: Vec<Step>,
    /// `latency` at one rate after the other.
    pub(crate) ladder: Option<Ladder>,
    /// Per consumer channel, messages per second.
    pub(crate) consumer_rate: Option<f64>,
    /// What a consumer channel takes for each message before it acknowledges.
    pub(crate) consumer_latency_us: u64,
    /// Microseconds; instead of `consumer_latency_us`.
    pub(crate) variable_latency: Vec<Step>,
    /// With consumers that ask for each message.
    pub(crate) polling_interval_ms: Option<u64>,
    /// Messages in a transaction.
    pub(crate) producer_transaction: Option<u32>,
    pub(crate) consumer_transaction: Option<u32>,
    pub(crate) confirm: Option<u32>,
    pub(crate) prefetch: u16,
    /// Of a channel as a whole.
    pub(crate) global_prefetch: u16,
    pub(crate) multi_ack_every: u32,
    pub(crate) auto_ack: bool,
    /// Instead of acknowledging.
    pub(crate) nack: Option<Nack>,
    /// Per producer channel.
    pub(crate) producer_messages: Option<u64>,
    /// Per consumer channel.
    pub(crate) consumer_messages: Option<u64>,
    pub(crate) persistent: bool,
    pub(crate) properties: MessageProperties,
    pub(crate) mandatory: bool,
    pub(crate) predeclared: bool,
    pub(crate) keep: bool,
    pub(crate) interval_s: f64,
    pub(crate) json: bool,
    pub(crate) csv: Option<PathBuf>,
    pub(crate) hlog: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) cores: Vec<usize>,
    /// Workers never sleep: poll with a zero timeout.
    pub(crate) busy_poll: bool,
    pub(crate) producer_core: Option<u32>,
    pub(crate) consumer_core: Option<u32>,
    pub(crate) queue_core: Option<u32>,
}

impl Settings {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.producers + self.consumers > 0,
            "-x 0 with -y 0 leaves nothing to do"
        );
        check_plot(self.plot.as_deref())?;
        ensure!(
            self.scenario != Scenario::Backlog
                || (self.producers > 0 && self.consumers > 0 && self.consumer_messages.is_none()),
            "a backlog is filled by -x and drained by -y, without -D"
        );
        let most = self.unsettled_max();
        for (letter, prefetch) in [("-q", self.prefetch), ("-Q", self.global_prefetch)] {
            ensure!(
                prefetch == 0 || self.auto_ack || most <= u64::from(prefetch),
                "a consumer would wait for ever: -A {} and -n {} need {most} messages, the prefetch of {letter} {prefetch} ends deliveries before",
                self.multi_ack_every,
                self.consumer_transaction.unwrap_or(0),
            );
        }
        ensure!(
            !self.random_routing_key || !self.exchange.is_empty(),
            "-K needs an exchange (-e): through the default one a random key reaches no queue"
        );
        for size_bytes in self.sizes_bytes() {
            ensure!(
                size_bytes <= SIZE_MAX_BYTES,
                "-s {size_bytes} is over the limit of {SIZE_MAX_BYTES}"
            );
        }
        ensure!(
            self.variable_rate.is_empty() || self.variable_rate.iter().any(|step| step.value > 0.0),
            "-vr: every rate is 0"
        );
        if self.queue_kind.exclusive {
            ensure!(
                self.scenario != Scenario::Backlog && self.consumers > 0,
                "-E: without a consumer, as when a backlog is filled, nobody declares the queues"
            );
            ensure!(
                !self.connections_share_a_queue(),
                "-E: an exclusive queue has one connection: with -y {} and -Y {}, {} queues are too few",
                self.consumers,
                self.consumer_channels,
                self.queues.len()
            );
        }
        let longest_us = self.longest_consumer_latency_us();
        ensure!(
            longest_us <= LATENCY_MAX_US as f64,
            "-vl {longest_us} is over the limit of {LATENCY_MAX_US} microseconds"
        );
        let ladder_goes_up = match &self.ladder {
            None => true,
            Some(Ladder::Factor(factor)) => factor.is_finite() && *factor >= 1.01,
            Some(Ladder::Rates(rates)) => rates.iter().all(|rate| rate.is_finite() && *rate > 0.0),
        };
        ensure!(
            ladder_goes_up,
            "--rates must be positive numbers, and --ladder a factor of 1.01 or more"
        );
        ensure!(
            self.rate.is_none() || self.variable_rate.is_empty(),
            "-r and -vr exclude each other"
        );
        for (letter, value) in [
            ("-r", self.rate),
            ("-R", self.consumer_rate),
            ("-z", self.time_s),
        ] {
            let bad = value.is_some_and(|value| !value.is_finite() || value <= 0.0);
            ensure!(!bad, "{letter} must be a positive number");
        }
        ensure!(
            self.interval_s.is_finite() && self.interval_s >= 0.01,
            "-i must be at least 0.01"
        );
        let names = self
            .queues
            .iter()
            .chain([&self.exchange, &self.exchange_type])
            .chain(&self.routing_key);
        for name in names {
            ensure!(
                name.len() <= NAME_MAX_BYTES,
                "{name:?} is longer than {NAME_MAX_BYTES} bytes"
            );
        }
        ensure!(
            self.queues.iter().all(|queue| !queue.is_empty()),
            "-u must not be empty"
        );
        Ok(())
    }

    /// Whether consumers of several connections serve the same queue. With more consumers than queues
    /// they are dealt out in turn.
    fn connections_share_a_queue(&self) -> bool {
        let channels = usize::from(self.consumer_channels);
        let connection = |consumer: usize| consumer / channels;
        let first = |consumer: usize| consumer % self.queues.len();
        (self.queues.len()..self.consumers as usize * channels)
            .any(|consumer| connection(consumer) != connection(first(consumer)))
    }

    /// How many messages a consumer must have had since the last one that it settled, so that it
    /// settles more. Acks of each `every` messages count when the `size`th next is committed: that
    /// is up to `size` less their common divisor later.
    fn unsettled_max(&self) -> u64 {
        let every = u64::from(self.multi_ack_every);
        let size = u64::from(self.consumer_transaction.unwrap_or(1));
        let (mut divisor, mut rest) = (every, size);
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        every + size - divisor
    }

    /// What to publish with to reach this queue.
    pub(crate) fn routing_key_of<'a>(&'a self, queue: &'a str) -> &'a str {
        self.routing_key.as_deref().unwrap_or(queue)
    }

    /// This run with a name for the part of it that comes now.
    pub(crate) fn part(&self, name: String) -> Self {
        Self {
            part: Some(name),
            ..self.clone()
        }
    }

    /// How many queues get each message, as far as the settings tell.
    pub(crate) fn copies(&self) -> u64 {
        // There the key that a queue is bound with is its weight.
        let to_one = self.exchange_type == "x-consistent-hash";
        let to_all = self.exchange_type == "fanout" || (self.routing_key.is_some() && !to_one);
        if !self.exchange.is_empty() && to_all {
            self.queues.len() as u64
        } else {
            1
        }
    }

    /// With -C: of all producers together.
    pub(crate) fn messages_to_send(&self) -> Option<u64> {
        let producers = u64::from(self.producers) * u64::from(self.producer_channels);
        self.producer_messages.map(|each| each * producers)
    }

    /// With -D: by all consumers together.
    pub(crate) fn messages_to_receive(&self) -> Option<u64> {
        let consumers = u64::from(self.consumers) * u64::from(self.consumer_channels);
        let all = |each: u64| each.saturating_mul(consumers);
        self.consumer_messages.map(all)
    }

    /// Whether each message's latency is recorded, or one per read: at millions per second a
    /// histogram entry for each would make the generator the bottleneck.
    pub(crate) fn records_every_latency(&self) -> bool {
        self.rate.is_some() || !self.variable_rate.is_empty()
    }

    /// The longest that a consumer, by these settings alone, lets pass between two messages.
    pub(crate) fn consumer_pause_s(&self) -> f64 {
        let by_rate_s = self.consumer_rate.map_or(0.0, |rate| 1.0 / rate);
        let consumers = self.consumers as usize * usize::from(self.consumer_channels);
        let queues = self.queues.len().div_ceil(consumers.max(1));
        let polling_ms = self.polling_interval_ms.unwrap_or(0) as f64 * queues as f64;
        by_rate_s.max(self.longest_consumer_latency_us() / 1e6 + polling_ms / 1e3)
    }

    fn longest_consumer_latency_us(&self) -> f64 {
        let steps_us = self.variable_latency.iter().map(|step| step.value);
        steps_us.fold(self.consumer_latency_us as f64, f64::max)
    }

    /// The sizes of messages; more than one if they change over time.
    pub(crate) fn sizes_bytes(&self) -> Vec<usize> {
        if self.variable_size.is_empty() {
            return vec![self.size_bytes];
        }
        let size_bytes = |step: &Step| step.value as usize;
        self.variable_size.iter().map(size_bytes).collect()
    }

    /// Whether the run ends by itself before (or without) -z.
    pub(crate) fn has_count_limit(&self) -> bool {
        self.producer_messages.is_some() || self.consumer_messages.is_some()
    }
}

/// A plot's name must say what it is to be.
pub(super) fn check_plot(path: Option<&Path>) -> Result<()> {
    let extension = path.and_then(Path::extension).unwrap_or_default();
    ensure!(
        path.is_none() || extension == "svg" || extension == "html",
        "--plot: the file's name must end in .svg or .html"
    );
    Ok(())
}
