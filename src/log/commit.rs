//! Group commit and the life of segments, as a state machine.
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
use std::time::Duration;

use super::disk::{DiskRequest, FileNumber, Placed};
use super::layout::{BLOCK, BatchHeader, BatchWriter, HEADERS, SegmentHeader, Sums, whole_blocks};
use super::recovery::Found;
use super::segment::{FreeFile, Segment, segment_of};
use crate::base::{Lsn, Time, limits};

/// A log that has been quiet for so long is closed by an empty batch.
const CLOSE: Duration = Duration::from_millis(500);

/// One log: its segments and the write that is under way.
#[derive(Debug)]
pub struct Log {
    group: u32,
    /// Oldest first; the last one is being filled.
    pub(super) segments: VecDeque<Segment>,
    pub(super) free: Vec<FreeFile>,
    /// Given up; their files can be used again once the batch of that sequence is durable.
    pub(super) retired: VecDeque<(u64, Segment)>,
    pub(super) preparing: Option<FreeFile>,
    /// The last attempt to make a file failed, the disk being full: when it may be tried again.
    full_until: Option<Time>,
    /// The batch that waits found no room when last asked: how large a file it wants.
    starved: Option<u64>,
    /// The disk has little room: see [`Log::be_frugal`].
    pub(super) is_frugal: bool,
    next_file: u32,
    next_epoch: u64,
    key_seed: u64,
    /// Of the last sealed batch, and its checksums.
    sequence: u64,
    sums: Sums,
    /// The end of the batch that is being written.
    in_flight: Option<Lsn>,
    /// Every LSN below is durable, or was dropped before it was sealed.
    pub(super) durable_lsn: Lsn,
    pub(super) next_lsn: Lsn,
    /// The last batch was sealed then and had something in it.
    unclosed: Option<Time>,
    /// The broker stops in order: nothing may come that closing would have to wait for.
    finishing: bool,
    /// Where the rewriting of the oldest segment has got to: its epoch, and an index entry.
    pub(super) rewriting: Option<(u64, usize)>,
    /// The segment that was gone through and not all of it could be read: its epoch, and when that may be
    /// tried again.
    pub(super) unread: Option<(u64, Time)>,
    /// Dead bytes that are allowed beyond as many as are alive.
    pub(super) garbage_bytes: u64,
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

    /// How many bytes of records fit into a buffer of such a size.
    pub fn records_in(&self, buffer_len: usize) -> usize {
        self.records.min(buffer_len - self.lead() - HEADERS)
    }

    fn lead(&self) -> usize {
        if self.opens.is_some() { BLOCK } else { 0 }
    }
}

/// The size of a file for so many bytes.
fn file_size(least: u64) -> u64 {
    least
        .max(limits::SEGMENT_BYTES_MIN)
        .next_multiple_of(limits::SEGMENT_BYTES_MIN)
}

