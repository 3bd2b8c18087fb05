//! A queue with rules against a naive model: priorities, times to live, lengths and limits of deliveries.

use std::cmp::Reverse;

use super::*;
use crate::base::Name;

/// A message as the model knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    number: u32,
    priority: u8,
    expires: u64,
    returns: u32,
}

impl Known {
    /// Where it stands among others.
    fn rank(&self) -> (Reverse<u8>, u32) {
        (Reverse(self.priority), self.number)
    }
}

/// What must be true, told as simply as possible: everything that waits in one sorted list.
struct Model {
    rules: QueueArguments,
    ready: Vec<Known>,
    out: BTreeMap<u32, Known>,
    /// What has fallen, in order, and why.
    fallen: Vec<(u32, Reason)>,
}

impl Model {
    fn put(&mut self, known: Known) {
        let at = self
            .ready
            .partition_point(|other| other.rank() < known.rank());
        self.ready.insert(at, known);
        let max = self.rules.max_length.map_or(usize::MAX, |max| max as usize);
        while self.ready.len() > max && self.rules.overflow == Overflow::DropHead {
            let first = self.ready.remove(0);
            self.fallen.push((first.number, Reason::MaxLen));
        }
    }

    fn is_full(&self) -> bool {
        let max = self.rules.max_length.map_or(usize::MAX, |max| max as usize);
        self.rules.overflow == Overflow::RejectPublish && self.ready.len() >= max
    }

    fn expire(&mut self, now_ms: u64) {
        let mut expired: Vec<_> = self
            .ready
            .iter()
            .filter(|known| known.expires <= now_ms)
            .copied()
            .collect();
        self.ready.retain(|known| known.expires > now_ms);
        expired.sort_by_key(|known| known.number);
        let expired = expired.iter().map(|known| (known.number, Reason::Expired));
        self.fallen.extend(expired);
    }

