//! The definition log: durable exchanges, queues and bindings, as the catalog decided them.
//!
//! Each batch holds the records of the decisions that came during the write before. When the log has
//! grown to several times what is alive, everything alive is written as one batch that begins with a
//! reset, and all before it is given up.
//!
//! ```text
//! record  tag 1: one of DefinitionRecord's, encoded        tag 2: reset, forget what came before
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{CoreId, Lsn, Time, limits};
use crate::log::{
    DiskRequest, FileNumber, Found, Image, Log, Placed, RECORD_OVERHEAD, Record, RecoveryError,
    Room, recover,
};
use crate::model::definitions::records;
use crate::model::{
    DefinitionRecord, Definitions, DefinitionsFile, ImportContext, ImportError, Topology,
};

const GROUP: u32 = 2;
const DEFINITION: u8 = 1;
const RESET: u8 = 2;

/// What the definition log holds after a stop.
#[derive(Debug)]
pub struct RecoveredDefinitions {
    found: Found,
    definitions: Arc<Definitions>,
    malformed: usize,
    /// There is more than the log says.
    has_imported: bool,
}

impl RecoveredDefinitions {
    /// Those of a broker that was never started. `seed`: for hash tables.
    pub fn nothing(seed: u64) -> Self {
        Self {
            found: Found::default(),
            definitions: Arc::new(Definitions::new(seed)),
            malformed: 0,
            has_imported: false,
        }
    }

    /// Reads the definition log. `seed`: for hash tables.
    ///
    /// # Errors
    /// As [`recover`].
    pub fn read(image: &mut impl Image, seed: u64) -> Result<Self, RecoveryError> {
        let mut definitions = Definitions::new(seed);
        let mut malformed = 0;
        let found = recover(GROUP, image, |record| {
            replay(&record, &mut definitions, &mut malformed, seed);
        })?;
        if malformed > 0 || !found.damage.is_empty() {
            definitions.note_incomplete();
        }
        Ok(Self {
            found,
            definitions: Arc::new(definitions),
            malformed,
            has_imported: false,
        })
    }

    /// What is defined.
    pub fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(&self.definitions)
    }

    /// Gives the queues of cores that there are no more to others, as [`Definitions::rehome`].
    pub fn rehome(&mut self, cores: u16) -> Vec<(u64, CoreId)> {
        self.still_own().rehome(cores)
    }

    /// As [`Definitions::note_incomplete`].
    pub fn note_incomplete(&mut self) {
        self.still_own().note_incomplete();
    }

    /// Takes a file over, as [`Definitions::import`]; whoever goes on with the log writes it down.
    ///
    /// # Errors
    /// The first thing that can't be as the file says; the definitions are not to be used then.
    pub fn import(
        &mut self,
        file: DefinitionsFile,
        context: ImportContext<'_>,
    ) -> Result<Vec<String>, ImportError> {
        self.has_imported = true;
        self.still_own().import(file, context)
    }

    /// To be changed: before anybody else has got [`RecoveredDefinitions::definitions`].
    fn still_own(&mut self) -> &mut Definitions {
        Arc::get_mut(&mut self.definitions).expect("nobody has been given the definitions yet")
    }

    /// What the operator should know: one line for each damage.
    pub fn damage(&self) -> Vec<String> {
        let mut lines = self.found.damage.clone();
        if self.malformed > 0 {
            let count = self.malformed;
            lines.push(format!(
                "{count} definitions can't be understood and are left out"
            ));
        }
        lines
    }
}

fn replay(record: &Record<'_>, definitions: &mut Definitions, malformed: &mut usize, seed: u64) {
    match record.tag {
        DEFINITION => match DefinitionRecord::decode(record.payload) {
            Ok(record) => definitions.apply(record),
            Err(_) => *malformed += 1,
        },
        RESET => *definitions = Definitions::new(seed),
        _ => *malformed += 1,
    }
}

/// The definition log, and what is on its way there.
pub(super) struct DefinitionLog {
    log: Log,
    /// Records that are not yet in a batch, encoded one after the other, and where each ends.
    pending: Vec<u8>,
    ends: VecDeque<usize>,
    /// The next batch holds everything.
    snapshot: bool,
    /// Bytes of the last batch that held everything.
    snapshot_bytes: u64,
    /// What each batch since then keeps alive: itself.
    batches: Vec<Lsn>,
    room: Option<Room>,
    next_incarnation: u64,
    is_open: bool,
}

impl DefinitionLog {
    /// Goes on after a start. `seed`: drawn at random and kept secret.
    pub(super) fn resume(recovered: RecoveredDefinitions, seed: u64) -> Self {
        let is_new = recovered.found.is_empty() && !recovered.has_imported;
        let next_incarnation = recovered.definitions.next_incarnation();
        Self {
            log: Log::resume(GROUP, seed, recovered.found),
            pending: Vec::new(),
            ends: VecDeque::new(),
            // What was read is written once more, before anything relies on it.
            snapshot: !is_new,
            snapshot_bytes: 0,
            batches: Vec::new(),
            room: None,
            next_incarnation,
            is_open: is_new,
        }
    }

