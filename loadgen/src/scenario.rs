//! The scenarios, one file each, and what those that publish and consume have in common.

mod backlog;
mod churn;
mod connections;
mod fanout;
mod ladder;
mod latency;
mod load;
mod queues;
mod throughput;

use anyhow::Result;

use crate::options::{Command, Scenario};

/// Runs what the command line asks for.
pub(crate) fn run(command: &Command) -> Result<()> {
    let settings = match command {
        Command::Churn(settings) => return churn::run(settings),
        Command::Connections(settings) => return connections::run(settings),
        Command::Load(settings) => settings,
    };
    match settings.scenario {
        Scenario::Throughput => throughput::run(settings),
        Scenario::Latency => latency::run(settings),
        Scenario::Fanout => fanout::run(settings),
        Scenario::Queues => queues::run(settings),
        Scenario::Backlog => backlog::run(settings),
    }
}
