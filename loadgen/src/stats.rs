//! Counters and histograms, one set per worker thread, read by the reporter while they change.
//!
//! A worker gathers a [`Tally`] during a turn and adds it once per turn. The reporter swaps the
//! histograms for empty ones, so a worker never waits for a percentile to be computed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

/// What happened in one turn of one connection.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) confirmed: u64,
    pub(crate) nacked: u64,
    pub(crate) returned: u64,
    pub(crate) consumer_latencies_ns: Vec<u64>,
    pub(crate) confirm_latencies_ns: Vec<u64>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) confirmed: u64,
    pub(crate) nacked: u64,
    pub(crate) returned: u64,
    pub(crate) last_sent_ns: u64,
    pub(crate) last_received_ns: u64,
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    pub(crate) consumer: Histogram<u64>,
    pub(crate) confirm: Histogram<u64>,
}

impl Latencies {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self {
            consumer: empty_histogram(),
            confirm: empty_histogram(),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.consumer
            .add(&other.consumer)
            .expect("all histograms have the same bounds");
        self.confirm
            .add(&other.confirm)
            .expect("all histograms have the same bounds");
    }

    pub(crate) fn clear(&mut self) {
        self.consumer.reset();
        self.confirm.reset();
    }
}

/// Values from 1 ns to an hour with three digits; larger ones are to count as an hour.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("these bounds are valid")
}

/// One worker's side of the report. Aligned, so that workers don't share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct WorkerStats {
    sent: AtomicU64,
    received: AtomicU64,
    confirmed: AtomicU64,
    nacked: AtomicU64,
    returned: AtomicU64,
    last_sent_ns: AtomicU64,
    last_received_ns: AtomicU64,
    cpu_ns: AtomicU64,
    latencies: Mutex<Latencies>,
}

impl WorkerStats {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            sent: zero(),
            received: zero(),
            confirmed: zero(),
            nacked: zero(),
            returned: zero(),
            last_sent_ns: zero(),
            last_received_ns: zero(),
            cpu_ns: zero(),
            latencies: Mutex::new(Latencies::new()),
        }
    }

    /// Adds a turn's tally and empties it.
    pub(crate) fn add(&self, tally: &mut Tally, now_ns: u64) {
        let bump = |counter: &AtomicU64, by: &mut u64| {
            if *by > 0 {
                counter.store(counter.load(Relaxed) + std::mem::take(by), Relaxed);
                true
            } else {
                false
            }
        };
        if bump(&self.sent, &mut tally.sent) {
            self.last_sent_ns.store(now_ns, Relaxed);
        }
        if bump(&self.received, &mut tally.received) {
            self.last_received_ns.store(now_ns, Relaxed);
        }
        bump(&self.confirmed, &mut tally.confirmed);
        bump(&self.nacked, &mut tally.nacked);
        bump(&self.returned, &mut tally.returned);
        if tally.consumer_latencies_ns.is_empty() && tally.confirm_latencies_ns.is_empty() {
            return;
        }
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for latency_ns in tally.consumer_latencies_ns.drain(..) {
            latencies.consumer.saturating_record(latency_ns);
        }
        for latency_ns in tally.confirm_latencies_ns.drain(..) {
            latencies.confirm.saturating_record(latency_ns);
        }
    }

    /// Notes the processor time that the worker has used.
    pub(crate) fn set_cpu_ns(&self, cpu_ns: u64) {
        self.cpu_ns.store(cpu_ns, Relaxed);
    }

    /// Processor time that the worker had used when it last noted it.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Relaxed)
    }

    /// Adds this worker's totals.
    pub(crate) fn count_into(&self, counts: &mut Counts) {
        counts.sent += self.sent.load(Relaxed);
        counts.received += self.received.load(Relaxed);
        counts.confirmed += self.confirmed.load(Relaxed);
        counts.nacked += self.nacked.load(Relaxed);
        counts.returned += self.returned.load(Relaxed);
        counts.last_sent_ns = counts.last_sent_ns.max(self.last_sent_ns.load(Relaxed));
        counts.last_received_ns = counts
            .last_received_ns
            .max(self.last_received_ns.load(Relaxed));
    }

    /// Takes the latencies recorded since the last call, in exchange for an empty set.
    pub(crate) fn swap_latencies(&self, empty: &mut Latencies) {
        std::mem::swap(
            &mut *self
                .latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            empty,
        );
    }
}
