//! Persistent messages on durable queues: there again, whole, in order and flagged, wherever they were routed.

use crate::lives::{after_each_end, durable_exchange, durable_queue, keep};
use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::wire::{self, long_string, short_string};
use amq_protocol::protocol::{basic, tx};
use amq_protocol::types::AMQPValue;

after_each_end! {
    fn messages_of_every_size_come_back_whole(lives: &mut Lives) {
        let sizes = [0, 1, 4096, 100 * 1024, 5 * 1024 * 1024];
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        channel.confirm_select();
        for size in sizes {
            channel.publish_content("", "queue", wire::PERSISTENT, &pattern(size));
        }
        channel.confirmed(1..=5);
        lives.restart();

        let channel = lives.connect().channel();
        assert_eq!(channel.passive("queue").message_count, 5);
        channel.consume("queue");
        for size in sizes {
            let delivery = channel.delivery();
            assert!(delivery.content.body == pattern(size), "the body of {size} bytes is another");
            assert_eq!(delivery.content.properties, wire::PERSISTENT);
            assert_eq!(delivery.method.redelivered, lives.redelivered(false));
        }
    }

    fn properties_and_headers_come_back_byte_for_byte(lives: &mut Lives) {
        let all = [every_property(), unusual_headers(), large_headers(), wire::PERSISTENT.to_vec()];
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        durable_exchange(&channel, "exchange", "topic");
        channel.bind("queue", "exchange", "a.#");
        channel.confirm_select();
        for properties in &all {
            channel.publish_content("exchange", "a.b.c", properties, b"body");
        }
        channel.confirmed(1..=all.len() as u64);
        lives.restart();

        let channel = lives.connect().channel();
        for properties in &all {
            let got = channel.get_no_ack("queue").expect("it was kept");
            assert_eq!(got.content.properties, *properties);
            assert_eq!(got.text(), "body");
            let basic::GetOk { exchange, routing_key, .. } = got.method;
            assert_eq!((exchange.as_str(), routing_key.as_str()), ("exchange", "a.b.c"));
        }
        assert!(channel.get_no_ack("queue").is_none());
    }

    fn twenty_thousand_come_back_in_order(lives: &mut Lives) {
        const COUNT: u64 = 20_000;
        let channel = lives.connect().channel();
        durable_queue(&channel, "queue");
        channel.confirm_select();
        publish_numbers(&channel, "queue", 0..COUNT);
        channel.confirmed(1..=COUNT);
        lives.restart();

        let channel = lives.connect().channel();
        assert_eq!(u64::from(channel.passive("queue").message_count), COUNT);
        channel.consume_no_ack("queue");
        for number in 0..COUNT {
            assert_eq!(channel.delivery().text(), number.to_string());
        }
    }

    fn a_hundred_mebibytes_come_back(lives: &mut Lives) {
        let channel = lives.connect().channel();
        durable_queue(&channel, "queue");
        channel.confirm_select();
        for number in 0..100 {
            channel.publish_content("", "queue", wire::PERSISTENT, &numbered_mebibyte(number));
        }
        channel.confirmed(1..=100);
        lives.restart();

        let channel = lives.connect().channel();
        channel.qos(4, false);
        channel.consume("queue");
        for number in 0..100 {
            let delivery = channel.delivery();
            assert!(delivery.content.body == numbered_mebibyte(number), "number {number} is another");
            channel.ack(delivery.tag());
        }
    }

    fn transient_messages_are_gone_and_leave_no_gap(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        channel.confirm_select();
        let mode_1 = wire::properties(&basic::AMQPProperties::default().with_delivery_mode(1));
        for number in 0..30 {
            let properties = [wire::PERSISTENT, wire::NO_PROPERTIES, &mode_1][number % 3];
            channel.publish_content("", "queue", properties, number.to_string().as_bytes());
        }
        channel.confirmed(1..=30);
        assert_eq!(channel.passive("queue").message_count, 30);
        lives.restart();

        let expected: Vec<String> = (0..30).step_by(3).map(|number| number.to_string()).collect();
        assert_eq!(lives.texts("queue"), expected);
    }

    fn persistent_messages_on_a_transient_queue_are_gone(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "durable");
        channel.queue("transient");
        for queue in ["durable", "transient"] {
            channel.bind(queue, "amq.fanout", "");
        }
        keep(&connection, "amq.fanout", "", &["to both"]);
        keep(&connection, "", "transient", &["to one"]);
        lives.restart();

        let channel = lives.connect().channel();
        channel.queue("transient");
        assert_eq!(channel.passive("transient").message_count, 0);
        assert_eq!(lives.texts("durable"), ["to both"]);
    }

    fn a_fanout_is_in_each_queue(lives: &mut Lives) {
        let connections = lives.broker().connections_spread::<3>();
        let channels = connections.each_ref().map(Connection::channel);
        durable_exchange(&channels[0], "exchange", "fanout");
        let queues = ["one", "two", "three"];
        for (channel, queue) in channels.iter().zip(queues) {
            durable_queue(channel, queue);
            channel.bind(queue, "exchange", "");
        }
        for connection in &connections {
            keep(connection, "exchange", "", &["a", "b"]);
        }
        // Settled in one queue, a message stays in the others.
        let got = channels[0].get("one").expect("it was published");
        channels[0].ack(got.method.delivery_tag);
        lives.sure(&connections[0], "one");
        lives.restart();

        assert_eq!(lives.texts("one"), ["b", "a", "b", "a", "b"]);
        for queue in ["two", "three"] {
            assert_eq!(lives.texts(queue), ["a", "b", "a", "b", "a", "b"]);
        }
    }

    fn publishers_on_every_core_reach_one_queue(lives: &mut Lives) {
        let connections = lives.broker().connections_spread::<8>();
        let channels = connections.each_ref().map(Connection::channel);
        durable_queue(&channels[0], "queue");
        for (number, channel) in channels.iter().enumerate() {
            channel.confirm_select();
            for each in 0..100 {
                let text = format!("{number} {each}");
                channel.publish_content("", "queue", wire::PERSISTENT, text.as_bytes());
            }
        }
        for channel in &channels {
            channel.confirmed(1..=100);
        }
        lives.restart();

        let texts = lives.texts("queue");
        assert_eq!(texts.len(), 800);
        for number in 0..8 {
            let prefix = format!("{number} ");
            let each: Vec<_> = texts.iter().filter_map(|text| text.strip_prefix(&prefix)).collect();
            let expected: Vec<_> = (0..100).map(|each| each.to_string()).collect();
            assert_eq!(each, expected, "from publisher {number}");
        }
    }

    fn flags_tell_what_was_delivered(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["a", "b", "c", "d"]);
        let tags: Vec<_> = (0..3).map(|_| channel.get("queue").expect("four are there").method.delivery_tag).collect();
        channel.reject(tags[1], true);
        channel.passive("queue");
        // `a` and `c` are still out when the process ends, `b` is back, `d` never was out.
        lives.restart();

        let expected = [("a", true), ("b", true), ("c", true), ("d", false)];
        let expected = expected.map(|(text, was_delivered)| (text.to_owned(), lives.redelivered(was_delivered)));
        assert_eq!(lives.flagged_texts("queue"), expected);
    }

    fn flags_survive_two_restarts(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["a", "b"]);
        channel.consume_with("queue", |consume| consume.consumer_tag = "tag".into());
        channel.delivered_texts(2);
        lives.restart();
        keep(&lives.connect(), "", "queue", &["c"]);
        lives.restart();

        let expected = [("a", true), ("b", true), ("c", lives.redelivered(false))];
        assert_eq!(lives.flagged_texts("queue"), expected.map(|(text, flag)| (text.to_owned(), flag)));
    }

    fn requeued_messages_keep_their_place(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["a", "b", "c", "d", "e"]);
        channel.qos(4, false);
        let tag = channel.consume("queue");
        assert_eq!(channel.delivered_texts(4), ["a", "b", "c", "d"]);
        channel.cancel(&tag);
        channel.ack(2);
        channel.nack(4, false, true);
        channel.nack(3, true, true);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("queue"), ["a", "c", "d", "e"]);
    }

    fn later_messages_stand_behind_earlier_ones(lives: &mut Lives) {
        durable_queue(&lives.connect().channel(), "queue");
        let mut expected = vec![];
        for life in 0..5 {
            let texts = [format!("{life} a"), format!("{life} b")];
            keep(&lives.connect(), "", "queue", &texts.each_ref().map(String::as_str));
            expected.extend(texts);
            lives.restart();
        }
        assert_eq!(lives.texts("queue"), expected);
    }

    fn messages_come_by_every_route(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        channel.declare_exchange("transient", "direct", |declare| {
            declare.arguments = wire::table(&[("alternate-exchange", wire::text("amq.fanout"))]);
        });
        channel.bind_exchange("amq.topic", "transient", "by.topic");
        channel.bind("queue", "amq.topic", "by.*");
        channel.bind("queue", "amq.fanout", "");
        keep(&connection, "transient", "by.topic", &["through an exchange"]);
        keep(&connection, "transient", "else", &["as the alternate"]);
        keep(&connection, "amq.fanout", "", &["by fanout"]);
        keep(&connection, "", "queue", &["by name"]);
        lives.restart();

        let expected = ["through an exchange", "as the alternate", "by fanout", "by name"];
        assert_eq!(lives.texts("queue"), expected);
    }

    fn committed_messages_come_back_and_no_others(lives: &mut Lives) {
        let connections = lives.broker().connections_spread::<2>();
        let channels = connections.each_ref().map(Connection::channel);
        for (channel, queue) in channels.iter().zip(["one", "two"]) {
            durable_queue(channel, queue);
            channel.bind(queue, "amq.fanout", "");
        }
        let channel = connections[0].channel();
        channel.call::<tx::SelectOk>(tx::Select {});
        let publish = |exchange: &str, key: &str, text: &str| {
            channel.publish_content(exchange, key, wire::PERSISTENT, text.as_bytes());
        };
        publish("amq.fanout", "", "a");
        publish("", "two", "b");
        channel.call::<tx::CommitOk>(tx::Commit {});
        publish("amq.fanout", "", "rolled back");
        channel.call::<tx::RollbackOk>(tx::Rollback {});
        publish("amq.fanout", "", "c");
        channel.call::<tx::CommitOk>(tx::Commit {});
        publish("amq.fanout", "", "never committed");
        channel.passive("one");
        lives.restart();

        assert_eq!(lives.texts("one"), ["a", "c"]);
        assert_eq!(lives.texts("two"), ["a", "b", "c"]);
    }

    fn a_large_commit_comes_back_as_a_whole(lives: &mut Lives) {
        let channel = lives.connect().channel();
        durable_queue(&channel, "queue");
        channel.call::<tx::SelectOk>(tx::Select {});
        publish_numbers(&channel, "queue", 0..10_000);
        channel.call::<tx::CommitOk>(tx::Commit {});
        lives.restart();

        let expected: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let channel = lives.connect().channel();
        assert_eq!(channel.passive("queue").message_count, 10_000);
        channel.consume_no_ack("queue");
        assert!(channel.delivered_texts(10_000) == expected, "they are in another order");
    }
}

