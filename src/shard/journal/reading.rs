//! What is read from the log, and what for: messages that only it has, and the survivors of its oldest segment. A read
//! that fails is tried again.

use super::record::MESSAGE;
use super::{Journal, LoggedMessage};
use crate::base::{Lsn, QueueId, Time, limits};
use crate::log::{DiskRequest, Located, ReadId, Record, Stretch};

/// What a piece of the log is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Purpose {
    /// A queue waits for the message of that number, and for what stands behind it.
    Page(QueueId, Lsn),
    /// The first dead letter that waits has that number.
    Letter(Lsn),
    /// Delayed messages that will soon be due.
    Ahead,
    /// Its survivors are written again.
    Rewrite,
}

/// A read that is under way, or waits to be tried again.
#[derive(Debug)]
pub(super) struct Reading {
    purpose: Purpose,
    stretch: Stretch,
    tries: usize,
}

impl Journal {
    /// Has a message read that a queue wants back, if it is there.
    pub(in crate::shard) fn fetch(&mut self, queue: QueueId, lsn: Lsn) -> Located {
        self.find_and_read(lsn, Purpose::Page(queue, lsn))
    }

    /// The same for a message that is to be dead-lettered.
    pub(in crate::shard) fn fetch_letter(&mut self, lsn: Lsn) -> Located {
        self.find_and_read(lsn, Purpose::Letter(lsn))
    }

    /// The same, for a delayed message that will soon be due.
    pub(in crate::shard) fn fetch_ahead(&mut self, lsn: Lsn) -> Located {
        self.find_and_read(lsn, Purpose::Ahead)
    }

    fn find_and_read(&mut self, lsn: Lsn, purpose: Purpose) -> Located {
        let located = self.log.locate(lsn);
        match located {
            Located::Here(stretch) => self.read(stretch, purpose),
            Located::NotYet => self.is_wanted = true,
            Located::Nowhere => {}
        }
        located
    }

    fn read(&mut self, stretch: Stretch, purpose: Purpose) {
        let read = ReadId(self.next_read);
        self.next_read += 1;
        let reading = Reading {
            purpose,
            stretch,
            tries: 0,
        };
        self.reads.insert(read, reading);
        self.request(read);
    }

    fn request(&mut self, read: ReadId) {
        if let Some(Reading { stretch, tries, .. }) = self.reads.get_mut(&read) {
            *tries += 1;
            self.requests.push_back(DiskRequest::Read {
                read,
                file: stretch.file,
                offset: stretch.offset,
                len: stretch.len,
            });
        }
    }

    /// Tries those reads again of which it is time.
    pub(in crate::shard) fn retry_reads(&mut self, now: Time) {
        while let Some((_, read)) = self.retries.pop_front_if(|(due, _)| *due <= now) {
            self.request(read);
        }
    }

    /// Has the next piece of the oldest segment read, if its survivors are to be written again.
    pub(in crate::shard) fn rewrite(&mut self, now: Time) {
        let mut reads = self.reads.values();
        let is_due = self.log.is_rewriting() || self.log.wants_rewriting(now);
        if !is_due
            || self.notes.is_finishing()
            || self.is_overfull()
            || self.log.is_full()
            || reads.any(|reading| reading.purpose == Purpose::Rewrite)
        {
            return;
        }
        if let Some(stretch) = self.log.next_to_rewrite(now) {
            self.read(stretch, Purpose::Rewrite);
        }
    }

    /// What was read, and what for; none if that is no matter any more, or if it is tried again, having failed.
    pub(in crate::shard) fn fetched(
        &mut self,
        read: ReadId,
        has_failed: bool,
        now: Time,
    ) -> Option<(Purpose, Stretch)> {
        let reading = self.reads.get_mut(&read)?;
        let (purpose, stretch) = (reading.purpose, reading.stretch);
        if has_failed && reading.tries < limits::READ_TRIES {
            reading.stretch = self.log.narrow(&stretch, purpose == Purpose::Rewrite);
            self.retries.push_back((now + limits::READ_RETRY, read));
            return None;
        }
        self.reads.remove(&read);
        // After the mark of a clean stop nothing may be written, not even again.
        let is_late = purpose == Purpose::Rewrite && self.notes.is_finishing();
        (!is_late).then_some((purpose, stretch))
    }

    /// Hands over the messages of a stretch that was read: LSN, and the message. Whether all of it was
    /// as it had been written.
    pub(in crate::shard) fn messages(
        &mut self,
        stretch: &Stretch,
        bytes: &[u8],
        mut visit: impl FnMut(Lsn, &LoggedMessage<'_>),
    ) -> bool {
        self.log.visit(stretch, bytes, |record: Record<'_>| {
            if let (MESSAGE, Some(lsn)) = (record.tag, record.lsn)
                && let Some(message) = LoggedMessage::read(record.payload)
            {
                visit(lsn, &message);
            }
        })
    }
}
