//! What there is to see of a run: throughput over time, latency over time, by percentile, and by
//! rate for a ladder.

use hdrhistogram::Histogram;

use super::axis::{Axis, Unit, per_second, time};
use super::chart::{COLORS, Chart, Series};
use super::page::Page;
use crate::report::{Percentiles, Sample, Summary};

/// Points of a percentile curve in each decade.
const POINTS_PER_DECADE: u32 = 24;
/// The most curves of a ladder whose names fit beside a chart's title.
const CURVES_MAX: usize = 6;
/// Latencies further apart than this are drawn on a logarithmic scale.
const LINEAR_UP_TO: f64 = 20.0;

/// The name of a line, and what it shows.
type Line<T> = (&'static str, fn(&T) -> f64);

/// A name, and latencies in nanoseconds.
type Curve = (String, Histogram<u64>);

/// A run of producers and consumers.
pub(crate) fn load(title: &str, summary: &Summary) -> Page {
    let mut charts = vec![throughput("Throughput over time", summary)];
    charts.extend(latency_over_time(summary));
    let latencies = &summary.latencies;
    charts.extend(by_percentile(
        "Latency by percentile",
        &[
            ("consumer latency".to_owned(), latencies.consumer.clone()),
            ("confirm latency".to_owned(), latencies.confirm.clone()),
        ],
    ));
    Page {
        title: title.to_owned(),
        figures: key_figures(summary),
        charts,
    }
}

/// Both phases of a backlog.
pub(crate) fn backlog(title: &str, fill: &Summary, drain: &Summary) -> Page {
    Page {
        title: title.to_owned(),
        figures: format!(
            "filled at {} msg/s  ·  drained at {} msg/s  ·  {} messages",
            per_second(fill.sending_rate_avg),
            per_second(drain.receiving_rate_avg),
            per_second(drain.received as f64)
        ),
        charts: vec![throughput("Filling", fill), throughput("Draining", drain)],
    }
}

/// Rates with the run at each, and whether it was too much.
pub(crate) fn ladder(title: &str, rungs: &[(f64, bool, &Summary)]) -> Page {
    let sustained = rungs.iter().filter(|(_, saturated, _)| !saturated);
    let sustained = sustained.map(|(rate, ..)| *rate).reduce(f64::max);
    let mut charts = vec![by_rate(rungs)];
    let curve = |(rate, _, summary): &(f64, bool, &Summary)| {
        let name = format!("{}/s", per_second(*rate));
        (name, summary.latencies.consumer.clone())
    };
    let all: Vec<_> = rungs.iter().map(curve).collect();
    // The highest ones: those that fit the legend, and say most.
    let shown = &all[all.len().saturating_sub(CURVES_MAX)..];
    charts.extend(by_percentile("Latency by percentile", shown));
    Page {
        title: title.to_owned(),
        figures: match sustained {
            Some(rate) => format!("sustained {} msg/s", per_second(rate)),
            None => "saturated at each of these rates".to_owned(),
        },
        charts,
    }
}

/// Curves of latencies in nanoseconds, a chart for each kind, and the rates in words.
pub(crate) fn churn(title: &str, figures: String, kinds: &[(&str, Vec<Curve>)]) -> Page {
    let chart = |(kind, curves): &(&str, Vec<_>)| by_percentile(kind, curves);
    Page {
        title: title.to_owned(),
        figures,
        charts: kinds.iter().filter_map(chart).collect(),
    }
}

fn key_figures(summary: &Summary) -> String {
    let mut figures = Vec::new();
    if summary.sent > 0 {
        figures.push(format!(
            "sent {} msg/s",
            per_second(summary.sending_rate_avg)
        ));
    }
    if summary.received > 0 {
        figures.push(format!(
            "received {} msg/s",
            per_second(summary.receiving_rate_avg)
        ));
    }
    for (name, latency) in [
        ("latency", &summary.consumer_latency_us),
        ("confirm", &summary.confirm_latency_us),
    ] {
        figures.extend(latency.as_ref().map(|latency| {
            format!(
                "{name} median {}, 99th {}, max {}",
                time(latency.p50),
                time(latency.p99),
                time(latency.max)
            )
        }));
    }
    figures.join("  ·  ")
}

/// A series for each line, in the colors' order.
fn series_of<T>(
    lines: impl IntoIterator<Item = Line<T>>,
    points: impl Fn(fn(&T) -> f64) -> Vec<(f64, f64)>,
) -> Vec<Series> {
    let series = |((name, value), color): (Line<T>, _)| Series {
        name: name.to_owned(),
        color,
        points: points(value),
    };
    lines.into_iter().zip(COLORS).map(series).collect()
}

/// Each interval's value at its middle; an only one from its begin to its end.
fn over_time(samples: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    if let [sample] = samples {
        let ends = value(sample).map(|value| [(0.0, value), (sample.time_s, value)]);
        return ends.into_iter().flatten().collect();
    }
    let mut begun_s = 0.0;
    let mut points = Vec::new();
    for sample in samples {
        let middle_s = (begun_s + sample.time_s) / 2.0;
        begun_s = sample.time_s;
        points.extend(value(sample).map(|value| (middle_s, value)));
    }
    points
}

fn chart_of(
    title: &str,
    (x_name, x): (&'static str, Axis),
    (y_name, y): (&'static str, Axis),
    series: Vec<Series>,
) -> Chart {
    Chart {
        title: title.to_owned(),
        x_name,
        y_name,
        x,
        y,
        series,
        shaded: None,
    }
}

fn throughput(title: &str, summary: &Summary) -> Chart {
    let lines: [Line<Sample>; 3] = [
        ("sent", |sample| sample.sent),
        ("received", |sample| sample.received),
        ("confirmed", |sample| sample.confirmed),
    ];
    let mut series = series_of(lines, |value| {
        over_time(&summary.samples, |sample| Some(value(sample)))
    });
    // A line of zeros is not part of this run.
    series.retain(|series| series.points.iter().any(|(_, rate)| *rate > 0.0));
    let rates = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| point.1);
    let y = Axis::linear(Unit::PerSecond, rates);
    chart_of(title, ("time", time_axis(summary)), ("msg/s", y), series)
}

fn time_axis(summary: &Summary) -> Axis {
    let times = summary.samples.iter().map(|sample| sample.time_s);
    Axis::exact(Unit::Seconds, times)
}

fn latency_over_time(summary: &Summary) -> Option<Chart> {
    let consumer = |sample: &Sample| sample.consumer_latency_us.clone();
    let confirm = |sample: &Sample| sample.confirm_latency_us.clone();
    let (title, of): (_, fn(&Sample) -> Option<Percentiles>) =
        match (&summary.consumer_latency_us, &summary.confirm_latency_us) {
            (Some(_), _) => ("Consumer latency over time", consumer),
            (None, Some(_)) => ("Confirm latency over time", confirm),
            (None, None) => return None,
        };
    let lines: [Line<Percentiles>; 3] = [
        ("median", |latency| latency.p50),
        ("99th percentile", |latency| latency.p99),
        ("maximum", |latency| latency.max),
    ];
    let series = series_of(lines, |value| {
        over_time(&summary.samples, |sample| of(sample).as_ref().map(value))
    });
    let y = latency_axis(&series);
    Some(chart_of(
        title,
        ("time", time_axis(summary)),
        ("latency", y),
        series,
    ))
}

/// Logarithmic where a linear one would press most of it to the ground.
fn latency_axis(series: &[Series]) -> Axis {
    let values = || {
        series
            .iter()
            .flat_map(|series| &series.points)
            .map(|point| point.1)
    };
    let least = values().fold(f64::INFINITY, f64::min);
    let most = values().fold(0.0, f64::max);
    if most > least * LINEAR_UP_TO {
        Axis::log(Unit::Time, values())
    } else {
        Axis::linear(Unit::Time, values())
    }
}

fn by_percentile(title: &str, curves: &[Curve]) -> Option<Chart> {
    let series: Vec<_> = curves
        .iter()
        .filter(|(_, latencies)| !latencies.is_empty())
        .zip(COLORS)
        .map(|((name, latencies), color)| Series {
            name: name.clone(),
            color,
            points: percentile_curve(latencies),
        })
        .collect();
    let count = curves.iter().map(|(_, latencies)| latencies.len()).max();
    let count = count.filter(|count| *count > 0)?;
    let y = latency_axis(&series);
    let x = ("percentile", Axis::percentile(count));
    Some(chart_of(title, x, ("latency", y), series))
}

/// Latency in microseconds over 1 / (1 - quantile), as far as there are messages to tell.
fn percentile_curve(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let last = (latencies.len() as f64).clamp(1.0, 1e6);
    let steps = (last.log10() * f64::from(POINTS_PER_DECADE)) as u32;
    let at = |x: f64| (x, latencies.value_at_quantile(1.0 - 1.0 / x) as f64 / 1e3);
    let inner =
        (0..=steps).map(|step| at(10f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE))));
    inner.chain([at(last)]).collect()
}

