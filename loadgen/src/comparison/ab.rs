//! Two brokers, started alternately: A B B A, block after block, each time from nothing, so that whatever
//! else goes on on the machine hits both alike. The two runs of each in a block say how noisy it is.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::broker::{Broker, Cpus};
use super::compare::{Row, by_metric, print};
use super::metrics;
use super::statistics::{Block, ROUNDS_MIN, paired};
use super::suite::{Results, Suite};
use super::verdict::Percent;
use crate::run::{catch_signals, is_interrupted};

/// Which of the two runs when, within a block.
const ORDER: [usize; 4] = [0, 1, 1, 0];

#[derive(Args, Debug)]
pub(crate) struct AbOptions {
    /// Starts broker A: {listen} stands for an address and port, {port} for the port, {data} for an empty directory
    #[arg(long, value_name = "CMD")]
    a: String,
    /// Starts broker B; the same as A to see how noisy the machine is
    #[arg(long, value_name = "CMD")]
    b: String,
    /// File of scenarios, as for suite
    #[arg(long, required_unless_present = "run")]
    suite: Option<PathBuf>,
    /// One scenario, such as 'throughput -s 16 -a -z 2'; repeatable
    #[arg(long, value_name = "LINE", conflicts_with = "suite")]
    run: Vec<String>,
    /// Blocks of A B B A
    #[arg(long, default_value_t = ROUNDS_MIN, value_parser = positive)]
    blocks: usize,
    /// CPUs that the broker may use, such as 0 or 0,2-3 [default: all]
    #[arg(long)]
    broker_cores: Option<Cpus>,
    /// CPUs that the generator may use [default: all]
    #[arg(long)]
    generator_cores: Option<Cpus>,
    /// How much worse than A B may be
    #[arg(long, default_value = "5%")]
    max_regression: Percent,
    /// Directory below which the data directories are made [default: that of temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Prints the comparison; whether B is worse.
pub(super) fn run(options: &AbOptions) -> Result<bool> {
    let suite = match &options.suite {
        Some(path) => Suite::read(path)?,
        None => Suite::of_lines(&options.run)?,
    };
    // A broker is not in our process group: it is stopped by us, or not at all.
    catch_signals()?;
    let mut results = [Results::none_of(&suite), Results::none_of(&suite)];
    for block in 1..=options.blocks {
        for side in ORDER {
            measure(options, side, &mut results[side])?;
        }
        eprintln!("block {block} of {} is done", options.blocks);
    }
    let [a, b] = &results;
    let mut rows = Vec::new();
    for (a, b) in a.scenarios.iter().zip(&b.scenarios) {
        let b = by_metric(&b.rounds)?;
        for (metric, a_values) in by_metric(&a.rounds)? {
            if let Some((_, b_values)) = b.iter().find(|(other, _)| *other == metric) {
                let paired = paired(&blocks(&a_values, b_values));
                let values = (&a_values[..], &b_values[..]);
                rows.push(Row::paired(&a.scenario.name, metric, values, &paired));
            }
        }
    }
    Ok(print(&rows, options.max_regression))
}

/// Starts a broker and has it go through all scenarios once.
fn measure(options: &AbOptions, side: usize, results: &mut Results) -> Result<()> {
    let (name, command) = [("A", &options.a), ("B", &options.b)][side];
    let below = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let broker = Broker::start(command, options.broker_cores.as_ref(), &below)?;
    for one in &mut results.scenarios {
        let cpus = options.generator_cores.as_ref();
        let said = one.scenario.run(Some(&broker.uri), cpus)?;
        eprintln!(
            "{name}, {}: {}",
            one.scenario.name,
            metrics::in_short(&said)
        );
        one.rounds.push(said);
        ensure!(!is_interrupted(), "interrupted");
    }
    broker.stop()
}

/// Two runs of each make a block.
fn blocks(a: &[f64], b: &[f64]) -> Vec<Block> {
    let pairs = |values: &[f64]| values.as_chunks::<2>().0.to_vec();
    let pairs = pairs(a).into_iter().zip(pairs(b));
    pairs.map(|(a, b)| Block { a, b }).collect()
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("a number of blocks, at least 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_paired_in_the_order_in_which_they_ran() {
        let block = |a, b| Block { a, b };
        let found = blocks(&[1.0, 4.0, 5.0, 8.0], &[2.0, 3.0, 6.0, 7.0]);
        let expected = [block([1.0, 4.0], [2.0, 3.0]), block([5.0, 8.0], [6.0, 7.0])];
        assert_eq!(found, expected);
    }
}
