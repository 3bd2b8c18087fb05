//! Alarms: while memory or disk is short, whoever publishes is not read, and told so if it wants to know.
//!
//! Each test has a broker of its own, mostly with a limit that is met from the start: a reference's limits are not ours
//! to set. What happens when alarms come and go between any two bytes is tested in `src/broker/tests/alarm.rs`.

use crate::support::broker::Broker;
use crate::support::ids;
use crate::support::login::Login;
use crate::support::process::Pipe;
use crate::support::raw::{Heard, Raw};
use crate::support::wire;
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use std::time::Duration;

const NO_MEMORY: &str = "vm_memory_high_watermark.absolute = 1\n";
const NO_DISK: &str = "disk_free_limit.absolute = 1000PB\n";

/// How long is listened for what must not come; a broker that is wrong is mostly found out in this time.
const MOMENT: Duration = Duration::from_millis(20);

/// A client that wants to be told, with its channel 1 open.
fn told(broker: &Broker) -> Raw {
    let login = Login {
        capabilities: &["connection.blocked"],
        ..Login::default()
    };
    with_channel(login.raw(broker.address))
}

fn with_channel(mut raw: Raw) -> Raw {
    raw.send_method(1, channel::Open {});
    raw.expect::<channel::OpenOk>(1);
    raw
}

fn expect_blocked(configuration: &str, cores: usize, reason: &str) {
    let Some(broker) = Broker::alone(cores, configuration) else {
        return;
    };
    for _ in 0..2 * cores {
        let mut raw = told(&broker);
        raw.send(&wire::publish(1, "", "nowhere", b"x"));
        let blocked = raw.expect::<connection::Blocked>(0);
        assert_eq!(blocked.reason.as_str(), reason);
        // Once is enough, and what comes after it isn't read.
        raw.send(&wire::publish(1, "", "nowhere", b"x"));
        raw.send_method(1, channel::Flow { active: true });
        nobody_answers(&broker, &mut raw);
    }
}

/// Other connections are served many times over, and this one isn't.
fn nobody_answers(broker: &Broker, raw: &mut Raw) {
    for connection in broker.connections_spread::<8>() {
        connection.is_alive();
    }
    let heard = raw.hear(MOMENT);
    assert_eq!(heard, Heard::Silence);
}

#[test]
fn low_on_memory() {
    expect_blocked(NO_MEMORY, 1, "low on memory");
}

#[test]
fn low_on_disk() {
    expect_blocked(NO_DISK, 2, "low on disk");
}

#[test]
fn low_on_both() {
    let both = format!("{NO_MEMORY}{NO_DISK}");
    expect_blocked(&both, 2, "low on memory & disk");
}

#[test]
fn who_does_not_announce_the_capability_gets_no_frame_and_is_not_read() {
    let Some(broker) = Broker::alone(2, NO_MEMORY) else {
        return;
    };
    let mut raw = with_channel(Login::default().raw(broker.address));
    raw.send(&wire::publish(1, "", "nowhere", b"x"));
    // The broker may have read this together with the publish: then it is answered, and the next isn't.
    raw.send_method(1, channel::Flow { active: true });
    match raw.hear(MOMENT) {
        Heard::Silence => {}
        Heard::Frame(_) => raw.send_method(1, channel::Flow { active: true }),
        Heard::End => panic!("a blocked connection stays open"),
    }
    nobody_answers(&broker, &mut raw);
}

#[test]
fn the_publish_that_blocks_is_processed_and_consumers_go_on_draining() {
    let Some(broker) = Broker::alone(2, NO_MEMORY) else {
        return;
    };
    let consumer = broker.connect();
    let channel = consumer.channel();
    let queue = channel.declare_queue("", |_| {}).queue.to_string();
    for number in 0..5 {
        let body = number.to_string();
        let mut raw = told(&broker);
        raw.send(&wire::publish(1, "", &queue, body.as_bytes()));
        raw.expect::<connection::Blocked>(0);
        if number == 2 {
            // Three are waiting; from now on each is delivered as it comes.
            channel.consume(&queue);
            assert_eq!(channel.delivered_texts(3), ["0", "1", "2"]);
        } else if number > 2 {
            let delivery = channel.delivery();
            assert_eq!(delivery.text(), body);
            channel.ack_up_to(delivery.tag());
        }
    }
    // A round trip: the acknowledgements have been read, and the connection still is.
    assert_eq!(channel.delete_queue(&queue), 0);
    consumer.close();
}

