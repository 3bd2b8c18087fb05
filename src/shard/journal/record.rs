//! What a shard writes to its log.
//!
//! ```text
//! message   flags 1 | targets n | n x (queue, position, with flag 2: expiry) | exchange 1 + bytes
//!           | routing key 1 + bytes | properties length, bytes | body: the rest     has an LSN
//! settled   queue | first position | count         acknowledged, discarded, purged, dead-lettered
//! flagged   queue | first position | count         at a clean stop: were delivered before
//! returned  queue | position | times               at a clean stop: came back so often
//! clean     (empty)  a clean stop; says something only if it is the last record
//! started   (empty)  the log was opened: what came before is not the last record any more
//!
//! Numbers are varints, but for the one byte of flags and of the two short lengths. An expiry is 0 for
//! none, or milliseconds since 1970. Flags: 1 the message is persistent, 2 it expires in some queue.
//! ```

use bytes::Bytes;

use crate::amqp::properties::Properties;
use crate::base::{MessageRef, StoredMessage, limits};
use crate::log::{BatchWriter, take_varint, varint_len};
use crate::model::deduplication::{Key, key_of};
use crate::model::queue::NEVER;

pub(super) const MESSAGE: u8 = 1;
pub(super) const SETTLED: u8 = 2;
pub(super) const FLAGGED: u8 = 3;
pub(super) const CLEAN: u8 = 4;
pub(super) const STARTED: u8 = 5;
pub(super) const RETURNED: u8 = 6;

/// The message was published with delivery mode 2.
const PERSISTENT: u8 = 1;
/// Its targets have expiries.
const EXPIRES: u8 = 2;

/// How a queue is called in the log: what of it is durable by a number that no other queue of the data
/// directory has or had, what isn't by one that holds until the next start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::shard) struct LogQueue(pub(super) u64);

impl LogQueue {
    /// A durable queue, by its incarnation.
    pub(in crate::shard) fn durable(incarnation: u64) -> Self {
        Self(incarnation << 1)
    }

    /// What it was made from.
    pub(super) fn incarnation(self) -> u64 {
        self.0 >> 1
    }

    /// The `number`th queue that isn't.
    pub(super) fn volatile(number: u64) -> Self {
        Self(number << 1 | 1)
    }

    pub(super) fn is_durable(self) -> bool {
        self.0 & 1 == 0
    }
}

/// A message in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::shard) struct Target {
    pub(in crate::shard) queue: LogQueue,
    pub(in crate::shard) position: u64,
    /// When it is to go, in milliseconds since 1970, or [`NEVER`].
    pub(in crate::shard) expires: u64,
}

impl Target {
    /// As in the log, where none is the shortest.
    fn expiry(&self) -> u64 {
        if self.expires == NEVER {
            0
        } else {
            self.expires
        }
    }
}

fn any_expires(mut targets: impl Iterator<Item = Target>) -> bool {
    targets.any(|target| target.expires != NEVER)
}

/// The length of a message's payload.
pub(super) fn message_len(
    message: &MessageRef<'_>,
    targets: impl Iterator<Item = Target> + Clone,
) -> usize {
    let expires = any_expires(targets.clone());
    let mut count = 0;
    let mut len = 1;
    for target in targets {
        count += 1;
        len += varint_len(target.queue.0) + varint_len(target.position);
        if expires {
            len += varint_len(target.expiry());
        }
    }
    len + varint_len(count)
        + 1
        + message.exchange.len()
        + 1
        + message.routing_key.len()
        + varint_len(message.properties.len() as u64)
        + message.properties.len()
        + message.body_len()
}

/// Writes a message's payload.
pub(super) fn write_message(
    writer: &mut BatchWriter<'_>,
    message: &MessageRef<'_>,
    targets: impl Iterator<Item = Target> + Clone,
) {
    let expires = any_expires(targets.clone());
    let persistent = if message.persistent { PERSISTENT } else { 0 };
    writer.put(&[persistent | if expires { EXPIRES } else { 0 }]);
    writer.put_varint(targets.clone().count() as u64);
    for target in targets {
        writer.put_varint(target.queue.0);
        writer.put_varint(target.position);
        if expires {
            writer.put_varint(target.expiry());
        }
    }
    for short in [message.exchange, message.routing_key] {
        writer.put(&[short.len() as u8]);
        writer.put(short);
    }
    writer.put_varint(message.properties.len() as u64);
    writer.put(message.properties);
    writer.put(message.body);
    for piece in message.large_body {
        writer.put(piece);
    }
}

