//! Options of `churn`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::broker::{Broker, BrokerOptions};
use super::settings::check_plot;

#[derive(Args, Debug)]
pub(super) struct ChurnOptions {
    #[command(flatten)]
    broker: BrokerOptions,
    /// What to open and close; several are measured one after the other
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "connection,channel,queue"
    )]
    of: Vec<Operation>,
    /// Threads that each open and close, waiting for every answer
    #[arg(short = 'x', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    threads: u32,
    /// Seconds for each operation
    #[arg(short = 'z', long, default_value_t = 5.0)]
    time: f64,
    /// End an operation after so many per thread [default: no limit]
    #[arg(short = 'C', long)]
    count: Option<u64>,
    /// Queues are durable
    #[arg(long)]
    durable: bool,
    /// Seconds between live lines
    #[arg(short = 'i', long, default_value_t = 1.0)]
    interval: f64,
    /// One JSON object on stdout at the end; live lines go to stderr
    #[arg(long)]
    json: bool,
    /// A picture of the latencies
    #[arg(long, value_name = "FILE.svg|FILE.html")]
    plot: Option<PathBuf>,
}

/// What is opened and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    /// TCP (and TLS), login and vhost, then connection.close
    Connection,
    /// channel.open and channel.close
    Channel,
    /// queue.declare and queue.delete
    Queue,
    /// queue.bind and queue.unbind
    Binding,
    /// basic.consume and basic.cancel
    Consumer,
}

/// One run of `churn`.
#[derive(Debug, Serialize)]
pub(crate) struct ChurnSettings {
    scenario: &'static str,
    #[serde(rename = "uri")]
    pub(crate) broker: Broker,
    pub(crate) of: Vec<Operation>,
    pub(crate) threads: u32,
    pub(crate) time_s: f64,
    pub(crate) count: Option<u64>,
    pub(crate) durable: bool,
    pub(crate) interval_s: f64,
    pub(crate) json: bool,
    pub(crate) plot: Option<PathBuf>,
}

impl ChurnOptions {
    pub(super) fn into_settings(self) -> Result<ChurnSettings> {
        ensure!(
            self.time.is_finite() && self.time > 0.0,
            "-z must be a positive number"
        );
        ensure!(
            self.interval.is_finite() && self.interval >= 0.01,
            "-i must be at least 0.01"
        );
        check_plot(self.plot.as_deref())?;
        Ok(ChurnSettings {
            scenario: "churn",
            broker: self.broker.into_broker()?,
            of: self.of,
            threads: self.threads,
            time_s: self.time,
            count: self.count,
            durable: self.durable,
            interval_s: self.interval,
            json: self.json,
            plot: self.plot,
        })
    }
}
