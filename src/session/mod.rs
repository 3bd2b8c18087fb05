//! One client's connection: bytes in, mail out; mail in, bytes out. PURE.
//!
//! The runtime hands in what its socket received and takes away what is to be written. Between the
//! two: the [`handshake`], frames, and [`channel`]s, each with at most one open question to another
//! core.
//!
//! ```text
//!   input, frames                 bytes to frames, frames to channels; what follows from an error
//!   handshake, sasl, admission    from the first byte to open-ok; limits that the catalog counts
//!   connection                    what all channels share: who it is, the output, the account of deliveries
//!   channel, methods, question    one channel, what it is asked for, and its one open question
//!   permission                    what the user may do
//!   publish, transaction          messages on their way in
//!   consumers, deliver            who takes messages, and their way out
//!   unacked, acknowledge, consumer_timeout    what is out, and back
//!   output                        bytes to be written
//!   heartbeat, alarm, pace        silence, shortage, floods
//!   moving, ending                to another core; how a channel lets go
//! ```

mod acknowledge;
mod admission;
mod alarm;
mod channel;
mod connection;
mod consumer_timeout;
mod consumers;
mod deliver;
mod ending;
mod frames;
mod handshake;
mod heartbeat;
mod input;
mod methods;
mod moving;
mod output;
mod pace;
mod permission;
mod publish;
mod question;
mod sasl;
mod transaction;
mod unacked;

pub use output::Output;

use std::collections::VecDeque;

use amq_protocol::protocol::{AMQPClass, connection as connection_class};
use channel::Channel;
use connection::Connection;
use handshake::Handshake;
use heartbeat::Heartbeat;
use input::Input;
use moving::Moving;
use pace::Pace;
use question::Answered;

use crate::amqp::error::{AmqpError, ConnectionError};
use crate::amqp::method::MethodId;
use crate::base::{
    Alarms, CoreId, MessageRef, Notices, QueueId, SessionId, Settings, Time, limits,
};
use crate::mail::{Answer, Deliver, Ease, News, Outbox, ToShard};
use crate::model::Topology;
use crate::model::access::PasswordCheck;
use crate::model::exchange::RouteScratch;

/// A client's connection.
pub struct Session {
    connection: Connection,
    phase: Phase,
    loopback: bool,
    input: Input,
    channels: Vec<Option<Box<Channel>>>,
    heartbeat: Heartbeat,
    pace: Pace,
    moving: Moving,
    /// It published while an alarm was on, and is not read until the alarms clear.
    blocked: bool,
    fate: SocketFate,
    /// The method being handled: what an error is blamed on.
    blamed: MethodId,
    /// A timer that the core doesn't know of yet.
    new_deadline: Option<Time>,
    /// When a consumer may have kept a delivery for too long.
    timeout_due: Option<Time>,
}

/// Where a connection stands.
enum Phase {
    /// Not yet open.
    Handshake(Handshake),
    /// In use.
    Running,
    /// Over; what it held is being given back.
    Ending(Ending),
}

/// How far a connection's end is.
#[derive(Default)]
struct Ending {
    /// The client asked for it and is told when all is done.
    close_ok_due: bool,
    /// When we stop waiting for the client: for its `close-ok` if we asked for the end, and for it to take
    /// what is written to it.
    deadline: Option<Time>,
    /// The `connection.close` that is sent once nothing is left: whoever hears it finds exclusive queues
    /// gone and deliveries back.
    verdict: Option<Box<connection_class::Close>>,
    /// Deletions of exclusive queues and answers of the catalog that are waited for; none before they
    /// were asked for.
    answers_waiting: Option<usize>,
    /// Nothing of it is left on any core.
    finished: bool,
}

/// What the runtime has to do about a session's socket after the turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketFate {
    /// Keep it.
    Open,
    /// Write what is left of the output, then shut it down.
    CloseWhenWritten,
    /// Close it now.
    CloseNow,
}

