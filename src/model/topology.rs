//! All vhosts, exchanges, queues and bindings, of which every core holds a full copy: looked up by
//! name and by id, changed only by [`Topology::apply`], and walked by [`Topology::route`].

mod administration;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::amqp::properties::Properties;
use crate::base::limits::EXCHANGE_HOPS_MAX;
use crate::base::{ExchangeId, Name, QueueId, VhostId};
use crate::model::access::Access;
use crate::model::administration::Administration;
use crate::model::arguments::Arguments;
use crate::model::definition::{
    Binding, Change, Destination, ExchangeDefinition, ExchangeKind, QueueDefinition,
};
use crate::model::exchange::scratch::Collector;
use crate::model::exchange::{Bindings, RouteScratch};
use crate::model::{NameKey, NameMap, Seeded};

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
    hashing: Seeded,
}

#[derive(Debug)]
struct Vhost {
    name: Name,
    queues: NameMap<QueueId>,
    exchanges: NameMap<ExchangeId>,
    /// By the name of an exchange, those that have it as their alternate, whether it exists or not.
    alternate_of: NameMap<Vec<ExchangeId>>,
}

#[derive(Debug)]
struct Queue {
    definition: QueueDefinition,
    touches: u64,
    incoming: BindingSet,
}

#[derive(Debug)]
struct Exchange {
    definition: ExchangeDefinition,
    /// `None` for the default exchange: the vhost's table of queues says where it leads.
    bindings: Option<Bindings>,
    outgoing: BindingSet,
    incoming: BindingSet,
    /// How many of the outgoing bindings lead to exchanges.
    outgoing_to_exchanges: usize,
    revision: u64,
}

type BindingSet = HashSet<Binding, Seeded>;

