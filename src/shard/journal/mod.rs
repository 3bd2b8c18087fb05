//! What a shard has its log remember, and who waits for that.
//!
//! Messages gather in memory until the log can take a batch, and are encoded then: one that was
//! settled meanwhile is never written. What was settled later is noted in the next batch that somebody
//! waits for, or after a short while. A publisher's confirm waits until all is durable that was said
//! before it.
//!
//! ```text
//!   append ──► pending ──┐                        ┌─► durable: confirms go out
//!   settle ──► notes  ───┴─► batch ──► the disk ──┴─► paged messages can be read
//! ```

mod notes;
mod reading;
mod record;
mod recovery;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use self::notes::{NOTE_LEN, Notes};
pub(super) use self::reading::Purpose;
use self::reading::Reading;
pub(super) use self::record::{LoggedMessage, Target};
use self::record::{MESSAGE, Run};
use crate::base::{Lsn, StoredMessage, Time, limits};
use crate::log::{
    BatchWriter, DiskRequest, FileNumber, Found, Log, Placed, RECORD_OVERHEAD, ReadId, Room,
};
use crate::mail::Publisher;

pub(super) use self::record::LogQueue;
pub use self::recovery::{Kept, Recovered};

/// A shard's log, and what is on its way there.
#[derive(Debug)]
pub(super) struct Journal {
    log: Log,
    /// Messages that are not yet in a batch, in the order of their LSNs.
    pending: VecDeque<Pending>,
    /// The LSN of the first of them.
    first_pending: Lsn,
    /// What they take up, in bytes; what was settled meanwhile is still counted.
    pending_bytes: usize,
    /// How many of them are in the log already.
    pending_again: usize,
    /// What else the log is to be told.
    notes: Notes,
    /// Who waits, and for which LSN: everything below it must be durable.
    waiting: VecDeque<(Lsn, Waiter)>,
    /// How many of `waiting` came before the last batch was sealed: they are not added to.
    closed_waiters: usize,
    /// Where the next batch goes.
    room: Option<Room>,
    /// When the oldest of what waits came.
    since: Option<Time>,
    reads: HashMap<ReadId, Reading>,
    next_read: u64,
    /// Those that failed, and when each is tried again.
    retries: VecDeque<(Time, ReadId)>,
    requests: VecDeque<DiskRequest>,
    next_volatile: u64,
    /// The batch that says that the log was opened is durable, or need not be written.
    is_open: bool,
    /// A queue waits for a message that is not in a batch yet.
    is_wanted: bool,
}

/// A message that is not yet in a batch.
#[derive(Debug)]
struct Pending {
    message: StoredMessage,
    first: Option<Target>,
    others: Vec<Target>,
    /// It is in the log already and is written again.
    again: bool,
    /// The most bytes that it takes in a batch.
    len: usize,
}

impl Pending {
    fn targets(&self) -> impl Iterator<Item = Target> + Clone {
        self.first.iter().chain(&self.others).copied()
    }

    /// The message is done with in a queue.
    fn remove(&mut self, queue: LogQueue) {
        if self.first.is_some_and(|target| target.queue == queue) {
            self.first = None;
        } else {
            self.others.retain(|target| target.queue != queue);
        }
    }
}

/// A publisher that is to be told that its publishes up to a number are settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiter {
    pub(super) publisher: Publisher,
    pub(super) upto: u64,
}

/// What nobody waits for is written after so long,
const RIDE: Duration = Duration::from_millis(100);
/// or when it has grown to so many bytes.
const RIDE_BYTES: usize = 64 * 1024;
/// Messages that may gather without more memory than an idle core keeps.
const PENDING_KEPT: usize = 1024;

impl Journal {
    /// Goes on with a log. `seed`: drawn at random and kept secret; `garbage_bytes`: how much of it may be
    /// dead, beyond as much as is alive.
    pub(super) fn resume(found: Found, seed: u64, garbage_bytes: u64) -> Self {
        let is_new = found.is_empty();
        let mut log = Log::resume(recovery::GROUP, seed, found);
        log.allow_garbage(garbage_bytes);
        Self {
            pending: VecDeque::new(),
            first_pending: log.upcoming_lsn(),
            pending_bytes: 0,
            pending_again: 0,
            notes: Notes::new(is_new),
            waiting: VecDeque::new(),
            closed_waiters: 0,
            room: None,
            since: None,
            reads: HashMap::new(),
            retries: VecDeque::new(),
            next_read: 0,
            requests: VecDeque::new(),
            next_volatile: 0,
            is_open: is_new,
            is_wanted: false,
            log,
        }
    }

