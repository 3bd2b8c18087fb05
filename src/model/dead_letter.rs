//! What a message carries when it is dead-lettered (<https://www.rabbitmq.com/docs/dlx#effects>): where
//! it died, why and how often, in headers.
//!
//! ```text
//! x-death   [ newest first: { original-expiration?, count, reason, queue, time, exchange, routing-keys } ]
//! x-first-death-reason, -queue, -exchange      the first one      (texts)
//! x-last-death-reason, -queue, -exchange       this one           (texts)
//! ```
//!
//! A queue and a reason have one entry, which counts. As with RabbitMQ before 4.0 the header of a message
//! that a client publishes again counts on: programs that retry so rely on it.

use crate::amqp::properties::{self, Properties};
use crate::amqp::table::{Array, ArrayWriter, Table, TableWriter, Value};
use crate::base::{MessageRef, limits};
use crate::model::queue::Reason;
use crate::model::sender_selected::{CC, carbon_copies};

const X_DEATH: &str = "x-death";

/// How a message came to leave its queue.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// Why.
    pub reason: Reason,
    /// The queue's name.
    pub queue: &'a str,
    /// When, in seconds since 1970.
    pub time_s: u64,
}

/// The properties of a dead letter. `keeps_keys`: it is routed by the keys it was published with, CC
/// included; if not, that header goes.
pub fn properties_of(message: &MessageRef<'_>, death: Death<'_>, keeps_keys: bool) -> Vec<u8> {
    let properties = Properties::from_validated(message.properties);
    let headers = properties.headers().unwrap_or_default();
    let deaths = match headers.get(X_DEATH) {
        Some(Value::Array(deaths)) => Some(deaths),
        _ => None,
    };
    let newest = entry(message, death, deaths);
    let mut all = ArrayWriter::new().value(Value::Table(newest.as_table()));
    let others = deaths.unwrap_or_default();
    let others = others.values().filter(|other| !is_same(*other, death));
    for other in others.take(limits::DEATHS_MAX - 1) {
        all = all.value(other);
    }
    let last = [
        "x-last-death-reason",
        "x-last-death-queue",
        "x-last-death-exchange",
    ];
    let first = [
        "x-first-death-reason",
        "x-first-death-queue",
        "x-first-death-exchange",
    ];
    let values = [
        death.reason.name().as_bytes(),
        death.queue.as_bytes(),
        message.exchange,
    ];
    let mut replaced = vec![X_DEATH];
    replaced.extend(last);
    if deaths.is_none() {
        replaced.extend(first);
    }
    if !keeps_keys {
        replaced.push(CC);
    }
    let mut headers = TableWriter::copy_without(headers, &replaced);
    headers = headers.field(X_DEATH, Value::Array(all.as_array()));
    let first = first.into_iter().filter(|_| deaths.is_none());
    for (name, value) in first.zip(values).chain(last.into_iter().zip(values)) {
        headers = headers.field(name, Value::LongString(value));
    }
    properties::with_headers_for_ever(properties, headers.as_table())
}

/// The entry of this death: a new one, or the one that is there with a higher count.
fn entry(message: &MessageRef<'_>, death: Death<'_>, deaths: Option<Array<'_>>) -> TableWriter {
    let mut known = deaths.unwrap_or_default().values();
    if let Some(Value::Table(known)) = known.find(|known| is_same(*known, death)) {
        let count = known.get("count").and_then(Value::as_integer).unwrap_or(0);
        let entry = TableWriter::copy_without(known, &["count"]);
        return entry.long("count", count.saturating_add(1));
    }
    let properties = Properties::from_validated(message.properties);
    let mut entry = TableWriter::new();
    if let Some(expiration) = properties.expiration() {
        entry = entry.field("original-expiration", Value::LongString(expiration));
    }
    let mut keys = ArrayWriter::new().value(Value::LongString(message.routing_key));
    for key in carbon_copies(properties.headers().unwrap_or_default()) {
        keys = keys.value(Value::LongString(key));
    }
    entry
        .long("count", 1)
        .long_string("reason", death.reason.name())
        .long_string("queue", death.queue)
        .field("time", Value::Timestamp(death.time_s))
        .field("exchange", Value::LongString(message.exchange))
        .field("routing-keys", Value::Array(keys.as_array()))
}

fn is_same(entry: Value<'_>, death: Death<'_>) -> bool {
    let Value::Table(entry) = entry else {
        return false;
    };
    has(entry, "queue", death.queue) && has(entry, "reason", death.reason.name())
}

fn has(entry: Table<'_>, field: &str, text: &str) -> bool {
    entry.get(field) == Some(Value::LongString(text.as_bytes()))
}

