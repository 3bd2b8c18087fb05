//! A core's files before there are cores: each thing is done at once, and waited for.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::data_dir::sync;
use super::failure::Failure;
use super::image::{Aligned, open_direct};
use super::paths::Paths;
use super::sweeper::{Sweep, Sweeper};
use crate::base::{CoreId, Time};
use crate::broker::Core;
use crate::log::{DiskRequest, FileNumber, LogName};

/// Zeros written at once into a new file.
const PIECE: usize = 1024 * 1024;
/// Nobody waits for what could come along, so everything is due.
const LATE: Time = Time(u64::MAX / 2);

/// The files of one core.
pub(crate) struct BlockingDisk {
    paths: Paths,
    sweeper: Sweeper,
    aligned: Aligned,
}

impl BlockingDisk {
    pub(crate) fn new(data_dir: &Path, core: CoreId) -> Self {
        let paths = Paths::new(data_dir, core);
        Self {
            sweeper: Sweeper::new(paths.clone()),
            paths,
            aligned: Aligned::default(),
        }
    }

    /// Does what the core's logs want done, until they want nothing more.
    pub(crate) fn drive(&mut self, core: &mut Core) -> Result<(), Failure> {
        while self.step(core)? {}
        match core.is_quiet() {
            true => Ok(()),
            false => Err(Failure::new(
                "write to",
                self.paths.data_dir(),
                Errno::NOSPC,
            )),
        }
    }

    /// Does what is wanted now; false if nothing is.
    fn step(&mut self, core: &mut Core) -> Result<bool, Failure> {
        let mut any = false;
        if let Some((log, len)) = core.next_commit(LATE) {
            any = true;
            let buffer = self.aligned.slice(len);
            if let Some(placed) = core.commit(LATE, log, buffer) {
                let path = self.paths.file(log, placed.file);
                let file = open(&path, OFlags::DSYNC)?;
                file.write_all_at(&buffer[..placed.len], placed.offset)
                    .map_err(|error| Failure::new("write", &path, error))?;
                core.committed(LATE, log);
            }
        }
        while let Some((log, request)) = core.next_disk_request() {
            any = true;
            self.serve(core, log, request)?;
        }
        Ok(any)
    }

    fn serve(
        &mut self,
        core: &mut Core,
        log: LogName,
        request: DiskRequest,
    ) -> Result<(), Failure> {
        match request {
            DiskRequest::Prepare { file, size } => {
                let made = match self.prepare(log, file, size) {
                    Ok(()) => true,
                    Err(failure) if failure.is_full() => false,
                    Err(failure) => return Err(failure),
                };
                core.prepared(LATE, log, file, made);
            }
            // Nobody consumes, and what is rewritten can wait.
            DiskRequest::Read { read, .. } => core.read_done(LATE, log, read, None),
            DiskRequest::Remove { file } => self.sweeper.order(Sweep::Remove, log, file),
            DiskRequest::Quarantine { file } => self.sweeper.order(Sweep::PutAside, log, file),
        }
        Ok(())
    }

    fn prepare(&mut self, log: LogName, number: FileNumber, size: u64) -> Result<(), Failure> {
        let directory = self.paths.directory(log);
        let path = self.paths.file(log, number);
        let failed = |error: io::Error| Failure::new("prepare", &path, error);
        fs::create_dir_all(&directory).map_err(failed)?;
        let file = open(&path, OFlags::CREATE | OFlags::TRUNC)?;
        let zeros = self.aligned.slice(PIECE);
        zeros.fill(0);
        let mut at = 0;
        while at < size {
            let count = (zeros.len() as u64).min(size - at);
            file.write_all_at(&zeros[..count as usize], at)
                .map_err(failed)?;
            at += count;
        }
        file.sync_all().map_err(failed)?;
        for directory in [&directory, self.paths.data_dir()] {
            sync(directory).map_err(failed)?;
        }
        Ok(())
    }
}

/// Opens a file to write to it.
fn open(path: &Path, flags: OFlags) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .create(flags.contains(OFlags::CREATE))
        .truncate(flags.contains(OFlags::TRUNC))
        .mode(0o640);
    match open_direct(path, options, flags - OFlags::CREATE - OFlags::TRUNC) {
        Ok((file, _)) => Ok(file),
        Err(error) => Err(Failure::new("open", path, error)),
    }
}
