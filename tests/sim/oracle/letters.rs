//! Messages that die: of a queue's own rules, or because a client rejects them, and their letters.
//!
//! Nobody tells the oracle when a message expires or is one too many. It knows when it *may* have died, and that
//! it did when its letter comes: a letter carries where it died and why, so each has a number of its own, and
//! must have been where it says that it comes from. Where a confirmed message isn't any more, its letter is.

use std::collections::BTreeMap;

use super::{FRESH, Gone, Message, Oracle, Record, Standing};
use crate::letters::{Deaths, Died, NAMELESS, Reason, died_again};
use crate::rules::Overflow;

/// A letter is a message of its own.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// As it was published, and how it has died since.
    pub(super) root: u64,
    deaths: Deaths,
    /// The message that died last, where, and why.
    parent: u64,
    queue: usize,
    pub(super) reason: Reason,
}

/// What was found in each queue, after a stop.
pub(super) type Found = [BTreeMap<u64, Record>];

/// A message that may be in a queue, though nobody has seen it there.
struct Suspect<'a> {
    pub(super) root: u64,
    deaths: &'a [Died],
    since: (u64, u64),
}

impl Oracle {
    /// The number of a message with that history; none if it can't have one.
    pub(crate) fn letter(&mut self, root: u64, deaths: &[Died]) -> Option<u64> {
        let mut deaths = deaths.to_vec();
        for one in deaths.iter_mut().filter(|one| one.queue == NAMELESS) {
            one.queue = self.waiting_room()?.0;
        }
        let [newest, ..] = deaths[..] else {
            return Some(root);
        };
        let published = self.messages.get(root as usize)?.clone();
        let key = (root, deaths);
        if let Some(known) = self.letters.get(&key) {
            return Some(*known);
        }
        let parent = self.letter(root, &self.deaths_before(&key.1)?)?;
        let number = self.messages.len() as u64;
        let letter = Letter {
            root,
            deaths: key.1.clone(),
            parent,
            queue: newest.queue,
            reason: newest.reason,
        };
        self.messages.push(Message {
            publisher: u64::MAX - number,
            letter: Some(letter),
            ..published
        });
        self.letters.insert(key, number);
        Some(number)
    }

    /// What a history was before its last death. An entry counts, and stands where its last death put it: where
    /// letters go round, only those that clients reject go on, and one more step leads to one queue only.
    fn deaths_before(&self, deaths: &[Died]) -> Option<Deaths> {
        if deaths.iter().all(|one| one.count == 1) {
            return Some(deaths[1..].to_vec());
        }
        let steps: usize = deaths.iter().map(|one| one.count).sum();
        (0..self.queues.len()).find_map(|first| {
            let (mut queue, mut history) = (first, Deaths::new());
            for step in 1..=steps {
                let mut here = deaths.iter().filter(|one| one.queue == queue);
                let rejected = here.clone().find(|one| one.reason == Reason::Rejected);
                let other = here.find(|one| one.reason != Reason::Rejected);
                let one = match step {
                    1 => other.or(rejected)?,
                    _ => rejected.or(other)?,
                };
                let next = died_again(&history, queue, one.reason);
                if step == steps {
                    return (next == deaths).then_some(history);
                }
                history = next;
                queue = self.queues.get(queue)?.rules.dead_letters?.1;
            }
            None
        })
    }

    /// A message comes to a queue now, if it does.
    pub(super) fn fresh(&mut self) -> Record {
        Record {
            since: (self.next_event(), self.now_ms),
            ..FRESH
        }
    }

    pub(super) fn next_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// How long a message may wait in a queue.
    pub(super) fn ttl_ms(&self, queue: usize, message: u64) -> Option<u64> {
        let message = &self.messages[message as usize];
        let own = message.stamp.ttl_ms.filter(|_| message.letter.is_none());
        let of_queue = self.queues[queue].rules.ttl_ms;
        own.into_iter().chain(of_queue).min()
    }

    /// In which order a queue serves a message: the highest first.
    pub(crate) fn lane(&self, queue: usize, message: u64) -> u8 {
        let priority = self.messages[message as usize].stamp.priority.unwrap_or(0);
        let max = self.queues[queue].rules.max_priority.unwrap_or(0);
        priority.min(max)
    }

    /// Whether letters come to a queue.
    pub(crate) fn is_grave(&self, queue: usize) -> bool {
        (0..self.named_queues()).any(|from| self.may_go(from, queue))
    }

    /// A client has rejected a message that it held, not to be requeued. Whether that makes a letter of it.
    pub(crate) fn rejected(&mut self, queue: usize, message: u64) -> bool {
        if self.queues[queue].rules.dead_letters.is_none() {
            self.settled(queue, message);
            return false;
        }
        if let Some(record) = self.queues[queue].records.get_mut(&message) {
            record.holder = None;
            if matches!(record.gone, Gone::No | Gone::Perhaps) {
                record.gone = Gone::Dead(Reason::Rejected);
            }
        }
        true
    }

