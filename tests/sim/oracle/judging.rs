//! What must be on the disk after a stop, and what may not.

use std::collections::{BTreeMap, HashMap};

use super::{FRESH, FoundMessage, Gone, Inspection, Oracle, Record, Standing, Stop, Verdict};

impl Oracle {
    /// The broker has stopped, and this is what is on its disk.
    pub(crate) fn judge(&mut self, found: &Inspection, stop: Stop, lossy: bool) -> Verdict {
        let is_damaged = !found.damage.is_empty();
        if is_damaged && !self.allows_damage {
            return Err(format!(
                "damage was reported on a disk that has none: {:?}",
                found.damage
            ));
        }
        // What bits that flipped may take away, or bring back, is said.
        let rotten = stop == Stop::Rot && is_damaged;
        crate::trace::count(|counts| counts.damaged += u64::from(rotten));
        self.judge_definitions(found)?;
        for number in 0..self.queues.len() {
            let there = found.queues[number].as_deref();
            self.judge_queue(number, there, stop, (lossy || rotten, rotten))?;
        }
        self.outstanding.clear();
        Ok(())
    }

    fn judge_definitions(&mut self, found: &Inspection) -> Verdict {
        for (number, exchange) in self.exchanges.iter_mut().enumerate() {
            let there = found.exchanges[number];
            exchange.standing = judge_standing(
                exchange.standing,
                exchange.durable,
                there,
                &format!("exchange {number}"),
            )?;
            exchange.busy = false;
        }
        for (number, queue) in self.queues.iter_mut().enumerate() {
            let there = found.queues[number].is_some();
            let before = queue.standing;
            queue.standing =
                judge_standing(before, queue.durable, there, &format!("queue {number}"))?;
            queue.busy = false;
        }
        for binding in &found.bindings {
            self.bindings.entry(*binding).or_insert(Standing::Absent);
        }
        for (binding, standing) in &mut self.bindings {
            let (exchange, _, queue) = *binding;
            let (exchange, queue) = (&self.exchanges[exchange], &self.queues[queue]);
            let durable = exchange.durable && queue.durable;
            let mut before = *standing;
            if durable && queue.standing == Standing::Absent {
                // It went with its queue.
                before = Standing::Absent;
            }
            let there = found.bindings.contains(binding);
            *standing = judge_standing(before, durable, there, &format!("binding {binding:?}"))?;
        }
        self.bindings
            .retain(|_, standing| *standing == Standing::Present);
        Ok(())
    }

    fn judge_queue(
        &mut self,
        number: usize,
        found: Option<&[FoundMessage]>,
        stop: Stop,
        (lossy, rotten): (bool, bool),
    ) -> Verdict {
        let queue = &mut self.queues[number];
        let mut there = BTreeMap::new();
        let mut last: HashMap<u64, u64> = HashMap::new();
        for one in found.unwrap_or(&[]) {
            let FoundMessage {
                message,
                redelivered,
            } = *one;
            let said = |what: &str| {
                Err(format!(
                    "after a stop, queue {number}: message {message} {what}"
                ))
            };
            let Some(about) = self.messages.get(message as usize) else {
                return said("is there, and nobody published it");
            };
            let known = queue.records.get(&message).copied();
            let Some(record) = known.or_else(|| rotten.then_some(FRESH)) else {
                return said("is there, and never came or is gone for ever");
            };
            if !about.persistent {
                return said("is there, and isn't persistent");
            }
            if record.gone == Gone::ForEver {
                return said("is there again, although it was settled and that was durable");
            }
            // What a failed read made the broker forget, it doesn't know to have delivered.
            let flag = match (stop, redelivered) {
                _ if lossy => "",
                (Stop::Crash, false) => "isn't flagged redelivered",
                (_, false) if record.seen => "was delivered before, and the flag is lost",
                (Stop::Clean | Stop::Rot, true)
                    if !record.seen && !record.perhaps_seen && !queue.consumed =>
                {
                    "is flagged redelivered, and nobody had it"
                }
                _ => "",
            };
            if !flag.is_empty() {
                return said(flag);
            }
            if !lossy
                && last
                    .insert(about.publisher, message)
                    .is_some_and(|last| last > message)
            {
                return said("comes behind a later one of its channel");
            }
            let restored = Record {
                must: true,
                holder: None,
                gone: Gone::No,
                seen: redelivered,
                perhaps_seen: redelivered,
            };
            if there.insert(message, restored).is_some() {
                return said("is there twice");
            }
        }
        if found.is_some() {
            for (message, record) in &queue.records {
                let persistent = self.messages[*message as usize].persistent;
                let must = record.must && record.gone == Gone::No && persistent;
                let must = must && !(queue.purging && record.holder.is_none());
                if must && !queue.lossy && !lossy && !there.contains_key(message) {
                    return Err(format!(
                        "after a stop, queue {number}: message {message} was confirmed, and is lost"
                    ));
                }
            }
        }
        queue.records = there;
        queue.late.clear();
        (queue.consumed, queue.lossy, queue.returned) = (false, false, false);
        queue.purging = false;
        Ok(())
    }

    /// Everything was drained: nothing that must be somewhere is left.
    pub(crate) fn all_drained(&self) -> Verdict {
        for (number, queue) in self.queues.iter().enumerate() {
            for (message, record) in &queue.records {
                if record.must && record.gone == Gone::No && !queue.lossy {
                    return Err(format!(
                        "queue {number} is drained, and message {message}, which was confirmed, never came"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn judge_standing(before: Standing, durable: bool, there: bool, what: &str) -> Verdict<Standing> {
    match (before, durable, there) {
        (_, false, true) if what != "exchange 0" => {
            Err(format!("after a stop, {what} is there and isn't durable"))
        }
        (Standing::Present, true, false) => {
            Err(format!("after a stop, {what} was declared, and is gone"))
        }
        (Standing::Absent, true, true) => Err(format!(
            "after a stop, {what} was deleted or never declared, and is there"
        )),
        (_, _, true) => Ok(Standing::Present),
        (_, _, false) => Ok(Standing::Absent),
    }
}
