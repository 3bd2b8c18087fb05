//! Arguments of declarations and bindings: kept as bytes to compare and to give back, read into types
//! at the door, with RabbitMQ's checks (`rabbit_amqqueue:check_declare_arguments`) and its texts.

use std::sync::Arc;
use std::time::Duration;

use crate::amqp::error::{ChannelError, ConnectionError};
use crate::amqp::table::{Table, Value};
use crate::base::{Name, limits};
use crate::model::expiration::EXPIRY_MAX_MS;

/// A field table, owned, with its fields sorted by name: equal bytes are equal arguments.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Arguments(Option<Arc<[u8]>>);

impl Arguments {
    /// Checks, sorts and copies the fields of a table (without the length before them).
    ///
    /// # Errors
    /// As [`Table::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConnectionError> {
        let table = Table::parse(bytes)?;
        if table.is_empty() {
            return Ok(Self(None));
        }
        let mut fields = Vec::new();
        let mut walk = table.fields();
        let mut before = walk.rest();
        while let Some((name, _)) = walk.next() {
            let rest = walk.rest();
            fields.push((name, &before[..before.len() - rest.len()]));
            before = rest;
        }
        fields.sort_by_key(|(name, _)| *name);
        let sorted: Vec<u8> = fields
            .iter()
            .flat_map(|(_, field)| *field)
            .copied()
            .collect();
        Ok(Self(Some(Arc::from(sorted))))
    }

    /// The fields, sorted by name.
    pub fn table(&self) -> Table<'_> {
        Table::from_validated(self.0.as_deref().unwrap_or(&[]))
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<Value<'_>> {
        self.table().get(name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// What a queue's arguments ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueArguments {
    /// `x-queue-type`.
    pub queue_type: QueueType,
    /// `x-message-ttl`, in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, in milliseconds, at least 1.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, in messages that are ready.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`, in bytes of ready bodies.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<Name>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Name>,
    /// `x-dead-letter-strategy` is at-least-once: a dead letter stays until those it goes to have taken it. Only where
    /// there is a dead-letter exchange and what is too much is refused, as with RabbitMQ.
    pub keeps_letters: bool,
    /// `x-max-priority`.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`: how often a message may come back; none: for ever. Queues of type quorum have
    /// one by default, as with RabbitMQ 4.
    pub delivery_limit: Option<u64>,
    /// `x-consumer-timeout`, in milliseconds; 0 is none, whatever the configuration says.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-message-deduplication`. An argument of a plugin: RabbitMQ doesn't compare it.
    pub deduplicates: bool,
    unsupported: Vec<&'static str>,
}

/// What a queue is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "RabbitMQ's names")]
pub enum QueueType {
    #[default]
    Classic,
    Quorum,
    Stream,
}

impl QueueType {
    /// Its name as the value of `x-queue-type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    pub(super) fn from_bytes(name: &[u8]) -> Option<Self> {
        [Self::Classic, Self::Quorum, Self::Stream]
            .into_iter()
            .find(|known| known.name().as_bytes() == name)
    }

    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The arguments that must be equivalent when such a queue is declared again, in RabbitMQ's order.
    pub fn compared_arguments(self) -> impl Iterator<Item = &'static str> {
        KNOWN
            .iter()
            .filter(move |known| known.types & self.bit() != 0)
            .map(|known| known.name)
    }
}

/// What a full queue does with a message more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// Drops the oldest (RabbitMQ's default).
    #[default]
    DropHead,
    /// Refuses the newest with `basic.nack`.
    RejectPublish,
    /// Refuses the newest, and dead-letters it.
    RejectPublishDlx,
}

impl Overflow {
    fn from_bytes(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"drop-head" => Self::DropHead,
            b"reject-publish" => Self::RejectPublish,
            b"reject-publish-dlx" => Self::RejectPublishDlx,
            _ => return None,
        })
    }
}

/// One argument that RabbitMQ knows.
struct Known {
    name: &'static str,
    /// Bits of the queue types that take it.
    types: u8,
    check: Check,
    /// Whether a queue should act on it, and doesn't yet.
    is_missing: bool,
}

#[derive(Clone, Copy)]
enum Check {
    Anything,
    Integer,
    NotNegative,
    Expires,
    Ttl,
    Positive,
    Boolean,
    LongString,
    DeadLetterRoutingKey,
    DeadLetterStrategy,
    Overflow,
    MaxPriority,
    QueueMode,
    QueueVersion,
}

