//! Full disks, failing reads, and files that were never a log.

use super::*;
use crate::base::limits;

#[test]
fn a_full_disk_leaves_a_reserve_and_is_asked_again() {
    let (mut disk, mut log) = fresh();
    disk.append(&mut log, &[b"x"]).expect("room");
    let least = limits::SEGMENT_BYTES_MIN as usize - 4 * BLOCK;
    assert_eq!(log.free.len(), limits::FREE_FILES_MIN);
    let payload = vec![2; least];
    disk.append(&mut log, &[&payload]).expect("room");
    disk.is_full = true;
    // What matters less gets all but the last free file.
    disk.append(&mut log, &[&payload]).expect("room");
    assert!(log.is_full());
    assert_eq!(log.free.len(), 1);
    assert!(log.room(least, 1, disk.now).is_none());
    assert!(
        log.next_request().is_none(),
        "it is not asked again and again"
    );
    // What matters more gets that, and then there is none.
    let (before, _) = disk.recovered();
    disk.append(&mut log, &[&payload]).expect("the reserve");
    assert!(log.room(least, 0, disk.now).is_none());
    disk.now = disk.now + limits::DISK_RETRY;
    assert_eq!(log.next_timer(None), Some(disk.now));
    assert!(log.room(least, 0, disk.now).is_none());
    disk.serve(&mut log);
    assert!(log.is_full());
    // What was given up can be used again without the disk's help.
    for lsn in 0..log.upcoming_lsn().0 {
        log.forget(Lsn(lsn));
    }
    disk.append(&mut log, &[b"small"]).expect("a block is left");
    assert!(log.room(least, 0, disk.now).is_some());
    disk.is_full = false;
    let mut log = disk.restarted(6);
    disk.append(&mut log, &[&payload]).expect("room");
    assert!(before.len() < 4);
}

/// A log that has grown to large files.
fn grown() -> (Disk, Log) {
    let (mut disk, mut log) = fresh();
    let payload = vec![2; 900_000];
    while log.used() < 40 * limits::SEGMENT_BYTES_MIN {
        disk.append(&mut log, &[&payload]).expect("room");
    }
    (disk, log)
}

/// The same, when all that it holds is dead.
fn drained() -> (Disk, Log) {
    let (mut disk, mut log) = grown();
    (0..log.upcoming_lsn().0).for_each(|lsn| log.forget(Lsn(lsn)));
    for _ in 0..2 {
        disk.append(&mut log, &[b"gives all of it back"])
            .expect("room");
    }
    (disk, log)
}

/// What is ready for the next batches, in bytes.
fn free_bytes(log: &Log) -> u64 {
    log.free.iter().map(|file| file.size).sum()
}

#[test]
fn while_the_disk_has_little_room_small_files_are_ready_instead_of_large_ones() {
    let (mut disk, mut log) = drained();
    let least = limits::FREE_FILES_MIN as u64 * limits::SEGMENT_BYTES_MIN;
    assert!(free_bytes(&log) > 10 * least, "{}", free_bytes(&log));
    log.be_frugal(true);
    while log.preparing.is_some() || log.largest_surplus().is_some() {
        log.replenish(false, disk.now);
        disk.serve(&mut log);
    }
    assert_eq!(free_bytes(&log), least);
    // A large message that had come before finds room.
    let last = log.segments.back().map_or(0, |last| last.file.size);
    let large = vec![3; last as usize];
    assert!(log.room(large.len(), 1, disk.now).is_none());
    disk.serve(&mut log);
    log.replenish(true, disk.now);
    disk.append(&mut log, &[&large])
        .expect("its file is kept for it");
}

/// Does what is due for as long as there is something.
fn rest(disk: &mut Disk, log: &mut Log) {
    loop {
        log.replenish(false, disk.now);
        disk.serve(log);
        if log.wants_empty(disk.now) {
            disk.append(log, &[]).expect("room");
        } else if log.preparing.is_none() && log.largest_surplus().is_none() {
            return;
        }
    }
}

