//! Confirms as their publisher keeps them, a channel or a core's dead letters: which numbers are settled.
//!
//! Each core that got publishes reports how far it has settled them. Everything below the lowest
//! report of a core that still owes one is settled everywhere. A core that has refused one says so
//! before it reports it as settled. So does one that passes it on to others, and is to hear from them first: it
//! holds that number, and releases it alone, so that none waits for it but its publisher.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::CoreId;

/// The state of a publisher's confirms.
#[derive(Debug, Default)]
pub struct Confirms {
    /// The last number of those that published in this one's name before: it counts from there, so that what
    /// cores still say of theirs is not taken for word of its own.
    before: u64,
    /// The number of the last publish.
    published: u64,
    /// The number up to which the publisher was told.
    told: u64,
    /// Those that some queue refused, and the publisher wasn't told.
    refused: BTreeSet<u64>,
    /// Those that are held though their cores have settled them, and by how many.
    held: BTreeMap<u64, u32>,
    cores: Vec<Progress>,
}

/// What a publisher is told of the numbers up to one that it wasn't told of before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The highest number that it holds for, as the publisher counts: from 1.
    pub upto: u64,
    /// Whether there are others below it that it holds for.
    pub multiple: bool,
    /// Whether every queue has them. If not, some queue refused them.
    pub accepted: bool,
}

/// What a core tells the publisher of one publish alone, before what it tells of those up to a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// A queue doesn't take it: it is full. That it is settled is told as well.
    Refused,
    /// It is settled only when this is taken back, whatever is told of those up to a number.
    Held,
    /// That is taken back.
    Released,
    /// It has led nowhere. Told to a core only, which has passed it on for somebody else.
    Nowhere,
}

/// One core's part.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The last number that was sent there.
    sent: u64,
    /// The last number that is settled there.
    settled: u64,
}

impl Confirms {
    /// Of a publisher in whose name others have used the numbers up to that.
    pub fn after(before: u64) -> Self {
        Self {
            before,
            published: before,
            told: before,
            ..Self::default()
        }
    }

    /// The number of the last publish.
    pub fn last_number(&self) -> u64 {
        self.published
    }

    /// The number of the next publish.
    pub fn next_number(&mut self) -> u64 {
        self.published += 1;
        self.published
    }

    /// The publish with this number went to `core`.
    pub fn sent(&mut self, core: CoreId, number: u64) {
        if self.cores.len() <= core.index() {
            self.cores.resize(core.index() + 1, Progress::default());
        }
        let progress = &mut self.cores[core.index()];
        if progress.settled >= progress.sent {
            // It owed nothing, so nothing below this number is its to settle.
            progress.settled = number - 1;
        }
        progress.sent = number;
    }

    /// `core` has settled everything up to this number.
    pub fn settled(&mut self, core: CoreId, upto: u64) {
        if let Some(progress) = self.cores.get_mut(core.index()) {
            progress.settled = progress.settled.max(upto);
        }
    }

    /// Something was told of the publish with this number alone.
    pub fn heard(&mut self, number: u64, news: News) {
        match news {
            News::Refused => self.refused(number),
            News::Held => self.held(number),
            News::Released => self.released(number),
            News::Nowhere => {}
        }
    }

    /// A queue has refused the publish with this number.
    pub fn refused(&mut self, number: u64) {
        if number > self.before {
            self.refused.insert(number);
        }
    }

    /// Somebody holds the publish with this number until it is released.
    pub fn held(&mut self, number: u64) {
        if number > self.before {
            *self.held.entry(number).or_default() += 1;
        }
    }

    /// One of those who held it does no more.
    pub fn released(&mut self, number: u64) {
        if let Some(holders) = self.held.get_mut(&number) {
            *holders -= 1;
            if *holders == 0 {
                self.held.remove(&number);
            }
        }
    }

    /// Whether every publish is settled.
    pub fn all_settled(&self) -> bool {
        self.settled_upto() == self.published
    }

    /// What the publisher is to be told next, if there is news.
    pub fn next_verdict(&mut self) -> Option<Verdict> {
        let settled = self.settled_upto();
        let first = self.told + 1;
        if first > settled {
            return None;
        }
        let mut upto = first;
        let accepted = !self.refused.remove(&first);
        if accepted {
            let refused = self.refused.first().map(|refused| refused - 1);
            upto = refused.map_or(settled, |before| before.min(settled));
        } else {
            while upto < settled && self.refused.remove(&(upto + 1)) {
                upto += 1;
            }
        }
        self.told = upto;
        Some(Verdict {
            upto: upto - self.before,
            multiple: upto > first,
            accepted,
        })
    }

    /// Whether every queue has taken all that is settled; the publisher is told of it thereby.
    pub fn all_accepted(&mut self) -> bool {
        let mut accepted = true;
        while let Some(verdict) = self.next_verdict() {
            accepted &= verdict.accepted;
        }
        accepted
    }

