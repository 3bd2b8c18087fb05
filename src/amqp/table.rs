//! AMQP field tables as raw bytes: checked once at the door, kept as they came, decoded only where
//! somebody asks for a field.
//!
//! ```text
//! field    +-------------+---------------+----------+---------+
//!          | name length | name          | type tag | value   |
//!          | 1 byte      | 0..=255 bytes | 1 byte   | by type |
//!          +-------------+---------------+----------+---------+
//! value    t b B 1 byte | s u 2 | I i f 4 | l L d T 8 | D 1 + 4 | V none
//!          S x F A: a length of 4 bytes, then as many bytes (F: fields, A: values with their tags)
//! ```
//!
//! All numbers are big-endian. The tags mean what they mean to RabbitMQ ("AMQP 0-9-1 Complete Reference",
//! errata 3): `s` is a signed 16-bit number and not a short string, both `l` and `L` are signed 64-bit.

mod equality;
mod print;
#[cfg(test)]
mod tests;
mod writer;

use crate::amqp::error::ConnectionError;
use crate::base::limits::TABLE_DEPTH_MAX;

pub use writer::{ArrayWriter, TableWriter};

/// The fields of a table, without the four bytes of length that stand before them on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Table<'a>(&'a [u8]);

impl<'a> Table<'a> {
    /// Takes bytes that [`Table::validate`] has passed. Others do no harm: the fields end where the
    /// bytes stop making sense.
    pub fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Checks and takes the bytes.
    ///
    /// # Errors
    /// As [`Table::validate`], with the broker's own bound on the depth.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ConnectionError> {
        Self::validate(bytes, TABLE_DEPTH_MAX)?;
        Ok(Self(bytes))
    }

    /// Checks every length and type tag, at every level. The table itself is level 1; `depth_max`
    /// above [`TABLE_DEPTH_MAX`] counts as that.
    ///
    /// # Errors
    /// `Syntax` for a truncated table or an unknown type, `TableDepth` for one nested too deep.
    pub fn validate(bytes: &[u8], depth_max: usize) -> Result<(), ConnectionError> {
        let depth_max = depth_max.min(TABLE_DEPTH_MAX);
        let mut outer = [(&bytes[..0], Shape::Table); TABLE_DEPTH_MAX];
        let mut depth = 0;
        let (mut rest, mut shape) = (bytes, Shape::Table);
        loop {
            if rest.is_empty() {
                if depth == 0 {
                    return Ok(());
                }
                depth -= 1;
                (rest, shape) = outer[depth];
                continue;
            }
            if shape == Shape::Table {
                rest = split_name(rest)?.1;
            }
            let value;
            (value, rest) = split_value(rest)?;
            let inner = match value {
                Value::Table(table) => (table.0, Shape::Table),
                Value::Array(array) => (array.as_bytes(), Shape::Array),
                _ => continue,
            };
            if depth + 1 >= depth_max {
                return Err(ConnectionError::TableDepth(depth_max));
            }
            outer[depth] = (rest, shape);
            depth += 1;
            (rest, shape) = inner;
        }
    }

    /// The bytes of the fields.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there are no fields.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in the order they came.
    pub fn fields(self) -> Fields<'a> {
        Fields(self.0)
    }

    /// The value of the first field of that name.
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.fields()
            .find(|(field, _)| *field == name.as_bytes())
            .map(|(_, value)| value)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Table,
    Array,
}

/// Iterates over the fields of a table. It ends at the first byte that makes no sense.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The bytes of the fields that are still to come.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let (name, rest) = split_name(bytes).ok()?;
        let (value, rest) = split_value(rest).ok()?;
        self.0 = rest;
        Some((name, value))
    }
}

fn split_name(bytes: &[u8]) -> Result<(&[u8], &[u8]), ConnectionError> {
    bytes
        .split_first()
        .and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)))
        .ok_or(ConnectionError::Syntax(
            "table ends within the name of a field",
        ))
}

