//! Files through the ring, in an executor like a core's.

use std::collections::VecDeque;
use std::fs;
use std::future::poll_fn;

use glommio::LocalExecutorBuilder;

use super::super::nap::until_polled_again;
use super::image::Files;
use super::*;
use crate::log::{Log, RECORD_OVERHEAD, recover};

const MESSAGES: LogName = LogName::Messages;
const CORE: CoreId = CoreId(1);

/// Runs `test` as the main task of an executor, with a disk in a directory of its own.
fn with_disk<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(Disk, PathBuf) -> F + Send + 'static,
) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let data_dir = scratch.path().to_owned();
    LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .io_memory(64 * 1024)
        .spawn(|| async move {
            let main_task = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
            let disk = Disk::open(&data_dir, CORE, main_task).await;
            test(disk, data_dir).await;
        })
        .expect("an executor")
        .join()
        .expect("the test passes");
}

/// Waits until an operation is done, as a parked core does.
async fn done(disk: &mut Disk) -> (Key, Result<Outcome, Failure>) {
    loop {
        if let Some(done) = disk.next_done() {
            return done;
        }
        until_polled_again().await;
    }
}

async fn prepare(disk: &mut Disk, log: LogName, number: u32, size: u64) {
    let file = FileNumber(number);
    disk.begin(log, DiskRequest::Prepare { file, size });
    let (key, outcome) = done(disk).await;
    assert_eq!(key, (log, file));
    assert!(matches!(outcome, Ok(Outcome::Prepared(_))));
}

fn placed(number: u32, offset: u64, len: usize) -> Placed {
    let file = FileNumber(number);
    Placed { file, offset, len }
}

fn filled(len: usize, byte: u8) -> DmaBuffer {
    let mut buffer = allocate(len);
    buffer.as_bytes_mut().fill(byte);
    buffer
}

async fn read(disk: &mut Disk, number: u32, offset: u64, len: usize) -> Option<Vec<u8>> {
    let read = ReadId(99);
    let file = FileNumber(number);
    let request = DiskRequest::Read {
        read,
        file,
        offset,
        len,
    };
    disk.begin(MESSAGES, request);
    match done(disk).await.1.expect("a loss is no failure") {
        Outcome::Read(ReadId(99), _, bytes) => Some(bytes.to_vec()),
        Outcome::Lost(ReadId(99)) => None,
        _ => panic!("the answer to another question"),
    }
}

#[test]
fn a_file_is_made_of_zeros_written_to_and_read_back() {
    with_disk(|mut disk, data_dir| async move {
        // Not a multiple of the pieces that it is written in.
        let size = 1024 * 1024 + 8192;
        prepare(&mut disk, MESSAGES, 12, size).await;
        let path = data_dir.join("core-1/00000012.log");
        let bytes = fs::read(&path).expect("it is there");
        assert_eq!(bytes.len() as u64, size);
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(!disk.is_busy());

        // A part of its buffer; one beyond glommio's own memory; both at once.
        disk.commit(MESSAGES, placed(12, 4096, 4096), filled(12_288, 7));
        disk.commit(MESSAGES, placed(12, 65_536, 262_144), filled(262_144, 8));
        assert!(disk.is_urgent() && disk.wants_pass() && !disk.wants_pass());
        for _ in 0..2 {
            let (_, outcome) = done(&mut disk).await;
            assert!(matches!(outcome, Ok(Outcome::Committed(_))));
        }
        assert!(!disk.is_urgent());
        let back = read(&mut disk, 12, 0, 16_384).await.expect("it is there");
        let expected = [[0; 4096], [7; 4096], [0; 4096], [0; 4096]].concat();
        assert!(back == expected);
        let back = read(&mut disk, 12, 65_536, 262_144).await;
        assert!(back.expect("it is there").iter().all(|byte| *byte == 8));
    });
}

