//! The queue that an exchange has for itself, where its kind keeps messages: it gives the exchange an owner
//! core and a place that messages can be sent to.
//!
//! Nobody can name it: it is called as the exchange is, with a line feed behind, and those are stripped
//! from what clients say. It comes and goes with its exchange, and is durable if that is.

use crate::amqp::error::ChannelError;
use crate::base::{CoreId, Name, VhostId};
use crate::model::arguments::Arguments;
use crate::model::definition::{ExchangeDefinition, ExchangeKind, QueueDefinition};

use super::{deduplicating, recent_history};

const SUFFIX: char = '\n';

/// The queue to be created with an exchange, if its kind has one.
///
/// # Errors
/// `PreconditionFailed` (406) if there is no room for its name.
pub fn queue_of(
    exchange: &ExchangeDefinition,
    owner: CoreId,
) -> Result<Option<QueueDefinition>, ChannelError> {
    const MAX: usize = 254;
    let Some(arguments) = arguments(exchange.kind, &exchange.arguments) else {
        return Ok(None);
    };
    if exchange.name.as_str().len() > MAX {
        return Err(ChannelError::PreconditionFailed(format!(
            "the name of an exchange of type {} has at most {MAX} bytes",
            exchange.kind.name()
        )));
    }
    Ok(Some(QueueDefinition {
        vhost: exchange.vhost,
        name: name(&exchange.name),
        durable: exchange.durable,
        exclusive: None,
        auto_delete: false,
        arguments,
        owner,
        incarnation: 0,
    }))
}

/// The arguments of the queue that an exchange of this kind, declared with those, has.
pub fn arguments(kind: ExchangeKind, of_exchange: &Arguments) -> Option<Arguments> {
    match kind {
        ExchangeKind::Delayed => Some(Arguments::default()),
        ExchangeKind::RecentHistory => Some(recent_history::queue_arguments(of_exchange)),
        ExchangeKind::Deduplicating => Some(deduplicating::queue_arguments(of_exchange)),
        _ => None,
    }
}

/// What the queue of an exchange is called.
pub fn name(exchange: &Name) -> Name {
    Name::from(format!("{exchange}{SUFFIX}"))
}

/// The exchange that a queue of that name belongs to, if it is one's own.
pub fn exchange_of(queue: &Name) -> Option<&str> {
    queue.as_str().strip_suffix(SUFFIX)
}

/// Where the own queue of an exchange is to be found, if its kind has one.
pub(crate) fn place(exchange: &ExchangeDefinition) -> Option<(VhostId, Name)> {
    let has_one = arguments(exchange.kind, &exchange.arguments).is_some();
    has_one.then(|| (exchange.vhost, name(&exchange.name)))
}
