//! The properties in a content header as raw bytes: walked once to check their lengths, and read
//! field by field only where somebody asks.
//!
//! ```text
//! +---------------------------------------------------+----------------------------------+
//! | flags, 2 bytes                                    | the values whose flags are set,  |
//! | bit 15 content type … bit 2 cluster id, 1, 0 = 0  | in the order of their flags      |
//! +---------------------------------------------------+----------------------------------+
//! ```
//!
//! AMQP 0-9-1, section 4.2.6.1. Bit 0 would announce another word of flags, which class basic doesn't
//! have: it is refused. Bit 1 means nothing and is ignored, as by RabbitMQ.

use crate::amqp::error::ConnectionError;
use crate::amqp::table::{Table, TableWriter};
use crate::base::limits::TABLE_DEPTH_MAX;

/// Flags and values of class basic's fourteen properties.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Properties<'a>(&'a [u8]);

/// What a property's value looks like.
#[derive(Clone, Copy)]
enum Shape {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

const FLAGS: usize = 2;
const CONTINUATION: u16 = 1;
/// Bits of the flags that stand for properties.
const KNOWN: u16 = 0xfffc;

/// Positions of the properties, counted from the highest bit.
mod at {
    pub(super) const CONTENT_TYPE: u32 = 0;
    pub(super) const CONTENT_ENCODING: u32 = 1;
    pub(super) const HEADERS: u32 = 2;
    pub(super) const DELIVERY_MODE: u32 = 3;
    pub(super) const PRIORITY: u32 = 4;
    pub(super) const CORRELATION_ID: u32 = 5;
    pub(super) const REPLY_TO: u32 = 6;
    pub(super) const EXPIRATION: u32 = 7;
    pub(super) const MESSAGE_ID: u32 = 8;
    pub(super) const TIMESTAMP: u32 = 9;
    pub(super) const TYPE: u32 = 10;
    pub(super) const USER_ID: u32 = 11;
    pub(super) const APP_ID: u32 = 12;
    pub(super) const CLUSTER_ID: u32 = 13;
}

fn shape(position: u32) -> Shape {
    match position {
        at::HEADERS => Shape::Table,
        at::DELIVERY_MODE | at::PRIORITY => Shape::Octet,
        at::TIMESTAMP => Shape::Timestamp,
        _ => Shape::ShortString,
    }
}

/// Checks flags and lengths, and the table of headers in depth. Texts may be any bytes, as with RabbitMQ.
///
/// # Errors
/// `Syntax` if the bytes are too few, too many or the flags go on; what [`Table::validate`] says.
pub fn validate(bytes: &[u8]) -> Result<(), ConnectionError> {
    let (flags, mut rest) = split_flags(bytes).ok_or(TRUNCATED)?;
    if flags & CONTINUATION != 0 {
        return Err(ConnectionError::Syntax(
            "property flags of class basic don't go on",
        ));
    }
    let mut left = flags & KNOWN;
    while left != 0 {
        let position = left.leading_zeros();
        left &= !(0x8000 >> position);
        let (value, after) = split(rest, shape(position)).ok_or(TRUNCATED)?;
        if position == at::HEADERS {
            Table::validate(value, TABLE_DEPTH_MAX)?;
        }
        rest = after;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(ConnectionError::Syntax(
            "content header is longer than its properties",
        ))
    }
}

const TRUNCATED: ConnectionError = ConnectionError::Syntax("content header ends within a property");

impl<'a> Properties<'a> {
    /// Takes bytes that [`validate`] has passed. Others do no harm: what can't be read isn't there.
    pub fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Flags and values, as they came.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// MIME type of the body.
    pub fn content_type(self) -> Option<&'a [u8]> {
        self.find(at::CONTENT_TYPE)
    }

