//! Policies that stand in a file of definitions: which one counts, and what it does to queues and exchanges.
//!
//! The texts of what is refused, and all merging, are tested in `model/policy`; changes while queues hold messages in
//! `broker/tests/policies`.

use crate::support::broker::Broker;
use crate::support::home::Home;
use crate::support::wire::{headers, table, text};
use amq_protocol::protocol::{basic, exchange};
use amq_protocol::types::AMQPValue;
use std::path::Path;

/// The configuration that takes `definitions/policies.json` over.
fn loading() -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let file = tests.join("definitions/policies.json");
    format!("load_definitions = {}\n", file.display())
}

macro_rules! with_policies {
    ($($(#[$doc:meta])* fn $name:ident($channel:ident) $body:block)*) => {
        $($(#[$doc])* #[test]
        fn $name() {
            for cores in [1, 2, 4] {
                if let Some(broker) = Broker::alone(cores, &loading()) {
                    let connection = broker.connect();
                    let $channel = &connection.channel();
                    $body
                }
            }
        })*
    };
}

with_policies! {
    fn the_policy_of_the_highest_priority_counts_and_only_that(channel) {
        for (name, left) in [("short.", vec!["3", "4", "5"]), ("short.er", vec!["4", "5"])] {
            channel.queue(name);
            channel.fill(name, &["1", "2", "3", "4", "5"]);
            assert_eq!(channel.drain(name), left, "{name}");
        }
    }

    fn of_an_argument_and_policies_the_lowest_number_counts(channel) {
        for (name, declared, left) in [
            ("short.argument", 2, vec!["4", "5"]),
            ("short.policy", 4, vec!["3", "4", "5"]),
            ("short.bounded", 2, vec!["5"]),
            ("bounded", 2, vec!["1"]),
        ] {
            channel.declare_queue(name, |declare| {
                declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(declared))]);
            });
            channel.fill(name, &["1", "2", "3", "4", "5"]);
            assert_eq!(channel.drain(name), left, "{name}");
        }
    }

    fn what_is_no_number_is_the_arguments_to_say(channel) {
        let (by_policy, by_argument) = (channel.own_queue(), channel.own_queue());
        channel.bind(&by_policy, "amq.fanout", "");
        channel.bind(&by_argument, "amq.direct", "short.b");
        channel.queue("short.a");
        channel.declare_queue("short.b", |declare| {
            declare.arguments = table(&[("x-dead-letter-exchange", text("amq.direct"))]);
        });
        for name in ["short.a", "short.b"] {
            channel.fill(name, &["1", "2", "3", "4"]);
        }
        channel.consume_no_ack(&by_policy);
        let delivery = channel.delivery();
        assert_eq!((delivery.text().as_str(), delivery.method.routing_key.as_str()), ("1", "short.a"));
        channel.consume_no_ack(&by_argument);
        let delivery = channel.delivery();
        assert_eq!((delivery.text().as_str(), delivery.method.routing_key.as_str()), ("1", "short.b"));
    }

    fn names_that_do_not_begin_so_are_told_by_a_look_ahead(channel) {
        channel.queue("any other");
        channel.confirm_select();
        for number in 1..=9 {
            channel.publish("", "any other", "x");
            channel.confirmed(number..=number);
        }
        channel.publish("", "any other", "one too many");
        let nack = channel.expect::<basic::Nack>();
        assert_eq!(nack.delivery_tag, 10);
    }

    fn an_exchange_has_the_policys_alternate_unless_it_was_declared_with_one(channel) {
        let (queue, other) = (channel.own_queue(), channel.own_queue());
        channel.bind(&queue, "amq.topic", "#");
        channel.bind(&other, "amq.fanout", "");
        channel.exchange("lost.a", "direct");
        channel.exchange("found", "direct");
        channel.call::<exchange::DeclareOk>(exchange::Declare {
            exchange: "lost.b".into(),
            kind: "direct".into(),
            arguments: table(&[("alternate-exchange", text("amq.fanout"))]),
            ..Default::default()
        });
        for name in ["lost.a", "lost.b", "found"] {
            channel.publish(name, "nowhere", name);
        }
        assert_eq!(channel.drain(&queue), ["lost.a"]);
        assert_eq!(channel.drain(&other), ["lost.b"]);
        // Declared again as it was: a policy is no argument.
        channel.exchange("lost.a", "direct");
    }

    fn queues_and_exchanges_compare_messages_where_a_policy_says_so(channel) {
        let known_by = |value| headers(&[("x-deduplication-header", text(value))]);
        channel.queue("once.queue");
        channel.declare_queue("once.declared", |declare| {
            declare.arguments = table(&[("x-message-deduplication", AMQPValue::Boolean(false))]);
        });
        for name in ["once.queue", "once.declared"] {
            for (value, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
                channel.publish_content("", name, &known_by(value), body.as_bytes());
            }
            assert_eq!(channel.drain(name), ["1", "2"], "{name}");
        }
        channel.declare_exchange("once.exchange", "x-message-deduplication", |declare| {
            declare.arguments = table(&[("x-cache-size", AMQPValue::LongInt(100))]);
        });
        let queue = channel.own_queue();
        channel.bind(&queue, "once.exchange", "");
        channel.confirm_select();
        for (number, value) in (1..).zip(["a", "a", "b", "b", "a"]) {
            let body = number.to_string();
            channel.publish_content("once.exchange", "", &known_by(value), body.as_bytes());
            channel.confirmed(number..=number);
        }
        assert_eq!(channel.drain(&queue), ["1", "3", "5"], "it remembers one");
    }
}

#[test]
fn policies_are_kept_with_the_data() {
    let home = Home::new(&loading());
    home.start(2).stop();
    let without = Home::with_data_in(home.data().to_owned(), "");
    let broker = without.start(4);
    let channel = broker.connect().channel();
    channel.queue("short.later");
    channel.fill("short.later", &["1", "2", "3", "4"]);
    assert_eq!(channel.drain("short.later"), ["2", "3", "4"]);
}
