//! Messages that pass a deduplicating exchange, and that clients publish again: the same message under another number.
//!
//! Of all that are alike one passes, and once one is confirmed none does any more. Until then a crash may have taken
//! the exchange's note of it, or left that without anybody's knowing.

use super::{Oracle, Record};
use crate::dice::Dice;
use crate::exchanges::DEDUPLICATING;

/// What the exchange knows of a message.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Passage {
    is_repeated: bool,
    /// One was confirmed that led somewhere: it is known again for good.
    is_noted: bool,
    /// Where it has gone is unknown, if anywhere.
    is_astray: bool,
    /// The broker has stopped since it was published, and perhaps doesn't know it.
    may_pass_again: bool,
}

/// Messages that are repeated are mostly among so many last ones.
const RECENT: usize = 8;

impl Oracle {
    /// Whether an exchange is the one that lets nothing pass twice.
    pub(crate) fn compares(&self, exchange: usize) -> bool {
        self.exchanges[exchange].kind == DEDUPLICATING
    }

    /// The deduplicating exchange, and what it must know: the last that were confirmed.
    pub(crate) fn noted(&self) -> Option<(usize, Vec<u64>)> {
        let exchange = (0..self.exchanges.len()).find(|number| self.compares(*number))?;
        let passages = self.passages.iter().rev();
        let noted = passages.filter(|(_, passage)| passage.is_noted);
        let noted = noted.map(|(message, _)| *message).take(10 * RECENT);
        Some((exchange, noted.collect()))
    }

    /// For half of what is published there: what is published again.
    pub(crate) fn one_to_repeat(&self, dice: &mut Dice) -> Option<u64> {
        if self.passages.is_empty() || dice.chance(1, 2) {
            return None;
        }
        let all = self.passages.len();
        let some = if dice.chance(3, 4) { RECENT } else { all };
        let back = dice.roll(some);
        let (message, _) = self.passages.iter().rev().nth(back.min(all - 1))?;
        Some(*message)
    }

    /// A message is to be published again; its number as that.
    pub(crate) fn repeated(&mut self, message: u64) -> u64 {
        let mut again = self.messages[message as usize].clone();
        again.repeats = Some(message);
        self.messages.push(again);
        self.passages.entry(message).or_default().is_repeated = true;
        self.messages.len() as u64 - 1
    }

    /// As which number a message was published at first.
    pub(crate) fn first(&self, number: u64) -> u64 {
        self.messages[number as usize].repeats.unwrap_or(number)
    }

    pub(super) fn is_repeated(&self, message: u64) -> bool {
        let passage = self.passages.get(&message);
        passage.is_some_and(|passage| passage.is_repeated)
    }

    /// A message was published: if it is compared, others may be called the same.
    pub(super) fn note_compared(&mut self, message: u64) {
        if self.messages[message as usize].stamp.is_compared {
            self.passages.entry(message).or_default();
        }
    }

    /// A message may come to a queue: of those that are alike one does, unless the broker has forgotten it.
    pub(super) fn may_come(&mut self, queue: usize, message: u64, fresh: Record) {
        let passage = self.passages.get(&message).copied().unwrap_or_default();
        if passage.is_noted {
            return;
        }
        let records = &mut self.queues[queue].records;
        let was_there = records.contains_key(&message);
        let record = records.entry(message).or_insert(fresh);
        record.is_doubled |= was_there && passage.may_pass_again;
    }

    /// A publish is confirmed that must have come to these queues: to which of them the message surely has, or the
    /// one like it that has passed.
    pub(super) fn surely_there(&mut self, message: u64, mut must: Vec<usize>) -> Vec<usize> {
        let Some(passage) = self.passages.get_mut(&message) else {
            return must;
        };
        let leads = !must.is_empty();
        if passage.is_noted || passage.is_astray {
            must.clear();
        }
        passage.is_noted |= leads;
        passage.is_astray |= !leads;
        let others = self.outstanding.values();
        for one in others.filter(|one| one.message == message) {
            must.retain(|queue| one.must.contains(queue));
        }
        must
    }

    /// The broker has stopped. `is_sound`: nothing but a crash can have taken its notes.
    pub(super) fn passages_stopped(&mut self, is_sound: bool) {
        let exchange = self.exchanges.iter().find(|one| one.kind == DEDUPLICATING);
        let keeps = is_sound && exchange.is_some_and(|exchange| exchange.durable);
        for passage in self.passages.values_mut() {
            passage.is_noted &= keeps;
            passage.is_astray |= !passage.is_noted;
            passage.may_pass_again = true;
        }
    }
}
