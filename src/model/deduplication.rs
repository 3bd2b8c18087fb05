//! What makes two messages duplicates for queues and for exchanges: the same value in their headers
//! `x-deduplication-header`, as for the plugin `rabbitmq-message-deduplication`
//! (<https://github.com/noxdafox/rabbitmq-message-deduplication>).

use sha2::{Digest, Sha256};

use crate::amqp::properties::Properties;
use crate::amqp::table::Value;

/// The header that is compared.
pub(crate) const HEADER: &str = "x-deduplication-header";

/// Stands for the value of a header, however long that is: half of its SHA-256, so that nobody finds two
/// values that are taken for one.
pub type Key = [u8; 16];

/// The key of a message; none if it has no such header, or a list or a table in it, which aren't compared.
/// Numbers of different width are equal, as there.
pub fn key_of(properties: Properties<'_>) -> Option<Key> {
    let value = properties.headers()?.get(HEADER)?;
    let mut hash = Sha256::new();
    match (value, value.as_integer()) {
        (_, Some(number)) => {
            hash.update(b"i");
            hash.update(number.to_le_bytes());
        }
        (Value::LongString(bytes) | Value::Binary(bytes), _) => {
            hash.update(b"s");
            hash.update(bytes);
        }
        (Value::Bool(is), _) => hash.update(if is { b"b1" } else { b"b0" }),
        (Value::Float(value), _) => {
            hash.update(b"f");
            hash.update(f64::from(value).to_le_bytes());
        }
        (Value::Double(value), _) => {
            hash.update(b"f");
            hash.update(value.to_le_bytes());
        }
        (Value::Timestamp(seconds), _) => {
            hash.update(b"t");
            hash.update(seconds.to_le_bytes());
        }
        (Value::Void, _) => hash.update(b"v"),
        _ => return None,
    }
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize()[..size_of::<Key>()]);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::properties;
    use crate::amqp::table::{Table, TableWriter};

    fn key(table: TableWriter) -> Option<Key> {
        let table = table.into_bytes();
        let none = Properties::from_validated(&[0, 0]);
        let properties = properties::with_headers(none, Table::from_validated(&table));
        key_of(Properties::from_validated(&properties))
    }

    #[test]
    fn values_are_compared_and_types_of_numbers_are_not() {
        let new = TableWriter::new;
        let one = key(new().long(HEADER, 1)).expect("a number");
        assert_eq!(key(new().signed_int(HEADER, 1)), Some(one));
        for other in [
            new().long(HEADER, 2),
            new().long_string(HEADER, "1"),
            new().bool(HEADER, true),
            new().field(HEADER, Value::Double(1.0)),
            new().field(HEADER, Value::Void),
            new().field(HEADER, Value::Timestamp(1)),
        ] {
            assert_ne!(key(other).expect("a value"), one);
        }
        assert_eq!(key(new().long("another", 1)), None);
        let table = TableWriter::new().into_bytes();
        let table = Value::Table(Table::from_validated(&table));
        assert_eq!(key(new().field(HEADER, table)), None);
    }
}