#[test]
fn a_publisher_that_declares_first_is_blocked_with_its_publish_only() {
    let Some(broker) = Broker::alone(2, NO_DISK) else {
        return;
    };
    let mut raw = told(&broker);
    for _ in 0..3 {
        raw.send_method(1, queue::Declare::default());
        raw.expect::<queue::DeclareOk>(1);
    }
    raw.send(&wire::publish(1, "", "nowhere", b"x"));
    raw.expect::<connection::Blocked>(0);
}

#[test]
fn a_publisher_goes_on_when_memory_is_free_again() {
    // A broker without messages takes half of this, one with many in memory half as much again: the rest
    // of them is in its log.
    let Some(broker) = Broker::alone(1, "vm_memory_high_watermark.absolute = 64MiB\n") else {
        return;
    };
    let other = broker.connect();
    let channel = other.channel();
    channel.queue("full");
    let mut raw = told(&broker);
    // The alarm is raised within a second after the limit is passed, and the next publish blocks: perhaps
    // before all of this is sent.
    let large = wire::publish(1, "", "full", &[7; 64 * 1024]);
    let small = wire::publish(1, "", "full", b"x");
    let many = std::iter::repeat_n((&large, Duration::from_millis(1)), 1600);
    let mut publishes = many.chain(std::iter::repeat((&small, MOMENT)));
    let blocked = loop {
        let (publish, patience) = publishes.next().expect("there is no end of them");
        raw.send(publish);
        match raw.hear(patience) {
            Heard::Frame(frame) => break frame.method(),
            Heard::Silence => {}
            Heard::End => panic!("the broker hung up"),
        }
    };
    let reason = "low on memory".into();
    let expected = connection::AMQPMethod::Blocked(connection::Blocked { reason });
    assert_eq!(blocked, AMQPClass::Connection(expected));
    channel.delete_queue("full");
    raw.expect::<connection::Unblocked>(0);
    raw.send_method(1, channel::Flow { active: true });
    raw.expect::<channel::FlowOk>(1);
}

#[test]
fn a_client_that_hangs_up_while_blocked_is_noticed() {
    let Some(broker) = Broker::alone(2, NO_MEMORY) else {
        return;
    };
    let connection = broker.connect();
    let heir = connection.channel();
    let queue = heir.declare_queue("", |_| {}).queue.to_string();
    let mut raw = told(&broker);
    raw.send_method(
        1,
        basic::Consume {
            queue: queue.as_str().into(),
            ..Default::default()
        },
    );
    raw.expect::<basic::ConsumeOk>(1);
    raw.send(&wire::publish(1, "", &queue, b"held"));
    raw.expect::<connection::Blocked>(0);
    raw.expect::<basic::Deliver>(1);
    // It leaves bytes behind that nobody reads.
    raw.send(&wire::publish(1, "", &queue, &[7; 1000]));
    drop(raw);
    // What it held is delivered again.
    heir.consume(&queue);
    assert_eq!(heir.delivery().text(), "held");
}

#[test]
fn a_blocked_client_is_told_of_a_shutdown_and_heard() {
    let Some(broker) = Broker::alone(2, NO_MEMORY) else {
        return;
    };
    let mut raw = told(&broker);
    raw.send(&wire::publish(1, "", "nowhere", b"x"));
    raw.expect::<connection::Blocked>(0);
    broker.process().signal("TERM");
    let close = raw.expect::<connection::Close>(0);
    assert_eq!((close.reply_code, close.class_id), (320, ids::NONE.0));
    raw.send_method(0, connection::CloseOk {});
    raw.expect_end();
    assert!(broker.process().wait().success());
    let lines = broker.process().all_lines(Pipe::Err);
    let raised = lines
        .iter()
        .filter(|line| line.contains("memory alarm raised"));
    assert_eq!(raised.count(), 1, "{lines:?}");
}
