//! `x-delayed-message`: messages that go where they are routed after a while.

use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{self, headers, table, text};
use amq_protocol::protocol::basic;
use amq_protocol::protocol::exchange;
use amq_protocol::protocol::tx;
use amq_protocol::types::AMQPValue;

pub(crate) fn delayed(channel: &Channel, name: &str, kind: &str) {
    channel.declare_exchange(name, "x-delayed-message", |declare| {
        declare.arguments = table(&[("x-delayed-type", text(kind))]);
    });
}

pub(crate) fn publish_after(channel: &Channel, exchange: &str, key: &str, ms: i32, text: &str) {
    let delay = headers(&[("x-delay", AMQPValue::LongInt(ms))]);
    channel.publish_content(exchange, key, &delay, text.as_bytes());
}

/// A channel with a queue that is bound to a delayed exchange, and consumed from.
fn listening(connection: &Connection, exchange: &str, key: &str) -> Channel {
    let channel = connection.channel();
    let queue = channel.own_queue();
    channel.bind(&queue, exchange, key);
    channel.consume_no_ack(&queue);
    channel
}

fn delay_told(properties: &[u8]) -> Option<AMQPValue> {
    let (_, properties) = basic::parse_properties(properties).expect("well-formed");
    let headers = properties.headers().clone()?;
    headers.inner().get("x-delay").cloned()
}

/// Properties with a delay in ms and such keys in BCC.
fn blind(ms: i32, keys: &[&str]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| text(key)).collect();
    headers(&[
        ("x-delay", AMQPValue::LongInt(ms)),
        ("BCC", AMQPValue::FieldArray(keys.into())),
    ])
}

fn headers_told(properties: &[u8]) -> Vec<(String, i64)> {
    let (_, properties) = basic::parse_properties(properties).expect("well-formed");
    let headers = properties.headers().clone().unwrap_or_default();
    let headers = headers.inner().iter();
    let told = headers.map(|(name, value)| {
        let number = match value {
            AMQPValue::LongInt(number) => i64::from(*number),
            AMQPValue::LongLongInt(number) => *number,
            other => panic!("a header that is no number: {name}={other:?}"),
        };
        (name.to_string(), number)
    });
    told.collect()
}

