//! Options of the scenarios that publish and consume.
//!
//! A scenario first fills in its own defaults where the user said nothing, by one of the methods
//! `or_...`; what is then still open gets the general default.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use super::broker::BrokerOptions;
use super::pairs::{Pairs, parse_pairs};
use super::properties::MessageProperties;
use super::queue_kind::QueueOptions;
use super::settings::{LATENCY_MAX_US, Ladder, Nack, Scenario, Settings};
use super::values::{Cores, parse_cores, parse_step};
use crate::schedule::Step;

#[derive(Args, Debug)]
pub(super) struct LoadOptions {
    #[command(flatten)]
    broker: BrokerOptions,
    /// Producers, a connection each [default: 1]
    #[arg(short = 'x', long, value_parser = clap::value_parser!(u32).range(..=100_000))]
    producers: Option<u32>,
    /// Consumers, a connection each [default: 1]
    #[arg(short = 'y', long, value_parser = clap::value_parser!(u32).range(..=100_000))]
    consumers: Option<u32>,
    /// Channels per producer; each is a producer of its own [default: 1]
    #[arg(short = 'X', long, value_parser = clap::value_parser!(u16).range(1..))]
    producer_channel_count: Option<u16>,
    /// Channels per consumer; each is a consumer of its own [default: 1]
    #[arg(short = 'Y', long, value_parser = clap::value_parser!(u16).range(1..))]
    consumer_channel_count: Option<u16>,
    /// Queue
    #[arg(short = 'u', long, default_value = "leveret-loadgen")]
    queue: String,
    /// Many queues: a name with %d in it (-qp)
    #[arg(long, requires = "queue_pattern_to", conflicts_with = "queue")]
    queue_pattern: Option<String>,
    /// First number of the pattern (-qpf)
    #[arg(long, default_value_t = 1, requires = "queue_pattern")]
    queue_pattern_from: u32,
    /// Last number of the pattern (-qpt)
    #[arg(long, requires = "queue_pattern")]
    queue_pattern_to: Option<u32>,
    #[command(flatten)]
    queue_kind: QueueOptions,
    /// Exchange to declare, bind and publish to [default: the default exchange]
    #[arg(short = 'e', long)]
    exchange: Option<String>,
    /// Type of the exchange [default: direct]
    #[arg(short = 't', long = "type")]
    exchange_type: Option<String>,
    /// Routing key, also for binding [default: the queue's name]
    #[arg(short = 'k', long)]
    routing_key: Option<String>,
    /// A routing key of its own for each message, a random UUID; -k is then only for binding
    #[arg(short = 'K', long)]
    random_routing_key: bool,
    /// Message size in bytes [default: 16, latency 64]
    #[arg(short = 's', long)]
    size: Option<usize>,
    /// Run time in seconds [default: until -C and -D are reached, or for ever]
    #[arg(short = 'z', long)]
    time: Option<f64>,
    /// Messages per second per producer, 0 for no limit [default: 0, latency 20000]
    #[arg(short = 'r', long)]
    rate: Option<f64>,
    /// A rate (0: a pause) for some seconds, repeatable; after the last comes the first again (-vr)
    #[arg(long, value_name = "RATE:SECONDS", value_parser = parse_step, conflicts_with = "rate")]
    variable_rate: Vec<Step>,
    /// A message size for some seconds, repeatable; after the last comes the first again (-vs)
    #[arg(long, value_name = "SIZE:SECONDS", value_parser = parse_step, conflicts_with = "size")]
    variable_size: Vec<Step>,
    /// Messages per second per consumer, 0 for no limit
    #[arg(short = 'R', long, default_value_t = 0.0)]
    consumer_rate: f64,
    /// Microseconds that a consumer takes for each message, one after the other, before it acknowledges and
    /// counts it. Its next ones wait meanwhile, up to 1000 of them in the generator, and that is in their
    /// latency, which ends when the consumer begins with them. No other connection is held up by it
    #[arg(short = 'L', long, value_name = "MICROSECONDS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=LATENCY_MAX_US))]
    consumer_latency: u64,
    /// A -L (0: none) for some seconds, repeatable; after the last comes the first again (-vl)
    #[arg(long, value_name = "MICROSECONDS:SECONDS", value_parser = parse_step)]
    #[arg(conflicts_with = "consumer_latency")]
    variable_latency: Vec<Step>,
    /// Ask for each message by basic.get, one at a time, and for the next when it is done; of several queues
    /// in turn (-po)
    #[arg(long)]
    polling: bool,
    /// Milliseconds between the answer, or the end of what is done with the message, and the next question (-pi)
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 0,
        requires = "polling"
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(..=LATENCY_MAX_US / 1_000))]
    polling_interval: u64,
    /// Publish in transactions of this many messages; each begins when the last one's tx.commit-ok has come
    /// [default: 0, none]
    #[arg(short = 'm', long, value_name = "MESSAGES", conflicts_with = "confirm")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    ptxsize: Option<u32>,
    /// Acknowledge in transactions of this many messages; each begins when the last one's tx.commit-ok has come
    /// [default: 0, none]
    #[arg(short = 'n', long, value_name = "MESSAGES", conflicts_with = "autoack")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    ctxsize: Option<u32>,
    /// Publisher confirms, with at most this many unconfirmed per channel
    #[arg(short = 'c', long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    confirm: Option<u32>,
    /// Prefetch of each consumer, 0 for no limit
    #[arg(short = 'q', long, default_value_t = 0)]
    qos: u16,
    /// Prefetch of each channel as a whole (basic.qos with global=true), 0 for no limit
    #[arg(short = 'Q', long, default_value_t = 0)]
    global_qos: u16,
    /// Acknowledge every n messages, with multiple=true
    #[arg(short = 'A', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    multi_ack_every: u32,
    /// Consume without acknowledgements
    #[arg(short = 'a', long)]
    autoack: bool,
    /// Refuse each message by basic.nack instead of acknowledging it; they are requeued, and come again (-na)
    #[arg(long, conflicts_with = "autoack")]
    nack: bool,
    /// Whether refused messages are requeued [default: true] (-re)
    #[arg(long, value_name = "BOOL", requires = "nack")]
    requeue: Option<bool>,
    /// Messages per producer
    #[arg(short = 'C', long)]
    pmessages: Option<u64>,
    /// Messages per consumer
    #[arg(short = 'D', long)]
    cmessages: Option<u64>,
    /// Message flags, repeatable
    #[arg(short = 'f', long = "flag")]
    flags: Vec<Flag>,
    /// Properties of each message, repeatable: contentType, contentEncoding, deliveryMode, priority,
    /// correlationId, replyTo, expiration, messageId, timestamp (ISO 8601), type, userId, appId, clusterId; any
    /// other key is a header (-mp)
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_pairs)]
    message_properties: Vec<Pairs>,
    /// Exchange and queues are there already: only check, neither purge nor delete
    #[arg(short = 'p', long)]
    predeclared: bool,
    /// Leave the exchange and the queues in place at the end
    #[arg(long)]
    keep: bool,
    /// Seconds between live lines
    #[arg(short = 'i', long, default_value_t = 1.0)]
    interval: f64,
    /// One JSON object on stdout at the end; live lines go to stderr
    #[arg(long)]
    json: bool,
    /// Name of the run in the CSV file
    #[arg(short = 'd', long, default_value = "leveret-loadgen")]
    id: String,
    /// Each interval's figures in PerfTest's columns
    #[arg(short = 'o', long, alias = "output-file", value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Each interval's latencies as HdrHistogram's interval log, in nanoseconds
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// A picture of the run: throughput over time, latency by percentile, latency by rate
    #[arg(long, value_name = "FILE.svg|FILE.html")]
    plot: Option<PathBuf>,
    /// CPUs to pin one thread each on, such as 1 or 0,2-3 [default: one thread, not pinned]
    #[arg(long, value_parser = parse_cores, default_value = "", hide_default_value = true)]
    cores: Cores,
    /// Never sleep, but look at the sockets again and again: without the generator's own wake-ups, which a round trip
    /// waits for (-q). Each thread takes its CPU whole. latency always does so
    #[arg(long)]
    busy_poll: bool,
    /// Reconnect until the producers are on this core of a Leveret broker
    #[arg(long)]
    producer_core: Option<u32>,
    /// Reconnect until the consumers are on this core of a Leveret broker
    #[arg(long)]
    consumer_core: Option<u32>,
    /// Declare the queues from this core of a Leveret broker, which then owns them
    #[arg(long)]
    queue_core: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flag {
    Persistent,
    Mandatory,
}