const C: u8 = 1;
const Q: u8 = 2;
const S: u8 = 4;

/// One that is acted on, or that needn't be: where to put replicas, or a format on disk.
const fn known(name: &'static str, types: u8, check: Check) -> Known {
    Known {
        name,
        types,
        check,
        is_missing: false,
    }
}

const fn missing(name: &'static str, types: u8, check: Check) -> Known {
    Known {
        name,
        types,
        check,
        is_missing: true,
    }
}

/// In the order in which RabbitMQ checks and compares them; `x-queue-type` is checked before all.
const KNOWN: [Known; 28] = [
    known("x-expires", C | Q, Check::Expires),
    known("x-message-ttl", C | Q, Check::Ttl),
    known("x-dead-letter-exchange", C | Q, Check::LongString),
    known(
        "x-dead-letter-routing-key",
        C | Q,
        Check::DeadLetterRoutingKey,
    ),
    known("x-dead-letter-strategy", Q, Check::DeadLetterStrategy),
    known("x-max-length", C | Q, Check::NotNegative),
    known("x-max-length-bytes", C | Q | S, Check::NotNegative),
    known("x-max-in-memory-length", Q, Check::NotNegative),
    known("x-max-in-memory-bytes", Q, Check::NotNegative),
    known("x-max-priority", C, Check::MaxPriority),
    known("x-overflow", C | Q, Check::Overflow),
    known("x-queue-mode", C, Check::QueueMode),
    known("x-queue-version", C, Check::QueueVersion),
    known("x-single-active-consumer", C | Q, Check::Boolean),
    known(QUEUE_TYPE, C | Q | S, Check::Anything),
    known("x-delivery-limit", C | Q, Check::Integer),
    known(CONSUMER_TIMEOUT, C | Q, Check::NotNegative),
    known("x-quorum-initial-group-size", Q, Check::Positive),
    known("x-quorum-target-group-size", Q, Check::Positive),
    missing("x-delayed-retry-type", Q, Check::Anything),
    missing("x-delayed-retry-min", Q, Check::NotNegative),
    missing("x-delayed-retry-max", Q, Check::NotNegative),
    missing("x-max-age", S, Check::LongString),
    known("x-stream-max-segment-size-bytes", S, Check::NotNegative),
    known("x-stream-filter-size-bytes", S, Check::NotNegative),
    known("x-initial-cluster-size", Q | S, Check::Positive),
    known("x-queue-leader-locator", C | Q | S, Check::LongString),
    known("x-queue-master-locator", C, Check::LongString),
];

/// The argument that says how long a consumer may keep a delivery.
pub const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";
/// The argument that has a queue take no message twice, and the policies' key.
pub const DEDUPLICATES: &str = "x-message-deduplication";
/// The argument that says what a queue is made of.
pub const QUEUE_TYPE: &str = "x-queue-type";
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

impl QueueArguments {
    /// Checks what RabbitMQ checks, in its order, and reads what there is.
    ///
    /// # Errors
    /// The first argument that is not what it should be.
    pub fn parse(arguments: &Arguments) -> Result<Self, ArgumentFault> {
        if let Some(value) = arguments.get(DEAD_LETTER_EXCHANGE)
            && !matches!(value, Value::LongString(_))
        {
            return Err(ArgumentFault::type_of(DEAD_LETTER_EXCHANGE, value));
        }
        let queue_type = parse_queue_type(arguments)?;
        for known in KNOWN
            .iter()
            .filter(|known| known.types & queue_type.bit() != 0)
        {
            if let Some(value) = arguments.get(known.name) {
                check(known.check, value, arguments)
                    .map_err(|reason| ArgumentFault::value(known.name, reason))?;
            }
        }
        for known in KNOWN
            .iter()
            .filter(|known| known.types & queue_type.bit() == 0)
        {
            if arguments.get(known.name).is_some() {
                return Err(ArgumentFault::queue_type(known.name, queue_type));
            }
        }
        Self::read(arguments, queue_type)
    }

