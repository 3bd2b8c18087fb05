//! A log that can't grow: what gives space back is written all the same, piece by piece if need be.

use super::*;
use crate::base::limits;
use crate::log::Located;

/// So many notes, or marks, are more than the file in reserve has room for at once.
const MANY: u64 = limits::SEGMENT_BYTES_MIN / NOTE_LEN as u64 + 1000;
/// LSNs and positions ascend together here.
const FIRST: u64 = Lsn::FIRST.0;

/// A queue of so many messages in the log, on a disk that has become full.
fn full(count: u64) -> (Disk, Journal) {
    let mut disk = Disk::default();
    let (_, mut journal) = disk.start();
    (0..count).for_each(|position| publish(&mut journal, position, true));
    disk.write(&mut journal);
    disk.is_full = true;
    (disk, journal)
}

fn settle(journal: &mut Journal, positions: impl Iterator<Item = u64>) {
    for position in positions {
        journal.settle(queue(), position, Lsn(FIRST + position), Time(1));
    }
}

/// Publishes until nothing more is written; how many messages there are then.
fn fill(disk: &mut Disk, journal: &mut Journal, mut position: u64) -> u64 {
    while journal.pending.is_empty() {
        for _ in 0..1000 {
            publish(journal, position, true);
            position += 1;
        }
        while disk.write_batch(journal) {}
    }
    assert!(journal.is_full());
    position
}

fn write_all(disk: &mut Disk, journal: &mut Journal) {
    while disk.write_batch(journal) {}
    assert!(
        journal.is_quiet(),
        "it went on as long as there was something"
    );
}

#[test]
fn a_disk_that_was_full_for_one_large_message_is_full_no_longer_than_that_waits() {
    let (mut disk, mut journal) = full(1);
    let lsn = publish_body(
        &mut journal,
        (1, true),
        &[0; 2 * limits::SEGMENT_BYTES_MIN as usize],
    );
    while disk.write_batch(&mut journal) {}
    assert!(journal.is_full());
    // It is delivered and acknowledged.
    journal.settle(queue(), 1, lsn, Time(1));
    while disk.write_batch(&mut journal) {}
    assert!(!journal.is_full());
    let timer = journal.next_timer();
    assert!(
        timer.is_none_or(|timer| timer > LATE + disk.elapsed),
        "nothing is due"
    );
}

#[test]
fn more_scattered_acknowledgements_than_the_reserve_holds_are_written_in_pieces() {
    let (mut disk, mut journal) = full(2 * MANY);
    let count = fill(&mut disk, &mut journal, 2 * MANY);
    let before = journal.log.used();
    settle(&mut journal, (0..count).step_by(2));
    settle(&mut journal, (1..count).step_by(2));
    assert!(journal.notes.len() as u64 > limits::SEGMENT_BYTES_MIN);
    write_all(&mut disk, &mut journal);
    assert!(journal.log.used() < before / 2, "files were given up");
    assert_eq!(disk.told(), []);
    publish(&mut journal, count, true);
    write_all(&mut disk, &mut journal);
    assert_eq!(disk.told(), [(count, true, 0)]);
}

#[test]
fn those_that_give_nothing_back_are_written_as_far_as_the_room_goes() {
    let (mut disk, mut journal) = full(2 * MANY);
    let count = fill(&mut disk, &mut journal, 2 * MANY);
    // Every second message stays, so that every file is needed.
    settle(&mut journal, (0..count).step_by(2));
    while disk.write_batch(&mut journal) {}
    let waiting = journal.notes.len();
    let left = disk.told().len() as u64;
    assert!(
        (count / 2..count).contains(&left),
        "{left} of {count}, {waiting} bytes of notes wait"
    );
    settle(&mut journal, (1..count).step_by(2));
    write_all(&mut disk, &mut journal);
    assert_eq!(disk.told(), []);
}

/// One batch for each acknowledgement.
#[test]
fn a_slow_consumer_that_uses_the_reserve_up_makes_room_in_the_end() {
    let (mut disk, mut journal) = full(MANY);
    let count = fill(&mut disk, &mut journal, MANY);
    let mut scattered = (0..count).step_by(2);
    let mut acked = 0;
    while journal.notes.len() == 0 {
        settle(&mut journal, scattered.by_ref().take(1));
        disk.write_batch(&mut journal);
        acked += 1;
    }
    assert!(acked < count / 2, "the reserve was used up");
    settle(&mut journal, scattered);
    settle(&mut journal, (1..count).step_by(2));
    write_all(&mut disk, &mut journal);
    assert_eq!(disk.told(), []);
}

#[test]
fn messages_that_wait_for_room_do_not_keep_files_that_nobody_needs() {
    let (mut disk, mut journal) = full(MANY);
    let first_waiting = fill(&mut disk, &mut journal, MANY);
    let logged = first_waiting - journal.pending.len() as u64;
    let end = first_waiting + 8 * MANY;
    (first_waiting..end).for_each(|position| publish(&mut journal, position, true));
    assert!(!disk.write_batch(&mut journal), "there is no room for them");
    assert!(journal.pending_bytes as u64 > journal.log.used());
    // The first of them is not touched.
    settle(&mut journal, 0..logged);
    while disk.write_batch(&mut journal) {}
    assert!(
        journal.first_pending > Lsn(FIRST + logged),
        "some found room"
    );
    assert_eq!(disk.told()[0].0, logged);
    settle(&mut journal, logged..end);
    write_all(&mut disk, &mut journal);
    assert_eq!(disk.told(), []);
}

#[test]
fn what_a_clean_stop_tells_is_written_in_pieces() {
    let (mut disk, mut journal) = full(MANY);
    let flagged: Vec<(u64, u32)> = (0..MANY).map(|at| (at, 1 + at as u32 % 3)).collect();
    finish(&mut journal, &flagged);
    write_all(&mut disk, &mut journal);
    let told: Vec<_> = flagged
        .iter()
        .map(|(at, times)| (*at, true, *times))
        .collect();
    assert!(
        disk.told() == told,
        "all of it, and none of what was not told"
    );
}

#[test]
fn a_stop_leaves_files_that_the_next_start_can_use() {
    let (mut disk, mut journal) = full(2 * MANY);
    let count = fill(&mut disk, &mut journal, 2 * MANY);
    settle(&mut journal, (0..count).step_by(2));
    settle(&mut journal, (1..count).step_by(2));
    finish(&mut journal, &[]);
    write_all(&mut disk, &mut journal);
    let (_, mut journal) = disk.start();
    publish(&mut journal, count, true);
    write_all(&mut disk, &mut journal);
    assert_eq!(disk.told(), [(count, true, 0)]);
}

#[test]
fn what_waits_for_room_can_be_had_from_memory() {
    let (mut disk, mut journal) = full(MANY);
    let count = fill(&mut disk, &mut journal, MANY);
    let lsn = Lsn(FIRST + count - 1);
    assert_eq!(journal.log.locate(lsn), Located::NotYet);
    let message = journal.unwritten(lsn).expect("it is in no batch");
    assert_eq!(message.as_ref().body, b"body");
    let logged = Lsn(journal.first_pending.0 - 1);
    assert!(journal.unwritten(logged).is_none(), "that can be read");
    disk.is_full = false;
    disk.elapsed += limits::DISK_RETRY;
    assert!(!disk.write_batch(&mut journal), "a file is made first");
    write_all(&mut disk, &mut journal);
    publish(&mut journal, count, true);
    let lsn = Lsn(FIRST + count);
    assert!(journal.unwritten(lsn).is_none(), "there is room for it");
}
