//! Latencies as HdrHistogram's interval log: every interval's whole histogram, compressed, in
//! nanoseconds. HdrHistogram's own tools and plotters read it.
//!
//! Intervals of consumer latency have no tag, those of confirm latency the tag `confirm`; parts of
//! a run (rungs of a ladder) have theirs in front.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::clock::now_ns;
use crate::stats::Latencies;

/// The file of --hlog.
pub(super) struct Hlog<W: Write> {
    file: W,
    serializer: V2DeflateSerializer,
    begun_ns: u64,
}

/// The time that a histogram stands for, by the clock of `now_ns`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
}

impl Hlog<BufWriter<File>> {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let create = || Self::begin(BufWriter::new(File::create(path)?), now_ns());
        create().with_context(|| format!("cannot write {}", path.display()))
    }
}

impl<W: Write> Hlog<W> {
    fn begin(mut file: W, begun_ns: u64) -> Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        let now = SystemTime::now();
        IntervalLogWriterBuilder::new()
            .add_comment("[leveret-loadgen: latencies in nanoseconds, Interval_Max too]")
            .with_start_time(now)
            .with_base_time(now)
            .begin_log_with(&mut file, &mut serializer)?;
        writeln!(
            file,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )?;
        Ok(Self {
            file,
            serializer,
            begun_ns,
        })
    }

    /// Writes what was recorded in an interval, if anything was.
    pub(super) fn write(
        &mut self,
        part: Option<&str>,
        interval: Interval,
        latencies: &Latencies,
    ) -> Result<()> {
        let part = part.map(|part| part.replace([',', ' ', '\r', '\n'], "_"));
        let confirm = match &part {
            Some(part) => format!("{part}-confirm"),
            None => "confirm".to_owned(),
        };
        self.write_one(part.as_deref(), interval, &latencies.consumer)?;
        self.write_one(Some(&confirm), interval, &latencies.confirm)?;
        self.file.flush().context("writing the HDR log")
    }

    fn write_one(
        &mut self,
        tag: Option<&str>,
        interval: Interval,
        latencies: &Histogram<u64>,
    ) -> Result<()> {
        if latencies.is_empty() {
            return Ok(());
        }
        let from = Duration::from_nanos(interval.from_ns.saturating_sub(self.begun_ns));
        let length = Duration::from_nanos(interval.to_ns - interval.from_ns);
        // A writer borrows file and serializer, and writes its head first: an empty one here.
        let mut writer =
            IntervalLogWriterBuilder::new().begin_log_with(&mut self.file, &mut self.serializer)?;
        writer
            .write_histogram(latencies, from, length, tag.and_then(Tag::new))
            .map_err(|error| anyhow!("writing the HDR log: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn hdrhistograms_own_reader_finds_every_interval() {
        let mut latencies = Latencies::new();
        for value_ns in [17_000, 90_000] {
            latencies.consumer.saturating_record(value_ns);
        }
        let mut bytes = Vec::new();
        let mut log = Hlog::begin(&mut bytes, 5_000_000_000).expect("memory is writable");
        let interval = Interval {
            from_ns: 6_000_000_000,
            to_ns: 7_500_000_000,
        };
        log.write(None, interval, &latencies).expect("writable");
        latencies.confirm.saturating_record(4_000);
        log.write(Some("5 k"), interval, &latencies)
            .expect("writable");
        let entries = IntervalLogIterator::new(&bytes);
        let entries: Vec<_> = entries.map(|entry| entry.expect("valid")).collect();
        let mut tags = Vec::new();
        for entry in &entries {
            let LogEntry::Interval(entry) = entry else {
                continue;
            };
            tags.push(entry.tag().map(|tag| tag.as_str().to_owned()));
            assert_eq!(entry.start_timestamp(), Duration::from_secs(1));
            assert_eq!(entry.duration(), Duration::from_millis(1_500));
            let histogram = STANDARD.decode(entry.encoded_histogram()).expect("base 64");
            let read: Histogram<u64> = Deserializer::new()
                .deserialize(&mut &histogram[..])
                .expect("a histogram");
            let written = match tags.len() {
                1 | 2 => &latencies.consumer,
                _ => &latencies.confirm,
            };
            assert_eq!(&read, written);
        }
        let tag = |tag: &str| Some(tag.to_owned());
        assert_eq!(tags, [None, tag("5_k"), tag("5_k-confirm")]);
    }
}
