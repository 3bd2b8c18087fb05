//! What a log asks of the disk, and nothing of how it is done: the runtime answers with io_uring, the
//! simulator with a disk that forgets.

use thiserror::Error;

/// Which log of a core. Each has a directory of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LogName {
    /// The messages of the core's queues, and what became of them.
    Messages,
    /// What is declared and durable; on core 0 only.
    Definitions,
}

/// A file of a log, numbered from 0. A number is used once per directory and process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileNumber(pub u32);

/// Which question a read answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Something that the disk is to do beside the commits. Sizes and offsets are multiples of
/// [`BLOCK`](super::BLOCK).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskRequest {
    /// Make a file of so many zero bytes: written, not only allocated, and durable together with its
    /// directory entry. Answered by [`Log::prepared`](super::Log::prepared).
    Prepare {
        /// Which file; it may be there as the remains of an earlier attempt.
        file: FileNumber,
        /// Bytes.
        size: u64,
    },
    /// Read, past every cache. Answered with the bytes, or with none if the disk fails to read them.
    Read {
        /// To be given back with the answer.
        read: ReadId,
        /// Which file.
        file: FileNumber,
        /// Where.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// Remove a file that is needed no more. No answer is waited for.
    Remove {
        /// Which file.
        file: FileNumber,
    },
    /// Put a file aside, under a name by which no log finds it: some of it can't be read, and the
    /// operator may want to look at it. No answer is waited for.
    Quarantine {
        /// Which file.
        file: FileNumber,
    },
}

/// Where a commit is to be written: as one write, durable when it is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Which file.
    pub file: FileNumber,
    /// Where in it.
    pub offset: u64,
    /// How many bytes of the buffer.
    pub len: usize,
}

/// The files of one log as they are found at start.
pub trait Image {
    /// Every file, with its size in bytes.
    fn files(&self) -> Vec<(FileNumber, u64)>;

    /// Reads exactly so many bytes, past every cache: what only memory knows isn't durable.
    ///
    /// # Errors
    /// If the disk can't. Nothing is known about these bytes then.
    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError>;
}

/// The disk didn't give its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("cannot read {len} bytes at {offset} of log file {file}: {reason}")]
pub struct ReadError {
    /// Which file.
    pub file: u32,
    /// Where.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
    /// What the kernel said.
    pub reason: String,
}