    /// A number for a queue that no other has or had.
    pub(super) fn next_incarnation(&mut self) -> u64 {
        self.next_incarnation += 1;
        self.next_incarnation - 1
    }

    /// Whether what was read at the start is durable once more.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn append(&mut self, record: &DefinitionRecord) {
        if self.ends.is_empty() {
            // One number stands for all that the next batch holds.
            self.batches.push(self.log.next_lsn());
        }
        record.encode(&mut self.pending);
        self.ends.push_back(self.pending.len());
    }

    pub(super) fn upcoming_lsn(&self) -> Lsn {
        self.log.upcoming_lsn()
    }

    pub(super) fn durable_lsn(&self) -> Lsn {
        self.log.durable_lsn()
    }

    /// The broker stops in order.
    pub(super) fn finish(&mut self) {
        self.log.finish();
    }

    /// Whether everything is written.
    pub(super) fn is_quiet(&self) -> bool {
        let is_written = self.ends.is_empty() && !self.snapshot;
        is_written && !self.log.is_writing() && !self.log.is_finishing()
    }

    pub(super) fn is_full(&self) -> bool {
        self.log.is_full()
    }

    /// When an idle log wants to be closed.
    pub(super) fn next_timer(&self) -> Option<Time> {
        self.log.next_timer(None)
    }

    /// How large a buffer the next batch needs, if it is time for one. `topology`: all that was decided.
    pub(super) fn next_commit(&mut self, topology: &Topology, now: Time) -> Option<usize> {
        if self.log.is_writing() || self.room.is_some() {
            return None;
        }
        let is_wanted = !self.ends.is_empty() || self.snapshot;
        self.log.replenish(is_wanted, now);
        if !is_wanted && !self.log.wants_empty(now) {
            return None;
        }
        if self.log.used() > limits::DEFINITION_LOG_BYTES + 4 * self.snapshot_bytes {
            self.snapshot = true;
        }
        if self.snapshot {
            self.gather(topology);
        }
        let bytes = if self.ends.is_empty() {
            0
        } else {
            self.pending.len() + (self.ends.len() + 1) * RECORD_OVERHEAD
        };
        let room = self.log.room(bytes, 0, now)?;
        self.room = Some(room);
        Some(room.buffer_len(bytes))
    }

    /// Puts everything in place of what waits, which is part of it.
    fn gather(&mut self, topology: &Topology) {
        if self.ends.is_empty() {
            self.batches.push(self.log.next_lsn());
        }
        self.pending.clear();
        self.ends.clear();
        let counter = DefinitionRecord::Counter {
            next_incarnation: self.next_incarnation,
        };
        for record in std::iter::once(counter).chain(records(topology)) {
            record.encode(&mut self.pending);
            self.ends.push_back(self.pending.len());
        }
    }

    /// Fills a buffer of the size that was asked for.
    pub(super) fn commit(&mut self, buffer: &mut [u8], now: Time) -> Option<Placed> {
        let room = self.room.take()?;
        let is_empty = self.ends.is_empty();
        let own = self.batches.last().copied().filter(|_| !is_empty);
        let first_lsn = own.unwrap_or_else(|| self.log.upcoming_lsn());
        let mut writer = self.log.begin(&room, first_lsn, buffer);
        if self.snapshot {
            writer.begin(RESET, 0);
        }
        let mut start = 0;
        for (number, end) in self.ends.drain(..).enumerate() {
            let record = &self.pending[start..end];
            match own.filter(|_| number == 0) {
                Some(lsn) => writer.begin_numbered(DEFINITION, lsn, record.len()),
                None => writer.begin(DEFINITION, record.len()),
            }
            writer.put(record);
            start = end;
        }
        let end_lsn = self.log.upcoming_lsn();
        let live = u64::from(!is_empty);
        let placed = self.log.seal(room, writer, (first_lsn, end_lsn), live, now);
        if self.snapshot {
            self.snapshot = false;
            self.snapshot_bytes = self.pending.len() as u64;
            // The next batch, which is written when this one is durable, gives them up.
            let older = self.batches.len().saturating_sub(1);
            for batch in self.batches.drain(..older) {
                self.log.forget(batch);
            }
        }
        self.pending.clear();
        self.pending.shrink_to(limits::BATCH_KEPT_BYTES);
        Some(placed)
    }

    pub(super) fn written(&mut self) {
        self.log.written();
        self.is_open = true;
    }

    pub(super) fn prepared(&mut self, file: FileNumber, made: bool, now: Time) {
        self.log.prepared(file, made, now);
    }

    /// As [`Log::be_frugal`].
    pub(super) fn be_frugal(&mut self, is_frugal: bool) {
        self.log.be_frugal(is_frugal);
    }

    pub(super) fn next_request(&mut self) -> Option<DiskRequest> {
        self.log.next_request()
    }
}
