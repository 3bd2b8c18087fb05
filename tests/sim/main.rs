//! The deterministic simulator: the whole pure broker, its clients, its rings, its clock and its disk in
//! one thread, from one seed.
//!
//! ```text
//!   plan      what a seed switches on            oracle    what must be true
//!   rules     queues that let messages fall      letters   how messages died, as the wire tells
//!   exchanges those that do more than route
//!   world     cores, rings, sockets, time        inspect   what a disk holds after a stop
//!   client, act, wire   who talks to the broker  run       lives, crashes, stops, the end
//!   disk      sectors that a crash may keep      memory    what the broker holds of it
//!   found     seeds that are always played
//!   trace     what happened, hashed and counted
//! ```
//!
//! `SEED=42 cargo test --test sim` replays one seed,
//! `SIM_WITHOUT=moves,rules,definitions,rests,pages,delays,repeats,refusals,keepers,alarms` without those [`Extras`].
//! `SIM_CRASHES=20000` says how many disks are to be recovered and checked, `SIM_FIRST=7000` from which seed on, and
//! `SIM_TAIL=1000` how many events are told of when a rule is broken.

mod act;
mod client;
mod dice;
mod disk;
mod exchanges;
mod found;
mod inspect;
mod letters;
mod memory;
mod oracle;
mod plan;
mod rules;
mod run;
mod trace;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use found::FOUND;
use plan::{Extras, Plan};
use trace::Counts;

/// Disks that are checked if nobody says how many.
const CRASHES: u64 = 60;
/// Runs a seed; its trace's hash and its counts. Fails with everything that helps. `found`: what it has found before.
fn run_seed(seed: u64, extras: Extras, found: &str) -> (u64, Counts) {
    trace::begin();
    let result = catch_unwind(AssertUnwindSafe(|| run::run(seed, extras)));
    let counts = trace::counts();
    let violated = match result {
        Ok(Ok(())) => return (trace::hash(), counts),
        Ok(Err(violated)) => violated,
        Err(_) => "the broker panicked (see above)".to_owned(),
    };
    panic!(
        "\nSEED={seed} with {extras:?} violates, at step {}:\n  {violated}\nBefore: {found}\nThe last events:\n{}\nSEED={seed}: {violated}\n",
        counts.steps,
        trace::tail()
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A seed that nobody has chosen.
fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64 % 1_000_000_000)
}

#[test]
fn no_seed_breaks_a_rule() {
    let begun = Instant::now();
    let mut total = Counts::default();
    let mut seeds = 0;
    if let Some(seed) = number("SEED") {
        println!("{:?}", Plan::of_seed(seed, Extras::from_environment()).0);
        let (hash, counts) = run_seed(seed, Extras::from_environment(), "");
        println!("SEED={seed}: trace {hash:016x}, {counts:?}");
        return;
    }
    let wanted = number("SIM_CRASHES").unwrap_or(CRASHES);
    let first = number("SIM_FIRST").unwrap_or_else(new_seed);
    let fresh = (first..).map(|seed| (seed, Extras::ALL, ""));
    for (seed, extras, found) in FOUND.into_iter().chain(fresh) {
        let (_, counts) = run_seed(seed, extras, found);
        total.add(&counts);
        seeds += 1;
        if seeds > FOUND.len() && total.images >= wanted {
            break;
        }
    }
    println!(
        "{seeds} seeds (those that found something, and from {first} on) in {:?}: {} steps, {} disks recovered and checked, \
         {} crashes before the broker was open, {} clean stops, {} rests, {} bits flipped ({} times damage was reported), \
         {} confirms, {} refusals, {} deliveries, {} sessions moved to another core; {} of the disks with queues that have dead \
         letters, times to live, priorities or limits, {} letters and {} delayed messages that came, \
         {} messages published again",
        begun.elapsed(),
        total.steps,
        total.images,
        total.early_crashes,
        total.clean_stops,
        total.rests,
        total.flips,
        total.damaged,
        total.confirms,
        total.refusals,
        total.deliveries,
        total.moves,
        total.ruled,
        total.letters,
        total.delayed,
        total.repeats
    );
}

/// Each operation of some lives fails once, in a run of its own: a write is cut short, a new file finds
/// the disk full, a read brings nothing.
#[test]
fn any_operation_of_the_disk_may_fail() {
    let mut faults = 0;
    for seed in [11, 12] {
        let whole = run::run_with_fault(seed, None);
        let operations = whole.unwrap_or_else(|violated| panic!("seed {seed}: {violated}"));
        for fault_at in 1..=operations {
            if let Err(violated) = run::run_with_fault(seed, Some(fault_at)) {
                panic!("seed {seed}, with a fault at operation {fault_at}: {violated}");
            }
            faults += 1;
        }
    }
    println!("{faults} runs, each with another operation of the disk failing");
}

#[test]
fn one_seed_is_one_story() {
    for seed in [7, 8] {
        let (one, counts) = run_seed(seed, Extras::ALL, "");
        assert_eq!(
            (one, counts),
            run_seed(seed, Extras::ALL, ""),
            "seed {seed}"
        );
    }
}
