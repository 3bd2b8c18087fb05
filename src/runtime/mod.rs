//! The only room with glommio, sockets, threads and clocks: it drives the pure broker.
//!
//! ```text
//! serve: environment (limits, io_uring) ─► data_dir (its lock) ─► placement (CPUs) ─► listener (ports)
//!        ─► recover (what the disk holds) ─► one executor a core
//!
//! each core:  turn ── mesh (rings to the other cores) ── ring
//!               ├──── socket, ready (what clients send and are sent), blocked (by an alarm)
//!               ├──── listener (new connections)
//!               ├──── disk (the logs' files), and its sweeper's thread
//!               ├──── checker (passwords), on a thread of its own
//!               └──── patience, nap (looking on, parking), clock
//! one thread: signals      one thread: monitor (alarms) ─► memory
//! without a broker: definitions (import, export)
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
mod start_error;
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
pub use self::start_error::StartError;
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
