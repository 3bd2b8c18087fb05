//! Publishing: what is routed, returned, dropped or refused, and that contents arrive as they were sent.

use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire;
use amq_protocol::protocol::basic;
use amq_protocol::types::AMQPValue;

on_each_core_count! {
    fn an_unroutable_mandatory_message_comes_back_whole(broker: &Broker) {
        let channel = broker.connect().channel();
        let properties = wire::headers(&[("k", wire::text("v"))]);
        let body: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let publish = basic::Publish {
            exchange: "amq.direct".into(), routing_key: "nowhere-at-all".into(), mandatory: true, immediate: false,
        };
        channel.publish_with(publish, &properties, &body);
        let returned = channel.expect_message::<basic::Return>();
        let expected = basic::Return {
            reply_code: 312, reply_text: "NO_ROUTE".into(), exchange: "amq.direct".into(),
            routing_key: "nowhere-at-all".into(),
        };
        assert_eq!(returned.method, expected);
        assert_eq!(returned.content.properties, properties);
        assert_eq!(returned.content.body, body);
    }

    fn an_unroutable_message_is_dropped_if_not_mandatory(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.publish("", "no-such-queue-anywhere", "lost");
        channel.publish("amq.fanout", "x", "lost");
        channel.nothing_more_from(&queue);
    }

    fn a_routable_mandatory_message_does_not_come_back(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.confirm_select();
        channel.publish_mandatory("", &queue, "kept");
        channel.confirmed(1..=1);
        assert_eq!(channel.drain(&queue), ["kept"]);
    }

    fn immediate_is_540(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let publish = basic::Publish { immediate: true, ..Default::default() };
        channel.publish_with(publish, wire::NO_PROPERTIES, b"now");
        connection.expect_close(540, "NOT_IMPLEMENTED - immediate=true", ids::BASIC_PUBLISH);
    }

    fn publishing_to_no_exchange_is_404(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let name = broker.name("nothing");
        channel.publish(&name, "key", "lost");
        channel.expect_close(404, &format!("NOT_FOUND - no exchange '{name}' in vhost '/'"), ids::BASIC_PUBLISH);
        connection.is_alive();
    }

    fn bodies_of_every_size_arrive(broker: &Broker) {
        let connections = broker.connections_spread::<4>();
        for writer in &connections {
            let (reader, writer) = (connections[0].channel(), writer.channel());
            let queue = reader.own_queue();
            reader.consume_no_ack(&queue);
            for size in [0, 1, 7, 4087, 4088, 4089, 65_535, 131_063, 131_064, 131_065, 1_000_000, 5_000_000] {
                let body: Vec<u8> = (0..size).map(|n: u32| (n ^ (n >> 8)).to_le_bytes()[0]).collect();
                writer.publish_content("", &queue, wire::NO_PROPERTIES, &body);
                let delivery = reader.delivery();
                assert!(delivery.content.body == body, "a body of {size} arrived as {}", delivery.content.body.len());
            }
        }
    }

    fn a_body_in_many_small_frames_is_one_body(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.consume_no_ack(&queue);
        let publish = basic::Publish { routing_key: queue.as_str().into(), ..Default::default() };
        let mut bytes = wire::method(channel.id, publish);
        bytes.extend(wire::header(channel.id, 1000, wire::NO_PROPERTIES));
        for n in 0..1000_u32 {
            bytes.extend(wire::body(channel.id, &n.to_le_bytes()[..1]));
        }
        channel.send_bytes(&bytes);
        let body: Vec<u8> = (0..1000_u32).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(channel.delivery().content.body, body);
    }

    fn contents_of_two_channels_may_interleave(broker: &Broker) {
        let connection = broker.connect();
        let (one, two) = (connection.channel(), connection.channel());
        let queue = one.own_queue();
        one.consume_no_ack(&queue);
        let start = |id: u16| {
            let publish = basic::Publish { routing_key: queue.as_str().into(), ..Default::default() };
            [wire::method(id, publish), wire::header(id, 2, wire::NO_PROPERTIES)].concat()
        };
        one.send_bytes(&[
            start(one.id), start(two.id), wire::body(two.id, b"2"), wire::body(one.id, b"1"),
            wire::body(one.id, b"1"), wire::body(two.id, b"2"),
        ].concat());
        let mut texts = one.delivered_texts(2);
        texts.sort();
        assert_eq!(texts, ["11", "22"]);
    }

    fn properties_arrive_byte_for_byte(broker: &Broker) {
        let (writer, reader) = (broker.connect(), broker.connect());
        let (writer, reader) = (writer.channel(), reader.channel());
        let queue = reader.own_queue();
        reader.consume_no_ack(&queue);
        for properties in some_properties() {
            writer.publish_content("", &queue, &properties, b"x");
            let delivery = reader.delivery();
            assert_eq!(delivery.content.properties, properties);
            assert_eq!(delivery.method.routing_key.as_str(), queue);
        }
    }

    fn a_header_table_keeps_its_order_and_duplicates(broker: &Broker) {
        if broker.is_reference() {
            // RabbitMQ keeps the order; what it does with duplicates is its own affair.
            return;
        }
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.consume_no_ack(&queue);
        let fields = b"\x01zS\x00\x00\x00\x011\x01aI\x00\x00\x00\x02\x01zt\x01\x01bV";
        let properties = [&[0x20, 0][..], &wire::long_string(fields)].concat();
        channel.publish_content("", &queue, &properties, b"x");
        assert_eq!(channel.delivery().content.properties, properties);
    }

    fn one_copy_for_each_queue_however_many_bindings_match(broker: &Broker) {
        let channel = broker.connect().channel();
        let exchange = broker.name("direct");
        channel.exchange(&exchange, "direct");
        let (one, two) = (channel.own_queue(), channel.own_queue());
        for key in ["a", "b", "b"] {
            channel.bind(&one, &exchange, key);
        }
        channel.bind(&two, &exchange, "b");
        channel.bind(&two, &exchange, "c");
        channel.confirm_select();
        for key in ["a", "b", "c", "d"] {
            channel.publish(&exchange, key, key);
        }
        channel.confirmed(1..=4);
        assert_eq!(channel.drain(&one), ["a", "b"]);
        assert_eq!(channel.drain(&two), ["b", "c"]);
    }

    fn fanout_reaches_queues_on_every_core_whatever_the_key(broker: &Broker) {
        let connections = broker.connections_spread::<8>();
        let exchange = broker.name("fanout");
        connections[0].channel().exchange(&exchange, "fanout");
        let channels = connections.each_ref().map(|connection| connection.channel());
        for channel in &channels {
            let queue = channel.own_queue();
            channel.bind(&queue, &exchange, "ignored");
            channel.consume_no_ack(&queue);
        }
        for publisher in &channels {
            for key in ["", "any", "key"] {
                publisher.publish(&exchange, key, key);
            }
        }
        for channel in &channels {
            let mut texts = channel.delivered_texts(24);
            texts.sort();
            assert_eq!(texts, ["".to_owned(), "any".to_owned(), "key".to_owned()].map(|key| vec![key; 8]).concat());
        }
    }

    fn messages_of_one_channel_keep_their_order(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let reader = connections[0].channel();
        for writer in &connections {
            let queue = reader.own_queue();
            reader.consume_no_ack(&queue);
            let writer = writer.channel();
            for n in 0..2000 {
                writer.publish("", &queue, &n.to_string());
            }
            for n in 0..2000 {
                assert_eq!(reader.delivery().text(), n.to_string());
            }
        }
    }

    fn access_request_is_answered_for_old_clients(broker: &Broker) {
        use amq_protocol::protocol::access;
        let channel = broker.connect().channel();
        channel.call::<access::RequestOk>(access::Request { realm: "/data".into(), ..Default::default() });
    }
}

