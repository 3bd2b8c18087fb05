//! What the log is told besides messages, until it stands there.
//!
//! A batch takes as much of it as it has room for, and the rest waits for the next one: on a full disk a batch has
//! little, and must not wait for more. The order is what recovery relies on:
//!
//! ```text
//!   started                in the first batch
//!   settled, purged        of messages that are sealed, or in the same batch; messages wait until there is
//!                          room for all that was told before them, since a confirm covers that too
//!   flagged, returned      behind all messages: a segment that holds some goes only when nothing before it,
//!                          of which they tell, is needed any more
//!   clean                  the last record
//! ```

use std::collections::VecDeque;

use super::record::{CLEAN, FLAGGED, LogQueue, RETURNED, Run, SETTLED, STARTED};
use crate::base::Lsn;
use crate::log::BatchWriter;

/// The most bytes that a note takes in a batch.
pub(super) const NOTE_LEN: usize = 40;

/// What waits for a batch and is no message.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The log was opened.
    started: bool,
    /// What was settled since; in no order that matters.
    settled: VecDeque<Run>,
    /// What was purged, and which messages must be in the log or dropped before that is said there.
    purged: VecDeque<(Lsn, Run)>,
    /// What is told of messages at a clean stop.
    marks: Vec<Mark>,
    /// The broker stops in order: that is to be the last record.
    finishing: bool,
    /// It is, in what was sealed so far.
    says_clean: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Flagged(Run),
    /// Its count is not of positions: so often a message came back.
    Returned(Run),
}

impl Notes {
    /// Of a log that has just been opened; a new one needs no mark of that.
    pub(super) fn new(is_new: bool) -> Self {
        Self {
            started: !is_new,
            ..Self::default()
        }
    }

    /// A position is done with, whose message is in the log.
    pub(super) fn settle(&mut self, queue: LogQueue, position: u64) {
        let run = Run {
            queue,
            first: position,
            count: 1,
        };
        add_run(&mut self.settled, run);
    }

    /// So are those of a run, once all messages below `upto` are in the log or dropped. Called with ascending `upto`.
    pub(super) fn purge(&mut self, upto: Lsn, run: Run) {
        self.purged.push_back((upto, run));
    }

    /// The broker stops in order. `is_clean`: the log needs no mark that says so; `flagged`: what is told of messages.
    pub(super) fn finish(
        &mut self,
        is_clean: bool,
        flagged: impl Iterator<Item = (LogQueue, u64, u32)>,
    ) {
        self.finishing = true;
        self.says_clean = is_clean;
        let mut runs = VecDeque::new();
        for (queue, first, returns) in flagged {
            let run = Run {
                queue,
                first,
                count: 1,
            };
            if returns > 0 {
                let count = u64::from(returns);
                self.marks.push(Mark::Returned(Run { count, ..run }));
            }
            add_run(&mut runs, run);
        }
        self.marks.extend(runs.into_iter().map(Mark::Flagged));
    }

    /// Whether the broker stops in order.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// The most bytes of what goes before the messages that come later.
    pub(super) fn len(&self) -> usize {
        (usize::from(self.started) + self.settled.len() + self.purged.len()) * NOTE_LEN
    }

    /// How many bytes of that need no message below `sealed_upto` first.
    pub(super) fn ready_len(&self, sealed_upto: Lsn) -> usize {
        let waiting =
            self.purged.len() - self.purged.partition_point(|(lsn, _)| *lsn <= sealed_upto);
        self.len() - waiting * NOTE_LEN
    }

    /// The most bytes of what goes behind all messages. `is_last`: whether no message waits.
    pub(super) fn ending_len(&self, is_last: bool) -> usize {
        // The mark of a clean stop is due until it stands, and again behind whatever comes after it.
        let is_due = !self.says_clean || !is_last || self.len() > 0 || !self.marks.is_empty();
        (self.marks.len() + usize::from(self.finishing && is_due)) * NOTE_LEN
    }

    /// Writes what fits into so many bytes, behind the messages of the batch; how many are left. `sealed_upto`: every
    /// message below is in a batch, this one perhaps, or was dropped.
    pub(super) fn write(
        &mut self,
        writer: &mut BatchWriter<'_>,
        sealed_upto: Lsn,
        mut left: usize,
    ) -> usize {
        let mut takes = |is_there: bool| {
            let fits = is_there && left >= NOTE_LEN;
            left -= if fits { NOTE_LEN } else { 0 };
            fits
        };
        if takes(self.started) {
            self.started = false;
            writer.begin(STARTED, 0);
        }
        let is_ready = |(lsn, _): &(Lsn, Run)| *lsn <= sealed_upto;
        while takes(self.purged.front().is_some_and(is_ready))
            && let Some((_, run)) = self.purged.pop_front()
        {
            run.write(SETTLED, writer);
        }
        let count = self.settled.len().min(left / NOTE_LEN);
        for run in self.settled.drain(..count) {
            run.write(SETTLED, writer);
        }
        left - count * NOTE_LEN
    }

    /// Writes what fits of the end, behind everything else. `is_last`: whether no message waits.
    pub(super) fn write_ending(
        &mut self,
        writer: &mut BatchWriter<'_>,
        is_last: bool,
        left: usize,
    ) {
        let is_last = self.finishing && is_last && self.len() == 0;
        let kept = match is_last {
            true => self.marks.len().saturating_sub(left / NOTE_LEN),
            false => self.marks.len(),
        };
        let left = left - (self.marks.len() - kept) * NOTE_LEN;
        for mark in self.marks.drain(kept..) {
            mark.write(writer);
        }
        // That the broker has stopped is the last thing to be said, again if something else came behind.
        let stands = self.says_clean && writer.is_empty();
        self.says_clean = is_last && self.marks.is_empty() && (stands || left >= NOTE_LEN);
        if self.says_clean && !stands {
            writer.begin(CLEAN, 0);
        }
    }
}

/// Adds a run, to the last one if it goes on from there.
fn add_run(runs: &mut VecDeque<Run>, run: Run) {
    let extended = runs.back_mut().is_some_and(|last| last.extend(run));
    if !extended {
        runs.push_back(run);
    }
}

impl Mark {
    fn write(&self, writer: &mut BatchWriter<'_>) {
        match self {
            Self::Flagged(run) => run.write(FLAGGED, writer),
            Self::Returned(run) => run.write(RETURNED, writer),
        }
    }
}
