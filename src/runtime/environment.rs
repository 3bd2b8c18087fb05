//! What the machine must allow before the first core starts, asked in a way that can be answered with
//! a line of text. (glommio would panic, or warn and go on.)
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::MembarrierCommand;

use super::StartError;

/// Locked memory that glommio asks of the limit, in bytes. (What its rings really lock is less, and on
/// kernels from 5.12 on doesn't count.)
const MEMLOCK_BYTES: u64 = 512 * 1024;

/// Descriptors that a broker needs without a client, and each of its cores: rings, sockets between the cores,
/// listeners, the first files of the logs. (A quarter of all is left for more files.)
const DESCRIPTORS: u64 = 16;
const DESCRIPTORS_OF_CORE: u64 = 16;

/// Raises the limits that can be raised, and checks that io_uring works.
pub(crate) fn prepare() -> Result<(), StartError> {
    // The first park of a core would else wait 30 to 50 ms for the kernel to register us. Where the
    // call is missing glommio does without.
    let _ = rustix::thread::membarrier(MembarrierCommand::RegisterPrivateExpedited);
    raise_open_files();
    raise_locked_memory()?;
    probe_io_uring()
}

/// A broker needs a descriptor per connection; the soft limit is often 1024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Not even the hard limit may be ours to use: then the soft one stays.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Whether so many cores can be started under the limit on open files. Without this glommio panics half-way.
pub(crate) fn check_open_files(cores: u16) -> Result<(), StartError> {
    let need = DESCRIPTORS + u64::from(cores) * DESCRIPTORS_OF_CORE;
    match getrlimit(Resource::Nofile).current {
        Some(have) if have < need => Err(StartError::OpenFiles { have, need, cores }),
        _ => Ok(()),
    }
}

fn raise_locked_memory() -> Result<(), StartError> {
    let limit = getrlimit(Resource::Memlock);
    let suffices = |bound: Option<u64>| bound.is_none_or(|bytes| bytes >= MEMLOCK_BYTES);
    if suffices(limit.current) {
        return Ok(());
    }
    // Above the hard limit it works for root only.
    let maximum = if suffices(limit.maximum) {
        limit.maximum
    } else {
        Some(MEMLOCK_BYTES)
    };
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Memlock, wanted).map_err(|_| StartError::LockedMemory {
        have: limit.maximum.unwrap_or(0) / 1024,
        need: MEMLOCK_BYTES / 1024,
    })
}

/// Sets up a ring and drops it.
fn probe_io_uring() -> Result<(), StartError> {
    let mut parameters = rustix::io_uring::io_uring_params::default();
    // SAFETY: without a flag that shares memory with the kernel, `io_uring_setup` reads and writes
    // nothing but `parameters`, which lives through the call.
    let ring = unsafe { rustix::io_uring::io_uring_setup(4, &mut parameters) };
    match ring {
        Ok(_) => check_kernel(),
        Err(Errno::PERM | Errno::ACCESS) => Err(StartError::UringForbidden),
        Err(Errno::NOSYS) => Err(StartError::UringMissing),
        Err(Errno::NOMEM) => Err(StartError::LockedMemory {
            have: 0,
            need: MEMLOCK_BYTES / 1024,
        }),
        Err(errno) => Err(StartError::Uring(errno.into())),
    }
}

/// glommio needs operations that came with Linux 5.8.
fn check_kernel() -> Result<(), StartError> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    if is_recent(&release) {
        Ok(())
    } else {
        Err(StartError::OldKernel(release.into_owned()))
    }
}

/// A release that can't be read is given the benefit of the doubt.
fn is_recent(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return true;
    };
    (major, minor) >= (5, 8)
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::is_recent;

    #[test]
    fn a_kernel_is_recent_from_5_8_on() {
        for release in [
            "5.8.0",
            "5.15.0-91-generic",
            "6.1.0",
            "10.0",
            "5.8-rc1",
            "unreadable",
        ] {
            assert!(is_recent(release), "{release}");
        }
        for release in ["5.7.19", "4.19.0", "3.10.0-1160.el7"] {
            assert!(!is_recent(release), "{release}");
        }
    }
}
