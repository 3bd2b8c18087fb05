//! The wire: AMQP 0-9-1 frames, written from templates and read by hopping.
//!
//! ```text
//! frame            +------+---------+------+-----------------+------+
//!                  | type | channel | size | payload         | 0xCE |
//!                  +------+---------+------+-----------------+------+
//!                    u8     u16       u32    size bytes        u8        integers are big-endian
//!
//! type 1, method   | class u16 | method u16 | arguments ...
//! type 2, header   | class u16 | weight u16 | body size u64 | property flags u16 | properties ...
//! type 3, body     | bytes, at most frame_max - 8
//! type 8, heartbeat, empty, on channel 0
//!
//! one message as published: three frames or more, laid out once and then only stamped
//!
//!   basic.publish  | 60 | 40 | reserved u16 | exchange shortstr | routing key shortstr | bits u8 |
//!   header         | 60 | 0 | size u64 | flags u16 | properties, such as the delivery mode u8 |
//!   body           | due or send time, ns, u64 | sequence number u64 | zeros ...
//!                    only if size >= 8          only if size >= 16
//!
//! one message as delivered: of these bytes only the starred ones are looked at
//!
//!   basic.deliver  | 60* | 60* | consumer tag shortstr (length*) | delivery tag u64* | ...
//!   header         | .. | .. | size u64* | ...
//!   body           | time u64* | ...
//! ```
//!
//! Methods off the hot path are encoded and decoded by the crate `amq-protocol`.

mod scanner;
mod template;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::AMQPClass;
use thiserror::Error;

pub(crate) use scanner::{FrameSink, Scanner};
pub(crate) use template::{Publication, PublishTemplate, push_ack, push_nack};

/// Type octets of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The octet that ends each frame.
const FRAME_END: u8 = 0xCE;
/// Bytes before a frame's payload.
const FRAME_HEAD_BYTES: usize = 7;
/// Bytes of a frame around its payload.
const FRAME_OVERHEAD_BYTES: usize = 8;

/// A whole heartbeat frame.
pub(crate) const HEARTBEAT_FRAME: [u8; 8] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END];
/// What a client sends first.
pub(crate) const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// The server sent bytes that are not AMQP 0-9-1.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum WireError {
    #[error("the server sent a frame of unknown type {0}")]
    FrameType(u8),
    #[error("the server sent a frame of {0} bytes, more than the negotiated frame_max")]
    FrameSize(usize),
    #[error("the server sent a frame that does not end with 0xCE")]
    FrameEnd,
    #[error("the server sent content where none was announced, on channel {0}")]
    UnexpectedContent(u16),
    #[error("the server sent a frame on channel {0}, which is not open")]
    UnknownChannel(u16),
    #[error("the server sent a method that cannot be decoded")]
    Method,
}

/// Appends a method frame to `out`.
pub(crate) fn push_method(out: &mut Vec<u8>, channel: u16, method: AMQPClass) {
    let frame = AMQPFrame::Method(channel, method);
    let encoded =
        gen_frame(&frame)(WriteContext::from(Vec::new())).expect("writing to memory cannot fail");
    out.extend_from_slice(&encoded.into_inner().0);
}

/// The channel and method of one whole frame; `None` for frames that carry no method.
pub(crate) fn decode_method(frame: &[u8]) -> Result<Option<(u16, AMQPClass)>, WireError> {
    match parse_frame(frame) {
        Ok((_, AMQPFrame::Method(channel, method))) => Ok(Some((channel, method))),
        Ok(_) => Ok(None),
        Err(_) => Err(WireError::Method),
    }
}

/// The length of the frame at the start of `bytes`, once it is there completely.
pub(crate) fn complete_frame(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..FRAME_HEAD_BYTES)?;
    let length = u32_at(head, 3) as usize + FRAME_OVERHEAD_BYTES;
    (bytes.len() >= length).then_some(length)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod speed;
