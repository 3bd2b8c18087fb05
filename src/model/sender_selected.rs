//! Sender-selected distribution: headers CC and BCC name more routing keys, and nobody who gets the
//! message sees BCC (<https://www.rabbitmq.com/docs/sender-selected>, `rabbit_basic:header_routes`).

use crate::amqp::error::ChannelError;
use crate::amqp::properties::{self, Properties};
use crate::amqp::table::{Array, Table, Value};

pub(super) const CC: &str = "CC";
const BCC: &str = "BCC";

/// Whether one of the two is there, so that the routing key alone doesn't say where the message goes.
pub fn is_asked_for(headers: Table<'_>) -> bool {
    headers
        .fields()
        .any(|(name, _)| name == CC.as_bytes() || name == BCC.as_bytes())
}

/// Appends the keys of CC and of BCC, in their order. What is no text among them is passed over.
///
/// # Errors
/// `PreconditionFailed` (406) for a header that is not an array.
pub fn append_keys<'a>(headers: Table<'a>, keys: &mut Vec<&'a [u8]>) -> Result<(), ChannelError> {
    for name in [CC, BCC] {
        match headers.get(name) {
            None => {}
            Some(Value::Array(array)) => keys.extend(texts(array)),
            Some(value) => {
                let found = value.rabbit_type_name();
                return Err(ChannelError::PreconditionFailed(format!(
                    "invalid message: {{unacceptable_type_in_header,\"{name}\",{found}}}"
                )));
            }
        }
    }
    Ok(())
}

/// The keys of CC and of BCC, in their order; none of what is no array. What has been published has BCC only
/// while it waits in a delayed exchange.
pub fn copies(headers: Table<'_>) -> impl Iterator<Item = &[u8]> {
    carbon_copies(headers).chain(keys_in(headers, BCC))
}

/// The keys of CC; none if it is no array.
pub fn carbon_copies(headers: Table<'_>) -> impl Iterator<Item = &[u8]> {
    keys_in(headers, CC)
}

fn keys_in<'a>(headers: Table<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let array = match headers.get(name) {
        Some(Value::Array(array)) => array,
        _ => Array::default(),
    };
    texts(array)
}

fn texts(array: Array<'_>) -> impl Iterator<Item = &[u8]> {
    array.values().filter_map(|key| match key {
        Value::LongString(key) => Some(key),
        _ => None,
    })
}

/// The properties without BCC; none if there is no BCC in them.
pub fn without_bcc(properties: Properties<'_>) -> Option<Vec<u8>> {
    properties.headers()?.get(BCC)?;
    properties::without_header(properties, BCC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::table::TableWriter;

    fn array(texts: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for text in texts {
            out.push(b'S');
            out.extend_from_slice(&(text.len() as u32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    #[test]
    fn keys_come_from_cc_and_then_from_bcc_and_other_values_are_passed_over() {
        let (cc, bcc) = (array(&["a", "b"]), array(&["c"]));
        let mixed = [&cc[..], &[b't', 1], &array(&["d"])].concat();
        let table = TableWriter::new()
            .field(BCC, Value::Array(Array::from_validated(&bcc)))
            .field(CC, Value::Array(Array::from_validated(&mixed)));
        assert!(is_asked_for(table.as_table()));
        let mut keys = vec![&b"first"[..]];
        append_keys(table.as_table(), &mut keys).expect("both are arrays");
        assert_eq!(keys, [&b"first"[..], b"a", b"b", b"d", b"c"]);
    }

    #[test]
    fn a_header_that_is_no_array_is_refused_in_rabbitmqs_words() {
        let table = TableWriter::new().long("BCC", 1);
        let error = append_keys(table.as_table(), &mut Vec::new()).expect_err("no array");
        assert_eq!(
            error.to_string(),
            r#"invalid message: {unacceptable_type_in_header,"BCC",long}"#
        );
        let other = TableWriter::new().long_string("cc", "a");
        assert!(!is_asked_for(other.as_table()));
    }
}
