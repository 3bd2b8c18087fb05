//! Recent history exchanges (`x-recent-history`): as fanout, and what was published last goes to each
//! queue that is bound later, as with RabbitMQ's plugin of that name.
//!
//! The messages are kept on the exchange's owner core, in memory: a restart forgets them, as there.

use std::collections::VecDeque;

use crate::amqp::error::ChannelError;
use crate::amqp::properties::Properties;
use crate::amqp::table::{TableWriter, Value};
use crate::base::{MessageRef, StoredMessage, limits};
use crate::model::arguments::Arguments;

const LENGTH: &str = "x-recent-history-length";
const NO_STORE: &str = "x-recent-history-no-store";
/// How many messages are kept if nobody says it (the plugin's default).
const DEFAULT_LENGTH: u32 = 20;

/// Checks the arguments of the exchange.
///
/// # Errors
/// `PreconditionFailed` (406) in the plugin's words.
pub fn check_arguments(arguments: &Arguments) -> Result<(), ChannelError> {
    let Some(value) = arguments.get(LENGTH) else {
        return Ok(());
    };
    if value.as_integer().is_some_and(|length| length > 0) {
        return Ok(());
    }
    let value = match value {
        Value::LongString(text) => format!("<<\"{}\">>", String::from_utf8_lossy(text)),
        other => other.to_string(),
    };
    Err(ChannelError::PreconditionFailed(format!(
        "Invalid argument {value}, '{LENGTH}' must be a positive integer"
    )))
}

/// What the queue of such an exchange is declared with: how much it keeps.
pub(super) fn queue_arguments(of_exchange: &Arguments) -> Arguments {
    let length = of_exchange.get(LENGTH).and_then(Value::as_integer);
    let length = length.and_then(|length| u32::try_from(length).ok());
    let length = length.map_or(DEFAULT_LENGTH, |length| {
        length.clamp(1, limits::HISTORY_LENGTH_MAX)
    });
    let table = TableWriter::new().long(LENGTH, i64::from(length));
    Arguments::parse(&table.into_bytes()).expect("written on the line above")
}

/// Whether the message may be kept.
pub(crate) fn is_kept(properties: Properties<'_>) -> bool {
    let headers = properties.headers().unwrap_or_default();
    headers.get(NO_STORE) != Some(Value::Bool(true))
}

/// The last messages of an exchange.
#[derive(Debug)]
pub struct History {
    messages: VecDeque<StoredMessage>,
    /// Bytes of them.
    bytes: u64,
    length: usize,
}

impl History {
    /// None yet. `of_queue`: the arguments of the exchange's own queue, if it is one that keeps a history.
    pub fn declared(of_queue: &Arguments) -> Option<Self> {
        let length = of_queue.get(LENGTH)?.as_integer()?;
        Some(Self {
            messages: VecDeque::new(),
            bytes: 0,
            length: usize::try_from(length).ok()?,
        })
    }

    /// Keeps a message, and forgets as many of the oldest as there is no room for.
    pub fn keep(&mut self, message: StoredMessage) {
        self.bytes += weight(&message.as_ref());
        self.messages.push_back(message);
        while self.messages.len() > self.length || self.bytes > limits::HISTORY_BYTES_MAX {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= weight(&oldest.as_ref());
        }
    }

    /// From the oldest to the newest.
    pub fn messages(&self) -> impl Iterator<Item = &StoredMessage> {
        self.messages.iter()
    }
}

fn weight(message: &MessageRef<'_>) -> u64 {
    u64::from(message.weight())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> StoredMessage {
        StoredMessage::new(&MessageRef {
            exchange: b"x",
            routing_key: b"k",
            properties: &[0, 0],
            body,
            large_body: &[],
            persistent: false,
        })
    }

    fn history(length: i64) -> History {
        let table = TableWriter::new().long(LENGTH, length);
        let declared = Arguments::parse(&table.into_bytes()).expect("well-formed");
        History::declared(&queue_arguments(&declared)).expect("it keeps one")
    }

    fn bodies(history: &History) -> Vec<Vec<u8>> {
        let bodies = history
            .messages()
            .map(|message| message.as_ref().body.to_vec());
        bodies.collect()
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut history = history(2);
        for body in [b"1", b"2", b"3"] {
            history.keep(message(body));
        }
        assert_eq!(bodies(&history), [b"2", b"3"]);
    }

    #[test]
    fn the_oldest_go_when_they_are_too_large_and_one_that_is_larger_than_all_is_not_kept() {
        let mut history = history(1000);
        let third = vec![7; limits::HISTORY_BYTES_MAX as usize / 3];
        for _ in 0..5 {
            history.keep(message(&third));
        }
        assert_eq!(history.messages().count(), 2);
        history.keep(message(&vec![7; limits::HISTORY_BYTES_MAX as usize]));
        assert_eq!((history.messages().count(), history.bytes), (0, 0));
    }

    #[test]
    fn more_than_may_be_kept_is_as_much_as_may_be() {
        assert_eq!(
            history(i64::MAX).length,
            DEFAULT_LENGTH as usize,
            "no number of messages"
        );
        let most = history(i64::from(u32::MAX));
        assert_eq!(most.length, limits::HISTORY_LENGTH_MAX as usize);
        assert!(History::declared(&Arguments::default()).is_none());
    }
}
