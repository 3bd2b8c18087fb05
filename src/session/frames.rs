//! Frames of an open connection: to which channel, whether now or later, and what follows from an
//! error.

use amq_protocol::protocol::{AMQPClass, channel as channel_class, connection};

use super::channel::State;
use super::{Ending, Phase, Session, SessionContext};
use crate::amqp::content::{Acknowledgement, ContentHeader, Publish};
use crate::amqp::error::{AmqpError, ConnectionError};
use crate::amqp::frame::{self, Frame, FrameKind};
use crate::amqp::method::{self, MethodId};
use crate::base::limits;
use crate::base::name::SHORT_STRING_BYTES_MAX;

impl Session {
    /// A frame, and what stands behind it in the buffer. Returns how much of that was used as well.
    pub(super) fn frame(
        &mut self,
        frame: Frame<'_>,
        behind: &[u8],
        context: &mut SessionContext<'_>,
    ) -> usize {
        if let Phase::Handshake(_) = self.phase {
            self.handshake_frame(&frame, context);
            return 0;
        }
        if frame.kind == FrameKind::Heartbeat {
            if frame.channel != 0 || !frame.payload.is_empty() {
                let error = ConnectionError::FrameChannel("heartbeat", frame.channel);
                self.fail(error, context);
            }
            return 0;
        }
        if frame.channel == 0 {
            self.connection_frame(&frame, context);
            return 0;
        }
        if let Phase::Ending(_) = self.phase {
            return 0;
        }
        self.frame_of_channel(frame, behind, context)
    }

    /// A frame of a channel, now or when the channel's question is answered.
    fn frame_of_channel(
        &mut self,
        frame: Frame<'_>,
        behind: &[u8],
        context: &mut SessionContext<'_>,
    ) -> usize {
        match self.channels.get_mut(usize::from(frame.channel)) {
            Some(Some(channel)) => {
                if channel.waits() && channel.state != (State::Refused { close_ok: false }) {
                    let bytes = frame.size();
                    frame::write(&mut channel.deferred, &frame);
                    self.input.deferred += bytes;
                    return 0;
                }
                self.channel_frame(frame, behind, context)
            }
            _ => {
                self.unopened_channel_frame(&frame, context);
                0
            }
        }
    }

