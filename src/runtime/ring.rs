//! A bounded ring for one producer and one consumer on two cores: no lock, no allocation, no wait.
//!
//! ```text
//!            head (next to pop)            tail (next to push)
//!              ▼                             ▼
//!   slots  │ … │ T │ T │ T │ T │ T │ T │ T │ … │       head and tail count on for ever;
//!                                                      the slot is the count modulo the capacity
//! ```
//!
//! Each side owns one of the two counts and keeps a copy of the other, which it refreshes only when
//! the copy says full (or empty): in a steady flow the two cores exchange the slots' cache lines and
//! little else.
//!
//! The atomics and the cell come from [`sync`], which is `std` in the broker and `loom` in the one
//! test that checks every interleaving (`RUSTFLAGS="--cfg leveret_loom"`, see `.ci/run`). That is the
//! only place where a test swaps what production runs on: loom can't see through `std`'s atomics.
#![allow(unsafe_code)]

use crossbeam_utils::CachePadded;

use self::sync::{Arc, AtomicUsize, Ordering, SlotCell};

/// A ring of `capacity` slots (a power of two) and its two ends.
pub(crate) fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "a slot is found by a mask");
    let ring = Arc::new(Ring {
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        slots: (0..capacity).map(|_| SlotCell::new(None)).collect(),
    });
    let producer = Producer {
        ring: Arc::clone(&ring),
        tail: 0,
        head_seen: 0,
    };
    let consumer = Consumer {
        ring,
        head: 0,
        tail_seen: 0,
    };
    (producer, consumer)
}

struct Ring<T> {
    /// How many were popped: written by the consumer alone.
    head: CachePadded<AtomicUsize>,
    /// How many were pushed: written by the producer alone.
    tail: CachePadded<AtomicUsize>,
    slots: Box<[SlotCell<Option<T>>]>,
}

// SAFETY: A slot is touched by the producer only while `tail - capacity >= head` doesn't hold for its
// count, i.e. before `tail` is stored past it, and by the consumer only from then on until `head` is
// stored past it. Both stores are Release and are read with Acquire by the other side before it
// touches the slot, and `Producer` and `Consumer` are the only users of a ring, each of them unique
// (not `Clone`, `&mut self`). So no two threads are ever in one slot at once. The values move from
// one thread to the other, which is what `T: Send` allows.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: As above; dropping the ring on either thread drops values of a `Send` type.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    fn slot(&self, count: usize) -> &SlotCell<Option<T>> {
        &self.slots[count & (self.slots.len() - 1)]
    }
}

/// The end that pushes.
pub(crate) struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    /// The consumer's count when last looked at: never ahead of the truth.
    head_seen: usize,
}

impl<T: Send> Producer<T> {
    /// Whether the next push will succeed.
    pub(crate) fn has_room(&mut self) -> bool {
        let capacity = self.ring.slots.len();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.ring.head.load(Ordering::Acquire);
        }
        self.tail.wrapping_sub(self.head_seen) < capacity
    }

    /// Appends `value`, or gives it back if the ring is full.
    pub(crate) fn push(&mut self, value: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(value);
        }
        self.ring.slot(self.tail).with_mut(|slot| {
            // SAFETY: `has_room` saw (Acquire) that the consumer is done with this slot, and the
            // consumer won't look at it again before the store below.
            unsafe { *slot = Some(value) };
        });
        self.tail = self.tail.wrapping_add(1);
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }
}

/// The end that pops.
pub(crate) struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    /// The producer's count when last looked at: never ahead of the truth.
    tail_seen: usize,
}

impl<T: Send> Consumer<T> {
    /// Whether the next pop will find nothing.
    pub(crate) fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }

    /// Takes the oldest value.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let value = self.ring.slot(self.head).with_mut(|slot| {
            // SAFETY: `is_empty` saw (Acquire) that the producer has filled this slot, and the
            // producer won't touch it again before the store below.
            unsafe { (*slot).take() }
        });
        self.head = self.head.wrapping_add(1);
        self.ring.head.store(self.head, Ordering::Release);
        value
    }
}

