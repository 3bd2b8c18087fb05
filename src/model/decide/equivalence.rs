//! What is declared again must be what it was.

use crate::amqp::error::ChannelError;
use crate::amqp::table::Value;
use crate::base::{Name, VhostId};
use crate::model::arguments::Arguments;
use crate::model::topology::Topology;

/// Whose properties are compared on a redeclaration (`rabbit_misc:assert_field_equivalence`).
pub(super) struct Subject<'a> {
    entity: &'static str,
    name: &'a Name,
    vhost: &'a Name,
}

impl<'a> Subject<'a> {
    pub(super) fn new(
        topology: &'a Topology,
        entity: &'static str,
        vhost: VhostId,
        name: &'a Name,
    ) -> Self {
        let vhost = topology.vhost_name(vhost);
        Self {
            entity,
            name,
            vhost,
        }
    }

    pub(super) fn same<T: PartialEq + ToString>(
        &self,
        property: &str,
        received: T,
        current: T,
    ) -> Result<(), ChannelError> {
        if received == current {
            return Ok(());
        }
        let quoted = |value: T| format!("'{}'", value.to_string());
        Err(self.inequivalent(property, quoted(received), quoted(current)))
    }

    /// A value is printed with its type only where the other one is missing, as RabbitMQ does.
    pub(super) fn same_argument(
        &self,
        argument: &str,
        received: &Arguments,
        current: &Arguments,
    ) -> Result<(), ChannelError> {
        let described = |arguments: &Arguments| match arguments.get(argument) {
            None => "none".to_owned(),
            Some(value) => format!("the value '{value}' of type '{}'", value.rabbit_type_name()),
        };
        let (received, current) = match (received.get(argument), current.get(argument)) {
            (None, None) => return Ok(()),
            (Some(received), Some(current)) if received.is_equivalent(current) => return Ok(()),
            (Some(received), Some(current)) => (format!("'{received}'"), format!("'{current}'")),
            (Some(only), None) | (None, Some(only)) if is_default(argument, only) => return Ok(()),
            _ => (described(received), described(current)),
        };
        Err(self.inequivalent(argument, received, current))
    }

    pub(super) fn inequivalent(
        &self,
        argument: &str,
        received: String,
        current: String,
    ) -> ChannelError {
        ChannelError::Inequivalent {
            argument: argument.to_owned(),
            entity: self.entity,
            name: self.name.clone(),
            vhost: self.vhost.clone(),
            received,
            current,
        }
    }
}

/// Whether the argument says no more than its absence does.
pub(super) fn is_default(argument: &str, value: Value<'_>) -> bool {
    argument == "x-queue-type" && value == Value::LongString(b"classic")
}
