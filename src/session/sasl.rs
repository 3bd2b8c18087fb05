//! Logging in: SASL's PLAIN, and AMQPLAIN from before it.

use crate::amqp::table::{Table, Value};

/// What a client logs in with.
pub(super) struct Credentials<'a> {
    pub(super) user: &'a [u8],
    pub(super) password: &'a [u8],
}

/// The credentials in a mechanism's response: none if the mechanism is unknown, none inside if the
/// response is malformed.
pub(super) fn read<'a>(mechanism: &str, response: &'a [u8]) -> Option<Option<Credentials<'a>>> {
    match mechanism {
        "PLAIN" => Some(plain(response)),
        "AMQPLAIN" => Some(amqplain(response)),
        _ => None,
    }
}

/// RFC 4616: `authorisation identity NUL user NUL password`.
fn plain(response: &[u8]) -> Option<Credentials<'_>> {
    let mut parts = response.split(|byte| *byte == 0);
    let _identity = parts.next()?;
    let user = parts.next()?;
    let password = parts.next()?;
    parts
        .next()
        .is_none()
        .then_some(Credentials { user, password })
}

/// A table without its length, with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<Credentials<'_>> {
    let table = Table::parse(response).ok()?;
    let text = |name| match table.get(name) {
        Some(Value::LongString(text)) => Some(text),
        _ => None,
    };
    Some(Credentials {
        user: text("LOGIN")?,
        password: text("PASSWORD")?,
    })
}
