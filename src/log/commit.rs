//! Group commit, the life of segments, and what to read where, as a state machine.
//!
//! One batch is written at a time, and the next one gathers meanwhile. That is all the batching there
//! is: a quiet log commits at once, a busy one commits what came during the last write.
//!
//! Segments are used up strictly in order and given up strictly in order:
//!
//! ```text
//!   oldest                                              youngest
//!   [ dead ] [ dead ] [ some alive ] [ mostly alive ] [ being filled ]   [ free ]
//!      └─ given up at the next batch                       survivors ─┘
//! ```
//!
//! Since a segment goes only when all before it are gone, a record that takes something back (an
//! acknowledgement, say) never outlives its use: what it refers to stands in the same segment or in an
//! older one. When more is dead than alive, survivors of the oldest segment are written again at the
//! front, so that disk use stays below twice what is alive and a constant, however long one message
//! is kept.
//!
//! A file may be used again only when a durable batch says that its segment isn't needed: every batch
//! names the oldest epoch that is. Otherwise a crash could bring back what the file held before.

use std::collections::VecDeque;

use super::disk::{DiskRequest, FileNumber, Placed};
use super::layout::{
    BLOCK, BatchHeader, BatchWriter, HEADERS, Record, SegmentHeader, Sums, whole_blocks,
};
use super::segment::{FreeFile, Segment};
use crate::base::{Lsn, limits};

/// One log: its segments and the write that is under way.
#[derive(Debug)]
pub struct Log {
    group: u32,
    /// Oldest first; the last one is being filled.
    segments: VecDeque<Segment>,
    free: Vec<FreeFile>,
    /// Files to be used again once the batch of that sequence is durable.
    retired: VecDeque<(u64, FreeFile)>,
    preparing: Option<FreeFile>,
    /// The last attempt to make a file failed: the disk is full.
    is_full: bool,
    next_file: u32,
    next_epoch: u64,
    key_seed: u64,
    /// Of the last sealed batch, and its checksums.
    sequence: u64,
    sums: Sums,
    /// The end of the batch that is being written.
    in_flight: Option<Lsn>,
    /// Every LSN below is durable, or was dropped before it was sealed.
    durable_lsn: Lsn,
    next_lsn: Lsn,
    /// Where the rewriting of the oldest segment has got to: its epoch, and an index entry.
    rewriting: Option<(u64, usize)>,
    requests: VecDeque<DiskRequest>,
}

/// Where the next batch goes, and how much it may hold.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The most bytes of records.
    pub records: usize,
    /// The new segment that the batch begins, if it does.
    opens: Option<FreeFile>,
}

impl Room {
    /// How large a buffer a batch with so many bytes of records needs.
    pub fn buffer_len(&self, records: usize) -> usize {
        self.lead() + whole_blocks(HEADERS + records)
    }

    fn lead(&self) -> usize {
        if self.opens.is_some() { BLOCK } else { 0 }
    }
}

/// A piece of a log that is to be read: whole batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Which file.
    pub file: FileNumber,
    /// Where in it.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
    epoch: u64,
}

/// What recovery found of a log; [`Log::resume`] goes on from there.
#[derive(Debug, Default)]
pub struct Found {
    pub(super) segments: VecDeque<Segment>,
    /// Files that hold no segment that is needed.
    pub(super) unused: Vec<FreeFile>,
    /// Files that are not what a log leaves behind.
    pub(super) unknown: Vec<FileNumber>,
    pub(super) next_file: u32,
    pub(super) last_epoch: u64,
    pub(super) sequence: u64,
    pub(super) sums: Sums,
    pub(super) next_lsn: Lsn,
    /// What the operator should know: one line for each damage.
    pub damage: Vec<String>,
}

impl Found {
    /// Whether there is anything at all.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// A record keeps something alive. To be called for each such, after the scan.
    pub fn adopt(&mut self, lsn: Lsn) {
        if let Some(segment) = segment_of(&mut self.segments, lsn) {
            segment.live += 1;
            segment.total += 1;
        }
    }
}