on_each_core_count! {
    fn messages_go_in_the_order_of_their_times(broker: &Broker) {
        if broker.is_reference() {
            return; // Its plugin isn't installed.
        }
        let connection = broker.connect();
        let name = broker.name("later");
        delayed(&connection.channel(), &name, "direct");
        let channel = listening(&connection, &name, "key");
        publish_after(&channel, &name, "key", 120, "last");
        publish_after(&channel, &name, "key", 60, "second");
        channel.publish(&name, "key", "at once");
        publish_after(&channel, &name, "key", -1, "at once too");
        assert_eq!(channel.delivered_texts(3), ["at once", "at once too", "second"]);
        let last = channel.delivery();
        assert_eq!((last.method.exchange.as_str(), last.method.routing_key.as_str()), (name.as_str(), "key"));
        assert_eq!(delay_told(&last.content.properties), Some(AMQPValue::LongLongInt(-120)));
        channel.delete_exchange(&name);
    }

    fn a_delay_may_be_a_text_or_have_a_fraction(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("later");
        delayed(&connection.channel(), &name, "fanout");
        let channel = listening(&connection, &name, "");
        for (delay, body) in [(text("90"), "digits"), (AMQPValue::Double(45.5), "fraction")] {
            channel.publish_content(&name, "", &headers(&[("x-delay", delay)]), body.as_bytes());
        }
        channel.publish(&name, "", "at once");
        assert_eq!(channel.delivered_texts(2), ["at once", "fraction"]);
        let last = channel.delivery();
        assert_eq!(delay_told(&last.content.properties), Some(AMQPValue::LongLongInt(-90)));
        channel.delete_exchange(&name);
    }

    fn it_routes_as_its_type_does_wherever_queues_are(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<6>();
        let name = broker.name("later");
        let channel = connections[0].channel();
        delayed(&channel, &name, "topic");
        let all = connections.each_ref().map(|connection| listening(connection, &name, "*.warn"));
        publish_after(&channel, &name, "kern.warn", 30, "to all");
        publish_after(&channel, &name, "kern.info", 1, "to nobody");
        for one in &all {
            assert_eq!(one.delivered_texts(1), ["to all"]);
        }
        channel.delete_exchange(&name);
    }

    fn what_leads_nowhere_comes_back_at_once(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("later");
        delayed(&connection.channel(), &name, "direct");
        let channel = listening(&connection, &name, "key");
        channel.confirm_select();
        let delay = headers(&[("x-delay", AMQPValue::LongInt(60_000))]);
        for key in ["elsewhere", "key"] {
            let publish = basic::Publish {
                exchange: name.as_str().into(),
                routing_key: key.into(),
                mandatory: true,
                ..Default::default()
            };
            channel.publish_with(publish, &delay, key.as_bytes());
        }
        let returned = channel.expect_message::<basic::Return>();
        assert_eq!(returned.text(), "elsewhere");
        channel.confirmed(1..=2);
        channel.delete_exchange(&name);
    }

    fn its_queue_is_nobodys(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("later");
        let channel = connection.channel();
        delayed(&channel, &name, "fanout");
        let listener = listening(&connection, &name, "");
        publish_after(&channel, &name, "", 50, "waits");
        channel.publish("", &format!("{name}\n"), "an intruder");
        assert_eq!(listener.delivered_texts(1), ["waits"]);
        channel.send(basic::Get { queue: format!("{name}\n").into(), no_ack: true });
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::BASIC_GET);
        connection.channel().delete_exchange(&name);
    }

    fn what_it_delays_goes_with_it(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let name = broker.name("later");
        delayed(&connection.channel(), &name, "fanout");
        let channel = listening(&connection, &name, "");
        publish_after(&channel, &name, "", 60, "lost");
        channel.delete_exchange(&name);
        delayed(&channel, &name, "fanout");
        let queue = channel.own_queue();
        channel.bind(&queue, &name, "");
        channel.consume_no_ack(&queue);
        publish_after(&channel, &name, "", 100, "kept");
        assert_eq!(channel.delivered_texts(1), ["kept"]);
        channel.delete_exchange(&name);
    }

    fn it_needs_a_type_that_there_is(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        for arguments in [table(&[]), table(&[("x-delayed-type", text("odd"))]), table(&[("x-delayed-type", text("x-delayed-message"))])] {
            let channel = connection.channel();
            let name = broker.name("later");
            channel.send(exchange::Declare {
                exchange: name.as_str().into(),
                kind: "x-delayed-message".into(),
                arguments,
                ..Default::default()
            });
            let text = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type";
            channel.expect_close(406, text, ids::EXCHANGE_DECLARE);
        }
    }

    fn keys_in_bcc_count_when_the_time_has_come_and_nobody_sees_them(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<3>();
        let name = broker.name("later");
        let channel = connections[0].channel();
        delayed(&channel, &name, "direct");
        let listeners = [("shown", 1), ("hidden", 2), ("hidden too", 0)]
            .map(|(key, connection)| listening(&connections[connection], &name, key));
        channel.confirm_select();
        for (number, key) in [(1, "shown"), (2, "nowhere")] {
            let publish = basic::Publish {
                exchange: name.as_str().into(),
                routing_key: key.into(),
                mandatory: true,
                ..Default::default()
            };
            channel.publish_with(publish, &blind(20, &["hidden", "hidden too"]), key.as_bytes());
            channel.confirmed(number..=number);
        }
        for (listener, texts) in listeners.iter().zip([&["shown"][..], &["shown", "nowhere"], &["shown", "nowhere"]]) {
            for text in texts {
                let delivery = listener.delivery();
                assert_eq!(delivery.text(), *text);
                assert_eq!(headers_told(&delivery.content.properties), [("x-delay".to_owned(), -20)]);
            }
        }
        assert_eq!(channel.waiting(), 0, "none came back");
        channel.delete_exchange(&name);
    }

    fn a_message_that_comes_to_a_delayed_exchange_and_elsewhere_shows_bcc_to_nobody(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        for (is_durable, in_transaction) in [(false, false), (true, false), (true, true)] {
            let connections = broker.connections_spread::<3>();
            let (name, source) = (broker.name("later"), broker.name("source"));
            let channel = connections[0].channel();
            channel.declare_exchange(&name, "x-delayed-message", |declare| {
                declare.durable = is_durable;
                declare.arguments = table(&[("x-delayed-type", text("direct"))]);
            });
            channel.exchange(&source, "fanout");
            channel.bind_exchange(&name, &source, "");
            // Some of them are on the core where the other waits.
            let at_once = connections.each_ref().map(|connection| listening(connection, &source, ""));
            let later = listening(&connections[1], &name, "hidden");
            if in_transaction {
                channel.call::<tx::SelectOk>(tx::Select {});
            } else {
                channel.confirm_select();
            }
            let (_, properties) = basic::parse_properties(&blind(10, &["hidden"])[..]).expect("well-formed");
            let properties = wire::properties(&properties.with_delivery_mode(2));
            channel.publish_content(&source, "nowhere", &properties, b"both ways");
            if in_transaction {
                channel.call::<tx::CommitOk>(tx::Commit {});
            } else {
                channel.confirmed(1..=1);
            }
            for (listener, delay) in at_once.iter().map(|one| (one, 10)).chain([(&later, -10)]) {
                let delivery = listener.delivery();
                assert_eq!(delivery.text(), "both ways");
                assert_eq!(headers_told(&delivery.content.properties), [("x-delay".to_owned(), delay)]);
            }
            for one in [&name, &source] {
                channel.delete_exchange(one);
            }
        }
    }
}
