//! `x-message-deduplication`, as the plugin `rabbitmq-message-deduplication` has it: exchanges that let nothing pass
//! twice.
//!
//! That they know what has passed after a restart is tested in `durability/restart/rules`, what a message is known by
//! in `model/deduplication`, and what its arguments mean in `model/exchange/deduplicating`.

use crate::delayed::{delayed, publish_after};
use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{headers, table, text};
use amq_protocol::protocol::{basic, exchange, tx};
use amq_protocol::types::AMQPValue;

const KIND: &str = "x-message-deduplication";

fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

fn declare(channel: &Channel, name: &str, arguments: &[(&str, AMQPValue)]) {
    let mut arguments = arguments.to_vec();
    if !arguments.iter().any(|(name, _)| *name == "x-cache-size") {
        arguments.push(("x-cache-size", number(100)));
    }
    channel.declare_exchange(name, KIND, |declare| declare.arguments = table(&arguments));
}

/// Properties of a message that is known by `value`.
fn known_by(value: &str) -> Vec<u8> {
    headers(&[("x-deduplication-header", text(value))])
}

fn publish(channel: &Channel, exchange: &str, value: &str, body: &str) {
    channel.publish_content(exchange, "key", &known_by(value), body.as_bytes());
}

/// The same, mandatory.
fn publish_mandatory(channel: &Channel, exchange: &str, value: &str, body: &str) {
    let publish = basic::Publish {
        exchange: exchange.into(),
        routing_key: "key".into(),
        mandatory: true,
        ..Default::default()
    };
    channel.publish_with(publish, &known_by(value), body.as_bytes());
}

fn bound_queue(channel: &Channel, exchange: &str) -> String {
    let queue = channel.own_queue();
    channel.bind(&queue, exchange, "");
    queue
}

/// Returns after so many milliseconds at the earliest.
fn after(broker: &crate::support::broker::Broker, channel: &Channel, ms: i32) {
    let timer = broker.name("timer");
    delayed(channel, &timer, "fanout");
    let queue = bound_queue(channel, &timer);
    channel.consume_no_ack(&queue);
    publish_after(channel, &timer, "", ms, "now");
    assert_eq!(channel.delivered_texts(1), ["now"]);
    channel.delete_exchange(&timer);
}