    fn read(arguments: &Arguments, queue_type: QueueType) -> Result<Self, ArgumentFault> {
        let number = |name| {
            let number = arguments.get(name).and_then(Value::as_integer);
            number.and_then(|number| u64::try_from(number).ok())
        };
        let is = |name, wanted| arguments.get(name) == Some(wanted);
        let mut unsupported: Vec<_> = KNOWN
            .iter()
            .filter(|known| known.is_missing && arguments.get(known.name).is_some())
            .map(|known| known.name)
            .collect();
        if queue_type == QueueType::Stream {
            unsupported.push(QUEUE_TYPE);
        }
        let overflow = match arguments.get("x-overflow") {
            Some(Value::LongString(name)) => Overflow::from_bytes(name).unwrap_or_default(),
            _ => Overflow::default(),
        };
        let dead_letter_exchange = name_of(arguments, DEAD_LETTER_EXCHANGE)?;
        Ok(Self {
            queue_type,
            message_ttl_ms: number("x-message-ttl"),
            expires_ms: number("x-expires"),
            max_length: number("x-max-length"),
            max_length_bytes: number("x-max-length-bytes"),
            overflow,
            keeps_letters: overflow == Overflow::RejectPublish
                && dead_letter_exchange.is_some()
                && is(
                    "x-dead-letter-strategy",
                    Value::LongString(b"at-least-once"),
                ),
            dead_letter_exchange,
            dead_letter_routing_key: name_of(arguments, "x-dead-letter-routing-key")?,
            max_priority: number("x-max-priority").and_then(|number| u8::try_from(number).ok()),
            single_active_consumer: is("x-single-active-consumer", Value::Bool(true)),
            delivery_limit: match arguments
                .get("x-delivery-limit")
                .and_then(Value::as_integer)
            {
                // A negative one is RabbitMQ's way of saying none.
                Some(limit) => u64::try_from(limit).ok(),
                None => (queue_type == QueueType::Quorum).then_some(limits::DELIVERY_LIMIT),
            },
            consumer_timeout_ms: number(CONSUMER_TIMEOUT)
                .map(|ms| ms.min(limits::CONSUMER_TIMEOUT_MS_MAX)),
            // Frameworks that take arguments for texts unless told otherwise are understood by the plugin.
            deduplicates: is(DEDUPLICATES, Value::Bool(true))
                || is(DEDUPLICATES, Value::LongString(b"true")),
            unsupported,
        })
    }

    /// How long the queue may be unused, if it may not be so for ever.
    pub fn expires(&self) -> Option<Duration> {
        self.expires_ms.map(Duration::from_millis)
    }

    /// The arguments that were accepted, should change what the queue does, and don't yet: whoever
    /// creates the queue says so in a warning.
    pub fn unsupported(&self) -> &[&'static str] {
        &self.unsupported
    }
}

fn parse_queue_type(arguments: &Arguments) -> Result<QueueType, ArgumentFault> {
    match arguments.get(QUEUE_TYPE) {
        None => Ok(QueueType::default()),
        Some(Value::LongString(name)) => QueueType::from_bytes(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            ArgumentFault::value(QUEUE_TYPE, format!("\"unsupported queue type '{name}'\""))
        }),
        Some(value) => Err(ArgumentFault::value(QUEUE_TYPE, unacceptable(value))),
    }
}

/// The reason as Erlang prints it, or nothing if all is well.
fn check(check: Check, value: Value<'_>, arguments: &Arguments) -> Result<(), String> {
    match check {
        Check::Anything => Ok(()),
        Check::Integer => integer(value).map(drop),
        Check::NotNegative => not_negative(value).map(drop),
        Check::Expires => positive(value).and_then(expiry),
        Check::Ttl => not_negative(value).and_then(expiry),
        Check::Positive => positive(value).map(drop),
        Check::MaxPriority => match not_negative(value)? {
            0..=255 => Ok(()),
            number => Err(format!("{{max_value_exceeded,{number}}}")),
        },
        Check::QueueVersion => match not_negative(value)? {
            1 | 2 => Ok(()),
            number => Err(format!("\"unsupported queue version '{number}'\"")),
        },
        Check::Boolean => match value {
            Value::Bool(_) => Ok(()),
            _ => Err(unacceptable(value)),
        },
        Check::LongString => long_string(value).map(drop),
        Check::DeadLetterRoutingKey => {
            long_string(value)?;
            let has_exchange = arguments.get(DEAD_LETTER_EXCHANGE).is_some();
            valid(has_exchange, || "routing_key_but_no_dlx_defined".to_owned())
        }
        Check::DeadLetterStrategy => {
            let name = long_string(value)?;
            let known = [&b"at-most-once"[..], b"at-least-once"].contains(&name);
            valid(known, || "invalid_dlx_strategy".to_owned())
        }
        Check::Overflow => {
            let known = Overflow::from_bytes(long_string(value)?).is_some();
            valid(known, || "invalid_overflow".to_owned())
        }
        Check::QueueMode => {
            let mode = long_string(value)?;
            let known = [&b"default"[..], b"lazy"].contains(&mode);
            valid(known, || format!("\"unsupported queue mode '{value}'\""))
        }
    }
}

