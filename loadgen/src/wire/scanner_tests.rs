//! The scanner against streams cut at every place, and against broken ones.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, basic, connection};
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Delivered(u16, u64, u64),
    Returned(u16),
    Settled(u16, u64, bool, bool),
    Method(u16, usize),
}

impl FrameSink for Vec<Event> {
    fn delivered(&mut self, channel: u16, delivery_tag: u64, time_ns: u64) {
        self.push(Event::Delivered(channel, delivery_tag, time_ns));
    }
    fn returned(&mut self, channel: u16) {
        self.push(Event::Returned(channel));
    }
    fn settled(&mut self, channel: u16, sequence: u64, multiple: bool, accepted: bool) {
        self.push(Event::Settled(channel, sequence, multiple, accepted));
    }
    fn method(&mut self, channel: u16, frame: &[u8]) {
        self.push(Event::Method(channel, frame.len()));
    }
}

fn put(out: &mut Vec<u8>, frame: &AMQPFrame) {
    let bytes =
        gen_frame(frame)(WriteContext::from(Vec::new())).expect("writing to memory cannot fail");
    out.extend(bytes.into_inner().0);
}

fn put_method(out: &mut Vec<u8>, channel: u16, method: basic::AMQPMethod) {
    put(out, &AMQPFrame::Method(channel, AMQPClass::Basic(method)));
}

fn put_header(out: &mut Vec<u8>, channel: u16, body_size: u64) {
    let header = AMQPContentHeader {
        class_id: 60,
        body_size,
        properties: basic::AMQPProperties::default(),
    };
    put(out, &AMQPFrame::Header(channel, header));
}

fn deliver(delivery_tag: u64) -> basic::AMQPMethod {
    basic::AMQPMethod::Deliver(basic::Deliver {
        consumer_tag: "tag".into(),
        delivery_tag,
        redelivered: true,
        exchange: "exchange".into(),
        routing_key: "key".into(),
    })
}

/// A bit of everything, with two channels' contents interleaved, and what it should be read as.
fn stream() -> (Vec<u8>, Vec<Event>) {
    let mut out = Vec::new();
    let mut body = 77u64.to_be_bytes().to_vec();
    body.resize(40, 0xCE);
    put_method(&mut out, 1, deliver(5));
    put_method(&mut out, 2, deliver(900));
    put_header(&mut out, 1, 50);
    put(&mut out, &AMQPFrame::Body(1, body.clone()));
    put_header(&mut out, 2, 0);
    put(&mut out, &AMQPFrame::Heartbeat);
    put(&mut out, &AMQPFrame::Body(1, vec![1; 10]));
    put_method(
        &mut out,
        1,
        basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag: 8,
            multiple: true,
        }),
    );
    let nack = basic::Nack {
        delivery_tag: 9,
        multiple: false,
        requeue: false,
    };
    put_method(&mut out, 2, basic::AMQPMethod::Nack(nack));
    let returned = basic::Return {
        reply_code: 312,
        reply_text: "NO_ROUTE".into(),
        ..Default::default()
    };
    put_method(&mut out, 2, basic::AMQPMethod::Return(returned));
    put_header(&mut out, 2, 3);
    put(&mut out, &AMQPFrame::Body(2, vec![2; 3]));
    let before = out.len();
    let blocked = connection::Blocked {
        reason: "low on memory".into(),
    };
    put(
        &mut out,
        &AMQPFrame::Method(
            0,
            AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)),
        ),
    );
    let blocked_bytes = out.len() - before;
    put_method(&mut out, 1, deliver(6));
    put_header(&mut out, 1, 4);
    put(&mut out, &AMQPFrame::Body(1, vec![3; 4]));
    let got = basic::GetOk {
        delivery_tag: 12,
        routing_key: "key".into(),
        message_count: 3,
        ..Default::default()
    };
    put_method(&mut out, 2, basic::AMQPMethod::GetOk(got));
    put_header(&mut out, 2, 40);
    put(&mut out, &AMQPFrame::Body(2, body));
    let events = vec![
        Event::Delivered(2, 900, 0),
        Event::Delivered(1, 5, 77),
        Event::Settled(1, 8, true, true),
        Event::Settled(2, 9, false, false),
        Event::Returned(2),
        Event::Method(0, blocked_bytes),
        Event::Delivered(1, 6, 0),
        Event::Delivered(2, 12, 77),
    ];
    (out, events)
}

/// Feeds the stream in pieces as a connection does: the unconsumed rest goes before the next piece.
fn scan_in_pieces(stream: &[u8], cuts: &[usize], most: u64) -> Vec<Event> {
    let mut scanner = Scanner::new(2, 4096);
    let mut events = Vec::new();
    let mut rest = Vec::new();
    let mut begin = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        rest.extend_from_slice(&stream[begin..end]);
        begin = end;
        loop {
            let (consumed, delivered) = scanner
                .scan(&rest, most, &mut events)
                .expect("a valid stream");
            rest.drain(..consumed);
            if delivered < most {
                break;
            }
        }
    }
    assert!(rest.is_empty());
    events
}

#[test]
fn any_two_cuts_give_the_same_events() {
    let (stream, events) = stream();
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            assert_eq!(
                scan_in_pieces(&stream, &[first, second], u64::MAX),
                events,
                "cut at {first}, {second}"
            );
        }
    }
}

#[test]
fn one_byte_at_a_time_and_one_message_at_a_time_give_the_same_events() {
    let (stream, events) = stream();
    let everywhere: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(scan_in_pieces(&stream, &everywhere, u64::MAX), events);
    assert_eq!(scan_in_pieces(&stream, &[], 1), events);
}

#[test]
fn broken_streams_are_told_apart() {
    let scan = |bytes: &[u8]| {
        Scanner::new(1, 4096)
            .scan(bytes, u64::MAX, &mut Vec::new())
            .map(|_| ())
    };
    assert_eq!(
        scan(&[9, 0, 0, 0, 0, 0, 0, 0xCE]),
        Err(WireError::FrameType(9))
    );
    assert_eq!(scan(&[8, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::FrameEnd));
    assert_eq!(
        scan(&[1, 0, 1, 0, 0, 16, 0]),
        Err(WireError::FrameSize(4104))
    );
    assert_eq!(
        scan(&[1, 0, 1, 0, 0, 0, 1, 0, 0xCE]),
        Err(WireError::Method)
    );
    assert_eq!(
        scan(&[3, 0, 1, 0, 0, 0, 1, 0, 0xCE]),
        Err(WireError::UnexpectedContent(1))
    );
    assert_eq!(
        scan(&[3, 0, 7, 0, 0, 0, 1, 0, 0xCE]),
        Err(WireError::UnknownChannel(7))
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_scanner_panic(bytes in proptest::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..200)) {
        let _ = Scanner::new(1, 4096).scan(&bytes, u64::MAX, &mut Vec::new());
    }
}
