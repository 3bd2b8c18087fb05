//! The content path: messages and their acknowledgements, read in place and written straight into the
//! output.
//!
//! A content is a method frame, a header frame and as many body frames as it takes (AMQP 0-9-1,
//! 4.2.6):
//!
//! ```text
//! method   | 60 | method | arguments …
//!             2     2
//! header   | 60 | 0 | body size | property flags | property list …
//!             2   2       8             2
//! body     | bytes, at most frame_max - 8
//! ```

use super::error::ConnectionError;
use super::frame::{self, END, FrameKind, HEAD};
use super::method::Reader;
use crate::base::MessageRef;

/// `basic.publish`, read in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// Empty: the default exchange.
    pub exchange: &'a [u8],
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Return it if it reaches no queue.
    pub mandatory: bool,
    /// Not implemented by us, as by RabbitMQ.
    pub immediate: bool,
}

impl<'a> Publish<'a> {
    /// Reads the arguments. The strings are not checked for UTF-8 here: whoever looks them up does.
    #[inline]
    pub fn read(arguments: &'a [u8]) -> Result<Self, ConnectionError> {
        let mut reader = Reader(arguments);
        reader.take(2)?;
        let exchange_len = usize::from(reader.octet()?);
        let exchange = reader.take(exchange_len)?;
        let routing_key_len = usize::from(reader.octet()?);
        let routing_key = reader.take(routing_key_len)?;
        let bits = reader.octet()?;
        end_of(&reader)?;
        Ok(Self {
            exchange,
            routing_key,
            mandatory: bits & 1 != 0,
            immediate: bits & 2 != 0,
        })
    }
}

/// A content header, read in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentHeader<'a> {
    /// The class; 60 is all there is.
    pub class: u16,
    /// Length of the body in bytes.
    pub body_size: u64,
    /// Property flags and list.
    pub properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads a header frame's payload. The properties are not looked into.
    #[inline]
    pub fn read(payload: &'a [u8]) -> Result<Self, ConnectionError> {
        const FIXED: usize = 12;
        let Some((head, properties)) = payload.split_first_chunk::<FIXED>() else {
            return Err(ConnectionError::Syntax("content header is truncated"));
        };
        let class = u16::from_be_bytes([head[0], head[1]]);
        let size = head
            .last_chunk::<8>()
            .expect("twelve bytes have a last eight");
        Ok(Self {
            class,
            body_size: u64::from_be_bytes(*size),
            properties,
        })
    }
}

/// `basic.ack`, `basic.nack` or `basic.reject`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledgement {
    /// The delivery, or the last of several; 0 with `multiple` is all.
    pub delivery_tag: u64,
    /// Everything up to the tag.
    pub multiple: bool,
    /// None for an ack; otherwise whether to requeue.
    pub requeue: Option<bool>,
}

impl Acknowledgement {
    /// `basic.ack`
    #[inline]
    pub fn read_ack(arguments: &[u8]) -> Result<Self, ConnectionError> {
        let (delivery_tag, bits) = Self::read(arguments)?;
        Ok(Self {
            delivery_tag,
            multiple: bits & 1 != 0,
            requeue: None,
        })
    }

    /// `basic.nack`
    pub fn read_nack(arguments: &[u8]) -> Result<Self, ConnectionError> {
        let (delivery_tag, bits) = Self::read(arguments)?;
        Ok(Self {
            delivery_tag,
            multiple: bits & 1 != 0,
            requeue: Some(bits & 2 != 0),
        })
    }

    /// `basic.reject`
    pub fn read_reject(arguments: &[u8]) -> Result<Self, ConnectionError> {
        let (delivery_tag, bits) = Self::read(arguments)?;
        Ok(Self {
            delivery_tag,
            multiple: false,
            requeue: Some(bits & 1 != 0),
        })
    }

    fn read(arguments: &[u8]) -> Result<(u64, u8), ConnectionError> {
        let mut reader = Reader(arguments);
        let delivery_tag = reader.long_long()?;
        let bits = reader.octet()?;
        end_of(&reader)?;
        Ok((delivery_tag, bits))
    }
}

