//! The topology against a naive model, over random histories.

mod choosing;
mod passing;
mod policies;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::amqp::properties::Properties;
use crate::amqp::table::TableWriter;
use crate::base::{CoreId, SessionId};
use crate::model::decide::{NameSource, Request, decide};
use crate::model::definition::Change;
use crate::model::exchange::RouteScratch;

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
                owner: CoreId(0),
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
        let predeclared = PREDECLARED.map(|(name, kind, _)| (name.to_owned(), (kind, false, None)));
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

    fn named((source, to_queue, to, key, table): End) -> (String, bool, String, &'static str, u8) {
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
        other => unreachable!("no step declares {}", other.name()),
    }
}

fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], key) => key.is_empty(),
        (["#", rest @ ..], key) => (0..=key.len()).any(|skip| topic_matches(rest, &key[skip..])),
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
                let routed = topology.route(id, key.as_bytes(), properties, scratch, &mut targets);
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
