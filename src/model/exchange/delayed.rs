//! Delayed exchanges (`x-delayed-message`): a message with the header `x-delay` goes where its routing
//! key leads only after so many milliseconds, as with RabbitMQ's plugin of that name.
//!
//! Meanwhile it waits in a queue that the exchange has for that, and that is like any other: durable if
//! the exchange is, in memory as far as there is room, there again after a restart. Nobody can name it:
//! it is called as the exchange is, with a line feed behind, and those are stripped from what clients
//! say. When the time has come the message leaves it as a dead letter would, with its delay negated.
//!
//! ```text
//! publish ─► exchange ─► queue "exchange\n" ─► (x-delay ms) ─► by its bindings, x-delay = -n ─► queues
//! ```

use crate::amqp::error::ChannelError;
use crate::amqp::properties::{self, Properties};
use crate::amqp::table::{TableWriter, Value};
use crate::base::{CoreId, Name, VhostId};
use crate::model::arguments::Arguments;
use crate::model::definition::{ExchangeDefinition, ExchangeKind, QueueDefinition};
use crate::model::expiration::EXPIRY_MAX_MS;

/// The argument that says how the exchange routes.
pub const DELAYED_TYPE: &str = "x-delayed-type";
const X_DELAY: &str = "x-delay";
const SUFFIX: char = '\n';

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
    kind.filter(|kind| *kind != ExchangeKind::Delayed)
        .ok_or_else(|| {
            let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
            ChannelError::PreconditionFailed(text.to_owned())
        })
}

/// The queue of a delayed exchange, to be created with it.
///
/// # Errors
/// `PreconditionFailed` (406) if there is no room for its name.
pub fn queue_of(
    exchange: &ExchangeDefinition,
    owner: CoreId,
) -> Result<QueueDefinition, ChannelError> {
    const MAX: usize = 254;
    if exchange.name.as_str().len() > MAX {
        return Err(ChannelError::PreconditionFailed(format!(
            "the name of a delayed exchange has at most {MAX} bytes"
        )));
    }
    Ok(QueueDefinition {
        vhost: exchange.vhost,
        name: queue_name(&exchange.name),
        durable: exchange.durable,
        exclusive: None,
        auto_delete: false,
        arguments: Arguments::default(),
        owner,
        incarnation: 0,
    })
}

/// What the queue of a delayed exchange is called.
pub fn queue_name(exchange: &Name) -> Name {
    Name::from(format!("{exchange}{SUFFIX}"))
}

/// The exchange whose messages wait in a queue of that name, if they do.
pub fn exchange_of(queue: &Name) -> Option<&str> {
    queue.as_str().strip_suffix(SUFFIX)
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

/// The place of a delayed exchange's queue.
pub(crate) fn place(exchange: &ExchangeDefinition) -> Option<(VhostId, Name)> {
    let delays = exchange.kind == ExchangeKind::Delayed;
    delays.then(|| (exchange.vhost, queue_name(&exchange.name)))
}