    /// A client that is gone had settled it, and perhaps that waited to be heard behind a question.
    pub(crate) fn perhaps_released(&mut self, queue: usize, message: u64) {
        let found = &mut self.queues[queue];
        found.returned = true;
        if found.rules.dead_letters.is_some()
            && let Some(record) = found.records.get_mut(&message)
            && matches!(record.gone, Gone::Settled | Gone::Dead(Reason::Rejected))
        {
            record.gone = Gone::Perhaps;
        }
    }

    /// Without a client's doing: how a message may have died in its queue by now.
    pub(super) fn deaths(&self, queue: usize, message: u64, record: &Record) -> Vec<Reason> {
        if record.holder.is_some() {
            return Vec::new();
        }
        if self.queues[queue].waits {
            let is_due = self.is_due(message, record);
            return is_due.then_some(Reason::Delayed).into_iter().collect();
        }
        let ttl_ms = self.ttl_ms(queue, message);
        self.deaths_by_rules(queue, ttl_ms, record)
    }

    fn deaths_by_rules(&self, queue: usize, ttl_ms: Option<u64>, record: &Record) -> Vec<Reason> {
        let found = &self.queues[queue];
        let came_back = record.seen || record.perhaps_seen || found.returned;
        let may = [
            (
                Reason::Expired,
                ttl_ms.is_some_and(|ttl_ms| record.since.1 + ttl_ms <= self.now_ms),
            ),
            (
                Reason::MaxLen,
                found.rules.max_length.is_some() && !found.rules.may_turn_away(),
            ),
            (
                Reason::DeliveryLimit,
                found.rules.delivery_limit.is_some() && came_back,
            ),
        ];
        let reasons = may.into_iter().filter(|(_, may)| *may);
        reasons.map(|(reason, _)| reason).collect()
    }

    /// Somebody sees a message in a queue where it wasn't known to be. False: it can't have come; if it is a
    /// letter, it may have, and if others like it were there before, little is known of all of them.
    pub(super) fn welcome_another(&mut self, queue: usize, message: u64) -> bool {
        let Some(since) = self.claim(queue, message) else {
            return false;
        };
        let letter = self.messages[message as usize].letter.as_ref();
        let is_delayed = letter.is_some_and(|letter| letter.reason == Reason::Delayed);
        let parent = letter.and_then(|letter| {
            let records = &self.queues[letter.queue].records;
            records.get(&letter.parent)
        });
        let comes_again = parent.is_some_and(|parent| parent.is_doubled);
        crate::trace::count(|counts| {
            counts.letters += 1;
            counts.delayed += u64::from(is_delayed);
        });
        let records = &mut self.queues[queue].records;
        let is_doubled = comes_again || records.contains_key(&message);
        let record = Record {
            since,
            is_doubled,
            ..FRESH
        };
        records.insert(message, record);
        true
    }

    /// A letter is said to be in a queue: the message that it was is dead, if it may be. Since when the letter
    /// may be there.
    fn claim(&mut self, target: usize, message: u64) -> Option<(u64, u64)> {
        let Letter {
            parent,
            queue,
            reason,
            ..
        } = self.messages[message as usize].letter.clone()?;
        if !self.may_go(queue, target) {
            return None;
        }
        if !self.queues[queue].records.contains_key(&parent) {
            if self.queues[queue].late.contains(&parent) {
                return Some((self.next_event(), 0));
            }
            self.welcome_another(queue, parent).then_some(())?;
        }
        let record = *self.queues[queue].records.get(&parent)?;
        let may_die = match record.gone {
            Gone::Dead(known) => known == reason && record.letters & 1 << target == 0,
            Gone::Perhaps if reason == Reason::Rejected => true,
            Gone::No | Gone::Perhaps => self.deaths(queue, parent, &record).contains(&reason),
            Gone::Settled | Gone::ForEver => false,
        };
        let source = match reason {
            Reason::MaxLen => self.who_tries_again(queue, parent),
            _ => None,
        };
        let is_doubled = record.is_doubled || source.is_some();
        // If not, perhaps another one like it did.
        if !may_die && !is_doubled && !self.welcome_another(queue, parent) {
            return None;
        }
        let record = self.queues[queue].records.get_mut(&parent)?;
        record.gone = Gone::Dead(reason);
        record.letters |= 1 << target;
        record.is_doubled |= source.is_some();
        let since = record.since;
        // It comes from there again, to that queue or to the next of its name.
        if let Some((source, message)) = source
            && let Some(record) = self.queues[source].records.get_mut(&message)
        {
            record.is_doubled = true;
        }
        Some(since)
    }

    /// From which queue, and as which message there, a letter comes again for which a queue was too full, although that
    /// has sent it on.
    fn who_tries_again(&self, queue: usize, message: u64) -> Option<(usize, u64)> {
        let letter = self.messages[message as usize].letter.as_ref()?;
        let is_kept = self.queues[letter.queue].rules.keeps_letters();
        let sends_on = self.queues[queue].rules.overflow == Overflow::RefusesToLetters;
        (is_kept && sends_on).then_some((letter.queue, letter.parent))
    }

