//! The durable part of a topology, told by the records of the definition log: replayed from them at the
//! start, restored into a fresh [`Topology`], and taken from a live one when the log is compacted.
//!
//! ```text
//! log ──records──► Definitions ──restore──► Topology ──records()──► a new log
//! ```

mod import;

pub use import::{ImportContext, ImportError};

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::base::{CoreId, Name, VhostId};
use crate::model::Seeded;
use crate::model::administration::Administration;
use crate::model::arguments::ExchangeArguments;
use crate::model::definition::{Binding, Change, Destination, ExchangeDefinition, QueueDefinition};
use crate::model::definition_record::{
    DefinitionRecord, DurableBinding, DurableDestination, DurableExchange, DurableQueue,
};
use crate::model::topology::{PREDECLARED, Topology};

/// What the records of a log, applied in its order, leave behind.
#[derive(Debug)]
pub struct Definitions {
    queues: Ordered<Place, DurableQueue>,
    exchanges: Ordered<Place, DurableExchange>,
    bindings: Bindings,
    administration: Administration,
    next_incarnation: u64,
    is_incomplete: bool,
}

/// More queues than were ever declared: with 10,000 a second it takes three years to get there.
const INCARNATIONS_MAX: u64 = 1 << 40;

/// A vhost and the name of one of its queues or exchanges.
type Place = (Name, Name);

impl Definitions {
    /// Nothing yet. The seed keeps clients from having chosen names that collide.
    pub fn new(seed: u64) -> Self {
        let hashing = Seeded::with_seed(seed);
        Self {
            queues: Ordered::new(&hashing),
            exchanges: Ordered::new(&hashing),
            bindings: Bindings::new(&hashing),
            administration: Administration::default(),
            next_incarnation: 1,
            is_incomplete: false,
        }
    }

    /// Some of what was stored could not be read: something that isn't here need not be gone, and its messages
    /// may be in a log still. No queue from now on gets a number that it had.
    pub fn note_incomplete(&mut self) {
        self.is_incomplete = true;
        self.next_incarnation = self.next_incarnation.saturating_add(INCARNATIONS_MAX);
    }

    /// Whether something is missing, as [`Definitions::note_incomplete`] has said.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Takes one step. A record of what is there already replaces it and leaves it its place in the
    /// order; that something is gone which never was changes nothing.
    pub fn apply(&mut self, record: DefinitionRecord) {
        match record {
            DefinitionRecord::Queue(queue) => {
                let next = queue.incarnation.saturating_add(1);
                self.next_incarnation = self.next_incarnation.max(next);
                let place = (queue.vhost.clone(), queue.name.clone());
                self.queues.set(place, queue);
            }
            DefinitionRecord::Exchange(exchange) => {
                let place = (exchange.vhost.clone(), exchange.name.clone());
                self.exchanges.set(place, exchange);
            }
            DefinitionRecord::Binding(binding) => self.bindings.add(binding),
            DefinitionRecord::QueueGone { vhost, name } => {
                let end = (vhost.clone(), DurableDestination::Queue(name.clone()));
                self.bindings.remove_end(&end);
                self.queues.remove(&(vhost, name));
            }
            DefinitionRecord::ExchangeGone { vhost, name } => {
                let end = (vhost.clone(), DurableDestination::Exchange(name.clone()));
                self.bindings.remove_end(&end);
                self.exchanges.remove(&(vhost, name));
            }
            DefinitionRecord::BindingGone(binding) => self.bindings.remove(&binding),
            DefinitionRecord::Counter { next_incarnation } => {
                self.next_incarnation = self.next_incarnation.max(next_incarnation);
            }
            DefinitionRecord::Administered(thing) => self.administration.set(thing),
            DefinitionRecord::PolicyGone { kind, vhost, name } => {
                self.administration.clear_policy(kind, &vhost, &name);
            }
        }
    }

    /// What administrators defined.
    pub fn administration(&self) -> &Administration {
        &self.administration
    }

    /// The vhosts that are defined or something lives in, sorted by name. The topology to restore into needs them.
    pub fn vhosts(&self) -> impl Iterator<Item = &Name> {
        let queues = self.queues.iter().map(|queue| &queue.vhost);
        let exchanges = self.exchanges.iter().map(|exchange| &exchange.vhost);
        let bindings = self.bindings.all.iter().map(|binding| &binding.vhost);
        let defined = self.administration.vhost_names();
        let vhosts: BTreeSet<_> = defined
            .chain(queues)
            .chain(exchanges)
            .chain(bindings)
            .collect();
        vhosts.into_iter()
    }

    /// The lowest [`QueueDefinition::incarnation`] that no queue has or had, at least 1.
    pub fn next_incarnation(&self) -> u64 {
        self.next_incarnation
    }

