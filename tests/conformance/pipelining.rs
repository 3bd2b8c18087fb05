//! Clients that don't wait: all in one write, one byte at a time, with nowait, split at every point.

use crate::support::broker::Broker;
use crate::support::cores::on_each_core_count;
use crate::support::login::Login;
use crate::support::raw::Raw;
use crate::support::wire;
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};

on_each_core_count! {
    fn everything_in_one_write_is_everything_in_order(broker: &Broker) {
        let mut raw = Login::default().raw(broker.address);
        raw.send(&tutorial(broker, false));
        expect_tutorial(&mut raw, false);
    }

    fn everything_with_nowait_is_done_in_order(broker: &Broker) {
        let mut raw = Login::default().raw(broker.address);
        raw.send(&tutorial(broker, true));
        expect_tutorial(&mut raw, true);
    }

    fn one_byte_at_a_time_gives_the_same(broker: &Broker) {
        for nowait in [false, true] {
            let mut raw = Login::default().raw(broker.address);
            raw.send_byte_by_byte(&tutorial(broker, nowait));
            expect_tutorial(&mut raw, nowait);
        }
    }

    fn any_split_in_two_gives_the_same(broker: &Broker) {
        let length = tutorial(broker, false).len();
        for at in (1..length).step_by(7) {
            let mut raw = Login::default().raw(broker.address);
            let bytes = tutorial(broker, false);
            let (before, after) = bytes.split_at(at.min(bytes.len()));
            raw.send(before);
            raw.send(after);
            expect_tutorial(&mut raw, false);
        }
    }

    fn the_handshake_and_everything_behind_it_in_one_write(broker: &Broker) {
        let mut raw = Raw::connect(broker.address);
        raw.send(&[Login::default().in_one_breath(), tutorial(broker, false)].concat());
        raw.expect::<connection::Start>(0);
        raw.expect::<connection::Tune>(0);
        raw.expect::<connection::OpenOk>(0);
        expect_tutorial(&mut raw, false);
    }

    fn a_server_named_queue_can_be_used_before_its_name_is_known(broker: &Broker) {
        let mut raw = Login::default().raw(broker.address);
        let exchange = broker.name("logs");
        let declare = exchange::Declare {
            exchange: exchange.as_str().into(), kind: "fanout".into(), ..Default::default()
        };
        raw.send(&[
            wire::method(1, channel::Open {}),
            wire::method(1, declare),
            wire::method(1, queue::Declare { exclusive: true, ..Default::default() }),
            wire::method(1, queue::Bind { exchange: exchange.as_str().into(), ..Default::default() }),
            wire::method(1, basic::Consume { no_ack: true, ..Default::default() }),
            wire::publish(1, &exchange, "", b"hello"),
        ].concat());
        raw.expect::<channel::OpenOk>(1);
        raw.expect::<exchange::DeclareOk>(1);
        raw.expect::<queue::DeclareOk>(1);
        raw.expect::<queue::BindOk>(1);
        raw.expect::<basic::ConsumeOk>(1);
        raw.expect::<basic::Deliver>(1);
    }

    fn many_declares_in_one_breath_are_answered_in_order(broker: &Broker) {
        let connection = broker.connect();
        let channels: Vec<_> = (0..20).map(|_| connection.channel()).collect();
        let names: Vec<_> = (0..200).map(|_| broker.name("many")).collect();
        let burst: Vec<u8> = names.iter().zip(channels.iter().cycle()).flat_map(|(name, channel)| {
            let declare = queue::Declare { queue: name.as_str().into(), ..Default::default() };
            let delete = queue::Delete { queue: name.as_str().into(), ..Default::default() };
            let publish = wire::publish(channel.id, "", name, b"one");
            [wire::method(channel.id, declare), publish, wire::method(channel.id, delete)].concat()
        }).collect();
        connection.send_bytes(&burst);
        for (name, channel) in names.iter().zip(channels.iter().cycle()) {
            assert_eq!(channel.answer::<queue::DeclareOk>().queue.as_str(), name);
            assert_eq!(channel.answer::<queue::DeleteOk>().message_count, 1);
        }
    }

    fn a_close_right_behind_the_publishes_loses_none(broker: &Broker) {
        let connections = broker.connections_spread::<4>();
        let witness = connections[0].channel();
        let name = broker.name("hasty");
        witness.queue(&name);
        witness.consume_no_ack(&name);
        for connection in connections.iter().skip(1) {
            let channel = connection.channel();
            let mut bytes = wire::publish(channel.id, "", &name, b"x").repeat(1000);
            bytes.extend(wire::method(channel.id, channel::Close { reply_code: 200, ..Default::default() }));
            connection.send_bytes(&bytes);
            channel.answer::<channel::CloseOk>();
            witness.delivered_texts(1000);
        }
    }

    fn a_hang_up_right_behind_the_publishes_loses_none(broker: &Broker) {
        if broker.is_reference() {
            // RabbitMQ forgets what it had received when it sees the end. What TCP delivered should count.
            return;
        }
        let connections = broker.connections_spread::<4>();
        let witness = connections[0].channel();
        let name = broker.name("hasty");
        witness.queue(&name);
        witness.consume_no_ack(&name);
        let [keep, rest @ ..] = connections;
        for connection in rest {
            let channel = connection.channel();
            connection.send_bytes(&wire::publish(channel.id, "", &name, b"x").repeat(1000));
            drop(channel);
            connection.into_raw().finish_sending();
            witness.delivered_texts(1000);
        }
        keep.is_alive();
    }
}

