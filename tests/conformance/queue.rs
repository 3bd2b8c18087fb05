//! Queues: declared, named, exclusive, auto-deleted, bound, counted, purged, deleted.

use crate::support::broker::Broker;
use crate::support::channel::binding;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::login::Login;
use crate::support::wire::{self, table, text};
use amq_protocol::protocol::{AMQPClass, basic, queue};
use amq_protocol::types::AMQPValue;

on_each_core_count! {
    fn a_new_queue_is_empty_and_unused(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("queue");
        let declared = channel.declare_queue(&name, |_| {});
        assert_eq!((declared.queue.as_str(), declared.message_count, declared.consumer_count), (name.as_str(), 0, 0));
    }

    fn a_server_named_queue_has_the_servers_prefix_and_a_name_of_its_own(broker: &Broker) {
        let channel = broker.connect().channel();
        let (one, two) = (channel.own_queue(), channel.own_queue());
        assert!(one.starts_with("amq.gen-") && two.starts_with("amq.gen-"), "{one} {two}");
        assert_ne!(one, two);
        assert!(one.len() > "amq.gen-".len() + 10, "{one} can't be guessed");
    }

    fn declaring_again_alike_is_fine(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("queue");
        for _ in 0..2 {
            channel.declare_queue(&name, |declare| {
                declare.durable = true;
                declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(5))]);
            });
        }
        // Integers of another width are equal.
        channel.declare_queue(&name, |declare| {
            declare.durable = true;
            declare.arguments = table(&[("x-max-length", AMQPValue::LongLongInt(5))]);
        });
        // Arguments that mean nothing to a queue aren't compared.
        channel.declare_queue(&name, |declare| {
            declare.durable = true;
            declare.arguments = table(&[("x-max-length", AMQPValue::ShortInt(5)), ("remark", text("hello"))]);
        });
        channel.delete_queue(&name);
    }

    fn declaring_again_with_another_durability_is_406(broker: &Broker) {
        let name = broker.name("queue");
        let text = format!("PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' in vhost '/': \
            received 'true' but current is 'false'");
        expect_inequivalence(broker, &name, |_| {}, |declare| declare.durable = true, &text);
    }

    fn declaring_again_with_another_auto_delete_is_406(broker: &Broker) {
        let name = broker.name("queue");
        let text = format!("PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{name}' in vhost '/': \
            received 'false' but current is 'true'");
        expect_inequivalence(broker, &name, |declare| declare.auto_delete = true, |_| {}, &text);
    }

    fn declaring_again_with_an_argument_more_is_406(broker: &Broker) {
        let name = broker.name("queue");
        let text = format!("PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': \
            received the value '2' of type 'signedint' but current is none");
        let more = |declare: &mut queue::Declare| {
            declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(2))]);
        };
        expect_inequivalence(broker, &name, |_| {}, more, &text);
    }

    fn declaring_again_with_another_argument_is_406(broker: &Broker) {
        let name = broker.name("queue");
        let text = format!("PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': \
            received none but current is the value '2' of type 'signedint'");
        let more = |declare: &mut queue::Declare| {
            declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(2))]);
        };
        expect_inequivalence(broker, &name, more, |_| {}, &text);
    }

    fn an_invalid_argument_is_406(broker: &Broker) {
        let connection = broker.connect();
        let name = broker.name("queue");
        for (key, value) in [("x-max-length", AMQPValue::LongInt(-1)), ("x-message-ttl", text("soon"))] {
            let channel = connection.channel();
            let arguments = table(&[(key, value)]);
            channel.send(queue::Declare { queue: name.as_str().into(), arguments, ..Default::default() });
            let text = format!("PRECONDITION_FAILED - invalid arg '{key}' for queue '{name}' in vhost '/'");
            channel.expect_close(406, &text, ids::QUEUE_DECLARE);
        }
    }

    fn passive_finds_a_queue_or_says_404(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("queue");
        channel.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::QUEUE_DECLARE);
        let channel = broker.connect().channel();
        channel.queue(&name);
        assert_eq!(channel.passive(&name).queue.as_str(), name);
        channel.delete_queue(&name);
    }

    fn passive_asks_for_existence_alone(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("queue");
        channel.queue(&name);
        channel.declare_queue(&name, |declare| {
            declare.passive = true;
            declare.durable = true;
            declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(2))]);
        });
    }

    fn names_with_the_reserved_prefix_are_403(broker: &Broker) {
        let channel = broker.connect().channel();
        channel.send(queue::Declare { queue: "amq.mine".into(), ..Default::default() });
        let text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'";
        channel.expect_close(403, text, ids::QUEUE_DECLARE);
    }

    fn line_breaks_in_a_name_are_stripped(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("queue");
        let declared = channel.declare_queue(&format!("{name}\r\n"), |_| {});
        assert_eq!(declared.queue.as_str(), name);
    }

    fn an_exclusive_queue_is_405_to_other_connections(broker: &Broker) {
        let (owner, stranger) = (broker.connect(), broker.connect());
        let name = broker.name("queue");
        owner.channel().declare_queue(&name, |declare| declare.exclusive = true);
        let text = format!("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'");
        let is_refused = |method: Vec<u8>, ids| {
            let channel = stranger.channel();
            channel.send_bytes(&readdressed(&method, channel.id));
            channel.expect_close(405, &text, ids);
        };
        let queue = || name.as_str().into();
        is_refused(wire::method(1, queue::Declare { queue: queue(), ..Default::default() }), ids::QUEUE_DECLARE);
        let passive = queue::Declare { queue: queue(), passive: true, ..Default::default() };
        is_refused(wire::method(1, passive), ids::QUEUE_DECLARE);
        is_refused(wire::method(1, queue::Delete { queue: queue(), ..Default::default() }), ids::QUEUE_DELETE);
        is_refused(wire::method(1, queue::Purge { queue: queue(), ..Default::default() }), ids::QUEUE_PURGE);
        is_refused(wire::method(1, binding(&name, "amq.direct", "k")), ids::QUEUE_BIND);
        is_refused(wire::method(1, basic::Consume { queue: queue(), ..Default::default() }), ids::BASIC_CONSUME);
        is_refused(wire::method(1, basic::Get { queue: queue(), no_ack: true }), ids::BASIC_GET);
        // Another channel of the owner may.
        owner.channel().consume(&name);
    }

    fn an_exclusive_queue_goes_with_its_connection(broker: &Broker) {
        let (owner, other) = (broker.connect(), broker.connect());
        let name = broker.name("queue");
        owner.channel().declare_queue(&name, |declare| declare.exclusive = true);
        owner.close();
        let channel = other.channel();
        channel.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        channel.expect_close(404, &format!("no queue '{name}'"), ids::QUEUE_DECLARE);
    }

    fn an_exclusive_queue_stays_when_its_channel_closes(broker: &Broker) {
        let owner = broker.connect();
        let channel = owner.channel();
        let name = channel.own_queue();
        channel.close();
        owner.channel().passive(&name);
    }

    fn the_name_of_an_exclusive_queue_is_free_once_its_connection_is_cut(broker: &Broker) {
        let name = broker.name("queue");
        let first = broker.connect();
        first.channel().declare_queue(&name, |declare| declare.exclusive = true);
        first.cut();
        // Nobody is told when: asked again until the broker has noticed.
        let next = broker.connect();
        loop {
            let channel = next.channel();
            channel.send(queue::Declare { queue: name.as_str().into(), exclusive: true, ..Default::default() });
            match channel.next("declare-ok or 405").method {
                AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_)) => break,
                _ => channel.send(amq_protocol::protocol::channel::CloseOk {}),
            }
        }
    }

    fn an_auto_delete_queue_goes_with_its_last_consumer(broker: &Broker) {
        let (one, two) = (broker.connect(), broker.connect());
        let (one, two) = (one.channel(), two.channel());
        let name = broker.name("queue");
        one.declare_queue(&name, |declare| declare.auto_delete = true);
        let (first, second) = (one.consume(&name), two.consume(&name));
        one.cancel(&first);
        assert_eq!(one.passive(&name).consumer_count, 1);
        two.cancel(&second);
        two.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        two.expect_close(404, "no queue", ids::QUEUE_DECLARE);
    }

    fn an_auto_delete_queue_that_never_had_a_consumer_stays(broker: &Broker) {
        let (one, two) = (broker.connect(), broker.connect());
        let name = broker.name("queue");
        one.channel().declare_queue(&name, |declare| declare.auto_delete = true);
        one.close();
        two.channel().passive(&name);
    }

    fn an_auto_delete_queue_goes_when_the_consumers_channel_closes(broker: &Broker) {
        let connection = broker.connect();
        let (consumer, witness) = (connection.channel(), connection.channel());
        let name = broker.name("queue");
        consumer.declare_queue(&name, |declare| declare.auto_delete = true);
        consumer.consume(&name);
        consumer.close();
        witness.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        witness.expect_close(404, "no queue", ids::QUEUE_DECLARE);
    }

    fn an_empty_name_means_the_queue_declared_last(broker: &Broker) {
        let channel = broker.connect().channel();
        let first = channel.own_queue();
        let last = channel.own_queue();
        // An empty routing key too stands for the queue's name then.
        channel.bind("", "amq.direct", "");
        channel.confirm_select();
        channel.publish("amq.direct", &last, "one");
        channel.publish("amq.direct", &last, "two");
        channel.confirmed(1..=2);
        assert_eq!(channel.get_no_ack("").expect("the last queue has messages").text(), "one");
        let purged = channel.call::<queue::PurgeOk>(queue::Purge::default());
        assert_eq!(purged.message_count, 1);
        channel.consume("");
        assert_eq!(channel.passive(&last).consumer_count, 1);
        channel.delete_queue("");
        channel.passive(&first);
    }

    fn an_empty_name_before_any_declare_is_404(broker: &Broker) {
        let channel = broker.connect().channel();
        channel.send(basic::Get { queue: "".into(), no_ack: true });
        channel.expect_close(404, "NOT_FOUND - no previously declared queue", ids::BASIC_GET);
    }

    fn a_vhost_is_a_world_of_its_own(broker: &Broker) {
        let (here, there) = (broker.connect(), broker.login(&Login::alice("orders")));
        let (here, there) = (here.channel(), there.channel());
        let name = broker.name("queue");
        here.queue(&name);
        there.declare_queue(&name, |declare| declare.durable = true);
        here.confirm_select();
        here.publish("", &name, "here");
        here.confirmed(1..=1);
        assert_eq!(there.passive(&name).message_count, 0);
        assert_eq!(here.drain(&name), ["here"]);
        there.delete_queue(&name);
        there.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        there.expect_close(404, &format!("no queue '{name}' in vhost 'orders'"), ids::QUEUE_DECLARE);
        here.passive(&name);
    }
}

/// The same frame for another channel.
fn readdressed(frame: &[u8], channel: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[1..3].copy_from_slice(&channel.to_be_bytes());
    frame
}

fn expect_inequivalence(
    broker: &Broker,
    name: &str,
    first: impl FnOnce(&mut queue::Declare),
    then: impl FnOnce(&mut queue::Declare),
    text: &str,
) {
    let connection = broker.connect();
    connection.channel().declare_queue(name, first);
    let channel = connection.channel();
    let mut declare = queue::Declare {
        queue: name.into(),
        ..Default::default()
    };
    then(&mut declare);
    channel.send(declare);
    channel.expect_close(406, text, ids::QUEUE_DECLARE);
    connection.channel().delete_queue(name);
}
