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

mod record;
mod recovery;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use self::record::{CLEAN, FLAGGED, MESSAGE, RETURNED, Run, SETTLED, STARTED};
pub(super) use self::record::{LoggedMessage, Target};
use crate::base::{Lsn, QueueId, StoredMessage, Time, limits};
use crate::log::{
    BatchWriter, DiskRequest, FileNumber, Found, Located, Log, Placed, RECORD_OVERHEAD, ReadId,
    Record, Room, Stretch,
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
    /// What was settled since the last batch.
    settled: Vec<Run>,
    /// What was purged, and which messages must be in the log or dropped before that is said there.
    purged: Vec<(Lsn, Run)>,
    /// Other records without contents, for the next batch.
    marks: Vec<Mark>,
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
    requests: VecDeque<DiskRequest>,
    next_volatile: u64,
    /// The batch that says that the log was opened is durable, or need not be written.
    is_open: bool,
    /// A queue waits for a message that is not in a batch yet.
    is_wanted: bool,
    /// The broker stops in order: that is to be the last record.
    finishing: bool,
    /// It is, in what was sealed so far.
    says_clean: bool,
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

#[derive(Clone, Copy, Debug)]
enum Mark {
    Flagged(Run),
    /// Its count is not of positions: so often a message came back.
    Returned(Run),
    Started,
}

/// A publisher that is to be told that its publishes up to a number are settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiter {
    pub(super) publisher: Publisher,
    pub(super) upto: u64,
}

/// What a read is for.
#[derive(Debug)]
enum Reading {
    PageIn(QueueId, Lsn, Stretch),
    Letter(Stretch),
    Ahead(Stretch),
    Rewrite(Stretch),
}

/// What came of a read.
pub(super) enum Fetched {
    /// For a queue that waits for the message of that number, and for what stands behind it.
    Pages(QueueId, Lsn, Stretch),
    /// For the first dead letter that waits for it.
    Letters(Stretch),
    /// For delayed messages that will soon be due.
    Ahead(Stretch),
    /// Messages whose survivors are to be written again.
    Survivors(Stretch),
}

