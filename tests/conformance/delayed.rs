//! `x-delayed-message`: messages that go where they are routed after a while.

use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{headers, table, text};
use amq_protocol::protocol::basic;
use amq_protocol::protocol::exchange;
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
}
