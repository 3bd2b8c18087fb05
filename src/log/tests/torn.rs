//! Writes that a power cut tore: what was there before is recovered, they themselves wholly or not at
//! all, and in silence.
//!
//! `LEVERET_ALL_TEARS=1 cargo test --release --lib log::tests::torn` tears at each byte.

use super::*;

/// What stands behind the place where a write was torn.
#[derive(Clone, Copy, Debug)]
enum Rest {
    /// The file ends there.
    Nothing,
    Zeros,
    /// What was there before.
    Before,
    Garbage,
}

const RESTS: [Rest; 4] = [Rest::Nothing, Rest::Zeros, Rest::Before, Rest::Garbage];

/// Whether a write torn at `cut` of `len` bytes is tried: each in a long run, else the edges of
/// headers and blocks, and some.
fn is_tried(cut: usize, len: usize) -> bool {
    option_env!("LEVERET_ALL_TEARS").is_some()
        || cut + 16 > len
        || [0, 1, 8, 71, 72, 73, 111, 112, 113].contains(&(cut % (16 * BLOCK)))
        || cut.is_multiple_of(2039)
}

/// Tears the last write at every byte, and looks at what is recovered.
fn tear(disk: &Disk, write: &Write, rest: Rest, may_report: impl Fn(usize) -> bool) -> usize {
    let (before, _) = disk.recovered();
    let mut torn = disk.clone();
    let len = write.bytes.len();
    match rest {
        Rest::Nothing | Rest::Zeros => write.target(&mut torn).fill(0),
        Rest::Before => {}
        Rest::Garbage => {
            let garbage = Dice(5).bytes(len);
            write.target(&mut torn).copy_from_slice(&garbage);
        }
    }
    let mut tried = 0;
    for cut in 0..=len {
        if cut > 0 {
            write.target(&mut torn)[cut - 1] = write.bytes[cut - 1];
        }
        if !is_tried(cut, len) {
            continue;
        }
        tried += 1;
        let mut image = Reading::new(&torn);
        if matches!(rest, Rest::Nothing) {
            let end = write.placed.offset as usize + cut;
            image.cut.insert(write.placed.file, end);
        }
        let (records, found) = image.recover().expect("it is ours");
        let arrived = records.len() > before.len() || records.last() != before.last();
        let old = records.len() - usize::from(arrived);
        // A write that arrived gives up what it gives up.
        let is_kept = before.ends_with(&records[..old]) && (arrived || old == before.len());
        assert!(is_kept, "{rest:?} from {cut} on");
        let last = write.bytes.iter().rposition(|byte| *byte != 0);
        let is_whole = last.is_none_or(|last| cut > last);
        assert!(is_whole || !arrived, "{rest:?} from {cut} on");
        assert!(arrived || cut < len, "{rest:?}: all of it arrived");
        if !may_report(cut) {
            assert_eq!(found.damage, [""; 0], "{rest:?} from {cut} on");
            assert!(found.unknown.is_empty());
        }
        if tried % 100 == 1 || cut == len {
            let mut torn = torn.clone();
            for (file, end) in image.cut {
                torn.files.get_mut(&file).expect("there").truncate(end);
            }
            goes_on(torn, records);
        }
    }
    tried
}

/// Starts on a disk, writes, and recovers again.
fn goes_on(mut disk: Disk, mut records: Vec<Vec<u8>>) {
    let mut log = disk.restarted(1234);
    disk.append(&mut log, &[b"after"]).expect("room");
    disk.append(&mut log, &[b"and", b"then"]).expect("room");
    let (again, found) = disk.recovered();
    records.extend([b"after".to_vec(), b"and".to_vec(), b"then".to_vec()]);
    assert!(
        again == records,
        "{} records, not {}",
        again.len(),
        records.len()
    );
    if disk.quarantined.is_empty() {
        assert_eq!(found.damage, [""; 0]);
    }
}

#[test]
fn a_write_torn_at_any_byte_is_dropped_in_silence() {
    for (mut disk, mut log) in [fresh(), recycled()] {
        for size in [100, 9000, 20] {
            let payload = vec![size as u8; size];
            disk.append(&mut log, &[&payload, b"x"]).expect("room");
        }
        let payload = Dice(1).bytes(64 * 1024 - 300);
        let write = disk.begin(&mut log, &[&payload]).expect("room");
        assert_eq!(write.bytes.len(), 64 * 1024);
        for rest in RESTS {
            tear(&disk, &write, rest, |_| false);
        }
    }
}

