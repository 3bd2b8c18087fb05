//! Methods (AMQP 0-9-1, 4.2.4): class id, method id, arguments.
//!
//! Before `amq-protocol` decodes a method, its arguments are walked by the layout below: lengths must
//! fit, short strings must be UTF-8, tables must be well-formed and not too deep (the crate's parser
//! recurses), and nothing may follow. The table's bytes are kept, since the crate's own form of it
//! forgets order and duplicates.

use amq_protocol::frame::WriteContext;
use amq_protocol::protocol::{AMQPClass, gen_class, parse_class};

use super::error::ConnectionError;
use super::frame::{self, FrameKind};
use super::table::Table;
use crate::base::limits;

/// A decoded method.
#[derive(Debug)]
pub struct Method<'a> {
    /// The method as the crate reads it.
    pub class: AMQPClass,
    /// The bytes of its table argument; empty if it has none.
    pub table: Table<'a>,
    /// The bytes of all its arguments, for what the crate leaves out.
    pub arguments: &'a [u8],
}

/// Class and method id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MethodId {
    /// The class.
    pub class: u16,
    /// The method within it.
    pub method: u16,
}

impl MethodId {
    /// `channel.open`
    pub const CHANNEL_OPEN: Self = Self::new(20, 10);
    /// `channel.close-ok`
    pub const CHANNEL_CLOSE_OK: Self = Self::new(20, 41);
    /// The content methods that are read by [`content`](super::content).
    pub const PUBLISH: Self = Self::new(60, 40);
    /// `basic.ack`
    pub const ACK: Self = Self::new(60, 80);
    /// `basic.reject`
    pub const REJECT: Self = Self::new(60, 90);
    /// `basic.nack`
    pub const NACK: Self = Self::new(60, 120);

    const fn new(class: u16, method: u16) -> Self {
        Self { class, method }
    }

    /// The method of a payload; 0.0 if it is too short to name one.
    pub fn of(payload: &[u8]) -> Self {
        Self::read(payload).map(|(id, _)| id).unwrap_or_default()
    }

    /// The first four bytes of a method's payload.
    pub fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (id, arguments) = payload.split_first_chunk::<4>()?;
        let id = Self {
            class: u16::from_be_bytes([id[0], id[1]]),
            method: u16::from_be_bytes([id[2], id[3]]),
        };
        Some((id, arguments))
    }
}

/// Kinds of arguments. Consecutive bits share an octet, so a run of them is one `Bits`.
#[derive(Clone, Copy)]
enum Argument {
    Short,
    Long,
    LongLong,
    ShortString,
    LongString,
    Table,
    Bits,
}

/// What a client may send, besides the content methods; none for what it may not.
fn layout(id: MethodId) -> Option<&'static [Argument]> {
    use Argument::{Bits, Long, LongLong, LongString, Short, ShortString, Table};
    const CLOSE: &[Argument] = &[Short, ShortString, Short, Short];
    const EXCHANGE_BINDING: &[Argument] =
        &[Short, ShortString, ShortString, ShortString, Bits, Table];
    Some(match (id.class, id.method) {
        (10, 11) => &[Table, ShortString, LongString, ShortString],
        (10, 21) => &[LongString],
        (10, 31) => &[Short, Long, Short],
        (10, 40) => &[ShortString, ShortString, Bits],
        (10, 50) | (20, 40) => CLOSE,
        (10, 51) | (20, 41) | (90, 10 | 20 | 30) => &[],
        (10, 70) => &[LongString, ShortString],
        (20, 10) => &[ShortString],
        (20, 20 | 21) => &[Bits],
        (30, 10) => &[ShortString, Bits],
        (40, 10) => &[Short, ShortString, ShortString, Bits, Table],
        (40, 20) => &[Short, ShortString, Bits],
        (40, 30 | 40) => EXCHANGE_BINDING,
        (50, 10) => &[Short, ShortString, Bits, Table],
        (50, 20) => EXCHANGE_BINDING,
        (50, 30 | 40) => &[Short, ShortString, Bits],
        (50, 50) => &[Short, ShortString, ShortString, ShortString, Table],
        (60, 10) => &[Long, Short, Bits],
        (60, 20) => &[Short, ShortString, ShortString, Bits, Table],
        (60, 30) => &[ShortString, Bits],
        (60, 31) => &[ShortString],
        (60, 70) => &[Short, ShortString, Bits],
        (60, 80 | 90) => &[LongLong, Bits],
        (60, 100 | 110) => &[Bits],
        (60, 120) => &[LongLong, Bits],
        (85, 10) => &[Bits],
        _ => return None,
    })
}

/// Methods that only a server sends: known, and wrong.
fn is_server_method(id: MethodId) -> bool {
    match id.class {
        10 => matches!(id.method, 10 | 20 | 30 | 41 | 60 | 61 | 71),
        20 => id.method == 11,
        30 => id.method == 11,
        40 => matches!(id.method, 11 | 21 | 31 | 51),
        50 => matches!(id.method, 11 | 21 | 31 | 41 | 51),
        60 => matches!(id.method, 11 | 21 | 50 | 60 | 71 | 72 | 111),
        85 => id.method == 11,
        90 => matches!(id.method, 11 | 21 | 31),
        _ => false,
    }
}

