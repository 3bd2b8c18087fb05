//! Values in RabbitMQ's error texts.

use std::fmt;

use super::Value;
use crate::base::limits::TABLE_DEPTH_MAX;

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
