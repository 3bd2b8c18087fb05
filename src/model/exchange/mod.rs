//! Exchanges: one kind, one file, each with its own bindings, which it adds, removes and matches.
//!
//! Matching allocates nothing once its scratch has grown to the size of the topology.

pub mod destinations;
pub mod direct;
pub mod fanout;
pub mod headers;
pub mod scratch;
pub mod topic;

use crate::amqp::properties::Properties;
use crate::base::Name;
use crate::model::Seeded;
use crate::model::arguments::Arguments;
use crate::model::definition::{Destination, ExchangeKind};
use direct::DirectBindings;
use fanout::FanoutBindings;
use headers::HeadersBindings;
use scratch::{Collector, HeaderIndex, TopicScratch};
use topic::TopicBindings;

pub use scratch::RouteScratch;

/// The bindings of one exchange, arranged as its kind matches them.
///
/// The same key, destination and arguments must not be added twice; bindings that differ only in what
/// a kind doesn't look at are counted.
#[derive(Debug)]
pub enum Bindings {
    /// Of a direct exchange.
    Direct(DirectBindings),
    /// Of a fanout exchange.
    Fanout(FanoutBindings),
    /// Of a topic exchange.
    Topic(TopicBindings),
    /// Of a headers exchange.
    Headers(HeadersBindings),
}

impl Bindings {
    pub(crate) fn new(kind: ExchangeKind, hashing: &Seeded) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(DirectBindings::new(hashing)),
            ExchangeKind::Fanout => Self::Fanout(FanoutBindings::new(hashing)),
            ExchangeKind::Topic => Self::Topic(TopicBindings::new(hashing)),
            ExchangeKind::Headers => Self::Headers(HeadersBindings::new(hashing)),
        }
    }

    /// Adds one binding.
    pub fn add(&mut self, key: &Name, arguments: &Arguments, destination: Destination) {
        match self {
            Self::Direct(bindings) => bindings.add(key, destination),
            Self::Fanout(bindings) => bindings.add(destination),
            Self::Topic(bindings) => bindings.add(key.as_bytes(), destination),
            Self::Headers(bindings) => bindings.add(arguments, destination),
        }
    }

    /// Removes one binding that was added.
    pub fn remove(&mut self, key: &Name, arguments: &Arguments, destination: Destination) {
        match self {
            Self::Direct(bindings) => bindings.remove(key, destination),
            Self::Fanout(bindings) => bindings.remove(destination),
            Self::Topic(bindings) => bindings.remove(key.as_bytes(), destination),
            Self::Headers(bindings) => bindings.remove(arguments, destination),
        }
    }

    /// Hands every destination that matches to the collector, some more than once.
    pub(crate) fn route(
        &self,
        key: &[u8],
        properties: Properties<'_>,
        topic: &mut TopicScratch,
        headers: &mut HeaderIndex,
        collector: &mut Collector<'_>,
    ) {
        match self {
            Self::Direct(bindings) => bindings.route(key, collector),
            Self::Fanout(bindings) => bindings.route(collector),
            Self::Topic(bindings) => {
                bindings.route(key, topic, collector);
            }
            Self::Headers(bindings) => bindings.route(properties, headers, collector),
        }
    }
}
