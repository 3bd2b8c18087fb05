//! `x-recent-history`: exchanges that send what came last to each new binding.
//!
//! The differential run compares the same with RabbitMQ's plugin; the bounds are tested in
//! `model/exchange/recent_history`.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::home::Home;
use crate::support::ids;
use crate::support::wire::{headers, table};
use amq_protocol::protocol::{basic, exchange};
use amq_protocol::types::AMQPValue;

const KIND: &str = "x-recent-history";

/// Declares an exchange that keeps so many messages, and publishes some.
fn exchange_of(channel: &Channel, name: &str, length: i32, texts: &[&str]) {
    channel.declare_exchange(name, KIND, |declare| {
        declare.arguments = table(&[("x-recent-history-length", AMQPValue::LongInt(length))]);
    });
    for text in texts {
        channel.publish(name, "key", text);
    }
}

on_each_core_count! {
    fn a_new_binding_gets_what_came_last_before_what_comes(broker: &Broker) {
        if broker.is_reference() {
            return; // Its plugin isn't enabled everywhere.
        }
        let connections = broker.connections_spread::<6>();
        let name = broker.name("history");
        let channel = connections[0].channel();
        exchange_of(&channel, &name, 3, &["1", "2", "3", "4", "5"]);
        let listeners = connections.each_ref().map(|connection| {
            let channel = connection.channel();
            let queue = channel.own_queue();
            channel.bind(&queue, &name, "whatever");
            assert_eq!(channel.passive(&queue).message_count, 3, "there when the binding is");
            channel.consume_no_ack(&queue);
            channel
        });
        channel.publish(&name, "", "6");
        for listener in &listeners {
            assert_eq!(listener.delivered_texts(4), ["3", "4", "5", "6"]);
        }
        channel.delete_exchange(&name);
    }

    fn a_binding_that_is_there_already_gets_nothing_again(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let name = broker.name("history");
        exchange_of(&channel, &name, 5, &["1"]);
        let queue = channel.own_queue();
        for _ in 0..3 {
            channel.bind(&queue, &name, "");
        }
        assert_eq!(channel.drain(&queue), ["1"]);
        channel.bind(&queue, &name, "another");
        assert_eq!(channel.drain(&queue), ["1"], "this one is new");
        channel.delete_exchange(&name);
    }

    fn an_exchange_that_is_bound_routes_what_it_gets(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let (name, topics) = (broker.name("history"), broker.name("topics"));
        channel.exchange(&topics, "topic");
        let queue = channel.own_queue();
        channel.bind(&queue, &topics, "kern.*");
        exchange_of(&channel, &name, 5, &[]);
        for key in ["kern.a", "mail.b", "kern.c"] {
            channel.publish(&name, key, key);
        }
        channel.bind_exchange(&topics, &name, "");
        assert_eq!(channel.drain(&queue), ["kern.a", "kern.c"]);
        for exchange in [name, topics] {
            channel.delete_exchange(&exchange);
        }
    }

    fn what_asks_not_to_be_kept_is_not(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let name = broker.name("history");
        exchange_of(&channel, &name, 5, &["kept"]);
        for (value, text) in [(true, "not kept"), (false, "kept too")] {
            let headers = headers(&[("x-recent-history-no-store", AMQPValue::Boolean(value))]);
            channel.publish_content(&name, "", &headers, text.as_bytes());
        }
        let queue = channel.own_queue();
        channel.bind(&queue, &name, "");
        assert_eq!(channel.drain(&queue), ["kept", "kept too"]);
        channel.delete_exchange(&name);
    }

    fn keeping_a_message_is_not_routing_it(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let (name, lost) = (broker.name("history"), broker.name("lost"));
        exchange_of(&channel, &name, 5, &[]);
        channel.confirm_select();
        channel.publish_mandatory(&name, "", "nobody's");
        assert_eq!(channel.expect_message::<basic::Return>().text(), "nobody's");
        channel.confirmed(1..=1);
        let queue = channel.own_queue();
        channel.exchange(&lost, "fanout");
        channel.bind(&queue, &lost, "");
        let with_alternate = broker.name("history");
        channel.declare_exchange(&with_alternate, KIND, |declare| {
            declare.arguments = table(&[(
                "alternate-exchange",
                AMQPValue::LongString(lost.as_str().into()),
            )]);
        });
        channel.publish_mandatory(&with_alternate, "", "elsewhere");
        channel.confirmed(2..=2);
        assert_eq!(channel.drain(&queue), ["elsewhere"]);
        for exchange in [name, lost, with_alternate] {
            channel.delete_exchange(&exchange);
        }
    }

    fn its_history_goes_with_it(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let name = broker.name("history");
        exchange_of(&channel, &name, 5, &["old"]);
        channel.delete_exchange(&name);
        exchange_of(&channel, &name, 5, &["new"]);
        let queue = channel.own_queue();
        channel.bind(&queue, &name, "");
        assert_eq!(channel.drain(&queue), ["new"]);
        channel.delete_exchange(&name);
    }

    fn its_length_is_a_positive_number(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        for (value, told) in [
            (AMQPValue::LongInt(0), "0"),
            (AMQPValue::LongInt(-1), "-1"),
            (AMQPValue::LongString("2".into()), "<<\"2\">>"),
        ] {
            let channel = connection.channel();
            channel.send(exchange::Declare {
                exchange: broker.name("history").into(),
                kind: KIND.into(),
                arguments: table(&[("x-recent-history-length", value)]),
                ..Default::default()
            });
            let text = format!(
                "PRECONDITION_FAILED - Invalid argument {told}, 'x-recent-history-length' must be a positive integer"
            );
            channel.expect_close(406, &text, ids::EXCHANGE_DECLARE);
        }
    }
}

#[test]
fn a_restart_forgets_the_history_and_keeps_the_exchange() {
    let home = Home::new("");
    for (cores, text) in [(2, "before"), (4, "after"), (1, "last")] {
        let broker = home.start(cores);
        let channel = broker.connect().channel();
        channel.declare_exchange("history", KIND, |declare| declare.durable = true);
        channel.publish("history", "", text);
        let queue = channel.own_queue();
        channel.bind(&queue, "history", "");
        assert_eq!(channel.drain(&queue), [text]);
        broker.stop();
    }
}
