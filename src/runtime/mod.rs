//! The only room with glommio, sockets, files, threads and clocks: it drives the pure broker.
//!
//! ```text
//! serve: environment (limits, io_uring) ─► placement (CPUs) ─► listener (ports) ─► one executor a core
//!
//! each core:  turn ── mesh (rings to the other cores) ── ring
//!               ├──── socket, ready (what clients send and are sent), blocked (by an alarm)
//!               ├──── listener (new connections)
//!               ├──── disk (the logs' files)
//!               └──── nap (parking), clock
//! one thread: signals      one thread: monitor (alarms) ─► memory
//! ```

mod blocked;
mod checker;
mod clock;
mod data_dir;
mod definitions;
mod disk;
mod environment;
mod listener;
mod memory;
mod mesh;
mod monitor;
mod nap;
mod patience;
mod placement;
mod ready;
mod recover;
mod ring;
mod signals;
mod socket;
mod standard_error;
mod turn;

use std::collections::hash_map::RandomState;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::Poll;
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder};

use self::clock::Clock;
use self::data_dir::DataDir;
pub use self::definitions::definitions;
use self::disk::Disk;
use self::listener::Listeners;
use self::mesh::Links;
use self::monitor::Monitor;
use self::ready::ReadyList;
use self::recover::recover;
pub use self::standard_error::StandardError;
use self::turn::Turn;
use crate::base::{CoreId, Settings};
use crate::broker::{Core, RecoveredDefinitions, Stored};
use crate::config::Options;
use crate::model::Definitions;
use crate::shard::Recovered;

/// How long glommio lets tasks run before it looks at I/O. Our turns end by themselves, long before
/// this; and it must not fire: if it does so before the first task runs (the thread may lose its CPU
/// there), glommio 0.9 parks over runnable tasks (see `mesh`), for ever.
const PREEMPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The belt to that: how often a core gets up whatever it believes.
const GET_UP: Duration = Duration::from_secs(1);
/// Entries of each of glommio's three submission queues. A fuller one is submitted in parts.
const RING_DEPTH: usize = 256;
/// Bytes that glommio registers with each ring for disk I/O; its least. They count as locked memory.
const IO_MEMORY: usize = 64 * 1024;

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

/// Serves until a signal ends it.
pub fn serve(mut options: Options) -> Result<(), StartError> {
    environment::prepare()?;
    let data_dir = DataDir::open(&options.data_dir)?;
    let placement = placement::place(&options.cores)?;
    let cores = placement.cpus.len() as u16;
    environment::check_open_files(cores)?;
    let bound = listener::bind(&options, cores)?;
    let (beds, links) = mesh::mesh(cores).map_err(StartError::Mesh)?;
    let monitor = Monitor::new(&options, Arc::clone(&beds));
    let seed = RandomState::new().build_hasher().finish();
    let recovery = recover(
        data_dir.path(),
        &options.load_definitions,
        cores,
        &mut options.settings,
        seed,
    )?;
    let shared = Shared {
        settings: Arc::new(options.settings),
        data_dir: data_dir.path().into(),
        seed,
        clock: Clock::start(),
        cores,
        nodelay: options.nodelay,
        spins: placement.exclusive,
    };
    let (started, has_started) = channel();
    let mut executors = vec![];
    let definitions = recovery.definition_log.definitions();
    let mut definition_log = Some(recovery.definition_log);
    let per_core = links.into_iter().zip(bound.per_core);
    let stored = recovery.messages.into_iter().zip(&placement.cpus);
    for ((links, sockets), (messages, cpu)) in per_core.zip(stored) {
        let own = OwnCore {
            links,
            sockets,
            definitions: Arc::clone(&definitions),
            definition_log: definition_log.take(),
            messages,
            cpu: *cpu,
            started: started.clone(),
        };
        let executor = start(shared.clone(), own).map_err(|reason| StartError::Executor {
            core: executors.len(),
            cpu: *cpu,
            reason,
        })?;
        executors.push(executor);
    }
    // They aren't needed any more once every core has its own topology.
    drop(definitions);
    // Each core reports, or drops its sender when it fails.
    drop(started);
    let running: Vec<CoreId> = has_started.iter().collect();
    if let Some(core) = (0..executors.len()).find(|core| !running.contains(&CoreId(*core as u16))) {
        let reason = executors
            .swap_remove(core)
            .join()
            .map_or_else(|error| error.to_string(), |()| "it ended".to_owned());
        return Err(StartError::Executor {
            core,
            cpu: placement.cpus[core],
            reason,
        });
    }
    signals::listen(Arc::clone(&beds)).map_err(StartError::Signals)?;
    monitor.watch().map_err(StartError::Monitor)?;
    announce(&bound.addresses);
    for executor in executors {
        // Its result is (); a panic inside has said so itself.
        let _ = executor.join();
    }
    Ok(())
}

/// What every core is given.
#[derive(Clone)]
struct Shared {
    settings: Arc<Settings>,
    data_dir: Arc<Path>,
    seed: u64,
    clock: Clock,
    cores: u16,
    nodelay: bool,
    spins: bool,
}

/// What one core is given.
struct OwnCore {
    links: Links,
    sockets: Vec<OwnedFd>,
    definitions: Arc<Definitions>,
    /// For the first one.
    definition_log: Option<RecoveredDefinitions>,
    messages: Recovered,
    cpu: usize,
    /// To report on, once it runs.
    started: Sender<CoreId>,
}

/// Starts one core on its own thread, pinned to its CPU.
fn start(shared: Shared, own: OwnCore) -> Result<ExecutorJoinHandle<()>, String> {
    let OwnCore {
        links,
        sockets,
        definitions,
        definition_log,
        messages,
        cpu,
        started,
    } = own;
    LocalExecutorBuilder::new(glommio::Placement::Fixed(cpu))
        .name("leveret")
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT)
        .spawn(move || async move {
            let main_task = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
            let _get_up = glommio::spawn_local(get_up_for_ever());
            let core_id = links.core();
            let stored = Stored {
                definitions: &definitions,
                definition_log,
                messages,
            };
            let core = Core::new(core_id, shared.cores, shared.settings, shared.seed, stored);
            drop(definitions);
            let listeners = Listeners::start(sockets, shared.nodelay, &main_task);
            let disk = Disk::open(&shared.data_dir, core_id, main_task.clone()).await;
            let ready = ReadyList::new(main_task);
            let (clock, spins) = (shared.clock, shared.spins);
            let turn = Turn::new(core, links, listeners, disk, ready, clock, spins);
            turn.run(|| {
                // The main thread may have given up on another core.
                let _ = started.send(core_id);
                drop(started);
            })
            .await;
        })
        .map_err(|error| error.to_string())
}

/// A runnable task that glommio has forgotten runs when any other is woken: this one is.
async fn get_up_for_ever() {
    loop {
        Timer::new(GET_UP).await;
    }
}

/// Tells people, scripts and the service manager that clients may come.
fn announce(addresses: &[std::net::SocketAddr]) {
    let mut out = io::stdout().lock();
    let lines = addresses
        .iter()
        .map(|address| format!("started TCP listener on {address}"));
    for line in lines.chain(["Server startup complete".to_owned()]) {
        // Nobody may be reading; the broker serves all the same.
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
    signals::notify("READY=1");
}
