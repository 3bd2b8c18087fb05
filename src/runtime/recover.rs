//! From the data directory to what the cores begin with. Runs before they do, on plain threads.
//!
//! ```text
//! definitions/  ─► what is declared ──────────────► every core
//! core-N/       ─► the messages of core N, in parallel ─► core N
//! ```
//!
//! If there are directories of more cores than there are now, those queues move first: their messages
//! are written to the logs of the cores that they get, then the definitions say so, then the old logs
//! are removed. A crash on the way leaves either the old state, with copies that the next start
//! forgets, or the new one, with remains that it removes.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::StartError;
use super::data_dir;
use super::definitions::load;
use super::disk::blocking::BlockingDisk;
use super::disk::image::Files;
use crate::base::{CoreId, Settings};
use crate::broker::{Core, RecoveredDefinitions, Stored};
use crate::log::LogName;
use crate::model::Definitions;
use crate::shard::Recovered;

/// What was stored.
pub(crate) struct Recovery {
    /// What is declared.
    pub(crate) definition_log: RecoveredDefinitions,
    /// For each core.
    pub(crate) messages: Vec<Recovered>,
}

/// Reads the data directory for so many cores, and takes over what files of definitions say. Vhosts that
/// something stored belongs to are added to those of the settings: what was declared there isn't lost
/// because no file names it any more.
pub(crate) fn recover(
    data_dir: &Path,
    definitions: &[PathBuf],
    cores: u16,
    settings: &mut Settings,
    seed: u64,
) -> Result<Recovery, StartError> {
    let mut definition_log = read_definitions(data_dir, seed)?;
    for line in load(definitions, &mut definition_log, settings, cores, seed)? {
        tracing::warn!("{line}");
    }
    settings.add_vhosts(definition_log.definitions().vhosts());
    let former = former_cores(data_dir, cores)?;
    let moved = definition_log.rehome(cores);
    if !former.is_empty() || !moved.is_empty() {
        let moving = Moving {
            data_dir,
            cores,
            settings: Arc::new(settings.clone()),
            seed,
            moved: moved.into_iter().collect(),
        };
        let failed = |error: Box<dyn Error>| unreadable(data_dir, &error);
        let was_incomplete = definition_log.definitions().is_incomplete();
        moving.carry_out(definition_log, &former).map_err(failed)?;
        definition_log = read_definitions(data_dir, seed)?;
        if was_incomplete {
            definition_log.note_incomplete();
        }
    }
    let messages = thread::scope(|scope| {
        let readers: Vec<_> = (0..cores)
            .map(|core| scope.spawn(move || read_messages(data_dir, CoreId(core))))
            .collect();
        let results = readers.into_iter().map(|reader| {
            reader
                .join()
                .expect("a panic in any thread ends the process")
        });
        results.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Recovery {
        definition_log,
        messages,
    })
}

/// The cores above `cores` that have left a log, with their directories.
fn former_cores(data_dir: &Path, cores: u16) -> Result<Vec<(CoreId, PathBuf)>, StartError> {
    let mut found = Vec::new();
    let entries = fs::read_dir(data_dir).map_err(|error| unreadable(data_dir, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(data_dir, &error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("core-"));
        if let Some(core) = number.and_then(|number| number.parse().ok())
            && core >= cores
        {
            found.push((CoreId(core), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Queues move from cores that there are no more.
struct Moving<'a> {
    data_dir: &'a Path,
    cores: u16,
    settings: Arc<Settings>,
    seed: u64,
    /// By incarnation, where each of these queues was.
    moved: HashMap<u64, CoreId>,
}

impl Moving<'_> {
    fn carry_out(
        &self,
        definition_log: RecoveredDefinitions,
        former: &[(CoreId, PathBuf)],
    ) -> Result<(), Box<dyn Error>> {
        let definitions = definition_log.definitions();
        for core in (0..self.cores).map(CoreId) {
            let sources = former.iter().map(|(source, _)| *source);
            let sources: Vec<_> = sources
                .filter(|source| source.0 % self.cores == core.0)
                .collect();
            if !sources.is_empty() {
                self.take_over(core, &sources, &definitions)?;
            }
        }
        // From here on the old logs aren't looked at any more.
        let stored = Stored {
            definitions: &definitions,
            definition_log: Some(definition_log),
            messages: Recovered::default(),
        };
        let mut catalog = self.core(CoreId::CATALOG, stored);
        BlockingDisk::new(self.data_dir, CoreId::CATALOG).drive(&mut catalog)?;
        // If not all queues are known, what is left there may belong to one that isn't.
        if !definitions.is_incomplete() {
            for (_, directory) in former {
                fs::remove_dir_all(directory)?;
            }
        }
        data_dir::sync(self.data_dir)?;
        Ok(())
    }

    /// Writes the messages of `sources` to the log of `core`.
    fn take_over(
        &self,
        core: CoreId,
        sources: &[CoreId],
        definitions: &Definitions,
    ) -> Result<(), Box<dyn Error>> {
        let stored = Stored {
            definitions,
            definition_log: None,
            messages: read_messages(self.data_dir, core)?,
        };
        let mut target = self.core(core, stored);
        let mut disk = BlockingDisk::new(self.data_dir, core);
        for &source in sources {
            let messages = read_messages(self.data_dir, source)?;
            let mut files = list(self.data_dir, source, LogName::Messages)?;
            let is_wanted = |incarnation| self.moved.get(&incarnation) == Some(&source);
            target.take_over::<Box<dyn Error>>(messages, &mut files, is_wanted, |core| {
                Ok(disk.drive(core)?)
            })?;
        }
        // What was delivered before, and what wasn't, is known as well as it was.
        target.finish();
        Ok(disk.drive(&mut target)?)
    }

    fn core(&self, core: CoreId, stored: Stored<'_>) -> Core {
        let settings = Arc::clone(&self.settings);
        let mut core = Core::new(core, self.cores, settings, self.seed, stored);
        for line in core.notices().take() {
            tracing::warn!("{line}");
        }
        core
    }
}

pub(super) fn read_definitions(
    data_dir: &Path,
    seed: u64,
) -> Result<RecoveredDefinitions, StartError> {
    let mut files = list(data_dir, CoreId::CATALOG, LogName::Definitions)?;
    files.sync().map_err(|error| unreadable(data_dir, &error))?;
    RecoveredDefinitions::read(&mut files, seed).map_err(|error| unreadable(data_dir, &error))
}

fn read_messages(data_dir: &Path, core: CoreId) -> Result<Recovered, StartError> {
    let mut files = list(data_dir, core, LogName::Messages)?;
    files.sync().map_err(|error| unreadable(data_dir, &error))?;
    Recovered::read(&mut files).map_err(|error| unreadable(data_dir, &error))
}

fn list(data_dir: &Path, core: CoreId, log: LogName) -> Result<Files, StartError> {
    Files::list(data_dir, core, log).map_err(|error| unreadable(data_dir, &error))
}

pub(super) fn unreadable(data_dir: &Path, error: &dyn ToString) -> StartError {
    StartError::Recovery {
        dir: data_dir.display().to_string(),
        reason: error.to_string(),
    }
}
