//! When two values are the same: RabbitMQ has one answer for headers exchanges and another for redeclarations.

use std::cmp::Ordering;

use super::{Array, Table, Value};
use crate::base::limits::TABLE_DEPTH_MAX;

/// How numbers of different types are told equal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// 1 equals 1.0 (Erlang's `==`).
    ByValue,
    /// A whole number never equals a fraction (Erlang's `=:=`).
    ByKind,
}

impl Value<'_> {
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
