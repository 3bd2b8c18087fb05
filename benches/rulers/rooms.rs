//! One room at a time: codec, routing, queue, log.

use std::hint::black_box;

use leveret::amqp::content::{self, ContentHeader, Publish};
use leveret::amqp::frame::{self, Frame};
use leveret::amqp::properties::Properties;
use leveret::base::{CoreId, Lsn, MessageRef, Name, SessionId, Time, VhostId};
use leveret::log::{DiskRequest, Found, Log};
use leveret::model::arguments::{Arguments, QueueArguments};
use leveret::model::definition::{Binding, Change, Destination};
use leveret::model::exchange::RouteScratch;
use leveret::model::queue::{Consumer, Incoming, Keep, Queue, Sink};
use leveret::model::{QueueDefinition, Topology};

use crate::MESSAGES;
use crate::bed::{NO_PROPERTIES, PAYLOAD_MAX, SEED, publish};

/// The three frames of a publish are read in place.
pub(crate) fn parse(body_bytes: usize) -> Box<dyn FnMut()> {
    let frames = publish("", "bench", false, body_bytes).repeat(MESSAGES);
    Box::new(move || {
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let method = next(&mut rest);
            black_box(Publish::read(&method.payload[4..]).expect("it is a publish"));
            let header = next(&mut rest);
            black_box(ContentHeader::read(header.payload).expect("it is a header"));
            black_box(next(&mut rest));
        }
    })
}

fn next<'a>(rest: &mut &'a [u8]) -> Frame<'a> {
    let frame = frame::split(rest, PAYLOAD_MAX as u32);
    let frame = frame
        .expect("it is well-formed")
        .expect("all of it is there");
    *rest = &rest[frame.size()..];
    frame
}

fn message(body: &[u8]) -> MessageRef<'_> {
    MessageRef {
        exchange: b"",
        routing_key: b"bench",
        properties: NO_PROPERTIES,
        body,
        large_body: &[],
        persistent: false,
    }
}

/// The three frames of a delivery are written.
pub(crate) fn write(body_bytes: usize) -> Box<dyn FnMut()> {
    let body = vec![b'x'; body_bytes];
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        for tag in 1..=MESSAGES as u64 {
            let message = message(&body);
            content::write_deliver(&mut out, 1, b"consumer", tag, false, &message);
            content::write_header(&mut out, 1, body.len() as u64, message.properties);
            content::write_body(&mut out, 1, message.body, PAYLOAD_MAX);
        }
        black_box(&out);
    })
}

/// Looks for the queues of a message in a topology in which so many are bound to the exchange, and a
/// hundred more by other keys.
pub(crate) fn route(exchange: &str, queues: usize) -> Box<dyn FnMut()> {
    const OTHERS: usize = 100;
    let vhost = VhostId(0);
    let mut topology = Topology::new(&[Name::from("/")], SEED);
    let source = topology.exchange_by_name(vhost, exchange);
    let source = source.expect("it is predeclared");
    for number in 0..queues + OTHERS {
        let is_other = number >= queues;
        let id = topology.vacant_queue_id();
        let name = Name::from(format!("bench.{number}"));
        let definition = QueueDefinition {
            vhost,
            name: name.clone(),
            durable: false,
            exclusive: None,
            auto_delete: false,
            arguments: Arguments::default(),
            owner: CoreId(0),
            incarnation: 0,
        };
        topology.apply(&Change::CreateQueue { id, definition });
        let routing_key = match exchange {
            "" => continue,
            "amq.fanout" if is_other => continue,
            "amq.topic" if !is_other => Name::from("bench.*"),
            "amq.topic" => Name::from(format!("other.{number}")),
            _ => name,
        };
        topology.apply(&Change::Bind(Binding {
            source,
            destination: Destination::Queue(id),
            routing_key,
            arguments: Arguments::default(),
        }));
    }
    let mut scratch = RouteScratch::new();
    let mut targets = Vec::new();
    Box::new(move || {
        let properties = Properties::from_validated(NO_PROPERTIES);
        for _ in 0..MESSAGES {
            targets.clear();
            let key = black_box(&b"bench.0"[..]);
            topology.route(source, key, properties, &mut scratch, &mut targets);
            assert_eq!(targets.len(), queues, "it is found");
        }
    })
}

