//! Sender-selected distribution: CC and BCC name more routing keys, and BCC stays a secret.

use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::wire::{self, text};
use amq_protocol::protocol::{basic, tx};
use amq_protocol::types::{AMQPValue, FieldArray};

on_each_core_count! {
    fn a_message_goes_to_its_key_and_to_those_in_cc_and_bcc_once_each(broker: &Broker) {
        let connections = broker.connections_spread::<4>();
        let channel = connections[0].channel();
        let names: Vec<_> = ["key", "cc", "bcc", "other"].iter().map(|name| broker.name(name)).collect();
        for (connection, name) in connections.iter().zip(&names) {
            connection.channel().queue(name);
        }
        let [key, cc, bcc, other] = &names[..] else { unreachable!("four names") };
        let properties = wire::headers(&[
            ("CC", array(&[cc, key, cc])), ("BCC", array(&[bcc, cc])), ("kept", text("yes")),
        ]);
        channel.confirm_select();
        for exchange in ["", "amq.direct"] {
            for name in [key, cc, bcc, other].into_iter().filter(|_| exchange == "amq.direct") {
                channel.bind(name, exchange, name);
            }
            channel.publish_content(exchange, key, &properties, exchange.as_bytes());
        }
        channel.confirmed(1..=2);
        for name in [key, cc, bcc] {
            assert_eq!(channel.drain(name), ["", "amq.direct"], "{name} got each message once");
        }
        assert_eq!(channel.passive(other).message_count, 0);
    }

    fn bcc_is_taken_out_and_the_rest_of_the_message_stays(broker: &Broker) {
        let channel = broker.connect().channel();
        let (queue, bcc) = (channel.own_queue(), channel.own_queue());
        let entries = [("BCC", array(&[&bcc])), ("CC", array(&[])), ("a", text("1"))];
        let properties = wire::headers(&entries);
        channel.publish_content("", &queue, &properties, b"x");
        let expected = wire::headers(&entries[1..]);
        for name in [&queue, &bcc] {
            let got = channel.get_no_ack(name).expect("it goes to both");
            assert_eq!(got.content.properties, expected);
            assert_eq!(got.method.routing_key.as_str(), queue);
        }
    }

    fn the_next_message_without_them_goes_by_its_key_alone(broker: &Broker) {
        let channel = broker.connect().channel();
        let (queue, other) = (channel.own_queue(), channel.own_queue());
        let properties = wire::headers(&[("CC", array(&[&other]))]);
        channel.publish("", &queue, "1");
        channel.publish_content("", &queue, &properties, b"2");
        channel.publish("", &queue, "3");
        channel.publish_content("", &queue, &wire::headers(&[("cc", text("no"))]), b"4");
        assert_eq!(channel.drain(&queue), ["1", "2", "3", "4"]);
        assert_eq!(channel.drain(&other), ["2"]);
    }

    fn a_mandatory_message_is_returned_only_if_no_key_leads_anywhere_and_without_bcc(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        let publish = |bcc: &str, body: &[u8]| {
            let publish = basic::Publish {
                routing_key: "nowhere-at-all".into(), mandatory: true, ..Default::default()
            };
            let properties = wire::headers(&[("BCC", array(&[bcc])), ("a", text("1"))]);
            channel.publish_with(publish, &properties, body);
        };
        publish(&queue, b"routed");
        publish("nowhere-either", b"returned");
        let returned = channel.expect_message::<basic::Return>();
        assert_eq!(returned.text(), "returned");
        assert_eq!(returned.content.properties, wire::headers(&[("a", text("1"))]));
        assert_eq!(channel.drain(&queue), ["routed"]);
    }

    fn they_work_in_transactions(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let (queue, bcc) = (channel.own_queue(), channel.own_queue());
        channel.call::<tx::SelectOk>(tx::Select {});
        channel.publish_content("", &queue, &wire::headers(&[("BCC", array(&[&bcc]))]), b"x");
        channel.call::<tx::CommitOk>(tx::Commit {});
        for name in [&queue, &bcc] {
            let got = channel.get_no_ack(name).expect("it goes to both");
            assert_eq!(got.content.properties, wire::headers(&[]));
        }
        channel.publish_content("", &queue, &wire::headers(&[("CC", text("no list"))]), b"x");
        channel.expect_close(406, "unacceptable_type_in_header", ids::BASIC_PUBLISH);
    }

    fn another_type_than_an_array_is_406(broker: &Broker) {
        let connection = broker.connect();
        let cases = [("CC", text("a"), "longstr"), ("BCC", AMQPValue::LongInt(1), "signedint")];
        for (name, value, found) in cases {
            let channel = connection.channel();
            let queue = channel.own_queue();
            channel.publish_content("", &queue, &wire::headers(&[(name, value)]), b"x");
            let expected = format!(
                "PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,\"{name}\",{found}}}"
            );
            channel.expect_close(406, &expected, ids::BASIC_PUBLISH);
        }
    }

    fn an_unknown_exchange_is_404_before_the_headers_are_looked_at(broker: &Broker) {
        let channel = broker.connect().channel();
        let properties = wire::headers(&[("CC", text("a"))]);
        channel.publish_content("no-such-exchange", "", &properties, b"x");
        channel.expect_close(404, "no exchange 'no-such-exchange'", ids::BASIC_PUBLISH);
    }

    fn what_is_no_text_in_the_array_is_passed_over(broker: &Broker) {
        let channel = broker.connect().channel();
        let (queue, other) = (channel.own_queue(), channel.own_queue());
        let mut keys = FieldArray::default();
        keys.push(AMQPValue::Boolean(true));
        keys.push(text(&other));
        let properties = wire::headers(&[("CC", AMQPValue::FieldArray(keys))]);
        channel.publish_content("", &queue, &properties, b"x");
        assert_eq!(channel.drain(&queue), ["x"]);
        assert_eq!(channel.drain(&other), ["x"]);
    }
}

fn array(keys: &[&str]) -> AMQPValue {
    AMQPValue::FieldArray(keys.iter().map(|key| text(key)).collect::<Vec<_>>().into())
}
