//! What a seed switches on beside its plan: queues that let messages fall, and who makes them do it. Dice of its
//! own throw it, so that the stories of seeds without such queues are what they were before there were any.

use crate::dice::Dice;
use crate::plan::Plan;

/// Mixed into the seed of these dice. With this one the seeds that once found something have no rules.
const APART: u64 = 0xdecb;

/// What a seed adds to its plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// By queue of the plan; empty if none has any.
    pub(crate) queues: Vec<QueueRules>,
    /// Messages come with priorities.
    pub(crate) priorities: bool,
    /// Messages come with a time to live.
    pub(crate) expirations: bool,
    /// Clients publish and purge in one breath.
    pub(crate) breaths: bool,
}

/// The arguments of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueRules {
    /// Exchange and routing key.
    pub(crate) dead_letters: Option<(usize, usize)>,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) delivery_limit: Option<u64>,
    pub(crate) max_priority: Option<u8>,
}

/// What a full queue does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Overflow {
    /// Lets its oldest message fall.
    #[default]
    DropsHead,
    /// Refuses what comes, and dead-letters that.
    RefusesToLetters,
    /// Refuses what comes. Letters of such a queue stay until they are taken.
    Refuses,
}

impl QueueRules {
    /// Whether it may be too full for a message that comes.
    pub(crate) fn may_refuse(&self) -> bool {
        self.max_length.is_some() && self.overflow != Overflow::DropsHead
    }

    /// Whether nobody hears any more of a message for which it was too full, but who sent it.
    pub(crate) fn may_turn_away(&self) -> bool {
        self.max_length.is_some() && self.overflow == Overflow::Refuses
    }

    /// Whether its letters stay until they are taken.
    pub(crate) fn keeps_letters(&self) -> bool {
        self.dead_letters.is_some() && self.overflow == Overflow::Refuses
    }
}

/// That of a quorum queue that names none.
const QUORUM_DELIVERY_LIMIT: u64 = 20;

/// Times to live in milliseconds: nothing, some steps, much of a life, longer than that.
const TTLS_MS: [u64; 5] = [0, 5, 50, 500, 5000];

impl Rules {
    /// Throws what `seed` adds to a plan. One more queue comes, where letters end.
    pub(crate) fn throw(seed: u64, plan: &mut Plan) -> Self {
        let mut dice = Dice::new(seed ^ APART);
        let mut some = |of: usize| dice.chance(1, of);
        let mut rules = Self {
            breaths: some(8),
            ..Self::default()
        };
        let rests = rules.breaths && some(2);
        if rests {
            // What a purge surely meets is known where nobody consumes.
            (plan.consumes, plan.gets) = (false, false);
        }
        if !some(3) {
            return rules;
        }
        let (letters, ttls, lengths, limits) = (!some(4), some(2), some(3), some(3));
        (rules.priorities, rules.expirations) = (some(2), some(3));
        plan.queues.push(dice.chance(7, 8));
        let grave = plan.queues.len() - 1;
        for queue in 0..=grave {
            let dies = queue < grave;
            let on = |dice: &mut Dice, is_on: bool| is_on && dice.chance(1, 2);
            let one = QueueRules {
                dead_letters: (dies && letters && dice.chance(3, 4)).then_some((0, grave)),
                ttl_ms: on(&mut dice, dies && ttls).then(|| TTLS_MS[dice.roll(TTLS_MS.len())]),
                max_length: on(&mut dice, dies && lengths).then(|| dice.between(1, 12) as u64),
                delivery_limit: on(&mut dice, dies && limits).then(|| dice.roll(4) as u64),
                max_priority: on(&mut dice, rules.priorities).then(|| dice.between(1, 5) as u8),
                overflow: Overflow::DropsHead,
            };
            rules.queues.push(one);
        }
        for queue in 0..grave {
            if rules.queues[queue].dead_letters.is_some() {
                let to = match dice.roll(6) {
                    0 => (0, dice.roll(grave)),
                    1 if plan.exchanges.len() > 1 => {
                        let exchange = dice.between(1, plan.exchanges.len() - 1);
                        (exchange, dice.roll(plan.keys))
                    }
                    _ => (0, grave),
                };
                rules.queues[queue].dead_letters = Some(to);
            }
        }
        rules.calm_rounds();
        rules
    }

