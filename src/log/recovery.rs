//! What a log holds after a stop, clean or not.
//!
//! Segments are read in the order of their epochs, batches in the order of their sequence. Where a
//! batch is missing or doesn't match its checksums, what follows decides:
//!
//! - nothing valid follows: it is the torn tail of the last write, which was never confirmed. Dropped.
//! - a later batch says that it was durable: confirmed data is damaged. The rest is served, the damage
//!   is reported, and the file is put aside when its segment is given up.
//!
//! Nothing is written here, so a crash during recovery changes nothing. What was read came from the
//! disk itself; the first batch written afterwards opens a segment and makes all before it durable
//! once more.

use super::commit::Found;
use super::disk::{FileNumber, Image, ReadError};
use super::layout::{BLOCK, BatchHeader, NoSegment, Record, SegmentHeader, Sums, VERSION};
use super::segment::{FreeFile, Segment};
use crate::base::Lsn;

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
        let free = FreeFile { file, size };
        match read_header(group, image, file, size)? {
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
    };
    for (header, file) in &segments {
        scan.segment(image, header, *file, &mut visit);
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
    file: FileNumber,
    size: u64,
) -> Result<Header, RecoveryError> {
    if size < BLOCK as u64 {
        return Ok(Header::None);
    }
    let mut block = vec![0; BLOCK];
    image.read(file, 0, &mut block)?;
    match SegmentHeader::read(&block) {
        Ok(header) if header.group != group => Err(RecoveryError::Foreign {
            file: file.0,
            found: header.group,
            expected: group,
        }),
        Ok(header) => Ok(Header::Of(header)),
        Err(NoSegment::Unused) => Ok(Header::None),
        Err(NoSegment::Unknown) => Ok(Header::Unknown),
        Err(NoSegment::Newer(found)) => {
            let file = file.0;
            Err(RecoveryError::Newer { file, found })
        }
    }
}

/// The oldest epoch that is needed, as the last batch says. A file that was given up may still hold
/// its old life, if a crash met the write that was to begin the next.
fn oldest_epoch(image: &mut impl Image, segments: &[(SegmentHeader, FreeFile)]) -> u64 {
    let mut oldest = 0;
    for (header, file) in segments.iter().rev() {
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
}

impl Scan {
    fn segment(
        &mut self,
        image: &mut impl Image,
        header: &SegmentHeader,
        file: FreeFile,
        visit: &mut impl FnMut(Record<'_>),
    ) {
        let mut segment = Segment::new(file, header.epoch, header.key, header.first_lsn);
        let mut reader = Reader::new(image, &file);
        let mut at = BLOCK as u64;
        while let Some((batch, sums)) = reader.next_valid(header, &mut at) {
            let offset = at;
            at += batch.stride() as u64;
            let expected = *self.expected.get_or_insert(header.first_sequence);
            let lost = expected..batch.sequence.min(batch.durable_upto + 1);
            if !lost.is_empty() {
                segment.damaged = true;
                self.report_lost(file, offset, lost.end - lost.start);
            }
            let linked = self
                .sums
                .is_none_or(|before| before.outer == batch.previous);
            if batch.sequence == expected && !linked {
                segment.damaged = true;
                let line = format!(
                    "log file {}: the batch at {offset} does not follow the one before it",
                    file.file.0
                );
                self.found.damage.push(line);
            }
            let bytes = reader.view(offset, batch.length as usize);
            if let Some(records) = bytes.and_then(|bytes| batch.records(sums, bytes)) {
                records.for_each(&mut *visit);
            }
            segment.note_batch(batch.first_lsn, offset);
            segment.durable = at;
            self.expected = Some(batch.sequence + 1);
            self.sums = Some(sums);
            self.found.sequence = batch.sequence;
            self.found.next_lsn = self.found.next_lsn.max(batch.end_lsn);
        }
        self.found.segments.push_back(segment);
    }

    fn report_lost(&mut self, file: FreeFile, before: u64, count: u64) {
        self.found.damage.push(format!(
            "log file {}: {count} confirmed batches before byte {before} are damaged and left out; \
             the file will be kept as it is",
            file.file.0
        ));
    }

    fn finish(self) -> Found {
        let mut found = self.found;
        found.sums = self.sums.unwrap_or_default();
        found.next_lsn = found.next_lsn.max(Lsn::FIRST);
        found
    }
}

/// Reads one file in large pieces.
struct Reader<'a, I> {
    image: &'a mut I,
    file: FreeFile,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, I: Image> Reader<'a, I> {
    /// Large, since a disk gives a large piece almost as soon as a small one.
    const WINDOW: u64 = 4 * 1024 * 1024;

    fn new(image: &'a mut I, file: &FreeFile) -> Self {
        Self {
            image,
            file: *file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The next valid batch at `at` or behind; moves `at` to its start. None if there is none up to
    /// the end of the file.
    fn next_valid(&mut self, segment: &SegmentHeader, at: &mut u64) -> Option<(BatchHeader, Sums)> {
        while *at < self.file.size {
            if let Some((batch, sums)) = self.header(segment, *at) {
                let bytes = self.view(*at, batch.length as usize);
                if bytes.is_some_and(|bytes| batch.records(sums, bytes).is_some()) {
                    return Some((batch, sums));
                }
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
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + len as u64 > end {
            let wanted = (len as u64).next_multiple_of(BLOCK as u64);
            let size = wanted.max(Self::WINDOW).min(self.file.size - at);
            if !self.fill(at, size) && (size <= wanted || !self.fill(at, wanted)) {
                self.bytes.clear();
                return None;
            }
        }
        let from = (at - self.start) as usize;
        self.bytes.get(from..from + len)
    }

    fn fill(&mut self, at: u64, size: u64) -> bool {
        self.bytes.resize(size as usize, 0);
        self.start = at;
        let read = self.image.read(self.file.file, at, &mut self.bytes);
        read.is_ok()
    }
}