/// What is worth knowing of one routing besides its targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Routed {
    /// Whether every message with this routing key goes the same ways, until the exchange's revision
    /// changes: no headers exchange was asked.
    pub is_cacheable: bool,
}

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
            hashing: hashing.clone(),
        };
        for (name, vhost) in vhost_names.iter().zip((0..).map(VhostId)) {
            topology.vhosts.push(Vhost {
                name: name.clone(),
                queues: HashMap::with_hasher(hashing.clone()),
                exchanges: HashMap::with_hasher(hashing.clone()),
                alternate_of: HashMap::with_hasher(hashing.clone()),
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

    /// Appends the queues that a message published to the exchange goes to, each at most once and none
    /// that is among the targets already. A dead exchange leads nowhere.
    pub fn route(
        &self,
        exchange: ExchangeId,
        routing_key: &[u8],
        properties: Properties<'_>,
        scratch: &mut RouteScratch,
        targets: &mut Vec<QueueId>,
    ) -> Routed {
        self.route_keys(exchange, &[routing_key], properties, scratch, targets)
    }

    /// As [`Topology::route`], for a message with several routing keys (headers CC and BCC).
    pub fn route_keys(
        &self,
        exchange: ExchangeId,
        routing_keys: &[&[u8]],
        properties: Properties<'_>,
        scratch: &mut RouteScratch,
        targets: &mut Vec<QueueId>,
    ) -> Routed {
        let mut routed = Routed { is_cacheable: true };
        if let Some(start) = self.exchange_at(exchange)
            && start.bindings.is_none()
        {
            for id in self.named_queues(start, routing_keys) {
                if !targets.contains(&id) {
                    targets.push(id);
                }
            }
            return routed;
        }
        scratch.begin(targets);
        let RouteScratch {
            seen,
            topic,
            headers,
        } = scratch;
        let mut collector = Collector {
            seen,
            targets,
            has_found: false,
        };
        collector.visit(exchange);
        for _ in 0..EXCHANGE_HOPS_MAX {
            let Some(id) = collector.seen.pending.pop() else {
                break;
            };
            let Some(exchange) = self.exchange_at(id) else {
                continue;
            };
            collector.has_found = false;
            match &exchange.bindings {
                Some(bindings) => {
                    routed.is_cacheable &= exchange.definition.kind != ExchangeKind::Headers;
                    for key in routing_keys {
                        bindings.route(key, properties, topic, headers, &mut collector);
                    }
                }
                None => {
                    for id in self.named_queues(exchange, routing_keys) {
                        collector.add(Destination::Queue(id));
                    }
                }
            }
            if !collector.has_found
                && let Some(alternate) = self.alternate(exchange)
            {
                collector.visit(alternate);
            }
        }
        routed
    }

    fn named_queues(
        &self,
        default_exchange: &Exchange,
        keys: &[&[u8]],
    ) -> impl Iterator<Item = QueueId> {
        let queues = &self.vhost(default_exchange.definition.vhost).queues;
        keys.iter().filter_map(|key| queues.get(*key).copied())
    }

    fn alternate(&self, exchange: &Exchange) -> Option<ExchangeId> {
        let name = exchange.definition.alternate.as_ref()?;
        self.exchange_by_name(exchange.definition.vhost, name.as_str())
    }

    /// A number that changes whenever messages published to this exchange may go other ways than
    /// before. With the exchange's id it is unique for the life of the process. 0 for a dead exchange.
    pub fn revision(&self, exchange: ExchangeId) -> u64 {
        self.exchange_at(exchange)
            .map_or(0, |exchange| exchange.revision)
    }

    /// Whether a headers exchange can be reached from this one, so that where a message goes may depend
    /// on more than its routing key.
    pub fn depends_on_headers(&self, exchange: ExchangeId) -> bool {
        let mut reached = vec![exchange];
        let mut at = 0;
        while let Some(exchange) = reached.get(at).and_then(|id| self.exchange_at(*id)) {
            if exchange.definition.kind == ExchangeKind::Headers {
                return true;
            }
            let mut next: Vec<_> = self.alternate(exchange).into_iter().collect();
            if exchange.outgoing_to_exchanges > 0 {
                next.extend(
                    exchange
                        .outgoing
                        .iter()
                        .filter_map(|binding| binding.to_exchange()),
                );
            }
            for id in next {
                if !reached.contains(&id) {
                    reached.push(id);
                }
            }
            at += 1;
        }
        false
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

    /// Ids of all exchanges of a vhost, in no order that means anything.
    pub fn exchanges(&self, vhost: VhostId) -> impl Iterator<Item = ExchangeId> {
        self.vhost(vhost).exchanges.values().copied()
    }

    /// The bindings that lead to a queue, without the implied one of the default exchange.
    pub fn bindings_of_queue(&self, id: QueueId) -> impl ExactSizeIterator<Item = &Binding> {
        self.queue_at(id)
            .map_or(&NO_BINDINGS, |queue| &queue.incoming)
            .iter()
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
        self.exchange_at(id)
            .map_or(&NO_BINDINGS, |exchange| &exchange.incoming)
            .iter()
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

/// What is gone has no bindings.
static NO_BINDINGS: BindingSet = BindingSet::with_hasher(Seeded::with_seed(0));

/// Changing.
impl Topology {
    /// Takes one step. The same steps in the same order give every core the same topology; a step that
    /// doesn't fit (its subject is gone, or was there before) changes nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::CreateQueue { id, definition } => self.create_queue(*id, definition),
            Change::TouchQueue { id } => {
                if let Some(queue) = self.queues.get_mut(id.index, id.generation) {
                    queue.touches += 1;
                }
            }
            Change::DeleteQueue { id } => self.delete_queue(*id),
            Change::CreateExchange { id, definition } => self.create_exchange(*id, definition),
            Change::DeleteExchange { id } => self.delete_exchange(*id),
            Change::Bind(binding) => self.bind(binding),
            Change::Unbind(binding) => self.unbind(binding),
        }
    }

    fn create_queue(&mut self, id: QueueId, definition: &QueueDefinition) {
        let queue = Queue {
            definition: definition.clone(),
            touches: 0,
            incoming: BindingSet::with_hasher(self.hashing.clone()),
        };
        if self.queues.insert(id.index, id.generation, queue) {
            let vhost = &mut self.vhosts[definition.vhost.index()];
            vhost.queues.insert(NameKey(definition.name.clone()), id);
            let default_exchange = self.exchange_by_name(definition.vhost, DEFAULT_EXCHANGE);
            self.revise(default_exchange.into_iter().collect());
        }
    }

    fn delete_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(id.index, id.generation) else {
            return;
        };
        let QueueDefinition { vhost, name, .. } = queue.definition;
        self.vhosts[vhost.index()].queues.remove(name.as_bytes());
        for binding in &queue.incoming {
            self.detach_from_source(binding);
        }
        let mut changed: Vec<_> = queue
            .incoming
            .iter()
            .map(|binding| binding.source)
            .collect();
        changed.extend(self.exchange_by_name(vhost, DEFAULT_EXCHANGE));
        self.revise(changed);
    }

    fn create_exchange(&mut self, id: ExchangeId, definition: &ExchangeDefinition) {
        let is_default = definition.name.as_str() == DEFAULT_EXCHANGE;
        let exchange = Exchange {
            definition: definition.clone(),
            bindings: (!is_default).then(|| Bindings::new(definition.kind, &self.hashing)),
            outgoing: BindingSet::with_hasher(self.hashing.clone()),
            incoming: BindingSet::with_hasher(self.hashing.clone()),
            outgoing_to_exchanges: 0,
            revision: 0,
        };
        if self.exchanges.insert(id.index, id.generation, exchange) {
            let vhost = &mut self.vhosts[definition.vhost.index()];
            vhost.exchanges.insert(NameKey(definition.name.clone()), id);
            if let Some(alternate) = &definition.alternate {
                let users = vhost.alternate_of.entry(NameKey(alternate.clone()));
                users.or_default().push(id);
            }
            self.revise(vec![id]);
        }
    }

    fn delete_exchange(&mut self, id: ExchangeId) {
        // First, while its name and its bindings still tell who leads to it.
        self.revise(vec![id]);
        let Some(exchange) = self.exchanges.remove(id.index, id.generation) else {
            return;
        };
        let definition = &exchange.definition;
        let vhost = &mut self.vhosts[definition.vhost.index()];
        vhost.exchanges.remove(definition.name.as_bytes());
        if let Some(alternate) = &definition.alternate
            && let Some(users) = vhost.alternate_of.get_mut(alternate.as_bytes())
        {
            users.retain(|user| *user != id);
            if users.is_empty() {
                vhost.alternate_of.remove(alternate.as_bytes());
            }
        }
        for binding in &exchange.outgoing {
            self.detach_from_destination(binding);
        }
        for binding in &exchange.incoming {
            self.detach_from_source(binding);
        }
    }

    fn bind(&mut self, binding: &Binding) {
        let incoming = match binding.destination {
            Destination::Queue(id) => self
                .queues
                .get_mut(id.index, id.generation)
                .map(|queue| &mut queue.incoming),
            Destination::Exchange(id) => self
                .exchange_at_mut(id)
                .map(|exchange| &mut exchange.incoming),
        };
        let Some(incoming) = incoming else {
            return;
        };
        let is_new = incoming.insert(binding.clone());
        let Some(source) = self.exchange_at_mut(binding.source) else {
            self.detach_from_destination(binding);
            return;
        };
        if !is_new {
            return;
        }
        if let Some(bindings) = &mut source.bindings {
            bindings.add(
                &binding.routing_key,
                &binding.arguments,
                binding.destination,
            );
        }
        source.outgoing_to_exchanges += usize::from(binding.to_exchange().is_some());
        source.outgoing.insert(binding.clone());
        self.revise(vec![binding.source]);
    }

    fn unbind(&mut self, binding: &Binding) {
        if self.has_binding(binding) {
            self.detach_from_source(binding);
            self.detach_from_destination(binding);
            self.revise(vec![binding.source]);
        }
    }

    fn detach_from_source(&mut self, binding: &Binding) {
        if let Some(source) = self.exchange_at_mut(binding.source)
            && source.outgoing.remove(binding)
        {
            source.outgoing_to_exchanges -= usize::from(binding.to_exchange().is_some());
            if let Some(bindings) = &mut source.bindings {
                bindings.remove(
                    &binding.routing_key,
                    &binding.arguments,
                    binding.destination,
                );
            }
        }
    }

    fn detach_from_destination(&mut self, binding: &Binding) {
        match binding.destination {
            Destination::Queue(id) => {
                if let Some(queue) = self.queues.get_mut(id.index, id.generation) {
                    queue.incoming.remove(binding);
                }
            }
            Destination::Exchange(id) => {
                if let Some(exchange) = self.exchange_at_mut(id) {
                    exchange.incoming.remove(binding);
                }
            }
        }
    }

    /// Gives a new revision to these exchanges and to all from which one of them can be reached, by
    /// bindings or as an alternate.
    fn revise(&mut self, mut changed: Vec<ExchangeId>) {
        self.last_revision += 1;
        let revision = self.last_revision;
        while let Some(id) = changed.pop() {
            let Some(exchange) = self.exchange_at_mut(id) else {
                continue;
            };
            if std::mem::replace(&mut exchange.revision, revision) == revision {
                continue;
            }
            changed.extend(exchange.incoming.iter().map(|binding| binding.source));
            let (vhost, name) = (exchange.definition.vhost, exchange.definition.name.clone());
            let users = self.vhost(vhost).alternate_of.get(name.as_bytes());
            changed.extend(users.into_iter().flatten());
        }
    }
}

/// Tenants by index and generation. A vacated place is let again, the lowest first, with the next
/// generation, so every core that has applied the same changes would pick the same.
#[derive(Debug)]
struct Slots<T> {
    places: Vec<Place<T>>,
    vacant: BTreeSet<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// Of the tenant, or of the next one.
    generation: u32,
    tenant: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            vacant: BTreeSet::new(),
        }
    }
}

