//! Publisher confirms of a channel: which numbers may be acknowledged to the client.
//!
//! Each core that got publishes reports how far it has settled them. Everything below the lowest
//! report of a core that still owes one is settled everywhere.

use crate::base::CoreId;

/// The state of a channel's confirms.
#[derive(Default)]
pub(super) struct Confirms {
    /// The number of the last publish.
    published: u64,
    /// The number up to which the client was told.
    acknowledged: u64,
    cores: Vec<Progress>,
}

/// One core's part.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// The last number that was sent there.
    sent: u64,
    /// The last number that is settled there.
    settled: u64,
}

impl Confirms {
    /// The number of the next publish.
    pub(super) fn next(&mut self) -> u64 {
        self.published += 1;
        self.published
    }

    /// The publish with this number went to `core`.
    pub(super) fn sent(&mut self, core: CoreId, number: u64) {
        if self.cores.len() <= core.index() {
            self.cores.resize(core.index() + 1, Progress::default());
        }
        let progress = &mut self.cores[core.index()];
        if progress.settled >= progress.sent {
            // It owed nothing, so nothing below this number is its to settle.
            progress.settled = number - 1;
        }
        progress.sent = number;
    }

    /// `core` has settled everything up to this number.
    pub(super) fn settled(&mut self, core: CoreId, upto: u64) {
        if let Some(progress) = self.cores.get_mut(core.index()) {
            progress.settled = progress.settled.max(upto);
        }
    }

    /// Whether every publish is settled.
    pub(super) fn all_settled(&self) -> bool {
        self.settled_upto() == self.published
    }

    /// The number to acknowledge up to, and whether that is more than one, if there is news.
    pub(super) fn acknowledge(&mut self) -> Option<(u64, bool)> {
        let upto = self.settled_upto();
        let news = upto - self.acknowledged;
        if news == 0 {
            return None;
        }
        self.acknowledged = upto;
        Some((upto, news > 1))
    }

    fn settled_upto(&self) -> u64 {
        self.cores
            .iter()
            .filter(|progress| progress.settled < progress.sent)
            .map(|progress| progress.settled)
            .min()
            .unwrap_or(self.published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_acknowledged_past_what_a_core_still_owes() {
        let mut confirms = Confirms::default();
        let (a, b) = (CoreId(0), CoreId(3));
        for core in [a, b, a, b] {
            let number = confirms.next();
            confirms.sent(core, number);
        }
        assert_eq!(confirms.acknowledge(), None);
        confirms.settled(b, 4);
        assert_eq!(confirms.acknowledge(), None, "core a owes number 1");
        confirms.settled(a, 1);
        assert_eq!(confirms.acknowledge(), Some((1, false)));
        confirms.settled(a, 3);
        assert_eq!(confirms.acknowledge(), Some((4, true)));
        assert_eq!(confirms.acknowledge(), None);
        assert!(confirms.all_settled());
    }

    #[test]
    fn a_message_that_went_nowhere_is_settled_at_once() {
        let mut confirms = Confirms::default();
        confirms.next();
        assert_eq!(confirms.acknowledge(), Some((1, false)));
        let number = confirms.next();
        confirms.sent(CoreId(0), number);
        confirms.next();
        assert_eq!(confirms.acknowledge(), None, "number 2 is under way");
        confirms.settled(CoreId(0), 2);
        assert_eq!(confirms.acknowledge(), Some((3, true)));
    }
}
