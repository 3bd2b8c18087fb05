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

use std::cmp::Ordering;
use std::fmt;

use crate::amqp::error::ConnectionError;
use crate::base::limits::TABLE_DEPTH_MAX;

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

/// Writes a table field by field.
///
/// ```text
/// TableWriter::new().bool("basic.nack", true).long_string("product", "Leveret")
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableWriter(Vec<u8>);

impl TableWriter {
    /// A table without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields of another table but those of these names, byte for byte.
    pub fn copy_without(table: Table<'_>, names: &[&str]) -> Self {
        let mut copy = Vec::with_capacity(table.as_bytes().len());
        let mut fields = table.fields();
        let mut before = fields.rest();
        while let Some((name, _)) = fields.next() {
            let after = fields.rest();
            if !names.iter().any(|one| one.as_bytes() == name) {
                copy.extend_from_slice(&before[..before.len() - after.len()]);
            }
            before = after;
        }
        Self(copy)
    }

    /// Adds a field of any type.
    ///
    /// # Panics
    /// If the name is longer than 255 bytes.
    #[must_use]
    pub fn field(mut self, name: &str, value: Value<'_>) -> Self {
        let len = u8::try_from(name.len()).expect("names of fields have at most 255 bytes");
        self.0.push(len);
        self.0.extend_from_slice(name.as_bytes());
        write_value(&mut self.0, value);
        self
    }

    /// Adds a boolean.
    #[must_use]
    pub fn bool(self, name: &str, value: bool) -> Self {
        self.field(name, Value::Bool(value))
    }

    /// Adds a text.
    #[must_use]
    pub fn long_string(self, name: &str, value: &str) -> Self {
        self.field(name, Value::LongString(value.as_bytes()))
    }

    /// Adds a signed 32-bit number.
    #[must_use]
    pub fn signed_int(self, name: &str, value: i32) -> Self {
        self.field(name, Value::SignedInt(value))
    }

    /// Adds a signed 64-bit number.
    #[must_use]
    pub fn long(self, name: &str, value: i64) -> Self {
        self.field(name, Value::Long(value))
    }

    /// Adds a table within the table.
    #[must_use]
    pub fn table(self, name: &str, value: &Self) -> Self {
        self.field(name, Value::Table(value.as_table()))
    }

    /// What was written so far.
    pub fn as_table(&self) -> Table<'_> {
        Table(&self.0)
    }

    /// The bytes of the fields, without the length before them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
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

/// Writes an array value by value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ArrayWriter(Vec<u8>);

impl ArrayWriter {
    /// An array without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value of any type.
    #[must_use]
    pub fn value(mut self, value: Value<'_>) -> Self {
        write_value(&mut self.0, value);
        self
    }

