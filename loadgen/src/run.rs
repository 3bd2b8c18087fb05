//! What all threads of a run share besides the counters: whether it goes on, and why not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::Thread;

use anyhow::{Context, Error, Result};

/// The state of one run.
#[derive(Debug)]
pub(crate) struct Run {
    stop: AtomicBool,
    /// Consumers that have not had their consume-ok. Publishing begins when there are none, so
    /// that the first messages don't wait for a consumer.
    consumers_awaited: AtomicUsize,
    producers_unfinished: AtomicUsize,
    consumers_unfinished: AtomicUsize,
    failure: Mutex<Option<Error>>,
    coordinator: Thread,
}

/// Set by SIGINT and SIGTERM.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on SIGINT and SIGTERM end what runs, in order, with a summary.
pub(crate) fn catch_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)).context("signal handler")?;
    }
    Ok(())
}

/// Whether the user has had enough.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

impl Run {
    /// Called on the thread that will coordinate the run.
    pub(crate) fn new(consumers_awaited: usize, producers: usize, consumers: usize) -> Self {
        Self {
            stop: AtomicBool::new(false),
            consumers_awaited: AtomicUsize::new(consumers_awaited),
            producers_unfinished: AtomicUsize::new(producers),
            consumers_unfinished: AtomicUsize::new(consumers),
            failure: Mutex::new(None),
            coordinator: std::thread::current(),
        }
    }

    /// Ends the run for all threads.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends the run with an error; the first one counts.
    pub(crate) fn fail(&self, error: Error) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.stop();
        self.coordinator.unpark();
    }

    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// A consume-ok arrived.
    pub(crate) fn consumer_is_ready(&self) {
        self.consumers_awaited.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn consumers_are_ready(&self) -> bool {
        self.consumers_awaited.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn producer_finished(&self) {
        self.producers_unfinished.fetch_sub(1, Ordering::Release);
        self.coordinator.unpark();
    }

    pub(crate) fn consumer_finished(&self) {
        self.consumers_unfinished.fetch_sub(1, Ordering::Release);
        self.coordinator.unpark();
    }

    pub(crate) fn producers_are_finished(&self) -> bool {
        self.producers_unfinished.load(Ordering::Acquire) == 0
    }

    pub(crate) fn consumers_are_finished(&self) -> bool {
        self.consumers_unfinished.load(Ordering::Acquire) == 0
    }
}
