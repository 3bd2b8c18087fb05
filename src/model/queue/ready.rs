//! Messages that wait, in the order they came.
//!
//! Whatever goes back to the queue was taken from its head before, so its position is lower than that
//! of everything in the main line: it waits in a second, ordered line that is served first.

use std::collections::{BTreeMap, VecDeque};

use crate::base::StoredMessage;

/// A message that waits.
pub(super) struct Entry {
    /// Its place: the number of messages that came before it.
    pub(super) position: u64,
    /// Whether it was delivered before.
    pub(super) redelivered: bool,
    /// The message.
    pub(super) message: StoredMessage,
}

/// The two lines.
#[derive(Default)]
pub(super) struct Ready {
    returned: BTreeMap<u64, Entry>,
    line: VecDeque<Entry>,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.returned.len() + self.line.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.returned.is_empty()
    }

    /// A message that came in last.
    pub(super) fn push(&mut self, entry: Entry) {
        self.line.push_back(entry);
    }

    /// A message that was taken before goes back to its place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.returned.insert(entry.position, entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        if self.returned.is_empty() {
            let entry = self.line.pop_front();
            self.give_memory_back();
            return entry;
        }
        self.returned.pop_first().map(|(_, entry)| entry)
    }

    /// After a backlog has drained, its table of entries goes too.
    fn give_memory_back(&mut self) {
        const WORTH_KEEPING: usize = 1024;
        if self.line.is_empty() && self.line.capacity() > WORTH_KEEPING {
            self.line = VecDeque::with_capacity(WORTH_KEEPING);
        }
    }
}
