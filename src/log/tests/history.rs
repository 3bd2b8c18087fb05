//! Any history of a log, with crashes, against a naive model of its owner.
//!
//! `LEVERET_LOG_HISTORIES=1000 cargo test --release --lib log::tests::history` tries more.

use std::collections::BTreeSet;

use super::*;
use crate::base::limits;

/// A message of the owner, by number.
#[derive(Clone, Copy, Debug)]
struct Message {
    lsn: Lsn,
    len: usize,
}

/// The owner of a log, and its disk.
struct World {
    dice: Dice,
    disk: Disk,
    log: Log,
    next: u64,
    /// What waits for a batch, in the order of LSNs. Some are in the log already.
    pending: Vec<(u64, Message)>,
    /// In the write that is under way.
    writing: Option<(Write, Vec<(u64, Message)>)>,
    /// Durable, and needed.
    live: BTreeMap<u64, Message>,
    /// No longer needed, but perhaps still there.
    forgotten: BTreeMap<u64, Vec<Lsn>>,
    /// Never to be seen again under that LSN.
    gone: BTreeSet<(u64, Lsn)>,
    rewritten: u64,
    crashes: u64,
    torn: u64,
}

fn contents(number: u64, len: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + len, number as u8);
    payload
}

impl World {
    fn new(seed: u64) -> Self {
        let (disk, mut log) = fresh();
        log.garbage_bytes = 2 * 1024 * 1024;
        Self {
            dice: Dice(seed),
            disk,
            log,
            next: 0,
            pending: Vec::new(),
            writing: None,
            live: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            gone: BTreeSet::new(),
            rewritten: 0,
            crashes: 0,
            torn: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..30 => self.publish(),
            30..60 => self.settle(),
            60..75 => self.seal(),
            75..92 => self.finish(),
            92..95 => self.look(),
            95..98 => self.rewrite(),
            98 => self.drop_pending(),
            _ if self.dice.one_in(3) => self.crash(),
            _ => {}
        }
    }

    fn publish(&mut self) {
        for _ in 0..self.dice.below(6) {
            let len = match self.dice.below(400) {
                0 => self.dice.below(3 * 1024 * 1024),
                1..40 => self.dice.below(60_000),
                _ => self.dice.below(3000),
            };
            let lsn = self.log.next_lsn();
            self.pending.push((self.next, Message { lsn, len }));
            self.next += 1;
        }
    }

    /// Settles random messages; old ones rarely.
    fn settle(&mut self) {
        let many = self.live.len() / 3;
        for _ in 0..self.dice.below(2 + many.min(30)) {
            let back = self.dice.below(60) as u64;
            let from = if self.dice.one_in(6) {
                self.dice.roll() % (self.next + 1)
            } else {
                self.next.saturating_sub(back)
            };
            let Some((&number, &message)) = self.live.range(from..).next() else {
                continue;
            };
            if self.pending.iter().any(|(again, _)| *again == number) || self.is_writing(number) {
                continue;
            }
            self.live.remove(&number);
            self.log.forget(message.lsn);
            self.forgotten.entry(number).or_default().push(message.lsn);
        }
    }

    fn is_writing(&self, number: u64) -> bool {
        let mut writing = self.writing.iter().flat_map(|(_, messages)| messages);
        writing.any(|(other, _)| *other == number)
    }

