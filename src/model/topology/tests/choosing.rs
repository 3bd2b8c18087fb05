//! Exchanges that choose one of their bindings, by a hash or by chance.

use super::*;

/// Has two cores with different seeds apply what the catalog decides.
fn declare_on_both(topologies: &mut [Topology; 2], requests: Vec<Request>) {
    let mut names = NameSource::new(1);
    for request in requests {
        let decision = decide(&topologies[0], &request, &mut names).expect("allowed");
        for topology in topologies.iter_mut() {
            for change in &decision.changes {
                topology.apply(change);
            }
        }
    }
}

pub(super) fn exchange(name: &str, kind: ExchangeKind, table: TableWriter) -> Request {
    Request::DeclareExchange {
        vhost: VHOST,
        name: Name::from(name),
        kind: Name::from(kind.name()),
        durable: false,
        auto_delete: false,
        internal: false,
        owner: CoreId(0),
        arguments: arguments(table),
    }
}

pub(super) fn bind_queue(source: &str, queue: u8, key: &str) -> Request {
    Request::BindQueue {
        vhost: VHOST,
        queue: Name::from(queue_name(queue)),
        exchange: Name::from(source),
        routing_key: Name::from(key),
        arguments: Arguments::default(),
        session: SESSION,
    }
}

#[test]
fn a_hash_chooses_the_same_one_on_every_core_and_what_depends_on_more_than_keys_is_not_cached() {
    let on_header = TableWriter::new().long_string("hash-header", "h");
    let kinds = [
        (
            "keyed",
            ExchangeKind::ConsistentHash,
            TableWriter::new(),
            "1",
            true,
        ),
        (
            "headed",
            ExchangeKind::ConsistentHash,
            on_header,
            "1",
            false,
        ),
        (
            "modulus",
            ExchangeKind::ModulusHash,
            TableWriter::new(),
            "",
            true,
        ),
        (
            "chance",
            ExchangeKind::Random,
            TableWriter::new(),
            "",
            false,
        ),
        (
            "local",
            ExchangeKind::LocalRandom,
            TableWriter::new(),
            "",
            false,
        ),
    ];
    let vhosts = [Name::from("/")];
    let mut topologies = [Topology::new(&vhosts, 1), Topology::new(&vhosts, 2)];
    let queues = (0..4)
        .map(|number| request(&Step::DeclareQueue(number), &topologies[0]).expect("needs nothing"));
    let queues = queues.collect();
    declare_on_both(&mut topologies, queues);
    for (name, kind, table, key, is_cacheable) in kinds {
        let above = format!("above {name}");
        let mut requests = vec![
            exchange(name, kind, table),
            exchange(&above, ExchangeKind::Fanout, TableWriter::new()),
            Request::BindExchange {
                vhost: VHOST,
                destination: Name::from(name),
                source: Name::from(above.as_str()),
                routing_key: Name::from(""),
                arguments: Arguments::default(),
            },
        ];
        requests.extend((0..4).map(|queue| bind_queue(name, queue, key)));
        declare_on_both(&mut topologies, requests);
        let mut reached = BTreeSet::new();
        for number in 0..100 {
            let keys = [format!("{number}"), "more".to_owned()];
            let keys = [keys[0].as_bytes(), keys[1].as_bytes()];
            let table = TableWriter::new().long("h", number).into_bytes();
            let bytes = [&[0x20, 0][..], &(table.len() as u32).to_be_bytes(), &table].concat();
            let found = topologies.each_ref().map(|topology| {
                let id = topology.exchange_by_name(VHOST, &above).expect("declared");
                assert_eq!(topology.depends_on_headers(id), !is_cacheable, "{name}");
                let (mut scratch, mut targets) = (RouteScratch::new(), Vec::new());
                let properties = Properties::from_validated(&bytes);
                let routed = topology.route_keys(id, &keys, properties, &mut scratch, &mut targets);
                assert_eq!(routed.is_cacheable, is_cacheable, "{name}");
                targets
            });
            assert_eq!(found[0].len(), 1, "{name} chooses one");
            assert!(found[0] == found[1] || name == "chance" || name == "local");
            reached.insert(found[0][0].index);
        }
        let by_chance = matches!(kind, ExchangeKind::Random | ExchangeKind::LocalRandom);
        // A new scratch begins its count anew, so chance is the same each time here.
        assert_eq!(reached.len(), if by_chance { 1 } else { 4 }, "{name}");
    }
}