/// Publishes each number as a persistent message, in large writes.
fn publish_numbers(channel: &Channel, queue: &str, numbers: std::ops::Range<u64>) {
    let frames: Vec<u8> = numbers
        .flat_map(|number| {
            let publish = basic::Publish {
                routing_key: queue.into(),
                ..Default::default()
            };
            let text = number.to_string();
            let content = wire::content(channel.id, wire::PERSISTENT, text.as_bytes(), 4096);
            [wire::method(channel.id, publish), content].concat()
        })
        .collect();
    channel.send_bytes(&frames);
}

/// Bytes in which any block that is missing, moved or doubled shows.
fn pattern(size: usize) -> Vec<u8> {
    let words = (0..size as u64 / 8 + 1).map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(size);
    bytes
}

fn numbered_mebibyte(number: u8) -> Vec<u8> {
    let mut bytes = pattern(1 << 20);
    bytes[0] = number;
    bytes[(1 << 20) - 1] = number;
    bytes
}

/// All that clients set.
fn every_property() -> Vec<u8> {
    let headers = wire::table(&[
        ("bool", AMQPValue::Boolean(true)),
        ("i8", AMQPValue::ShortShortInt(-1)),
        ("i16", AMQPValue::ShortInt(-2)),
        ("i32", AMQPValue::LongInt(-3)),
        ("i64", AMQPValue::LongLongInt(-4)),
        ("f32", AMQPValue::Float(0.5)),
        ("f64", AMQPValue::Double(0.25)),
        ("text", wire::text("ä\u{0}ö")),
        ("time", AMQPValue::Timestamp(1_700_000_000)),
        ("void", AMQPValue::Void),
        (
            "table",
            AMQPValue::FieldTable(wire::table(&[("in", wire::text("side"))])),
        ),
    ]);
    let properties = basic::AMQPProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("identity".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        // Not in the time of a test.
        .with_expiration("86400000".into())
        .with_message_id("message".into())
        .with_timestamp(1_700_000_001)
        .with_type("kind".into())
        // RabbitMQ wants the name that the connection logged in with.
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into());
    wire::properties(&properties)
}

/// Headers and delivery mode, as flags, table and mode.
fn with_headers(fields: &[u8]) -> Vec<u8> {
    [&[0x30, 0][..], &long_string(fields), &[2]].concat()
}

/// What a re-encoding would change: unsorted and equal names, text that isn't UTF-8, a Boolean that is 7.
fn unusual_headers() -> Vec<u8> {
    let field = |name: &str, kind: u8, value: &[u8]| {
        [&short_string(name.as_bytes())[..], &[kind], value].concat()
    };
    let fields = [
        field("z", b'S', &long_string(b"\xff\xfe")),
        field("a", b't', &[7]),
        field("z", b'S', &long_string(b"again")),
        field("", b'x', &long_string(&[0, 1, 2])),
        field("n", b'A', &long_string(&[])),
    ];
    with_headers(&fields.concat())
}

/// More than a page, and more than 16 bits of length.
fn large_headers() -> Vec<u8> {
    let value = [&[b'S'][..], &long_string(&pattern(70_000))].concat();
    with_headers(&[&short_string(b"large")[..], &value].concat())
}
