//! The oracle: knows of every message in every queue what may, must and must not happen to it, and counts what did.
//!
//! A message of a queue goes through
//!
//! ```text
//! published --confirmed--> must come --delivered and acknowledged--> may come --a later confirm--> must not come
//!     |                                                                                              ^
//!     +---- may come ---- was not there after a restart ---------------------------------------------+
//! ```
//! One that was there after a restart must be there after the next: it was read from the disk.

use crate::load::{Id, Receipt};
use std::fmt;

/// Handed to a publisher's socket.
const PUBLISHED: u8 = 1;
/// It must come.
const OWED: u8 = 2;
/// It has come at least once.
const DELIVERED: u8 = 4;
/// Its ack was sent: from then on it may come.
const ACKED: u8 = 8;
/// It must not come.
const GONE: u8 = 16;
/// It has come since the last restart.
const SEEN: u8 = 32;
/// Its ack was answered in this life, and no confirm followed yet.
const DRAINED: u8 = 64;

/// What should never happen, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Owed, and not there.
    pub(crate) lost: u64,
    /// The body is not one of ours, bit for bit.
    pub(crate) corrupt: u64,
    /// Nobody published it to this queue.
    pub(crate) unknown: u64,
    /// Gone, and back.
    pub(crate) resurrected: u64,
    /// Twice in one queue.
    pub(crate) doubled: u64,
    /// Behind a later message of its publisher.
    pub(crate) misplaced: u64,
    /// Recovered after a kill without the redelivered flag.
    pub(crate) unflagged: u64,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            corrupt,
            unknown,
            resurrected,
            doubled,
            misplaced,
            unflagged,
        } = self;
        write!(
            f,
            "lost {lost} | corrupt {corrupt} | unknown {unknown} | resurrected {resurrected} | \
             doubled {doubled} | misplaced {misplaced} | unflagged {unflagged}"
        )
    }
}

/// Where a delivery comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A queue that was recovered, read from its head to its end.
    Recovered,
    /// A queue under load.
    Live,
}

/// One queue's account.
pub(crate) struct Ledger {
    /// By publisher.
    tracks: Vec<Track>,
    pub(crate) faults: Faults,
}

#[derive(Clone, Default)]
struct Track {
    /// All sequences below are gone.
    base: u32,
    marks: Vec<u8>,
    /// Of the deliveries since the last restart.
    last: Option<u32>,
    /// Of the first deliveries.
    last_first: Option<u32>,
}

impl Ledger {
    pub(crate) fn new(publishers: usize) -> Self {
        Self {
            tracks: vec![Track::default(); publishers],
            faults: Faults::default(),
        }
    }

    pub(crate) fn published(&mut self, id: Id, confirmed: bool) {
        let track = &mut self.tracks[usize::from(id.publisher)];
        if track.marks.is_empty() {
            track.base = id.sequence;
        }
        track
            .marks
            .resize((id.sequence - track.base) as usize + 1, 0);
        let owed = if confirmed { OWED } else { 0 };
        *track.marks.last_mut().expect("it was just made") = PUBLISHED | owed;
    }

    pub(crate) fn delivered(&mut self, receipt: Receipt, source: Source) {
        let faults = &mut self.faults;
        let Some(id) = receipt.id else {
            faults.corrupt += 1;
            return;
        };
        let Some(track) = self.tracks.get_mut(usize::from(id.publisher)) else {
            faults.unknown += 1;
            return;
        };
        let Some(place) = id.sequence.checked_sub(track.base) else {
            faults.resurrected += 1;
            return;
        };
        let Some(mark) = track.marks.get_mut(place as usize) else {
            faults.unknown += 1;
            return;
        };
        if *mark & PUBLISHED == 0 {
            faults.unknown += 1;
            return;
        }
        faults.resurrected += u64::from(*mark & GONE != 0);
        faults.doubled += u64::from(*mark & SEEN != 0);
        let is_first = *mark & DELIVERED == 0;
        *mark |= SEEN | DELIVERED;
        let mut is_behind = false;
        if source == Source::Recovered {
            faults.unflagged += u64::from(!receipt.redelivered);
            is_behind = track.last.is_some_and(|last| id.sequence < last);
            track.last = Some(id.sequence);
        }
        if is_first {
            is_behind |= track.last_first.is_some_and(|last| id.sequence < last);
            track.last_first = Some(id.sequence);
        }
        faults.misplaced += u64::from(is_behind);
    }

    /// A consumer sent an ack for this: whether the broker heard it is open.
    pub(crate) fn acknowledged(&mut self, id: Id) {
        let track = &mut self.tracks[usize::from(id.publisher)];
        let place = id.sequence.checked_sub(track.base);
        if let Some(mark) = place.and_then(|place| track.marks.get_mut(place as usize)) {
            *mark |= ACKED;
        }
    }

    /// The recovered queue was read to its end, and all of it acknowledged or all of it given back.
    pub(crate) fn drained(&mut self, acknowledged: bool) {
        for track in &mut self.tracks {
            for mark in track.marks.iter_mut().filter(|mark| **mark & GONE == 0) {
                let was_seen = *mark & SEEN != 0;
                let owed = *mark & (OWED | ACKED) == OWED;
                self.faults.lost += u64::from(owed && !was_seen);
                *mark = match (was_seen, acknowledged) {
                    (true, true) => PUBLISHED | DELIVERED | DRAINED,
                    (true, false) => PUBLISHED | DELIVERED | OWED,
                    (false, _) => *mark | GONE,
                };
            }
            track.last = None;
        }
    }

