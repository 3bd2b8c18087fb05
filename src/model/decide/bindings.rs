//! Bindings: made, and taken away.

use super::lookup::{check_access, check_not_default, find_exchange, find_queue};
use super::{Decision, delete_unbound_exchanges, done};
use crate::amqp::error::{AmqpError, ChannelError};
use crate::base::{ExchangeId, Name, SessionId, VhostId};
use crate::model::arguments::Arguments;
use crate::model::definition::{Binding, Change, Destination};
use crate::model::exchange;
use crate::model::name_rules::strip_cr_lf;
use crate::model::topology::Topology;

/// The two ends of a binding that somebody asks for.
pub(super) struct Ends<'a> {
    topology: &'a Topology,
    vhost: VhostId,
    source: Name,
    destination: Name,
    /// Whoever binds a queue; exchanges belong to nobody.
    queue_user: Option<SessionId>,
}

impl<'a> Ends<'a> {
    pub(super) fn of_queue(
        topology: &'a Topology,
        vhost: VhostId,
        source: &Name,
        queue: &Name,
        session: SessionId,
    ) -> Self {
        Self {
            topology,
            vhost,
            source: strip_cr_lf(source),
            destination: strip_cr_lf(queue),
            queue_user: Some(session),
        }
    }

    pub(super) fn of_exchange(
        topology: &'a Topology,
        vhost: VhostId,
        source: &Name,
        destination: &Name,
    ) -> Self {
        Self {
            topology,
            vhost,
            source: strip_cr_lf(source),
            destination: strip_cr_lf(destination),
            queue_user: None,
        }
    }

    pub(super) fn check_not_default(&self) -> Result<(), ChannelError> {
        if self.queue_user.is_none() {
            check_not_default(&self.destination)?;
        }
        check_not_default(&self.source)
    }

    pub(super) fn find_source(&self) -> Result<ExchangeId, ChannelError> {
        find_exchange(self.topology, self.vhost, &self.source)
    }

    pub(super) fn find_destination(&self) -> Result<Destination, ChannelError> {
        if self.queue_user.is_some() {
            find_queue(self.topology, self.vhost, &self.destination).map(Destination::Queue)
        } else {
            find_exchange(self.topology, self.vhost, &self.destination).map(Destination::Exchange)
        }
    }

    pub(super) fn check_access(&self, destination: Destination) -> Result<(), ChannelError> {
        match (destination, self.queue_user) {
            (Destination::Queue(id), Some(session)) => check_access(self.topology, id, session),
            _ => Ok(()),
        }
    }
}

pub(super) fn bind(
    ends: &Ends<'_>,
    routing_key: &Name,
    arguments: &Arguments,
) -> Result<Decision, AmqpError> {
    ends.check_not_default()?;
    let source = ends.find_source()?;
    let destination = ends.find_destination()?;
    if let Some(definition) = ends.topology.exchange(source) {
        let queue = match destination {
            Destination::Queue(id) => ends.topology.queue(id).map(|queue| &queue.arguments),
            Destination::Exchange(_) => None,
        };
        let (kind, of_exchange) = (definition.kind, &definition.arguments);
        exchange::check_binding(kind, of_exchange, routing_key, arguments, queue)?;
    }
    ends.check_access(destination)?;
    let binding = Binding {
        source,
        destination,
        routing_key: routing_key.clone(),
        arguments: arguments.clone(),
    };
    if ends.topology.has_binding(&binding) {
        return Ok(done(Vec::new()));
    }
    Ok(done(vec![Change::Bind(binding)]))
}

/// What is not bound need not be unbound, whatever is missing: that is no error since RabbitMQ 3.2.
pub(super) fn unbind(
    ends: &Ends<'_>,
    routing_key: &Name,
    arguments: &Arguments,
) -> Result<Decision, AmqpError> {
    ends.check_not_default()?;
    let (Ok(source), Ok(destination)) = (ends.find_source(), ends.find_destination()) else {
        return Ok(done(Vec::new()));
    };
    let binding = Binding {
        source,
        destination,
        routing_key: routing_key.clone(),
        arguments: arguments.clone(),
    };
    if !ends.topology.has_binding(&binding) {
        return Ok(done(Vec::new()));
    }
    ends.check_access(destination)?;
    let mut changes = vec![Change::Unbind(binding.clone())];
    delete_unbound_exchanges(ends.topology, vec![binding], &mut changes);
    Ok(done(changes))
}
