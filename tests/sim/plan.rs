//! What one seed is about: each switches a random subset of faults and client behaviours on (swarm
//! testing), since a run with everything on hides what a run with little on shows.

use leveret::base::Settings;

use crate::dice::Dice;
use crate::exchanges::{DEDUPLICATING, Delays, throw_repeats};
use crate::rules::Rules;

/// What a seed may have beyond what its own dice say; each has dice of its own, so that a seed without it tells the
/// story that it told before there was any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    /// Sessions move to other cores.
    pub(crate) moves: bool,
    /// Queues have dead letters, times to live, priorities, limits.
    pub(crate) rules: bool,
    /// Bits of the definitions may flip, too.
    pub(crate) definitions: bool,
    /// At times nothing goes wrong for a while, and whatever clients wait for must come.
    pub(crate) rests: bool,
    /// Little stays in memory.
    pub(crate) pages: bool,
    /// Messages go by a delayed exchange.
    pub(crate) delays: bool,
    /// Messages go by a deduplicating exchange, some of them again.
    pub(crate) repeats: bool,
    /// Queues that are full refuse what comes.
    pub(crate) refusals: bool,
    /// Queues keep their letters until they are taken.
    pub(crate) keepers: bool,
    /// While a log can't grow, the disk's alarm is on, and at other times.
    pub(crate) alarms: bool,
}

impl Extras {
    pub(crate) const ALL: Self = Self {
        moves: true,
        rules: true,
        definitions: true,
        rests: true,
        pages: true,
        delays: true,
        repeats: true,
        refusals: true,
        keepers: true,
        alarms: true,
    };
    /// All before there were alarms.
    pub(crate) const CALM: Self = Self {
        alarms: false,
        ..Self::ALL
    };
    /// All before queues kept letters.
    pub(crate) const FORGETTING: Self = Self {
        keepers: false,
        ..Self::CALM
    };
    /// All before full queues refused anything.
    pub(crate) const ACCEPTING: Self = Self {
        refusals: false,
        ..Self::FORGETTING
    };
    /// All before there were exchanges that do more than route.
    pub(crate) const PLAIN: Self = Self {
        delays: false,
        repeats: false,
        ..Self::ACCEPTING
    };
    pub(crate) const DELAYED: Self = Self {
        delays: true,
        ..Self::PLAIN
    };
    /// All but rests and pages, which came before those.
    pub(crate) const RESTLESS: Self = Self {
        rests: false,
        pages: false,
        ..Self::PLAIN
    };
    pub(crate) const RULES: Self = Self {
        rules: true,
        ..Self::NONE
    };
    pub(crate) const NONE: Self = Self {
        moves: false,
        rules: false,
        definitions: false,
        rests: false,
        pages: false,
        delays: false,
        repeats: false,
        refusals: false,
        keepers: false,
        alarms: false,
    };

    /// All but those that `SIM_WITHOUT` names.
    pub(crate) fn from_environment() -> Self {
        let without = std::env::var("SIM_WITHOUT").unwrap_or_default();
        Self {
            moves: !without.contains("moves"),
            rules: !without.contains("rules"),
            definitions: !without.contains("definitions"),
            rests: !without.contains("rests"),
            pages: !without.contains("pages"),
            delays: !without.contains("delays"),
            repeats: !without.contains("repeats"),
            refusals: !without.contains("refusals"),
            keepers: !without.contains("keepers"),
            alarms: !without.contains("alarms"),
        }
    }
}

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
    /// Whether the disk's alarm is on then, and now and then for a second.
    pub(crate) alarms: bool,
    pub(crate) eio: bool,
    pub(crate) clean_stops: bool,
    /// After such a stop bits of the disk may flip.
    pub(crate) rots: bool,
    /// Those of the definitions as well.
    pub(crate) rots_definitions: bool,
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
    /// Messages after which a session may move to another core; 0 is never, and then queues are their declarers'.
    pub(crate) move_messages: u32,
    /// Bytes of ready messages that a core keeps in memory.
    pub(crate) resident_bytes: usize,
    pub(crate) rules: Rules,
    pub(crate) delays: Option<Delays>,
    /// Dice for whether a life ends with a rest; none if none does.
    pub(crate) rests: Option<Dice>,
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

/// Mixed into the seed of the dice for rests.
const REST: u64 = u64::from_be_bytes(*b"\0\0\0\0rest");

impl Plan {
    /// The plan of a seed, and the dice that go on from there.
    pub(crate) fn of_seed(seed: u64, extras: Extras) -> (Self, Dice) {
        let mut dice = Dice::new(seed);
        let mut plan = Self::new(&mut dice);
        if extras.rules {
            plan.rules = Rules::throw(seed, &mut plan);
        }
        if extras.moves {
            plan.move_messages = moves(seed);
        }
        plan.rots_definitions = extras.definitions;
        if extras.pages {
            plan.resident_bytes = resident_bytes(seed);
        }
        if extras.delays {
            plan.delays = Delays::throw(seed, &mut plan);
        }
        if extras.repeats {
            throw_repeats(seed, &mut plan);
        }
        // A commit that some queue refuses in part ends the channel.
        if !plan.repeats() && !plan.transactions {
            if extras.refusals {
                plan.rules.throw_refusals(seed);
            }
            if extras.keepers {
                plan.rules.throw_keepers(seed, &plan.queues);
            }
        }
        // The others' publishers go on while a disk is full, as far as they get.
        plan.alarms = extras.alarms && seed.is_multiple_of(2);
        plan.rests = extras.rests.then(|| Dice::new(seed ^ REST));
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
            alarms: false,
            eio,
            clean_stops,
            rots: clean_stops && dice.chance(1, 2),
            rots_definitions: false,
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
            move_messages: 0,
            resident_bytes: Settings::default().resident_bytes,
            rules: Rules::default(),
            delays: None,
            rests: None,
        }
    }
}

impl Plan {
    /// Whether it matters what the clock on the wall shows.
    pub(crate) fn has_times(&self) -> bool {
        self.rules.any() || self.delays.is_some()
    }

    /// Whether one exchange lets nothing pass twice. What some queue refuses it doesn't note.
    fn repeats(&self) -> bool {
        self.exchanges
            .iter()
            .any(|(kind, _)| *kind == DEDUPLICATING)
    }

    /// Whether a queue may not be bound to an exchange: that brings letters, which are to end where they go.
    pub(crate) fn forbids(&self, exchange: usize, queue: usize) -> bool {
        let is_delayed = self
            .delays
            .as_ref()
            .is_some_and(|one| one.exchange == exchange);
        let goes_on = self.rules.of(queue).dead_letters.is_some();
        goes_on && (is_delayed || self.rules.brings_letters(exchange))
    }
}

/// What a core keeps in memory: nothing, some messages, or, for one seed of three, more than there ever is.
fn resident_bytes(seed: u64) -> usize {
    const SALT: u64 = u64::from_be_bytes(*b"\0\0\0pages");
    let mut dice = Dice::new(seed ^ SALT);
    let usual = Settings::default().resident_bytes;
    [0, 300, 3000, 100_000, usual, usual][dice.roll(6)]
}

/// Messages after which sessions move, for two seeds of three.
fn moves(seed: u64) -> u32 {
    const SALT: u64 = u64::from_be_bytes(*b"\0\0travel");
    let mut dice = Dice::new(seed ^ SALT);
    [0, 1, 1, 2, 8, 0][dice.roll(6)]
}
