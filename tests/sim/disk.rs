//! A disk that forgets: below each log a directory of files, at most one commit in flight, and other
//! jobs that end when the dice say. A crash keeps any subset of the sectors that were being written.

use std::collections::{BTreeMap, BTreeSet};

use leveret::base::{Time, limits};
use leveret::broker::Core;
use leveret::log::{DiskRequest, FileNumber, Image, LogName, Placed, ReadError, ReadId};

use crate::dice::Dice;
use crate::trace;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Where batches begin.
const BLOCK: usize = 4096;

/// Whose log.
pub(crate) type LogId = (usize, LogName);

/// Every log's directory.
#[derive(Default)]
pub(crate) struct Disk {
    directories: BTreeMap<LogId, Directory>,
    /// Files can't be made at present.
    pub(crate) is_full: bool,
    /// A crash may leave a sector that was being written half-written, or as garbage.
    pub(crate) harsh: bool,
    /// Of so many reads one fails; 0 is none.
    pub(crate) eio_of: usize,
    /// Reads that have failed and are tried again, and how often they have.
    failing: BTreeMap<(LogId, ReadId), usize>,
    /// How many reads have failed so often that they are given up.
    pub(crate) failed_reads: usize,
    /// Operations that were completed, and the one that fails.
    pub(crate) done: u64,
    pub(crate) fault_at: Option<u64>,
    /// A write has failed, or was short: the process ends.
    pub(crate) is_fatal: bool,
}

#[derive(Default)]
struct Directory {
    files: BTreeMap<u32, Vec<u8>>,
    write: Option<Write>,
    jobs: Vec<DiskRequest>,
}

struct Write {
    placed: Placed,
    bytes: Vec<u8>,
}

/// The files of one log as recovery sees them.
pub(crate) struct View<'a>(Option<&'a Directory>);

impl Image for View<'_> {
    fn files(&self) -> Vec<(FileNumber, u64)> {
        let files = self.0.iter().flat_map(|directory| directory.files.iter());
        files
            .map(|(file, bytes)| (FileNumber(*file), bytes.len() as u64))
            .collect()
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let found = self.0.and_then(|directory| directory.files.get(&file.0));
        let at = offset as usize;
        let bytes = found.and_then(|bytes| bytes.get(at..at + buffer.len()));
        buffer.copy_from_slice(bytes.expect("recovery reads within files"));
        Ok(())
    }
}

impl View<'_> {
    /// A file's bytes; none if it isn't there.
    pub(crate) fn copy(&self, file: FileNumber) -> Vec<u8> {
        let found = self.0.and_then(|directory| directory.files.get(&file.0));
        found.cloned().unwrap_or_default()
    }
}