    /// What was written so far.
    pub fn as_array(&self) -> Array<'_> {
        Array(&self.0)
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

/// Appends the type tag and the value.
fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Bool(value) => tagged(out, b't', &[u8::from(value)]),
        Value::Byte(value) => tagged(out, b'b', &value.to_be_bytes()),
        Value::UnsignedByte(value) => tagged(out, b'B', &[value]),
        Value::Short(value) => tagged(out, b's', &value.to_be_bytes()),
        Value::UnsignedShort(value) => tagged(out, b'u', &value.to_be_bytes()),
        Value::SignedInt(value) => tagged(out, b'I', &value.to_be_bytes()),
        Value::UnsignedInt(value) => tagged(out, b'i', &value.to_be_bytes()),
        Value::Long(value) => tagged(out, b'l', &value.to_be_bytes()),
        Value::Float(value) => tagged(out, b'f', &value.to_be_bytes()),
        Value::Double(value) => tagged(out, b'd', &value.to_be_bytes()),
        Value::Timestamp(value) => tagged(out, b'T', &value.to_be_bytes()),
        Value::Decimal { scale, value } => {
            tagged(out, b'D', &[scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::Void => out.push(b'V'),
        Value::LongString(bytes) => tagged_sized(out, b'S', bytes),
        Value::Binary(bytes) => tagged_sized(out, b'x', bytes),
        Value::Table(table) => tagged_sized(out, b'F', table.0),
        Value::Array(array) => tagged_sized(out, b'A', array.0),
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn tagged_sized(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("values are smaller than a frame");
    tagged(out, tag, &len.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// How numbers of different types are told equal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// 1 equals 1.0 (Erlang's `==`).
    ByValue,
    /// A whole number never equals a fraction (Erlang's `=:=`).
    ByKind,
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

    /// Whether the two match for the headers exchange: by value alone, whatever the types, as
    /// `==` of RabbitMQ's `rabbit_exchange_type_headers`. 1 equals 1.0, a text equals the same bytes.
    pub fn matches(self, other: Value<'_>) -> bool {
        same(self, other, Numbers::ByValue, TABLE_DEPTH_MAX)
    }

    /// Whether the two are the same argument on a redeclaration: by value within one class of
    /// types (`rabbit_misc:assert_args_equivalence`; all integers and decimals are one class,
    /// float and double another), and exactly across classes.
    pub fn is_equivalent(self, other: Value<'_>) -> bool {
        let numbers = if self.class() == other.class() {
            Numbers::ByValue
        } else {
            Numbers::ByKind
        };
        same(self, other, numbers, TABLE_DEPTH_MAX)
    }

    fn class(self) -> &'static str {
        match self {
            Self::Decimal { .. } => "int",
            Self::Float(_) | Self::Double(_) => "float",
            _ if self.as_integer().is_some() => "int",
            _ => self.rabbit_type_name(),
        }
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

/// The recursion is as deep as the tables are, and `depth` bounds it should they be unchecked.
fn same(one: Value<'_>, other: Value<'_>, numbers: Numbers, depth: usize) -> bool {
    if let (Some(one), Some(other)) = (one.whole(), other.whole()) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (one.fraction(), other.fraction()) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (one.bytes(), other.bytes()) {
        return one == other;
    }
    if numbers == Numbers::ByValue
        && let (Some(whole), Some(fraction)) = (
            one.whole().or_else(|| other.whole()),
            one.fraction().or_else(|| other.fraction()),
        )
    {
        return compare(whole, fraction) == Some(Ordering::Equal);
    }
    match (one, other) {
        (Value::Table(one), Value::Table(other)) => same_fields(one, other, numbers, depth),
        (Value::Array(one), Value::Array(other)) => same_values(one, other, numbers, depth),
        _ => one == other,
    }
}

/// Exactly: a 64-bit number isn't rounded to a fraction first.
fn compare(whole: i128, fraction: f64) -> Option<Ordering> {
    if fraction.is_nan() {
        return None;
    }
    // Beyond 2^100 the cast saturates far outside of any whole number that a table can hold.
    let order = whole.cmp(&(fraction.trunc() as i128));
    Some(order.then(0.0.partial_cmp(&fraction.fract())?))
}

fn same_fields(one: Table<'_>, other: Table<'_>, numbers: Numbers, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    let (mut ones, mut others) = (one.fields(), other.fields());
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some((name, one)), Some((other_name, other)))
                if name == other_name && same_typed(one, other, numbers, depth) => {}
            _ => return false,
        }
    }
}

fn same_values(one: Array<'_>, other: Array<'_>, numbers: Numbers, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    let (mut ones, mut others) = (one.values(), other.values());
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if same_typed(one, other, numbers, depth) => {}
            _ => return false,
        }
    }
}

/// Inside of tables and arrays RabbitMQ keeps the type beside the value, and both must agree.
fn same_typed(one: Value<'_>, other: Value<'_>, numbers: Numbers, depth: usize) -> bool {
    one.rabbit_type_name() == other.rabbit_type_name() && same(one, other, numbers, depth)
}

/// As RabbitMQ prints a value in its error texts: a text as it is, anything else as an Erlang term.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            None => print(*self, f, TABLE_DEPTH_MAX),
        }
    }
}

fn print(value: Value<'_>, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    if let Some(whole) = value.whole() {
        return write!(f, "{whole}");
    }
    match value {
        Value::Bool(value) => write!(f, "{value}"),
        Value::Float(value) => write!(f, "{:?}", f64::from(value)),
        Value::Double(value) => write!(f, "{value:?}"),
        Value::Decimal { scale, value } => write!(f, "{{{scale},{value}}}"),
        Value::LongString(bytes) | Value::Binary(bytes) => print_bytes(bytes, f),
        Value::Table(table) => print_list(f, table.fields(), depth, |(name, value), f, depth| {
            f.write_str("{")?;
            print_bytes(name, f)?;
            write!(f, ",{},", value.rabbit_type_name())?;
            print(value, f, depth)?;
            f.write_str("}")
        }),
        Value::Array(array) => print_list(f, array.values(), depth, |value, f, depth| {
            write!(f, "{{{},", value.rabbit_type_name())?;
            print(value, f, depth)?;
            f.write_str("}")
        }),
        _ => f.write_str("undefined"),
    }
}

fn print_list<Item>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = Item>,
    depth: usize,
    print_item: impl Fn(Item, &mut fmt::Formatter<'_>, usize) -> fmt::Result,
) -> fmt::Result {
    let Some(depth) = depth.checked_sub(1) else {
        return f.write_str("...");
    };
    f.write_str("[")?;
    for (at, item) in items.enumerate() {
        if at > 0 {
            f.write_str(",")?;
        }
        print_item(item, f, depth)?;
    }
    f.write_str("]")
}

