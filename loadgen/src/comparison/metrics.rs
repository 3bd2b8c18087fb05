//! What of a run is compared: rates, where more is better; and latencies, where less is, of scenarios with
//! a rate of their own. Without one a latency says how long the queue was that the generator built up.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// One number of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Metric {
    /// Messages per second.
    Sent,
    Received,
    /// Microseconds.
    DeliveryMedian,
    Delivery99th,
    ConfirmMedian,
    Confirm99th,
}

/// The part of the generator's summary that is compared.
#[derive(Deserialize)]
struct Summary {
    settings: Settings,
    sending_rate_avg: f64,
    receiving_rate_avg: f64,
    consumer_latency_us: Option<Percentiles>,
    confirm_latency_us: Option<Percentiles>,
}

#[derive(Deserialize)]
struct Settings {
    producers: u32,
    consumers: u32,
    rate: Option<f64>,
}

#[derive(Deserialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

impl Metric {
    pub(super) fn is_better_when_higher(self) -> bool {
        matches!(self, Self::Sent | Self::Received)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sent => "sent /s",
            Self::Received => "received /s",
            Self::DeliveryMedian => "delivery p50 us",
            Self::Delivery99th => "delivery p99 us",
            Self::ConfirmMedian => "confirm p50 us",
            Self::Confirm99th => "confirm p99 us",
        })
    }
}

/// What one run, as the generator tells it with --json, has to compare.
pub(super) fn of(round: &Value) -> Result<Vec<(Metric, f64)>> {
    let summary = Summary::deserialize(round).context("this is no summary of --json")?;
    let mut metrics = Vec::new();
    if summary.settings.producers > 0 {
        metrics.push((Metric::Sent, summary.sending_rate_avg));
    }
    if summary.settings.consumers > 0 {
        metrics.push((Metric::Received, summary.receiving_rate_avg));
    }
    if summary.settings.rate.is_some() {
        if let Some(delivery) = summary.consumer_latency_us {
            metrics.push((Metric::DeliveryMedian, delivery.p50));
            metrics.push((Metric::Delivery99th, delivery.p99));
        }
        if let Some(confirm) = summary.confirm_latency_us {
            metrics.push((Metric::ConfirmMedian, confirm.p50));
            metrics.push((Metric::Confirm99th, confirm.p99));
        }
    }
    Ok(metrics)
}

/// For the curious who wait.
pub(super) fn in_short(round: &Value) -> String {
    let metrics = of(round).unwrap_or_default();
    let said = metrics
        .iter()
        .map(|(metric, value)| format!("{metric} {value:.0}"));
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(settings: &str) -> Value {
        let text = format!(
            r#"{{"settings": {settings}, "sending_rate_avg": 10.0, "receiving_rate_avg": 9.0,
                "consumer_latency_us": {{"p50": 1.0, "p99": 2.0}}, "confirm_latency_us": null}}"#
        );
        serde_json::from_str(&text).expect("it is well-formed")
    }

    #[test]
    fn latencies_count_where_the_rate_is_given() {
        let flood = of(&round(r#"{"producers": 1, "consumers": 1, "rate": null}"#));
        let flood = flood.expect("a summary");
        assert_eq!(flood, [(Metric::Sent, 10.0), (Metric::Received, 9.0)]);
        let paced = of(&round(r#"{"producers": 0, "consumers": 1, "rate": 5.0}"#));
        let paced = paced.expect("a summary");
        let expected = [
            (Metric::Received, 9.0),
            (Metric::DeliveryMedian, 1.0),
            (Metric::Delivery99th, 2.0),
        ];
        assert_eq!(paced, expected);
    }

    #[test]
    fn something_else_is_no_summary() {
        assert!(of(&Value::from(3)).is_err());
    }
}
