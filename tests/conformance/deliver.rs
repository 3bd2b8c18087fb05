//! Consumers: who gets which message, how many at a time, and how they come and go.

use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire;
use amq_protocol::protocol::basic;

on_each_core_count! {
    fn a_delivery_says_where_it_comes_from(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.bind(&queue, "amq.direct", &queue);
        let tag = channel.consume(&queue);
        channel.publish("amq.direct", &queue, "hello");
        let delivery = channel.delivery();
        let expected = basic::Deliver {
            consumer_tag: tag.as_str().into(), delivery_tag: 1, redelivered: false, exchange: "amq.direct".into(),
            routing_key: queue.as_str().into(),
        };
        assert_eq!(delivery.method, expected);
    }

    fn messages_that_wait_are_delivered_to_who_comes(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.fill(&queue, &["a", "b", "c"]);
        channel.consume(&queue);
        assert_eq!(channel.delivered_texts(3), ["a", "b", "c"]);
    }

    fn consumers_take_turns_strictly(broker: &Broker) {
        let connections = broker.connections_spread::<3>();
        let channels = connections.each_ref().map(|connection| connection.channel());
        let name = broker.name("shared");
        channels[0].queue(&name);
        for channel in &channels {
            channel.consume_no_ack(&name);
        }
        let publisher = broker.connect().channel();
        for n in 0..30 {
            publisher.publish("", &name, &n.to_string());
        }
        for (turn, channel) in channels.iter().enumerate() {
            let expected: Vec<_> = (0..10).map(|round| (round * 3 + turn).to_string()).collect();
            assert_eq!(channel.delivered_texts(10), expected, "consumer {turn}");
        }
    }

    fn consumers_on_one_channel_take_turns_too(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        let (one, two) = (channel.consume(&queue), channel.consume(&queue));
        for n in 0..10 {
            channel.publish("", &queue, &n.to_string());
        }
        for n in 0..10 {
            let delivery = channel.delivery();
            let turn = if n % 2 == 0 { &one } else { &two };
            assert_eq!((delivery.text(), delivery.method.consumer_tag.as_str()), (n.to_string(), turn.as_str()));
        }
    }

    fn prefetch_holds_a_consumer_back_until_it_acknowledges(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.qos(2, false);
        channel.consume(&queue);
        channel.fill(&queue, &["a", "b", "c", "d", "e"]);
        assert_eq!(channel.delivered_texts(2), ["a", "b"]);
        channel.nothing_more_from(&queue);
        channel.ack(1);
        assert_eq!(channel.delivery().text(), "c");
        channel.nothing_more_from(&queue);
        channel.ack_up_to(3);
        assert_eq!(channel.delivered_texts(2), ["d", "e"]);
    }

    fn prefetch_is_for_each_consumer_and_for_those_to_come(broker: &Broker) {
        let channel = broker.connect().channel();
        let (one, two, unlimited) = (channel.own_queue(), channel.own_queue(), channel.own_queue());
        channel.consume(&unlimited);
        channel.qos(1, false);
        channel.consume(&one);
        channel.qos(2, false);
        channel.consume(&two);
        for queue in [&one, &two, &unlimited] {
            channel.fill(queue, &["x", "x", "x"]);
        }
        let mut keys: Vec<_> = (0..6).map(|_| channel.delivery().method.routing_key.to_string()).collect();
        for queue in [&one, &two, &unlimited] {
            channel.nothing_more_from(queue);
        }
        keys.sort();
        let mut expected = [vec![one; 1], vec![two; 2], vec![unlimited; 3]].concat();
        expected.sort();
        assert_eq!(keys, expected);
    }

    fn a_global_prefetch_is_for_the_channel(broker: &Broker) {
        let channel = broker.connect().channel();
        let (one, two) = (channel.own_queue(), channel.own_queue());
        channel.qos(3, true);
        channel.consume(&one);
        channel.consume(&two);
        channel.fill(&one, &["x", "x", "x"]);
        channel.fill(&two, &["x", "x", "x"]);
        for _ in 0..3 {
            channel.delivery();
        }
        channel.nothing_more_from(&one);
        channel.nothing_more_from(&two);
        channel.ack(2);
        channel.delivery();
        channel.nothing_more_from(&one);
        channel.nothing_more_from(&two);
        channel.ack_up_to(0);
        channel.delivery();
        channel.delivery();
    }

    fn both_prefetches_hold_at_once(broker: &Broker) {
        let channel = broker.connect().channel();
        let (one, two) = (channel.own_queue(), channel.own_queue());
        // In this order: in RabbitMQ 3.10 a prefetch for consumers lifts the one for the channel.
        channel.qos(2, false);
        channel.qos(3, true);
        channel.consume(&one);
        channel.fill(&one, &["1", "1", "1", "1"]);
        assert_eq!(channel.delivered_texts(2), ["1", "1"]);
        channel.nothing_more_from(&one);
        channel.consume(&two);
        channel.fill(&two, &["2", "2", "2", "2"]);
        assert_eq!(channel.delivery().text(), "2");
        channel.nothing_more_from(&one);
        channel.nothing_more_from(&two);
    }

    fn a_wider_global_prefetch_lets_more_through_at_once(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.qos(1, true);
        channel.consume(&queue);
        channel.fill(&queue, &["a", "b", "c", "d"]);
        assert_eq!(channel.delivery().text(), "a");
        channel.nothing_more_from(&queue);
        channel.qos(3, true);
        assert_eq!(channel.delivered_texts(2), ["b", "c"]);
        channel.nothing_more_from(&queue);
        channel.qos(0, true);
        assert_eq!(channel.delivery().text(), "d");
    }

    fn prefetch_of_one_is_fair_dispatch(broker: &Broker) {
        let connections = broker.connections_spread::<3>();
        let [slow, quick, publisher] = connections.each_ref().map(|connection| connection.channel());
        let name = broker.name("work");
        publisher.queue(&name);
        for worker in [&slow, &quick] {
            worker.qos(1, false);
            worker.consume(&name);
        }
        for n in 0..10 {
            publisher.publish("", &name, &n.to_string());
        }
        let stuck = slow.delivery().text();
        let mut done = Vec::new();
        for _ in 0..9 {
            let job = quick.delivery();
            done.push(job.text());
            quick.ack(job.tag());
        }
        let expected: Vec<_> = (0..10).map(|n| n.to_string()).filter(|job| *job != stuck).collect();
        assert_eq!(done, expected);
        slow.nothing_more_from(&name);
        assert!(stuck == "0" || stuck == "1");
    }

    fn no_ack_knows_no_prefetch_and_nothing_to_acknowledge(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        channel.qos(1, false);
        channel.consume_no_ack(&queue);
        channel.fill(&queue, &["a", "b", "c"]);
        assert_eq!(channel.delivered_texts(3), ["a", "b", "c"]);
        channel.ack(1);
        channel.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 1", ids::BASIC_ACK);
        let next = connection.channel();
        assert_eq!(next.drain(&queue), [""; 0], "nothing came back");
    }

    fn a_prefetch_size_is_540(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        channel.send_bytes(&wire::raw_method(channel.id, 60, 10, &[0, 0, 0, 9, 0, 1, 0]));
        connection.expect_close(540, "NOT_IMPLEMENTED - prefetch_size!=0 (9)", ids::BASIC_QOS);
    }

    fn tags_of_the_server_are_told_apart(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        let (one, two) = (channel.consume(&queue), channel.consume(&queue));
        assert!(one.starts_with("amq.ctag-") && two.starts_with("amq.ctag-"), "{one} {two}");
        assert_ne!(one, two);
    }

    fn a_tag_in_use_is_530(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        let mine = |consume: &mut basic::Consume| consume.consumer_tag = "mine".into();
        assert_eq!(channel.consume_with(&queue, mine), "mine");
        // Another channel has tags of its own.
        assert_eq!(connection.channel().consume_with(&queue, mine), "mine");
        let again = basic::Consume { queue: queue.as_str().into(), consumer_tag: "mine".into(), ..Default::default() };
        channel.send(again);
        connection.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'", ids::BASIC_CONSUME);
    }

    fn a_tag_in_use_is_told_before_a_queue_that_is_missing(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        let mine = |consume: &mut basic::Consume| consume.consumer_tag = "mine".into();
        channel.consume_with(&queue, mine);
        let missing = broker.name("missing");
        channel.send(basic::Consume { queue: missing.as_str().into(), consumer_tag: "mine".into(), ..Default::default() });
        connection.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'", ids::BASIC_CONSUME);
    }

    fn two_channels_of_a_connection_consume_from_one_queue(broker: &Broker) {
        let connection = broker.connect();
        let (first, second, publisher) = (connection.channel(), connection.channel(), connection.channel());
        let queue = first.own_queue();
        let tag = first.consume_no_ack(&queue);
        second.consume_no_ack(&queue);
        assert_eq!(publisher.passive(&queue).consumer_count, 2);
        publisher.fill(&queue, &["one", "two"]);
        assert_eq!(first.delivery().text(), "one");
        assert_eq!(second.delivery().text(), "two");
        first.cancel(&tag);
        assert_eq!(publisher.passive(&queue).consumer_count, 1);
        publisher.fill(&queue, &["three", "four"]);
        assert_eq!(second.delivered_texts(2), ["three", "four"]);
        second.close();
        assert_eq!(publisher.passive(&queue).consumer_count, 0);
    }

    fn consuming_from_nothing_is_404(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("nothing");
        channel.send(basic::Consume { queue: name.as_str().into(), ..Default::default() });
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::BASIC_CONSUME);
    }

    fn an_exclusive_consumer_is_alone(broker: &Broker) {
        let (one, two) = (broker.connect(), broker.connect());
        let name = broker.name("jealous");
        let channel = one.channel();
        channel.queue(&name);
        let tag = channel.consume_with(&name, |consume| consume.exclusive = true);
        let text = format!("ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use");
        let other = two.channel();
        other.send(basic::Consume { queue: name.as_str().into(), ..Default::default() });
        other.expect_close(403, &text, ids::BASIC_CONSUME);
        channel.cancel(&tag);
        let other = two.channel();
        other.consume(&name);
        channel.send(basic::Consume { queue: name.as_str().into(), exclusive: true, ..Default::default() });
        channel.expect_close(403, &text, ids::BASIC_CONSUME);
    }

    fn nothing_is_delivered_after_cancel_ok(broker: &Broker) {
        let connections = broker.connections_spread::<2>();
        let (consumer, publisher) = (connections[0].channel(), connections[1].channel());
        let name = broker.name("stopped");
        consumer.queue(&name);
        let tag = consumer.consume_no_ack(&name);
        for n in 0..200 {
            publisher.publish("", &name, &n.to_string());
        }
        consumer.cancel(&tag);
        let before = consumer.waiting();
        assert_eq!(consumer.delivered_texts(before), (0..before).map(|n| n.to_string()).collect::<Vec<_>>());
        publisher.fill_confirmed(&name, &["later"]);
        consumer.nothing_more_from(&name);
        let rest = consumer.drain(&name);
        assert_eq!(rest.len(), 200 - before + 1, "nothing is lost");
    }

    fn what_a_cancelled_consumer_holds_can_still_be_acknowledged(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        let tag = channel.consume(&queue);
        channel.publish("", &queue, "a");
        let held = channel.delivery();
        channel.cancel(&tag);
        assert_eq!(channel.passive(&queue).message_count, 0, "it doesn't go back by itself");
        channel.ack(held.tag());
        channel.nothing_more_from(&queue);
    }

    fn cancelling_an_unknown_tag_is_answered(broker: &Broker) {
        broker.connect().channel().cancel("who");
    }

    fn nowait_says_nothing_and_does_the_work(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.send(basic::Consume {
            queue: queue.as_str().into(), consumer_tag: "quiet".into(), no_ack: true, nowait: true, ..Default::default()
        });
        channel.publish("", &queue, "a");
        assert_eq!(channel.delivery().method.consumer_tag.as_str(), "quiet");
        channel.send(basic::Cancel { consumer_tag: "quiet".into(), nowait: true });
        assert_eq!(channel.passive(&queue).consumer_count, 0);
        channel.publish("", &queue, "b");
        channel.nothing_more_from(&queue);
    }

    fn work_spreads_over_many_connections(broker: &Broker) {
        let connections = broker.connections_spread::<12>();
        let name = broker.name("busy");
        let channels = connections.each_ref().map(|connection| connection.channel());
        channels[0].queue(&name);
        let (consumers, publishers) = channels.split_at(6);
        for consumer in consumers {
            consumer.consume(&name);
        }
        for publisher in publishers {
            publisher.fill(&name, &["x"; 100]);
        }
        // Six publishers of 100, six consumers in turn: 100 for each.
        for consumer in consumers {
            consumer.delivered_texts(100);
            consumer.ack_up_to(100);
            consumer.nothing_more_from(&name);
        }
        assert_eq!(channels[0].delete_queue(&name), 0);
    }
}

/// A socket that isn't read fills up; everybody else goes on, and the reader gets all of it later.
#[test]
fn a_consumer_that_does_not_read_holds_nobody_else_up() {
    let broker = crate::support::broker::Broker::shared(2);
    let (sleeper, awake, publisher) = (broker.connect(), broker.connect(), broker.connect());
    let (sleeper, awake, publisher) = (sleeper.channel(), awake.channel(), publisher.channel());
    let (full, lively) = (sleeper.own_queue(), awake.own_queue());
    sleeper.consume_no_ack(&full);
    awake.consume_no_ack(&lively);
    let megabyte = vec![7; 1 << 20];
    for _ in 0..24 {
        publisher.publish_content("", &full, wire::NO_PROPERTIES, &megabyte);
        publisher.publish("", &lively, "quick");
        assert_eq!(awake.delivery().text(), "quick");
    }
    for _ in 0..24 {
        assert_eq!(sleeper.delivery().content.body.len(), 1 << 20);
    }
}
