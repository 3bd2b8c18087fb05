//! Another number of cores at the next start: every queue finds a new home, with all that is in it.

use crate::lives::{End, Lives, durable_exchange, durable_queue, queue_is_there};
use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::wire;

const QUEUES: usize = 12;
/// Messages of each queue at first.
const COUNT: usize = 300;
/// Cores of one life after the other. Four are more than some machines have.
const LIVES: [usize; 6] = [1, 2, 4, 1, 4, 2];

#[test]
fn queues_move_when_the_number_of_cores_changes_after_a_stop() {
    queues_move(End::Stop);
}

#[test]
fn queues_move_when_the_number_of_cores_changes_after_a_kill() {
    queues_move(End::Kill);
}

/// Each life takes some from the head of each queue and adds some at its end.
fn queues_move(end: End) {
    let mut lives = Lives::begin(LIVES[0], end);
    declare_and_fill(&lives);
    let mut expected: Vec<Vec<String>> = (0..QUEUES)
        .map(|queue| {
            (0..COUNT)
                .map(|number| text(queue, "first", number))
                .collect()
        })
        .collect();
    for (life, cores) in LIVES.into_iter().enumerate().skip(1) {
        lives.restart_on(cores);
        let connections = lives.broker().connections_spread::<4>();
        for (queue, expected) in expected.iter_mut().enumerate() {
            let connection = &connections[queue % connections.len()];
            let context = format!("queue {queue} with {cores} cores");
            check_count(connection, queue, expected.len(), &context);
            take_some(connection, queue, expected, &lives, &context);
            let more: Vec<String> = (0..10)
                .map(|number| text(queue, &format!("life {life}"), number))
                .collect();
            publish(connection, &key(queue), &more);
            expected.extend(more);
        }
        // Queues of the cores that there are now, from which the next life may have to take them.
        for connection in &connections {
            let queue = expected.len();
            let first: Vec<String> = (0..COUNT / 3)
                .map(|number| text(queue, "late", number))
                .collect();
            declare_bound(&connection.channel(), queue);
            publish(connection, &key(queue), &first);
            expected.push(first);
        }
        for connection in connections {
            connection.close();
        }
    }
    lives.restart_on(1);
    for (queue, expected) in expected.iter().enumerate() {
        let channel = lives.connect().channel();
        let drained = channel.drain(&name(queue));
        assert!(
            drained == *expected,
            "queue {queue} holds {drained:?}, and not {expected:?}"
        );
    }
    assert!(!queue_is_there(&lives.connect(), "transient"));
}

fn name(queue: usize) -> String {
    format!("q-{queue}")
}

fn key(queue: usize) -> String {
    format!("key.{queue}")
}

/// A few KiB for some of them, so that not all are alike to the log.
fn text(queue: usize, when: &str, number: usize) -> String {
    let padding = "x".repeat(if number.is_multiple_of(50) {
        20_000
    } else {
        number
    });
    format!("{queue} {when} {number} {padding}")
}

fn declare_and_fill(lives: &Lives) {
    let connection = lives.connect();
    let channel = connection.channel();
    durable_exchange(&channel, "exchange", "topic");
    channel.queue("transient");
    for queue in 0..QUEUES {
        declare_bound(&channel, queue);
        let texts: Vec<_> = (0..COUNT)
            .map(|number| text(queue, "first", number))
            .collect();
        publish(&connection, &key(queue), &texts);
    }
}

fn declare_bound(channel: &Channel, queue: usize) {
    durable_queue(channel, &name(queue));
    channel.bind(&name(queue), "exchange", &key(queue));
}

fn publish(connection: &Connection, key: &str, texts: &[String]) {
    let channel = connection.channel();
    channel.confirm_select();
    for text in texts {
        channel.publish_content("exchange", key, wire::PERSISTENT, text.as_bytes());
    }
    channel.confirmed(1..=texts.len() as u64);
    channel.close();
}

fn check_count(connection: &Connection, queue: usize, expected: usize, context: &str) {
    let channel = connection.channel();
    let count = channel.passive(&name(queue)).message_count;
    assert_eq!(count as usize, expected, "{context}");
    channel.close();
}

/// Acknowledges the first twenty; what is published to the queue next makes sure of it.
fn take_some(
    connection: &Connection,
    queue: usize,
    expected: &mut Vec<String>,
    lives: &Lives,
    context: &str,
) {
    let channel = connection.channel();
    for text in expected.drain(..20) {
        let got = channel.get(&name(queue)).expect("it was counted");
        assert!(
            got.text() == text,
            "{context}: got {}, and not {text}",
            got.text()
        );
        assert_eq!(
            got.method.redelivered,
            lives.redelivered(false),
            "{context}"
        );
        channel.ack(got.method.delivery_tag);
    }
    channel.close();
}
