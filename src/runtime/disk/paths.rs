//! Where a core's files stand in the data directory, and what they are called.
//!
//! ```text
//!   <data-dir>/core-0/00000012.log                 messages of core 0
//!   <data-dir>/definitions/00000003.log            what is declared
//!   <data-dir>/quarantine/core-0-00000012.log      put aside: a part can't be read
//! ```

use std::path::{Path, PathBuf};

use crate::base::CoreId;
use crate::log::{FileNumber, LogName};

/// Digits of a file's number: as many as its 32 bits can need would be 10; files with more than 8
/// simply have longer names.
const DIGITS: usize = 8;
const EXTENSION: &str = ".log";

/// The paths of one core.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    data_dir: PathBuf,
    core: CoreId,
}

impl Paths {
    pub(super) fn new(data_dir: &Path, core: CoreId) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            core,
        }
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The name of a log's directory, which its files keep as a prefix in quarantine.
    fn name(&self, log: LogName) -> String {
        match log {
            LogName::Messages => format!("core-{}", self.core.0),
            LogName::Definitions => "definitions".to_owned(),
        }
    }

    /// A log's directory.
    pub(super) fn directory(&self, log: LogName) -> PathBuf {
        self.data_dir.join(self.name(log))
    }

    /// A file of a log.
    pub(super) fn file(&self, log: LogName, file: FileNumber) -> PathBuf {
        self.directory(log).join(file_name(file))
    }

    /// A file of a block, which is there for a moment at start.
    pub(super) fn probe(&self) -> PathBuf {
        let name = self.name(LogName::Messages);
        self.data_dir.join(format!("probe-{name}.tmp"))
    }

    /// Where files go that are put aside.
    pub(super) fn quarantine(&self) -> PathBuf {
        self.data_dir.join("quarantine")
    }

    /// The names that a file may take in quarantine, the preferred one first. There may be a file of
    /// that number already, from an earlier run.
    pub(super) fn quarantined(
        &self,
        log: LogName,
        file: FileNumber,
    ) -> impl Iterator<Item = PathBuf> {
        let directory = self.quarantine();
        let stem = format!("{}-{:0DIGITS$}", self.name(log), file.0);
        let first = directory.join(format!("{stem}{EXTENSION}"));
        let others =
            (2..).map(move |time: u32| directory.join(format!("{stem}-{time}{EXTENSION}")));
        std::iter::once(first).chain(others)
    }
}

/// What a file is called.
pub(super) fn file_name(file: FileNumber) -> String {
    format!("{:0DIGITS$}{EXTENSION}", file.0)
}

/// Which file is called so; none if that isn't a name of ours.
pub(super) fn file_number(name: &str) -> Option<FileNumber> {
    let digits = name.strip_suffix(EXTENSION)?;
    let number = FileNumber(digits.parse().ok()?);
    // Only the name that we would give: no sign, no other count of zeros.
    (file_name(number) == name).then_some(number)
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_number_and_nothing_else_is_a_name() {
        for number in [0, 12, 99_999_999, 100_000_000, u32::MAX] {
            let number = FileNumber(number);
            assert_eq!(file_number(&file_name(number)), Some(number));
        }
        assert_eq!(file_name(FileNumber(12)), "00000012.log");
        let others = [
            "12.log",
            "000000012.log",
            "+0000012.log",
            "00000012.log.tmp",
            "00000012",
            ".log",
            "9999999999.log",
            "lost+found",
        ];
        for other in others {
            assert_eq!(file_number(other), None, "{other}");
        }
    }

    #[test]
    fn each_log_has_a_directory_of_its_own() {
        let paths = Paths::new(Path::new("/data"), CoreId(3));
        let file = FileNumber(12);
        let names: Vec<String> = [LogName::Messages, LogName::Definitions]
            .iter()
            .flat_map(|log| {
                let mut aside = paths.quarantined(*log, file);
                [Some(paths.file(*log, file)), aside.next(), aside.next()]
            })
            .flatten()
            .map(|path| path.display().to_string())
            .collect();
        let expected = [
            "/data/core-3/00000012.log",
            "/data/quarantine/core-3-00000012.log",
            "/data/quarantine/core-3-00000012-2.log",
            "/data/definitions/00000012.log",
            "/data/quarantine/definitions-00000012.log",
            "/data/quarantine/definitions-00000012-2.log",
        ];
        assert_eq!(names, expected);
    }
}
