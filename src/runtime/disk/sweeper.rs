//! A thread that removes files and puts them aside. Nobody waits for it.
//!
//! Removing a file of 64 MiB took 13 ms here, and a sync of a directory waits for the disk: a turn
//! can't. io_uring's own operations for that are not in glommio 0.9, which has a pool of threads
//! instead, whose answers come by the latency ring (see [`mesh`](super::super::mesh)). This thread
//! gives none.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::super::data_dir::sync;
use super::super::placement;
use super::failure::Failure;
use super::paths::Paths;
use crate::log::{FileNumber, LogName};

/// What is to become of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sweep {
    Remove,
    PutAside,
}

type Order = (Sweep, LogName, FileNumber);

/// The thread of one core. Started with its first order; to drop it waits until all are done.
#[derive(Debug)]
pub(super) struct Sweeper {
    paths: Paths,
    thread: Option<(Sender<Order>, JoinHandle<()>)>,
}

impl Sweeper {
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            thread: None,
        }
    }

    pub(super) fn order(&mut self, sweep: Sweep, log: LogName, file: FileNumber) {
        let order = (sweep, log, file);
        if self.thread.is_none() {
            let (orders, received) = channel();
            let paths = self.paths.clone();
            let thread = thread::Builder::new().name("leveret-sweep".to_owned());
            match thread.spawn(move || sweep_for_ever(&paths, &received)) {
                Ok(thread) => self.thread = Some((orders, thread)),
                // Too many threads, or too little memory for one: better slow than not at all.
                Err(_) => return obey(&self.paths, order),
            }
        }
        if let Some((orders, _)) = &self.thread {
            orders
                .send(order)
                .expect("the sweeper listens as long as there is a sender");
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some((orders, thread)) = self.thread.take() {
            drop(orders);
            // A panic has been reported by itself.
            let _ = thread.join();
        }
    }
}

fn sweep_for_ever(paths: &Paths, orders: &Receiver<Order>) {
    placement::leave_the_core();
    for order in orders {
        obey(paths, order);
    }
}

/// Does it. A file that stays where it is costs its space and is found at the next start, no more: so
/// failures are reported, and that is all.
fn obey(paths: &Paths, (sweep, log, file): Order) {
    let path = paths.file(log, file);
    match sweep {
        Sweep::Remove => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{}", Failure::new("remove", &path, error));
            }
            _ => {}
        },
        Sweep::PutAside => match put_aside(paths, log, file) {
            Ok(now) => tracing::warn!("{} was put aside as {}", path.display(), now.display()),
            Err(error) => tracing::warn!("{}", Failure::new("put aside", &path, error)),
        },
    }
}

fn put_aside(paths: &Paths, log: LogName, file: FileNumber) -> io::Result<PathBuf> {
    let directory = paths.quarantine();
    if let Err(error) = fs::create_dir(&directory) {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
    } else {
        sync(paths.data_dir())?;
    }
    // No other core takes a name of this one's, and the data directory is ours.
    let target = paths
        .quarantined(log, file)
        .find(|path| fs::symlink_metadata(path).is_err())
        .expect("there are more names than files");
    fs::rename(paths.file(log, file), &target)?;
    sync(&directory)?;
    sync(&paths.directory(log))?;
    Ok(target)
}
