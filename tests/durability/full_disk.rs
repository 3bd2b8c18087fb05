//! A disk that runs full: confirms stop, nothing that was confirmed is lost, and consumers make room again.
//!
//! The file system is a real one of 64 MiB. Where there can't be one, these tests say so and pass.

use crate::kill::number_from;
use crate::lives::{durable_queue, keep};
use crate::load::{Consumer, Published, Publisher, Receipt, mix};
use crate::small_disk::{DISK_BYTES, SmallDisk};
use crate::support::PATIENCE;
use crate::support::broker::Broker;
use crate::support::home::Home;
use crate::support::wire;
use amq_protocol::protocol::basic::{AMQPProperties, Publish};
use amq_protocol::types::AMQPValue;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// So many confirmed messages, of more than 1 KiB on average, are certain not to fit.
const MESSAGES_MAX: u64 = 4 * DISK_BYTES / 1024;
/// So long without a confirm, and the disk counts as full.
const SILENCE: Duration = Duration::from_secs(2);
/// What a broker may grow by while its disk is full: what the allocator happens to touch.
const GROWTH_KIB: usize = 4096;
const QUEUE: &str = "queue";
/// Bytes of a body: so many messages of that size fill the disk that their notes are a large part of it.
const SMALL_BYTES: usize = 80;

#[test]
fn consumers_make_room_on_a_full_disk() {
    with_data_on_a_small_disk(|home| {
        let broker = home.start(1);
        let load = Load::until_full(&broker);
        assert!(broker.process().is_running(), "{}", broker.process().tail());
        let process = broker.process();
        process.log_line_with("No space left on device (os error 28): publishers wait");

        // Whatever was sent is confirmed in the end, once there is room.
        take_all(&broker, load);
        process.log_line_with("there is room on the disk again");
        assert!(broker.process().is_running(), "{}", broker.process().tail());

        let connection = broker.connect();
        assert_eq!(connection.channel().passive(QUEUE).message_count, 0);
        keep(&connection, "", QUEUE, &["a", "b", "c"]);
        broker.stop();
        let broker = home.start(1);
        assert_eq!(broker.connect().channel().drain(QUEUE), ["a", "b", "c"]);
        broker.stop();
    });
}

#[test]
fn a_disk_runs_full_and_empty_again_and_again() {
    with_data_on_a_small_disk(|home| {
        let broker = home.start(2);
        let times = number_from("LEVERET_FILLS").unwrap_or(3);
        for _ in 0..times {
            let load = Load::until_full(&broker);
            load.stays_full(&broker);
            take_all(&broker, load);
        }
        println!(
            "{times} times full, for {:?}, and empty again: all that was confirmed came, once and in order",
            span_full()
        );
        broker.stop();
    });
}

#[test]
fn a_kill_on_a_full_disk_loses_nothing() {
    with_data_on_a_small_disk(|home| {
        let broker = home.start(1);
        let load = Load::until_full(&broker);
        broker.kill();
        let published = load.published();

        let broker = home.start(1);
        let count = broker.connect().channel().passive(QUEUE).message_count as usize;
        let mut consumer = Consumer::new(broker.address, QUEUE, 0);
        let mut receipts = vec![];
        while receipts.len() < count {
            consumer
                .receive(&mut receipts)
                .expect("what was counted is delivered");
        }
        consumer
            .ack_up_to(consumer.received)
            .expect("the broker takes acks");
        consumer.close().expect("the broker says good-bye");
        let mut came = vec![false; published.confirmed.len()];
        for receipt in &receipts {
            let id = receipt.id.expect("the body is whole");
            assert!(receipt.redelivered, "{id:?} was recovered after a kill");
            let place = &mut came[id.sequence as usize];
            assert!(!std::mem::replace(place, true), "{id:?} came twice");
        }
        let sequences = receipts
            .iter()
            .filter_map(|receipt| receipt.id)
            .map(|id| id.sequence);
        assert!(sequences.is_sorted(), "they came in order");
        let lost = came
            .iter()
            .zip(&published.confirmed)
            .filter(|(came, confirmed)| **confirmed && !**came);
        assert_eq!(lost.count(), 0, "of {} that came", receipts.len());
        keep(&broker.connect(), "", QUEUE, &["room again"]);
        broker.stop();
    });
}