impl Disk {
    pub(crate) fn view(&self, log: LogId) -> View<'_> {
        View(self.directories.get(&log))
    }

    /// How many files a log has, and their bytes.
    pub(crate) fn usage(&self, log: LogId) -> (usize, usize) {
        let files = self.directories.get(&log).map(|found| &found.files);
        files.map_or((0, 0), |files| {
            (files.len(), files.values().map(Vec::len).sum())
        })
    }

    /// A commit begins.
    pub(crate) fn begin_write(&mut self, log: LogId, placed: Placed, bytes: Vec<u8>) {
        trace::note(
            "write",
            [log.0 as u64, u64::from(placed.file.0), placed.offset],
        );
        let directory = self.directories.entry(log).or_default();
        assert!(directory.write.is_none(), "one commit at a time a log");
        let file = directory.files.get(&placed.file.0);
        let size = file.expect("a commit goes to a file that was made").len();
        assert!(
            placed.offset as usize + bytes.len() <= size,
            "within the file"
        );
        assert_eq!(
            bytes.len(),
            placed.len,
            "the buffer has what is to be written"
        );
        directory.write = Some(Write { placed, bytes });
    }

    /// Something else is to be done.
    pub(crate) fn submit(&mut self, log: LogId, request: DiskRequest) {
        let number = match &request {
            DiskRequest::Prepare { file, .. } => u64::from(file.0),
            DiskRequest::Remove { file } => 1000 + u64::from(file.0),
            DiskRequest::Quarantine { file } => 2000 + u64::from(file.0),
            DiskRequest::Read { file, .. } => 3000 + u64::from(file.0),
        };
        trace::note("disk job", [log.0 as u64, log.1 as u64, number]);
        self.directories.entry(log).or_default().jobs.push(request);
    }

    /// How much is under way.
    pub(crate) fn pending(&self) -> usize {
        let directories = self.directories.values();
        directories
            .map(|one| usize::from(one.write.is_some()) + one.jobs.len())
            .sum()
    }

    /// Completes one of the things that are under way; the core that was told.
    pub(crate) fn complete(
        &mut self,
        dice: &mut Dice,
        cores: &mut [Core],
        now: Time,
    ) -> Option<usize> {
        let busy: Vec<LogId> = self
            .directories
            .iter()
            .filter(|(_, one)| one.write.is_some() || !one.jobs.is_empty())
            .map(|(log, _)| *log)
            .collect();
        let log = dice.pick(&busy)?;
        let directory = self.directories.get_mut(&log)?;
        let choice = dice.roll(directory.jobs.len() + usize::from(directory.write.is_some()));
        let core = &mut cores[log.0];
        self.done += 1;
        let fails_now = self.fault_at == Some(self.done);
        if choice == directory.jobs.len() {
            if fails_now {
                self.is_fatal = true;
                return None;
            }
            let write = directory.write.take()?;
            trace::note(
                "committed",
                [log.0 as u64, log.1 as u64, write.bytes.len() as u64],
            );
            directory.put(&write.placed, &write.bytes);
            core.committed(now, log.1);
            return Some(log.0);
        }
        let eio = self.eio_of;
        match directory.jobs.remove(choice) {
            DiskRequest::Prepare { file, size } => {
                let made = !self.is_full && !fails_now;
                trace::note(
                    "prepared",
                    [log.0 as u64, u64::from(file.0), u64::from(made)],
                );
                if made {
                    directory.files.insert(file.0, vec![0; size as usize]);
                } else if dice.chance(1, 2) {
                    directory.files.insert(file.0, vec![0; size as usize / 2]);
                }
                core.prepared(now, log.1, file, made);
            }
            DiskRequest::Remove { file } | DiskRequest::Quarantine { file } => {
                directory.files.remove(&file.0);
            }
            DiskRequest::Read {
                read,
                file,
                offset,
                len,
            } => {
                trace::note("read", [log.0 as u64, u64::from(file.0), offset]);
                let found = directory.files.get(&file.0);
                let at = offset as usize;
                let bytes = found.and_then(|bytes| bytes.get(at..at + len));
                let fails = fails_now || eio > 0 && dice.chance(1, eio);
                if fails {
                    let failures = self.failing.entry((log, read)).or_default();
                    *failures += 1;
                    self.failed_reads += usize::from(*failures == limits::READ_TRIES);
                }
                core.read_done(now, log.1, read, bytes.filter(|_| !fails));
            }
        }
        Some(log.0)
    }

    /// Power goes. What was being done is done in part, and nobody is told.
    pub(crate) fn crash(&mut self, dice: &mut Dice) {
        let harsh = self.harsh;
        self.is_fatal = false;
        self.failing.clear();
        for directory in self.directories.values_mut() {
            if let Some(write) = directory.write.take() {
                directory.tear(&write, harsh, dice);
            }
            for job in std::mem::take(&mut directory.jobs) {
                let whole = dice.chance(1, 2);
                match job {
                    DiskRequest::Prepare { file, size } if whole => {
                        directory.files.insert(file.0, vec![0; size as usize]);
                    }
                    DiskRequest::Prepare { file, size } if dice.chance(1, 2) => {
                        let some = dice.roll(size as usize);
                        directory.files.insert(file.0, vec![0; some]);
                    }
                    DiskRequest::Remove { file } | DiskRequest::Quarantine { file } if whole => {
                        directory.files.remove(&file.0);
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Disk {
    /// A bit of what was written to some log of this name is another now. `rotten`: where it did so before.
    pub(crate) fn rot(
        &mut self,
        log: LogName,
        dice: &mut Dice,
        rotten: &mut BTreeSet<(LogName, usize, usize)>,
    ) {
        let logs = self.directories.iter_mut();
        let named = logs.filter(|((_, name), _)| *name == log);
        let mut files: Vec<&mut Vec<u8>> = named
            .flat_map(|(_, directory)| directory.files.values_mut())
            .filter(|file| file.iter().any(|byte| *byte != 0))
            .collect();
        if files.is_empty() {
            return;
        }
        let file = dice.roll(files.len());
        let (from, bit) = (dice.roll(files[file].len()), dice.roll(8));
        // Most of a file is padding.
        let mut places = (from..files[file].len()).chain(0..from);
        let Some(at) = places.find(|at| files[file][*at] != 0) else {
            return;
        };
        // Two in one place could undo each other, or leave nothing by which a batch is known for one.
        if !rotten.insert((log, file, at / BLOCK)) {
            return;
        }
        files[file][at] ^= 1 << bit;
        trace::note("rot", [file as u64, at as u64, bit as u64]);
        trace::count(|counts| counts.flips += 1);
    }
}

impl Directory {
    fn put(&mut self, placed: &Placed, bytes: &[u8]) {
        let file = self.files.get_mut(&placed.file.0);
        let at = placed.offset as usize;
        file.expect("it is there")[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A write that nobody will hear of: some of its sectors are on the disk.
    fn tear(&mut self, write: &Write, harsh: bool, dice: &mut Dice) {
        let sectors = write.bytes.len() / SECTOR;
        let (kind, mark) = (dice.roll(7), dice.roll(sectors));
        trace::note("torn", [kind as u64, mark as u64, sectors as u64]);
        let Some(file) = self.files.get_mut(&write.placed.file.0) else {
            return;
        };
        let start = write.placed.offset as usize;
        for sector in 0..sectors {
            let is_new = match kind {
                0 => false,
                1 => true,
                2 => sector < mark,
                3 => sector >= mark,
                4 => sector != mark,
                5 => sector == mark,
                _ => dice.chance(1, 2),
            };
            let at = sector * SECTOR;
            let old = &mut file[start + at..start + at + SECTOR];
            let new = &write.bytes[at..at + SECTOR];
            if harsh && dice.chance(1, 8) {
                let torn = dice.roll(SECTOR);
                if dice.chance(1, 2) {
                    old[..torn].copy_from_slice(&new[..torn]);
                } else {
                    for byte in &mut *old {
                        *byte = dice.word() as u8;
                    }
                }
            } else if is_new {
                old.copy_from_slice(new);
            }
        }
    }
}