impl Log {
    /// Goes on after a start. `seed`: drawn at random and kept secret, for the keys of segments.
    pub fn resume(group: u32, seed: u64, mut found: Found) -> Self {
        found.next_lsn = found.next_lsn.max(Lsn::FIRST);
        let mut log = Self {
            group,
            segments: found.segments,
            free: Vec::new(),
            retired: VecDeque::new(),
            preparing: None,
            full_until: None,
            starved: None,
            is_frugal: false,
            next_file: found.next_file,
            next_epoch: found.last_epoch + 1,
            key_seed: seed,
            sequence: found.sequence,
            sums: found.sums,
            in_flight: None,
            durable_lsn: found.next_lsn,
            next_lsn: found.next_lsn,
            unclosed: None,
            finishing: false,
            rewriting: None,
            unread: None,
            garbage_bytes: limits::LOG_GARBAGE_BYTES,
            requests: VecDeque::new(),
        };
        // What follows a torn batch is never written to: the next batch opens a segment.
        for segment in &mut log.segments {
            segment.used = segment.file.size;
            if segment.live == 0 {
                segment.emptied_at = Some(found.next_lsn);
            }
        }
        // Some are used again, whatever they hold: the disk may have no room for others.
        for unused in found.unused {
            let is_whole = unused.size >= limits::SEGMENT_BYTES_MIN
                && unused.size.is_multiple_of(BLOCK as u64);
            if is_whole && log.free.len() < limits::FREE_FILES_MAX {
                log.free.push(unused);
            } else {
                let file = unused.file;
                log.requests.push_back(DiskRequest::Remove { file });
            }
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

    /// The log has no record of a lower LSN (any more), since the segments are gone that did.
    pub fn oldest_lsn(&self) -> Lsn {
        let oldest = self.segments.front();
        oldest.map_or(self.durable_lsn, |oldest| oldest.first_lsn.max(Lsn::FIRST))
    }

    /// Every LSN below this one is durable, or was dropped before it was sealed.
    pub fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    /// Whether a batch is being written.
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether a batch waits for room, and none is being written that might give some back.
    pub fn is_stuck(&self) -> bool {
        self.starved.is_some() && !self.is_writing()
    }

    /// Whether the disk had no room for another file when last asked.
    pub fn is_full(&self) -> bool {
        self.full_until.is_some()
    }

    /// When a batch should be made at the latest, or a full disk tried again. `due`: when what waits for
    /// the next batch wants to be in one; if nothing waits, an empty one closes the log.
    pub fn next_timer(&self, due: Option<Time>) -> Option<Time> {
        let retry = self.full_until.filter(|_| self.preparing.is_none());
        if self.is_writing() || self.starved.is_some() {
            return retry;
        }
        let close = match self.finishing {
            true => self.unclosed,
            false => self.unclosed.map(|since| since + CLOSE),
        };
        due.or(close).into_iter().chain(retry).min()
    }

    /// The broker stops in order: from now on the log is closed as soon as nothing else is to be written.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Whether the log has still to be closed, since the broker stops.
    pub fn is_finishing(&self) -> bool {
        self.finishing && self.unclosed.is_some()
    }

    /// Whether an empty batch should be written: one that closes the log, which has been quiet for a while or is at
    /// its end, so that recovery knows that the batch before was durable; or one that gives files back, or begins to.
    pub fn wants_empty(&self, now: Time) -> bool {
        let is_quiet = self.unclosed.is_some_and(|since| now >= since + CLOSE);
        is_quiet || self.is_finishing() || self.gives_back() || self.leaves_last()
    }

    /// On a disk with little room, whether all segments are dead and the last one, which is being filled, is larger
    /// than another that is ready.
    fn leaves_last(&self) -> bool {
        self.is_frugal
            && self.free.len() >= limits::FREE_FILES_MIN
            && self.segments.back().is_some_and(|last| {
                let mut free = self.free.iter();
                free.any(|file| file.size < last.file.size)
            })
            && self.segments.iter().all(|segment| segment.live == 0)
    }

    /// Tries again to make the files that should be ready, if the disk was full or those that are there are too large.
    /// `is_wanted`: whether something waits for the next batch.
    pub fn replenish(&mut self, is_wanted: bool, now: Time) {
        self.starved.take_if(|_| !is_wanted);
        let is_short = self.full_until.is_some() && self.free.len() < limits::FREE_FILES_MIN;
        if is_short || self.largest_surplus().is_some() {
            self.prepare(0, now);
        } else if self.starved.is_none() && self.preparing.is_none() {
            // It was full for a larger file than those, which nobody asks for any more.
            self.full_until = None;
        }
    }

    /// Bytes in use on the disk, dead and alive.
    pub fn used(&self) -> u64 {
        self.segments.iter().map(|segment| segment.used).sum()
    }

    /// Where a batch with `least` bytes of records would go; none as long as one is being written or
    /// no file has room. `spare`: how many free files must be left over, for batches that matter more.
    ///
    /// Batches with records leave a block of a file to an empty one, which closes the log: on a full disk too it can
    /// then be told which batches were durable. All leave a last one to a batch that gives a file back.
    pub fn room(&mut self, least: usize, spare: usize, now: Time) -> Option<Room> {
        if self.in_flight.is_some() {
            return None;
        }
        let found = self.find_room(least, spare);
        self.starved = found.err();
        if let Some(needed) = self.starved {
            self.prepare(needed, now);
        }
        found.ok()
    }

    /// The same, of the last free file too. Whoever was told that there is no room goes on waiting for it.
    pub fn reserved_room(&self, least: usize) -> Option<Room> {
        self.find_room(least, 0)
            .ok()
            .filter(|_| self.in_flight.is_none())
    }

    /// The room, or how large a file would have it.
    fn find_room(&self, least: usize, spare: usize) -> Result<Room, u64> {
        let closing = if least > 0 { BLOCK } else { 0 };
        let kept = closing + if self.gives_back() { 0 } else { BLOCK };
        let needed = (BLOCK + whole_blocks(HEADERS + least) + kept) as u64;
        let next = || {
            let fitting = self.free.iter().filter(|file| file.size >= needed);
            // A small one gives more back.
            let small = |file: &FreeFile| if self.is_frugal { file.size } else { 0 };
            fitting
                .min_by_key(|file| (small(file), file.file))
                .filter(|_| self.free.len() > spare)
        };
        if let Some(segment) = self.segments.back()
            && !(self.leaves_last() && next().is_some())
        {
            let left = ((segment.file.size - segment.used) as usize).saturating_sub(kept);
            if left >= whole_blocks(HEADERS + least) {
                let records = left - HEADERS;
                let opens = None;
                return Ok(Room { records, opens });
            }
        }
        let file = next().ok_or(needed)?;
        Ok(Room {
            records: file.size as usize - BLOCK - HEADERS - kept,
            opens: Some(*file),
        })
    }

    /// Asks for a file of at least so many bytes, unless one is on its way or the disk is full.
    fn prepare(&mut self, least: u64, now: Time) {
        if self.preparing.is_some() || self.full_until.is_some_and(|until| now < until) {
            return;
        }
        // Each new file doubles what is alive, until files are as large as they get.
        let alive = self.segments.iter().filter(|segment| segment.live > 0);
        let allocated: u64 = alive.map(|segment| segment.file.size).sum();
        let usual = allocated.clamp(limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX);
        // On a disk that is or was full, what fits is better than what is usual.
        let is_tight = self.full_until.is_some() || self.is_frugal;
        let size = file_size(least.max(if is_tight { 0 } else { usual }));
        let file = FileNumber(self.next_file);
        self.next_file += 1;
        self.preparing = Some(FreeFile { file, size });
        self.requests.push_back(DiskRequest::Prepare { file, size });
    }

    /// A file was made, or could not be for want of space: then it is tried again after a while.
    pub fn prepared(&mut self, file: FileNumber, made: bool, now: Time) {
        if let Some(prepared) = self.preparing.take_if(|preparing| preparing.file == file) {
            self.full_until = (!made).then(|| now + limits::DISK_RETRY);
            if made {
                self.free.push(prepared);
                self.save_space(limits::FREE_FILES_MIN);
                self.starved = None;
                if self.free.len() < limits::FREE_FILES_MIN {
                    self.prepare(0, now);
                }
            } else {
                self.requests.push_back(DiskRequest::Remove { file });
                // A small file may find room where the large one was.
                self.save_space(1);
            }
        }
    }

    /// While the disk has little room, the log takes no more of it than it must: files that wait for the next batches
    /// make way for small ones, as does a last segment that is dead. Nothing much will be written until there is more.
    pub fn be_frugal(&mut self, is_frugal: bool) {
        self.is_frugal = is_frugal;
        self.save_space(limits::FREE_FILES_MIN);
    }

    /// On a disk with little room, removes free files that are larger than need be, but for so many files.
    fn save_space(&mut self, kept: usize) {
        while self.free.len() > kept
            && let Some(at) = self.largest_surplus()
        {
            self.remove_free(at);
        }
    }

    /// On a disk with little room, the largest free file, if it is larger than any batch is known to need.
    pub(super) fn largest_surplus(&self) -> Option<usize> {
        if !self.is_frugal {
            return None;
        }
        let largest = (0..self.free.len()).max_by_key(|at| self.free[*at].size);
        let enough = file_size(self.starved.unwrap_or(0));
        largest.filter(|at| self.free[*at].size > enough)
    }

    fn remove_free(&mut self, at: usize) {
        let file = self.free.swap_remove(at).file;
        self.requests.push_back(DiskRequest::Remove { file });
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
        now: Time,
    ) -> Placed {
        debug_assert!(
            lsns.0 >= self.durable_lsn && lsns.1 >= lsns.0,
            "by their LSNs, batches are in order"
        );
        let (buffer, length, count) = writer.finish();
        self.unclosed = (count > 0).then_some(now);
        self.sequence += 1;
        // A segment header holds by itself, whether the batch behind it arrives whole or not: what
        // only this batch gives up is still needed by its word.
        let needed = self.segments.front().map(|oldest| oldest.epoch);
        self.retire(lsns.1);
        if let Some(file) = room.opens {
            self.open_segment(file, (lsns.0, needed), buffer, now);
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
            live,
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
    fn open_segment(
        &mut self,
        file: FreeFile,
        (first_lsn, oldest_epoch): (Lsn, Option<u64>),
        buffer: &mut [u8],
        now: Time,
    ) {
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
            oldest_epoch: oldest_epoch.unwrap_or(epoch),
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
            self.prepare(0, now);
        }
    }

    /// Whether the next batch, whatever is in it, gives a file back.
    pub fn gives_back(&self) -> bool {
        let others = self.segments.len().saturating_sub(1);
        let mut given_up = self
            .segments
            .iter()
            .take(others)
            .take_while(|oldest| oldest.is_done(self.durable_lsn));
        given_up.any(|segment| !segment.damaged)
    }

    /// Gives up the oldest segments that keep nothing alive, as the batch now being sealed will say.
    fn retire(&mut self, sealed_upto: Lsn) {
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && oldest.is_done(sealed_upto)
        {
            let Some(segment) = self.segments.pop_front() else {
                break;
            };
            self.retired.push_back((self.sequence, segment));
        }
    }

    /// Every LSN given out since the last batch was dropped, and no batch is being written: there is
    /// nothing left that is not durable.
    pub fn all_dropped(&mut self) {
        if self.in_flight.is_none() {
            self.durable_lsn = self.next_lsn;
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
        while let Some((_, segment)) = self
            .retired
            .pop_front_if(|(sequence, _)| *sequence <= self.sequence)
        {
            if segment.damaged {
                let file = segment.file.file;
                self.requests.push_back(DiskRequest::Quarantine { file });
            } else {
                self.reuse(segment.file);
            }
        }
    }

    /// A file that nobody needs: kept for the next segment, or removed if there are enough.
    fn reuse(&mut self, file: FreeFile) {
        self.free.push(file);
        self.save_space(limits::FREE_FILES_MIN);
        if self.free.len() >= limits::FREE_FILES_MIN {
            self.full_until = None;
        }
        if self.free.len() > limits::FREE_FILES_MAX {
            let smallest = (0..self.free.len()).min_by_key(|at| self.free[*at].size);
            self.remove_free(smallest.unwrap_or(0));
        }
    }

    /// What a record kept alive is dead; the record was sealed in a batch. What takes its place, if anything does,
    /// has its LSN already: the segment goes no sooner than that is sealed.
    #[inline]
    pub fn forget(&mut self, lsn: Lsn) {
        self.forget_once(lsn, self.next_lsn);
    }

    /// The same if nothing takes its place that is not sealed yet.
    #[inline]
    pub fn forget_at_once(&mut self, lsn: Lsn) {
        self.forget_once(lsn, self.durable_lsn);
    }

    #[inline]
    fn forget_once(&mut self, lsn: Lsn, sealed: Lsn) {
        if let Some(segment) = segment_of(&mut self.segments, lsn)
            && segment.live > 0
        {
            segment.live -= 1;
            if segment.live == 0 {
                segment.emptied_at = Some(sealed);
            }
        }
    }

    /// What the disk is to do next.
    pub fn next_request(&mut self) -> Option<DiskRequest> {
        self.requests.pop_front()
    }
}