/// Whether a dead letter has been in the queue before and nobody but queues has sent it round since: it
/// would go round for ever.
pub fn is_cycle(dead: Properties<'_>, queue: &str) -> bool {
    let deaths = dead.headers().and_then(|headers| headers.get(X_DEATH));
    let Some(Value::Array(deaths)) = deaths else {
        return false;
    };
    for death in deaths.values() {
        let Value::Table(death) = death else {
            return false;
        };
        if has(death, "reason", Reason::Rejected.name()) {
            return false;
        }
        if has(death, "queue", queue) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(properties: &[u8]) -> MessageRef<'_> {
        MessageRef {
            exchange: b"orders",
            routing_key: b"eu",
            properties,
            body: b"",
            large_body: &[],
            persistent: false,
        }
    }

    fn death(reason: Reason, queue: &str) -> Death<'_> {
        Death {
            reason,
            queue,
            time_s: 1_700_000_000,
        }
    }

    fn headers(properties: &[u8]) -> Table<'_> {
        let properties = Properties::from_validated(properties);
        properties.headers().expect("a dead letter has headers")
    }

    fn deaths(properties: &[u8]) -> Vec<Table<'_>> {
        let Some(Value::Array(deaths)) = headers(properties).get(X_DEATH) else {
            panic!("a dead letter has an array {X_DEATH}");
        };
        let tables = deaths.values().map(|death| match death {
            Value::Table(death) => death,
            other => panic!("{other} is no table"),
        });
        tables.collect()
    }

    /// Flags of headers and expiration, and their values.
    fn published(headers: TableWriter, expiration: &str) -> Vec<u8> {
        let headers = headers.into_bytes();
        let mut properties = 0x2100u16.to_be_bytes().to_vec();
        properties.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        properties.extend_from_slice(&headers);
        properties.push(expiration.len() as u8);
        properties.extend_from_slice(expiration.as_bytes());
        properties
    }

    #[test]
    fn the_first_death_is_told_in_full() {
        let keys = ArrayWriter::new().value(Value::LongString(b"us"));
        let own = TableWriter::new()
            .bool("mine", true)
            .field("CC", Value::Array(keys.as_array()));
        let properties = published(own, "500");
        let dead = properties_of(&message(&properties), death(Reason::Expired, "q"), true);
        assert_eq!(
            names(headers(&dead)),
            "mine, CC, x-death, x-first-death-reason, x-first-death-queue, x-first-death-exchange, \
             x-last-death-reason, x-last-death-queue, x-last-death-exchange"
        );
        let [entry] = deaths(&dead)[..] else {
            panic!("it died once");
        };
        assert!(has(entry, "original-expiration", "500"));
        assert_eq!(entry.get("count"), Some(Value::Long(1)));
        assert!(has(entry, "reason", "expired") && has(entry, "queue", "q"));
        assert_eq!(entry.get("time"), Some(Value::Timestamp(1_700_000_000)));
        assert!(has(entry, "exchange", "orders"));
        let both = ArrayWriter::new()
            .value(Value::LongString(b"eu"))
            .value(Value::LongString(b"us"));
        assert_eq!(
            entry.get("routing-keys"),
            Some(Value::Array(both.as_array()))
        );
        assert_eq!(Properties::from_validated(&dead).expiration(), None);
        let other_key = properties_of(&message(&properties), death(Reason::Expired, "q"), false);
        assert_eq!(headers(&other_key).get("CC"), None);
    }

    #[test]
    fn the_same_death_counts_and_the_newest_stands_first() {
        let empty = [0, 0];
        let first = properties_of(&message(&empty), death(Reason::Expired, "a"), true);
        let second = properties_of(&message(&first), death(Reason::Rejected, "b"), true);
        let third = properties_of(&message(&second), death(Reason::Expired, "a"), true);
        let entries = deaths(&third);
        assert_eq!(entries.len(), 2);
        assert!(has(entries[0], "queue", "a") && has(entries[1], "queue", "b"));
        assert_eq!(entries[0].get("count"), Some(Value::Long(2)));
        assert!(has(headers(&third), "x-first-death-reason", "expired"));
        assert!(has(headers(&second), "x-last-death-queue", "b"));
    }

    #[test]
    fn only_a_round_that_nobody_rejected_is_a_cycle() {
        let empty = [0, 0];
        let expired = properties_of(&message(&empty), death(Reason::Expired, "a"), true);
        assert!(is_cycle(Properties::from_validated(&expired), "a"));
        assert!(!is_cycle(Properties::from_validated(&expired), "b"));
        let rejected = properties_of(&message(&expired), death(Reason::Rejected, "b"), true);
        assert!(!is_cycle(Properties::from_validated(&rejected), "a"));
        let round = properties_of(&message(&expired), death(Reason::MaxLen, "b"), true);
        assert!(is_cycle(Properties::from_validated(&round), "a"));
    }

    fn names(table: Table<'_>) -> String {
        let names = table
            .fields()
            .map(|(name, _)| String::from_utf8_lossy(name));
        names.collect::<Vec<_>>().join(", ")
    }
}
