//! Where a run's intervals go as they pass: lines, CSV, HDR log.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;

use anyhow::Result;

use super::Sample;
use super::csv::Csv;
use super::hlog::{Hlog, Interval};
use super::live::Live;
use crate::options::Settings;
use crate::stats::Latencies;

/// Opened once for a command, whatever the number of its phases.
pub(crate) struct Sinks {
    pub(crate) live: Live,
    csv: Option<Csv>,
    hlog: Option<Hlog<BufWriter<File>>>,
}

impl Sinks {
    /// Creates the files, so that a bad path is told before the run and not after it.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        Ok(Self {
            live: Live::new(settings.json),
            csv: settings.csv.as_deref().map(Csv::create).transpose()?,
            hlog: settings.hlog.as_deref().map(Hlog::create).transpose()?,
        })
    }

    pub(super) fn write_sample(&mut self, settings: &Settings, sample: &Sample) -> Result<()> {
        match &mut self.csv {
            Some(csv) => csv.write(settings, sample),
            None => Ok(()),
        }
    }

    pub(super) fn write_latencies(
        &mut self,
        settings: &Settings,
        interval: Interval,
        latencies: &Latencies,
    ) -> Result<()> {
        match &mut self.hlog {
            Some(hlog) => hlog.write(settings.part.as_deref(), interval, latencies),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sinks").finish_non_exhaustive()
    }
}
