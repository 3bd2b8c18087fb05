//! RabbitMQ's definitions.json and the data directory: taken over when the broker starts
//! (`load_definitions`), and read and written while none runs (`leveret definitions`).

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use super::data_dir::DataDir;
use super::disk::blocking::BlockingDisk;
use super::recover::{read_definitions, unreadable};
use crate::base::{CoreId, Name, Settings, limits};
use crate::broker::{Core, RecoveredDefinitions, Stored};
use crate::config::{Definitions, Options};
use crate::model::{DefinitionsFile, ImportContext};
use crate::shard::Recovered;

/// Carries a command out that needs no running broker.
pub fn definitions(what: &Definitions, options: &Options) -> Result<(), StartError> {
    let dir = &options.data_dir;
    match what {
        Definitions::Import { file } => {
            let _data_dir = DataDir::open(dir)?;
            let seed = RandomState::new().build_hasher().finish();
            let mut log = read_definitions(dir, seed)?;
            // How many cores there will be isn't known: the next start brings the queues together on those.
            let paths = std::slice::from_ref(file);
            for line in load(paths, &mut log, &options.settings, limits::CORES_MAX, seed)? {
                tracing::warn!("{line}");
            }
            write(dir, log, options.settings.clone(), seed)
        }
        Definitions::Export { file } => {
            if !dir.is_dir() {
                let dir = dir.display().to_string();
                return Err(StartError::NoDataDirectory { dir });
            }
            let _data_dir = DataDir::open(dir)?;
            let text = read_definitions(dir, 0)?.definitions().export().write();
            let written = match file {
                Some(file) => fs::write(file, text),
                None => io::stdout().write_all(text.as_bytes()),
            };
            written.map_err(|error: io::Error| StartError::DefinitionsFile {
                file: match file {
                    Some(file) => file.display().to_string(),
                    None => "standard output".to_owned(),
                },
                reason: error.to_string(),
            })
        }
    }
}

/// Takes files over, or all files `*.json` of a directory in the order of their names. Returns what the
/// operator should know.
pub(super) fn load(
    paths: &[PathBuf],
    log: &mut RecoveredDefinitions,
    settings: &Settings,
    cores: u16,
    seed: u64,
) -> Result<Vec<String>, StartError> {
    let users: Vec<Name> = settings
        .users
        .iter()
        .map(|user| user.name.clone())
        .collect();
    let context = ImportContext {
        vhosts: &settings.vhosts,
        default_limits: &settings.default_limits,
        default_queue_type: settings.default_queue_type.as_deref(),
        users: &users,
        cores,
        seed,
    };
    let mut lines = vec![];
    for path in paths {
        for file in files(path)? {
            let refused = |reason: String| StartError::DefinitionsFile {
                file: file.display().to_string(),
                reason,
            };
            let bytes = fs::read(&file).map_err(|error| refused(error.to_string()))?;
            let parsed = DefinitionsFile::read(&bytes).map_err(refused)?;
            let left_out = log.import(parsed, context);
            lines.extend(left_out.map_err(|error| refused(error.to_string()))?);
        }
    }
    Ok(lines)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, StartError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| StartError::DefinitionsFile {
        file: path.display().to_string(),
        reason: error.to_string(),
    })?;
    let files = entries.iter().map(fs::DirEntry::path);
    let mut files: Vec<_> = files
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    Ok(files)
}

/// Writes the definitions down, and waits until they are on the disk.
fn write(
    data_dir: &Path,
    log: RecoveredDefinitions,
    settings: Settings,
    seed: u64,
) -> Result<(), StartError> {
    let definitions = log.definitions();
    let mut settings = settings;
    settings.add_vhosts(definitions.vhosts());
    let stored = Stored {
        definitions: &definitions,
        definition_log: Some(log),
        messages: Recovered::default(),
    };
    let mut catalog = Core::new(CoreId::CATALOG, 1, Arc::new(settings), seed, stored);
    for line in catalog.notices().take() {
        tracing::warn!("{line}");
    }
    BlockingDisk::new(data_dir, CoreId::CATALOG)
        .drive(&mut catalog)
        .map_err(|error| unreadable(data_dir, &error))
}
