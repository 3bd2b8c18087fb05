//! Messages that wait, in the order they came.
//!
//! Whatever goes back to the queue was taken from its head before, so its position is lower than that
//! of everything in the main line: it waits in a second, ordered line that is served first. The main
//! line has its head in memory and, if it is long, the rest in the log.
//!
//! ```text
//!   returned ─► line (in memory) ─► pages (in the log only)
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::pages::{Paged, Pages};
use crate::base::{Lsn, StoredMessage};

/// A message that waits.
pub(super) struct Entry {
    /// Its place: the number of messages that came before it.
    pub(super) position: u64,
    /// Where the log has it, if it does.
    pub(super) lsn: Lsn,
    /// Whether it was delivered before.
    pub(super) redelivered: bool,
    /// The message.
    pub(super) message: StoredMessage,
}

/// The lines.
#[derive(Default)]
pub(super) struct Ready {
    returned: BTreeMap<u64, Entry>,
    line: VecDeque<Entry>,
    pages: Pages,
    /// Bytes of the messages in memory.
    bytes: usize,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.returned.len() + self.line.len() + self.pages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.returned.is_empty() && self.pages.is_empty()
    }

    /// Whether the first message is in memory.
    pub(super) fn has_next(&self) -> bool {
        !self.line.is_empty() || !self.returned.is_empty()
    }

    /// Bytes of the messages in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// All that wait is what a start found in the log.
    pub(super) fn restore(&mut self, pages: Pages) {
        self.pages = pages;
    }

    /// One more of those.
    pub(super) fn restore_one(&mut self, paged: Paged) {
        self.pages.insert(paged);
    }

    /// A message that came in last. There must be no pages before it.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.message.size();
        self.line.push_back(entry);
    }

    /// A message that came in last and stays in the log.
    pub(super) fn push_paged(&mut self, position: u64, lsn: Lsn) {
        self.pages.insert(Paged {
            position,
            lsn,
            redelivered: false,
        });
    }

    /// A message that was taken before goes back to its place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.bytes += entry.message.size();
        self.returned.insert(entry.position, entry);
    }

    /// The first message, if it is in memory.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = if self.returned.is_empty() {
            let entry = self.line.pop_front();
            self.give_memory_back();
            entry?
        } else {
            self.returned.pop_first().map(|(_, entry)| entry)?
        };
        self.bytes -= entry.message.size();
        Some(entry)
    }

    /// The first of the pages came from the log.
    pub(super) fn page_in(&mut self, message: StoredMessage) {
        if let Some(paged) = self.pages.pop_front() {
            self.push(Entry {
                position: paged.position,
                lsn: paged.lsn,
                redelivered: paged.redelivered,
                message,
            });
        }
    }

    /// The first of the pages can't be had.
    pub(super) fn drop_page(&mut self) -> Option<Paged> {
        self.pages.pop_front()
    }

    /// Any one, to be dropped: where the log has it. The outer none: there are no more.
    pub(super) fn drop_one(&mut self) -> Option<Lsn> {
        match self.pop() {
            Some(entry) => Some(entry.lsn),
            None => self.pages.pop_front().map(|paged| paged.lsn),
        }
    }

    /// The positions of all that wait, as first and count; some between them may be nobody's.
    pub(super) fn ranges(&self, end: u64) -> Vec<(u64, u64)> {
        let mut ranges: Vec<_> = self.returned.keys().map(|one| (*one, 1)).collect();
        let head = self.line.front().map(|entry| entry.position);
        if let Some(first) = head.or_else(|| self.pages.front().map(|paged| paged.position)) {
            ranges.push((first, end - first));
        }
        ranges
    }

    /// Where the log has the message of that position, if it waits here.
    pub(super) fn lsn(&self, position: u64) -> Option<Lsn> {
        let at = self.line.partition_point(|entry| entry.position < position);
        match self.line.get(at) {
            Some(entry) if entry.position == position => Some(entry.lsn),
            _ => match self.returned.get(&position) {
                Some(entry) => Some(entry.lsn),
                None => self.pages.get(position).map(|paged| paged.lsn),
            },
        }
    }

    /// The log has it elsewhere now.
    pub(super) fn relocate(&mut self, position: u64, lsn: Lsn) {
        let at = self.line.partition_point(|entry| entry.position < position);
        match self.line.get_mut(at) {
            Some(entry) if entry.position == position => entry.lsn = lsn,
            _ => match (self.returned.get_mut(&position), self.pages.get(position)) {
                (Some(entry), _) => entry.lsn = lsn,
                (None, Some(paged)) => self.pages.insert(Paged { lsn, ..paged }),
                (None, None) => {}
            },
        }
    }

    /// Positions of messages that the log has and that were delivered before.
    pub(super) fn redelivered(&self) -> impl Iterator<Item = u64> {
        let in_memory = self.returned.values().chain(&self.line);
        in_memory
            .filter(|entry| entry.redelivered && entry.lsn.is_some())
            .map(|entry| entry.position)
            .chain(
                self.pages
                    .iter()
                    .filter(|paged| paged.redelivered)
                    .map(|paged| paged.position),
            )
    }

    /// After a backlog has drained, its table of entries goes too.
    fn give_memory_back(&mut self) {
        const WORTH_KEEPING: usize = 1024;
        if self.line.is_empty() && self.line.capacity() > WORTH_KEEPING {
            self.line = VecDeque::with_capacity(WORTH_KEEPING);
        }
    }
}
