//! Deliveries that are out: each has a slot, which the session gives back when it is settled. Slots
//! are reused, so one delivery that is never settled costs its own size and no more.

use slab::Slab;

use super::consumers::ConsumerHandle;
use crate::base::StoredMessage;

/// A delivery that is out.
pub(super) struct UnsettledEntry {
    /// Its place in the queue, should it go back.
    pub(super) position: u64,
    /// Who holds it; none if it was taken by `basic.get`.
    pub(super) consumer: Option<ConsumerHandle>,
    /// The message.
    pub(super) message: StoredMessage,
}

/// All deliveries of a queue that are out.
#[derive(Default)]
pub(super) struct Unsettled {
    entries: Slab<UnsettledEntry>,
}

impl Unsettled {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn insert(&mut self, entry: UnsettledEntry) -> u32 {
        self.entries.insert(entry) as u32
    }

    /// Drops any one; whether there was one.
    pub(super) fn drop_one(&mut self) -> bool {
        let last = self.entries.iter().next_back().map(|(slot, _)| slot);
        last.is_some_and(|slot| self.entries.try_remove(slot).is_some())
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<UnsettledEntry> {
        let entry = self.entries.try_remove(slot as usize);
        if self.entries.is_empty() && self.entries.capacity() > 4096 {
            self.entries = Slab::new();
        }
        entry
    }
}
