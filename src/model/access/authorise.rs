//! What each request to the catalog needs permission for, in RabbitMQ's order (`rabbit_channel`,
//! `check_configure_permitted` and its like).
//!
//! ```text
//! exchange.declare          configure exchange; a new one with an alternate: read exchange, write alternate
//! exchange.delete           configure exchange
//! exchange.bind, unbind     write destination, read source, read the key of a topic exchange
//! queue.declare             configure queue; a new one with dead-lettering: read queue, write exchange
//! queue.bind, unbind        write queue, read exchange, read the key of a topic exchange
//! ```
//!
//! What a channel does without the catalog is checked there: `queue.delete` configures, `basic.get`,
//! `basic.consume` and `queue.purge` read, `basic.publish` writes. Passive declarations are free, as
//! with RabbitMQ before 4.3.

use super::{Permission, Resource};
use crate::amqp::error::ChannelError;
use crate::base::{Name, VhostId};
use crate::model::arguments::{Arguments, ExchangeArguments, QueueArguments};
use crate::model::decide::{NameSource, Request};
use crate::model::definition::ExchangeKind;
use crate::model::name_rules::{is_reserved, strip_cr_lf};
use crate::model::topology::{DEFAULT_EXCHANGE, Topology};

/// Whether `user` may ask that of the catalog. What is wrong with the request itself is not told here:
/// such a request passes, since [`decide`](crate::model::decide::decide) refuses it whoever asks.
/// `names`: where the name of a queue is to come from that is left to the server.
///
/// # Errors
/// `AccessRefused`, `TopicRefused` (403), `PreconditionFailed` (406) when there are too many queues.
pub fn authorise(
    topology: &Topology,
    user: &Name,
    request: &Request,
    names: &NameSource,
) -> Result<(), ChannelError> {
    let asker = |vhost: VhostId| Asker {
        topology,
        user,
        vhost: topology.vhost_name(vhost),
        vhost_id: vhost,
    };
    match request {
        Request::DeclareQueue {
            vhost,
            name,
            arguments,
            ..
        } => {
            let name = strip_cr_lf(name);
            if name.as_str().is_empty() {
                // A copy gives the name that comes next. Whoever is refused learns it, so it is to be skipped.
                let name = names.clone().next_queue_name();
                return asker(*vhost).declare_queue(&name, arguments);
            }
            if is_reserved(&name) {
                return Ok(());
            }
            asker(*vhost).declare_queue(&name, arguments)
        }
        Request::DeclareExchange {
            vhost,
            name,
            kind,
            arguments,
            ..
        } => {
            if ExchangeKind::from_name(kind.as_str()).is_none() {
                return Ok(());
            }
            asker(*vhost).declare_exchange(&strip_cr_lf(name), arguments)
        }
        Request::DeleteExchange { vhost, name, .. } => {
            let name = strip_cr_lf(name);
            if is_default(&name) || is_reserved(&name) {
                return Ok(());
            }
            asker(*vhost).check(Permission::Configure, Resource::Exchange(&name))
        }
        Request::BindQueue {
            vhost,
            queue,
            exchange,
            routing_key,
            ..
        }
        | Request::UnbindQueue {
            vhost,
            queue,
            exchange,
            routing_key,
            ..
        } => {
            let queue = strip_cr_lf(queue);
            asker(*vhost).bind(Resource::Queue(&queue), &strip_cr_lf(exchange), routing_key)
        }
        Request::BindExchange {
            vhost,
            destination,
            source,
            routing_key,
            ..
        }
        | Request::UnbindExchange {
            vhost,
            destination,
            source,
            routing_key,
            ..
        } => {
            let destination = strip_cr_lf(destination);
            let to = Resource::Exchange(&destination);
            asker(*vhost).bind(to, &strip_cr_lf(source), routing_key)
        }
        Request::DeclareReplyQueue { .. } | Request::DeleteQueue { .. } => Ok(()),
    }
}

/// Who asks, and where.
struct Asker<'a> {
    topology: &'a Topology,
    user: &'a Name,
    vhost: &'a Name,
    vhost_id: VhostId,
}

impl Asker<'_> {
    fn check(&self, permission: Permission, resource: Resource<'_>) -> Result<(), ChannelError> {
        self.topology
            .access()
            .check(self.user, self.vhost, permission, resource)
    }

    fn declare_queue(&self, name: &Name, arguments: &Arguments) -> Result<(), ChannelError> {
        let queue = Resource::Queue(name);
        self.check(Permission::Configure, queue)?;
        let exists = self.topology.queue_by_name(self.vhost_id, name.as_str());
        if exists.is_some() {
            return Ok(());
        }
        let queues = self.topology.declared_queues(self.vhost_id);
        let access = self.topology.access();
        access.check_queues(self.vhost, queues, name)?;
        if let Ok(arguments) = QueueArguments::parse(arguments)
            && let Some(target) = &arguments.dead_letter_exchange
        {
            self.check(Permission::Read, queue)?;
            self.check(Permission::Write, Resource::Exchange(target))?;
        }
        Ok(())
    }

    fn declare_exchange(&self, name: &Name, arguments: &Arguments) -> Result<(), ChannelError> {
        if is_default(name) {
            return Ok(());
        }
        let exchange = Resource::Exchange(name);
        self.check(Permission::Configure, exchange)?;
        let exists = self.topology.exchange_by_name(self.vhost_id, name.as_str());
        if exists.is_some() || is_reserved(name) {
            return Ok(());
        }
        if let Ok(arguments) = ExchangeArguments::parse(arguments)
            && let Some(alternate) = &arguments.alternate
        {
            self.check(Permission::Read, exchange)?;
            self.check(Permission::Write, Resource::Exchange(alternate))?;
        }
        Ok(())
    }

    fn bind(&self, to: Resource<'_>, source: &Name, key: &Name) -> Result<(), ChannelError> {
        self.check(Permission::Write, to)?;
        if is_default(source) || matches!(to, Resource::Exchange(name) if is_default(name)) {
            return Ok(());
        }
        self.check(Permission::Read, Resource::Exchange(source))?;
        let id = self
            .topology
            .exchange_by_name(self.vhost_id, source.as_str());
        let exchange = id.and_then(|id| self.topology.exchange(id));
        if exchange.is_some_and(|exchange| exchange.kind == ExchangeKind::Topic) {
            let access = self.topology.access();
            let (read, key) = (Permission::Read, key.as_bytes());
            access.check_topic(self.user, self.vhost, read, source, key)?;
        }
        Ok(())
    }
}

fn is_default(exchange: &Name) -> bool {
    exchange.as_str() == DEFAULT_EXCHANGE
}
