//! The end: SIGTERM and SIGINT tell every client, and the process is gone within 5 s.

use crate::support::broker::Broker;
use crate::support::ids;
use crate::support::login::{Login, begin};
use crate::support::process::Pipe;
use crate::support::raw::Raw;
use amq_protocol::protocol::{channel, connection};
use std::time::{Duration, Instant};

const REASON: &str = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";

#[test]
fn sigterm_with_1_core() {
    clients_are_told_and_the_process_ends("TERM", 1);
}

#[test]
fn sigterm_with_4_cores() {
    clients_are_told_and_the_process_ends("TERM", 4);
}

#[test]
fn sigint_with_2_cores() {
    clients_are_told_and_the_process_ends("INT", 2);
}

fn clients_are_told_and_the_process_ends(signal: &str, cores: usize) {
    let Some(broker) = Broker::alone(cores, "") else {
        return;
    };
    let connections = broker.connections_spread::<8>();
    for connection in &connections {
        let channel = connection.channel();
        channel.consume(&channel.own_queue());
    }
    let start = Instant::now();
    broker.process().signal(signal);
    for connection in &connections {
        connection.expect_close(320, REASON, ids::NONE);
    }
    assert!(
        broker.process().wait().success(),
        "{}",
        broker.process().tail()
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        start.elapsed()
    );
}

#[test]
fn clients_that_do_not_answer_do_not_hold_it_up() {
    let Some(broker) = Broker::alone(2, "") else {
        return;
    };
    let mut deaf = Login::default().raw(broker.address);
    let (mut halfway, _) = begin(broker.address);
    let _silent = Raw::connect(broker.address);
    let start = Instant::now();
    broker.process().signal("TERM");
    assert_eq!(deaf.expect::<connection::Close>(0).reply_code, 320);
    assert!(
        broker.process().wait().success(),
        "{}",
        broker.process().tail()
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        start.elapsed()
    );
    halfway.until_end_answering_close();
}

#[test]
fn a_client_that_does_not_read_does_not_hold_it_up() {
    let Some(broker) = Broker::alone(2, "") else {
        return;
    };
    let (stuffed, publisher) = (broker.connect(), broker.connect());
    let (reader, publisher) = (stuffed.channel(), publisher.channel());
    let queue = reader.own_queue();
    reader.consume_no_ack(&queue);
    publisher.confirm_select();
    for _ in 0..20 {
        publisher.publish_content("", &queue, &[0, 0], &vec![1; 1 << 20]);
    }
    publisher.confirmed(1..=20);
    let start = Instant::now();
    broker.process().signal("TERM");
    assert!(
        broker.process().wait().success(),
        "{}",
        broker.process().tail()
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        start.elapsed()
    );
}

#[test]
fn no_new_client_is_let_in_once_it_ends() {
    let Some(broker) = Broker::alone(1, "") else {
        return;
    };
    let connection = broker.connect();
    broker.process().signal("TERM");
    connection.expect_close(320, REASON, ids::NONE);
    broker.process().wait();
    assert!(
        std::net::TcpStream::connect(broker.address).is_err(),
        "the port is free"
    );
    let lines = broker.process().all_lines(Pipe::Err);
    assert!(
        !lines.iter().any(|line| line.contains("panicked")),
        "{lines:?}"
    );
}

#[test]
fn a_client_may_hang_up_as_the_broker_does() {
    let Some(broker) = Broker::alone(2, "") else {
        return;
    };
    let mut raw = Login::default().raw(broker.address);
    raw.send_method(1, channel::Open {});
    raw.expect::<channel::OpenOk>(1);
    broker.process().signal("TERM");
    raw.send_method(
        0,
        connection::Close {
            reply_code: 200,
            ..Default::default()
        },
    );
    raw.until_end_answering_close();
    assert!(
        broker.process().wait().success(),
        "{}",
        broker.process().tail()
    );
}
