//! One core's files, driven from its turn: what its logs ask for is begun here, and what has come of
//! it is handed back. Nothing waits.
//!
//! ```text
//!   turn begins   collect: completions ─► core (confirms go out with this turn)
//!   ...           the core's inputs
//!   turn ends     submit: due commits, other requests ─► glommio ─► (next reactor pass) kernel
//! ```
//!
//! A commit is one write into a file opened with O_DIRECT and O_DSYNC. It counts when its completion
//! says that all of it was written; anything else ends the process ([`failure`]).
//!
//! An operation is a future that the turn polls by itself, when the ring has answered: a task of its
//! own would run only when glommio gets round to it, perhaps behind the next stretch of turns.
//!
//! What was read in glommio 0.9.0 about all this (`sys/uring.rs`):
//!
//! - `ring_for_source`: reads and writes of a `DmaFile` go to the *poll ring* if the device can be
//!   polled, otherwise to the *main ring*; open, statx, fdatasync, fallocate and close always to the
//!   main ring. None of them uses the latency ring, whose completions at the wrong moment make glommio
//!   park over a runnable task (see [`mesh`](super::mesh)); rename, unlink, truncate and mkdir do, by
//!   the pool's eventfd, so they are not used here ([`sweeper`]). One way is left: 256 (`RING_DEPTH`)
//!   completions on the main ring between two passes fire a timer of glommio's there that writes to the
//!   eventfd. The disk alone never has so many in flight.
//! - Whether a device can be polled is tried once per thread, with a read of the first file opened
//!   there. If that file is empty, the read succeeds without asking the device, and glommio takes any
//!   device for pollable: later reads fail with "operation not supported". Hence the probe in [`Disk::open`].
//! - A completion is seen when the reactor passes, or by a parked core, which sleeps in
//!   `io_uring_enter` of the main ring. With operations on the poll ring it doesn't sleep but spins.
//! - A write with O_DSYNC seems to be ended by a kernel thread that wants the same CPU. A core that
//!   spins or passes over and over keeps it waiting for the scheduler's tick. A commit of 4 KiB took so
//!   4 ms (median); 0.12 with `sched_yield` before each pass, 0.13 with the core parked, 0.21 with 50 µs
//!   of work between yields, and 0.11 with a plain `pwrite` on a thread.
//! - `submit`: an operation that was begun reaches the kernel at the next pass: [`Disk::wants_pass`].
//! - `DmaBuffer`: multiples of 4096 lie at multiples of 4096. The ring's own memory is used up to
//!   32 KiB a buffer (registered, so the kernel doesn't pin it each time), the heap beyond.
//! - `DmaFile::drop` closes by the ring too, without an answer.
//! - `DmaFile::open_at` asks for the status of its path, and panics if that is gone by then: a file
//!   isn't removed or renamed while an operation is under way there.
//! - On tmpfs it leaves O_DIRECT out by itself.

pub(crate) mod blocking;
mod failure;
pub(crate) mod image;
mod operation;
mod paths;
mod sweeper;

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use glommio::io::{DmaBuffer, DmaFile, ReadResult};

use self::failure::{Failure, fatal};
use self::paths::Paths;
use self::sweeper::{Sweep, Sweeper};
use crate::base::{CoreId, Time};
use crate::broker::Core;
use crate::log::{BLOCK, DiskRequest, FileNumber, LogName, Placed, ReadId};

/// Logs of one core: as many commits may be under way.
const LOGS: usize = 2;
/// Operations under way beyond which no other but commits are begun: glommio's ring has 256 entries,
/// and its sockets need them too.
const OPERATIONS_MAX: usize = 64;

/// Files that stay open: each is a descriptor, and a log may have thousands. Those written to and set aside for
/// that are some six in both logs; the others were read from last.
const OPEN_MAX: usize = 32;

type Key = (LogName, FileNumber);

