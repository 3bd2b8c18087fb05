//! The checked-in figures: a file for people, with what made them, and how others compare.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The part of the instructions that may come or go with the compiler's mood.
const INSTRUCTIONS_CHANGE: f64 = 0.02;
/// Decimals of instructions, and of allocations.
const DECIMALS: (usize, usize) = (1, 4);

/// What an operation costs, per message.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Figure {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// What figures hang on besides the code that is measured.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub(crate) struct Toolchain {
    rustc: String,
    valgrind: String,
    /// It has `memcpy`.
    c_library: String,
    /// Which variants of `memcpy` and of checksums are chosen at run time.
    cpu: String,
}

/// All figures.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Figures {
    toolchain: Toolchain,
    per_message: BTreeMap<String, Figure>,
}

impl Toolchain {
    /// That of this process and this machine.
    pub(crate) fn of_this() -> Result<Self> {
        let said = |program: &str, argument: &str| -> Result<String> {
            let output = Command::new(program).arg(argument).output();
            let output = output.with_context(|| format!("running {program}: is it installed?"))?;
            ensure!(output.status.success(), "{program} {argument} failed");
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self {
            rustc: env!("RULERS_RUSTC").to_owned(),
            valgrind: said("valgrind", "--version")?,
            c_library: said("getconf", "GNU_LIBC_VERSION")?,
            cpu: cpu(),
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu() -> String {
    let has = |yes, name| if yes { name } else { "" };
    let avx2 = has(is_x86_feature_detected!("avx2"), " avx2");
    let erms = has(is_x86_feature_detected!("ermsb"), " erms");
    format!("x86-64{avx2}{erms}")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu() -> String {
    std::env::consts::ARCH.to_owned()
}

impl Figures {
    pub(crate) fn new(toolchain: Toolchain, figures: Vec<(&'static str, Figure)>) -> Self {
        let round = |value: f64, decimals: usize| {
            let scale = 10_f64.powi(decimals as i32);
            (value * scale).round() / scale
        };
        let figures = figures.into_iter().map(|(name, figure)| {
            let figure = Figure {
                instructions: round(figure.instructions, DECIMALS.0),
                allocations: round(figure.allocations, DECIMALS.1),
            };
            (name.to_owned(), figure)
        });
        Self {
            toolchain,
            per_message: figures.collect(),
        }
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the figures in {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the figures in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    /// As it is checked in.
    pub(crate) fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("names and numbers can be written") + "\n"
    }

    /// Prints what is different; whether `now` is good enough.
    pub(crate) fn compare(&self, now: &Self) -> bool {
        let is_comparable = self.toolchain == now.toolchain;
        println!(
            "{:<38} {:>12} {:>12} {:>8}   {:>11} {:>10}",
            "per message", "instructions", "checked in", "change", "allocations", "checked in"
        );
        let (mut worse, mut better) = (0, 0);
        for (name, figure) in &now.per_message {
            let Some(known) = self.per_message.get(name) else {
                println!("{name:<38} is not among the figures: --accept takes it in");
                worse += 1;
                continue;
            };
            let verdict = figure.against(known);
            worse += usize::from(verdict.is_worse());
            better += usize::from(verdict == Verdict::Better);
            let change = figure.instructions / known.instructions - 1.0;
            println!(
                "{name:<38} {:>12.*} {:>12.*} {:>+7.1}%   {:>11.*} {:>10.*} {verdict}",
                DECIMALS.0,
                figure.instructions,
                DECIMALS.0,
                known.instructions,
                change * 100.0,
                DECIMALS.1,
                figure.allocations,
                DECIMALS.1,
                known.allocations,
            );
        }
        if better > 0 && is_comparable {
            println!("{better} operations cost less than checked in: with --accept it stays so");
        }
        match (worse, is_comparable) {
            (0, _) => {}
            (worse, true) => println!(
                "{worse} operations cost more than checked in. If that is meant: --accept, and say why in the commit. \
                 Where the instructions are: --profiles DIR, then callgrind_annotate."
            ),
            (worse, false) => println!(
                "{worse} operations differ, and no failure is made of it: the figures are of {:?}, this is {:?}",
                self.toolchain, now.toolchain
            ),
        }
        worse == 0 || !is_comparable
    }
}

/// What is to be said of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Good,
    Better,
    Instructions,
    Allocations,
    Both,
}

impl Verdict {
    fn is_worse(self) -> bool {
        !matches!(self, Self::Good | Self::Better)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "",
            Self::Better => "less",
            Self::Instructions => "MORE INSTRUCTIONS",
            Self::Allocations => "MORE ALLOCATIONS",
            Self::Both => "MORE OF BOTH",
        })
    }
}

impl Figure {
    fn against(&self, known: &Self) -> Verdict {
        let instructions = self.instructions / known.instructions - 1.0;
        let fewer = instructions < -INSTRUCTIONS_CHANGE || self.allocations < known.allocations;
        let more = instructions > INSTRUCTIONS_CHANGE;
        match (more, self.allocations > known.allocations) {
            (false, false) if fewer => Verdict::Better,
            (false, false) => Verdict::Good,
            (true, false) => Verdict::Instructions,
            (false, true) => Verdict::Allocations,
            (true, true) => Verdict::Both,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Figure = Figure {
        instructions: 1000.0,
        allocations: 0.5,
    };

    fn figures(figure: Figure) -> Figures {
        let toolchain = Toolchain {
            rustc: "rustc 1.95.0".to_owned(),
            valgrind: "valgrind-3.19.0".to_owned(),
            c_library: "glibc 2.36".to_owned(),
            cpu: "x86-64 avx2".to_owned(),
        };
        Figures::new(toolchain, vec![("turn: \"quoted\"", figure)])
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = figures(KNOWN);
        let read = Figures::parse(&written.text()).expect("it is well-formed");
        assert_eq!(read, written);
    }

    #[test]
    fn two_percent_more_instructions_are_borne_and_no_allocation_more() {
        for (instructions, allocations, verdict) in [
            (1019.9, 0.5, Verdict::Good),
            (980.1, 0.5, Verdict::Good),
            (979.9, 0.5, Verdict::Better),
            (1000.0, 0.4, Verdict::Better),
            (1020.1, 0.5, Verdict::Instructions),
            (1000.0, 0.5001, Verdict::Allocations),
            (1100.0, 1.5, Verdict::Both),
        ] {
            let figure = Figure {
                instructions,
                allocations,
            };
            assert_eq!(figure.against(&KNOWN), verdict, "{figure:?}");
        }
    }

    #[test]
    fn a_new_operation_must_be_accepted_and_another_toolchain_is_not_compared() {
        let known = figures(KNOWN);
        let mut now = known.clone();
        assert!(known.compare(&now));
        now.per_message.insert("turn: new".to_owned(), KNOWN);
        assert!(!known.compare(&now));
        now.toolchain.rustc = "rustc 1.96.0".to_owned();
        assert!(known.compare(&now));
    }
}
