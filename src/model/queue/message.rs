//! A message as a queue meets it: on its way in, kept, taken, found again, and gone.

use super::Paged;
use crate::amqp::properties::Properties;
use crate::base::{Lsn, MessageRef, StoredMessage};
use crate::model::exchange::delayed;
use crate::model::expiration::expiration_ms;

/// A message on its way in: borrowed, and stored at most once however many queues keep it.
pub struct Incoming<'a> {
    pub(super) message: MessageRef<'a>,
    stored: Option<StoredMessage>,
    /// Its own time to live, in milliseconds.
    pub(super) ttl_ms: Option<u64>,
}

impl<'a> Incoming<'a> {
    /// A message that nobody has stored yet.
    pub fn new(message: MessageRef<'a>) -> Self {
        let properties = Properties::from_validated(message.properties);
        Self {
            message,
            stored: None,
            ttl_ms: properties
                .expiration()
                .and_then(|text| expiration_ms(text).ok()),
        }
    }

    /// How long a delayed exchange is to hold it, in milliseconds.
    pub(super) fn delay_ms(&self) -> Option<u64> {
        delayed::delay_ms(Properties::from_validated(self.message.properties))
    }

    /// The message to keep.
    pub fn stored(&mut self) -> StoredMessage {
        self.stored
            .get_or_insert_with(|| StoredMessage::new(&self.message))
            .clone()
    }
}

/// A message's priority; one that has none has the lowest.
pub fn priority_of(message: &MessageRef<'_>) -> u8 {
    let properties = Properties::from_validated(message.properties);
    properties.priority().unwrap_or(0)
}

/// How a message is kept if it must wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// Where the log will have it, if it shall.
    pub lsn: Lsn,
    /// In the log only; not in memory.
    pub paged: bool,
}

/// A message that is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Its place in the queue.
    pub position: u64,
    /// Where the log has it, if it does.
    pub lsn: Lsn,
}

/// What became of a message that was routed to a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// It was delivered, or waits.
    Taken {
        /// Its place in the queue.
        position: u64,
        /// When it is to go, in milliseconds since 1970, or [`NEVER`](super::NEVER).
        expires: u64,
    },
    /// The queue is full and takes no more: its publisher is to be told.
    Refused,
    /// One like it is there already: it is dropped, and counts as taken.
    Duplicate,
    /// The exchange that has this queue for itself is to say where it goes.
    ComesBy,
}

/// A message that a start found in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Its place.
    pub paged: Paged,
    /// Its `priority` property.
    pub priority: u8,
}

/// What `basic.get` takes.
pub struct Taken {
    /// Its properties, if they aren't the message's own.
    pub properties: Option<Vec<u8>>,
    /// The message.
    pub message: StoredMessage,
    /// The delivery's slot, if it is to be acknowledged or the log has the message.
    pub slot: Option<u32>,
    /// Whether it was delivered before.
    pub redelivered: bool,
}
