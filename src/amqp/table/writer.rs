//! Tables and arrays, written field by field.

use super::{Array, Table, Value};

/// Writes a table field by field.
///
/// ```text
/// TableWriter::new().bool("basic.nack", true).long_string("product", "Leveret")
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableWriter(pub(super) Vec<u8>);

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

/// Appends the type tag and the value.
pub(super) fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
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
