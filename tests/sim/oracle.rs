//! What must be true, kept by somebody who knows nothing of logs and cores: which definitions stand,
//! where each message must, may and must not be, and who holds it. Every rule that is broken is told
//! in words.
//!
//! Clients run side by side, so the oracle knows intervals: between a request and its answer a
//! definition is *coming* or *going*, and a message that is routed meanwhile may be there or not. A
//! crash makes an end of that: what is on the disk then is looked at, judged, and taken for the truth.

mod judging;
mod letters;
mod passing;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::exchanges::ignores_keys;
use crate::letters::{Deaths, Reason};
use crate::plan::Plan;
use crate::rules::{QueueRules, Stamp};
pub(crate) use judging::{Damage, FoundMessage, Inspection, Stop};
use letters::Letter;
use passing::Passage;

/// A rule was broken.
pub(crate) type Verdict<T = ()> = Result<T, String>;

/// Whether something is defined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Absent,
    Coming,
    Present,
    Going,
}

/// What a message has come to in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gone {
    /// It is there, if it ever was.
    No,
    /// Settled; a crash may bring it back.
    Settled,
    /// Settled, and that is durable.
    ForEver,
    /// A purge may have met it.
    Perhaps,
    /// It has left for the queue's dead-letter exchange; a crash may bring it back.
    Dead(Reason),
}

/// A message in a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// It was confirmed, and surely routed here.
    pub(crate) must: bool,
    /// Who holds it: client and delivery tag.
    pub(crate) holder: Option<(u64, u64)>,
    pub(crate) gone: Gone,
    /// A client has had it, or a crash met it: it is flagged when it comes again.
    seen: bool,
    /// Perhaps somebody was sent it.
    perhaps_seen: bool,
    /// Since when it may be here: the oracle's count of events, and milliseconds.
    since: (u64, u64),
    /// It is to go by then, in milliseconds, if it waits still.
    expires_by: Option<u64>,
    /// Queues that have its letter, a bit for each.
    letters: u64,
    /// A letter of which a crash has made more than one, perhaps: little is known of those.
    is_doubled: bool,
}

const FRESH: Record = Record {
    must: false,
    holder: None,
    gone: Gone::No,
    seen: false,
    perhaps_seen: false,
    since: (0, 0),
    expires_by: None,
    letters: 0,
    is_doubled: false,
};

/// What was published, or died.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) persistent: bool,
    pub(crate) len: usize,
    /// Which channel published it, and with which delay; a letter's is nobody's.
    pub(crate) publisher: u64,
    pub(crate) stamp: Stamp,
    letter: Option<Letter>,
    /// It is published again: as which it was at first.
    repeats: Option<u64>,
}

impl Message {
    pub(crate) fn new(persistent: bool, len: usize, publisher: u64, stamp: Stamp) -> Self {
        Self {
            persistent,
            len,
            publisher,
            stamp,
            letter: None,
            repeats: None,
        }
    }
}

pub(crate) struct Queue {
    pub(crate) durable: bool,
    pub(crate) rules: QueueRules,
    /// It is where the messages of a delayed exchange wait: nobody can name it.
    waits: bool,
    /// What came before that may have found it absent, or was purged.
    since: u64,
    pub(crate) standing: Standing,
    /// A client is declaring, deleting or purging it.
    pub(crate) busy: bool,
    pub(crate) records: BTreeMap<u64, Record>,
    /// In a queue of this name that was deleted in this life: consumers of then may still hear of it.
    late: BTreeSet<u64>,
    /// Deleted so often in this life.
    pub(crate) deletions: u64,
    /// In this life somebody consumed, or took a message.
    pub(crate) consumed: bool,
    /// Somebody did so without acknowledging: what was on its way may be lost.
    pub(crate) lossy: bool,
    /// A purge is under way: what comes may meet it.
    purging: bool,
    /// Something may have gone back.
    returned: bool,
}

pub(crate) struct Exchange {
    pub(crate) kind: &'static str,
    pub(crate) durable: bool,
    pub(crate) standing: Standing,
    pub(crate) busy: bool,
    /// What came before that may have found other bindings.
    since: u64,
}

/// A binding: exchange, routing key, queue.
pub(crate) type Binding = (usize, usize, usize);

/// A publish that isn't confirmed: the queues it must and may reach.
#[derive(Debug)]
struct Outstanding {
    message: u64,
    exchange: usize,
    key: usize,
    must: Vec<usize>,
}

