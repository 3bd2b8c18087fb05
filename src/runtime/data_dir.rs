//! The data directory, which one broker has to itself.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use super::StartError;

/// The file whose lock says that a broker runs here. It stays behind, empty.
const LOCK_FILE: &str = "leveret.lock";

/// The right to use a data directory, as long as it lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// The lock goes with the descriptor, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be, and takes its lock.
    pub(crate) fn open(directory: &Path) -> Result<Self, StartError> {
        let dir = || directory.display().to_string();
        let unusable = |source| StartError::DataDirectory { dir: dir(), source };
        fs::create_dir_all(directory).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        let lock = options.open(directory.join(LOCK_FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::DataDirectoryInUse { dir: dir() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
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
}
