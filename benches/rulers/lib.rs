//! The broker's operations, from the codec to a whole turn, each as a closure that does it for
//! [`MESSAGES`] messages and can be called again and again. The rulers count what that costs
//! (`cargo run --release -p leveret-rulers`), `cargo bench --bench turn` times it.

mod bed;
mod rooms;
mod turns;

use std::fmt;

/// So many messages are handled each time.
pub const MESSAGES: usize = 1000;

/// An operation and its name.
#[derive(Clone, Copy)]
pub struct Operation {
    /// What is done, and to which message.
    pub name: &'static str,
    prepare: fn() -> Box<dyn FnMut()>,
}

impl Operation {
    /// Sets up what the operation needs; each call does it for [`MESSAGES`] messages.
    pub fn prepare(&self) -> Box<dyn FnMut()> {
        (self.prepare)()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Batches of mail that [`MESSAGES`] messages take between so many cores, each with a publisher, a queue and a
/// consumer: all on one core, or each on another. What was published at once is one batch to the queue's core, and
/// what of it is delivered one to the consumer's; the others return the consumers' credit.
pub fn mails(cores: u16, crosses: bool) -> usize {
    const WARM_UP: usize = 3;
    let mut act = turns::cores(cores, crosses);
    for _ in 0..WARM_UP {
        act();
    }
    act()
}

const fn operation(name: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Operation {
    Operation { name, prepare }
}

/// What takes too long to set up under callgrind: timed only.
pub const AT_SCALE: [Operation; 2] = [
    operation("turn: topic, 10 bindings, keys in turn", || {
        turns::topic(10)
    }),
    operation("turn: topic, 100,000 bindings, keys in turn", || {
        turns::topic(100_000)
    }),
];

/// All that is measured.
pub const OPERATIONS: [Operation; 26] = [
    operation("codec: parse publish, 16 B", || rooms::parse(16)),
    operation("codec: parse publish, 1 KiB", || rooms::parse(1024)),
    operation("codec: write deliver, 16 B", || rooms::write(16)),
    operation("codec: write deliver, 1 KiB", || rooms::write(1024)),
    operation("routing: default", || rooms::route("", 1)),
    operation("routing: direct", || rooms::route("amq.direct", 1)),
    operation("routing: topic", || rooms::route("amq.topic", 1)),
    operation("routing: fanout to 10", || rooms::route("amq.fanout", 10)),
    operation("queue: deliver, ack", rooms::deliver_and_ack),
    operation("queue: keep, get", rooms::keep_and_get),
    operation("log: batches of 100, 16 B", || rooms::commit(16)),
    operation("log: batches of 100, 1 KiB", || rooms::commit(1024)),
    operation("turn: auto-ack, 16 B", || turns::auto_ack(16)),
    operation("turn: auto-ack, 1 KiB", || turns::auto_ack(1024)),
    operation("turn: auto-ack, 16 KiB", || turns::auto_ack(16 * 1024)),
    operation("turn: ack, 16 B", || turns::ack(16)),
    operation("turn: ack, 1 KiB", || turns::ack(1024)),
    operation("turn: publish only, 16 B", turns::publish_only),
    operation("turn: direct exchange, one key", || turns::direct(1)),
    operation("turn: direct exchange, keys in turn", || turns::direct(2)),
    operation("turn: fanout to 10, 16 B", turns::fanout),
    operation("turn: persistent, confirm, ack, 1 KiB", turns::durable),
    operation("turn: 8 cores, all local, 16 B", || {
        turns::on_cores(8, false)
    }),
    operation("turn: 2 cores, all crosses, 16 B", || {
        turns::on_cores(2, true)
    }),
    operation("turn: 4 cores, all crosses, 16 B", || {
        turns::on_cores(4, true)
    }),
    operation("turn: 8 cores, all crosses, 16 B", || {
        turns::on_cores(8, true)
    }),
];