#[test]
fn only_some_files_stay_open_however_many_there_are() {
    with_disk(|mut disk, _| async move {
        let last = 2 * OPEN_MAX as u32;
        for number in 0..=last {
            prepare(&mut disk, MESSAGES, number, 8192).await;
            // As the one that is written to.
            disk.commit(MESSAGES, placed(0, 4096, 4096), filled(4096, number as u8));
            assert!(matches!(done(&mut disk).await.1, Ok(Outcome::Committed(_))));
            assert!(disk.files.len() <= OPEN_MAX);
        }
        for (number, is_open) in [(0, true), (1, false), (last, true)] {
            let key = (MESSAGES, FileNumber(number));
            assert_eq!(disk.files.contains_key(&key), is_open, "{number}");
        }
        assert!(read(&mut disk, 1, 0, 8192).await == Some(vec![0; 8192]));
        let back = read(&mut disk, 0, 4096, 4096).await;
        assert!(back == Some(vec![last as u8; 4096]));
    });
}

#[test]
fn a_commit_may_meet_a_file_that_is_not_open() {
    with_disk(|mut disk, data_dir| async move {
        prepare(&mut disk, MESSAGES, 0, 8192).await;
        prepare(&mut disk, LogName::Definitions, 0, 8192).await;
        let (main_task, core) = (disk.bell.main_task.clone(), CORE);
        let mut disk = Disk::open(&data_dir, core, main_task).await;
        disk.commit(MESSAGES, placed(0, 0, 4096), filled(4096, 1));
        disk.commit(LogName::Definitions, placed(0, 0, 4096), filled(4096, 2));
        let mut logs = vec![];
        for _ in 0..2 {
            let ((log, _), outcome) = done(&mut disk).await;
            assert!(matches!(outcome, Ok(Outcome::Committed(_))));
            logs.push(log);
        }
        logs.sort();
        assert_eq!(logs, [MESSAGES, LogName::Definitions]);
        assert_eq!(disk.files.len(), 2);
    });
}

#[test]
fn a_commit_that_fails_names_its_file() {
    with_disk(|mut disk, data_dir| async move {
        disk.commit(MESSAGES, placed(3, 0, 4096), filled(4096, 1));
        let (_, outcome) = done(&mut disk).await;
        let path = data_dir.join("core-1/00000003.log");
        let expected = format!(
            "cannot open {}: No such file or directory (os error 2)",
            path.display()
        );
        assert_eq!(failure(outcome), expected);
        prepare(&mut disk, MESSAGES, 3, 8192).await;
        disk.commit(MESSAGES, placed(3, 100, 4096), filled(4096, 1));
        let (_, outcome) = done(&mut disk).await;
        let expected = format!(
            "cannot write {}: Invalid argument (os error 22)",
            path.display()
        );
        assert_eq!(failure(outcome), expected);
    });
}

fn failure(outcome: Result<Outcome, Failure>) -> String {
    outcome.err().expect("it fails").to_string()
}

#[test]
fn bytes_that_are_not_there_are_lost_and_no_failure() {
    with_disk(|mut disk, _| async move {
        prepare(&mut disk, MESSAGES, 0, 8192).await;
        assert!(read(&mut disk, 0, 4096, 4096).await.is_some());
        assert!(read(&mut disk, 0, 4096, 8192).await.is_none());
        assert!(read(&mut disk, 1, 0, 4096).await.is_none());
    });
}

#[test]
fn a_file_made_again_loses_what_an_earlier_attempt_left() {
    with_disk(|mut disk, data_dir| async move {
        let directory = data_dir.join("core-1");
        fs::create_dir(&directory).expect("it is writable");
        let path = directory.join("00000000.log");
        fs::write(&path, vec![0xee; 20_000]).expect("it is writable");
        prepare(&mut disk, MESSAGES, 0, 8192).await;
        assert!(fs::read(&path).expect("it is there") == vec![0; 8192]);
    });
}

