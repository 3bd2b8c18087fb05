//! A log's files as recovery reads them, before the core serves: blocking, and past the page cache,
//! since what only memory knows isn't durable.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::paths::{Paths, file_name, file_number};
use crate::base::CoreId;
use crate::log::{BLOCK, FileNumber, Image, LogName, ReadError};

/// Most bytes read at once.
const PIECE: usize = 1024 * 1024;

/// The files of one log.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    /// With their sizes.
    files: BTreeMap<FileNumber, u64>,
    /// The one that was read last, and whether past the page cache.
    open: Option<(FileNumber, File, bool)>,
    aligned: Aligned,
}

impl Files {
    /// Lists the files of one core's log. There are none if its directory isn't there. Other names
    /// are left alone.
    pub(crate) fn list(data_dir: &Path, core: CoreId, log: LogName) -> io::Result<Self> {
        let directory = Paths::new(data_dir, core).directory(log);
        let mut files = BTreeMap::new();
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(file_number);
            let metadata = entry.metadata()?;
            if let Some(number) = number.filter(|_| metadata.is_file()) {
                files.insert(number, metadata.len());
            }
        }
        Ok(Self {
            directory,
            files,
            open: None,
            aligned: Aligned::default(),
        })
    }

    /// Makes durable what was read: it may be known to the disk's own cache only, if the process that
    /// wrote it ended before it was told that it was done. One sync does, since it empties that cache.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self.files.last_key_value() {
            Some((number, _)) => File::open(self.directory.join(file_name(*number)))?.sync_data(),
            None => Ok(()),
        }
    }

    fn try_read(&mut self, number: FileNumber, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (file, direct) = match self.open.take() {
            Some((open, file, direct)) if open == number => (file, direct),
            _ => {
                let path = self.directory.join(file_name(number));
                open_direct(&path, OpenOptions::new().read(true), OFlags::empty())?
            }
        };
        let (_, file, _) = self.open.insert((number, file, direct));
        if !direct {
            return file.read_exact_at(buffer, offset);
        }
        if is_aligned(offset, buffer) {
            let filled = read_upto(file, offset, buffer)?;
            let whole = filled == buffer.len();
            return whole.then_some(()).ok_or_else(ends_early);
        }
        // Through a buffer of whole blocks around what is wanted.
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let start = at - at % BLOCK as u64;
            let lead = (at - start) as usize;
            let piece = self.aligned.slice((lead + rest.len()).min(PIECE));
            let got = read_upto(file, start, piece)?.saturating_sub(lead);
            let count = got.min(rest.len());
            if count == 0 {
                return Err(ends_early());
            }
            let (filled, left) = rest.split_at_mut(count);
            filled.copy_from_slice(&piece[lead..lead + count]);
            rest = left;
            at += count as u64;
        }
        Ok(())
    }
}

impl Image for Files {
    fn files(&self) -> Vec<(FileNumber, u64)> {
        let files = self.files.iter();
        files.map(|(number, size)| (*number, *size)).collect()
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let len = buffer.len();
        self.try_read(file, offset, buffer)
            .map_err(|error| ReadError {
                file: file.0,
                offset,
                len,
                reason: error.to_string(),
            })
    }
}

/// Opens a file, past the page cache if the file system knows how to (tmpfs doesn't; the operator was
/// told), and says whether it does.
pub(super) fn open_direct(
    path: &Path,
    options: &mut OpenOptions,
    flags: OFlags,
) -> io::Result<(File, bool)> {
    let mut with = |flags: OFlags| options.custom_flags(flags.bits() as i32).open(path);
    match with(flags | OFlags::DIRECT) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            Ok((with(flags)?, false))
        }
        opened => Ok((opened?, true)),
    }
}

/// Reads until the buffer is full or the file ends.
fn read_upto(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // A count that isn't of whole blocks is the end of the file.
        if filled % BLOCK != 0 {
            break;
        }
    }
    Ok(filled)
}

fn ends_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before")
}