/// Open a channel, declare, bind, select confirms, consume, publish, get out.
fn tutorial(broker: &Broker, nowait: bool) -> Vec<u8> {
    let name = broker.name("pipeline");
    let queue = || name.as_str().into();
    let declare = queue::Declare {
        queue: queue(),
        auto_delete: true,
        nowait,
        ..Default::default()
    };
    let bind = queue::Bind {
        queue: queue(),
        exchange: "amq.topic".into(),
        routing_key: format!("{name}.#").into(),
        nowait,
        ..Default::default()
    };
    let consume = basic::Consume {
        queue: queue(),
        consumer_tag: "me".into(),
        no_ack: true,
        nowait,
        ..Default::default()
    };
    [
        wire::method(1, channel::Open {}),
        wire::method(1, declare),
        wire::method(1, bind),
        wire::method(1, confirm::Select { nowait }),
        wire::method(1, consume),
        wire::publish(1, "", &name, b"one"),
        wire::publish(1, "amq.topic", &format!("{name}.x.y"), b"two"),
    ]
    .concat()
}

fn expect_tutorial(raw: &mut Raw, nowait: bool) {
    raw.expect::<channel::OpenOk>(1);
    if !nowait {
        raw.expect::<queue::DeclareOk>(1);
        raw.expect::<queue::BindOk>(1);
        raw.expect::<confirm::SelectOk>(1);
    }
    let (mut bodies, mut confirmed, mut consuming) = (Vec::new(), 0, nowait);
    while bodies.len() < 2 || confirmed < 2 {
        let frame = raw.frame("two deliveries and two confirms");
        match frame.kind {
            wire::BODY => bodies.push(frame.payload),
            // basic.ack: class, method, delivery tag, multiple
            wire::METHOD if frame.payload.starts_with(&[0, 60, 0, 80]) => {
                confirmed = confirmed.max(frame.payload[11]);
            }
            // RabbitMQ may confirm before consume-ok, which comes from the queue; deliveries never come before it.
            wire::METHOD => match frame.method() {
                AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)) => consuming = true,
                AMQPClass::Basic(basic::AMQPMethod::Deliver(_)) => {
                    assert!(consuming, "delivered before consume-ok")
                }
                other => panic!("{other:?}"),
            },
            _ => {}
        }
    }
    assert_eq!(bodies, [b"one", b"two"]);
}
