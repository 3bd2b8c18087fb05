//! What one seed is about: each switches a random subset of faults and client behaviours on (swarm
//! testing), since a run with everything on hides what a run with little on shows.

use crate::dice::Dice;
use crate::rules::Rules;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cores: u16,
    /// Whether each queue is durable.
    pub(crate) queues: Vec<bool>,
    pub(crate) exchanges: Vec<(&'static str, bool)>,
    /// Routing keys of topic exchanges.
    pub(crate) keys: usize,
    pub(crate) clients: usize,
    /// Lives of the broker, and the most steps of one.
    pub(crate) lives: usize,
    pub(crate) steps: usize,
    pub(crate) weights: Weights,
    pub(crate) harsh: bool,
    pub(crate) cuts: bool,
    pub(crate) stalls: bool,
    pub(crate) jumps: bool,
    pub(crate) heartbeat: u16,
    pub(crate) disk_full: bool,
    pub(crate) eio: bool,
    pub(crate) clean_stops: bool,
    /// After such a stop bits of the disk may flip.
    pub(crate) rots: bool,
    /// Crashes before the broker is open again, of 8.
    pub(crate) early_crashes: usize,
    /// Of 8 messages so many are transient.
    pub(crate) transients: usize,
    pub(crate) mandatory: bool,
    pub(crate) large: bool,
    /// Bodies of tens of kilobytes: segments fill up, and files are used again.
    pub(crate) bulk: bool,
    pub(crate) transactions: bool,
    pub(crate) consumes: bool,
    pub(crate) no_ack: bool,
    pub(crate) gets: bool,
    pub(crate) requeues: bool,
    pub(crate) multiple: bool,
    pub(crate) purges: bool,
    pub(crate) deletes: bool,
    pub(crate) unbinds: bool,
    pub(crate) pipelines: bool,
    /// The most deliveries a consumer may hold; 0 is any number.
    pub(crate) prefetch: u16,
    pub(crate) rules: Rules,
}

/// How often what comes next.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) ring: usize,
    pub(crate) bytes: usize,
    pub(crate) act: usize,
    pub(crate) disk: usize,
    pub(crate) drain: usize,
    pub(crate) time: usize,
}

impl Plan {
    /// The plan of a seed, and the dice that go on from there.
    pub(crate) fn of_seed(seed: u64) -> (Self, Dice) {
        let mut dice = Dice::new(seed);
        let mut plan = Self::new(&mut dice);
        plan.rules = Rules::throw(seed, &mut plan);
        (plan, dice)
    }

    fn new(dice: &mut Dice) -> Self {
        let mut some = |of: usize| dice.chance(1, of);
        let (harsh, cuts, stalls, jumps) = (some(3), some(2), some(3), some(3));
        let (disk_full, eio, clean_stops) = (some(8), some(24), some(3));
        let (mandatory, large, transactions) = (some(3), some(5), some(4));
        let bulk = some(6);
        let (consumes, no_ack, gets, requeues) = (!some(4), some(4), some(3), some(2));
        let (multiple, purges, deletes, unbinds) = (some(2), some(4), some(4), some(4));
        let (heartbeat, pipelines, all_durable) = (some(6), some(3), some(2));
        let queues = (0..dice.between(1, 5))
            .map(|_| all_durable || dice.chance(3, 4))
            .collect();
        let mut exchanges = vec![("default", true)];
        for (kind, durable) in [("fanout", true), ("topic", true), ("fanout", false)] {
            if dice.chance(1, 2) {
                exchanges.push((kind, durable));
            }
        }
        Self {
            cores: dice.between(1, 4) as u16,
            queues,
            exchanges,
            keys: dice.between(1, 3),
            clients: dice.between(1, 6),
            lives: dice.between(2, 12),
            steps: [60, 200, 600][dice.roll(3)],
            weights: Weights {
                ring: dice.between(1, 8),
                bytes: dice.between(1, 8),
                act: dice.between(1, 8),
                disk: dice.between(1, 8),
                drain: dice.between(1, 8),
                time: dice.between(1, 3),
            },
            harsh,
            cuts,
            stalls,
            jumps,
            heartbeat: if heartbeat { 5 } else { 0 },
            disk_full,
            eio,
            clean_stops,
            rots: clean_stops && dice.chance(1, 2),
            early_crashes: [0, 3, 5][dice.roll(3)],
            transients: [0, 0, 1, 4][dice.roll(4)],
            mandatory,
            large,
            bulk,
            transactions,
            consumes,
            no_ack,
            gets,
            requeues,
            multiple,
            purges,
            deletes,
            unbinds,
            pipelines,
            prefetch: [0, 1, 1, 3, 20][dice.roll(5)],
            rules: Rules::default(),
        }
    }
}