/// One value of a table or an array, borrowed from its bytes. The names are those of RabbitMQ's
/// types, which its error texts print.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs, reason = "the variants are AMQP's field types")]
pub enum Value<'a> {
    Bool(bool),
    Byte(i8),
    UnsignedByte(u8),
    Short(i16),
    UnsignedShort(u16),
    SignedInt(i32),
    UnsignedInt(u32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// `value` divided by ten to the power of `scale`.
    Decimal {
        scale: u8,
        value: u32,
    },
    LongString(&'a [u8]),
    Binary(&'a [u8]),
    Array(Array<'a>),
    /// Seconds since 1970.
    Timestamp(u64),
    Table(Table<'a>),
    Void,
}

/// The values of an array, one behind the other, each with its type tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Array<'a>(&'a [u8]);

impl<'a> Array<'a> {
    /// Takes bytes that are part of a validated table.
    pub fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes of the values.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The values in their order, up to the first byte that makes no sense.
    pub fn values(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (value, after) = split_value(std::mem::take(&mut rest)).ok()?;
            rest = after;
            Some(value)
        })
    }
}

/// Takes a type tag and its value off the front.
fn split_value(bytes: &[u8]) -> Result<(Value<'_>, &[u8]), ConnectionError> {
    let Some((&tag, rest)) = bytes.split_first() else {
        return Err(TRUNCATED);
    };
    Ok(match tag {
        b't' => fixed(rest, |[byte]| Value::Bool(byte != 0))?,
        b'b' => fixed(rest, |bytes| Value::Byte(i8::from_be_bytes(bytes)))?,
        b'B' => fixed(rest, |[byte]| Value::UnsignedByte(byte))?,
        b's' => fixed(rest, |bytes| Value::Short(i16::from_be_bytes(bytes)))?,
        b'u' => fixed(rest, |bytes| {
            Value::UnsignedShort(u16::from_be_bytes(bytes))
        })?,
        b'I' => fixed(rest, |bytes| Value::SignedInt(i32::from_be_bytes(bytes)))?,
        b'i' => fixed(rest, |bytes| Value::UnsignedInt(u32::from_be_bytes(bytes)))?,
        b'l' | b'L' => fixed(rest, |bytes| Value::Long(i64::from_be_bytes(bytes)))?,
        b'f' => fixed(rest, |bytes| Value::Float(f32::from_be_bytes(bytes)))?,
        b'd' => fixed(rest, |bytes| Value::Double(f64::from_be_bytes(bytes)))?,
        b'T' => fixed(rest, |bytes| Value::Timestamp(u64::from_be_bytes(bytes)))?,
        b'D' => fixed(rest, |[scale, value @ ..]: [u8; 5]| Value::Decimal {
            scale,
            value: u32::from_be_bytes(value),
        })?,
        b'V' => (Value::Void, rest),
        b'S' => sized(rest, Value::LongString)?,
        b'x' => sized(rest, Value::Binary)?,
        b'F' => sized(rest, |bytes| Value::Table(Table(bytes)))?,
        b'A' => sized(rest, |bytes| Value::Array(Array(bytes)))?,
        _ => {
            return Err(ConnectionError::Syntax(
                "table holds a value of unknown type",
            ));
        }
    })
}

const TRUNCATED: ConnectionError = ConnectionError::Syntax("table ends within a value");

fn fixed<'a, const LEN: usize>(
    bytes: &'a [u8],
    decode: impl FnOnce([u8; LEN]) -> Value<'a>,
) -> Result<(Value<'a>, &'a [u8]), ConnectionError> {
    let (head, rest) = bytes.split_first_chunk::<LEN>().ok_or(TRUNCATED)?;
    Ok((decode(*head), rest))
}

fn sized<'a>(
    bytes: &'a [u8],
    wrap: impl FnOnce(&'a [u8]) -> Value<'a>,
) -> Result<(Value<'a>, &'a [u8]), ConnectionError> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(TRUNCATED)?;
    let len = u32::from_be_bytes(*len) as usize;
    let (value, rest) = rest.split_at_checked(len).ok_or(TRUNCATED)?;
    Ok((wrap(value), rest))
}

impl<'a> Value<'a> {
    /// RabbitMQ's name of the type, as its error texts print it.
    pub fn rabbit_type_name(self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Byte(_) => "byte",
            Self::UnsignedByte(_) => "unsignedbyte",
            Self::Short(_) => "short",
            Self::UnsignedShort(_) => "unsignedshort",
            Self::SignedInt(_) => "signedint",
            Self::UnsignedInt(_) => "unsignedint",
            Self::Long(_) => "long",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongString(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// The number, if it is of one of the seven types that RabbitMQ takes where it wants an integer.
    pub fn as_integer(self) -> Option<i64> {
        Some(match self {
            Self::Byte(value) => value.into(),
            Self::UnsignedByte(value) => value.into(),
            Self::Short(value) => value.into(),
            Self::UnsignedShort(value) => value.into(),
            Self::SignedInt(value) => value.into(),
            Self::UnsignedInt(value) => value.into(),
            Self::Long(value) => value,
            _ => return None,
        })
    }

    fn whole(self) -> Option<i128> {
        match self {
            Self::Timestamp(value) => Some(value.into()),
            _ => self.as_integer().map(i128::from),
        }
    }

    fn fraction(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value.into()),
            Self::Double(value) => Some(value),
            _ => None,
        }
    }

    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::LongString(bytes) | Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }
}
