//! The catalog's judgement: a request and the topology in, changes and an answer out. Nothing is done
//! here; the catalog applies the changes, has all cores apply them, and answers then.
//!
//! The order of the checks is RabbitMQ's (`rabbit_channel:handle_method`, `rabbit_amqqueue`,
//! `rabbit_exchange`, `rabbit_binding`), since a request with two faults must fail by the same one.

mod bindings;
mod equivalence;
mod lookup;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use crate::amqp::error::{AmqpError, ChannelError, ConnectionError};
use crate::base::{CoreId, ExchangeId, Name, QueueId, SessionId, VhostId};
use crate::model::arguments::{
    ALTERNATE_EXCHANGE, Arguments, ExchangeArguments, QueueArguments, QueueType,
};
use crate::model::default_queue_type;
use crate::model::definition::{
    Binding, Change, ExchangeDefinition, ExchangeKind, QueueDefinition,
};
use crate::model::exchange;
use crate::model::exchange::delayed::DELAYED_TYPE;
use crate::model::exchange::own_queue;
use crate::model::name_rules::{
    DIRECT_REPLY_TO, check_length, check_not_reserved, is_reserved, strip_cr_lf,
};
use crate::model::topology::Topology;
use bindings::{Ends, bind, unbind};
use equivalence::Subject;
use lookup::{check_not_default, locked};
pub use lookup::{check_passive_exchange, check_passive_queue, check_usable_queue};
pub use names::NameSource;

/// What a session or the owner of a queue asks of the catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(
    missing_docs,
    reason = "the fields are the arguments of AMQP's methods"
)]
pub enum Request {
    /// `queue.declare`, not passive.
    DeclareQueue {
        vhost: VhostId,
        /// Empty for a name of the server's choice.
        name: Name,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Arguments,
        /// Who asks, and owns the queue if it is exclusive.
        session: SessionId,
        /// The core that is to hold a new queue.
        owner: CoreId,
    },
    /// `basic.consume` of [`DIRECT_REPLY_TO`]: a queue for the replies to one channel, which goes with
    /// its consumer. Its name is a secret that the channel shares with those it asks.
    DeclareReplyQueue {
        vhost: VhostId,
        /// The core that is to hold it.
        owner: CoreId,
    },
    /// `exchange.declare`, not passive.
    DeclareExchange {
        vhost: VhostId,
        name: Name,
        /// As it came; an unknown one closes the connection.
        kind: Name,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Arguments,
        /// The core that is to hold what a new exchange delays.
        owner: CoreId,
    },
    /// `exchange.delete`.
    DeleteExchange {
        vhost: VhostId,
        name: Name,
        if_unused: bool,
    },
    /// `queue.bind`. An empty queue name was replaced by the last declared one before.
    BindQueue {
        vhost: VhostId,
        queue: Name,
        exchange: Name,
        routing_key: Name,
        arguments: Arguments,
        session: SessionId,
    },
    /// `queue.unbind`.
    UnbindQueue {
        vhost: VhostId,
        queue: Name,
        exchange: Name,
        routing_key: Name,
        arguments: Arguments,
        session: SessionId,
    },
    /// `exchange.bind`.
    BindExchange {
        vhost: VhostId,
        destination: Name,
        source: Name,
        routing_key: Name,
        arguments: Arguments,
    },
    /// `exchange.unbind`.
    UnbindExchange {
        vhost: VhostId,
        destination: Name,
        source: Name,
        routing_key: Name,
        arguments: Arguments,
    },
    /// The owner of a queue has found that it should go. It has made all the checks that need its
    /// messages or consumers.
    DeleteQueue {
        id: QueueId,
        /// The [`Topology::queue_touches`] it has seen: refused if the queue was declared again since.
        unless_touched_since: Option<u64>,
    },
}

/// What the catalog does about a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// To be applied everywhere, in this order, before the answer goes out.
    pub changes: Vec<Change>,
    /// What the asker is told.
    pub answer: Answer,
}

/// What the asker is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The queue is there, created now or before.
    QueueDeclared {
        /// Who it is.
        id: QueueId,
        /// Its name, which the server may have chosen.
        name: Name,
    },
    /// It is as was asked for.
    Done,
    /// The queue stays: it was declared again since the asker looked.
    Refused,
}

