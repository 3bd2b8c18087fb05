//! Queues and exchanges by their names, for whoever needs one that is there and that he may use.

use crate::amqp::error::ChannelError;
use crate::base::{ExchangeId, Name, QueueId, SessionId, VhostId};
use crate::model::definition::QueueDefinition;
use crate::model::name_rules::{is_reply_address, strip_cr_lf};
use crate::model::topology::{DEFAULT_EXCHANGE, Topology};

/// The queue of that name, for all that needs a queue that exists and isn't another session's own (consume,
/// get, purge, delete). Any core's copy can answer.
///
/// # Errors
/// `NoQueue` (404), `LockedQueue` (405).
pub fn check_usable_queue(
    topology: &Topology,
    vhost: VhostId,
    name: &Name,
    session: SessionId,
) -> Result<QueueId, ChannelError> {
    let id = find_queue(topology, vhost, &strip_cr_lf(name))?;
    check_access(topology, id, session)?;
    Ok(id)
}

/// The queue of that name, for `queue.declare` with passive. Where direct replies go may be asked for as well:
/// so responders find out whether anybody still waits.
///
/// # Errors
/// As [`check_usable_queue`].
pub fn check_passive_queue(
    topology: &Topology,
    vhost: VhostId,
    name: &Name,
    session: SessionId,
) -> Result<QueueId, ChannelError> {
    let stripped = strip_cr_lf(name);
    match topology.queue_by_name(vhost, stripped.as_str()) {
        Some(id) if is_reply_address(&stripped) => Ok(id),
        _ => check_usable_queue(topology, vhost, &stripped, session),
    }
}

/// The exchange of that name, for `exchange.declare` with passive.
///
/// # Errors
/// `DefaultExchange` (403), `NoExchange` (404).
pub fn check_passive_exchange(
    topology: &Topology,
    vhost: VhostId,
    name: &Name,
) -> Result<ExchangeId, ChannelError> {
    let name = strip_cr_lf(name);
    check_not_default(&name)?;
    find_exchange(topology, vhost, &name)
}

/// The addresses of direct replies are no queues, as with RabbitMQ.
pub(super) fn find_queue(
    topology: &Topology,
    vhost: VhostId,
    name: &Name,
) -> Result<QueueId, ChannelError> {
    topology
        .queue_by_name(vhost, name.as_str())
        .filter(|_| !is_reply_address(name))
        .ok_or_else(|| ChannelError::NoQueue {
            queue: name.clone(),
            vhost: topology.vhost_name(vhost).clone(),
        })
}

pub(super) fn find_exchange(
    topology: &Topology,
    vhost: VhostId,
    name: &Name,
) -> Result<ExchangeId, ChannelError> {
    topology
        .exchange_by_name(vhost, name.as_str())
        .ok_or_else(|| ChannelError::NoExchange {
            exchange: name.clone(),
            vhost: topology.vhost_name(vhost).clone(),
        })
}

pub(super) fn check_not_default(exchange: &Name) -> Result<(), ChannelError> {
    if exchange.as_str() == DEFAULT_EXCHANGE {
        return Err(ChannelError::DefaultExchange);
    }
    Ok(())
}

pub(super) fn check_access(
    topology: &Topology,
    id: QueueId,
    session: SessionId,
) -> Result<(), ChannelError> {
    match topology.queue(id) {
        Some(queue) if queue.exclusive.is_some_and(|owner| owner != session) => {
            Err(locked(topology, queue))
        }
        _ => Ok(()),
    }
}

pub(super) fn locked(topology: &Topology, queue: &QueueDefinition) -> ChannelError {
    ChannelError::LockedQueue {
        queue: queue.name.clone(),
        vhost: topology.vhost_name(queue.vhost).clone(),
    }
}
