//! Exchanges that choose one of their bindings: by a hash of the message, or by chance. RabbitMQ has them in plugins
//! (consistent hash, random, sharding for the modulus); x-local-random is RabbitMQ 4's.

use crate::support::broker::Broker;
use crate::support::channel::{Channel, binding};
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{self, table, text};
use amq_protocol::protocol::{basic, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use std::collections::BTreeMap;

const MESSAGES: usize = 120;

on_each_core_count! {
    fn every_type_is_declared_twice_found_and_deleted(broker: &Broker) {
        let channel = broker.connect().channel();
        for kind in kinds(broker) {
            let name = broker.name(kind);
            for _ in 0..2 {
                channel.declare_exchange(&name, kind, |declare| declare.durable = true);
            }
            channel.declare_exchange(&name, kind, |declare| declare.passive = true);
            channel.delete_exchange(&name);
        }
    }

    fn each_message_goes_to_exactly_one_queue_and_every_queue_gets_some(broker: &Broker) {
        let connections = broker.connections_spread::<4>();
        let channel = connections[0].channel();
        for kind in kinds(broker) {
            let name = broker.name(kind);
            channel.exchange(&name, kind);
            let queues: Vec<_> = (0..4).map(|number| broker.name(&format!("{kind}-{number}"))).collect();
            for (connection, queue) in connections.iter().zip(&queues) {
                connection.channel().queue(queue);
                channel.bind(queue, &name, if kind == "x-consistent-hash" { "1" } else { "" });
            }
            publish_all(&channel, &name, |number| (format!("key {number}"), wire::NO_PROPERTIES.to_vec()));
            let got = drain_all(&channel, &queues);
            assert!(got.iter().all(|texts| !texts.is_empty()), "{kind}: {got:?}");
            let mut all: Vec<_> = got.concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!((all.len(), got.concat().len()), (MESSAGES, MESSAGES), "{kind}: each to one");
        }
    }

    fn a_hash_leads_the_same_key_to_the_same_queue(broker: &Broker) {
        let channel = broker.connect().channel();
        for kind in ["x-consistent-hash", "x-modulus-hash"] {
            let (name, queues) = bound(broker, &channel, kind, FieldTable::default(), &["1", "1", "1"]);
            publish_all(&channel, &name, |number| (format!("key {}", number % 10), wire::NO_PROPERTIES.to_vec()));
            let where_to = keys_by_queue(&drain_all(&channel, &queues), |number| number % 10);
            assert_eq!(where_to.len(), 10, "{kind}");
        }
    }

    fn a_consistent_hash_moves_few_keys_when_a_queue_comes_or_goes(broker: &Broker) {
        let channel = broker.connect().channel();
        let (name, queues) = bound(broker, &channel, "x-consistent-hash", FieldTable::default(), &["2", "2", "2"]);
        let places = |queues: &[String]| {
            publish_keys(&channel, &name);
            keys_by_queue(&drain_all(&channel, queues), |number| number)
        };
        let before = places(&queues);
        let last = channel.own_queue();
        channel.bind(&last, &name, "2");
        let more = [&queues[..], std::slice::from_ref(&last)].concat();
        for (key, place) in places(&more) {
            assert!(place == before[&key] || place == 3, "key {key} moved from {} to {place}", before[&key]);
        }
        channel.unbind(&last, &name, "2");
        assert_eq!(places(&queues), before, "with the queue gone, all is as before");
    }

    fn weights_say_how_much_each_queue_gets(broker: &Broker) {
        let channel = broker.connect().channel();
        let (name, queues) = bound(broker, &channel, "x-consistent-hash", FieldTable::default(), &["1", "9"]);
        publish_keys(&channel, &name);
        let got = drain_all(&channel, &queues);
        assert!(got[0].len() * 3 < got[1].len(), "{} to {}", got[0].len(), got[1].len());
    }

    fn a_header_or_a_property_is_hashed_if_the_arguments_say_so(broker: &Broker) {
        let channel = broker.connect().channel();
        type Make = fn(usize) -> Vec<u8>;
        let cases: [(&str, &str, Make); 4] = [
            ("hash-header", "tenant", |number| wire::headers(&[("tenant", text(&number.to_string()))])),
            ("hash-property", "message_id", |number| {
                wire::properties(&basic::AMQPProperties::default().with_message_id(number.to_string().into()))
            }),
            ("hash-property", "correlation_id", |number| {
                wire::properties(&basic::AMQPProperties::default().with_correlation_id(number.to_string().into()))
            }),
            ("hash-property", "timestamp", |number| {
                wire::properties(&basic::AMQPProperties::default().with_timestamp(number as u64))
            }),
        ];
        for (argument, value, properties) in cases {
            let arguments = table(&[(argument, text(value))]);
            let (name, queues) = bound(broker, &channel, "x-consistent-hash", arguments, &["1", "1", "1"]);
            publish_all(&channel, &name, |number| (format!("key {number}"), properties(number % 12)));
            let got = drain_all(&channel, &queues);
            assert_eq!(keys_by_queue(&got, |number| number % 12).len(), 12, "{value}");
            assert!(got.iter().filter(|texts| !texts.is_empty()).count() > 1, "{value}: {got:?}");
        }
    }

    fn bad_arguments_of_a_consistent_hash_are_406(broker: &Broker) {
        let connection = broker.connect();
        let cases = [
            (vec![("hash-property", text("app_id"))], "PRECONDITION_FAILED - Unsupported property: app_id"),
            (
                vec![("hash-header", text("a")), ("hash-property", text("message_id"))],
                "PRECONDITION_FAILED - hash-header and hash-property are mutually exclusive",
            ),
        ];
        for (arguments, expected) in cases {
            let channel = connection.channel();
            let name = broker.name("bad");
            channel.send(declare(&name, "x-consistent-hash", table(&arguments)));
            channel.expect_close(406, expected, ids::EXCHANGE_DECLARE);
        }
    }

    fn a_weight_that_is_none_is_406(broker: &Broker) {
        let connection = broker.connect();
        let cases = [
            ("heavy", "PRECONDITION_FAILED - The binding key must be an integer: <<\"heavy\">>"),
            ("", "PRECONDITION_FAILED - The binding key must be an integer: <<>>"),
            ("0", "PRECONDITION_FAILED - The binding key must be greater than 0"),
            ("-1", "PRECONDITION_FAILED - The binding key must be greater than 0"),
        ];
        let name = broker.name("weights");
        connection.channel().exchange(&name, "x-consistent-hash");
        for (key, expected) in cases {
            let channel = connection.channel();
            let queue = channel.own_queue();
            channel.send(binding(&queue, &name, key));
            channel.expect_close(406, expected, ids::QUEUE_BIND);
        }
        if !broker.is_reference() {
            // RabbitMQ would try to remember each unit of it.
            let channel = connection.channel();
            let queue = channel.own_queue();
            channel.send(binding(&queue, &name, "99999999999999999999999999"));
            channel.expect_close(406, "The binding key must be at most", ids::QUEUE_BIND);
        }
    }

    fn what_has_no_binding_goes_to_the_alternate(broker: &Broker) {
        let channel = broker.connect().channel();
        for kind in kinds(broker) {
            let (name, alternate) = (broker.name(kind), broker.name("alternate"));
            channel.exchange(&alternate, "fanout");
            let arguments = table(&[("alternate-exchange", text(&alternate))]);
            channel.call::<exchange::DeclareOk>(declare(&name, kind, arguments));
            let (queue, other) = (channel.own_queue(), channel.own_queue());
            channel.bind(&other, &alternate, "");
            channel.publish(&name, "a", "1");
            let key = if kind == "x-consistent-hash" { "1" } else { "" };
            channel.bind(&queue, &name, key);
            channel.publish(&name, "a", "2");
            channel.unbind(&queue, &name, key);
            channel.publish(&name, "a", "3");
            assert_eq!(channel.drain(&queue), ["2"], "{kind}");
            assert_eq!(channel.drain(&other), ["1", "3"], "{kind}");
        }
    }

    fn they_are_bound_to_and_from_other_exchanges_and_a_cycle_ends(broker: &Broker) {
        let channel = broker.connect().channel();
        for kind in ["x-consistent-hash", "x-modulus-hash", "x-random"] {
            let (above, name, below) = (broker.name("above"), broker.name(kind), broker.name("below"));
            channel.exchange(&above, "topic");
            channel.exchange(&name, kind);
            channel.exchange(&below, "fanout");
            let key = if kind == "x-consistent-hash" { "1" } else { "" };
            channel.bind_exchange(&name, &above, "#");
            channel.bind_exchange(&below, &name, key);
            channel.bind_exchange(&name, &below, "");
            let queue = channel.own_queue();
            channel.bind(&queue, &below, "");
            channel.publish(&above, "a.b", "x");
            assert_eq!(channel.drain(&queue), ["x"], "{kind}");
        }
    }

    fn chance_is_drawn_for_every_message_of_the_same_key(broker: &Broker) {
        let channel = broker.connect().channel();
        let (name, queues) = bound(broker, &channel, "x-random", FieldTable::default(), &["", "", ""]);
        publish_all(&channel, &name, |_| ("same".to_owned(), wire::NO_PROPERTIES.to_vec()));
        assert!(drain_all(&channel, &queues).iter().all(|texts| texts.len() > MESSAGES / 12));
    }

    fn a_mandatory_message_with_several_keys_goes_to_one_queue(broker: &Broker) {
        let channel = broker.connect().channel();
        for kind in ["x-consistent-hash", "x-modulus-hash", "x-random"] {
            let keys = if kind == "x-consistent-hash" { ["1"; 3] } else { [""; 3] };
            let (name, queues) = bound(broker, &channel, kind, FieldTable::default(), &keys);
            let more = ["b", "c", "d", "e"].map(text).to_vec();
            let properties = wire::headers(&[("CC", AMQPValue::FieldArray(more.into()))]);
            let publish = basic::Publish {
                exchange: name.as_str().into(), routing_key: "a".into(), mandatory: true, ..Default::default()
            };
            channel.publish_with(publish, &properties, b"0");
            assert_eq!(drain_all(&channel, &queues).concat(), ["0"], "{kind}");
        }
    }

    fn a_local_random_exchange_takes_queues_without_a_key_only(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("local");
        connection.channel().exchange(&name, "x-local-random");
        let channel = connection.channel();
        let queue = channel.own_queue();
        channel.send(binding(&queue, &name, "key"));
        channel.expect_close(406, "PRECONDITION_FAILED - Non empty binding 'key' key not permitted", ids::QUEUE_BIND);
        let channel = connection.channel();
        channel.send(exchange::Bind {
            destination: "amq.fanout".into(), source: name.as_str().into(), ..Default::default()
        });
        channel.expect_close(406, "PRECONDITION_FAILED - Destination not found", ids::EXCHANGE_BIND);
    }
}

/// The types that the broker has: RabbitMQ 3.10 doesn't know x-local-random yet.
fn kinds(broker: &Broker) -> impl Iterator<Item = &'static str> {
    let kinds = [
        "x-consistent-hash",
        "x-modulus-hash",
        "x-random",
        "x-local-random",
    ];
    kinds
        .into_iter()
        .take(if broker.is_reference() { 3 } else { 4 })
}

