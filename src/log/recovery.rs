//! What a log holds after a stop, clean or not.
//!
//! Segments are read in the order of their epochs, batches in the order of their sequence. Where a
//! batch is missing or doesn't match its checksums, what follows decides:
//!
//! - nothing follows: it is the torn tail of the last write, which was never confirmed. Dropped.
//! - a later batch says that it was durable, or one that is damaged itself was once there, since a batch is
//!   written when the one before it is durable: confirmed data is damaged. The rest is served, the damage
//!   is reported, and the file is put aside when its segment is given up.
//!
//! Nothing is written here, so a crash during recovery changes nothing. What was read came from the
//! disk itself; the first batch written afterwards opens a segment and makes all before it durable
//! once more.

use std::collections::VecDeque;

use super::disk::{FileNumber, Image, ReadError};
use super::layout::{BLOCK, BatchHeader, NoSegment, Record, SegmentHeader, Sums, VERSION};
use super::segment::{FreeFile, Segment, segment_of};
use crate::base::Lsn;

/// What recovery found of a log; [`Log::resume`](super::Log::resume) goes on from there.
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
            segment.total = segment.total.max(segment.live);
        }
    }
}

/// Why a log can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A segment of a version that we don't know.
    #[error(
        "log file {file} has format {found}, this Leveret knows up to {VERSION}: start the version that wrote it"
    )]
    Newer {
        /// The file's number.
        file: u32,
        /// Its format.
        found: u32,
    },
    /// A segment of another log.
    #[error("log file {file} belongs to log {found}, not {expected}: was it moved here?")]
    Foreign {
        /// The file's number.
        file: u32,
        /// Its log.
        found: u32,
        /// The log that was expected.
        expected: u32,
    },
    /// The disk fails where a segment's header should be.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
}

