//! What the catalog knows of a queue, an exchange and a binding: what was declared, and nothing that
//! changes with traffic.

use crate::base::{CoreId, ExchangeId, Name, QueueId, SessionId, VhostId};
use crate::model::administration::Policy;
use crate::model::arguments::Arguments;
use crate::model::policy::PolicyKind;

/// A queue as it was declared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueDefinition {
    /// The vhost it lives in.
    pub vhost: VhostId,
    /// Its name, unique among the queues of the vhost.
    pub name: Name,
    /// Whether it outlives the process. Never true for an exclusive queue, whatever was asked for.
    pub durable: bool,
    /// The only session that may use it, and whose end it doesn't survive.
    pub exclusive: Option<SessionId>,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// As declared; [`QueueArguments`](crate::model::arguments::QueueArguments) reads them.
    pub arguments: Arguments,
    /// The core that holds its messages.
    pub owner: CoreId,
    /// 0 for a queue that isn't durable; otherwise a number that no other queue of this data directory
    /// has or had, so that messages in a log can't be taken for those of a later queue of that name.
    pub incarnation: u64,
}

/// An exchange as it was declared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExchangeDefinition {
    /// The vhost it lives in.
    pub vhost: VhostId,
    /// Its name, unique among the exchanges of the vhost; empty for the default exchange.
    pub name: Name,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Whether it outlives the process.
    pub durable: bool,
    /// Whether it goes with the last binding that it is the source of.
    pub auto_delete: bool,
    /// Whether clients may not publish to it.
    pub internal: bool,
    /// As declared.
    pub arguments: Arguments,
    /// Where messages go that it can't route.
    pub alternate: Option<Name>,
}

/// How an exchange routes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExchangeKind {
    /// To bindings whose key equals the message's.
    Direct,
    /// To all its bindings.
    Fanout,
    /// To bindings whose pattern matches the message's key.
    Topic,
    /// To bindings whose arguments match the message's headers.
    Headers,
    /// To one binding, by a hash and the bindings' weights.
    ConsistentHash,
    /// To one binding, by the key's hash modulo their number.
    ModulusHash,
    /// To any one binding.
    Random,
    /// To any one binding, all of which lead to queues of this node.
    LocalRandom,
    /// As another kind, after a while.
    Delayed,
    /// To all its bindings, and what came last to new ones.
    RecentHistory,
    /// To all its bindings, unless one like it went there before.
    Deduplicating,
}

impl ExchangeKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::ModulusHash,
        Self::Random,
        Self::LocalRandom,
        Self::Delayed,
        Self::RecentHistory,
        Self::Deduplicating,
    ];

    /// The kind of that name in `exchange.declare`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name in `exchange.declare`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::Delayed => "x-delayed-message",
            Self::RecentHistory => "x-recent-history",
            Self::Deduplicating => "x-message-deduplication",
        }
    }
}

/// Where a binding leads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Destination {
    /// To a queue.
    Queue(QueueId),
    /// To another exchange.
    Exchange(ExchangeId),
}

/// A binding. Two are the same if all four parts are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Binding {
    /// The exchange that messages come from.
    pub source: ExchangeId,
    /// Where they go.
    pub destination: Destination,
    /// The key or the pattern.
    pub routing_key: Name,
    /// What a headers exchange compares with; other kinds only tell bindings apart by them.
    pub arguments: Arguments,
}

/// One step from a topology to the next. The catalog makes them, every core applies them in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A queue comes to be.
    CreateQueue {
        /// Who it is from now on.
        id: QueueId,
        /// What was declared.
        definition: QueueDefinition,
    },
    /// It was declared once more, so whoever thought of deleting it must think again.
    TouchQueue {
        /// Which one.
        id: QueueId,
    },
    /// A queue goes, and the bindings that lead to it.
    DeleteQueue {
        /// Which one.
        id: QueueId,
    },
    /// An exchange comes to be.
    CreateExchange {
        /// Who it is from now on.
        id: ExchangeId,
        /// What was declared.
        definition: ExchangeDefinition,
    },
    /// An exchange goes, and the bindings from it and to it.
    DeleteExchange {
        /// Which one.
        id: ExchangeId,
    },
    /// A binding comes to be.
    Bind(Binding),
    /// A binding goes.
    Unbind(Binding),
    /// A policy is set, or set anew.
    SetPolicy {
        /// Whose.
        kind: PolicyKind,
        /// As it was defined; [`Policy::parse`](crate::model::policy::Policy::parse) has passed it.
        policy: Policy,
    },
    /// A policy goes.
    ClearPolicy {
        /// Whose.
        kind: PolicyKind,
        /// Where.
        vhost: Name,
        /// Which one.
        name: Name,
    },
}
