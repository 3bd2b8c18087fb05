//! Arguments and properties as the command line gives them: `key=value,key=value`.

use std::collections::BTreeMap;
use std::fmt;

use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use serde::Serialize;

/// Values by their keys; of a key that is given twice the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Pairs(BTreeMap<String, Value>);

/// A value, of the type that PerfTest takes it for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Boolean(bool),
    Long(i64),
    Text(String),
}

impl Pairs {
    /// All together; later ones replace earlier ones.
    pub(super) fn merged(all: Vec<Self>) -> Self {
        Self(all.into_iter().flat_map(|pairs| pairs.0).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub(super) fn insert(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn to_table(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for (key, value) in &self.0 {
            let key = ShortString::try_new(key.as_str()).expect("longer ones are refused");
            table.insert(key, value.to_amqp());
        }
        table
    }
}

impl Value {
    pub(super) fn to_amqp(&self) -> AMQPValue {
        match self {
            Self::Boolean(value) => AMQPValue::Boolean(*value),
            Self::Long(value) => AMQPValue::LongLongInt(*value),
            Self::Text(text) => AMQPValue::LongString(text.as_str().into()),
        }
    }

    /// `true` and `false` are booleans, whole numbers are such, and all else is text.
    fn parse(key: &str, text: &str) -> Self {
        match (key, text) {
            ("x-dead-letter-exchange", "amq.default") => Self::Text(String::new()),
            ("x-single-active-consumer", text) => Self::Boolean(text.eq_ignore_ascii_case("true")),
            (_, "true") => Self::Boolean(true),
            (_, "false") => Self::Boolean(false),
            (_, text) => match text.parse() {
                Ok(number) => Self::Long(number),
                Err(_) => Self::Text(text.to_owned()),
            },
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// `key=value,...`; a key alone has the empty text.
pub(super) fn parse_pairs(text: &str) -> Result<Pairs, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match ShortString::try_new(key) {
            Ok(_) if !key.is_empty() => Ok((key.to_owned(), Value::parse(key, value))),
            Ok(_) => Err(format!("{pair:?} has no key: key=value,... is wanted")),
            Err(_) => Err(format!("the key {key:?} is longer than AMQP allows")),
        }
    };
    text.split(',')
        .map(pair)
        .collect::<Result<_, _>>()
        .map(Pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn values_have_perftests_types() {
        let line = "x-max-length=10,x-overflow=reject-publish,lazy=true,b=false,neg=-3,big=9223372036854775808,empty,url=a=b";
        let pairs = parse_pairs(line).expect("valid");
        for (key, value) in [
            ("x-max-length", Value::Long(10)),
            ("x-overflow", text("reject-publish")),
            ("lazy", Value::Boolean(true)),
            ("b", Value::Boolean(false)),
            ("neg", Value::Long(-3)),
            ("big", text("9223372036854775808")),
            ("empty", text("")),
            ("url", text("a=b")),
        ] {
            assert_eq!(pairs.get(key), Some(&value), "{key}");
        }
    }

    #[test]
    fn perftest_knows_two_keys_better() {
        let line = "x-dead-letter-exchange=amq.default,x-single-active-consumer=True";
        let pairs = parse_pairs(line).expect("valid");
        assert_eq!(pairs.get("x-dead-letter-exchange"), Some(&text("")));
        let single = pairs.get("x-single-active-consumer");
        assert_eq!(single, Some(&Value::Boolean(true)));
    }

    #[test]
    fn a_key_is_never_empty_nor_too_long() {
        for bad in [
            "",
            "=1",
            "a=1,",
            "a=1,,b=2",
            &format!("{}=1", "k".repeat(256)),
        ] {
            assert!(parse_pairs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_of_several_counts() {
        let all = ["a=1,b=2", "b=x"].map(|line| parse_pairs(line).expect("valid"));
        let merged = Pairs::merged(all.into());
        let values = (merged.get("a"), merged.get("b"));
        assert_eq!(values, (Some(&Value::Long(1)), Some(&text("x"))));
    }
}