/// Reads a whole log and hands over its records in order.
///
/// # Errors
/// If what is there is not ours to read. Damage is no error: it stands in [`Found::damage`].
pub fn recover(
    group: u32,
    image: &mut impl Image,
    mut visit: impl FnMut(Record<'_>),
) -> Result<Found, RecoveryError> {
    let mut found = Found::default();
    let mut segments = Vec::new();
    for (file, size) in image.files() {
        found.next_file = found.next_file.max(file.0 + 1);
        // A file may have been cut short by a check of the file system: batches are in whole blocks.
        let size = size - size % BLOCK as u64;
        let free = FreeFile { file, size };
        match read_header(group, image, &free)? {
            Header::Of(header) => segments.push((header, free)),
            Header::None => found.unused.push(free),
            Header::Unknown => {
                let line = format!("log file {}: it has no header; put aside", file.0);
                found.damage.push(line);
                found.unknown.push(file);
            }
        }
    }
    segments.sort_by_key(|(header, _)| header.epoch);
    found.last_epoch = segments.last().map_or(0, |(header, _)| header.epoch);
    let oldest = oldest_epoch(image, &segments);
    let stale = segments.partition_point(|(header, _)| header.epoch < oldest);
    for (_, file) in segments.drain(..stale) {
        found.unused.push(file);
    }
    let mut scan = Scan {
        found,
        expected: None,
        sums: None,
        oldest_epoch: 0,
    };
    for (at, (header, file)) in segments.iter().enumerate() {
        let next = segments.get(at + 1);
        let until = next.map_or(u64::MAX, |(next, _)| next.first_sequence);
        scan.segment(image, header, *file, until, &mut visit);
    }
    Ok(scan.finish())
}

/// What stands at the start of a file.
enum Header {
    Of(SegmentHeader),
    None,
    Unknown,
}

fn read_header(
    group: u32,
    image: &mut impl Image,
    file: &FreeFile,
) -> Result<Header, RecoveryError> {
    if file.size < BLOCK as u64 {
        return Ok(Header::None);
    }
    let mut block = vec![0; BLOCK];
    image.read(file.file, 0, &mut block)?;
    match SegmentHeader::read(&block) {
        Ok(header) if header.group != group => Err(RecoveryError::Foreign {
            file: file.file.0,
            found: header.group,
            expected: group,
        }),
        Ok(header) => Ok(Header::Of(header)),
        Err(NoSegment::Newer(found)) => {
            let file = file.file.0;
            Err(RecoveryError::Newer { file, found })
        }
        Err(reason) => {
            let may_be_begun = reason == NoSegment::Unused || SegmentHeader::may_be_begun(&block);
            let is_torn = may_be_begun && !holds_two(image, file, reason)?;
            Ok(if is_torn {
                Header::None
            } else {
                Header::Unknown
            })
        }
    }
}

/// Whether a file without a segment header holds more than the write that was to begin it: then the
/// header was there once.
fn holds_two(
    image: &mut impl Image,
    file: &FreeFile,
    reason: NoSegment,
) -> Result<bool, RecoveryError> {
    let mut block = vec![0; BLOCK];
    let last = file.size - BLOCK as u64;
    let first = BLOCK as u64;
    if first > last {
        return Ok(false);
    }
    image.read(file.file, first, &mut block)?;
    let is_empty = block.iter().all(|byte| *byte == 0);
    let Some(stride) = BatchHeader::guess_stride(&block) else {
        return Ok(!is_empty && reason != NoSegment::Unused);
    };
    let second = first + stride as u64;
    if second > last {
        return Ok(false);
    }
    image.read(file.file, second, &mut block)?;
    Ok(BatchHeader::guess_stride(&block).is_some())
}

/// The oldest epoch that is needed, as the last batch says. A file that was given up may still hold
/// its old life, if a crash met the write that was to begin the next.
fn oldest_epoch(image: &mut impl Image, segments: &[(SegmentHeader, FreeFile)]) -> u64 {
    let mut oldest = 0;
    // One alone is the youngest.
    let others = segments.len() > 1;
    for (header, file) in segments.iter().rev().filter(|_| others) {
        oldest = oldest.max(header.oldest_epoch);
        let mut reader = Reader::new(image, file);
        let mut any = false;
        let mut at = BLOCK as u64;
        while let Some((batch, _)) = reader.next_valid(header, &mut at) {
            oldest = oldest.max(batch.oldest_epoch);
            at += batch.stride() as u64;
            any = true;
        }
        if any {
            break;
        }
    }
    oldest
}

/// The state of a pass over all segments.
struct Scan {
    found: Found,
    /// The sequence of the next batch; none before the first.
    expected: Option<u64>,
    sums: Option<Sums>,
    /// The oldest epoch that is needed, as the youngest batch or header says.
    oldest_epoch: u64,
}

impl Scan {
    /// `until`: the sequence with which the next segment begins.
    fn segment(
        &mut self,
        image: &mut impl Image,
        header: &SegmentHeader,
        file: FreeFile,
        until: u64,
        visit: &mut impl FnMut(Record<'_>),
    ) {
        self.begin_segment(header);
        let mut segment = Segment::new(file, header.epoch, header.key, header.first_lsn);
        let mut reader = Reader::new(image, &file);
        reader.sequence = header.first_sequence.wrapping_sub(1);
        let mut at = BLOCK as u64;
        while let Some((batch, sums)) = reader.next_valid(header, &mut at) {
            // The write of a process that had gone arrived after its successor had recovered.
            if batch.sequence >= until {
                break;
            }
            self.check_order(&batch, at, &mut segment);
            let records = reader.view(at, batch.length as usize);
            if let Some(bytes) = records {
                batch.records(bytes).for_each(&mut *visit);
            }
            segment.note_batch(batch.first_lsn, at);
            segment.total += batch.live;
            at += batch.stride() as u64;
            segment.durable = at;
            self.expected = Some(batch.sequence + 1);
            self.sums = Some(sums);
            self.oldest_epoch = self.oldest_epoch.max(batch.oldest_epoch);
            self.found.sequence = batch.sequence;
            self.found.next_lsn = self.found.next_lsn.max(batch.end_lsn);
        }
        if let Some(error) = reader.error {
            segment.damaged = true;
            self.found.damage.push(error.to_string());
        } else if let [from, _, ..] = reader.ruins[..]
            && until == u64::MAX
        {
            segment.damaged = true;
            let file = file.file.0;
            self.found.damage.push(format!(
                "log file {file}: its last batches, from byte {from} on, are damaged and left out, at least one \
                 of them confirmed; the file will be kept as it is"
            ));
        }
        self.found.segments.push_back(segment);
    }

    /// A segment was begun when all batches before it were durable.
    fn begin_segment(&mut self, header: &SegmentHeader) {
        self.oldest_epoch = self.oldest_epoch.max(header.oldest_epoch);
        let expected = *self.expected.get_or_insert(header.first_sequence);
        self.found.next_lsn = self.found.next_lsn.max(header.first_lsn);
        if header.first_sequence <= expected {
            return;
        }
        let count = header.first_sequence - expected;
        self.expected = Some(header.first_sequence);
        self.sums = None;
        self.found.sequence = header.first_sequence - 1;
        let Some(before) = self.found.segments.back_mut() else {
            return;
        };
        before.damaged = true;
        let file = before.file.file.0;
        self.found.damage.push(format!(
            "log file {file}: {count} confirmed batches at its end or behind it are damaged and left out; \
             the file will be kept as it is"
        ));
    }

    /// Compares a batch with the one before it.
    fn check_order(&mut self, batch: &BatchHeader, offset: u64, segment: &mut Segment) {
        let expected = self.expected.unwrap_or(batch.sequence);
        let file = segment.file.file.0;
        let lost = expected..batch.sequence.min(batch.durable_upto + 1);
        if !lost.is_empty() {
            segment.damaged = true;
            let count = lost.end - lost.start;
            self.found.damage.push(format!(
                "log file {file}: {count} confirmed batches before byte {offset} are damaged and left out; \
                 the file will be kept as it is"
            ));
        }
        let linked = self
            .sums
            .is_none_or(|before| before.outer == batch.previous);
        if batch.sequence == expected && !linked {
            segment.damaged = true;
            self.found.damage.push(format!(
                "log file {file}: the batch at {offset} does not follow the one before it"
            ));
        }
    }

    fn finish(self) -> Found {
        let mut found = self.found;
        let first = found.segments.front().map(|segment| segment.epoch);
        if first.is_some_and(|epoch| epoch > self.oldest_epoch) && found.unknown.is_empty() {
            found
                .damage
                .push("the log's oldest file is missing or has no header".to_owned());
        }
        found.sums = self.sums.unwrap_or_default();
        found
    }
}

/// Reads one file in large pieces.
struct Reader<'a, I> {
    image: &'a mut I,
    file: FreeFile,
    /// Where `bytes` are from, and how many of them are.
    start: u64,
    filled: usize,
    bytes: Vec<u8>,
    /// Up to here the disk fails somewhere: no more is read at once than is needed.
    careful_until: u64,
    /// The first failure.
    error: Option<ReadError>,
    /// Of the last valid batch.
    sequence: u64,
    /// Where, behind that, blocks only resemble a batch: the first two.
    ruins: Vec<u64>,
}

impl<'a, I: Image> Reader<'a, I> {
    /// Large, since a disk gives a large piece almost as soon as a small one.
    const WINDOW: u64 = 4 * 1024 * 1024;

    fn new(image: &'a mut I, file: &FreeFile) -> Self {
        Self {
            image,
            file: *file,
            start: 0,
            filled: 0,
            bytes: Vec::new(),
            careful_until: 0,
            error: None,
            sequence: 0,
            ruins: Vec::new(),
        }
    }

    /// The next valid batch at `at` or behind; moves `at` to its start. None if there is none up to
    /// the end of the file.
    fn next_valid(&mut self, segment: &SegmentHeader, at: &mut u64) -> Option<(BatchHeader, Sums)> {
        while *at < self.file.size {
            if let Some((batch, sums)) = self.header(segment, *at) {
                let bytes = self.view(*at, batch.length as usize);
                if bytes.is_some_and(|bytes| batch.is_whole(sums, bytes)) {
                    self.sequence = batch.sequence;
                    self.ruins.clear();
                    return Some((batch, sums));
                }
            }
            let behind = self.sequence;
            if self.ruins.len() < 2
                && let Some(block) = self.view(*at, BLOCK)
                && BatchHeader::is_resembled(block, segment.epoch, behind)
            {
                self.ruins.push(*at);
            }
            *at += BLOCK as u64;
        }
        None
    }

    fn header(&mut self, segment: &SegmentHeader, at: u64) -> Option<(BatchHeader, Sums)> {
        let (batch, sums) = BatchHeader::read(segment.key, self.view(at, BLOCK)?)?;
        let fits = at + batch.stride() as u64 <= self.file.size;
        (batch.epoch == segment.epoch && fits).then_some((batch, sums))
    }

    /// Bytes of the file; none if the disk doesn't give them.
    fn view(&mut self, at: u64, len: usize) -> Option<&[u8]> {
        let end = self.start + self.filled as u64;
        if at < self.start || at + len as u64 > end {
            let wanted = (len as u64).next_multiple_of(BLOCK as u64);
            let size = wanted.max(Self::WINDOW).min(self.file.size - at);
            let is_read = at >= self.careful_until && self.fill(at, size);
            if !is_read && at >= self.careful_until {
                self.careful_until = at + size;
            }
            if !is_read && !self.fill(at, wanted) {
                return None;
            }
        }
        let from = (at - self.start) as usize;
        self.bytes[..self.filled].get(from..from + len)
    }

    /// Reads `size` bytes from `at` on, but for those that are there.
    fn fill(&mut self, at: u64, size: u64) -> bool {
        let size = size as usize;
        let from = at.checked_sub(self.start).map(|from| from as usize);
        let kept = match from {
            Some(from) if from < self.filled => {
                self.bytes.copy_within(from..self.filled, 0);
                self.filled - from
            }
            _ => 0,
        };
        if self.bytes.len() < size {
            let before = std::mem::replace(&mut self.bytes, vec![0; size]);
            self.bytes[..kept].copy_from_slice(&before[..kept]);
        }
        self.start = at;
        self.filled = kept;
        let rest = &mut self.bytes[kept..size];
        match self.image.read(self.file.file, at + kept as u64, rest) {
            Ok(()) => self.filled = size,
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self.filled == size
    }
}