fn print_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "<<\"{}\">>", String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An owned value, to generate and to compare with.
    #[derive(Clone, Debug)]
    enum Tree {
        Leaf(Leaf),
        Table(Vec<(String, Self)>),
        Array(Vec<Self>),
    }

    #[derive(Clone, Debug)]
    enum Leaf {
        Number(Value<'static>),
        LongString(Vec<u8>),
        Binary(Vec<u8>),
    }

    impl Tree {
        fn write(&self, out: &mut Vec<u8>) {
            match self {
                Self::Leaf(Leaf::Number(value)) => write_value(out, *value),
                Self::Leaf(Leaf::LongString(bytes)) => write_value(out, Value::LongString(bytes)),
                Self::Leaf(Leaf::Binary(bytes)) => write_value(out, Value::Binary(bytes)),
                Self::Table(fields) => {
                    write_value(out, Value::Table(encode(fields).as_table()));
                }
                Self::Array(values) => {
                    let mut inner = Vec::new();
                    for value in values {
                        value.write(&mut inner);
                    }
                    write_value(out, Value::Array(Array::from_validated(&inner)));
                }
            }
        }

        fn is(&self, value: Value<'_>) -> bool {
            match (self, value) {
                (Self::Leaf(Leaf::Number(number)), value) => *number == value,
                (Self::Leaf(Leaf::LongString(bytes)), Value::LongString(other))
                | (Self::Leaf(Leaf::Binary(bytes)), Value::Binary(other)) => bytes == other,
                (Self::Table(fields), Value::Table(table)) => {
                    fields.len() == table.fields().count()
                        && fields.iter().zip(table.fields()).all(
                            |((name, tree), (other, value))| {
                                name.as_bytes() == other && tree.is(value)
                            },
                        )
                }
                (Self::Array(values), Value::Array(array)) => {
                    values.len() == array.values().count()
                        && values
                            .iter()
                            .zip(array.values())
                            .all(|(tree, value)| tree.is(value))
                }
                _ => false,
            }
        }
    }

    fn encode(fields: &[(String, Tree)]) -> TableWriter {
        let mut writer = TableWriter::new();
        for (name, tree) in fields {
            writer.0.push(name.len() as u8);
            writer.0.extend_from_slice(name.as_bytes());
            tree.write(&mut writer.0);
        }
        writer
    }

    fn leaf() -> impl Strategy<Value = Leaf> {
        let number = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::Byte),
            any::<u8>().prop_map(Value::UnsignedByte),
            any::<i16>().prop_map(Value::Short),
            any::<u16>().prop_map(Value::UnsignedShort),
            any::<i32>().prop_map(Value::SignedInt),
            any::<u32>().prop_map(Value::UnsignedInt),
            any::<i64>().prop_map(Value::Long),
            any::<u64>().prop_map(Value::Timestamp),
            (-1e30f32..1e30).prop_map(Value::Float),
            (-1e300f64..1e300).prop_map(Value::Double),
            (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| Value::Decimal { scale, value }),
            Just(Value::Void),
        ];
        prop_oneof![
            4 => number.prop_map(Leaf::Number),
            1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Leaf::LongString),
            1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Leaf::Binary),
        ]
    }

    fn fields() -> impl Strategy<Value = Vec<(String, Tree)>> {
        let tree = leaf()
            .prop_map(Tree::Leaf)
            .prop_recursive(4, 40, 5, |inner| {
                prop_oneof![
                    proptest::collection::vec(("[a-z]{0,5}", inner.clone()), 0..5)
                        .prop_map(Tree::Table),
                    proptest::collection::vec(inner, 0..5).prop_map(Tree::Array),
                ]
            });
        proptest::collection::vec(("[a-z]{0,9}", tree), 0..8)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(fields in fields()) {
            let written = encode(&fields).into_bytes();
            let table = Table::parse(&written).expect("what we write is valid");
            prop_assert!(Tree::Table(fields).is(Value::Table(table)));
            prop_assert!(Value::Table(table).matches(Value::Table(table)));
            prop_assert!(Value::Table(table).is_equivalent(Value::Table(table)));
        }

        #[test]
        fn a_truncated_table_is_refused_or_has_fewer_fields(fields in fields(), cut in 1usize..50) {
            let written = encode(&fields).into_bytes();
            let cut = &written[..written.len().saturating_sub(cut)];
            if let Ok(table) = Table::parse(cut) {
                prop_assert!(table.fields().count() <= fields.len());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(0), Just(1), Just(b'F'), Just(b'A'), Just(b'S')], 0..300)
        ) {
            let valid = Table::validate(&bytes, TABLE_DEPTH_MAX).is_ok();
            let table = Table::from_validated(&bytes);
            let mut fields = table.fields();
            for (_, value) in fields.by_ref() {
                let _ = value.to_string();
                let _ = value.matches(Value::Table(table)) || value.is_equivalent(value);
            }
            prop_assert!(!valid || fields.rest().is_empty());
            let _ = table.get("a");
        }
    }

    /// `levels` tables in one another, the outermost one included.
    fn nested(levels: usize, tag: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for level in 1..levels {
            let mut outer = if tag == b'F' || level + 1 == levels {
                vec![0]
            } else {
                Vec::new()
            };
            outer.push(tag);
            outer.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            outer.extend_from_slice(&bytes);
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn a_table_nested_too_deep_is_refused_without_recursion() {
        for tag in [b'F', b'A'] {
            assert_eq!(Table::validate(&nested(TABLE_DEPTH_MAX, tag), 99), Ok(()));
            for levels in [TABLE_DEPTH_MAX + 1, 10_000] {
                assert_eq!(
                    Table::validate(&nested(levels, tag), TABLE_DEPTH_MAX),
                    Err(ConnectionError::TableDepth(TABLE_DEPTH_MAX))
                );
            }
        }
        let deep = nested(10_000, b'F');
        let unchecked = Value::Table(Table::from_validated(&deep));
        assert!(
            !unchecked.matches(unchecked),
            "the comparison gives up at its bound"
        );
        assert!(unchecked.to_string().contains("..."));
    }

    #[test]
    fn unknown_types_and_truncated_names_are_syntax_errors() {
        for bytes in [
            &b"\x01aZ"[..],
            b"\x05ab",
            b"\x01a",
            b"\x01aS\0\0\0\x05ab",
            b"\x01aI\0\0",
        ] {
            let error = Table::validate(bytes, TABLE_DEPTH_MAX).expect_err("broken");
            assert_eq!(error.code(), (502, "SYNTAX_ERROR"));
        }
    }

    #[test]
    fn headers_match_by_value_whatever_the_type() {
        let nested = TableWriter::new().long("a", 1);
        let other = TableWriter::new().signed_int("a", 1);
        assert!(Value::Byte(1).matches(Value::Long(1)));
        assert!(Value::Long(1).matches(Value::Double(1.0)));
        assert!(Value::Timestamp(1).matches(Value::Float(1.0)));
        assert!(Value::LongString(b"x").matches(Value::Binary(b"x")));
        assert!(!Value::LongString(b"1").matches(Value::Long(1)));
        assert!(!Value::Bool(true).matches(Value::Long(1)));
        assert!(!Value::Long((1 << 53) + 1).matches(Value::Double((1u64 << 53) as f64)));
        assert!(!Value::Double(f64::NAN).matches(Value::Double(f64::NAN)));
        assert!(!Value::Long(i64::MAX).matches(Value::Double(f64::INFINITY)));
        assert!(!Value::Long(2).matches(Value::Double(2.5)));
        assert!(!Value::Table(nested.as_table()).matches(Value::Table(other.as_table())));
    }

    #[test]
    fn arguments_are_equivalent_within_one_class_of_types() {
        assert!(Value::SignedInt(5).is_equivalent(Value::Long(5)));
        assert!(Value::Float(0.5).is_equivalent(Value::Double(0.5)));
        assert!(Value::LongString(b"a").is_equivalent(Value::Binary(b"a")));
        assert!(!Value::Long(1).is_equivalent(Value::Double(1.0)));
        assert!(!Value::Long(1).is_equivalent(Value::Long(2)));
        assert!(!Value::Void.is_equivalent(Value::Bool(false)));
    }

    #[test]
    fn values_print_as_rabbitmq_prints_them() {
        let table = TableWriter::new()
            .bool("yes", true)
            .long_string("who", "me");
        let printed = [
            (Value::LongString(b"classic"), "classic"),
            (Value::SignedInt(-2), "-2"),
            (Value::Double(1.0), "1.0"),
            (Value::Void, "undefined"),
            (
                Value::Table(table.as_table()),
                r#"[{<<"yes">>,bool,true},{<<"who">>,longstr,<<"me">>}]"#,
            ),
        ];
        for (value, text) in printed {
            assert_eq!(value.to_string(), text);
        }
        assert_eq!(table.as_table().get("who"), Some(Value::LongString(b"me")));
        assert_eq!(table.as_table().get("nobody"), None);
    }
}
