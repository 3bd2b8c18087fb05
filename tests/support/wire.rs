//! Frames and fields as bytes: the well-formed ones through amq-protocol, the others by hand.
//!
//! ```text
//! +------+---------+----------+-----------+-----+
//! | type | channel |   size   |  payload  | 206 |
//! |  u8  |   u16   |   u32    | size bytes|  u8 |
//! +------+---------+----------+-----------+-----+
//! ```

use super::methods::Method;
use amq_protocol::frame::WriteContext;
use amq_protocol::protocol::{AMQPClass, basic, gen_class};
use amq_protocol::types::{AMQPValue, FieldTable};

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;
pub(crate) const FRAME_END: u8 = 206;
/// Bytes of a frame around its payload.
pub(crate) const FRAME_OVERHEAD: usize = 8;
pub(crate) const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Property flags that announce no property.
pub(crate) const NO_PROPERTIES: &[u8] = &[0, 0];
/// `delivery_mode = 2`.
pub(crate) const PERSISTENT: &[u8] = &[0x10, 0, 2];
pub(crate) const BASIC: u16 = 60;

pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_start(kind, channel, payload.len());
    bytes.extend_from_slice(payload);
    bytes.push(FRAME_END);
    bytes
}

/// The seven bytes before a payload, whatever follows them.
pub(crate) fn frame_start(kind: u8, channel: u16, announced: usize) -> Vec<u8> {
    let size = u32::try_from(announced).expect("tests announce frames below 4 GiB");
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes
}

pub(crate) fn method(channel: u16, method: impl Method) -> Vec<u8> {
    frame(METHOD, channel, &class_bytes(&method.into_class()))
}

/// A method frame with arguments that need not make sense.
pub(crate) fn raw_method(channel: u16, class_id: u16, method_id: u16, arguments: &[u8]) -> Vec<u8> {
    let payload = [
        &class_id.to_be_bytes()[..],
        &method_id.to_be_bytes(),
        arguments,
    ]
    .concat();
    frame(METHOD, channel, &payload)
}

/// A content header; `properties` begin with their flags.
pub(crate) fn header(channel: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
    header_of_class(channel, BASIC, body_size, properties)
}

pub(crate) fn header_of_class(
    channel: u16,
    class_id: u16,
    body_size: u64,
    properties: &[u8],
) -> Vec<u8> {
    let payload = [
        &class_id.to_be_bytes()[..],
        &[0, 0],
        &body_size.to_be_bytes(),
        properties,
    ]
    .concat();
    frame(HEADER, channel, &payload)
}

pub(crate) fn body(channel: u16, bytes: &[u8]) -> Vec<u8> {
    frame(BODY, channel, bytes)
}

/// Header and body frames, none larger than `frame_max`.
pub(crate) fn content(channel: u16, properties: &[u8], bytes: &[u8], frame_max: usize) -> Vec<u8> {
    let mut frames = header(channel, bytes.len() as u64, properties);
    for chunk in bytes.chunks(frame_max - FRAME_OVERHEAD) {
        frames.extend(body(channel, chunk));
    }
    frames
}

pub(crate) fn publish(channel: u16, exchange: &str, routing_key: &str, bytes: &[u8]) -> Vec<u8> {
    let publish = basic::Publish {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..Default::default()
    };
    [
        method(channel, publish),
        content(channel, NO_PROPERTIES, bytes, 4096),
    ]
    .concat()
}

pub(crate) fn heartbeat() -> Vec<u8> {
    frame(HEARTBEAT, 0, &[])
}

pub(crate) fn short_string(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short string has at most 255 bytes");
    [&[length][..], bytes].concat()
}

pub(crate) fn long_string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("tests use strings below 4 GiB");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// Properties as they stand in a content header, flags first.
pub(crate) fn properties(properties: &basic::AMQPProperties) -> Vec<u8> {
    let context = WriteContext::from(Vec::new());
    basic::gen_properties(properties)(context)
        .expect("a vector takes all bytes")
        .write
}

/// Properties that hold nothing but a header table.
pub(crate) fn headers(entries: &[(&str, AMQPValue)]) -> Vec<u8> {
    properties(&basic::AMQPProperties::default().with_headers(table(entries)))
}

pub(crate) fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert((*key).into(), value.clone());
    }
    table
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A table whose only field is a table, `depth` times over, the innermost empty.
pub(crate) fn nested_tables(depth: usize) -> Vec<u8> {
    let field = 3; // name "t" with its length, type 'F'
    let per_level = 4 + field;
    let mut bytes = Vec::with_capacity(depth * per_level + 4);
    for level in 0..depth {
        let inner = (depth - level - 1) * per_level + 4;
        bytes.extend_from_slice(
            &u32::try_from(field + inner)
                .expect("a few hundred KiB")
                .to_be_bytes(),
        );
        bytes.extend_from_slice(b"\x01tF");
    }
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    bytes
}

/// The payload of a method frame: class id, method id, arguments.
fn class_bytes(class: &AMQPClass) -> Vec<u8> {
    let context = WriteContext::from(Vec::new());
    gen_class(class)(context)
        .expect("a vector takes all bytes")
        .write
}
