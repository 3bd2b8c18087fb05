//! A queue that takes no message twice against a naive model: the keys of what is there.

use super::*;
use crate::amqp::properties;
use crate::amqp::table::TableWriter;
use crate::model::arguments::Arguments;
use crate::model::exchange::deduplicating::Cache;

#[derive(Clone, Debug)]
enum Operation {
    Publish { key: i64 },
    Get { no_ack: bool },
    Ack { which: usize },
    Reject { which: usize },
    Requeue { which: usize },
    Wait { ms: u64 },
    Purge,
}

fn operation() -> impl Strategy<Value = Operation> {
    let which = 0usize..64;
    prop_oneof![
        10 => (0i64..12).prop_map(|key| Operation::Publish { key }),
        3 => any::<bool>().prop_map(|no_ack| Operation::Get { no_ack }),
        2 => which.clone().prop_map(|which| Operation::Ack { which }),
        1 => which.clone().prop_map(|which| Operation::Reject { which }),
        3 => which.prop_map(|which| Operation::Requeue { which }),
        2 => (0u64..40).prop_map(|ms| Operation::Wait { ms }),
        1 => Just(Operation::Purge),
    ]
}

/// Publishes a message whose body is what its position will be.
fn publish(queue: &mut Queue, key: i64, position: u64, sink: &mut Collector) -> Admitted {
    let headers = TableWriter::new().long("x-deduplication-header", key);
    let none = Properties::from_validated(&[0, 0]);
    let properties = properties::with_headers(none, headers.as_table());
    let body = (position as u32).to_le_bytes();
    let message = MessageRef {
        exchange: b"",
        routing_key: b"q",
        properties: &properties,
        body: &body,
        large_body: &[],
        persistent: false,
    };
    queue.publish(&mut Incoming::new(message), Keep::default(), sink)
}

/// Which message it is, by its body.
fn number(message: &StoredMessage) -> u64 {
    let body = message.as_ref().body.try_into();
    u64::from(u32::from_le_bytes(
        body.expect("bodies here have four bytes"),
    ))
}

fn rules() -> impl Strategy<Value = QueueArguments> {
    let limit = || prop::option::of(0u64..6);
    (limit(), prop::option::of(0u64..80), limit()).prop_map(
        |(max_length, message_ttl_ms, delivery_limit)| {
            let mut rules = QueueArguments::default();
            rules.deduplicates = true;
            rules.max_length = max_length;
            rules.message_ttl_ms = message_ttl_ms;
            rules.delivery_limit = delivery_limit;
            rules
        },
    )
}

proptest! {
    #[test]
    fn a_message_is_dropped_if_one_with_its_key_is_there(
        rules in rules(),
        consumer_no_ack in prop::option::of(any::<bool>()),
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let mut queue = Queue::new(rules);
        let mut sink = Collector::default();
        let mut there: BTreeMap<u64, i64> = BTreeMap::new();
        let mut out: Vec<(u32, u64)> = Vec::new();
        let mut next = 0;
        for (at, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Publish { key } => {
                    let is_there = there.values().any(|other| *other == key);
                    let admitted = publish(&mut queue, key, next, &mut sink);
                    prop_assert_eq!(admitted == Admitted::Duplicate, is_there, "{:?}", admitted);
                    if let Admitted::Taken { position, .. } = admitted {
                        prop_assert_eq!(position, next);
                        there.insert(next, key);
                        next += 1;
                    }
                }
                Operation::Get { no_ack } => {
                    if let Some(taken) = queue.get(no_ack, sink.now_ms, Lsn::NEVER) {
                        let number = number(&taken.message);
                        match taken.slot {
                            Some(slot) => out.push((slot, number)),
                            None => drop(there.remove(&number)),
                        }
                    }
                }
                Operation::Ack { which } | Operation::Reject { which } | Operation::Requeue { which }
                    if !out.is_empty() =>
                {
                    let (slot, number) = out.remove(which % out.len());
                    match operation {
                        Operation::Ack { .. } => {
                            queue.settle(slot);
                            there.remove(&number);
                        }
                        Operation::Reject { .. } => queue.reject(slot),
                        _ => queue.requeue(slot),
                    }
                    queue.pump(&mut sink);
                }
                Operation::Wait { ms } => {
                    sink.now_ms += ms;
                    queue.expire(sink.now_ms, usize::MAX);
                }
                Operation::Purge => {
                    queue.purge(&mut sink);
                    there.retain(|position, _| out.iter().any(|(_, number)| number == position));
                }
                _ => {}
            }
            // In the middle a consumer comes, and takes whatever there is.
            if at == 100 && let Some(no_ack) = consumer_no_ack {
                queue.consume(Consumer { no_ack, ..consumer(1, 0) }, &mut sink);
            }
            for seen in sink.seen.drain(..) {
                match seen.slot {
                    Some(slot) => out.push((slot, u64::from(seen.number))),
                    None => drop(there.remove(&u64::from(seen.number))),
                }
            }
            for fallen in queue.take_fallen() {
                if let Fallen::Gone(gone) = fallen {
                    there.remove(&gone.position);
                }
            }
        }
    }
}

