//! Delayed exchanges (`x-delayed-message`): a message with the header `x-delay` goes where its routing
//! key leads only after so many milliseconds, as with RabbitMQ's plugin of that name.
//!
//! Meanwhile it waits in a queue that the exchange has for that ([`own_queue`](super::own_queue)), and that
//! is like any other: durable if the exchange is, in memory as far as there is room, there again after a
//! restart. When the time has come the message leaves it as a dead letter would, with its delay negated.
//!
//! ```text
//! publish ─► exchange ─► queue "exchange\n" ─► (x-delay ms) ─► by its bindings, x-delay = -n ─► queues
//! ```

use crate::amqp::error::ChannelError;
use crate::amqp::properties::{self, Properties};
use crate::amqp::table::{TableWriter, Value};
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
    let delay = properties.headers()?.get(X_DELAY)?.as_integer()?;
    let ms = u64::try_from(delay).ok().filter(|ms| *ms > 0)?;
    Some(ms.min(EXPIRY_MAX_MS))
}

/// The properties of a message that has waited: its delay is negated, so that no exchange on its way
/// delays it again.
pub fn released(properties: Properties<'_>) -> Vec<u8> {
    let headers = properties.headers().unwrap_or_default();
    let delay = headers.get(X_DELAY).and_then(Value::as_integer);
    let headers = TableWriter::copy_without(headers, &[X_DELAY]);
    let headers = headers.long(X_DELAY, delay.map_or(0, i64::wrapping_neg));
    properties::with_headers(properties, headers.as_table())
}
