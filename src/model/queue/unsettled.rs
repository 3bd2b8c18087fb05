//! Deliveries that are out: each has a slot, which the session gives back when it is settled. Slots
//! are reused, so one delivery that is never settled costs its own size and no more; and not even that of its
//! message, where memory is short and the log has it.

use slab::Slab;

use super::consumers::ConsumerHandle;
use crate::base::{Lsn, StoredMessage};

/// A delivery that is out.
pub(super) struct UnsettledEntry {
    /// Its place in the queue, should it go back.
    pub(super) position: u64,
    /// Where the log has it, if it does.
    pub(super) lsn: Lsn,
    /// When it is to go should it go back, in milliseconds since 1970, or never.
    pub(super) expires: u64,
    /// How often it came back.
    pub(super) returns: u32,
    /// Who holds it; none if it was taken by `basic.get`, or is on its way to a consumer that doesn't
    /// acknowledge.
    pub(super) consumer: Option<ConsumerHandle>,
    pub(super) message: Out,
}

/// The message of a delivery that is out.
pub(super) enum Out {
    /// In memory. If nobody holds it and the log doesn't have it, it may have fallen, as below.
    Here(StoredMessage),
    /// In the log only.
    Logged(Away),
}

/// A message that is in the log only.
pub(super) enum Away {
    /// What must be known to put it back unread.
    Out { lane: u8, body_len: u32 },
    /// It won't go back: it has fallen, and stays among those that are out until it is safe elsewhere. `redelivered`:
    /// it had been out before.
    Fallen { redelivered: bool },
}

// Two variants fit into the room of a message, three don't, and each delivery is moved there and back.
const _: () = assert!(size_of::<Out>() == size_of::<StoredMessage>());

impl Out {
    /// Bytes of memory that it takes.
    fn size(&self) -> usize {
        match self {
            Self::Here(message) => message.size(),
            Self::Logged(_) => 0,
        }
    }
}

/// All deliveries of a queue that are out.
#[derive(Default)]
pub(super) struct Unsettled {
    entries: Slab<UnsettledEntry>,
    /// Bytes of the messages in memory.
    bytes: usize,
}

impl Unsettled {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the messages in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, entry: UnsettledEntry) -> u32 {
        self.bytes += entry.message.size();
        self.entries.insert(entry) as u32
    }

    /// Drops any one: where the log has it.
    pub(super) fn drop_one(&mut self) -> Option<Lsn> {
        let last = self.entries.iter().next_back().map(|(slot, _)| slot)?;
        self.entries.try_remove(last).map(|entry| entry.lsn)
    }

    /// Position, place in the log, and slot of each that the log has.
    pub(super) fn lsns(&self) -> impl Iterator<Item = (u64, Lsn, u32)> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| entry.lsn.is_some())
            .map(|(slot, entry)| (entry.position, entry.lsn, slot as u32))
    }

    pub(super) fn lsn(&self, slot: u32) -> Option<Lsn> {
        self.entries.get(slot as usize).map(|entry| entry.lsn)
    }

    /// Position, and how often it came back, of each that has fallen and had been out before.
    pub(super) fn fallen(&self) -> impl Iterator<Item = (u64, u32)> {
        let entries = self.entries.iter().map(|(_, entry)| entry);
        let fallen = entries.filter(|entry| {
            matches!(
                entry.message,
                Out::Logged(Away::Fallen { redelivered: true })
            )
        });
        fallen.map(|entry| (entry.position, entry.returns))
    }

    /// The message of one, if it is in memory.
    pub(super) fn message(&self, slot: u32) -> Option<&StoredMessage> {
        match &self.entries.get(slot as usize)?.message {
            Out::Here(message) => Some(message),
            Out::Logged(_) => None,
        }
    }

    /// The position of each.
    pub(super) fn positions(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|(_, entry)| entry.position)
    }

    pub(super) fn relocate(&mut self, slot: u32, lsn: Lsn) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.lsn = lsn;
        }
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<UnsettledEntry> {
        let entry = self.entries.try_remove(slot as usize)?;
        self.bytes -= entry.message.size();
        if self.entries.is_empty() && self.entries.capacity() > 4096 {
            self.entries = Slab::new();
        }
        Some(entry)
    }
}