#[test]
fn while_the_disk_has_little_room_a_log_of_dead_messages_takes_hardly_any() {
    let (mut disk, mut log) = drained();
    let last = log.segments.back().map(|last| last.file.size);
    assert!(last > Some(8 * limits::SEGMENT_BYTES_MIN), "{last:?}");
    (0..log.upcoming_lsn().0).for_each(|lsn| log.forget(Lsn(lsn)));
    log.be_frugal(true);
    rest(&mut disk, &mut log);
    let left: usize = disk.files.values().map(Vec::len).sum();
    let files = 1 + limits::FREE_FILES_MIN as u64;
    assert_eq!(left as u64, files * limits::SEGMENT_BYTES_MIN);
}

/// It would be room lost: none goes before those that are older.
#[test]
fn while_the_disk_has_little_room_a_dead_segment_behind_a_living_one_is_filled_up() {
    let (mut disk, mut log) = grown();
    (Lsn::FIRST.0 + 1..log.upcoming_lsn().0).for_each(|lsn| log.forget(Lsn(lsn)));
    let last = log.segments.back().map(|last| last.epoch);
    log.be_frugal(true);
    rest(&mut disk, &mut log);
    disk.append(&mut log, &[b"x"]).expect("room");
    assert_eq!(log.segments.back().map(|last| last.epoch), last);
}

#[test]
fn while_the_disk_has_little_room_no_more_is_written_again_than_there_is_room_for() {
    let (mut disk, mut log) = grown();
    log.garbage_bytes = 0;
    (Lsn::FIRST.0 + 1..log.upcoming_lsn().0).for_each(|lsn| log.forget(Lsn(lsn)));
    log.be_frugal(true);
    rest(&mut disk, &mut log);
    assert!(log.wants_rewriting(disk.now), "one of 900 KB");
    log.free.pop();
    assert!(!log.wants_rewriting(disk.now), "into 1 MiB");
    log.be_frugal(false);
    assert!(log.wants_rewriting(disk.now));
}

/// Acknowledgements go by what is in reserve, and a large message waits.
#[test]
fn what_waits_for_room_is_not_forgotten_for_what_needs_less() {
    let (mut disk, mut log) = fresh();
    disk.append(&mut log, &[b"x"]).expect("room");
    let large = 3 * limits::SEGMENT_BYTES_MIN as usize;
    log.be_frugal(true);
    assert!(log.room(large, 1, disk.now).is_none());
    assert!(log.reserved_room(1).is_some());
    assert!(log.is_stuck());
    disk.serve(&mut log);
    assert!(log.room(large, 1, disk.now).is_some(), "its file was made");
}

#[test]
fn on_a_full_disk_a_large_free_file_makes_way_for_a_small_one() {
    let (mut disk, mut log) = drained();
    let before = free_bytes(&log);
    disk.is_full = true;
    log.be_frugal(true);
    log.replenish(false, disk.now);
    disk.serve(&mut log);
    assert!(log.is_full() && free_bytes(&log) < before);
    assert_eq!(log.free.len(), 1, "the reserve stays");
    disk.is_full = false;
    while log.preparing.is_some() || log.largest_surplus().is_some() {
        disk.now = disk.now + limits::DISK_RETRY;
        log.replenish(false, disk.now);
        disk.serve(&mut log);
    }
    assert!(!log.is_full());
    assert_eq!(log.free.len(), limits::FREE_FILES_MIN);
}

/// Else nobody could tell whether its last batch, should bits of it flip, was ever durable.
#[test]
fn a_log_on_a_full_disk_can_still_be_closed() {
    for size in [1, BLOCK, 2 * BLOCK - 100, 5 * BLOCK, 7 * BLOCK + 9] {
        let (mut disk, mut log) = fresh();
        let payload = vec![2; size];
        let mut last = disk.append(&mut log, &[&payload]);
        disk.is_full = true;
        while let Some(placed) = disk.append(&mut log, &[&payload]) {
            last = Some(placed);
        }
        log.finish();
        assert!(log.is_full() && log.is_finishing());
        disk.append(&mut log, &[]).expect("a block is left");
        assert!(!log.is_finishing());
        let (all, found) = disk.recovered();
        assert_eq!(found.damage, [""; 0]);
        let last = last.expect("there was room at first");
        let at = last.offset as usize + last.len - BLOCK;
        disk.files.get_mut(&last.file).expect("it is there")[at] ^= 1;
        let (left, found) = disk.recovered();
        assert_eq!(left.len(), all.len() - 1, "payloads of {size} bytes");
        assert_eq!(found.damage.len(), 1, "payloads of {size} bytes");
    }
}

