//! Queues that hold so much and no more: `x-max-length`, `x-max-length-bytes`, `x-overflow`.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{table, text};
use amq_protocol::protocol::{AMQPClass, basic, tx};
use amq_protocol::types::AMQPValue;

fn bounded(channel: &Channel, arguments: &[(&str, AMQPValue)]) -> String {
    let declared = channel.declare_queue("", |declare| {
        declare.exclusive = true;
        declare.arguments = table(arguments);
    });
    declared.queue.to_string()
}

fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

/// Whether each of so many publishes was accepted, by its number.
fn verdicts(channel: &Channel, count: usize) -> Vec<bool> {
    let mut told = vec![];
    while told.len() < count {
        let (upto, accepted) = match channel.next("a confirm").method {
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => (ack.delivery_tag, true),
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => (nack.delivery_tag, false),
            other => panic!("expected a confirm, got {other:?}"),
        };
        told.resize(upto as usize, accepted);
    }
    told
}

on_each_core_count! {
    fn the_oldest_go_when_there_are_too_many(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = bounded(&channel, &[("x-max-length", number(2))]);
        channel.fill_confirmed(&queue, &["a", "b", "c", "d"]);
        assert_eq!(channel.passive(&queue).message_count, 2);
        assert_eq!(channel.drain(&queue), ["c", "d"]);
    }

    fn the_oldest_go_when_their_bodies_are_too_long_together(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = bounded(&channel, &[("x-max-length-bytes", number(10))]);
        channel.fill_confirmed(&queue, &["four", "four", "three", "largest of all"]);
        assert_eq!(channel.passive(&queue).message_count, 0, "one alone may be too long");
        channel.fill(&queue, &["12345", "67890"]);
        channel.confirmed(5..=6);
        assert_eq!(channel.drain(&queue), ["12345", "67890"]);
    }

    fn what_is_out_is_not_counted(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = bounded(&channel, &[("x-max-length", number(1))]);
        channel.fill_confirmed(&queue, &["out"]);
        channel.get(&queue).expect("a message is there");
        channel.fill(&queue, &["waits"]);
        channel.confirmed(2..=2);
        assert_eq!(channel.drain(&queue), ["waits"]);
    }

    fn what_is_dropped_is_dead_lettered(broker: &Broker) {
        let channel = broker.connect().channel();
        let dead = channel.own_queue();
        channel.consume_no_ack(&dead);
        let queue = bounded(&channel, &[
            ("x-max-length", number(1)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&dead)),
        ]);
        channel.fill(&queue, &["a", "b", "c"]);
        assert_eq!(channel.delivered_texts(2), ["a", "b"]);
        assert_eq!(channel.drain(&queue), ["c"]);
    }

    fn a_full_queue_may_refuse_what_comes(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = bounded(&channel, &[("x-max-length", number(2)), ("x-overflow", text("reject-publish"))]);
        channel.confirm_select();
        channel.fill(&queue, &["a", "b", "c", "d"]);
        assert_eq!(verdicts(&channel, 4), [true, true, false, false]);
        assert_eq!(channel.get_no_ack(&queue).expect("the oldest is there").text(), "a");
        channel.fill(&queue, &["e", "f"]);
        assert_eq!(verdicts(&channel, 6)[4..], [true, false]);
        assert_eq!(channel.drain(&queue), ["b", "e"]);
    }

    fn one_queue_that_refuses_is_enough_for_a_nack_and_the_others_have_it(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let exchange = broker.name("all");
        connections[0].channel().exchange(&exchange, "fanout");
        let channels = connections.each_ref().map(|connection| connection.channel());
        let mut queues = vec![];
        for (index, channel) in channels.iter().enumerate() {
            let full: &[_] = &[("x-max-length", number(0)), ("x-overflow", text("reject-publish"))];
            let queue = bounded(channel, if index == 3 { full } else { &[] });
            channel.bind(&queue, &exchange, "");
            queues.push(queue);
        }
        channels[0].confirm_select();
        channels[0].publish(&exchange, "", "to all but one");
        assert_eq!(verdicts(&channels[0], 1), [false]);
        for (index, (channel, queue)) in channels.iter().zip(&queues).enumerate() {
            assert_eq!(channel.drain(queue).len(), usize::from(index != 3), "queue {index}");
        }
    }

    fn what_is_refused_may_be_dead_lettered(broker: &Broker) {
        let channel = broker.connect().channel();
        let dead = channel.own_queue();
        let queue = bounded(&channel, &[
            ("x-max-length", number(1)),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&dead)),
        ]);
        channel.confirm_select();
        channel.fill(&queue, &["a", "b"]);
        assert_eq!(verdicts(&channel, 2), [true, false]);
        channel.consume_no_ack(&dead);
        assert_eq!(channel.delivery().text(), "b");
        assert_eq!(channel.drain(&queue), ["a"]);
    }

    fn a_transaction_with_a_refused_publish_fails(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = bounded(&channel, &[("x-max-length", number(1)), ("x-overflow", text("reject-publish"))]);
        channel.call::<tx::SelectOk>(tx::Select {});
        channel.fill(&queue, &["a", "b"]);
        channel.send(tx::Commit {});
        channel.expect_close(406, "PRECONDITION_FAILED - partial tx completion", ids::TX_COMMIT);
    }
}
