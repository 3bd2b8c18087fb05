//! What routing one message needs besides the topology: marks of what was seen, and lists that are
//! emptied, not freed. One scratch serves any number of messages, one after the other.

use std::hash::BuildHasher;

use crate::amqp::properties::Properties;
use crate::amqp::table::{Table, Value};
use crate::base::{ExchangeId, QueueId};
use crate::model::Seeded;
use crate::model::definition::Destination;

/// Reusable memory for [`Topology::route`](crate::model::topology::Topology::route).
#[derive(Debug, Default)]
pub struct RouteScratch {
    pub(crate) seen: Seen,
    pub(crate) matching: Matching,
}

/// What the kinds of exchanges need.
#[derive(Debug, Default)]
pub(crate) struct Matching {
    pub(crate) topic: TopicScratch,
    pub(crate) headers: HeaderIndex,
    pub(crate) chance: Chance,
}

impl RouteScratch {
    /// Empty; it grows with the topology it meets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the last message, and collects what the next one goes to. Queues that are targets already
    /// count as seen.
    pub(crate) fn begin<'a>(
        &'a mut self,
        targets: &'a mut Vec<QueueId>,
    ) -> (Collector<'a>, &'a mut Matching) {
        self.matching.headers.is_built = false;
        self.seen.queues.clear();
        self.seen.exchanges.clear();
        self.seen.pending.clear();
        for target in &*targets {
            self.seen.queues.set(target.index);
        }
        let collector = Collector {
            seen: &mut self.seen,
            targets,
            has_found: false,
        };
        (collector, &mut self.matching)
    }
}

/// Which queues and exchanges this message has reached, and which exchanges it has yet to visit.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    queues: Marks,
    exchanges: Marks,
    pub(crate) pending: Vec<ExchangeId>,
}

/// Counts what was left to chance. The numbers are hashes of the count under the topology's seed, which
/// was drawn when the process started: nothing is drawn here.
#[derive(Debug, Default)]
pub(crate) struct Chance {
    drawn: u64,
}

impl Chance {
    /// One of `count` numbers from 0 up, each as likely as any other.
    pub(crate) fn below(&mut self, count: usize, hashing: &Seeded) -> usize {
        self.drawn += 1;
        let bits = hashing.hash_one(self.drawn);
        ((u128::from(bits) * count as u128) >> u64::BITS) as usize
    }
}

/// Takes the destinations that match, and keeps each queue and exchange once.
pub(crate) struct Collector<'a> {
    pub(crate) seen: &'a mut Seen,
    pub(crate) targets: &'a mut Vec<QueueId>,
    /// Whether the exchange at hand has matched anything, seen or not.
    pub(crate) has_found: bool,
}

impl Collector<'_> {
    pub(crate) fn add(&mut self, destination: Destination) {
        self.has_found = true;
        match destination {
            Destination::Queue(id) => {
                if self.seen.queues.set(id.index) {
                    self.targets.push(id);
                }
            }
            Destination::Exchange(id) => self.visit(id),
        }
    }

    /// How much there is, for [`Collector::take_back`].
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.targets.len(), self.seen.pending.len())
    }

    /// Forgets what came since, as if it had not been seen.
    pub(crate) fn take_back(&mut self, (targets, pending): (usize, usize)) {
        for target in self.targets.drain(targets..) {
            self.seen.queues.unset(target.index);
        }
        for exchange in self.seen.pending.drain(pending..) {
            self.seen.exchanges.unset(exchange.index);
        }
    }

    /// Has the exchange visited, unless it was.
    pub(crate) fn visit(&mut self, id: ExchangeId) {
        if self.seen.exchanges.set(id.index) {
            self.seen.pending.push(id);
        }
    }
}

/// A set of small numbers that is emptied in one step.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    round: u32,
    rounds: Vec<u32>,
}

impl Marks {
    /// Empties the set.
    pub(crate) fn clear(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.rounds.fill(0);
            self.round = 1;
        }
    }

    /// The number is in the set no more.
    pub(crate) fn unset(&mut self, number: u32) {
        self.rounds[number as usize] = self.round.wrapping_sub(1);
    }

    /// Whether the number was not in the set yet; it is now.
    pub(crate) fn set(&mut self, number: u32) -> bool {
        let at = number as usize;
        if at >= self.rounds.len() {
            self.rounds.resize(at + 1, 0);
        }
        std::mem::replace(&mut self.rounds[at], self.round) != self.round
    }
}

/// The nodes of a topic trie that the words so far have led to, and those that the next one leads to.
#[derive(Debug, Default)]
pub(crate) struct TopicScratch {
    pub(crate) frontier: Vec<u32>,
    pub(crate) next: Vec<u32>,
    pub(crate) marks: Marks,
}

/// The message's headers in the order of their names, found once however many exchanges ask.
#[derive(Debug, Default)]
pub(crate) struct HeaderIndex {
    is_built: bool,
    /// Where each field begins in the table.
    fields: Vec<u32>,
}

impl HeaderIndex {
    pub(crate) fn build<'a, 'i>(&'i mut self, properties: Properties<'a>) -> Headers<'a, 'i> {
        let table = properties.headers().unwrap_or_default();
        if !self.is_built {
            self.is_built = true;
            self.fields.clear();
            let len = table.as_bytes().len();
            let mut walk = table.fields();
            let mut at = 0;
            while walk.next().is_some() {
                self.fields.push(at as u32);
                at = len - walk.rest().len();
            }
            // By name, and for equal names the first one first.
            self.fields
                .sort_unstable_by_key(|at| (name_at(table, *at), *at));
        }
        Headers {
            table,
            fields: &self.fields,
        }
    }
}

/// The headers of the message at hand.
#[derive(Clone, Copy)]
pub(crate) struct Headers<'a, 'i> {
    table: Table<'a>,
    fields: &'i [u32],
}

impl<'a> Headers<'a, '_> {
    pub(crate) fn get(self, name: &[u8]) -> Option<Value<'a>> {
        let at = self
            .fields
            .partition_point(|at| name_at(self.table, *at) < name);
        let at = *self.fields.get(at)?;
        let (found, value) = Table::from_validated(&self.table.as_bytes()[at as usize..])
            .fields()
            .next()?;
        (found == name).then_some(value)
    }
}

fn name_at(table: Table<'_>, at: u32) -> &[u8] {
    let field = &table.as_bytes()[at as usize..];
    &field[1..1 + usize::from(field[0])]
}