#[cfg(not(all(test, leveret_loom)))]
mod sync {
    use std::cell::UnsafeCell;
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};

    /// An `UnsafeCell` with loom's interface.
    pub(super) struct SlotCell<T>(UnsafeCell<T>);

    impl<T> SlotCell<T> {
        pub(super) fn new(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }

        /// Lends a pointer to the content; what is done with it is the caller's to prove.
        pub(super) fn with_mut<R>(&self, act: impl FnOnce(*mut T) -> R) -> R {
            act(self.0.get())
        }
    }
}

#[cfg(all(test, leveret_loom))]
mod sync {
    pub(super) use loom::cell::UnsafeCell as SlotCell;
    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
}

#[cfg(all(test, leveret_loom))]
mod loom_tests {
    use super::ring;

    /// loom runs this for every order in which the two threads' loads and stores may be seen, and
    /// fails on any access to a slot that isn't ordered against the other thread's.
    #[test]
    fn every_interleaving_keeps_order_and_loses_nothing() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<Box<usize>>(2);
            let sender = loom::thread::spawn(move || {
                let mut next = 0;
                while next < 3 {
                    match producer.push(Box::new(next)) {
                        Ok(()) => next += 1,
                        Err(_) => loom::thread::yield_now(),
                    }
                }
            });
            let mut expected = 0;
            while expected < 3 {
                match consumer.pop() {
                    Some(value) => {
                        assert_eq!(*value, expected);
                        expected += 1;
                    }
                    None => loom::thread::yield_now(),
                }
            }
            assert!(consumer.pop().is_none());
            sender.join().expect("the sender doesn't panic");
        });
    }

    #[test]
    fn values_that_nobody_pops_are_dropped_once() {
        loom::model(|| {
            let witness = loom::sync::Arc::new(());
            let (mut producer, consumer) = ring(2);
            let kept = loom::sync::Arc::clone(&witness);
            let sender = loom::thread::spawn(move || {
                producer.push(kept).expect("an empty ring has room");
            });
            drop(consumer);
            sender.join().expect("the sender doesn't panic");
            assert_eq!(loom::sync::Arc::strong_count(&witness), 1);
        });
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_ring_gives_the_value_back_and_takes_it_once_there_is_room() {
        let (mut producer, mut consumer) = ring(2);
        assert!(consumer.is_empty());
        assert_eq!(producer.push(1), Ok(()));
        assert_eq!(producer.push(2), Ok(()));
        assert!(!producer.has_room());
        assert_eq!(producer.push(3), Err(3));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push(3), Ok(()));
        assert_eq!(consumer.pop(), Some(2));
        assert_eq!(consumer.pop(), Some(3));
        assert_eq!(consumer.pop(), None);
    }

    #[test]
    fn two_threads_see_every_value_in_order() {
        const COUNT: u64 = 1_000_000;
        let (mut producer, mut consumer) = ring(64);
        let sender = thread::spawn(move || {
            let mut next = 0;
            while next < COUNT {
                match producer.push(Box::new(next)) {
                    Ok(()) => next += 1,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        let mut expected = 0;
        while expected < COUNT {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(*value, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        assert!(consumer.is_empty());
        sender.join().expect("the sender doesn't panic");
    }

    #[test]
    fn what_is_left_in_the_ring_is_dropped_with_it() {
        let witness = Arc::new(());
        let (mut producer, mut consumer) = ring(4);
        for _ in 0..3 {
            assert!(producer.push(Arc::clone(&witness)).is_ok());
        }
        drop(consumer.pop());
        assert_eq!(Arc::strong_count(&witness), 3);
        drop(producer);
        drop(consumer);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    proptest! {
        /// Against a plain queue, and across the point where the counts wrap around the slots.
        #[test]
        fn any_sequence_of_pushes_and_pops_behaves_like_a_bounded_queue(
            pushes in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let (mut producer, mut consumer) = ring(8);
            let mut model = std::collections::VecDeque::new();
            for (number, push) in pushes.into_iter().enumerate() {
                if push {
                    let fits = model.len() < 8;
                    prop_assert_eq!(producer.has_room(), fits);
                    prop_assert_eq!(producer.push(number), if fits { Ok(()) } else { Err(number) });
                    if fits {
                        model.push_back(number);
                    }
                } else {
                    prop_assert_eq!(consumer.is_empty(), model.is_empty());
                    prop_assert_eq!(consumer.pop(), model.pop_front());
                }
            }
        }
    }
}