fn valid(is_valid: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if is_valid { Ok(()) } else { Err(reason()) }
}

fn integer(value: Value<'_>) -> Result<i64, String> {
    let type_name = value.rabbit_type_name();
    let number = value.as_integer();
    number.ok_or_else(|| format!("\"expected integer, got {type_name}\""))
}

fn not_negative(value: Value<'_>) -> Result<i64, String> {
    match integer(value)? {
        number if number < 0 => Err(format!("{{value_negative,{number}}}")),
        number => Ok(number),
    }
}

fn positive(value: Value<'_>) -> Result<i64, String> {
    match not_negative(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        number => Ok(number),
    }
}

fn expiry(ms: i64) -> Result<(), String> {
    let fits = ms as u64 <= EXPIRY_MAX_MS;
    valid(fits, || format!("{{value_too_large,{ms}}}"))
}

fn long_string(value: Value<'_>) -> Result<&[u8], String> {
    match value {
        Value::LongString(bytes) => Ok(bytes),
        _ => Err(unacceptable(value)),
    }
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.rabbit_type_name())
}

/// Names are text here; RabbitMQ would keep any bytes, and never find anything by them.
fn name_of(arguments: &Arguments, argument: &'static str) -> Result<Option<Name>, ArgumentFault> {
    match arguments.get(argument) {
        None => Ok(None),
        Some(Value::LongString(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) if bytes.len() <= 255 => Ok(Some(Name::from(text))),
            _ => Err(ArgumentFault::value(
                argument,
                "\"not a short string\"".to_owned(),
            )),
        },
        Some(value) => Err(ArgumentFault::type_of(argument, value)),
    }
}

/// What a consumer's arguments ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConsumerArguments {
    /// `x-priority`: consumers of lower priority get what it can't take.
    pub priority: i64,
    /// `x-consumer-timeout`, in milliseconds: counts before whatever is said of the queue; 0 is none.
    pub timeout_ms: Option<u64>,
}

impl ConsumerArguments {
    /// Reads what there is; arguments that nobody knows are ignored.
    ///
    /// # Errors
    /// A priority that is no whole number, `x-cancel-on-ha-failover` that is no boolean, a timeout that is no
    /// whole number from 0 up.
    pub fn parse(table: Table<'_>) -> Result<Self, ArgumentFault> {
        const PRIORITY: &str = "x-priority";
        let number = |name, read: fn(Value<'_>) -> Result<i64, String>| {
            let given = table.get(name).map(read).transpose();
            given.map_err(|reason| ArgumentFault::value(name, reason))
        };
        let priority = number(PRIORITY, integer)?.unwrap_or(0);
        // Mirrors are no more; a consumer that asks to be told of their end is told nothing, and may ask.
        const CANCEL_ON_FAILOVER: &str = "x-cancel-on-ha-failover";
        if let Some(value) = table.get(CANCEL_ON_FAILOVER)
            && !matches!(value, Value::Bool(_))
        {
            return Err(ArgumentFault::value(
                CANCEL_ON_FAILOVER,
                unacceptable(value),
            ));
        }
        let timeout_ms = number(CONSUMER_TIMEOUT, not_negative)?;
        Ok(Self {
            priority,
            timeout_ms: timeout_ms.map(|ms| (ms as u64).min(limits::CONSUMER_TIMEOUT_MS_MAX)),
        })
    }

    /// How long the consumer may keep a delivery, if it says so itself; none inside: as long as it likes.
    pub fn timeout(&self) -> Option<Option<Duration>> {
        let timeout = |ms| (ms > 0).then(|| Duration::from_millis(ms));
        self.timeout_ms.map(timeout)
    }
}

/// What an exchange's arguments ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExchangeArguments {
    /// `alternate-exchange`.
    pub alternate: Option<Name>,
}

impl ExchangeArguments {
    /// Reads what there is; arguments that nobody knows are ignored.
    ///
    /// # Errors
    /// An alternate exchange that is not a text.
    pub fn parse(arguments: &Arguments) -> Result<Self, ArgumentFault> {
        Ok(Self {
            alternate: name_of(arguments, ALTERNATE_EXCHANGE)?,
        })
    }
}

