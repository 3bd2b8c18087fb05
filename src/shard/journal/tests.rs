//! Lives of a journal on a disk in memory.

mod full;

use std::collections::BTreeMap;

use super::recovery::RecoveredQueue;
use super::*;
use crate::base::MessageRef;
use crate::log::{Image, ReadError};
use crate::model::queue::{NEVER, Paged};

/// Everything that waits is due.
const LATE: Time = Time(u64::MAX / 2);

/// The files of one log.
#[derive(Default)]
struct Disk {
    files: BTreeMap<FileNumber, Vec<u8>>,
    /// There is no space for another one.
    is_full: bool,
    /// Since [`LATE`]: what waits for the next batch is due each time.
    elapsed: Duration,
}

impl Image for &Disk {
    fn files(&self) -> Vec<(FileNumber, u64)> {
        let files = self.files.iter();
        files
            .map(|(file, bytes)| (*file, bytes.len() as u64))
            .collect()
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let bytes = &self.files[&file][offset as usize..];
        buffer.copy_from_slice(&bytes[..buffer.len()]);
        Ok(())
    }
}

impl Disk {
    /// What a start finds in the queue, and the journal that goes on with it.
    fn start(&self) -> (Option<RecoveredQueue>, Journal) {
        let mut recovered = Recovered::read(&mut &*self).expect("it is ours");
        let found = recovered.take(queue());
        let journal = Journal::resume(recovered.into_found(), 1, u64::MAX / 2);
        (found, journal)
    }

    /// The same, of what was told of the messages alone: position, whether each was delivered before,
    /// and how often it came back.
    fn told(&self) -> Vec<(u64, bool, u32)> {
        let (found, _) = self.start();
        let mut found = found.unwrap_or_default();
        let returned: BTreeMap<_, _> = std::mem::take(&mut found.returned).into_iter().collect();
        let told = found.drain().map(|one| {
            let Paged { position, .. } = one.paged;
            let times = returned.get(&position).copied().unwrap_or(0);
            (position, one.paged.redelivered, times)
        });
        told.collect()
    }

    /// Writes all that waits.
    fn write(&mut self, journal: &mut Journal) {
        while !journal.is_quiet() {
            self.write_batch(journal);
        }
    }

    /// Writes one batch, if there is room for it.
    fn write_batch(&mut self, journal: &mut Journal) -> bool {
        self.elapsed += RIDE;
        let now = LATE + self.elapsed;
        let len = journal.next_commit(now);
        if let Some(len) = len {
            let mut buffer = vec![0; len];
            let placed = journal.commit(&mut buffer, now).expect("it was due");
            let file = self.files.get_mut(&placed.file).expect("it was made");
            let at = placed.offset as usize;
            file[at..at + placed.len].copy_from_slice(&buffer[..placed.len]);
            journal.written();
        }
        while let Some(request) = journal.next_request() {
            match request {
                DiskRequest::Prepare { file, size } => {
                    if !self.is_full {
                        self.files.insert(file, vec![0; size as usize]);
                    }
                    journal.prepared(file, !self.is_full, now);
                }
                DiskRequest::Remove { file } => {
                    self.files.remove(&file);
                }
                request => panic!("nobody asked for {request:?}"),
            }
        }
        len.is_some()
    }

    /// A clean stop, with that to be told of messages: position, and how often each came back.
    fn stop(&mut self, mut journal: Journal, flagged: &[(u64, u32)]) {
        finish(&mut journal, flagged);
        self.write(&mut journal);
    }
}

fn finish(journal: &mut Journal, flagged: &[(u64, u32)]) {
    let flagged = flagged.iter();
    journal.finish(flagged.map(|(position, times)| (queue(), *position, *times)));
}

fn queue() -> LogQueue {
    LogQueue::durable(1)
}

fn publish(journal: &mut Journal, position: u64, persistent: bool) {
    publish_body(journal, (position, persistent), b"body");
}

fn publish_body(journal: &mut Journal, (position, persistent): (u64, bool), body: &[u8]) -> Lsn {
    let lsn = journal.upcoming_lsn();
    let message = MessageRef {
        exchange: b"",
        routing_key: b"queue",
        properties: &[0, 0],
        body,
        large_body: &[],
        persistent,
    };
    let target = Target {
        queue: queue(),
        position,
        expires: NEVER,
    };
    journal.append(StoredMessage::new(&message), &[target], Time(1));
    lsn
}

