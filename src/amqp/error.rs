//! Whose fault it was, and what the peer is told: channel errors close a channel, connection errors
//! the connection. Reply codes are AMQP 0-9-1's (section 1.1, "reply-code"), texts are RabbitMQ's,
//! because clients match on them.

use thiserror::Error;

use crate::base::Name;

/// What closes the channel it happened on. The text goes out behind the code's name.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[allow(
    missing_docs,
    reason = "the texts say what each one is, and the fields are the words in it"
)]
pub enum ChannelError {
    #[error("no queue '{queue}' in vhost '{vhost}'")]
    NoQueue { queue: Name, vhost: Name },
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    NoExchange { exchange: Name, vhost: Name },
    #[error("no previously declared queue")]
    NoLastQueue,
    #[error(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
    )]
    LockedQueue { queue: Name, vhost: Name },
    #[error("{entity} name '{name}' contains reserved prefix 'amq.*'")]
    ReservedName { entity: &'static str, name: Name },
    #[error(
        "{permission} access to {entity} '{name}' in vhost '{vhost}' refused for user '{user}'"
    )]
    AccessRefused {
        permission: &'static str,
        entity: &'static str,
        name: Name,
        vhost: Name,
        user: Name,
    },
    #[error(
        "{permission} access to topic '{routing_key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'"
    )]
    TopicRefused {
        permission: &'static str,
        routing_key: String,
        exchange: Name,
        vhost: Name,
        user: Name,
    },
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    #[error("deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed")]
    SystemExchange { exchange: Name, vhost: Name },
    #[error("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")]
    InternalExchange { exchange: Name, vhost: Name },
    #[error("queue '{queue}' in vhost '{vhost}' in exclusive use")]
    ExclusiveUse { queue: Name, vhost: Name },
    #[error(
        "inequivalent arg '{argument}' for {entity} '{name}' in vhost '{vhost}': received {received} but current is {current}"
    )]
    Inequivalent {
        argument: String,
        entity: &'static str,
        name: Name,
        vhost: Name,
        received: String,
        current: String,
    },
    #[error("invalid arg '{argument}' for {entity} '{name}' in vhost '{vhost}': {reason}")]
    InvalidArgument {
        argument: String,
        entity: &'static str,
        name: Name,
        vhost: Name,
        reason: String,
    },
    #[error("{entity} '{name}' in vhost '{vhost}' in use")]
    InUse {
        entity: &'static str,
        name: Name,
        vhost: Name,
    },
    #[error("queue '{queue}' in vhost '{vhost}' not empty")]
    NotEmpty { queue: Name, vhost: Name },
    #[error("unknown delivery tag {0}")]
    UnknownDeliveryTag(u64),
    #[error("user_id property set to '{user_id}' but authenticated user was '{user}'")]
    UserId { user_id: String, user: String },
    #[error("reply consumer cannot acknowledge")]
    ReplyConsumerAcknowledges,
    #[error("reply consumer already set")]
    ReplyConsumerSet,
    #[error("fast reply consumer does not exist")]
    NoReplyConsumer,
    #[error("message size {size} is larger than configured max size {max}")]
    MessageTooLarge { size: u64, max: u64 },
    #[error("cannot switch from confirm to tx mode")]
    ConfirmToTx,
    #[error("cannot switch from tx to confirm mode")]
    TxToConfirm,
    #[error("channel is not transactional")]
    NotTransactional,
    #[error("partial tx completion")]
    PartialTransaction,
    #[error("invalid expiration '{expiration}': {reason}")]
    InvalidExpiration { expiration: String, reason: String },
    #[error(
        "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not supported by quorum queues with single active consumer"
    )]
    GetFromSingleActive { queue: Name, vhost: Name },
    #[error("transaction holds more than {0} bytes")]
    TransactionTooLarge(usize),
    #[error(
        "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. This timeout value can be configured, see consumers doc guide to learn more"
    )]
    AcknowledgementTimeout { channel: u16, timeout_ms: u64 },
    #[error("{0}")]
    PreconditionFailed(String),
}

impl ChannelError {
    /// The reply code and its name.
    pub fn code(&self) -> (u16, &'static str) {
        match self {
            Self::NoQueue { .. } | Self::NoExchange { .. } | Self::NoLastQueue => {
                (404, "NOT_FOUND")
            }
            Self::LockedQueue { .. } | Self::GetFromSingleActive { .. } => (405, "RESOURCE_LOCKED"),
            Self::AccessRefused { .. }
            | Self::TopicRefused { .. }
            | Self::ReservedName { .. }
            | Self::DefaultExchange
            | Self::SystemExchange { .. }
            | Self::InternalExchange { .. }
            | Self::ExclusiveUse { .. } => (403, "ACCESS_REFUSED"),
            Self::Inequivalent { .. }
            | Self::InvalidArgument { .. }
            | Self::InUse { .. }
            | Self::NotEmpty { .. }
            | Self::UnknownDeliveryTag(_)
            | Self::UserId { .. }
            | Self::ReplyConsumerAcknowledges
            | Self::ReplyConsumerSet
            | Self::NoReplyConsumer
            | Self::MessageTooLarge { .. }
            | Self::ConfirmToTx
            | Self::TxToConfirm
            | Self::NotTransactional
            | Self::TransactionTooLarge(_)
            | Self::PartialTransaction
            | Self::InvalidExpiration { .. }
            | Self::AcknowledgementTimeout { .. }
            | Self::PreconditionFailed(_) => (406, "PRECONDITION_FAILED"),
        }
    }
}