/// The only argument that counts when an exchange is declared again.
pub const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// What is wrong with an argument; who it was meant for is added by [`ArgumentFault::of`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArgumentFault {
    argument: &'static str,
    fault: Fault,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Fault {
    Value(String),
    Type(&'static str),
    QueueType(QueueType),
}

impl ArgumentFault {
    fn value(argument: &'static str, reason: String) -> Self {
        let fault = Fault::Value(reason);
        Self { argument, fault }
    }

    fn type_of(argument: &'static str, value: Value<'_>) -> Self {
        let fault = Fault::Type(value.rabbit_type_name());
        Self { argument, fault }
    }

    fn queue_type(argument: &'static str, queue_type: QueueType) -> Self {
        let fault = Fault::QueueType(queue_type);
        Self { argument, fault }
    }

    /// The error to answer with, for `queue` or `exchange`, its name and its vhost's.
    pub fn of(self, entity: &'static str, name: &Name, vhost: &Name) -> ChannelError {
        let argument = self.argument;
        match self.fault {
            Fault::Value(reason) => ChannelError::InvalidArgument {
                argument: argument.to_owned(),
                entity,
                name: name.clone(),
                vhost: vhost.clone(),
                reason,
            },
            Fault::Type(got) => ChannelError::PreconditionFailed(format!(
                "invalid type '{got}' for arg '{argument}' in {entity} '{name}' in vhost '{vhost}'"
            )),
            Fault::QueueType(queue_type) => ChannelError::PreconditionFailed(format!(
                "invalid arg '{argument}' for {entity} '{name}' in vhost '{vhost}' of queue type {}",
                queue_type.name()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::table::TableWriter;

    fn arguments(table: TableWriter) -> Arguments {
        Arguments::parse(&table.into_bytes()).expect("written by us")
    }

    fn fault(table: TableWriter) -> String {
        let fault = QueueArguments::parse(&arguments(table)).expect_err("at fault");
        fault
            .of("queue", &Name::from("q"), &Name::from("/"))
            .to_string()
    }

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let one = TableWriter::new().bool("b", true).long("a", 1);
        let other = TableWriter::new().long("a", 1).bool("b", true);
        assert_ne!(one, other);
        assert_eq!(arguments(one), arguments(other));
        assert_eq!(arguments(TableWriter::new()), Arguments::default());
    }

    #[test]
    fn arguments_become_types() {
        let table = TableWriter::new()
            .signed_int("x-message-ttl", 0)
            .long("x-max-length", 10)
            .long_string("x-overflow", "reject-publish")
            .long_string("x-dead-letter-exchange", "dlx")
            .long_string("x-dead-letter-routing-key", "rk")
            .signed_int("x-max-priority", 255)
            .bool("x-single-active-consumer", true)
            .long_string("x-queue-mode", "lazy")
            .long_string("my-own", "whatever");
        let parsed = QueueArguments::parse(&arguments(table)).expect("all fine");
        assert_eq!(parsed.message_ttl_ms, Some(0));
        assert_eq!(parsed.max_length, Some(10));
        assert_eq!(parsed.overflow, Overflow::RejectPublish);
        assert_eq!(parsed.dead_letter_exchange, Some(Name::from("dlx")));
        assert_eq!(parsed.dead_letter_routing_key, Some(Name::from("rk")));
        assert_eq!(parsed.max_priority, Some(255));
        assert!(parsed.single_active_consumer);
        assert_eq!(parsed.unsupported(), [""; 0]);
        let deduplicates = |table| {
            let parsed = QueueArguments::parse(&arguments(table)).expect("all fine");
            parsed.deduplicates
        };
        let as_text = |text| TableWriter::new().long_string(DEDUPLICATES, text);
        assert!(deduplicates(TableWriter::new().bool(DEDUPLICATES, true)));
        assert!(deduplicates(as_text("true")) && !deduplicates(as_text("no")));
    }

    #[test]
    fn a_stream_is_named_as_unsupported_and_no_other_type_is() {
        let of = |name: &str| {
            let table = arguments(TableWriter::new().long_string("x-queue-type", name));
            QueueArguments::parse(&table)
                .expect("known")
                .unsupported()
                .to_vec()
        };
        assert_eq!(of("classic"), [""; 0]);
        assert_eq!(of("quorum"), [""; 0]);
        assert_eq!(of("stream"), ["x-queue-type"]);
    }

    #[test]
    fn a_delivery_limit_is_twenty_for_quorum_queues_unless_told_otherwise() {
        let limit = |table: TableWriter| {
            let parsed = QueueArguments::parse(&arguments(table)).expect("all fine");
            parsed.delivery_limit
        };
        let quorum = || TableWriter::new().long_string("x-queue-type", "quorum");
        assert_eq!(limit(quorum()), Some(20));
        assert_eq!(limit(quorum().signed_int("x-delivery-limit", 3)), Some(3));
        assert_eq!(limit(quorum().signed_int("x-delivery-limit", -1)), None);
        assert_eq!(limit(TableWriter::new()), None);
    }

    #[test]
    fn wrong_arguments_are_refused_in_rabbitmqs_words() {
        let new = TableWriter::new;
        let cases = [
            (
                new().long_string("x-message-ttl", "1"),
                "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': \"expected integer, got longstr\"",
            ),
            (
                new().signed_int("x-message-ttl", -1),
                "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}",
            ),
            (
                new().signed_int("x-expires", 0),
                "invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}",
            ),
            (
                new().signed_int("x-max-priority", 256),
                "invalid arg 'x-max-priority' for queue 'q' in vhost '/': {max_value_exceeded,256}",
            ),
            (
                new().long_string("x-overflow", "no"),
                "invalid arg 'x-overflow' for queue 'q' in vhost '/': invalid_overflow",
            ),
            (
                new().long_string("x-dead-letter-routing-key", "k"),
                "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': routing_key_but_no_dlx_defined",
            ),
            (
                new().signed_int("x-dead-letter-exchange", 1),
                "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
            ),
            (
                new().long_string("x-single-active-consumer", "y"),
                "invalid arg 'x-single-active-consumer' for queue 'q' in vhost '/': {unacceptable_type,longstr}",
            ),
            (
                new().long_string("x-queue-type", "odd"),
                "invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'odd'\"",
            ),
            (
                new().long_string("x-dead-letter-strategy", "at-least-once"),
                "invalid arg 'x-dead-letter-strategy' for queue 'q' in vhost '/' of queue type classic",
            ),
        ];
        for (table, text) in cases {
            assert_eq!(fault(table), text);
        }
    }

    #[test]
    fn an_alternate_exchange_must_be_a_text() {
        let table = arguments(TableWriter::new().long("alternate-exchange", 1));
        let fault = ExchangeArguments::parse(&table).expect_err("a number");
        assert_eq!(
            fault
                .of("exchange", &Name::from("x"), &Name::from("/"))
                .to_string(),
            "invalid type 'long' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
        );
    }

    fn described(check: Check) -> String {
        let expiry = |from: u64| format!("milliseconds, {from} to {EXPIRY_MAX_MS}");
        match check {
            Check::Anything => "a text".to_owned(),
            Check::Integer => "a whole number".to_owned(),
            Check::NotNegative => "a whole number from 0 up".to_owned(),
            Check::Expires => expiry(1),
            Check::Ttl => expiry(0),
            Check::Positive => "a whole number from 1 up".to_owned(),
            Check::Boolean => "a boolean".to_owned(),
            Check::LongString => "a text".to_owned(),
            Check::DeadLetterRoutingKey => "a text, beside a dead-letter exchange".to_owned(),
            Check::DeadLetterStrategy => "at-most-once or at-least-once".to_owned(),
            Check::Overflow => "drop-head, reject-publish or reject-publish-dlx".to_owned(),
            Check::MaxPriority => "0 to 255".to_owned(),
            Check::QueueMode => "default or lazy".to_owned(),
            Check::QueueVersion => "1 or 2".to_owned(),
        }
    }

    #[test]
    fn the_table_of_arguments_is_what_the_code_takes() {
        let types = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
        let mut table = String::new();
        for known in &KNOWN {
            let takers = types.iter().filter(|one| known.types & one.bit() != 0);
            let takers: Vec<_> = takers.map(|one| one.name()).collect();
            let value = match known.name {
                QUEUE_TYPE => types.map(QueueType::name).join(", "),
                _ => described(known.check),
            };
            let note = if known.is_missing { "not yet" } else { "" };
            table += &format!(
                "| {} | {} | {value} | {note} |\n",
                known.name,
                takers.join(", ")
            );
        }
        let documented = include_str!("../../COMPATIBILITY.md");
        assert!(
            documented.contains(&table),
            "COMPATIBILITY.md should say:\n{table}"
        );
    }
}
