//! Whole turns of a core: bytes of publishes in, bytes of deliveries out.

use std::hint::black_box;

use crate::MESSAGES;
use crate::bed::{Bed, ack_all, publish};

/// Deliveries count as settled once they are sent.
pub(crate) fn auto_ack(body_bytes: usize) -> Box<dyn FnMut()> {
    let mut bed = Bed::new();
    let publisher = bed.connect();
    let consumer = bed.connect();
    bed.queue(consumer, "bench", false);
    bed.consume(consumer, "bench", true);
    let publishes = publish("", "bench", false, body_bytes).repeat(MESSAGES);
    let least = MESSAGES * body_bytes;
    Box::new(move || assert!(bed.turn(publisher, &publishes) > least, "all is delivered"))
}

/// All that was delivered is acknowledged by one frame.
pub(crate) fn ack(body_bytes: usize) -> Box<dyn FnMut()> {
    let mut bed = Bed::new();
    let publisher = bed.connect();
    let consumer = bed.connect();
    bed.queue(consumer, "bench", false);
    bed.consume(consumer, "bench", false);
    let publishes = publish("", "bench", false, body_bytes).repeat(MESSAGES);
    let ack = ack_all();
    let least = MESSAGES * body_bytes;
    Box::new(move || {
        assert!(bed.turn(publisher, &publishes) > least, "all is delivered");
        black_box(bed.turn(consumer, &ack));
    })
}

/// Nobody consumes: the queue grows.
pub(crate) fn publish_only() -> Box<dyn FnMut()> {
    let mut bed = Bed::new();
    let publisher = bed.connect();
    bed.queue(publisher, "bench", false);
    let publishes = publish("", "bench", false, 16).repeat(MESSAGES);
    Box::new(move || {
        black_box(bed.turn(publisher, &publishes));
    })
}

/// Through a direct exchange with so many keys in turn: with one the channel's route cache knows the way,
/// with more it never does.
pub(crate) fn direct(keys: usize) -> Box<dyn FnMut()> {
    let mut bed = Bed::new();
    let publisher = bed.connect();
    let consumer = bed.connect();
    bed.queue(consumer, "bench", false);
    bed.consume(consumer, "bench", true);
    let mut round = Vec::new();
    for key in 0..keys {
        let key = format!("key-{key}");
        bed.bind(consumer, "amq.direct", &key, "bench");
        round.extend(publish("amq.direct", &key, false, 16));
    }
    let publishes = round.repeat(MESSAGES / keys);
    let least = MESSAGES * 16;
    Box::new(move || assert!(bed.turn(publisher, &publishes) > least, "all is delivered"))
}

/// Through a topic exchange with so many bindings, of which one matches; each message has another key.
pub(crate) fn topic(bindings: usize) -> Box<dyn FnMut()> {
    /// Prime: what is asked for in turn lies far apart.
    const STRIDE: usize = 7919;
    let mut bed = Bed::new();
    let publisher = bed.connect();
    let consumer = bed.connect();
    bed.queue(consumer, "bench", false);
    bed.consume(consumer, "bench", true);
    for number in 0..bindings {
        let pattern = format!("plant.{number}.*.celsius");
        bed.bind(consumer, "amq.topic", &pattern, "bench");
    }
    let publishes: Vec<u8> = (0..MESSAGES)
        .flat_map(|message| {
            let key = format!("plant.{}.{message}.celsius", message * STRIDE % bindings);
            publish("amq.topic", &key, false, 16)
        })
        .collect();
    let least = MESSAGES * 16;
    Box::new(move || assert!(bed.turn(publisher, &publishes) > least, "all is delivered"))
}

/// Each message goes to ten queues, a tenth of them is published.
pub(crate) fn fanout() -> Box<dyn FnMut()> {
    const QUEUES: usize = 10;
    let mut bed = Bed::new();
    let publisher = bed.connect();
    let consumer = bed.connect();
    for number in 0..QUEUES {
        let queue = format!("bench-{number}");
        bed.queue(consumer, &queue, false);
        bed.consume(consumer, &queue, true);
        bed.bind(consumer, "amq.fanout", "", &queue);
    }
    let publishes = publish("amq.fanout", "", false, 16).repeat(MESSAGES / QUEUES);
    let least = MESSAGES * 16;
    Box::new(move || assert!(bed.turn(publisher, &publishes) > least, "all is delivered"))
}

/// Each of so many cores has a publisher, a queue and a consumer. Where messages cross, the publisher's core is not
/// the queue's, and that not the consumer's but where there are only two. How many batches of mail a round takes.
pub(crate) fn cores(count: u16, crosses: bool) -> Box<dyn FnMut() -> usize> {
    let cores = usize::from(count);
    let mut bed = Bed::with_cores(count);
    let mut publishers = Vec::new();
    for core in 0..cores {
        let queue = format!("bench-{core}");
        let (before, behind) = match crosses {
            true => ((core + cores - 1) % cores, (core + 1) % cores),
            false => (core, core),
        };
        let owner = bed.connect_to(core);
        bed.queue(owner, &queue, false);
        let consumer = bed.connect_to(behind);
        bed.consume(consumer, &queue, true);
        let publishes = publish("", &queue, false, 16).repeat(MESSAGES / cores);
        publishers.push((bed.connect_to(before), publishes));
    }
    Box::new(move || {
        bed.mails = 0;
        let mut out = 0;
        for (publisher, publishes) in &publishers {
            out += bed.turn(*publisher, publishes);
        }
        assert!(out > MESSAGES * 16, "all is delivered");
        bed.mails
    })
}

/// As [`cores`], where nobody asks for the mail.
pub(crate) fn on_cores(count: u16, crosses: bool) -> Box<dyn FnMut()> {
    let mut act = cores(count, crosses);
    Box::new(move || {
        black_box(act());
    })
}

/// Through the log: what is received at once is one batch, confirmed after it and then acknowledged.
pub(crate) fn durable() -> Box<dyn FnMut()> {
    const BODY: usize = 1024;
    let mut bed = Bed::new();
    let publisher = bed.connect();
    let consumer = bed.connect();
    bed.queue(consumer, "bench", true);
    bed.consume(consumer, "bench", false);
    bed.confirm(publisher);
    let publishes = publish("", "bench", true, BODY).repeat(MESSAGES);
    let ack = ack_all();
    Box::new(move || {
        let out = bed.turn(publisher, &publishes);
        assert!(out > MESSAGES * BODY, "all is delivered");
        black_box(bed.turn(consumer, &ack));
    })
}
