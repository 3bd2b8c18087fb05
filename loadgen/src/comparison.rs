//! What is made of several runs: is this broker slower than that one, or than it was?
//!
//! ```text
//! suite       a file of scenarios, run in interleaved rounds      metrics     what of a run is compared
//! compare     the rounds of two files                             verdict     what is said of it
//! ab          two brokers, started alternately                    statistics  medians, intervals, noise
//! broker      a broker that is started and stopped
//! ```
//!
//! The runs are processes of their own, this program's: as good as typed by a user, and none inherits
//! anything from the one before.

mod ab;
mod broker;
mod compare;
mod metrics;
mod statistics;
mod suite;
mod verdict;

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgAction, Parser, Subcommand};

/// Compares runs of the load generator.
#[derive(Debug, Parser)]
#[command(name = "leveret-loadgen", version, disable_help_flag = true)]
pub(crate) struct Comparison {
    #[command(subcommand)]
    command: Command,
    /// Print help
    #[arg(long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_flag = true)]
enum Command {
    /// Run a file of scenarios in interleaved rounds
    #[command(disable_help_flag = true)]
    Suite(suite::SuiteOptions),
    /// Compare the rounds of two files: exit status 1 on a regression
    #[command(disable_help_flag = true)]
    Compare(compare::CompareOptions),
    /// Start two brokers alternately and compare them: exit status 1 if B is worse than A
    #[command(disable_help_flag = true)]
    Ab(ab::AbOptions),
}

impl Comparison {
    /// Whether the command line begins with one of these commands, and not with a scenario.
    pub(crate) fn is_asked_for() -> bool {
        let first = std::env::args().nth(1);
        matches!(first.as_deref(), Some("suite" | "compare" | "ab"))
    }

    /// Does what the command line says.
    pub(crate) fn main() -> ExitCode {
        let outcome = match Self::parse().command {
            Command::Suite(options) => suite::run(&options).map(|()| false),
            Command::Compare(options) => compare::run(&options),
            Command::Ab(options) => ab::run(&options),
        };
        Self::exit_code(outcome)
    }

    /// 0 if all is well, 1 on a regression, 2 if there was no telling.
    fn exit_code(is_worse: Result<bool>) -> ExitCode {
        match is_worse {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::from(1),
            Err(error) => {
                eprintln!("leveret-loadgen: {error:#}");
                ExitCode::from(2)
            }
        }
    }
}