impl<T> Slots<T> {
    fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let place = self.places.get(index as usize)?;
        place
            .tenant
            .as_ref()
            .filter(|_| place.generation == generation)
    }

    fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let place = self.places.get_mut(index as usize)?;
        place
            .tenant
            .as_mut()
            .filter(|_| place.generation == generation)
    }

    /// Index and generation for the next tenant.
    fn vacant(&self) -> (u32, u32) {
        match self.vacant.first() {
            Some(index) => (*index, self.places[*index as usize].generation),
            None => (self.places.len() as u32, 0),
        }
    }

    /// Whether the place was free, and is the tenant's now.
    fn insert(&mut self, index: u32, generation: u32, tenant: T) -> bool {
        while self.places.len() <= index as usize {
            self.vacant.insert(self.places.len() as u32);
            self.places.push(Place {
                generation: 0,
                tenant: None,
            });
        }
        if !self.vacant.remove(&index) {
            return false;
        }
        self.places[index as usize] = Place {
            generation,
            tenant: Some(tenant),
        };
        true
    }

    fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        self.get(index, generation)?;
        let place = &mut self.places[index as usize];
        place.generation = generation.wrapping_add(1);
        self.vacant.insert(index);
        place.tenant.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::amqp::table::TableWriter;
    use crate::base::{CoreId, SessionId};
    use crate::model::decide::{NameSource, Request, decide};

    const VHOST: VhostId = VhostId(0);
    const SESSION: SessionId = SessionId {
        core: CoreId(0),
        index: 0,
        generation: 0,
    };

    /// One step of a history. Names come from so few that they meet again and again.
    #[derive(Clone, Debug)]
    enum Step {
        DeclareQueue(u8),
        DeleteQueue(u8),
        DeclareExchange(u8, ExchangeKind, bool, Option<u8>),
        DeleteExchange(u8),
        Bind(End),
        Unbind(End),
    }

    type End = (u8, bool, u8, &'static str, u8);

    fn exchange_name(number: u8) -> String {
        ["x0", "x1", "x2", "x3", "x4", "amq.topic", "amq.match", ""][usize::from(number)].to_owned()
    }

    fn queue_name(number: u8) -> String {
        format!("q{number}")
    }

    fn table(number: u8) -> TableWriter {
        let one = TableWriter::new();
        match number {
            0 => one,
            1 => one.long("h", 1),
            _ => one.long_string("x-match", "any").long("h", 1).long("g", 1),
        }
    }

    fn arguments(table: TableWriter) -> Arguments {
        Arguments::parse(&table.into_bytes()).expect("written by us")
    }

    fn step() -> impl Strategy<Value = Step> {
        let kind = prop_oneof![
            Just(ExchangeKind::Direct),
            Just(ExchangeKind::Fanout),
            Just(ExchangeKind::Topic),
            Just(ExchangeKind::Headers),
        ];
        let end = || {
            let keys = vec!["q0", "a", "a.*", "#", "a.#.b", ""];
            (
                0u8..7,
                any::<bool>(),
                0u8..4,
                proptest::sample::select(keys),
                0u8..3,
            )
        };
        prop_oneof![
            2 => (0u8..4).prop_map(Step::DeclareQueue),
            1 => (0u8..4).prop_map(Step::DeleteQueue),
            3 => (0u8..5, kind, any::<bool>(), proptest::option::of(0u8..8))
                .prop_map(|(name, kind, auto_delete, alternate)| {
                    Step::DeclareExchange(name, kind, auto_delete, alternate)
                }),
            1 => (0u8..5).prop_map(Step::DeleteExchange),
            6 => end().prop_map(Step::Bind),
            2 => end().prop_map(Step::Unbind),
        ]
    }

    fn request(step: &Step, topology: &Topology) -> Option<Request> {
        let name = |text: String| Name::from(text);
        Some(match step {
            Step::DeclareQueue(number) => Request::DeclareQueue {
                vhost: VHOST,
                name: name(queue_name(*number)),
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: Arguments::default(),
                session: SESSION,
                owner: CoreId(0),
            },
            Step::DeleteQueue(number) => Request::DeleteQueue {
                id: topology.queue_by_name(VHOST, queue_name(*number))?,
                unless_touched_since: None,
            },
            Step::DeclareExchange(number, kind, auto_delete, alternate) => {
                let table = match alternate {
                    None => TableWriter::new(),
                    Some(other) => {
                        TableWriter::new().long_string("alternate-exchange", &exchange_name(*other))
                    }
                };
                Request::DeclareExchange {
                    vhost: VHOST,
                    name: name(exchange_name(*number)),
                    kind: Name::from(kind.name()),
                    durable: false,
                    auto_delete: *auto_delete,
                    internal: false,
                    arguments: arguments(table),
                }
            }
            Step::DeleteExchange(number) => Request::DeleteExchange {
                vhost: VHOST,
                name: name(exchange_name(*number)),
                if_unused: false,
            },
            Step::Bind(end) => {
                let &(source, to_queue, to, key, table_number) = end;
                let (vhost, arguments) = (VHOST, arguments(table(table_number)));
                let (source, routing_key) = (name(exchange_name(source)), Name::from(key));
                if to_queue {
                    let (queue, exchange, session) = (name(queue_name(to)), source, SESSION);
                    Request::BindQueue {
                        vhost,
                        queue,
                        exchange,
                        routing_key,
                        arguments,
                        session,
                    }
                } else {
                    let destination = name(exchange_name(to));
                    Request::BindExchange {
                        vhost,
                        destination,
                        source,
                        routing_key,
                        arguments,
                    }
                }
            }
            Step::Unbind(end) => {
                let &(source, to_queue, to, key, table_number) = end;
                let (vhost, arguments) = (VHOST, arguments(table(table_number)));
                let (source, routing_key) = (name(exchange_name(source)), Name::from(key));
                if to_queue {
                    let (queue, exchange, session) = (name(queue_name(to)), source, SESSION);
                    Request::UnbindQueue {
                        vhost,
                        queue,
                        exchange,
                        routing_key,
                        arguments,
                        session,
                    }
                } else {
                    let destination = name(exchange_name(to));
                    Request::UnbindExchange {
                        vhost,
                        destination,
                        source,
                        routing_key,
                        arguments,
                    }
                }
            }
        })
    }

    /// What there is, by name, and looked through from end to end for every message.
    #[derive(Default)]
    struct Model {
        queues: BTreeSet<String>,
        exchanges: BTreeMap<String, (ExchangeKind, bool, Option<String>)>,
        bindings: BTreeSet<(String, bool, String, &'static str, u8)>,
    }

    impl Model {
        fn new() -> Self {
            let predeclared =
                PREDECLARED.map(|(name, kind, _)| (name.to_owned(), (kind, false, None)));
            Self {
                exchanges: BTreeMap::from(predeclared),
                ..Self::default()
            }
        }

        fn take(&mut self, step: &Step) {
            match step {
                Step::DeclareQueue(number) => {
                    self.queues.insert(queue_name(*number));
                }
                Step::DeleteQueue(number) => {
                    self.queues.remove(&queue_name(*number));
                    self.unbind(|(_, to_queue, to, ..)| *to_queue && *to == queue_name(*number));
                }
                Step::DeclareExchange(number, kind, auto_delete, alternate) => {
                    let alternate = alternate.map(exchange_name);
                    let exchange = (*kind, *auto_delete, alternate);
                    self.exchanges
                        .entry(exchange_name(*number))
                        .or_insert(exchange);
                }
                Step::DeleteExchange(number) => self.delete_exchange(&exchange_name(*number)),
                Step::Bind(end) => {
                    let end = Self::named(*end);
                    let has_end = match end.1 {
                        true => self.queues.contains(&end.2),
                        false => self.exchanges.contains_key(&end.2),
                    };
                    if has_end && self.exchanges.contains_key(&end.0) {
                        self.bindings.insert(end);
                    }
                }
                Step::Unbind(end) => {
                    let end = Self::named(*end);
                    self.unbind(|binding| *binding == end);
                }
            }
        }

        fn named(
            (source, to_queue, to, key, table): End,
        ) -> (String, bool, String, &'static str, u8) {
            let to = if to_queue {
                queue_name(to)
            } else {
                exchange_name(to)
            };
            (exchange_name(source), to_queue, to, key, table)
        }

        fn delete_exchange(&mut self, name: &str) {
            self.exchanges.remove(name);
            self.bindings.retain(|(source, ..)| source != name);
            self.unbind(|(_, to_queue, to, ..)| !*to_queue && to == name);
        }

        fn unbind(&mut self, goes: impl Fn(&(String, bool, String, &'static str, u8)) -> bool) {
            let gone: Vec<_> = self
                .bindings
                .iter()
                .filter(|binding| goes(binding))
                .cloned()
                .collect();
            self.bindings.retain(|binding| !goes(binding));
            for (source, ..) in gone {
                let is_auto_delete = self
                    .exchanges
                    .get(&source)
                    .is_some_and(|exchange| exchange.1);
                if is_auto_delete && !self.bindings.iter().any(|binding| binding.0 == source) {
                    self.delete_exchange(&source);
                }
            }
        }

        fn route(&self, exchange: &str, key: &str, headers: u8) -> BTreeSet<String> {
            let mut queues = BTreeSet::new();
            self.visit(exchange, key, headers, &mut BTreeSet::new(), &mut queues);
            queues
        }

        fn visit(
            &self,
            name: &str,
            key: &str,
            headers: u8,
            visited: &mut BTreeSet<String>,
            queues: &mut BTreeSet<String>,
        ) {
            let Some((kind, _, alternate)) = self.exchanges.get(name) else {
                return;
            };
            if !visited.insert(name.to_owned()) {
                return;
            }
            if name.is_empty() {
                queues.extend(self.queues.get(key).cloned());
                return;
            }
            let matching: Vec<_> = self
                .bindings
                .iter()
                .filter(|(source, _, _, pattern, table)| {
                    source == name && matches(*kind, pattern, key, *table, headers)
                })
                .collect();
            for (_, to_queue, to, ..) in &matching {
                if *to_queue {
                    queues.insert(to.clone());
                } else {
                    self.visit(to, key, headers, visited, queues);
                }
            }
            if let (true, Some(alternate)) = (matching.is_empty(), alternate) {
                self.visit(alternate, key, headers, visited, queues);
            }
        }
    }

    fn matches(kind: ExchangeKind, pattern: &str, key: &str, table: u8, headers: u8) -> bool {
        match kind {
            ExchangeKind::Direct => pattern == key,
            ExchangeKind::Fanout => true,
            ExchangeKind::Topic => {
                let words =
                    |text: &'static str| text.split('.').filter(|word| !word.is_empty()).collect();
                let pattern: Vec<_> = pattern.split('.').filter(|word| !word.is_empty()).collect();
                let key: Vec<&str> = KEYS
                    .iter()
                    .find(|known| **known == key)
                    .map_or(vec![], |key| words(key));
                topic_matches(&pattern, &key)
            }
            // Message 0 has no headers, 1 has h, 2 has g. Table 1 wants h, table 2 one of the two.
            ExchangeKind::Headers => {
                table == 0 || (table == 1 && headers == 1) || (table == 2 && headers > 0)
            }
        }
    }

    fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], key) => key.is_empty(),
            (["#", rest @ ..], key) => {
                (0..=key.len()).any(|skip| topic_matches(rest, &key[skip..]))
            }
            ([word, rest @ ..], [first, others @ ..]) => {
                (*word == "*" || word == first) && topic_matches(rest, others)
            }
            _ => false,
        }
    }

    const KEYS: [&str; 6] = ["q0", "q3", "a", "a.x", "a.x.b", ""];

    fn properties(headers: u8) -> Vec<u8> {
        let table = match headers {
            0 => return vec![0, 0],
            1 => TableWriter::new().signed_int("h", 1),
            _ => TableWriter::new().signed_int("g", 1),
        };
        let table = table.into_bytes();
        [&[0x20, 0][..], &(table.len() as u32).to_be_bytes(), &table].concat()
    }

    type Routes = BTreeMap<(String, usize, u8), (BTreeSet<String>, u64, Routed)>;

    /// Where messages go from everywhere, with every key and all sorts of headers.
    fn routes(topology: &Topology, scratch: &mut RouteScratch) -> Routes {
        let mut routes = Routes::new();
        for id in topology.exchanges(VHOST) {
            let name = topology
                .exchange(id)
                .expect("named, so alive")
                .name
                .to_string();
            for (at, key) in KEYS.iter().enumerate() {
                for headers in 0..3 {
                    let bytes = properties(headers);
                    let properties = Properties::from_validated(&bytes);
                    let mut targets = Vec::new();
                    let routed =
                        topology.route(id, key.as_bytes(), properties, scratch, &mut targets);
                    assert!(routed.is_cacheable || topology.depends_on_headers(id));
                    let queues: BTreeSet<_> = targets
                        .iter()
                        .map(|id| {
                            topology
                                .queue(*id)
                                .expect("routed to the living")
                                .name
                                .to_string()
                        })
                        .collect();
                    assert_eq!(queues.len(), targets.len(), "each queue at most once");
                    routes.insert(
                        (name.clone(), at, headers),
                        (queues, topology.revision(id), routed),
                    );
                }
            }
        }
        routes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_history_gives_every_core_the_routes_of_the_naive_model(
            steps in proptest::collection::vec(step(), 1..60)
        ) {
            let vhosts = [Name::from("/"), Name::from("other")];
            let mut catalog = Topology::new(&vhosts, 1);
            let mut replica = Topology::new(&vhosts, 2);
            let (mut names, mut scratch) = (NameSource::new(1), RouteScratch::new());
            let mut model = Model::new();
            let mut before = routes(&catalog, &mut scratch);
            for step in &steps {
                let Some(request) = request(step, &catalog) else {
                    continue;
                };
                if let Ok(decision) = decide(&catalog, &request, &mut names) {
                    for change in &decision.changes {
                        catalog.apply(change);
                        replica.apply(change);
                    }
                    model.take(step);
                }
                let after = routes(&catalog, &mut scratch);
                prop_assert_eq!(&after, &routes(&replica, &mut scratch));
                prop_assert_eq!(catalog.vacant_queue_id(), replica.vacant_queue_id());
                prop_assert_eq!(catalog.vacant_exchange_id(), replica.vacant_exchange_id());
                let names: BTreeSet<_> = after.keys().map(|(name, ..)| name).collect();
                prop_assert_eq!(names, model.exchanges.keys().collect::<BTreeSet<_>>());
                for ((exchange, key, headers), (queues, revision, routed)) in &after {
                    prop_assert_eq!(queues, &model.route(exchange, KEYS[*key], *headers));
                    if let Some((old, old_revision, _)) = before.get(&(exchange.clone(), *key, *headers)) {
                        let may_cache = routed.is_cacheable && old_revision == revision;
                        prop_assert!(!may_cache || old == queues, "a cache would be wrong");
                    }
                    if routed.is_cacheable {
                        let other = &after[&(exchange.clone(), *key, 0)].0;
                        prop_assert_eq!(queues, other, "headers would matter");
                    }
                }
                before = after;
            }
        }
    }

    fn declare(topology: &mut Topology, steps: &[Step]) {
        let mut names = NameSource::new(1);
        for step in steps {
            let request = request(step, topology).expect("the history fits");
            for change in decide(topology, &request, &mut names)
                .expect("granted")
                .changes
            {
                topology.apply(&change);
            }
        }
    }

    #[test]
    fn vhosts_are_separate_worlds_with_the_predeclared_exchanges() {
        let mut topology = Topology::new(&[Name::from("/"), Name::from("other")], 1);
        declare(&mut topology, &[Step::DeclareQueue(0)]);
        let other = topology.vhost_by_name("other").expect("configured");
        assert_eq!(topology.vhost_name(other).as_str(), "other");
        assert_eq!(topology.vhost_by_name("none"), None);
        assert!(topology.queue_by_name(VHOST, "q0").is_some());
        assert_eq!(topology.queue_by_name(other, "q0"), None);
        for (name, kind, internal) in PREDECLARED {
            let id = topology.exchange_by_name(other, name).expect("predeclared");
            let exchange = topology.exchange(id).expect("alive");
            assert_eq!((exchange.kind, exchange.internal), (kind, internal));
            assert_eq!(exchange.vhost, other);
        }
    }

    #[test]
    fn targets_that_are_there_are_not_added_again_and_several_keys_are_one_message() {
        let mut topology = Topology::new(&[Name::from("/")], 1);
        let fan = ExchangeKind::Direct;
        declare(
            &mut topology,
            &[
                Step::DeclareQueue(0),
                Step::DeclareQueue(1),
                Step::DeclareExchange(0, fan, false, Some(7)),
                Step::Bind((0, true, 0, "a", 0)),
            ],
        );
        let exchange = topology.exchange_by_name(VHOST, "x0").expect("declared");
        let queue = |name| topology.queue_by_name(VHOST, name).expect("declared");
        let properties = Properties::from_validated(&[0, 0]);
        let (mut scratch, mut targets) = (RouteScratch::new(), vec![queue("q0")]);
        topology.route(exchange, b"a", properties, &mut scratch, &mut targets);
        assert_eq!(targets, [queue("q0")]);
        targets.clear();
        topology.route_keys(
            exchange,
            &[b"q1", b"a"],
            properties,
            &mut scratch,
            &mut targets,
        );
        assert_eq!(
            targets,
            [queue("q0")],
            "one key matched, so the alternate isn't asked"
        );
        targets.clear();
        topology.route_keys(
            exchange,
            &[b"q1", b"q0"],
            properties,
            &mut scratch,
            &mut targets,
        );
        assert_eq!(
            targets,
            [queue("q1"), queue("q0")],
            "the alternate is the default exchange"
        );
    }

    #[test]
    fn the_dead_have_no_definition_no_bindings_and_no_routes() {
        let mut topology = Topology::new(&[Name::from("/")], 1);
        declare(
            &mut topology,
            &[
                Step::DeclareQueue(0),
                Step::DeclareExchange(0, ExchangeKind::Fanout, false, None),
                Step::Bind((0, true, 0, "a", 0)),
            ],
        );
        let exchange = topology.exchange_by_name(VHOST, "x0").expect("declared");
        let queue = topology.queue_by_name(VHOST, "q0").expect("declared");
        let binding = topology
            .bindings_of_queue(queue)
            .next()
            .expect("bound")
            .clone();
        assert_eq!(
            topology
                .bindings_from_exchange(exchange)
                .collect::<Vec<_>>(),
            [&binding]
        );
        declare(&mut topology, &[Step::DeleteExchange(0)]);
        assert_eq!(topology.bindings_of_queue(queue).len(), 0);
        assert_eq!(
            (topology.exchange(exchange), topology.revision(exchange)),
            (None, 0)
        );
        topology.apply(&Change::Bind(binding));
        assert_eq!(topology.bindings_of_queue(queue).len(), 0);
        declare(
            &mut topology,
            &[Step::DeclareExchange(0, ExchangeKind::Fanout, false, None)],
        );
        let next = topology.exchange_by_name(VHOST, "x0").expect("declared");
        assert_eq!(
            (next.index, next.generation),
            (exchange.index, exchange.generation + 1)
        );
        let mut targets = Vec::new();
        let properties = Properties::from_validated(&[0, 0]);
        topology.route(
            exchange,
            b"a",
            properties,
            &mut RouteScratch::new(),
            &mut targets,
        );
        assert_eq!(targets, []);
    }
}