    /// The number up to which everything is settled.
    pub fn settled_upto(&self) -> u64 {
        let reported = self.reported_upto();
        match self.held.first_key_value() {
            Some((held, _)) => reported.min(held - 1),
            None => reported,
        }
    }

    /// Whether this one is settled, whatever those before it are.
    pub fn is_settled(&self, number: u64) -> bool {
        number <= self.reported_upto() && !self.held.contains_key(&number)
    }

    /// The number up to which all cores have settled what was sent to them, held or not.
    pub fn reported_upto(&self) -> u64 {
        self.cores
            .iter()
            .filter(|progress| progress.settled < progress.sent)
            .map(|progress| progress.settled)
            .min()
            .unwrap_or(self.published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(upto: u64, multiple: bool, accepted: bool) -> Option<Verdict> {
        Some(Verdict {
            upto,
            multiple,
            accepted,
        })
    }

    #[test]
    fn nothing_is_acknowledged_past_what_a_core_still_owes() {
        let mut confirms = Confirms::default();
        let (a, b) = (CoreId(0), CoreId(3));
        for core in [a, b, a, b] {
            let number = confirms.next_number();
            confirms.sent(core, number);
        }
        assert_eq!(confirms.next_verdict(), None);
        confirms.settled(b, 4);
        assert_eq!(confirms.next_verdict(), None, "core a owes number 1");
        confirms.settled(a, 1);
        assert_eq!(confirms.next_verdict(), verdict(1, false, true));
        confirms.settled(a, 3);
        assert_eq!(confirms.next_verdict(), verdict(4, true, true));
        assert_eq!(confirms.next_verdict(), None);
        assert!(confirms.all_settled());
    }

    #[test]
    fn a_message_that_went_nowhere_is_settled_at_once() {
        let mut confirms = Confirms::default();
        confirms.next_number();
        assert_eq!(confirms.next_verdict(), verdict(1, false, true));
        let number = confirms.next_number();
        confirms.sent(CoreId(0), number);
        confirms.next_number();
        assert_eq!(confirms.next_verdict(), None, "number 2 is under way");
        confirms.settled(CoreId(0), 2);
        assert_eq!(confirms.next_verdict(), verdict(3, true, true));
    }

    #[test]
    fn what_is_said_of_an_earlier_publishers_numbers_settles_nothing_of_this_one() {
        let mut earlier = Confirms::default();
        for _ in 0..3 {
            let number = earlier.next_number();
            earlier.sent(CoreId(0), number);
        }
        let mut confirms = Confirms::after(earlier.last_number());
        let number = confirms.next_number();
        confirms.sent(CoreId(0), number);
        confirms.held(2);
        confirms.refused(3);
        confirms.settled(CoreId(0), 3);
        assert_eq!(confirms.next_verdict(), None);
        confirms.settled(CoreId(0), number);
        assert_eq!(confirms.next_verdict(), verdict(1, false, true));
    }

    #[test]
    fn what_is_held_is_settled_once_all_have_released_it_and_those_behind_it_dont_wait() {
        let mut confirms = Confirms::default();
        for _ in 0..3 {
            let number = confirms.next_number();
            confirms.sent(CoreId(0), number);
        }
        confirms.held(2);
        confirms.held(2);
        confirms.settled(CoreId(0), 3);
        assert_eq!(confirms.next_verdict(), verdict(1, false, true));
        assert_eq!(confirms.next_verdict(), None);
        assert_eq!(
            [1, 2, 3].map(|number| confirms.is_settled(number)),
            [true, false, true]
        );
        confirms.released(2);
        assert_eq!(confirms.next_verdict(), None, "one of two still holds it");
        confirms.refused(2);
        confirms.released(2);
        assert_eq!(confirms.next_verdict(), verdict(2, false, false));
        assert_eq!(confirms.next_verdict(), verdict(3, false, true));
        confirms.released(2);
        assert!(confirms.all_settled());
    }

    #[test]
    fn what_a_queue_refused_is_told_apart_and_in_order() {
        let mut confirms = Confirms::default();
        for _ in 0..6 {
            let number = confirms.next_number();
            confirms.sent(CoreId(0), number);
        }
        for number in [3, 4, 6] {
            confirms.refused(number);
        }
        confirms.settled(CoreId(0), 6);
        assert_eq!(confirms.next_verdict(), verdict(2, true, true));
        assert_eq!(confirms.next_verdict(), verdict(4, true, false));
        assert_eq!(confirms.next_verdict(), verdict(5, false, true));
        assert_eq!(confirms.next_verdict(), verdict(6, false, false));
        assert_eq!(confirms.next_verdict(), None);
    }
}