fn declare(name: &str, kind: &str, arguments: FieldTable) -> exchange::Declare {
    exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        arguments,
        ..Default::default()
    }
}

/// A new exchange and a queue for each key.
fn bound(
    broker: &Broker,
    channel: &Channel,
    kind: &str,
    arguments: FieldTable,
    keys: &[&str],
) -> (String, Vec<String>) {
    let name = broker.name(kind);
    channel.call::<exchange::DeclareOk>(declare(&name, kind, arguments));
    let queues = keys.iter().map(|key| {
        let queue = channel.own_queue();
        let key = if kind == "x-consistent-hash" { key } else { "" };
        channel.call::<queue::BindOk>(binding(&queue, &name, key));
        queue
    });
    let queues = queues.collect();
    (name, queues)
}

/// Publishes the numbers, each with its key and properties. What the same channel gets then comes behind them.
fn publish_all(channel: &Channel, exchange: &str, make: impl Fn(usize) -> (String, Vec<u8>)) {
    for number in 0..MESSAGES {
        let (key, properties) = make(number);
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: key.as_str().into(),
            mandatory: true,
            ..Default::default()
        };
        channel.publish_with(publish, &properties, number.to_string().as_bytes());
    }
}

fn publish_keys(channel: &Channel, exchange: &str) {
    publish_all(channel, exchange, |number| {
        (format!("key {number}"), wire::NO_PROPERTIES.to_vec())
    });
}

fn drain_all(channel: &Channel, queues: &[String]) -> Vec<Vec<String>> {
    queues.iter().map(|queue| channel.drain(queue)).collect()
}

/// Which queue has the messages of each key; all of one key must be in the same.
fn keys_by_queue(got: &[Vec<String>], key_of: impl Fn(usize) -> usize) -> BTreeMap<usize, usize> {
    let mut places = BTreeMap::new();
    for (place, texts) in got.iter().enumerate() {
        for text in texts {
            let key = key_of(text.parse().expect("the bodies are numbers"));
            let known = *places.entry(key).or_insert(place);
            assert_eq!(known, place, "key {key} went to two queues");
        }
    }
    places
}
