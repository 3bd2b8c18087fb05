//! Deduplicating exchanges (`x-message-deduplication`): as fanout, but a message goes no further whose header
//! `x-deduplication-header` has the value that one before it had, as with RabbitMQ's plugin
//! (<https://github.com/noxdafox/rabbitmq-message-deduplication>, `rabbit_message_deduplication_exchange.ex`).
//!
//! Whatever the exchange leads anywhere comes to its owner core first, by way of its
//! [own queue](super::own_queue). That one holds no messages but [notes](Note) of what has passed: as many
//! as `x-cache-size` says, each as long as `x-cache-ttl` says. They survive restarts if the exchange is
//! durable, unless `x-cache-persistence` is `memory`. Policies with keys of these names count before the
//! declaration, from when they are set, as with the plugin.

use crate::amqp::error::ChannelError;
use crate::amqp::properties::{self, Properties};
use crate::amqp::table::{TableWriter, Value};
use crate::base::{MessageRef, limits};
use crate::model::arguments::Arguments;
use crate::model::deduplication::{HEADER, Key, key_of};
use crate::model::expiration::EXPIRY_MAX_MS;

pub(crate) const CACHE_SIZE: &str = "x-cache-size";
/// An argument of the exchange, and a header that counts before it.
pub(crate) const CACHE_TTL: &str = "x-cache-ttl";
pub(crate) const CACHE_PERSISTENCE: &str = "x-cache-persistence";
const MEMORY: &[u8] = b"memory";

/// Checks the arguments of the exchange.
///
/// # Errors
/// `PreconditionFailed` (406) in the plugin's words.
pub fn check_arguments(arguments: &Arguments) -> Result<(), ChannelError> {
    let fault = |text: String| Err(ChannelError::PreconditionFailed(text));
    if arguments.get(CACHE_SIZE).and_then(positive).is_none() {
        return fault(format!(
            "Missing or invalid argument, '{CACHE_SIZE}' must be an integer greater than 0"
        ));
    }
    if let Some(ttl) = arguments.get(CACHE_TTL)
        && positive(ttl).is_none()
    {
        return fault(format!(
            "Invalid argument, '{CACHE_TTL}' must be an integer greater than 0"
        ));
    }
    match arguments.get(CACHE_PERSISTENCE) {
        None | Some(Value::LongString(MEMORY | b"disk")) => Ok(()),
        Some(_) => fault(format!(
            "Invalid argument, '{CACHE_PERSISTENCE}' must be either 'disk' or 'memory'"
        )),
    }
}

/// A number from 1 up, or the digits of one, which the plugin takes as well.
fn positive(value: Value<'_>) -> Option<u64> {
    let number = match value {
        Value::LongString(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        other => u64::try_from(other.as_integer()?).ok()?,
    };
    (number > 0).then_some(number)
}

/// What the queue of such an exchange is declared with: what it remembers.
pub(super) fn queue_arguments(of_exchange: &Arguments) -> Arguments {
    let number = |name, max: u64| {
        let number = of_exchange.get(name).and_then(positive);
        number.map(|number| number.min(max) as i64)
    };
    let size = number(CACHE_SIZE, limits::DEDUPLICATION_KEYS_MAX as u64);
    let mut table = TableWriter::new().long(CACHE_SIZE, size.unwrap_or(1));
    if let Some(ttl_ms) = number(CACHE_TTL, EXPIRY_MAX_MS) {
        table = table.long(CACHE_TTL, ttl_ms);
    }
    if let Some(kept_in) = of_exchange.get(CACHE_PERSISTENCE) {
        table = table.field(CACHE_PERSISTENCE, kept_in);
    }
    Arguments::parse(&table.into_bytes()).expect("written on the lines above")
}

/// Whether a queue with these arguments is one that remembers.
pub(crate) fn is_cache(of_queue: &Arguments) -> bool {
    of_queue.get(CACHE_SIZE).is_some()
}

/// What messages are compared by; none if this one isn't: it passes.
fn compared(properties: Properties<'_>) -> Option<Key> {
    let ttl = properties.headers()?.get(CACHE_TTL);
    let is_over = ttl.and_then(Value::as_integer).is_some_and(|ms| ms <= 0);
    key_of(properties).filter(|_| !is_over)
}

/// Whether such an exchange notes the message, so that it knows it again.
pub(crate) fn is_noted(properties: Properties<'_>) -> bool {
    compared(properties).is_some()
}

/// What an exchange remembers of messages that have passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cache {
    /// How many notes there are at most.
    pub size: u64,
    /// How long each counts, in milliseconds; none: until there are too many.
    ttl_ms: Option<u64>,
    /// Whether they should survive a restart.
    is_persistent: bool,
}

impl Cache {
    /// `of_queue`: the arguments of the exchange's own queue, if it is one that keeps notes.
    pub fn declared(of_queue: &Arguments) -> Option<Self> {
        Some(Self {
            size: of_queue.get(CACHE_SIZE).and_then(positive)?,
            ttl_ms: of_queue.get(CACHE_TTL).and_then(positive),
            is_persistent: of_queue.get(CACHE_PERSISTENCE) != Some(Value::LongString(MEMORY)),
        })
    }

    /// What is to be noted of a message; none if it isn't compared with others.
    pub fn note(&self, of: Properties<'_>) -> Option<Note> {
        let key = compared(of)?;
        let own_ttl = of.headers()?.get(CACHE_TTL).and_then(Value::as_integer);
        let own_ttl = own_ttl.and_then(|ms| u64::try_from(ms).ok());
        let headers = TableWriter::new().field(HEADER, Value::Binary(&key));
        let none = Properties::from_validated(&[0, 0]);
        let mut properties = properties::with_headers(none, headers.as_table());
        if let Some(ttl_ms) = own_ttl.or(self.ttl_ms) {
            let noted = Properties::from_validated(&properties);
            properties = properties::with_expiration(noted, ttl_ms.min(EXPIRY_MAX_MS));
        }
        Some(Note {
            key: key_of(Properties::from_validated(&properties))?,
            properties,
            is_persistent: self.is_persistent,
        })
    }
}