/// What closes the whole connection.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[allow(
    missing_docs,
    reason = "the texts say what each one is, and the fields are the words in it"
)]
pub enum ConnectionError {
    #[error("broker forced connection closure with reason '{0}'")]
    Forced(&'static str),
    #[error("frame of {size} bytes is larger than the maximum of {max}")]
    FrameTooLarge { size: u64, max: u32 },
    #[error("frame on channel {channel} doesn't end with 206")]
    FrameEnd { channel: u16 },
    #[error("unknown frame type {0}")]
    FrameType(u8),
    #[error("{0} frame on channel {1} not allowed there")]
    FrameChannel(&'static str, u16),
    #[error("Malformed UTF-8 in shortstr")]
    ShortStringUtf8,
    #[error("{0}")]
    Syntax(&'static str),
    #[error("table nested deeper than {0} levels")]
    TableDepth(usize),
    #[error("unknown method {class}.{method}")]
    UnknownMethod { class: u16, method: u16 },
    #[error("{0}")]
    CommandInvalid(&'static str),
    #[error("unknown authentication mechanism '{0}'")]
    UnknownMechanism(String),
    #[error("unexpected method in connection state running")]
    MethodOutOfPlace,
    #[error("expected 'channel.open'")]
    ChannelNotOpen,
    #[error("second 'channel.open' seen")]
    ChannelOpenTwice,
    #[error("channel {channel} is above the negotiated channel_max ({max})")]
    ChannelMax { channel: u16, max: u16 },
    #[error("{0}")]
    UnexpectedFrame(&'static str),
    #[error("body is longer than the {0} bytes that its header announced")]
    BodyTooLong(u64),
    #[error("unfinished contents take more than {0} bytes")]
    TooMuchContent(usize),
    #[error("{0}")]
    NotAllowed(String),
    #[error("attempt to reuse consumer tag '{0}'")]
    ConsumerTagReused(String),
    #[error("reached maximum ({0}) of consumers per channel")]
    TooManyConsumers(usize),
    #[error("prefetch_size!=0 ({0})")]
    PrefetchSize(u32),
    #[error("{0}")]
    NotImplemented(&'static str),
    #[error("unknown exchange type '{0}'")]
    UnknownExchangeType(String),
    #[error("{0}")]
    AccessRefused(String),
    #[error("{0}")]
    Internal(&'static str),
}

impl ConnectionError {
    /// The reply code and its name.
    pub fn code(&self) -> (u16, &'static str) {
        match self {
            Self::Forced(_) => (320, "CONNECTION_FORCED"),
            Self::AccessRefused(_) => (403, "ACCESS_REFUSED"),
            Self::FrameTooLarge { .. }
            | Self::FrameEnd { .. }
            | Self::FrameType(_)
            | Self::FrameChannel(..)
            | Self::ShortStringUtf8 => (501, "FRAME_ERROR"),
            Self::Syntax(_) | Self::TableDepth(_) => (502, "SYNTAX_ERROR"),
            Self::CommandInvalid(_) | Self::UnknownMechanism(_) | Self::UnknownExchangeType(_) => {
                (503, "COMMAND_INVALID")
            }
            Self::MethodOutOfPlace
            | Self::ChannelNotOpen
            | Self::ChannelOpenTwice
            | Self::ChannelMax { .. } => (504, "CHANNEL_ERROR"),
            Self::UnexpectedFrame(_) | Self::BodyTooLong(_) => (505, "UNEXPECTED_FRAME"),
            Self::TooMuchContent(_) => (506, "RESOURCE_ERROR"),
            Self::NotAllowed(_) | Self::ConsumerTagReused(_) | Self::TooManyConsumers(_) => {
                (530, "NOT_ALLOWED")
            }
            Self::NotImplemented(_) | Self::PrefetchSize(_) | Self::UnknownMethod { .. } => {
                (540, "NOT_IMPLEMENTED")
            }
            Self::Internal(_) => (541, "INTERNAL_ERROR"),
        }
    }
}

/// Either of the two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AmqpError {
    /// Closes the channel.
    Channel(ChannelError),
    /// Closes the connection.
    Connection(ConnectionError),
}

impl AmqpError {
    /// The reply code, and the reply text as RabbitMQ writes it: `NOT_FOUND - no queue …`.
    pub fn reply(&self) -> (u16, String) {
        let ((code, name), text) = match self {
            Self::Channel(error) => (error.code(), error.to_string()),
            Self::Connection(error) => (error.code(), error.to_string()),
        };
        (code, format!("{name} - {text}"))
    }
}

impl From<ChannelError> for AmqpError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl From<ConnectionError> for AmqpError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}
