//! A segment: one life of a file of a log.

use std::collections::VecDeque;

use super::disk::FileNumber;
use super::layout::BLOCK;
use crate::base::Lsn;

/// A file that holds nothing anybody needs, zero-written once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FreeFile {
    pub(super) file: FileNumber,
    pub(super) size: u64,
}

/// A file that holds batches.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: FreeFile,
    pub(super) epoch: u64,
    pub(super) key: u64,
    /// Every record with an LSN has this one or a higher one.
    pub(super) first_lsn: Lsn,
    /// Bytes in use, the segment header's block included.
    pub(super) used: u64,
    /// How many of those are durable.
    pub(super) durable: u64,
    /// What its records keep alive: one for each queue that holds a message, say.
    pub(super) live: u64,
    /// What they have kept alive in all.
    pub(super) total: u64,
    /// Set when `live` becomes 0: it can go when all below is sealed.
    pub(super) emptied_at: Option<Lsn>,
    /// Some of it can't be read.
    pub(super) damaged: bool,
    /// Where batches begin, one about every [`Segment::INDEX_STRIDE`], with the lowest LSN of each.
    pub(super) index: Vec<(Lsn, u64)>,
}

impl Segment {
    /// Bytes between two entries of the index.
    const INDEX_STRIDE: u64 = 64 * 1024;

    pub(super) fn new(file: FreeFile, epoch: u64, key: u64, first_lsn: Lsn) -> Self {
        Self {
            file,
            epoch,
            key,
            first_lsn,
            used: BLOCK as u64,
            durable: 0,
            live: 0,
            total: 0,
            emptied_at: None,
            damaged: false,
            index: Vec::new(),
        }
    }

    /// Whether nobody needs it any more once everything below `sealed_upto` is sealed.
    pub(super) fn is_done(&self, sealed_upto: Lsn) -> bool {
        self.live == 0 && self.emptied_at.is_none_or(|lsn| lsn <= sealed_upto)
    }

    /// Notes where a batch begins.
    pub(super) fn note_batch(&mut self, first_lsn: Lsn, offset: u64) {
        let last = self.index.last();
        if last.is_none_or(|(_, last)| offset - last >= Self::INDEX_STRIDE) {
            self.index.push((first_lsn, offset));
        }
    }

    /// Bytes that nobody needs any more, by count of what is alive: of the batches, and all that is
    /// behind the last one when none will follow.
    pub(super) fn garbage(&self) -> u64 {
        let dead = match self.total {
            0 => self.durable,
            total => {
                let dead = u128::from(self.durable) * u128::from(total - self.live);
                (dead / u128::from(total)) as u64
            }
        };
        dead + self.used.saturating_sub(self.durable)
    }

    /// The durable bytes from index entry `from` on: up to the first entry that is `least` bytes
    /// further, or to the end. Whole batches; the second number is the entry that follows.
    pub(super) fn stretch(&self, from: usize, least: u64) -> Option<(u64, u64, usize)> {
        let (_, start) = *self.index.get(from)?;
        let rest = self.index[from + 1..].iter();
        let next = rest
            .take_while(|(_, offset)| *offset <= self.durable)
            .position(|(_, offset)| offset - start >= least);
        let (end, next) = match next {
            Some(further) => (self.index[from + 1 + further].1, from + 1 + further),
            None => (self.durable, self.index.len()),
        };
        (end > start).then_some((start, end - start, next))
    }
}

/// The segment that a record with that LSN is in.
pub(super) fn segment_of(segments: &mut VecDeque<Segment>, lsn: Lsn) -> Option<&mut Segment> {
    // Mostly what is asked for is young.
    let last = segments.len().checked_sub(1)?;
    if segments[last].first_lsn <= lsn {
        return segments.get_mut(last);
    }
    let after = segments.partition_point(|segment| segment.first_lsn <= lsn);
    segments.get_mut(after.checked_sub(1)?)
}
