//! A log on a disk in memory, that can be torn, flipped, filled up and broken.

mod damage;
mod faults;
mod history;
mod speed;
mod torn;

use std::collections::BTreeMap;

use super::*;
use crate::base::{Lsn, Time};

const GROUP: u32 = 7;
const SECTOR: usize = 512;

/// Files in memory.
#[derive(Clone, Default)]
struct Disk {
    /// The time as the log is told.
    now: Time,
    files: BTreeMap<FileNumber, Vec<u8>>,
    quarantined: Vec<FileNumber>,
    removed: Vec<FileNumber>,
    is_full: bool,
}

/// A batch on its way to the disk.
struct Write {
    placed: Placed,
    bytes: Vec<u8>,
}

impl Write {
    /// The bytes of the file that it is for.
    fn target<'a>(&self, disk: &'a mut Disk) -> &'a mut [u8] {
        let file = disk.files.get_mut(&self.placed.file);
        let file = file.expect("it was prepared");
        &mut file[self.placed.offset as usize..][..self.placed.len]
    }
}

/// The disk as recovery sees it, which may fail to read.
struct Reading<'a> {
    disk: &'a Disk,
    /// Files that seem shorter than they are.
    cut: BTreeMap<FileNumber, usize>,
    /// Which bytes of which file can't be read.
    unreadable: Option<(FileNumber, std::ops::Range<u64>)>,
    /// Which read fails, counted from 0.
    failing: Option<usize>,
    reads: usize,
    bytes: u64,
}

impl<'a> Reading<'a> {
    fn new(disk: &'a Disk) -> Self {
        Self {
            disk,
            cut: BTreeMap::new(),
            unreadable: None,
            failing: None,
            reads: 0,
            bytes: 0,
        }
    }

    /// The payloads, and what else was found.
    fn recover(&mut self) -> Result<(Vec<Vec<u8>>, Found), RecoveryError> {
        let mut records = Vec::new();
        let found = recover(GROUP, self, |record| records.push(record.payload.to_vec()))?;
        Ok((records, found))
    }
}

impl Image for Reading<'_> {
    fn files(&self) -> Vec<(FileNumber, u64)> {
        let files = self.disk.files.iter();
        files
            .map(|(file, bytes)| {
                let len = self.cut.get(file).copied().unwrap_or(bytes.len());
                (*file, len as u64)
            })
            .collect()
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.reads += 1;
        self.bytes += buffer.len() as u64;
        let end = offset + buffer.len() as u64;
        assert_eq!((offset % BLOCK as u64, end % BLOCK as u64), (0, 0));
        let bad = self.unreadable.as_ref();
        let is_bad =
            bad.is_some_and(|(bad, range)| *bad == file && range.start < end && offset < range.end);
        if is_bad || self.failing == Some(self.reads - 1) {
            return Err(ReadError {
                file: file.0,
                offset,
                len: buffer.len(),
                reason: "input/output error".to_owned(),
            });
        }
        buffer.copy_from_slice(&self.disk.files[&file][offset as usize..end as usize]);
        Ok(())
    }
}

impl Disk {
    /// Carries out what the log asks.
    fn serve(&mut self, log: &mut Log) {
        while let Some(request) = log.next_request() {
            match request {
                DiskRequest::Prepare { file, size } => {
                    assert_eq!(size % BLOCK as u64, 0);
                    if !self.is_full {
                        self.files.insert(file, vec![0; size as usize]);
                    }
                    log.prepared(file, !self.is_full, self.now);
                }
                DiskRequest::Remove { file } => {
                    self.files.remove(&file);
                    self.removed.push(file);
                }
                DiskRequest::Quarantine { file } => {
                    assert!(self.files.remove(&file).is_some(), "it is there");
                    self.quarantined.push(file);
                }
                DiskRequest::Read { .. } => unreachable!("the log doesn't read by itself"),
            }
        }
    }