    /// The life in which this queue was drained is over. With a confirm behind them, the acks of the drain were logged.
    pub(crate) fn life_over(&mut self, was_confirmed: bool) {
        for track in &mut self.tracks {
            for mark in &mut track.marks {
                *mark &= !SEEN;
                if *mark & DRAINED != 0 {
                    *mark = (*mark & !DRAINED) | if was_confirmed { GONE } else { ACKED };
                }
            }
            // Not published here, or gone: nothing more to be known about it.
            let settled = |mark: &&u8| **mark == 0 || **mark & GONE != 0;
            let count = track.marks.iter().take_while(settled).count();
            track.marks.drain(..count);
            track.base += count as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u32) -> Id {
        Id {
            publisher: 0,
            sequence,
        }
    }

    fn receipt(sequence: u32) -> Receipt {
        Receipt {
            id: Some(id(sequence)),
            redelivered: true,
        }
    }

    /// A queue to which 0, 2, 4, 6 and 8 were published, the first three confirmed, before a kill.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2);
        for sequence in [0, 2, 4, 6, 8] {
            ledger.published(id(sequence), sequence <= 4);
        }
        ledger.life_over(true);
        ledger
    }

    fn faults_after(sequences: &[u32]) -> Faults {
        let mut ledger = ledger();
        recover(&mut ledger, sequences);
        ledger.drained(true);
        ledger.faults
    }

    fn recover(ledger: &mut Ledger, sequences: &[u32]) {
        for sequence in sequences {
            ledger.delivered(receipt(*sequence), Source::Recovered);
        }
    }

    #[test]
    fn all_that_was_confirmed_and_any_of_the_rest_is_right() {
        for sequences in [
            &[0, 2, 4][..],
            &[0, 2, 4, 6],
            &[0, 2, 4, 8],
            &[0, 2, 4, 6, 8],
        ] {
            assert_eq!(faults_after(sequences), Faults::default(), "{sequences:?}");
        }
    }

    #[test]
    fn each_fault_is_counted() {
        let expected = |change: fn(&mut Faults)| {
            let mut faults = Faults::default();
            change(&mut faults);
            faults
        };
        type Case = (&'static [u32], fn(&mut Faults));
        let cases: [Case; 7] = [
            (&[], |faults| faults.lost = 3),
            (&[0, 4, 6], |faults| faults.lost = 1),
            (&[0, 2, 4, 10], |faults| faults.unknown = 1),
            (&[0, 1, 2, 4], |faults| faults.unknown = 1),
            (&[0, 2, 2, 4], |faults| faults.doubled = 1),
            (&[0, 4, 2], |faults| faults.misplaced = 1),
            (&[0, 2, 4, 8, 6], |faults| faults.misplaced = 1),
        ];
        for (sequences, change) in cases {
            assert_eq!(faults_after(sequences), expected(change), "{sequences:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_ours_and_a_missing_flag_are_counted() {
        let mut ledger = ledger();
        let broken = Receipt {
            id: None,
            redelivered: true,
        };
        ledger.delivered(broken, Source::Recovered);
        let fresh = Receipt {
            redelivered: false,
            ..receipt(0)
        };
        ledger.delivered(fresh, Source::Recovered);
        let faults = &ledger.faults;
        assert_eq!((faults.corrupt, faults.unflagged), (1, 1));
    }

    #[test]
    fn what_a_consumer_acknowledged_may_come_back_or_not() {
        for comes_back in [true, false] {
            let mut ledger = Ledger::new(1);
            ledger.published(id(0), true);
            ledger.delivered(receipt(0), Source::Live);
            ledger.acknowledged(id(0));
            ledger.life_over(true);
            if comes_back {
                ledger.delivered(receipt(0), Source::Recovered);
            }
            ledger.drained(true);
            assert_eq!(ledger.faults, Faults::default());
        }
    }

    #[test]
    fn what_was_acknowledged_before_a_confirm_must_not_come_back() {
        for (was_confirmed, resurrected) in [(true, 3), (false, 0)] {
            let mut ledger = ledger();
            recover(&mut ledger, &[0, 2, 4]);
            ledger.drained(true);
            ledger.life_over(was_confirmed);
            recover(&mut ledger, &[0, 2, 4]);
            assert_eq!(ledger.faults.resurrected, resurrected);
        }
    }

    #[test]
    fn what_was_not_there_once_must_not_come_later() {
        let mut ledger = ledger();
        recover(&mut ledger, &[0, 2, 4]);
        ledger.drained(false);
        ledger.life_over(true);
        recover(&mut ledger, &[0, 2, 4, 6]);
        assert_eq!(ledger.faults.resurrected, 1);
    }

    #[test]
    fn what_was_recovered_and_given_back_must_come_again() {
        let mut ledger = ledger();
        recover(&mut ledger, &[0, 2, 4, 6]);
        ledger.drained(false);
        ledger.life_over(true);
        recover(&mut ledger, &[0, 2, 4]);
        ledger.drained(true);
        assert_eq!(ledger.faults.lost, 1);
    }

    #[test]
    fn sequences_go_on_when_all_before_them_is_forgotten() {
        let mut ledger = ledger();
        recover(&mut ledger, &[0, 2, 4]);
        ledger.drained(true);
        ledger.published(id(11), true);
        ledger.life_over(true);
        ledger.delivered(receipt(11), Source::Recovered);
        ledger.drained(true);
        assert_eq!(ledger.faults, Faults::default());
    }
}