/// Judges a request.
///
/// # Errors
/// What the client is to be told; nothing changes then.
pub fn decide(
    topology: &Topology,
    request: &Request,
    names: &mut NameSource,
) -> Result<Decision, AmqpError> {
    match request {
        Request::DeclareQueue { .. } => declare_queue(topology, request, names),
        Request::DeclareReplyQueue { vhost, owner } => {
            Ok(declare_reply_queue(topology, *vhost, *owner, names))
        }
        Request::DeclareExchange { .. } => declare_exchange(topology, request),
        Request::DeleteExchange {
            vhost,
            name,
            if_unused,
        } => delete_exchange(topology, *vhost, name, *if_unused),
        Request::BindQueue {
            vhost,
            queue,
            exchange,
            routing_key,
            arguments,
            session,
        } => {
            let ends = Ends::of_queue(topology, *vhost, exchange, queue, *session);
            bind(&ends, routing_key, arguments)
        }
        Request::UnbindQueue {
            vhost,
            queue,
            exchange,
            routing_key,
            arguments,
            session,
        } => {
            let ends = Ends::of_queue(topology, *vhost, exchange, queue, *session);
            unbind(&ends, routing_key, arguments)
        }
        Request::BindExchange {
            vhost,
            destination,
            source,
            routing_key,
            arguments,
        } => {
            let ends = Ends::of_exchange(topology, *vhost, source, destination);
            bind(&ends, routing_key, arguments)
        }
        Request::UnbindExchange {
            vhost,
            destination,
            source,
            routing_key,
            arguments,
        } => {
            let ends = Ends::of_exchange(topology, *vhost, source, destination);
            unbind(&ends, routing_key, arguments)
        }
        Request::DeleteQueue {
            id,
            unless_touched_since,
        } => Ok(delete_queue(topology, *id, *unless_touched_since)),
    }
}

fn done(changes: Vec<Change>) -> Decision {
    Decision {
        changes,
        answer: Answer::Done,
    }
}

fn declare_queue(
    topology: &Topology,
    request: &Request,
    names: &mut NameSource,
) -> Result<Decision, AmqpError> {
    let Request::DeclareQueue {
        vhost,
        name,
        durable,
        exclusive,
        auto_delete,
        arguments,
        session,
        owner,
    } = request
    else {
        unreachable!("decide calls this for no other request");
    };
    let stripped = strip_cr_lf(name);
    let is_server_named = stripped.as_str().is_empty();
    let name = if is_server_named {
        unused_queue_name(topology, *vhost, names)
    } else {
        check_not_reserved("queue", &stripped)?;
        check_length("queue", &stripped)?;
        stripped
    };
    let durable = *durable && !*exclusive;
    let default_type = topology.default_queue_type(*vhost);
    let definition = QueueDefinition {
        vhost: *vhost,
        name: name.clone(),
        durable,
        exclusive: exclusive.then_some(*session),
        auto_delete: *auto_delete,
        arguments: default_queue_type::applied(default_type, arguments, durable && !*auto_delete),
        owner: *owner,
        incarnation: 0,
    };
    let (id, change) = match topology.queue_by_name(*vhost, name.as_str()) {
        Some(id) => {
            let current = topology.queue(id).expect("what has a name is alive");
            check_same_queue(topology, current, &definition)?;
            (id, Change::TouchQueue { id })
        }
        None => {
            check_new_queue(topology, &definition, is_server_named)?;
            let id = topology.vacant_queue_id();
            (id, Change::CreateQueue { id, definition })
        }
    };
    Ok(Decision {
        changes: vec![change],
        answer: Answer::QueueDeclared { id, name },
    })
}

fn declare_reply_queue(
    topology: &Topology,
    vhost: VhostId,
    owner: CoreId,
    names: &mut NameSource,
) -> Decision {
    let name = names.next_name(&format!("{DIRECT_REPLY_TO}."));
    let id = topology.vacant_queue_id();
    let definition = QueueDefinition {
        vhost,
        name: name.clone(),
        durable: false,
        exclusive: None,
        auto_delete: true,
        arguments: Arguments::default(),
        owner,
        incarnation: 0,
    };
    Decision {
        changes: vec![Change::CreateQueue { id, definition }],
        answer: Answer::QueueDeclared { id, name },
    }
}

