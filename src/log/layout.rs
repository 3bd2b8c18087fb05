//! The bytes of a log file: segment header, batches, records. All numbers are little-endian.
//!
//! ```text
//! file      +----------------+---------+---------+----
//!           | segment header | batch   | batch   | …      each begins at a block of 4 KiB
//!           +----------------+---------+---------+----
//!
//! segment   magic 8 | version 4 | group 4 | epoch 8 | size 8 | key 8 | first sequence 8 | first LSN 8
//! header    | oldest epoch 8 | checksum 8 | zeros up to the sector's end; a copy in each of 8 sectors
//!
//! batch     +--------------+----------------+---------+------------------------+
//!           | outer header | section header | records | zeros up to the block's |
//!           |    72 bytes  |    40 bytes    |         | end                     |
//!           +--------------+----------------+---------+------------------------+
//! outer     magic 4 | version 2 | sections 2 | length 4 | count 4 | epoch 8 | sequence 8
//! header    | durable up to 8 | oldest epoch 8 | previous batch's checksum 8 | kept alive 8
//!           | checksum 8
//! section   group 4 | records' length 4 | first LSN 8 | end LSN 8 | chain 8 | checksum 8
//! header
//!
//! record    tag 1 | [LSN skipped, varint] | length, varint | payload        tag's top bit: has an LSN
//! ```
//!
//! The outer checksum covers both headers, the section's covers its records. Only the outer one is
//! seeded, with the segment's random key: neither what an earlier life of the file left behind nor a
//! body that a client made up can pass for a batch, while a section can be handed on as it is.

use twox_hash::XxHash3_64;

use super::varint::{take_varint, write_varint};
use crate::base::Lsn;

/// Every write begins at a multiple of this and is as long: the unit that a disk writes at once.
pub const BLOCK: usize = 4096;
/// The version of what is drawn above.
pub(super) const VERSION: u32 = 1;
/// Bytes of a batch before its records.
pub(super) const HEADERS: usize = OUTER + SECTION;
/// The most bytes that a record takes besides its payload.
pub const RECORD_OVERHEAD: usize = 1 + 2 * super::varint::VARINT_MAX;

const OUTER: usize = 72;
const SECTION: usize = 40;
const SEGMENT_HEADER: usize = 72;
/// What a disk may lose or keep by itself: a damaged one costs one copy of the segment header.
const SECTOR: usize = 512;
const SEGMENT_MAGIC: &[u8; 8] = b"LEVERET\n";
const BATCH_MAGIC: &[u8; 4] = b"HARE";
/// Set in the tag of a record that has an LSN.
const NUMBERED: u8 = 0x80;

/// `len`, rounded up to whole blocks.
pub(super) fn whole_blocks(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// What stands at the start of a segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) group: u32,
    /// Of this life of the file; ascends from segment to segment.
    pub(super) epoch: u64,
    pub(super) size: u64,
    pub(super) key: u64,
    pub(super) first_sequence: u64,
    pub(super) first_lsn: Lsn,
    pub(super) oldest_epoch: u64,
}

/// Why a block is no segment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoSegment {
    /// Zeros.
    Unused,
    /// Neither zeros nor anything we know.
    Unknown,
    /// Of a version that we don't know.
    Newer(u32),
}

impl SegmentHeader {
    pub(super) fn write(&self, block: &mut [u8]) {
        let mut sector = [0; SECTOR];
        let mut out = Put::new(&mut sector);
        out.bytes(SEGMENT_MAGIC);
        out.u32(VERSION);
        out.u32(self.group);
        for word in [
            self.epoch,
            self.size,
            self.key,
            self.first_sequence,
            self.first_lsn.0,
            self.oldest_epoch,
        ] {
            out.u64(word);
        }
        let sum = checksum(0, &sector[..SEGMENT_HEADER - 8]);
        sector[SEGMENT_HEADER - 8..SEGMENT_HEADER].copy_from_slice(&sum.to_le_bytes());
        for copy in block[..BLOCK].chunks_exact_mut(SECTOR) {
            copy.copy_from_slice(&sector);
        }
    }

    /// Whether a block that is no segment header may be the first bytes of a write into a file of zeros.
    pub(super) fn may_be_begun(block: &[u8]) -> bool {
        block[SECTOR..].iter().all(|byte| *byte == 0)
    }

    /// Reads the copy of the highest epoch: a write that didn't end may have left some of an earlier
    /// life.
    pub(super) fn read(block: &[u8]) -> Result<Self, NoSegment> {
        let copies = block[..BLOCK].chunks_exact(SECTOR).map(Self::read_copy);
        let mut best: Result<Self, _> = Err(NoSegment::Unused);
        for copy in copies {
            best = match (best, copy) {
                (Ok(one), Ok(other)) if other.epoch > one.epoch => Ok(other),
                (Err(_), Ok(found)) => Ok(found),
                (Err(NoSegment::Unused), Err(reason)) => Err(reason),
                (kept, _) => kept,
            };
        }
        match best {
            Err(NoSegment::Unused) if block.iter().any(|byte| *byte != 0) => {
                Err(NoSegment::Unknown)
            }
            best => best,
        }
    }

