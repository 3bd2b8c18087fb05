//! A queue against a naive model: a sorted list of what waits and a list of what is out.

mod duplicates;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::{CoreId, SessionId};

const SESSION: SessionId = SessionId {
    core: CoreId(0),
    index: 0,
    generation: 1,
};

/// A delivery as a consumer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    consumer: u32,
    slot: Option<u32>,
    redelivered: bool,
    /// The message's body: the number of its publish.
    number: u32,
}

/// Collects deliveries; consumers in `full` have no room.
#[derive(Default)]
struct Collector {
    seen: Vec<Seen>,
    full: BTreeSet<u32>,
    hungry: Vec<u32>,
    surrendered: Vec<(u32, u32)>,
    now_ms: u64,
    is_memory_short: bool,
}

impl Sink for Collector {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn leave_from(&self) -> Lsn {
        match self.is_memory_short {
            true => Lsn::FIRST,
            false => Lsn::NEVER,
        }
    }

    fn has_room(&mut self, consumer: &Consumer) -> bool {
        !self.full.contains(&consumer.number)
    }

    fn deliver(
        &mut self,
        consumer: &Consumer,
        slot: Option<u32>,
        redelivered: bool,
        message: &MessageRef<'_>,
    ) {
        let body = message
            .body
            .try_into()
            .expect("bodies here have four bytes");
        self.seen.push(Seen {
            consumer: consumer.number,
            slot,
            redelivered,
            number: u32::from_le_bytes(body),
        });
    }

    fn hungry(&mut self, consumer: &Consumer) {
        self.hungry.push(consumer.number);
    }

    fn surrender(&mut self, consumer: &Consumer, credits: u32) {
        self.surrendered.push((consumer.number, credits));
    }
}

fn consumer(number: u32, prefetch: u32) -> Consumer {
    Consumer {
        session: SESSION,
        channel: 1,
        number,
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch,
        credits: None,
        paused: false,
    }
}

fn publish(queue: &mut Queue, number: u32, sink: &mut Collector) {
    publish_kept(queue, number, Keep::default(), sink);
}

fn publish_kept(queue: &mut Queue, number: u32, keep: Keep, sink: &mut Collector) {
    let body = number.to_le_bytes();
    queue.publish(&mut Incoming::new(message(&body)), keep, sink);
}

fn message(body: &[u8]) -> MessageRef<'_> {
    MessageRef {
        exchange: b"",
        routing_key: b"q",
        properties: &[0, 0],
        body,
        large_body: &[],
        persistent: false,
    }
}