    /// A name for a queue that isn't durable.
    pub(super) fn name_volatile(&mut self) -> LogQueue {
        self.next_volatile += 1;
        LogQueue::volatile(self.next_volatile)
    }

    /// The LSN that the next message gets.
    pub(super) fn upcoming_lsn(&self) -> Lsn {
        self.log.upcoming_lsn()
    }

    /// What has a lower LSN the log doesn't have (any more).
    pub(super) fn oldest_lsn(&self) -> Lsn {
        self.log.oldest_lsn()
    }

    /// Whether everything is durable that was taken in.
    pub(super) fn is_durable(&self) -> bool {
        self.log.upcoming_lsn() <= self.log.durable_lsn()
    }

    /// Whether what waits for the next batch may wait for long, since there is no room for it.
    pub(super) fn is_stuck(&self) -> bool {
        self.log.is_stuck()
    }

    /// A message that may be long in no batch yet, and can't be read before it is: memory still has it.
    pub(super) fn unwritten(&self, lsn: Lsn) -> Option<StoredMessage> {
        let at = lsn.0.checked_sub(self.first_pending.0)?;
        let pending = self.pending.get(at as usize);
        let pending = pending.filter(|_| self.is_stuck());
        pending.map(|pending| pending.message.clone())
    }

    /// Takes in a message under [`Journal::upcoming_lsn`]. It is in one place at least.
    pub(super) fn append(&mut self, message: StoredMessage, targets: &[Target], now: Time) {
        self.push(message, targets, false, now);
    }

    /// The same for one that the log has already, at another place.
    pub(super) fn append_again(&mut self, message: StoredMessage, target: Target, now: Time) {
        self.push(message, &[target], true, now);
    }

    fn push(&mut self, message: StoredMessage, targets: &[Target], again: bool, now: Time) {
        let lsn = self.log.next_lsn();
        if self.pending.is_empty() {
            self.first_pending = lsn;
        }
        let mut targets = targets.iter().copied();
        let mut pending = Pending {
            message,
            first: targets.next(),
            others: targets.collect(),
            again,
            len: 0,
        };
        let payload = record::message_len(&pending.message.as_ref(), pending.targets());
        pending.len = RECORD_OVERHEAD + payload;
        self.pending_bytes += pending.len;
        self.pending_again += usize::from(again);
        self.pending.push_back(pending);
        self.since.get_or_insert(now);
    }

    /// A message is done with in one of its queues.
    pub(super) fn settle(&mut self, queue: LogQueue, position: u64, lsn: Lsn, now: Time) {
        if lsn >= self.first_pending {
            let at = (lsn.0 - self.first_pending.0) as usize;
            let Some(pending) = self.pending.get_mut(at) else {
                return;
            };
            pending.remove(queue);
            if !pending.again {
                return;
            }
        } else {
            self.forget_logged(lsn);
        }
        if queue.is_durable() {
            self.notes.settle(queue, position);
            self.since.get_or_insert(now);
        }
    }

    /// Notes that all messages at these positions of a queue were purged; [`Journal::forget`] follows for
    /// each, but a crash may come first.
    pub(super) fn purge(&mut self, queue: LogQueue, first: u64, count: u64, now: Time) {
        let run = Run {
            queue,
            first,
            count,
        };
        self.notes.purge(self.log.upcoming_lsn(), run);
        self.since.get_or_insert(now);
    }

    /// A message is done with in one of its queues, which was noted or needs no note.
    pub(super) fn forget(&mut self, queue: LogQueue, lsn: Lsn) {
        if lsn >= self.first_pending {
            let at = (lsn.0 - self.first_pending.0) as usize;
            if let Some(pending) = self.pending.get_mut(at) {
                pending.remove(queue);
            }
        } else {
            self.forget_logged(lsn);
        }
    }

    fn forget_logged(&mut self, lsn: Lsn) {
        // Its segment may go before other messages are sealed that wait, but not before the survivors' copies are.
        if self.pending_again > 0 {
            self.log.forget(lsn);
        } else {
            self.log.forget_at_once(lsn);
        }
    }

