//! A whole turn of one core without a socket: bytes of publishes in, bytes of deliveries out, and how
//! many allocations a message costs on the way.
//!
//! `cargo bench --bench turn`

use std::io::IoSlice;
use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use leveret::amqp::frame::PROTOCOL_HEADER;
use leveret::amqp::{content, method};
use leveret::base::{CoreId, Settings, Time};
use leveret::broker::{Core, SessionIndex, Stored};
use leveret::model::Definitions;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

const NOW: Time = Time(1);
/// Messages in one turn.
const MESSAGES: usize = 1000;

fn main() {
    divan::main();
}

/// A core with one queue, a publisher, and a consumer.
struct Bench {
    core: Core,
    publisher: SessionIndex,
    consumer: SessionIndex,
    /// One turn's publishes.
    publishes: Vec<u8>,
    /// One turn's acknowledgement of everything.
    ack: Vec<u8>,
}

impl Bench {
    fn new(body_bytes: usize, no_ack: bool) -> Self {
        let definitions = Definitions::new(7);
        let stored = Stored::nothing(CoreId(0), &definitions);
        let core = Core::new(CoreId(0), 1, Arc::new(Settings::default()), 7, stored);
        let mut bench = Self {
            core,
            publisher: SessionIndex(0),
            consumer: SessionIndex(0),
            publishes: publishes(body_bytes),
            ack: method_frame(&AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag: 0,
                multiple: true,
            }))),
        };
        bench.publisher = bench.session();
        bench.consumer = bench.session();
        let declare = queue::AMQPMethod::Declare(queue::Declare {
            queue: "bench".into(),
            ..queue::Declare::default()
        });
        let consume = basic::AMQPMethod::Consume(basic::Consume {
            queue: "bench".into(),
            no_ack,
            ..basic::Consume::default()
        });
        bench.turn(bench.consumer, &method_frame(&AMQPClass::Queue(declare)));
        bench.turn(bench.consumer, &method_frame(&AMQPClass::Basic(consume)));
        bench
    }

    /// A connection with channel 1 open.
    fn session(&mut self) -> SessionIndex {
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

    /// One turn: received bytes, own mail, output. How many bytes went out.
    fn turn(&mut self, session: SessionIndex, bytes: &[u8]) -> usize {
        self.core.receive(NOW, session, bytes);
        let mut out = 0;
        loop {
            self.core.settle(NOW);
            while let Some(dirty) = self.core.next_dirty() {
                out += self.flush(dirty);
            }
            if !self.core.has_work() {
                return out;
            }
        }
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

fn method_frame(class: &AMQPClass) -> Vec<u8> {
    let mut bytes = Vec::new();
    method::encode(&mut bytes, 1, class);
    bytes
}

fn publishes(body_bytes: usize) -> Vec<u8> {
    let publish = basic::AMQPMethod::Publish(basic::Publish {
        routing_key: "bench".into(),
        ..basic::Publish::default()
    });
    let mut one = method_frame(&AMQPClass::Basic(publish));
    content::write_header(&mut one, 1, body_bytes as u64, &[0, 0]);
    content::write_body(&mut one, 1, &vec![b'x'; body_bytes], 131_064);
    one.repeat(MESSAGES)
}

#[divan::bench(args = [16, 1024, 16 * 1024])]
fn publish_and_deliver_auto_ack(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let mut bench = Bench::new(body_bytes, true);
    let publishes = std::mem::take(&mut bench.publishes);
    let publisher = bench.publisher;
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .bench_local(|| bench.turn(publisher, &publishes));
}

#[divan::bench(args = [16, 1024])]
fn publish_deliver_and_ack(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let mut bench = Bench::new(body_bytes, false);
    let publishes = std::mem::take(&mut bench.publishes);
    let ack = std::mem::take(&mut bench.ack);
    let (publisher, consumer) = (bench.publisher, bench.consumer);
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        bench.turn(publisher, &publishes);
        bench.turn(consumer, &ack)
    });
}
