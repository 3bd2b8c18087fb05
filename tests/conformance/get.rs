//! basic.get: one message at a time.

use crate::support::cores::on_each_core_count;
use crate::support::ids;
use amq_protocol::protocol::basic;

on_each_core_count! {
    fn get_says_how_many_are_left(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.bind(&queue, "amq.direct", &queue);
        channel.confirm_select();
        for text in ["a", "b", "c"] {
            channel.publish("amq.direct", &queue, text);
        }
        channel.confirmed(1..=3);
        for (text, left) in [("a", 2), ("b", 1), ("c", 0)] {
            let got = channel.get(&queue).expect("a message is ready");
            assert_eq!(got.text(), text);
            let expected = basic::GetOk {
                delivery_tag: 3 - u64::from(left), redelivered: false, exchange: "amq.direct".into(),
                routing_key: queue.as_str().into(), message_count: left,
            };
            assert_eq!(got.method, expected);
        }
        assert!(channel.get(&queue).is_none());
    }

    fn an_empty_queue_gives_get_empty(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        assert!(channel.get(&queue).is_none());
        assert!(channel.get_no_ack(&queue).is_none());
    }

    fn what_was_got_is_held_until_acknowledged(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        channel.fill_confirmed(&queue, &["a", "b"]);
        let first = channel.get(&queue).expect("two are ready");
        channel.ack(first.method.delivery_tag);
        channel.get(&queue).expect("one is ready");
        channel.close();
        let next = connection.channel();
        let again = next.get(&queue).expect("it came back");
        assert_eq!((again.text().as_str(), again.method.redelivered), ("b", true));
    }

    fn what_was_got_with_no_ack_is_gone(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        channel.fill_confirmed(&queue, &["a"]);
        channel.get_no_ack(&queue).expect("one is ready");
        channel.ack(1);
        channel.expect_close(406, "unknown delivery tag 1", ids::BASIC_ACK);
        assert!(connection.channel().get(&queue).is_none());
    }

    fn getting_from_nothing_is_404(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("nothing");
        channel.send(basic::Get { queue: name.as_str().into(), no_ack: false });
        channel.expect_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), ids::BASIC_GET);
    }

    fn get_pays_no_heed_to_prefetch(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.qos(1, false);
        channel.fill_confirmed(&queue, &["a", "b"]);
        assert!(channel.get(&queue).is_some() && channel.get(&queue).is_some());
    }

    fn get_sees_a_publish_of_its_own_channel_at_once(broker: &Broker) {
        let connections = broker.connections_spread::<4>();
        let name = broker.name("near");
        connections[0].channel().queue(&name);
        for connection in &connections {
            let channel = connection.channel();
            for n in 0..50 {
                channel.publish("", &name, &n.to_string());
                assert_eq!(channel.get_no_ack(&name).expect("it was published").text(), n.to_string());
            }
        }
    }

    fn gets_of_many_connections_share_a_queue(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let name = broker.name("shared");
        let channels = connections.each_ref().map(|connection| connection.channel());
        channels[0].queue(&name);
        let texts: Vec<_> = (0..60).map(|n| n.to_string()).collect();
        channels[5].fill_confirmed(&name, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        for (n, channel) in (0..60).zip(channels.iter().cycle()) {
            let got = channel.get(&name).expect("sixty were published");
            assert_eq!((got.text(), got.method.message_count), (n.to_string(), 59 - n));
            channel.ack(got.method.delivery_tag);
        }
    }
}
