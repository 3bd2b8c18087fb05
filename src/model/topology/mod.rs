//! All vhosts, exchanges, queues and bindings, of which every core holds a full copy: looked up by
//! name and by id, changed only by [`Topology::apply`], and walked by [`Topology::route`].

mod administration;
mod change;
mod policies;
mod route;
mod slots;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::{ExchangeId, Name, QueueId, VhostId};
use crate::model::access::Access;
use crate::model::administration::Administration;
use crate::model::arguments::{Arguments, QueueType};
use crate::model::definition::{
    Binding, Destination, ExchangeDefinition, ExchangeKind, QueueDefinition,
};
use crate::model::exchange::Bindings;
use crate::model::policy::Policies;
use crate::model::{NameMap, Seeded};
use slots::Slots;

pub use route::{Origin, Routed};

/// Name, kind and "internal" of the exchanges that every vhost has from the start.
pub(super) const PREDECLARED: [(&str, ExchangeKind, bool); 7] = [
    (DEFAULT_EXCHANGE, ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.topic", ExchangeKind::Topic, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
];

/// The name of the exchange that routes to the queue named by the routing key.
pub const DEFAULT_EXCHANGE: &str = "";

/// One core's copy of the topology.
#[derive(Debug)]
pub struct Topology {
    vhosts: Vec<Vhost>,
    queues: Slots<Queue>,
    exchanges: Slots<Exchange>,
    /// The last revision given to an exchange; each is given once.
    last_revision: u64,
    administration: Administration,
    access: Arc<Access>,
    /// Where a vhost says nothing.
    default_queue_type: Option<QueueType>,
    hashing: Seeded,
}

#[derive(Debug)]
struct Vhost {
    name: Name,
    queues: NameMap<QueueId>,
    /// So many of them nobody has declared: exchanges' own, and where replies go.
    undeclared_queues: usize,
    exchanges: NameMap<ExchangeId>,
    /// By the name of an exchange, those that have it as their alternate, whether it exists or not.
    alternate_of: NameMap<Vec<ExchangeId>>,
    policies: Policies,
}

#[derive(Debug)]
struct Queue {
    definition: QueueDefinition,
    touches: u64,
    incoming: Incoming,
}

#[derive(Debug)]
struct Exchange {
    definition: ExchangeDefinition,
    /// Where messages go that it can't route, by its declaration or by a policy.
    alternate: Option<Name>,
    /// `None` for the default exchange: the vhost's table of queues says where it leads.
    bindings: Option<Bindings>,
    outgoing: BindingSet,
    incoming: Incoming,
    /// How many of the outgoing bindings lead to exchanges.
    outgoing_to_exchanges: usize,
    revision: u64,
}

type BindingSet = HashSet<Binding, Seeded>;

/// Bindings to one destination: most queues have none, and there are many of those.
type Incoming = Option<Box<BindingSet>>;

impl Topology {
    /// Vhosts of these names, numbered in this order, with their predeclared exchanges. All cores must
    /// hand in the same names; the seed keeps clients from choosing keys that collide.
    pub fn new(vhost_names: &[Name], seed: u64) -> Self {
        let hashing = Seeded::with_seed(seed);
        let mut topology = Self {
            vhosts: Vec::new(),
            queues: Slots::default(),
            exchanges: Slots::default(),
            last_revision: 0,
            administration: Administration::default(),
            access: Arc::default(),
            default_queue_type: None,
            hashing: hashing.clone(),
        };
        for (name, vhost) in vhost_names.iter().zip((0..).map(VhostId)) {
            topology.vhosts.push(Vhost {
                name: name.clone(),
                queues: HashMap::with_hasher(hashing.clone()),
                undeclared_queues: 0,
                exchanges: HashMap::with_hasher(hashing.clone()),
                alternate_of: HashMap::with_hasher(hashing.clone()),
                policies: Policies::default(),
            });
            for (name, kind, internal) in PREDECLARED {
                let definition = ExchangeDefinition {
                    vhost,
                    name: Name::from(name),
                    kind,
                    durable: true,
                    auto_delete: false,
                    internal,
                    arguments: Arguments::default(),
                    alternate: None,
                };
                topology.create_exchange(topology.vacant_exchange_id(), &definition);
            }
        }
        topology
    }
}

impl Binding {
    fn to_exchange(&self) -> Option<ExchangeId> {
        match self.destination {
            Destination::Exchange(id) => Some(id),
            Destination::Queue(_) => None,
        }
    }
}

/// Looking up.
impl Topology {
    /// A number that changes whenever messages published to this exchange may go other ways than
    /// before. With the exchange's id it is unique for the life of the process. 0 for a dead exchange.
    pub fn revision(&self, exchange: ExchangeId) -> u64 {
        self.exchange_at(exchange)
            .map_or(0, |exchange| exchange.revision)
    }

    /// The vhost of that name.
    pub fn vhost_by_name(&self, name: &str) -> Option<VhostId> {
        let place = self
            .vhosts
            .iter()
            .position(|vhost| vhost.name.as_str() == name)?;
        u16::try_from(place).ok().map(VhostId)
    }

    /// Ids of all vhosts.
    pub fn vhosts(&self) -> impl Iterator<Item = VhostId> {
        (0..self.vhosts.len() as u16).map(VhostId)
    }

    /// The name of a vhost.
    pub fn vhost_name(&self, vhost: VhostId) -> &Name {
        &self.vhost(vhost).name
    }

    /// The queue of that name.
    pub fn queue_by_name(&self, vhost: VhostId, name: impl AsRef<[u8]>) -> Option<QueueId> {
        self.vhost(vhost).queues.get(name.as_ref()).copied()
    }

    /// The exchange of that name.
    pub fn exchange_by_name(&self, vhost: VhostId, name: impl AsRef<[u8]>) -> Option<ExchangeId> {
        self.vhost(vhost).exchanges.get(name.as_ref()).copied()
    }

    /// What was declared, unless the queue is gone.
    pub fn queue(&self, id: QueueId) -> Option<&QueueDefinition> {
        self.queue_at(id).map(|queue| &queue.definition)
    }

    /// What was declared, unless the exchange is gone.
    pub fn exchange(&self, id: ExchangeId) -> Option<&ExchangeDefinition> {
        self.exchange_at(id).map(|exchange| &exchange.definition)
    }

    /// How often the queue was declared again. A proposal to delete it names the number it has seen.
    pub fn queue_touches(&self, id: QueueId) -> Option<u64> {
        self.queue_at(id).map(|queue| queue.touches)
    }

    /// Ids of all queues of a vhost, in no order that means anything.
    pub fn queues(&self, vhost: VhostId) -> impl ExactSizeIterator<Item = QueueId> {
        self.vhost(vhost).queues.values().copied()
    }

    /// How many queues of a vhost somebody has declared: those that count against its limit.
    pub fn declared_queues(&self, vhost: VhostId) -> usize {
        let vhost = self.vhost(vhost);
        vhost.queues.len() - vhost.undeclared_queues
    }

    /// Ids of all exchanges of a vhost, in no order that means anything.
    pub fn exchanges(&self, vhost: VhostId) -> impl Iterator<Item = ExchangeId> {
        self.vhost(vhost).exchanges.values().copied()
    }

    /// The bindings that lead to a queue, without the implied one of the default exchange.
    pub fn bindings_of_queue(&self, id: QueueId) -> impl ExactSizeIterator<Item = &Binding> {
        let incoming = self
            .queue_at(id)
            .and_then(|queue| queue.incoming.as_deref());
        incoming.unwrap_or(&NO_BINDINGS).iter()
    }

    /// The bindings that an exchange is the source of.
    pub fn bindings_from_exchange(
        &self,
        id: ExchangeId,
    ) -> impl ExactSizeIterator<Item = &Binding> {
        self.exchange_at(id)
            .map_or(&NO_BINDINGS, |exchange| &exchange.outgoing)
            .iter()
    }

    /// The bindings that lead to an exchange.
    pub fn bindings_to_exchange(&self, id: ExchangeId) -> impl ExactSizeIterator<Item = &Binding> {
        let incoming = self
            .exchange_at(id)
            .and_then(|exchange| exchange.incoming.as_deref());
        incoming.unwrap_or(&NO_BINDINGS).iter()
    }

    /// Whether there is such a binding.
    pub fn has_binding(&self, binding: &Binding) -> bool {
        self.exchange_at(binding.source)
            .is_some_and(|source| source.outgoing.contains(binding))
    }

    /// The id that the next queue should get.
    pub fn vacant_queue_id(&self) -> QueueId {
        let (index, generation) = self.queues.vacant();
        QueueId { index, generation }
    }

    /// The id that the next exchange should get.
    pub fn vacant_exchange_id(&self) -> ExchangeId {
        let (index, generation) = self.exchanges.vacant();
        ExchangeId { index, generation }
    }

    fn vhost(&self, vhost: VhostId) -> &Vhost {
        &self.vhosts[vhost.index()]
    }

    fn queue_at(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(id.index, id.generation)
    }

    fn exchange_at(&self, id: ExchangeId) -> Option<&Exchange> {
        self.exchanges.get(id.index, id.generation)
    }

    fn exchange_at_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.exchanges.get_mut(id.index, id.generation)
    }
}

/// What is gone has no bindings, nor have most queues.
static NO_BINDINGS: BindingSet = BindingSet::with_hasher(Seeded::with_seed(0));

#[cfg(test)]
mod tests;
