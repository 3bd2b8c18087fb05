//! What a seed switches on beside its plan: exchanges that do more than route. Each kind has dice of its own, as the
//! [rules](crate::rules) of queues have.

use crate::dice::Dice;
use crate::plan::Plan;
use crate::rules::Stamp;

/// As a client declares it.
pub(crate) const DELAYED: &str = "x-delayed-message";
pub(crate) const DEDUPLICATING: &str = "x-message-deduplication";

/// Delays in milliseconds: next to nothing, some steps, less than a message is read ahead, more than that, longer
/// than many a life.
const DELAYS_MS: [u64; 5] = [1, 40, 700, 2300, 6000];
/// When all that was published is due.
pub(crate) const DELAY_MAX_MS: u64 = 6000;

/// Whether messages go to all that is bound to an exchange, whatever their routing keys.
pub(crate) fn ignores_keys(kind: &str) -> bool {
    kind != "topic"
}

/// What a seed's delayed exchange is used with.
#[derive(Clone, Debug)]
pub(crate) struct Delays {
    pub(crate) exchange: usize,
    /// How many of [`DELAYS_MS`] there are, and which is the first.
    some: (usize, usize),
}

impl Delays {
    /// One more exchange comes to the plans of two seeds of five.
    pub(crate) fn throw(seed: u64, plan: &mut Plan) -> Option<Self> {
        const SALT: u64 = u64::from_be_bytes(*b"\0\0\0delay");
        let mut dice = Dice::new(seed ^ SALT);
        if !dice.chance(2, 5) {
            return None;
        }
        let exchange = plan.exchanges.len();
        plan.exchanges.push((DELAYED, dice.chance(7, 8)));
        let first = dice.roll(DELAYS_MS.len());
        let some = (dice.between(1, DELAYS_MS.len() - first), first);
        Some(Self { exchange, some })
    }

    /// Says of most messages that are published there how long they are to wait. They have no time to live: whoever
    /// looks at a disk lets them all go at once.
    pub(crate) fn stamp(&self, stamp: &mut Stamp, dice: &mut Dice) {
        let (count, first) = self.some;
        let delay_ms = DELAYS_MS[first + dice.roll(count)];
        if !dice.chance(1, 6) {
            (stamp.delay_ms, stamp.ttl_ms) = (Some(delay_ms), None);
        }
    }
}

/// A deduplicating exchange comes to the plans of two seeds of five: what is published there is at times published
/// again.
pub(crate) fn throw_repeats(seed: u64, plan: &mut Plan) {
    const SALT: u64 = u64::from_be_bytes(*b"\0\0\0again");
    let mut dice = Dice::new(seed ^ SALT);
    if dice.chance(2, 5) {
        plan.exchanges.push((DEDUPLICATING, dice.chance(7, 8)));
    }
}
