//! What goes first: messages by priority, consumers by `x-priority`, and one consumer alone.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{properties, table, text};
use amq_protocol::protocol::basic::{self, AMQPProperties};
use amq_protocol::types::AMQPValue;

fn own_queue(channel: &Channel, arguments: &[(&str, AMQPValue)]) -> String {
    let declared = channel.declare_queue("", |declare| {
        declare.exclusive = true;
        declare.arguments = table(arguments);
    });
    declared.queue.to_string()
}

fn publish_as(channel: &Channel, queue: &str, priority: u8, text: &str) {
    let urgent = AMQPProperties::default().with_priority(priority);
    channel.publish_content("", queue, &properties(&urgent), text.as_bytes());
}

fn consume_as(channel: &Channel, queue: &str, priority: i32) -> String {
    channel.consume_with(queue, |consume| {
        consume.arguments = table(&[("x-priority", AMQPValue::LongInt(priority))]);
    })
}

fn tag_of(channel: &Channel) -> String {
    channel.delivery().method.consumer_tag.to_string()
}

on_each_core_count! {
    fn messages_of_higher_priority_go_first(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = own_queue(&channel, &[("x-max-priority", AMQPValue::LongInt(5))]);
        for (priority, text) in [(1, "low"), (5, "high"), (3, "middle"), (5, "high too"), (200, "as high as it gets")] {
            publish_as(&channel, &queue, priority, text);
        }
        channel.publish("", &queue, "none is lowest");
        let order = ["high", "high too", "as high as it gets", "middle", "low", "none is lowest"];
        assert_eq!(channel.drain(&queue), order);
    }

    fn a_requeued_message_goes_back_to_its_place_among_its_priority(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = own_queue(&channel, &[("x-max-priority", AMQPValue::LongInt(255))]);
        for (priority, text) in [(255, "a"), (255, "b"), (0, "c")] {
            publish_as(&channel, &queue, priority, text);
        }
        let held = channel.get(&queue).expect("a message is there");
        publish_as(&channel, &queue, 254, "d");
        channel.reject(held.method.delivery_tag, true);
        assert_eq!(channel.drain(&queue), ["a", "b", "d", "c"]);
    }

    fn without_the_argument_priorities_mean_nothing(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = own_queue(&channel, &[]);
        publish_as(&channel, &queue, 1, "first");
        publish_as(&channel, &queue, 9, "second");
        assert_eq!(channel.drain(&queue), ["first", "second"]);
    }

    fn consumers_of_higher_priority_are_served_while_they_can_take(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = own_queue(&channel, &[]);
        channel.qos(2, false);
        let low = consume_as(&channel, &queue, -1);
        let high = consume_as(&channel, &queue, 10);
        let usual = channel.consume(&queue);
        channel.fill(&queue, &["1", "2", "3", "4", "5", "6"]);
        let served: Vec<_> = (0..6).map(|_| tag_of(&channel)).collect();
        assert_eq!(served, [&high, &high, &usual, &usual, &low, &low].map(String::clone));
        channel.ack(1);
        channel.fill(&queue, &["7"]);
        assert_eq!(tag_of(&channel), high, "it can take again");
    }

    fn a_priority_that_is_no_number_is_refused(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = own_queue(&channel, &[]);
        let arguments = table(&[("x-priority", text("high"))]);
        channel.send(basic::Consume { queue: queue.as_str().into(), arguments, ..Default::default() });
        channel.expect_close(406, "PRECONDITION_FAILED - invalid arg 'x-priority' for queue", ids::BASIC_CONSUME);
    }

    fn a_wish_to_be_cancelled_on_failover_is_true_or_false(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = own_queue(&channel, &[]);
        let failover = |value| table(&[("x-cancel-on-ha-failover", value)]);
        channel.consume_with(&queue, |consume| consume.arguments = failover(AMQPValue::Boolean(true)));
        let arguments = failover(text("yes"));
        channel.send(basic::Consume { queue: queue.as_str().into(), arguments, ..Default::default() });
        let refusal = format!("invalid arg 'x-cancel-on-ha-failover' for queue '{queue}' in vhost '/': {{unacceptable_type,longstr}}");
        channel.expect_close(406, &refusal, ids::BASIC_CONSUME);
    }

    fn a_single_active_consumer_is_followed_by_the_next(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let [first, second, third, ..] = connections.each_ref().map(|connection| connection.channel());
        let queue = broker.name("single");
        let single = table(&[("x-single-active-consumer", AMQPValue::Boolean(true))]);
        first.declare_queue(&queue, |declare| declare.arguments = single);
        let tag = first.consume_no_ack(&queue);
        second.consume_no_ack(&queue);
        third.consume_no_ack(&queue);
        first.fill(&queue, &["a", "b"]);
        assert_eq!(first.delivered_texts(2), ["a", "b"]);
        first.cancel(&tag);
        first.fill(&queue, &["c"]);
        assert_eq!(second.delivered_texts(1), ["c"]);
        second.close();
        first.fill(&queue, &["d"]);
        assert_eq!(third.delivered_texts(1), ["d"]);
        first.delete_queue(&queue);
    }

    fn nobody_gets_from_a_quorum_queue_with_a_single_active_consumer(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = broker.name("single");
        channel.declare_queue(&queue, |declare| {
            declare.durable = true;
            declare.arguments = table(&[
                ("x-queue-type", text("quorum")),
                ("x-single-active-consumer", AMQPValue::Boolean(true)),
            ]);
        });
        channel.send(basic::Get { queue: queue.as_str().into(), no_ack: true });
        let text = format!("RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations are not supported by quorum queues with single active consumer");
        channel.expect_close(405, &text, ids::BASIC_GET);
        connection.channel().delete_queue(&queue);
    }

    fn nobody_has_a_queue_with_a_single_active_consumer_for_itself(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = own_queue(&channel, &[("x-single-active-consumer", AMQPValue::Boolean(true))]);
        channel.send(basic::Consume { queue: queue.as_str().into(), exclusive: true, ..Default::default() });
        channel.expect_close(403, &format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"), ids::BASIC_CONSUME);
    }
}