/// The files of one core, and what is under way there.
pub(crate) struct Disk {
    paths: Paths,
    /// Open for commits and reads.
    files: HashMap<Key, OpenFile>,
    /// How often a file was used.
    uses: u64,
    running: Vec<Operation>,
    /// Files to be swept when what is under way there has ended.
    to_sweep: Vec<(Key, Sweep)>,
    sweeper: Sweeper,
    bell: Arc<Bell>,
    /// Something was begun that the kernel hasn't seen yet.
    unsubmitted: bool,
    /// There was no room for the last new file.
    is_full: bool,
}

struct OpenFile {
    file: Rc<DmaFile>,
    /// [`Disk::uses`] then.
    last_use: u64,
}

/// Something that is under way.
struct Operation {
    key: Key,
    /// Whether somebody waits for it: a commit or a read.
    urgent: bool,
    answered: Arc<Answered>,
    waker: Waker,
    work: Pin<Box<dyn Future<Output = Result<Outcome, Failure>>>>,
}

/// What came of an operation that went well.
enum Outcome {
    Committed(Rc<DmaFile>),
    Prepared(Rc<DmaFile>),
    /// There was no room for the new file.
    Full(Failure),
    Read(ReadId, Rc<DmaFile>, ReadResult),
    /// Those bytes are gone.
    Lost(ReadId),
    Closed(Sweep),
}

impl Disk {
    /// Learns how the device is to be used. `main_task` is woken when something has been done. To be
    /// used on the core's own thread, within its executor.
    pub(crate) async fn open(data_dir: &Path, core: CoreId, main_task: Waker) -> Self {
        let paths = Paths::new(data_dir, core);
        if let Err(failure) = operation::probe(&paths).await {
            fatal(&failure);
        }
        Self {
            files: HashMap::new(),
            uses: 0,
            running: vec![],
            to_sweep: vec![],
            sweeper: Sweeper::new(paths.clone()),
            bell: Arc::new(Bell {
                rung: AtomicBool::new(false),
                main_task,
            }),
            unsubmitted: false,
            is_full: false,
            paths,
        }
    }

    /// Tells the core what has been done since it was last told; whether there was anything.
    pub(crate) fn collect(&mut self, core: &mut Core, now: Time) -> bool {
        let mut any = false;
        while let Some(((log, file), outcome)) = self.next_done() {
            any = true;
            match outcome.unwrap_or_else(|failure| fatal(&failure)) {
                Outcome::Committed(_) => core.committed(now, log),
                Outcome::Prepared(_) => core.prepared(now, log, file, true),
                Outcome::Full(_) => core.prepared(now, log, file, false),
                Outcome::Read(read, _, bytes) => core.read_done(now, log, read, Some(&bytes)),
                Outcome::Lost(read) => core.read_done(now, log, read, None),
                Outcome::Closed(_) => {}
            }
        }
        any
    }

    /// Begins what the core wants done; whether there was anything.
    pub(crate) fn submit(&mut self, core: &mut Core, now: Time) -> bool {
        let mut any = false;
        for _ in 0..LOGS {
            let Some((log, len)) = core.next_commit(now) else {
                break;
            };
            let mut buffer = allocate(len);
            if let Some(placed) = core.commit(now, log, buffer.as_bytes_mut()) {
                self.commit(log, placed, buffer);
                any = true;
            }
        }
        while self.running.len() < OPERATIONS_MAX
            && let Some((log, request)) = core.next_disk_request()
        {
            self.begin(log, request);
            any = true;
        }
        any
    }

    /// Whether something was begun since this was last asked. It goes to the kernel when glommio's
    /// reactor passes.
    pub(crate) fn wants_pass(&mut self) -> bool {
        std::mem::take(&mut self.unsubmitted)
    }

    /// Whether an operation is under way that somebody waits for.
    pub(crate) fn is_urgent(&self) -> bool {
        self.running.iter().any(|operation| operation.urgent)
    }

