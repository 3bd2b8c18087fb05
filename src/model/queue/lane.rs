//! Messages of one priority that wait, in the order they came.
//!
//! Whatever goes back to the queue was taken from its head before, so its position is lower than that
//! of everything in the main line: it waits in a second, ordered line that is served first, and in the log only
//! if its message was dropped meanwhile. The main line has its head in memory and, if it is long, the rest in the
//! log.
//!
//! ```text
//!   returned.entries (in memory) ────────┬─► line (in memory) ─► pages (in the log only)
//!   returned.pages (in the log only) ────┘
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::pages::{Paged, Pages};
use crate::base::{Lsn, StoredMessage, limits};

/// The expiry of a message that doesn't expire.
pub const NEVER: u64 = u64::MAX;

/// A message that waits.
pub(super) struct Entry {
    /// Its place: the number of messages that came before it.
    pub(super) position: u64,
    /// Where the log has it, if it does.
    pub(super) lsn: Lsn,
    /// When it is to go if it waits still, in milliseconds since 1970, or [`NEVER`].
    pub(super) expires: u64,
    /// How often it came back.
    pub(super) returns: u32,
    /// Whether it was delivered before.
    pub(super) redelivered: bool,
    /// The message.
    pub(super) message: StoredMessage,
}

impl Entry {
    /// The same without its message.
    fn paged(&self) -> Paged {
        Paged {
            position: self.position,
            lsn: self.lsn,
            expires: self.expires,
            body_len: self.message.as_ref().body_len() as u32,
            redelivered: self.redelivered,
        }
    }
}

/// A message that was taken out of a lane.
pub(super) enum Removed {
    Entry(Entry),
    /// It was in the log only, and came back so often; [`Ready`](super::ready::Ready) knows that.
    Paged(Paged, u32),
}

impl Removed {
    pub(super) fn lsn(&self) -> Lsn {
        match self {
            Self::Entry(entry) => entry.lsn,
            Self::Paged(paged, _) => paged.lsn,
        }
    }
}

/// A place in the main line. One whose message left before its turn stays until it comes to the front,
/// or until most are such.
enum Place {
    Full(Entry),
    Vacant(u64),
}

impl Place {
    fn position(&self) -> u64 {
        match self {
            Self::Full(entry) => entry.position,
            Self::Vacant(position) => *position,
        }
    }
}

/// The lines.
#[derive(Default)]
pub(super) struct Lane {
    /// None as long as nothing came back.
    returned: Option<Box<Returned>>,
    /// Its first place is never vacant.
    line: VecDeque<Place>,
    vacant: usize,
    pages: Pages,
    /// Bytes of the messages in memory.
    bytes: usize,
    /// The latest expiry of all that came since the lane was empty.
    latest_expiry: u64,
}

/// What was taken from the line's head and came back.
#[derive(Default)]
struct Returned {
    entries: BTreeMap<u64, Entry>,
    pages: Pages,
}

