//! Policies and operator policies as definitions bring them: which one counts, for what is there and what comes.

use crate::support::broker::Broker;
use crate::support::channel::Channel;
use crate::support::home::Home;
use crate::support::wire::table;
use amq_protocol::types::AMQPValue;
use std::path::Path;

/// The configuration that takes `definitions/policies.json` over.
fn loading() -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let file = tests.join("definitions/policies.json");
    format!("load_definitions = {}\n", file.display())
}

/// How many of five messages a queue keeps.
fn kept(channel: &Channel, queue: &str) -> u32 {
    channel.fill(queue, &["1", "2", "3", "4", "5"]);
    channel.passive(queue).message_count
}

#[test]
fn the_policy_of_the_highest_priority_counts_and_numbers_meet_at_the_least() {
    for cores in [1, 2, 4] {
        let Some(broker) = Broker::alone(cores, &loading()) else {
            return;
        };
        let channel = broker.connect().channel();
        assert_eq!(kept(&channel, "bounded"), 3);
        assert_eq!(kept(&channel, "bounded-capped"), 1, "the operators' word");
        for (queue, expected) in [
            ("bounded-transient", 3),
            ("bounded-tight", 2),
            ("free", 5),
            ("free-capped", 1),
        ] {
            channel.queue(queue);
            assert_eq!(kept(&channel, queue), expected, "{queue}");
        }
        channel.declare_queue("bounded-argument", |declare| {
            declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(2))]);
        });
        assert_eq!(
            kept(&channel, "bounded-argument"),
            2,
            "less than the policy's"
        );
    }
}

#[test]
fn an_alternate_exchange_can_come_from_a_policy() {
    let Some(broker) = Broker::alone(2, &loading()) else {
        return;
    };
    let channel = broker.connect().channel();
    let strays = channel.own_queue();
    channel.bind(&strays, "amq.fanout", "");
    for exchange in ["routed", "other"] {
        channel.exchange(exchange, "direct");
        channel.publish(exchange, "nowhere", exchange);
    }
    channel.consume_no_ack(&strays);
    assert_eq!(channel.delivery().text(), "routed");
    channel.nothing_more_from(&strays);
}

#[test]
fn policies_are_kept_with_the_data() {
    let home = Home::new(&loading());
    home.start(2).stop();
    let without = Home::with_data_in(home.data().to_owned(), "");
    let broker = without.start(4);
    let channel = broker.connect().channel();
    channel.queue("bounded-later");
    assert_eq!(kept(&channel, "bounded-later"), 3);
    assert_eq!(kept(&channel, "bounded-capped"), 1);
}
