//! The scenarios, and what those that publish and consume have in common.
//!
//! Those that are about throughput gather publishes to large writes, so that the generator needs a fraction of the time
//! that a broker needs for the same messages.

mod backlog;
mod churn;
mod connections;
mod ladder;
mod latency;
mod load;

use anyhow::Result;

use crate::options::{Command, Scenario};
use crate::output::BULK_BYTES;

/// Runs what the command line asks for.
pub(crate) fn run(command: &Command) -> Result<()> {
    let settings = match command {
        Command::Churn(settings) => return churn::run(settings),
        Command::Connections(settings) => return connections::run(settings),
        Command::Load(settings) => settings,
    };
    match settings.scenario {
        Scenario::Throughput | Scenario::Fanout | Scenario::Queues => {
            load::run_at(BULK_BYTES, settings)
        }
        Scenario::Latency => latency::run(settings),
        Scenario::Backlog => backlog::run(settings),
    }
}