#[test]
fn what_is_told_of_messages_is_exact_after_a_clean_stop_and_void_after_another() {
    let mut disk = Disk::default();
    let (_, mut journal) = disk.start();
    (0..3).for_each(|position| publish(&mut journal, position, true));
    disk.write(&mut journal);
    assert_eq!(disk.told(), [(0, true, 0), (1, true, 0), (2, true, 0)]);
    disk.stop(journal, &[(1, 0), (2, 7)]);
    assert_eq!(disk.told(), [(0, false, 0), (1, true, 0), (2, true, 7)]);

    let (_, mut journal) = disk.start();
    disk.write(&mut journal);
    assert_eq!(disk.told(), [(0, true, 0), (1, true, 0), (2, true, 0)]);
}

#[test]
fn what_comes_behind_the_mark_of_a_clean_stop_does_not_make_it_a_crash() {
    let mut disk = Disk::default();
    let (_, mut journal) = disk.start();
    (0..3).for_each(|position| publish(&mut journal, position, true));
    disk.write(&mut journal);
    finish(&mut journal, &[(1, 0)]);
    disk.write(&mut journal);
    // An acknowledgement that was on its way between cores.
    let lsn = Lsn(journal.upcoming_lsn().0 - 1);
    journal.settle(queue(), 2, lsn, Time(1));
    assert!(!journal.is_quiet());
    disk.write(&mut journal);
    assert_eq!(disk.told(), [(0, false, 0), (1, true, 0)]);
}

/// A dead letter of another core, which was still waiting for its commit (simulator, seed 51467230).
#[test]
fn nor_does_what_comes_then_to_a_log_that_was_never_used() {
    let mut disk = Disk::default();
    let (_, mut journal) = disk.start();
    disk.stop(journal, &[]);
    assert!(disk.files.is_empty(), "there is nothing to be said");
    (_, journal) = disk.start();
    finish(&mut journal, &[]);
    publish(&mut journal, 0, true);
    disk.write(&mut journal);
    assert_eq!(disk.told(), [(0, false, 0)]);
}

/// A message that isn't persistent may be in the log, since memory was short. It doesn't outlive a stop,
/// and its position goes to another (simulator, seed 829958447).
#[test]
fn what_an_earlier_stop_told_says_nothing_of_a_later_message() {
    let mut disk = Disk::default();
    let (_, mut journal) = disk.start();
    publish(&mut journal, 0, true);
    publish(&mut journal, 1, false);
    disk.stop(journal, &[(1, 3)]);
    assert_eq!(disk.told(), [(0, false, 0)]);

    let (_, mut journal) = disk.start();
    publish(&mut journal, 1, true);
    disk.stop(journal, &[]);
    assert_eq!(disk.told(), [(0, false, 0), (1, false, 0)]);
}

/// What is in a queue that is deleted needs no note: no batch would come of it.
#[test]
fn files_that_nobody_needs_are_given_back_though_there_is_nothing_to_write() {
    let mut disk = Disk::default();
    let (_, mut journal) = disk.start();
    let first = journal.upcoming_lsn();
    while disk.files.len() < 5 {
        (0..5000).for_each(|position| publish(&mut journal, position, true));
        disk.write(&mut journal);
    }
    let used = journal.log.used();
    for lsn in first.0..journal.upcoming_lsn().0 {
        journal.forget(queue(), Lsn(lsn));
    }
    assert!(disk.write_batch(&mut journal));
    assert!(journal.log.used() < used / 2);
    assert!(!disk.write_batch(&mut journal), "once is enough");
}

/// The last batch might be one that was never finished, but for the empty one behind it.
#[test]
fn after_a_clean_stop_no_damage_goes_unnoticed() {
    let mut disk = Disk::default();
    let (_, mut journal) = disk.start();
    (0..3).for_each(|position| publish(&mut journal, position, true));
    disk.stop(journal, &[(1, 2)]);
    let told = disk.told();
    let mut noticed = 0;
    for file in disk.files.keys().copied().collect::<Vec<_>>() {
        let places = disk.files[&file].iter().enumerate();
        let places: Vec<usize> = places
            .filter(|(_, byte)| **byte != 0)
            .map(|(at, _)| at)
            .collect();
        for at in places {
            let flip = |disk: &mut Disk| disk.files.get_mut(&file).expect("it is there")[at] ^= 1;
            flip(&mut disk);
            let found = Recovered::read(&mut &disk).expect("it is ours");
            match found.damage() {
                [] => assert_eq!(disk.told(), told, "byte {at} of {file:?}"),
                _ => noticed += 1,
            }
            flip(&mut disk);
        }
    }
    assert!(noticed > 50, "{noticed} bytes");
}
