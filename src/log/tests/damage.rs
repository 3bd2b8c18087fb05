//! Bits that flipped, blocks that were lost: reported, never handed over, and the rest is served.
//!
//! `LEVERET_ALL_BITS=1 cargo test --release --lib log::tests::damage` flips each bit of a log of 1 MiB.

use super::*;
use crate::log::layout::HEADERS;

/// What a flip did.
#[derive(Debug, Default)]
struct Counts {
    flips: u64,
    detected: u64,
    harmless: u64,
    /// Records of other batches that were not handed over.
    lost: u64,
}

/// Where a batch was written, its bytes without the zeros behind, and its one record.
type Batch = (Placed, usize, Vec<u8>);

/// A log of many short lives, 16 KiB each: file by file, where its batches are and what is in them.
struct Lives {
    disk: Disk,
    files: Vec<(FileNumber, Vec<Batch>)>,
}

fn lives(count: usize) -> Lives {
    let mut disk = Disk::default();
    let mut dice = Dice(17);
    let mut files = Vec::new();
    for life in 0..=count {
        let mut log = disk.restarted(life as u64);
        let mut batches = Vec::new();
        let mut used = BLOCK;
        let is_last = life == count;
        while used < 4 * BLOCK {
            let left = 4 * BLOCK - used;
            let size = if dice.one_in(2) { 500 } else { left - 200 };
            let payload = dice.bytes(dice.0 as usize % size);
            let payloads: &[&[u8]] = if is_last { &[] } else { &[&payload] };
            let placed = disk.append(&mut log, payloads).expect("room");
            let overhead = if is_last {
                112
            } else {
                112 + 3 + usize::from(payload.len() > 127)
            };
            batches.push((
                placed,
                overhead + payload.len() * usize::from(!is_last),
                payload,
            ));
            used = placed.offset as usize + placed.len;
        }
        let file = batches[0].0.file;
        // The rest of the file, of 1 MiB, is zeros.
        disk.files.get_mut(&file).expect("written").truncate(used);
        files.push((file, batches));
    }
    Lives { disk, files }
}

/// Flips one bit, and looks at what is recovered of its segment and the next.
fn flip(lives: &mut Lives, life: usize, bit: usize, counts: &mut Counts) {
    let (file, batches) = &lives.files[life];
    let (at, mask) = (bit / 8, 1 << (bit % 8));
    let mut two = Disk::default();
    for (near, _) in &lives.files[life..life + 2] {
        let bytes = lives.disk.files.get_mut(near).expect("written");
        two.files.insert(*near, std::mem::take(bytes));
    }
    two.files.get_mut(file).expect("it is one of them")[at] ^= mask;
    let (records, found) = two.recovered();
    let start = |placed: &Placed| {
        if placed.offset == 0 {
            BLOCK
        } else {
            placed.offset as usize
        }
    };
    let hit = batches
        .iter()
        .position(|(placed, len, _)| (start(placed)..start(placed) + len).contains(&at));
    let next = &lives.files[life + 1].1;
    let last = life + 2 == lives.files.len();
    let all = batches
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != hit);
    let others = next.iter().filter(|_| !last).map(|(_, _, payload)| payload);
    let expected: Vec<_> = all
        .map(|(_, (_, _, payload))| payload)
        .chain(others)
        .collect();
    counts.flips += 1;
    counts.lost += expected.len().saturating_sub(records.len()) as u64;
    assert!(records.iter().eq(expected), "bit {bit} of life {life}");
    // That the files before these two are missing is said as well.
    let reported = usize::from(hit.is_some()) + usize::from(life > 0);
    assert_eq!(found.damage.len(), reported, "bit {bit} of life {life}");
    assert!(found.unknown.is_empty() && found.unused.is_empty());
    match hit {
        Some(_) => counts.detected += 1,
        None => counts.harmless += 1,
    }
    two.files.get_mut(file).expect("it is one of them")[at] ^= mask;
    lives.disk.files.append(&mut two.files);
}

