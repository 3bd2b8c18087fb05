//! Delayed exchanges (`x-delayed-message`): a message with the header `x-delay` goes where its routing
//! key leads only after so many milliseconds, as with RabbitMQ's plugin of that name.
//!
//! Meanwhile it waits in a queue that the exchange has for that ([`own_queue`]), and that
//! is like any other: durable if the exchange is, in memory as far as there is room, there again after a
//! restart. When the time has come the message leaves it as a dead letter would, with its delay negated.
//!
//! ```text
//! publish ─► exchange ─► queue "exchange\n" ─► (x-delay ms) ─► by its bindings, x-delay = -n ─► queues
//! ```

use crate::amqp::error::ChannelError;
use crate::amqp::properties::{self, Properties};
use crate::amqp::table::{Table, TableWriter, Value};
use crate::model::arguments::Arguments;
use crate::model::definition::ExchangeKind;
use crate::model::expiration::EXPIRY_MAX_MS;

use super::own_queue;

/// The argument that says how the exchange routes.
pub const DELAYED_TYPE: &str = "x-delayed-type";
const X_DELAY: &str = "x-delay";

/// How a delayed exchange routes, by its arguments.
///
/// # Errors
/// `PreconditionFailed` (406) in the plugin's words.
pub fn inner_kind(arguments: &Arguments) -> Result<ExchangeKind, ChannelError> {
    let kind = match arguments.get(DELAYED_TYPE) {
        Some(Value::LongString(name)) => std::str::from_utf8(name).ok(),
        _ => None,
    };
    let kind = kind.and_then(ExchangeKind::from_name);
    kind.filter(|kind| own_queue::arguments(*kind, arguments).is_none())
        .ok_or_else(|| {
            let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
            ChannelError::PreconditionFailed(text.to_owned())
        })
}

/// How long a message is to wait, in milliseconds; none if it needn't.
pub fn delay_ms(properties: Properties<'_>) -> Option<u64> {
    let delay = delay(properties.headers()?)?;
    let ms = u64::try_from(delay).ok().filter(|ms| *ms > 0)?;
    Some(ms.min(EXPIRY_MAX_MS))
}

/// A whole number, one with a fraction, which doesn't count, or the digits of one: clients send all of them,
/// and the plugin takes them (`rabbit_delayed_message_utils:get_delay`).
fn delay(headers: Table<'_>) -> Option<i64> {
    match headers.get(X_DELAY)? {
        Value::LongString(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        Value::Float(ms) => Some(ms as i64),
        Value::Double(ms) => Some(ms as i64),
        other => other.as_integer(),
    }
}

/// The properties of a message that has waited: its delay is negated, so that no exchange on its way
/// delays it again.
pub fn released(properties: Properties<'_>) -> Vec<u8> {
    let headers = properties.headers().unwrap_or_default();
    let delay = delay(headers).map_or(0, i64::wrapping_neg);
    let headers = TableWriter::copy_without(headers, &[X_DELAY]);
    let headers = headers.long(X_DELAY, delay);
    properties::with_headers(properties, headers.as_table())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_delay(value: Value<'_>) -> Vec<u8> {
        let headers = TableWriter::new().field(X_DELAY, value);
        let none = Properties::from_validated(&[0, 0]);
        properties::with_headers(none, headers.as_table())
    }

    #[test]
    fn a_delay_is_a_number_of_any_kind_or_its_digits() {
        for (value, expected) in [
            (Value::UnsignedShort(5), Some(5)),
            (Value::Long(i64::MAX), Some(EXPIRY_MAX_MS)),
            (Value::LongString(b"1500"), Some(1500)),
            (Value::Float(20.9), Some(20)),
            (Value::Double(1e30), Some(EXPIRY_MAX_MS)),
            (Value::Double(0.5), None),
            (Value::Double(f64::NAN), None),
            (Value::SignedInt(-5), None),
            (Value::LongString(b"-5"), None),
            (Value::LongString(b"soon"), None),
            (Value::Bool(true), None),
            (Value::Void, None),
        ] {
            let properties = with_delay(value);
            let found = delay_ms(Properties::from_validated(&properties));
            assert_eq!(found, expected, "{value:?}");
        }
    }

    #[test]
    fn what_has_waited_tells_how_long_and_waits_no_more() {
        for value in [
            Value::Long(70),
            Value::LongString(b"70"),
            Value::Double(70.5),
        ] {
            let properties = with_delay(value);
            let released = released(Properties::from_validated(&properties));
            let released = Properties::from_validated(&released);
            let told = released.headers().and_then(|headers| headers.get(X_DELAY));
            assert_eq!(told, Some(Value::Long(-70)));
            assert_eq!(delay_ms(released), None);
        }
    }
}
