//! What the disk has damaged, or doesn't give for a while: what belongs to it is not thrown away at once.

use crate::lives::{durable_queue, keep, queue_is_there};
use crate::support::home::Home;
use std::fs;
use std::path::Path;
use std::thread;

const PRECIOUS: &str = "a-queue-of-some-importance";

#[test]
fn messages_of_a_queue_that_damage_has_hidden_are_there_when_it_is_back() {
    for cores in [1, 2] {
        let home = home_with_messages(cores);
        let definitions = home.data().join("definitions");
        let backup = home.data().with_file_name("backup");
        copy_files(&definitions, &backup);
        damage(&definitions, PRECIOUS.as_bytes());

        let broker = home.start(cores);
        assert!(!queue_is_there(&broker.connect(), PRECIOUS));
        broker.stop();

        fs::remove_dir_all(&definitions).expect("it is ours");
        copy_files(&backup, &definitions);
        let broker = home.start(cores);
        assert_eq!(broker.connect().channel().drain(PRECIOUS), ["a", "b", "c"]);
        broker.stop();
    }
}

/// They are in the log still, under a number that no other queue may get.
#[test]
fn messages_of_a_queue_that_damage_has_hidden_do_not_come_in_another() {
    for cores in [1, 2] {
        let home = home_with_messages(cores);
        damage(&home.data().join("definitions"), PRECIOUS.as_bytes());

        let broker = home.start(cores);
        let connection = broker.connect();
        assert!(!queue_is_there(&connection, PRECIOUS));
        durable_queue(&connection.channel(), "new");
        keep(&connection, "", "new", &["x"]);
        drop(connection);
        broker.kill();

        let broker = home.start(cores);
        assert_eq!(broker.connect().channel().drain("new"), ["x"]);
        broker.stop();
    }
}

#[test]
fn messages_whose_file_can_not_be_read_for_a_moment_come_a_moment_later() {
    let home = home_with_messages(1);
    let log = home.data().join("core-0");
    let files = fs::read_dir(&log).expect("it is there");
    let files: Vec<_> = files
        .map(|entry| entry.expect("it is readable").file_name())
        .collect();
    let elsewhere = home.data().with_file_name("elsewhere");
    fs::create_dir(&elsewhere).expect("it is ours");
    let carry = |from: &Path, to: &Path| {
        for file in &files {
            fs::rename(from.join(file), to.join(file)).expect("it is ours");
        }
    };

    let broker = home.start(1);
    carry(&log, &elsewhere);
    thread::scope(|scope| {
        let drained = scope.spawn(|| broker.connect().channel().drain(PRECIOUS));
        broker.process().log_line_with("cannot open");
        carry(&elsewhere, &log);
        let drained = drained.join().expect("each get is answered");
        assert_eq!(drained, ["a", "b", "c"]);
    });
    broker.stop();
}

/// What a broker left that was stopped in order: a queue and, declared last, the precious one, with its messages.
fn home_with_messages(cores: usize) -> Home {
    let home = Home::new("");
    let broker = home.start(cores);
    let connection = broker.connect();
    durable_queue(&connection.channel(), "other");
    durable_queue(&connection.channel(), PRECIOUS);
    keep(&connection, "", PRECIOUS, &["a", "b", "c"]);
    drop(connection);
    broker.stop();
    home
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it is ours");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it is readable");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("there is room");
    }
}

/// Changes one byte of a word wherever it stands in a directory's files.
fn damage(directory: &Path, word: &[u8]) {
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("it is readable").path();
        let mut bytes = fs::read(&path).expect("it is readable");
        while let Some(at) = bytes.windows(word.len()).position(|found| found == word) {
            bytes[at] ^= 1;
            count += 1;
        }
        fs::write(&path, bytes).expect("it is ours");
    }
    assert!(count > 0, "the word is nowhere in {}", directory.display());
}
