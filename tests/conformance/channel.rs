//! Channels: opened, closed, reused, up to the number agreed on.

use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::login::Login;
use crate::support::wire;
use amq_protocol::protocol::{basic, channel, connection, queue};

on_each_core_count! {
    fn channels_are_opened_closed_and_opened_again(broker: &Broker) {
        let connection = broker.connect();
        for _ in 0..3 {
            let channels = [1, 2, 1000, 2047].map(|id| connection.open_channel(id));
            for channel in channels {
                channel.close();
            }
        }
    }

    fn all_the_channels_agreed_on_can_be_open_at_once(broker: &Broker) {
        let connection = broker.connect();
        let all: Vec<_> = (1..=2047).map(|id| connection.open_channel(id)).collect();
        all.last().expect("there are 2047").own_queue();
    }

    fn a_channel_above_channel_max_is_refused(broker: &Broker) {
        let connection = broker.login(&Login { channel_max: 10, ..Login::default() });
        connection.open_channel(10);
        connection.unopened_channel(11).send(channel::Open {});
        // RabbitMQ 3.10 counts channels: `number of channels opened (11) has reached the negotiated channel_max`.
        let mut raw = connection.into_raw();
        if broker.is_reference() {
            return;
        }
        let close = raw.expect::<connection::Close>(0);
        assert!([504, 530].contains(&close.reply_code), "{close:?}");
        raw.send_method(0, connection::CloseOk {});
        raw.expect_end();
    }

    fn opening_twice_is_504(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        channel.send(channel::Open {});
        connection.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen", ids::CHANNEL_OPEN);
    }

    fn a_method_on_an_unopened_channel_is_504(broker: &Broker) {
        let connection = broker.connect();
        connection.unopened_channel(5).send(queue::Declare::default());
        connection.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'", ids::QUEUE_DECLARE);
    }

    fn a_method_on_a_channel_the_client_closed_is_504(broker: &Broker) {
        if broker.is_reference() {
            // RabbitMQ may still hold the channel's process, which then swallows the method.
            return;
        }
        let connection = broker.connect();
        let channel = connection.channel();
        channel.close();
        channel.send(basic::Get::default());
        connection.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'", ids::BASIC_GET);
    }

    fn frames_on_a_channel_the_broker_closed_are_discarded_until_close_ok(broker: &Broker) {
        let connection = broker.connect();
        let (channel, witness) = (connection.channel(), connection.channel());
        let name = broker.name("discarded");
        let declare = queue::Declare { queue: name.as_str().into(), ..Default::default() };
        // The second and third are on their way when the broker closes for the first.
        channel.send_bytes(&[
            wire::method(channel.id, basic::Get { queue: "never-declared".into(), no_ack: true }),
            wire::method(channel.id, declare),
            wire::publish(channel.id, "no-such-exchange", "x", b"x"),
        ].concat());
        channel.expect_close(404, "no queue 'never-declared'", ids::BASIC_GET);
        witness.send(queue::Declare { queue: name.as_str().into(), passive: true, ..Default::default() });
        witness.expect_close(404, &name, ids::QUEUE_DECLARE);
        connection.open_channel(channel.id).own_queue();
    }

    fn a_close_of_the_client_is_answered_while_the_broker_closes(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        channel.send_bytes(&[
            wire::method(channel.id, basic::Get { queue: "never-declared".into(), no_ack: true }),
            wire::method(channel.id, channel::Close { reply_code: 200, ..Default::default() }),
        ].concat());
        let close = channel.expect::<channel::Close>();
        assert_eq!(close.reply_code, 404);
        channel.expect::<channel::CloseOk>();
        channel.send(channel::CloseOk {});
        connection.open_channel(channel.id).own_queue();
    }

    fn an_error_on_one_channel_leaves_the_others_alone(broker: &Broker) {
        let connection = broker.connect();
        let (bad, good) = (connection.channel(), connection.channel());
        let queue = good.own_queue();
        good.consume(&queue);
        bad.send(basic::Get { queue: "never-declared".into(), no_ack: true });
        bad.expect_close(404, "no queue", ids::BASIC_GET);
        good.publish("", &queue, "still here");
        assert_eq!(good.delivery().text(), "still here");
        good.ack(1);
    }

    fn a_method_of_the_connection_on_a_channel_is_refused(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        channel.send(connection::Open { virtual_host: "/".into() });
        let mut raw = {
            drop(channel);
            connection.into_raw()
        };
        let close = raw.expect::<connection::Close>(0);
        assert!([503, 504, 540].contains(&close.reply_code), "{close:?}");
        raw.send_method(0, connection::CloseOk {});
        raw.expect_end();
    }

    fn channels_of_one_connection_are_worlds_of_their_own(broker: &Broker) {
        let connection = broker.connect();
        let (one, two) = (connection.channel(), connection.channel());
        let queue = one.own_queue();
        one.confirm_select();
        one.qos(1, false);
        two.consume_no_ack(&queue);
        two.fill(&queue, &["a", "b"]);
        assert_eq!(two.delivered_texts(2), ["a", "b"]);
        one.publish("", &queue, "c");
        one.confirmed(1..=1);
        let delivery = two.delivery();
        assert_eq!((delivery.text().as_str(), delivery.tag()), ("c", 3));
    }
}