#[test]
fn a_flipped_bit_is_reported_or_harmless() {
    let all = option_env!("LEVERET_ALL_BITS").is_some();
    let count = if all { 64 } else { 16 };
    let mut lives = lives(count);
    let mut counts = Counts::default();
    let mut dice = Dice(4);
    if all {
        for life in 0..count {
            let len = lives.disk.files[&lives.files[life].0].len();
            (0..len * 8).for_each(|bit| flip(&mut lives, life, bit, &mut counts));
        }
        assert!(counts.flips >= 8 * 1024 * 1024, "{counts:?}");
    } else {
        for _ in 0..10_000 {
            let life = dice.below(count);
            let len = lives.disk.files[&lives.files[life].0].len();
            flip(&mut lives, life, dice.below(len * 8), &mut counts);
        }
    }
    assert_eq!(counts.flips, counts.detected + counts.harmless);
    assert_eq!(counts.lost, 0);
    assert!(counts.detected > counts.flips / 8, "{counts:?}");
}

/// Three segments with two batches each, and the log.
fn three_segments() -> (Disk, Log, Vec<FileNumber>) {
    let mut disk = Disk::default();
    let mut files = Vec::new();
    for life in 0..3_u8 {
        let mut log = disk.restarted(u64::from(life));
        let placed = disk.append(&mut log, &[&[life, 0]]).expect("room");
        disk.append(&mut log, &[&[life, 1]]).expect("room");
        files.push(placed.file);
    }
    let log = disk.restarted(9);
    (disk, log, files)
}

#[test]
fn a_segment_without_its_header_is_reported_and_put_aside() {
    for lost in 0..3 {
        for zeroed in [false, true] {
            let (mut disk, _, files) = three_segments();
            let header = &mut disk.files.get_mut(&files[lost]).expect("there")[..BLOCK];
            for byte in header {
                *byte = if zeroed { 0 } else { *byte ^ 0x10 };
            }
            let (records, found) = disk.recovered();
            let others = (0..3).filter(|life| *life != lost as u8);
            let expected: Vec<_> = others
                .flat_map(|life| [vec![life, 0], vec![life, 1]])
                .collect();
            assert_eq!(records, expected);
            assert!(!found.damage.is_empty(), "segment {lost}");
            disk.removed.clear();
            let mut log = disk.restarted(9);
            assert_eq!(disk.quarantined, [files[lost]]);
            assert!(!disk.removed.contains(&files[lost]));
            disk.append(&mut log, &[b"after"]).expect("room");
            let (records, _) = disk.recovered();
            assert_eq!(records.len(), 5);
        }
    }
}

#[test]
fn a_damaged_segment_is_put_aside_when_a_durable_batch_has_given_it_up() {
    // Its last batch is gone: only the next segment tells.
    let (mut disk, _, files) = three_segments();
    disk.files.get_mut(&files[0]).expect("there")[2 * BLOCK + 80] ^= 1;
    let (records, found) = disk.recovered();
    assert_eq!(records.len(), 5);
    assert_eq!(found.damage.len(), 1);
    assert!(found.damage[0].starts_with(&format!("log file {}:", files[0].0)));
    let mut log = disk.restarted(9);
    disk.append(&mut log, &[b"again"]).expect("room");
    log.forget(Lsn::FIRST);
    let write = disk.begin(&mut log, &[b"given up"]).expect("room");
    disk.serve(&mut log);
    assert!(disk.quarantined.is_empty(), "the batch may never arrive");
    disk.finish(&mut log, &write);
    assert_eq!(disk.quarantined, [files[0]]);
}

#[test]
fn a_segment_whose_end_is_lost_is_reported_by_the_header_behind_it() {
    let (mut disk, _, files) = three_segments();
    disk.files.get_mut(&files[1]).expect("there")[2 * BLOCK + 80] ^= 1;
    disk.files.get_mut(&files[2]).expect("there")[BLOCK..].fill(0);
    let (records, found) = disk.recovered();
    assert_eq!(records, [vec![0, 0], vec![0, 1], vec![1, 0]]);
    assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
    let mut log = disk.restarted(10);
    disk.append(&mut log, &[b"after"]).expect("room");
    let (records, found) = disk.recovered();
    assert_eq!(records.len(), 4);
    assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
}

