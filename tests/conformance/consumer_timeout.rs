//! `x-consumer-timeout`, the policies' `consumer-timeout` and the configuration's `consumer_timeout`: a channel whose
//! consumer keeps a delivery for too long is closed, and what it holds goes back.
//!
//! RabbitMQ 3.10 has the configuration only, and looks once a minute; that a consumer says it itself is of 4.3. Which
//! note of a delivery counts, and how late it may be, is tested in `session/consumer_timeout`; a policy that is set
//! meanwhile in `broker/tests/policies`.

use crate::support::broker::Broker;
use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{table, text};
use amq_protocol::protocol::{basic, tx};
use amq_protocol::types::AMQPValue;

/// Declares a queue with that many milliseconds, and puts messages into it.
fn fill_timed(channel: &Channel, name: &str, timeout_ms: i32, messages: &[&str]) {
    channel.declare_queue(name, |declare| {
        declare.arguments = table(&[("x-consumer-timeout", AMQPValue::LongInt(timeout_ms))]);
    });
    channel.fill(name, messages);
}

/// A consumer that asks for so many milliseconds itself.
fn consume_for(channel: &Channel, queue: &str, timeout_ms: i32) -> String {
    channel.consume_with(queue, |consume| {
        consume.arguments = table(&[("x-consumer-timeout", AMQPValue::LongInt(timeout_ms))]);
    })
}

fn expect_timeout(channel: &Channel, timeout_ms: u32) {
    let text = format!(
        "PRECONDITION_FAILED - delivery acknowledgement on channel {} timed out. Timeout value used: {timeout_ms} ms. \
         This timeout value can be configured, see consumers doc guide to learn more",
        channel.id
    );
    channel.expect_close(406, &text, ids::NONE);
}