fn segment_of(segments: &mut VecDeque<Segment>, lsn: Lsn) -> Option<&mut Segment> {
    // Mostly what is asked for is young.
    let last = segments.len().checked_sub(1)?;
    if segments[last].first_lsn <= lsn {
        return segments.get_mut(last);
    }
    let after = segments.partition_point(|segment| segment.first_lsn <= lsn);
    segments.get_mut(after.checked_sub(1)?)
}

impl Log {
    /// Goes on after a start. `seed`: drawn at random and kept secret, for the keys of segments.
    pub fn resume(group: u32, seed: u64, found: Found) -> Self {
        let mut log = Self {
            group,
            segments: found.segments,
            free: Vec::new(),
            retired: VecDeque::new(),
            preparing: None,
            is_full: false,
            next_file: found.next_file,
            next_epoch: found.last_epoch + 1,
            key_seed: seed,
            sequence: found.sequence,
            sums: found.sums,
            in_flight: None,
            durable_lsn: found.next_lsn,
            next_lsn: found.next_lsn,
            rewriting: None,
            requests: VecDeque::new(),
        };
        // What follows a torn batch is never written to: the next batch opens a segment.
        for segment in &mut log.segments {
            segment.used = segment.file.size;
            if segment.live == 0 {
                segment.emptied_at = Some(found.next_lsn);
            }
        }
        // They may be half-made, or hold a life that a crash must not bring back.
        for unused in found.unused {
            let file = unused.file;
            log.requests.push_back(DiskRequest::Remove { file });
        }
        for file in found.unknown {
            log.requests.push_back(DiskRequest::Quarantine { file });
        }
        log
    }

    /// Gives out an LSN. Ascending; each is to be sealed, or dropped, in that order.
    pub fn next_lsn(&mut self) -> Lsn {
        let lsn = self.next_lsn;
        self.next_lsn = lsn.next();
        lsn
    }

    /// The LSN that is given out next.
    pub fn upcoming_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Every LSN below this one is durable, or was dropped before it was sealed.
    pub fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    /// The sequence number of the last batch that was sealed; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether a batch is being written.
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the disk had no room for another file when last asked.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Bytes in use on the disk, dead and alive.
    pub fn used(&self) -> u64 {
        self.segments.iter().map(|segment| segment.used).sum()
    }

    /// Where a batch with `least` bytes of records would go; none as long as one is being written or
    /// no file has room. `spare`: how many free files must be left over, for batches that matter more.
    pub fn room(&mut self, least: usize, spare: usize) -> Option<Room> {
        if self.in_flight.is_some() {
            return None;
        }
        if let Some(segment) = self.segments.back() {
            let left = (segment.file.size - segment.used) as usize;
            if left >= whole_blocks(HEADERS + least) {
                let records = left - HEADERS;
                let opens = None;
                return Some(Room { records, opens });
            }
        }
        let needed = (BLOCK + whole_blocks(HEADERS + least)) as u64;
        let fitting = self.free.iter().filter(|file| file.size >= needed);
        let opens = (self.free.len() > spare)
            .then(|| fitting.min_by_key(|file| file.file).copied())
            .flatten();
        if opens.is_none() {
            self.prepare(needed);
        }
        let records = opens?.size as usize - BLOCK - HEADERS;
        Some(Room { records, opens })
    }

    /// Asks for a file of at least so many bytes, unless one is on its way.
    fn prepare(&mut self, least: u64) {
        if self.preparing.is_some() || self.is_full {
            return;
        }
        // Each new file doubles the log until files are as large as they get.
        let allocated: u64 = self.segments.iter().map(|segment| segment.file.size).sum();
        let usual = allocated.clamp(limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX);
        let size = usual.max(least).next_multiple_of(limits::SEGMENT_BYTES_MIN);
        let file = FileNumber(self.next_file);
        self.next_file += 1;
        self.preparing = Some(FreeFile { file, size });
        self.requests.push_back(DiskRequest::Prepare { file, size });
    }

    /// There may be room on the disk again: it is asked for a file when one is needed.
    pub fn retry(&mut self) {
        self.is_full = false;
    }

