//! How much a core has to do, in messages: what it takes in and gives out, its own mail counted both ways. So two
//! cores can be compared, whoever of them parses, queues or writes.

use crate::base::{Time, limits};

/// A core's count, by intervals of [`limits::LOAD_INTERVAL`].
#[derive(Default)]
pub(super) struct Load {
    began: Time,
    /// In the interval before.
    before: u64,
    /// In this one so far.
    current: u64,
}

impl Load {
    /// So many messages were taken in or given out.
    #[inline]
    pub(super) fn count(&mut self, messages: usize) {
        self.current += messages as u64;
    }

    /// Messages since the interval before this one began.
    pub(super) fn recent(&mut self, now: Time) -> u64 {
        let age = now.since(self.began);
        if age >= limits::LOAD_INTERVAL {
            let is_next = age < 2 * limits::LOAD_INTERVAL;
            self.before = if is_next { self.current } else { 0 };
            self.current = 0;
            self.began = now;
        }
        self.before + self.current
    }
}

/// Whether a core with so much to do takes in what another would be rid of, with so much to do as well: as long as
/// there is room, or not much more to do than there.
pub(super) fn has_room(own: u64, others: u64) -> bool {
    own <= limits::LOAD_FREE.max(2 * others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let mut load = Load::default();
        let mut now = Time(1);
        load.count(5);
        assert_eq!(load.recent(now), 5);
        now = now + limits::LOAD_INTERVAL;
        assert_eq!(load.recent(now), 5, "the interval before");
        load.count(3);
        assert_eq!(load.recent(now), 8);
        now = now + limits::LOAD_INTERVAL;
        assert_eq!(load.recent(now), 3);
        now = now + 5 * limits::LOAD_INTERVAL;
        load.count(4);
        assert_eq!(load.recent(now), 0, "nobody looked: some of it may be old");
    }

    #[test]
    fn a_core_takes_in_while_there_is_room_or_more_to_do_elsewhere() {
        let much = 10 * limits::LOAD_FREE;
        assert!(has_room(0, 0));
        assert!(has_room(limits::LOAD_FREE, 0));
        assert!(!has_room(much, 0));
        assert!(!has_room(much, much / 3));
        assert!(has_room(much, much / 2));
        assert!(has_room(much, 10 * much));
    }
}
