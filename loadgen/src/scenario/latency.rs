//! `latency`: how long a message takes, at a fixed rate that the broker can sustain.
//!
//! Each message is written by itself when it is due, and the thread polls without ever sleeping:
//! what is left in the figures is the broker, the kernel's loopback, and one system call of ours.

use anyhow::{Result, ensure};

use super::ladder;
use super::load::run_at;
use crate::options::Settings;

/// Runs it.
pub(super) fn run(settings: &Settings) -> Result<()> {
    if let Some(ladder) = &settings.ladder {
        return ladder::run(settings, ladder);
    }
    ensure!(
        settings.records_every_latency(),
        "latency needs a rate: under unlimited load it measures only how long the queue is"
    );
    run_at(0, settings)
}
