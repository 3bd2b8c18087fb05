//! From the protocol header to open-ok, and what a client hears that isn't let in.

use crate::support::broker::Broker;
use crate::support::client::Connection;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use crate::support::login::{Login, begin};
use crate::support::raw::Raw;
use crate::support::wire;
use amq_protocol::protocol::{channel, connection};
use amq_protocol::types::AMQPValue;

const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

on_each_core_count! {
    fn a_wrong_protocol_header_is_answered_with_ours_and_the_end(broker: &Broker) {
        for header in [b"AMQP\x00\x00\x08\x00", b"AMQP\x02\x01\x00\x00", b"HTTP\x2f1.1", b"\xff\xff\xff\xff\xff\xff\xff\xff"] {
            let mut raw = Raw::connect(broker.address);
            raw.send(header);
            assert_eq!(raw.bytes(8), wire::PROTOCOL_HEADER, "after {header:?}");
            raw.expect_end();
        }
    }

    fn the_protocol_header_may_come_byte_by_byte(broker: &Broker) {
        let mut raw = Raw::connect(broker.address);
        raw.send_byte_by_byte(wire::PROTOCOL_HEADER);
        raw.expect::<connection::Start>(0);
    }

    fn the_header_of_0_9_is_accepted(broker: &Broker) {
        let mut raw = Raw::connect(broker.address);
        raw.send(b"AMQP\x01\x01\x00\x09");
        assert_is_0_9(&raw.expect::<connection::Start>(0));
        raw.send_method(0, Login::default().start_ok());
        raw.expect::<connection::Tune>(0);
    }

    fn start_names_version_mechanisms_locale_and_server(broker: &Broker) {
        let (_raw, start) = begin(broker.address);
        assert_is_0_9(&start);
        let mechanisms = start.mechanisms.to_string();
        let mechanisms: Vec<_> = mechanisms.split(' ').collect();
        assert!(mechanisms.contains(&"PLAIN") && mechanisms.contains(&"AMQPLAIN"), "{mechanisms:?}");
        assert_eq!(start.locales.to_string(), "en_US");
        for key in ["product", "version", "platform"] {
            assert!(matches!(start.server_properties.inner().get(key), Some(AMQPValue::LongString(_))), "{key}");
        }
    }

    fn start_claims_nine_capabilities(broker: &Broker) {
        let (_raw, start) = begin(broker.address);
        let Some(AMQPValue::FieldTable(capabilities)) = start.server_properties.inner().get("capabilities") else {
            panic!("no table `capabilities` in {start:?}");
        };
        for name in CAPABILITIES {
            assert_eq!(capabilities.inner().get(name), Some(&AMQPValue::Boolean(true)), "{name}");
        }
    }

    fn tune_offers_2047_channels_128_kib_frames_and_60_seconds(broker: &Broker) {
        let (_raw, tune) = Login::default().authenticate(broker.address);
        assert_eq!(tune, connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 });
    }

    fn plain_logs_in(broker: &Broker) {
        broker.login(&Login { mechanism: "PLAIN", ..Login::alice("/") }).is_alive();
    }

    fn amqplain_logs_in(broker: &Broker) {
        broker.login(&Login { mechanism: "AMQPLAIN", ..Login::alice("/") }).is_alive();
    }

    fn a_handshake_in_one_breath_is_answered_step_by_step(broker: &Broker) {
        let mut raw = Raw::connect(broker.address);
        raw.send(&[Login::default().in_one_breath(), wire::method(1, channel::Open {})].concat());
        raw.expect::<connection::Start>(0);
        raw.expect::<connection::Tune>(0);
        raw.expect::<connection::OpenOk>(0);
        raw.expect::<channel::OpenOk>(1);
    }

    fn a_wrong_password_is_refused_with_403_where_the_client_can_hear_it(broker: &Broker) {
        for (mechanism, user) in [("PLAIN", "alice"), ("AMQPLAIN", "alice"), ("PLAIN", "nobody")] {
            let login = Login { mechanism, user, password: "wrong", ..Login::default() };
            let text = format!("ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. \
                For details see the broker logfile.");
            expect_refusal(say_start_ok(broker, &login), 403, &text, ids::NONE);
        }
    }

    fn a_wrong_password_just_ends_the_socket_of_an_old_client(broker: &Broker) {
        // RabbitMQ waits 3 s before it does so.
        let login = Login { user: "alice", password: "wrong", capabilities: &[], ..Login::default() };
        say_start_ok(broker, &login).expect_end();
    }

    fn an_unknown_mechanism_is_refused(broker: &Broker) {
        let login = Login { mechanism: "TELEPATHY", ..Login::default() };
        let mut raw = say_start_ok(broker, &login);
        if broker.is_reference() {
            // RabbitMQ only logs the reason, and hangs up.
            return raw.expect_end();
        }
        let close = raw.expect::<connection::Close>(0);
        assert_eq!(close.reply_code, 503);
        assert!(close.reply_text.as_str().contains("unknown authentication mechanism 'TELEPATHY'"), "{close:?}");
    }

    fn a_malformed_login_is_refused(broker: &Broker) {
        // RabbitMQ takes 3 s for each: first all are sent, then all are looked at.
        let mut refused = Vec::new();
        for response in [&b""[..], b"guest", b"\0guest", b"\0\0\0\0", b"\0guest\0guest\0"] {
            let (mut raw, _) = begin(broker.address);
            raw.send_method(0, connection::StartOk { response: response.into(), ..Login::default().start_ok() });
            refused.push((response, raw));
        }
        for (response, mut raw) in refused {
            let heard = raw.until_end_answering_close();
            assert!(!heard.iter().any(|frame| frame.payload.starts_with(&[0, 10, 0, 30])), "{response:?} got tune");
        }
    }

    fn vhosts_are_opened_by_those_who_may(broker: &Broker) {
        broker.login(&Login::alice("orders")).is_alive();
        broker.login(&Login::alice("/")).is_alive();
    }

    fn an_unknown_vhost_is_530(broker: &Broker) {
        let raw = Login { vhost: "nowhere", ..Login::default() }.ask_to_open(broker.address);
        expect_refusal(raw, 530, "NOT_ALLOWED - vhost nowhere not found", ids::CONNECTION_OPEN);
    }

    fn the_smallest_frame_max_is_4096(broker: &Broker) {
        let connection = broker.login(&Login { frame_max: 4096, ..Login::default() });
        connection.is_alive();
    }

    fn a_frame_max_below_4096_is_530(broker: &Broker) {
        let raw = refused_tune(broker, Login { frame_max: 4095, ..Login::default() });
        let text = "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)";
        expect_tune_refusal(broker, raw, text);
    }

    fn a_frame_max_above_the_offer_is_530(broker: &Broker) {
        let raw = refused_tune(broker, Login { frame_max: 131_073, ..Login::default() });
        let text = "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)";
        expect_tune_refusal(broker, raw, text);
    }

    fn no_limit_on_frames_is_above_the_offer_too(broker: &Broker) {
        let raw = refused_tune(broker, Login { frame_max: 0, ..Login::default() });
        let text = "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)";
        expect_tune_refusal(broker, raw, text);
    }

    fn no_limit_on_channels_is_above_the_offer(broker: &Broker) {
        let raw = refused_tune(broker, Login { channel_max: 0, ..Login::default() });
        let text = "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)";
        expect_tune_refusal(broker, raw, text);
    }

    fn more_channels_than_offered_are_refused(broker: &Broker) {
        let raw = refused_tune(broker, Login { channel_max: 2048, ..Login::default() });
        let text = "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)";
        expect_tune_refusal(broker, raw, text);
    }

    fn deliveries_keep_to_the_negotiated_frame_max(broker: &Broker) {
        let small = broker.login(&Login { frame_max: 4096, ..Login::default() });
        let large = broker.connect();
        let (reader, writer) = (small.channel(), large.channel());
        let queue = reader.own_queue();
        reader.consume_no_ack(&queue);
        let body: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        writer.publish_content("", &queue, wire::NO_PROPERTIES, &body);
        let delivery = reader.delivery();
        assert_eq!(delivery.content.body, body);
        assert!(delivery.content.frames.iter().all(|size| *size <= 4096 - wire::FRAME_OVERHEAD));
    }

    fn a_method_before_its_time_ends_the_handshake(broker: &Broker) {
        let too_early = [
            wire::method(0, Login::default().open()),
            wire::method(0, Login::default().tune_ok()),
            wire::method(1, channel::Open {}),
            wire::body(1, b"?"),
        ];
        let sent = too_early.map(|bytes| {
            let (mut raw, _) = begin(broker.address);
            raw.send(&bytes);
            (bytes, raw)
        });
        for (bytes, mut raw) in sent {
            let heard = raw.until_end_answering_close();
            assert!(!heard.iter().any(|frame| frame.channel != 0), "{heard:?} after {bytes:?}");
        }
    }

    fn the_client_closes_the_connection(broker: &Broker) {
        broker.connect().close();
    }

    fn frames_after_the_clients_close_are_not_obeyed(broker: &Broker) {
        let connection = broker.connect();
        let name = broker.name("after-close");
        let declare = amq_protocol::protocol::queue::Declare { queue: name.as_str().into(), ..Default::default() };
        connection.open_channel(1);
        let close = wire::method(0, connection::Close { reply_code: 200, ..Default::default() });
        connection.send_bytes(&[close, wire::method(1, declare)].concat());
        let mut raw = connection.into_raw();
        raw.expect::<connection::CloseOk>(0);
        raw.finish_sending();
        raw.expect_end();
        let witness = broker.connect().channel();
        let passive = amq_protocol::protocol::queue::Declare {
            queue: name.as_str().into(), passive: true, ..Default::default()
        };
        witness.send(passive);
        witness.expect_close(404, "no queue", ids::QUEUE_DECLARE);
    }

    fn a_connection_closed_by_the_broker_waits_for_close_ok(broker: &Broker) {
        let connection = broker.connect();
        // Frames that were on their way when the broker closed are read and forgotten.
        let bytes = [wire::body(1, b"of nothing"), wire::method(7, channel::Open {}), wire::heartbeat()].concat();
        connection.send_bytes(&bytes);
        let mut raw = connection.into_raw();
        raw.expect::<connection::Close>(0);
        raw.send(&wire::method(8, channel::Open {}));
        raw.send_method(0, connection::CloseOk {});
        raw.expect_end();
    }

    fn update_secret_is_answered(broker: &Broker) {
        let connection = broker.login(&Login::alice("/"));
        let update = connection::UpdateSecret { new_secret: "secret".into(), reason: "renewal".into() };
        connection.call::<connection::UpdateSecretOk>(update);
        connection.is_alive();
    }

    fn a_hundred_connections_come_and_go(broker: &Broker) {
        let some: Vec<Connection> = (0..100).map(|_| broker.connect()).collect();
        for connection in some {
            connection.close();
        }
        let queue = broker.connect().channel().own_queue();
        assert!(queue.starts_with("amq.gen-"));
    }
}