fn end_of(reader: &Reader<'_>) -> Result<(), ConnectionError> {
    if reader.0.is_empty() {
        Ok(())
    } else {
        Err(ConnectionError::Syntax("bytes after the last argument"))
    }
}

/// Appends `basic.deliver`'s method frame.
#[inline]
pub fn write_deliver(
    out: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &[u8],
    delivery_tag: u64,
    redelivered: bool,
    message: &MessageRef<'_>,
) {
    let strings = consumer_tag.len() + message.exchange.len() + message.routing_key.len();
    let size = 4 + 3 + strings + 8 + 1;
    out.reserve(size + HEAD + 1);
    write_head(out, FrameKind::Method, channel, size);
    out.extend_from_slice(&[0, 60, 0, 60, consumer_tag.len() as u8]);
    out.extend_from_slice(consumer_tag);
    let mut tag = [0; 9];
    tag[..8].copy_from_slice(&delivery_tag.to_be_bytes());
    tag[8] = u8::from(redelivered);
    out.extend_from_slice(&tag);
    write_short_string(out, message.exchange);
    write_short_string(out, message.routing_key);
    out.push(END);
}

/// Appends `basic.get-ok`'s method frame.
pub fn write_get_ok(
    out: &mut Vec<u8>,
    channel: u16,
    delivery_tag: u64,
    redelivered: bool,
    messages: u32,
    message: &MessageRef<'_>,
) {
    let start = frame::begin(out, FrameKind::Method, channel);
    out.extend_from_slice(&[0, 60, 0, 71]);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(redelivered));
    write_short_string(out, message.exchange);
    write_short_string(out, message.routing_key);
    out.extend_from_slice(&messages.to_be_bytes());
    frame::end(out, start);
}

/// Appends `basic.return`'s method frame: 312 NO_ROUTE.
pub fn write_return(out: &mut Vec<u8>, channel: u16, exchange: &[u8], routing_key: &[u8]) {
    let start = frame::begin(out, FrameKind::Method, channel);
    out.extend_from_slice(&[0, 60, 0, 50]);
    out.extend_from_slice(&312u16.to_be_bytes());
    write_short_string(out, b"NO_ROUTE");
    write_short_string(out, exchange);
    write_short_string(out, routing_key);
    frame::end(out, start);
}

/// Appends `basic.ack` (`multiple`) for a publisher's confirm.
pub fn write_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    write_settlement(out, channel, 80, delivery_tag, u8::from(multiple));
}

/// Appends `basic.nack` (`multiple`, nothing to requeue) for publishes that a queue refused.
pub fn write_nack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    write_settlement(out, channel, 120, delivery_tag, u8::from(multiple));
}

fn write_settlement(out: &mut Vec<u8>, channel: u16, method: u8, delivery_tag: u64, flags: u8) {
    write_head(out, FrameKind::Method, channel, 4 + 8 + 1);
    out.extend_from_slice(&[0, 60, 0, method]);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.extend_from_slice(&[flags, END]);
}

