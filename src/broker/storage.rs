//! A core's logs as the runtime sees them: what is to be written, read and made, and what came of it.
//!
//! ```text
//! next_commit ─► commit (fills a buffer) ─► one durable write ─► committed        one at a time a log
//! next_disk_request ─► prepared, read_done
//! ```

use std::sync::Arc;

use super::Core;
use super::catalog::Catalog;
use super::definition_log::{DefinitionLog, RecoveredDefinitions};
use crate::base::{CoreId, Notices, Settings, Time};
use crate::log::{DiskRequest, FileNumber, Image, LogName, Placed, ReadId, RecoveryError};
use crate::model::{Access, Definitions, Topology, default_queue_type};
use crate::shard::{Recovered, Shard, ShardContext};

/// What a core begins with.
pub struct Stored<'a> {
    /// What is declared and durable; the same for every core.
    pub definitions: &'a Definitions,
    /// The log of that, for core 0.
    pub definition_log: Option<RecoveredDefinitions>,
    /// The core's own messages.
    pub messages: Recovered,
}

impl<'a> Stored<'a> {
    /// What a broker begins with that was never started: `definitions` is empty.
    pub fn nothing(core: CoreId, definitions: &'a Definitions) -> Self {
        let is_catalog = core == CoreId::CATALOG;
        Self {
            definitions,
            definition_log: is_catalog.then(|| RecoveredDefinitions::nothing(0)),
            messages: Recovered::default(),
        }
    }

    pub(super) fn restore(
        self,
        core: CoreId,
        cores: u16,
        settings: &Settings,
        seed: u64,
        notices: &mut Notices,
    ) -> (Topology, Shard, Option<Catalog>) {
        let (access, without_effect) = Access::new(settings, self.definitions.administration());
        let access = Arc::new(access);
        let default_type = settings.default_queue_type.as_deref();
        let default_type = default_type.and_then(default_queue_type::parse);
        let restored = || {
            let mut topology = Topology::new(&settings.vhosts, seed);
            topology.set_default_queue_type(default_type);
            let left_out = self.definitions.restore(&mut topology);
            topology.grant(Arc::clone(&access));
            (topology, left_out)
        };
        let (topology, left_out) = restored();
        let own_seed = seed ^ u64::from(core.0) << 32;
        let is_whole = left_out.is_empty() && !self.definitions.is_incomplete();
        let whole = (&topology, is_whole);
        let shard = Shard::restore(core, whole, self.messages, own_seed, settings, notices);
        let catalog = self.definition_log.map(|log| {
            for line in log
                .damage()
                .into_iter()
                .chain(left_out)
                .chain(without_effect)
            {
                notices.add(|| line);
            }
            let log = DefinitionLog::resume(log, seed);
            Catalog::new(cores, settings.spreads_queues, seed, restored().0, log)
        });
        (topology, shard, catalog)
    }
}

impl Core {
    /// Takes over what the log of a core holds that there is no more: the messages of queues that came
    /// from there, by incarnation. `flush` must write what is to be written. Then [`Core::finish`].
    ///
    /// # Errors
    /// Of `flush`, or if the log can't be read.
    pub fn take_over<E: From<RecoveryError>>(
        &mut self,
        log: Recovered,
        image: &mut impl Image,
        is_wanted: impl Fn(u64) -> bool,
        mut flush: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut result = Ok(());
        log.take_messages(image, is_wanted, |kept| {
            if result.is_ok() && !self.shard.take_in(kept) {
                result = flush(self);
            }
        })?;
        result.and_then(|()| flush(self))
    }

    /// Whether what was stored is durable once more, so that clients may come.
    pub fn is_open(&self) -> bool {
        let definitions = self
            .catalog
            .as_ref()
            .is_none_or(|catalog| catalog.log.is_open());
        definitions && self.shard.is_open()
    }

