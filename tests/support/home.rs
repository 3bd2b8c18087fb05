//! A data directory and the configuration beside it, which outlive the process: one broker follows another there.

use super::broker::{Broker, arguments, binary, configuration_file, scratch_directory};
use super::process::Process;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) struct Home {
    data: PathBuf,
    configuration: PathBuf,
    /// Holds the configuration, and the data unless that is elsewhere.
    _directory: TempDir,
}

impl Home {
    pub(crate) fn new(configuration: &str) -> Self {
        let directory = scratch_directory();
        let data = directory.path().join("data");
        Self::at(data, directory, configuration)
    }

    /// With the data on a file system of the test's choice.
    pub(crate) fn with_data_in(data: PathBuf, configuration: &str) -> Self {
        Self::at(data, scratch_directory(), configuration)
    }

    fn at(data: PathBuf, directory: TempDir, configuration: &str) -> Self {
        Self {
            data,
            configuration: configuration_file(directory.path(), configuration),
            _directory: directory,
        }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The command line of a broker here.
    pub(crate) fn arguments(&self, listen: &str, cores: usize) -> Vec<String> {
        arguments(listen, cores, &self.data, &self.configuration)
    }

    /// A broker on a port of its own.
    pub(crate) fn start(&self, cores: usize) -> Broker {
        self.try_start("127.0.0.1:0", cores)
            .unwrap_or_else(|error| panic!("the broker did not start: {error}"))
    }

    /// A broker, or what it said instead of starting.
    pub(crate) fn try_start(&self, listen: &str, cores: usize) -> Result<Broker, String> {
        Broker::once_ready(Process::start(&binary(), &self.arguments(listen, cores)))
    }
}