/// Appends a content header frame.
#[inline]
pub fn write_header(out: &mut Vec<u8>, channel: u16, body_size: u64, properties: &[u8]) {
    write_head(out, FrameKind::Header, channel, 12 + properties.len());
    let mut fixed = [0; 12];
    fixed[1] = 60;
    fixed[4..].copy_from_slice(&body_size.to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(properties);
    out.push(END);
}

/// Appends a body frame's head; `size` bytes and [`END`] are to follow.
#[inline]
pub fn write_body_head(out: &mut Vec<u8>, channel: u16, size: usize) {
    write_head(out, FrameKind::Body, channel, size);
}

/// Appends a small body, cut to `payload_max`.
#[inline]
pub fn write_body(out: &mut Vec<u8>, channel: u16, body: &[u8], payload_max: usize) {
    for piece in body.chunks(payload_max) {
        write_body_head(out, channel, piece.len());
        out.extend_from_slice(piece);
        out.push(END);
    }
}

#[inline]
fn write_head(out: &mut Vec<u8>, kind: FrameKind, channel: u16, size: usize) {
    let channel = channel.to_be_bytes();
    let size = (size as u32).to_be_bytes();
    out.extend_from_slice(&[
        kind as u8, channel[0], channel[1], size[0], size[1], size[2], size[3],
    ]);
}

#[inline]
fn write_short_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPFrame, parse_frame};
    use amq_protocol::protocol::{AMQPClass, basic};

    use super::*;

    const MESSAGE: MessageRef<'static> = MessageRef {
        exchange: b"logs",
        routing_key: b"kern.warn",
        properties: &[0x10, 0, 2],
        body: b"a body of some length",
        large_body: &[],
        persistent: true,
    };

    fn method(bytes: &[u8]) -> (u16, basic::AMQPMethod) {
        match parse_frame(bytes) {
            Ok(([], AMQPFrame::Method(channel, AMQPClass::Basic(method)))) => (channel, method),
            other => panic!("not a method of class basic: {other:?}"),
        }
    }

    #[test]
    fn amq_protocol_reads_our_deliver() {
        let mut out = Vec::new();
        write_deliver(&mut out, 9, b"ctag", 77, true, &MESSAGE);
        let deliver = basic::Deliver {
            consumer_tag: "ctag".into(),
            delivery_tag: 77,
            redelivered: true,
            exchange: "logs".into(),
            routing_key: "kern.warn".into(),
        };
        assert_eq!(method(&out), (9, basic::AMQPMethod::Deliver(deliver)));
    }

    #[test]
    fn amq_protocol_reads_our_get_ok_return_and_ack() {
        let mut out = Vec::new();
        write_get_ok(&mut out, 1, 5, false, 3, &MESSAGE);
        let basic::AMQPMethod::GetOk(get_ok) = method(&out).1 else {
            panic!("not a get-ok");
        };
        assert_eq!((get_ok.delivery_tag, get_ok.message_count), (5, 3));
        let mut out = Vec::new();
        write_return(&mut out, 1, b"e", b"k");
        let basic::AMQPMethod::Return(returned) = method(&out).1 else {
            panic!("not a return");
        };
        assert_eq!(
            (returned.reply_code, returned.reply_text.as_str()),
            (312, "NO_ROUTE")
        );
        let mut out = Vec::new();
        write_ack(&mut out, 1, 5, true);
        let ack = basic::Ack {
            delivery_tag: 5,
            multiple: true,
        };
        assert_eq!(method(&out).1, basic::AMQPMethod::Ack(ack));
    }

    #[test]
    fn amq_protocol_reads_our_header_and_body() {
        let mut out = Vec::new();
        write_header(&mut out, 2, MESSAGE.body.len() as u64, MESSAGE.properties);
        write_body(&mut out, 2, MESSAGE.body, 8);
        let (mut rest, header) = parse_frame(&out[..]).expect("it is valid");
        let AMQPFrame::Header(2, header) = header else {
            panic!("not a header: {header:?}");
        };
        assert_eq!(header.body_size, MESSAGE.body.len() as u64);
        assert_eq!(*header.properties.delivery_mode(), Some(2));
        let mut body = Vec::new();
        while !rest.is_empty() {
            let (after, frame) = parse_frame(rest).expect("it is valid");
            let AMQPFrame::Body(2, piece) = frame else {
                panic!("not a body: {frame:?}");
            };
            assert!(piece.len() <= 8);
            body.extend(piece);
            rest = after;
        }
        assert_eq!(body, MESSAGE.body);
    }

    #[test]
    fn a_publish_is_read_and_its_truncations_are_refused() {
        let bytes = [&[0, 0, 1][..], b"x", &[3], b"key", &[1]].concat();
        let publish = Publish::read(&bytes).expect("it is valid");
        assert_eq!(
            (publish.exchange, publish.routing_key),
            (&b"x"[..], &b"key"[..])
        );
        assert!(publish.mandatory && !publish.immediate);
        for len in 0..bytes.len() {
            assert!(Publish::read(&bytes[..len]).is_err());
        }
    }
}