/// The files that the log would fill next, had it kept them, would take what must be free.
#[test]
fn an_alarm_ends_when_consumers_have_made_room() {
    if let Some(disk) = SmallDisk::mount() {
        let home = disk.home_with_limit(DISK_BYTES / 2);
        let broker = home.start(1);
        let load = Load::until_full(&broker);
        take_all(&broker, load);
        broker.process().log_line_with("disk alarm cleared");
        broker.stop();
    }
}

/// Nobody acknowledges anything then, and what waits for room leads nowhere any more.
#[test]
fn a_queue_that_is_deleted_makes_room_on_a_full_disk() {
    with_data_on_a_small_disk(|home| {
        let broker = home.start(1);
        let load = Load::until_full(&broker);
        load.stop.store(true, Ordering::Relaxed);
        broker.connect().channel().delete_queue(QUEUE);
        let published = load.published();
        assert_eq!(published.end, "told to stop");
        let process = broker.process();
        process.log_line_with("there is room on the disk again");
        let connection = broker.connect();
        durable_queue(&connection.channel(), QUEUE);
        keep(&connection, "", QUEUE, &["a", "b", "c"]);
        broker.stop();
        let broker = home.start(1);
        assert_eq!(broker.connect().channel().drain(QUEUE), ["a", "b", "c"]);
        broker.stop();
    });
}

/// By their priorities the messages leave in another order than they came in: nearly each one's acknowledgement is a
/// note of its own, and all of them together are more than the log has kept room for.
#[test]
fn acknowledgements_of_scattered_messages_make_room_on_a_full_disk() {
    with_data_on_a_small_disk(|home| {
        let broker = home.start(1);
        let priorities = wire::table(&[("x-max-priority", AMQPValue::LongInt(10))]);
        broker.connect().channel().declare_queue(QUEUE, |declare| {
            declare.durable = true;
            declare.arguments = priorities;
        });
        publish_until_held_back(&broker);
        let count = u64::from(broker.connect().channel().passive(QUEUE).message_count);
        let mut consumer = Consumer::new(broker.address, QUEUE, 0);
        let mut receipts = vec![];
        while consumer.received < count {
            let came = consumer.receive(&mut receipts);
            came.expect("what was counted is delivered");
        }
        let last = consumer.received;
        consumer.ack_up_to(last).expect("the broker takes acks");
        keep(&broker.connect(), "", QUEUE, &["room again"]);
        consumer.close().expect("the broker says good-bye");
        broker.stop();
    });
}

/// Small messages of many priorities, as long as the broker reads them.
fn publish_until_held_back(broker: &Broker) {
    let connection = broker.connect();
    connection.channel();
    let mut stream = connection.into_raw().into_stream();
    let timeout = stream.set_write_timeout(Some(SILENCE));
    timeout.expect("the time-out is not zero");
    let publish = Publish {
        routing_key: QUEUE.into(),
        ..Default::default()
    };
    let publish = wire::method(1, publish);
    let mut some = vec![];
    for number in 0..1000 {
        let priority = (mix(number) % 10) as u8;
        let properties = AMQPProperties::default()
            .with_delivery_mode(2)
            .with_priority(priority);
        some.extend_from_slice(&publish);
        let properties = wire::properties(&properties);
        some.extend(wire::content(1, &properties, &[0; SMALL_BYTES], 4096));
    }
    let most = DISK_BYTES as usize / SMALL_BYTES / 1000;
    let error = (0..most).find_map(|_| stream.write_all(&some).err());
    let error = error.expect("more was taken than the disk holds");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
}

/// Runs a test whose data goes to a disk that is soon full; where there can't be one, it passes.
fn with_data_on_a_small_disk(test: impl FnOnce(&Home)) {
    if let Some(disk) = SmallDisk::mount() {
        test(&disk.home());
    }
}

