//! Why the broker can't start: one line each, with the remedy.

use std::io;

/// Why the broker can't start: one line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be written to.
    #[error("cannot write to data directory {dir}: {source}: choose another with --data-dir")]
    DataDirectory {
        /// As given.
        dir: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another broker uses the data directory.
    #[error(
        "data directory {dir} is in use by another Leveret: stop it or choose another with --data-dir"
    )]
    DataDirectoryInUse {
        /// As given.
        dir: String,
    },
    /// The data directory was written by a later version.
    #[error(
        "data directory {dir} has format {found}, this Leveret knows up to {known}: start the version that wrote it, \
         or choose another with --data-dir"
    )]
    DataDirectoryNewer {
        /// As given.
        dir: String,
        /// Its format.
        found: String,
        /// Ours.
        known: u32,
    },
    /// The data directory is something else's.
    #[error(
        "data directory {dir} holds a file `format` that is not Leveret's: choose another with --data-dir"
    )]
    DataDirectoryUnknown {
        /// As given.
        dir: String,
    },
    /// The data directory's files can't be written past the page cache.
    #[error(
        "data directory {dir} is on a file system without direct I/O ({source}): choose another with --data-dir"
    )]
    DataDirectoryBuffered {
        /// As given.
        dir: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is nothing to export from.
    #[error("there is no data directory {dir}: name it with --data-dir")]
    NoDataDirectory {
        /// As given.
        dir: String,
    },
    /// A file of definitions can't be read, written, or taken over.
    #[error("definitions in {file}: {reason}")]
    DefinitionsFile {
        /// As given.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// What the data directory holds can't be used.
    #[error("data directory {dir}: {reason}")]
    Recovery {
        /// As given.
        dir: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Another program listens there.
    #[error(
        "address {ip}:{port} is already in use: stop the other program or choose another with --listen"
    )]
    PortInUse {
        /// As given.
        ip: String,
        /// As given.
        port: u16,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {ip}:{port}: {source}: choose another address with --listen")]
    Listen {
        /// As given.
        ip: String,
        /// As given.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process may use no CPU that we can see.
    #[error("cannot read the CPUs that this process may use: is /proc mounted?")]
    NoCpu,
    /// `--cores` names a CPU that isn't ours.
    #[error("CPU {cpu} of --cores is not available: this process may use {allowed}")]
    UnknownCpu {
        /// Its number.
        cpu: usize,
        /// The ones that are.
        allowed: String,
    },
    /// The limit on locked memory is too low and can't be raised.
    #[error(
        "the limit on locked memory is {have} KiB and io_uring needs {need}: raise it with \
         `ulimit -l unlimited`, in a unit file with LimitMEMLOCK=infinity, in a container with --ulimit memlock=-1"
    )]
    LockedMemory {
        /// KiB.
        have: u64,
        /// KiB.
        need: u64,
    },
    /// The limit on open files is too low and can't be raised.
    #[error(
        "the limit on open files is {have} and {cores} cores need {need}, besides one for each client: raise it with \
         `ulimit -n 65536`, in a unit file with LimitNOFILE=65536, in a container with --ulimit nofile=65536"
    )]
    OpenFiles {
        /// Descriptors.
        have: u64,
        /// Descriptors.
        need: u64,
        /// Those that are to be started.
        cores: u16,
    },
    /// io_uring is forbidden by the administrator or by a container's profile.
    #[error(
        "io_uring is forbidden here: allow it with `sysctl kernel.io_uring_disabled=0`, or in a container \
         with a seccomp profile that permits it (docker run --security-opt seccomp=unconfined)"
    )]
    UringForbidden,
    /// io_uring isn't there.
    #[error(
        "this kernel has no io_uring, or a container's seccomp profile hides it: Linux 5.8 or newer is needed \
         (docker run --security-opt seccomp=unconfined)"
    )]
    UringMissing,
    /// The kernel is too old for glommio.
    #[error("Linux {0} is too old: 5.8 or newer is needed")]
    OldKernel(String),
    /// io_uring fails for another reason.
    #[error("io_uring does not work here: {0}")]
    Uring(io::Error),
    /// An executor didn't start.
    #[error("cannot start core {core} on CPU {cpu}: {reason}")]
    Executor {
        /// The broker's core.
        core: usize,
        /// Where it was to be pinned.
        cpu: usize,
        /// glommio's words.
        reason: String,
    },
    /// The sockets between cores can't be made.
    #[error(
        "cannot connect the cores to each other: {0}: raise the limit on open files (ulimit -n)"
    )]
    Mesh(io::Error),
    /// The thread for signals didn't start.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The thread that measures memory and disk didn't start.
    #[error("cannot watch memory and disk: {0}")]
    Monitor(io::Error),
}