fn unused_queue_name(topology: &Topology, vhost: VhostId, names: &mut NameSource) -> Name {
    loop {
        let name = names.next_queue_name();
        if topology.queue_by_name(vhost, name.as_str()).is_none() {
            return name;
        }
    }
}

/// `rabbit_amqqueue:assert_equivalence`, whose check of exclusivity comes first and works both ways.
fn check_same_queue(
    topology: &Topology,
    current: &QueueDefinition,
    received: &QueueDefinition,
) -> Result<(), ChannelError> {
    let subject = Subject::new(topology, "queue", current.vhost, &current.name);
    if current.exclusive != received.exclusive {
        return Err(locked(topology, current));
    }
    subject.same("durable", received.durable, current.durable)?;
    subject.same("auto_delete", received.auto_delete, current.auto_delete)?;
    let queue_type = QueueArguments::parse(&current.arguments)
        .map(|arguments| arguments.queue_type)
        .unwrap_or_default();
    for argument in queue_type.compared_arguments() {
        subject.same_argument(argument, &received.arguments, &current.arguments)?;
    }
    Ok(())
}

fn check_new_queue(
    topology: &Topology,
    definition: &QueueDefinition,
    is_server_named: bool,
) -> Result<(), ChannelError> {
    let (name, vhost) = (&definition.name, topology.vhost_name(definition.vhost));
    let arguments = QueueArguments::parse(&definition.arguments)
        .map_err(|fault| fault.of("queue", name, vhost))?;
    if arguments.queue_type == QueueType::Classic {
        return Ok(());
    }
    if is_server_named {
        let queue_type = arguments.queue_type.name();
        return Err(ChannelError::PreconditionFailed(format!(
            "Cannot declare a server-named queue for type rabbit_{queue_type}_queue"
        )));
    }
    let property = match (definition.exclusive, definition.durable) {
        _ if definition.auto_delete => "auto-delete",
        (Some(_), _) => "exclusive-owner",
        (None, false) => "non-durable",
        (None, true) => return Ok(()),
    };
    Err(ChannelError::PreconditionFailed(format!(
        "invalid property '{property}' for queue '{name}' in vhost '{vhost}'"
    )))
}

fn declare_exchange(topology: &Topology, request: &Request) -> Result<Decision, AmqpError> {
    let Request::DeclareExchange {
        vhost,
        name,
        kind,
        durable,
        auto_delete,
        internal,
        arguments,
        owner,
    } = request
    else {
        unreachable!("decide calls this for no other request");
    };
    let kind = ExchangeKind::from_name(kind.as_str())
        .ok_or_else(|| ConnectionError::UnknownExchangeType(kind.to_string()))?;
    let name = strip_cr_lf(name);
    check_not_default(&name)?;
    let mut received = ExchangeDefinition {
        vhost: *vhost,
        name: name.clone(),
        kind,
        durable: *durable,
        auto_delete: *auto_delete,
        internal: *internal,
        arguments: arguments.clone(),
        alternate: None,
    };
    if let Some(id) = topology.exchange_by_name(*vhost, name.as_str()) {
        let current = topology.exchange(id).expect("what has a name is alive");
        check_same_exchange(topology, current, &received)?;
        return Ok(done(Vec::new()));
    }
    check_not_reserved("exchange", &name)?;
    check_length("exchange", &name)?;
    received.alternate = ExchangeArguments::parse(arguments)
        .map_err(|fault| fault.of("exchange", &name, topology.vhost_name(*vhost)))?
        .alternate;
    exchange::check_arguments(kind, arguments)?;
    let mut changes = Vec::new();
    if let Some(definition) = own_queue::queue_of(&received, *owner)? {
        changes.push(Change::CreateQueue {
            id: topology.vacant_queue_id(),
            definition,
        });
    }
    changes.push(Change::CreateExchange {
        id: topology.vacant_exchange_id(),
        definition: received,
    });
    Ok(done(changes))
}

