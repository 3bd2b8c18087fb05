//! Exchanges: declared, bound to each other, internal, auto-deleted, reserved, with an alternate.

use crate::support::channel::{Channel, binding};
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{self, table, text};
use amq_protocol::protocol::{basic, exchange, queue};

on_each_core_count! {
    fn every_type_is_declared_found_and_deleted(broker: &Broker) {
        let channel = broker.connect().channel();
        for kind in ["direct", "fanout", "topic", "headers"] {
            let name = broker.name(kind);
            channel.declare_exchange(&name, kind, |declare| declare.durable = true);
            channel.declare_exchange(&name, kind, |declare| declare.durable = true);
            channel.declare_exchange(&name, kind, |declare| declare.passive = true);
            channel.delete_exchange(&name);
        }
    }

    fn the_predeclared_exchanges_are_there(broker: &Broker) {
        let channel = broker.connect().channel();
        for name in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"] {
            channel.declare_exchange(name, "", |declare| declare.passive = true);
        }
        // Declared again as they are, they are found too.
        channel.declare_exchange("amq.direct", "direct", |declare| declare.durable = true);
    }

    fn passive_says_404_for_what_is_not_there(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("nothing");
        channel.send(exchange::Declare { passive: true, ..declaration(&name, "direct") });
        channel.expect_close(404, &format!("NOT_FOUND - no exchange '{name}' in vhost '/'"), ids::EXCHANGE_DECLARE);
    }

    fn an_unknown_type_is_503(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        channel.send(declaration(&broker.name("exchange"), "x-nonsense"));
        connection.expect_close(503, "COMMAND_INVALID - unknown exchange type 'x-nonsense'", ids::EXCHANGE_DECLARE);
    }

    fn declaring_again_otherwise_is_406(broker: &Broker) {
        let connection = broker.connect();
        let name = broker.name("exchange");
        connection.channel().exchange(&name, "direct");
        let differs = |declare: exchange::Declare, arg: &str, received: &str, current: &str| {
            let channel = connection.channel();
            channel.send(declare);
            let text = format!("PRECONDITION_FAILED - inequivalent arg '{arg}' for exchange '{name}' in vhost '/': \
                received {received} but current is {current}");
            channel.expect_close(406, &text, ids::EXCHANGE_DECLARE);
        };
        differs(declaration(&name, "topic"), "type", "'topic'", "'direct'");
        let plain = || declaration(&name, "direct");
        differs(exchange::Declare { durable: true, ..plain() }, "durable", "'true'", "'false'");
        differs(exchange::Declare { auto_delete: true, ..plain() }, "auto_delete", "'true'", "'false'");
        differs(exchange::Declare { internal: true, ..plain() }, "internal", "'true'", "'false'");
        let arguments = table(&[("alternate-exchange", text("other"))]);
        let value = "the value 'other' of type 'longstr'";
        differs(exchange::Declare { arguments, ..plain() }, "alternate-exchange", value, "none");
        connection.channel().delete_exchange(&name);
    }

    fn reserved_names_are_403(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        channel.send(declaration("amq.mine", "direct"));
        let text = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'";
        channel.expect_close(403, text, ids::EXCHANGE_DECLARE);
        let channel = connection.channel();
        channel.send(exchange::Delete { exchange: "amq.direct".into(), ..Default::default() });
        channel.expect_close(403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
            ids::EXCHANGE_DELETE);
    }

    fn the_default_exchange_is_not_to_be_touched(broker: &Broker) {
        let connection = broker.connect();
        let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
        let refused = |send: &dyn Fn(&Channel), ids| {
            let channel = connection.channel();
            send(&channel);
            channel.expect_close(403, text, ids);
        };
        let own = connection.channel().own_queue();
        refused(&|channel| channel.send(declaration("", "direct")), ids::EXCHANGE_DECLARE);
        refused(&|channel| channel.send(exchange::Delete::default()), ids::EXCHANGE_DELETE);
        refused(&|channel| channel.send(binding(&own, "", "key")), ids::QUEUE_BIND);
        let unbind = || queue::Unbind { queue: own.as_str().into(), routing_key: "key".into(), ..Default::default() };
        refused(&|channel| channel.send(unbind()), ids::QUEUE_UNBIND);
        let bind = || exchange::Bind { source: "amq.direct".into(), ..Default::default() };
        refused(&|channel| channel.send(bind()), ids::EXCHANGE_BIND);
        let bind = || exchange::Bind { destination: "amq.direct".into(), ..Default::default() };
        refused(&|channel| channel.send(bind()), ids::EXCHANGE_BIND);
    }

    fn the_default_exchange_routes_by_queue_name(broker: &Broker) {
        let channel = broker.connect().channel();
        let (one, two) = (channel.own_queue(), channel.own_queue());
        channel.publish("", &one, "to one");
        channel.publish("", &two, "to two");
        channel.consume_no_ack(&two);
        assert_eq!(channel.delivery().text(), "to two");
        channel.consume_no_ack(&one);
        assert_eq!(channel.delivery().text(), "to one");
    }

    fn delete_if_unused_refuses_while_something_is_bound(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let name = broker.name("used");
        channel.exchange(&name, "fanout");
        let queue = channel.own_queue();
        channel.bind(&queue, &name, "");
        let delete = || exchange::Delete { exchange: name.as_str().into(), if_unused: true, nowait: false };
        channel.send(delete());
        channel.expect_close(406, &format!("PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"),
            ids::EXCHANGE_DELETE);
        let channel = connection.channel();
        channel.unbind(&queue, &name, "");
        channel.call::<exchange::DeleteOk>(delete());
    }

    fn deleting_what_is_not_there_is_fine(broker: &Broker) {
        broker.connect().channel().delete_exchange(&broker.name("nothing"));
    }

    fn an_auto_delete_exchange_goes_with_its_last_binding(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("fleeting");
        channel.declare_exchange(&name, "fanout", |declare| declare.auto_delete = true);
        let (one, two) = (channel.own_queue(), channel.own_queue());
        channel.bind(&one, &name, "");
        channel.bind(&two, &name, "");
        channel.unbind(&one, &name, "");
        channel.declare_exchange(&name, "fanout", |declare| declare.passive = true);
        channel.delete_queue(&two);
        channel.send(exchange::Declare { passive: true, ..declaration(&name, "fanout") });
        channel.expect_close(404, "no exchange", ids::EXCHANGE_DECLARE);
    }

    fn an_internal_exchange_routes_and_takes_no_publish(broker: &Broker) {
        let channel = broker.connect().channel();
        let (outer, inner) = (broker.name("outer"), broker.name("inner"));
        channel.exchange(&outer, "fanout");
        channel.declare_exchange(&inner, "fanout", |declare| declare.internal = true);
        channel.bind_exchange(&inner, &outer, "");
        let queue = channel.own_queue();
        channel.bind(&queue, &inner, "");
        channel.consume_no_ack(&queue);
        channel.publish(&outer, "", "through");
        let delivery = channel.delivery();
        assert_eq!((delivery.text().as_str(), delivery.method.exchange.as_str()), ("through", outer.as_str()));
        channel.publish(&inner, "", "not so");
        let text = format!("ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'");
        channel.expect_close(403, &text, ids::BASIC_PUBLISH);
    }

    fn exchanges_route_to_exchanges_by_key(broker: &Broker) {
        let channel = broker.connect().channel();
        let (source, target) = (broker.name("source"), broker.name("target"));
        channel.exchange(&source, "direct");
        channel.exchange(&target, "topic");
        channel.bind_exchange(&target, &source, "a.b");
        let queue = channel.own_queue();
        channel.bind(&queue, &target, "a.*");
        channel.bind(&queue, &source, "a.b");
        channel.consume_no_ack(&queue);
        for key in ["a.c", "a.b", "b"] {
            channel.publish(&source, key, key);
        }
        let delivery = channel.delivery();
        assert_eq!((delivery.text().as_str(), delivery.method.routing_key.as_str()), ("a.b", "a.b"));
        channel.nothing_more_from(&queue);
        let unbind = exchange::Unbind {
            destination: target.as_str().into(), source: source.as_str().into(), routing_key: "a.b".into(),
            ..Default::default()
        };
        channel.call::<exchange::UnbindOk>(unbind);
        channel.unbind(&queue, &source, "a.b");
        channel.publish(&source, "a.b", "gone");
        channel.nothing_more_from(&queue);
    }

    fn a_ring_of_exchanges_ends_with_one_copy_for_each_queue(broker: &Broker) {
        let channel = broker.connect().channel();
        let ring: Vec<_> = (0..5).map(|_| broker.name("ring")).collect();
        let queue = channel.own_queue();
        for name in &ring {
            channel.exchange(name, "fanout");
            channel.bind(&queue, name, "");
        }
        for (from, name) in ring.iter().enumerate() {
            channel.bind_exchange(&ring[(from + 1) % ring.len()], name, "");
            channel.bind_exchange(name, name, "");
        }
        channel.consume_no_ack(&queue);
        channel.publish(&ring[2], "", "once");
        assert_eq!(channel.delivery().text(), "once");
        channel.nothing_more_from(&queue);
    }

    fn a_deleted_exchange_takes_its_bindings_along(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("again");
        let queue = channel.own_queue();
        channel.exchange(&name, "fanout");
        channel.bind(&queue, &name, "");
        channel.delete_exchange(&name);
        channel.exchange(&name, "fanout");
        channel.confirm_select();
        channel.publish(&name, "", "nowhere");
        channel.confirmed(1..=1);
        assert_eq!(channel.passive(&queue).message_count, 0);
        channel.delete_exchange(&name);
    }

    fn an_alternate_exchange_gets_what_nobody_wants(broker: &Broker) {
        let channel = broker.connect().channel();
        let (main, second, last) = (broker.name("main"), broker.name("second"), broker.name("last"));
        let with_alternate = |name: &str, alternate: &str| {
            channel.declare_exchange(name, "direct", |declare| {
                declare.arguments = table(&[("alternate-exchange", text(alternate))]);
            });
        };
        with_alternate(&main, &second);
        with_alternate(&second, &last);
        channel.exchange(&last, "fanout");
        let (wanted, unwanted) = (channel.own_queue(), channel.own_queue());
        channel.bind(&wanted, &main, "wanted");
        channel.bind(&unwanted, &last, "");
        channel.confirm_select();
        channel.publish_mandatory(&main, "wanted", "wanted");
        channel.publish_mandatory(&main, "other", "unwanted");
        channel.confirmed(1..=2);
        assert_eq!(channel.drain(&wanted), ["wanted"]);
        assert_eq!(channel.drain(&unwanted), ["unwanted"]);
    }

    fn an_alternate_exchange_need_not_exist(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("main");
        channel.declare_exchange(&name, "direct", |declare| {
            declare.arguments = table(&[("alternate-exchange", text("not-there-at-all"))]);
        });
        channel.publish_mandatory(&name, "key", "back");
        assert_eq!(channel.expect_message::<basic::Return>().text(), "back");
    }

    fn binding_exchanges_that_are_not_there_is_404(broker: &Broker) {
        let connection = broker.connect();
        let name = broker.name("nothing");
        let text = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
        for (destination, source) in [(name.as_str(), "amq.direct"), ("amq.direct", name.as_str())] {
            let channel = connection.channel();
            channel.send(exchange::Bind {
                destination: destination.into(), source: source.into(), ..Default::default()
            });
            channel.expect_close(404, &text, ids::EXCHANGE_BIND);
        }
    }

    fn nowait_says_nothing_and_does_the_work(broker: &Broker) {
        let channel = broker.connect().channel();
        let (source, target) = (broker.name("source"), broker.name("target"));
        for name in [&source, &target] {
            channel.send(exchange::Declare { nowait: true, ..declaration(name, "fanout") });
        }
        channel.send(exchange::Bind {
            destination: target.as_str().into(), source: source.as_str().into(), nowait: true, ..Default::default()
        });
        let queue = channel.own_queue();
        channel.bind(&queue, &target, "");
        channel.confirm_select();
        channel.publish(&source, "", "through");
        channel.confirmed(1..=1);
        assert_eq!(channel.drain(&queue), ["through"]);
        channel.send(exchange::Unbind {
            destination: target.as_str().into(), source: source.as_str().into(), nowait: true, ..Default::default()
        });
        channel.publish(&source, "", "not through");
        channel.confirmed(2..=2);
        assert_eq!(channel.passive(&queue).message_count, 0);
        channel.send(exchange::Delete { exchange: source.as_str().into(), if_unused: false, nowait: true });
        channel.send(exchange::Declare { passive: true, ..declaration(&source, "fanout") });
        channel.expect_close(404, "no exchange", ids::EXCHANGE_DECLARE);
    }

    fn an_exchange_declared_on_one_connection_serves_the_others_at_once(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let queue_owner = connections[0].channel();
        for connection in &connections {
            let name = broker.name("shared");
            let queue = queue_owner.own_queue();
            connection.channel().exchange(&name, "fanout");
            queue_owner.bind(&queue, &name, "");
            for publisher in &connections {
                let publisher = publisher.channel();
                publisher.confirm_select();
                publisher.publish_content(&name, "", wire::NO_PROPERTIES, b"x");
                publisher.confirmed(1..=1);
                publisher.close();
            }
            assert_eq!(queue_owner.passive(&queue).message_count, 6);
        }
    }
}

fn declaration(name: &str, kind: &str) -> exchange::Declare {
    exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        ..Default::default()
    }
}
