//! Messages and queues that live for a while: `expiration`, `x-message-ttl`, `x-expires`.
//!
//! That something has gone is seen where it goes: a dead-letter queue, or a consumer told that its queue is no more.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{properties, table, text};
use amq_protocol::protocol::basic::AMQPProperties;
use amq_protocol::protocol::queue;
use amq_protocol::types::{AMQPValue, FieldTable};

/// A queue whose dead letters go to another of this connection, which is consumed from.
fn mortal(channel: &Channel, arguments: &[(&str, AMQPValue)]) -> String {
    let dead = channel.own_queue();
    channel.consume_no_ack(&dead);
    let mut arguments = table(arguments);
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(&dead));
    with(channel, arguments)
}

fn with(channel: &Channel, arguments: FieldTable) -> String {
    let declared = channel.declare_queue("", |declare| {
        declare.exclusive = true;
        declare.arguments = arguments;
    });
    declared.queue.to_string()
}

fn publish_for(channel: &Channel, queue: &str, expiration: &str, text: &str) {
    let lives = AMQPProperties::default().with_expiration(expiration.into());
    channel.publish_content("", queue, &properties(&lives), text.as_bytes());
}

fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

on_each_core_count! {
    fn a_message_goes_when_its_time_is_up(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[]);
        publish_for(&channel, &queue, "30", "short");
        assert_eq!(channel.delivery().text(), "short");
        assert_eq!(channel.passive(&queue).message_count, 0);
    }

    fn one_that_expires_behind_one_that_lives_goes_on_time(broker: &Broker) {
        if broker.is_reference() {
            return; // RabbitMQ looks at the head only.
        }
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[]);
        channel.publish("", &queue, "lives");
        publish_for(&channel, &queue, "60000", "lives long");
        publish_for(&channel, &queue, "30", "short");
        publish_for(&channel, &queue, "5", "shorter");
        assert_eq!(channel.delivered_texts(2), ["shorter", "short"]);
        assert_eq!(channel.drain(&queue), ["lives", "lives long"]);
    }

    fn ten_thousand_go_together(broker: &Broker) {
        const COUNT: usize = 10_000;
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[("x-message-ttl", number(300))]);
        for message in 0..COUNT {
            channel.publish("", &queue, &message.to_string());
        }
        for message in 0..COUNT {
            assert_eq!(channel.delivery().text(), message.to_string());
        }
    }

    fn a_queues_time_to_live_holds_for_all_its_messages(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[("x-message-ttl", number(30))]);
        channel.fill(&queue, &["a", "b"]);
        assert_eq!(channel.delivered_texts(2), ["a", "b"]);
    }

    fn the_shorter_of_both_times_holds(broker: &Broker) {
        let channel = broker.connect().channel();
        let brief = mortal(&channel, &[("x-message-ttl", number(30))]);
        publish_for(&channel, &brief, "60000", "the queue's");
        assert_eq!(channel.delivery().text(), "the queue's");
        let long = mortal(&channel, &[("x-message-ttl", number(60_000))]);
        publish_for(&channel, &long, "30", "its own");
        assert_eq!(channel.delivery().text(), "its own");
    }

    fn what_lives_for_no_time_is_delivered_at_once_or_not_at_all(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[]);
        publish_for(&channel, &queue, "0", "nobody is there");
        assert_eq!(channel.delivery().text(), "nobody is there");
        let waiting = channel.consume_no_ack(&queue);
        publish_for(&channel, &queue, "0", "somebody is");
        let delivery = channel.delivery();
        assert_eq!((delivery.method.consumer_tag.as_str(), delivery.text().as_str()), (waiting.as_str(), "somebody is"));
    }

    fn a_requeued_message_keeps_its_time(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[]);
        publish_for(&channel, &queue, "100", "held for a while");
        let held = channel.get(&queue).expect("it is there");
        channel.reject(held.method.delivery_tag, true);
        assert_eq!(channel.delivery().text(), "held for a while");
    }

    fn what_is_out_does_not_expire(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[]);
        publish_for(&channel, &queue, "20", "out");
        let held = channel.get(&queue).expect("it is there");
        // By the time that this one is gone, the other would be.
        publish_for(&channel, &queue, "40", "waits");
        assert_eq!(channel.delivery().text(), "waits");
        channel.ack(held.method.delivery_tag);
        channel.nothing_more_from(&queue);
    }

    fn an_expiration_that_is_none_is_refused(broker: &Broker) {
        let connection = broker.connect();
        for (expiration, reason) in [
            ("soon", "no_integer"),
            ("10s", "{leftover_string,\"s\"}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
        ] {
            let channel = connection.channel();
            let queue = channel.own_queue();
            publish_for(&channel, &queue, expiration, "");
            let text = format!("PRECONDITION_FAILED - invalid expiration '{expiration}': {reason}");
            channel.expect_close(406, &text, ids::BASIC_PUBLISH);
        }
    }

    fn a_queue_goes_that_nobody_uses(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("unused");
        channel.declare_queue(&name, |declare| declare.arguments = table(&[("x-expires", number(50))]));
        // A second queue tells when: its only message waits as long.
        let later = mortal(&channel, &[]);
        publish_for(&channel, &later, "150", "now");
        assert_eq!(channel.delivery().text(), "now");
        channel.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::QUEUE_DECLARE);
    }

    fn a_queue_stays_as_long_as_somebody_consumes(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("used");
        channel.declare_queue(&name, |declare| declare.arguments = table(&[("x-expires", number(1000))]));
        let tag = channel.consume(&name);
        let later = mortal(&channel, &[]);
        publish_for(&channel, &later, "2000", "now");
        assert_eq!(channel.delivery().text(), "now");
        assert_eq!(channel.passive(&name).consumer_count, 1);
        channel.cancel(&tag);
        publish_for(&channel, &later, "2000", "then");
        assert_eq!(channel.delivery().text(), "then");
        channel.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::QUEUE_DECLARE);
    }

    fn declaring_and_getting_is_use(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("used");
        channel.declare_queue(&name, |declare| declare.arguments = table(&[("x-expires", number(2000))]));
        let later = mortal(&channel, &[]);
        for round in 0..3 {
            publish_for(&channel, &later, "800", "now");
            assert_eq!(channel.delivery().text(), "now");
            if round % 2 == 0 {
                assert!(channel.get(&name).is_none(), "it is there, and empty");
            } else {
                channel.passive(&name);
            }
        }
        channel.delete_queue(&name);
    }

    fn an_expired_queue_does_not_dead_letter(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &[("x-expires", number(30))]);
        channel.publish("", &queue, "lost with it");
        let later = mortal(&channel, &[]);
        publish_for(&channel, &later, "120", "later");
        let dead = channel.next("the later queue's letter");
        assert!(matches!(&dead.content, Some(content) if content.body == b"later"), "{dead:?}");
    }
}