/// A message as it stands in the log.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct LoggedMessage<'a> {
    targets: &'a [u8],
    expires: bool,
    exchange: &'a [u8],
    routing_key: &'a [u8],
    properties: &'a [u8],
    body: &'a [u8],
    pub(super) persistent: bool,
}

impl<'a> LoggedMessage<'a> {
    /// Reads a payload; none if it isn't one.
    pub(super) fn read(payload: &'a [u8]) -> Option<Self> {
        let (&flags, mut rest) = payload.split_first()?;
        let count = take_varint(&mut rest)?;
        let targets = rest;
        let expires = flags & EXPIRES != 0;
        let numbers = if expires { 3 } else { 2 };
        for _ in 0..count.checked_mul(numbers)? {
            take_varint(&mut rest)?;
        }
        let targets = &targets[..targets.len() - rest.len()];
        let exchange = take_short(&mut rest)?;
        let routing_key = take_short(&mut rest)?;
        let properties_len = usize::try_from(take_varint(&mut rest)?).ok()?;
        let (properties, body) = rest.split_at_checked(properties_len)?;
        Some(Self {
            targets,
            expires,
            exchange,
            routing_key,
            properties,
            body,
            persistent: flags & PERSISTENT != 0,
        })
    }

    /// The queues that it was put in, and where.
    pub(in crate::shard) fn targets(&self) -> impl Iterator<Item = Target> + use<'a> {
        let (mut rest, expires) = (self.targets, self.expires);
        std::iter::from_fn(move || {
            Some(Target {
                queue: LogQueue(take_varint(&mut rest)?),
                position: take_varint(&mut rest)?,
                expires: match expires.then(|| take_varint(&mut rest)) {
                    None | Some(Some(0)) => NEVER,
                    Some(expires) => expires?,
                },
            })
        })
    }

    /// Its `priority` property.
    pub(in crate::shard) fn priority(&self) -> u8 {
        let properties = Properties::from_validated(self.properties);
        properties.priority().unwrap_or(0)
    }

    /// What it is known by where duplicates are dropped.
    pub(super) fn key(&self) -> Option<Key> {
        key_of(Properties::from_validated(self.properties))
    }

    /// Bytes of its body.
    pub(in crate::shard) fn body_len(&self) -> u64 {
        self.body.len() as u64
    }

    /// A copy to be kept in memory.
    pub(in crate::shard) fn store(&self) -> StoredMessage {
        let is_large = self.body.len() >= limits::LARGE_BODY_BYTES;
        let large = [Bytes::copy_from_slice(if is_large {
            self.body
        } else {
            &[]
        })];
        StoredMessage::new(&MessageRef {
            exchange: self.exchange,
            routing_key: self.routing_key,
            properties: self.properties,
            body: if is_large { &[] } else { self.body },
            large_body: if is_large { &large } else { &[] },
            persistent: self.persistent,
        })
    }
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&len, after) = rest.split_first()?;
    let (bytes, after) = after.split_at_checked(usize::from(len))?;
    *rest = after;
    Some(bytes)
}

/// Positions of a queue: a run of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) queue: LogQueue,
    pub(super) first: u64,
    pub(super) count: u64,
}

impl Run {
    pub(super) fn read(mut payload: &[u8]) -> Option<Self> {
        Some(Self {
            queue: LogQueue(take_varint(&mut payload)?),
            first: take_varint(&mut payload)?,
            count: take_varint(&mut payload)?,
        })
    }

    pub(super) fn write(&self, tag: u8, writer: &mut BatchWriter<'_>) {
        let words = [self.queue.0, self.first, self.count];
        writer.begin(tag, words.map(varint_len).iter().sum());
        for word in words {
            writer.put_varint(word);
        }
    }

    /// Makes `self` longer if `next` goes on where it ends.
    pub(super) fn extend(&mut self, next: Self) -> bool {
        let follows = self.queue == next.queue && self.first + self.count == next.first;
        if follows {
            self.count += next.count;
        }
        follows
    }
}