impl LoadOptions {
    pub(super) fn or_latency(mut self) -> Self {
        if self.variable_rate.is_empty() {
            self.rate.get_or_insert(20_000.0);
        }
        self.size.get_or_insert(64);
        self.busy_poll = true;
        self
    }

    /// A ladder begins low, and each rung needs an end.
    pub(super) fn or_ladder(mut self) -> Result<Self> {
        ensure!(
            self.variable_rate.is_empty(),
            "a ladder and -vr exclude each other"
        );
        self.rate.get_or_insert(1_000.0);
        self.time.get_or_insert(5.0);
        ensure!(
            self.rate != Some(0.0) && self.time != Some(0.0),
            "a ladder needs a first rate (-r) and a time for each rate (-z)"
        );
        Ok(self.or_latency())
    }

    pub(super) fn or_fanout(mut self, queues: u32) -> Self {
        self.exchange
            .get_or_insert_with(|| format!("{}-fanout", self.queue));
        self.exchange_type
            .get_or_insert_with(|| "fanout".to_owned());
        self.consumers.get_or_insert(queues);
        self.size.get_or_insert(100);
        self.or_numbered_queues(queues)
    }

    pub(super) fn or_queues(mut self, queues: u32, connections: u32) -> Result<Self> {
        ensure!(
            queues.is_multiple_of(connections),
            "{queues} queues cannot be spread evenly over {connections} connections"
        );
        let channels = queues / connections;
        ensure!(
            channels <= u32::from(u16::MAX),
            "{channels} channels per connection are more than AMQP has"
        );
        let channels = channels as u16;
        self.producers.get_or_insert(connections);
        self.consumers.get_or_insert(connections);
        self.producer_channel_count.get_or_insert(channels);
        self.consumer_channel_count.get_or_insert(channels);
        self.size.get_or_insert(100);
        Ok(self.or_numbered_queues(queues))
    }