    /// A channel waits until its publishes up to a number are durable. False: nothing is to be waited
    /// for. `for_all`: whether for all that the journal was given, since the last of them, or its like, is among that.
    pub(super) fn wait(&mut self, waiter: Waiter, for_all: bool) -> bool {
        let upto = match self.waiting.back() {
            _ if for_all => self.log.upcoming_lsn(),
            Some((lsn, _)) => *lsn,
            None => return false,
        };
        if self.waiting.len() > self.closed_waiters
            && let Some((lsn, last)) = self.waiting.back_mut()
            && last.publisher == waiter.publisher
        {
            *lsn = upto;
            last.upto = waiter.upto;
            return true;
        }
        self.waiting.push_back((upto, waiter));
        true
    }

    /// The next channel whose publishes are durable.
    pub(super) fn next_settled(&mut self) -> Option<Waiter> {
        let durable = self.log.durable_lsn();
        let (_, waiter) = self.waiting.pop_front_if(|(lsn, _)| *lsn <= durable)?;
        self.closed_waiters = self.closed_waiters.saturating_sub(1);
        Some(waiter)
    }

    /// Whether so much waits for the disk that publishers should.
    pub(super) fn is_overfull(&self) -> bool {
        self.pending_bytes > limits::JOURNAL_BYTES_MAX
    }

    /// Whether the log can't grow, for want of space on the disk.
    pub(super) fn is_full(&self) -> bool {
        self.log.is_full()
    }

    /// Whether the log is ready for new messages: that it was opened is durable.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Writes at the end of a clean stop what only memory knows: the runs of positions whose messages
    /// were delivered before, and how often they came back.
    pub(super) fn finish(&mut self, flagged: impl Iterator<Item = (LogQueue, u64, u32)>) {
        if self.notes.is_finishing() {
            return;
        }
        // A log that was never used needs no mark, unless another core's last letter comes here yet.
        let is_clean = self.log.used() == 0 && self.is_quiet();
        self.notes.finish(is_clean, flagged);
        self.log.finish();
    }

    /// Whether everything is written.
    pub(super) fn is_quiet(&self) -> bool {
        !self.has_more() && !self.log.is_writing() && !self.log.is_finishing()
    }

    /// Whether something waits for a batch.
    fn has_more(&self) -> bool {
        !self.pending.is_empty() || self.notes.len() + self.notes.ending_len(true) > 0
    }

    /// When [`Journal::next_commit`] has something to write that it doesn't have yet.
    pub(super) fn next_timer(&self) -> Option<Time> {
        let log = self.log.next_timer(self.since.map(|since| since + RIDE));
        let retry = self.retries.front().map(|(due, _)| *due);
        log.into_iter().chain(retry).min()
    }

    /// How large a buffer the next batch needs, if it is time for one.
    pub(super) fn next_commit(&mut self, now: Time) -> Option<usize> {
        if self.log.is_writing() || self.room.is_some() {
            return None;
        }
        self.drop_settled();
        self.log.replenish(self.has_more(), now);
        let durable = self.log.durable_lsn();
        let due = if self.has_more() {
            !self.is_open
                || self.notes.is_finishing()
                || self.is_wanted
                || self.waiting.back().is_some_and(|(lsn, _)| *lsn > durable)
                || self.pending_bytes + self.notes.len() >= RIDE_BYTES
                || self.since.is_some_and(|since| now >= since + RIDE)
        } else {
            self.log.wants_empty(now)
        };
        if !due {
            return None;
        }
        let ending = self.notes.ending_len(self.pending.is_empty());
        let notes = (self.notes.len() + ending).min(limits::BATCH_BYTES_MAX);
        let first = self.first_len();
        let room = self
            .log
            .room(notes + first, 1, now)
            .or_else(|| self.reserve())?;
        self.room = Some(room);
        let wanted = notes + self.pending_bytes.min(limits::BATCH_BYTES_MAX).max(first);
        Some(room.buffer_len(wanted.min(room.records)))
    }

    /// The most bytes that the first message takes that waits.
    fn first_len(&self) -> usize {
        self.pending.front().map_or(0, |pending| pending.len)
    }

