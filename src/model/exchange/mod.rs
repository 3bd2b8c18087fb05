//! Exchanges: one kind, one file, each with its own bindings, which it adds, removes and matches.
//!
//! Matching allocates nothing once its scratch has grown to the size of the topology.

pub mod binding_list;
pub mod consistent_hash;
pub mod deduplicating;
pub mod delayed;
pub mod destinations;
pub mod direct;
pub mod fanout;
pub mod headers;
pub mod own_queue;
pub mod recent_history;
pub mod scratch;
pub mod topic;

use crate::amqp::error::ChannelError;
use crate::amqp::properties::Properties;
use crate::base::Name;
use crate::model::Seeded;
use crate::model::arguments::{Arguments, QueueArguments, QueueType};
use crate::model::definition::{Destination, ExchangeKind};
use binding_list::BindingList;
use consistent_hash::{ConsistentHashBindings, HashOn};
use direct::DirectBindings;
use fanout::FanoutBindings;
use headers::HeadersBindings;
use scratch::{Collector, Matching};
use topic::TopicBindings;

pub use scratch::RouteScratch;

/// Checks what only this kind of exchange makes of the arguments of `exchange.declare`.
///
/// # Errors
/// `PreconditionFailed` (406), in RabbitMQ's words.
pub fn check_arguments(kind: ExchangeKind, arguments: &Arguments) -> Result<(), ChannelError> {
    match kind {
        ExchangeKind::ConsistentHash => HashOn::parse(arguments).map(drop),
        ExchangeKind::Delayed => {
            let inner = delayed::inner_kind(arguments)?;
            check_arguments(inner, arguments)
        }
        ExchangeKind::RecentHistory => recent_history::check_arguments(arguments),
        ExchangeKind::Deduplicating => deduplicating::check_arguments(arguments),
        _ => Ok(()),
    }
}

/// Checks a binding's key and arguments, and where it leads (`queue`: what the queue was declared with, none for an
/// exchange), by the rules of this kind of exchange, which was declared with `of_exchange`.
///
/// # Errors
/// `PreconditionFailed` (406), in RabbitMQ's words.
pub fn check_binding(
    kind: ExchangeKind,
    of_exchange: &Arguments,
    key: &Name,
    arguments: &Arguments,
    queue: Option<&Arguments>,
) -> Result<(), ChannelError> {
    match kind {
        ExchangeKind::Delayed => {
            let inner = delayed::inner_kind(of_exchange)?;
            check_binding(inner, of_exchange, key, arguments, queue)
        }
        ExchangeKind::Headers => headers::check_arguments(arguments),
        ExchangeKind::ConsistentHash => consistent_hash::check_weight(key),
        ExchangeKind::LocalRandom => check_local(key, queue),
        _ => Ok(()),
    }
}

/// `rabbit_exchange_type_local_random:validate_binding`.
fn check_local(key: &Name, queue: Option<&Arguments>) -> Result<(), ChannelError> {
    let queue_type = |declared: &Arguments| {
        QueueArguments::parse(declared)
            .map(|arguments| arguments.queue_type)
            .unwrap_or_default()
    };
    let text = match queue.map(queue_type) {
        _ if !key.as_str().is_empty() => format!("Non empty binding '{key}' key not permitted"),
        None => "Destination not found".to_owned(),
        Some(QueueType::Classic) => return Ok(()),
        Some(other) => format!(
            "Queue type rabbit_{}_queue not valid for this exchange type",
            other.name()
        ),
    };
    Err(ChannelError::PreconditionFailed(text))
}

/// The bindings of one exchange, arranged as its kind matches them.
///
/// The same key, destination and arguments must not be added twice; bindings that differ only in what
/// a kind doesn't look at are counted.
#[derive(Debug)]
pub enum Bindings {
    /// Of a direct exchange.
    Direct(DirectBindings),
    /// Of a fanout exchange, or a deduplicating one.
    Fanout(FanoutBindings),
    /// Of a recent history exchange.
    RecentHistory(FanoutBindings),
    /// Of a topic exchange.
    Topic(TopicBindings),
    /// Of a headers exchange.
    Headers(HeadersBindings),
    /// Of a consistent hash exchange.
    ConsistentHash(ConsistentHashBindings),
    /// Of a modulus hash exchange.
    ModulusHash(BindingList),
    /// Of a random or a local random exchange.
    Random {
        /// One of them is chosen.
        list: BindingList,
        /// Makes chance of a count.
        hashing: Seeded,
    },
    /// Of a delayed exchange: those of the kind that it routes by.
    Delayed(Box<Self>),
}

