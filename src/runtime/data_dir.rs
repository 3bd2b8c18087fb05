//! The data directory, which one broker has to itself.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{self, Path, PathBuf};

use rustix::fs::OFlags;

use super::StartError;

/// The file whose lock says that a broker runs here. It stays behind, empty.
const LOCK_FILE: &str = "leveret.lock";
/// The file that says which version of the directory's layout this is, and its first word.
pub(super) const FORMAT_FILE: &str = "format";
const FORMAT_WORD: &str = "leveret";
/// The layout that we write: `core-N/` and `definitions/` with a log each, and `quarantine/`.
const FORMAT: u32 = 1;

/// The right to use a data directory, as long as it lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The lock goes with the descriptor, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be, takes its lock, and sees that it is of a kind that we know.
    pub(crate) fn open(directory: &Path) -> Result<Self, StartError> {
        let dir = || directory.display().to_string();
        let unusable = |source| StartError::DataDirectory { dir: dir(), source };
        create(directory).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        let lock = options.open(directory.join(LOCK_FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StartError::DataDirectoryInUse { dir: dir() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        match fs::read(directory.join(FORMAT_FILE)) {
            Ok(text) => check_format(&text, dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_format(directory).map_err(unusable)?;
            }
            Err(error) => return Err(unusable(error)),
        }
        try_direct(directory)
            .map_err(|source| StartError::DataDirectoryBuffered { dir: dir(), source })?;
        if let Some(warning) = warning(directory) {
            tracing::warn!("{warning}");
        }
        // glommio opens directories by `openat` from no directory at all, which finds absolute paths only.
        let path = path::absolute(directory).map_err(unusable)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, from the root on.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Creates a directory and those above it, durably.
fn create(directory: &Path) -> io::Result<()> {
    match directory.parent() {
        Some(parent) if !directory.is_dir() => {
            create(parent)?;
            match fs::create_dir(directory) {
                // Another broker was faster, or what is in the way isn't a directory.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    fs::read_dir(directory).map(drop)
                }
                Err(error) => Err(error),
                Ok(()) if parent.as_os_str().is_empty() => sync(Path::new(".")),
                Ok(()) => sync(parent),
            }
        }
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn check_format(text: &[u8], dir: impl Fn() -> String) -> Result<(), StartError> {
    let text = String::from_utf8_lossy(text);
    let number = text
        .strip_prefix(FORMAT_WORD)
        .and_then(|rest| rest.strip_prefix(' '))
        .map(str::trim_end)
        .filter(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()));
    // One that doesn't fit is higher than ours, too.
    match number.map(|number| (number, number.parse::<u32>().unwrap_or(u32::MAX))) {
        Some((_, FORMAT)) => Ok(()),
        Some((found, FORMAT..)) => Err(StartError::DataDirectoryNewer {
            dir: dir(),
            found: found.to_owned(),
            known: FORMAT,
        }),
        _ => Err(StartError::DataDirectoryUnknown { dir: dir() }),
    }
}

/// Says what the directory is, before anything else is put there: wholly or not at all.
fn write_format(directory: &Path) -> io::Result<()> {
    let unfinished = directory.join(format!("{FORMAT_FILE}.tmp"));
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{FORMAT_WORD} {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(FORMAT_FILE))?;
    sync(directory)
}

/// Whether files here can be written past the page cache. tmpfs, which is nothing else, is let pass.
fn try_direct(directory: &Path) -> io::Result<()> {
    let direct = OFlags::DIRECT.bits() as i32;
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(direct);
    match options.open(directory.join(FORMAT_FILE)) {
        Err(error) if magic(directory) != Some(TMPFS) => Err(error),
        _ => Ok(()),
    }
}

/// What kind of file system it is: the numbers of `statfs(2)`.
fn magic(directory: &Path) -> Option<u32> {
    let answer = rustix::fs::statfs(directory).ok()?;
    Some(answer.f_type as u32)
}

const TMPFS: u32 = 0x0102_1994;
const BTRFS: u32 = 0x9123_683e;
const ZFS: u32 = 0x2fc1_2fc1;
const BCACHEFS: u32 = 0xca45_1a4e;

/// What the operator should know of the file system.
fn warning(directory: &Path) -> Option<String> {
    let dir = directory.display();
    match magic(directory)? {
        TMPFS => Some(format!(
            "data directory {dir} is in memory (tmpfs): durability is not assured on tmpfs"
        )),
        BTRFS | ZFS | BCACHEFS => Some(format!(
            "data directory {dir} is on a file system that copies on write (btrfs, zfs, bcachefs): written blocks \
             move, and space that was set aside can still run out, which stops the broker; ext4 or xfs is better"
        )),
        _ => None,
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_directory_serves_one_broker_at_a_time() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = scratch.path().join("a/b");
        let first = DataDir::open(&directory).expect("it is created");
        let error = DataDir::open(&directory).expect_err("it is locked");
        let expected = format!(
            "data directory {} is in use by another Leveret: stop it or choose another with --data-dir",
            directory.display()
        );
        assert_eq!(error.to_string(), expected);
        drop(first);
        assert!(DataDir::open(&directory).is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_the_reason() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let file = scratch.path().join("file");
        fs::write(&file, "").expect("the scratch directory is writable");
        let error = DataDir::open(&file.join("data")).expect_err("a file is in the way");
        let expected = format!(
            "cannot write to data directory {}/data: Not a directory (os error 20): choose another with --data-dir",
            file.display()
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_new_directory_says_what_it_is() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = scratch.path().join("data");
        drop(DataDir::open(&directory).expect("it is created"));
        let text = fs::read_to_string(directory.join("format")).expect("it is written");
        assert_eq!(text, "leveret 1\n");
        assert!(!directory.join("format.tmp").exists());
    }

    #[test]
    fn a_directory_of_another_format_is_not_touched() {
        let cases = [
            (
                "leveret 2\n",
                "has format 2, this Leveret knows up to 1: start the version that wrote it, or choose another \
                 with --data-dir",
            ),
            (
                "rabbit 1\n",
                "holds a file `format` that is not Leveret's: choose another with --data-dir",
            ),
            (
                "leveret 0\n",
                "holds a file `format` that is not Leveret's: choose another with --data-dir",
            ),
            (
                "",
                "holds a file `format` that is not Leveret's: choose another with --data-dir",
            ),
        ];
        for (text, expected) in cases {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let path = scratch.path().join("format");
            fs::write(&path, text).expect("the scratch directory is writable");
            let error = DataDir::open(scratch.path()).expect_err("it isn't ours to use");
            let expected = format!("data directory {} {expected}", scratch.path().display());
            assert_eq!(error.to_string(), expected);
            assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
            let names = fs::read_dir(scratch.path()).expect("it is readable");
            assert_eq!(names.count(), 2, "the lock file and what was there");
        }
    }
}