    /// Whether anything is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    fn commit(&mut self, log: LogName, placed: Placed, mut buffer: DmaBuffer) {
        buffer.trim_to_size(placed.len);
        let key = (log, placed.file);
        let (open, path) = self.place(key);
        self.start(key, true, async move {
            let file = opened(open, &path).await?;
            operation::commit(&file, &path, placed, buffer).await?;
            Ok(Outcome::Committed(file))
        });
    }

    fn begin(&mut self, log: LogName, request: DiskRequest) {
        match request {
            DiskRequest::Prepare { file, size } => self.prepare((log, file), size),
            DiskRequest::Read {
                read,
                file,
                offset,
                len,
            } => self.read((log, file), read, offset, len),
            DiskRequest::Remove { file } => self.sweep((log, file), Sweep::Remove),
            DiskRequest::Quarantine { file } => self.sweep((log, file), Sweep::PutAside),
        }
    }

    fn prepare(&mut self, key: Key, size: u64) {
        let (_, path) = self.place(key);
        self.start(key, false, async move {
            match operation::prepare(&path, size).await {
                Ok(file) => Ok(Outcome::Prepared(file)),
                Err(failure) if failure.is_full() => Ok(Outcome::Full(failure)),
                Err(failure) => Err(failure),
            }
        });
    }

    fn read(&mut self, key: Key, read: ReadId, offset: u64, len: usize) {
        let (open, path) = self.place(key);
        self.start(key, true, async move {
            let attempt = async {
                let file = opened(open, &path).await?;
                let bytes = operation::read(&file, &path, offset, len).await?;
                Ok::<_, Failure>((file, bytes))
            };
            match attempt.await {
                Ok((file, bytes)) => Ok(Outcome::Read(read, file, bytes)),
                Err(failure) if failure.is_loss() => {
                    tracing::warn!("{failure} ({len} bytes at {offset})");
                    Ok(Outcome::Lost(read))
                }
                Err(failure) => Err(failure),
            }
        });
    }

    /// Closes the file, so that it is not our thread that frees its blocks, and leaves the rest to
    /// the sweeper.
    fn sweep(&mut self, key: Key, sweep: Sweep) {
        if self.running.iter().any(|operation| operation.key == key) {
            // glommio panics if a file's name goes while it opens it.
            return self.to_sweep.push((key, sweep));
        }
        let Some(OpenFile { file, .. }) = self.files.remove(&key) else {
            return self.sweeper.order(sweep, key.0, key.1);
        };
        self.start(key, false, async move {
            // It was only read from, or each write was waited for: there is nothing to lose.
            let _ = file.close_rc().await;
            Ok(Outcome::Closed(sweep))
        });
    }

    /// A file's descriptor, if it is open, and its path.
    fn place(&mut self, key: Key) -> (Option<Rc<DmaFile>>, PathBuf) {
        self.uses += 1;
        let open = self.files.get_mut(&key).map(|open| {
            open.last_use = self.uses;
            Rc::clone(&open.file)
        });
        (open, self.paths.file(key.0, key.1))
    }

    /// Keeps a file open, and closes the one that has been unused for longest if there are too many.
    fn keep_open(&mut self, key: Key, file: &Rc<DmaFile>) {
        let last_use = self.uses;
        self.files.entry(key).or_insert_with(|| OpenFile {
            file: Rc::clone(file),
            last_use,
        });
        if self.files.len() <= OPEN_MAX {
            return;
        }
        let in_use = |key: &Key| self.running.iter().any(|operation| operation.key == *key);
        let unused = self.files.iter().filter(|(key, _)| !in_use(key));
        if let Some((key, _)) = unused.min_by_key(|(_, open)| open.last_use) {
            let key = *key;
            self.files.remove(&key);
        }
    }

    fn start(
        &mut self,
        key: Key,
        urgent: bool,
        work: impl Future<Output = Result<Outcome, Failure>> + 'static,
    ) {
        let answered = Arc::new(Answered {
            // So that it is polled for the first time.
            any: AtomicBool::new(true),
            bell: Arc::clone(&self.bell),
        });
        let mut operation = Operation {
            key,
            urgent,
            waker: Waker::from(Arc::clone(&answered)),
            answered,
            work: Box::pin(work),
        };
        if let Poll::Ready(done) = operation.poll() {
            // None is done at once, as all go by the ring; but if one were, this would be right.
            operation.work = Box::pin(async move { done });
            operation.waker.wake_by_ref();
        }
        self.running.push(operation);
        self.unsubmitted = true;
    }

    /// The next operation that is done.
    fn next_done(&mut self) -> Option<(Key, Result<Outcome, Failure>)> {
        if !self.bell.rung.swap(false, Ordering::Relaxed) {
            return None;
        }
        for at in 0..self.running.len() {
            let operation = &mut self.running[at];
            if !operation.answered.any.load(Ordering::Relaxed) {
                continue;
            }
            match operation.poll() {
                Poll::Ready(done) => {
                    // There may be more.
                    self.bell.rung.store(true, Ordering::Relaxed);
                    let operation = self.running.swap_remove(at);
                    if let Ok(outcome) = &done {
                        self.note(operation.key, outcome);
                    }
                    return Some((operation.key, done));
                }
                // It has gone on to its next step.
                Poll::Pending => self.unsubmitted = true,
            }
        }
        None
    }

    /// Keeps the file open, or does what is to follow.
    fn note(&mut self, key: Key, outcome: &Outcome) {
        match outcome {
            Outcome::Committed(file) | Outcome::Read(_, file, _) => self.keep_open(key, file),
            Outcome::Prepared(file) => {
                self.keep_open(key, file);
                if std::mem::take(&mut self.is_full) {
                    tracing::info!("there is room on the disk again");
                }
            }
            Outcome::Full(failure) => {
                // It is tried again each second, for days perhaps.
                if !std::mem::replace(&mut self.is_full, true) {
                    tracing::warn!("{failure}: publishers wait until there is room");
                }
                self.sweeper.order(Sweep::Remove, key.0, key.1);
            }
            Outcome::Lost(_) => {}
            Outcome::Closed(sweep) => self.sweeper.order(*sweep, key.0, key.1),
        }
        let waiting = self.to_sweep.iter().position(|(other, _)| *other == key);
        if let Some(at) = waiting {
            let (key, sweep) = self.to_sweep.swap_remove(at);
            self.sweep(key, sweep);
        }
    }
}