#[test]
fn a_handshake_that_takes_too_long_is_cut() {
    let Some(broker) = Broker::alone(1, "handshake_timeout = 500\n") else {
        return;
    };
    let mut silent = Raw::connect(broker.address);
    let (mut slow, _) = begin(broker.address);
    let (mut slower, _) = Login::default().authenticate(broker.address);
    let done = broker.connect();
    for raw in [&mut silent, &mut slow, &mut slower] {
        raw.until_end_answering_close();
    }
    done.is_alive();
}

fn assert_is_0_9(start: &connection::Start) {
    assert_eq!((start.version_major, start.version_minor), (0, 9));
}

fn say_start_ok(broker: &Broker, login: &Login) -> Raw {
    let (mut raw, _) = begin(broker.address);
    raw.send_method(0, login.start_ok());
    raw
}

/// A client whose tune-ok should be refused, so that nothing after it counts.
fn refused_tune(broker: &Broker, login: Login) -> Raw {
    let (mut raw, _) = login.authenticate(broker.address);
    raw.send_method(0, login.tune_ok());
    raw
}

/// RabbitMQ only logs the reason, and hangs up after 3 s.
fn expect_tune_refusal(broker: &Broker, mut raw: Raw, text: &str) {
    if broker.is_reference() {
        raw.expect_end();
    } else {
        expect_refusal(raw, 530, text, ids::CONNECTION_TUNE_OK);
    }
}

fn expect_refusal(raw: Raw, code: u16, text: &str, ids: ids::Ids) {
    Connection::new(raw, 4096).expect_close(code, text, ids);
}
