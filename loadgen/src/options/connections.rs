//! Options of `connections`.

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::broker::{Broker, BrokerOptions};

#[derive(Args, Debug)]
pub(super) struct ConnectionsOptions {
    #[command(flatten)]
    broker: BrokerOptions,
    /// Connections to open
    #[arg(short = 'x', long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Channels to open on each
    #[arg(short = 'X', long, default_value_t = 0)]
    channels: u16,
    /// Connections that are being opened at the same time, a thread each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    openers: u32,
    /// Seconds to hold them, once all are open
    #[arg(short = 'z', long, default_value_t = 5.0)]
    time: f64,
    /// The broker's process, if it runs here: its resident memory is read before, after opening and after holding
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object on stdout at the end; live lines go to stderr
    #[arg(long)]
    json: bool,
}

/// One run of `connections`.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionsSettings {
    scenario: &'static str,
    #[serde(rename = "uri")]
    pub(crate) broker: Broker,
    pub(crate) count: u32,
    pub(crate) channels: u16,
    pub(crate) openers: u32,
    pub(crate) time_s: f64,
    pub(crate) pid: Option<u32>,
    pub(crate) json: bool,
}

impl ConnectionsOptions {
    pub(super) fn into_settings(self) -> Result<ConnectionsSettings> {
        ensure!(
            self.time.is_finite() && self.time >= 0.0,
            "-z must not be negative"
        );
        Ok(ConnectionsSettings {
            scenario: "connections",
            broker: self.broker.into_broker()?,
            count: self.count,
            channels: self.channels,
            openers: self.openers,
            time_s: self.time,
            pid: self.pid,
            json: self.json,
        })
    }
}
