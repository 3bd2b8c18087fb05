//! The command line, in PerfTest's letters.
//!
//! Options are what the user typed; [`Settings`] are what is meant: defaults filled in, patterns
//! expanded, contradictions refused. Only this room knows the former.

mod broker;
mod churn;
mod connections;
mod letters;
mod load;
mod pairs;
mod properties;
mod queue_kind;
mod settings;
mod values;

use std::ffi::OsString;

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand};

pub(crate) use broker::Broker;
pub(crate) use churn::{ChurnSettings, Operation};
pub(crate) use connections::ConnectionsSettings;
pub(crate) use settings::{Ladder, Nack, Scenario, Settings};

use churn::ChurnOptions;
use connections::ConnectionsOptions;
use load::LoadOptions;

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
    Latency(LatencyOptions),
    /// One producer, a fanout exchange, many queues with a consumer each (default 10 queues, 100 bytes)
    #[command(disable_help_flag = true)]
    Fanout(FanoutOptions),
    /// Many queues, a producer and a consumer each (default 1000 queues over 10 + 10 connections, 100 bytes)
    #[command(disable_help_flag = true)]
    Queues(QueuesOptions),
    /// Fill a queue with -C messages (default 1000000 of 100 bytes, confirmed), then drain it: the rate of each
    #[command(disable_help_flag = true)]
    Backlog(LoadOptions),
    /// Open and close connections, channels, queues, bindings or consumers: how many per second, how long each takes
    #[command(disable_help_flag = true)]
    Churn(ChurnOptions),
    /// Open many connections that do nothing, hold them, and see whether all live
    #[command(disable_help_flag = true)]
    Connections(ConnectionsOptions),
}

#[derive(Args, Debug)]
struct LatencyOptions {
    /// Measure at each of these rates (per producer), -z seconds (default 5) at each, and print a table
    #[arg(long, value_delimiter = ',', value_name = "RATE,RATE,...", conflicts_with_all = ["ladder", "rate"])]
    rates: Vec<f64>,
    /// Climb from -r (default 1000) by this factor until less than 95 % of the offered rate is received
    #[arg(long, value_name = "FACTOR", num_args = 0..=1, default_missing_value = "2")]
    ladder: Option<f64>,
    #[command(flatten)]
    load: LoadOptions,
}

#[derive(Args, Debug)]
struct FanoutOptions {
    /// Queues bound to the exchange
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queues: u32,
    #[command(flatten)]
    load: LoadOptions,
}

#[derive(Args, Debug)]
struct QueuesOptions {
    /// Queues, each with a producer and a consumer
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queues: u32,
    /// Connections over which the producers are spread evenly as channels, and as many for the consumers
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    #[command(flatten)]
    load: LoadOptions,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Load(Box<Settings>),
    Churn(ChurnSettings),
    Connections(ConnectionsSettings),
}

impl Options {
    /// Reads a command line; PerfTest's options of two letters behind one dash are understood.
    pub(crate) fn parse_line(
        line: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(line.into_iter().map(letters::spelled_out))
    }

    /// Fills in the defaults and refuses contradictions.
    pub(crate) fn into_command(self) -> Result<Command> {
        let (scenario, load) = match self.scenario {
            ScenarioOptions::Throughput(load) => (Scenario::Throughput, load),
            ScenarioOptions::Latency(latency) => return latency.into_command(),
            ScenarioOptions::Fanout(fanout) => {
                (Scenario::Fanout, fanout.load.or_fanout(fanout.queues))
            }
            ScenarioOptions::Queues(queues) => {
                let load = queues.load.or_queues(queues.queues, queues.connections)?;
                (Scenario::Queues, load)
            }
            ScenarioOptions::Backlog(load) => (Scenario::Backlog, load.or_backlog()),
            ScenarioOptions::Churn(churn) => return Ok(Command::Churn(churn.into_settings()?)),
            ScenarioOptions::Connections(connections) => {
                return Ok(Command::Connections(connections.into_settings()?));
            }
        };
        Ok(Command::Load(Box::new(load.into_settings(scenario, None)?)))
    }
}

