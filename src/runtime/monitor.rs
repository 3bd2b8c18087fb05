//! The watch over memory and disk: measures both once a second on a thread of its own, and raises or
//! clears the alarms that block publishers.
//!
//! It measures what the kernel says of the whole process, not what we believe we hold. There is no
//! hysteresis, as there is none with RabbitMQ: an alarm changes at most once a second.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use super::memory;
use super::mesh::Beds;
use crate::base::{Alarms, limits};
use crate::config::Options;

/// What is watched, and what was last found.
pub(crate) struct Monitor {
    beds: Arc<Beds>,
    data_dir: PathBuf,
    /// Bytes.
    memory_limit: u64,
    /// Bytes.
    disk_limit: u64,
    alarms: Alarms,
    /// Whether it was said that something can't be measured.
    complained: bool,
}

impl Monitor {
    /// Measures for the first time: the cores, started after this, know the alarms from their first
    /// turn on.
    pub(crate) fn new(options: &Options, beds: Arc<Beds>) -> Self {
        let ram = memory::total();
        let mut monitor = Self {
            beds,
            data_dir: options.data_dir.clone(),
            memory_limit: options.memory_limit.to_bytes(ram).min(ram),
            disk_limit: options.disk_limit.to_bytes(ram),
            alarms: Alarms::default(),
            complained: false,
        };
        monitor.measure();
        monitor
    }

    /// Starts the thread.
    pub(crate) fn watch(mut self) -> io::Result<()> {
        tracing::info!(
            "publishers are blocked above {} of memory and below {} of free disk",
            mebibytes(self.memory_limit),
            mebibytes(self.disk_limit)
        );
        let watch = move || {
            loop {
                thread::sleep(limits::MEASURE_INTERVAL);
                self.measure();
            }
        };
        thread::Builder::new()
            .name("monitor".to_owned())
            .spawn(watch)
            .map(drop)
    }

    fn measure(&mut self) {
        let memory = self.measure_memory();
        let disk = rustix::fs::statvfs(&self.data_dir)
            .map(|disk| disk.f_bavail * disk.f_frsize)
            .map_err(io::Error::from);
        for error in [memory.as_ref().err(), disk.as_ref().err()]
            .into_iter()
            .flatten()
        {
            if !std::mem::replace(&mut self.complained, true) {
                tracing::warn!("cannot measure memory and disk: {error}");
            }
        }
        self.judge(memory.ok(), disk.ok());
    }

    /// Freed memory that the allocator still keeps doesn't count.
    fn measure_memory(&self) -> io::Result<u64> {
        let resident = memory::resident()?;
        if resident <= self.memory_limit {
            return Ok(resident);
        }
        memory::give_back();
        memory::resident()
    }

    /// Raises and clears alarms; what couldn't be measured stays as it is.
    fn judge(&mut self, resident: Option<u64>, free: Option<u64>) {
        let before = self.alarms;
        if let Some(resident) = resident {
            self.alarms.memory = resident > self.memory_limit;
            if self.alarms.memory != before.memory {
                let figures = format!(
                    "{} in use, limit {}",
                    mebibytes(resident),
                    mebibytes(self.memory_limit)
                );
                report("memory", self.alarms.memory, &figures);
            }
        }
        if let Some(free) = free {
            self.alarms.disk = free < self.disk_limit;
            if self.alarms.disk != before.disk {
                let figures = format!(
                    "{} free for {}, limit {}",
                    mebibytes(free),
                    self.data_dir.display(),
                    mebibytes(self.disk_limit)
                );
                report("disk", self.alarms.disk, &figures);
            }
        }
        if self.alarms != before {
            self.beds.set_alarms(self.alarms);
        }
    }
}

fn report(resource: &str, raised: bool, figures: &str) {
    if raised {
        tracing::warn!("{resource} alarm raised ({figures}): connections that publish are blocked");
    } else {
        tracing::warn!("{resource} alarm cleared ({figures})");
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::super::mesh::mesh;
    use super::*;

    #[test]
    fn alarms_are_on_beyond_the_limits_and_what_is_not_measured_stays() {
        let (beds, _links) = mesh(1).expect("there are descriptors");
        let mut monitor = Monitor {
            beds: Arc::clone(&beds),
            data_dir: PathBuf::from("."),
            memory_limit: 1000,
            disk_limit: 50,
            alarms: Alarms::default(),
            complained: false,
        };
        for (resident, free, memory, disk) in [
            (Some(1000), Some(50), false, false),
            (Some(1001), Some(50), true, false),
            (Some(1001), Some(49), true, true),
            (None, Some(50), true, false),
            (Some(1000), None, false, false),
            (None, Some(0), false, true),
            (None, None, false, true),
        ] {
            monitor.judge(resident, free);
            assert_eq!(beds.alarms(), Alarms { memory, disk });
        }
    }
}
