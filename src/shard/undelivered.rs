//! Dead letters that not everybody has taken who should, of queues that keep them until then
//! (`x-dead-letter-strategy: at-least-once`): they are tried again from time to time.
//!
//! ```text
//!                           ┌──────────── when it is time ────────────┐
//!                           ▼                                         │
//! fallen ─► (dead_letters: waiting ─► sent) ─► refused, or nowhere ─► undelivered
//!                                          └─► taken by all ─► forgotten
//! ```
//!
//! Each keeps its slot in its queue and nothing more, if the log has its message: that is read again. After a
//! start it waits in its queue as before it fell, as after a crash.

use std::collections::VecDeque;

use super::{Shard, find};
use crate::base::{QueueId, Time, limits};
use crate::model::queue::Letter;

/// Those of one queue.
#[derive(Default)]
pub(super) struct Undelivered {
    /// When each is to be tried again, the first one first.
    letters: VecDeque<(Time, Letter)>,
}

impl Undelivered {
    /// All are to be tried again now.
    pub(super) fn hasten(&mut self, now: Time) {
        for (due, _) in &mut self.letters {
            *due = now;
        }
    }
}

impl Shard {
    /// All that a letter was sent to have settled it, which is nobody if it led nowhere.
    pub(super) fn conclude_letter(&mut self, id: QueueId, letter: Letter, is_refused: bool) {
        let is_owed = letter
            .taken_by
            .as_ref()
            .is_some_and(|taken_by| is_refused || taken_by.is_empty());
        let due = self.now + limits::LETTER_RETRY;
        match find(&mut self.queues, id) {
            Some(owned)
                if is_owed && owned.queue.rules().is_some_and(|rules| rules.keeps_letters) =>
            {
                let undelivered = owned.undelivered.get_or_insert_default();
                undelivered.letters.push_back((due, letter));
                self.look_after_at(id, due);
            }
            _ => self.forget_letter(id, &letter),
        }
    }

    /// Sends those letters of a queue again of which it is time, as far as there is room.
    pub(super) fn retry_letters(&mut self, id: QueueId) {
        let now = self.now;
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        let Some(undelivered) = &mut owned.undelivered else {
            return;
        };
        while !self.dead_letters.is_full()
            && let Some((_, mut letter)) = undelivered.letters.pop_front_if(|(due, _)| *due <= now)
        {
            letter.message = owned.queue.letter_message(&letter);
            self.dead_letters.push(id, letter);
        }
        match undelivered.letters.front() {
            Some((due, _)) if *due <= now => self.dead_letters.hold(id),
            Some((due, _)) => {
                let due = *due;
                self.look_after_at(id, due);
            }
            None => owned.undelivered = None,
        }
    }

    /// A letter is where it should be, or can't get there.
    pub(super) fn forget_letter(&mut self, id: QueueId, letter: &Letter) {
        if let Some(owned) = find(&mut self.queues, id) {
            let gone = owned.queue.forget_letter(letter);
            owned.forget(gone, &mut self.journal, self.now);
            owned.account(&mut self.memory);
        }
    }
}
