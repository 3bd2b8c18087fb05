//! Messages that wait and that only the log holds: eight bytes each, by position, and eight more where
//! they expire at different times, and four where their bodies differ in length.
//!
//! A queue that grows beyond its memory keeps its head, and these behind it. After a start all of a
//! queue is here.

use std::collections::VecDeque;
use std::ops::Range;

use crate::base::Lsn;

/// Positions that a page spans.
const SPAN: u64 = 1024;
/// Set in the slot of a message that was delivered before.
const REDELIVERED: u64 = 1 << 63;
/// The slot of a position at which no message waits.
const NOBODY: u64 = 0;

/// A message that waits in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paged {
    /// Its place in the queue.
    pub position: u64,
    /// Where the log has it.
    pub lsn: Lsn,
    /// When it is to go, in milliseconds since 1970, or [`NEVER`](super::NEVER).
    pub expires: u64,
    /// Bytes of its body.
    pub body_len: u32,
    /// Whether it was delivered before.
    pub redelivered: bool,
}

impl Paged {
    fn slot(self) -> u64 {
        self.lsn.0 | if self.redelivered { REDELIVERED } else { 0 }
    }
}

/// Messages that wait in the log, in order.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: VecDeque<Page>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Page {
    /// Position of the first slot.
    first: u64,
    slots: Vec<u64>,
    expires: Column<u64>,
    body_len: Column<u32>,
    live: usize,
}

/// Something of each slot; as long as it is the same of all, nothing of each.
#[derive(Clone, Debug)]
struct Column<T> {
    usual: T,
    /// Of the first slots; of the others it is as usual.
    each: Vec<T>,
}

impl Pages {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a message at its place; one that is there already is replaced.
    pub fn insert(&mut self, paged: Paged) {
        let Paged { position, .. } = paged;
        let at = self.page_before(position);
        let fits = at.is_some_and(|at| position - self.pages[at].first < SPAN);
        let at = if fits {
            at.unwrap_or(0)
        } else {
            let at = at.map_or(0, |at| at + 1);
            let first = position;
            let page = Page {
                first,
                slots: Vec::new(),
                expires: Column::new(paged.expires),
                body_len: Column::new(paged.body_len),
                live: 0,
            };
            self.pages.insert(at, page);
            at
        };
        // A page that begins later than it might doesn't reach into the next one.
        let page = &mut self.pages[at];
        let slot = (position - page.first) as usize;
        if page.slots.len() <= slot {
            page.slots.resize(slot + 1, NOBODY);
        }
        if page.slots[slot] == NOBODY {
            page.live += 1;
            self.len += 1;
        }
        page.slots[slot] = paged.slot();
        page.expires.set(slot, paged.expires);
        page.body_len.set(slot, paged.body_len);
    }

    /// Takes the message at that position away, if there is one.
    pub fn remove(&mut self, position: u64) -> Option<Paged> {
        let at = self.page_before(position)?;
        let page = &mut self.pages[at];
        let slot = (position - page.first) as usize;
        let paged = page.at(slot)?;
        page.slots[slot] = NOBODY;
        page.live -= 1;
        self.len -= 1;
        if page.live == 0 {
            self.pages.remove(at);
        }
        Some(paged)
    }

