//! Messages that wait: a lane for each priority, the highest served first, and what is to go at its time
//! wherever it stands.
//!
//! In a line whose messages go in the order they came, looking at the head is enough. One that is to go
//! before another in front of it is noted apart, and so is one that was returned.

use std::collections::{BTreeMap, BTreeSet};

use super::lane::{Entry, Lane, NEVER, Removed};
use super::message::priority_of;
use super::pages::Paged;
use crate::base::{Lsn, MessageRef, StoredMessage};

/// The lanes.
#[derive(Default)]
pub(super) struct Ready {
    /// Of a queue without priorities the only one, otherwise of priority 0.
    lowest: Lane,
    higher: Option<Box<Higher>>,
    len: usize,
    /// How many are in the log only.
    paged: usize,
    /// Bytes of the messages in memory.
    bytes: usize,
    /// Bytes of all bodies.
    body_bytes: u64,
    /// None as long as there were none: many queues are never in want of them.
    notes: Option<Box<Notes>>,
}

/// What is noted of single messages.
#[derive(Default)]
struct Notes {
    /// Expiry, position and lane of messages that go before one in front of them.
    early: BTreeSet<(u64, u64, u8)>,
    /// How often messages that only the log has came back.
    returns: BTreeMap<u64, u32>,
}

/// The lanes from priority 1 up.
struct Higher {
    lanes: Vec<Lane>,
    /// A bit for each lane, of all: it has messages.
    occupied: [u64; 4],
}

impl Ready {
    /// With lanes for priorities up to `max`; 0: none.
    pub(super) fn with_priorities(max: u8) -> Self {
        let higher = (max > 0).then(|| {
            Box::new(Higher {
                lanes: (0..max).map(|_| Lane::default()).collect(),
                occupied: [0; 4],
            })
        });
        Self {
            higher,
            ..Self::default()
        }
    }

    /// The lane of a message of this priority.
    pub(super) fn lane_of(&self, priority: u8) -> u8 {
        match &self.higher {
            None => 0,
            Some(higher) => priority.min(higher.lanes.len() as u8),
        }
    }