    /// Gives the queues of cores that aren't there any more to others: of `cores`, at least 1. Returns
    /// the incarnations of those that have moved, with the cores that they were on.
    pub fn rehome(&mut self, cores: u16) -> Vec<(u64, CoreId)> {
        let mut moved = Vec::new();
        for queue in self
            .queues
            .iter_mut()
            .filter(|queue| queue.owner.0 >= cores)
        {
            moved.push((queue.incarnation, queue.owner));
            queue.owner = CoreId(queue.owner.0 % cores);
        }
        moved
    }

    /// Creates all of it in a topology that has the vhosts and nothing but the predeclared exchanges.
    /// Ids are given in the order in which things first came, so each core that restores the same gives
    /// the same ones. Returns a line for the operator for each thing that had to be left out, because
    /// something that it needs is missing: of a log that was damaged.
    pub fn restore(&self, topology: &mut Topology) -> Vec<String> {
        let mut left_out = Vec::new();
        let mut take = |change: Result<Change, Missing<'_>>, topology: &mut Topology| match change {
            Ok(change) => topology.apply(&change),
            Err(Missing { thing, reason }) => left_out.push(format!("{thing}: {reason}")),
        };
        // Whatever changes where an exchange leads revises all those that lead to it, so the many come
        // while there are few of these: queues before exchanges, and exchanges are bound last.
        for queue in self.queues.iter() {
            take(creation_of_queue(queue, topology), topology);
        }
        for exchange in self.exchanges.iter() {
            take(creation_of_exchange(exchange, topology), topology);
        }
        for to_queue in [true, false] {
            for binding in self.bindings.all.iter() {
                if matches!(binding.destination, DurableDestination::Queue(_)) == to_queue {
                    take(creation_of_binding(binding, topology), topology);
                }
            }
        }
        for thing in self.administration.things() {
            let line = thing.to_string();
            if let Err(fault) = topology.administer(thing) {
                left_out.push(format!("{line}: {fault}"));
            }
        }
        left_out
    }
}

/// All that is durable in a topology: exchanges and queues in the order of their ids, so that a replay
/// gives them in the same order, then bindings, then what administrators defined. The counter of
/// incarnations is the catalog's to add.
pub fn records(topology: &Topology) -> impl Iterator<Item = DefinitionRecord> {
    let vhosts = || topology.vhosts();
    let mut exchanges: Vec<_> = vhosts()
        .flat_map(|vhost| topology.exchanges(vhost))
        .collect();
    let mut queues: Vec<_> = vhosts().flat_map(|vhost| topology.queues(vhost)).collect();
    exchanges.sort_unstable();
    queues.sort_unstable();
    let bindings = exchanges
        .clone()
        .into_iter()
        .flat_map(|id| topology.bindings_from_exchange(id))
        .filter_map(|binding| DurableBinding::of(binding, topology))
        .map(DefinitionRecord::Binding);
    let exchanges = exchanges
        .into_iter()
        .filter_map(|id| topology.exchange(id))
        .filter(|exchange| !is_predeclared(&exchange.name))
        .filter_map(|exchange| DurableExchange::of(exchange, topology))
        .map(DefinitionRecord::Exchange);
    let queues = queues
        .into_iter()
        .filter_map(|id| topology.queue(id))
        .filter_map(|queue| DurableQueue::of(queue, topology))
        .map(DefinitionRecord::Queue);
    let things = topology.administration().things();
    let administered = things.map(DefinitionRecord::Administered);
    exchanges.chain(queues).chain(bindings).chain(administered)
}

fn is_predeclared(exchange: &Name) -> bool {
    PREDECLARED
        .iter()
        .any(|(name, ..)| *name == exchange.as_str())
}

/// Why something can't be restored.
struct Missing<'a> {
    thing: &'a dyn std::fmt::Display,
    reason: &'static str,
}

fn creation_of_queue<'a>(
    queue: &'a DurableQueue,
    topology: &Topology,
) -> Result<Change, Missing<'a>> {
    let missing = |reason| Missing {
        thing: queue,
        reason,
    };
    let vhost = find_vhost(topology, &queue.vhost).map_err(missing)?;
    if topology.queue_by_name(vhost, queue.name.as_str()).is_some() {
        return Err(missing(NAME_TAKEN));
    }
    Ok(Change::CreateQueue {
        id: topology.vacant_queue_id(),
        definition: QueueDefinition {
            vhost,
            name: queue.name.clone(),
            durable: true,
            exclusive: None,
            auto_delete: queue.auto_delete,
            arguments: queue.arguments.clone(),
            owner: queue.owner,
            incarnation: queue.incarnation,
        },
    })
}

