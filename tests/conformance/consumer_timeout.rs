//! `x-consumer-timeout`, the policies' `consumer-timeout` and the configuration's `consumer_timeout`: a channel whose
//! consumer keeps a delivery for too long is closed, and what it holds goes back.
//!
//! RabbitMQ 3.10 has the configuration only, and looks once a minute. Which note of a delivery counts, and how late
//! it may be, is tested in `session/consumer_timeout`; a policy that is set meanwhile in `broker/tests/policies`.

use crate::support::broker::Broker;
use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::table;
use amq_protocol::protocol::{basic, tx};
use amq_protocol::types::AMQPValue;

/// Declares a queue with that many milliseconds, and puts messages into it.
fn fill_timed(channel: &Channel, name: &str, timeout_ms: i32, messages: &[&str]) {
    channel.declare_queue(name, |declare| {
        declare.arguments = table(&[("x-consumer-timeout", AMQPValue::LongInt(timeout_ms))]);
    });
    channel.fill(name, messages);
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
