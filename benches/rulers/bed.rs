//! A broker on a bench: sockets are slices of bytes, mail is carried from core to core as soon as it is there, and
//! the disk is done before it is asked. Nothing here depends on a clock, an address or chance.

use std::io::IoSlice;
use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, queue};
use leveret::amqp::frame::PROTOCOL_HEADER;
use leveret::amqp::{content, method};
use leveret::base::{CoreId, Settings, Time, limits};
use leveret::broker::{Core, SessionIndex, Stored};
use leveret::log::DiskRequest;
use leveret::mail::Mail;
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

/// A connection: its core, and its place there.
#[derive(Clone, Copy)]
pub(crate) struct Session {
    core: usize,
    index: SessionIndex,
}

/// The cores of a broker. Sessions stay, and queues live where they were declared.
pub(crate) struct Bed {
    cores: Vec<Core>,
    /// The mail that was read last, to be used again.
    spare: Option<Box<Mail>>,
    /// Batches of mail that went from one core to another.
    pub(crate) mails: usize,
    /// What the disk is given.
    batch: Vec<u8>,
}

impl Bed {
    /// One core.
    pub(crate) fn new() -> Self {
        Self::with_cores(1)
    }

    pub(crate) fn with_cores(count: u16) -> Self {
        let definitions = Definitions::new(SEED);
        let settings = Arc::new(Settings {
            move_messages: 0,
            spreads_queues: false,
            ..Settings::default()
        });
        let cores = (0..count).map(CoreId).map(|core| {
            let stored = Stored::nothing(core, &definitions);
            Core::new(core, count, Arc::clone(&settings), SEED, stored)
        });
        let mut bed = Self {
            cores: cores.collect(),
            spare: None,
            mails: 0,
            batch: Vec::new(),
        };
        bed.settle();
        bed
    }

    /// A connection to the first core, with channel 1 open.
    pub(crate) fn connect(&mut self) -> Session {
        self.connect_to(0)
    }

    /// The same to any core.
    pub(crate) fn connect_to(&mut self, core: usize) -> Session {
        let index = self.cores[core].connect(NOW, true);
        let session = Session { core, index };
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

    pub(crate) fn queue(&mut self, session: Session, name: &str, durable: bool) {
        let declare = queue::AMQPMethod::Declare(queue::Declare {
            queue: name.into(),
            durable,
            ..queue::Declare::default()
        });
        self.send(session, AMQPClass::Queue(declare));
    }

    pub(crate) fn bind(&mut self, session: Session, exchange: &str, key: &str, queue: &str) {
        let bind = queue::AMQPMethod::Bind(queue::Bind {
            exchange: exchange.into(),
            routing_key: key.into(),
            queue: queue.into(),
            ..queue::Bind::default()
        });
        self.send(session, AMQPClass::Queue(bind));
    }

    pub(crate) fn consume(&mut self, session: Session, queue: &str, no_ack: bool) {
        let consume = basic::AMQPMethod::Consume(basic::Consume {
            queue: queue.into(),
            no_ack,
            ..basic::Consume::default()
        });
        self.send(session, AMQPClass::Basic(consume));
    }

    pub(crate) fn confirm(&mut self, session: Session) {
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        self.send(session, AMQPClass::Confirm(select));
    }

    fn send(&mut self, session: Session, method: AMQPClass) {
        let answer = self.turn(session, &frame(&method));
        assert!(answer > 0, "{method:?} is answered");
    }

    /// Bytes come from a session's socket, as many at a time as the runtime reads, and are handled: own
    /// mail, the disk, output. How many bytes went out, to whomever.
    pub(crate) fn turn(&mut self, session: Session, mut bytes: &[u8]) -> usize {
        let mut out = 0;
        let mut room = limits::LANDING_BYTES;
        while !bytes.is_empty() {
            let core = &mut self.cores[session.core];
            let landing = core.landing(session.index);
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
                core.received_in_place(NOW, session.index, count);
            } else {
                core.receive(NOW, session.index, piece);
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
            let mut is_busy = false;
            for core in 0..self.cores.len() {
                self.cores[core].settle(NOW);
                is_busy |= self.write(core);
                while let Some(index) = self.cores[core].next_dirty() {
                    out += self.flush(Session { core, index });
                }
                is_busy |= self.carry(core) || self.cores[core].has_work();
            }
            if !is_busy {
                return out;
            }
        }
    }

    /// Takes a core's mail to the others; whether there was any.
    fn carry(&mut self, from: usize) -> bool {
        let mut any = false;
        for to in 0..self.cores.len() {
            let used = &mut self.spare;
            let spare = || used.take().unwrap_or_default();
            if let Some(mut mail) = self.cores[from].take_mail(CoreId(to as u16), spare) {
                self.cores[to].deliver_mail(NOW, CoreId(from as u16), &mut mail);
                self.spare = Some(mail);
                self.mails += 1;
                any = true;
            }
        }
        any
    }

    /// The disk does what it is asked; whether it was asked anything.
    fn write(&mut self, core: usize) -> bool {
        let core = &mut self.cores[core];
        let mut is_asked = false;
        while let Some((log, size)) = core.next_commit(NOW) {
            is_asked = true;
            self.batch.resize(self.batch.len().max(size), 0);
            let placed = core.commit(NOW, log, &mut self.batch[..size]);
            if placed.is_some() {
                core.committed(NOW, log);
            }
        }
        while let Some((log, request)) = core.next_disk_request() {
            is_asked = true;
            match request {
                DiskRequest::Prepare { file, .. } => core.prepared(NOW, log, file, true),
                DiskRequest::Remove { .. } => {}
                other => panic!("nothing is left behind that {other:?} could be about"),
            }
        }
        is_asked
    }

    fn flush(&mut self, session: Session) -> usize {
        let core = &mut self.cores[session.core];
        let (output, _) = core.output(session.index);
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
        core.written(NOW, session.index);
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
