//! Settling deliveries: ack, nack, reject, recover, and what returns to the queue when nobody settles.

use crate::support::broker::Broker;
use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire;
use amq_protocol::protocol::basic;

on_each_core_count! {
    fn ack_settles_one(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        channel.ack(2);
        assert_eq!(left_after_closing(broker, connection, &name), ["0", "2", "3", "4"]);
    }

    fn ack_multiple_settles_all_up_to_its_tag(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        channel.ack_up_to(3);
        assert_eq!(left_after_closing(broker, connection, &name), ["3", "4"]);
    }

    fn ack_multiple_of_tag_0_settles_all(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        channel.ack_up_to(0);
        assert_eq!(left_after_closing(broker, connection, &name), [""; 0]);
    }

    fn acks_come_in_any_order(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        for tag in [5, 1, 3] {
            channel.ack(tag);
        }
        assert_eq!(left_after_closing(broker, connection, &name), ["1", "3"]);
    }

    fn reject_without_requeue_drops(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        channel.reject(2, false);
        assert_eq!(left_after_closing(broker, connection, &name), ["0", "2", "3", "4"]);
    }

    fn nack_multiple_without_requeue_drops_all_up_to_its_tag(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        channel.nack(4, true, false);
        assert_eq!(left_after_closing(broker, connection, &name), ["4"]);
    }

    fn nack_multiple_of_tag_0_drops_all(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        channel.nack(0, true, false);
        assert_eq!(left_after_closing(broker, connection, &name), [""; 0]);
    }

    fn nack_settles_one(broker: &Broker) {
        let (connection, channel, name) = holding_five(broker);
        channel.nack(5, false, false);
        assert_eq!(left_after_closing(broker, connection, &name), ["0", "1", "2", "3"]);
    }

    fn a_requeued_message_takes_its_old_place(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.fill_confirmed(&queue, &["0", "1", "2", "3", "4"]);
        let tags: Vec<_> = (0..4).map(|_| channel.get(&queue).expect("five are ready").method.delivery_tag).collect();
        channel.reject(tags[2], true);
        channel.reject(tags[0], true);
        channel.nack(tags[3], false, true);
        channel.ack(tags[1]);
        let rest: Vec<_> = std::iter::from_fn(|| channel.get_no_ack(&queue))
            .map(|message| (message.text(), message.method.redelivered))
            .collect();
        let expected = [("0", true), ("2", true), ("3", true), ("4", false)];
        assert_eq!(rest, expected.map(|(text, redelivered)| (text.to_owned(), redelivered)));
    }

    fn a_requeued_message_is_delivered_again_and_says_so(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.consume(&queue);
        channel.publish("", &queue, "again");
        let first = channel.delivery();
        assert!(!first.method.redelivered);
        channel.reject(first.tag(), true);
        let second = channel.delivery();
        assert_eq!((second.text().as_str(), second.method.redelivered, second.tag()), ("again", true, 2));
        channel.nack(second.tag(), false, true);
        let third = channel.delivery();
        assert!(third.method.redelivered);
        channel.ack(third.tag());
        channel.nothing_more_from(&queue);
    }

    fn nack_multiple_with_requeue_returns_all_in_order(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.fill_confirmed(&queue, &["0", "1", "2", "3"]);
        for _ in 0..3 {
            channel.get(&queue).expect("four are ready");
        }
        channel.nack(2, true, true);
        assert_eq!(channel.drain(&queue), ["0", "1", "3"]);
        channel.nack(0, true, true);
        assert_eq!(channel.drain(&queue), ["2"]);
    }

    fn an_unknown_delivery_tag_is_406(broker: &Broker) {
        let connection = broker.connect();
        let refused = |settle: &dyn Fn(&Channel), tag: u64, ids| {
            let channel = connection.channel();
            settle(&channel);
            channel.expect_close(406, &format!("PRECONDITION_FAILED - unknown delivery tag {tag}"), ids);
        };
        refused(&|channel| channel.ack(1), 1, ids::BASIC_ACK);
        refused(&|channel| channel.ack(0), 0, ids::BASIC_ACK);
        refused(&|channel| channel.ack_up_to(7), 7, ids::BASIC_ACK);
        refused(&|channel| channel.nack(u64::MAX, false, true), u64::MAX, ids::BASIC_NACK);
        refused(&|channel| channel.reject(3, true), 3, ids::BASIC_REJECT);
    }

    fn settling_twice_is_406(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.consume(&queue);
        channel.publish("", &queue, "once");
        let tag = channel.delivery().tag();
        channel.ack(tag);
        channel.ack(tag);
        channel.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 1", ids::BASIC_ACK);
    }

    fn a_tag_of_another_channel_is_406(broker: &Broker) {
        let connection = broker.connect();
        let (one, two) = (connection.channel(), connection.channel());
        let queue = one.own_queue();
        one.consume(&queue);
        one.publish("", &queue, "mine");
        let tag = one.delivery().tag();
        two.ack(tag);
        two.expect_close(406, "unknown delivery tag 1", ids::BASIC_ACK);
        one.ack(tag);
        one.nothing_more_from(&queue);
    }

    fn all_of_nothing_is_no_error(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.ack_up_to(0);
        channel.nack(0, true, true);
        channel.nothing_more_from(&queue);
    }

    fn a_closed_channel_returns_what_it_held_in_order_and_flagged(broker: &Broker) {
        let connection = broker.connect();
        let (holder, taker) = (connection.channel(), connection.channel());
        let queue = holder.own_queue();
        holder.fill_confirmed(&queue, &["0", "1", "2", "3"]);
        for _ in 0..3 {
            holder.get(&queue).expect("four are ready");
        }
        holder.ack(2);
        holder.close();
        taker.consume(&queue);
        let again: Vec<_> = (0..3).map(|_| taker.delivery()).map(|it| (it.text(), it.method.redelivered)).collect();
        let expected = [("0", true), ("2", true), ("3", false)];
        assert_eq!(again, expected.map(|(text, redelivered)| (text.to_owned(), redelivered)));
    }

    fn a_channel_error_returns_what_the_channel_held(broker: &Broker) {
        let connection = broker.connect();
        let (holder, taker) = (connection.channel(), connection.channel());
        let queue = taker.own_queue();
        taker.consume_no_ack(&taker.own_queue());
        taker.fill(&queue, &["a", "b"]);
        holder.consume(&queue);
        holder.delivered_texts(2);
        holder.ack(99);
        holder.expect_close(406, "unknown delivery tag 99", ids::BASIC_ACK);
        taker.consume(&queue);
        for text in ["a", "b"] {
            let delivery = taker.delivery();
            assert_eq!((delivery.text().as_str(), delivery.method.redelivered), (text, true));
        }
    }

    fn a_cut_connection_returns_what_it_held(broker: &Broker) {
        let connections = broker.connections_spread::<2>();
        let name = broker.name("held");
        let [holder, taker] = connections;
        let channel = holder.channel();
        channel.queue(&name);
        channel.consume(&name);
        channel.fill(&name, &["a", "b", "c"]);
        channel.delivered_texts(3);
        channel.ack(1);
        // Round trip: the ack has been seen before the cut.
        channel.passive(&name);
        drop(channel);
        let taker = taker.channel();
        taker.consume(&name);
        holder.cut();
        for text in ["b", "c"] {
            let delivery = taker.delivery();
            assert_eq!((delivery.text().as_str(), delivery.method.redelivered), (text, true));
        }
    }

    fn unread_deliveries_return_when_the_connection_is_cut(broker: &Broker) {
        let connections = broker.connections_spread::<3>();
        let [holder, taker, publisher] = connections;
        let name = broker.name("flood");
        holder.channel().queue(&name);
        holder.open_channel(9).consume(&name);
        let publisher = publisher.channel();
        let body = vec![1; 10_000];
        for _ in 0..1000 {
            publisher.publish_content("", &name, wire::NO_PROPERTIES, &body);
        }
        let taker = taker.channel();
        taker.consume(&name);
        holder.cut();
        for _ in 0..1000 {
            taker.delivery();
        }
        taker.ack_up_to(0);
        assert_eq!(taker.delete_queue(&name), 0);
    }

    fn recover_delivers_again_what_is_held(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.consume(&queue);
        channel.fill(&queue, &["a", "b"]);
        channel.delivered_texts(2);
        channel.call::<basic::RecoverOk>(basic::Recover { requeue: true });
        for (text, tag) in [("a", 3), ("b", 4)] {
            let delivery = channel.delivery();
            assert_eq!((delivery.text().as_str(), delivery.method.redelivered, delivery.tag()), (text, true, tag));
        }
        channel.ack_up_to(4);
        channel.nothing_more_from(&queue);
    }

    fn recover_async_does_so_without_an_answer(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.consume(&queue);
        channel.publish("", &queue, "a");
        channel.delivery();
        channel.send(basic::RecoverAsync { requeue: true });
        let delivery = channel.delivery();
        assert_eq!((delivery.text().as_str(), delivery.method.redelivered), ("a", true));
        channel.nothing_more_from(&queue);
    }

    fn recover_to_the_same_consumer_is_540(broker: &Broker) {
        let connection = broker.connect();
        connection.channel().send(basic::Recover { requeue: false });
        connection.expect_close(540, "NOT_IMPLEMENTED - requeue=false", ids::BASIC_RECOVER);
    }

    fn messages_requeued_by_one_go_to_another(broker: &Broker) {
        let connections = broker.connections_spread::<2>();
        let [one, two] = connections.each_ref().map(|connection| connection.channel());
        let name = broker.name("passed-on");
        one.queue(&name);
        one.qos(1, false);
        two.qos(1, false);
        let tag = one.consume(&name);
        one.publish("", &name, "hot");
        let delivery = one.delivery();
        two.consume(&name);
        one.cancel(&tag);
        one.reject(delivery.tag(), true);
        let delivery = two.delivery();
        assert_eq!((delivery.text().as_str(), delivery.method.redelivered), ("hot", true));
    }
}

/// A connection whose channel 1 holds the messages "0" to "4" of a new queue, tags 1 to 5.
fn holding_five(broker: &Broker) -> (Connection, Channel, String) {
    let connection = broker.connect();
    let channel = connection.channel();
    let name = broker.name("five");
    channel.queue(&name);
    channel.consume(&name);
    channel.fill(&name, &["0", "1", "2", "3", "4"]);
    channel.delivered_texts(5);
    (connection, channel, name)
}

/// What is left in the queue when this connection is closed, as another one sees it.
fn left_after_closing(broker: &Broker, connection: Connection, name: &str) -> Vec<String> {
    connection.close();
    let channel = broker.connect().channel();
    let left = channel.drain(name);
    channel.delete_queue(name);
    left
}
