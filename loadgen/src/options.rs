//! The command line, in PerfTest's letters, and the settings that the rest of the house sees.
//!
//! Options are what the user typed; [`Settings`] are what is meant: defaults filled in, patterns
//! expanded, contradictions refused. Only this file knows the former.

use anyhow::{Result, ensure};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use serde::{Serialize, Serializer};

use crate::uri::Uri;

/// The longest exchange, queue or routing key name that AMQP can carry.
const NAME_MAX_BYTES: usize = 255;
/// The largest message the generator sends; RabbitMQ's own limit.
const SIZE_MAX_BYTES: usize = 512 << 20;

/// Load generator for AMQP 0-9-1 brokers.
#[derive(Debug, Parser)]
#[command(name = "leveret-loadgen", version, disable_help_flag = true)]
#[command(after_help = "Several runs: leveret-loadgen suite | compare | ab, each with --help")]
pub(crate) struct Options {
    #[command(subcommand)]
    scenario: ScenarioOptions,
    /// Print help
    #[arg(long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum ScenarioOptions {
    /// As many messages per second as the broker takes, or -r of them
    #[command(disable_help_flag = true)]
    Throughput(LoadOptions),
    /// A fixed rate from a busy-polling generator (default 20000 msg/s of 64 bytes): latencies without its own wake-ups
    #[command(disable_help_flag = true)]
    Latency(LoadOptions),
}

#[derive(Args, Debug)]
struct LoadOptions {
    /// Broker to connect to
    #[arg(
        short = 'h',
        long,
        default_value = "amqp://guest:guest@127.0.0.1:5672/"
    )]
    uri: Uri,
    /// Producers, a connection each
    #[arg(short = 'x', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=100_000))]
    producers: u32,
    /// Consumers, a connection each
    #[arg(short = 'y', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=100_000))]
    consumers: u32,
    /// Channels per producer; each is a producer of its own
    #[arg(short = 'X', long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    producer_channel_count: u16,
    /// Channels per consumer; each is a consumer of its own
    #[arg(short = 'Y', long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    consumer_channel_count: u16,
    /// Queue
    #[arg(short = 'u', long, default_value = "leveret-loadgen")]
    queue: String,
    /// Many queues: a name with %d in it
    #[arg(long, requires = "queue_pattern_to", conflicts_with = "queue")]
    queue_pattern: Option<String>,
    /// First number of the pattern
    #[arg(long, default_value_t = 1, requires = "queue_pattern")]
    queue_pattern_from: u32,
    /// Last number of the pattern
    #[arg(long, requires = "queue_pattern")]
    queue_pattern_to: Option<u32>,
    /// Exchange to declare, bind and publish to [default: the default exchange]
    #[arg(short = 'e', long, default_value = "", hide_default_value = true)]
    exchange: String,
    /// Type of the exchange
    #[arg(short = 't', long = "type", default_value = "direct")]
    exchange_type: String,
    /// Routing key, also for binding [default: the queue's name]
    #[arg(short = 'k', long)]
    routing_key: Option<String>,
    /// Message size in bytes [default: 16, latency 64]
    #[arg(short = 's', long)]
    size: Option<usize>,
    /// Run time in seconds [default: until -C and -D are reached, or for ever]
    #[arg(short = 'z', long)]
    time: Option<f64>,
    /// Messages per second per producer, 0 for no limit [default: 0, latency 20000]
    #[arg(short = 'r', long)]
    rate: Option<f64>,
    /// Messages per second per consumer, 0 for no limit
    #[arg(short = 'R', long, default_value_t = 0.0)]
    consumer_rate: f64,
    /// Publisher confirms, with at most this many unconfirmed per channel
    #[arg(short = 'c', long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    confirm: Option<u32>,
    /// Prefetch of each consumer, 0 for no limit
    #[arg(short = 'q', long, default_value_t = 0)]
    qos: u16,
    /// Acknowledge every n messages, with multiple=true
    #[arg(short = 'A', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    multi_ack_every: u32,
    /// Consume without acknowledgements
    #[arg(short = 'a', long)]
    autoack: bool,
    /// Messages per producer
    #[arg(short = 'C', long)]
    pmessages: Option<u64>,
    /// Messages per consumer
    #[arg(short = 'D', long)]
    cmessages: Option<u64>,
    /// Message flags, repeatable
    #[arg(short = 'f', long = "flag")]
    flags: Vec<Flag>,
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
    /// CPUs to pin one thread each on, such as 1 or 0,2-3 [default: one thread, not pinned]
    #[arg(long, value_parser = parse_cores, default_value = "", hide_default_value = true)]
    cores: Cores,
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

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    Throughput,
    Latency,
}

/// One run, fully spelled out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) scenario: Scenario,
    #[serde(serialize_with = "as_text")]
    pub(crate) uri: Uri,
    pub(crate) producers: u32,
    pub(crate) consumers: u32,
    pub(crate) producer_channels: u16,
    pub(crate) consumer_channels: u16,
    pub(crate) queues: Vec<String>,
    pub(crate) exchange: String,
    pub(crate) exchange_type: String,
    pub(crate) routing_key: Option<String>,
    pub(crate) size_bytes: usize,
    pub(crate) time_s: Option<f64>,
    /// Per producer channel, messages per second.
    pub(crate) rate: Option<f64>,
    /// Per consumer channel, messages per second.
    pub(crate) consumer_rate: Option<f64>,
    pub(crate) confirm: Option<u32>,
    pub(crate) prefetch: u16,
    pub(crate) multi_ack_every: u32,
    pub(crate) auto_ack: bool,
    /// Per producer channel.
    pub(crate) producer_messages: Option<u64>,
    /// Per consumer channel.
    pub(crate) consumer_messages: Option<u64>,
    pub(crate) persistent: bool,
    pub(crate) mandatory: bool,
    pub(crate) predeclared: bool,
    pub(crate) keep: bool,
    pub(crate) interval_s: f64,
    pub(crate) json: bool,
    pub(crate) cores: Vec<usize>,
    pub(crate) producer_core: Option<u32>,
    pub(crate) consumer_core: Option<u32>,
    pub(crate) queue_core: Option<u32>,
}

