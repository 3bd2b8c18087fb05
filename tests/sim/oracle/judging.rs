//! What must be on the disk after a stop, and what may not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::letters::Found;
use super::{Binding, FRESH, Gone, Oracle, Record, Standing, Verdict};
use crate::letters::{Deaths, Reason};

/// A message as it was found on the disk.
#[derive(Clone, Debug)]
pub(crate) struct FoundMessage {
    /// As it was published.
    pub(crate) message: u64,
    pub(crate) deaths: Deaths,
    pub(crate) redelivered: bool,
}

/// How the broker stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Clean,
    Crash,
    /// A crash before the broker was open: an earlier clean stop may still hold.
    EarlyCrash,
    /// After a clean stop bits have flipped on its disk.
    Rot,
}

/// What a disk holds, as a fresh broker tells it.
#[derive(Default)]
pub(crate) struct Inspection {
    /// By queue: none if it isn't there.
    pub(crate) queues: Vec<Option<Vec<FoundMessage>>>,
    pub(crate) exchanges: Vec<bool>,
    pub(crate) bindings: BTreeSet<Binding>,
    /// Messages that a deduplicating exchange must know, and lets pass.
    pub(crate) passed: Vec<u64>,
    pub(crate) damage: Damage,
}

/// What the operator is told of.
#[derive(Default, Debug)]
pub(crate) struct Damage {
    pub(crate) definitions: Vec<String>,
    pub(crate) messages: Vec<String>,
}

impl Oracle {
    /// The broker has stopped, and this is what is on its disk.
    pub(crate) fn judge(&mut self, found: &Inspection, stop: Stop, lossy: bool) -> Verdict {
        let Damage {
            definitions,
            messages,
        } = &found.damage;
        let is_damaged = !definitions.is_empty() || !messages.is_empty();
        if is_damaged && !self.allows_damage {
            return Err(format!(
                "damage was reported on a disk that has none: {:?}",
                found.damage
            ));
        }
        let is_rot = stop == Stop::Rot && is_damaged;
        crate::trace::count(|counts| counts.damaged += u64::from(is_rot));
        let standings = |oracle: &Self| -> Vec<Standing> {
            oracle.queues.iter().map(|queue| queue.standing).collect()
        };
        let (before, are_rotten) = (standings(self), is_rot && !definitions.is_empty());
        self.judge_definitions(found, are_rotten)?;
        // What bits that flipped may take away, or bring back, is said.
        let are_others = are_rotten && (self.deletes || standings(self) != before);
        let rotten = is_rot && !messages.is_empty() || are_others;
        let mut there = Vec::new();
        for number in 0..self.queues.len() {
            let found = found.queues[number].as_deref().unwrap_or(&[]);
            there.push(self.judge_found(number, found, stop, (lossy || rotten, rotten))?);
        }
        for number in 0..self.queues.len() {
            if found.queues[number].is_some() && !lossy && !rotten {
                self.judge_missing(number, &there)?;
            }
        }
        let again: Vec<(usize, u64)> = (0..self.queues.len())
            .flat_map(|number| there[number].keys().map(move |message| (number, *message)))
            .filter(|(_, message)| self.may_come_again(*message, &there))
            .collect();
        for (number, message) in again {
            if let Some(record) = there[number].get_mut(&message) {
                record.expires_by = None;
            }
        }
        for (queue, there) in self.queues.iter_mut().zip(there) {
            queue.records = there;
            queue.late.clear();
            (queue.consumed, queue.lossy, queue.returned) = (false, false, false);
            queue.purging = false;
        }
        self.outstanding.clear();
        let is_sound = !lossy && !is_rot;
        self.passages_stopped(is_sound);
        match found.passed.first() {
            Some(message) if is_sound => Err(format!(
                "after a stop, message {message} was confirmed, and one like it passes"
            )),
            _ => Ok(()),
        }
    }