    /// Begins to write a batch of records with LSNs; none if there is no room.
    fn begin(&mut self, log: &mut Log, payloads: &[&[u8]]) -> Option<Write> {
        let bytes = payloads.iter().map(|one| one.len() + RECORD_OVERHEAD).sum();
        let room = match log.room(bytes, 0, self.now) {
            Some(room) => room,
            None => {
                self.serve(log);
                log.room(bytes, 0, self.now)?
            }
        };
        let mut buffer = vec![0xee; room.buffer_len(bytes)];
        let first = log.upcoming_lsn();
        let lsns: Vec<Lsn> = payloads.iter().map(|_| log.next_lsn()).collect();
        let mut writer = log.begin(&room, first, &mut buffer);
        for (payload, lsn) in payloads.iter().zip(&lsns) {
            writer.begin_numbered(1, *lsn, payload.len());
            writer.put(payload);
        }
        let end = log.upcoming_lsn();
        let placed = log.seal(room, writer, (first, end), payloads.len() as u64, self.now);
        buffer.truncate(placed.len);
        Some(Write {
            placed,
            bytes: buffer,
        })
    }

    fn finish(&mut self, log: &mut Log, write: &Write) {
        write.target(self).copy_from_slice(&write.bytes);
        log.written();
        self.serve(log);
    }

    /// Writes a batch of records with LSNs.
    fn append(&mut self, log: &mut Log, payloads: &[&[u8]]) -> Option<Placed> {
        let write = self.begin(log, payloads)?;
        self.finish(log, &write);
        Some(write.placed)
    }

    fn recovered(&self) -> (Vec<Vec<u8>>, Found) {
        Reading::new(self).recover().expect("it is ours")
    }

    /// Starts again, with everything that is recovered kept alive.
    fn restarted(&mut self, seed: u64) -> Log {
        let mut lsns = Vec::new();
        let mut found = recover(GROUP, &mut Reading::new(self), |record| {
            lsns.extend(record.lsn);
        })
        .expect("it is ours");
        for lsn in lsns {
            found.adopt(lsn);
        }
        let mut log = Log::resume(GROUP, seed, found);
        self.serve(&mut log);
        log
    }
}

fn fresh() -> (Disk, Log) {
    let mut disk = Disk::default();
    let log = disk.restarted(42);
    (disk, log)
}

/// A log whose files have had other lives, and whose youngest segment has just begun.
fn recycled() -> (Disk, Log) {
    let (mut disk, mut log) = fresh();
    let mut dice = Dice(99);
    let mut first = log.upcoming_lsn();
    let file_of_first = disk.append(&mut log, &[b"first"]).expect("room").file;
    let mut lives = 0;
    while lives < 2 {
        let payload = dice.bytes(60_000);
        let placed = disk.append(&mut log, &[&payload]).expect("room");
        while first < log.upcoming_lsn() {
            log.forget(first);
            first = first.next();
        }
        lives += u32::from(placed.file == file_of_first && placed.offset == 0);
    }
    (disk, log)
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for chunk in bytes.chunks_mut(8) {
            let word = self.roll().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        bytes
    }
}

#[test]
fn what_was_written_is_recovered_in_order() {
    let (mut disk, mut log) = fresh();
    disk.append(&mut log, &[b"one", b"two"]);
    disk.append(&mut log, &[&[3; 5000]]);
    disk.append(&mut log, &[]);
    let (records, found) = disk.recovered();
    assert_eq!(records, [b"one".to_vec(), b"two".to_vec(), vec![3; 5000]]);
    assert!(found.damage.is_empty());
    let mut log = Log::resume(GROUP, 43, found);
    disk.serve(&mut log);
    disk.append(&mut log, &[b"after"]);
    let (records, found) = disk.recovered();
    assert_eq!(records.last().map(Vec::as_slice), Some(&b"after"[..]));
    assert!(found.damage.is_empty());
}

/// Where a record is, if it is durable.
fn stretch_of(log: &Log, lsn: Lsn) -> Option<Stretch> {
    match log.locate(lsn) {
        Located::Here(stretch) => Some(stretch),
        Located::NotYet | Located::Nowhere => None,
    }
}