#[test]
fn a_disk_that_fails_to_read_is_reported_and_no_file_is_removed() {
    let (mut disk, mut log) = fresh();
    for size in [100, 200_000, 900_000, 500_000, 30, 3_000_000, 40] {
        let payload = Dice(size as u64).bytes(size);
        disk.append(&mut log, &[&payload]).expect("room");
    }
    let written: Vec<FileNumber> = log.segments.iter().map(|one| one.file.file).collect();
    let (all, _) = disk.recovered();
    let mut whole = Reading::new(&disk);
    whole.recover().expect("nothing fails");
    let mut failed = 0;
    for failing in 0..whole.reads {
        let mut image = Reading::new(&disk);
        image.failing = Some(failing);
        let Ok((records, found)) = image.recover() else {
            failed += 1;
            continue;
        };
        // A large read that fails is tried again as a small one.
        assert!(records == all, "read {failing}");
        assert_eq!(found.unused.len() + written.len(), disk.files.len());
        let mut log = Log::resume(GROUP, 3, found);
        while let Some(request) = log.next_request() {
            if let DiskRequest::Remove { file } = request {
                assert!(!written.contains(&file));
            }
        }
    }
    assert!(failed > 0, "headers must be readable");
    for file in &written {
        let len = disk.files[file].len() as u64;
        for at in (BLOCK as u64..len).step_by(151 * BLOCK) {
            let mut image = Reading::new(&disk);
            image.unreadable = Some((*file, at..at + 1));
            let (records, found) = image.recover().expect("headers can be read");
            assert!(!found.damage.is_empty(), "byte {at} of {file:?}");
            assert!(records.len() + 1 >= all.len());
            let segment = found.segments.iter().find(|one| one.file.file == *file);
            assert!(segment.is_some_and(|one| one.damaged));
            assert!(image.reads < 2500, "{} reads", image.reads);
        }
    }
}

#[test]
fn recovery_reads_a_file_about_once() {
    let (mut disk, mut log) = fresh();
    for _ in 0..20 {
        disk.append(&mut log, &[&vec![7; 1_500_000]]).expect("room");
    }
    let mut image = Reading::new(&disk);
    image.recover().expect("it is ours");
    let size: u64 = image.files().iter().map(|(_, size)| size).sum();
    let last = log.segments.back().map_or(0, |last| last.file.size);
    assert!(
        image.bytes <= size + last + size / 16,
        "{} of {size}",
        image.bytes
    );
}

#[test]
fn bytes_that_were_never_a_log_do_no_harm() {
    let mut dice = Dice(8);
    let (mut base, mut log) = fresh();
    for size in [10, 5000, 70_000, 300] {
        let payload = dice.bytes(size);
        base.append(&mut log, &[&payload, b"x"]).expect("room");
    }
    let small = 30 * BLOCK;
    for bytes in base.files.values_mut() {
        bytes.truncate(small);
    }
    for round in 0..200 {
        let mut disk = base.clone();
        for bytes in disk.files.values_mut() {
            for _ in 0..dice.below(5) {
                let (at, to) = (dice.below(small), dice.below(small));
                let len = dice.below(small - at.max(to));
                match dice.below(4) {
                    0 => bytes.copy_within(at..at + len, to),
                    1 => bytes[at..at + len].copy_from_slice(&dice.bytes(len)),
                    2 => bytes[at..at + len].fill(0),
                    _ => bytes[at / BLOCK * BLOCK] ^= 1 << dice.below(8),
                }
            }
            if dice.one_in(4) {
                bytes.truncate(dice.below(small));
            }
        }
        if round % 10 == 0 {
            let len = dice.below(small);
            disk.files.insert(FileNumber(50), dice.bytes(len));
        }
        let mut image = Reading::new(&disk);
        for (file, bytes) in &disk.files {
            image.cut.insert(*file, bytes.len());
        }
        let Ok((records, _)) = image.recover() else {
            continue;
        };
        assert!(records.len() <= 8);
        let mut log = disk.restarted(round);
        disk.append(&mut log, &[b"after"]).expect("room");
        let (records, _) = disk.recovered();
        assert_eq!(records.last().map(Vec::as_slice), Some(&b"after"[..]));
    }
}

