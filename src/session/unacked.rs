//! A channel's deliveries that wait for an acknowledgement, in the order of their tags.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::amqp::content::Acknowledgement;
use crate::amqp::error::ChannelError;
use crate::base::{CoreId, QueueId};
use crate::mail::{Outbox, Outcome, Settle, ToShard};

/// The number of the consumer of a message that was taken by `basic.get`.
pub(super) const NO_CONSUMER: u32 = u32::MAX;

/// A delivery that waits for an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Delivery {
    pub(super) tag: u64,
    /// The queue's core.
    pub(super) core: CoreId,
    pub(super) queue: QueueId,
    /// What the queue calls the delivery.
    pub(super) slot: u32,
    /// The channel's number of the consumer, or [`NO_CONSUMER`].
    pub(super) consumer: u32,
}

/// All of a channel's deliveries that wait.
///
/// Tags ascend and are mostly settled in order, so this is a line of places, most of them full. A
/// place that is settled out of order stays empty until it comes to the front, or until half are.
#[derive(Default)]
pub(super) struct Unacked {
    places: VecDeque<(u64, Option<Delivery>)>,
    len: usize,
}

impl Unacked {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, delivery: Delivery) {
        self.places.push_back((delivery.tag, Some(delivery)));
        self.len += 1;
    }

    /// No delivery with a lower tag waits; none if none does at all.
    pub(super) fn first_tag(&self) -> Option<u64> {
        self.places.front().map(|(tag, _)| *tag)
    }

    /// The deliveries with these tags.
    pub(super) fn between(&self, tags: RangeInclusive<u64>) -> impl Iterator<Item = &Delivery> {
        let first = self.places.partition_point(|(tag, _)| tag < tags.start());
        let places = self.places.range(first..);
        let places = places.take_while(move |(tag, _)| tag <= tags.end());
        places.filter_map(|(_, delivery)| delivery.as_ref())
    }

    /// Takes the delivery with this tag.
    pub(super) fn take(&mut self, tag: u64) -> Option<Delivery> {
        let position = self.position(tag)?;
        let delivery = self.places[position].1.take()?;
        self.len -= 1;
        self.close_ranks();
        Some(delivery)
    }

    /// Takes all deliveries up to and including this tag, which must be there.
    pub(super) fn take_upto(&mut self, tag: u64, mut each: impl FnMut(Delivery)) -> bool {
        let Some(position) = self.position(tag) else {
            return false;
        };
        if self.places[position].1.is_none() {
            return false;
        }
        for (_, delivery) in self.places.drain(..=position) {
            if let Some(delivery) = delivery {
                self.len -= 1;
                each(delivery);
            }
        }
        self.close_ranks();
        true
    }

    /// Takes up to `most` deliveries from the front.
    pub(super) fn take_some(&mut self, most: usize, mut each: impl FnMut(Delivery)) {
        for _ in 0..most {
            let Some((_, delivery)) = self.places.pop_front() else {
                break;
            };
            if let Some(delivery) = delivery {
                self.len -= 1;
                each(delivery);
            }
        }
    }

    /// Takes what an acknowledgement names.
    pub(super) fn take_named(
        &mut self,
        one: &Acknowledgement,
        mut each: impl FnMut(Delivery),
    ) -> Result<(), ChannelError> {
        let tag = one.delivery_tag;
        if !one.multiple {
            each(
                self.take(tag)
                    .ok_or(ChannelError::UnknownDeliveryTag(tag))?,
            );
        } else if tag == 0 {
            self.take_some(usize::MAX, each);
        } else if !self.take_upto(tag, each) {
            return Err(ChannelError::UnknownDeliveryTag(tag));
        }
        Ok(())
    }

    /// Deliveries that were taken wait again.
    pub(super) fn put_back(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        self.places.retain(|place| place.1.is_some());
        let back = deliveries
            .into_iter()
            .map(|delivery| (delivery.tag, Some(delivery)));
        self.places.extend(back);
        self.places
            .make_contiguous()
            .sort_unstable_by_key(|place| place.0);
        self.len = self.places.len();
    }

    fn position(&self, tag: u64) -> Option<usize> {
        let (first, _) = self.places.front()?;
        let guess = usize::try_from(tag.checked_sub(*first)?).ok()?;
        if self.places.get(guess).is_some_and(|place| place.0 == tag) {
            return Some(guess);
        }
        self.places.binary_search_by_key(&tag, |place| place.0).ok()
    }

    fn close_ranks(&mut self) {
        while let Some((_, None)) = self.places.front() {
            self.places.pop_front();
        }
        const FEW: usize = 1024;
        if self.places.len() > FEW && self.places.len() > 2 * self.len {
            self.places.retain(|place| place.1.is_some());
            self.places.shrink_to(2 * self.len + FEW);
        }
    }
}

/// Tells the delivery's queue how it ended. Deliveries of one queue that end alike share a record.
pub(super) fn settle(delivery: &Delivery, outcome: Outcome, outbox: &mut Outbox) {
    let batch = &mut outbox.to(delivery.core).to_shard;
    let slot = delivery.slot.to_le_bytes();
    if let Some(ToShard::Settle(last)) = batch.records().last()
        && last.queue == delivery.queue
        && last.outcome == outcome
    {
        let mut slots = last.slots;
        if batch.extend(&mut slots, &slot) {
            if let Some(ToShard::Settle(last)) = batch.last_mut() {
                last.slots = slots;
            }
            return;
        }
    }
    let slots = batch.write(&slot);
    batch.push(ToShard::Settle(Settle {
        queue: delivery.queue,
        outcome,
        slots,
    }));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn delivery(tag: u64) -> Delivery {
        Delivery {
            tag,
            core: CoreId(0),
            queue: QueueId {
                index: 0,
                generation: 1,
            },
            slot: tag as u32,
            consumer: 0,
        }
    }

    proptest! {
        /// Against a set of tags. Gaps between tags are deliveries that need no acknowledgement.
        #[test]
        fn unacked_agrees_with_a_set_of_tags(
            operations in prop::collection::vec((0u8..8, 0u64..3000), 0..3000),
        ) {
            let mut unacked = Unacked::default();
            let mut model = BTreeSet::new();
            let mut next = 1;
            for (kind, number) in operations {
                match kind {
                    0..=4 => {
                        next += u64::from(kind == 0);
                        unacked.push(delivery(next));
                        model.insert(next);
                        next += 1;
                    }
                    5 | 6 => {
                        let tag = 1 + number % next;
                        let taken = unacked.take(tag).map(|delivery| delivery.tag);
                        prop_assert_eq!(taken, model.take(&tag));
                    }
                    _ => {
                        let tag = 1 + (number / 8) % next;
                        let mut taken = Vec::new();
                        let found = unacked.take_upto(tag, |delivery| taken.push(delivery.tag));
                        prop_assert_eq!(found, model.contains(&tag));
                        if found {
                            let rest = model.split_off(&(tag + 1));
                            let expected: Vec<_> = std::mem::replace(&mut model, rest).into_iter().collect();
                            prop_assert_eq!(taken, expected);
                        }
                    }
                }
                prop_assert_eq!(unacked.len, model.len());
                prop_assert_eq!(unacked.is_empty(), model.is_empty());
                prop_assert!(unacked.places.len() <= 2 * model.len() + 1025);
            }
        }
    }
}