    pub(super) fn or_backlog(mut self) -> Self {
        self.pmessages.get_or_insert(1_000_000);
        if self.ptxsize.is_none() {
            self.confirm.get_or_insert(1_000);
        }
        self.size.get_or_insert(100);
        self
    }

    fn or_numbered_queues(mut self, count: u32) -> Self {
        if self.queue_pattern.is_none() {
            self.queue_pattern = Some(format!("{}-%d", self.queue));
            self.queue_pattern_to = Some(count);
        }
        self
    }

    pub(super) fn into_settings(
        self,
        scenario: Scenario,
        ladder: Option<Ladder>,
    ) -> Result<Settings> {
        let queues = self.queues()?;
        let (queue_kind, durable) = self.queue_kind.into_kind()?;
        let persistent = durable || self.flags.contains(&Flag::Persistent);
        let properties = Pairs::merged(self.message_properties);
        let settings = Settings {
            scenario,
            id: self.id,
            part: None,
            broker: self.broker.into_broker()?,
            producers: self.producers.unwrap_or(1),
            consumers: self.consumers.unwrap_or(1),
            producer_channels: self.producer_channel_count.unwrap_or(1),
            consumer_channels: self.consumer_channel_count.unwrap_or(1),
            queues,
            queue_kind,
            exchange: self.exchange.unwrap_or_default(),
            exchange_type: self.exchange_type.unwrap_or_else(|| "direct".to_owned()),
            routing_key: self.routing_key,
            random_routing_key: self.random_routing_key,
            size_bytes: self.size.unwrap_or(16),
            time_s: self.time.filter(|&seconds| seconds != 0.0),
            rate: self.rate.filter(|&rate| rate != 0.0),
            variable_rate: self.variable_rate,
            variable_size: self.variable_size,
            ladder,
            consumer_rate: Some(self.consumer_rate).filter(|&rate| rate != 0.0),
            consumer_latency_us: self.consumer_latency,
            variable_latency: self.variable_latency,
            polling_interval_ms: self.polling.then_some(self.polling_interval),
            producer_transaction: self.ptxsize.filter(|&messages| messages > 0),
            consumer_transaction: self.ctxsize.filter(|&messages| messages > 0),
            confirm: self.confirm,
            prefetch: self.qos,
            global_prefetch: self.global_qos,
            multi_ack_every: self.multi_ack_every,
            auto_ack: self.autoack,
            nack: self.nack.then_some(match self.requeue {
                None | Some(true) => Nack::Requeue,
                Some(false) => Nack::Discard,
            }),
            producer_messages: self.pmessages.filter(|&count| count > 0),
            consumer_messages: self.cmessages.filter(|&count| count > 0),
            persistent,
            properties: MessageProperties::new(properties, persistent)?,
            mandatory: self.flags.contains(&Flag::Mandatory),
            predeclared: self.predeclared,
            keep: self.keep,
            interval_s: self.interval,
            json: self.json,
            csv: self.csv,
            hlog: self.hlog,
            plot: self.plot,
            cores: self.cores.0,
            busy_poll: self.busy_poll,
            producer_core: self.producer_core,
            consumer_core: self.consumer_core,
            queue_core: self.queue_core,
        };
        settings.check()?;
        Ok(settings)
    }

    fn queues(&self) -> Result<Vec<String>> {
        let Some(pattern) = &self.queue_pattern else {
            return Ok(vec![self.queue.clone()]);
        };
        ensure!(pattern.contains("%d"), "--queue-pattern must contain %d");
        let (from, to) = (self.queue_pattern_from, self.queue_pattern_to.unwrap_or(0));
        ensure!(
            from <= to,
            "--queue-pattern-from {from} is greater than --queue-pattern-to {to}"
        );
        Ok((from..=to)
            .map(|number| pattern.replace("%d", &number.to_string()))
            .collect())
    }
}