    /// A commit that is due: which log, and how many bytes its buffer must have (a multiple of
    /// [`BLOCK`](crate::log::BLOCK)). [`Core::commit`] must follow before anything else is told.
    pub fn next_commit(&mut self, now: Time) -> Option<(LogName, usize)> {
        if let Some(catalog) = &mut self.catalog
            && let Some(size) = catalog.next_commit(now)
        {
            return Some((LogName::Definitions, size));
        }
        let size = self.shard.next_commit(now, &mut self.outbox)?;
        Some((LogName::Messages, size))
    }

    /// Fills the buffer; where it is to be written.
    pub fn commit(&mut self, now: Time, log: LogName, buffer: &mut [u8]) -> Option<Placed> {
        match log {
            LogName::Messages => self.shard.commit(buffer, now),
            LogName::Definitions => self.catalog.as_mut()?.log.commit(buffer, now),
        }
    }

    /// That write is durable.
    pub fn committed(&mut self, now: Time, log: LogName) {
        self.now = now;
        match (log, &mut self.catalog) {
            (LogName::Messages, _) => {
                let mut context = ShardContext {
                    topology: &self.topology,
                    outbox: &mut self.outbox,
                };
                self.shard.committed(&mut context);
            }
            (LogName::Definitions, Some(catalog)) => {
                catalog.log.written();
                catalog.publish(&mut self.outbox);
            }
            (LogName::Definitions, None) => {}
        }
    }

    /// Something else that a disk is to do.
    pub fn next_disk_request(&mut self) -> Option<(LogName, DiskRequest)> {
        if let Some(catalog) = &mut self.catalog
            && let Some(request) = catalog.log.next_request()
        {
            return Some((LogName::Definitions, request));
        }
        let request = self.shard.next_disk_request()?;
        Some((LogName::Messages, request))
    }

    /// Answers [`DiskRequest::Prepare`]: whether the file was made. Not: the disk is full.
    pub fn prepared(&mut self, now: Time, log: LogName, file: FileNumber, made: bool) {
        self.now = now;
        match (log, &mut self.catalog) {
            (LogName::Messages, _) => self.shard.prepared(file, made, now),
            (LogName::Definitions, Some(catalog)) => catalog.log.prepared(file, made, now),
            (LogName::Definitions, None) => {}
        }
    }

    /// Answers [`DiskRequest::Read`]; none: the disk failed to read it.
    pub fn read_done(&mut self, now: Time, log: LogName, read: ReadId, bytes: Option<&[u8]>) {
        self.now = now;
        if log == LogName::Messages {
            let mut context = ShardContext {
                topology: &self.topology,
                outbox: &mut self.outbox,
            };
            self.shard
                .read_done(now, read, bytes, &mut self.notices, &mut context);
        }
    }

    /// Whether a log can't grow, for want of space on the disk.
    pub fn is_disk_full(&self) -> bool {
        let definitions = self
            .catalog
            .as_ref()
            .is_some_and(|catalog| catalog.log.is_full());
        definitions || self.shard.is_disk_full()
    }

    /// While the disk has little room, the logs take no more of it than they must.
    pub(super) fn be_frugal(&mut self, is_frugal: bool) {
        self.shard.be_frugal(is_frugal);
        if let Some(catalog) = &mut self.catalog {
            catalog.log.be_frugal(is_frugal);
        }
    }

    /// The broker stops in order and no session is left on any core: writes what the next start
    /// should know. Done when [`Core::is_quiet`].
    pub fn finish(&mut self) {
        self.shard.finish();
        if let Some(catalog) = &mut self.catalog {
            catalog.log.finish();
        }
    }

    /// Whether the logs have nothing to write.
    pub fn is_quiet(&self) -> bool {
        let definitions = self
            .catalog
            .as_ref()
            .is_none_or(|catalog| catalog.log.is_quiet());
        definitions && self.shard.is_quiet()
    }

    /// When a log wants to be written at the latest.
    pub(super) fn storage_timer(&self) -> Option<Time> {
        let definitions = self
            .catalog
            .as_ref()
            .and_then(|catalog| catalog.log.next_timer());
        definitions.into_iter().chain(self.shard.next_timer()).min()
    }
}