    /// A frame on a channel that waits for nothing.
    #[inline]
    fn channel_frame(
        &mut self,
        frame: Frame<'_>,
        behind: &[u8],
        context: &mut SessionContext<'_>,
    ) -> usize {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(frame.channel)) else {
            return 0;
        };
        if !channel.is_open() {
            self.closed_channel_frame(&frame, context);
            return 0;
        }
        let connection = &mut self.connection;
        let mut used = 0;
        let result = match frame.kind {
            FrameKind::Method => {
                let method = MethodId::read(frame.payload);
                channel.blamed = method.map(|(id, _)| id).unwrap_or_default();
                match method {
                    Some(_) if channel.content.is_under_way() => Err(unexpected_method()),
                    Some((MethodId::PUBLISH, arguments)) => match read_publish(arguments) {
                        Ok(publish) => {
                            let whole =
                                whole_content(behind, frame.channel, connection.payload_max);
                            if let Some((header, body, len)) = whole {
                                used = len;
                                channel
                                    .publish_at_once(&publish, &header, body, connection, context)
                            } else {
                                channel.begin_content(&publish);
                                Ok(())
                            }
                        }
                        Err(error) => Err(error),
                    },
                    Some((MethodId::ACK, arguments)) => Acknowledgement::read_ack(arguments)
                        .map_err(AmqpError::from)
                        .and_then(|one| channel.acknowledge(&one, connection, context)),
                    Some((MethodId::NACK, arguments)) => Acknowledgement::read_nack(arguments)
                        .map_err(AmqpError::from)
                        .and_then(|one| channel.acknowledge(&one, connection, context)),
                    Some((MethodId::REJECT, arguments)) => Acknowledgement::read_reject(arguments)
                        .map_err(AmqpError::from)
                        .and_then(|one| channel.acknowledge(&one, connection, context)),
                    _ => return self.slow_method(&frame, context),
                }
            }
            FrameKind::Header => channel
                .content_header(frame.payload, connection, context)
                .map(|_| ()),
            FrameKind::Body => channel
                .content_body(frame.payload, connection, context)
                .map(|_| ()),
            FrameKind::Heartbeat => Ok(()),
        };
        // Blamed for a header or a body, too.
        let publishes = channel.blamed == MethodId::PUBLISH;
        if let Err(error) = result {
            self.refuse(frame.channel, error, context);
        }
        if publishes {
            self.publish_received(context);
        }
        used
    }

    /// A method that is not on the content path.
    fn slow_method(&mut self, frame: &Frame<'_>, context: &mut SessionContext<'_>) -> usize {
        let method = match method::decode(frame.payload) {
            Ok(method) => method,
            Err(error) => {
                self.refuse(frame.channel, error.into(), context);
                return 0;
            }
        };
        if let AMQPClass::Channel(channel_class::AMQPMethod::Close(_)) = method.class {
            if let Some(Some(channel)) = self.channels.get_mut(usize::from(frame.channel)) {
                channel.state = State::Ending;
            }
            self.detach_channel(frame.channel, context);
            return 0;
        }
        let Some(Some(channel)) = self.channels.get_mut(usize::from(frame.channel)) else {
            return 0;
        };
        if let Err(error) = channel.method(method, &mut self.connection, context) {
            self.refuse(frame.channel, error, context);
        }
        0
    }

    /// A frame on a channel that we have closed: only `close-ok` counts (or a `close` that crossed
    /// ours on the way, which means as much).
    fn closed_channel_frame(&mut self, frame: &Frame<'_>, context: &mut SessionContext<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        let Ok(method) = method::decode(frame.payload) else {
            return;
        };
        let crossed = match method.class {
            AMQPClass::Channel(channel_class::AMQPMethod::CloseOk(_)) => false,
            AMQPClass::Channel(channel_class::AMQPMethod::Close(_)) => true,
            _ => return,
        };
        if crossed {
            self.send_verdict(frame.channel);
            let method = channel_class::AMQPMethod::CloseOk(channel_class::CloseOk {});
            self.connection
                .send(frame.channel, &AMQPClass::Channel(method));
            return;
        }
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(frame.channel)) {
            channel.state = State::Refused { close_ok: true };
            if !channel.waits() {
                self.channel_detached(frame.channel, context);
            }
        }
    }

    /// A frame on a channel that isn't open: `channel.open`, or an error.
    fn unopened_channel_frame(&mut self, frame: &Frame<'_>, context: &mut SessionContext<'_>) {
        self.blamed = MethodId::of(frame.payload);
        let is_method = frame.kind == FrameKind::Method;
        let method = MethodId::read(frame.payload).filter(|_| is_method);
        let opens = matches!(method, Some((MethodId::CHANNEL_OPEN, _)));
        let closes_again = matches!(method, Some((MethodId::CHANNEL_CLOSE_OK, [])));
        if closes_again || matches!(self.phase, Phase::Ending(_)) {
            return;
        }
        if !opens {
            self.fail(ConnectionError::ChannelNotOpen, context);
            return;
        }
        let max = self.connection.channel_max;
        if frame.channel > max {
            let channel = frame.channel;
            self.fail(ConnectionError::ChannelMax { channel, max }, context);
            return;
        }
        if let Err(error) = method::decode(frame.payload) {
            self.fail(error, context);
            return;
        }
        self.open_channel(frame.channel, context);
    }

    /// A frame of the connection itself.
    fn connection_frame(&mut self, frame: &Frame<'_>, context: &mut SessionContext<'_>) {
        if frame.kind != FrameKind::Method {
            self.fail(ConnectionError::FrameChannel("content", 0), context);
            return;
        }
        self.blamed = MethodId::of(frame.payload);
        let method = match method::decode(frame.payload) {
            Ok(method) => method,
            Err(error) => return self.fail(error, context),
        };
        let AMQPClass::Connection(method) = method.class else {
            let error =
                ConnectionError::CommandInvalid("only class connection is valid on channel 0");
            return self.fail(error, context);
        };
        match method {
            connection::AMQPMethod::Close(_) => {
                let ending = Ending {
                    close_ok_due: true,
                    deadline: self.heartbeat.give_up_at(),
                    ..Ending::default()
                };
                self.end(ending, context);
            }
            connection::AMQPMethod::CloseOk(_) => {
                if let Phase::Ending(_) = self.phase {
                    self.close_when_written();
                } else {
                    self.fail(ConnectionError::MethodOutOfPlace, context);
                }
            }
            connection::AMQPMethod::UpdateSecret(_) => {
                // Passwords of the configuration don't expire, so a new one changes nothing.
                let update_ok = connection::UpdateSecretOk {};
                let method = connection::AMQPMethod::UpdateSecretOk(update_ok);
                self.connection.send(0, &AMQPClass::Connection(method));
            }
            _ => self.fail(
                ConnectionError::CommandInvalid("unimplemented method"),
                context,
            ),
        }
    }

    /// Frames of a channel that waited for an answer. They count even if the client has said goodbye
    /// since: it said them before.
    pub(super) fn replay(&mut self, number: u16, context: &mut SessionContext<'_>) {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        if channel.deferred.is_empty() {
            return;
        }
        let deferred = std::mem::take(&mut channel.deferred);
        self.input.deferred -= deferred.len();
        self.handle_deferred(&deferred, context);
    }

    fn handle_deferred(&mut self, deferred: &[u8], context: &mut SessionContext<'_>) {
        let mut at = 0;
        while let Ok(Some(frame)) = frame::split(&deferred[at..], u32::MAX) {
            at += frame.size();
            at += self.frame_of_channel(frame, &deferred[at..], context);
        }
    }

    /// An error on a channel: closes the channel, or the connection if it is that bad.
    pub(super) fn refuse(
        &mut self,
        number: u16,
        error: AmqpError,
        context: &mut SessionContext<'_>,
    ) {
        let (reply_code, reply_text) = error.reply();
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        let blamed = channel.blamed;
        if let AmqpError::Connection(error) = error {
            self.blamed = blamed;
            return self.fail(error, context);
        }
        let close = channel_class::Close {
            reply_code,
            reply_text: short(&reply_text).into(),
            class_id: blamed.class,
            method_id: blamed.method,
        };
        channel.verdict = Some(Box::new(close));
        channel.state = State::Refused { close_ok: false };
        self.input.deferred -= channel.deferred.len();
        channel.deferred = Vec::new();
        let waits = channel.waits();
        // Its client may open another as soon as it hears that this one is closed.
        self.channel_closed(context);
        if !waits {
            self.detach_channel(number, context);
        }
    }

    /// Tells the client why its channel is closed, unless it has been told.
    fn send_verdict(&mut self, number: u16) {
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(number))
            && let Some(close) = channel.verdict.take()
        {
            let method = channel_class::AMQPMethod::Close(*close);
            self.connection.send(number, &AMQPClass::Channel(method));
        }
    }

    /// A channel holds nothing any more.
    pub(super) fn channel_detached(&mut self, number: u16, context: &mut SessionContext<'_>) {
        let Some(slot) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        let Some(channel) = slot else { return };
        let ending = matches!(self.phase, Phase::Ending(_));
        if channel.state == (State::Refused { close_ok: false }) && !ending {
            self.send_verdict(number);
            return;
        }
        let says_close_ok = channel.state == State::Ending && !ending;
        let deferred = std::mem::take(&mut channel.deferred);
        self.input.deferred -= deferred.len();
        let was_refused = matches!(channel.state, State::Refused { .. });
        if let Some(confirms) = channel.confirms() {
            let last = &mut self.connection.last_confirm;
            *last = confirms.last_number().max(*last);
        }
        *slot = None;
        if !was_refused {
            self.channel_closed(context);
        }
        if says_close_ok {
            let method = channel_class::AMQPMethod::CloseOk(channel_class::CloseOk {});
            self.connection.send(number, &AMQPClass::Channel(method));
        }
        if ending {
            self.advance_end(context);
        } else {
            self.handle_deferred(&deferred, context);
        }
    }

    /// An error of the connection: tells the client why, and ends.
    pub(super) fn fail(&mut self, error: ConnectionError, context: &mut SessionContext<'_>) {
        if let Phase::Ending(_) = self.phase {
            return;
        }
        let by_us = matches!(error, ConnectionError::Forced(_));
        let (reply_code, reply_text) = AmqpError::from(error).reply();
        if !by_us {
            let user = &self.connection.user;
            context
                .notices
                .add(|| format!("connection of user '{user}' closed: {reply_code} {reply_text}"));
        }
        let close = connection::Close {
            reply_code,
            reply_text: short(&reply_text).into(),
            class_id: self.blamed.class,
            method_id: self.blamed.method,
        };
        let ending = Ending {
            verdict: Some(Box::new(close)),
            deadline: Some(context.now + limits::CLOSE_TIMEOUT),
            ..Ending::default()
        };
        self.end(ending, context);
    }

    pub(super) fn send_close_ok(&mut self) {
        let method = connection::AMQPMethod::CloseOk(connection::CloseOk {});
        self.connection.send(0, &AMQPClass::Connection(method));
    }
}

