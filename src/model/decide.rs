//! The catalog's judgement: a request and the topology in, changes and an answer out. Nothing is done
//! here; the catalog applies the changes, has all cores apply them, and answers then.
//!
//! The order of the checks is RabbitMQ's (`rabbit_channel:handle_method`, `rabbit_amqqueue`,
//! `rabbit_exchange`, `rabbit_binding`), since a request with two faults must fail by the same one.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

use crate::amqp::error::{AmqpError, ChannelError, ConnectionError};
use crate::amqp::table::Value;
use crate::base::{CoreId, ExchangeId, Name, QueueId, SessionId, VhostId};
use crate::model::arguments::{
    ALTERNATE_EXCHANGE, Arguments, ExchangeArguments, QueueArguments, QueueType,
};
use crate::model::default_queue_type;
use crate::model::definition::{
    Binding, Change, Destination, ExchangeDefinition, ExchangeKind, QueueDefinition,
};
use crate::model::exchange;
use crate::model::exchange::delayed::DELAYED_TYPE;
use crate::model::exchange::own_queue;
use crate::model::name_rules::{
    DIRECT_REPLY_TO, check_length, check_not_reserved, is_reply_address, is_reserved, strip_cr_lf,
};
use crate::model::topology::{DEFAULT_EXCHANGE, Topology};

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

/// Names that nobody else has and nobody can guess, for queues that clients leave to the server to name.
#[derive(Clone, Debug)]
pub struct NameSource {
    seed: u64,
    drawn: u64,
}

impl NameSource {
    /// Each seed gives a sequence of its own; it should be drawn at random when the process starts,
    /// and kept secret.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// `amq.gen-` and 16 bytes in 22 characters of base64url.
    pub fn next_queue_name(&mut self) -> Name {
        self.next_name("amq.gen-")
    }

    /// Passes over the name that would come next, because somebody may know it.
    pub fn skip(&mut self) {
        self.next_queue_name();
    }

    fn next_name(&mut self, prefix: &str) -> Name {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from(self.next_word()) << 64 | u128::from(self.next_word());
        let mut name = String::from(prefix);
        for character in 0..22 {
            // The last character holds the two bits that 21 times six leave over.
            let six = if character < 21 {
                bits >> (122 - 6 * character)
            } else {
                bits << 4
            };
            name.push(char::from(ALPHABET[(six & 63) as usize]));
        }
        Name::from(name)
    }

    /// SipHash of a counter under the seed: who has seen some names can't tell the others.
    fn next_word(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u64(self.drawn);
        hasher.finish()
    }
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

/// The two ends of a binding that somebody asks for.
struct Ends<'a> {
    topology: &'a Topology,
    vhost: VhostId,
    source: Name,
    destination: Name,
    /// Whoever binds a queue; exchanges belong to nobody.
    queue_user: Option<SessionId>,
}

