//! From a publish's frames to the queues: putting contents together, routing, and writing the message
//! once for each core that holds a queue of it.

use bytes::{Bytes, BytesMut};

use super::SessionContext;
use super::channel::{Channel, Mode};
use super::connection::Connection;
use super::permission::PublishPermit;
use crate::amqp::content::{self, ContentHeader, Publish};
use crate::amqp::error::{AmqpError, ChannelError, ConnectionError};
use crate::amqp::properties::{self, Properties};
use crate::base::bytes::same;
use crate::base::{ExchangeId, MessageRef, QueueId, limits};
use crate::mail::{Addressees, Publisher};
use crate::model::expiration::expiration_ms;
use crate::model::name_rules::DIRECT_REPLY_TO;
use crate::model::{Topology, sender_selected};

const CLASS_BASIC: u16 = 60;

/// A content whose frames have not all come. Kept when it is complete, for its buffers.
#[derive(Default)]
pub(super) struct Content {
    stage: Stage,
    mandatory: bool,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    properties: Vec<u8>,
    /// A small body, as far as it has come.
    body: Vec<u8>,
    /// A large one.
    large_body: Vec<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Stage {
    /// None is under way.
    #[default]
    Idle,
    /// The method came; the header must be next.
    Header,
    /// The header came; so many bytes of body are to come.
    Body { announced: u64, missing: u64 },
}

impl Content {
    /// Whether the next frame must be a header or a body.
    pub(super) fn is_under_way(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// Whether a body of so many bytes is what comes next, and belongs in a buffer of its own.
    pub(super) fn takes_large_piece(&self, size: usize) -> bool {
        matches!(self.stage, Stage::Body { announced, missing }
            if announced >= limits::LARGE_BODY_BYTES as u64 && size as u64 <= missing)
    }

    /// Forgets what has come.
    pub(super) fn reset(&mut self, connection: &mut Connection) {
        connection.content_bytes -= self.bytes();
        self.stage = Stage::Idle;
        self.large_body.clear();
        self.body.clear();
        self.body.shrink_to(limits::LARGE_BODY_BYTES);
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.large_body.iter().map(Bytes::len).sum::<usize>()
    }

    fn message(&self) -> MessageRef<'_> {
        MessageRef {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            properties: &self.properties,
            body: &self.body,
            large_body: &self.large_body,
            persistent: Properties::from_validated(&self.properties).is_persistent(),
        }
    }
}

/// The queues that the channel's last publish went to: publishers mostly repeat themselves.
#[derive(Default)]
pub(super) struct RouteCache {
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    resolved: Option<(ExchangeId, u64)>,
    addressees: Addressees,
    /// Nobody can take the message from where it goes to, if it goes anywhere.
    is_unroutable: bool,
    /// Whether it goes anywhere is seen on another core.
    is_open: bool,
    /// The last properties that were looked through, and whether they ask for persistence.
    properties: Vec<u8>,
    persistent: bool,
    permit: PublishPermit,
}

impl RouteCache {
    #[inline]
    fn holds(&self, publish: &Publish<'_>, topology: &Topology) -> bool {
        self.exchange_of(publish, topology).is_some()
            && same(&self.routing_key, publish.routing_key)
    }

    /// The exchange that the message goes to, if it is the last one's, and nothing of it has changed.
    #[inline]
    fn exchange_of(&self, publish: &Publish<'_>, topology: &Topology) -> Option<ExchangeId> {
        let (exchange, revision) = self.resolved?;
        let is_it =
            same(&self.exchange, publish.exchange) && topology.revision(exchange) == revision;
        is_it.then_some(exchange)
    }

