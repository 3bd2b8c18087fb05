//! Exchanges, queues and bindings: the durable ones come back as they were declared, the others don't.

use crate::lives::{
    Lives, after_each_end, durable_exchange, durable_queue, exchange_is_there, keep, queue_is_there,
};
use crate::support::channel::{Channel, binding};
use crate::support::client::Connection;
use crate::support::ids;
use crate::support::login::Login;
use crate::support::wire::{self, table, text};
use amq_protocol::protocol::{basic, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use std::collections::BTreeSet;

after_each_end! {
    fn durable_exchanges_of_every_kind_route_as_before(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        for kind in ["direct", "fanout", "topic", "headers"] {
            durable_exchange(&channel, kind, kind);
            durable_queue(&channel, &format!("q-{kind}"));
        }
        channel.bind("q-direct", "direct", "key");
        channel.bind("q-fanout", "fanout", "");
        channel.bind("q-topic", "topic", "a.*.#");
        let arguments = table(&[("x-match", text("any")), ("a", text("1")), ("b", AMQPValue::LongInt(2))]);
        channel.call::<queue::BindOk>(queue::Bind { arguments, ..binding("q-headers", "headers", "") });
        lives.restart();

        let channel = lives.connect().channel();
        channel.confirm_select();
        for key in ["key", "other", "a.b", "a.b.c", "a", "b.a"] {
            for kind in ["direct", "fanout", "topic"] {
                channel.publish(kind, key, key);
            }
        }
        let only_b = wire::headers(&[("b", AMQPValue::LongInt(2))]);
        channel.publish_content("headers", "", &only_b, b"b is 2");
        channel.publish_content("headers", "", &wire::headers(&[("b", AMQPValue::LongInt(3))]), b"b is 3");
        channel.confirmed(1..=20);
        assert_eq!(channel.drain("q-direct"), ["key"]);
        assert_eq!(channel.drain("q-fanout"), ["key", "other", "a.b", "a.b.c", "a", "b.a"]);
        assert_eq!(channel.drain("q-topic"), ["a.b", "a.b.c"]);
        assert_eq!(channel.drain("q-headers"), ["b is 2"]);
    }

    fn the_predeclared_exchanges_keep_their_bindings(lives: &mut Lives) {
        let channel = lives.connect().channel();
        durable_queue(&channel, "queue");
        for name in ["amq.direct", "amq.fanout", "amq.topic"] {
            channel.bind("queue", name, "key");
        }
        lives.restart();

        let connection = lives.connect();
        for name in ["amq.direct", "amq.fanout", "amq.topic"] {
            keep(&connection, name, "key", &[name]);
        }
        assert_eq!(lives.texts("queue"), ["amq.direct", "amq.fanout", "amq.topic"]);
    }

    fn a_queue_is_compared_with_what_it_was_declared_as(lives: &mut Lives) {
        declare_with(&lives.connect(), queue_arguments(5)).expect("it is new");
        lives.restart();

        let connection = lives.connect();
        declare_with(&connection, queue_arguments(5)).expect("it is the same");
        let refusal = declare_with(&connection, queue_arguments(6)).expect_err("its length is another");
        let length = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'queue' in vhost '/': \
            received '6' but current is '5'";
        assert!(refusal.contains(length), "{refusal}");
        let refusal = declare_with(&connection, FieldTable::default()).expect_err("arguments are missing");
        assert!(refusal.contains("received none but current is the value"), "{refusal}");

        let channel = connection.channel();
        channel.send(queue::Declare { queue: "queue".into(), arguments: queue_arguments(5), ..Default::default() });
        let durable = "inequivalent arg 'durable' for queue 'queue' in vhost '/': received 'false' but current is 'true'";
        channel.expect_close(406, durable, ids::QUEUE_DECLARE);
    }

    fn an_exchange_is_compared_with_what_it_was_declared_as(lives: &mut Lives) {
        let declare = |change: &dyn Fn(&mut exchange::Declare)| {
            let mut declare = exchange::Declare {
                exchange: "exchange".into(),
                kind: "topic".into(),
                durable: true,
                internal: true,
                auto_delete: true,
                arguments: table(&[("alternate-exchange", text("other"))]),
                ..Default::default()
            };
            change(&mut declare);
            declare
        };
        lives.connect().channel().call::<exchange::DeclareOk>(declare(&|_| {}));
        lives.restart();

        let connection = lives.connect();
        connection.channel().call::<exchange::DeclareOk>(declare(&|_| {}));
        let is_refused = |change: &dyn Fn(&mut exchange::Declare), text: &str| {
            let channel = connection.channel();
            channel.send(declare(change));
            let text = format!("PRECONDITION_FAILED - inequivalent arg {text}");
            channel.expect_close(406, &text, ids::EXCHANGE_DECLARE);
        };
        let at = "for exchange 'exchange' in vhost '/': received";
        is_refused(&|declare| declare.kind = "direct".into(), &format!("'type' {at} 'direct' but current is 'topic'"));
        let differs = |property: &str| format!("'{property}' {at} 'false' but current is 'true'");
        is_refused(&|declare| declare.durable = false, &differs("durable"));
        is_refused(&|declare| declare.internal = false, &differs("internal"));
        is_refused(&|declare| declare.auto_delete = false, &differs("auto_delete"));
        let none = format!("'alternate-exchange' {at} none but current is the value 'other' of type 'longstr'");
        is_refused(&|declare| declare.arguments = FieldTable::default(), &none);
    }

    fn bindings_between_exchanges_come_back(lives: &mut Lives) {
        let channel = lives.connect().channel();
        durable_exchange(&channel, "source", "direct");
        durable_exchange(&channel, "middle", "topic");
        durable_exchange(&channel, "target", "fanout");
        durable_queue(&channel, "queue");
        channel.bind_exchange("middle", "source", "a.b");
        channel.bind_exchange("target", "middle", "*.b");
        channel.bind("queue", "target", "");
        lives.restart();

        let connection = lives.connect();
        keep(&connection, "source", "a.b", &["through"]);
        keep(&connection, "source", "a.c", &["not through"]);
        assert_eq!(lives.texts("queue"), ["through"]);
        // It can be unbound: the binding is the same one.
        let channel = connection.channel();
        channel.call::<exchange::UnbindOk>(exchange::Unbind {
            destination: "middle".into(), source: "source".into(), routing_key: "a.b".into(), ..Default::default()
        });
        keep(&connection, "source", "a.b", &["no more"]);
        assert_eq!(lives.texts("queue"), [""; 0]);
    }

    fn an_alternate_exchange_still_gets_what_nobody_wants(lives: &mut Lives) {
        let channel = lives.connect().channel();
        channel.declare_exchange("main", "direct", |declare| {
            declare.durable = true;
            declare.arguments = table(&[("alternate-exchange", text("spare"))]);
        });
        durable_exchange(&channel, "spare", "fanout");
        durable_queue(&channel, "wanted");
        durable_queue(&channel, "unwanted");
        channel.bind("wanted", "main", "wanted");
        channel.bind("unwanted", "spare", "");
        lives.restart();

        let connection = lives.connect();
        keep(&connection, "main", "wanted", &["wanted"]);
        keep(&connection, "main", "else", &["unwanted"]);
        assert_eq!(lives.texts("wanted"), ["wanted"]);
        assert_eq!(lives.texts("unwanted"), ["unwanted"]);
    }

    fn bindings_that_differ_in_arguments_alone_stay_two(lives: &mut Lives) {
        let bind = |value: i32| queue::Bind {
            arguments: table(&[("x-match", text("all")), ("n", AMQPValue::LongInt(value))]),
            ..binding("queue", "amq.headers", "same key")
        };
        let channel = lives.connect().channel();
        durable_queue(&channel, "queue");
        channel.call::<queue::BindOk>(bind(1));
        channel.call::<queue::BindOk>(bind(2));
        lives.restart();

        let channel = lives.connect().channel();
        channel.confirm_select();
        let publish = |value: i32| {
            let headers = wire::headers(&[("n", AMQPValue::LongInt(value))]);
            channel.publish_content("amq.headers", "", &headers, value.to_string().as_bytes());
        };
        (1..=3).for_each(publish);
        channel.confirmed(1..=3);
        assert_eq!(channel.drain("queue"), ["1", "2"]);
        let queue::Bind { queue, exchange, routing_key, arguments, .. } = bind(1);
        channel.call::<queue::UnbindOk>(queue::Unbind { queue, exchange, routing_key, arguments });
        (1..=3).for_each(publish);
        channel.confirmed(4..=6);
        assert_eq!(channel.drain("queue"), ["2"]);
    }

    fn what_is_not_durable_is_gone_with_its_bindings(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_exchange(&channel, "durable", "fanout");
        durable_queue(&channel, "q-durable");
        channel.exchange("transient", "fanout");
        channel.queue("q-transient");
        channel.declare_queue("q-exclusive", |declare| (declare.exclusive, declare.durable) = (true, true));
        let own = channel.own_queue();
        for queue in ["q-transient", "q-exclusive", &own] {
            channel.bind(queue, "durable", "");
        }
        channel.bind("q-durable", "transient", "");
        channel.bind_exchange("transient", "durable", "");
        channel.bind_exchange("durable", "transient", "");
        lives.restart();

        let connection = lives.connect();
        for queue in ["q-transient", "q-exclusive", &own] {
            assert!(!queue_is_there(&connection, queue), "{queue}");
        }
        assert!(!exchange_is_there(&connection, "transient"));
        assert!(exchange_is_there(&connection, "durable"));
        // Others of the same names inherit nothing.
        let channel = connection.channel();
        channel.exchange("transient", "fanout");
        for queue in ["q-transient", "q-exclusive"] {
            channel.queue(queue);
        }
        keep(&connection, "durable", "", &["x"]);
        keep(&connection, "transient", "", &["x"]);
        for queue in ["q-transient", "q-exclusive", "q-durable"] {
            assert_eq!(channel.passive(queue).message_count, 0, "{queue}");
        }
    }

    fn deleted_things_stay_deleted(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        for name in ["kept", "deleted"] {
            durable_exchange(&channel, name, "fanout");
            durable_queue(&channel, &format!("q-{name}"));
        }
        channel.bind("q-kept", "kept", "");
        channel.bind("q-kept", "amq.direct", "unbound");
        channel.bind("q-kept", "amq.direct", "bound");
        channel.bind("q-kept", "deleted", "");
        channel.bind("q-deleted", "kept", "");
        channel.bind_exchange("deleted", "kept", "");
        channel.unbind("q-kept", "amq.direct", "unbound");
        channel.delete_exchange("deleted");
        channel.delete_queue("q-deleted");
        lives.restart();

        let connection = lives.connect();
        assert!(!queue_is_there(&connection, "q-deleted"));
        assert!(!exchange_is_there(&connection, "deleted"));
        let channel = connection.channel();
        durable_exchange(&channel, "deleted", "fanout");
        durable_queue(&channel, "q-deleted");
        keep(&connection, "kept", "", &["to kept"]);
        keep(&connection, "deleted", "", &["to nobody"]);
        keep(&connection, "amq.direct", "unbound", &["unbound"]);
        keep(&connection, "amq.direct", "bound", &["bound"]);
        assert_eq!(lives.texts("q-kept"), ["to kept", "bound"]);
        assert_eq!(lives.texts("q-deleted"), [""; 0]);
    }

    fn what_was_deleted_and_declared_otherwise_is_the_latter(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_exchange(&channel, "exchange", "fanout");
        durable_queue(&channel, "queue");
        durable_queue(&channel, "demoted");
        channel.bind("queue", "exchange", "");
        channel.delete_exchange("exchange");
        channel.delete_queue("queue");
        channel.delete_queue("demoted");
        durable_exchange(&channel, "exchange", "direct");
        channel.declare_queue("queue", |declare| {
            declare.durable = true;
            declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(7))]);
        });
        channel.queue("demoted");
        channel.bind("queue", "exchange", "key");
        lives.restart();

        let connection = lives.connect();
        assert!(!queue_is_there(&connection, "demoted"), "the last of that name was transient");
        let channel = connection.channel();
        durable_exchange(&channel, "exchange", "direct");
        channel.declare_queue("queue", |declare| {
            declare.durable = true;
            declare.arguments = table(&[("x-max-length", AMQPValue::LongInt(7))]);
        });
        keep(&connection, "exchange", "key", &["by key"]);
        keep(&connection, "exchange", "", &["as by fanout"]);
        assert_eq!(lives.texts("queue"), ["by key"]);
    }

    fn auto_delete_is_remembered(lives: &mut Lives) {
        let channel = lives.connect().channel();
        channel.declare_queue("fleeting", |declare| (declare.durable, declare.auto_delete) = (true, true));
        channel.declare_exchange("passing", "fanout", |declare| {
            (declare.durable, declare.auto_delete) = (true, true);
        });
        channel.bind("fleeting", "passing", "");
        lives.restart();

        let connection = lives.connect();
        let channel = connection.channel();
        assert!(exchange_is_there(&connection, "passing"));
        let tag = channel.consume("fleeting");
        channel.cancel(&tag);
        assert!(!queue_is_there(&connection, "fleeting"), "it went with its last consumer");
        assert!(!exchange_is_there(&connection, "passing"), "it went with its last binding");
        lives.restart();

        let connection = lives.connect();
        assert!(!queue_is_there(&connection, "fleeting"));
        assert!(!exchange_is_there(&connection, "passing"));
    }

    fn internal_exchanges_still_take_no_publish(lives: &mut Lives) {
        let channel = lives.connect().channel();
        channel.declare_exchange("inner", "fanout", |declare| (declare.durable, declare.internal) = (true, true));
        lives.restart();

        let channel = lives.connect().channel();
        channel.publish("inner", "", "x");
        let text = "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'";
        channel.expect_close(403, text, ids::BASIC_PUBLISH);
    }

    fn vhosts_stay_apart(lives: &mut Lives) {
        for (login, arguments) in vhosts_and_arguments() {
            let connection = lives.login(&login);
            let channel = connection.channel();
            channel.declare_queue("queue", |declare| (declare.durable, declare.arguments) = (true, arguments));
            durable_exchange(&channel, "exchange", "direct");
            channel.bind("queue", "exchange", login.vhost);
            keep(&connection, "exchange", login.vhost, &[login.vhost, "last"]);
        }
        lives.connect().channel().delete_queue("queue");
        lives.restart();

        assert!(!queue_is_there(&lives.connect(), "queue"), "it was deleted here alone");
        let [(login, arguments), _] = vhosts_and_arguments();
        let orders = lives.login(&login);
        let channel = orders.channel();
        channel.declare_queue("queue", |declare| (declare.durable, declare.arguments) = (true, arguments));
        assert_eq!(channel.drain("queue"), ["orders", "last"]);
        // Its exchange still knows its own binding and not the other vhost's.
        keep(&orders, "exchange", "orders", &["mine"]);
        keep(&orders, "exchange", "/", &["not mine"]);
        assert_eq!(channel.drain("queue"), ["mine"]);
    }

    fn names_that_the_server_made_are_not_made_again(lives: &mut Lives) {
        let named = |lives: &Lives, count: usize| -> BTreeSet<String> {
            let channel = lives.connect().channel();
            let durable = |declare: &mut queue::Declare| declare.durable = true;
            (0..count).map(|_| channel.declare_queue("", durable).queue.to_string()).collect()
        };
        let before = named(lives, 50);
        lives.restart();

        let after = named(lives, 50);
        assert!(before.is_disjoint(&after), "a name was given twice");
        let connection = lives.connect();
        assert!(before.iter().all(|name| queue_is_there(&connection, name)));
    }

    fn many_lives_add_up(lives: &mut Lives) {
        for life in 0..6 {
            let connection = lives.connect();
            let channel = connection.channel();
            durable_queue(&channel, &format!("q-{life}"));
            channel.bind(&format!("q-{life}"), "amq.fanout", "");
            if life % 2 == 1 {
                channel.delete_queue(&format!("q-{}", life - 1));
            }
            let expected = (0..=life).filter(|earlier| *earlier == life || earlier % 2 == 1);
            let expected: Vec<usize> = expected.collect();
            let there = (0..6).filter(|each| queue_is_there(&connection, &format!("q-{each}")));
            assert_eq!(there.collect::<Vec<usize>>(), expected, "in life {life}");
            keep(&connection, "amq.fanout", "", &["x"]);
            for queue in expected.iter().map(|each| format!("q-{each}")) {
                assert_eq!(lives.texts(&queue), ["x"], "{queue} in life {life}");
                lives.sure(&connection, &queue);
            }
            lives.restart();
        }
    }

    fn five_hundred_queues_with_their_bindings_are_found(lives: &mut Lives) {
        let connections = lives.broker().connections_spread::<4>();
        let channels = connections.each_ref().map(Connection::channel);
        durable_exchange(&channels[0], "exchange", "direct");
        for (number, channel) in (0..500).zip(channels.iter().cycle()) {
            durable_queue(channel, &format!("q-{number}"));
            channel.bind(&format!("q-{number}"), "exchange", &format!("key-{number}"));
        }
        lives.restart();

        let channel = lives.connect().channel();
        channel.confirm_select();
        for number in 0..500 {
            channel.publish_mandatory("exchange", &format!("key-{number}"), &number.to_string());
        }
        channel.confirmed(1..=500);
        for number in 0..500 {
            assert_eq!(channel.drain(&format!("q-{number}")), [number.to_string()]);
        }
    }

    fn names_of_any_bytes_and_length_come_back(lives: &mut Lives) {
        let names = ["ä 日本 \u{1F407}".to_owned(), " ".to_owned(), "../up/and\\away".to_owned(), "x".repeat(255)];
        let connection = lives.connect();
        for name in &names {
            let channel = connection.channel();
            durable_queue(&channel, name);
            durable_exchange(&channel, name, "direct");
            channel.bind(name, name, name);
            keep(&connection, name, name, &["kept"]);
        }
        lives.restart();

        for name in &names {
            let channel: Channel = lives.connect().channel();
            let got = channel.get_no_ack(name).expect("it was kept");
            let basic::GetOk { exchange, routing_key, .. } = &got.method;
            assert_eq!((exchange.as_str(), routing_key.as_str()), (name.as_str(), name.as_str()));
        }
    }
}

