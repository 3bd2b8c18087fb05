//! Intervals as comma-separated values, in the columns of PerfTest's `--output-file`.
//!
//! The first column tells the parts of a run apart: phases of a backlog, rungs of a ladder.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::{Percentiles, Sample};
use crate::options::Settings;

const HEADER: &str = "id,time (s),published (msg/s),returned (msg/s),confirmed (msg/s),nacked (msg/s),\
received (msg/s),min consumer latency (µs),median consumer latency (µs),75th p. consumer latency (µs),\
95th p. consumer latency (µs),99th p. consumer latency (µs),min confirm latency (µs),\
median confirm latency (µs),75th p. confirm latency (µs),95th p. confirm latency (µs),\
99th p. confirm latency (µs)";

/// The file of --csv.
#[derive(Debug)]
pub(super) struct Csv {
    file: LineWriter<File>,
}

impl Csv {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let create = || -> Result<Self> {
            let mut file = LineWriter::new(File::create(path)?);
            writeln!(file, "{HEADER}")?;
            Ok(Self { file })
        };
        create().with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn write(&mut self, settings: &Settings, sample: &Sample) -> Result<()> {
        writeln!(self.file, "{}", row(settings, sample)).context("writing the CSV file")
    }
}

/// What a run doesn't measure stays empty.
fn row(settings: &Settings, sample: &Sample) -> String {
    let id = match &settings.part {
        Some(part) => format!("{}-{part}", settings.id),
        None => settings.id.clone(),
    };
    let publishes = settings.producers > 0;
    let confirms = publishes && settings.confirm.is_some();
    let rates = [
        (sample.sent, publishes),
        (sample.returned, publishes && settings.mandatory),
        (sample.confirmed, confirms),
        (sample.nacked, confirms),
        (sample.received, settings.consumers > 0),
    ];
    let mut cells = vec![quoted(&id), format!("{:.3}", sample.time_s)];
    cells.extend(rates.map(|(rate, shown)| match shown {
        true => format!("{rate:.0}"),
        false => String::new(),
    }));
    for latency in [&sample.consumer_latency_us, &sample.confirm_latency_us] {
        cells.extend(latency_cells(latency.as_ref()));
    }
    cells.join(",")
}

fn latency_cells(latency: Option<&Percentiles>) -> [String; 5] {
    latency.map_or_else(Default::default, |of| {
        [of.min, of.p50, of.p75, of.p95, of.p99].map(|value_us| format!("{value_us:.1}"))
    })
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::settings;
    use crate::stats::empty_histogram;

    #[test]
    fn a_row_has_perftests_columns_and_leaves_out_what_was_not_measured() {
        let mut latencies = empty_histogram();
        for value_ns in [1_000, 2_000, 3_000] {
            latencies.saturating_record(value_ns);
        }
        let sample = Sample {
            time_s: 1.0004,
            sent: 12.4,
            received: 11.0,
            confirmed: 0.0,
            nacked: 0.0,
            returned: 0.0,
            consumer_latency_us: Percentiles::of(&latencies),
            confirm_latency_us: None,
        };
        let settings = settings("lg throughput --id a,b").expect("valid");
        let row = row(&settings, &sample);
        assert_eq!(row, "\"a,b\",1.000,12,,,,11,1.0,2.0,3.0,3.0,3.0,,,,,");
        // The id's comma stands in quotes.
        let separators = |line: &str| line.matches(',').count();
        assert_eq!(separators(&row) - 1, separators(HEADER));
    }
}