    /// `rotten`: bits that flipped may have taken any of them away, or brought it back.
    fn judge_definitions(&mut self, found: &Inspection, rotten: bool) -> Verdict {
        let mut changed = Vec::new();
        for (number, exchange) in self.exchanges.iter_mut().enumerate() {
            let there = found.exchanges[number];
            let before = exchange.standing;
            let what = format!("exchange {number}");
            exchange.standing = judge_standing((before, rotten), exchange.durable, there, &what)?;
            exchange.busy = false;
            if exchange.standing != before {
                changed.push(number);
            }
        }
        for number in 0..self.queues.len() {
            let there = found.queues[number].is_some();
            let queue = &mut self.queues[number];
            let before = queue.standing;
            if queue.waits {
                // It comes and goes with its exchange.
                queue.standing = [Standing::Absent, Standing::Present][usize::from(there)];
                continue;
            }
            queue.standing = judge_standing(
                (before, rotten),
                queue.durable,
                there,
                &format!("queue {number}"),
            )?;
            queue.busy = false;
            self.note_change(number, before);
        }
        for binding in &found.bindings {
            self.bindings.entry(*binding).or_insert(Standing::Absent);
        }
        for (binding, standing) in &mut self.bindings {
            let (number, _, queue) = *binding;
            let (exchange, queue) = (&self.exchanges[number], &self.queues[queue]);
            let durable = exchange.durable && queue.durable;
            let mut before = *standing;
            if durable && queue.standing == Standing::Absent {
                // It went with its queue.
                before = Standing::Absent;
            }
            let there = found.bindings.contains(binding);
            let was = *standing;
            *standing = judge_standing(
                (before, rotten),
                durable,
                there,
                &format!("binding {binding:?}"),
            )?;
            if *standing != was {
                changed.push(number);
            }
        }
        for exchange in changed {
            self.exchange_changed(exchange);
        }
        self.bindings
            .retain(|_, standing| *standing == Standing::Present);
        Ok(())
    }

    /// Whether all that is in a queue may be there; what there is to know of it from now on.
    fn judge_found(
        &mut self,
        number: usize,
        found: &[FoundMessage],
        stop: Stop,
        (lossy, rotten): (bool, bool),
    ) -> Verdict<BTreeMap<u64, Record>> {
        let mut there = BTreeMap::new();
        let mut last: HashMap<(u64, u8), u64> = HashMap::new();
        let mut last_lane = u8::MAX;
        for one in found {
            let said = |what: &str| {
                let FoundMessage {
                    message, deaths, ..
                } = one;
                Err(format!(
                    "after a stop, queue {number}: message {message} {deaths:?} {what}"
                ))
            };
            let Some(message) = self.letter(one.message, &one.deaths) else {
                return said("is there, and nobody published it");
            };
            let about = (stop, lossy, rotten);
            let mut known = self.known(number, message, rotten);
            let mut objection = self.objection(number, message, one, &there, about);
            if objection.is_some() && self.welcome_another(number, message) {
                known = self.known(number, message, rotten);
                objection = self.objection(number, message, one, &there, about);
            }
            let record = match (known, objection) {
                (Some(record), None) => record,
                (_, objection) => return said(objection.unwrap_or("never came")),
            };
            let about = &self.messages[message as usize];
            let lane = self.lane(number, message);
            let has_turn = !self.is_repeated(message);
            let last = has_turn.then(|| last.insert((about.publisher, lane), message));
            if !lossy && last.flatten().is_some_and(|last| last > message) {
                return said("comes behind a later one of its channel");
            }
            if lane > std::mem::replace(&mut last_lane, lane) && !lossy {
                return said("comes behind one with a lower priority");
            }
            let ttl_ms = self.ttl_ms(number, message);
            let by = ttl_ms.map(|ttl_ms| self.now_ms + ttl_ms);
            let restored = Record {
                must: true,
                seen: one.redelivered,
                perhaps_seen: one.redelivered,
                since: record.since,
                expires_by: by.into_iter().chain(record.expires_by).min(),
                is_doubled: record.is_doubled
                    || there.contains_key(&message)
                    || rotten && record.gone != Gone::No,
                ..FRESH
            };
            there.insert(message, restored);
        }
        Ok(there)
    }

