//! `x-message-deduplication`, as the plugin `rabbitmq-message-deduplication` has it: queues that take no message
//! twice.
//!
//! What counts as there is tested against a naive model in `model/queue/tests/duplicates`, that it survives restarts
//! in `durability/restart/rules`.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::wire::{headers, table, text};
use amq_protocol::protocol::basic;
use amq_protocol::types::AMQPValue;

fn publish(channel: &Channel, exchange: &str, key: &str, value: AMQPValue, body: &str) {
    let headers = headers(&[("x-deduplication-header", value)]);
    channel.publish_content(exchange, key, &headers, body.as_bytes());
}

fn deduplicating_queue(channel: &Channel, arguments: &[(&str, AMQPValue)]) -> String {
    let mut arguments = arguments.to_vec();
    arguments.push(("x-message-deduplication", AMQPValue::Boolean(true)));
    let declared = channel.declare_queue("", |declare| {
        declare.exclusive = true;
        declare.arguments = table(&arguments);
    });
    declared.queue.to_string()
}

on_each_core_count! {
    fn a_message_whose_like_is_in_the_queue_is_dropped_and_confirmed(broker: &Broker) {
        if broker.is_reference() {
            return; // The plugin isn't one of its own.
        }
        let channel = broker.connect().channel();
        let queue = deduplicating_queue(&channel, &[]);
        channel.confirm_select();
        for (value, body) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5")] {
            publish(&channel, "", &queue, text(value), body);
        }
        channel.publish("", &queue, "no header");
        channel.publish("", &queue, "no header");
        channel.confirmed(1..=7);
        assert_eq!(channel.drain(&queue), ["1", "2", "4", "no header", "no header"]);
        publish(&channel, "", &queue, text("a"), "6");
        assert_eq!(channel.drain(&queue), ["6"], "the first is gone");
    }

    fn a_message_is_there_until_it_is_acknowledged(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = deduplicating_queue(&channel, &[]);
        let number = AMQPValue::LongInt;
        publish(&channel, "", &queue, number(1), "first");
        channel.consume(&queue);
        let first = channel.delivery();
        publish(&channel, "", &queue, number(1), "dropped");
        channel.reject(first.method.delivery_tag, true);
        let again = channel.delivery();
        assert_eq!(again.text(), "first");
        // Of the same value in another type.
        publish(&channel, "", &queue, AMQPValue::LongLongInt(1), "dropped too");
        channel.ack(again.method.delivery_tag);
        publish(&channel, "", &queue, number(1), "second");
        assert_eq!(channel.delivery().text(), "second");
    }

    fn what_leaves_by_the_queues_rules_makes_room_for_its_like(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let queue = deduplicating_queue(&channel, &[("x-max-length", AMQPValue::LongInt(1))]);
        for (value, body) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")] {
            publish(&channel, "", &queue, text(value), body);
        }
        assert_eq!(channel.drain(&queue), ["3"]);
        publish(&channel, "", &queue, text("a"), "5");
        channel.call::<amq_protocol::protocol::queue::PurgeOk>(amq_protocol::protocol::queue::Purge {
            queue: queue.as_str().into(),
            ..Default::default()
        });
        publish(&channel, "", &queue, text("a"), "6");
        assert_eq!(channel.drain(&queue), ["6"]);
    }

    fn each_queue_drops_its_own_duplicates(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<4>();
        let name = broker.name("all");
        let publisher = connections[0].channel();
        publisher.exchange(&name, "fanout");
        let takers = connections.each_ref().map(|connection| {
            let channel = connection.channel();
            let queue = deduplicating_queue(&channel, &[]);
            channel.bind(&queue, &name, "");
            (channel, queue)
        });
        let (plain, all) = (connections[1].channel(), connections[1].channel().own_queue());
        plain.bind(&all, &name, "");
        publisher.confirm_select();
        publish(&publisher, &name, "", text("a"), "1");
        publisher.confirmed(1..=1);
        let (channel, queue) = &takers[0];
        assert_eq!(channel.drain(queue), ["1"]);
        publish(&publisher, &name, "", text("a"), "2");
        publisher.confirmed(2..=2);
        assert_eq!(channel.drain(queue), ["2"], "here it was gone");
        for (channel, queue) in &takers[1..] {
            assert_eq!(channel.drain(queue), ["1"]);
        }
        assert_eq!(plain.drain(&all), ["1", "2"]);
        publisher.delete_exchange(&name);
    }

    fn a_mandatory_duplicate_is_not_returned(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let queue = deduplicating_queue(&channel, &[]);
        channel.confirm_select();
        for _ in 0..2 {
            let publish = basic::Publish {
                routing_key: queue.as_str().into(),
                mandatory: true,
                ..Default::default()
            };
            let headers = headers(&[("x-deduplication-header", text("a"))]);
            channel.publish_with(publish, &headers, b"x");
        }
        channel.confirmed(1..=2);
        channel.nothing_more_from(&queue);
    }
}