    /// Whether the properties ask for persistence. They must be well-formed, a user id in them the
    /// connection's own, and an expiration a time.
    #[inline]
    fn is_persistent(
        &mut self,
        properties: &[u8],
        connection: &Connection,
    ) -> Result<bool, AmqpError> {
        if self.properties.is_empty() || !same(&self.properties, properties) {
            properties::validate(properties)?;
            let validated = Properties::from_validated(properties);
            check_user_id(validated, connection)?;
            check_expiration(validated)?;
            let persistent = validated.is_persistent();
            const WORTH_KEEPING: usize = 64;
            if properties.len() > WORTH_KEEPING {
                return Ok(persistent);
            }
            self.persistent = persistent;
            self.properties.clear();
            self.properties.extend_from_slice(properties);
        }
        Ok(self.persistent)
    }
}

/// What a frame did to a content.
pub(super) enum Progress {
    /// More frames must come.
    Incomplete,
    /// It was the last: the message is published.
    Complete,
}

impl Channel {
    /// `basic.publish`: its header and body are to follow.
    pub(super) fn begin_content(&mut self, publish: &Publish<'_>) {
        let content = &mut self.content;
        content.stage = Stage::Header;
        content.mandatory = publish.mandatory;
        content.exchange.clear();
        content.exchange.extend_from_slice(publish.exchange);
        content.routing_key.clear();
        content.routing_key.extend_from_slice(publish.routing_key);
    }