/// Decodes a method from a frame's payload.
pub fn decode(payload: &[u8]) -> Result<Method<'_>, ConnectionError> {
    let (id, arguments) = MethodId::read(payload)
        .ok_or(ConnectionError::Syntax("method frame of less than 4 bytes"))?;
    let Some(layout) = layout(id) else {
        return Err(if is_server_method(id) {
            ConnectionError::CommandInvalid("unimplemented method")
        } else {
            ConnectionError::UnknownMethod {
                class: id.class,
                method: id.method,
            }
        });
    };
    let mut reader = Reader(arguments);
    let mut table = Table::default();
    for argument in layout {
        match argument {
            Argument::Short => reader.skip(2)?,
            Argument::Long => reader.skip(4)?,
            Argument::LongLong => reader.skip(8)?,
            Argument::Bits => reader.skip(1)?,
            Argument::ShortString => {
                reader.short_string()?;
            }
            Argument::LongString => {
                reader.long_string()?;
            }
            Argument::Table => {
                let bytes = reader.long_string()?;
                Table::validate(bytes, limits::TABLE_DEPTH_MAX)?;
                table = Table::from_validated(bytes);
            }
        }
    }
    if !reader.0.is_empty() {
        return Err(ConnectionError::Syntax("bytes after the last argument"));
    }
    let (_, class) =
        parse_class(payload).map_err(|_| ConnectionError::Syntax("arguments can't be decoded"))?;
    Ok(Method {
        class,
        table,
        arguments,
    })
}

/// Appends a method frame.
pub fn encode(out: &mut Vec<u8>, channel: u16, class: &AMQPClass) {
    let start = frame::begin(out, FrameKind::Method, channel);
    let context = WriteContext {
        write: std::mem::take(out),
        position: 0,
    };
    *out = gen_class(class)(context)
        .expect("our own methods have strings that fit, and memory takes every write")
        .write;
    frame::end(out, start);
}

/// Reads arguments front to back.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    const TRUNCATED: ConnectionError = ConnectionError::Syntax("arguments are truncated");

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], ConnectionError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Self::TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, len: usize) -> Result<(), ConnectionError> {
        self.take(len).map(|_| ())
    }

    pub(crate) fn octet(&mut self) -> Result<u8, ConnectionError> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn long_long(&mut self) -> Result<u64, ConnectionError> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(Self::TRUNCATED)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// A short string; anything but UTF-8 is refused, as RabbitMQ does.
    pub(crate) fn short_string(&mut self) -> Result<&'a str, ConnectionError> {
        let len = usize::from(self.octet()?);
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| ConnectionError::ShortStringUtf8)
    }

    fn long_string(&mut self) -> Result<&'a [u8], ConnectionError> {
        let len = self.take(4)?;
        let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]);
        self.take(len as usize)
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::queue;
    use amq_protocol::types::{AMQPValue, FieldTable};
    use proptest::prelude::*;

    use super::*;

    fn declare() -> AMQPClass {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(7));
        AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: "orders".into(),
            durable: true,
            arguments,
            ..queue::Declare::default()
        }))
    }

    fn encoded() -> Vec<u8> {
        let mut out = b"before".to_vec();
        encode(&mut out, 3, &declare());
        out.split_off(6)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let bytes = encoded();
        let frame = frame::split(&bytes, 1000)
            .expect("valid")
            .expect("complete");
        let method = decode(frame.payload).expect("it is valid");
        assert_eq!(frame.channel, 3);
        assert_eq!(method.class, declare());
        assert_eq!(method.table.as_bytes(), b"\x0cx-max-lengthI\0\0\0\x07");
    }

    #[test]
    fn a_method_that_is_cut_short_or_too_long_is_a_syntax_error() {
        let bytes = encoded();
        let payload = &bytes[frame::HEAD..bytes.len() - 1];
        for len in 0..payload.len() {
            let error = decode(&payload[..len]).expect_err("it is truncated");
            assert_eq!(error.code().0, 502, "{error} at {len}");
        }
        let longer = [payload, b"x"].concat();
        assert_eq!(decode(&longer).expect_err("it is too long").code().0, 502);
    }

    #[test]
    fn what_only_a_server_may_send_is_invalid_and_what_nobody_knows_is_unknown() {
        let deliver = decode(&[0, 60, 0, 60]).expect_err("clients don't deliver");
        assert_eq!(deliver.code().0, 503);
        let unknown = decode(&[0, 99, 0, 1]).expect_err("there is no class 99");
        assert_eq!(
            unknown,
            ConnectionError::UnknownMethod {
                class: 99,
                method: 1
            }
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&payload);
        }

        #[test]
        fn mutated_methods_are_decoded_or_refused(at in 0usize..40, byte in any::<u8>()) {
            let bytes = encoded();
            let mut payload = bytes[frame::HEAD..bytes.len() - 1].to_vec();
            let at = at % payload.len();
            payload[at] = byte;
            let _ = decode(&payload);
        }
    }
}