impl Bindings {
    pub(crate) fn new(kind: ExchangeKind, arguments: &Arguments, hashing: &Seeded) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(DirectBindings::new(hashing)),
            ExchangeKind::Fanout | ExchangeKind::Deduplicating => {
                Self::Fanout(FanoutBindings::new(hashing))
            }
            ExchangeKind::RecentHistory => Self::RecentHistory(FanoutBindings::new(hashing)),
            ExchangeKind::Topic => Self::Topic(TopicBindings::new(hashing)),
            ExchangeKind::Headers => Self::Headers(HeadersBindings::new(hashing)),
            ExchangeKind::ConsistentHash => {
                Self::ConsistentHash(ConsistentHashBindings::new(arguments, hashing))
            }
            ExchangeKind::Delayed => {
                let inner = delayed::inner_kind(arguments).unwrap_or(ExchangeKind::Direct);
                Self::Delayed(Box::new(Self::new(inner, arguments, hashing)))
            }
            ExchangeKind::ModulusHash => Self::ModulusHash(BindingList::default()),
            ExchangeKind::Random | ExchangeKind::LocalRandom => Self::Random {
                list: BindingList::default(),
                hashing: hashing.clone(),
            },
        }
    }

    /// Adds one binding. `name`: the destination's.
    pub fn add(
        &mut self,
        key: &Name,
        arguments: &Arguments,
        destination: Destination,
        name: &Name,
    ) {
        match self {
            Self::Direct(bindings) => bindings.add(key, destination),
            Self::Fanout(bindings) | Self::RecentHistory(bindings) => bindings.add(destination),
            Self::Topic(bindings) => bindings.add(key.as_bytes(), destination),
            Self::Headers(bindings) => bindings.add(arguments, destination),
            Self::ConsistentHash(bindings) => bindings.add(key, destination, name),
            Self::Delayed(bindings) => bindings.add(key, arguments, destination, name),
            Self::ModulusHash(list) | Self::Random { list, .. } => list.add(key, destination, name),
        }
    }

    /// Removes one binding that was added.
    pub fn remove(&mut self, key: &Name, arguments: &Arguments, destination: Destination) {
        match self {
            Self::Direct(bindings) => bindings.remove(key, destination),
            Self::Fanout(bindings) | Self::RecentHistory(bindings) => bindings.remove(destination),
            Self::Topic(bindings) => bindings.remove(key.as_bytes(), destination),
            Self::Headers(bindings) => bindings.remove(arguments, destination),
            Self::ConsistentHash(bindings) => bindings.remove(key, destination),
            Self::Delayed(bindings) => bindings.remove(key, arguments, destination),
            Self::ModulusHash(list) | Self::Random { list, .. } => list.remove(key, destination),
        }
    }

    /// Whether the routing keys alone say where a message goes: no header or property does, nor chance.
    pub fn follow_keys_alone(&self) -> bool {
        match self {
            Self::Direct(_) | Self::Fanout(_) | Self::Topic(_) | Self::ModulusHash(_) => true,
            Self::ConsistentHash(bindings) => bindings.hashes_routing_key(),
            Self::Headers(_) | Self::Random { .. } | Self::Delayed(_) | Self::RecentHistory(_) => {
                false
            }
        }
    }

    /// Hands every destination that matches to the collector, some more than once. A message has several
    /// keys by its headers CC and BCC; kinds that choose one destination choose one all the same.
    pub(crate) fn route(
        &self,
        keys: &[&[u8]],
        properties: Properties<'_>,
        matching: &mut Matching,
        collector: &mut Collector<'_>,
    ) {
        match self {
            Self::Direct(bindings) => {
                for key in keys {
                    bindings.route(key, collector);
                }
            }
            Self::Fanout(bindings) | Self::RecentHistory(bindings) => bindings.route(collector),
            Self::Topic(bindings) => {
                for key in keys {
                    bindings.route(key, &mut matching.topic, collector);
                }
            }
            Self::Headers(bindings) => {
                bindings.route(properties, &mut matching.headers, collector);
            }
            Self::ConsistentHash(bindings) => bindings.route(keys, properties, collector),
            Self::Delayed(bindings) => bindings.route(keys, properties, matching, collector),
            Self::ModulusHash(list) => list.route_by_modulus(keys, collector),
            Self::Random { list, hashing } => {
                list.route_by_chance(hashing, &mut matching.chance, collector);
            }
        }
    }
}