fn creation_of_exchange<'a>(
    exchange: &'a DurableExchange,
    topology: &Topology,
) -> Result<Change, Missing<'a>> {
    let missing = |reason| Missing {
        thing: exchange,
        reason,
    };
    let vhost = find_vhost(topology, &exchange.vhost).map_err(missing)?;
    let taken = topology.exchange_by_name(vhost, exchange.name.as_str());
    if taken.is_some() {
        return Err(missing(NAME_TAKEN));
    }
    let arguments = ExchangeArguments::parse(&exchange.arguments)
        .map_err(|_| missing("its alternate exchange is not a name"))?;
    Ok(Change::CreateExchange {
        id: topology.vacant_exchange_id(),
        definition: ExchangeDefinition {
            vhost,
            name: exchange.name.clone(),
            kind: exchange.kind,
            durable: true,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
            alternate: arguments.alternate,
        },
    })
}

fn creation_of_binding<'a>(
    binding: &'a DurableBinding,
    topology: &Topology,
) -> Result<Change, Missing<'a>> {
    let missing = |reason| Missing {
        thing: binding,
        reason,
    };
    let vhost = find_vhost(topology, &binding.vhost).map_err(missing)?;
    let destination = match &binding.destination {
        DurableDestination::Queue(name) => topology
            .queue_by_name(vhost, name.as_str())
            .map(Destination::Queue),
        DurableDestination::Exchange(name) => topology
            .exchange_by_name(vhost, name.as_str())
            .map(Destination::Exchange),
    };
    Ok(Change::Bind(Binding {
        source: topology
            .exchange_by_name(vhost, binding.source.as_str())
            .ok_or_else(|| missing("its source is missing"))?,
        destination: destination.ok_or_else(|| missing("its destination is missing"))?,
        routing_key: binding.routing_key.clone(),
        arguments: binding.arguments.clone(),
    }))
}

const NAME_TAKEN: &str = "another has that name";

fn find_vhost(topology: &Topology, name: &Name) -> Result<VhostId, &'static str> {
    topology
        .vhost_by_name(name.as_str())
        .ok_or("there is no such vhost")
}

/// Bindings, and which of them go with a queue or an exchange.
#[derive(Debug)]
struct Bindings {
    all: Ordered<DurableBinding, DurableBinding>,
    /// By either end, the numbers of the bindings that have it.
    by_end: HashMap<End, BTreeSet<u64>, Seeded>,
}

/// A queue or an exchange, with its vhost, that a binding comes from or leads to.
type End = (Name, DurableDestination);

impl Bindings {
    fn new(hashing: &Seeded) -> Self {
        Self {
            all: Ordered::new(hashing),
            by_end: HashMap::with_hasher(hashing.clone()),
        }
    }

    fn add(&mut self, binding: DurableBinding) {
        let ends = ends_of(&binding);
        let number = self.all.set(binding.clone(), binding);
        for end in ends {
            self.by_end.entry(end).or_default().insert(number);
        }
    }

    fn remove(&mut self, binding: &DurableBinding) {
        let Some(number) = self.all.remove(binding) else {
            return;
        };
        for end in ends_of(binding) {
            if let Some(numbers) = self.by_end.get_mut(&end) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_end.remove(&end);
                }
            }
        }
    }

    fn remove_end(&mut self, end: &End) {
        for number in self.by_end.remove(end).unwrap_or_default() {
            if let Some(binding) = self.all.things.get(&number).cloned() {
                self.remove(&binding);
            }
        }
    }
}

fn ends_of(binding: &DurableBinding) -> [End; 2] {
    let source = DurableDestination::Exchange(binding.source.clone());
    [source, binding.destination.clone()].map(|end| (binding.vhost.clone(), end))
}

/// Things by key and in the order in which they first came.
#[derive(Debug)]
struct Ordered<K, V> {
    numbers: HashMap<K, u64, Seeded>,
    things: BTreeMap<u64, V>,
    next_number: u64,
}

impl<K: Eq + Hash, V> Ordered<K, V> {
    fn new(hashing: &Seeded) -> Self {
        Self {
            numbers: HashMap::with_hasher(hashing.clone()),
            things: BTreeMap::new(),
            next_number: 0,
        }
    }

    /// Returns the thing's number: a new one, unless the key is known.
    fn set(&mut self, key: K, thing: V) -> u64 {
        let number = *self.numbers.entry(key).or_insert(self.next_number);
        self.next_number = self.next_number.max(number + 1);
        self.things.insert(number, thing);
        number
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.things.get(self.numbers.get(key)?)
    }

    fn remove(&mut self, key: &K) -> Option<u64> {
        let number = self.numbers.remove(key)?;
        self.things.remove(&number);
        Some(number)
    }

    fn iter(&self) -> impl Iterator<Item = &V> {
        self.things.values()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.things.values_mut()
    }
}