impl Returned {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.pages.is_empty()
    }

    fn first_position(&self) -> Option<u64> {
        let entry = self.entries.first_key_value().map(|(first, _)| *first);
        let paged = self.pages.front().map(|paged| paged.position);
        entry.into_iter().chain(paged).min()
    }

    /// Whether the first message is in memory.
    fn has_next(&self) -> bool {
        let first = self.entries.first_key_value().map(|(first, _)| *first);
        let paged = self.pages.front();
        first.is_some_and(|first| paged.is_none_or(|paged| first < paged.position))
    }

    /// The first message, if it is in memory.
    fn pop(&mut self) -> Option<Entry> {
        let has_next = self.has_next();
        let first = has_next.then(|| self.entries.pop_first()).flatten();
        first.map(|(_, entry)| entry)
    }
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
            && self.pages.is_empty()
            && self
                .returned
                .as_ref()
                .is_none_or(|returned| returned.is_empty())
    }

    /// Whether the first message is in memory.
    pub(super) fn has_next(&self) -> bool {
        match &self.returned {
            Some(returned) if !returned.is_empty() => returned.has_next(),
            _ => !self.line.is_empty(),
        }
    }

    /// Bytes of the messages in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Those that only the log has, in their order.
    pub(super) fn paged(&self) -> impl Iterator<Item = Paged> {
        let returned = self.returned.iter();
        let returned = returned.flat_map(|returned| returned.pages.iter());
        returned.chain(self.pages.iter())
    }

    /// The first of them.
    pub(super) fn first_paged(&self) -> Option<Paged> {
        let returned = self.returned.as_ref();
        let paged = returned.and_then(|returned| returned.pages.front());
        paged.or_else(|| self.pages.front())
    }

    /// When the first message is to go; none if there is none.
    pub(super) fn front_expiry(&self) -> Option<u64> {
        let returned = self.returned.as_ref();
        let first = returned.and_then(|returned| returned.entries.first_key_value());
        first.map_or_else(|| self.line_expiry(), |(_, entry)| Some(entry.expires))
    }

    /// The same of those that never were returned.
    pub(super) fn line_expiry(&self) -> Option<u64> {
        match self.line.front() {
            Some(Place::Full(entry)) => Some(entry.expires),
            _ => self.pages.front().map(|paged| paged.expires),
        }
    }

    /// A message is to be the last. Whether none that wait before it in the line goes later than it does,
    /// so that it needs no other look than at the line's head.
    pub(super) fn expires_in_order(&mut self, expires: u64) -> bool {
        if self.is_empty() {
            self.latest_expiry = 0;
        }
        let in_order = self.latest_expiry <= expires;
        self.latest_expiry = self.latest_expiry.max(expires);
        in_order
    }

    /// One more of those that a start found in the log.
    pub(super) fn restore(&mut self, paged: Paged) {
        self.pages.insert(paged);
    }

    /// A message that came in last. There must be no pages before it.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.message.size();
        self.line.push_back(Place::Full(entry));
    }

    /// A message that came in last and stays in the log.
    pub(super) fn push_paged(&mut self, paged: Paged) {
        self.pages.insert(paged);
    }

    /// A message that was taken before goes back to its place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.bytes += entry.message.size();
        let returned = self.returned.get_or_insert_default();
        returned.entries.insert(entry.position, entry);
    }

    /// A message that was taken before goes back to its place, and stays in the log.
    pub(super) fn put_back_paged(&mut self, paged: Paged) {
        self.returned.get_or_insert_default().pages.insert(paged);
    }

    /// The first message, if it is in memory.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let returned = self.returned.as_mut();
        let Some(returned) = returned.filter(|returned| !returned.is_empty()) else {
            return self.pop_line();
        };
        let entry = returned.pop()?;
        self.bytes -= entry.message.size();
        Some(entry)
    }

    fn pop_line(&mut self) -> Option<Entry> {
        let Some(Place::Full(entry)) = self.line.pop_front() else {
            return None;
        };
        self.bytes -= entry.message.size();
        self.close_ranks();
        Some(entry)
    }

    /// The first message, wherever it is.
    pub(super) fn pop_any(&mut self) -> Option<Removed> {
        match self.pop() {
            Some(entry) => Some(Removed::Entry(entry)),
            None => self.drop_paged().map(|paged| Removed::Paged(paged, 0)),
        }
    }

    /// The first of those that never were returned, wherever it is.
    pub(super) fn pop_line_any(&mut self) -> Option<Removed> {
        match self.pop_line() {
            Some(entry) => Some(Removed::Entry(entry)),
            None => self.pages.pop_front().map(|paged| Removed::Paged(paged, 0)),
        }
    }

    /// The message of that position, out of its turn.
    pub(super) fn remove(&mut self, position: u64) -> Option<Removed> {
        let returned = self.returned.as_mut();
        let entry = returned.and_then(|returned| returned.entries.remove(&position));
        let Some(entry) = entry.or_else(|| self.vacate(position)) else {
            let paged = self.pages_of(position)?.remove(position);
            return paged.map(|paged| Removed::Paged(paged, 0));
        };
        self.bytes -= entry.message.size();
        self.close_ranks();
        Some(Removed::Entry(entry))
    }

    fn vacate(&mut self, position: u64) -> Option<Entry> {
        let at = self.place(position)?;
        match std::mem::replace(&mut self.line[at], Place::Vacant(position)) {
            Place::Full(entry) => {
                self.vacant += 1;
                Some(entry)
            }
            Place::Vacant(_) => None,
        }
    }

    /// Where in the main line a position is.
    fn place(&self, position: u64) -> Option<usize> {
        let at = self
            .line
            .partition_point(|place| place.position() < position);
        let place = self.line.get(at)?;
        (place.position() == position).then_some(at)
    }

    fn at(&self, position: u64) -> Option<&Entry> {
        match self.place(position).map(|at| &self.line[at]) {
            Some(Place::Full(entry)) => Some(entry),
            _ => self.returned.as_ref()?.entries.get(&position),
        }
    }

    /// The pages that have that position, if any.
    fn pages_of(&mut self, position: u64) -> Option<&mut Pages> {
        let returned = self.returned.as_mut().map(|returned| &mut returned.pages);
        let mut all = [Some(&mut self.pages), returned].into_iter().flatten();
        all.find(|pages| pages.get(position).is_some())
    }

    /// The first of those that only the log has came from there.
    pub(super) fn page_in(&mut self, returns: u32, message: StoredMessage) {
        let returned = self.returned.as_ref();
        let is_returned = returned.is_some_and(|returned| !returned.pages.is_empty());
        let Some(paged) = self.drop_paged() else {
            return;
        };
        let entry = Entry {
            position: paged.position,
            lsn: paged.lsn,
            expires: paged.expires,
            returns,
            redelivered: paged.redelivered,
            message,
        };
        match is_returned {
            true => self.put_back(entry),
            false => self.push(entry),
        }
    }

    /// Messages leave memory that the log has, from the LSN `oldest` on: those at the line's end, and those among the
    /// last that came back. Their positions, bytes, and how often they came back.
    pub(super) fn page_out(&mut self, oldest: Lsn) -> Vec<(u64, usize, u32)> {
        let mut left = Vec::new();
        let mut returned = self.returned.take();
        if let Some(Returned { entries, pages }) = returned.as_deref_mut() {
            let last = entries.values().rev().take(limits::JOB_STEPS_PER_TURN);
            let logged = last.filter(|entry| entry.lsn >= oldest);
            let positions: Vec<_> = logged.map(|entry| entry.position).collect();
            // From the first on, since pages grow at their end.
            for position in positions.iter().rev() {
                if let Some(entry) = entries.remove(position) {
                    pages.insert(entry.paged());
                    left.push((entry.position, entry.message.size(), entry.returns));
                }
            }
        }
        self.returned = returned;
        let may_leave = |place: &&Place| match place {
            Place::Full(entry) => entry.lsn >= oldest,
            Place::Vacant(_) => true,
        };
        let end = self.line.iter().rev().take(limits::JOB_STEPS_PER_TURN);
        let stay = self.line.len() - end.take_while(may_leave).count();
        for place in self.line.split_off(stay) {
            match place {
                Place::Full(entry) => {
                    self.pages.insert(entry.paged());
                    left.push((entry.position, entry.message.size(), entry.returns));
                }
                Place::Vacant(_) => self.vacant -= 1,
            }
        }
        self.bytes -= left.iter().map(|(_, bytes, _)| bytes).sum::<usize>();
        left
    }

    /// The first of those that only the log has goes.
    pub(super) fn drop_paged(&mut self) -> Option<Paged> {
        let returned = self.returned.as_mut();
        let paged = returned.and_then(|returned| returned.pages.pop_front());
        paged.or_else(|| self.pages.pop_front())
    }

    /// The position of the first message.
    pub(super) fn first_position(&self) -> Option<u64> {
        let returned = self.returned.as_ref();
        returned
            .and_then(|returned| returned.first_position())
            .or_else(|| self.line.front().map(Place::position))
            .or_else(|| self.pages.front().map(|paged| paged.position))
    }

    /// Where the log has the message of that position, if it waits here.
    pub(super) fn lsn(&self, position: u64) -> Option<Lsn> {
        if let Some(entry) = self.at(position) {
            return Some(entry.lsn);
        }
        let returned = self.returned.as_ref();
        let paged = returned.and_then(|returned| returned.pages.get(position));
        let paged = paged.or_else(|| self.pages.get(position));
        paged.map(|paged| paged.lsn)
    }

    /// The log has it elsewhere now.
    pub(super) fn relocate(&mut self, position: u64, lsn: Lsn) {
        if let Some(at) = self.place(position)
            && let Place::Full(entry) = &mut self.line[at]
        {
            entry.lsn = lsn;
        } else if let Some(returned) = &mut self.returned
            && let Some(entry) = returned.entries.get_mut(&position)
        {
            entry.lsn = lsn;
        } else if let Some(pages) = self.pages_of(position)
            && let Some(paged) = pages.get(position)
        {
            pages.insert(Paged { lsn, ..paged });
        }
    }

    /// Those in memory.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let line = self.line.iter().filter_map(|place| match place {
            Place::Full(entry) => Some(entry),
            Place::Vacant(_) => None,
        });
        let returned = self.returned.iter();
        returned
            .flat_map(|returned| returned.entries.values())
            .chain(line)
    }

    /// Drops vacant places at the front, and all when they are most; after a backlog has drained, its
    /// table goes too.
    fn close_ranks(&mut self) {
        const WORTH_KEEPING: usize = 1024;
        while let Some(Place::Vacant(_)) = self.line.front() {
            self.line.pop_front();
            self.vacant -= 1;
        }
        if self.vacant > WORTH_KEEPING && self.vacant > self.line.len() / 2 {
            self.line.retain(|place| matches!(place, Place::Full(_)));
            self.vacant = 0;
        }
        if self.line.is_empty() && self.line.capacity() > WORTH_KEEPING {
            self.line = VecDeque::with_capacity(WORTH_KEEPING);
        }
    }
}
