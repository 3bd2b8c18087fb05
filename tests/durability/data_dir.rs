//! Data directories that can't be used: said in one line, with nothing touched.

use crate::lives::{durable_queue, keep};
use crate::support::broker::{Broker, binary};
use crate::support::home::Home;
use crate::support::process::{Pipe, Process};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

/// The file that names the data's format, and what it says.
const FORMAT_FILE: &str = "format";
const FORMAT: &str = "leveret 1\n";

#[test]
fn a_new_data_directory_says_its_format() {
    let home = Home::new("");
    home.start(1).kill();
    let format = fs::read_to_string(home.data().join(FORMAT_FILE)).expect("it is there");
    assert_eq!(format, FORMAT);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let home = home_with_a_message();
    for newer in ["2", "4711", "18446744073709551617"] {
        let line = refusal_of_format(&home, format!("leveret {newer}\n").as_bytes());
        let numbers: Vec<&str> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .collect();
        for version in [newer, "1"] {
            assert!(
                numbers.contains(&version),
                "version {version} is not named in: {line}"
            );
        }
    }
    expect_the_message(&home);
}

#[test]
fn a_format_that_is_none_is_refused_and_left_alone() {
    let home = home_with_a_message();
    let garbage: [&[u8]; 8] = [
        b"",
        b"\n",
        b"leveret",
        b"leveret one\n",
        b"leveret -1\n",
        b"rabbit 1\n",
        b"\x00\xff\x00\xff",
        &[b'x'; 100_000],
    ];
    for content in garbage {
        let line = refusal_of_format(&home, content);
        assert!(line.len() < 1000, "the file is not to be recited: {line}");
    }
    expect_the_message(&home);
}