impl LatencyOptions {
    fn into_command(self) -> Result<Command> {
        let ladder = match self.ladder {
            Some(factor) => Some(Ladder::Factor(factor)),
            None if self.rates.is_empty() => None,
            None => Some(Ladder::Rates(self.rates)),
        };
        let load = match &ladder {
            None => self.load.or_latency(),
            Some(_) => self.load.or_ladder()?,
        };
        let settings = load.into_settings(Scenario::Latency, ladder)?;
        Ok(Command::Load(Box::new(settings)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::schedule::Step;

    pub(crate) fn settings(line: &str) -> Result<Settings> {
        let line = line.split_whitespace().map(OsString::from);
        match Options::parse_line(line)?.into_command()? {
            Command::Load(settings) => Ok(*settings),
            other => panic!("not a load: {other:?}"),
        }
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
        assert!(latency.busy_poll, "its wake-ups would be in the figures");
        assert!(settings("lg latency --ladder").expect("valid").busy_poll);
        assert!(!settings("lg throughput").expect("valid").busy_poll);
        assert!(
            settings("lg throughput --busy-poll")
                .expect("valid")
                .busy_poll
        );
        let backlog = settings("lg backlog").expect("valid");
        assert_eq!(backlog.producer_messages, Some(1_000_000));
        assert_eq!(backlog.confirm, Some(1_000));
    }

    #[test]
    fn a_fanout_has_one_producer_and_a_consumer_for_each_queue() {
        let fanout = settings("lg fanout --queues 3").expect("valid");
        let queues = [
            "leveret-loadgen-1",
            "leveret-loadgen-2",
            "leveret-loadgen-3",
        ];
        assert_eq!(fanout.queues, queues);
        assert_eq!((fanout.producers, fanout.consumers), (1, 3));
        assert_eq!(fanout.exchange_type, "fanout");
        assert_eq!(fanout.copies(), 3);
        let fewer = settings("lg fanout -y 2 -u f -e x").expect("valid");
        assert_eq!((fewer.queues.len(), fewer.consumers), (10, 2));
        assert_eq!(
            (fewer.queues[0].as_str(), fewer.exchange.as_str()),
            ("f-1", "x")
        );
    }

    #[test]
    fn many_queues_are_spread_evenly_over_the_connections() {
        let queues = settings("lg queues").expect("valid");
        assert_eq!(
            (queues.queues.len(), queues.producers, queues.consumers),
            (1_000, 10, 10)
        );
        assert_eq!(
            (queues.producer_channels, queues.consumer_channels),
            (100, 100)
        );
        let one_each = settings("lg queues --queues 30 --connections 30").expect("valid");
        assert_eq!((one_each.producers, one_each.producer_channels), (30, 1));
        assert!(settings("lg queues --queues 30 --connections 7").is_err());
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
        assert!(settings("lg backlog -x 0").is_err());
        for ladder in [
            "--ladder 1",
            "--rates 0",
            "--rates 5,x",
            "--rates 5 -r 6",
            "--ladder -vr 1:1",
        ] {
            assert!(
                settings(&format!("lg latency {ladder}")).is_err(),
                "{ladder}"
            );
        }
    }

    #[test]
    fn a_plots_name_says_what_it_is() {
        assert!(settings("lg throughput --plot a.html").is_ok());
        assert!(settings("lg throughput --plot a.png").is_err());
    }

    #[test]
    fn perftests_variable_options_are_understood() {
        let settings_of = |line| settings(line).expect("valid");
        let vary = settings_of("lg latency -vr 100:60 -vr 0:1.5 -vs 10:1 --variable-size 2000:2");
        let step = |value, seconds| Step { value, seconds };
        assert_eq!(vary.variable_rate, [step(100.0, 60.0), step(0.0, 1.5)]);
        assert_eq!(vary.sizes_bytes(), [10, 2000]);
        assert!(vary.rate.is_none() && vary.records_every_latency());
        for bad in [
            "-vr 100",
            "-vr 0:1",
            "-vr 5:0",
            "-vr 5:-1",
            "-vr 5:1 -r 3",
            "-vs 9e9:1",
        ] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_consumer_may_take_a_while_for_each_message() {
        let slow = settings("lg throughput -L 2500").expect("valid");
        assert_eq!(slow.consumer_latency_us, 2_500);
        assert_eq!(slow.consumer_pause_s(), 0.0025);
        let vary = settings("lg throughput -vl 0:1 -vl 3000000:0.5 -R 2").expect("valid");
        assert_eq!(vary.variable_latency.len(), 2);
        assert_eq!(vary.consumer_pause_s(), 3.0);
        for bad in [
            "-L -1",
            "-L x",
            "-L 1.5",
            "-L 3600000001",
            "-L 1 -vl 1:1",
            "-vl 5",
            "-vl 5:0",
            "-vl 4e9:1",
        ] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_may_be_refused_instead_of_acknowledged() {
        let nack = |line| settings(line).expect("valid").nack;
        assert_eq!(nack("lg throughput"), None);
        assert_eq!(nack("lg throughput -na"), Some(Nack::Requeue));
        assert_eq!(nack("lg throughput -na -re true"), Some(Nack::Requeue));
        assert_eq!(nack("lg throughput --nack -re false"), Some(Nack::Discard));
        for bad in ["-na -a", "-re true", "-na -re", "-na -re 1"] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn consumers_may_ask_for_each_message() {
        let interval = |line| settings(line).expect("valid").polling_interval_ms;
        assert_eq!(interval("lg throughput"), None);
        assert_eq!(interval("lg throughput -po"), Some(0));
        assert_eq!(interval("lg throughput -po -pi 250"), Some(250));
        // Four queues in turn, and 0.1 s for what is done with the message.
        let slow = settings("lg throughput -po -pi 1000 -L 100000 -qp q%d -qpt 4").expect("valid");
        assert_eq!(slow.consumer_pause_s(), 4.1);
        for bad in ["-pi 5", "-po -pi -1", "-po -pi 0.5", "-po -pi 3600001"] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefetch_lets_every_batch_of_acks_be_completed() {
        let both = settings("lg throughput -q 5 -Q 20 -A 5").expect("valid");
        assert_eq!((both.prefetch, both.global_prefetch), (5, 20));
        for bad in ["-Q 10 -A 11", "-q 20 -Q 10 -A 11", "-Q 65536", "-Q -1"] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
        assert!(settings("lg throughput -Q 10 -A 11 -a").is_ok());
    }

    #[test]
    fn a_heartbeat_is_a_number_of_seconds() {
        let heartbeat_s = |line| settings(line).expect("valid").broker.heartbeat_s;
        assert_eq!(heartbeat_s("lg throughput"), 0);
        assert_eq!(heartbeat_s("lg throughput -b 5"), 5);
        for bad in ["-b -1", "-b 65536", "-b 0.5"] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn transactions_have_a_size_that_consumers_can_reach() {
        let both = settings("lg throughput -m 10 -n 20").expect("valid");
        let sizes = (both.producer_transaction, both.consumer_transaction);
        assert_eq!(sizes, (Some(10), Some(20)));
        let none = settings("lg throughput -m 0 -n 0 -q 1").expect("valid");
        let sizes = (none.producer_transaction, none.consumer_transaction);
        assert_eq!(sizes, (None, None));
        assert_eq!(settings("lg backlog -m 5").expect("valid").confirm, None);
        // With acks of 2 and commits of 3: at 3 two are settled, and the next two only at 6.
        for good in ["-q 20 -n 20", "-q 4 -A 2 -n 3", "-q 4 -A 2 -n 4"] {
            assert!(settings(&format!("lg throughput {good}")).is_ok(), "{good}");
        }
        for bad in [
            "-m 5 -c 5",
            "-n 5 -a",
            "-n -1",
            "-q 20 -n 21",
            "-Q 20 -n 21",
            "-q 3 -A 2 -n 3",
            "-q 3 -A 2 -n 4",
        ] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_random_routing_key_needs_an_exchange_that_looks_at_it() {
        assert!(settings("lg throughput -K").is_err());
        let random = settings("lg throughput -K -e x -t x-consistent-hash -k 1 -qp q%d -qpt 3");
        assert_eq!(random.expect("valid").copies(), 1);
    }

    #[test]
    fn a_ladder_has_rates_or_a_factor() {
        let ladder = settings("lg latency --ladder -x 2").expect("valid");
        assert!(matches!(ladder.ladder, Some(Ladder::Factor(2.0))));
        assert_eq!((ladder.rate, ladder.time_s), (Some(1_000.0), Some(5.0)));
        let listed = settings("lg latency --rates 5000,20000 -z 1").expect("valid");
        assert!(
            matches!(listed.ladder, Some(Ladder::Rates(rates)) if rates == [5_000.0, 20_000.0])
        );
    }
}