    fn read_copy(sector: &[u8]) -> Result<Self, NoSegment> {
        let mut get = Get(sector);
        if get.bytes::<8>() != *SEGMENT_MAGIC
            || checksum(0, &sector[..SEGMENT_HEADER - 8])
                != Get(&sector[SEGMENT_HEADER - 8..]).u64()
        {
            return Err(NoSegment::Unused);
        }
        let version = get.u32();
        if version != VERSION {
            return Err(NoSegment::Newer(version));
        }
        Ok(Self {
            group: get.u32(),
            epoch: get.u64(),
            size: get.u64(),
            key: get.u64(),
            first_sequence: get.u64(),
            first_lsn: Lsn(get.u64()),
            oldest_epoch: get.u64(),
        })
    }
}

/// What stands before the records of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchHeader {
    /// Bytes of headers and records, without the zeros behind.
    pub(super) length: u32,
    /// Records.
    pub(super) count: u32,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    /// Every batch up to this one was durable before this one was written.
    pub(super) durable_upto: u64,
    /// Segments with a lower epoch are needed no more.
    pub(super) oldest_epoch: u64,
    /// The outer checksum of the batch before.
    pub(super) previous: u64,
    /// How much its records kept alive when it was written.
    pub(super) live: u64,
    pub(super) group: u32,
    /// What the first record with an LSN has, if it skips none.
    pub(super) first_lsn: Lsn,
    /// Every LSN below was given out before the batch was sealed, and is in it, in one before, or was dropped.
    pub(super) end_lsn: Lsn,
    /// The section's checksum of the batch before.
    pub(super) chain: u64,
}

/// The two checksums of a batch, by which the next one refers to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sums {
    pub(super) outer: u64,
    pub(super) section: u64,
}

impl BatchHeader {
    /// Writes the headers before the records that stand in `batch` already.
    pub(super) fn write(&self, key: u64, batch: &mut [u8]) -> Sums {
        let records = &batch[HEADERS..self.length as usize];
        let records_len = records.len() as u32;
        let section = checksum(0, records);
        let mut out = Put::new(batch);
        out.bytes(BATCH_MAGIC);
        out.bytes(&(VERSION as u16).to_le_bytes());
        out.bytes(&1_u16.to_le_bytes());
        out.u32(self.length);
        out.u32(self.count);
        for word in [
            self.epoch,
            self.sequence,
            self.durable_upto,
            self.oldest_epoch,
            self.previous,
            self.live,
            0,
        ] {
            out.u64(word);
        }
        out.u32(self.group);
        out.u32(records_len);
        for word in [self.first_lsn.0, self.end_lsn.0, self.chain, section] {
            out.u64(word);
        }
        let outer = Self::outer_checksum(key, batch);
        batch[OUTER - 8..OUTER].copy_from_slice(&outer.to_le_bytes());
        Sums { outer, section }
    }

    /// Reads the headers at the front of `bytes` (a block or more) under the segment's key.
    pub(super) fn read(key: u64, bytes: &[u8]) -> Option<(Self, Sums)> {
        let mut get = Get(bytes);
        if get.bytes::<4>() != *BATCH_MAGIC {
            return None;
        }
        let outer = Get(&bytes[OUTER - 8..]).u64();
        if outer != Self::outer_checksum(key, bytes) {
            return None;
        }
        get.bytes::<4>();
        let (length, count) = (get.u32(), get.u32());
        let [epoch, sequence, durable_upto, oldest_epoch, previous, live] =
            std::array::from_fn(|_| get.u64());
        get.u64();
        let (group, _records_len) = (get.u32(), get.u32());
        let [first_lsn, end_lsn, chain, section] = std::array::from_fn(|_| get.u64());
        let header = Self {
            length,
            count,
            epoch,
            sequence,
            durable_upto,
            oldest_epoch,
            previous,
            live,
            group,
            first_lsn: Lsn(first_lsn),
            end_lsn: Lsn(end_lsn),
            chain,
        };
        (length as usize >= HEADERS).then_some((header, Sums { outer, section }))
    }

    /// What looks like the headers of a batch when nobody knows the key: its bytes up to the next one.
    pub(super) fn guess_stride(block: &[u8]) -> Option<usize> {
        let mut get = Get(block);
        let is_one = get.bytes::<4>() == *BATCH_MAGIC;
        get.bytes::<4>();
        let length = get.u32() as usize;
        (is_one && length >= HEADERS).then(|| whole_blocks(length))
    }

