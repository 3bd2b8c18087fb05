//! What queues hold and who reads them: counts, purge, delete with its conditions, unbind.

use crate::support::cores::on_each_core_count;
use crate::support::ids;
use amq_protocol::protocol::{AMQPClass, basic, queue};

on_each_core_count! {
    fn counts_are_right_from_every_connection_once_confirmed(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let name = broker.name("counted");
        let channels = connections.each_ref().map(|connection| connection.channel());
        channels[0].queue(&name);
        for (before, channel) in channels.iter().enumerate() {
            channel.fill_confirmed(&name, &["a", "b"]);
            for witness in &channels {
                let declared = witness.passive(&name);
                assert_eq!(declared.message_count as usize, 2 * (before + 1));
                assert_eq!(declared.consumer_count, 0);
            }
        }
    }

    fn a_publish_is_counted_by_a_declare_right_behind_it(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let name = broker.name("counted");
        connections[0].channel().queue(&name);
        for (before, connection) in connections.iter().enumerate() {
            let channel = connection.channel();
            channel.publish("", &name, "one more");
            let counted = channel.passive(&name).message_count as usize;
            // RabbitMQ answers a declare before the publishes that wait at the queue.
            assert!(counted == before + 1 || broker.is_reference(), "counted {counted}, published {}", before + 1);
        }
    }

    fn consumers_are_counted_wherever_they_are(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let name = broker.name("counted");
        let channels = connections.each_ref().map(|connection| connection.channel());
        channels[0].queue(&name);
        for (before, channel) in channels.iter().enumerate() {
            channel.consume(&name);
            assert_eq!(channels[0].passive(&name).consumer_count as usize, before + 1);
        }
        channels[5].close();
        assert_eq!(channels[0].passive(&name).consumer_count, 5);
        let [keep, closed, ..] = connections;
        closed.close();
        assert_eq!(keep.channel().passive(&name).consumer_count, 4);
    }

    fn unacknowledged_messages_are_not_counted(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.fill_confirmed(&queue, &["a", "b", "c"]);
        assert!(channel.get(&queue).is_some());
        assert_eq!(channel.passive(&queue).message_count, 2);
    }

    fn purge_takes_the_ready_messages_and_counts_them(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.fill_confirmed(&queue, &["a", "b", "c"]);
        let held = channel.get(&queue).expect("a message is ready");
        let purge = || queue::Purge { queue: queue.as_str().into(), nowait: false };
        assert_eq!(channel.call::<queue::PurgeOk>(purge()).message_count, 2);
        assert_eq!(channel.call::<queue::PurgeOk>(purge()).message_count, 0);
        channel.reject(held.method.delivery_tag, true);
        assert_eq!(channel.drain(&queue), ["a"], "what was held is not purged");
    }

    fn purging_no_queue_is_404(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("nothing");
        channel.send(queue::Purge { queue: name.as_str().into(), nowait: false });
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::QUEUE_PURGE);
    }

    fn delete_counts_the_messages(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.fill_confirmed(&queue, &["a", "b", "c"]);
        assert_eq!(channel.delete_queue(&queue), 3);
    }

    fn deleting_what_is_not_there_is_fine(broker: &Broker) {
        let channel = broker.connect().channel();
        assert_eq!(channel.delete_queue(&broker.name("nothing")), 0);
    }

    fn delete_if_unused_refuses_while_somebody_consumes(broker: &Broker) {
        let (consumer, deleter) = (broker.connect(), broker.connect());
        let (consumer, channel) = (consumer.channel(), deleter.channel());
        let name = broker.name("used");
        consumer.queue(&name);
        let tag = consumer.consume(&name);
        let delete = || queue::Delete { queue: name.as_str().into(), if_unused: true, ..Default::default() };
        channel.send(delete());
        let text = format!("PRECONDITION_FAILED - queue '{name}' in vhost '/' in use");
        channel.expect_close(406, &text, ids::QUEUE_DELETE);
        consumer.cancel(&tag);
        deleter.channel().call::<queue::DeleteOk>(delete());
    }

    fn delete_if_empty_refuses_while_something_is_ready(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let name = broker.name("full");
        channel.queue(&name);
        channel.fill_confirmed(&name, &["a"]);
        let delete = || queue::Delete { queue: name.as_str().into(), if_empty: true, ..Default::default() };
        channel.send(delete());
        let text = format!("PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty");
        channel.expect_close(406, &text, ids::QUEUE_DELETE);
        let channel = connection.channel();
        assert_eq!(channel.drain(&name), ["a"]);
        channel.call::<queue::DeleteOk>(delete());
    }

    fn a_deleted_queue_is_unbound_and_may_be_declared_anew(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("again");
        channel.queue(&name);
        channel.bind(&name, "amq.direct", &name);
        channel.fill_confirmed(&name, &["old"]);
        channel.delete_queue(&name);
        channel.declare_queue(&name, |declare| declare.auto_delete = true);
        channel.publish("amq.direct", &name, "to a binding of the past");
        channel.confirmed(2..=2);
        assert_eq!(channel.passive(&name).message_count, 0);
        channel.delete_queue(&name);
    }

    fn unbind_stops_the_flow_and_is_no_error_without_a_binding(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.bind(&queue, "amq.direct", &queue);
        channel.bind(&queue, "amq.direct", &queue);
        channel.unbind(&queue, "amq.direct", &queue);
        channel.unbind(&queue, "amq.direct", &queue);
        channel.confirm_select();
        channel.publish("amq.direct", &queue, "nowhere");
        channel.confirmed(1..=1);
        assert_eq!(channel.passive(&queue).message_count, 0);
    }

    fn binding_to_what_is_not_there_is_404(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        let name = broker.name("nothing");
        channel.send(crate::support::channel::binding(&queue, &name, "k"));
        channel.expect_close(404, &format!("NOT_FOUND - no exchange '{name}' in vhost '/'"), ids::QUEUE_BIND);
        let channel = connection.channel();
        channel.send(crate::support::channel::binding(&name, "amq.direct", "k"));
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::QUEUE_BIND);
    }

    fn nowait_says_nothing_and_does_the_work(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("silent");
        let queue = || name.as_str().into();
        channel.send(queue::Declare { queue: queue(), nowait: true, ..Default::default() });
        let mut bind = crate::support::channel::binding(&name, "amq.direct", &name);
        bind.nowait = true;
        channel.send(bind);
        channel.confirm_select();
        channel.publish("amq.direct", &name, "a");
        channel.confirmed(1..=1);
        assert_eq!(channel.passive(&name).message_count, 1);
        channel.send(queue::Purge { queue: queue(), nowait: true });
        assert_eq!(channel.passive(&name).message_count, 0);
        channel.send(queue::Delete { queue: queue(), nowait: true, ..Default::default() });
        channel.send(queue::Declare { queue: queue(), passive: true, ..Default::default() });
        channel.expect_close(404, "no queue", ids::QUEUE_DECLARE);
    }

    fn consumers_hear_of_the_end_of_their_queue(broker: &Broker) {
        let (consumer, deleter) = (broker.connect(), broker.connect());
        let channel = consumer.channel();
        let name = broker.name("doomed");
        channel.queue(&name);
        let tag = channel.consume(&name);
        deleter.channel().delete_queue(&name);
        assert_eq!(channel.expect::<basic::Cancel>().consumer_tag.as_str(), tag);
        // The channel lives on, and the tag is free again.
        channel.queue(&name);
        channel.consume_with(&name, |consume| consume.consumer_tag = tag.as_str().into());
    }

    fn consumers_that_cannot_hear_a_cancel_are_spared_it(broker: &Broker) {
        let login = crate::support::login::Login { capabilities: &[], ..Default::default() };
        let consumer = broker.login(&login);
        let channel = consumer.channel();
        let (doomed, other) = (broker.name("doomed"), channel.own_queue());
        channel.queue(&doomed);
        channel.consume(&doomed);
        channel.consume_no_ack(&other);
        broker.connect().channel().delete_queue(&doomed);
        channel.publish("", &other, "still here");
        match channel.next("a delivery").method {
            AMQPClass::Basic(basic::AMQPMethod::Deliver(_)) => {}
            unexpected => panic!("{unexpected:?}"),
        }
    }
}
