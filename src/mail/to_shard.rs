//! To the queues of a core: publishes, acknowledgements, and the questions of channels.

use super::{MessageSpan, News, Span};
use crate::base::{CoreId, QueueId, SessionId};

/// What a shard is asked to do.
#[derive(Debug)]
pub enum ToShard {
    /// A message for one or several of its queues.
    Publish(Publish),
    /// Deliveries that are done with.
    Settle(Settle),
    /// Deliveries have left for the socket: so much may come again.
    WindowReturn {
        /// The consumer's session.
        session: SessionId,
        /// Messages.
        messages: u32,
        /// Bytes.
        bytes: u32,
    },
    /// Attach a consumer. Answered by `Consuming` or `Refused`.
    Consume(Box<Consume>),
    /// Detach a consumer. What follows in the ring (a fence) tells that no delivery comes any more.
    Cancel {
        /// The consumer's session.
        session: SessionId,
        /// The consumer, as the session numbers it.
        consumer: u32,
        /// Its queue.
        queue: QueueId,
    },
    /// Lend credit to a consumer under channel-wide prefetch.
    Grant {
        /// The consumer's session.
        session: SessionId,
        /// The consumer's channel, to surrender to if the consumer is gone.
        channel: u16,
        /// The consumer, as the session numbers it.
        consumer: u32,
        /// Its queue.
        queue: QueueId,
        /// How many deliveries.
        credits: u32,
    },
    /// Put a consumer under channel-wide prefetch, or take it from there.
    Meter {
        /// The consumer's session.
        session: SessionId,
        /// The consumer, as the session numbers it.
        consumer: u32,
        /// Its queue.
        queue: QueueId,
        /// Whether it waits for grants from now on.
        metered: bool,
    },
    /// Stop or resume deliveries to a consumer (`channel.flow`).
    Pause {
        /// The consumer's session.
        session: SessionId,
        /// The consumer, as the session numbers it.
        consumer: u32,
        /// Its queue.
        queue: QueueId,
        /// Stop, or resume.
        paused: bool,
    },
    /// `basic.get`. Answered by `Got` or `Empty`.
    Get {
        /// Who asks.
        session: SessionId,
        /// On which channel.
        channel: u16,
        /// From which queue.
        queue: QueueId,
        /// Whether the message is done with once it is sent.
        no_ack: bool,
    },
    /// How many messages and consumers? Answered by `Counts`.
    Count {
        /// Who asks.
        session: SessionId,
        /// On which channel.
        channel: u16,
        /// Of which queue.
        queue: QueueId,
    },
    /// Drop all ready messages. Answered by `Removed`.
    Purge {
        /// Who asks.
        session: SessionId,
        /// On which channel.
        channel: u16,
        /// Of which queue.
        queue: QueueId,
    },
    /// Delete a queue. Answered by `Removed` or `Refused`.
    Delete {
        /// Who asks.
        session: SessionId,
        /// On which channel.
        channel: u16,
        /// Which queue.
        queue: QueueId,
        /// Only if it has no consumers.
        if_unused: bool,
        /// Only if it has no ready messages.
        if_empty: bool,
    },
    /// Answered by `Done` once all that came before it is carried out.
    Fence {
        /// Who asks.
        session: SessionId,
        /// On which channel.
        channel: u16,
    },
    /// A session moves: whatever is for it from now on goes to its new core. Answered by
    /// [`Rebound`](super::ToSession::Rebound).
    Rebind(Box<Rebind>),
    /// All dead letters of the receiving core up to this confirm number that went to another are settled
    /// there.
    LettersSettled {
        /// The other core.
        core: CoreId,
        /// The highest such number.
        upto: u64,
    },
    /// Something is to be said of one dead letter of the receiving core alone.
    LetterNews {
        /// The receiving core's number for it.
        number: u64,
        /// What.
        news: News,
    },
    /// The session is gone; it has detached its consumers and settled its deliveries before.
    SessionGone {
        /// Which.
        session: SessionId,
    },
}

/// A message for queues of one core.
#[derive(Clone, Copy, Debug)]
pub struct Publish {
    /// Who waits for it to be settled.
    pub publisher: Publisher,
    /// The publisher's number for it; 0 if it doesn't wait.
    pub confirm: u64,
    /// The queues: [`QueueId::to_bytes`] of each, in the arena.
    pub queues: Span,
    /// The message.
    pub message: MessageSpan,
}

/// Where messages come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Publisher {
    /// From a client.
    Channel {
        /// Its session.
        session: SessionId,
        /// Its channel.
        channel: u16,
        /// Whether it wants the message back if that goes nowhere, and couldn't see itself whether it does.
        mandatory: bool,
    },
    /// From a core: of its queues with a dead-letter exchange, or of exchanges that have something to send.
    DeadLetters(CoreId),
}

/// Deliveries of one queue that are done with.
#[derive(Clone, Copy, Debug)]
pub struct Settle {
    /// The queue.
    pub queue: QueueId,
    /// How they ended.
    pub outcome: Outcome,
    /// The deliveries' slots: four bytes each, little-endian, in the arena.
    pub slots: Span,
}

/// How a delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Acknowledged: the message is done with.
    Ack,
    /// Rejected, not to come again.
    Discard,
    /// Back to its place in the queue, flagged redelivered.
    Requeue,
}

/// A consumer to be attached.
#[derive(Clone, Debug)]
pub struct Consume {
    /// Its session.
    pub session: SessionId,
    /// Its channel.
    pub channel: u16,
    /// As the session numbers it.
    pub consumer: u32,
    /// Its queue.
    pub queue: QueueId,
    /// Whether messages are done with once they are sent.
    pub no_ack: bool,
    /// Whether it wants the queue for itself.
    pub exclusive: bool,
    /// `x-priority`.
    pub priority: i64,
    /// Deliveries it may leave unacknowledged; 0 is no limit.
    pub prefetch: u16,
    /// Whether it waits for [`ToShard::Grant`]s (channel-wide prefetch).
    pub metered: bool,
    /// Whether it begins paused (`channel.flow`).
    pub paused: bool,
}

/// A session that moves.
#[derive(Clone, Debug)]
pub struct Rebind {
    /// What it was called.
    pub from: SessionId,
    /// What it is called from now on.
    pub to: SessionId,
    /// Its consumers on the receiving core: the queue, and the number that the session gave it.
    pub consumers: Vec<(QueueId, u32)>,
}
