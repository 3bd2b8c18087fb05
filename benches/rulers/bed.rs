//! A broker of one core on a bench: sockets are slices of bytes, and the disk is done before it is asked.
//! Nothing here depends on a clock, an address or chance.

use std::io::IoSlice;
use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, queue};
use leveret::amqp::frame::PROTOCOL_HEADER;
use leveret::amqp::{content, method};
use leveret::base::{CoreId, Settings, Time, limits};
use leveret::broker::{Core, SessionIndex, Stored};
use leveret::log::DiskRequest;
use leveret::model::Definitions;

/// It stands still.
const NOW: Time = Time(1);
/// Feeds hash tables, names and the keys of logs.
pub(crate) const SEED: u64 = 7;
/// The most that is in a body frame, with its head and end 128 KiB.
pub(crate) const PAYLOAD_MAX: usize = 131_064;
/// Properties of a message without any, and of a persistent one (`delivery-mode` 2).
pub(crate) const NO_PROPERTIES: &[u8] = &[0, 0];
const PERSISTENT: &[u8] = &[0x10, 0, 2];

/// A core of a broker that has no other.
pub(crate) struct Bed {
    core: Core,
    /// What the disk is given.
    batch: Vec<u8>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let definitions = Definitions::new(SEED);
        let stored = Stored::nothing(CoreId(0), &definitions);
        let core = Core::new(CoreId(0), 1, Arc::new(Settings::default()), SEED, stored);
        let mut bed = Self {
            core,
            batch: Vec::new(),
        };
        bed.settle();
        bed
    }

    /// A connection with channel 1 open.
    pub(crate) fn connect(&mut self) -> SessionIndex {
        let session = self.core.connect(NOW, true);
        let mut hello = PROTOCOL_HEADER.to_vec();
        for one in [
            connection::AMQPMethod::StartOk(connection::StartOk {
                mechanism: "PLAIN".into(),
                response: "\0guest\0guest".into(),
                ..connection::StartOk::default()
            }),
            connection::AMQPMethod::TuneOk(connection::TuneOk {
                channel_max: 10,
                frame_max: 131_072,
                heartbeat: 0,
            }),
            connection::AMQPMethod::Open(connection::Open {
                virtual_host: "/".into(),
            }),
        ] {
            method::encode(&mut hello, 0, &AMQPClass::Connection(one));
        }
        let open = channel::AMQPMethod::Open(channel::Open {});
        method::encode(&mut hello, 1, &AMQPClass::Channel(open));
        self.turn(session, &hello);
        session
    }

    pub(crate) fn queue(&mut self, session: SessionIndex, name: &str, durable: bool) {
        let declare = queue::AMQPMethod::Declare(queue::Declare {
            queue: name.into(),
            durable,
            ..queue::Declare::default()
        });
        self.send(session, AMQPClass::Queue(declare));
    }

    pub(crate) fn bind(&mut self, session: SessionIndex, exchange: &str, key: &str, queue: &str) {
        let bind = queue::AMQPMethod::Bind(queue::Bind {
            exchange: exchange.into(),
            routing_key: key.into(),
            queue: queue.into(),
            ..queue::Bind::default()
        });
        self.send(session, AMQPClass::Queue(bind));
    }

    pub(crate) fn consume(&mut self, session: SessionIndex, queue: &str, no_ack: bool) {
        let consume = basic::AMQPMethod::Consume(basic::Consume {
            queue: queue.into(),
            no_ack,
            ..basic::Consume::default()
        });
        self.send(session, AMQPClass::Basic(consume));
    }

    pub(crate) fn confirm(&mut self, session: SessionIndex) {
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        self.send(session, AMQPClass::Confirm(select));
    }

    fn send(&mut self, session: SessionIndex, method: AMQPClass) {
        let answer = self.turn(session, &frame(&method));
        assert!(answer > 0, "{method:?} is answered");
    }

    /// Bytes come from a session's socket, as many at a time as the runtime reads, and are handled: own
    /// mail, the disk, output. How many bytes went out, to whomever.
    pub(crate) fn turn(&mut self, session: SessionIndex, mut bytes: &[u8]) -> usize {
        let mut out = 0;
        let mut room = limits::LANDING_BYTES;
        while !bytes.is_empty() {
            let landing = self.core.landing(session);
            let count = landing
                .as_deref()
                .map_or(room, |landing| landing.len().min(room))
                .min(bytes.len());
            let (piece, rest) = bytes.split_at(count);
            bytes = rest;
            room -= count;
            if let Some(landing) = landing {
                // The kernel's copy, not the broker's; it costs the same each time.
                landing[..count].copy_from_slice(piece);
                self.core.received_in_place(NOW, session, count);
            } else {
                self.core.receive(NOW, session, piece);
            }
            if room == 0 {
                out += self.settle();
                room = limits::LANDING_BYTES;
            }
        }
        out + self.settle()
    }

    fn settle(&mut self) -> usize {
        let mut out = 0;
        loop {
            self.core.settle(NOW);
            let is_written = self.write();
            while let Some(dirty) = self.core.next_dirty() {
                out += self.flush(dirty);
            }
            if !is_written && !self.core.has_work() {
                return out;
            }
        }
    }

    /// The disk does what it is asked; whether it was asked anything.
    fn write(&mut self) -> bool {
        let mut is_asked = false;
        while let Some((log, size)) = self.core.next_commit(NOW) {
            is_asked = true;
            self.batch.resize(self.batch.len().max(size), 0);
            let placed = self.core.commit(NOW, log, &mut self.batch[..size]);
            if placed.is_some() {
                self.core.committed(NOW, log);
            }
        }
        while let Some((log, request)) = self.core.next_disk_request() {
            is_asked = true;
            match request {
                DiskRequest::Prepare { file, .. } => self.core.prepared(NOW, log, file, true),
                DiskRequest::Remove { .. } => {}
                other => panic!("nothing is left behind that {other:?} could be about"),
            }
        }
        is_asked
    }

    fn flush(&mut self, session: SessionIndex) -> usize {
        let (output, _) = self.core.output(session);
        let mut total = 0;
        loop {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = output.slices(&mut slices);
            let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
            if offered == 0 {
                break;
            }
            output.consume(offered);
            total += offered;
        }
        self.core.written(NOW, session);
        total
    }
}

/// The acknowledgement of everything.
pub(crate) fn ack_all() -> Vec<u8> {
    let ack = basic::Ack {
        delivery_tag: 0,
        multiple: true,
    };
    frame(&AMQPClass::Basic(basic::AMQPMethod::Ack(ack)))
}

/// The frames of a message of so many bytes.
pub(crate) fn publish(exchange: &str, key: &str, persistent: bool, body_bytes: usize) -> Vec<u8> {
    let publish = basic::AMQPMethod::Publish(basic::Publish {
        exchange: exchange.into(),
        routing_key: key.into(),
        ..basic::Publish::default()
    });
    let properties = if persistent {
        PERSISTENT
    } else {
        NO_PROPERTIES
    };
    let mut frames = frame(&AMQPClass::Basic(publish));
    content::write_header(&mut frames, 1, body_bytes as u64, properties);
    content::write_body(&mut frames, 1, &vec![b'x'; body_bytes], PAYLOAD_MAX);
    frames
}

fn frame(method: &AMQPClass) -> Vec<u8> {
    let mut bytes = Vec::new();
    method::encode(&mut bytes, 1, method);
    bytes
}