pub(crate) struct Oracle {
    pub(crate) queues: Vec<Queue>,
    /// The first is the default exchange.
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) bindings: BTreeMap<Binding, Standing>,
    pub(crate) messages: Vec<Message>,
    outstanding: BTreeMap<u64, Outstanding>,
    /// What a deduplicating exchange knows, by message.
    passages: BTreeMap<u64, Passage>,
    /// Letters, by the message that was published and the deaths since.
    letters: HashMap<(u64, Deaths), u64>,
    /// What the clocks show, in milliseconds.
    pub(crate) now_ms: u64,
    /// Events so far.
    events: u64,
    /// Damage may be reported: the disk has done some.
    allows_damage: bool,
    /// Clients delete queues: damage may bring one back as it was before another of its name came.
    deletes: bool,
}

/// What a delivery says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) queue: usize,
    pub(crate) message: u64,
    pub(crate) redelivered: bool,
    pub(crate) no_ack: bool,
    /// Client and tag.
    pub(crate) holder: (u64, u64),
    /// When the consumer asked.
    pub(crate) asked: Asked,
}

/// When somebody asked a queue for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// So often had the queue been deleted.
    pub(crate) deletions: u64,
    /// In milliseconds.
    pub(crate) at_ms: u64,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        let named = plan.queues.iter().enumerate();
        let named = named.map(|(number, durable)| (*durable, plan.rules.of(number), false));
        let queues = named
            .chain(waiting::room(plan))
            .map(|(durable, rules, waits)| Queue {
                durable,
                rules,
                waits,
                since: 0,
                standing: Standing::Absent,
                busy: false,
                records: BTreeMap::new(),
                late: BTreeSet::new(),
                deletions: 0,
                consumed: false,
                lossy: false,
                purging: false,
                returned: false,
            });
        let exchanges = plan.exchanges.iter().map(|(kind, durable)| Exchange {
            kind,
            durable: *durable,
            standing: if *kind == "default" {
                Standing::Present
            } else {
                Standing::Absent
            },
            busy: false,
            since: 0,
        });
        Self {
            queues: queues.collect(),
            exchanges: exchanges.collect(),
            bindings: BTreeMap::new(),
            messages: Vec::new(),
            outstanding: BTreeMap::new(),
            passages: BTreeMap::new(),
            letters: HashMap::new(),
            now_ms: 0,
            events: 0,
            allows_damage: false,
            deletes: plan.deletes,
        }
    }

    /// From now on the disk may hold something else than was written.
    pub(crate) fn allow_damage(&mut self) {
        self.allows_damage = true;
    }

    /// Where a message would go: the queue, and whether surely.
    fn routes(&self, exchange: usize, key: usize) -> Vec<(usize, bool)> {
        if exchange == 0 {
            let sure = self.queues[key].standing == Standing::Present;
            let some = self.queues[key].standing != Standing::Absent;
            return if some { vec![(key, sure)] } else { vec![] };
        }
        let fanout = ignores_keys(self.exchanges[exchange].kind);
        let mut routes: BTreeMap<usize, bool> = BTreeMap::new();
        for (&(from, pattern, queue), standing) in &self.bindings {
            if from == exchange && (fanout || pattern == key) && *standing != Standing::Absent {
                let all = [
                    *standing,
                    self.queues[queue].standing,
                    self.exchanges[from].standing,
                ];
                let sure = all.iter().all(|one| *one == Standing::Present);
                *routes.entry(queue).or_default() |= sure;
            }
        }
        routes.into_iter().collect()
    }

    /// A message is sent. Returns the queues that it must reach.
    pub(crate) fn published(&mut self, number: u64, exchange: usize, key: usize) -> Vec<usize> {
        let mut must = Vec::new();
        let (message, fresh) = (self.first(number), self.fresh());
        for (queue, sure) in self.ways(message, exchange, key) {
            self.may_come(queue, message, fresh);
            if sure {
                must.push(queue);
            }
        }
        self.note_compared(message);
        let outstanding = Outstanding {
            message,
            exchange,
            key,
            must: must.clone(),
        };
        self.outstanding.insert(number, outstanding);
        must
    }

    /// It wasn't sent after all.
    pub(crate) fn unpublished(&mut self, number: u64) {
        self.outstanding.remove(&number);
        let message = self.first(number);
        if self.is_repeated(message) {
            return;
        }
        for queue in &mut self.queues {
            queue.records.remove(&message);
        }
    }

    /// Definitions have changed, or may: publishes under way may go elsewhere.
    pub(crate) fn reroute(&mut self) {
        let mut outstanding = std::mem::take(&mut self.outstanding);
        let fresh = self.fresh();
        for one in outstanding.values_mut() {
            let routes = self.ways(one.message, one.exchange, one.key);
            for (queue, _) in &routes {
                self.may_come(*queue, one.message, fresh);
            }
            one.must.retain(|queue| routes.contains(&(*queue, true)));
        }
        self.outstanding = outstanding;
    }

    /// The publisher has its confirm. Returns the queues that must have the message.
    pub(crate) fn confirmed(&mut self, number: u64) -> Verdict<Vec<usize>> {
        let Some(Outstanding { message, must, .. }) = self.outstanding.remove(&number) else {
            return Err(format!(
                "message {number} was confirmed, and nobody waited for that"
            ));
        };
        let must = self.surely_there(message, must);
        for queue in &must {
            let expires_by = self
                .ttl_ms(*queue, message)
                .map(|ttl_ms| self.now_ms + ttl_ms);
            if let Some(record) = self.queues[*queue].records.get_mut(&message) {
                record.must = true;
                record.expires_by = expires_by;
            }
        }
        Ok(must)
    }

    /// The publisher is told that some queue hasn't taken it.
    pub(crate) fn refused(&mut self, number: u64) -> Verdict {
        let known = self.outstanding.remove(&number);
        known
            .map(drop)
            .ok_or_else(|| format!("message {number} was refused, and nobody waited for that"))
    }

    pub(crate) fn returned(&mut self, message: u64) -> Verdict {
        match self.outstanding.get(&message) {
            Some(one) if !one.must.is_empty() => Err(format!(
                "message {message} was returned although queue {:?} was bound",
                one.must
            )),
            Some(_) => Ok(()),
            None => Err(format!("message {message} was returned after its confirm")),
        }
    }

    /// A client has received a message.
    pub(crate) fn delivered(&mut self, one: &Delivered) -> Verdict {
        let verdict = self.delivered_known(one);
        if verdict.is_err() && self.welcome_another(one.queue, one.message) {
            return self.delivered_known(one);
        }
        verdict
    }

    fn delivered_known(&mut self, one: &Delivered) -> Verdict {
        let Delivered {
            queue,
            message,
            redelivered,
            asked,
            ..
        } = *one;
        let found = &mut self.queues[queue];
        let Some(record) = found.records.get_mut(&message) else {
            if found.late.contains(&message) && asked.deletions < found.deletions {
                return Ok(());
            }
            return Err(format!(
                "queue {queue} delivered message {message}, which it never got or which is gone for ever"
            ));
        };
        if record.is_doubled {
            record.holder = (!one.no_ack).then_some(one.holder);
            return Ok(());
        }
        if matches!(record.gone, Gone::Settled | Gone::ForEver | Gone::Dead(_)) {
            if found.late.contains(&message) && asked.deletions < found.deletions {
                return Ok(());
            }
            return Err(format!(
                "queue {queue} delivered message {message} again after it was settled"
            ));
        }
        if let Some(holder) = record.holder {
            return Err(format!(
                "queue {queue} delivered message {message} to {:?} while {holder:?} holds it",
                one.holder
            ));
        }
        if record.seen && !redelivered {
            return Err(format!(
                "queue {queue}: message {message} comes again and isn't flagged redelivered"
            ));
        }
        if redelivered && !record.seen && !record.perhaps_seen && !found.returned {
            return Err(format!(
                "queue {queue}: message {message} is flagged redelivered, and nobody had it"
            ));
        }
        if let Some(by) = record.expires_by.filter(|by| *by < asked.at_ms) {
            return Err(format!(
                "queue {queue} delivered message {message} to {:?}, who asked at {} ms; it was to go by {by} ms",
                one.holder, asked.at_ms
            ));
        }
        record.seen = true;
        if one.no_ack {
            record.gone = Gone::Settled;
        } else {
            record.holder = Some(one.holder);
        }
        Ok(())
    }

    /// A client reads what was written before its session ended: it doesn't hold it.
    pub(crate) fn overheard(&mut self, queue: usize, message: u64) -> Verdict {
        let found = &self.queues[queue];
        if found.records.contains_key(&message) || found.late.contains(&message) {
            return Ok(());
        }
        if self.welcome_another(queue, message) {
            return Ok(());
        }
        Err(format!(
            "queue {queue} had delivered message {message}, which it never got"
        ))
    }

    /// A client reads what went back before it could: it doesn't hold it.
    pub(crate) fn went_back(&mut self, queue: usize, message: u64) -> Verdict {
        self.overheard(queue, message)?;
        let found = &mut self.queues[queue];
        found.returned = true;
        if let Some(record) = found.records.get_mut(&message) {
            record.seen = true;
        }
        Ok(())
    }

    /// The holder has acknowledged or discarded it.
    pub(crate) fn settled(&mut self, queue: usize, message: u64) {
        if let Some(record) = self.queues[queue].records.get_mut(&message) {
            record.holder = None;
            if record.gone == Gone::No || record.gone == Gone::Perhaps {
                record.gone = Gone::Settled;
            }
        }
    }

    /// It goes back, or what the holder said was never heard.
    pub(crate) fn released(&mut self, queue: usize, message: u64) {
        let found = &mut self.queues[queue];
        found.returned = true;
        if let Some(record) = found.records.get_mut(&message) {
            record.holder = None;
            if matches!(record.gone, Gone::Settled | Gone::Dead(Reason::Rejected)) {
                record.gone = Gone::No;
            }
        }
    }

    /// Somebody takes no more messages from the queue, or asks for all anew: what is on the way goes back.
    pub(crate) fn deserted(&mut self, queue: usize) {
        self.queues[queue].returned = true;
    }

    /// That a message was settled is durable now, if the publish that followed is (and was written). Of one that came
    /// again since, somebody else may have settled the other.
    pub(crate) fn harden(&mut self, queue: usize, message: u64, by: u64) {
        let found = &self.queues[queue];
        let written = found.records.get(&by).is_some_and(|record| {
            record.gone == Gone::No && self.deaths(queue, by, record).is_empty()
        });
        let is_kept = found.durable && !found.lossy && self.messages[by as usize].persistent;
        if !written || !is_kept || self.is_repeated(message) {
            return;
        }
        self.settled_for_ever(queue, message);
    }

    pub(crate) fn settled_for_ever(&mut self, queue: usize, message: u64) {
        if let Some(record) = self.queues[queue].records.get_mut(&message)
            && record.gone == Gone::Settled
        {
            record.gone = Gone::ForEver;
        }
    }

    /// A purge is sent: what it surely meets. `before`: messages that were surely put in the queue on this
    /// channel.
    pub(crate) fn purging(&mut self, queue: usize, before: &[u64]) -> Vec<u64> {
        let found = &mut self.queues[queue];
        found.purging = true;
        let mut sure = Vec::new();
        for (message, record) in &mut found.records {
            if record.gone == Gone::No && record.holder.is_none() {
                let was_there = record.must || before.contains(message);
                // Where messages fall by themselves, its letter may have left before.
                if was_there && !found.consumed && found.rules.dead_letters.is_none() {
                    sure.push(*message);
                }
                record.gone = Gone::Perhaps;
            }
        }
        sure
    }

    /// The purge is answered; those it surely met. `goes_on`: another was sent behind it.
    pub(crate) fn purged(&mut self, queue: usize, sure: &[u64], goes_on: bool) {
        let since = self.next_event();
        let found = &mut self.queues[queue];
        (found.purging, found.since) = (goes_on, since);
        for record in found.records.values_mut() {
            if record.gone == Gone::No && record.holder.is_none() {
                record.gone = Gone::Perhaps;
            }
        }
        for message in sure {
            if let Some(record) = found.records.get_mut(message)
                && record.gone == Gone::Perhaps
                && !found.consumed
            {
                record.gone = Gone::Settled;
            }
        }
    }

    /// Somebody asks a queue for messages now.
    pub(crate) fn asked(&self, queue: usize) -> Asked {
        Asked {
            deletions: self.queues[queue].deletions,
            at_ms: self.now_ms,
        }
    }

    /// A queue is declared.
    pub(crate) fn declared(&mut self, queue: usize) {
        let since = self.next_event();
        let found = &mut self.queues[queue];
        if found.standing != Standing::Present {
            found.since = since;
        }
        (found.standing, found.busy) = (Standing::Present, false);
    }

    /// Bindings of an exchange have changed, or it was declared.
    pub(crate) fn exchange_changed(&mut self, exchange: usize) {
        self.exchanges[exchange].since = self.next_event();
    }

    /// The queue is deleted, and that is durable.
    pub(crate) fn deleted(&mut self, queue: usize) {
        for exchange in 0..self.exchanges.len() {
            self.exchange_changed(exchange);
        }
        let found = &mut self.queues[queue];
        found.standing = Standing::Absent;
        found.deletions += 1;
        let records = std::mem::take(&mut found.records);
        for (message, mut record) in records {
            found.late.insert(message);
            if self.outstanding.values().any(|one| one.message == message) {
                record.must = false;
                found.records.insert(message, record);
            }
        }
        self.bindings.retain(|(_, _, bound), _| *bound != queue);
        self.reroute();
    }
}