/// The most bytes that a run takes in a batch.
const RUN_LEN: usize = 40;
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
            settled: Vec::new(),
            purged: Vec::new(),
            marks: if is_new { vec![] } else { vec![Mark::Started] },
            waiting: VecDeque::new(),
            closed_waiters: 0,
            room: None,
            since: None,
            reads: HashMap::new(),
            next_read: 0,
            requests: VecDeque::new(),
            next_volatile: 0,
            is_open: is_new,
            is_wanted: false,
            finishing: false,
            says_clean: false,
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

    /// Whether everything is durable that was taken in.
    pub(super) fn is_durable(&self) -> bool {
        self.log.upcoming_lsn() <= self.log.durable_lsn()
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
            self.log.forget(lsn);
        }
        if queue.is_durable() {
            self.note(queue, position, 1, now);
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
        self.purged.push((self.log.upcoming_lsn(), run));
        self.since.get_or_insert(now);
    }

    /// Notes that these positions of a queue are done with.
    fn note(&mut self, queue: LogQueue, first: u64, count: u64, now: Time) {
        let run = Run {
            queue,
            first,
            count,
        };
        add_run(&mut self.settled, run);
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
            self.log.forget(lsn);
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
        if self.finishing {
            return;
        }
        // A log that was never used needs no mark, unless another core's last letter comes here yet.
        self.says_clean = self.log.used() == 0 && self.is_quiet();
        self.finishing = true;
        self.log.finish();
        let mut runs: Vec<Run> = Vec::new();
        for (queue, first, returns) in flagged {
            let run = Run {
                queue,
                first,
                count: 1,
            };
            if returns > 0 {
                let count = u64::from(returns);
                self.marks.push(Mark::Returned(Run { count, ..run }));
            }
            add_run(&mut runs, run);
        }
        self.marks.extend(runs.into_iter().map(Mark::Flagged));
    }

    /// Whether everything is written.
    pub(super) fn is_quiet(&self) -> bool {
        let is_written = self.pending.is_empty() && self.notes_len() == 0;
        is_written && !self.log.is_writing() && !self.log.is_finishing()
    }

    /// When [`Journal::next_commit`] has something to write that it doesn't have yet.
    pub(super) fn next_timer(&self) -> Option<Time> {
        self.log.next_timer(self.since.map(|since| since + RIDE))
    }

    /// How large a buffer the next batch needs, if it is time for one.
    pub(super) fn next_commit(&mut self, now: Time) -> Option<usize> {
        if self.log.is_writing() || self.room.is_some() {
            return None;
        }
        self.log.replenish(now);
        self.drop_settled();
        let notes = self.notes_len();
        let is_empty = self.pending.is_empty() && notes == 0;
        let durable = self.log.durable_lsn();
        let due = if is_empty {
            self.log.wants_closing(now)
        } else {
            !self.marks.is_empty()
                || self.finishing
                || self.is_wanted
                || self.waiting.back().is_some_and(|(lsn, _)| *lsn > durable)
                || self.pending_bytes + notes >= RIDE_BYTES
                || self.since.is_some_and(|since| now >= since + RIDE)
        };
        if !due {
            return None;
        }
        let first = self.pending.front().map_or(0, |pending| pending.len);
        let room = self.log.room(notes + first, 1, now).or_else(|| {
            // A file is kept in reserve for what gives space back. Publishes may come along with it.
            let gives_back = notes > 0 || is_empty || self.pending_again > 0;
            let least = if notes > 0 { notes } else { first };
            gives_back.then(|| self.log.room(least, 0, now)).flatten()
        })?;
        self.room = Some(room);
        let wanted = notes + self.pending_bytes.min(limits::BATCH_BYTES_MAX).max(first);
        Some(room.buffer_len(wanted.min(room.records)))
    }

    /// The most bytes that the records take that are no messages.
    fn notes_len(&self) -> usize {
        let notes = self.settled.len() + self.purged.len() + self.marks.len();
        // The mark of a clean stop is due until it stands, and again behind whatever comes after it.
        let is_mark_due = notes > 0 || !self.pending.is_empty() || !self.says_clean;
        (notes + usize::from(self.finishing && is_mark_due)) * RUN_LEN
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
            if self.notes_len() == 0 {
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
        let mut left = room.records_in(buffer.len()) - self.notes_len();
        let first_lsn = self.first_pending;
        let mut writer = self.log.begin(&room, first_lsn, buffer);
        let mut live = 0;
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.len <= left) {
            let targets = pending.targets();
            let count = targets.clone().count() as u64;
            if count > 0 {
                let message = pending.message.as_ref();
                let payload = record::message_len(&message, targets.clone());
                writer.begin_numbered(MESSAGE, self.first_pending, payload);
                record::write_message(&mut writer, &message, targets);
                live += count;
                left -= pending.len;
            }
            self.passed(&pending);
        }
        // Behind the messages: what was settled may stand in this very batch.
        for run in self.settled.drain(..) {
            run.write(SETTLED, &mut writer);
        }
        let sealed_upto = self.first_pending;
        self.purged.retain(|(lsn, run)| {
            let waits = *lsn > sealed_upto;
            if !waits {
                run.write(SETTLED, &mut writer);
            }
            waits
        });
        for mark in self.marks.drain(..) {
            mark.write(&mut writer);
        }
        // That the broker has stopped is the last thing to be said, again if something else came behind.
        let is_last = self.finishing && self.pending.is_empty();
        if is_last && !(self.says_clean && writer.is_empty()) {
            writer.begin(CLEAN, 0);
        }
        self.says_clean = is_last;
        self.since = (!self.pending.is_empty() || !self.purged.is_empty()).then_some(now);
        self.closed_waiters = self.waiting.len();
        self.is_wanted = false;
        let lsns = (first_lsn, self.first_pending);
        Some(self.log.seal(room, writer, lsns, live, now))
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

    /// What the disk is to do next.
    pub(super) fn next_request(&mut self) -> Option<DiskRequest> {
        self.log
            .next_request()
            .or_else(|| self.requests.pop_front())
    }

    /// Has a message read that a queue wants back, if it is there.
    pub(super) fn fetch(&mut self, queue: QueueId, lsn: Lsn) -> Located {
        self.find_and_read(lsn, |stretch| Reading::PageIn(queue, lsn, stretch))
    }

    /// The same for a message that is to be dead-lettered.
    pub(super) fn fetch_letter(&mut self, lsn: Lsn) -> Located {
        self.find_and_read(lsn, Reading::Letter)
    }

    /// The same, for a delayed message that will soon be due.
    pub(super) fn fetch_ahead(&mut self, lsn: Lsn) -> Located {
        self.find_and_read(lsn, Reading::Ahead)
    }

    fn find_and_read(&mut self, lsn: Lsn, purpose: impl FnOnce(Stretch) -> Reading) -> Located {
        let located = self.log.locate(lsn);
        match located {
            Located::Here(stretch) => self.read(stretch, purpose(stretch)),
            Located::NotYet => self.is_wanted = true,
            Located::Nowhere => {}
        }
        located
    }

    fn read(&mut self, stretch: Stretch, purpose: Reading) {
        let read = ReadId(self.next_read);
        self.next_read += 1;
        self.reads.insert(read, purpose);
        self.requests.push_back(DiskRequest::Read {
            read,
            file: stretch.file,
            offset: stretch.offset,
            len: stretch.len,
        });
    }

    /// Has the next piece of the oldest segment read, if its survivors are to be written again.
    pub(super) fn rewrite(&mut self, now: Time) {
        let mut reads = self.reads.values();
        let is_due = self.log.is_rewriting() || self.log.wants_rewriting(now);
        if !is_due
            || self.finishing
            || self.is_overfull()
            || self.log.is_full()
            || reads.any(|read| matches!(read, Reading::Rewrite(_)))
        {
            return;
        }
        if let Some(stretch) = self.log.next_to_rewrite(now) {
            self.read(stretch, Reading::Rewrite(stretch));
        }
    }

    /// What a read was for; none if that is no matter any more. After the mark of a clean stop nothing
    /// may be written, not even again.
    pub(super) fn fetched(&mut self, read: ReadId) -> Option<Fetched> {
        match self.reads.remove(&read)? {
            Reading::PageIn(queue, lsn, stretch) => Some(Fetched::Pages(queue, lsn, stretch)),
            Reading::Letter(stretch) => Some(Fetched::Letters(stretch)),
            Reading::Ahead(stretch) => Some(Fetched::Ahead(stretch)),
            Reading::Rewrite(stretch) => (!self.finishing).then_some(Fetched::Survivors(stretch)),
        }
    }

    /// Hands over the messages of a stretch that was read: LSN, and the message. Whether all of it was
    /// as it had been written.
    pub(super) fn messages(
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

/// Adds a run, to the last one if it goes on from there.
fn add_run(runs: &mut Vec<Run>, run: Run) {
    let extended = runs.last_mut().is_some_and(|last| last.extend(run));
    if !extended {
        runs.push(run);
    }
}

impl Mark {
    fn write(&self, writer: &mut BatchWriter<'_>) {
        match self {
            Self::Flagged(run) => run.write(FLAGGED, writer),
            Self::Returned(run) => run.write(RETURNED, writer),
            Self::Started => writer.begin(STARTED, 0),
        }
    }
}