    /// MIME encoding of the body.
    pub fn content_encoding(self) -> Option<&'a [u8]> {
        self.find(at::CONTENT_ENCODING)
    }

    /// The application's headers.
    pub fn headers(self) -> Option<Table<'a>> {
        self.find(at::HEADERS).map(Table::from_validated)
    }

    /// 2 asks for persistence.
    pub fn delivery_mode(self) -> Option<u8> {
        self.find_octet(at::DELIVERY_MODE)
    }

    /// Whether the publisher asked for delivery mode 2.
    pub fn is_persistent(self) -> bool {
        self.delivery_mode() == Some(2)
    }

    /// 0 to 255; queues without priorities ignore it.
    pub fn priority(self) -> Option<u8> {
        self.find_octet(at::PRIORITY)
    }

    /// The application's identifier of the request that this is an answer to.
    pub fn correlation_id(self) -> Option<&'a [u8]> {
        self.find(at::CORRELATION_ID)
    }

    /// The queue that answers should go to.
    pub fn reply_to(self) -> Option<&'a [u8]> {
        self.find(at::REPLY_TO)
    }

    /// Time to live in milliseconds, as decimal digits.
    pub fn expiration(self) -> Option<&'a [u8]> {
        self.find(at::EXPIRATION)
    }

    /// The application's identifier of the message.
    pub fn message_id(self) -> Option<&'a [u8]> {
        self.find(at::MESSAGE_ID)
    }

    /// When the application made it, in seconds since 1970.
    pub fn timestamp(self) -> Option<u64> {
        let bytes = self.find(at::TIMESTAMP)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }

    /// The application's name for this sort of message (`type` in AMQP).
    pub fn message_type(self) -> Option<&'a [u8]> {
        self.find(at::TYPE)
    }

    /// The user who published it.
    pub fn user_id(self) -> Option<&'a [u8]> {
        self.find(at::USER_ID)
    }

    /// The application that published it.
    pub fn app_id(self) -> Option<&'a [u8]> {
        self.find(at::APP_ID)
    }

    /// Deprecated by AMQP 0-9-1, and kept.
    pub fn cluster_id(self) -> Option<&'a [u8]> {
        self.find(at::CLUSTER_ID)
    }

    fn find_octet(self, position: u32) -> Option<u8> {
        self.find(position)?.first().copied()
    }

    /// Steps over the values before it: none at all if its flag is not set, and in the common case of
    /// a delivery mode alone, none either.
    fn find(self, position: u32) -> Option<&'a [u8]> {
        let (flags, mut rest) = split_flags(self.0)?;
        let wanted = 0x8000u16 >> position;
        if flags & wanted == 0 {
            return None;
        }
        let mut before = flags & KNOWN & !(wanted | (wanted - 1));
        while before != 0 {
            let first = before.leading_zeros();
            before &= !(0x8000 >> first);
            rest = split(rest, shape(first))?.1;
        }
        Some(split(rest, shape(position))?.0)
    }
}

/// The properties with another `reply-to` in place of theirs; none if they have none.
pub fn with_reply_to(properties: Properties<'_>, reply_to: &[u8]) -> Option<Vec<u8>> {
    properties.reply_to()?;
    let len = u8::try_from(reply_to.len()).ok()?;
    let value = [&[len], reply_to].concat();
    Some(replaced(properties, &[(at::REPLY_TO, Some(&value))]))
}

/// The properties with these headers in place of theirs.
pub fn with_headers(properties: Properties<'_>, headers: Table<'_>) -> Vec<u8> {
    replaced(properties, &[(at::HEADERS, Some(&sized(headers)))])
}

/// The same, and without expiration.
pub fn with_headers_for_ever(properties: Properties<'_>, headers: Table<'_>) -> Vec<u8> {
    let headers = sized(headers);
    replaced(
        properties,
        &[(at::HEADERS, Some(&headers)), (at::EXPIRATION, None)],
    )
}