#[test]
fn keys_that_a_start_has_found_count() {
    let mut rules = QueueArguments::default();
    rules.deduplicates = true;
    let mut first = Queue::new(rules.clone());
    let mut sink = Collector::default();
    publish(&mut first, 7, 0, &mut sink);
    let taken = first.get(true, 0, Lsn::NEVER).expect("it is there");
    let key = crate::model::deduplication::key_of(Properties::from_validated(
        taken.message.as_ref().properties,
    ));
    let mut second = Queue::new(rules);
    second.restore_keys([(0, key.expect("it has one"))].into_iter());
    second.restore(std::iter::empty(), 1);
    assert_eq!(publish(&mut second, 7, 1, &mut sink), Admitted::Duplicate);
    assert_ne!(publish(&mut second, 8, 1, &mut sink), Admitted::Duplicate);
}

#[test]
fn of_two_that_a_crash_has_brought_back_the_later_counts() {
    let mut rules = QueueArguments::default();
    rules.deduplicates = true;
    let (key, sink) = ([7; 16], Collector::default());
    for restored in [[(0, key), (5, key)], [(5, key), (0, key)]] {
        let mut queue = Queue::new(rules.clone());
        queue.restore_keys(restored.into_iter());
        queue.forget_key(0);
        assert!(queue.remembers(&key, sink.now_ms));
        queue.forget_key(5);
        assert!(!queue.remembers(&key, sink.now_ms));
    }
}

#[test]
fn a_queue_of_notes_keeps_so_many_of_them_and_sends_messages_back() {
    let mut queue = Queue::noting(2);
    let mut sink = Collector::default();
    let table = TableWriter::new().long("x-cache-size", 2);
    let declared = Arguments::parse(&table.into_bytes()).expect("well-formed");
    let cache = Cache::declared(&declared).expect("it keeps notes");
    let message = |value: i64, ttl_ms: i64| {
        let headers = TableWriter::new().long("x-deduplication-header", value);
        let headers = headers.long("x-cache-ttl", ttl_ms);
        let none = Properties::from_validated(&[0, 0]);
        properties::with_headers(none, headers.as_table())
    };
    let keys = [(1, 1000), (2, 10), (3, 1000)].map(|(value, ttl_ms)| {
        let properties = message(value, ttl_ms);
        let properties = Properties::from_validated(&properties);
        let note = cache.note(properties).expect("it is compared");
        let published = MessageRef {
            exchange: b"x",
            properties: properties.as_bytes(),
            ..note.message()
        };
        let incoming = &mut Incoming::new(published);
        let admitted = queue.publish(incoming, Keep::default(), &mut sink);
        assert_eq!(admitted, Admitted::ComesBy);
        assert!(
            !queue.remembers(&note.key, sink.now_ms),
            "only its note is kept"
        );
        queue.publish(
            &mut Incoming::new(note.message()),
            Keep::default(),
            &mut sink,
        );
        note.key
    });
    assert_eq!(
        keys.map(|key| queue.remembers(&key, sink.now_ms)),
        [false, true, true]
    );
    assert_eq!(
        keys.map(|key| queue.remembers(&key, sink.now_ms + 10)),
        [false, false, true]
    );
}
