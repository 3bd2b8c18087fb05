//! A file of scenarios, each as a user would type it, and their rounds:
//!
//! ```json
//! {
//!   "rounds": 5,
//!   "scenarios": [
//!     { "name": "16 B, auto-ack", "run": "throughput -s 16 -a -z 2" },
//!     { "name": "64 B, 5000 a second", "run": "latency -s 64 -r 5000 -a -z 2" }
//!   ]
//! }
//! ```
//!
//! Rounds are interleaved (each scenario once, then each again), so that a minute in which the machine is
//! busy with something else spoils a round of each, not all rounds of one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::broker::{Cpus, spawn_on};
use super::metrics;
use super::statistics::ROUNDS_MIN;

#[derive(Args, Debug)]
pub(crate) struct SuiteOptions {
    /// Scenarios: {"rounds": 5, "scenarios": [{"name": "16 B", "run": "throughput -s 16 -z 2"}, ...]}
    file: PathBuf,
    /// Broker to connect to, for all scenarios
    #[arg(short = 'h', long)]
    uri: Option<String>,
    /// Rounds of each scenario [default: what the file says, or 5]
    #[arg(long)]
    rounds: Option<usize>,
    /// Where all rounds are written, for compare [default: standard output]
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// A file of scenarios.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    #[serde(default = "rounds_by_default")]
    rounds: usize,
    pub(super) scenarios: Vec<Scenario>,
}

/// A scenario of a suite.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// A command line of the generator, without its name.
    pub(super) run: String,
}

/// All rounds of all scenarios, as they are written.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Results {
    pub(super) scenarios: Vec<Rounds>,
}

/// All rounds of a scenario: what the generator said with --json.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Rounds {
    #[serde(flatten)]
    pub(super) scenario: Scenario,
    pub(super) rounds: Vec<Value>,
}

fn rounds_by_default() -> usize {
    ROUNDS_MIN
}

/// Runs the suite against a broker that is there.
pub(super) fn run(options: &SuiteOptions) -> Result<()> {
    let suite = Suite::read(&options.file)?;
    let rounds = options.rounds.unwrap_or(suite.rounds);
    let mut results = Results::none_of(&suite);
    for round in 1..=rounds {
        for one in &mut results.scenarios {
            let said = one.scenario.run(options.uri.as_deref(), None)?;
            let summary = metrics::in_short(&said);
            eprintln!(
                "round {round} of {rounds}, {}: {summary}",
                one.scenario.name
            );
            one.rounds.push(said);
        }
    }
    let text = serde_json::to_string(&results)? + "\n";
    match &options.output {
        Some(path) => fs::write(path, text).with_context(|| format!("{}", path.display())),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

impl Suite {
    /// Reads a file of scenarios.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let suite: Self = serde_json::from_str(&text)
            .with_context(|| format!("the suite in {}", path.display()))?;
        suite.checked()
    }

    /// Scenarios that have no other name than what they run.
    pub(super) fn of_lines(lines: &[String]) -> Result<Self> {
        let scenario = |line: &String| Scenario {
            name: line.clone(),
            run: line.clone(),
        };
        let scenarios = lines.iter().map(scenario).collect();
        let rounds = rounds_by_default();
        Self { rounds, scenarios }.checked()
    }

    fn checked(self) -> Result<Self> {
        ensure!(!self.scenarios.is_empty(), "the suite has no scenario");
        let names: BTreeSet<&str> = self.scenarios.iter().map(|one| &*one.name).collect();
        ensure!(
            names.len() == self.scenarios.len(),
            "two scenarios of the suite have the same name"
        );
        for scenario in &self.scenarios {
            scenario.words()?;
        }
        Ok(self)
    }
}

impl Results {
    pub(super) fn none_of(suite: &Suite) -> Self {
        let scenarios = suite.scenarios.iter().cloned();
        let empty = |scenario| Rounds {
            scenario,
            rounds: Vec::new(),
        };
        Self {
            scenarios: scenarios.map(empty).collect(),
        }
    }
}

impl Scenario {
    fn words(&self) -> Result<Vec<String>> {
        let words = shlex::split(&self.run);
        let words = words.with_context(|| format!("{}: a quote is not closed", self.name))?;
        if words.iter().any(|word| word == "--json") {
            bail!("{}: --json goes without saying", self.name);
        }
        Ok(words)
    }

    /// Runs it once, against that broker and on those CPUs; what the generator says.
    pub(super) fn run(&self, uri: Option<&str>, cpus: Option<&Cpus>) -> Result<Value> {
        let failed = || format!("scenario {:?}", self.name);
        let own = std::env::current_exe().context("the path of this program")?;
        let mut command = Command::new(own);
        command.args(self.words()?).arg("--json");
        if let Some(uri) = uri {
            command.args(["--uri", uri]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let run = spawn_on(cpus, &mut command).with_context(failed)?;
        let output = run.wait_with_output().with_context(failed)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        ensure!(output.status.success(), "{}: {last}", failed());
        serde_json::from_slice(&output.stdout).with_context(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(text: &str) -> Result<Suite> {
        serde_json::from_str::<Suite>(text)?.checked()
    }

    #[test]
    fn a_suite_says_what_is_run_and_how_often() {
        let text = r#"{"scenarios": [{"name": "one", "run": "throughput -k 'a key' -z 2"}]}"#;
        let suite = suite(text).expect("it is well-formed");
        assert_eq!(suite.rounds, ROUNDS_MIN);
        let words = suite.scenarios[0].words().expect("quotes are closed");
        assert_eq!(words, ["throughput", "-k", "a key", "-z", "2"]);
    }

    #[test]
    fn a_suite_that_can_not_be_run_is_refused() {
        for (text, why) in [
            (r#"{"scenarios": []}"#, "no scenario"),
            (r#"{"scenarios": [{"name": "a", "run": "x 'y"}]}"#, "quote"),
            (
                r#"{"scenarios": [{"name": "a", "run": "x --json"}]}"#,
                "--json",
            ),
            (
                r#"{"scenarios": [{"name": "a", "run": "x"}, {"name": "a", "run": "y"}]}"#,
                "the same name",
            ),
            (r#"{"scenarios": [{"name": "a", "args": "x"}]}"#, "args"),
        ] {
            let error = suite(text).expect_err(text);
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
