//! Deduplicating exchanges: what leads anywhere goes by their cores first, once.

use super::choosing::{bind_queue, exchange};
use super::*;
use crate::amqp::properties;
use crate::amqp::table::{Array, Value};
use crate::model::exchange::own_queue;
use crate::model::topology::{Origin, Routed};

const KIND: ExchangeKind = ExchangeKind::Deduplicating;

fn bind_exchange(source: &str, destination: &str) -> Request {
    Request::BindExchange {
        vhost: VHOST,
        destination: Name::from(destination),
        source: Name::from(source),
        routing_key: Name::from("a"),
        arguments: Arguments::default(),
    }
}

/// `above` leads to `one`, that to `two` and queue 0, and `two` to queue 1 and back to `one`.
fn topology() -> Topology {
    let mut topology = Topology::new(&[Name::from("/")], 1);
    declare(
        &mut topology,
        &[Step::DeclareQueue(0), Step::DeclareQueue(1)],
    );
    let size = || TableWriter::new().long("x-cache-size", 10);
    for request in [
        exchange("above", ExchangeKind::Direct, TableWriter::new()),
        exchange("one", KIND, size()),
        exchange("two", KIND, size()),
        bind_exchange("above", "one"),
        bind_exchange("one", "two"),
        bind_exchange("two", "one"),
        bind_queue("one", 0, "whatever"),
        bind_queue("two", 1, "else"),
    ] {
        request_on(&mut topology, &request);
    }
    topology
}

fn request_on(topology: &mut Topology, request: &Request) {
    let decision = decide(topology, request, &mut NameSource::new(1)).expect("allowed");
    for change in &decision.changes {
        topology.apply(change);
    }
}

fn route(
    topology: &Topology,
    start: &str,
    origin: Origin,
    headers: &TableWriter,
) -> (Vec<String>, Routed) {
    let start = topology.exchange_by_name(VHOST, start).expect("declared");
    let none = Properties::from_validated(&[0, 0]);
    let properties = properties::with_headers(none, headers.as_table());
    let properties = Properties::from_validated(&properties);
    let (mut scratch, mut targets) = (RouteScratch::new(), Vec::new());
    let routed = topology.route_from(
        (start, origin),
        &[b"a"],
        properties,
        &mut scratch,
        &mut targets,
    );
    let name = |id: &QueueId| topology.queue(*id).expect("alive").name.to_string();
    let mut names: Vec<_> = targets.iter().map(name).collect();
    names.sort();
    (names, routed)
}

#[test]
fn what_a_client_publishes_goes_by_the_first_and_what_a_core_sends_only_if_it_is_known_again() {
    let topology = topology();
    let (plain, known) = (
        TableWriter::new(),
        TableWriter::new().long("x-deduplication-header", 1),
    );
    let array = Value::Array(Array::default());
    let list = TableWriter::new().field("x-deduplication-header", array);
    let targets = |start, origin, headers| route(&topology, start, origin, headers).0;
    for headers in [&plain, &known] {
        let (names, routed) = route(&topology, "above", Origin::Client, headers);
        assert_eq!(names, ["one\n"]);
        assert!(routed.is_cacheable && !routed.is_unroutable);
        assert_eq!(routed.open, 1);
    }
    assert_eq!(targets("one", Origin::Passed, &known), ["q0", "two\n"]);
    assert_eq!(targets("two", Origin::Passed, &known), ["one\n", "q1"]);
    assert_eq!(targets("two", Origin::Core, &known), ["two\n"]);
    for headers in [&plain, &list] {
        assert_eq!(targets("one", Origin::Passed, headers), ["q0", "q1"]);
        assert_eq!(targets("two", Origin::Core, headers), ["q0", "q1"]);
    }
}

#[test]
fn whether_a_message_goes_anywhere_is_open_only_if_nobody_else_gets_it() {
    let mut topology = topology();
    let known = TableWriter::new().long("x-deduplication-header", 1);
    let routed = |topology: &Topology, start| route(topology, start, Origin::Client, &known).1;
    request_on(&mut topology, &bind_queue("above", 1, "a"));
    assert_eq!(routed(&topology, "above").open, 0);
    assert_eq!(routed(&topology, "one").open, 1);
    request_on(
        &mut topology,
        &exchange("three", KIND, TableWriter::new().long("x-cache-size", 1)),
    );
    let to_nobody = routed(&topology, "three");
    assert!(to_nobody.is_unroutable && to_nobody.open == 0);
}

#[test]
fn what_leads_back_is_told_from_what_doesnt() {
    let topology = topology();
    let leads_back = ["above", "one", "two"].map(|name| {
        let id = topology.exchange_by_name(VHOST, name).expect("declared");
        topology.leads_back(id)
    });
    assert_eq!(leads_back, [false, true, true]);
    let own = own_queue::name(&Name::from("one"));
    assert!(topology.queue_by_name(VHOST, own.as_str()).is_some());
}
