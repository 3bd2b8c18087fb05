//! Messages that nobody wants any more: of a queue that was purged or deleted.

use super::ready::Ready;
use super::unsettled::Unsettled;
use super::{Queue, Sink};
use crate::base::Lsn;

/// Messages that nobody wants any more. Dropping a million at once would hold up the turn.
pub struct Rubbish {
    ready: Ready,
    unsettled: Unsettled,
}

impl Rubbish {
    /// How many of them were ready.
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Drops up to `steps` messages, naming those that the log has; whether that was all.
    pub fn drop_some(&mut self, steps: usize, mut dropped: impl FnMut(Lsn)) -> bool {
        for _ in 0..steps {
            let one = self.ready.drop_one();
            match one.or_else(|| self.unsettled.drop_one()) {
                Some(lsn) if lsn.is_some() => dropped(lsn),
                Some(_) => {}
                None => return true,
            }
        }
        false
    }
}

impl Queue {
    /// Takes all ready messages away, to be dropped a few at a time. Also returned: ranges of their
    /// positions, as first and count.
    pub fn purge(&mut self, sink: &mut impl Sink) -> (Rubbish, Vec<(u64, u64)>) {
        self.consumers.surrender_credit(sink);
        let ranges = self.ready_ranges();
        let rubbish = Rubbish {
            ready: self.ready.take(),
            unsettled: Unsettled::default(),
        };
        self.forget_ready_keys();
        self.has_unread = false;
        (rubbish, ranges)
    }

    /// From the first position on, all that is ready, nobody's, or behind: all but what is out.
    fn ready_ranges(&self) -> Vec<(u64, u64)> {
        let first = match self.has_unread {
            true => Some(0),
            false => self.ready.first_position(),
        };
        let Some(mut first) = first else {
            return Vec::new();
        };
        let mut out: Vec<u64> = self.unsettled.positions().collect();
        out.sort_unstable();
        let mut ranges = Vec::new();
        for position in out.into_iter().chain([self.next_position]) {
            if position > first {
                ranges.push((first, position - first));
            }
            first = first.max(position + 1);
        }
        ranges
    }

    /// The queue is deleted: all its messages, to be dropped a few at a time.
    pub fn into_rubbish(self) -> Rubbish {
        Rubbish {
            ready: self.ready,
            unsettled: self.unsettled,
        }
    }
}