    fn come_back(&mut self, mut known: Known) {
        known.returns += 1;
        match self.rules.delivery_limit {
            Some(limit) if u64::from(known.returns) > limit => {
                self.fallen.push((known.number, Reason::DeliveryLimit));
            }
            _ => self.put(known),
        }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Publish { priority: u8, ttl_ms: Option<u64> },
    Get,
    Ack { which: usize },
    Reject { which: usize },
    Requeue { which: usize },
    Wait { ms: u64 },
    Purge,
}

fn operation() -> impl Strategy<Value = Operation> {
    let which = 0usize..64;
    prop_oneof![
        10 => (0u8..6, prop::option::of(0u64..60))
            .prop_map(|(priority, ttl_ms)| Operation::Publish { priority, ttl_ms }),
        3 => Just(Operation::Get),
        2 => which.clone().prop_map(|which| Operation::Ack { which }),
        2 => which.clone().prop_map(|which| Operation::Reject { which }),
        3 => which.prop_map(|which| Operation::Requeue { which }),
        3 => (0u64..40).prop_map(|ms| Operation::Wait { ms }),
        1 => Just(Operation::Purge),
    ]
}

fn rules() -> impl Strategy<Value = QueueArguments> {
    (
        prop::option::of(1u8..5),
        prop::option::of(0u64..50),
        prop::option::of(0u64..8),
        any::<bool>(),
        prop::option::of(0u64..3),
    )
        .prop_map(
            |(max_priority, message_ttl_ms, max_length, refuses, delivery_limit)| {
                let mut rules = QueueArguments::default();
                rules.max_priority = max_priority;
                rules.message_ttl_ms = message_ttl_ms;
                rules.max_length = max_length;
                rules.delivery_limit = delivery_limit;
                if refuses {
                    rules.overflow = Overflow::RejectPublish;
                }
                rules.dead_letter_exchange = Some(Name::from("dlx"));
                rules
            },
        )
}

/// Flags of priority and expiration, and their values.
fn properties_of(priority: u8, ttl_ms: Option<u64>) -> Vec<u8> {
    let mut properties = vec![0x08, 0, priority];
    if let Some(ttl_ms) = ttl_ms {
        properties[0] |= 0x01;
        let text = ttl_ms.to_string();
        properties.push(text.len() as u8);
        properties.extend_from_slice(text.as_bytes());
    }
    properties
}

fn number_of(message: &StoredMessage) -> u32 {
    let body = message.as_ref().body.try_into();
    u32::from_le_bytes(body.expect("bodies here have four bytes"))
}

/// What has fallen, in the order of its falling. All of it has a dead-letter exchange to go to.
fn fallen(queue: &mut Queue) -> Vec<(u32, Reason)> {
    let letters = queue.take_fallen().into_iter().map(|fallen| match fallen {
        Fallen::Letter(letter) => letter,
        Fallen::Gone(_) => panic!("the queue has a dead-letter exchange"),
    });
    letters
        .map(|letter| {
            let message = letter.message.expect("all are in memory here");
            (number_of(&message), letter.reason)
        })
        .collect()
}

/// In the order of numbers: what expires at once may go in any order.
fn sorted(mut fallen: Vec<(u32, Reason)>) -> Vec<(u32, &'static str)> {
    fallen.sort_by_key(|(number, _)| *number);
    fallen
        .iter()
        .map(|(number, reason)| (*number, reason.name()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn a_queue_with_rules_agrees_with_the_model(
        rules in rules(),
        operations in prop::collection::vec(operation(), 0..100),
    ) {
        let mut queue = Queue::new(rules.clone());
        let mut sink = Collector { now_ms: 1000, ..Collector::default() };
        let mut model = Model { rules, ready: vec![], out: BTreeMap::new(), fallen: vec![] };
        let mut published = 0u32;
        for operation in operations {
            let now_ms = sink.now_ms;
            match operation {
                Operation::Publish { priority, ttl_ms } => {
                    published += 1;
                    let body = published.to_le_bytes();
                    let properties = properties_of(priority, ttl_ms);
                    let message = MessageRef {
                        exchange: b"",
                        routing_key: b"q",
                        properties: &properties,
                        body: &body,
                        large_body: &[],
                        persistent: false,
                    };
                    let admitted = queue.publish(&mut Incoming::new(message), Keep::default(), &mut sink);
                    prop_assert_eq!(admitted == Admitted::Refused, model.is_full());
                    if admitted != Admitted::Refused {
                        let ttl_ms = ttl_ms.into_iter().chain(model.rules.message_ttl_ms).min();
                        let known = Known {
                            number: published,
                            priority: priority.min(model.rules.max_priority.unwrap_or(0)),
                            expires: ttl_ms.map_or(NEVER, |ttl_ms| now_ms + ttl_ms),
                            returns: 0,
                        };
                        model.put(known);
                        if known.expires <= now_ms {
                            model.expire(now_ms);
                        }
                    }
                }
                Operation::Get => {
                    model.expire(now_ms);
                    queue.expire(now_ms, usize::MAX);
                    let taken = queue.get(false, now_ms, Lsn::NEVER);
                    prop_assert_eq!(taken.is_some(), !model.ready.is_empty());
                    if let Some(taken) = taken {
                        let known = model.ready.remove(0);
                        prop_assert_eq!(number_of(&taken.message), known.number);
                        prop_assert_eq!(taken.redelivered, known.returns > 0);
                        let told = known.returns > 0 && model.rules.delivery_limit.is_some();
                        prop_assert_eq!(taken.properties.is_some(), told);
                        model.out.insert(taken.slot.expect("it is to be acknowledged"), known);
                    }
                }
                Operation::Ack { which } => {
                    let Some(slot) = nth(&model.out, which) else { continue };
                    model.out.remove(&slot);
                    prop_assert!(queue.settle(slot).is_some());
                }
                Operation::Reject { which } => {
                    let Some(slot) = nth(&model.out, which) else { continue };
                    let known = model.out.remove(&slot).expect("it was named");
                    model.fallen.push((known.number, Reason::Rejected));
                    queue.reject(slot);
                }
                Operation::Requeue { which } => {
                    let Some(slot) = nth(&model.out, which) else { continue };
                    let known = model.out.remove(&slot).expect("it was named");
                    model.come_back(known);
                    queue.requeue(slot);
                }
                Operation::Wait { ms } => {
                    sink.now_ms += ms;
                    let done = queue.expire(sink.now_ms, usize::MAX);
                    prop_assert!(done);
                    model.expire(sink.now_ms);
                }
                Operation::Purge => {
                    let (rubbish, _) = queue.purge(&mut sink);
                    prop_assert_eq!(rubbish.ready_count(), model.ready.len());
                    model.ready.clear();
                }
            }
            prop_assert_eq!(queue.ready_count(), model.ready.len());
            prop_assert_eq!(queue.unsettled_count(), model.out.len());
            prop_assert_eq!(queue.next_expiry(), model.ready.iter().map(|known| known.expires).min().unwrap_or(NEVER));
            prop_assert_eq!(sorted(fallen(&mut queue)), sorted(std::mem::take(&mut model.fallen)));
        }
    }
}