/// The log has each message under its own number; what the queue waits for comes from there.
fn page_in(queue: &mut Queue, sink: &mut Collector) {
    while queue.is_starved() {
        let front = queue.front_page().expect("one waits in the log");
        let number = front.lsn.0 as u32;
        let stored = || StoredMessage::new(&message(&number.to_le_bytes()));
        assert!(queue.page_in(front.position, front.lsn, 0, stored));
        queue.pump(sink);
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Publish { logged: bool },
    ShortOfMemory { is_it: bool },
    Consume { prefetch: u32 },
    Cancel { which: usize },
    Settle { which: usize },
    Requeue { which: usize },
    Get,
    Fill { which: usize },
    Drain { which: usize },
    PageOut,
    Purge,
}

fn operation() -> impl Strategy<Value = Operation> {
    let which = 0usize..64;
    prop_oneof![
        8 => any::<bool>().prop_map(|logged| Operation::Publish { logged }),
        1 => any::<bool>().prop_map(|is_it| Operation::ShortOfMemory { is_it }),
        2 => (0u32..4).prop_map(|prefetch| Operation::Consume { prefetch }),
        1 => which.clone().prop_map(|which| Operation::Cancel { which }),
        4 => which.clone().prop_map(|which| Operation::Settle { which }),
        3 => which.clone().prop_map(|which| Operation::Requeue { which }),
        1 => Just(Operation::Get),
        1 => which.clone().prop_map(|which| Operation::Fill { which }),
        1 => which.prop_map(|which| Operation::Drain { which }),
        1 => Just(Operation::PageOut),
        1 => Just(Operation::Purge),
    ]
}

/// What must be true of a queue, told as simply as possible.
#[derive(Default)]
struct Model {
    /// Publish number → whether it was delivered before.
    ready: BTreeMap<u32, bool>,
    /// Slot → (publish number, who holds it).
    out: BTreeMap<u32, (u32, Option<u32>)>,
    /// Consumer → prefetch.
    consumers: BTreeMap<u32, u32>,
}

impl Model {
    fn held(&self, consumer: u32) -> u32 {
        let held = |out: &&(u32, Option<u32>)| out.1 == Some(consumer);
        self.out.values().filter(held).count() as u32
    }

    fn can_take(&self, consumer: u32, full: &BTreeSet<u32>) -> bool {
        let prefetch = self.consumers[&consumer];
        !full.contains(&consumer) && (prefetch == 0 || self.held(consumer) < prefetch)
    }

    /// Checks deliveries as they come, in order, and takes them over.
    fn delivered(&mut self, sink: &mut Collector) {
        for seen in std::mem::take(&mut sink.seen) {
            let (number, redelivered) = self.ready.pop_first().expect("something was ready");
            assert_eq!(
                (seen.number, seen.redelivered),
                (number, redelivered),
                "head first"
            );
            assert!(
                self.can_take(seen.consumer, &sink.full),
                "within prefetch, with room"
            );
            let slot = seen.slot.expect("consumers here acknowledge");
            let taken = self.out.insert(slot, (number, Some(seen.consumer)));
            assert_eq!(taken, None, "a slot names one delivery");
        }
        let idle = self
            .consumers
            .keys()
            .any(|one| self.can_take(*one, &sink.full));
        assert!(
            self.ready.is_empty() || !idle,
            "nobody who can take is left waiting"
        );
    }
}

fn nth<K: Copy, V>(map: &BTreeMap<K, V>, which: usize) -> Option<K> {
    map.keys().nth(which % map.len().max(1)).copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_queue_agrees_with_the_model(operations in prop::collection::vec(operation(), 0..120)) {
        let (mut queue, mut sink, mut model) = (Queue::default(), Collector::default(), Model::default());
        let (mut published, mut consumers) = (0, 0);
        for operation in operations {
            match operation {
                Operation::Publish { logged } => {
                    published += 1;
                    model.ready.insert(published, false);
                    // Behind others that only the log has it is there as well.
                    let paged = queue.is_paging();
                    let lsn = if logged || paged { Lsn(u64::from(published)) } else { Lsn::NONE };
                    publish_kept(&mut queue, published, Keep { lsn, paged }, &mut sink);
                }
                Operation::ShortOfMemory { is_it } => sink.is_memory_short = is_it,
                Operation::Consume { prefetch } => {
                    consumers += 1;
                    model.consumers.insert(consumers, prefetch);
                    queue.consume(consumer(consumers, prefetch), &mut sink);
                }
                Operation::Cancel { which } => {
                    let Some(number) = nth(&model.consumers, which) else { continue };
                    model.consumers.remove(&number);
                    sink.full.remove(&number);
                    prop_assert!(queue.cancel((SESSION, number)));
                }
                Operation::Settle { which } => {
                    let Some(slot) = nth(&model.out, which) else { continue };
                    model.out.remove(&slot);
                    queue.settle(slot);
                    queue.pump(&mut sink);
                }
                Operation::Requeue { which } => {
                    let Some(slot) = nth(&model.out, which) else { continue };
                    if let Some((number, _)) = model.out.remove(&slot) {
                        model.ready.insert(number, true);
                    }
                    queue.requeue(slot);
                    queue.pump(&mut sink);
                }
                Operation::Get => {
                    let taken = queue.get(false, 0, sink.leave_from());
                    let expected = model.ready.pop_first();
                    prop_assert_eq!(taken.is_some(), expected.is_some());
                    if let (Some(taken), Some((number, redelivered))) = (taken, expected) {
                        let body = number.to_le_bytes();
                        prop_assert_eq!(taken.message.as_ref().body, &body[..]);
                        prop_assert_eq!(taken.redelivered, redelivered);
                        model.out.insert(taken.slot.expect("it is to be acknowledged"), (number, None));
                    }
                }
                Operation::Fill { which } => {
                    let Some(number) = nth(&model.consumers, which) else { continue };
                    sink.full.insert(number);
                }
                Operation::Drain { which } => {
                    let Some(&number) = sink.full.iter().nth(which % sink.full.len().max(1)) else { continue };
                    sink.full.remove(&number);
                    queue.resume((SESSION, number), &mut sink);
                }
                Operation::PageOut => queue.page_out(Lsn::FIRST),
                Operation::Purge => {
                    let (rubbish, _) = queue.purge(&mut sink);
                    prop_assert_eq!(rubbish.ready_count(), model.ready.len());
                    model.ready.clear();
                }
            }
            page_in(&mut queue, &mut sink);
            model.delivered(&mut sink);
            prop_assert_eq!(queue.ready_count(), model.ready.len());
            prop_assert_eq!(queue.unsettled_count(), model.out.len());
            prop_assert_eq!(queue.consumer_count(), model.consumers.len());
        }
    }
}

#[test]
fn what_the_log_has_takes_no_memory_while_it_is_out_and_memory_is_short() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    let logged = |number: u32| Keep {
        lsn: Lsn(u64::from(number)),
        paged: false,
    };
    publish_kept(&mut queue, 1, logged(1), &mut sink);
    let (ready, out) = queue.resident_bytes();
    assert!(ready > 0 && out == 0);
    sink.is_memory_short = true;
    queue.consume(consumer(1, 0), &mut sink);
    publish_kept(&mut queue, 2, logged(2), &mut sink);
    assert_eq!((sink.seen.len(), queue.resident_bytes()), (2, (0, 0)));
    publish(&mut queue, 3, &mut sink);
    assert_eq!(
        queue.resident_bytes(),
        (0, ready),
        "nobody else has the third"
    );
    queue.cancel((SESSION, 1));
    for seen in sink.seen.iter().rev() {
        queue.requeue(seen.slot.expect("it is to be acknowledged"));
    }
    assert_eq!(
        (queue.resident_bytes(), queue.ready_count()),
        ((ready, 0), 3)
    );
    let redelivered: Vec<_> = queue.redelivered().collect();
    assert_eq!(
        redelivered,
        [(0, 1), (1, 1)],
        "with how often they came back"
    );
}

