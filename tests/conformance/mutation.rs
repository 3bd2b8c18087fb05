//! Valid sessions with random damage, from a fixed seed: the broker neither hangs nor dies, and serves the next client.

use crate::support::broker::Broker;
use crate::support::cores::on_each_core_count;
use crate::support::login::Login;
use crate::support::raw::Raw;
use crate::support::wire;
use amq_protocol::protocol::{basic, channel, confirm, exchange, queue, tx};

const SEED: u64 = 0x1e7e_4e70_0091;
const SESSIONS: u64 = 200;

on_each_core_count! {
    fn damaged_sessions_harm_nobody(broker: &Broker) {
        let witness = broker.connect();
        for number in 0..SESSIONS {
            let mut random = Random(SEED + number);
            let mut raw = Login::default().raw(broker.address);
            let bytes = damaged(session(broker), &mut random);
            send_in_pieces(&mut raw, &bytes, &mut random);
            raw.finish_sending();
            // Its end comes in any case: the broker sees ours.
            raw.until_given_up();
            if number % 20 == 0 {
                broker.connect().is_alive();
            }
        }
        witness.is_alive();
    }

    fn damaged_handshakes_harm_nobody(broker: &Broker) {
        let mut sockets: Vec<Raw> = (0..SESSIONS).map(|number| {
            let mut random = Random(!SEED - number);
            let mut raw = Raw::connect(broker.address);
            let bytes = [Login::default().in_one_breath(), session(broker)].concat();
            send_in_pieces(&mut raw, &damaged(bytes, &mut random), &mut random);
            raw.finish_sending();
            raw
        }).collect();
        // A refusal may take its time; they all do so at once. RabbitMQ waits half a minute for some a close-ok.
        for raw in sockets.iter_mut().filter(|_| !broker.is_reference()) {
            // A handshake may have ended in the broker's own protocol header, which is no frame.
            raw.until_hung_up();
        }
        broker.connect().is_alive();
    }
}

/// A little of everything, valid as it stands.
fn session(broker: &Broker) -> Vec<u8> {
    let (queue, exchange) = (broker.name("mutant"), broker.name("mutant"));
    let declare = queue::Declare {
        queue: queue.as_str().into(),
        exclusive: true,
        ..Default::default()
    };
    let topic = exchange::Declare {
        exchange: exchange.as_str().into(),
        kind: "topic".into(),
        auto_delete: true,
        arguments: wire::table(&[("alternate-exchange", wire::text("amq.fanout"))]),
        ..Default::default()
    };
    let bind = queue::Bind {
        queue: queue.as_str().into(),
        exchange: exchange.as_str().into(),
        routing_key: "a.*.#".into(),
        ..Default::default()
    };
    let consume = basic::Consume {
        queue: queue.as_str().into(),
        consumer_tag: "c".into(),
        ..Default::default()
    };
    [
        wire::method(1, channel::Open {}),
        wire::method(1, declare),
        wire::method(1, topic),
        wire::method(1, bind),
        wire::method(
            1,
            basic::Qos {
                prefetch_count: 2,
                global: true,
            },
        ),
        wire::method(1, confirm::Select { nowait: false }),
        wire::publish(1, &exchange, "a.b.c", b"first"),
        wire::method(1, consume),
        wire::publish(1, "", &queue, &[7; 5000]),
        wire::method(
            1,
            basic::Ack {
                delivery_tag: 1,
                multiple: true,
            },
        ),
        wire::method(
            1,
            basic::Nack {
                delivery_tag: 2,
                multiple: false,
                requeue: true,
            },
        ),
        wire::heartbeat(),
        wire::method(2, channel::Open {}),
        wire::method(2, tx::Select {}),
        wire::publish(2, "", &queue, b"in a transaction"),
        wire::method(2, tx::Commit {}),
        wire::method(
            2,
            basic::Get {
                queue: queue.as_str().into(),
                no_ack: true,
            },
        ),
        wire::method(1, basic::Recover { requeue: true }),
        wire::method(
            1,
            basic::Cancel {
                consumer_tag: "c".into(),
                nowait: false,
            },
        ),
        wire::method(
            2,
            channel::Close {
                reply_code: 200,
                ..Default::default()
            },
        ),
    ]
    .concat()
}

/// One to four wounds: a byte changed, bytes removed, repeated, put in, or everything cut off from there.
fn damaged(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(12)).min(bytes.len());
        match random.below(8) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            2 => {
                let noise: Vec<u8> = (at..end).map(|_| random.byte()).collect();
                bytes.splice(at..at, noise);
            }
            3 => bytes.truncate(at.max(1)),
            4 => bytes[at] = 0xff,
            5 => bytes[at] = 0,
            _ => bytes[at] ^= 1 << random.below(8),
        }
    }
    bytes
}

fn send_in_pieces(raw: &mut Raw, bytes: &[u8], random: &mut Random) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((1 + random.below(3000)).min(rest.len()));
        // The broker may have heard enough.
        if raw.try_send(piece).is_err() {
            return;
        }
        rest = more;
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("smaller than a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
