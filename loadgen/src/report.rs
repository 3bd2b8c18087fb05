//! What the user sees: PerfTest's live lines and summary, or one JSON object; and the files of
//! --csv and --hlog, which grow as the run goes on.

mod csv;
mod hlog;
mod live;
mod sinks;
mod summary;
mod table;

use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use crate::clock::process_cpu_ns;
use crate::options::Settings;
use crate::stats::{Counts, Latencies, WorkerStats};

pub(crate) use live::{Live, Progress};
pub(crate) use sinks::Sinks;
pub(crate) use summary::{Percentiles, Summary, microseconds, print_json, say};
pub(crate) use table::{grouped, table};

use hlog::Interval;
use summary::Generator;

/// Follows a run from its first message to its summary.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    settings: &'a Settings,
    sinks: &'a mut Sinks,
    /// Messages that the run ends with, if it is a number of those received.
    awaited: Option<u64>,
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
    /// When latencies were last taken from the workers.
    taken_ns: u64,
    samples: Vec<Sample>,
}

/// One interval, in messages per second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// The end of the interval, since the start of the run.
    pub(crate) time_s: f64,
    pub(crate) sent: f64,
    pub(crate) received: f64,
    pub(crate) confirmed: f64,
    pub(crate) nacked: f64,
    pub(crate) returned: f64,
    pub(crate) consumer_latency_us: Option<Percentiles>,
    pub(crate) confirm_latency_us: Option<Percentiles>,
}

impl<'a> Reporter<'a> {
    /// The run begins at `start_ns`.
    pub(crate) fn new(
        settings: &'a Settings,
        sinks: &'a mut Sinks,
        awaited: Option<u64>,
        workers: Vec<Arc<WorkerStats>>,
        start_ns: u64,
    ) -> Self {
        Self {
            settings,
            sinks,
            awaited,
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
            taken_ns: start_ns,
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
    pub(crate) fn live_line(&mut self, now_ns: u64) -> Result<()> {
        let counts = self.counts();
        let interval = self.take_latencies(now_ns)?;
        let interval_s = seconds(now_ns - self.last_ns);
        let rate = |now: u64, last: u64| per_second(now - last, interval_s);
        let sample = Sample {
            time_s: seconds(now_ns - self.start_ns),
            sent: rate(counts.sent, self.last.sent),
            received: rate(counts.received, self.last.received),
            confirmed: rate(counts.confirmed, self.last.confirmed),
            nacked: rate(counts.nacked, self.last.nacked),
            returned: rate(counts.returned, self.last.returned),
            consumer_latency_us: Percentiles::of(&interval.consumer),
            confirm_latency_us: Percentiles::of(&interval.confirm),
        };
        (self.last, self.last_ns) = (counts, now_ns);
        self.sinks.live.tell(&self.format_line(&sample));
        self.sinks.write_sample(self.settings, &sample)?;
        self.samples.push(sample);
        Ok(())
    }

    /// Moves the progress bar, if the run has an end.
    pub(crate) fn show_progress(&self, now_ns: u64) {
        let settings = self.settings;
        let elapsed_s = seconds(now_ns - self.start_ns);
        let counts = self.counts();
        let consumers = u64::from(settings.consumers) * u64::from(settings.consumer_channels);
        let sent = settings.messages_to_send();
        let received = sent.map(|sent| sent * settings.copies());
        let received = settings
            .consumer_messages
            .map(|count| count * consumers)
            .or(received);
        let of_count = match self.awaited.or(received) {
            Some(total) if consumers > 0 => Some((counts.received, total)),
            _ => sent.map(|total| (counts.sent, total)),
        };
        let of_count = of_count.map(|(count, total)| Progress::of_count(elapsed_s, count, total));
        let of_time = settings
            .time_s
            .map(|time_s| Progress::of_time(elapsed_s, time_s));
        // Whichever limit is reached first ends the run.
        let progress = of_count.into_iter().chain(of_time);
        let Some(progress) = progress.reduce(|one, other| match one.done > other.done {
            true => one,
            false => other,
        }) else {
            return;
        };
        let (sent, received) = match self.samples.last() {
            Some(sample) => (sample.sent, sample.received),
            None => return,
        };
        let message = format!(
            "{} msg/s in, {} msg/s out",
            grouped(sent),
            grouped(received)
        );
        self.sinks.live.progress(progress, &message);
    }

    /// The measured time is over: what happens while connections are closed doesn't count.
    pub(crate) fn freeze(&mut self, end_ns: u64) -> Result<()> {
        // The last line's time coincides with -z: whichever was seen first, print it.
        if seconds(end_ns - self.last_ns) > self.settings.interval_s / 2.0 {
            self.live_line(end_ns)?;
        }
        self.sinks.live.clear();
        self.at_end = self.counts();
        self.cpu_at_end_ns = process_cpu_ns();
        self.end_ns = end_ns;
        self.take_latencies(end_ns)?;
        Ok(())
    }

    /// The run in figures, once the workers have noted their processor time.
    pub(crate) fn summary(self) -> Summary {
        let counts = &self.at_end;
        let elapsed_s = seconds(self.end_ns - self.start_ns);
        let worker_cpu_s: Vec<f64> = self
            .workers
            .iter()
            .map(|worker| seconds(worker.cpu_ns()))
            .collect();
        let busiest_s = worker_cpu_s.iter().copied().fold(0.0, f64::max);
        let until = |last_ns: u64, counted: bool| {
            // A count was to be reached: the time after the last message is not part of it.
            if counted && last_ns > self.start_ns {
                seconds(last_ns - self.start_ns)
            } else {
                elapsed_s
            }
        };
        let sends = self.settings.producer_messages.is_some();
        let receives = self.awaited.is_some() || sends || self.settings.consumer_messages.is_some();
        let sending_s = until(counts.last_sent_ns, sends);
        let receiving_s = until(counts.last_received_ns, receives);
        Summary {
            settings: self.settings.clone(),
            elapsed_s,
            sent: counts.sent,
            received: counts.received,
            confirmed: counts.confirmed,
            nacked: counts.nacked,
            returned: counts.returned,
            sending_rate_avg: per_second(counts.sent, sending_s),
            receiving_rate_avg: per_second(counts.received, receiving_s),
            consumer_latency_us: Percentiles::of(&self.total.consumer),
            confirm_latency_us: Percentiles::of(&self.total.confirm),
            generator: Generator {
                cpu_s: seconds(self.cpu_at_end_ns - self.cpu_at_start_ns),
                worker_cpu_s,
                busiest_worker_share: busiest_s / elapsed_s,
            },
            samples: self.samples,
            latencies: self.total,
        }
    }

    /// What was recorded since the last call.
    fn take_latencies(&mut self, now_ns: u64) -> Result<Latencies> {
        let mut interval = Latencies::new();
        for worker in &self.workers {
            worker.swap_latencies(&mut self.spare);
            interval.add(&self.spare);
            self.spare.clear();
        }
        self.total.add(&interval);
        let time = Interval {
            from_ns: self.taken_ns,
            to_ns: now_ns,
        };
        self.taken_ns = now_ns;
        self.sinks.write_latencies(self.settings, time, &interval)?;
        Ok(interval)
    }

    fn format_line(&self, sample: &Sample) -> String {
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
        if let Some(consumer) = &sample.consumer_latency_us {
            line += &format!(
                ", min/median/75th/95th/99th/max consumer latency: {} µs",
                consumer.interval()
            );
        }
        if let Some(confirm) = &sample.confirm_latency_us {
            line += &format!(", confirm latency: {} µs", confirm.interval());
        }
        line
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