/// That a message with some value has passed: a message without a body, whose header is a hash of that
/// value, and whose expiration says how long it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What the queue of notes knows it by.
    pub key: Key,
    properties: Vec<u8>,
    is_persistent: bool,
}

impl Note {
    /// As a message for the queue of notes.
    pub fn message(&self) -> MessageRef<'_> {
        MessageRef {
            exchange: b"",
            routing_key: b"",
            properties: &self.properties,
            body: &[],
            large_body: &[],
            persistent: self.is_persistent,
        }
    }
}

/// Whether a message that came to a queue of notes is one. All others have been published to some exchange
/// with a name: the default exchange leads to no exchange, nor to its own queue.
pub(crate) fn is_note(message: &MessageRef<'_>) -> bool {
    message.exchange.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(table: TableWriter) -> Arguments {
        Arguments::parse(&table.into_bytes()).expect("well-formed")
    }

    fn cache(table: TableWriter) -> Cache {
        let declared = arguments(table);
        check_arguments(&declared).expect("they are as they should be");
        Cache::declared(&queue_arguments(&declared)).expect("it keeps notes")
    }

    fn note(cache: &Cache, headers: TableWriter) -> Option<Note> {
        let none = Properties::from_validated(&[0, 0]);
        let properties = properties::with_headers(none, headers.as_table());
        cache.note(Properties::from_validated(&properties))
    }

    fn expiration(note: &Note) -> Option<String> {
        let properties = Properties::from_validated(&note.properties);
        let text = properties.expiration()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn size(number: i64) -> TableWriter {
        TableWriter::new().long(CACHE_SIZE, number)
    }

    #[test]
    fn arguments_are_checked_as_by_the_plugin() {
        let wrong_size =
            "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0";
        let wrong_ttl = "Invalid argument, 'x-cache-ttl' must be an integer greater than 0";
        let wrong_place =
            "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'";
        for (table, expected) in [
            (TableWriter::new(), wrong_size),
            (size(0), wrong_size),
            (
                TableWriter::new().long_string(CACHE_SIZE, "many"),
                wrong_size,
            ),
            (TableWriter::new().bool(CACHE_SIZE, true), wrong_size),
            (size(1).long(CACHE_TTL, -1), wrong_ttl),
            (size(1).long_string(CACHE_TTL, "1s"), wrong_ttl),
            (size(1).long_string(CACHE_PERSISTENCE, "tape"), wrong_place),
            (size(1).bool(CACHE_PERSISTENCE, true), wrong_place),
        ] {
            let error = check_arguments(&arguments(table)).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn what_is_declared_is_bounded_and_numbers_may_be_texts() {
        let table = TableWriter::new().long_string(CACHE_SIZE, "20");
        let small = cache(table.long_string(CACHE_TTL, "50"));
        assert_eq!((small.size, small.ttl_ms), (20, Some(50)));
        let large = cache(size(i64::MAX).long(CACHE_TTL, i64::MAX));
        assert_eq!(large.size, limits::DEDUPLICATION_KEYS_MAX as u64);
        assert_eq!(large.ttl_ms, Some(EXPIRY_MAX_MS));
        for (place, persists) in [("disk", true), ("memory", false)] {
            let cache = cache(size(1).long_string(CACHE_PERSISTENCE, place));
            assert_eq!(cache.is_persistent, persists);
        }
        assert!(cache(size(1)).is_persistent, "if nobody says otherwise");
        assert!(Cache::declared(&Arguments::default()).is_none());
    }

    #[test]
    fn notes_of_like_messages_are_alike_whatever_else_they_say() {
        let cache = cache(size(1));
        let new = TableWriter::new;
        let one = note(&cache, new().long_string(HEADER, "a")).expect("it has the header");
        let other = note(&cache, new().long("n", 1).long_string(HEADER, "a"));
        assert_eq!(other.expect("it has it too").key, one.key);
        let another = note(&cache, new().long_string(HEADER, "b"));
        assert_ne!(another.expect("and so has this one").key, one.key);
        assert!(is_note(&one.message()));
        let of_itself = key_of(Properties::from_validated(one.message().properties));
        assert_eq!(of_itself, Some(one.key), "as a start finds it in the log");
    }

    #[test]
    fn a_message_says_how_long_its_note_counts_or_else_the_exchange_does() {
        let (without, with) = (cache(size(1)), cache(size(1).long(CACHE_TTL, 50)));
        let compared = || TableWriter::new().long(HEADER, 1);
        let ttl = |cache, headers| note(cache, headers).map(|note| expiration(&note));
        assert_eq!(ttl(&without, compared()), Some(None));
        assert_eq!(ttl(&with, compared()), Some(Some("50".to_owned())));
        for cache in [&without, &with] {
            let own = ttl(cache, compared().long(CACHE_TTL, 900));
            assert_eq!(own, Some(Some("900".to_owned())));
            let gone = ttl(cache, compared().long(CACHE_TTL, 0));
            assert_eq!(gone, None, "it would be forgotten at once");
        }
        let odd = ttl(&with, compared().long_string(CACHE_TTL, "900"));
        assert_eq!(odd, Some(Some("50".to_owned())), "that is no number");
        let long = ttl(&with, compared().long(CACHE_TTL, i64::MAX));
        assert_eq!(long, Some(Some(EXPIRY_MAX_MS.to_string())));
    }
}
