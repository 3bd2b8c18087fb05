//! The end of a run in figures: as text, or as the JSON object of --json.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Sample;
use crate::options::Settings;
use crate::stats::Latencies;

/// The whole run, as --json prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(super) settings: Settings,
    pub(crate) elapsed_s: f64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(super) confirmed: u64,
    pub(super) nacked: u64,
    pub(super) returned: u64,
    pub(crate) sending_rate_avg: f64,
    pub(crate) receiving_rate_avg: f64,
    pub(crate) consumer_latency_us: Option<Percentiles>,
    pub(crate) confirm_latency_us: Option<Percentiles>,
    pub(crate) samples: Vec<Sample>,
    pub(super) generator: Generator,
    #[serde(skip)]
    pub(crate) latencies: Latencies,
}

/// What the generator itself needed. A worker near a share of 1 (of a core) was the bottleneck,
/// unless it polls without sleeping.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Generator {
    pub(super) cpu_s: f64,
    pub(super) worker_cpu_s: Vec<f64>,
    pub(super) busiest_worker_share: f64,
}

/// In microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p75: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: f64,
    #[serde(rename = "p99.99")]
    pub(crate) p99_99: f64,
    pub(crate) max: f64,
}

/// Prints an object on stdout, in one line.
pub(crate) fn print_json(object: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string(object).context("writing the summary as JSON")?;
    say(json)
}

/// Prints a line on stdout. It fails if nobody takes it: `println` would panic.
pub(crate) fn say(line: impl Display) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("writing to standard output")
}

impl Summary {
    /// Prints it in the form that the settings ask for.
    pub(crate) fn report(&self) -> Result<()> {
        if self.settings.json {
            return print_json(self);
        }
        self.print()
    }

    /// Prints it as text.
    pub(crate) fn print(&self) -> Result<()> {
        if self.settings.producers > 0 {
            say(format_args!(
                "sending rate avg: {:.0} msg/s",
                self.sending_rate_avg
            ))?;
        }
        if self.settings.consumers > 0 {
            say(format_args!(
                "receiving rate avg: {:.0} msg/s",
                self.receiving_rate_avg
            ))?;
        }
        for (name, latency) in [
            ("consumer", &self.consumer_latency_us),
            ("confirm", &self.confirm_latency_us),
        ] {
            if let Some(latency) = latency {
                say(format_args!(
                    "{name} latency min/median/75th/95th/99th/99.9th/max {} µs",
                    latency.total()
                ))?;
            }
        }
        if self.returned + self.nacked > 0 {
            say(format_args!(
                "returned: {}, nacked: {}",
                self.returned, self.nacked
            ))?;
        }
        say(format_args!(
            "generator: {:.2} s of processor time in {:.2} s, busiest thread {:.0} % of a core",
            self.generator.cpu_s,
            self.elapsed_s,
            self.generator.busiest_worker_share * 100.0
        ))
    }
}

impl Percentiles {
    /// Of a histogram in nanoseconds; `None` if nothing was recorded.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min: histogram.min() as f64 / 1e3,
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64 / 1e3,
        })
    }

    /// As an interval's line has them.
    pub(super) fn interval(&self) -> String {
        join(&[self.min, self.p50, self.p75, self.p95, self.p99, self.max])
    }

    /// As the summary has them.
    pub(crate) fn total(&self) -> String {
        join(&[
            self.min, self.p50, self.p75, self.p95, self.p99, self.p99_9, self.max,
        ])
    }
}

/// Microseconds as a table shows them: one digit behind the point where it can be seen.
pub(crate) fn microseconds(value_us: f64) -> String {
    if value_us < 100.0 {
        format!("{value_us:.1}")
    } else {
        format!("{value_us:.0}")
    }
}

fn join(values_us: &[f64]) -> String {
    let texts: Vec<_> = values_us.iter().copied().map(microseconds).collect();
    texts.join("/")
}
