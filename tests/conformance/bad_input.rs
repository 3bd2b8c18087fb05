//! Bytes that no client should send: each gets its error or a closed socket, and the broker goes on.
//!
//! Where RabbitMQ answers, its code is expected. Where it only drops the socket (unknown methods), waits for ever
//! (bodies longer than announced) or dies with 541 (broken properties), the specification's codes are, from ours.

use crate::support::broker::Broker;
use crate::support::cores::on_each_core_count;
use crate::support::login::Login;
use crate::support::methods::Method;
use crate::support::raw::Raw;
use crate::support::wire::{self, NO_PROPERTIES};
use amq_protocol::protocol::{basic, channel, connection, queue};

/// What is sent on a connection with channel 1 open, and which codes may close it.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    codes: &'static [u16],
    /// RabbitMQ 3.10.8 does otherwise.
    ours_alone: bool,
}

fn case(what: &'static str, bytes: Vec<u8>, codes: &'static [u16]) -> Case {
    Case {
        what,
        bytes,
        codes,
        ours_alone: false,
    }
}

/// For what RabbitMQ treats in another way than the issue wants.
fn ours(what: &'static str, bytes: Vec<u8>, codes: &'static [u16]) -> Case {
    Case {
        what,
        bytes,
        codes,
        ours_alone: true,
    }
}

