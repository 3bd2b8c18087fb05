//! Arguments as JSON, with the types that RabbitMQ gives them (`rabbit_misc:to_amqp_table`).

use serde_json::{Map, Number, Value as Json};

use crate::amqp::table::{Array, Table, TableWriter, Value};
use crate::base::name::SHORT_STRING_BYTES_MAX;
use crate::model::arguments::Arguments;

/// The arguments that an object says; none for an empty list, as Erlang writes an empty object.
///
/// # Errors
/// What they can't be.
pub(in crate::model) fn to_arguments(json: &Json) -> Result<Arguments, String> {
    let table = match json {
        Json::Null => TableWriter::new(),
        Json::Array(fields) if fields.is_empty() => TableWriter::new(),
        Json::Object(fields) => to_table(fields)?,
        _ => return Err("its arguments are no object".to_owned()),
    };
    Arguments::parse(&table.into_bytes()).map_err(|error| format!("its arguments: {error}"))
}

fn to_table(fields: &Map<String, Json>) -> Result<TableWriter, String> {
    let mut table = TableWriter::new();
    for (name, value) in fields {
        if name.len() > SHORT_STRING_BYTES_MAX {
            return Err(format!(
                "the name of an argument is longer than {SHORT_STRING_BYTES_MAX} bytes"
            ));
        }
        table = put(table, name, value)?;
    }
    Ok(table)
}

fn put(table: TableWriter, name: &str, value: &Json) -> Result<TableWriter, String> {
    Ok(match value {
        Json::Null => table.field(name, Value::Void),
        Json::Bool(value) => table.bool(name, *value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => table.long(name, whole),
            None => table.field(name, Value::Double(number.as_f64().unwrap_or_default())),
        },
        Json::String(text) => table.long_string(name, text),
        Json::Object(fields) => table.table(name, &to_table(fields)?),
        Json::Array(values) => {
            let mut bytes = Vec::new();
            for value in values {
                // A field without a name is a byte of length and the value with its tag.
                let field = put(TableWriter::new(), "", value)?.into_bytes();
                bytes.extend_from_slice(&field[1..]);
            }
            table.field(name, Value::Array(Array::from_validated(&bytes)))
        }
    })
}

/// Arguments as an object. Of numbers only the value is kept, of other bytes than text what resembles it.
pub(in crate::model) fn to_json(arguments: &Arguments) -> Json {
    table(arguments.table())
}

fn table(table: Table<'_>) -> Json {
    let fields = table.fields();
    let fields = fields.map(|(name, field)| (text(name), value(field)));
    Json::Object(fields.collect())
}

fn value(of: Value<'_>) -> Json {
    if let Some(whole) = of.as_integer() {
        return Json::from(whole);
    }
    match of {
        Value::Bool(value) => Json::Bool(value),
        Value::Timestamp(seconds) => Json::from(seconds),
        Value::Float(value) => fraction(value.into()),
        Value::Double(value) => fraction(value),
        Value::Decimal { scale, value } => {
            fraction(f64::from(value) / 10f64.powi(i32::from(scale)))
        }
        Value::LongString(bytes) | Value::Binary(bytes) => Json::String(text(bytes)),
        Value::Array(array) => array.values().map(value).collect(),
        Value::Table(inner) => table(inner),
        // All others are integers.
        _ => Json::Null,
    }
}

fn fraction(value: f64) -> Json {
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_come_back_as_they_were_said() {
        let said = json!({
            "x-max-length": 5, "negative": -1, "ratio": 0.5, "large": i64::MAX, "x-match": "any",
            "vip": true, "nothing": null, "list": [1, "two", [3.5, {}], {"four": 4}], "deep": {"a": {"b": false}},
        });
        let arguments = to_arguments(&said).expect("all of it can be said");
        assert_eq!(to_json(&arguments), said);
        assert_eq!(arguments.get("x-max-length"), Some(Value::Long(5)));
        assert_eq!(arguments.get("ratio"), Some(Value::Double(0.5)));
    }

    #[test]
    fn no_arguments_are_an_object_a_list_or_nothing() {
        for none in [json!({}), json!([]), json!(null)] {
            assert_eq!(to_arguments(&none), Ok(Arguments::default()));
        }
        assert_eq!(
            to_arguments(&json!([1])),
            Err("its arguments are no object".to_owned())
        );
    }

    #[test]
    fn what_a_table_cannot_hold_is_refused() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({ "d": deep });
        }
        assert_eq!(
            to_arguments(&deep),
            Err("its arguments: table nested deeper than 32 levels".to_owned())
        );
        let mut long = Map::new();
        long.insert("n".repeat(256), json!(1));
        let error = to_arguments(&Json::Object(long)).expect_err("too long");
        assert_eq!(error, "the name of an argument is longer than 255 bytes");
    }

    #[test]
    fn what_json_cannot_say_is_said_as_near_as_can_be() {
        let bytes = TableWriter::new()
            .field("t", Value::Timestamp(7))
            .field(
                "d",
                Value::Decimal {
                    scale: 2,
                    value: 150,
                },
            )
            .field("n", Value::Double(f64::NAN))
            .field("x", Value::Binary(b"\xff"))
            .into_bytes();
        let arguments = Arguments::parse(&bytes).expect("written by us");
        let expected = json!({"t": 7, "d": 1.5, "n": null, "x": "\u{fffd}"});
        assert_eq!(to_json(&arguments), expected);
    }
}