/// What a session works with besides its own state.
pub struct SessionContext<'a> {
    /// The time of this turn.
    pub now: Time,
    /// The core's copy of the topology.
    pub topology: &'a Topology,
    /// Where questions and publishes go.
    pub outbox: &'a mut Outbox,
    /// What the operator decided.
    pub settings: &'a Settings,
    /// What the broker is short of.
    pub alarms: Alarms,
    /// Lines for the log.
    pub notices: &'a mut Notices,
    /// Working memory for routing, the same for all sessions of a core.
    pub scratch: &'a mut Scratch,
    /// Passwords that are to be checked where nobody waits for it, and for whom; to be answered by
    /// [`Session::password_checked`].
    pub password_checks: &'a mut VecDeque<(SessionId, PasswordCheck)>,
    /// What the core has to do of late, in messages.
    pub load: u64,
}

/// Working memory for routing.
#[derive(Default)]
pub struct Scratch {
    route: RouteScratch,
    targets: Vec<QueueId>,
}

impl Session {
    /// A socket was accepted. `loopback`: whether the peer is on this machine.
    pub fn new(id: SessionId, loopback: bool, now: Time, settings: &Settings) -> Self {
        Self {
            connection: Connection::new(id),
            phase: Phase::Handshake(Handshake::new(now + settings.handshake_timeout)),
            loopback,
            input: Input::default(),
            channels: Vec::new(),
            heartbeat: Heartbeat::new(now),
            pace: Pace::default(),
            moving: Moving::default(),
            blocked: false,
            fate: SocketFate::Open,
            blamed: MethodId::default(),
            new_deadline: None,
            timeout_due: None,
        }
    }

    /// Its identity.
    pub fn id(&self) -> SessionId {
        self.connection.id
    }