on_each_core_count! {
    fn broken_frames_close_the_connection(broker: &Broker) {
        let mut unended = wire::method(1, basic::Get::default());
        *unended.last_mut().expect("a frame has an end") = 0;
        expect_all(broker, vec![
            case("a frame larger than frame_max", wire::frame_start(wire::METHOD, 1, 200_000), &[501]),
            case("a frame of 4 GiB", wire::frame_start(wire::METHOD, 1, 0xffff_ffff), &[501]),
            case("a body frame larger than frame_max", wire::frame_start(wire::BODY, 1, 140_000), &[501]),
            case("a wrong end octet", unended, &[501]),
            case("frame type 9", wire::frame(9, 1, b"abc"), &[501]),
            case("frame type 4", wire::frame(4, 0, b""), &[501]),
            case("a method frame without ids", wire::frame(wire::METHOD, 1, &[0, 60, 0]), &[501, 502]),
            case("an empty method frame", wire::frame(wire::METHOD, 1, &[]), &[501, 502]),
            case("a short content header", [publish(), wire::frame(wire::HEADER, 1, &[0, 60, 0, 0])].concat(), &[501, 502]),
            case("a heartbeat with a payload", wire::frame(wire::HEARTBEAT, 0, b"x"), &[501, 502]),
            case("a second protocol header", wire::PROTOCOL_HEADER.to_vec(), &[501]),
            case("another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[501]),
        ]);
    }

    fn unknown_methods_close_the_connection(broker: &Broker) {
        expect_all(broker, vec![
            ours("an unknown class", wire::raw_method(1, 999, 1, &[]), &[503, 540]),
            ours("an unknown method", wire::raw_method(1, 60, 999, &[]), &[503, 540]),
            ours("an unknown method on channel 0", wire::raw_method(0, 10, 999, &[]), &[503, 540]),
            ours("an unknown class on channel 0", wire::raw_method(0, 999, 1, &[]), &[503, 540]),
        ]);
    }

    fn methods_where_they_do_not_belong_close_the_connection(broker: &Broker) {
        expect_all(broker, vec![
            case("start-ok again", wire::method(0, Login::default().start_ok()), &[503, 504]),
            case("open again", wire::method(0, Login::default().open()), &[503, 504, 530]),
            case("tune", wire::method(0, connection::Tune::default()), &[503, 504]),
            case("close-ok to nothing", wire::method(0, connection::CloseOk {}), &[503, 504]),
            case("a method of channels on channel 0", wire::method(0, channel::Open {}), &[503, 504]),
            case("a method of queues on channel 0", wire::method(0, queue::Declare::default()), &[503, 504]),
            case("a method of connections on channel 1", wire::method(1, connection::Close::default()), &[503, 504]),
            case("channel.close-ok to nothing", wire::method(1, channel::CloseOk {}), &[503, 504, 505]),
            ours("channel.close-ok with something behind it, on no channel", wire::raw_method(2, 20, 41, &[0]), &[504]),
            case("a server's method, qos-ok", wire::method(1, basic::QosOk {}), &[503]),
            case("a server's method, declare-ok", wire::method(1, queue::DeclareOk::default()), &[503]),
            case("a server's method, channel.open-ok", wire::method(1, channel::OpenOk {}), &[503]),
            ours("a server's method with a content, deliver", wire::method(1, basic::Deliver::default()), &[503]),
        ]);
    }

    fn contents_out_of_order_are_505(broker: &Broker) {
        let header = |size| wire::header(1, size, NO_PROPERTIES);
        let get = || wire::method(1, basic::Get::default());
        expect_all(broker, vec![
            case("a body without a header or method", wire::body(1, b"x"), &[505]),
            case("a header without a method", header(3), &[505]),
            case("a body without a header", [publish(), wire::body(1, b"x")].concat(), &[505]),
            case("a publish instead of a header", [publish(), publish()].concat(), &[505]),
            case("a header instead of a body", [publish(), header(3), header(3)].concat(), &[505]),
            case("a method instead of a body", [publish(), header(3), wire::body(1, b"x"), get()].concat(), &[505]),
            case("a header of another class", [publish(), wire::header_of_class(1, 50, 0, NO_PROPERTIES)].concat(), &[505]),
            case("a header on channel 0", wire::header(0, 3, NO_PROPERTIES), &[501, 503, 504, 505]),
            case("a body on channel 0", wire::body(0, b"x"), &[501, 503, 504, 505]),
            ours("a body longer than its header says", [publish(), header(3), wire::body(1, b"four")].concat(), &[501, 505]),
            ours("a body after the whole body", [publish(), header(1), wire::body(1, b"x"), wire::body(1, b"y")].concat(), &[505]),
            ours("a body to an empty content", [publish(), header(0), wire::body(1, b"y")].concat(), &[505]),
        ]);
    }

    fn arguments_that_do_not_parse_are_refused(broker: &Broker) {
        let declare = |name: &[u8], table: &[u8]| {
            wire::raw_method(1, 50, 10, &[&[0, 0], &wire::short_string(name)[..], &[0], table].concat())
        };
        let bad_type = wire::long_string(b"\x01a?zzz");
        expect_all(broker, vec![
            case("a short string that isn't UTF-8", declare(b"\xff\xfe", &[0; 4]), &[501, 502]),
            case("a truncated short string", wire::raw_method(1, 50, 10, &[0, 0, 5, b'a']), &[501, 502]),
            case("a truncated table", declare(b"q", &[0, 0, 0, 50, 1, b'a']), &[501, 502]),
            case("bytes behind the arguments", wire::raw_method(1, 20, 20, &[1, 2, 3, 4]), &[501, 502]),
            case("no arguments", wire::raw_method(1, 60, 40, &[]), &[501, 502]),
            ours("a table value of no type", declare(b"q", &bad_type), &[501, 502]),
            ours("a table in which a string runs over the end", declare(b"q", &wire::long_string(b"\x01aS\0\0\0\x09x")), &[501, 502]),
            ours("a table 10,000 deep", declare(b"q", &wire::nested_tables(10_000)), &[501, 502]),
            ours("arrays 10,000 deep", declare(b"q", &nested_arrays(10_000)), &[501, 502]),
        ]);
    }

    fn properties_that_do_not_parse_are_refused(broker: &Broker) {
        let with = |properties: &[u8]| [publish(), wire::header(1, 0, properties)].concat();
        expect_all(broker, vec![
            ours("a truncated property", with(&[0x80, 0, 200, 1]), &[501, 502]),
            ours("properties behind the last", with(&[0, 0, 1, 2, 3]), &[501, 502]),
            ours("no flags", with(&[]), &[501, 502]),
            ours("a truncated header table", with(&[0x20, 0, 0, 0, 0, 9, 1, b'a']), &[501, 502]),
        ]);
    }

    fn a_message_as_large_as_its_header_says_may_be_too_large(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        for size in [u64::MAX, 1 << 40] {
            let mut raw = with_channel(broker);
            raw.send(&[publish(), wire::header(1, size, NO_PROPERTIES)].concat());
            let frame = raw.frame("a close of channel or connection");
            let class = frame.method();
            let code = channel::Close::from_class(class.clone()).map(|close| close.reply_code)
                .or_else(|class| connection::Close::from_class(class).map(|close| close.reply_code));
            assert!(matches!(code, Ok(406 | 501 | 506)), "{class:?} for a body of {size}");
        }
        broker.connect().is_alive();
    }

    fn a_header_table_ten_thousand_deep_harms_nobody(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        let bind = queue::Bind {
            queue: queue.as_str().into(), exchange: "amq.headers".into(),
            arguments: wire::table(&[("deep", wire::text("x"))]), ..Default::default()
        };
        channel.call::<queue::BindOk>(bind);
        let properties = [&[0x20, 0][..], &wire::nested_tables(10_000)].concat();
        let mut raw = with_channel(broker);
        for exchange in ["", "amq.headers"] {
            let publish = basic::Publish {
                exchange: exchange.into(), routing_key: queue.as_str().into(), ..Default::default()
            };
            // Delivered as it is or refused: both are sound.
            let _ = raw.try_send(&[wire::method(1, publish), wire::header(1, 0, &properties)].concat());
        }
        raw.finish_sending();
        raw.until_given_up();
        broker.connect().is_alive();
    }

    fn half_a_frame_and_the_end_is_forgotten(broker: &Broker) {
        let unfinished = [publish(), wire::header(1, 9, NO_PROPERTIES)].concat();
        for bytes in [wire::frame_start(wire::METHOD, 1, 1000), vec![1], unfinished] {
            let mut raw = with_channel(broker);
            raw.send(&bytes);
            raw.finish_sending();
            raw.until_given_up();
        }
        broker.connect().is_alive();
    }

    fn before_the_handshake_is_over_frames_are_small(broker: &Broker) {
        let login = Login::default();
        let header = wire::PROTOCOL_HEADER.to_vec();
        let large = wire::frame_start(wire::METHOD, 0, 100_000);
        let openings = [header.clone(), [header, wire::method(0, login.start_ok())].concat()];
        let sent = openings.map(|opening| {
            let mut raw = Raw::connect(broker.address);
            raw.send(&[opening, large.clone()].concat());
            raw
        });
        for mut raw in sent {
            raw.until_end_answering_close();
        }
    }

    fn a_client_that_talks_without_end_before_the_handshake_is_cut(broker: &Broker) {
        let openings = [vec![], wire::PROTOCOL_HEADER.to_vec(), {
            [wire::PROTOCOL_HEADER.to_vec(), wire::frame_start(wire::METHOD, 0, 0xffff_ffff)].concat()
        }];
        for opening in openings {
            let mut raw = Raw::connect(broker.address);
            let noise = vec![b'A'; 1 << 20];
            // Sooner or later the peer is gone; 64 MiB are more than any socket's buffers hold.
            let sent = raw.try_send(&opening).and_then(|()| (0..64).try_for_each(|_| raw.try_send(&noise)));
            assert!(sent.is_err(), "64 MiB were taken before the handshake");
        }
        broker.connect().is_alive();
    }
}

/// Sends every case on a connection of its own, then looks how each ends: RabbitMQ takes seconds for some.
fn expect_all(broker: &Broker, mut cases: Vec<Case>) {
    cases.retain(|case| !(case.ours_alone && broker.is_reference()));
    let sent = cases.into_iter().map(|case| {
        let mut raw = with_channel(broker);
        raw.send(&case.bytes);
        (case, raw)
    });
    for (Case { what, codes, .. }, mut raw) in sent.collect::<Vec<_>>() {
        let frames = raw.until_end_answering_close();
        let close = frames
            .last()
            .unwrap_or_else(|| panic!("{what}: the socket was closed without a word"));
        match connection::Close::from_class(close.method()) {
            Ok(close) => assert!(
                codes.contains(&close.reply_code),
                "{what}: {close:?}, expected one of {codes:?}"
            ),
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    broker.connect().is_alive();
}

fn with_channel(broker: &Broker) -> Raw {
    let mut raw = Login::default().raw(broker.address);
    raw.send_method(1, channel::Open {});
    raw.expect::<channel::OpenOk>(1);
    raw
}

fn publish() -> Vec<u8> {
    wire::method(
        1,
        basic::Publish {
            routing_key: "nowhere".into(),
            ..Default::default()
        },
    )
}

/// A table whose only field is an array of an array of an array, and so on.
fn nested_arrays(depth: usize) -> Vec<u8> {
    let per_level = 5; // type 'A' with its length
    let mut fields = b"\x01a".to_vec();
    for level in 0..depth {
        let inner = (depth - level - 1) * per_level;
        fields.push(b'A');
        fields.extend_from_slice(&u32::try_from(inner).expect("a few ten KiB").to_be_bytes());
    }
    wire::long_string(&fields)
}

/// Idle connections in the middle of the handshake cost a few KB each.
#[test]
fn memory_before_authentication_is_bounded() {
    const CONNECTIONS: usize = 500;
    let Some(broker) = Broker::alone(1, "") else {
        return;
    };
    let half_a_frame = [
        wire::PROTOCOL_HEADER,
        &wire::frame_start(wire::METHOD, 0, 4000),
        &[7; 3900],
    ]
    .concat();
    let open = || {
        let mut raw = Raw::connect(broker.address);
        raw.send(&half_a_frame);
        raw.expect::<connection::Start>(0);
        raw
    };
    let _warm: Vec<_> = (0..50).map(|_| open()).collect();
    let before = broker.process().resident_kib();
    let _kept: Vec<_> = (0..CONNECTIONS).map(|_| open()).collect();
    let each = broker.process().resident_kib().saturating_sub(before) / CONNECTIONS;
    assert!(
        each <= 16,
        "{each} KiB for each connection before authentication"
    );
}
