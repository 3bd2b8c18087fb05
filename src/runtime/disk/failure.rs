//! What a disk's failure means: most of them end the process.
//!
//! After a failed or short write nobody knows what is on the disk, and trying again would only hide
//! that (PostgreSQL, 2018). So nothing more is confirmed, and the next start finds what was.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use rustix::io::Errno;
use tracing::Level;

/// Something that a log can't do without failed.
#[derive(Debug)]
pub(crate) struct Failure {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Failure {
    pub(super) fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Whether there is no room on the disk, or none for this user.
    pub(super) fn is_full(&self) -> bool {
        [Errno::NOSPC, Errno::DQUOT]
            .iter()
            .any(|errno| self.source.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// Whether the bytes themselves are gone: the device lost them, the file system's own checksum
    /// says so, or somebody took the file away. Want of memory or descriptors, say, tells nothing
    /// about them.
    pub(super) fn is_loss(&self) -> bool {
        const LOSSES: [Errno; 9] = [
            Errno::IO,
            Errno::REMOTEIO,
            Errno::NODATA,
            Errno::ILSEQ,
            Errno::BADMSG,
            Errno::UCLEAN,
            Errno::NXIO,
            Errno::NOENT,
            Errno::STALE,
        ];
        let ends_early = self.source.kind() == io::ErrorKind::UnexpectedEof;
        ends_early
            || LOSSES
                .iter()
                .any(|errno| self.source.raw_os_error() == Some(errno.raw_os_error()))
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "cannot {} {path}: {}", self.doing, self.source)
    }
}

/// Ends the process at once: no unwinding, no goodbye to clients, no confirm.
pub(super) fn fatal(failure: &Failure) -> ! {
    let line = format!("{failure}: nothing more is confirmed, the broker stops");
    if tracing::enabled!(Level::ERROR) {
        tracing::error!("{line}");
    } else {
        // There may be nobody to hear it.
        let _ = writeln!(io::stderr(), "{line}");
    }
    process::exit(1)
}

/// What was to be as long as that wasn't.
pub(super) fn short(count: usize, due: usize) -> io::Error {
    let text = format!("only {count} of {due} bytes");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_what_was_tried_the_file_and_the_reason() {
        let path = Path::new("/data/core-0/00000012.log");
        let failure = Failure::new("write", path, Errno::IO);
        let expected = "cannot write /data/core-0/00000012.log: Input/output error (os error 5)";
        assert_eq!(failure.to_string(), expected);
        let failure = Failure::new("write", path, short(4096, 8192));
        let expected = "cannot write /data/core-0/00000012.log: only 4096 of 8192 bytes";
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn want_of_space_and_loss_of_bytes_are_told_from_all_else() {
        let of = |errno: Errno| Failure::new("read", Path::new("f"), errno);
        assert!(of(Errno::NOSPC).is_full() && of(Errno::DQUOT).is_full());
        assert!(of(Errno::IO).is_loss() && !of(Errno::IO).is_full());
        for neither in [Errno::MFILE, Errno::NOMEM, Errno::ACCESS, Errno::INVAL] {
            assert!(!of(neither).is_full() && !of(neither).is_loss());
        }
        let short = Failure::new("read", Path::new("f"), short(0, 4096));
        assert!(short.is_loss());
    }
}