    /// A message for one of its consumers, from the queue's core.
    #[inline]
    pub fn deliver(&mut self, core: CoreId, deliver: &Deliver, message: &MessageRef<'_>) {
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(deliver.channel)) {
            channel.deliver(core, deliver, message, &mut self.connection);
        }
    }

    /// `core` has settled the channel's publishes up to this number.
    pub fn confirmed(&mut self, core: CoreId, channel: u16, upto: u64) {
        if let Some(Some(found)) = self.channels.get_mut(usize::from(channel))
            && found.publishes_settled(core, upto)
        {
            self.connection.confirming.push(channel);
        }
    }

    /// Something is told of the channel's publish with this number alone.
    pub fn heard_of(&mut self, channel: u16, number: u64, news: News) {
        if let Some(Some(found)) = self.channels.get_mut(usize::from(channel))
            && let Some(confirms) = found.confirms()
        {
            confirms.heard(number, news);
        }
        if news == News::Released {
            self.connection.confirming.push(channel);
        }
    }

    /// A mandatory message of the channel has turned out to go nowhere.
    pub fn returned(&mut self, channel: u16, message: &MessageRef<'_>) {
        if let Some(Some(found)) = self.channels.get_mut(usize::from(channel))
            && found.is_open()
        {
            found.return_message(message, &mut self.connection);
        }
    }

    /// The answer to a channel's question.
    pub fn answered(&mut self, channel: u16, answer: Answer, context: &mut SessionContext<'_>) {
        if channel == 0 {
            match self.phase {
                Phase::Handshake(_) => self.entered(answer, context),
                Phase::Running | Phase::Ending(_) => self.parting_answered(context),
            }
            return;
        }
        self.with_channel(channel, context, |channel, connection, context| {
            channel.answered(answer, connection, context)
        });
    }

    /// A queue waits for credit for one of its consumers.
    pub fn hungry(&mut self, channel: u16, consumer: u32, context: &mut SessionContext<'_>) {
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(channel)) {
            channel.consumers.hungry(consumer);
            channel.lend_credit(&self.connection, context);
        }
    }

    /// A queue gives credit back.
    pub fn surrendered(
        &mut self,
        channel: u16,
        consumer: u32,
        credits: u32,
        context: &mut SessionContext<'_>,
    ) {
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(channel)) {
            channel.consumers.surrendered(consumer, credits);
            channel.lend_credit(&self.connection, context);
        }
    }

    /// The queue of one of its consumers was deleted.
    pub fn consumer_cancelled(&mut self, channel: u16, consumer: u32) {
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(channel)) {
            channel.consumer_cancelled(consumer, &mut self.connection);
        }
    }

    /// It floods a queue that drains: read less in the coming turns, and then less often.
    pub fn ease(&mut self, how: Ease, now: Time) {
        self.pace.ease(how, now);
    }

    /// Once a turn, before the output is written: sends the confirms that became due.
    pub fn end_turn(&mut self, context: &mut SessionContext<'_>) {
        for number in std::mem::take(&mut self.connection.confirming) {
            let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
                continue;
            };
            channel.send_confirms(&mut self.connection);
            if channel.commit_is_settled() {
                self.with_channel(number, context, |channel, connection, _| {
                    channel.committed(connection)?;
                    Ok(Answered::Settled)
                });
            }
        }
        if self.connection.mute || self.connection.output.is_empty() {
            // Deliveries that came too late for the client were dropped: they take no room.
            self.connection.give_credit_back(context.outbox);
        }
        if !self.connection.timed.is_empty() {
            self.note_deliveries(context.now);
        }
        self.pace.end_turn();
        self.advance_move(context);
    }

    /// How many bytes may be read in this turn; 0 is none.
    pub fn read_budget(&self, now: Time, outbox: &Outbox) -> usize {
        let waits = self.input.deferred > limits::DEFERRED_BYTES_MAX
            || self.is_stuffed()
            || self.fate == SocketFate::CloseNow
            || self.is_blocked()
            || self.moving.is_stopped()
            || outbox.is_any_overfull();
        if waits { 0 } else { self.pace.budget(now) }
    }

    /// Whether it isn't read because its client takes no answers.
    fn is_stuffed(&self) -> bool {
        self.connection.output.len() > limits::OUTPUT_BYTES_MAX
    }

    /// What is to be written, and what is to become of the socket.
    pub fn output(&mut self) -> (&mut Output, SocketFate) {
        (&mut self.connection.output, self.fate)
    }

    /// Output was written: once it has drained far enough, what was delivered may come again.
    pub fn written(&mut self, context: &mut SessionContext<'_>) {
        self.heartbeat.sent(context.now);
        if self.connection.output.len() <= limits::OUTPUT_LOW_BYTES {
            self.connection.give_credit_back(context.outbox);
        } else {
            // Its client takes what lies there, which is a sign of life too.
            self.heartbeat.received(context.now);
        }
    }

    /// The socket is gone. What the session holds is given back; see [`Session::is_finished`].
    pub fn disconnected(&mut self, context: &mut SessionContext<'_>) {
        self.connection.mute = true;
        self.fate = SocketFate::CloseNow;
        self.connection.give_credit_back(context.outbox);
        self.end(Ending::default(), context);
    }

    /// Tells the client that the broker goes, and ends the connection.
    pub fn shut_down(&mut self, context: &mut SessionContext<'_>) {
        match self.phase {
            // The core that it moves to says it.
            _ if self.connection.is_leaving => {}
            Phase::Handshake(_) => self.close_now(context),
            Phase::Running => {
                self.blamed = MethodId::default();
                self.fail(ConnectionError::Forced("shutdown"), context);
            }
            Phase::Ending(ref mut ending) => {
                // Its client has closed it, and perhaps doesn't read what is left for it.
                let deadline = context.now + limits::CLOSE_TIMEOUT;
                let deadline = ending.deadline.map_or(deadline, |set| set.min(deadline));
                ending.deadline = Some(deadline);
                self.new_deadline = Some(deadline);
            }
        }
    }

    /// Whether nothing of it is left on any core, so that it may be forgotten once its socket is.
    pub fn is_finished(&self) -> bool {
        matches!(&self.phase, Phase::Ending(ending) if ending.finished)
    }

    /// A time at which [`Session::on_timer`] wants to be called, besides those it asked for itself.
    pub fn take_new_deadline(&mut self) -> Option<Time> {
        self.new_deadline.take()
    }

    /// Runs `act` on a channel and carries out what follows: errors, frames that waited, the end.
    fn with_channel(
        &mut self,
        number: u16,
        context: &mut SessionContext<'_>,
        act: impl FnOnce(
            &mut Channel,
            &mut Connection,
            &mut SessionContext<'_>,
        ) -> Result<Answered, AmqpError>,
    ) {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        match act(channel, &mut self.connection, context) {
            Ok(Answered::Waiting) => {}
            Ok(Answered::Settled) => self.resume_channel(number, context),
            Ok(Answered::Detached) => self.channel_detached(number, context),
            Err(error) => {
                if channel.is_open() {
                    self.refuse(number, error, context);
                } else {
                    // Its end was only waiting for this answer.
                    self.detach_channel(number, context);
                }
            }
        }
    }

    /// A channel's question is settled: its next frames are handled, or its end begins.
    fn resume_channel(&mut self, number: u16, context: &mut SessionContext<'_>) {
        self.replay(number, context);
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        if !channel.waits() && !channel.is_open() {
            self.detach_channel(number, context);
        } else if !channel.waits() && matches!(self.phase, Phase::Ending(_)) {
            channel.state = channel::State::Ending;
            self.detach_channel(number, context);
        }
    }

    fn detach_channel(&mut self, number: u16, context: &mut SessionContext<'_>) {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        if let Answered::Detached = channel.detach(&mut self.connection, context) {
            self.channel_detached(number, context);
        }
    }

    /// Begins the end of the connection: every channel lets go of everything.
    fn end(&mut self, ending: Ending, context: &mut SessionContext<'_>) {
        if let Phase::Ending(already) = &mut self.phase {
            already.close_ok_due |= ending.close_ok_due;
            if already.finished && ending.close_ok_due {
                self.finish(context);
            }
            return;
        }
        self.give_up_move(context);
        // What a client said before we refused it for an error is void.
        let refused = ending.verdict.is_some();
        self.new_deadline = ending.deadline;
        self.phase = Phase::Ending(ending);
        self.input.forget();
        for number in 0..self.channels.len() as u16 {
            let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
                continue;
            };
            if refused {
                self.input.deferred -= channel.deferred.len();
                channel.deferred = Vec::new();
            }
            if !channel.waits() {
                channel.state = channel::State::Ending;
                self.detach_channel(number, context);
            }
        }
        self.advance_end(context);
    }

    /// Once no channel is left, the exclusive queues go, and the catalog counts the session no more; then
    /// it is gone.
    fn advance_end(&mut self, context: &mut SessionContext<'_>) {
        let Phase::Ending(ending) = &self.phase else {
            return;
        };
        if ending.finished || self.channels.iter().any(Option::is_some) {
            return;
        }
        if ending.answers_waiting.is_none() {
            let mut waiting = self.leave(context);
            for queue in std::mem::take(&mut self.connection.exclusive_queues) {
                let Some(owner) = context.topology.queue(queue).map(|found| found.owner) else {
                    continue;
                };
                waiting += 1;
                context.outbox.to(owner).to_shard.push(ToShard::Delete {
                    session: self.connection.id,
                    channel: 0,
                    queue,
                    if_unused: false,
                    if_empty: false,
                });
            }
            if let Phase::Ending(ending) = &mut self.phase {
                ending.answers_waiting = Some(waiting);
            }
        }
        if let Phase::Ending(ending) = &mut self.phase
            && ending.answers_waiting == Some(0)
        {
            ending.finished = true;
            self.finish(context);
        }
    }

    /// An exclusive queue is deleted, or the catalog has answered.
    fn parting_answered(&mut self, context: &mut SessionContext<'_>) {
        if let Phase::Ending(ending) = &mut self.phase
            && let Some(waiting) = &mut ending.answers_waiting
        {
            *waiting = waiting.saturating_sub(1);
        }
        self.advance_end(context);
    }

    /// Nothing is left of it anywhere: tells the client, if it waits for that.
    fn finish(&mut self, context: &mut SessionContext<'_>) {
        // What was delivered to consumers that don't acknowledge is settled before it is forgotten.
        self.connection.give_credit_back(context.outbox);
        for core in context.outbox.cores() {
            let session = self.connection.id;
            let gone = ToShard::SessionGone { session };
            context.outbox.to(core).to_shard.push(gone);
        }
        let Phase::Ending(ending) = &mut self.phase else {
            return;
        };
        let close_ok_due = std::mem::take(&mut ending.close_ok_due);
        if let Some(close) = ending.verdict.take() {
            let method = connection_class::AMQPMethod::Close(*close);
            self.connection.send(0, &AMQPClass::Connection(method));
        }
        if close_ok_due {
            self.send_close_ok();
            self.close_when_written();
        }
    }

    fn close_when_written(&mut self) {
        if self.fate == SocketFate::Open {
            self.fate = SocketFate::CloseWhenWritten;
        }
    }

    /// Closes the socket without a word.
    fn close_now(&mut self, context: &mut SessionContext<'_>) {
        self.close_when_written();
        self.end(Ending::default(), context);
    }
}
