//! A channel: its mode, its contents under way, its consumers and deliveries, and at most one open
//! question.
//!
//! A question is whatever another core must answer before the channel's next frame may be handled.
//! Frames behind it wait in `deferred`, so that a client which sends `declare; publish` in one breath
//! gets the same as one that waits.

use amq_protocol::protocol::channel;

use super::connection::Connection;
use super::consumer_timeout::ConsumerTimeouts;
use super::consumers::Consumers;
use super::publish::{Content, RouteCache};
use super::question::Question;
use super::transaction::Transaction;
use super::unacked::Unacked;
use crate::amqp::content;
use crate::amqp::error::{AmqpError, ChannelError};
use crate::amqp::method::MethodId;
use crate::base::{CoreId, Name, QueueId};
use crate::mail::Confirms;

/// A channel of a session.
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) state: State,
    pub(super) mode: Mode,
    /// A content whose frames have not all come.
    pub(super) content: Content,
    pub(super) route: RouteCache,
    pub(super) consumers: Consumers,
    pub(super) unacked: Unacked,
    /// None if its consumers have all the time they want.
    pub(super) timeouts: Option<Box<ConsumerTimeouts>>,
    /// The tag of the last delivery.
    pub(super) last_delivery_tag: u64,
    /// Where replies to this channel's requests go (direct reply-to).
    pub(super) replies: Option<(Name, QueueId)>,
    /// The queue declared last: what an empty queue name means.
    pub(super) last_queue: Option<Name>,
    /// What another core is to answer before the next frame is handled.
    pub(super) question: Option<Question>,
    /// Frames that wait for that.
    pub(super) deferred: Vec<u8>,
    /// Consumers of a queue that this channel is deleting: told after `delete-ok`.
    pub(super) late_cancels: Vec<u32>,
    /// The method that came last: what an error is blamed on.
    pub(super) blamed: MethodId,
    /// The `channel.close` that is sent once the channel has let go of everything: by then its consumers
    /// are gone and its deliveries are back, as whoever hears it may count on.
    pub(super) verdict: Option<Box<channel::Close>>,
    /// Cores that were sent something on behalf of this channel, a bit each.
    touched: u64,
}

/// How a channel stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// In use.
    Open,
    /// We send `channel.close`: frames are dropped until `close-ok`. `close_ok`: it has come.
    Refused { close_ok: bool },
    /// The client sent `channel.close`, or its connection ends.
    Ending,
}

/// What publishes mean.
pub(super) enum Mode {
    /// Nothing is reported.
    Plain,
    /// Each publish is confirmed.
    Confirm(Confirms),
    /// Publishes and acknowledgements wait for `tx.commit`.
    Transaction(Box<Transaction>),
}

impl Channel {
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            state: State::Open,
            mode: Mode::Plain,
            content: Content::default(),
            route: RouteCache::default(),
            consumers: Consumers::new(number),
            unacked: Unacked::default(),
            timeouts: None,
            last_delivery_tag: 0,
            replies: None,
            last_queue: None,
            question: None,
            deferred: Vec::new(),
            late_cancels: Vec::new(),
            blamed: MethodId::default(),
            verdict: None,
            touched: 0,
        }
    }

    /// Something is sent to `core` on behalf of this channel.
    pub(super) fn touch(&mut self, core: CoreId) {
        self.touched |= 1 << core.index();
    }

    /// The cores that were sent something, to be asked whether they are through with it.
    pub(super) fn touched(&self) -> impl Iterator<Item = CoreId> + use<> {
        let touched = self.touched;
        (0..u64::BITS as u16)
            .map(CoreId)
            .filter(move |core| touched >> core.index() & 1 == 1)
    }

    /// The channel has told the client something in its last breath and takes no more from it.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the next frame has to wait.
    pub(super) fn waits(&self) -> bool {
        self.question.is_some()
    }

    /// The queue that a method names; an empty name is the one declared last.
    pub(super) fn queue_name(&self, name: &str) -> Result<Name, AmqpError> {
        if !name.is_empty() {
            return Ok(Name::from(name));
        }
        self.last_queue
            .clone()
            .ok_or_else(|| ChannelError::NoLastQueue.into())
    }

    /// Asks, and lets the channel's next frames wait for the answer.
    pub(super) fn ask(&mut self, question: Question) {
        debug_assert!(self.question.is_none(), "one open question per channel");
        self.question = Some(question);
    }

    /// A core has settled publishes. Whether there may be something to tell the client.
    pub(super) fn publishes_settled(&mut self, core: CoreId, upto: u64) -> bool {
        let confirms = self.confirms();
        confirms
            .map(|confirms| confirms.settled(core, upto))
            .is_some()
    }

    /// Which publishes are settled, where that is told.
    pub(super) fn confirms(&mut self) -> Option<&mut Confirms> {
        match &mut self.mode {
            Mode::Plain => None,
            Mode::Confirm(confirms) => Some(confirms),
            Mode::Transaction(transaction) => Some(&mut transaction.confirms),
        }
    }

    /// End of the turn: acknowledges to the publisher what is settled, or says that it was refused.
    pub(super) fn send_confirms(&mut self, connection: &mut Connection) {
        let Mode::Confirm(confirms) = &mut self.mode else {
            return;
        };
        if self.state != State::Open || connection.mute {
            return;
        }
        while let Some(verdict) = confirms.next_verdict() {
            let out = connection.output.block();
            let (upto, multiple) = (verdict.upto, verdict.multiple);
            if verdict.accepted {
                content::write_ack(out, self.number, upto, multiple);
            } else {
                content::write_nack(out, self.number, upto, multiple);
            }
        }
    }
}
