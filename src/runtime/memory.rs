//! How much memory the process may use, how much it does, and how it gives some back.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

// Links the allocator's library; `main` makes it the allocator.
use mimalloc as _;

/// Where the hierarchies of control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes of RAM that the process may use: the machine's, or what its control groups allow if that is
/// less.
pub(crate) fn total() -> u64 {
    let info = rustix::system::sysinfo();
    let ram = info.totalram as u64 * u64::from(info.mem_unit);
    // A process in no group, or on a kernel without them, has no file or an empty one.
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        // Version 2 says "max" for none, version 1 a number beyond all RAM.
        text.trim().parse().ok()
    });
    limits.fold(ram, u64::min)
}

/// Bytes of the process that are in RAM.
pub(crate) fn resident() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidData, "/proc/self/statm is not understood")
        })?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Returns what the allocator keeps of freed memory to the kernel. It does so by itself, but only when
/// somebody allocates: a broker whose queues were drained and whose publishers are blocked is idle, and
/// its alarm would stay on for ever. Any thread may call this; it takes some milliseconds.
pub(crate) fn give_back() {
    mi_collect(true);
}

// SAFETY: mimalloc's header declares `void mi_collect(bool force)`. It may be called at any time, from
// any thread, and frees nothing that is in use.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

/// The files that may hold a limit of memory: of each group named in `/proc/self/cgroup`, and of all
/// above it. In a container the names may be those of the host; then the mounts' own roots count.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = vec![];
    for line in groups.lines() {
        // `number:controllers:/path`, and in version 2 `0::/path`
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (mount, file) = if controllers.is_empty() {
            (PathBuf::from(CGROUPS), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            let mount = Path::new(CGROUPS).join("memory");
            (mount, "memory.limit_in_bytes")
        } else {
            continue;
        };
        let groups = Path::new(path.trim_start_matches('/')).ancestors();
        files.extend(groups.map(|group| mount.join(group).join(file)));
    }
    files
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    fn named(groups: &str) -> Vec<String> {
        let files = limit_files(groups);
        files
            .iter()
            .map(|file| file.display().to_string())
            .collect()
    }

    #[test]
    fn a_group_is_limited_by_all_above_it() {
        assert_eq!(
            named("0::/system.slice/leveret.service\n"),
            [
                "/sys/fs/cgroup/system.slice/leveret.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            named("9:name=systemd:/\n5:cpu,memory:/docker/a:b\n3:cpuset:/\n"),
            [
                "/sys/fs/cgroup/memory/docker/a:b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(named("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert!(named("").is_empty() && named("nonsense\n").is_empty());
    }

    #[test]
    fn what_is_resident_fits_into_what_there_is() {
        let resident = resident().expect("/proc is mounted");
        assert!(resident > 0 && resident < total());
    }
}