impl Operation {
    fn poll(&mut self) -> Poll<Result<Outcome, Failure>> {
        self.answered.any.store(false, Ordering::Relaxed);
        self.work
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker))
    }
}

async fn opened(open: Option<Rc<DmaFile>>, path: &Path) -> Result<Rc<DmaFile>, Failure> {
    match open {
        Some(file) => Ok(file),
        None => operation::open(path).await,
    }
}

/// A buffer of so many bytes, whatever they are, at an address that O_DIRECT takes.
fn allocate(len: usize) -> DmaBuffer {
    let buffer = glommio::allocate_dma_buffer(len);
    let address = buffer.as_ptr().addr();
    assert!(
        address.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK),
        "whole blocks are aligned as blocks"
    );
    buffer
}

/// Says that some operation was answered. Everything happens on the core's own thread; atomics are
/// there because a [`Waker`] must be `Sync`.
struct Bell {
    rung: AtomicBool,
    main_task: Waker,
}

/// Says that one operation was answered.
struct Answered {
    any: AtomicBool,
    bell: Arc<Bell>,
}

impl Wake for Answered {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.any.store(true, Ordering::Relaxed);
        self.bell.rung.store(true, Ordering::Relaxed);
        self.bell.main_task.wake_by_ref();
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests;
