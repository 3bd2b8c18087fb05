//! What the user sees: PerfTest's live lines and summary, or one JSON object.

use std::sync::Arc;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::process_cpu_ns;
use crate::options::Settings;
use crate::stats::{Counts, Latencies, WorkerStats};

/// Follows a run from its first message to its summary.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    settings: &'a Settings,
    workers: Vec<Arc<WorkerStats>>,
    start_ns: u64,
    end_ns: u64,
    cpu_at_start_ns: u64,
    cpu_at_end_ns: u64,
    at_end: Counts,
    total: Latencies,
    /// Empty between calls: what the workers' histograms are swapped for.
    spare: Latencies,
    last: Counts,
    last_ns: u64,
    samples: Vec<Sample>,
}

/// One interval, in messages per second.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    time_s: f64,
    sent: f64,
    received: f64,
    confirmed: f64,
    nacked: f64,
    returned: f64,
}

/// The whole run, as --json prints it.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    settings: &'a Settings,
    elapsed_s: f64,
    sent: u64,
    received: u64,
    confirmed: u64,
    nacked: u64,
    returned: u64,
    sending_rate_avg: f64,
    receiving_rate_avg: f64,
    consumer_latency_us: Option<Percentiles>,
    confirm_latency_us: Option<Percentiles>,
    samples: &'a [Sample],
    generator: Generator,
}

/// What the generator itself needed. A worker near a share of 1 (of a core) was the bottleneck,
/// unless the scenario makes it spin.
#[derive(Debug, Serialize)]
struct Generator {
    cpu_s: f64,
    worker_cpu_s: Vec<f64>,
    busiest_worker_share: f64,
}

/// In microseconds.
#[derive(Debug, Serialize)]
struct Percentiles {
    count: u64,
    min: f64,
    p50: f64,
    p75: f64,
    p95: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p99_9: f64,
    max: f64,
}

impl<'a> Reporter<'a> {
    /// The run begins at `start_ns`.
    pub(crate) fn new(
        settings: &'a Settings,
        workers: Vec<Arc<WorkerStats>>,
        start_ns: u64,
    ) -> Self {
        Self {
            settings,
            workers,
            start_ns,
            end_ns: start_ns,
            cpu_at_start_ns: process_cpu_ns(),
            cpu_at_end_ns: 0,
            at_end: Counts::default(),
            total: Latencies::new(),
            spare: Latencies::new(),
            last: Counts::default(),
            last_ns: start_ns,
            samples: Vec::new(),
        }
    }

