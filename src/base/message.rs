//! A message as bytes: borrowed on its way through, stored when it must wait.
//!
//! Exchange, routing key, properties and a small body stand side by side in one block; a body from
//! [`LARGE_BODY_BYTES`](super::limits::LARGE_BODY_BYTES) up stays in the buffers it was received
//! into, and every copy of the message shares them.

use std::rc::Rc;

use bytes::Bytes;

/// A message on its way, borrowed from whoever holds its bytes.
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    /// Name of the exchange it was published to.
    pub exchange: &'a [u8],
    /// Its routing key.
    pub routing_key: &'a [u8],
    /// Property flags and property list exactly as the publisher sent them (AMQP 0-9-1, 4.2.6.1).
    pub properties: &'a [u8],
    /// The body if it is small; empty if it is in `large_body`.
    pub body: &'a [u8],
    /// The body in pieces if it is large; empty if it is in `body`.
    pub large_body: &'a [Bytes],
    /// Whether the publisher asked for delivery mode 2.
    pub persistent: bool,
}

impl MessageRef<'_> {
    /// Length of the body in bytes, wherever it is.
    pub fn body_len(&self) -> usize {
        self.body.len() + self.large_body.iter().map(Bytes::len).sum::<usize>()
    }

    /// About what it takes up on its way to a consumer, in bytes: what a session's window counts.
    pub fn weight(&self) -> u32 {
        const FRAMES: usize = 64;
        let len = FRAMES
            + self.exchange.len()
            + self.routing_key.len()
            + self.properties.len()
            + self.body_len();
        u32::try_from(len).unwrap_or(u32::MAX)
    }
}

/// A message that waits: one allocation, shared by the queues of one core that hold it.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// `exchange | routing key | properties | small body`, behind [`LENGTHS`].
    block: Rc<[u8]>,
    large_body: Option<Rc<[Bytes]>>,
}

/// The head of a stored block: how long its first three parts are, and the flags.
///
/// ```text
/// +----------+-------------+-------+------------+
/// | exchange | routing key | flags | properties |
/// |  1 byte  |   1 byte    | 1 byte|  4 bytes   |
/// +----------+-------------+-------+------------+
/// ```
const LENGTHS: usize = 7;
const PERSISTENT: u8 = 1;

impl StoredMessage {
    /// Copies what is borrowed; a large body is shared, not copied.
    pub fn new(message: &MessageRef<'_>) -> Self {
        let len = LENGTHS
            + message.exchange.len()
            + message.routing_key.len()
            + message.properties.len()
            + message.body.len();
        let mut head = [0; LENGTHS];
        head[0] = message.exchange.len() as u8;
        head[1] = message.routing_key.len() as u8;
        head[2] = if message.persistent { PERSISTENT } else { 0 };
        head[3..].copy_from_slice(&(message.properties.len() as u32).to_le_bytes());
        let mut block: Rc<[u8]> = std::iter::repeat_n(0, len).collect();
        let bytes = Rc::get_mut(&mut block).expect("the block was made on the line above");
        let mut at = 0;
        for part in [
            &head[..],
            message.exchange,
            message.routing_key,
            message.properties,
            message.body,
        ] {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let large_body =
            (!message.large_body.is_empty()).then(|| Rc::from(message.large_body.to_vec()));
        Self { block, large_body }
    }

    /// About how many bytes of memory it keeps busy.
    pub fn size(&self) -> usize {
        /// The block's counters, and what the allocator adds.
        const OVERHEAD: usize = 32;
        let large = self.large_body.iter().flat_map(|pieces| pieces.iter());
        OVERHEAD + self.block.len() + large.map(Bytes::len).sum::<usize>()
    }

    /// The message, to be written somewhere.
    pub fn as_ref(&self) -> MessageRef<'_> {
        let (head, rest) = self.block.split_at(LENGTHS);
        let (exchange, rest) = rest.split_at(usize::from(head[0]));
        let (routing_key, rest) = rest.split_at(usize::from(head[1]));
        let properties_len = u32::from_le_bytes([head[3], head[4], head[5], head[6]]);
        let (properties, body) = rest.split_at(properties_len as usize);
        MessageRef {
            exchange,
            routing_key,
            properties,
            body,
            large_body: self.large_body.as_deref().unwrap_or(&[]),
            persistent: head[2] & PERSISTENT != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_message_gives_back_what_was_put_in() {
        let pieces = [Bytes::from_static(b"large "), Bytes::from_static(b"body")];
        let messages: [(&[u8], &[Bytes]); 2] = [(b"small", &[]), (b"", &pieces)];
        for (body, large_body) in messages {
            let message = MessageRef {
                exchange: b"logs",
                routing_key: b"kern.warn",
                properties: &[0x10, 0, 2],
                body,
                large_body,
                persistent: true,
            };
            let stored = StoredMessage::new(&message);
            let back = stored.as_ref();
            assert_eq!(back.exchange, message.exchange);
            assert_eq!(back.routing_key, message.routing_key);
            assert_eq!(back.properties, message.properties);
            assert_eq!(back.body, message.body);
            assert_eq!(back.large_body, message.large_body);
            assert!(back.persistent);
            assert_eq!(back.body_len(), message.body_len());
        }
    }
}
