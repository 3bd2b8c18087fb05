//! Headers exchanges: all, any, and the same with `x-` headers counted in.

use crate::support::broker::Broker;
use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{self, table, text};
use amq_protocol::protocol::queue;
use amq_protocol::types::AMQPValue;

type Fields<'a> = &'a [(&'a str, AMQPValue)];

on_each_core_count! {
    fn all_wants_every_field(broker: &Broker) {
        let channel = broker.connect().channel();
        let binding = [("x-match", text("all")), ("format", text("pdf")), ("pages", AMQPValue::LongInt(3))];
        let matches = |fields: Fields<'_>| is_routed(broker, &channel, &binding, fields);
        assert!(matches(&[("format", text("pdf")), ("pages", AMQPValue::LongInt(3))]));
        assert!(matches(&[("format", text("pdf")), ("pages", AMQPValue::LongInt(3)), ("more", text("x"))]));
        assert!(!matches(&[("format", text("pdf"))]));
        assert!(!matches(&[("format", text("pdf")), ("pages", AMQPValue::LongInt(4))]));
        assert!(!matches(&[]));
    }

    fn any_wants_one_field(broker: &Broker) {
        let channel = broker.connect().channel();
        let binding = [("x-match", text("any")), ("format", text("pdf")), ("pages", AMQPValue::LongInt(3))];
        let matches = |fields: Fields<'_>| is_routed(broker, &channel, &binding, fields);
        assert!(matches(&[("format", text("pdf"))]));
        assert!(matches(&[("format", text("txt")), ("pages", AMQPValue::LongInt(3))]));
        assert!(!matches(&[("format", text("txt"))]));
        assert!(!matches(&[]));
    }

    fn all_is_meant_where_nothing_is_said(broker: &Broker) {
        let channel = broker.connect().channel();
        let binding = [("a", text("1")), ("b", text("2"))];
        assert!(is_routed(broker, &channel, &binding, &[("a", text("1")), ("b", text("2"))]));
        assert!(!is_routed(broker, &channel, &binding, &[("a", text("1"))]));
    }

    fn an_empty_binding_matches_everything_under_all(broker: &Broker) {
        let channel = broker.connect().channel();
        assert!(is_routed(broker, &channel, &[], &[("a", text("1"))]));
        assert!(is_routed(broker, &channel, &[("x-match", text("all"))], &[]));
        assert!(!is_routed(broker, &channel, &[("x-match", text("any"))], &[("a", text("1"))]));
    }

    fn a_void_value_asks_for_presence(broker: &Broker) {
        let channel = broker.connect().channel();
        let binding = [("a", AMQPValue::Void)];
        assert!(is_routed(broker, &channel, &binding, &[("a", text("anything"))]));
        assert!(is_routed(broker, &channel, &binding, &[("a", AMQPValue::Boolean(false))]));
        assert!(!is_routed(broker, &channel, &binding, &[("b", text("anything"))]));
    }

    fn fields_that_begin_with_x_are_not_compared(broker: &Broker) {
        let channel = broker.connect().channel();
        let all = [("x-match", text("all")), ("x-color", text("red")), ("a", text("1"))];
        assert!(is_routed(broker, &channel, &all, &[("a", text("1"))]));
        let any = [("x-match", text("any")), ("x-color", text("red")), ("a", text("1"))];
        assert!(!is_routed(broker, &channel, &any, &[("x-color", text("red"))]));
    }

    fn all_with_x_and_any_with_x_compare_them(broker: &Broker) {
        let channel = broker.connect().channel();
        let all = [("x-match", text("all-with-x")), ("x-color", text("red")), ("a", text("1"))];
        assert!(is_routed(broker, &channel, &all, &[("a", text("1")), ("x-color", text("red"))]));
        assert!(!is_routed(broker, &channel, &all, &[("a", text("1"))]));
        let any = [("x-match", text("any-with-x")), ("x-color", text("red")), ("a", text("1"))];
        assert!(is_routed(broker, &channel, &any, &[("x-color", text("red"))]));
        assert!(!is_routed(broker, &channel, &any, &[("x-color", text("blue"))]));
    }

    fn a_bad_x_match_is_406(broker: &Broker) {
        let connection = broker.connect();
        for value in [text("some"), AMQPValue::LongInt(1)] {
            let channel = connection.channel();
            let queue = channel.own_queue();
            let arguments = table(&[("x-match", value)]);
            let exchange = "amq.headers".into();
            channel.send(queue::Bind { queue: queue.as_str().into(), exchange, arguments, ..Default::default() });
            channel.expect_close(406, "PRECONDITION_FAILED - Invalid x-match field ", ids::QUEUE_BIND);
        }
    }

    fn a_binding_is_undone_by_its_arguments(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        let exchange = broker.name("headers");
        channel.exchange(&exchange, "headers");
        let (one, two) = (table(&[("a", text("1"))]), table(&[("a", text("2"))]));
        for arguments in [&one, &two] {
            channel.call::<queue::BindOk>(queue::Bind {
                queue: queue.as_str().into(), exchange: exchange.as_str().into(), arguments: arguments.clone(),
                ..Default::default()
            });
        }
        channel.call::<queue::UnbindOk>(queue::Unbind {
            queue: queue.as_str().into(), exchange: exchange.as_str().into(), arguments: one, ..Default::default()
        });
        channel.confirm_select();
        for value in ["1", "2"] {
            channel.publish_content(&exchange, "", &wire::headers(&[("a", text(value))]), value.as_bytes());
        }
        channel.confirmed(1..=2);
        assert_eq!(channel.drain(&queue), ["2"]);
    }
}

/// Does a headers exchange with this one binding route a message with these headers?
fn is_routed(broker: &Broker, channel: &Channel, binding: Fields<'_>, message: Fields<'_>) -> bool {
    let queue = channel.own_queue();
    let exchange = broker.name("headers");
    channel.exchange(&exchange, "headers");
    channel.call::<queue::BindOk>(queue::Bind {
        queue: queue.as_str().into(),
        exchange: exchange.as_str().into(),
        arguments: table(binding),
        ..Default::default()
    });
    channel.publish_content(&exchange, "", &wire::headers(message), b"x");
    channel.publish("", &queue, "last");
    channel.consume_no_ack(&queue);
    let routed = channel.delivery().text() == "x";
    if routed {
        channel.delivery();
    }
    channel.delete_queue(&queue);
    channel.expect::<amq_protocol::protocol::basic::Cancel>();
    channel.delete_exchange(&exchange);
    routed
}