fn some_properties() -> Vec<Vec<u8>> {
    use amq_protocol::types::{DecimalValue, FieldArray};
    let text = |value: &str| value.to_owned().into();
    let all = basic::AMQPProperties::default()
        .with_content_type(text("text/plain"))
        .with_content_encoding(text("utf-8"))
        .with_delivery_mode(1)
        .with_priority(7)
        .with_correlation_id(text("correlation"))
        .with_reply_to(text("reply"))
        .with_expiration(text("60000000"))
        .with_message_id(text("id"))
        .with_timestamp(1_700_000_000)
        .with_type(text("kind"))
        .with_user_id(text("guest"))
        .with_app_id(text("app"))
        .with_cluster_id(text("cluster"));
    let array = FieldArray::from(vec![
        AMQPValue::LongInt(1),
        wire::text("two"),
        AMQPValue::Void,
    ]);
    let headers = wire::headers(&[
        ("array", AMQPValue::FieldArray(array)),
        ("bool", AMQPValue::Boolean(true)),
        ("byte", AMQPValue::ShortShortInt(-5)),
        (
            "decimal",
            AMQPValue::DecimalValue(DecimalValue {
                scale: 2,
                value: 314,
            }),
        ),
        ("double", AMQPValue::Double(1.5)),
        ("float", AMQPValue::Float(0.25)),
        ("int", AMQPValue::LongInt(-70_000)),
        ("long", AMQPValue::LongLongInt(1 << 40)),
        ("short", AMQPValue::ShortInt(-300)),
        (
            "table",
            AMQPValue::FieldTable(wire::table(&[("inner", wire::text("x"))])),
        ),
        ("text", wire::text("v\u{e4}lue")),
        ("time", AMQPValue::Timestamp(1_700_000_000)),
        ("void", AMQPValue::Void),
    ]);
    let odd_text = [&[0x80, 0][..], &wire::short_string(b"\xff\xfe not UTF-8")].concat();
    vec![
        wire::NO_PROPERTIES.to_vec(),
        wire::properties(&all),
        headers,
        wire::PERSISTENT.to_vec(),
        odd_text,
    ]
}