fn read_publish(arguments: &[u8]) -> Result<Publish<'_>, AmqpError> {
    let publish = Publish::read(arguments)?;
    if publish.immediate {
        return Err(ConnectionError::NotImplemented("immediate=true").into());
    }
    Ok(publish)
}

fn unexpected_method() -> AmqpError {
    ConnectionError::UnexpectedFrame("expected content header or body, got method instead").into()
}

/// A content whose header and only body frame stand whole at the front of `bytes`: header, body, and
/// the length of both frames. Anything else is put together frame by frame.
#[inline]
fn whole_content(
    bytes: &[u8],
    channel: u16,
    payload_max: u32,
) -> Option<(ContentHeader<'_>, &[u8], usize)> {
    let head = frame::split(bytes, payload_max).ok()??;
    if head.kind != FrameKind::Header || head.channel != channel {
        return None;
    }
    let header = ContentHeader::read(head.payload).ok()?;
    if header.body_size == 0 {
        return Some((header, &[], head.size()));
    }
    if header.body_size >= limits::LARGE_BODY_BYTES as u64 {
        return None;
    }
    let body = frame::split(&bytes[head.size()..], payload_max).ok()??;
    let is_it = body.kind == FrameKind::Body
        && body.channel == channel
        && body.payload.len() as u64 == header.body_size;
    is_it.then(|| (header, body.payload, head.size() + body.size()))
}

/// Reply texts are short strings: at most 255 bytes, cut between characters.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHORT_STRING_BYTES_MAX)]
}
