//! The durable part of a topology, told by the records of the definition log: replayed from them at the
//! start, restored into a fresh [`Topology`], and taken from a live one when the log is compacted.
//!
//! ```text
//! log ──records──► Definitions ──restore──► Topology ──records()──► a new log
//! ```

mod import;

pub use import::{ImportContext, ImportError};

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
    /// Some of what was stored could not be read: something that isn't here need not be gone.
    pub is_incomplete: bool,
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::table::TableWriter;
    use crate::base::SessionId;
    use crate::model::arguments::Arguments;
    use crate::model::decide::{NameSource, Request, decide};
    use crate::model::definition::ExchangeKind;

    const SESSION: SessionId = SessionId {
        core: CoreId(0),
        index: 0,
        generation: 0,
    };

    const VHOSTS: [&str; 2] = ["/", "other"];
    const EXCHANGES: [&str; 6] = ["x0", "x1", "x2", "x3", "amq.topic", "amq.match"];
    const KINDS: [&str; 4] = ["direct", "fanout", "topic", "headers"];

    fn names() -> [Name; 2] {
        VHOSTS.map(Name::from)
    }

    fn arguments(table: TableWriter) -> Arguments {
        Arguments::parse(&table.into_bytes()).expect("written by us")
    }

    fn vhost() -> impl Strategy<Value = VhostId> {
        (0u16..2).prop_map(VhostId)
    }

    fn exchange() -> impl Strategy<Value = Name> {
        proptest::sample::select(&EXCHANGES[..]).prop_map(Name::from)
    }

    fn queue() -> impl Strategy<Value = Name> {
        (0u8..4).prop_map(|number| Name::from(format!("q{number}")))
    }

    fn declare_queue() -> impl Strategy<Value = Request> {
        let flags = (any::<bool>(), 0u8..4, any::<bool>());
        (vhost(), queue(), flags, 0u16..4).prop_map(|(vhost, name, flags, owner)| {
            let (auto_delete, sort, has_limit) = flags;
            let table = TableWriter::new();
            Request::DeclareQueue {
                vhost,
                name,
                durable: sort > 0,
                exclusive: sort == 1,
                auto_delete,
                arguments: arguments(match has_limit {
                    true => table.long("x-max-length", 10),
                    false => table,
                }),
                session: SESSION,
                owner: CoreId(owner),
            }
        })
    }

    fn declare_exchange() -> impl Strategy<Value = Request> {
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        let kind = proptest::sample::select(&KINDS[..]);
        let alternate = proptest::option::of(exchange());
        (vhost(), exchange(), kind, flags, alternate).prop_map(
            |(vhost, name, kind, flags, alternate)| {
                let (durable, auto_delete, internal) = flags;
                let table = TableWriter::new();
                Request::DeclareExchange {
                    vhost,
                    name,
                    kind: Name::from(kind),
                    durable,
                    auto_delete,
                    internal,
                    arguments: arguments(match alternate {
                        Some(name) => table.long_string("alternate-exchange", name.as_str()),
                        None => table,
                    }),
                }
            },
        )
    }

    fn delete_exchange() -> impl Strategy<Value = Request> {
        (vhost(), exchange()).prop_map(|(vhost, name)| Request::DeleteExchange {
            vhost,
            name,
            if_unused: false,
        })
    }

    fn bind_or_unbind() -> impl Strategy<Value = Request> {
        let key = proptest::sample::select(vec!["a", "a.*", "#"]).prop_map(Name::from);
        let detail = (key, 0i64..2, 0u8..6);
        (vhost(), exchange(), exchange(), queue(), detail).prop_map(
            |(vhost, source, destination, queue, (routing_key, number, what))| {
                let (exchange, session) = (source.clone(), SESSION);
                let arguments = arguments(TableWriter::new().long("number", number));
                match what {
                    0 => Request::UnbindQueue {
                        vhost,
                        queue,
                        exchange,
                        routing_key,
                        arguments,
                        session,
                    },
                    1 => Request::UnbindExchange {
                        vhost,
                        destination,
                        source,
                        routing_key,
                        arguments,
                    },
                    2 | 3 => Request::BindExchange {
                        vhost,
                        destination,
                        source,
                        routing_key,
                        arguments,
                    },
                    _ => Request::BindQueue {
                        vhost,
                        queue,
                        exchange,
                        routing_key,
                        arguments,
                        session,
                    },
                }
            },
        )
    }

    /// One step of a history. Names come from so few that they meet again and again.
    #[derive(Clone, Debug)]
    enum Step {
        Ask(Request),
        DeleteQueue(VhostId, Name),
        /// So many of the records of what there is are written once more.
        WriteAgain(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => declare_queue().prop_map(Step::Ask),
            4 => declare_exchange().prop_map(Step::Ask),
            1 => delete_exchange().prop_map(Step::Ask),
            8 => bind_or_unbind().prop_map(Step::Ask),
            2 => (vhost(), queue()).prop_map(|(vhost, name)| Step::DeleteQueue(vhost, name)),
            1 => (0usize..20).prop_map(Step::WriteAgain),
        ]
    }

    /// A catalog and its log.
    struct Catalog {
        topology: Topology,
        names: NameSource,
        log: Vec<Vec<u8>>,
        next_incarnation: u64,
    }

    impl Catalog {
        fn new() -> Self {
            Self {
                topology: Topology::new(&names(), 1),
                names: NameSource::new(1),
                log: Vec::new(),
                next_incarnation: 1,
            }
        }

        fn take(&mut self, step: &Step) {
            let request = match step {
                Step::WriteAgain(count) => {
                    let records: Vec<_> = records(&self.topology).take(*count).collect();
                    records.iter().for_each(|record| self.write(record));
                    return;
                }
                Step::Ask(request) => request.clone(),
                Step::DeleteQueue(vhost, name) => {
                    let Some(id) = self.topology.queue_by_name(*vhost, name.as_str()) else {
                        return;
                    };
                    let unless_touched_since = None;
                    Request::DeleteQueue {
                        id,
                        unless_touched_since,
                    }
                }
            };
            let Ok(decision) = decide(&self.topology, &request, &mut self.names) else {
                return;
            };
            for mut change in decision.changes {
                if let Change::CreateQueue { definition, .. } = &mut change
                    && definition.durable
                {
                    definition.incarnation = self.next_incarnation;
                    self.next_incarnation += 1;
                }
                if let Some(record) = DefinitionRecord::of(&change, &self.topology) {
                    self.write(&record);
                }
                self.topology.apply(&change);
            }
        }

        fn write(&mut self, record: &DefinitionRecord) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            self.log.push(bytes);
        }
    }

    fn replay(log: &[Vec<u8>]) -> Definitions {
        let mut definitions = Definitions::new(7);
        for bytes in log {
            definitions.apply(DefinitionRecord::decode(bytes).expect("written by us"));
        }
        definitions
    }

    /// In no order: ids aren't the same after a restart.
    fn durable_things(topology: &Topology) -> BTreeSet<Vec<u8>> {
        let encode = |record: DefinitionRecord| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            bytes
        };
        records(topology).map(encode).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn after_any_history_the_durable_part_comes_back_from_the_log(
            steps in proptest::collection::vec(step(), 1..80)
        ) {
            let mut catalog = Catalog::new();
            for step in &steps {
                catalog.take(step);
            }
            let definitions = replay(&catalog.log);
            prop_assert_eq!(definitions.next_incarnation(), catalog.next_incarnation);
            let vhosts: Vec<_> = definitions.vhosts().cloned().collect();
            let mut restored = Topology::new(&vhosts, 2);
            prop_assert_eq!(definitions.restore(&mut restored), Vec::<String>::new());
            prop_assert_eq!(durable_things(&restored), durable_things(&catalog.topology));
            for vhost in restored.vhosts() {
                for id in restored.exchanges(vhost) {
                    let exchange = restored.exchange(id).expect("named, so alive");
                    let name = restored.vhost_name(vhost).as_str();
                    let before = &catalog.topology;
                    let vhost = before.vhost_by_name(name).expect("it comes from there");
                    let id = before.exchange_by_name(vhost, exchange.name.as_str());
                    let alternate = id.and_then(|id| before.exchange(id)).map(|it| &it.alternate);
                    prop_assert_eq!(Some(&exchange.alternate), alternate);
                }
            }
            let incarnations: Vec<_> = records(&restored)
                .filter_map(|record| match record {
                    DefinitionRecord::Queue(queue) => Some(queue.incarnation),
                    _ => None,
                })
                .collect();
            prop_assert!(incarnations.is_sorted(), "ids are given in the order of creation");
        }
    }

    fn queue_in(vhost: &str, name: &str, incarnation: u64, owner: u16) -> DefinitionRecord {
        DefinitionRecord::Queue(DurableQueue {
            incarnation,
            vhost: Name::from(vhost),
            name: Name::from(name),
            auto_delete: false,
            owner: CoreId(owner),
            arguments: Arguments::default(),
        })
    }

    fn exchange_in(vhost: &str, name: &str, table: TableWriter) -> DefinitionRecord {
        DefinitionRecord::Exchange(DurableExchange {
            vhost: Name::from(vhost),
            name: Name::from(name),
            kind: ExchangeKind::Fanout,
            auto_delete: false,
            internal: false,
            arguments: arguments(table),
        })
    }

    fn binding_in(vhost: &str, source: &str, destination: DurableDestination) -> DefinitionRecord {
        DefinitionRecord::Binding(DurableBinding {
            vhost: Name::from(vhost),
            source: Name::from(source),
            destination,
            routing_key: Name::from("key"),
            arguments: Arguments::default(),
        })
    }

    fn of(records: impl IntoIterator<Item = DefinitionRecord>) -> Definitions {
        let mut definitions = Definitions::new(7);
        for record in records {
            definitions.apply(record);
        }
        definitions
    }

    #[test]
    fn the_numbers_of_queues_that_are_gone_are_not_given_again() {
        assert_eq!(of([]).next_incarnation(), 1);
        let (vhost, name) = (Name::from("/"), Name::from("q"));
        let gone = DefinitionRecord::QueueGone { vhost, name };
        let counter = DefinitionRecord::Counter {
            next_incarnation: 5,
        };
        let mut definitions = of([queue_in("/", "q", 7, 0), gone, counter]);
        assert_eq!(definitions.next_incarnation(), 8);
        assert_eq!(definitions.vhosts().count(), 0);
        definitions.apply(DefinitionRecord::Counter {
            next_incarnation: 100,
        });
        assert_eq!(definitions.next_incarnation(), 100);
    }

    #[test]
    fn queues_of_cores_that_are_not_there_any_more_move_to_others() {
        let mut definitions = of((0..6).map(|owner| {
            let name = format!("q{owner}");
            queue_in("/", &name, u64::from(owner) + 1, owner)
        }));
        assert!(definitions.rehome(6).is_empty());
        assert!(!definitions.rehome(4).is_empty());
        let owners: Vec<_> = definitions
            .queues
            .iter()
            .map(|queue| queue.owner.0)
            .collect();
        assert_eq!(owners, [0, 1, 2, 3, 0, 1]);
        assert!(definitions.rehome(4).is_empty());
    }

    #[test]
    fn what_lacks_something_is_left_out_and_named() {
        let to_queue = |name| DurableDestination::Queue(Name::from(name));
        let to_exchange = |name| DurableDestination::Exchange(Name::from(name));
        let definitions = of([
            queue_in("/", "q", 1, 0),
            queue_in("none", "q", 2, 0),
            exchange_in("/", "amq.topic", TableWriter::new()),
            exchange_in("/", "x", TableWriter::new().long("alternate-exchange", 1)),
            binding_in("/", "amq.fanout", to_queue("q")),
            binding_in("/", "amq.fanout", to_exchange("x")),
            binding_in("/", "x", to_queue("q")),
            binding_in("none", "amq.fanout", to_queue("q")),
        ]);
        let vhosts: Vec<_> = definitions.vhosts().map(Name::as_str).collect();
        assert_eq!(vhosts, ["/", "none"]);
        let mut topology = Topology::new(&names(), 1);
        assert_eq!(
            definitions.restore(&mut topology),
            [
                "queue 'q' in vhost 'none': there is no such vhost",
                "exchange 'amq.topic' in vhost '/': another has that name",
                "exchange 'x' in vhost '/': its alternate exchange is not a name",
                "binding 'key' from exchange 'x' to queue 'q' in vhost '/': its source is missing",
                "binding 'key' from exchange 'amq.fanout' to queue 'q' in vhost 'none': there is no such vhost",
                "binding 'key' from exchange 'amq.fanout' to exchange 'x' in vhost '/': its destination is missing",
            ]
        );
        assert_eq!(records(&topology).count(), 2);
    }

    #[test]
    fn a_hundred_thousand_queues_come_and_go() {
        let count = 100_000;
        let names: Vec<_> = (0..count).map(|number| format!("queue-{number}")).collect();
        let mut definitions = of([exchange_in("/", "x", TableWriter::new())]);
        for (name, incarnation) in names.iter().zip(1..) {
            definitions.apply(queue_in("/", name, incarnation, 0));
            let destination = DurableDestination::Queue(Name::from(name.as_str()));
            definitions.apply(binding_in("/", "x", destination));
        }
        let mut topology = Topology::new(&[Name::from("/")], 1);
        assert_eq!(definitions.restore(&mut topology), Vec::<String>::new());
        assert_eq!(records(&topology).count(), 2 * count + 1);
        for name in &names {
            let (vhost, name) = (Name::from("/"), Name::from(name.as_str()));
            definitions.apply(DefinitionRecord::QueueGone { vhost, name });
        }
        assert_eq!(definitions.bindings.all.iter().count(), 0);
        assert_eq!(definitions.bindings.by_end.len(), 0);
        assert_eq!(definitions.vhosts().count(), 1, "the exchange is there");
    }
}