    /// What there is to know of a message in a queue. Bits that flipped may bring any back.
    fn known(&self, queue: usize, message: u64, rotten: bool) -> Option<Record> {
        let known = self.queues[queue].records.get(&message).copied();
        let back = Record {
            is_doubled: true,
            ..FRESH
        };
        known.or_else(|| rotten.then_some(back))
    }

    /// Why a message can't be in a queue after a stop.
    fn objection(
        &self,
        number: usize,
        message: u64,
        one: &FoundMessage,
        there: &BTreeMap<u64, Record>,
        (stop, lossy, rotten): (Stop, bool, bool),
    ) -> Option<&'static str> {
        let queue = &self.queues[number];
        let Some(record) = self.known(number, message, rotten) else {
            return Some("is there, and never came or is gone for ever");
        };
        if !self.messages[message as usize].persistent {
            return Some("is there, and isn't persistent");
        }
        if record.is_doubled {
            return None;
        }
        // Of two letters of one message that was in both queues after a crash, a bit may bring the first back.
        let is_letter = self.messages[message as usize].letter.is_some();
        if there.contains_key(&message) && !(rotten && is_letter) {
            return Some("is there twice");
        }
        if record.gone == Gone::ForEver {
            return Some("is there again, although it was settled and that was durable");
        }
        if stop == Stop::Clean && record.gone == Gone::Dead(Reason::Delayed) && !lossy {
            return Some("waits still, and has come");
        }
        let was_seen = record.seen || record.perhaps_seen || queue.consumed;
        match (stop, one.redelivered) {
            // What a failed read made the broker forget, it doesn't know to have delivered.
            _ if lossy || queue.waits => None,
            (Stop::Crash, false) => Some("isn't flagged redelivered"),
            (_, false) if record.seen => Some("was delivered before, and the flag is lost"),
            (Stop::Clean | Stop::Rot, true) if !was_seen => {
                Some("is flagged redelivered, and nobody had it")
            }
            _ => None,
        }
    }

    /// Whether all is there that must be, or where its letters go.
    fn judge_missing(&self, number: usize, there: &Found) -> Verdict {
        let queue = &self.queues[number];
        for (message, record) in &queue.records {
            let must = record.must && self.messages[*message as usize].persistent;
            let must = must && !(queue.purging && record.holder.is_none());
            if must
                && !queue.lossy
                && !there[number].contains_key(message)
                && !self.is_accounted(number, *message, record, there)
            {
                return Err(format!(
                    "after a stop, queue {number}: message {message} was confirmed, and is lost"
                ));
            }
        }
        Ok(())
    }

    /// Messages that may be in queues, and bytes of the largest body that was ever published.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let records = self.queues.iter().flat_map(|queue| queue.records.values());
        let gone = |record: &&Record| matches!(record.gone, Gone::Settled | Gone::ForEver);
        let count = records.filter(|record| !gone(record)).count();
        let bodies = self.messages.iter().map(|message| message.len);
        (count, bodies.max().unwrap_or(0))
    }

    /// Everything was drained: nothing that must be somewhere is left.
    pub(crate) fn all_drained(&self) -> Verdict {
        for (number, queue) in self.queues.iter().enumerate() {
            for (message, record) in &queue.records {
                if record.must
                    && !queue.lossy
                    && !self.may_keep_letters_for_ever(number)
                    && !self.is_accounted(number, *message, record, &[])
                {
                    return Err(format!(
                        "queue {number} is drained, and message {message}, which was confirmed, never came"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn judge_standing(
    (before, rotten): (Standing, bool),
    durable: bool,
    there: bool,
    what: &str,
) -> Verdict<Standing> {
    match (before, durable, there) {
        (_, false, true) if what != "exchange 0" => {
            Err(format!("after a stop, {what} is there and isn't durable"))
        }
        (Standing::Present, true, false) if !rotten => {
            Err(format!("after a stop, {what} was declared, and is gone"))
        }
        (Standing::Absent, true, true) if !rotten => Err(format!(
            "after a stop, {what} was deleted or never declared, and is there"
        )),
        (_, _, true) => Ok(Standing::Present),
        (_, _, false) => Ok(Standing::Absent),
    }
}