    /// The lane of a message, which isn't looked at where there is only one.
    pub(super) fn lane_for(&self, message: &MessageRef<'_>) -> u8 {
        match &self.higher {
            None => 0,
            Some(_) => self.lane_of(priority_of(message)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the first message is in memory.
    pub(super) fn has_next(&self) -> bool {
        self.front_lane().has_next()
    }

    /// Bytes of the messages in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some are in the log only.
    pub(super) fn is_paging(&self) -> bool {
        self.paged > 0
    }

    /// The lane whose turn it is.
    pub(super) fn front_lane(&self) -> &Lane {
        self.lane(self.front())
    }

    /// When the first message is to go.
    pub(super) fn front_expiry(&self) -> u64 {
        self.front_lane().front_expiry().unwrap_or(NEVER)
    }

    /// When the next message is to go, of all.
    pub(super) fn next_expiry(&self) -> u64 {
        let fronts = self.lanes().filter_map(Lane::line_expiry).min();
        let early = self.first_early().map(|(expires, ..)| expires);
        fronts.into_iter().chain(early).min().unwrap_or(NEVER)
    }

    /// What a start found in the log, in the order of positions.
    pub(super) fn restore(&mut self, lane: u8, paged: Paged) {
        self.note_expiry(lane, paged.position, paged.expires);
        self.restore_early(lane, paged);
    }

    /// One more of those, in any order.
    pub(super) fn restore_one(&mut self, lane: u8, paged: Paged) {
        self.note_early(lane, paged.position, paged.expires);
        self.restore_early(lane, paged);
    }

    fn restore_early(&mut self, lane: u8, paged: Paged) {
        self.lane_mut(lane).restore(paged);
        self.came_paged(lane, paged);
    }

    /// A message in the pages came back that often before the last stop.
    pub(super) fn restore_returns(&mut self, position: u64, returns: u32) {
        self.notes_mut().returns.insert(position, returns);
    }

    /// A message that came in last, with so many bytes of body. There must be no pages before it.
    pub(super) fn push(&mut self, lane: u8, entry: Entry, body_len: u64) {
        self.note_expiry(lane, entry.position, entry.expires);
        self.bytes += entry.message.size();
        self.came(lane, body_len);
        self.lane_mut(lane).push(entry);
    }

    /// A message that came in last and stays in the log.
    pub(super) fn push_paged(&mut self, lane: u8, paged: Paged) {
        self.note_expiry(lane, paged.position, paged.expires);
        self.lane_mut(lane).push_paged(paged);
        self.came_paged(lane, paged);
    }

    /// A message that was taken before goes back to its place.
    pub(super) fn put_back(&mut self, lane: u8, entry: Entry) {
        self.note_early(lane, entry.position, entry.expires);
        self.bytes += entry.message.size();
        self.came(lane, entry.message.as_ref().body_len() as u64);
        self.lane_mut(lane).put_back(entry);
    }

    /// A message that was taken before goes back to its place, and stays in the log.
    pub(super) fn put_back_paged(&mut self, lane: u8, paged: Paged, returns: u32) {
        self.note_early(lane, paged.position, paged.expires);
        self.notes_mut().returns.insert(paged.position, returns);
        self.lane_mut(lane).put_back_paged(paged);
        self.came_paged(lane, paged);
    }

    /// The first message, if it is in memory.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let lane = self.front();
        let entry = self.lane_mut(lane).pop()?;
        self.removed_entry(lane, &entry);
        Some(entry)
    }

    /// The first message, wherever it is.
    pub(super) fn pop_any(&mut self) -> Option<Removed> {
        let lane = self.front();
        let mut removed = self.lane_mut(lane).pop_any()?;
        self.removed(lane, &mut removed);
        Some(removed)
    }

    /// Of those that are to go by now, wherever they stand, one that was to go first.
    pub(super) fn pop_expired(&mut self, now_ms: u64) -> Option<Removed> {
        let fronts = self.occupied().filter_map(|lane| {
            let expires = self.lane(lane).line_expiry()?;
            Some((expires, lane)).filter(|_| expires <= now_ms)
        });
        let front = fronts.min();
        if let Some((expires, position, lane)) = self.first_early()
            && expires <= now_ms
            && front.is_none_or(|(first, _)| expires < first)
        {
            let mut removed = self.lane_mut(lane).remove(position)?;
            self.removed(lane, &mut removed);
            return Some(removed);
        }
        let (_, lane) = front?;
        let mut removed = self.lane_mut(lane).pop_line_any()?;
        self.removed(lane, &mut removed);
        Some(removed)
    }

    /// The first that only the log has of a lane came from there, if that is the one.
    pub(super) fn page_in(
        &mut self,
        lane: u8,
        position: u64,
        lsn: Lsn,
        message: impl FnOnce() -> StoredMessage,
    ) -> bool {
        let front = self.lane(lane).first_paged();
        let is_it = front.is_some_and(|front| front.position == position && front.lsn == lsn);
        if is_it {
            let (returns, message) = (self.take_returns(position), message());
            self.bytes += message.size();
            self.paged -= 1;
            self.lane_mut(lane).page_in(returns, message);
        }
        is_it
    }

    /// Messages leave memory that the log has, from the LSN `oldest` on.
    pub(super) fn page_out(&mut self, oldest: Lsn) {
        for lane in 0..=self.lane_of(u8::MAX) {
            for (position, bytes, returns) in self.lane_mut(lane).page_out(oldest) {
                self.bytes -= bytes;
                self.paged += 1;
                if returns > 0 {
                    self.notes_mut().returns.insert(position, returns);
                }
            }
        }
    }

    /// The first that only the log has can't be had.
    pub(super) fn drop_paged(&mut self) {
        let lane = self.front();
        if let Some(paged) = self.lane_mut(lane).drop_paged() {
            self.removed(lane, &mut Removed::Paged(paged, 0));
        }
    }

    /// Any one, to be dropped: where the log has it. None: there are no more.
    pub(super) fn drop_one(&mut self) -> Option<Lsn> {
        self.pop_any().map(|removed| removed.lsn())
    }

    /// Where the log has the message of that position, if it waits.
    pub(super) fn lsn(&self, lane: u8, position: u64) -> Option<Lsn> {
        self.lane(lane).lsn(position)
    }

    /// The log has it elsewhere now.
    pub(super) fn relocate(&mut self, lane: u8, position: u64, lsn: Lsn) {
        self.lane_mut(lane).relocate(position, lsn);
    }

    /// The lowest position.
    pub(super) fn first_position(&self) -> Option<u64> {
        self.lanes().filter_map(Lane::first_position).min()
    }

    /// Positions of messages that the log has and that were delivered before, and how often they came
    /// back.
    pub(super) fn redelivered(&self) -> impl Iterator<Item = (u64, u32)> {
        self.lanes().flat_map(|lane| {
            let entries = lane.entries();
            let logged = entries.filter(|entry| entry.redelivered && entry.lsn.is_some());
            let paged = lane.paged().filter(|paged| paged.redelivered);
            logged
                .map(|entry| (entry.position, entry.returns))
                .chain(paged.map(|paged| (paged.position, self.returns_of(paged.position))))
        })
    }

    /// Takes all away; lanes stay.
    pub(super) fn take(&mut self) -> Self {
        let max = self.higher.as_ref().map_or(0, |higher| higher.lanes.len());
        std::mem::replace(self, Self::with_priorities(max as u8))
    }

    fn note_expiry(&mut self, lane: u8, position: u64, expires: u64) {
        if !self.lane_mut(lane).expires_in_order(expires) {
            self.notes_mut().early.insert((expires, position, lane));
        }
    }

    /// A message may stand out of its turn: that it goes is noted apart.
    fn note_early(&mut self, lane: u8, position: u64, expires: u64) {
        if expires != NEVER {
            self.notes_mut().early.insert((expires, position, lane));
        }
    }

    fn forget_expiry(&mut self, lane: u8, position: u64, expires: u64) {
        if let Some(notes) = &mut self.notes {
            notes.early.remove(&(expires, position, lane));
        }
    }

    fn first_early(&self) -> Option<(u64, u64, u8)> {
        let notes = self.notes.as_ref()?;
        notes.early.first().copied()
    }

    fn returns_of(&self, position: u64) -> u32 {
        let notes = self.notes.as_ref();
        let returns = notes.and_then(|notes| notes.returns.get(&position));
        returns.copied().unwrap_or(0)
    }

    fn take_returns(&mut self, position: u64) -> u32 {
        let notes = self.notes.as_mut();
        let returns = notes.and_then(|notes| notes.returns.remove(&position));
        returns.unwrap_or(0)
    }

    fn notes_mut(&mut self) -> &mut Notes {
        self.notes.get_or_insert_default()
    }

    fn came_paged(&mut self, lane: u8, paged: Paged) {
        self.paged += 1;
        self.came(lane, u64::from(paged.body_len));
    }

    fn came(&mut self, lane: u8, body_len: u64) {
        self.len += 1;
        self.body_bytes += body_len;
        if let Some(higher) = &mut self.higher {
            higher.occupied[usize::from(lane / 64)] |= 1 << (lane % 64);
        }
    }

    fn removed(&mut self, lane: u8, removed: &mut Removed) {
        match removed {
            Removed::Entry(entry) => self.removed_entry(lane, entry),
            Removed::Paged(paged, returns) => {
                self.paged -= 1;
                self.forget_expiry(lane, paged.position, paged.expires);
                *returns = self.take_returns(paged.position);
                self.went(lane, u64::from(paged.body_len));
            }
        }
    }

    fn removed_entry(&mut self, lane: u8, entry: &Entry) {
        self.bytes -= entry.message.size();
        self.forget_expiry(lane, entry.position, entry.expires);
        self.went(lane, entry.message.as_ref().body_len() as u64);
    }

    fn went(&mut self, lane: u8, body_len: u64) {
        self.len -= 1;
        self.body_bytes -= body_len;
        let is_empty = self.lane(lane).is_empty();
        if let Some(higher) = &mut self.higher
            && is_empty
        {
            higher.occupied[usize::from(lane / 64)] &= !(1 << (lane % 64));
        }
    }

    /// The highest lane that has messages; the lowest if none has.
    fn front(&self) -> u8 {
        let Some(higher) = &self.higher else { return 0 };
        let words = higher.occupied.iter().enumerate().rev();
        let mut occupied = words.filter(|(_, word)| **word != 0);
        occupied.next().map_or(0, |(at, word)| {
            (at * 64) as u8 + (63 - word.leading_zeros() as u8)
        })
    }

    /// The lanes that have messages.
    fn occupied(&self) -> impl Iterator<Item = u8> {
        let lanes = 0..=self.lane_of(u8::MAX);
        lanes.filter(|lane| !self.lane(*lane).is_empty())
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let higher = self.higher.iter().flat_map(|higher| &higher.lanes);
        std::iter::once(&self.lowest).chain(higher)
    }

    fn lane(&self, lane: u8) -> &Lane {
        match &self.higher {
            Some(higher) if lane > 0 => &higher.lanes[usize::from(lane) - 1],
            _ => &self.lowest,
        }
    }

    fn lane_mut(&mut self, lane: u8) -> &mut Lane {
        match &mut self.higher {
            Some(higher) if lane > 0 => &mut higher.lanes[usize::from(lane) - 1],
            _ => &mut self.lowest,
        }
    }
}
