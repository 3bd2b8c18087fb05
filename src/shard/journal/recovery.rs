//! The queues of a core as its log has them after a stop.

use std::collections::HashMap;

use super::record::{CLEAN, FLAGGED, LogQueue, LoggedMessage, MESSAGE, Run, SETTLED, STARTED};
use crate::base::{Lsn, StoredMessage};
use crate::log::{Found, Image, Record, RecoveryError, recover};
use crate::model::queue::{Paged, Pages};

/// The log of messages.
pub(super) const GROUP: u32 = 1;

/// What a log of messages holds. It can be handed from thread to thread.
#[derive(Debug, Default)]
pub struct Recovered {
    found: Found,
    queues: HashMap<LogQueue, RecoveredQueue>,
    /// The last thing that was written is that the broker stopped in order.
    clean: bool,
}

/// A queue of that log.
#[derive(Debug, Default)]
struct RecoveredQueue {
    pages: Pages,
    next_position: u64,
    /// As the last clean stop told.
    flagged: Vec<Run>,
}

/// A message that a log holds for a queue.
#[derive(Debug)]
pub struct Kept {
    pub(in crate::shard) queue: LogQueue,
    pub(in crate::shard) position: u64,
    pub(in crate::shard) redelivered: bool,
    pub(in crate::shard) message: StoredMessage,
}

impl Recovered {
    /// Reads a log of messages.
    ///
    /// # Errors
    /// As [`recover`].
    pub fn read(image: &mut impl Image) -> Result<Self, RecoveryError> {
        let mut recovered = Self::default();
        let found = recover(GROUP, image, |record| recovered.replay(&record))?;
        recovered.found = found;
        Ok(recovered)
    }

    /// What the operator should know: one line for each damage.
    pub fn damage(&self) -> &[String] {
        &self.found.damage
    }

    fn replay(&mut self, record: &Record<'_>) {
        self.clean = record.tag == CLEAN;
        match (record.tag, record.lsn) {
            (MESSAGE, Some(lsn)) => {
                if let Some(message) = LoggedMessage::read(record.payload) {
                    self.message(lsn, &message);
                }
            }
            (SETTLED, _) => {
                if let Some(run) = Run::read(record.payload) {
                    self.settled(run);
                }
            }
            (FLAGGED, _) => {
                if let Some(run) = Run::read(record.payload) {
                    self.queue(run.queue).flagged.push(run);
                }
            }
            // A clean stop flags all that is to be flagged. What one before it said is void: since then
            // a position may have gone to another message.
            (STARTED, _) => {
                let queues = self.queues.values_mut();
                queues.for_each(|queue| queue.flagged.clear());
            }
            _ => {}
        }
    }

    fn message(&mut self, lsn: Lsn, message: &LoggedMessage<'_>) {
        if !message.persistent {
            return;
        }
        for target in message.targets().filter(|target| target.queue.is_durable()) {
            let queue = self.queue(target.queue);
            queue.next_position = queue.next_position.max(target.position + 1);
            queue.pages.insert(Paged {
                position: target.position,
                lsn,
                redelivered: true,
            });
        }
    }

    fn settled(&mut self, run: Run) {
        if !run.queue.is_durable() {
            return;
        }
        let queue = self.queue(run.queue);
        let end = run.first.saturating_add(run.count);
        queue.next_position = queue.next_position.max(end);
        queue.pages.remove_range(run.first..end);
    }

    fn queue(&mut self, queue: LogQueue) -> &mut RecoveredQueue {
        self.queues.entry(queue).or_default()
    }

    /// Takes out what there is of a queue: its messages, and the position that the next one gets.
    pub(in crate::shard) fn take(&mut self, queue: LogQueue) -> Option<(Pages, u64)> {
        let RecoveredQueue {
            mut pages,
            next_position,
            flagged,
        } = self.queues.remove(&queue)?;
        if self.clean {
            let runs = flagged.iter();
            let ranges: Vec<_> = runs
                .map(|run| run.first..run.first.saturating_add(run.count))
                .collect();
            pages.set_redelivered(&ranges);
        }
        for paged in pages.iter() {
            self.found.adopt(paged.lsn);
        }
        Some((pages, next_position))
    }

    /// The queues that nobody has taken out, each with the position that its next message would get,
    /// and how many messages they hold together.
    pub(in crate::shard) fn orphans(&self) -> (Vec<(LogQueue, u64)>, usize) {
        let queues = self.queues.iter();
        let ends = queues.map(|(queue, found)| (*queue, found.next_position));
        let messages = self.queues.values().map(|queue| queue.pages.len());
        (ends.collect(), messages.sum())
    }

    /// Hands over, message by message, what the log holds of some queues: those whose incarnation
    /// `is_wanted`. `image` is what this was read from.
    ///
    /// # Errors
    /// As [`recover`].
    pub fn take_messages(
        mut self,
        image: &mut impl Image,
        is_wanted: impl Fn(u64) -> bool,
        mut visit: impl FnMut(Kept),
    ) -> Result<(), RecoveryError> {
        let names: Vec<LogQueue> = self.queues.keys().copied().collect();
        let wanted = names
            .into_iter()
            .filter(|name| is_wanted(name.incarnation()));
        let wanted: Vec<LogQueue> = wanted.collect();
        let mut queues = HashMap::new();
        for name in wanted {
            if let Some((pages, _)) = self.take(name) {
                queues.insert(name, pages);
            }
        }
        recover(GROUP, image, |record| {
            let (MESSAGE, Some(lsn)) = (record.tag, record.lsn) else {
                return;
            };
            let Some(message) = LoggedMessage::read(record.payload) else {
                return;
            };
            for target in message.targets() {
                let queue = queues.get(&target.queue);
                if let Some(paged) = queue.and_then(|pages| pages.get(target.position))
                    && paged.lsn == lsn
                {
                    visit(Kept {
                        queue: target.queue,
                        position: paged.position,
                        redelivered: paged.redelivered,
                        message: message.store(),
                    });
                }
            }
        })?;
        Ok(())
    }

    /// The log itself, to go on with.
    pub(in crate::shard) fn into_found(self) -> Found {
        self.found
    }
}
