//! Tables of all types and depths, and RabbitMQ's words for them.

use proptest::prelude::*;

use super::writer::write_value;
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
                    && fields
                        .iter()
                        .zip(table.fields())
                        .all(|((name, tree), (other, value))| {
                            name.as_bytes() == other && tree.is(value)
                        })
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