#[test]
fn consumers_of_equal_standing_are_served_in_turn() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    for number in 1..=3 {
        queue.consume(consumer(number, 0), &mut sink);
    }
    for number in 0..9 {
        publish(&mut queue, number, &mut sink);
    }
    let served: Vec<_> = sink.seen.iter().map(|seen| seen.consumer).collect();
    assert_eq!(served, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_consumer_at_its_prefetch_keeps_its_place_until_its_turn() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    queue.consume(consumer(1, 1), &mut sink);
    publish(&mut queue, 0, &mut sink);
    queue.consume(consumer(2, 0), &mut sink);
    for _ in 0..2 {
        let last = sink.seen.last().and_then(|seen| seen.slot);
        queue.requeue(last.expect("it acknowledges"));
        queue.pump(&mut sink);
    }
    // Nobody has had a message for it meanwhile, so the first came before the second.
    let served: Vec<_> = sink.seen.iter().map(|seen| seen.consumer).collect();
    assert_eq!(served, [1, 1, 2]);
}

#[test]
fn a_metered_consumer_asks_once_takes_what_it_is_lent_and_gives_the_rest_back() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    let metered = Consumer {
        credits: Some(0),
        ..consumer(1, 0)
    };
    queue.consume(metered, &mut sink);
    for number in 0..3 {
        publish(&mut queue, number, &mut sink);
    }
    assert_eq!((sink.hungry.as_slice(), sink.seen.len()), (&[1][..], 0));
    assert_eq!(queue.grant((SESSION, 1), 2, &mut sink), 0);
    assert_eq!(sink.seen.len(), 2);
    assert_eq!(sink.hungry, [1, 1], "one message is left: it asks again");
    assert_eq!(queue.grant((SESSION, 1), 5, &mut sink), 0);
    assert_eq!(sink.seen.len(), 3);
    assert_eq!(sink.surrendered, [(1, 4)]);
    assert_eq!(
        queue.grant((SESSION, 9), 5, &mut sink),
        5,
        "nobody by that name"
    );
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    let exclusive = Consumer {
        exclusive: true,
        ..consumer(1, 0)
    };
    assert!(queue.admits(true));
    queue.consume(exclusive, &mut sink);
    assert!(!queue.admits(false) && !queue.admits(true));
    queue.cancel((SESSION, 1));
    assert!(queue.admits(true));
    queue.consume(consumer(2, 0), &mut sink);
    assert!(queue.admits(false) && !queue.admits(true));
}

