//! To the connections of a core: deliveries, confirms, answers.

use super::{MessageSpan, News, batch::Batch};
use crate::amqp::error::AmqpError;
use crate::base::{CoreId, Name, QueueId, SessionId};

/// The slot of a delivery that needs no acknowledgement.
pub const NO_SLOT: u32 = u32::MAX;

/// What a session is told.
#[derive(Debug)]
pub enum ToSession {
    /// A message for a consumer.
    Deliver(Deliver),
    /// All publishes of the channel up to this confirm number that went to the sending core are
    /// settled there.
    Confirmed {
        /// The publisher.
        session: SessionId,
        /// Its channel.
        channel: u16,
        /// The highest such number.
        upto: u64,
    },
    /// Something is to be said of one publish of the channel alone.
    News {
        /// The publisher.
        session: SessionId,
        /// Its channel.
        channel: u16,
        /// The publish's number.
        number: u64,
        /// What.
        news: News,
    },
    /// A mandatory message has turned out to go nowhere.
    Returned {
        /// The publisher.
        session: SessionId,
        /// Its channel.
        channel: u16,
        /// The message.
        message: MessageSpan,
    },
    /// The answer to the channel's open question.
    Answer {
        /// Who asked.
        session: SessionId,
        /// On which channel (0: the connection itself asked).
        channel: u16,
        /// The answer.
        answer: Box<Answer>,
    },
    /// A queue has messages for a consumer under channel-wide prefetch that has no credit.
    Hungry {
        /// The consumer's session.
        session: SessionId,
        /// The consumer's channel.
        channel: u16,
        /// The consumer, as the session numbers it.
        consumer: u32,
    },
    /// A queue ran dry: credit that was lent to a consumer comes back.
    Surrender {
        /// The consumer's session.
        session: SessionId,
        /// The consumer's channel.
        channel: u16,
        /// The consumer, as the session numbers it.
        consumer: u32,
        /// How many deliveries' worth.
        credits: u32,
    },
    /// A consumer's queue was deleted.
    ConsumerCancelled {
        /// The consumer's session.
        session: SessionId,
        /// The consumer's channel.
        channel: u16,
        /// The consumer, as the session numbers it.
        consumer: u32,
    },
    /// The answer to [`Keep`](super::ToHost::Keep).
    Invited {
        /// The session that wants to move.
        session: SessionId,
        /// What it will be called there; none if it can't come.
        place: Option<SessionId>,
    },
    /// The sending core has carried [`Rebind`](super::Rebind) out: it sends nothing more to the session here.
    Rebound {
        /// The session that moves.
        session: SessionId,
    },
    /// The session feeds a queue faster than its consumers, who do drain it, can follow: read less.
    Ease {
        /// The publisher.
        session: SessionId,
        /// How much less.
        how: Ease,
    },
}

impl ToSession {
    /// Whom it is for.
    pub fn session(&self) -> SessionId {
        match *self {
            Self::Deliver(Deliver { session, .. })
            | Self::Confirmed { session, .. }
            | Self::News { session, .. }
            | Self::Returned { session, .. }
            | Self::Answer { session, .. }
            | Self::Hungry { session, .. }
            | Self::Surrender { session, .. }
            | Self::ConsumerCancelled { session, .. }
            | Self::Invited { session, .. }
            | Self::Rebound { session }
            | Self::Ease { session, .. } => session,
        }
    }
}

/// How much less a publisher should be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ease {
    /// In smaller portions, so that our turns are short and consumers don't wait for them.
    Portions,
    /// Less often as well: the queue could catch up.
    Rests,
    /// Hardly at all: the disk has more to write than it should, or the memory more to hold.
    Waits,
}

/// A message for a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Deliver {
    /// The consumer's session.
    pub session: SessionId,
    /// The consumer's channel.
    pub channel: u16,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// The consumer, as the session numbers it.
    pub consumer: u32,
    /// Where it came from, for the acknowledgement.
    pub queue: QueueId,
    /// What the queue calls the delivery, or [`NO_SLOT`].
    pub slot: u32,
    /// The message.
    pub message: MessageSpan,
}

/// Answers to a channel's open question.
#[derive(Debug)]
pub enum Answer {
    /// It can't be: the channel or the connection is closed with this.
    Refused(AmqpError),
    /// It was done (exchange and binding methods, fences).
    Done,
    /// The queue exists, in the catalog's view.
    QueueDeclared {
        /// Its identity.
        queue: QueueId,
        /// Its name, made by the server if the client gave none.
        name: Name,
    },
    /// How many ready messages and consumers a queue has.
    Counts {
        /// Ready messages.
        messages: u64,
        /// Consumers.
        consumers: u32,
    },
    /// A queue was purged or deleted with so many ready messages.
    Removed {
        /// How many.
        messages: u64,
    },
    /// A consumer was attached to a queue.
    Consuming,
    /// A message for `basic.get`.
    Got(Box<Got>),
    /// The queue had no ready message for `basic.get`, or is gone.
    Empty,
}

/// A message for `basic.get`.
#[derive(Debug)]
pub struct Got {
    /// The queue's core.
    pub core: CoreId,
    /// The queue.
    pub queue: QueueId,
    /// What the queue calls the delivery, or [`NO_SLOT`].
    pub slot: u32,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Ready messages left.
    pub messages: u64,
    /// A batch with nothing but the message: a get is a question, so it may cost an allocation.
    pub batch: Batch<()>,
    /// The message in the batch.
    pub message: MessageSpan,
}