/// `rabbit_exchange:assert_equivalence`.
fn check_same_exchange(
    topology: &Topology,
    current: &ExchangeDefinition,
    received: &ExchangeDefinition,
) -> Result<(), ChannelError> {
    let subject = Subject::new(topology, "exchange", current.vhost, &current.name);
    subject.same("type", received.kind.name(), current.kind.name())?;
    subject.same("durable", received.durable, current.durable)?;
    subject.same("auto_delete", received.auto_delete, current.auto_delete)?;
    subject.same("internal", received.internal, current.internal)?;
    if current.kind == ExchangeKind::Delayed {
        subject.same_argument(DELAYED_TYPE, &received.arguments, &current.arguments)?;
    }
    subject.same_argument(ALTERNATE_EXCHANGE, &received.arguments, &current.arguments)
}

fn delete_exchange(
    topology: &Topology,
    vhost: VhostId,
    name: &Name,
    if_unused: bool,
) -> Result<Decision, AmqpError> {
    let name = strip_cr_lf(name);
    check_not_default(&name)?;
    if is_reserved(&name) {
        let vhost = topology.vhost_name(vhost).clone();
        let exchange = name;
        return Err(ChannelError::SystemExchange { exchange, vhost }.into());
    }
    let Some(id) = topology.exchange_by_name(vhost, name.as_str()) else {
        return Ok(done(Vec::new()));
    };
    if if_unused && topology.bindings_from_exchange(id).len() > 0 {
        return Err(ChannelError::InUse {
            entity: "exchange",
            name,
            vhost: topology.vhost_name(vhost).clone(),
        }
        .into());
    }
    let mut changes = vec![Change::DeleteExchange { id }];
    changes.extend(deletion_of_own_queue(topology, id));
    let removed = topology.bindings_to_exchange(id).cloned().collect();
    delete_unbound_exchanges(topology, removed, &mut changes);
    Ok(done(changes))
}

fn delete_queue(topology: &Topology, id: QueueId, unless_touched_since: Option<u64>) -> Decision {
    let Some(touches) = topology.queue_touches(id) else {
        return done(Vec::new());
    };
    if unless_touched_since.is_some_and(|seen| touches != seen) {
        return Decision {
            changes: Vec::new(),
            answer: Answer::Refused,
        };
    }
    let mut changes = vec![Change::DeleteQueue { id }];
    let removed = topology.bindings_of_queue(id).cloned().collect();
    delete_unbound_exchanges(topology, removed, &mut changes);
    done(changes)
}

/// What an exchange keeps goes with it.
fn deletion_of_own_queue(topology: &Topology, exchange: ExchangeId) -> Option<Change> {
    let (vhost, queue) = own_queue::place(topology.exchange(exchange)?)?;
    let id = topology.queue_by_name(vhost, queue.as_str())?;
    Some(Change::DeleteQueue { id })
}

/// Deletes the auto-delete exchanges that lose the last binding they are the source of, and those that
/// lose it thereby.
fn delete_unbound_exchanges(
    topology: &Topology,
    mut removed: Vec<Binding>,
    changes: &mut Vec<Change>,
) {
    let mut lost: HashMap<ExchangeId, usize> = HashMap::new();
    let mut deleted: HashSet<ExchangeId> = changes
        .iter()
        .filter_map(|change| match change {
            Change::DeleteExchange { id } => Some(*id),
            _ => None,
        })
        .collect();
    while let Some(Binding { source, .. }) = removed.pop() {
        let lost = lost.entry(source).or_default();
        *lost += 1;
        let is_unbound = *lost == topology.bindings_from_exchange(source).len();
        let is_auto_delete = topology
            .exchange(source)
            .is_some_and(|exchange| exchange.auto_delete);
        if is_unbound && is_auto_delete && deleted.insert(source) {
            changes.push(Change::DeleteExchange { id: source });
            changes.extend(deletion_of_own_queue(topology, source));
            removed.extend(topology.bindings_to_exchange(source).cloned());
        }
    }
}
