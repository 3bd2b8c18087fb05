//! Limits of the operating system that many connections run into.

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that we need besides one for each connection.
const OTHER_FILES: u64 = 32;

/// Raises the soft limit of open files to the hard one. Best effort: what is too low is told when
/// it is known how many are needed.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Refuses what would fail halfway.
pub(crate) fn ensure_open_files(connections: u64) -> Result<()> {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        connections + OTHER_FILES <= allowed,
        "{connections} connections need more open files than the {allowed} that are allowed: raise ulimit -n"
    );
    Ok(())
}