/// How long the disk stays full.
fn span_full() -> Duration {
    Duration::from_secs(number_from("LEVERET_FULL_S").unwrap_or(0))
}

/// A publisher at work, and what is heard of it.
struct Load {
    publisher: JoinHandle<Published>,
    progress: Receiver<u32>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// A load that has filled the disk.
    fn until_full(broker: &Broker) -> Self {
        let load = Self::start(broker);
        load.fill();
        load
    }

    fn start(broker: &Broker) -> Self {
        let connection = broker.connect();
        durable_queue(&connection.channel(), QUEUE);
        let stop = Arc::<AtomicBool>::default();
        let (tell, progress) = channel();
        let publisher = Publisher::new(broker.address, 0, 0, &[("", QUEUE)]);
        publisher.wait_for_confirms(span_full() + PATIENCE);
        let heeded = Arc::clone(&stop);
        let publisher = thread::spawn(move || {
            publisher.run(&heeded, |confirmed| {
                // Once the disk is full nobody listens.
                let _ = tell.send(confirmed);
            })
        });
        Self {
            publisher,
            progress,
            stop,
        }
    }

    /// Returns when no confirm has come for a while, and no end of the connection either.
    fn fill(&self) {
        let mut sum = 0;
        while let Ok(confirmed) = self.progress.recv_timeout(SILENCE) {
            sum += u64::from(confirmed);
            assert!(
                sum < MESSAGES_MAX,
                "{sum} messages were confirmed: more than the disk holds"
            );
        }
        assert!(sum > 0, "nothing was ever confirmed");
        assert!(
            !self.publisher.is_finished(),
            "the publisher's connection ended on the full disk"
        );
    }

    /// So long the disk stays full and the publisher waits: nothing is confirmed, and nothing grows.
    fn stays_full(&self, broker: &Broker) {
        let before = broker.process().resident_kib();
        let confirmed = self.progress.recv_timeout(span_full());
        assert_eq!(confirmed, Err(RecvTimeoutError::Timeout));
        let after = broker.process().resident_kib();
        assert!(after < before + GROWTH_KIB, "{before} KiB, then {after}");
    }

    fn published(self) -> Published {
        self.publisher.join().expect("it has said why it ended")
    }
}

/// Stops the load, consumes and acknowledges until all that it sent has come, once and in order.
fn take_all(broker: &Broker, load: Load) {
    load.stop.store(true, Ordering::Relaxed);
    let consumer = Consumer::new(broker.address, QUEUE, 500);
    let consuming = thread::spawn(move || take_until_the_end(consumer));
    let published = load.published();
    assert_eq!(published.end, "told to stop");
    assert!(published.confirmed.iter().all(|confirmed| *confirmed));
    keep(
        &broker.connect(),
        "",
        QUEUE,
        &["the end, and not one of the load's bodies"],
    );
    let (consumer, receipts) = consuming.join().expect("the consumer gets all of it");
    consumer.close().expect("the broker says good-bye");
    for (expected, receipt) in receipts.iter().enumerate() {
        let id = receipt.id.expect("the body is whole");
        assert_eq!(id.sequence as usize, expected, "they came in order");
        assert!(!receipt.redelivered, "{id:?} came once");
    }
    assert_eq!(receipts.len(), published.confirmed.len());
}

/// All messages before the first foreign one, which is taken too.
fn take_until_the_end(mut consumer: Consumer) -> (Consumer, Vec<Receipt>) {
    let mut receipts: Vec<Receipt> = vec![];
    while receipts.last().is_none_or(|receipt| receipt.id.is_some()) {
        let before = consumer.received;
        let came = consumer.receive(&mut receipts);
        came.unwrap_or_else(|error| panic!("{error}, after {before} messages"));
        if consumer.received > before {
            let last = consumer.received;
            consumer.ack_up_to(last).expect("the broker takes acks");
        }
    }
    receipts.pop();
    (consumer, receipts)
}