impl<'a> Ends<'a> {
    fn of_queue(
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

    fn of_exchange(
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

    fn check_not_default(&self) -> Result<(), ChannelError> {
        if self.queue_user.is_none() {
            check_not_default(&self.destination)?;
        }
        check_not_default(&self.source)
    }

    fn find_source(&self) -> Result<ExchangeId, ChannelError> {
        find_exchange(self.topology, self.vhost, &self.source)
    }

    fn find_destination(&self) -> Result<Destination, ChannelError> {
        if self.queue_user.is_some() {
            find_queue(self.topology, self.vhost, &self.destination).map(Destination::Queue)
        } else {
            find_exchange(self.topology, self.vhost, &self.destination).map(Destination::Exchange)
        }
    }

    fn check_access(&self, destination: Destination) -> Result<(), ChannelError> {
        match (destination, self.queue_user) {
            (Destination::Queue(id), Some(session)) => check_access(self.topology, id, session),
            _ => Ok(()),
        }
    }
}

fn bind(ends: &Ends<'_>, routing_key: &Name, arguments: &Arguments) -> Result<Decision, AmqpError> {
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
fn unbind(
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
fn find_queue(topology: &Topology, vhost: VhostId, name: &Name) -> Result<QueueId, ChannelError> {
    topology
        .queue_by_name(vhost, name.as_str())
        .filter(|_| !is_reply_address(name))
        .ok_or_else(|| ChannelError::NoQueue {
            queue: name.clone(),
            vhost: topology.vhost_name(vhost).clone(),
        })
}

fn find_exchange(
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

fn check_not_default(exchange: &Name) -> Result<(), ChannelError> {
    if exchange.as_str() == DEFAULT_EXCHANGE {
        return Err(ChannelError::DefaultExchange);
    }
    Ok(())
}

fn check_access(topology: &Topology, id: QueueId, session: SessionId) -> Result<(), ChannelError> {
    match topology.queue(id) {
        Some(queue) if queue.exclusive.is_some_and(|owner| owner != session) => {
            Err(locked(topology, queue))
        }
        _ => Ok(()),
    }
}

fn locked(topology: &Topology, queue: &QueueDefinition) -> ChannelError {
    ChannelError::LockedQueue {
        queue: queue.name.clone(),
        vhost: topology.vhost_name(queue.vhost).clone(),
    }
}

/// Whose properties are compared on a redeclaration (`rabbit_misc:assert_field_equivalence`).
struct Subject<'a> {
    entity: &'static str,
    name: &'a Name,
    vhost: &'a Name,
}

impl<'a> Subject<'a> {
    fn new(topology: &'a Topology, entity: &'static str, vhost: VhostId, name: &'a Name) -> Self {
        let vhost = topology.vhost_name(vhost);
        Self {
            entity,
            name,
            vhost,
        }
    }

    fn same<T: PartialEq + ToString>(
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
    fn same_argument(
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

    fn inequivalent(&self, argument: &str, received: String, current: String) -> ChannelError {
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
fn is_default(argument: &str, value: Value<'_>) -> bool {
    argument == "x-queue-type" && value == Value::LongString(b"classic")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::table::TableWriter;

    const VHOST: VhostId = VhostId(0);

    fn user(index: u32) -> SessionId {
        SessionId {
            core: CoreId(1),
            index,
            generation: 0,
        }
    }

    fn canonical(table: TableWriter) -> Arguments {
        Arguments::parse(&table.into_bytes()).expect("written by us")
    }

    fn classic(name: &str) -> Request {
        Request::DeclareQueue {
            vhost: VHOST,
            name: Name::from(name),
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Arguments::default(),
            session: user(1),
            owner: CoreId(1),
        }
    }

    /// The request with something else about it.
    macro_rules! with {
        ($request:expr, $variant:ident { $($field:ident: $value:expr),+ }) => {{
            let mut request = $request;
            if let Request::$variant { $($field),+, .. } = &mut request {
                $(*$field = $value;)+
            }
            request
        }};
    }

    fn exchange(name: &str, kind: &str) -> Request {
        Request::DeclareExchange {
            vhost: VHOST,
            name: Name::from(name),
            kind: Name::from(kind),
            durable: false,
            auto_delete: false,
            internal: false,
            owner: CoreId(0),
            arguments: Arguments::default(),
        }
    }

    fn auto_delete(name: &str) -> Request {
        with!(
            exchange(name, "fanout"),
            DeclareExchange { auto_delete: true }
        )
    }

    fn bind_queue(exchange: &str, queue: &str) -> Request {
        Request::BindQueue {
            vhost: VHOST,
            queue: Name::from(queue),
            exchange: Name::from(exchange),
            routing_key: Name::from("key"),
            arguments: Arguments::default(),
            session: user(1),
        }
    }

    fn unbind_queue(exchange: &str, queue: &str) -> Request {
        Request::UnbindQueue {
            vhost: VHOST,
            queue: Name::from(queue),
            exchange: Name::from(exchange),
            routing_key: Name::from("key"),
            arguments: Arguments::default(),
            session: user(1),
        }
    }

    fn bind_exchange(source: &str, destination: &str) -> Request {
        Request::BindExchange {
            vhost: VHOST,
            destination: Name::from(destination),
            source: Name::from(source),
            routing_key: Name::from("key"),
            arguments: Arguments::default(),
        }
    }

    fn delete_exchange(name: &str) -> Request {
        Request::DeleteExchange {
            vhost: VHOST,
            name: Name::from(name),
            if_unused: false,
        }
    }

    struct Catalog {
        topology: Topology,
        names: NameSource,
    }

    impl Catalog {
        fn new() -> Self {
            Self {
                topology: Topology::new(&[Name::from("/")], 1),
                names: NameSource::new(1),
            }
        }

        fn ask(&mut self, request: &Request) -> Result<Decision, (u16, String)> {
            let decision =
                decide(&self.topology, request, &mut self.names).map_err(|error| error.reply())?;
            for change in &decision.changes {
                self.topology.apply(change);
            }
            Ok(decision)
        }

        fn done(&mut self, request: &Request) {
            self.ask(request).expect("granted");
        }

        fn declared(&mut self, request: &Request) -> (QueueId, Name) {
            match self.ask(request).expect("granted").answer {
                Answer::QueueDeclared { id, name } => (id, name),
                answer => panic!("a queue was declared, not {answer:?}"),
            }
        }

        fn refused(&mut self, request: &Request) -> (u16, String) {
            self.ask(request).expect_err("refused")
        }

        fn has_exchange(&self, name: &str) -> bool {
            self.topology.exchange_by_name(VHOST, name).is_some()
        }
    }

    #[test]
    fn an_equal_redeclaration_finds_the_same_queue_and_touches_it() {
        let mut catalog = Catalog::new();
        let (id, _) = catalog.declared(&classic("q"));
        assert_eq!(catalog.topology.queue_touches(id), Some(0));
        assert_eq!(catalog.declared(&classic("q\r\n")), (id, Name::from("q")));
        assert_eq!(catalog.topology.queue_touches(id), Some(1));
    }

    #[test]
    fn a_proposal_to_delete_falls_before_a_later_declaration() {
        let mut catalog = Catalog::new();
        let (id, _) = catalog.declared(&classic("q"));
        catalog.declared(&classic("q"));
        let unless = |unless_touched_since| Request::DeleteQueue {
            id,
            unless_touched_since,
        };
        let stale = catalog.ask(&unless(Some(0))).expect("an answer");
        assert_eq!(stale.answer, Answer::Refused);
        assert!(catalog.topology.queue(id).is_some());
        assert_eq!(
            catalog.ask(&unless(Some(1))).expect("an answer").answer,
            Answer::Done
        );
        assert_eq!(catalog.topology.queue(id), None);
        let again = catalog.ask(&unless(None)).expect("an answer");
        assert_eq!(again, done(Vec::new()), "what is gone need not be deleted");
        let (next, _) = catalog.declared(&classic("q"));
        assert_eq!((next.index, next.generation), (id.index, id.generation + 1));
    }

    #[test]
    fn the_server_names_queues_that_have_no_name() {
        let mut catalog = Catalog::new();
        let (first, name) = catalog.declared(&classic(""));
        let (second, other) = catalog.declared(&classic(""));
        assert_ne!((first, &name), (second, &other));
        assert_eq!(name.as_str().len(), "amq.gen-".len() + 22);
        assert!(name.as_str().starts_with("amq.gen-"));
        let again = catalog.refused(&classic(name.as_str()));
        assert_eq!(again.0, 403, "not even its own name may be declared");
        assert!(check_passive_queue(&catalog.topology, VHOST, &name, user(9)).is_ok());
    }

    #[test]
    fn inequivalent_queues_are_refused_in_rabbitmqs_words_and_order() {
        let mut catalog = Catalog::new();
        let ttl = |ttl| canonical(TableWriter::new().signed_int("x-message-ttl", ttl));
        let original = with!(
            classic("q"),
            DeclareQueue {
                arguments: ttl(1000)
            }
        );
        catalog.done(&original);
        let head = "PRECONDITION_FAILED - inequivalent arg";
        let tail = "for queue 'q' in vhost '/': received";
        let cases = [
            (
                with!(
                    original.clone(),
                    DeclareQueue {
                        durable: true,
                        auto_delete: true
                    }
                ),
                format!("{head} 'durable' {tail} 'true' but current is 'false'"),
            ),
            (
                with!(
                    original.clone(),
                    DeclareQueue {
                        auto_delete: true,
                        arguments: ttl(1)
                    }
                ),
                format!("{head} 'auto_delete' {tail} 'true' but current is 'false'"),
            ),
            (
                with!(original.clone(), DeclareQueue { arguments: ttl(1) }),
                format!("{head} 'x-message-ttl' {tail} '1' but current is '1000'"),
            ),
            (
                classic("q"),
                format!(
                    "{head} 'x-message-ttl' {tail} none but current is the value '1000' of type 'signedint'"
                ),
            ),
        ];
        for (request, text) in cases {
            assert_eq!(catalog.refused(&request), (406, text));
        }
        let long = canonical(
            TableWriter::new()
                .long("x-message-ttl", 1000)
                .long("mine", 1),
        );
        let widened = with!(original.clone(), DeclareQueue { arguments: long });
        catalog.done(&widened);
        let typed = TableWriter::new()
            .signed_int("x-message-ttl", 1000)
            .long_string("x-queue-type", "classic");
        catalog.done(&with!(
            original,
            DeclareQueue {
                arguments: canonical(typed)
            }
        ));
    }

    #[test]
    fn an_exclusive_queue_is_locked_to_others_in_every_way_and_never_durable() {
        let mut catalog = Catalog::new();
        let own = with!(
            classic("q"),
            DeclareQueue {
                exclusive: true,
                durable: true
            }
        );
        let (id, name) = catalog.declared(&own);
        assert!(!catalog.topology.queue(id).expect("alive").durable);
        catalog.done(&with!(own.clone(), DeclareQueue { durable: false }));
        catalog.done(&bind_queue("amq.fanout", "q"));
        let others = [
            with!(own, DeclareQueue { session: user(2) }),
            classic("q"),
            with!(bind_queue("amq.topic", "q"), BindQueue { session: user(2) }),
            with!(
                unbind_queue("amq.fanout", "q"),
                UnbindQueue { session: user(2) }
            ),
        ];
        for request in others {
            assert_eq!(catalog.refused(&request).0, 405, "{request:?}");
        }
        let passive = |index| check_passive_queue(&catalog.topology, VHOST, &name, user(index));
        assert_eq!(passive(1), Ok(id));
        assert_eq!(passive(2).expect_err("locked").code().0, 405);
    }

    #[test]
    fn a_shared_queue_is_not_declared_exclusive_later() {
        let mut catalog = Catalog::new();
        catalog.done(&classic("q"));
        let exclusive = with!(classic("q"), DeclareQueue { exclusive: true });
        assert_eq!(catalog.refused(&exclusive).0, 405);
    }

    #[test]
    fn quorum_queues_must_be_named_durable_and_shared_and_must_stay() {
        let mut catalog = Catalog::new();
        let quorum = |name: &str| {
            let typed = canonical(TableWriter::new().long_string("x-queue-type", "quorum"));
            with!(
                classic(name),
                DeclareQueue {
                    arguments: typed,
                    durable: true
                }
            )
        };
        catalog.done(&quorum("q"));
        let cases = [
            (
                quorum(""),
                "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue",
            ),
            (
                with!(quorum("t"), DeclareQueue { durable: false }),
                "PRECONDITION_FAILED - invalid property 'non-durable' for queue 't' in vhost '/'",
            ),
            (
                with!(quorum("e"), DeclareQueue { exclusive: true }),
                "PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'e' in vhost '/'",
            ),
            (
                with!(quorum("a"), DeclareQueue { auto_delete: true }),
                "PRECONDITION_FAILED - invalid property 'auto-delete' for queue 'a' in vhost '/'",
            ),
        ];
        for (request, text) in cases {
            assert_eq!(catalog.refused(&request), (406, text.to_owned()));
        }
    }

    #[test]
    fn a_queue_without_a_type_is_of_the_default_one_and_refused_as_if_it_had_said_so() {
        let mut catalog = Catalog::new();
        catalog.done(&with!(classic("before"), DeclareQueue { durable: true }));
        catalog
            .topology
            .set_default_queue_type(Some(QueueType::Quorum));
        let typed = canonical(TableWriter::new().long_string("x-queue-type", "quorum"));
        let plain = with!(classic("q"), DeclareQueue { durable: true });
        let said = with!(
            plain.clone(),
            DeclareQueue {
                arguments: typed.clone()
            }
        );
        let (id, _) = catalog.declared(&plain);
        let arguments = &catalog.topology.queue(id).expect("alive").arguments;
        assert_eq!(arguments, &typed);
        catalog.done(&said);
        catalog.done(&plain);
        let priorities = canonical(TableWriter::new().long("x-max-priority", 5));
        let refused = [
            with!(classic("before"), DeclareQueue { durable: true }),
            with!(classic(""), DeclareQueue { durable: true }),
            with!(
                plain,
                DeclareQueue {
                    name: Name::from("p"),
                    arguments: priorities
                }
            ),
        ];
        for request in refused {
            assert_eq!(catalog.refused(&request).0, 406, "{request:?}");
        }
        catalog.done(&classic("passing"));
    }

    #[test]
    fn exchanges_are_equal_by_kind_flags_and_alternate() {
        let mut catalog = Catalog::new();
        catalog.done(&exchange("x", "topic"));
        catalog.done(&exchange("x", "topic"));
        catalog.done(&with!(
            exchange("amq.topic", "topic"),
            DeclareExchange { durable: true }
        ));
        let alternate = canonical(TableWriter::new().long_string("alternate-exchange", "ae"));
        let head = "PRECONDITION_FAILED - inequivalent arg";
        let tail = "for exchange 'x' in vhost '/': received";
        let cases = [
            (
                exchange("x", "direct"),
                format!("{head} 'type' {tail} 'direct' but current is 'topic'"),
            ),
            (
                with!(exchange("x", "topic"), DeclareExchange { durable: true }),
                format!("{head} 'durable' {tail} 'true' but current is 'false'"),
            ),
            (
                with!(exchange("x", "topic"), DeclareExchange { internal: true }),
                format!("{head} 'internal' {tail} 'true' but current is 'false'"),
            ),
            (
                with!(
                    exchange("x", "topic"),
                    DeclareExchange {
                        arguments: alternate
                    }
                ),
                format!(
                    "{head} 'alternate-exchange' {tail} the value 'ae' of type 'longstr' but current is none"
                ),
            ),
        ];
        for (request, text) in cases {
            assert_eq!(catalog.refused(&request), (406, text));
        }
    }

    #[test]
    fn system_exchanges_are_out_of_reach() {
        let mut catalog = Catalog::new();
        let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
        let cases = [
            (
                exchange("amq.new", "direct"),
                403,
                "ACCESS_REFUSED - exchange name 'amq.new' contains reserved prefix 'amq.*'",
            ),
            (
                exchange("x", "odd"),
                503,
                "COMMAND_INVALID - unknown exchange type 'odd'",
            ),
            (exchange("\r\n", "direct"), 403, default),
            (delete_exchange(""), 403, default),
            (
                delete_exchange("amq.topic"),
                403,
                "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed",
            ),
            (bind_queue("", "q"), 403, default),
            (unbind_queue("", "q"), 403, default),
            (bind_exchange("amq.topic", ""), 403, default),
        ];
        for (request, code, text) in cases {
            assert_eq!(
                catalog.refused(&request),
                (code, text.to_owned()),
                "{request:?}"
            );
        }
        let passive =
            |name: &str| check_passive_exchange(&catalog.topology, VHOST, &Name::from(name));
        assert!(passive("amq.fanout").is_ok());
        assert_eq!(passive("").expect_err("default").code().0, 403);
        assert_eq!(
            passive("none").expect_err("missing").to_string(),
            "no exchange 'none' in vhost '/'"
        );
    }

    #[test]
    fn binding_what_is_missing_fails_and_unbinding_it_does_not() {
        let mut catalog = Catalog::new();
        let none = (
            404,
            "NOT_FOUND - no exchange 'none' in vhost '/'".to_owned(),
        );
        assert_eq!(catalog.refused(&bind_queue("none", "q")), none);
        assert_eq!(catalog.refused(&bind_exchange("amq.topic", "none")), none);
        let no_queue = catalog.refused(&bind_queue("amq.topic", "q"));
        assert_eq!(
            no_queue,
            (404, "NOT_FOUND - no queue 'q' in vhost '/'".to_owned())
        );
        for request in [
            unbind_queue("none", "q"),
            unbind_queue("amq.topic", "q"),
            delete_exchange("none"),
        ] {
            assert_eq!(catalog.ask(&request), Ok(done(Vec::new())));
        }
        catalog.done(&classic("q"));
        catalog.done(&bind_queue("amq.topic", "q"));
        let again = catalog.ask(&bind_queue("amq.topic", "q"));
        assert_eq!(again, Ok(done(Vec::new())), "bound is bound");
    }

    #[test]
    fn x_match_is_checked_on_headers_exchanges_alone_and_before_exclusivity() {
        let mut catalog = Catalog::new();
        catalog.done(&with!(classic("q"), DeclareQueue { exclusive: true }));
        let odd = canonical(TableWriter::new().long_string("x-match", "odd"));
        let request = with!(
            bind_queue("amq.match", "q"),
            BindQueue {
                arguments: odd.clone(),
                session: user(2)
            }
        );
        assert_eq!(catalog.refused(&request).0, 406);
        catalog.done(&with!(
            bind_queue("amq.topic", "q"),
            BindQueue { arguments: odd }
        ));
    }

    #[test]
    fn an_exchange_in_use_is_deleted_only_without_if_unused() {
        let mut catalog = Catalog::new();
        catalog.done(&exchange("x", "fanout"));
        catalog.done(&exchange("y", "fanout"));
        catalog.done(&bind_exchange("x", "y"));
        let if_unused = |name| with!(delete_exchange(name), DeleteExchange { if_unused: true });
        let in_use = (
            406,
            "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use".to_owned(),
        );
        assert_eq!(catalog.refused(&if_unused("x")), in_use);
        catalog.done(&if_unused("y"));
        assert!(!catalog.has_exchange("y"));
        catalog.done(&if_unused("x"));
        assert!(
            !catalog.has_exchange("x"),
            "its only binding went with the destination"
        );
    }

    #[test]
    fn auto_delete_exchanges_go_with_their_last_binding_and_take_others_along() {
        let mut catalog = Catalog::new();
        let (queue, _) = catalog.declared(&classic("q"));
        for name in ["a", "b", "c"] {
            catalog.done(&auto_delete(name));
        }
        catalog.done(&exchange("stays", "fanout"));
        for (source, destination) in [("a", "b"), ("b", "c"), ("stays", "a"), ("c", "a")] {
            catalog.done(&bind_exchange(source, destination));
        }
        catalog.done(&bind_queue("c", "q"));
        catalog.done(&Request::UnbindExchange {
            vhost: VHOST,
            destination: Name::from("a"),
            source: Name::from("c"),
            routing_key: Name::from("key"),
            arguments: Arguments::default(),
        });
        assert!(catalog.has_exchange("c"), "it has another binding");
        catalog.done(&Request::DeleteQueue {
            id: queue,
            unless_touched_since: None,
        });
        for name in ["a", "b", "c"] {
            assert!(!catalog.has_exchange(name), "{name} is gone");
        }
        assert!(catalog.has_exchange("stays"));
    }

    #[test]
    fn an_auto_delete_exchange_bound_to_itself_can_be_deleted_once() {
        let mut catalog = Catalog::new();
        catalog.done(&auto_delete("x"));
        catalog.done(&bind_exchange("x", "x"));
        let decision = catalog.ask(&delete_exchange("x")).expect("granted");
        assert_eq!(decision.changes.len(), 1);
        assert!(!catalog.has_exchange("x"));
    }

    #[test]
    fn one_seed_gives_one_sequence_of_names() {
        let (mut one, mut other) = (NameSource::new(5), NameSource::new(5));
        assert_eq!(one.next_queue_name(), other.next_queue_name());
        assert_ne!(one.next_queue_name(), NameSource::new(6).next_queue_name());
        let distinct: HashSet<_> = (0..1000).map(|_| one.next_queue_name()).collect();
        assert_eq!(distinct.len(), 1000);
    }
}