/// Goes through the oldest segment. The stretch that is read at `unreadable`, counted from 0, brings nothing. The
/// LSNs that were written again, and how many stretches there were.
fn go_through(disk: &Disk, log: &mut Log, unreadable: Option<usize>) -> (Vec<Lsn>, usize) {
    let (mut again, mut reads) = (Vec::new(), 0);
    while let Some(stretch) = log.next_to_rewrite(disk.now) {
        let bytes = &disk.files[&stretch.file][stretch.offset as usize..][..stretch.len];
        let bytes = if unreadable == Some(reads) {
            &[]
        } else {
            bytes
        };
        let mut survivors = Vec::new();
        log.visit(&stretch, bytes, |record| survivors.extend(record.lsn));
        survivors.retain(|lsn| !again.contains(lsn));
        for lsn in survivors {
            log.next_lsn();
            log.forget(lsn);
            again.push(lsn);
        }
        reads += 1;
    }
    (again, reads)
}

/// A log whose oldest segment is worth to be written again, in several stretches; how many messages that has.
fn worn() -> (Disk, Log, usize) {
    let (mut disk, mut log) = fresh();
    log.garbage_bytes = 0;
    let payload = vec![1; 400_000];
    let mut lsns = Vec::new();
    while log.segments.len() < 4 {
        lsns.push(log.upcoming_lsn());
        disk.append(&mut log, &[&payload]).expect("room");
    }
    let old = log.segments.get(1).map(|second| second.first_lsn);
    let (oldest, rest): (Vec<Lsn>, Vec<Lsn>) = lsns.iter().partition(|lsn| Some(**lsn) < old);
    for lsn in rest {
        log.forget(lsn);
    }
    assert!(log.wants_rewriting(disk.now));
    (disk, log, oldest.len())
}

#[test]
fn a_stretch_that_can_not_be_read_is_cut_short_and_what_is_behind_comes_next() {
    let (disk, mut log, _) = worn();
    let mut next = || log.next_to_rewrite(disk.now).expect("there is more");
    let stretch = next();
    let narrow = log.narrow(&stretch, true);
    assert_eq!(narrow.offset, stretch.offset);
    assert!(narrow.len < stretch.len);
    let mut next = || log.next_to_rewrite(disk.now).expect("there is more");
    assert_eq!(next().offset, narrow.offset + narrow.len as u64);
}

#[test]
fn a_read_that_fails_once_while_survivors_are_written_again_costs_nothing() {
    let (mut disk, mut log, alive) = worn();
    let (first, _) = go_through(&disk, &mut log, Some(0));
    assert!(first.len() < alive, "some could not be read");
    assert!(!log.segments[0].damaged, "and are not given up");
    assert!(!log.wants_rewriting(disk.now), "not at once");
    disk.now = disk.now + limits::READ_RETRY;
    assert!(log.wants_rewriting(disk.now));
    let (second, _) = go_through(&disk, &mut log, None);
    assert!(second.len() >= alive - first.len());
    assert_eq!(log.segments[0].live, 0);
    disk.append(&mut log, &[b"gives it up"]).expect("room");
    disk.append(&mut log, &[b"gives it up"]).expect("room");
    assert_eq!(disk.quarantined, []);
}

#[test]
fn what_cannot_be_read_twice_is_given_up_and_reported() {
    let (mut disk, mut log, alive) = worn();
    let oldest = log.segments[0].file.file;
    let (first, _) = go_through(&disk, &mut log, Some(0));
    assert!(first.len() < alive);
    disk.now = disk.now + limits::READ_RETRY;
    go_through(&disk, &mut log, Some(0));
    assert!(log.segments[0].damaged);
    assert_eq!(log.segments[0].live, 0);
    for _ in 0..2 {
        disk.append(&mut log, &[b"x"]).expect("room");
    }
    assert_eq!(disk.quarantined, [oldest], "once, and nothing else");
    disk.now = disk.now + limits::READ_RETRY;
    assert_ne!(
        log.segments.front().map(|segment| segment.file.file),
        Some(oldest),
        "it is not tried a third time"
    );
}