    /// A header frame.
    pub(super) fn content_header(
        &mut self,
        payload: &[u8],
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<Progress, AmqpError> {
        if self.content.stage != Stage::Header {
            return Err(ConnectionError::UnexpectedFrame(
                "expected method frame, got content header instead",
            )
            .into());
        }
        let header = ContentHeader::read(payload)?;
        check_header(&header, context)?;
        self.route.is_persistent(header.properties, connection)?;
        let content = &mut self.content;
        content.properties.clear();
        content.properties.extend_from_slice(header.properties);
        content.stage = Stage::Body {
            announced: header.body_size,
            missing: header.body_size,
        };
        if header.body_size == 0 {
            return self.content_complete(connection, context);
        }
        Ok(Progress::Incomplete)
    }

    /// A body frame's payload, copied from the landing buffer.
    pub(super) fn content_body(
        &mut self,
        payload: &[u8],
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<Progress, AmqpError> {
        if self.content.takes_large_piece(payload.len()) {
            let piece = Bytes::copy_from_slice(payload);
            return self.content_large_piece(piece, connection, context);
        }
        self.account_body(payload.len(), connection, context)?;
        self.content.body.extend_from_slice(payload);
        self.body_progress(connection, context)
    }

    /// A body frame's payload that was received into a buffer of its own.
    pub(super) fn content_large_piece(
        &mut self,
        piece: Bytes,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<Progress, AmqpError> {
        self.account_body(piece.len(), connection, context)?;
        if !piece.is_empty() {
            self.content.large_body.push(piece);
        }
        self.body_progress(connection, context)
    }

    fn account_body(
        &mut self,
        len: usize,
        connection: &mut Connection,
        context: &SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let Stage::Body { announced, missing } = &mut self.content.stage else {
            return Err(ConnectionError::UnexpectedFrame(
                "expected content header, got content body instead",
            )
            .into());
        };
        if len as u64 > *missing {
            return Err(ConnectionError::BodyTooLong(*announced).into());
        }
        // The operator may let in messages that are larger than that.
        let largest = context.settings.message_bytes_max as usize;
        let bytes_max = limits::CONTENT_BYTES_MAX.max(largest);
        if connection.content_bytes + len > bytes_max {
            return Err(ConnectionError::TooMuchContent(bytes_max).into());
        }
        *missing -= len as u64;
        connection.content_bytes += len;
        Ok(())
    }

    fn body_progress(
        &mut self,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<Progress, AmqpError> {
        if matches!(self.content.stage, Stage::Body { missing: 1.., .. }) {
            return Ok(Progress::Incomplete);
        }
        self.content_complete(connection, context)
    }

    fn content_complete(
        &mut self,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<Progress, AmqpError> {
        let mut content = std::mem::take(&mut self.content);
        let result = self.publish(content.mandatory, &content.message(), connection, context);
        content.reset(connection);
        self.content = content;
        result.map(|()| Progress::Complete)
    }

    /// A whole message whose three frames lie in one buffer: nothing is copied on the way.
    #[inline]
    pub(super) fn publish_at_once(
        &mut self,
        publish: &Publish<'_>,
        header: &ContentHeader<'_>,
        body: &[u8],
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        check_header(header, context)?;
        let persistent = self.route.is_persistent(header.properties, connection)?;
        let message = MessageRef {
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            properties: header.properties,
            body,
            large_body: &[],
            persistent,
        };
        self.publish(publish.mandatory, &message, connection, context)
    }

    /// A complete message. A request for direct replies is told where they go.
    fn publish(
        &mut self,
        mandatory: bool,
        message: &MessageRef<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let properties = Properties::from_validated(message.properties);
        if properties.reply_to() != Some(DIRECT_REPLY_TO.as_bytes()) {
            return self.publish_as_is(mandatory, message, connection, context);
        }
        let queue = self
            .reply_queue(context)
            .ok_or(ChannelError::NoReplyConsumer)?;
        let told = properties::with_reply_to(properties, queue.as_bytes());
        let message = MessageRef {
            properties: told.as_deref().unwrap_or(message.properties),
            ..*message
        };
        self.publish_as_is(mandatory, &message, connection, context)
    }

    fn publish_as_is(
        &mut self,
        mandatory: bool,
        message: &MessageRef<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        if let Mode::Transaction(transaction) = &mut self.mode {
            let exchange = as_text(message.exchange)?;
            let routing_key = as_text(message.routing_key)?;
            let permit = &mut self.route.permit;
            let exchange = permit.check(exchange, connection, context)?;
            let mut keys = vec![routing_key.as_bytes()];
            if let Some(headers) = Properties::from_validated(message.properties).headers() {
                sender_selected::append_keys(headers, &mut keys)?;
            }
            context.check_keys(exchange, &keys, connection)?;
            return Ok(transaction.publish(mandatory, message)?);
        }
        let number = match &mut self.mode {
            Mode::Confirm(confirms) => confirms.next_number(),
            _ => 0,
        };
        self.route_and_send(mandatory, message, number, connection, context)
    }

    /// Routes a message and writes it for each core with a queue of it. `number`: its confirm number.
    pub(super) fn route_and_send(
        &mut self,
        mandatory: bool,
        message: &MessageRef<'_>,
        number: u64,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let publish = Publish {
            exchange: message.exchange,
            routing_key: message.routing_key,
            mandatory,
            immediate: false,
        };
        let properties = Properties::from_validated(message.properties);
        if properties
            .headers()
            .is_some_and(sender_selected::is_asked_for)
        {
            self.resolve(&publish, properties, connection, context)?;
            self.send_stripped(mandatory, message, number, connection, context);
            return Ok(());
        }
        if !self.route.holds(&publish, context.topology) {
            self.resolve(&publish, properties, connection, context)?;
        }
        self.send_to_resolved(mandatory, message, number, connection, context);
        Ok(())
    }

    /// Sends a message without BCC to where it was resolved to. Only delayed exchanges get it with BCC: they ask
    /// all keys where it goes when the time has come.
    fn send_stripped(
        &mut self,
        mandatory: bool,
        message: &MessageRef<'_>,
        number: u64,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) {
        let properties = Properties::from_validated(message.properties);
        let Some(stripped) = sender_selected::without_bcc(properties) else {
            return self.send_to_resolved(mandatory, message, number, connection, context);
        };
        let stripped = MessageRef {
            properties: &stripped,
            ..*message
        };
        let topology = context.topology;
        let targets = context.scratch.targets.iter().copied();
        let (delaying, others): (Vec<_>, Vec<_>) =
            targets.partition(|queue| topology.delays(*queue));
        if delaying.is_empty() {
            return self.send_to_resolved(mandatory, &stripped, number, connection, context);
        }
        let mut copies = [(delaying, message), (others, &stripped)];
        // A core that gets both takes them in one go, and what comes second waits for the log if the first does. So
        // what is logged must come first.
        let is_durable =
            |queue: &QueueId| topology.queue(*queue).is_some_and(|found| found.durable);
        if !copies[0].0.iter().any(is_durable) {
            copies.reverse();
        }
        for (queues, message) in copies {
            self.route.addressees.set(&queues, topology);
            self.send_to_resolved(mandatory, message, number, connection, context);
        }
    }

    fn send_to_resolved(
        &mut self,
        mandatory: bool,
        message: &MessageRef<'_>,
        number: u64,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) {
        let publisher = Publisher::Channel {
            session: connection.id,
            channel: self.number,
            mandatory: mandatory && self.route.is_open,
        };
        for index in 0..self.route.addressees.len() {
            let (core, _) = self.route.addressees.at(index);
            self.touch(core);
            connection.traffic.count(core, 1);
            match &mut self.mode {
                Mode::Confirm(confirms) => confirms.sent(core, number),
                Mode::Transaction(transaction) => transaction.confirms.sent(core, number),
                Mode::Plain => {}
            }
            let addressee = self.route.addressees.at(index);
            context
                .outbox
                .publish(addressee, (publisher, number), message);
        }
        if self.route.is_unroutable {
            if mandatory {
                self.return_message(message, connection);
            }
            if number != 0 && self.route.addressees.is_empty() {
                connection.confirming.push(self.number);
            }
        }
    }

    /// A mandatory message goes nowhere.
    pub(super) fn return_message(&self, message: &MessageRef<'_>, connection: &mut Connection) {
        if connection.mute {
            return;
        }
        let out = connection.output.block();
        content::write_return(out, self.number, message.exchange, message.routing_key);
        connection.send_content(self.number, message);
    }

    /// Looks the exchange up and routes; the result is kept if the properties had no part in it.
    fn resolve(
        &mut self,
        publish: &Publish<'_>,
        properties: Properties<'_>,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let routing_key = as_text(publish.routing_key)?;
        let topology = context.topology;
        let exchange = match self.route.exchange_of(publish, topology) {
            Some(exchange) => exchange,
            None => {
                let exchange = as_text(publish.exchange)?;
                let permit = &mut self.route.permit;
                permit.check(exchange, connection, context)?
            }
        };
        let first = [routing_key.as_bytes()];
        let mut several = Vec::new();
        if let Some(headers) = properties.headers()
            && sender_selected::is_asked_for(headers)
        {
            several.extend(first);
            sender_selected::append_keys(headers, &mut several)?;
        }
        let has_several = !several.is_empty();
        let keys = if has_several {
            &several[..]
        } else {
            &first[..]
        };
        context.check_keys(exchange, keys, connection)?;
        let scratch = &mut *context.scratch;
        scratch.targets.clear();
        let routed = topology.route_keys(
            exchange,
            keys,
            properties,
            &mut scratch.route,
            &mut scratch.targets,
        );
        let cache = &mut self.route;
        cache.addressees.set(&scratch.targets, topology);
        cache.is_unroutable = routed.is_unroutable;
        cache.is_open = routed.open == 1;
        cache.resolved = None;
        if routed.is_cacheable && !has_several {
            cache.resolved = Some((exchange, topology.revision(exchange)));
            cache.exchange.clear();
            cache.exchange.extend_from_slice(publish.exchange);
            cache.routing_key.clear();
            cache.routing_key.extend_from_slice(publish.routing_key);
        }
        Ok(())
    }
}

#[inline]
fn check_header(header: &ContentHeader<'_>, context: &SessionContext<'_>) -> Result<(), AmqpError> {
    if header.class != CLASS_BASIC {
        return Err(
            ConnectionError::UnexpectedFrame("content header's class is not the method's").into(),
        );
    }
    let max = context.settings.message_bytes_max;
    if header.body_size > max {
        let size = header.body_size;
        return Err(ChannelError::MessageTooLarge { size, max }.into());
    }
    Ok(())
}

fn check_user_id(properties: Properties<'_>, connection: &Connection) -> Result<(), ChannelError> {
    let user = &connection.user;
    match properties.user_id() {
        Some(_) if connection.is_impersonator => Ok(()),
        Some(user_id) if user_id != user.as_bytes() => Err(ChannelError::UserId {
            user_id: String::from_utf8_lossy(user_id).into_owned(),
            user: user.to_string(),
        }),
        _ => Ok(()),
    }
}

fn check_expiration(properties: Properties<'_>) -> Result<(), ChannelError> {
    let Some(expiration) = properties.expiration() else {
        return Ok(());
    };
    let checked = expiration_ms(expiration);
    checked
        .map(drop)
        .map_err(|reason| ChannelError::InvalidExpiration {
            expiration: String::from_utf8_lossy(expiration).into_owned(),
            reason,
        })
}

fn as_text(bytes: &[u8]) -> Result<&str, ConnectionError> {
    std::str::from_utf8(bytes).map_err(|_| ConnectionError::ShortStringUtf8)
}

/// A buffer for a large body frame: its payload and the end octet.
pub(super) fn landing_buffer(size: usize) -> BytesMut {
    BytesMut::zeroed(size + 1)
}
