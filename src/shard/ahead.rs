//! Delayed messages whose time has nearly come: out of their queues already, so that those which only the
//! log holds have been read by then. They lie all over it: one read serves every one of them that it meets.
//!
//! ```text
//! delayed exchange's queue ─► letters, by time ─► (read from the log) ─► when it is time, dead_letters
//! ```
//!
//! For the log each of them is a delivery that is out: a crash brings it back with the time it had. What is due
//! already comes this way as well, so that none goes before another whose time came earlier.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Shard, find};
use crate::base::{QueueId, StoredMessage, Time, limits};
use crate::log::{Located, Stretch};
use crate::model::queue::Letter;

/// Letters that one look at a queue takes out: less than a millisecond's work.
const STEP: usize = 1024;

/// In milliseconds since 1970 when it is due, and its place: those of one millisecond go in the order in which they
/// came to their queue.
type Turn = (u64, QueueId, u64);

/// Letters that aren't due yet, or are about to go.
#[derive(Default)]
pub(super) struct Ahead {
    letters: BTreeMap<Turn, Letter>,
    /// Bytes of those messages that are in memory.
    bytes: usize,
    /// Those that aren't: when each is due, and by queue and position.
    unread: BTreeSet<Turn>,
    places: HashMap<(QueueId, u64), Turn>,
    is_reading: bool,
    /// The first that is to be read isn't durable yet.
    awaits_commit: bool,
    /// Queues that have more to give than there is room for.
    held: BTreeSet<QueueId>,
}

impl Ahead {
    /// When the first is due, in milliseconds since 1970.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.letters.first_key_value().map(|((due, ..), _)| *due)
    }

    /// How many more may come.
    pub(super) fn room(&self) -> usize {
        match self.bytes < limits::DELAYS_AHEAD_BYTES {
            true => limits::DELAYS_AHEAD_MAX.saturating_sub(self.letters.len()),
            false => 0,
        }
    }

    /// A queue has to wait for room.
    pub(super) fn hold(&mut self, queue: QueueId) {
        self.held.insert(queue);
    }

    /// A batch is durable: what stands in it can be read.
    pub(super) fn committed(&mut self) {
        self.awaits_commit = false;
    }

    /// Whether one waits for a batch, to be read.
    pub(super) fn awaits_commit(&self) -> bool {
        self.awaits_commit
    }

    /// A letter goes when it is due.
    pub(super) fn insert(&mut self, queue: QueueId, letter: Letter) {
        let turn = (letter.due_ms, queue, letter.position);
        match &letter.message {
            Some(message) => self.bytes += message.size(),
            None => {
                self.unread.insert(turn);
                self.places.insert((queue, letter.position), turn);
            }
        }
        self.letters.insert(turn, letter);
    }

    /// The message of a letter is in memory from now on.
    fn has(&mut self, turn: Turn, message: StoredMessage) {
        let (_, queue, position) = turn;
        self.unread.remove(&turn);
        self.places.remove(&(queue, position));
        if let Some(letter) = self.letters.get_mut(&turn) {
            self.bytes += message.size();
            letter.message = Some(message);
        }
    }

    /// The next one that is due, whether its message was read or not.
    fn pop_due(&mut self, now_ms: u64) -> Option<(QueueId, Letter)> {
        let first = self.letters.first_entry()?;
        if first.key().0 > now_ms {
            return None;
        }
        let (turn, letter) = first.remove_entry();
        let (_, queue, position) = turn;
        match &letter.message {
            Some(message) => self.bytes -= message.size(),
            None => {
                self.unread.remove(&turn);
                self.places.remove(&(queue, position));
            }
        }
        Some((queue, letter))
    }
}

impl Shard {
    /// Takes out of a delayed exchange's queue what will soon be due, some at a time; without room what is due.
    pub(super) fn take_ahead(&mut self, id: QueueId) {
        let now_ms = self.now_ms();
        let (until_ms, most) = match self.ahead.room() {
            0 => (now_ms, limits::DEAD_LETTERS_MAX),
            room => (now_ms + limits::DELAYS_AHEAD_MS, room.min(STEP)),
        };
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        owned.queue.expire(until_ms, most);
        owned.account(&mut self.memory);
        let next = owned.queue.next_expiry();
        self.gather(id);
        if self.ahead.room() == 0 {
            self.ahead.hold(id);
        }
        self.look_after_at_ms(id, next);
    }

    /// Hands over those letters whose time has come.
    pub(super) fn release_delayed(&mut self) {
        let now_ms = self.now_ms();
        while !self.dead_letters.is_full()
            && let Some((queue, letter)) = self.ahead.pop_due(now_ms)
        {
            self.dead_letters.push(queue, letter);
        }
        if self.ahead.room() >= STEP {
            for id in std::mem::take(&mut self.ahead.held) {
                self.look_after_at(id, self.now);
            }
        }
    }

    /// When that has to be done next.
    pub(super) fn next_delayed(&self) -> Option<Time> {
        let is_full = self.dead_letters.is_full();
        let due = self.ahead.next_due_ms().filter(|_| !is_full)?;
        Some(self.clock.time(due))
    }

    /// Has a piece of the log read, for the first letter whose message isn't in memory.
    pub(super) fn read_ahead(&mut self) {
        let ahead = &mut self.ahead;
        while !ahead.is_reading
            && !ahead.awaits_commit
            && ahead.bytes < limits::DELAYS_AHEAD_BYTES
            && let Some(turn) = ahead.unread.pop_first()
        {
            let Some(letter) = ahead.letters.get(&turn) else {
                continue;
            };
            // It may have been written again since it was taken out.
            let lsn = letter.slot.and_then(|slot| {
                let owned = find(&mut self.queues, turn.1)?;
                owned.queue.unsettled_lsn(slot)
            });
            // What can't be found is missed, and told of, when it is due.
            match lsn.map(|lsn| self.journal.fetch_ahead(lsn)) {
                Some(Located::Here(_)) => ahead.is_reading = true,
                Some(Located::NotYet) => match lsn.and_then(|lsn| self.journal.unwritten(lsn)) {
                    Some(message) => ahead.has(turn, message),
                    None => {
                        ahead.awaits_commit = true;
                        ahead.unread.insert(turn);
                    }
                },
                Some(Located::Nowhere) | None => {}
            }
        }
    }

    /// A piece of the log was read, and serves whoever is in it.
    pub(super) fn ahead_read(&mut self, stretch: &Stretch, bytes: Option<&[u8]>) {
        let (ahead, queues, logged) = (&mut self.ahead, &mut self.queues, &self.logged);
        ahead.is_reading = false;
        self.journal
            .messages(stretch, bytes.unwrap_or(&[]), |lsn, message| {
                for target in message.targets() {
                    let Some(id) = logged.get(&target.queue) else {
                        continue;
                    };
                    let place = (*id, target.position);
                    let turn = ahead.places.get(&place).copied();
                    let Some((turn, letter)) =
                        turn.and_then(|turn| Some((turn, ahead.letters.get(&turn)?)))
                    else {
                        continue;
                    };
                    // What its position held before the last start may stand there still.
                    let is_it = letter.slot.is_some_and(|slot| {
                        let owned = find(queues, *id);
                        owned.and_then(|owned| owned.queue.unsettled_lsn(slot)) == Some(lsn)
                    });
                    if is_it {
                        ahead.has(turn, message.store());
                    }
                }
            });
        self.read_ahead();
    }
}
