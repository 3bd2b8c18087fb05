//! A log on a disk in memory.

use std::collections::BTreeMap;

use super::*;
use crate::base::Lsn;

/// Files in memory, and a log that writes to them.
#[derive(Clone, Default)]
struct Disk {
    files: BTreeMap<FileNumber, Vec<u8>>,
    quarantined: usize,
}

impl Image for Disk {
    fn files(&self) -> Vec<(FileNumber, u64)> {
        let files = self.files.iter();
        files
            .map(|(file, bytes)| (*file, bytes.len() as u64))
            .collect()
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let at = offset as usize;
        buffer.copy_from_slice(&self.files[&file][at..at + buffer.len()]);
        Ok(())
    }
}

impl Disk {
    /// Carries out what the log asks, reads apart.
    fn serve(&mut self, log: &mut Log) {
        while let Some(request) = log.next_request() {
            match request {
                DiskRequest::Prepare { file, size } => {
                    self.files.insert(file, vec![0; size as usize]);
                    log.prepared(file, true);
                }
                DiskRequest::Remove { file } => {
                    self.files.remove(&file);
                }
                DiskRequest::Quarantine { file } => {
                    self.files.remove(&file);
                    self.quarantined += 1;
                }
                DiskRequest::Read { .. } => unreachable!("the log doesn't read by itself"),
            }
        }
    }

    /// Writes a batch of records with LSNs, and a note; none if there is no room.
    fn append(&mut self, log: &mut Log, payloads: &[&[u8]]) -> Option<Placed> {
        let bytes = payloads.iter().map(|one| one.len() + RECORD_OVERHEAD).sum();
        let room = match log.room(bytes, 0) {
            Some(room) => room,
            None => {
                self.serve(log);
                log.room(bytes, 0)?
            }
        };
        let mut buffer = vec![0xee; room.buffer_len(bytes)];
        let first = log.upcoming_lsn();
        let lsns: Vec<Lsn> = payloads.iter().map(|_| log.next_lsn()).collect();
        let mut writer = log.begin(&room, first, &mut buffer);
        for (payload, lsn) in payloads.iter().zip(&lsns) {
            writer.begin_numbered(1, *lsn, payload.len());
            writer.put(payload);
        }
        let end = log.upcoming_lsn();
        let placed = log.seal(room, writer, (first, end), payloads.len() as u64);
        let file = self.files.get_mut(&placed.file).expect("it was prepared");
        file[placed.offset as usize..][..placed.len].copy_from_slice(&buffer[..placed.len]);
        log.written();
        self.serve(log);
        Some(placed)
    }

    fn recovered(&self) -> (Vec<Vec<u8>>, Found) {
        let mut records = Vec::new();
        let mut image = self.clone();
        let found = recover(7, &mut image, |record| {
            records.push(record.payload.to_vec())
        })
        .expect("it is ours");
        (records, found)
    }
}

fn fresh() -> (Disk, Log) {
    (
        Disk::default(),
        Log::resume(
            7,
            42,
            Found {
                next_lsn: Lsn::FIRST,
                ..Found::default()
            },
        ),
    )
}

#[test]
fn what_was_written_is_recovered_in_order() {
    let (mut disk, mut log) = fresh();
    disk.append(&mut log, &[b"one", b"two"]);
    disk.append(&mut log, &[&[3; 5000]]);
    disk.append(&mut log, &[]);
    let (records, found) = disk.recovered();
    assert_eq!(records, [b"one".to_vec(), b"two".to_vec(), vec![3; 5000]]);
    assert!(found.damage.is_empty());
    let mut log = Log::resume(7, 43, found);
    disk.serve(&mut log);
    disk.append(&mut log, &[b"after"]);
    let (records, found) = disk.recovered();
    assert_eq!(records.last().map(Vec::as_slice), Some(&b"after"[..]));
    assert!(found.damage.is_empty());
}