    /// A message that was settled before it was sealed is never written.
    fn drop_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let at = self.dice.below(self.pending.len());
        if !self.live.contains_key(&self.pending[at].0) {
            self.pending.remove(at);
        }
    }

    fn seal(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let count = self.dice.below(self.pending.len() + 1);
        let count = if self.dice.one_in(2) {
            self.pending.len()
        } else {
            count
        };
        let bytes = |batch: &[(u64, Message)]| -> usize {
            batch
                .iter()
                .map(|(_, message)| message.len + 8 + RECORD_OVERHEAD)
                .sum()
        };
        let least = bytes(&self.pending[..count]);
        let spare = self.dice.below(2);
        let Some(room) = self.log.room(least, spare, self.disk.now) else {
            self.disk.serve(&mut self.log);
            return;
        };
        let batch: Vec<_> = self.pending.drain(..count).collect();
        let upcoming = self.log.upcoming_lsn();
        let first = batch.first().map_or_else(
            || {
                self.pending
                    .first()
                    .map_or(upcoming, |(_, message)| message.lsn)
            },
            |(_, message)| message.lsn,
        );
        let end = self
            .pending
            .first()
            .map_or(upcoming, |(_, message)| message.lsn);
        let mut buffer = vec![0xdd; room.buffer_len(least)];
        let mut writer = self.log.begin(&room, first, &mut buffer);
        for (number, message) in &batch {
            writer.begin_numbered(2, message.lsn, 8 + message.len);
            writer.put(&contents(*number, message.len));
        }
        writer.begin(3, 0);
        let placed = self.log.seal(
            room,
            writer,
            (first, end),
            batch.len() as u64,
            self.disk.now,
        );
        buffer.truncate(placed.len);
        let write = Write {
            placed,
            bytes: buffer,
        };
        self.writing = Some((write, batch));
    }

    fn finish(&mut self) {
        let Some((write, batch)) = self.writing.take() else {
            return;
        };
        self.disk.finish(&mut self.log, &write);
        self.live.extend(batch);
        let log = &mut self.log;
        for (number, lsns) in &mut self.forgotten {
            lsns.retain(|lsn| {
                let is_there = stretch_of(log, *lsn).is_some();
                if !is_there {
                    self.gone.insert((*number, *lsn));
                }
                is_there
            });
        }
        self.forgotten.retain(|_, lsns| !lsns.is_empty());
        self.check_files();
    }

    fn check_files(&self) {
        let log = &self.log;
        let known = log.segments.len() + log.free.len() + log.retired.len();
        let making = usize::from(log.preparing.is_some());
        let files = self.disk.files.len();
        assert!(
            files == known || files == known + making,
            "a file was forgotten"
        );
        assert!(log.free.len() <= limits::FREE_FILES_MAX + 1);
    }

    /// Every durable message is found where the log says.
    fn look(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let from = self.dice.roll() % (self.next + 1);
        let found = self
            .live
            .range(from..)
            .next()
            .or_else(|| self.live.iter().next());
        let (number, message) = found
            .map(|(number, message)| (*number, *message))
            .expect("some");
        let lsn = match self.pending.iter().find(|(again, _)| *again == number) {
            None if !self.is_writing(number) => message.lsn,
            _ => return,
        };
        let stretch = stretch_of(&self.log, lsn).expect("it is durable");
        let bytes = &self.disk.files[&stretch.file][stretch.offset as usize..][..stretch.len];
        let mut seen = None;
        let is_whole = self.log.visit(&stretch, bytes, |record| {
            if record.lsn == Some(lsn) {
                seen = Some(record.payload.to_vec());
            }
        });
        assert!(is_whole);
        assert!(seen == Some(contents(number, message.len)));
    }

    /// Writes the survivors of the oldest segment again, if it is time.
    fn rewrite(&mut self) {
        while self.log.wants_rewriting(self.disk.now) || self.log.is_rewriting() {
            let Some(stretch) = self.log.next_to_rewrite(self.disk.now) else {
                continue;
            };
            let bytes = &self.disk.files[&stretch.file][stretch.offset as usize..][..stretch.len];
            let mut survivors = Vec::new();
            let is_whole = self.log.visit(&stretch, bytes, |record| {
                let Some(lsn) = record.lsn else { return };
                let number = u64::from_le_bytes(record.payload[..8].try_into().expect("8 bytes"));
                if self.live.get(&number).is_some_and(|live| live.lsn == lsn) {
                    survivors.push((number, lsn));
                }
            });
            assert!(is_whole);
            for (number, old) in survivors {
                let len = self.live[&number].len;
                let lsn = self.log.next_lsn();
                self.pending.push((number, Message { lsn, len }));
                self.log.forget(old);
                self.rewritten += 1;
            }
            if self.dice.one_in(3) {
                break;
            }
        }
        assert!(self.log.segments.iter().all(|segment| !segment.damaged));
    }

    /// The power goes: of the write under way, any sectors are there.
    fn crash(&mut self) {
        self.crashes += 1;
        let mut batch = Vec::new();
        if let Some((write, messages)) = self.writing.take() {
            batch = messages;
            self.torn += 1;
            let odds = [1, 2, 10, 300, 1_000_000][self.dice.below(5)];
            let old = write.target(&mut self.disk).chunks_mut(SECTOR);
            for (old, new) in old.zip(write.bytes.chunks(SECTOR)) {
                if !self.dice.one_in(odds) {
                    old.copy_from_slice(new);
                }
            }
        }
        let mut seen = Vec::new();
        let mut found = recover(GROUP, &mut Reading::new(&self.disk), |record| {
            if let Some(lsn) = record.lsn {
                let number = u64::from_le_bytes(record.payload[..8].try_into().expect("8 bytes"));
                assert!(record.payload == contents(number, record.payload.len() - 8));
                seen.push((number, lsn, record.payload.len() - 8));
            }
        })
        .expect("it is ours");
        assert_eq!(found.damage, [""; 0]);
        let (again, once_more) = self.disk.recovered();
        assert_eq!(format!("{found:?}"), format!("{once_more:?}"));
        assert!(again.iter().filter(|payload| !payload.is_empty()).count() == seen.len());
        assert!(seen.is_sorted_by(|one, other| one.1 < other.1), "in order");
        let arrived = batch
            .iter()
            .filter(|(number, message)| seen.contains(&(*number, message.lsn, message.len)));
        let arrived = arrived.count();
        assert!(arrived == 0 || arrived == batch.len(), "all or nothing");
        if arrived > 0 {
            self.live.extend(batch.iter().copied());
        }
        let there: BTreeSet<(u64, Lsn)> =
            seen.iter().map(|&(number, lsn, _)| (number, lsn)).collect();
        for (number, message) in &self.live {
            assert!(
                there.contains(&(*number, message.lsn)),
                "message {number} at {message:?} is lost"
            );
        }
        assert!(
            there.is_disjoint(&self.gone),
            "what was given up has come back"
        );
        // All that came back is settled anew by the owner's own records.
        for message in self.live.values() {
            found.adopt(message.lsn);
        }
        self.pending.clear();
        let seed = self.dice.roll();
        self.log = Log::resume(GROUP, seed, found);
        self.log.garbage_bytes = 2 * 1024 * 1024;
        self.disk.serve(&mut self.log);
        self.gone.retain(|(_, lsn)| *lsn < self.log.upcoming_lsn());
        self.check_files();
    }

    /// Lets the log come to rest, and looks at what it takes on the disk.
    fn rest(&mut self) {
        for _ in 0..40 {
            self.finish();
            self.rewrite();
            self.seal();
        }
        self.finish();
        let alive: u64 = self
            .live
            .values()
            .map(|message| (message.len + BLOCK) as u64)
            .sum();
        let files = self.disk.files.values();
        let (total, largest) = files.fold((0, 0_u64), |(total, largest), file| {
            (total + file.len() as u64, largest.max(file.len() as u64))
        });
        let allowed = 2 * alive + self.log.garbage_bytes + 6 * largest;
        assert!(total <= allowed, "{total} bytes for {alive} that are alive");
    }
}

#[test]
fn any_history_is_recovered_as_the_model_says() {
    let count =
        option_env!("LEVERET_LOG_HISTORIES").map_or(5, |text| text.parse().expect("a number"));
    let (mut crashes, mut torn, mut rewritten) = (0, 0, 0);
    for seed in 0..count {
        let mut world = World::new(seed);
        for _ in 0..800 {
            world.step();
        }
        world.rest();
        world.crash();
        crashes += world.crashes;
        torn += world.torn;
        rewritten += world.rewritten;
    }
    assert!(
        crashes > count && torn > 0 && rewritten > 0,
        "{crashes} crashes, {torn} torn writes, {rewritten} written again"
    );
}