    /// Totals of all workers.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.workers
            .iter()
            .for_each(|worker| worker.count_into(&mut counts));
        counts
    }

    /// Prints the interval that ends now.
    pub(crate) fn live_line(&mut self, now_ns: u64) {
        let counts = self.counts();
        let sample = sample(
            &self.last,
            &counts,
            seconds(now_ns - self.start_ns),
            seconds(now_ns - self.last_ns),
        );
        (self.last, self.last_ns) = (counts, now_ns);
        let interval = self.take_latencies();
        let line = self.format_line(&sample, &interval);
        if self.settings.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
        self.samples.push(sample);
    }

    /// The measured time is over: what happens while connections are closed doesn't count.
    pub(crate) fn freeze(&mut self, end_ns: u64) {
        // The last line's time coincides with -z: whichever was seen first, print it.
        if seconds(end_ns - self.last_ns) > self.settings.interval_s / 2.0 {
            self.live_line(end_ns);
        }
        self.at_end = self.counts();
        self.cpu_at_end_ns = process_cpu_ns();
        self.end_ns = end_ns;
        self.take_latencies();
    }

    /// Prints the summary, once the workers have noted their processor time.
    pub(crate) fn summarize(&self) {
        let summary = self.summary();
        if self.settings.json {
            match serde_json::to_string(&summary) {
                Ok(json) => println!("{json}"),
                Err(error) => eprintln!("cannot write the summary as JSON: {error}"),
            }
        } else {
            summary.print(self.settings);
        }
    }

    fn take_latencies(&mut self) -> Latencies {
        let mut interval = Latencies::new();
        for worker in &self.workers {
            worker.swap_latencies(&mut self.spare);
            interval.add(&self.spare);
            self.spare.clear();
        }
        self.total.add(&interval);
        interval
    }

    fn format_line(&self, sample: &Sample, latencies: &Latencies) -> String {
        let settings = self.settings;
        let mut line = format!("time {:.3} s", sample.time_s);
        let mut rate = |name: &str, value: f64| line += &format!(", {name}: {value:.0} msg/s");
        if settings.producers > 0 {
            rate("sent", sample.sent);
            if settings.mandatory {
                rate("returned", sample.returned);
            }
            if settings.confirm.is_some() {
                rate("confirmed", sample.confirmed);
                rate("nacked", sample.nacked);
            }
        }
        if settings.consumers > 0 {
            rate("received", sample.received);
        }
        if let Some(consumer) = percentiles(&latencies.consumer) {
            line += &format!(
                ", min/median/75th/95th/99th/max consumer latency: {} µs",
                consumer.interval()
            );
        }
        if let Some(confirm) = percentiles(&latencies.confirm) {
            line += &format!(", confirm latency: {} µs", confirm.interval());
        }
        line
    }

    fn summary(&self) -> Summary<'_> {
        let counts = &self.at_end;
        let elapsed_s = seconds(self.end_ns - self.start_ns);
        let worker_cpu_s: Vec<f64> = self
            .workers
            .iter()
            .map(|worker| seconds(worker.cpu_ns()))
            .collect();
        let busiest_s = worker_cpu_s.iter().copied().fold(0.0, f64::max);
        let until = |last_ns: u64, limit: Option<u64>| match limit {
            // A count was to be reached: the time after the last message is not part of it.
            Some(_) if last_ns > self.start_ns => seconds(last_ns - self.start_ns),
            _ => elapsed_s,
        };
        let limit = self.settings.producer_messages;
        let sending_s = until(counts.last_sent_ns, limit);
        let receiving_s = until(
            counts.last_received_ns,
            limit.or(self.settings.consumer_messages),
        );
        Summary {
            settings: self.settings,
            elapsed_s,
            sent: counts.sent,
            received: counts.received,
            confirmed: counts.confirmed,
            nacked: counts.nacked,
            returned: counts.returned,
            sending_rate_avg: per_second(counts.sent, sending_s),
            receiving_rate_avg: per_second(counts.received, receiving_s),
            consumer_latency_us: percentiles(&self.total.consumer),
            confirm_latency_us: percentiles(&self.total.confirm),
            samples: &self.samples,
            generator: Generator {
                cpu_s: seconds(self.cpu_at_end_ns - self.cpu_at_start_ns),
                worker_cpu_s,
                busiest_worker_share: busiest_s / elapsed_s,
            },
        }
    }
}

impl Summary<'_> {
    fn print(&self, settings: &Settings) {
        if settings.producers > 0 {
            println!("sending rate avg: {:.0} msg/s", self.sending_rate_avg);
        }
        if settings.consumers > 0 {
            println!("receiving rate avg: {:.0} msg/s", self.receiving_rate_avg);
        }
        for (name, latency) in [
            ("consumer", &self.consumer_latency_us),
            ("confirm", &self.confirm_latency_us),
        ] {
            if let Some(latency) = latency {
                println!(
                    "{name} latency min/median/75th/95th/99th/99.9th/max {} µs",
                    latency.total()
                );
            }
        }
        if self.returned + self.nacked > 0 {
            println!("returned: {}, nacked: {}", self.returned, self.nacked);
        }
        println!(
            "generator: {:.2} s of processor time in {:.2} s, busiest thread {:.0} % of a core",
            self.generator.cpu_s,
            self.elapsed_s,
            self.generator.busiest_worker_share * 100.0
        );
    }
}

impl Percentiles {
    fn interval(&self) -> String {
        join(&[self.min, self.p50, self.p75, self.p95, self.p99, self.max])
    }

    fn total(&self) -> String {
        join(&[
            self.min, self.p50, self.p75, self.p95, self.p99, self.p99_9, self.max,
        ])
    }
}

fn join(values_us: &[f64]) -> String {
    let digits = |value: &f64| {
        if *value < 100.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.0}")
        }
    };
    values_us.iter().map(digits).collect::<Vec<_>>().join("/")
}

fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    (!histogram.is_empty()).then(|| Percentiles {
        count: histogram.len(),
        min: histogram.min() as f64 / 1e3,
        p50: at(0.5),
        p75: at(0.75),
        p95: at(0.95),
        p99: at(0.99),
        p99_9: at(0.999),
        max: histogram.max() as f64 / 1e3,
    })
}

fn sample(last: &Counts, now: &Counts, time_s: f64, interval_s: f64) -> Sample {
    let rate = |now: u64, last: u64| per_second(now - last, interval_s);
    Sample {
        time_s,
        sent: rate(now.sent, last.sent),
        received: rate(now.received, last.received),
        confirmed: rate(now.confirmed, last.confirmed),
        nacked: rate(now.nacked, last.nacked),
        returned: rate(now.returned, last.returned),
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