/// Takes every delivery and remembers how to settle it.
#[derive(Default)]
struct Hands {
    slots: Vec<u32>,
}

impl Sink for Hands {
    fn now_ms(&self) -> u64 {
        1
    }

    fn leave_from(&self) -> Lsn {
        Lsn::NEVER
    }

    fn has_room(&mut self, _consumer: &Consumer) -> bool {
        true
    }

    fn deliver(&mut self, _: &Consumer, slot: Option<u32>, _: bool, message: &MessageRef<'_>) {
        black_box(message);
        self.slots.extend(slot);
    }

    fn hungry(&mut self, _consumer: &Consumer) {}

    fn surrender(&mut self, _consumer: &Consumer, _credits: u32) {}
}

/// A consumer waits for the messages, and acknowledges them a thousand at a time.
pub(crate) fn deliver_and_ack() -> Box<dyn FnMut()> {
    let mut queue = Queue::new(QueueArguments::default());
    let mut hands = Hands::default();
    let session = SessionId {
        core: CoreId(0),
        index: 0,
        generation: 0,
    };
    let consumer = Consumer {
        session,
        channel: 1,
        number: 0,
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: 0,
        credits: None,
        paused: false,
    };
    queue.consume(consumer, &mut hands);
    Box::new(move || {
        for _ in 0..MESSAGES {
            let mut incoming = Incoming::new(message(b"sixteen bytes..."));
            queue.publish(&mut incoming, Keep::default(), &mut hands);
        }
        assert_eq!(hands.slots.len(), MESSAGES, "all are delivered");
        for slot in hands.slots.drain(..) {
            black_box(queue.settle(slot));
        }
        queue.pump(&mut hands);
    })
}

/// Nobody waits for the messages; then they are taken, one at a time.
pub(crate) fn keep_and_get() -> Box<dyn FnMut()> {
    let mut queue = Queue::new(QueueArguments::default());
    let mut hands = Hands::default();
    Box::new(move || {
        for _ in 0..MESSAGES {
            let mut incoming = Incoming::new(message(b"sixteen bytes..."));
            queue.publish(&mut incoming, Keep::default(), &mut hands);
        }
        for _ in 0..MESSAGES {
            assert!(queue.get(true, 1, Lsn::NEVER).is_some(), "they are there");
        }
    })
}

/// Batches of a hundred records are written and sealed; nothing in them is kept alive, so that files are
/// used again.
pub(crate) fn commit(payload_bytes: usize) -> Box<dyn FnMut()> {
    const RECORDS: usize = 100;
    const TAG: u8 = 1;
    const NOW: Time = Time(1);
    let payload = vec![5; payload_bytes];
    let mut log = Log::resume(7, SEED, Found::default());
    let mut buffer = Vec::new();
    Box::new(move || {
        for _ in 0..MESSAGES / RECORDS {
            let least = RECORDS * (leveret::log::RECORD_OVERHEAD + payload.len());
            let room = loop {
                if let Some(room) = log.room(least, 0, NOW) {
                    break room;
                }
                prepare_files(&mut log, NOW);
            };
            let size = room.buffer_len(least);
            buffer.resize(buffer.len().max(size), 0);
            let first = log.upcoming_lsn();
            let mut writer = log.begin(&room, first, &mut buffer[..size]);
            for _ in 0..RECORDS {
                writer.begin_numbered(TAG, log.next_lsn(), payload.len());
                writer.put(&payload);
            }
            let end = log.upcoming_lsn();
            black_box(log.seal(room, writer, (first, end), 0, NOW));
            log.written();
        }
    })
}

fn prepare_files(log: &mut Log, now: Time) {
    while let Some(request) = log.next_request() {
        if let DiskRequest::Prepare { file, .. } = request {
            log.prepared(file, true, now);
        }
    }
}
