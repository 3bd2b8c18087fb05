//! A batch: records of one size side by side, the bytes they speak of in one arena behind them, and
//! large bodies as shared buffers. Cleared and reused, so that a small message in steady state costs
//! no allocation.

use bytes::Bytes;

use crate::base::{MessageRef, limits};

/// Records of type `R` and what they refer to.
#[derive(Debug)]
pub struct Batch<R> {
    records: Vec<R>,
    arena: Vec<u8>,
    bodies: Vec<Bytes>,
    /// Bytes in `bodies`.
    body_bytes: usize,
}

/// A piece of a batch's arena: position and length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    start: u32,
    len: u32,
}

/// Where a message stands in a batch.
#[derive(Clone, Copy, Debug)]
pub struct MessageSpan {
    /// Position of `exchange | routing key | properties | small body` in the arena.
    start: u32,
    properties_len: u32,
    /// Length of the small body.
    body_len: u32,
    /// Position and count of the large body's pieces.
    bodies_start: u32,
    bodies_len: u32,
    exchange_len: u8,
    routing_key_len: u8,
    persistent: bool,
}

impl MessageSpan {
    /// Whether the publisher asked for delivery mode 2.
    pub fn persistent(&self) -> bool {
        self.persistent
    }
}

impl<R> Default for Batch<R> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            arena: Vec::new(),
            bodies: Vec::new(),
            body_bytes: 0,
        }
    }
}

impl<R> Batch<R> {
    /// Adds a record that refers to nothing, or to spans that were written before.
    pub fn push(&mut self, record: R) {
        self.records.push(record);
    }

    /// The records, in the order they were pushed.
    pub fn records(&self) -> &[R] {
        &self.records
    }

    /// The records by value, while the arena stays; give their table back when done.
    pub fn take_records(&mut self) -> Vec<R> {
        std::mem::take(&mut self.records)
    }

    /// Gives back the (drained) table of [`Batch::take_records`], for its memory.
    pub fn restore_records(&mut self, records: Vec<R>) {
        self.records = records;
    }

    /// The record pushed last, to be extended.
    pub fn last_mut(&mut self) -> Option<&mut R> {
        self.records.last_mut()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// About how many bytes it keeps busy.
    pub fn size(&self) -> usize {
        self.records.len() * size_of::<R>() + self.arena.len() + self.body_bytes
    }

    /// Empties it. Memory is kept, unless a burst made it very large.
    pub fn clear(&mut self) {
        self.records.clear();
        self.arena.clear();
        self.bodies.clear();
        self.body_bytes = 0;
        self.arena.shrink_to(limits::BATCH_KEPT_BYTES);
        self.records
            .shrink_to(limits::BATCH_KEPT_BYTES / size_of::<R>());
    }

    /// Copies bytes into the arena.
    pub fn write(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Span {
            start,
            len: bytes.len() as u32,
        }
    }

    /// Lengthens the span that was written last. Returns whether it was the last.
    pub fn extend(&mut self, span: &mut Span, bytes: &[u8]) -> bool {
        if (span.start + span.len) as usize != self.arena.len() {
            return false;
        }
        self.arena.extend_from_slice(bytes);
        span.len += bytes.len() as u32;
        true
    }

    /// The bytes of a span.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.start as usize..][..span.len as usize]
    }

    /// Copies a message into the arena; a large body is shared. A call would cost a delivery some 20 instructions.
    #[inline(always)]
    pub fn write_message(&mut self, message: &MessageRef<'_>) -> MessageSpan {
        let start = self.arena.len() as u32;
        self.arena.reserve(
            message.exchange.len()
                + message.routing_key.len()
                + message.properties.len()
                + message.body.len(),
        );
        self.arena.extend_from_slice(message.exchange);
        self.arena.extend_from_slice(message.routing_key);
        self.arena.extend_from_slice(message.properties);
        self.arena.extend_from_slice(message.body);
        let bodies_start = self.bodies.len() as u32;
        for piece in message.large_body {
            self.body_bytes += piece.len();
            self.bodies.push(piece.clone());
        }
        MessageSpan {
            start,
            properties_len: message.properties.len() as u32,
            body_len: message.body.len() as u32,
            bodies_start,
            bodies_len: message.large_body.len() as u32,
            exchange_len: message.exchange.len() as u8,
            routing_key_len: message.routing_key.len() as u8,
            persistent: message.persistent,
        }
    }

    /// The message of a span. Inlined like [`Batch::write_message`].
    #[inline(always)]
    pub fn message(&self, span: &MessageSpan) -> MessageRef<'_> {
        let rest = &self.arena[span.start as usize..];
        let (exchange, rest) = rest.split_at(usize::from(span.exchange_len));
        let (routing_key, rest) = rest.split_at(usize::from(span.routing_key_len));
        let (properties, rest) = rest.split_at(span.properties_len as usize);
        MessageRef {
            exchange,
            routing_key,
            properties,
            body: &rest[..span.body_len as usize],
            large_body: &self.bodies[span.bodies_start as usize..][..span.bodies_len as usize],
            persistent: span.persistent,
        }
    }
}