#[test]
fn what_is_behind_damage_is_found_and_written_again() {
    let (mut disk, mut log) = fresh();
    let mut placed = Vec::new();
    for number in 0..10_u8 {
        placed.push(disk.append(&mut log, &[&[number]]).expect("room"));
    }
    disk.files.get_mut(&placed[4].file).expect("there")[placed[4].offset as usize + 115] ^= 1;
    let mut log = disk.restarted(3);
    disk.append(&mut log, &[b"next segment"]).expect("room");
    let stretch = stretch_of(&log, Lsn(Lsn::FIRST.0 + 9)).expect("durable");
    let bytes = &disk.files[&stretch.file][stretch.offset as usize..][..stretch.len];
    let mut seen = Vec::new();
    let is_whole = log.visit(&stretch, bytes, |record| seen.push(record.payload[0]));
    assert!(!is_whole);
    assert_eq!(seen, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    log.garbage_bytes = 0;
    let mut again = 0;
    while let Some(stretch) = log.next_to_rewrite(disk.now) {
        let bytes = &disk.files[&stretch.file][stretch.offset as usize..][..stretch.len];
        let mut survivors = Vec::new();
        log.visit(&stretch, bytes, |record| survivors.extend(record.lsn));
        again += survivors.len();
        for lsn in survivors {
            log.next_lsn();
            log.forget(lsn);
        }
    }
    assert_eq!(again, 9);
}

#[test]
fn what_a_segment_held_before_the_restart_counts_as_garbage() {
    let (mut disk, mut log) = fresh();
    let payload = vec![1; 4000];
    for _ in 0..100 {
        disk.append(&mut log, &[&payload, b"x"]).expect("room");
    }
    let mut found = recover(GROUP, &mut Reading::new(&disk), |_| {}).expect("it is ours");
    found.adopt(Lsn::FIRST);
    let mut log = Log::resume(GROUP, 5, found);
    disk.serve(&mut log);
    disk.append(&mut log, &[&payload]).expect("room");
    log.garbage_bytes = 0;
    assert!(log.wants_rewriting(disk.now));
}

/// What a torn write left of a header may be one copy: without it, the file looks like one that was never begun.
#[test]
fn the_oldest_segment_is_missed() {
    let (mut disk, mut log) = fresh();
    let first = disk.append(&mut log, &[b"first"]).expect("room");
    let header = disk.files.get_mut(&first.file).expect("it is there");
    header[512..BLOCK].fill(0);
    let mut log = disk.restarted(43);
    disk.append(&mut log, &[b"second"]).expect("room");
    let (records, found) = disk.recovered();
    assert_eq!((records.len(), found.damage.len()), (2, 0));
    let header = disk.files.get_mut(&first.file).expect("it is there");
    header[0] ^= 1;
    let (records, found) = disk.recovered();
    assert_eq!(records, [b"second"]);
    assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
}

/// Were there no more than a torn write, only one batch would be there to see.
#[test]
fn damage_to_both_batches_that_end_a_log_does_not_pass_for_a_torn_write() {
    let (mut disk, mut log) = fresh();
    disk.append(&mut log, &[b"first"]).expect("room");
    let last = disk.append(&mut log, &[b"last"]).expect("room");
    let closing = disk.append(&mut log, &[]).expect("room");
    assert_eq!(last.file, closing.file);
    let (last_at, closing_at) = (last.offset as usize, closing.offset as usize);
    for one in 0..HEADERS {
        for other in (one % 5..HEADERS).step_by(5) {
            let flip = |disk: &mut Disk| {
                let bytes = disk.files.get_mut(&last.file).expect("it is there");
                bytes[last_at + one] ^= 0x10;
                bytes[closing_at + other] ^= 0x10;
            };
            flip(&mut disk);
            let (left, found) = disk.recovered();
            assert_eq!(left, [b"first"], "bytes {one} and {other}");
            assert_eq!(found.damage.len(), 1, "bytes {one} and {other}");
            flip(&mut disk);
        }
    }
}