fn by_rate(rungs: &[(f64, bool, &Summary)]) -> Chart {
    let lines: [Line<Percentiles>; 4] = [
        ("median", |latency| latency.p50),
        ("99th percentile", |latency| latency.p99),
        ("99.9th percentile", |latency| latency.p99_9),
        ("maximum", |latency| latency.max),
    ];
    let points = |value: fn(&Percentiles) -> f64| {
        let point = |(rate, _, summary): &(f64, bool, &Summary)| {
            let latency = summary.consumer_latency_us.as_ref();
            latency.map(|latency| (*rate, value(latency)))
        };
        rungs.iter().filter_map(point).collect()
    };
    let series = series_of(lines, points);
    let rates = || rungs.iter().map(|(rate, ..)| *rate);
    let y = latency_axis(&series);
    let x = ("offered rate, msg/s", Axis::log(Unit::PerSecond, rates()));
    let mut chart = chart_of("Latency by rate", x, ("latency", y), series);
    let first = rungs.iter().find(|(_, saturated, _)| *saturated);
    let kept_up = rungs
        .iter()
        .filter(|(_, saturated, _)| !saturated)
        .map(|(rate, ..)| *rate);
    // Between the last rate that was kept up with and the first that was not.
    chart.shaded = first.map(|(rate, ..)| match kept_up.reduce(f64::max) {
        Some(kept_up) => ((rate * kept_up).sqrt(), "saturated"),
        None => (0.0, "saturated"),
    });
    chart
}
