//! Publisher confirms: numbered from 1 on each channel, once each, after the message is where it was routed.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire;
use amq_protocol::protocol::{AMQPClass, basic, confirm, tx};
use std::collections::BTreeSet;

on_each_core_count! {
    fn confirms_are_numbered_from_1_on_each_channel(broker: &Broker) {
        let connection = broker.connect();
        let (one, two) = (connection.channel(), connection.channel());
        let queue = one.own_queue();
        one.publish("", &queue, "before the select: not counted");
        for channel in [&one, &two] {
            channel.confirm_select();
            for number in 1..=3 {
                channel.publish("", &queue, "x");
                channel.confirmed(number..=number);
            }
        }
    }

    fn selecting_again_does_not_restart_the_numbers(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.confirm_select();
        channel.publish("", &queue, "x");
        channel.confirmed(1..=1);
        channel.confirm_select();
        channel.publish("", &queue, "x");
        channel.confirmed(2..=2);
    }

    fn select_with_nowait_is_not_answered(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.send(confirm::Select { nowait: true });
        channel.publish("", &queue, "x");
        channel.confirmed(1..=1);
    }

    fn unroutable_messages_are_confirmed_too(broker: &Broker) {
        let channel = broker.connect().channel();
        channel.confirm_select();
        channel.publish("amq.fanout", "nobody", "x");
        channel.publish("", "no-such-queue-anywhere", "x");
        channel.confirmed(1..=2);
    }

    fn a_return_comes_before_its_confirm(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.confirm_select();
        for number in 1..=50 {
            channel.publish("", &queue, "routed");
            channel.publish_mandatory("", "no-such-queue-anywhere", &number.to_string());
        }
        let mut returned = 0;
        let mut outstanding: BTreeSet<u64> = (1..=100).collect();
        while !outstanding.is_empty() {
            match channel.next("a return or a confirm").method {
                AMQPClass::Basic(basic::AMQPMethod::Return(_)) => returned += 1,
                AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                    let lowest = if ack.multiple { 0 } else { ack.delivery_tag };
                    let settled = outstanding.extract_if(lowest..=ack.delivery_tag, |_| true);
                    // The second of each pair is returned: number 2n needs n returns before it.
                    let last_return = settled.filter(|number| number % 2 == 0).max().unwrap_or(0) / 2;
                    assert!(returned >= last_return, "{ack:?} after {returned} returns");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(returned, 50);
    }

    fn a_confirmed_message_is_in_every_queue(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let exchange = broker.name("everywhere");
        let channels = connections.each_ref().map(|connection| connection.channel());
        channels[0].exchange(&exchange, "fanout");
        let queues = channels.each_ref().map(|channel| {
            let queue = channel.own_queue();
            channel.bind(&queue, &exchange, "");
            queue
        });
        for publisher in &channels {
            publisher.confirm_select();
        }
        for round in 1..=5 {
            for publisher in &channels {
                publisher.publish(&exchange, "", "x");
                publisher.confirmed(round..=round);
                for (channel, queue) in channels.iter().zip(&queues) {
                    assert_eq!(channel.drain(queue), ["x"]);
                }
            }
        }
    }

    fn persistent_messages_are_confirmed(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("durable");
        channel.declare_queue(&name, |declare| declare.durable = true);
        channel.confirm_select();
        for _ in 0..20 {
            channel.publish_content("", &name, wire::PERSISTENT, b"kept");
        }
        channel.confirmed(1..=20);
        assert_eq!(channel.delete_queue(&name), 20);
    }

    fn confirms_reach_publishers_on_every_core(broker: &Broker) {
        let connections = broker.connections_spread::<8>();
        let name = broker.name("far");
        let channels = connections.each_ref().map(|connection| connection.channel());
        channels[0].queue(&name);
        for channel in &channels {
            channel.confirm_select();
            channel.fill(&name, &["x"; 200]);
        }
        for channel in &channels {
            channel.confirmed(1..=200);
        }
        assert_eq!(channels[0].delete_queue(&name), 1600);
    }

    fn a_hundred_thousand_publishes_are_confirmed_once_each(broker: &Broker) {
        let channel = broker.connect().channel();
        let other = broker.connect().channel();
        let queues = [broker.name("near"), broker.name("far")];
        channel.queue(&queues[0]);
        other.queue(&queues[1]);
        channel.confirm_select();
        publish_many(&channel, &queues, 100_000);
        for queue in &queues {
            assert_eq!(channel.delete_queue(queue), 50_000);
        }
    }

    fn confirm_and_tx_exclude_each_other(broker: &Broker) {
        let connection = broker.connect();
        let confirming = connection.channel();
        confirming.confirm_select();
        confirming.send(tx::Select {});
        confirming.expect_close(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", ids::TX_SELECT);
        let transactional = connection.channel();
        transactional.call::<tx::SelectOk>(tx::Select {});
        transactional.send(confirm::Select { nowait: false });
        let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
        transactional.expect_close(406, text, ids::CONFIRM_SELECT);
    }
}

/// Publishes in windows to the queues in turn, and takes every confirm.
fn publish_many(channel: &Channel, queues: &[String], count: u64) {
    const WINDOW: u64 = 5_000;
    let window: Vec<u8> = (0..WINDOW)
        .zip(queues.iter().cycle())
        .flat_map(|(_, queue)| wire::publish(channel.id, "", queue, b"0123456789abcdef"))
        .collect();
    for round in 0..count / WINDOW {
        channel.send_bytes(&window);
        channel.confirmed(round * WINDOW + 1..=(round + 1) * WINDOW);
    }
}