on_each_core_count! {
    fn what_has_passed_passes_no_more_and_is_confirmed(broker: &Broker) {
        if broker.is_reference() {
            return; // The plugin isn't one of its own.
        }
        let connections = broker.connections_spread::<6>();
        let channel = connections[0].channel();
        let name = broker.name("once");
        declare(&channel, &name, &[]);
        let listeners = connections.each_ref().map(|connection| {
            let channel = connection.channel();
            let queue = bound_queue(&channel, &name);
            channel.consume_no_ack(&queue);
            channel
        });
        channel.confirm_select();
        for (value, body) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5")] {
            publish(&channel, &name, value, body);
        }
        channel.publish(&name, "any key", "6");
        channel.publish(&name, "", "7");
        channel.confirmed(1..=7);
        for listener in &listeners {
            assert_eq!(listener.delivered_texts(5), ["1", "2", "4", "6", "7"]);
        }
        let elsewhere = connections[5].channel();
        elsewhere.confirm_select();
        publish(&elsewhere, &name, "c", "8");
        publish(&elsewhere, &name, "d", "9");
        elsewhere.confirmed(1..=2);
        for listener in &listeners {
            assert_eq!(listener.delivered_texts(1), ["9"]);
        }
        channel.delete_exchange(&name);
    }

    fn of_many_at_once_one_passes(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<6>();
        let name = broker.name("once");
        let channel = connections[0].channel();
        declare(&channel, &name, &[]);
        let queue = bound_queue(&channel, &name);
        let publishers = connections.each_ref().map(|connection| {
            let channel = connection.channel();
            channel.confirm_select();
            channel
        });
        for value in 0..50 {
            for publisher in &publishers {
                publish(publisher, &name, &value.to_string(), &value.to_string());
                publisher.publish("", &queue, "other");
            }
        }
        for publisher in &publishers {
            publisher.confirmed(1..=100);
        }
        let mut passed = channel.drain(&queue);
        let all = passed.len();
        passed.retain(|text| text != "other");
        assert_eq!(all - passed.len(), 50 * publishers.len());
        passed.sort_by_key(|text| text.parse::<u32>().expect("a number"));
        let expected: Vec<_> = (0..50).map(|value| value.to_string()).collect();
        assert_eq!(passed, expected);
        channel.delete_exchange(&name);
    }

    fn the_oldest_are_forgotten_when_there_are_too_many(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let name = broker.name("once");
        declare(&channel, &name, &[("x-cache-size", number(2))]);
        let queue = bound_queue(&channel, &name);
        channel.confirm_select();
        for (at, value) in ["a", "b", "a", "c", "b", "a", "c", "b"].iter().enumerate() {
            publish(&channel, &name, value, value);
            channel.confirmed(at as u64 + 1..=at as u64 + 1);
        }
        assert_eq!(channel.drain(&queue), ["a", "b", "c", "a", "b"]);
        channel.delete_exchange(&name);
    }

    fn what_has_passed_is_forgotten_after_its_time(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let (name, lasting) = (broker.name("once"), broker.name("once"));
        declare(&channel, &name, &[("x-cache-ttl", number(1))]);
        declare(&channel, &lasting, &[]);
        let queue = bound_queue(&channel, &name);
        channel.bind(&queue, &lasting, "");
        channel.confirm_select();
        let known_for = |ms| headers(&[("x-deduplication-header", text("own")), ("x-cache-ttl", number(ms))]);
        for round in ["first", "second"] {
            publish(&channel, &name, "a", round);
            channel.publish_content(&name, "", &known_for(600_000), round.as_bytes());
            publish(&channel, &lasting, "a", round);
            channel.publish_content(&lasting, "", &known_for(1), round.as_bytes());
            channel.publish_content(&lasting, "", &known_for(-1), round.as_bytes());
            let first = if round == "first" { 1 } else { 7 };
            channel.confirmed(first..=first + 4);
            let came = channel.drain(&queue);
            assert_eq!(came.len(), if round == "first" { 5 } else { 3 }, "{came:?}");
            let timer = broker.connect().channel();
            after(broker, &timer, 60);
            channel.publish("", &queue, "between");
            channel.confirmed(first + 5..=first + 5);
            assert_eq!(channel.drain(&queue), ["between"]);
        }
        for name in [name, lasting] {
            channel.delete_exchange(&name);
        }
    }

    fn what_goes_nowhere_comes_back_and_is_not_remembered(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let (name, next) = (broker.name("once"), broker.name("next"));
        declare(&channel, &name, &[]);
        channel.confirm_select();
        publish_mandatory(&channel, &name, "a", "no binding");
        assert_eq!(channel.expect_message::<basic::Return>().text(), "no binding");
        channel.confirmed(1..=1);
        channel.exchange(&next, "direct");
        channel.bind_exchange(&next, &name, "");
        publish_mandatory(&channel, &name, "a", "none behind it");
        let returned = channel.expect_message::<basic::Return>();
        assert_eq!(returned.text(), "none behind it");
        let basic::Return { reply_code, exchange, routing_key, .. } = returned.method;
        assert_eq!((reply_code, exchange.as_str(), routing_key.as_str()), (312, name.as_str(), "key"));
        channel.confirmed(2..=2);
        let queue = channel.own_queue();
        channel.bind(&queue, &next, "key");
        publish_mandatory(&channel, &name, "a", "passes");
        channel.confirmed(3..=3);
        assert_eq!(channel.drain(&queue), ["passes"]);
        for name in [name, next] {
            channel.delete_exchange(&name);
        }
    }

    fn a_mandatory_duplicate_comes_back_as_with_the_plugin(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let (name, above) = (broker.name("once"), broker.name("above"));
        declare(&channel, &name, &[]);
        let queue = bound_queue(&channel, &name);
        channel.confirm_select();
        publish_mandatory(&channel, &name, "a", "1");
        channel.confirmed(1..=1);
        publish_mandatory(&channel, &name, "a", "2");
        assert_eq!(channel.expect_message::<basic::Return>().text(), "2");
        channel.confirmed(2..=2);
        channel.exchange(&above, "fanout");
        channel.bind_exchange(&name, &above, "");
        publish_mandatory(&channel, &above, "a", "3");
        assert_eq!(channel.expect_message::<basic::Return>().text(), "3");
        channel.confirmed(3..=3);
        let other = bound_queue(&channel, &above);
        publish_mandatory(&channel, &above, "a", "4");
        channel.confirmed(4..=4);
        assert_eq!(channel.drain(&other), ["4"], "it has gone somewhere");
        assert_eq!(channel.drain(&queue), ["1"]);
        for name in [name, above] {
            channel.delete_exchange(&name);
        }
    }

    fn what_leads_only_to_duplicates_behind_it_comes_back_too(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<5>();
        let channel = connections[0].channel();
        let names @ [first, between, left, right] =
            &["first", "between", "left", "right"].map(|name| broker.name(name));
        for (at, name) in [first, left, right].into_iter().enumerate() {
            declare(&connections[at + 1].channel(), name, &[]);
        }
        channel.exchange(between, "fanout");
        for (to, from) in [(between, first), (left, between), (right, between)] {
            channel.bind_exchange(to, from, "");
        }
        let holder = connections[4].channel();
        let (at_left, at_right) = (bound_queue(&holder, left), bound_queue(&holder, right));
        channel.confirm_select();
        for (number, exchange, value) in [(1, left, "a"), (2, right, "a"), (3, left, "b")] {
            publish(&channel, exchange, value, "known");
            channel.confirmed(number..=number);
        }
        // Both know it, one does, and nobody does but the first: which hasn't noted what led nowhere.
        for (number, value, body, comes_back) in
            [(4, "a", "1", true), (5, "b", "2", false), (6, "c", "3", false), (7, "a", "4", true)]
        {
            publish_mandatory(&channel, first, value, body);
            if comes_back {
                let returned = channel.expect_message::<basic::Return>();
                assert_eq!(returned.text(), body);
                assert_eq!(returned.method.exchange.as_str(), first);
            }
            channel.confirmed(number..=number);
        }
        assert_eq!(holder.drain(&at_left), ["known", "known", "3"]);
        assert_eq!(holder.drain(&at_right), ["known", "2", "3"]);
        for name in names {
            channel.delete_exchange(name);
        }
    }

    fn duplicates_go_to_the_alternate_exchange(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let (name, spare) = (broker.name("once"), broker.name("spare"));
        channel.exchange(&spare, "direct");
        declare(&channel, &name, &[("alternate-exchange", text(&spare))]);
        let (queue, duplicates) = (bound_queue(&channel, &name), channel.own_queue());
        channel.bind(&duplicates, &spare, "key");
        channel.confirm_select();
        for body in ["1", "2", "3"] {
            publish_mandatory(&channel, &name, "a", body);
        }
        channel.confirmed(1..=3);
        assert_eq!(channel.drain(&queue), ["1"]);
        assert_eq!(channel.drain(&duplicates), ["2", "3"]);
        for name in [name, spare] {
            channel.delete_exchange(&name);
        }
    }

    fn a_duplicate_that_its_alternate_knows_as_well_comes_back(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<3>();
        let channel = connections[0].channel();
        let (name, spare) = (broker.name("once"), broker.name("spare"));
        declare(&connections[1].channel(), &spare, &[]);
        declare(&connections[2].channel(), &name, &[("alternate-exchange", text(&spare))]);
        let (queue, duplicates) = (bound_queue(&channel, &name), bound_queue(&channel, &spare));
        channel.confirm_select();
        for (number, body) in [(1, "1"), (2, "2")] {
            publish_mandatory(&channel, &name, "a", body);
            channel.confirmed(number..=number);
        }
        publish_mandatory(&channel, &name, "a", "3");
        assert_eq!(channel.expect_message::<basic::Return>().text(), "3");
        channel.confirmed(3..=3);
        assert_eq!(channel.drain(&queue), ["1"]);
        assert_eq!(channel.drain(&duplicates), ["2"]);
        for name in [name, spare] {
            channel.delete_exchange(&name);
        }
    }

    fn exchanges_may_be_bound_to_it_and_it_to_others(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<4>();
        let channel = connections[0].channel();
        let [above, name, below] = ["above", "once", "below"].map(|name| broker.name(name));
        channel.exchange(&above, "topic");
        declare(&connections[1].channel(), &name, &[]);
        channel.exchange(&below, "topic");
        channel.bind_exchange(&name, &above, "*.in");
        channel.bind_exchange(&below, &name, "");
        let (all, some) = (connections[2].channel(), connections[3].channel());
        let (everything, queue) = (all.own_queue(), some.own_queue());
        all.bind(&everything, &above, "#");
        some.bind(&queue, &below, "a.*");
        channel.confirm_select();
        for (key, value) in [("a.in", "1"), ("b.in", "2"), ("a.in", "2"), ("a.out", "3"), ("a.in", "3")] {
            channel.publish_content(&above, key, &known_by(value), value.as_bytes());
        }
        channel.confirmed(1..=5);
        assert_eq!(all.drain(&everything), ["1", "2", "2", "3", "3"]);
        // What was known by "2" has led nowhere the first time.
        assert_eq!(some.drain(&queue), ["1", "2", "3"]);
        for name in [above, name, below] {
            channel.delete_exchange(&name);
        }
    }

    fn circles_end(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<4>();
        let channel = connections[0].channel();
        let names = [0, 1, 2].map(|_| broker.name("once"));
        for (at, name) in names.iter().enumerate() {
            declare(&connections[at + 1].channel(), name, &[]);
        }
        for (at, name) in names.iter().enumerate() {
            channel.bind_exchange(name, name, "");
            channel.bind_exchange(&names[(at + 1) % 3], name, "");
        }
        let queue = bound_queue(&channel, &names[2]);
        channel.confirm_select();
        for round in 0..20 {
            for name in &names {
                publish(&channel, name, &round.to_string(), &round.to_string());
            }
            channel.publish(&names[0], "", "no header");
        }
        channel.confirmed(1..=80);
        let mut came = channel.drain(&queue);
        came.retain(|text| text != "no header");
        came.sort_by_key(|text| text.parse::<u32>().expect("a number"));
        let expected: Vec<_> = (0..20).map(|round| round.to_string()).collect();
        assert_eq!(came, expected);
        for name in names {
            channel.delete_exchange(&name);
        }
    }

    fn what_a_full_queue_refuses_is_refused_and_not_remembered(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<3>();
        let channel = connections[0].channel();
        let name = broker.name("once");
        declare(&connections[1].channel(), &name, &[]);
        let holder = connections[2].channel();
        let declared = holder.declare_queue("", |declare| {
            declare.exclusive = true;
            declare.arguments = table(&[("x-max-length", number(1)), ("x-overflow", text("reject-publish"))]);
        });
        let queue = declared.queue.as_str();
        holder.bind(queue, &name, "");
        channel.confirm_select();
        publish(&channel, &name, "a", "1");
        channel.confirmed(1..=1);
        publish(&channel, &name, "b", "2");
        assert_eq!(channel.expect::<basic::Nack>().delivery_tag, 2);
        assert_eq!(holder.drain(queue), ["1"]);
        publish(&channel, &name, "b", "3");
        channel.confirmed(3..=3);
        assert_eq!(holder.drain(queue), ["3"]);
        channel.delete_exchange(&name);
    }

    fn a_transaction_is_through_when_all_has_arrived(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connections = broker.connections_spread::<3>();
        let channel = connections[0].channel();
        let name = broker.name("once");
        declare(&connections[1].channel(), &name, &[]);
        let holder = connections[2].channel();
        let queue = bound_queue(&holder, &name);
        channel.call::<tx::SelectOk>(tx::Select {});
        for round in 0..20 {
            for value in [round, round + 1] {
                publish(&channel, &name, &value.to_string(), "x");
            }
            channel.call::<tx::CommitOk>(tx::Commit {});
            assert_eq!(holder.passive(&queue).message_count, round + 2);
        }
        channel.delete_exchange(&name);
    }

    fn dead_letters_pass_once_too(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let channel = broker.connect().channel();
        let name = broker.name("once");
        declare(&channel, &name, &[]);
        let dead = bound_queue(&channel, &name);
        channel.consume_no_ack(&dead);
        let source = channel.declare_queue("", |declare| {
            declare.exclusive = true;
            declare.arguments = table(&[("x-dead-letter-exchange", text(&name))]);
        });
        let source = source.queue.as_str();
        for (value, body) in [("a", "1"), ("a", "2"), ("b", "3")] {
            channel.publish_content("", source, &known_by(value), body.as_bytes());
            let taken = channel.get(source).expect("it is there");
            channel.reject(taken.method.delivery_tag, false);
        }
        assert_eq!(channel.delivered_texts(2), ["1", "3"]);
        channel.delete_exchange(&name);
    }

    fn what_it_knows_goes_with_it_and_is_nobodys(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let channel = connection.channel();
        let name = broker.name("once");
        channel.confirm_select();
        for round in 1..=2 {
            declare(&channel, &name, &[]);
            declare(&channel, &name, &[]);
            let queue = bound_queue(&channel, &name);
            publish(&channel, &name, "a", "passes");
            channel.publish("", &format!("{name}\n"), "an intruder");
            channel.confirmed(2 * round - 1..=2 * round);
            assert_eq!(channel.drain(&queue), ["passes"]);
            channel.delete_exchange(&name);
        }
        let asking = connection.channel();
        asking.send(basic::Get { queue: format!("{name}\n").into(), no_ack: true });
        asking.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::BASIC_GET);
    }

    fn its_arguments_are_checked(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        for (arguments, fault) in [
            (table(&[]), "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
            (
                table(&[("x-cache-size", number(1)), ("x-cache-ttl", number(0))]),
                "Invalid argument, 'x-cache-ttl' must be an integer greater than 0",
            ),
            (
                table(&[("x-cache-size", number(1)), ("x-cache-persistence", text("tape"))]),
                "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'",
            ),
        ] {
            let channel = connection.channel();
            channel.send(exchange::Declare {
                exchange: broker.name("once").into(),
                kind: KIND.into(),
                arguments,
                ..Default::default()
            });
            channel.expect_close(406, &format!("PRECONDITION_FAILED - {fault}"), ids::EXCHANGE_DECLARE);
        }
    }
}
