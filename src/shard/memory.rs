//! How much of its messages a core keeps in memory: what comes beyond that stays in its log only, be it ready or
//! out with consumers.

use super::journal::Journal;
use crate::base::Lsn;

/// Bytes of messages that are taken from the log for a queue that has none in memory, even if that is full.
pub(super) const FETCH_LEAST: usize = 32 * 1024;

/// Bytes of messages in memory, of all queues.
pub(super) struct Memory {
    ready: usize,
    out: usize,
    max: usize,
}

impl Memory {
    /// Nothing yet; `max` bytes may be.
    pub(super) fn new(max: usize) -> Self {
        Self {
            ready: 0,
            out: 0,
            max,
        }
    }

    /// A queue has so much, ready and out.
    pub(super) fn came(&mut self, (ready, out): (usize, usize)) {
        self.ready += ready;
        self.out += out;
    }

    /// A queue had so much, and hasn't any more.
    pub(super) fn gone(&mut self, (ready, out): (usize, usize)) {
        self.ready -= ready;
        self.out -= out;
    }

    /// Whether what comes is to go to the log.
    pub(super) fn is_full(&self) -> bool {
        self.ready + self.out > self.max
    }

    /// Up to how many bytes a queue may fetch messages that has so many in memory.
    pub(super) fn fetch_upto(&self, resident: usize) -> usize {
        let room = self.max.saturating_sub(self.ready + self.out);
        resident + room.max(FETCH_LEAST)
    }

    /// Whether what waits takes up much, so that publishers should wait for its drain.
    pub(super) fn is_crowded(&self) -> bool {
        self.ready > self.max / 4
    }

    /// What isn't kept while it is out, since the log has it, by LSN: consumers that acknowledge late leave half of the
    /// room to what waits.
    pub(super) fn leave_from(&self, journal: &Journal) -> Lsn {
        match self.is_full() || self.out > self.max / 2 {
            true => journal.oldest_lsn(),
            false => Lsn::NEVER,
        }
    }
}