#[test]
fn a_format_that_cannot_be_read_is_refused() {
    let home = home_with_a_message();
    let file = home.data().join(FORMAT_FILE);
    fs::remove_file(&file).expect("the scratch directory is writable");
    fs::create_dir(&file).expect("the scratch directory is writable");
    expect_refusal(&home);
    fs::remove_dir(&file).expect("it was left alone");
    fs::write(&file, FORMAT).expect("the scratch directory is writable");
    expect_the_message(&home);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused_and_left_alone() {
    let home = Home::new("");
    fs::write(home.data(), "precious").expect("the scratch directory is writable");
    expect_refusal(&home);
    assert_eq!(
        fs::read_to_string(home.data()).expect("it is still there"),
        "precious"
    );
}

#[test]
fn a_directory_without_permission_is_refused_and_left_alone() {
    let used = home_with_a_message();
    let empty = Home::new("");
    fs::create_dir(empty.data()).expect("the scratch directory is writable");
    // Nothing may be done in the first, and nothing written in the second.
    for (home, mode) in [(&used, 0o000), (&empty, 0o500)] {
        let permit = |mode| fs::set_permissions(home.data(), Permissions::from_mode(mode));
        permit(mode).expect("it is ours");
        let process = start_without_privilege(home);
        let line = refusal(&process);
        permit(0o755).expect("it is ours");
        assert!(
            line.contains(&home.data().display().to_string()),
            "mode {mode:o}: {line}"
        );
    }
    expect_the_message(&used);
}

/// As the default is.
#[test]
fn a_relative_directory_takes_more_than_its_first_files() {
    const MESSAGES: usize = 24;
    let home = Home::new("");
    let place = home
        .data()
        .parent()
        .expect("it is in the scratch directory");
    let own = home.data().display().to_string();
    let mut line = vec!["-C".to_owned(), place.display().to_string()];
    line.push(binary().display().to_string());
    let arguments = home.arguments("127.0.0.1:0", 1).into_iter();
    line.extend(arguments.map(|argument| {
        if argument == own {
            "data".to_owned()
        } else {
            argument
        }
    }));
    let broker = Broker::once_ready(Process::start(Path::new("env"), &line)).expect("it starts");
    let megabyte = "x".repeat(1024 * 1024);
    let connection = broker.connect();
    durable_queue(&connection.channel(), "queue");
    keep(&connection, "", "queue", &[megabyte.as_str(); MESSAGES]);
    drop(connection);
    broker.kill();
    let broker = home.start(1);
    assert_eq!(
        broker.connect().channel().drain("queue"),
        vec![megabyte; MESSAGES]
    );
    broker.stop();
}

#[test]
fn a_directory_in_use_is_refused_and_its_broker_goes_on() {
    let home = home_with_a_message();
    let broker = home.start(2);
    let second = Process::start(&binary(), &home.arguments("127.0.0.1:0", 1));
    let line = refusal(&second);
    assert!(line.contains(&home.data().display().to_string()), "{line}");
    keep(&broker.connect(), "", "queue", &["second"]);
    broker.kill();
    let broker = home.start(1);
    assert_eq!(
        broker.connect().channel().drain("queue"),
        ["kept", "second"]
    );
    broker.stop();
}

#[test]
fn a_kill_at_the_first_start_does_not_spoil_the_directory() {
    let home = Home::new("");
    for _ in 0..3 {
        // Killed wherever it happens to be, soon after the directory appeared.
        let process = Process::start(&binary(), &home.arguments("127.0.0.1:0", 2));
        while !home.data().exists() && process.is_running() {
            thread::yield_now();
        }
        process.signal("KILL");
        process.wait();
    }
    home.start(2).stop();
}

/// A directory that a broker used and left, with one message.
fn home_with_a_message() -> Home {
    let home = Home::new("");
    let broker = home.start(1);
    let connection = broker.connect();
    durable_queue(&connection.channel(), "queue");
    keep(&connection, "", "queue", &["kept"]);
    broker.stop();
    home
}

/// All that was refused did no harm.
fn expect_the_message(home: &Home) {
    let broker = home.start(1);
    let channel = broker.connect().channel();
    let got = channel.get("queue").expect("the message is still there");
    assert_eq!(
        (got.text().as_str(), got.method.redelivered),
        ("kept", false)
    );
    broker.stop();
}

/// The broker's complaint about a format file with this content, which must stay as it is. The file is put right then.
fn refusal_of_format(home: &Home, content: &[u8]) -> String {
    let file = home.data().join(FORMAT_FILE);
    fs::write(&file, content).expect("the scratch directory is writable");
    let line = expect_refusal(home);
    fs::write(&file, FORMAT).expect("the scratch directory is writable");
    line
}

/// A start that fails without touching a byte; its complaint, which names the directory, without that name.
fn expect_refusal(home: &Home) -> String {
    let before = contents(home.data());
    let process = Process::start(&binary(), &home.arguments("127.0.0.1:0", 1));
    let line = refusal(&process);
    assert!(
        contents(home.data()) == before,
        "files have changed; {line}"
    );
    let directory = home.data().display().to_string();
    assert!(
        line.contains(&directory),
        "{directory} is not named in: {line}"
    );
    line.replace(&directory, "")
}

/// The one line that a process says to its operator before it ends with 1.
fn refusal(process: &Process) -> String {
    let status = process.wait();
    let lines = process.all_lines(Pipe::Err);
    assert_eq!(status.code(), Some(1), "{lines:?}");
    let [line] = lines.as_slice() else {
        panic!("one line was expected, not {lines:?}")
    };
    assert!(!line.contains("panicked"), "{line}");
    line.clone()
}

/// Root may do everything with files, unless it gives up the right to.
fn start_without_privilege(home: &Home) -> Process {
    let arguments = home.arguments("127.0.0.1:0", 1);
    let runs_as_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !runs_as_root {
        return Process::start(&binary(), &arguments);
    }
    let mut line = vec![
        "--bounding-set=-dac_override,-dac_read_search".to_owned(),
        binary().display().to_string(),
    ];
    line.extend(arguments);
    Process::start(Path::new("setpriv"), &line)
}

/// Every file below a path with what is in it; directories too. The lock is a broker's to make.
fn contents(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    if path.is_dir() {
        all.insert(path.to_owned(), None);
        for entry in fs::read_dir(path).expect("it is readable") {
            all.extend(contents(&entry.expect("its entries too").path()));
        }
    } else if path.exists() && !path.ends_with("leveret.lock") {
        let bytes = fs::read(path).expect("it is readable");
        all.insert(path.to_owned(), Some(bytes));
    }
    all
}