    /// A file was made, or could not be for want of space: then none is asked for until
    /// [`Log::retry`].
    pub fn prepared(&mut self, file: FileNumber, made: bool) {
        if let Some(prepared) = self.preparing.take_if(|preparing| preparing.file == file) {
            self.is_full = !made;
            if made {
                self.free.push(prepared);
            } else {
                self.requests.push_back(DiskRequest::Remove { file });
            }
        }
    }

    /// A batch in `buffer`, which has [`Room::buffer_len`] bytes. `first_lsn`: of its first record
    /// with an LSN, or a lower one.
    pub fn begin<'a>(&self, room: &Room, first_lsn: Lsn, buffer: &'a mut [u8]) -> BatchWriter<'a> {
        BatchWriter::new(buffer, room.lead(), first_lsn)
    }

    /// Seals a batch that is to be written now. `lsns`: the first as given to [`Log::begin`], and the
    /// one below which everything is in this batch, in an earlier one, or dropped; `live`: how much
    /// its records keep alive.
    pub fn seal(
        &mut self,
        room: Room,
        writer: BatchWriter<'_>,
        lsns: (Lsn, Lsn),
        live: u64,
    ) -> Placed {
        let (buffer, length, count) = writer.finish();
        self.sequence += 1;
        self.retire(lsns.1);
        if let Some(file) = room.opens {
            self.open_segment(file, lsns.0, buffer);
        }
        let oldest_epoch = self.segments.front().map_or(0, |oldest| oldest.epoch);
        let segment = self
            .segments
            .back_mut()
            .expect("a room is in the last segment or opens one");
        let header = BatchHeader {
            length: length as u32,
            count,
            epoch: segment.epoch,
            sequence: self.sequence,
            durable_upto: self.sequence - 1,
            oldest_epoch,
            previous: self.sums.outer,
            group: self.group,
            first_lsn: lsns.0,
            end_lsn: lsns.1,
            chain: self.sums.section,
        };
        self.sums = header.write(segment.key, &mut buffer[room.lead()..]);
        let len = room.lead() + header.stride();
        let offset = segment.used - room.lead() as u64;
        segment.note_batch(lsns.0, segment.used);
        segment.used += header.stride() as u64;
        segment.live += live;
        segment.total += live;
        self.in_flight = Some(lsns.1);
        let file = segment.file.file;
        Placed { file, offset, len }
    }

    /// Begins a segment: its header goes before the batch, in the same write.
    fn open_segment(&mut self, file: FreeFile, first_lsn: Lsn, buffer: &mut [u8]) {
        self.free.retain(|free| free.file != file.file);
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        // Mixed as a hash is, so that who knew one key could not tell the next.
        let key = twox_hash::XxHash3_64::oneshot_with_seed(self.key_seed, &epoch.to_le_bytes());
        let header = SegmentHeader {
            group: self.group,
            epoch,
            size: file.size,
            key,
            first_sequence: self.sequence,
            first_lsn,
            oldest_epoch: self.segments.front().map_or(epoch, |oldest| oldest.epoch),
        };
        header.write(buffer);
        if let Some(full) = self.segments.back_mut()
            && full.live == 0
        {
            full.emptied_at.get_or_insert(self.next_lsn);
        }
        let segment = Segment::new(file, epoch, key, first_lsn);
        self.segments.push_back(segment);
        if self.free.len() < limits::FREE_FILES_MIN {
            self.prepare(0);
        }
    }

    /// Gives up the oldest segments that keep nothing alive, as the batch now being sealed will say.
    fn retire(&mut self, sealed_upto: Lsn) {
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && oldest.live == 0
            && oldest.emptied_at.is_none_or(|lsn| lsn <= sealed_upto)
        {
            let Some(segment) = self.segments.pop_front() else {
                break;
            };
            if segment.damaged {
                let file = segment.file.file;
                self.requests.push_back(DiskRequest::Quarantine { file });
            } else {
                self.retired.push_back((self.sequence, segment.file));
            }
        }
    }

    /// The batch that was being written is durable.
    pub fn written(&mut self) {
        let Some(end) = self.in_flight.take() else {
            return;
        };
        self.durable_lsn = end;
        if let Some(segment) = self.segments.back_mut() {
            segment.durable = segment.used;
        }
        while let Some((_, file)) = self
            .retired
            .pop_front_if(|(sequence, _)| *sequence <= self.sequence)
        {
            self.reuse(file);
        }
    }

    /// A file that nobody needs: kept for the next segment, or removed if there are enough.
    fn reuse(&mut self, file: FreeFile) {
        self.free.push(file);
        if self.free.len() > limits::FREE_FILES_MAX {
            let smallest = (0..self.free.len()).min_by_key(|at| self.free[*at].size);
            let file = self.free.swap_remove(smallest.unwrap_or(0)).file;
            self.requests.push_back(DiskRequest::Remove { file });
        }
    }

    /// What a record kept alive is dead.
    #[inline]
    pub fn forget(&mut self, lsn: Lsn) {
        let next = self.next_lsn;
        if let Some(segment) = segment_of(&mut self.segments, lsn)
            && segment.live > 0
        {
            segment.live -= 1;
            if segment.live == 0 {
                segment.emptied_at = Some(next);
            }
        }
    }

    /// Where a durable record is: a stretch of whole batches that begins with its own, as a rule. None
    /// if it isn't durable, or not here.
    pub fn locate(&mut self, lsn: Lsn) -> Option<Stretch> {
        if lsn >= self.durable_lsn {
            return None;
        }
        let segment = segment_of(&mut self.segments, lsn)?;
        let after = segment.index.partition_point(|(first, _)| *first <= lsn);
        let (offset, len, _) = segment.stretch(after.checked_sub(1)?, limits::PAGE_IN_BYTES)?;
        Some(Stretch {
            file: segment.file.file,
            offset,
            len: len as usize,
            epoch: segment.epoch,
        })
    }

    /// Whether so much is dead that the oldest segment's survivors should be written again.
    pub fn wants_rewriting(&self) -> bool {
        let garbage: u64 = self.segments.iter().map(Segment::garbage).sum();
        let oldest_lives = self.segments.front().is_some_and(|oldest| oldest.live > 0);
        let alive = self.used() - garbage;
        self.segments.len() > 1 && oldest_lives && garbage > alive + limits::LOG_GARBAGE_BYTES
    }

    /// The next stretch of the oldest segment whose survivors are to be written again; none when it
    /// has been gone through.
    pub fn next_to_rewrite(&mut self) -> Option<Stretch> {
        let oldest = self.segments.front_mut()?;
        let (epoch, from) = self.rewriting.unwrap_or((oldest.epoch, 0));
        if epoch != oldest.epoch || oldest.live == 0 {
            self.rewriting = None;
            return None;
        }
        let Some((offset, len, next)) = oldest.stretch(from, limits::REWRITE_BYTES) else {
            // What still lives here could not be read: it is lost, and the file shall be looked at.
            self.rewriting = None;
            oldest.live = 0;
            oldest.damaged = true;
            oldest.emptied_at = Some(self.next_lsn);
            return None;
        };
        self.rewriting = Some((epoch, next));
        Some(Stretch {
            file: oldest.file.file,
            offset,
            len: len as usize,
            epoch,
        })
    }

    /// Whether the oldest segment is being gone through.
    pub fn is_rewriting(&self) -> bool {
        self.rewriting.is_some()
    }

    /// Hands over the records of a stretch that was read. Whether all of it was as it had been
    /// written; a segment that was given up meanwhile has nothing to say.
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
        let mut rest = bytes;
        while rest.len() >= BLOCK {
            let found = BatchHeader::read(segment.key, rest)
                .filter(|(header, _)| header.stride() <= rest.len());
            let Some((header, sums)) = found else {
                segment.damaged = true;
                return false;
            };
            match header.records(sums, rest) {
                Some(records) => records.for_each(&mut visit),
                None => {
                    segment.damaged = true;
                    return false;
                }
            }
            rest = &rest[header.stride()..];
        }
        true
    }

    /// What the disk is to do next.
    pub fn next_request(&mut self) -> Option<DiskRequest> {
        self.requests.pop_front()
    }
}
