//! What the connection's user may do, asked where the catalog isn't. See
//! [`authorise`](crate::model::access::authorise) for what is asked there.

use super::SessionContext;
use super::connection::Connection;
use crate::amqp::error::{AmqpError, ChannelError};
use crate::base::{CoreId, ExchangeId, Name, QueueId};
use crate::model::access::{Permission, Resource};
use crate::model::definition::ExchangeKind;
use crate::model::name_rules;

impl SessionContext<'_> {
    /// Whether the connection's user may do that.
    pub(super) fn check_permission(
        &self,
        permission: Permission,
        resource: Resource<'_>,
        connection: &Connection,
    ) -> Result<(), ChannelError> {
        let vhost = self.topology.vhost_name(connection.vhost);
        self.topology
            .access()
            .check(&connection.user, vhost, permission, resource)
    }

    /// Whether the client may publish to this exchange with these keys, all that the message has.
    pub(super) fn check_keys(
        &self,
        exchange: ExchangeId,
        routing_keys: &[&[u8]],
        connection: &Connection,
    ) -> Result<(), ChannelError> {
        let Some(found) = self.topology.exchange(exchange) else {
            return Ok(());
        };
        if found.kind != ExchangeKind::Topic {
            return Ok(());
        }
        let vhost = self.topology.vhost_name(connection.vhost);
        let (access, user) = (self.topology.access(), &connection.user);
        routing_keys.iter().try_for_each(|key| {
            access.check_topic(user, vhost, Permission::Write, &found.name, key)
        })
    }

    /// A queue that the client named and may take messages from, and its core.
    pub(super) fn readable_queue(
        &self,
        name: &Name,
        connection: &Connection,
    ) -> Result<(QueueId, CoreId), AmqpError> {
        let name = name_rules::strip_cr_lf(name);
        self.check_permission(Permission::Read, Resource::Queue(&name), connection)?;
        self.usable_queue(&name, connection)
    }
}

/// The exchange that a channel was last allowed to publish to: publishers mostly repeat themselves, and
/// rights don't change while the broker runs.
#[derive(Default)]
pub(super) struct PublishPermit(Option<Name>);

impl PublishPermit {
    /// The exchange of that name, if the client may publish to it. Whether with its message's keys:
    /// [`SessionContext::check_keys`].
    pub(super) fn check(
        &mut self,
        exchange: &str,
        connection: &Connection,
        context: &SessionContext<'_>,
    ) -> Result<ExchangeId, ChannelError> {
        if self.0.as_ref().is_none_or(|last| last.as_str() != exchange) {
            let exchange = Name::from(exchange);
            let resource = Resource::Exchange(&exchange);
            context.check_permission(Permission::Write, resource, connection)?;
            self.0 = Some(exchange);
        }
        let topology = context.topology;
        let vhost = topology.vhost_name(connection.vhost);
        let id = topology.exchange_by_name(connection.vhost, exchange);
        let Some((id, found)) = id.and_then(|id| Some((id, topology.exchange(id)?))) else {
            let (exchange, vhost) = (Name::from(exchange), vhost.clone());
            return Err(ChannelError::NoExchange { exchange, vhost });
        };
        if found.internal {
            let (exchange, vhost) = (Name::from(exchange), vhost.clone());
            return Err(ChannelError::InternalExchange { exchange, vhost });
        }
        Ok(id)
    }
}
