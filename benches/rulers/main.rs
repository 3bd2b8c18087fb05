//! Two rulers for what the broker costs: instructions (as callgrind counts them) and allocations of each
//! operation, against the figures that are checked in. Neither hangs on how busy the machine is.
//!
//!     cargo run --release -p leveret-rulers [-- --accept | --mail]
//!
//! More than 2 % more instructions, or any allocation more, ends it with an error.

mod allocations;
mod figures;
mod instructions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use leveret_rulers::{MESSAGES, OPERATIONS, Operation, mails};

use crate::figures::{Figure, Figures, Toolchain};

/// Counts what operations of the broker cost, and compares with the checked-in figures.
#[derive(Debug, Parser)]
struct Options {
    /// Checked-in figures
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/figures.json"), hide_default_value = true)]
    figures: PathBuf,
    /// Write what was counted into the figures
    #[arg(long)]
    accept: bool,
    /// Only operations whose name contains this
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        conflicts_with = "accept"
    )]
    only: String,
    /// Only count the batches of mail between cores
    #[arg(long, conflicts_with_all = ["accept", "only"])]
    mail: bool,
    /// Keep callgrind's profiles in this directory, for callgrind_annotate
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// What the rulers have callgrind run: the operation of that number
    #[arg(long, hide = true)]
    operation: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(number) = options.operation {
        instructions::run(&OPERATIONS[number]);
        return ExitCode::SUCCESS;
    }
    if options.mail {
        for cores in [1, 2, 4, 8] {
            let (local, crossing) = (mails(cores, false), mails(cores, true));
            println!(
                "{cores} cores, {MESSAGES} messages: {local} batches of mail if all is local, {crossing} if all crosses"
            );
        }
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("leveret-rulers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it should be.
fn measure(options: &Options) -> Result<bool> {
    let chosen: Vec<(usize, &Operation)> = OPERATIONS
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.name.contains(&options.only))
        .collect();
    if chosen.is_empty() {
        bail!("no operation has {:?} in its name", options.only);
    }
    let scratch = tempfile::tempdir().context("a directory for callgrind's profiles")?;
    let profiles = options
        .profiles
        .as_deref()
        .unwrap_or_else(|| scratch.path());
    let counted = count(&chosen, profiles)?;
    let now = Figures::new(Toolchain::of_this()?, counted);
    if options.accept {
        std::fs::write(&options.figures, now.text()).context("writing the figures")?;
        print!("{}", now.text());
        return Ok(true);
    }
    let before = Figures::read(&options.figures)?;
    Ok(before.compare(&now))
}

fn count(chosen: &[(usize, &Operation)], profiles: &Path) -> Result<Vec<(&'static str, Figure)>> {
    let numbers: Vec<usize> = chosen.iter().map(|(number, _)| *number).collect();
    let instructions = instructions::count_all(&numbers, profiles)?;
    let figures = chosen.iter().zip(instructions);
    Ok(figures
        .map(|((_, operation), instructions)| {
            let allocations = allocations::count(operation);
            let figure = Figure {
                instructions,
                allocations,
            };
            (operation.name, figure)
        })
        .collect())
}