/// Every argument that a classic queue compares, none of which does anything in this test.
fn queue_arguments(max_length: i32) -> FieldTable {
    table(&[
        ("x-max-length", AMQPValue::LongInt(max_length)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(1 << 40)),
        ("x-message-ttl", AMQPValue::LongInt(3_600_000)),
        ("x-expires", AMQPValue::LongInt(3_600_000)),
        ("x-overflow", text("drop-head")),
        ("x-dead-letter-exchange", text("dead")),
        ("x-dead-letter-routing-key", text("letter")),
        ("x-max-priority", AMQPValue::ShortShortUInt(3)),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("remark", text("means nothing")),
    ])
}

/// Declares the durable queue `queue`, or returns the text of the refusal.
fn declare_with(connection: &Connection, arguments: FieldTable) -> Result<(), String> {
    use amq_protocol::protocol::{AMQPClass, channel};
    let asking = connection.channel();
    asking.send(queue::Declare {
        queue: "queue".into(),
        durable: true,
        arguments,
        ..Default::default()
    });
    match asking.next("declare-ok or 406").method {
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_)) => Ok(()),
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) if close.reply_code == 406 => {
            asking.send(channel::CloseOk {});
            Err(close.reply_text.to_string())
        }
        other => panic!("expected declare-ok or 406, got {other:?}"),
    }
}

/// Both vhosts, with arguments that tell their queues of one name apart.
fn vhosts_and_arguments() -> [(Login, FieldTable); 2] {
    let arguments = table(&[("x-max-length", AMQPValue::LongInt(100))]);
    [
        (Login::alice("orders"), arguments),
        (Login::alice("/"), FieldTable::default()),
    ]
}
