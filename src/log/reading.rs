//! What of a log is to be read where: records that memory doesn't hold, and the survivors of the oldest segment,
//! which are written again at the front when more is dead than alive.

use super::commit::Log;
use super::disk::FileNumber;
use super::layout::{BLOCK, BatchHeader, Record};
use super::segment::Segment;
use crate::base::{Lsn, Time, limits};

/// A piece of a log that is to be read: whole batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Which file.
    pub file: FileNumber,
    /// Where in it.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
    /// Its records have lower LSNs.
    pub end_lsn: Lsn,
    epoch: u64,
}

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Located {
    /// In these batches.
    Here(Stretch),
    /// It isn't durable yet.
    NotYet,
    /// The log doesn't have it (any more).
    Nowhere,
}

impl Log {
    /// Where a record is.
    pub fn locate(&self, lsn: Lsn) -> Located {
        if lsn >= self.durable_lsn {
            return Located::NotYet;
        }
        let after = self
            .segments
            .partition_point(|segment| segment.first_lsn <= lsn);
        let stretch = after.checked_sub(1).and_then(|at| {
            let index = &self.segments[at].index;
            let entry = index.partition_point(|(first, _)| *first <= lsn);
            self.stretch(at, entry.checked_sub(1)?, limits::PAGE_IN_BYTES)
        });
        stretch.map_or(Located::Nowhere, |(stretch, _)| Located::Here(stretch))
    }

    /// As little of a stretch that can't be read as can be read by itself, from its begin on, so that no more is missed
    /// than must be. What is behind it is to be asked for again; where survivors are written again it is.
    pub fn narrow(&mut self, stretch: &Stretch, is_rewriting: bool) -> Stretch {
        let mut segments = self.segments.iter();
        let at = segments.position(|segment| segment.epoch == stretch.epoch);
        let narrow = at.and_then(|at| {
            let index = &self.segments[at].index;
            let entry = index.partition_point(|(_, offset)| *offset < stretch.offset);
            self.stretch(at, entry, 0)
        });
        let Some((narrow, next)) = narrow else {
            return *stretch;
        };
        if is_rewriting {
            self.rewriting = Some((stretch.epoch, next));
        }
        narrow
    }

    /// About `least` bytes of a segment's batches from an entry of its index on, and the entry that
    /// follows.
    fn stretch(&self, at: usize, entry: usize, least: u64) -> Option<(Stretch, usize)> {
        let segment = self.segments.get(at)?;
        let (offset, len, next) = segment.stretch(entry, least)?;
        let end_lsn = match (segment.index.get(next), self.segments.get(at + 1)) {
            (Some((lsn, _)), _) => *lsn,
            (None, Some(following)) => following.first_lsn,
            (None, None) => self.durable_lsn,
        };
        let stretch = Stretch {
            file: segment.file.file,
            offset,
            len: len as usize,
            end_lsn,
            epoch: segment.epoch,
        };
        Some((stretch, next))
    }

    /// How many dead bytes it may hold beyond as many as are alive; [`limits::LOG_GARBAGE_BYTES`] if
    /// nothing is said.
    pub fn allow_garbage(&mut self, bytes: u64) {
        self.garbage_bytes = bytes;
    }

    /// Whether so much is dead that the oldest segment's survivors should be written again.
    pub fn wants_rewriting(&self, now: Time) -> bool {
        // It is asked each turn, and mostly this answers it.
        let Some(oldest) = self.segments.front().filter(|oldest| oldest.live > 0) else {
            return false;
        };
        let rests = |(epoch, until)| epoch == oldest.epoch && now < until;
        if self.segments.len() <= 1 || self.unread.is_some_and(rests) {
            return false;
        }
        let garbage: u64 = self.segments.iter().map(Segment::garbage).sum();
        let alive = self.used() - garbage;
        // On a disk with little room they must fit into half of what is ready: how many bytes they are is a guess.
        let survivors_fit = || {
            let ready: u64 = self.free.iter().map(|file| file.size).sum();
            oldest.used - oldest.garbage() <= ready / 2
        };
        garbage > alive + self.garbage_bytes && (!self.is_frugal || survivors_fit())
    }

    /// The next stretch of the oldest segment whose survivors are to be written again; none when it
    /// has been gone through. To be called when all survivors of the stretch before have got a new LSN
    /// and were forgotten under their old one: what lives in the segment at its end could not be read. It is
    /// gone through once more after a while, and what lives then is given up.
    pub fn next_to_rewrite(&mut self, now: Time) -> Option<Stretch> {
        let oldest = self.segments.front()?;
        let (epoch, from) = self.rewriting.unwrap_or((oldest.epoch, 0));
        self.rewriting = None;
        if epoch != oldest.epoch || oldest.live == 0 {
            return None;
        }
        let stretch = self.stretch(0, from, limits::REWRITE_BYTES);
        if let Some((stretch, next)) = stretch {
            self.rewriting = Some((epoch, next));
            return Some(stretch);
        }
        if self.unread.is_none_or(|(unread, _)| unread != epoch) {
            self.unread = Some((epoch, now + limits::READ_RETRY));
            return None;
        }
        // What still lives here could not be read twice: it is lost, and the file shall be looked at.
        let next_lsn = self.next_lsn;
        if let Some(oldest) = self.segments.front_mut() {
            oldest.live = 0;
            oldest.damaged = true;
            oldest.emptied_at = Some(next_lsn);
        }
        None
    }

    /// Whether the oldest segment is being gone through.
    pub fn is_rewriting(&self) -> bool {
        self.rewriting.is_some()
    }

    /// Hands over the records of a stretch that was read, those of damaged batches left out. Whether
    /// all of it was as it had been written; a segment that was given up meanwhile has nothing to say.
    pub fn visit(
        &mut self,
        stretch: &Stretch,
        bytes: &[u8],
        mut visit: impl FnMut(Record<'_>),
    ) -> bool {
        let mut segments = self.segments.iter_mut();
        let Some(segment) = segments.find(|segment| segment.epoch == stretch.epoch) else {
            return true;
        };
        let mut is_whole = true;
        let mut rest = bytes;
        while rest.len() >= BLOCK {
            if let Some((batch, sums)) = BatchHeader::read(segment.key, rest)
                && batch.epoch == segment.epoch
                && batch.stride() <= rest.len()
                && batch.is_whole(sums, rest)
            {
                batch.records(rest).for_each(&mut visit);
                rest = &rest[batch.stride()..];
            } else {
                // What is behind the damage is served.
                is_whole = false;
                rest = &rest[BLOCK..];
            }
        }
        segment.damaged |= !is_whole;
        is_whole
    }
}