    /// Whether a block that is no batch resembles one of this epoch that comes soon behind this sequence:
    /// of the three words that say so one may be damaged. An earlier life of the file has none of them.
    pub(super) fn is_resembled(block: &[u8], in_epoch: u64, behind: u64) -> bool {
        let mut get = Get(block);
        let magic = get.bytes::<4>();
        get.bytes::<12>();
        let epoch = get.u64();
        let sequence = get.u64();
        let is_next = (1..=2).contains(&sequence.wrapping_sub(behind));
        let signs = [magic == *BATCH_MAGIC, epoch == in_epoch, is_next];
        signs.iter().filter(|sign| **sign).count() >= 2
    }

    /// Over both headers, but for the place of the checksum itself.
    fn outer_checksum(key: u64, batch: &[u8]) -> u64 {
        let mut headers = [0; HEADERS];
        headers.copy_from_slice(&batch[..HEADERS]);
        headers[OUTER - 8..OUTER].fill(0);
        checksum(key, &headers)
    }

    /// Bytes from the start of this batch to that of the next.
    pub(super) fn stride(&self) -> usize {
        whole_blocks(self.length as usize)
    }

    /// Whether the records are the ones that were written; `batch` holds [`BatchHeader::length`] bytes
    /// or more.
    pub(super) fn is_whole(&self, sums: Sums, batch: &[u8]) -> bool {
        checksum(0, &batch[HEADERS..self.length as usize]) == sums.section
    }

    /// The records of a batch that is whole.
    pub(super) fn records<'a>(&self, batch: &'a [u8]) -> Records<'a> {
        Records {
            bytes: &batch[HEADERS..self.length as usize],
            next_lsn: self.first_lsn,
        }
    }
}

/// A record of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What kind it is, to whoever wrote it: less than 128.
    pub tag: u8,
    /// Its LSN, if it has one.
    pub lsn: Option<Lsn>,
    /// Its contents.
    pub payload: &'a [u8],
}

/// The records of a batch, in order.
#[derive(Clone, Debug)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    next_lsn: Lsn,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let (&tag, mut rest) = self.bytes.split_first()?;
        let mut lsn = None;
        if tag & NUMBERED != 0 {
            let skipped = take_varint(&mut rest)?;
            let own = Lsn(self.next_lsn.0.checked_add(skipped)?);
            lsn = Some(own);
            self.next_lsn = own.next();
        }
        let len = usize::try_from(take_varint(&mut rest)?).ok()?;
        let (payload, rest) = rest.split_at_checked(len)?;
        self.bytes = rest;
        let tag = tag & !NUMBERED;
        Some(Record { tag, lsn, payload })
    }
}

/// Writes the records of a batch into the buffer that goes to the disk.
#[derive(Debug)]
pub struct BatchWriter<'a> {
    buffer: &'a mut [u8],
    /// Where the batch begins.
    start: usize,
    at: usize,
    /// Where the payload under way must end.
    due: usize,
    next_lsn: Lsn,
    count: u32,
}

impl<'a> BatchWriter<'a> {
    pub(super) fn new(buffer: &'a mut [u8], start: usize, first_lsn: Lsn) -> Self {
        let at = start + HEADERS;
        Self {
            buffer,
            start,
            at,
            due: at,
            next_lsn: first_lsn,
            count: 0,
        }
    }

    /// Begins a record without an LSN, whose payload of exactly `len` bytes follows.
    pub fn begin(&mut self, tag: u8, len: usize) {
        self.begin_record(tag, None, len);
    }

    /// Begins a record with an LSN, which ascend.
    pub fn begin_numbered(&mut self, tag: u8, lsn: Lsn, len: usize) {
        let skipped = lsn.0 - self.next_lsn.0;
        self.next_lsn = lsn.next();
        self.begin_record(tag | NUMBERED, Some(skipped), len);
    }

    fn begin_record(&mut self, tag: u8, skipped: Option<u64>, len: usize) {
        assert_eq!(self.at, self.due, "a payload has the announced length");
        self.put(&[tag]);
        if let Some(skipped) = skipped {
            self.put_varint(skipped);
        }
        self.put_varint(len as u64);
        self.due = self.at + len;
        self.count += 1;
    }

    /// Adds bytes to the payload.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Adds a number to the payload.
    #[inline]
    pub fn put_varint(&mut self, value: u64) {
        self.at += write_varint(value, &mut self.buffer[self.at..]);
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The whole buffer, the batch's length without the zeros behind it, and how many records it has.
    pub(super) fn finish(self) -> (&'a mut [u8], usize, u32) {
        assert_eq!(self.at, self.due, "a payload has the announced length");
        let end = self.start + whole_blocks(self.at - self.start);
        self.buffer[self.at..end].fill(0);
        (self.buffer, self.at - self.start, self.count)
    }
}

/// Numbers one after the other.
struct Put<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Put<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Numbers taken one after the other from bytes that are long enough.
struct Get<'a>(&'a [u8]);

impl Get<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (bytes, rest) = self
            .0
            .split_first_chunk()
            .expect("headers are read from whole blocks");
        self.0 = rest;
        *bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}