impl Options {
    /// Fills in the defaults and refuses contradictions.
    pub(crate) fn into_settings(self) -> Result<Settings> {
        let (scenario, load, rate, size) = match self.scenario {
            ScenarioOptions::Throughput(load) => (Scenario::Throughput, load, 0.0, 16),
            ScenarioOptions::Latency(load) => (Scenario::Latency, load, 20_000.0, 64),
        };
        load.into_settings(scenario, rate, size)
    }
}

impl LoadOptions {
    fn into_settings(
        self,
        scenario: Scenario,
        default_rate: f64,
        default_size: usize,
    ) -> Result<Settings> {
        let queues = self.queues()?;
        let settings = Settings {
            scenario,
            uri: self.uri,
            producers: self.producers,
            consumers: self.consumers,
            producer_channels: self.producer_channel_count,
            consumer_channels: self.consumer_channel_count,
            queues,
            exchange: self.exchange,
            exchange_type: self.exchange_type,
            routing_key: self.routing_key,
            size_bytes: self.size.unwrap_or(default_size),
            time_s: self.time.filter(|&seconds| seconds != 0.0),
            rate: Some(self.rate.unwrap_or(default_rate)).filter(|&rate| rate != 0.0),
            consumer_rate: Some(self.consumer_rate).filter(|&rate| rate != 0.0),
            confirm: self.confirm,
            prefetch: self.qos,
            multi_ack_every: self.multi_ack_every,
            auto_ack: self.autoack,
            producer_messages: self.pmessages.filter(|&count| count > 0),
            consumer_messages: self.cmessages.filter(|&count| count > 0),
            persistent: self.flags.contains(&Flag::Persistent),
            mandatory: self.flags.contains(&Flag::Mandatory),
            predeclared: self.predeclared,
            keep: self.keep,
            interval_s: self.interval,
            json: self.json,
            cores: self.cores.0,
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

impl Settings {
    fn check(&self) -> Result<()> {
        ensure!(
            self.producers + self.consumers > 0,
            "-x 0 with -y 0 leaves nothing to do"
        );
        ensure!(
            self.prefetch == 0 || self.auto_ack || self.multi_ack_every <= u32::from(self.prefetch),
            "-A {} would wait for ever: the prefetch of -q {} ends deliveries before",
            self.multi_ack_every,
            self.prefetch
        );
        ensure!(
            self.size_bytes <= SIZE_MAX_BYTES,
            "-s {} is over the limit of {SIZE_MAX_BYTES}",
            self.size_bytes
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

    /// What to publish with to reach this queue.
    pub(crate) fn routing_key_of<'a>(&'a self, queue: &'a str) -> &'a str {
        self.routing_key.as_deref().unwrap_or(queue)
    }

    /// Whether each message's latency is recorded, or one per read: at millions per second a
    /// histogram entry for each would make the generator the bottleneck.
    pub(crate) fn records_every_latency(&self) -> bool {
        self.rate.is_some()
    }

    /// Whether the run ends by itself before (or without) -z.
    pub(crate) fn has_count_limit(&self) -> bool {
        self.producer_messages.is_some() || self.consumer_messages.is_some()
    }
}

/// CPU numbers; a type of its own so that clap doesn't take the option for a repeated one.
#[derive(Clone, Debug)]
struct Cores(Vec<usize>);

fn parse_cores(text: &str) -> Result<Cores, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .map_err(|_| format!("{text:?} is not a CPU number"))
    };
    let mut cores = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(number(first)?..=number(last)?.min(4095)),
            None => cores.push(number(part)?),
        }
    }
    if cores.is_empty() && !text.is_empty() {
        return Err("an empty range".to_owned());
    }
    Ok(Cores(cores))
}

fn as_text<S: Serializer>(uri: &Uri, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str) -> Result<Settings> {
        Options::try_parse_from(line.split_whitespace())?.into_settings()
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn each_scenario_has_its_defaults() {
        let throughput = settings("lg throughput").expect("valid");
        assert_eq!(
            (
                throughput.rate,
                throughput.size_bytes,
                throughput.cores.len()
            ),
            (None, 16, 0)
        );
        let latency = settings("lg latency -r 0").expect("valid");
        assert_eq!((latency.rate, latency.size_bytes), (None, 64));
        assert_eq!(settings("lg latency").expect("valid").rate, Some(20_000.0));
    }

    #[test]
    fn patterns_and_lists_are_expanded() {
        let line = "lg throughput --queue-pattern q-%d --queue-pattern-from 9 --queue-pattern-to 11 --cores 0,2-3";
        let settings = settings(line).expect("valid");
        assert_eq!(settings.queues, ["q-9", "q-10", "q-11"]);
        assert_eq!(settings.cores, [0, 2, 3]);
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "-q 10 -A 11",
            "-x 0 -y 0",
            "-r -3",
            "-s 99999999999",
            "-f durable",
            "--cores a",
            "--nonsense",
        ] {
            assert!(
                settings(&format!("lg throughput {line}")).is_err(),
                "{line}"
            );
        }
    }
}