    /// Takes all messages of these positions away.
    pub fn remove_range(&mut self, positions: Range<u64>) {
        let mut at = self.page_before(positions.start).unwrap_or(0);
        while let Some(page) = self.pages.get_mut(at)
            && page.first < positions.end
        {
            let from = positions.start.saturating_sub(page.first);
            let to = (positions.end - page.first).min(page.slots.len() as u64);
            let slots = page.slots.get_mut(from as usize..to as usize);
            let taken = slots.map_or(0, |slots| {
                let taken = slots.iter().filter(|slot| **slot != NOBODY).count();
                slots.fill(NOBODY);
                taken
            });
            page.live -= taken;
            self.len -= taken;
            if page.live == 0 {
                self.pages.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Says of the messages of these positions, and of no others, that they were delivered before.
    pub fn set_redelivered(&mut self, positions: &[Range<u64>]) {
        for page in &mut self.pages {
            for slot in &mut page.slots {
                *slot &= !REDELIVERED;
            }
        }
        for range in positions {
            let mut at = self.page_before(range.start).unwrap_or(0);
            while let Some(page) = self.pages.get_mut(at)
                && page.first < range.end
            {
                for (position, slot) in (page.first..).zip(&mut page.slots) {
                    if *slot != NOBODY && range.contains(&position) {
                        *slot |= REDELIVERED;
                    }
                }
                at += 1;
            }
        }
    }

    /// The first message.
    pub fn front(&self) -> Option<Paged> {
        self.pages.front()?.messages().next()
    }

    /// Takes the first message.
    pub fn pop_front(&mut self) -> Option<Paged> {
        let front = self.front()?;
        let page = self.pages.front_mut()?;
        page.live -= 1;
        self.len -= 1;
        if page.live == 0 {
            self.pages.pop_front();
        } else {
            let passed = (front.position - page.first) as usize;
            page.slots[passed] = NOBODY;
            page.drop_front(passed + 1);
        }
        Some(front)
    }

    /// The message at that position.
    pub fn get(&self, position: u64) -> Option<Paged> {
        let page = &self.pages[self.page_before(position)?];
        page.at((position - page.first) as usize)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Paged> {
        self.pages.iter().flat_map(Page::messages)
    }

    /// The last page that begins at `position` or before.
    fn page_before(&self, position: u64) -> Option<usize> {
        let last = self.pages.len().checked_sub(1)?;
        if self.pages[last].first <= position {
            return Some(last);
        }
        let after = self.pages.partition_point(|page| page.first <= position);
        after.checked_sub(1)
    }
}

impl Page {
    /// The message in a slot.
    fn at(&self, slot: usize) -> Option<Paged> {
        let word = *self.slots.get(slot)?;
        (word != NOBODY).then(|| Paged {
            position: self.first + slot as u64,
            lsn: Lsn(word & !REDELIVERED),
            expires: self.expires.get(slot),
            body_len: self.body_len.get(slot),
            redelivered: word & REDELIVERED != 0,
        })
    }

    fn messages(&self) -> impl Iterator<Item = Paged> {
        (0..self.slots.len()).filter_map(|slot| self.at(slot))
    }

    /// Forgets slots at the front once they are worth the move.
    fn drop_front(&mut self, passed: usize) {
        const WORTH_IT: usize = 64;
        if passed >= WORTH_IT {
            self.slots.drain(..passed);
            self.expires.drop_front(passed);
            self.body_len.drop_front(passed);
            self.first += passed as u64;
        }
    }
}

impl<T: Copy + PartialEq> Column<T> {
    fn new(usual: T) -> Self {
        Self {
            usual,
            each: Vec::new(),
        }
    }

    fn get(&self, slot: usize) -> T {
        self.each.get(slot).copied().unwrap_or(self.usual)
    }

    fn set(&mut self, slot: usize, value: T) {
        if value == self.usual && self.each.is_empty() {
            return;
        }
        if self.each.len() <= slot {
            self.each.resize(slot + 1, self.usual);
        }
        self.each[slot] = value;
    }

    fn drop_front(&mut self, slots: usize) {
        self.each.drain(..slots.min(self.each.len()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::queue::NEVER;

    proptest! {
        #[test]
        fn pages_agree_with_a_map(
            operations in prop::collection::vec((0u8..6, 0u64..5000, any::<bool>()), 0..400),
        ) {
            let (mut pages, mut map) = (Pages::default(), BTreeMap::new());
            let mut last = 0;
            for (number, (operation, position, redelivered)) in operations.into_iter().enumerate() {
                let lsn = Lsn(number as u64 + 1);
                let expires = if position % 3 == 0 { position } else { NEVER };
                let body_len = if position % 700 == 0 { 9 } else { 5 };
                match operation {
                    0 => {
                        last += position % 3;
                        let paged = Paged { position: last, lsn, expires, body_len, redelivered };
                        pages.insert(paged);
                        map.insert(last, paged);
                    }
                    1 => {
                        let paged = Paged { position, lsn, expires, body_len, redelivered };
                        pages.insert(paged);
                        map.insert(position, paged);
                    }
                    2 if redelivered => {
                        let range = position..position + number as u64 * 7;
                        pages.remove_range(range.clone());
                        map.retain(|position, _| !range.contains(position));
                    }
                    3 => {
                        let range = position..position + number as u64 * 7;
                        pages.set_redelivered(std::slice::from_ref(&range));
                        for (position, paged) in &mut map {
                            paged.redelivered = range.contains(position);
                        }
                    }
                    2 => prop_assert_eq!(pages.remove(position), map.remove(&position)),
                    _ => prop_assert_eq!(
                        pages.pop_front(),
                        map.pop_first().map(|(_, paged)| paged)
                    ),
                }
                prop_assert_eq!(pages.len(), map.len());
                prop_assert_eq!(pages.front(), map.values().next().copied());
                prop_assert_eq!(pages.get(position), map.get(&position).copied());
            }
            prop_assert!(pages.iter().eq(map.into_values()));
        }
    }
}