    /// A file is kept in reserve, and a block at the end of each, for what gives space back. Publishes may come along
    /// with it.
    fn reserve(&self) -> Option<Room> {
        let may_wait =
            self.pending_again == 0 && !self.notes.is_finishing() && self.notes.len() == 0;
        let least = if self.notes.ready_len(self.first_pending) > 0 {
            Some(NOTE_LEN)
        } else if self.pending.is_empty() {
            Some(self.notes.ending_len(true).min(NOTE_LEN))
        } else {
            (!may_wait || self.log.gives_back()).then(|| self.first_len())
        };
        least
            .and_then(|least| self.log.reserved_room(least))
            .or_else(|| self.log.gives_back().then(|| self.log.reserved_room(0))?)
    }

    /// Messages at the front that were settled need not be written.
    fn drop_settled(&mut self) {
        while let Some(settled) = self
            .pending
            .pop_front_if(|pending| pending.targets().next().is_none())
        {
            self.passed(&settled);
        }
        if self.pending.is_empty() {
            self.log.all_dropped();
            if self.notes.len() == 0 {
                self.since = None;
            }
        }
    }

    /// A message has left `pending`.
    fn passed(&mut self, pending: &Pending) {
        self.first_pending = self.first_pending.next();
        self.pending_bytes -= pending.len;
        self.pending_again -= usize::from(pending.again);
    }

    /// Fills a buffer of the size that [`Journal::next_commit`] has asked for.
    pub(super) fn commit(&mut self, buffer: &mut [u8], now: Time) -> Option<Placed> {
        let room = self.room.take()?;
        if self.pending.is_empty() {
            // No message has come for a while: what a flood of them took goes back.
            self.pending.shrink_to(PENDING_KEPT);
        }
        let mut left = room.records_in(buffer.len());
        let first_lsn = self.first_pending;
        let mut writer = self.log.begin(&room, first_lsn, buffer);
        let mut live = 0;
        // Messages come behind all that was told before them, so there must be room for that too; what waits for
        // messages itself stays behind if there is none.
        let (ready, notes) = (self.notes.ready_len(first_lsn), self.notes.len());
        if ready <= left {
            let kept = if notes + self.first_len() <= left {
                notes
            } else {
                ready
            };
            live = self.write_messages(&mut writer, &mut left, kept);
        }
        // Behind the messages: what was settled may stand in this very batch.
        left = self.notes.write(&mut writer, self.first_pending, left);
        let is_last = self.pending.is_empty();
        self.notes.write_ending(&mut writer, is_last, left);
        self.since = (!is_last || self.notes.len() > 0).then_some(now);
        self.closed_waiters = self.waiting.len();
        self.is_wanted = false;
        let lsns = (first_lsn, self.first_pending);
        Some(self.log.seal(room, writer, lsns, live, now))
    }

    /// Writes messages that wait, as long as more than `kept` bytes are `left`; how much they keep alive.
    fn write_messages(
        &mut self,
        writer: &mut BatchWriter<'_>,
        left: &mut usize,
        kept: usize,
    ) -> u64 {
        let mut live = 0;
        while let Some(pending) = self
            .pending
            .pop_front_if(|pending| pending.len + kept <= *left)
        {
            let targets = pending.targets();
            let count = targets.clone().count() as u64;
            if count > 0 {
                let message = pending.message.as_ref();
                let payload = record::message_len(&message, targets.clone());
                writer.begin_numbered(MESSAGE, self.first_pending, payload);
                record::write_message(writer, &message, targets);
                live += count;
                *left -= pending.len;
            }
            self.passed(&pending);
        }
        live
    }

    /// The batch is durable.
    pub(super) fn written(&mut self) {
        self.log.written();
        self.is_open = true;
    }

    /// A file was made, or not.
    pub(super) fn prepared(&mut self, file: FileNumber, made: bool, now: Time) {
        self.log.prepared(file, made, now);
    }

    /// As [`Log::be_frugal`].
    pub(super) fn be_frugal(&mut self, is_frugal: bool) {
        self.log.be_frugal(is_frugal);
    }

    /// What the disk is to do next.
    pub(super) fn next_request(&mut self) -> Option<DiskRequest> {
        self.log
            .next_request()
            .or_else(|| self.requests.pop_front())
    }
}
