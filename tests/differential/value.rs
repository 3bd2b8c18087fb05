//! Field values of argument and header tables: as scripts write them, and as bytes in the order they stand in.
//!
//! ```text
//! 5 (I)  5i8 5u8 5i16 5u16 5u32 5i64 (b B s u i l)  1.5 1.5f32 (d f)  "text" (S)  true (t)  @1700000000 (T)  void (V)
//! 2d12345 (D: scale, number)  x"bytes" (x)  [1, "a"] (A)  {key=1, other="b"} (F)
//! ```
//!
//! amq-protocol's tables are sorted and hold a key once, so they can't tell in which order a broker sends fields.

use std::fmt;

/// A table as it stands on the wire.
pub(crate) type Table = Vec<(String, Value)>;

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    /// Any of the whole numbers, with its type's letter.
    Number(u8, i64),
    Double(f64),
    Float(f32),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Boolean(bool),
    Timestamp(u64),
    Decimal(u8, u32),
    Void,
    Array(Vec<Self>),
    Table(Table),
}

/// Letters of whole numbers, with their suffix in scripts and their size in bytes.
pub(crate) const NUMBERS: [(u8, &str, usize); 7] = [
    (b'I', "", 4),
    (b'b', "i8", 1),
    (b'B', "u8", 1),
    (b's', "i16", 2),
    (b'u', "u16", 2),
    (b'i', "u32", 4),
    (b'l', "i64", 8),
];

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Number(kind, number) => {
                let size = NUMBERS.iter().find(|(letter, ..)| letter == kind);
                let size = size.expect("a whole number's letter").2;
                into.push(*kind);
                into.extend_from_slice(&number.to_be_bytes()[8 - size..]);
            }
            Self::Double(number) => put(into, b'd', &number.to_be_bytes()),
            Self::Float(number) => put(into, b'f', &number.to_be_bytes()),
            Self::Text(text) => put_long(into, b'S', text),
            Self::Bytes(bytes) => put_long(into, b'x', bytes),
            Self::Boolean(truth) => put(into, b't', &[u8::from(*truth)]),
            Self::Timestamp(seconds) => put(into, b'T', &seconds.to_be_bytes()),
            Self::Decimal(scale, number) => {
                put(into, b'D', &[*scale]);
                into.extend_from_slice(&number.to_be_bytes());
            }
            Self::Void => into.push(b'V'),
            Self::Array(values) => {
                let mut bytes = vec![];
                values.iter().for_each(|value| value.write(&mut bytes));
                put_long(into, b'A', &bytes);
            }
            Self::Table(table) => {
                into.push(b'F');
                write_table(table, into);
            }
        }
    }
}

pub(crate) fn write_table(table: &Table, into: &mut Vec<u8>) {
    let mut bytes = vec![];
    for (key, value) in table {
        let length = u8::try_from(key.len()).expect("a key has at most 255 bytes");
        put(&mut bytes, length, key.as_bytes());
        value.write(&mut bytes);
    }
    let length = u32::try_from(bytes.len()).expect("tables of scripts are short");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&bytes);
}

fn put(into: &mut Vec<u8>, first: u8, rest: &[u8]) {
    into.push(first);
    into.extend_from_slice(rest);
}

fn put_long(into: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("values of scripts are short");
    put(into, kind, &length.to_be_bytes());
    into.extend_from_slice(bytes);
}

/// Reads fields off the front of some bytes; `None` where they end too early or make no sense.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn number(&mut self, size: usize) -> Option<u64> {
        let bytes = self.take(size)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    }

    pub(crate) fn short_text(&mut self) -> Option<String> {
        let length = self.number(1)? as usize;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number(4)? as usize;
        self.take(length)
    }

    pub(crate) fn table(&mut self) -> Option<Table> {
        let mut fields = Reader(self.long()?);
        let mut table = vec![];
        while !fields.0.is_empty() {
            table.push((fields.short_text()?, fields.value()?));
        }
        Some(table)
    }

    fn value(&mut self) -> Option<Value> {
        let kind = self.take(1)?[0];
        Some(match kind {
            b't' => Value::Boolean(self.number(1)? != 0),
            b'd' => Value::Double(f64::from_bits(self.number(8)?)),
            b'f' => Value::Float(f32::from_bits(self.number(4)? as u32)),
            b'S' => Value::Text(self.long()?.to_vec()),
            b'x' => Value::Bytes(self.long()?.to_vec()),
            b'T' => Value::Timestamp(self.number(8)?),
            b'D' => Value::Decimal(self.number(1)? as u8, self.number(4)? as u32),
            b'V' => Value::Void,
            b'F' => Value::Table(self.table()?),
            b'A' => {
                let mut elements = Reader(self.long()?);
                let mut values = vec![];
                while !elements.0.is_empty() {
                    values.push(elements.value()?);
                }
                Value::Array(values)
            }
            _ => {
                let (_, suffix, size) = NUMBERS.iter().find(|(letter, ..)| *letter == kind)?;
                let bits = self.number(*size)?;
                let unused = 64 - 8 * size;
                let number = if suffix.starts_with('u') {
                    bits as i64
                } else {
                    (bits << unused) as i64 >> unused
                };
                Value::Number(kind, number)
            }
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(kind, number) => {
                let suffix = NUMBERS.iter().find(|(letter, ..)| letter == kind);
                write!(f, "{number}{}", suffix.map_or("", |(_, suffix, _)| suffix))
            }
            Self::Double(number) => write!(f, "{number:?}"),
            Self::Float(number) => write!(f, "{number:?}f32"),
            Self::Text(text) => write!(f, "\"{}\"", text.escape_ascii()),
            Self::Bytes(bytes) => write!(f, "x\"{}\"", bytes.escape_ascii()),
            Self::Boolean(truth) => write!(f, "{truth}"),
            Self::Timestamp(seconds) => write!(f, "@{seconds}"),
            Self::Decimal(scale, number) => write!(f, "{scale}d{number}"),
            Self::Void => f.write_str("void"),
            Self::Array(values) => {
                let values: Vec<_> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Self::Table(table) => write!(f, "{{{}}}", fields(table)),
        }
    }
}

/// `key=value` for each field, in order.
fn fields(table: &Table) -> String {
    let fields: Vec<_> = table
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    fields.join(", ")
}
