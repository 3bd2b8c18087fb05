//! Definitions against what they were made of, and what they are restored into.

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
                owner: CoreId(0),
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