on_each_core_count! {
    fn a_consumer_that_keeps_a_delivery_loses_its_channel_and_the_message_comes_back(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<2>();
        let name = broker.name("timed");
        let (keeper, other) = (connections[0].channel(), connections[1].channel());
        fill_timed(&other, &name, 100, &["1", "2"]);
        keeper.consume(&name);
        let first = keeper.delivery();
        keeper.ack(first.method.delivery_tag);
        assert_eq!(keeper.delivery().text(), "2");
        expect_timeout(&keeper, 100);
        let back = other.get_no_ack(&name).expect("it came back");
        assert_eq!((back.text().as_str(), back.method.redelivered), ("2", true));
        other.delete_queue(&name);
    }

    fn others_of_the_connection_and_what_has_no_timeout_are_left_alone(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let (timed, plain) = (broker.name("timed"), broker.name("plain"));
        let (patient, keeper) = (connection.channel(), connection.channel());
        patient.queue(&plain);
        patient.fill(&plain, &["a", "b"]);
        fill_timed(&patient, &timed, 50, &["1"]);
        // The older of the two has all the time it wants.
        for channel in [&patient, &keeper] {
            channel.qos(1, false);
            channel.consume(&plain);
            channel.delivery();
        }
        keeper.consume(&timed);
        assert_eq!(keeper.delivery().text(), "1");
        expect_timeout(&keeper, 50);
        patient.ack(1);
        assert_eq!(patient.delivery().text(), "b", "the other's came back, and goes here");
        for name in [timed, plain] {
            patient.delete_queue(&name);
        }
    }

    fn what_a_consumer_asks_for_itself_counts_before_what_its_queue_says(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let (timed, plain) = (broker.name("timed"), broker.name("plain"));
        let (patient, hasty, leaver) = (connection.channel(), connection.channel(), connection.channel());
        fill_timed(&patient, &timed, 60, &["1"]);
        patient.queue(&plain);
        patient.fill(&plain, &["2", "3"]);
        consume_for(&patient, &timed, 0);
        assert_eq!(patient.delivery().text(), "1");
        consume_for(&hasty, &plain, 50);
        assert_eq!([hasty.delivery(), hasty.delivery()].map(|one| one.text()), ["2", "3"]);
        expect_timeout(&hasty, 50);
        // What a consumer has when it goes keeps its time, and those that come have theirs.
        leaver.qos(1, false);
        let tag = consume_for(&leaver, &plain, 70);
        assert_eq!(leaver.delivery().text(), "2");
        leaver.cancel(&tag);
        leaver.consume(&plain);
        assert_eq!(leaver.delivery().text(), "3");
        expect_timeout(&leaver, 70);
        patient.ack(1);
        for name in [timed, plain] {
            patient.delete_queue(&name);
        }
    }

    fn a_consumer_that_asks_for_no_time_is_refused(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("plain");
        let declaring = connection.channel();
        declaring.queue(&name);
        for (value, reason) in [
            (AMQPValue::LongInt(-1), "{value_negative,-1}"),
            (text("60s"), "\"expected integer, got longstr\""),
        ] {
            let channel = connection.channel();
            channel.send(basic::Consume {
                queue: name.as_str().into(),
                arguments: table(&[("x-consumer-timeout", value)]),
                ..Default::default()
            });
            let text = format!(
                "PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue '{name}' in vhost '/': {reason}"
            );
            channel.expect_close(406, &text, ids::BASIC_CONSUME);
        }
        let channel = connection.channel();
        for ms in 1..=64 {
            consume_for(&channel, &name, ms);
        }
        consume_for(&channel, &name, 64);
        channel.send(basic::Consume {
            queue: name.as_str().into(),
            arguments: table(&[("x-consumer-timeout", AMQPValue::LongInt(65))]),
            ..Default::default()
        });
        let text = "PRECONDITION_FAILED - the consumers of a channel may have 64 different timeouts";
        channel.expect_close(406, text, ids::BASIC_CONSUME);
        declaring.delete_queue(&name);
    }

    fn what_was_taken_by_get_counts_as_well(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("timed");
        let channel = connection.channel();
        fill_timed(&channel, &name, 50, &["1", "2"]);
        assert!(channel.get_no_ack(&name).is_some());
        assert!(channel.get(&name).is_some());
        expect_timeout(&channel, 50);
        connection.channel().delete_queue(&name);
    }

    fn what_a_rolled_back_transaction_acknowledged_has_its_time_again(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("timed");
        let channel = connection.channel();
        fill_timed(&channel, &name, 100, &["1"]);
        channel.call::<tx::SelectOk>(tx::Select {});
        channel.consume(&name);
        let delivery = channel.delivery();
        channel.ack(delivery.method.delivery_tag);
        channel.call::<tx::RollbackOk>(tx::Rollback {});
        expect_timeout(&channel, 100);
        connection.channel().delete_queue(&name);
    }
}

#[test]
fn the_configuration_says_it_for_all_queues_and_arguments_and_policies_for_some() {
    for cores in [1, 2, 4] {
        let definitions = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/conformance/definitions/policies.json"
        );
        let Some(broker) = Broker::alone(
            cores,
            &format!("consumer_timeout = 90\nload_definitions = {definitions}\n"),
        ) else {
            continue;
        };
        let connection = broker.connect();
        let patient = connection.channel();
        fill_timed(&patient, "patient", 0, &["1"]);
        patient.consume("patient");
        let first = patient.delivery();
        for (name, argument, timeout_ms) in [
            ("plain", None, 90),
            ("quick", Some(45), 45),
            ("slow.policy", None, 120),
            ("slow.both", Some(60), 60),
        ] {
            let channel = connection.channel();
            match argument {
                Some(ms) => fill_timed(&channel, name, ms, &["x"]),
                None => {
                    channel.queue(name);
                    channel.fill(name, &["x"]);
                }
            }
            channel.consume(name);
            channel.delivery();
            expect_timeout(&channel, timeout_ms);
        }
        patient.ack(first.method.delivery_tag);
        patient.send(basic::Recover { requeue: true });
        patient.answer::<basic::RecoverOk>();
    }
}