/// The properties with that time to live in place of theirs, in milliseconds.
pub fn with_expiration(properties: Properties<'_>, ms: u64) -> Vec<u8> {
    let digits = ms.to_string();
    let value = [&[digits.len() as u8], digits.as_bytes()].concat();
    replaced(properties, &[(at::EXPIRATION, Some(&value))])
}

/// The properties with the header `x-delivery-count`: how often the message came back.
pub fn with_delivery_count(properties: Properties<'_>, count: u32) -> Vec<u8> {
    const NAME: &str = "x-delivery-count";
    let headers = properties.headers().unwrap_or_default();
    let headers = TableWriter::copy_without(headers, &[NAME]).long(NAME, i64::from(count));
    with_headers(properties, headers.as_table())
}

fn sized(table: Table<'_>) -> Vec<u8> {
    let bytes = table.as_bytes();
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// The properties with some of them replaced by others, as they are encoded, or left out.
fn replaced(properties: Properties<'_>, changes: &[(u32, Option<&[u8]>)]) -> Vec<u8> {
    let Some((flags, mut rest)) = split_flags(properties.0) else {
        return properties.0.to_vec();
    };
    let mut out = vec![0; FLAGS];
    let mut kept = flags & !KNOWN;
    for position in 0..KNOWN.count_ones() {
        let flag = 0x8000 >> position;
        let before = rest;
        if flags & flag != 0
            && let Some((_, after)) = split(rest, shape(position))
        {
            rest = after;
        }
        let own = &before[..before.len() - rest.len()];
        let change = changes.iter().find(|change| change.0 == position);
        let value = match change {
            Some((_, value)) => *value,
            None => (flags & flag != 0).then_some(own),
        };
        if let Some(value) = value {
            kept |= flag;
            out.extend_from_slice(value);
        }
    }
    out[..FLAGS].copy_from_slice(&kept.to_be_bytes());
    out
}

/// The properties without the headers of that name, however many; none if there is no table of headers.
pub fn without_header(properties: Properties<'_>, name: &str) -> Option<Vec<u8>> {
    let headers = TableWriter::copy_without(properties.headers()?, &[name]);
    Some(with_headers(properties, headers.as_table()))
}

fn split_flags(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (flags, rest) = bytes.split_first_chunk::<FLAGS>()?;
    Some((u16::from_be_bytes(*flags), rest))
}

/// Takes a value off the front, without the length that stands before it.
fn split(bytes: &[u8], shape: Shape) -> Option<(&[u8], &[u8])> {
    match shape {
        Shape::Octet => bytes.split_at_checked(1),
        Shape::Timestamp => bytes.split_at_checked(8),
        Shape::ShortString => {
            let (len, rest) = bytes.split_first()?;
            rest.split_at_checked(usize::from(*len))
        }
        Shape::Table => {
            let (len, rest) = bytes.split_first_chunk::<4>()?;
            rest.split_at_checked(u32::from_be_bytes(*len) as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::table::{TableWriter, Value};

    fn short(out: &mut Vec<u8>, text: &[u8]) {
        out.push(text.len() as u8);
        out.extend_from_slice(text);
    }

    /// All properties whose bits are set in `flags`, each with a value of its own.
    fn encode(flags: u16) -> Vec<u8> {
        let mut out = flags.to_be_bytes().to_vec();
        for position in 0..14 {
            if flags & (0x8000 >> position) == 0 {
                continue;
            }
            match shape(position) {
                Shape::Octet => out.push(2),
                Shape::Timestamp => out.extend_from_slice(&u64::from(position).to_be_bytes()),
                Shape::ShortString => short(&mut out, format!("text {position}").as_bytes()),
                Shape::Table => {
                    let table = TableWriter::new().signed_int("n", 7).into_bytes();
                    out.extend_from_slice(&(table.len() as u32).to_be_bytes());
                    out.extend_from_slice(&table);
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_property_is_found_whatever_stands_before_it(flags in 0u16..0x4000) {
            let flags = flags << 2;
            let bytes = encode(flags);
            prop_assert_eq!(validate(&bytes), Ok(()));
            let properties = Properties::from_validated(&bytes);
            let has = |position: u32| flags & (0x8000 >> position) != 0;
            let text = |position: u32| has(position).then(|| format!("text {position}").into_bytes());
            let texts = [
                (properties.content_type(), 0), (properties.content_encoding(), 1),
                (properties.correlation_id(), 5), (properties.reply_to(), 6),
                (properties.expiration(), 7), (properties.message_id(), 8),
                (properties.message_type(), 10), (properties.user_id(), 11),
                (properties.app_id(), 12), (properties.cluster_id(), 13),
            ];
            for (found, position) in texts {
                prop_assert_eq!(found.map(<[u8]>::to_vec), text(position));
            }
            prop_assert_eq!(properties.is_persistent(), has(3));
            prop_assert_eq!(properties.priority(), has(4).then_some(2));
            prop_assert_eq!(properties.timestamp(), has(9).then_some(9));
            let header = properties.headers().and_then(|headers| headers.get("n"));
            prop_assert_eq!(header, has(2).then_some(Value::SignedInt(7)));
        }

        #[test]
        fn every_cut_and_every_byte_too_many_is_refused(flags in 0u16..0x4000, cut in 1usize..9) {
            let bytes = encode(flags << 2);
            let cut = bytes.len().saturating_sub(cut);
            prop_assert!(validate(&bytes[..cut]).is_err());
            let longer = [&bytes[..], b"x"].concat();
            prop_assert!(validate(&longer).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = validate(&bytes);
            let properties = Properties::from_validated(&bytes);
            let _ = (properties.cluster_id(), properties.headers(), properties.timestamp());
        }
    }

    #[test]
    fn flags_that_go_on_are_refused_and_bit_1_is_ignored() {
        assert!(validate(&[0, 1]).is_err());
        assert_eq!(validate(&[0, 2]), Ok(()));
    }

    #[test]
    fn a_reply_to_is_exchanged_and_its_neighbours_stay() {
        // correlation-id "c", reply-to "here", message-id "m"
        let bytes = [&[0x06, 0x80, 1][..], b"c", &[4], b"here", &[1], b"m"].concat();
        validate(&bytes).expect("they are well-formed");
        let properties = Properties::from_validated(&bytes);
        let told = with_reply_to(properties, b"over there").expect("it has one");
        validate(&told).expect("they still are");
        let told = Properties::from_validated(&told);
        assert_eq!(told.correlation_id(), Some(&b"c"[..]));
        assert_eq!(told.reply_to(), Some(&b"over there"[..]));
        assert_eq!(told.message_id(), Some(&b"m"[..]));
        assert_eq!(
            with_reply_to(Properties::from_validated(&[0, 0]), b"x"),
            None
        );
    }

    #[test]
    fn a_header_is_taken_out_and_the_rest_stays_byte_for_byte() {
        let headers = TableWriter::new()
            .long_string("a", "1")
            .long_string("BCC", "secret")
            .long("b", 2)
            .bool("BCC", true);
        let mut bytes = 0x3800u16.to_be_bytes().to_vec();
        let table = headers.into_bytes();
        bytes.extend_from_slice(&(table.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&table);
        bytes.extend_from_slice(&[2, 7]);
        validate(&bytes).expect("well-formed");
        let out = without_header(Properties::from_validated(&bytes), "BCC").expect("has headers");
        validate(&out).expect("still well-formed");
        let left = Properties::from_validated(&out);
        let expected = TableWriter::new().long_string("a", "1").long("b", 2);
        assert_eq!(left.headers(), Some(expected.as_table()));
        assert_eq!((left.delivery_mode(), left.priority()), (Some(2), Some(7)));
        let none = Properties::from_validated(&[0x10, 0, 2]);
        assert_eq!(without_header(none, "BCC"), None);
    }
}
