//! What happened, in short: the last events for whoever reads a failure, a hash of all of them to
//! compare two runs of one seed, and counts.

use std::cell::RefCell;
use std::collections::VecDeque;

/// Events that a failure shows.
const SHOWN: usize = 60;
/// With `SIM_TAIL` in the environment, so many.
fn shown() -> usize {
    static TAIL: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *TAIL.get_or_init(|| {
        let told = std::env::var("SIM_TAIL").ok();
        told.and_then(|told| told.parse().ok()).unwrap_or(SHOWN)
    })
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::new(Trace::default());
}

/// What a run has counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) images: u64,
    pub(crate) early_crashes: u64,
    pub(crate) clean_stops: u64,
    /// Times that everything came to rest in between.
    pub(crate) rests: u64,
    /// Bits that were flipped between two lives, and how often damage was reported then.
    pub(crate) flips: u64,
    pub(crate) damaged: u64,
    /// Of the images, those with queues that let messages fall, and letters that came somewhere.
    pub(crate) ruled: u64,
    pub(crate) letters: u64,
    /// Of those, messages that had been delayed.
    pub(crate) delayed: u64,
    /// Messages that were published again.
    pub(crate) repeats: u64,
    /// Messages that some queue had no room for.
    pub(crate) refusals: u64,
    pub(crate) confirms: u64,
    pub(crate) deliveries: u64,
    /// Sessions that left for another core.
    pub(crate) moves: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.images += other.images;
        self.early_crashes += other.early_crashes;
        self.clean_stops += other.clean_stops;
        self.rests += other.rests;
        self.flips += other.flips;
        self.damaged += other.damaged;
        self.ruled += other.ruled;
        self.letters += other.letters;
        self.delayed += other.delayed;
        self.repeats += other.repeats;
        self.refusals += other.refusals;
        self.confirms += other.confirms;
        self.deliveries += other.deliveries;
        self.moves += other.moves;
    }
}

#[derive(Default)]
struct Trace {
    hash: u64,
    counts: Counts,
    last: VecDeque<(u64, &'static str, [u64; 3])>,
}

pub(crate) fn begin() {
    TRACE.with_borrow_mut(|trace| *trace = Trace::default());
}

/// Something happened.
pub(crate) fn note(what: &'static str, words: [u64; 3]) {
    TRACE.with_borrow_mut(|trace| {
        let mut hash = trace.hash ^ what.len() as u64 ^ u64::from(what.as_bytes()[0]) << 8;
        for word in words {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
        trace.hash = hash;
        if trace.last.len() >= shown() {
            trace.last.pop_front();
        }
        trace.last.push_back((trace.counts.steps, what, words));
    });
}

pub(crate) fn count(with: impl FnOnce(&mut Counts)) {
    TRACE.with_borrow_mut(|trace| with(&mut trace.counts));
}

pub(crate) fn counts() -> Counts {
    TRACE.with_borrow(|trace| trace.counts)
}

pub(crate) fn hash() -> u64 {
    TRACE.with_borrow(|trace| trace.hash)
}

/// The last events, one a line.
pub(crate) fn tail() -> String {
    TRACE.with_borrow(|trace| {
        let lines = trace.last.iter().map(|(step, what, words)| {
            let [a, b, c] = words;
            format!("  step {step}: {what} {a} {b} {c}\n")
        });
        lines.collect()
    })
}
