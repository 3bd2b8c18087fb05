//! The rounds of two files: of each scenario that both have, the ratio of the medians.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Deserializer, Value};

use super::metrics::{self, Metric};
use super::statistics::{Paired, Ratio, median, ratio_of_medians};
use super::suite::{Results, Rounds, Scenario};
use super::verdict::{Percent, Verdict};

#[derive(Args, Debug)]
pub(crate) struct CompareOptions {
    /// What was: the output of suite, or of --json, once or several times in one file
    a: PathBuf,
    /// What is
    b: PathBuf,
    /// How much worse than A B may be
    #[arg(long, default_value = "5%")]
    max_regression: Percent,
}

/// A metric of a scenario, compared.
pub(super) struct Row<'a> {
    pub(super) scenario: &'a str,
    pub(super) metric: Metric,
    /// The medians of all rounds.
    pub(super) medians: [f64; 2],
    pub(super) ratio: Ratio,
    pub(super) noise: Option<f64>,
    pub(super) rounds: usize,
}

/// Prints the comparison; whether B is worse.
pub(super) fn run(options: &CompareOptions) -> Result<bool> {
    let (a, b) = (read(&options.a)?, read(&options.b)?);
    let mut rows = Vec::new();
    for one in &a.scenarios {
        let name = &one.scenario.name;
        let other = b
            .scenarios
            .iter()
            .find(|other| other.scenario.name == *name);
        let Some(other) = other else {
            println!("{name}: not in {}", options.b.display());
            continue;
        };
        let (one, other) = (by_metric(&one.rounds)?, by_metric(&other.rounds)?);
        for (metric, a) in one {
            if let Some((_, b)) = other.iter().find(|(other, _)| *other == metric) {
                rows.push(Row {
                    scenario: name,
                    metric,
                    medians: [median(&a), median(b)],
                    ratio: ratio_of_medians(&a, b),
                    noise: None,
                    rounds: a.len().min(b.len()),
                });
            }
        }
    }
    ensure!(!rows.is_empty(), "the files have nothing in common");
    Ok(print(&rows, options.max_regression))
}

/// A suite's results; or the summaries of runs, as rounds of one scenario.
fn read(path: &Path) -> Result<Results> {
    let named = || format!("{}", path.display());
    let text = fs::read_to_string(path).with_context(named)?;
    let values = Deserializer::from_str(&text).into_iter::<Value>();
    let values: Vec<Value> = values.collect::<Result<_, _>>().with_context(named)?;
    if let [one] = &values[..]
        && one.get("scenarios").is_some()
    {
        return serde_json::from_str(&text).with_context(named);
    }
    let scenario = Scenario {
        name: "all rounds".to_owned(),
        run: String::new(),
    };
    let rounds = values;
    Ok(Results {
        scenarios: vec![Rounds { scenario, rounds }],
    })
}

/// What all rounds have to compare.
pub(super) fn by_metric(rounds: &[Value]) -> Result<Vec<(Metric, Vec<f64>)>> {
    let mut metrics: Vec<(Metric, Vec<f64>)> = Vec::new();
    for round in rounds {
        for (metric, value) in metrics::of(round)? {
            match metrics.iter_mut().find(|(known, _)| *known == metric) {
                Some((_, values)) => values.push(value),
                None => metrics.push((metric, vec![value])),
            }
        }
    }
    Ok(metrics)
}

/// Prints a table; whether anything in it is a regression.
pub(super) fn print(rows: &[Row<'_>], allowed: Percent) -> bool {
    let width = rows.iter().map(|row| row.scenario.chars().count()).max();
    let width = width.unwrap_or(0).max("scenario".len());
    println!(
        "{:<width$}  {:<15}  {:>11}  {:>11}  {:>6}  {:<15}  {:<7}  regression of more than {allowed}?",
        "scenario", "metric", "A", "B", "B/A", "95 % interval", "noise"
    );
    let mut is_worse = false;
    for row in rows {
        let verdict = Verdict::of(row.metric, &row.ratio, row.noise, row.rounds, allowed);
        is_worse |= verdict == Verdict::Regression;
        let [a, b] = row.medians;
        let noise = row.noise.map(|noise| format!("±{:.1} %", noise * 100.0));
        println!(
            "{:<width$}  {:<15}  {a:>11.1}  {b:>11.1}  {:>6.3}  {:.3} to {:.3}  {:<7}  {verdict}",
            row.scenario,
            row.metric,
            row.ratio.median,
            row.ratio.low,
            row.ratio.high,
            noise.unwrap_or_default(),
        );
    }
    is_worse
}

impl<'a> Row<'a> {
    /// Of an alternating comparison.
    pub(super) fn paired(
        scenario: &'a str,
        metric: Metric,
        (a, b): (&[f64], &[f64]),
        paired: &Paired,
    ) -> Self {
        Self {
            scenario,
            metric,
            medians: [median(a), median(b)],
            ratio: paired.ratio,
            noise: Some(paired.noise),
            rounds: a.len() / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::*;

    fn summary(rate: f64) -> String {
        format!(
            r#"{{"settings": {{"producers": 0, "consumers": 1, "rate": null}}, "sending_rate_avg": 0.0,
                "receiving_rate_avg": {rate}, "consumer_latency_us": null, "confirm_latency_us": null}}"#
        )
    }

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a file can be made");
        file.write_all(text.as_bytes()).expect("and written");
        file
    }

    fn compare(a: &NamedTempFile, b: &NamedTempFile) -> Result<bool> {
        run(&CompareOptions {
            a: a.path().to_owned(),
            b: b.path().to_owned(),
            max_regression: "5%".parse().expect("a percentage"),
        })
    }

    #[test]
    fn summaries_one_after_the_other_are_rounds() {
        let rounds = |rates: [f64; 5]| file(&rates.map(summary).join("\n"));
        let before = rounds([100.0, 101.0, 99.0, 100.0, 102.0]);
        let slower = rounds([90.0, 91.0, 89.0, 90.0, 92.0]);
        assert!(compare(&before, &slower).expect("both are read"));
        assert!(!compare(&slower, &before).expect("both are read"));
        assert!(!compare(&before, &before).expect("both are read"));
    }

    #[test]
    fn scenarios_of_suites_are_compared_by_name() {
        let suite = |name: &str, rate: f64| {
            let rounds = vec![summary(rate); 5].join(",");
            file(&format!(
                r#"{{"scenarios": [{{"name": "{name}", "run": "throughput", "rounds": [{rounds}]}}]}}"#
            ))
        };
        let before = suite("one", 100.0);
        assert!(compare(&before, &suite("one", 80.0)).expect("both are read"));
        assert!(!compare(&before, &suite("one", 99.0)).expect("both are read"));
        assert!(compare(&before, &suite("other", 80.0)).is_err());
    }
}
