//! What one operation does, from its first submission to its last completion.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{Directory, DmaBuffer, DmaFile, OpenOptions, ReadResult};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::data_dir::FORMAT_FILE;
use super::failure::{Failure, short};
use super::paths::Paths;
use crate::log::{BLOCK, Placed};

/// Zeros written at once into a new file. A commit may have to wait for one such write, so they are
/// not larger; smaller ones take longer in all.
const PIECE: usize = 256 * 1024;
/// Nobody but the broker's user, and the group for backups, reads what clients have sent.
const MODE: u32 = 0o640;

/// Opens a file with a block of data, from which glommio learns whether the device can be polled: it
/// would draw the wrong conclusion from an empty one.
pub(super) async fn probe(paths: &Paths) -> Result<(), Failure> {
    let path = paths.probe();
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0; BLOCK])?;
        file.sync_all()
    });
    // On a full disk the file that every data directory has must do. (A file system that keeps so
    // short a one beside its name would mislead glommio.)
    let probe = match written {
        Ok(()) => path.clone(),
        Err(_) => paths.data_dir().join(FORMAT_FILE),
    };
    let opened = OpenOptions::new().read(true).dma_open(&probe).await;
    let file = opened.map_err(|error| failure("open", &probe, error))?;
    let closed = file.close().await;
    closed.map_err(|error| failure("close", &probe, error))?;
    // It says nothing, and the next start overwrites it.
    let _ = fs::remove_file(&path);
    Ok(())
}

/// Opens a file for commits: each write is durable when it is reported.
pub(super) async fn open(path: &Path) -> Result<Rc<DmaFile>, Failure> {
    // Readable too: glommio tries a read to see if the device can be polled.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::DSYNC.bits() as i32)
        .dma_open(path)
        .await;
    opened
        .map(Rc::new)
        .map_err(|error| failure("open", path, error))
}

/// Writes one commit. It is durable when this returns.
pub(super) async fn commit(
    file: &DmaFile,
    path: &Path,
    placed: Placed,
    buffer: DmaBuffer,
) -> Result<(), Failure> {
    match file.write_at(buffer, placed.offset).await {
        Ok(count) if count == placed.len => Ok(()),
        Ok(count) => Err(Failure::new("write", path, short(count, placed.len))),
        Err(error) => Err(failure("write", path, error)),
    }
}

/// Reads so many bytes.
pub(super) async fn read(
    file: &DmaFile,
    path: &Path,
    offset: u64,
    len: usize,
) -> Result<ReadResult, Failure> {
    match file.read_at_aligned(offset, len).await {
        Ok(bytes) if bytes.len() == len => Ok(bytes),
        Ok(bytes) => Err(Failure::new("read", path, short(bytes.len(), len))),
        Err(error) => Err(failure("read", path, error)),
    }
}

/// Makes a file of so many zeros, durable with its name, and opens it for commits.
///
/// The zeros are written, since a commit into space that is only allocated has to change the file
/// system's own records too, which takes half as long again.
pub(super) async fn prepare(path: &Path, size: u64) -> Result<Rc<DmaFile>, Failure> {
    let directory = path
        .parent()
        .expect("a log's file stands in its log's directory");
    make_directory(directory).await?;
    // Without O_DSYNC: one sync for all is cheaper.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .dma_open(path)
        .await
        .map_err(|error| failure("create", path, error))?;
    let filled = fill(&file, path, size).await;
    let closed = file.close().await;
    filled?;
    closed.map_err(|error| failure("close", path, error))?;
    sync_directory(directory).await?;
    open(path).await
}

async fn fill(file: &DmaFile, path: &Path, size: u64) -> Result<(), Failure> {
    // Says at once if there isn't the space, and asks for it in one piece. Not every file system can.
    if let Err(error) = file.pre_allocate(size, false).await {
        let unsupported = [Errno::OPNOTSUPP, Errno::NOSYS].map(|errno| Some(errno.raw_os_error()));
        if !unsupported.contains(&error.raw_os_error()) {
            return Err(failure("allocate", path, error));
        }
    }
    let mut zeros = file.alloc_dma_buffer(PIECE.min(size as usize));
    zeros.as_bytes_mut().fill(0);
    let mut zeros = Rc::new(zeros);
    let mut at = 0;
    while at < size {
        let left = (size - at) as usize;
        if left < zeros.len() {
            let mut rest = file.alloc_dma_buffer(left);
            rest.as_bytes_mut().fill(0);
            zeros = Rc::new(rest);
        }
        let due = zeros.len();
        let written = file.write_rc_at(Rc::clone(&zeros), at).await;
        let count = written.map_err(|error| failure("write", path, error))?;
        if count < due {
            // A new file that can't be filled: the disk is full, and the next write would say so.
            return Err(Failure::new("write", path, Errno::NOSPC));
        }
        at += due as u64;
    }
    let synced = file.fdatasync().await;
    synced.map_err(|error| failure("sync", path, error))
}

/// Makes a log's directory if it isn't there, durably.
async fn make_directory(directory: &Path) -> Result<(), Failure> {
    match fs::create_dir(directory) {
        Ok(()) => {
            let parent = directory
                .parent()
                .expect("a log's directory stands in the data directory");
            sync_directory(parent).await
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Failure::new("create", directory, error)),
    }
}

/// Makes the names in a directory durable. (glommio has `fdatasync` only, which for a directory is as
/// good: ext4 commits its journal, XFS forces its log.)
async fn sync_directory(directory: &Path) -> Result<(), Failure> {
    let failed = |error| failure("sync directory", directory, error);
    let opened = Directory::open(directory).await.map_err(failed)?;
    let synced = opened.sync().await;
    let closed = opened.close().await;
    synced.and(closed).map_err(failed)
}

/// glommio's own words name the path, the descriptor and more; the kernel's are enough.
fn failure(doing: &'static str, path: &Path, error: GlommioError<()>) -> Failure {
    let source = match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    };
    Failure::new(doing, path, source)
}