#[test]
fn a_file_is_removed_or_put_aside_under_a_name_of_its_own() {
    with_disk(|mut disk, data_dir| async move {
        let quarantine = data_dir.join("quarantine");
        let path = |number: u32| data_dir.join(format!("core-1/{number:08}.log"));
        for number in 0..3 {
            prepare(&mut disk, MESSAGES, number, 4096).await;
        }
        fs::create_dir(&quarantine).expect("it is writable");
        fs::write(quarantine.join("core-1-00000001.log"), "earlier").expect("it is writable");
        let file = FileNumber;
        disk.begin(MESSAGES, DiskRequest::Remove { file: file(0) });
        disk.begin(MESSAGES, DiskRequest::Quarantine { file: file(1) });
        // Never made.
        disk.begin(MESSAGES, DiskRequest::Remove { file: file(7) });
        for _ in 0..2 {
            let (_, outcome) = done(&mut disk).await;
            assert!(matches!(outcome, Ok(Outcome::Closed(_))));
        }
        let open: Vec<Key> = disk.files.keys().copied().collect();
        assert_eq!(open, [(MESSAGES, file(2))]);
        // Waits for the sweeper.
        drop(disk);
        assert!(!path(0).exists() && !path(1).exists() && path(2).exists());
        let aside = |name: &str| fs::read(quarantine.join(name)).expect("it is there");
        assert_eq!(aside("core-1-00000001.log"), b"earlier");
        assert_eq!(aside("core-1-00000001-2.log"), vec![0; 4096]);
    });
}

#[test]
fn a_file_that_is_removed_while_it_is_read_is_removed_thereafter() {
    with_disk(|mut disk, data_dir| async move {
        prepare(&mut disk, MESSAGES, 0, 4096).await;
        disk.files.clear();
        let file = FileNumber(0);
        let request = DiskRequest::Read {
            read: ReadId(1),
            file,
            offset: 0,
            len: 4096,
        };
        disk.begin(MESSAGES, request);
        disk.begin(MESSAGES, DiskRequest::Remove { file });
        assert!(matches!(done(&mut disk).await.1, Ok(Outcome::Read(..))));
        assert!(matches!(done(&mut disk).await.1, Ok(Outcome::Closed(_))));
        assert!(disk.files.is_empty() && !disk.is_busy());
        drop(disk);
        assert!(!data_dir.join("core-1/00000000.log").exists());
    });
}

#[test]
fn buffers_of_whole_blocks_are_aligned_as_blocks() {
    with_disk(|_, _| async move {
        // They are all held at once, so that glommio's own memory runs out.
        let buffers: VecDeque<DmaBuffer> =
            (1..=24).map(|blocks| allocate(blocks * BLOCK)).collect();
        for (buffer, blocks) in buffers.iter().zip(1..) {
            assert_eq!(buffer.len(), blocks * BLOCK);
        }
    });
}

#[test]
fn what_a_log_commits_is_recovered_from_its_files() {
    with_disk(|mut disk, data_dir| async move {
        let found = Files::list(&data_dir, CORE, MESSAGES)
            .map(|mut none| recover(7, &mut none, |_| unreachable!("there is no file")))
            .expect("the directory need not be there");
        let mut log = Log::resume(7, 42, found.expect("nothing is ours"));
        let payloads: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n) * 2000]).collect();
        for payload in &payloads {
            let needed = payload.len() + RECORD_OVERHEAD;
            let room = loop {
                if let Some(room) = log.room(needed, 0, Time(0)) {
                    break room;
                }
                serve(&mut disk, &mut log).await;
            };
            let mut buffer = allocate(room.buffer_len(needed));
            let lsn = log.next_lsn();
            let mut writer = log.begin(&room, lsn, buffer.as_bytes_mut());
            writer.begin_numbered(1, lsn, payload.len());
            writer.put(payload);
            let end = log.upcoming_lsn();
            let placed = log.seal(room, writer, (lsn, end), 1, Time(0));
            disk.commit(MESSAGES, placed, buffer);
            let (_, outcome) = done(&mut disk).await;
            assert!(matches!(outcome, Ok(Outcome::Committed(_))));
            log.written();
        }
        let mut files = Files::list(&data_dir, CORE, MESSAGES).expect("it is readable");
        let mut records = vec![];
        let found = recover(7, &mut files, |record| {
            records.push(record.payload.to_vec())
        });
        assert!(found.expect("it is ours").damage.is_empty());
        assert!(records == payloads);
    });
}

/// Does what a log asks, one thing after the other.
async fn serve(disk: &mut Disk, log: &mut Log) {
    while let Some(request) = log.next_request() {
        disk.begin(MESSAGES, request);
        if let ((_, file), Ok(Outcome::Prepared(_))) = done(disk).await {
            log.prepared(file, true, Time(0));
        }
    }
}
