//! Limits on connections and channels count over all cores, so whomever one concerns asks the catalog
//! before it opens. What the client sends meanwhile waits.

use amq_protocol::protocol::{AMQPClass, channel as channel_class};

use super::channel::Channel;
use super::question::Question;
use super::{Phase, Session, SessionContext};
use crate::amqp::error::{AmqpError, ConnectionError};
use crate::amqp::frame::{self, Frame};
use crate::base::{CoreId, VhostId};
use crate::mail::{Answer, ToCatalog};

/// How the catalog counts a session.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Counted {
    /// No limit concerns it.
    #[default]
    No,
    /// It has asked to be let in.
    Asked,
    /// It was answered.
    Answered,
}

impl Session {
    /// The user may open this vhost, unless there are too many.
    pub(super) fn enter(&mut self, vhost: VhostId, context: &mut SessionContext<'_>) {
        self.connection.vhost = vhost;
        let access = context.topology.access();
        let (user, name) = (&self.connection.user, context.topology.vhost_name(vhost));
        if !access.is_counted(user, name) {
            return self.opened(context);
        }
        self.connection.counted = Counted::Asked;
        self.connection.counts_channels = access.has_channel_limit(user);
        let ask = ToCatalog::Enter {
            session: self.connection.id,
            user: user.clone(),
            vhost: name.clone(),
        };
        context.outbox.to(CoreId::CATALOG).to_catalog.push(ask);
    }

    /// A frame that came while a password is checked, or the catalog hasn't answered yet. Whether it waits.
    pub(super) fn waits_to_enter(&mut self, frame: &Frame<'_>) -> bool {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return false;
        };
        if self.connection.counted != Counted::Asked && handshake.login.is_none() {
            return false;
        }
        frame::write(&mut handshake.deferred, frame);
        self.input.deferred += frame.size();
        true
    }

    /// The catalog's answer to [`Session::enter`], unless the session has ended since.
    pub(super) fn entered(&mut self, answer: Answer, context: &mut SessionContext<'_>) {
        self.connection.counted = Counted::Answered;
        let Some(deferred) = self.take_deferred() else {
            return;
        };
        match answer {
            Answer::Refused(AmqpError::Connection(error)) => return self.fail(error, context),
            Answer::Done => self.opened(context),
            answer => {
                debug_assert!(false, "{answer:?} is no answer to whether it may enter");
                let error = ConnectionError::Internal("a core gave the wrong answer");
                return self.fail(error, context);
            }
        }
        self.handle_handshake(&deferred, context);
    }

    /// The frames that have waited; none if the session has ended since.
    pub(super) fn take_deferred(&mut self) -> Option<Vec<u8>> {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return None;
        };
        let deferred = std::mem::take(&mut handshake.deferred);
        self.input.deferred -= deferred.len();
        Some(deferred)
    }

    /// Handles them. One of them may have those behind it wait again.
    pub(super) fn handle_handshake(&mut self, deferred: &[u8], context: &mut SessionContext<'_>) {
        let mut at = 0;
        while let Ok(Some(frame)) = frame::split(&deferred[at..], u32::MAX) {
            at += frame.size();
            at += self.frame(frame, &deferred[at..], context);
        }
    }

    /// A new channel: open at once, or when the catalog has counted it.
    pub(super) fn open_channel(&mut self, number: u16, context: &mut SessionContext<'_>) {
        let index = usize::from(number);
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || None);
        }
        let mut channel = Box::new(Channel::new(number));
        let method = channel_class::AMQPMethod::OpenOk(channel_class::OpenOk {});
        let ok = AMQPClass::Channel(method);
        if self.connection.counts_channels {
            let ask = ToCatalog::OpenChannel {
                session: self.connection.id,
                entered: self.connection.first_id,
                channel: number,
            };
            context.outbox.to(CoreId::CATALOG).to_catalog.push(ask);
            channel.ask(Question::Catalog { ok: Some(ok) });
        } else {
            self.connection.send(number, &ok);
        }
        self.channels[index] = Some(channel);
    }

    /// A channel is gone, or of no use any more: we have closed it.
    pub(super) fn channel_closed(&self, context: &mut SessionContext<'_>) {
        if self.connection.counts_channels {
            let entered = self.connection.first_id;
            let gone = ToCatalog::CloseChannel { entered };
            context.outbox.to(CoreId::CATALOG).to_catalog.push(gone);
        }
    }

    /// The session ends: how many answers of the catalog are to be waited for, so that whoever hears
    /// `close-ok` finds its place free.
    pub(super) fn leave(&self, context: &mut SessionContext<'_>) -> usize {
        let answers = match self.connection.counted {
            Counted::No => return 0,
            Counted::Asked => 2,
            Counted::Answered => 1,
        };
        let gone = ToCatalog::Leave {
            session: self.connection.id,
            entered: self.connection.first_id,
        };
        context.outbox.to(CoreId::CATALOG).to_catalog.push(gone);
        answers
    }
}