#[test]
fn rubbish_is_dropped_a_few_at_a_time() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    for number in 0..5 {
        publish(&mut queue, number, &mut sink);
    }
    queue.get(false, 0, Lsn::NEVER);
    let mut rubbish = queue.into_rubbish();
    assert_eq!(rubbish.ready_count(), 4);
    assert!(!rubbish.drop_some(4, |_| {}));
    assert!(
        rubbish.drop_some(4, |_| {}),
        "the one that was out goes as well"
    );
}

#[test]
fn credit_that_a_consumer_may_not_use_goes_back() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    let metered = Consumer {
        credits: Some(0),
        ..consumer(1, 1)
    };
    queue.consume(metered, &mut sink);
    for number in 0..3 {
        publish(&mut queue, number, &mut sink);
    }
    queue.grant((SESSION, 1), 3, &mut sink);
    assert_eq!(sink.seen.len(), 1, "its own prefetch is one");
    assert_eq!(sink.surrendered, [(1, 2)]);
    assert_eq!(sink.hungry, [1], "it doesn't ask for what it may not use");
    queue.settle(sink.seen[0].slot.expect("it acknowledges"));
    queue.pump(&mut sink);
    assert_eq!(sink.hungry, [1, 1]);
}

#[test]
fn what_the_log_has_can_leave_memory_and_keeps_its_place_and_its_history() {
    let (mut queue, mut sink) = (Queue::default(), Collector::default());
    let logged = |number: u32| Keep {
        lsn: Lsn(u64::from(number)),
        paged: false,
    };
    publish(&mut queue, 1, &mut sink);
    for number in 2..=5 {
        publish_kept(&mut queue, number, logged(number), &mut sink);
    }
    queue.consume(consumer(1, 3), &mut sink);
    queue.cancel((SESSION, 1));
    for slot in [0, 1, 2].map(|at: usize| sink.seen[at].slot.expect("it is to be acknowledged")) {
        queue.requeue(slot);
    }
    let all = queue.resident_bytes().0;
    for (oldest, stay) in [(5, 4), (3, 2), (1, 1)] {
        queue.page_out(Lsn(oldest));
        let left = queue.resident_bytes().0;
        assert_eq!(left, stay * all / 5, "nobody else has them");
    }
    assert_eq!(queue.ready_count(), 5);
    sink.seen.clear();
    queue.consume(consumer(2, 0), &mut sink);
    page_in(&mut queue, &mut sink);
    let seen = sink.seen.iter().map(|seen| (seen.number, seen.redelivered));
    let expected = [(1, true), (2, true), (3, true), (4, false), (5, false)];
    assert!(seen.eq(expected));
}