#[test]
fn a_torn_write_that_begins_a_segment_is_dropped_in_silence() {
    for (mut disk, mut log) in [fresh(), recycled()] {
        disk.append(&mut log, &[b"before"]).expect("room");
        // A file that holds an earlier life, if there is one.
        let payload = Dice(2).bytes(70_000);
        let write = loop {
            let write = disk.begin(&mut log, &[&payload]).expect("room");
            if write.placed.offset == 0 {
                break write;
            }
            disk.finish(&mut log, &write);
        };
        for rest in RESTS {
            // With garbage there, a header that isn't whole can't be told from a damaged one.
            let is_garbage = matches!(rest, Rest::Garbage);
            tear(&disk, &write, rest, |cut| is_garbage && cut < 72);
        }
    }
}

#[test]
fn a_write_of_which_any_sectors_are_missing_is_dropped_in_silence() {
    let mut dice = Dice(3);
    for (mut disk, mut log) in [fresh(), recycled()] {
        for round in 0..24 {
            let size = dice.below(100_000);
            let payload = dice.bytes(size);
            let write = disk.begin(&mut log, &[b"x", &payload]).expect("room");
            let (before, _) = disk.recovered();
            for odds in [2, 3, 40, 1000] {
                let mut torn = disk.clone();
                let mut is_whole = true;
                for (old, new) in write
                    .target(&mut torn)
                    .chunks_mut(SECTOR)
                    .zip(write.bytes.chunks(SECTOR))
                {
                    if dice.one_in(odds) {
                        is_whole &= old == new;
                    } else {
                        old.copy_from_slice(new);
                    }
                }
                let (records, found) = torn.recovered();
                assert_eq!(found.damage, [""; 0], "round {round}");
                let arrived = records.last() != before.last();
                assert!(arrived || !is_whole);
                let old = records.len() - if arrived { 2 } else { 0 };
                assert!(before.ends_with(&records[..old]) && (arrived || old == before.len()));
                if round % 6 == 0 {
                    goes_on(torn, records);
                }
            }
            disk.finish(&mut log, &write);
            if before.len() > 8 {
                for lsn in 0..log.upcoming_lsn().0 - 3 {
                    log.forget(Lsn(lsn));
                }
            }
        }
    }
}

#[test]
fn what_only_a_torn_write_gave_up_is_still_there() {
    let (mut disk, mut log) = fresh();
    let kept = log.upcoming_lsn();
    disk.append(&mut log, &[b"kept"]).expect("room");
    let filler = vec![1; 300_000];
    let mut fillers = log.upcoming_lsn();
    // The survivor is written again by the batch that begins a segment.
    let write = loop {
        let youngest = log.segments.back().expect("it has begun");
        let begins = youngest.file.size - youngest.used < 400_000;
        let is_last = begins && log.segments.len() > 1;
        if is_last {
            log.forget(kept);
        }
        let payload = if is_last { &b"kept"[..] } else { b"x" };
        let write = disk.begin(&mut log, &[payload, &filler]).expect("room");
        if is_last {
            break write;
        }
        disk.finish(&mut log, &write);
        while fillers < log.upcoming_lsn() {
            log.forget(fillers);
            fillers = fillers.next();
        }
    };
    assert_eq!((write.placed.offset, log.retired.len()), (0, 1));
    let (before, _) = disk.recovered();
    assert!(before.contains(&b"kept".to_vec()));
    write.target(&mut disk)[..BLOCK].copy_from_slice(&write.bytes[..BLOCK]);
    let (after, found) = disk.recovered();
    assert_eq!(found.damage, [""; 0]);
    assert!(after == before);
}

#[test]
fn a_write_that_arrives_after_its_process_had_gone_is_not_there_twice() {
    let (mut disk, mut log) = fresh();
    disk.append(&mut log, &[b"one"]).expect("room");
    let late = disk.begin(&mut log, &[b"late"]).expect("room");
    let mut log = disk.restarted(44);
    disk.append(&mut log, &[b"two"]).expect("room");
    late.target(&mut disk).copy_from_slice(&late.bytes);
    let (records, found) = disk.recovered();
    assert_eq!(records, [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(found.damage, [""; 0]);
}

#[test]
fn lsns_that_a_torn_segment_skipped_are_not_given_out_again() {
    let (mut disk, mut log) = fresh();
    disk.append(&mut log, &[b"one"]).expect("room");
    let mut log = disk.restarted(44);
    for _ in 0..10 {
        log.next_lsn();
    }
    let torn = disk.begin(&mut log, &[b"torn"]).expect("room");
    torn.target(&mut disk)[..BLOCK].copy_from_slice(&torn.bytes[..BLOCK]);
    // The index of segments by LSN stays in order.
    let skipped = log.upcoming_lsn();
    let log = disk.restarted(45);
    assert!(log.upcoming_lsn().0 >= skipped.0 - 1);
}
