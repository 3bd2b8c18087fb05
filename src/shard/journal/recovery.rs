//! The queues of a core as its log has them after a stop.

use std::collections::{BTreeMap, HashMap};

use super::record::{
    CLEAN, FLAGGED, LogQueue, LoggedMessage, MESSAGE, RETURNED, Run, SETTLED, STARTED,
};
use crate::base::{Lsn, StoredMessage};
use crate::log::{Found, Image, Record, RecoveryError, recover};
use crate::model::deduplication::Key;
use crate::model::queue::{Paged, Pages, Restored};

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
pub(in crate::shard) struct RecoveredQueue {
    /// By the messages' priorities.
    lanes: BTreeMap<u8, Pages>,
    len: u64,
    pub(in crate::shard) next_position: u64,
    /// As the last clean stop told.
    flagged: Vec<Run>,
    /// The same: position, and how often the message came back.
    pub(in crate::shard) returned: Vec<(u64, u32)>,
    /// By position, of the messages that have one; also of some that are done with.
    keys: Vec<(u64, Key)>,
}

impl RecoveredQueue {
    fn add(&mut self, priority: u8, paged: Paged) {
        let lane = self.lanes.entry(priority).or_default();
        let len = lane.len();
        lane.insert(paged);
        // One that was written again is here already.
        self.len += (lane.len() - len) as u64;
    }

    fn remove(&mut self, run: Run) {
        let end = run.first.saturating_add(run.count);
        self.next_position = self.next_position.max(end);
        for lane in self.lanes.values_mut() {
            let len = lane.len();
            lane.remove_range(run.first..end);
            self.len -= (len - lane.len()) as u64;
        }
    }

    fn get(&self, position: u64) -> Option<Paged> {
        self.lanes.values().find_map(|lane| lane.get(position))
    }

    /// By position, what its messages are known by where duplicates are dropped.
    pub(in crate::shard) fn take_keys(&mut self) -> Vec<(u64, Key)> {
        let mut keys = std::mem::take(&mut self.keys);
        keys.retain(|(position, _)| self.get(*position).is_some());
        keys
    }

    /// Its messages in the order of their positions; they are here no more.
    pub(in crate::shard) fn drain(&mut self) -> impl Iterator<Item = Restored> {
        std::iter::from_fn(move || {
            let fronts = self.lanes.iter().filter_map(|(priority, lane)| {
                let position = lane.front()?.position;
                Some((position, *priority))
            });
            let (_, priority) = fronts.min()?;
            let paged = self.lanes.get_mut(&priority)?.pop_front()?;
            Some(Restored { paged, priority })
        })
    }
}

/// A message that a log holds for a queue.
#[derive(Debug)]
pub struct Kept {
    pub(in crate::shard) queue: LogQueue,
    pub(in crate::shard) position: u64,
    pub(in crate::shard) expires: u64,
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
            (RETURNED, _) => {
                if let Some(run) = Run::read(record.payload)
                    && let Ok(times) = u32::try_from(run.count)
                {
                    self.queue(run.queue).returned.push((run.first, times));
                }
            }
            // A clean stop tells it of all messages. What one before it said is void: since then a
            // position may have gone to another message.
            (STARTED, _) => {
                for queue in self.queues.values_mut() {
                    queue.flagged.clear();
                    queue.returned.clear();
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, lsn: Lsn, message: &LoggedMessage<'_>) {
        if !message.persistent {
            return;
        }
        let key = message.key();
        for target in message.targets().filter(|target| target.queue.is_durable()) {
            let queue = self.queue(target.queue);
            queue.next_position = queue.next_position.max(target.position + 1);
            let paged = Paged {
                position: target.position,
                lsn,
                expires: target.expires,
                body_len: message.body_len() as u32,
                redelivered: true,
            };
            queue.add(message.priority(), paged);
            if let Some(key) = key {
                queue.keys.push((target.position, key));
            }
        }
    }

    fn settled(&mut self, run: Run) {
        if !run.queue.is_durable() {
            return;
        }
        self.queue(run.queue).remove(run);
    }

    fn queue(&mut self, queue: LogQueue) -> &mut RecoveredQueue {
        self.queues.entry(queue).or_default()
    }

    /// Takes out what there is of a queue.
    pub(in crate::shard) fn take(&mut self, queue: LogQueue) -> Option<RecoveredQueue> {
        let mut taken = self.queues.remove(&queue)?;
        if self.clean {
            let runs = taken.flagged.iter();
            let ranges: Vec<_> = runs
                .map(|run| run.first..run.first.saturating_add(run.count))
                .collect();
            for lane in taken.lanes.values_mut() {
                lane.set_redelivered(&ranges);
            }
        } else {
            taken.returned.clear();
        }
        for paged in taken.lanes.values().flat_map(Pages::iter) {
            self.found.adopt(paged.lsn);
        }
        Some(taken)
    }

    /// The queues that nobody has taken out, each with the position that its next message would get,
    /// and how many messages they hold together.
    pub(in crate::shard) fn orphans(&self) -> (Vec<(LogQueue, u64)>, u64) {
        let queues = self.queues.iter();
        let ends = queues.map(|(queue, found)| (*queue, found.next_position));
        let messages = self.queues.values().map(|queue| queue.len);
        (ends.collect(), messages.sum())
    }

    /// Keeps alive in the log what nobody has taken out.
    pub(in crate::shard) fn keep_orphans(&mut self) {
        let lanes = self.queues.values().flat_map(|queue| queue.lanes.values());
        for paged in lanes.flat_map(Pages::iter) {
            self.found.adopt(paged.lsn);
        }
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
            if let Some(found) = self.take(name) {
                queues.insert(name, found);
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
                if let Some(paged) = queue.and_then(|found| found.get(target.position))
                    && paged.lsn == lsn
                {
                    visit(Kept {
                        queue: target.queue,
                        position: paged.position,
                        expires: paged.expires,
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
