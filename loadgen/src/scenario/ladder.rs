//! `latency --rates` and `latency --ladder`: one fixed rate after the other, each on a fresh queue.
//!
//! A ladder climbs until the broker is saturated: until less than a certain share of the offered
//! rate is received. Above that the latency is only the length of the run. Messages that are due at
//! the same moment go in one write, so that high rates are limited by the broker's side.

use anyhow::Result;
use serde::Serialize;

use super::load::{Plan, draw, measure, with_topology};
use crate::options::{Ladder, Settings};
use crate::output::BULK_BYTES;
use crate::plot;
use crate::report::{Sinks, Summary, grouped, microseconds, print_json, say, table};
use crate::run::is_interrupted;

/// Received at less than this share of the offered rate, a broker is saturated.
const SATURATED_BELOW: f64 = 0.95;
/// The most rungs of a ladder that climbs by itself: no broker needs so many at a factor of 2.
const RUNGS_MAX: i32 = 200;

/// The whole run, as --json prints it.
#[derive(Debug, Serialize)]
struct Rungs<'a> {
    settings: &'a Settings,
    /// The highest rate, in messages per second, at which the broker kept up.
    sustained_rate: Option<f64>,
    rungs: Vec<Rung>,
}

/// One rate.
#[derive(Debug, Serialize)]
struct Rung {
    /// Of all producers together, in messages per second.
    offered_rate: f64,
    saturated: bool,
    #[serde(flatten)]
    summary: Summary,
}

/// Runs it.
pub(super) fn run(settings: &Settings, ladder: &Ladder) -> Result<()> {
    let mut sinks = Sinks::open(settings)?;
    let mut rungs = Vec::new();
    for rate in rates(settings, ladder) {
        let rung = climb(settings, rate, &mut sinks)?;
        if is_interrupted() {
            break;
        }
        let ends = rung.saturated && matches!(ladder, Ladder::Factor(_));
        rungs.push(rung);
        if ends {
            break;
        }
    }
    let kept_up = rungs.iter().filter(|rung| !rung.saturated);
    let report = Rungs {
        settings,
        sustained_rate: kept_up.map(|rung| rung.offered_rate).reduce(f64::max),
        rungs,
    };
    if settings.json {
        print_json(&report)?;
    } else {
        report.print()?;
    }
    let plotted: Vec<_> = report.rungs.iter().map(Rung::plotted).collect();
    draw(settings, || plot::ladder("Latency by rate", &plotted))
}

/// Per producer.
fn rates(settings: &Settings, ladder: &Ladder) -> Vec<f64> {
    match ladder {
        Ladder::Rates(rates) => rates.clone(),
        Ladder::Factor(factor) => {
            let first = settings.rate.unwrap_or(1.0);
            (0..RUNGS_MAX)
                .map(|rung| first * factor.powi(rung))
                .collect()
        }
    }
}

fn climb(settings: &Settings, rate: f64, sinks: &mut Sinks) -> Result<Rung> {
    let settings = Settings {
        rate: Some(rate),
        ladder: None,
        ..settings.part(format!("{rate}"))
    };
    let channels = f64::from(settings.producers) * f64::from(settings.producer_channels);
    let offered_rate = rate * channels;
    sinks
        .live
        .tell(&format!("offered: {} msg/s", grouped(offered_rate)));
    let plan = Plan {
        write_bytes: BULK_BYTES,
        awaited: None,
    };
    let summary = with_topology(&settings, || measure(plan, &settings, sinks))?;
    let wanted = offered_rate * settings.copies() as f64;
    let saturated = if settings.consumers > 0 {
        summary.receiving_rate_avg < SATURATED_BELOW * wanted
    } else {
        summary.sending_rate_avg < SATURATED_BELOW * offered_rate
    };
    Ok(Rung {
        offered_rate,
        saturated,
        summary,
    })
}

impl Rung {
    fn plotted(&self) -> (f64, bool, &Summary) {
        (self.offered_rate, self.saturated, &self.summary)
    }
}

impl Rungs<'_> {
    fn print(&self) -> Result<()> {
        let head = [
            "offered msg/s",
            "sent",
            "received",
            "median",
            "99th",
            "99.9th",
            "max µs",
            "",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for rung in &self.rungs {
            let summary = &rung.summary;
            let rates = [
                rung.offered_rate,
                summary.sending_rate_avg,
                summary.receiving_rate_avg,
            ];
            let mut row = rates.map(grouped).to_vec();
            row.extend(match &summary.consumer_latency_us {
                Some(latency) => {
                    [latency.p50, latency.p99, latency.p99_9, latency.max].map(microseconds)
                }
                None => Default::default(),
            });
            row.push(if rung.saturated { "saturated" } else { "" }.to_owned());
            rows.push(row);
        }
        say(table(&rows).trim_end())?;
        match self.sustained_rate {
            Some(rate) => say(format_args!("sustained: {} msg/s", grouped(rate))),
            None => say("sustained: none of these rates"),
        }
    }
}