    /// Whether what became a letter is in its queue still, as a crash between the two leaves it: another letter
    /// comes of it, with a time of its own.
    pub(super) fn may_come_again(&self, message: u64, there: &Found) -> bool {
        let mut next = self.messages[message as usize].letter.as_ref();
        while let Some(letter) = next {
            if there[letter.queue].contains_key(&letter.parent) {
                return true;
            }
            next = self.messages[letter.parent as usize].letter.as_ref();
        }
        false
    }

    /// Whether where letters of a queue should go may be full of letters that lead nowhere.
    pub(super) fn may_keep_letters_for_ever(&self, queue: usize) -> bool {
        let targets = (0..self.named_queues()).filter(|target| self.may_go(queue, *target));
        let mut rules = targets.map(|target| self.queues[target].rules);
        self.queues[queue].rules.keeps_letters()
            && rules.any(|rules| rules.keeps_letters() && rules.may_turn_away())
    }

    /// Whether letters of a queue may come to another.
    fn may_go(&self, queue: usize, target: usize) -> bool {
        match self.queues[queue].rules.dead_letters {
            Some((0, key)) => key == target,
            // Whatever was bound to it at the time.
            Some(_) => self.queues[target].rules.dead_letters.is_none(),
            None => false,
        }
    }

    /// The queues that letters of a message in a queue surely reach, whenever it has died.
    fn graves(&self, queue: usize, since: u64) -> Vec<usize> {
        let Some((exchange, key)) = self.queues[queue].rules.dead_letters else {
            return Vec::new();
        };
        if exchange > 0 && self.exchanges[exchange].since > since {
            return Vec::new();
        }
        let routes = self.routes(exchange, key).into_iter();
        let sure = routes.filter(|(target, sure)| {
            let found = &self.queues[*target];
            *sure && found.since <= since && !found.purging && !found.lossy && found.durable
        });
        sure.map(|(target, _)| target).collect()
    }

    /// A message that must be in a queue isn't: whether it is elsewhere, or has come to its end.
    pub(super) fn is_accounted(
        &self,
        queue: usize,
        message: u64,
        record: &Record,
        found: &Found,
    ) -> bool {
        let reasons = match record.gone {
            Gone::Dead(reason) => vec![reason],
            Gone::No => self.deaths(queue, message, record),
            Gone::Perhaps | Gone::Settled | Gone::ForEver => return true,
        };
        let letter = self.messages[message as usize].letter.as_ref();
        let suspect = Suspect {
            root: letter.map_or(message, |letter| letter.root),
            deaths: letter.map_or(&[], |letter| &letter.deaths),
            since: record.since,
        };
        record.is_doubled || self.has_gone_on(queue, &suspect, &reasons, found)
    }

    /// Whether a message that has died in one of these ways is where its letters go.
    fn has_gone_on(
        &self,
        queue: usize,
        suspect: &Suspect<'_>,
        reasons: &[Reason],
        found: &Found,
    ) -> bool {
        reasons.iter().any(|reason| {
            let deaths = died_again(suspect.deaths, queue, *reason);
            let mut graves = self.graves(queue, suspect.since.0).into_iter();
            graves.all(|target| {
                // A letter that goes round by itself is dropped.
                let is_round =
                    *reason != Reason::Rejected && deaths.iter().any(|death| death.queue == target);
                let letter = Suspect {
                    deaths: &deaths,
                    ..*suspect
                };
                // So is one that finds no room, if its queue doesn't keep it.
                let is_turned_away = self.queues[target].rules.may_turn_away()
                    && !self.queues[queue].rules.keeps_letters();
                is_round || is_turned_away || self.has_come(target, &letter, found)
            })
        })
    }

    /// Whether a letter is in a queue, or was, or may have died there in turn and is where it went then.
    fn has_come(&self, queue: usize, letter: &Suspect<'_>, found: &Found) -> bool {
        let number = self.letters.get(&(letter.root, letter.deaths.to_vec()));
        if let Some(number) = number {
            if found
                .get(queue)
                .is_some_and(|found| found.contains_key(number))
            {
                return true;
            }
            if let Some(record) = self.queues[queue].records.get(number) {
                return self.is_accounted(queue, *number, record, found);
            }
        }
        let record = Record {
            since: letter.since,
            ..FRESH
        };
        let ttl_ms = self.queues[queue].rules.ttl_ms;
        let reasons = self.deaths_by_rules(queue, ttl_ms, &record);
        self.has_gone_on(queue, letter, &reasons, found)
    }

    /// After a stop: definitions that are there and weren't surely, or were and aren't.
    pub(super) fn note_change(&mut self, queue: usize, before: Standing) {
        let since = self.next_event();
        let found = &mut self.queues[queue];
        if found.standing != before {
            found.since = since;
        }
    }
}
