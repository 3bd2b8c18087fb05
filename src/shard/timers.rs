//! When queues want to be looked at: messages expire, and queues that nobody uses (`x-expires`).

use std::collections::BTreeSet;

use super::{Shard, ShardContext, find};
use crate::base::{QueueId, Time, limits};
use crate::model::queue::NEVER;

/// Each queue stands here once at most, at the earliest time that it wants.
#[derive(Default)]
pub(super) struct Timers {
    due: BTreeSet<(Time, QueueId)>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Time> {
        self.due.first().map(|(time, _)| *time)
    }
}

impl Shard {
    /// Has a queue looked at, at that time at the latest.
    pub(super) fn look_after_at(&mut self, id: QueueId, time: Time) {
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        if let Some(due) = owned.due {
            if due <= time {
                return;
            }
            self.timers.due.remove(&(due, id));
        }
        owned.due = Some(time);
        self.timers.due.insert((time, id));
    }

    /// A message came that expires then, in milliseconds since 1970.
    pub(super) fn look_after_at_ms(&mut self, id: QueueId, expires: u64) {
        if expires == NEVER {
            return;
        }
        let delays = self.owned(id).is_some_and(|owned| owned.queue.delays());
        let early = match delays && self.ahead.room() > 0 {
            true => limits::DELAYS_AHEAD_MS,
            false => 0,
        };
        self.look_after_at(id, self.clock.time(expires.saturating_sub(early)));
    }

    /// Looks at the queues whose time has come.
    pub fn expire(&mut self, now: Time, context: &mut ShardContext<'_>) {
        self.now = now;
        // Those that want to be looked at again have their turn the next time.
        let rest = self.timers.due.split_off(&(Time(now.0 + 1), FIRST));
        for (_, id) in std::mem::replace(&mut self.timers.due, rest) {
            self.look_after(id, context);
        }
        self.journal.retry_reads(now);
        self.release_delayed();
        self.read_ahead();
        self.send_letters(context);
    }

    fn look_after(&mut self, id: QueueId, context: &mut ShardContext<'_>) {
        let (now, now_ms) = (self.now, self.now_ms());
        let is_full = self.dead_letters.is_full();
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        owned.due = None;
        if is_full {
            self.dead_letters.hold(id);
        } else if owned.queue.delays() {
            self.take_ahead(id);
        } else {
            let is_done = owned.queue.expire(now_ms, limits::DEAD_LETTERS_MAX)
                && owned.queue.shorten(limits::DEAD_LETTERS_MAX);
            owned.account(&mut self.memory);
            let next = match is_done {
                true => owned.queue.next_expiry(),
                false => now_ms,
            };
            self.gather(id);
            self.look_after_at_ms(id, next);
            self.retry_letters(id);
        }
        self.expire_queue(id, now, context);
    }

    /// Proposes a queue for deletion that wasn't used for as long as it may be.
    fn expire_queue(&mut self, id: QueueId, now: Time, context: &mut ShardContext<'_>) {
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        let expires = owned.queue.rules().and_then(|rules| rules.expires());
        let Some(expires) = expires else { return };
        if owned.frozen || owned.queue.consumer_count() > 0 {
            return;
        }
        let at = owned.unused_since + expires;
        if at <= now {
            owned.frozen = true;
            let touched = context.topology.queue_touches(id);
            Self::propose(id, touched, None, context);
        } else {
            self.look_after_at(id, at);
        }
    }

    /// A queue is used, or was until now: by a consumer, by `basic.get`, by who declares it.
    pub(super) fn used(&mut self, id: QueueId) {
        let now = self.now;
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        if let Some(expires) = owned.queue.rules().and_then(|rules| rules.expires()) {
            owned.unused_since = now;
            self.look_after_at(id, now + expires);
        }
    }
}

/// Comes before every queue.
const FIRST: QueueId = QueueId {
    index: 0,
    generation: 0,
};