    /// For half of the seeds: queues of limited length mostly refuse what they have no room for, clients' messages and
    /// letters. One does that is soon full, and stands between another and the queue where letters end.
    pub(crate) fn throw_refusals(&mut self, seed: u64) {
        const SALT: u64 = u64::from_be_bytes(*b"\0refuses");
        let mut dice = Dice::new(seed ^ SALT);
        if self.queues.is_empty() || dice.chance(1, 2) {
            return;
        }
        for queue in &mut self.queues {
            if queue.max_length.is_some() && dice.chance(3, 4) {
                queue.overflow = Overflow::RefusesToLetters;
            }
        }
        let grave = self.queues.len() - 1;
        if grave < 2 {
            return;
        }
        let first = dice.roll(grave);
        let between = (first + dice.between(1, grave - 1)) % grave;
        self.queues[between] = QueueRules {
            dead_letters: Some((0, grave)),
            max_length: Some(dice.between(1, 3) as u64),
            overflow: Overflow::RefusesToLetters,
            ..self.queues[between]
        };
        self.queues[first] = QueueRules {
            dead_letters: Some((0, between)),
            ttl_ms: Some(TTLS_MS[dice.roll(3)]),
            ..self.queues[first]
        };
    }

    /// For half of the seeds: queues that keep their letters until they are taken, and mostly one that is too full
    /// for those of others. They are quorum queues, so `durable`, and without priorities.
    pub(crate) fn throw_keepers(&mut self, seed: u64, durable: &[bool]) {
        const SALT: u64 = u64::from_be_bytes(*b"\0keepers");
        let mut dice = Dice::new(seed ^ SALT);
        if self.queues.is_empty() || dice.chance(1, 2) {
            return;
        }
        for (queue, durable) in self.queues.iter_mut().zip(durable) {
            if *durable && queue.dead_letters.is_some() && dice.chance(2, 3) {
                queue.overflow = Overflow::Refuses;
                queue.max_priority = None;
                queue.delivery_limit.get_or_insert(QUORUM_DELIVERY_LIMIT);
            }
        }
        let grave = self.queues.len() - 1;
        let target = if dice.chance(3, 4) {
            grave
        } else {
            dice.roll(grave)
        };
        let target = &mut self.queues[target];
        if dice.chance(3, 4) && (target.dead_letters.is_none() || target.keeps_letters()) {
            target.max_length = Some(dice.between(1, 3) as u64);
            target.overflow = Overflow::Refuses;
        }
    }

    /// Whether some queue keeps its letters until they are taken.
    pub(crate) fn keep_letters(&self) -> bool {
        self.queues.iter().any(QueueRules::keeps_letters)
    }

    /// In a queue whose letters come back to it, messages only die when a client says so: else nobody could
    /// tell from a letter's history which of its deaths came first.
    fn calm_rounds(&mut self) {
        for queue in 0..self.queues.len() {
            let mut next = queue;
            for _ in 0..self.queues.len() {
                match self.queues[next].dead_letters {
                    Some((0, key)) => next = key,
                    _ => break,
                }
                if next == queue {
                    let QueueRules {
                        dead_letters,
                        max_priority,
                        ..
                    } = self.queues[queue];
                    self.queues[queue] = QueueRules {
                        dead_letters,
                        max_priority,
                        ..QueueRules::default()
                    };
                    break;
                }
            }
        }
    }

    /// Whether any queue has rules.
    pub(crate) fn any(&self) -> bool {
        !self.queues.is_empty()
    }

    pub(crate) fn of(&self, queue: usize) -> QueueRules {
        self.queues.get(queue).copied().unwrap_or_default()
    }

    /// Whether letters come to an exchange.
    pub(crate) fn brings_letters(&self, exchange: usize) -> bool {
        let mut queues = self.queues.iter();
        queues.any(|one| one.dead_letters.is_some_and(|(to, _)| to == exchange))
    }

    /// What a message is published with: its priority, and its time to live.
    pub(crate) fn stamp(&self, dice: &mut Dice) -> Stamp {
        Stamp {
            priority: (self.priorities && dice.chance(1, 2)).then(|| dice.roll(7) as u8),
            ttl_ms: (self.expirations && dice.chance(1, 4))
                .then(|| TTLS_MS[dice.roll(TTLS_MS.len())]),
            ..Stamp::default()
        }
    }
}

/// Properties of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) priority: Option<u8>,
    pub(crate) ttl_ms: Option<u64>,
    /// How long a delayed exchange is to keep it.
    pub(crate) delay_ms: Option<u64>,
    /// A deduplicating exchange is to know it again.
    pub(crate) is_compared: bool,
}