fn is_aligned(offset: u64, buffer: &[u8]) -> bool {
    let start = buffer.as_ptr().addr();
    offset.is_multiple_of(BLOCK as u64)
        && buffer.len().is_multiple_of(BLOCK)
        && start.is_multiple_of(BLOCK)
}

/// Memory that direct reads can go to, reused.
#[derive(Default, Debug)]
pub(super) struct Aligned {
    bytes: Vec<u8>,
}

impl Aligned {
    /// At least so many bytes, of whole blocks, that begin at a multiple of [`BLOCK`].
    pub(super) fn slice(&mut self, least: usize) -> &mut [u8] {
        let len = least.next_multiple_of(BLOCK);
        if self.bytes.len() < len + BLOCK {
            self.bytes = vec![0; len + BLOCK];
        }
        let start = self.bytes.as_ptr().align_offset(BLOCK);
        &mut self.bytes[start..start + len]
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    /// A directory of core 2 with one file, whose bytes tell their place.
    fn scratch(len: usize) -> (tempfile::TempDir, Vec<u8>) {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = scratch.path().join("core-2");
        fs::create_dir(&directory).expect("it is writable");
        let bytes: Vec<u8> = (0..len).map(|at| (at / 7 % 251) as u8).collect();
        fs::write(directory.join("00000004.log"), &bytes).expect("it is writable");
        (scratch, bytes)
    }

    #[test]
    fn only_files_with_a_number_are_listed() {
        let (scratch, _) = scratch(8192);
        let directory = scratch.path().join("core-2");
        fs::write(directory.join("00000000.log"), []).expect("it is writable");
        fs::write(directory.join("7.log"), "x").expect("it is writable");
        fs::write(directory.join("00000005.log.tmp"), "x").expect("it is writable");
        fs::create_dir(directory.join("00000006.log")).expect("it is writable");
        let list = |core| Files::list(scratch.path(), core, LogName::Messages);
        let files = list(CoreId(2)).expect("it is readable").files();
        assert_eq!(files, [(FileNumber(0), 0), (FileNumber(4), 8192)]);
        let none = list(CoreId(1)).expect("it need not be there").files();
        assert!(none.is_empty());
    }

    #[test]
    fn any_stretch_is_read_whatever_its_alignment() {
        let (scratch, bytes) = scratch(3 * 1024 * 1024);
        let mut files =
            Files::list(scratch.path(), CoreId(2), LogName::Messages).expect("it is there");
        let stretches = [
            (0, 4096),
            (4096, 8192),
            (1, 1),
            (4095, 2),
            (100, 2 * 1024 * 1024),
            (1024 * 1024 - 5, 1024 * 1024 + 9),
            (0, 3 * 1024 * 1024),
        ];
        for (offset, len) in stretches {
            let mut buffer = vec![0xee; len];
            files
                .read(FileNumber(4), offset as u64, &mut buffer)
                .expect("it is there");
            assert!(buffer == bytes[offset..offset + len], "{len} at {offset}");
            let mut aligned = Aligned::default();
            let whole = aligned.slice(len);
            let within = whole.len() <= bytes.len() - offset / BLOCK * BLOCK;
            if offset % BLOCK == 0 && within {
                files
                    .read(FileNumber(4), offset as u64, whole)
                    .expect("it is there");
                assert!(whole[..] == bytes[offset..offset + whole.len()]);
            }
        }
    }

    #[test]
    fn what_lies_beyond_the_end_cannot_be_read() {
        let (scratch, _) = scratch(5000);
        let mut files =
            Files::list(scratch.path(), CoreId(2), LogName::Messages).expect("it is there");
        let mut buffer = vec![0; 4096];
        let error = files
            .read(FileNumber(4), 4096, &mut buffer)
            .expect_err("it ends at 5000");
        assert_eq!((error.file, error.offset, error.len), (4, 4096, 4096));
        assert!(files.read(FileNumber(4), 904, &mut buffer).is_ok());
        assert!(files.read(FileNumber(4), 904 + 1, &mut buffer).is_err());
        assert!(files.read(FileNumber(9), 0, &mut buffer).is_err());
    }
}
