//! What the broker says to its operator when it cannot start: one line with the word that matters, exit code 1.

use crate::support::broker::{Broker, arguments, binary, configuration_file, scratch_directory};
use crate::support::process::{Pipe, Process};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tempfile::TempDir;

/// True when there is no binary of ours to start.
fn another_broker_is_tested() -> bool {
    std::env::var_os("LEVERET_PEER").is_some()
}

/// A command line that would work.
fn sound_arguments(directory: &TempDir, listen: &str) -> Vec<String> {
    let file = configuration_file(directory.path(), "");
    arguments(listen, 1, &directory.path().join("data"), &file)
}

/// The process ends with 1 and one line on stderr that holds every word.
fn expect_refusal(program: &Path, arguments: &[String], words: &[&str]) {
    let process = Process::start(program, arguments);
    let status = process.wait();
    let lines = process.all_lines(Pipe::Err);
    assert_eq!(status.code(), Some(1), "{lines:?}");
    let [line] = lines.as_slice() else {
        panic!("one line was expected, not {lines:?}")
    };
    for word in words {
        assert!(line.contains(word), "`{word}` is not in: {line}");
    }
    assert!(!line.contains("panicked"), "{line}");
    let out = process.all_lines(Pipe::Out);
    assert!(
        !out.iter().any(|line| line.contains("startup complete")),
        "{out:?}"
    );
}

#[test]
fn a_port_taken_by_another_process() {
    if another_broker_is_tested() {
        return;
    }
    let directory = scratch_directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    expect_refusal(
        &binary(),
        &sound_arguments(&directory, &address),
        &[&address],
    );
}

#[test]
fn a_port_taken_by_another_leveret() {
    let Some(first) = Broker::alone(2, "") else {
        return;
    };
    let directory = scratch_directory();
    let address = first.address.to_string();
    expect_refusal(
        &binary(),
        &sound_arguments(&directory, &address),
        &[&address],
    );
    // The first still has every client to itself.
    for connection in first.connections_spread::<8>() {
        connection.is_alive();
    }
}

#[test]
fn a_data_directory_that_cannot_be_made() {
    if another_broker_is_tested() {
        return;
    }
    let directory = scratch_directory();
    let file = directory.path().join("a-file");
    fs::write(&file, "not a directory").expect("the scratch directory is writable");
    let configuration = configuration_file(directory.path(), "");
    let arguments = arguments("127.0.0.1:0", 1, &file.join("data"), &configuration);
    expect_refusal(&binary(), &arguments, &["a-file/data"]);
}

#[test]
fn an_unknown_flag() {
    if another_broker_is_tested() {
        return;
    }
    expect_refusal(&binary(), &["--colour".to_owned()], &["--colour"]);
}

#[test]
fn flag_values_that_make_no_sense() {
    if another_broker_is_tested() {
        return;
    }
    for (flag, value) in [
        ("--cores", "none"),
        ("--cores", "0"),
        ("--listen", "nowhere"),
        ("--listen", "127.0.0.1:99999"),
    ] {
        expect_refusal(&binary(), &[flag.to_owned(), value.to_owned()], &[value]);
    }
}

#[test]
fn a_configuration_file_that_is_not_there() {
    if another_broker_is_tested() {
        return;
    }
    let arguments = ["--config", "/nowhere/leveret.conf"].map(str::to_owned);
    expect_refusal(&binary(), &arguments, &["/nowhere/leveret.conf"]);
}

#[test]
fn a_bad_value_in_the_configuration() {
    if another_broker_is_tested() {
        return;
    }
    let directory = scratch_directory();
    for bad in [
        "heartbeat = often",
        "frame_max = 17",
        "handshake_timeout = -1",
        "channel_max = 70000",
    ] {
        let file = configuration_file(directory.path(), bad);
        let arguments = arguments("127.0.0.1:0", 1, &directory.path().join("data"), &file);
        let key = bad.split(' ').next().expect("a key comes first");
        expect_refusal(&binary(), &arguments, &[key]);
    }
}

#[test]
fn a_line_in_the_configuration_that_is_none() {
    if another_broker_is_tested() {
        return;
    }
    let directory = scratch_directory();
    let file = configuration_file(directory.path(), "just some words\n");
    let arguments = arguments("127.0.0.1:0", 1, &directory.path().join("data"), &file);
    expect_refusal(&binary(), &arguments, &["leveret.conf"]);
}

#[test]
fn a_key_that_does_nothing_is_named_in_a_warning() {
    let Some(broker) = Broker::alone(1, "log.file.level = debug\n") else {
        return;
    };
    broker.connect().is_alive();
    broker.process().signal("TERM");
    broker.process().wait();
    let both = [Pipe::Out, Pipe::Err]
        .map(|pipe| broker.process().all_lines(pipe))
        .concat();
    assert!(
        both.iter().any(|line| line.contains("log.file.level")),
        "{both:?}"
    );
}

#[test]
fn settings_of_the_file_are_heeded() {
    let Some(broker) = Broker::alone(1, "heartbeat = 17\nframe_max = 8192\nchannel_max = 31\n")
    else {
        return;
    };
    let login = crate::support::login::Login::alice("orders");
    let (_raw, tune) = login.authenticate(broker.address);
    assert_eq!(
        (tune.heartbeat, tune.frame_max, tune.channel_max),
        (17, 8192, 31)
    );
}

#[test]
fn more_executors_than_cores_is_fine() {
    let Some(broker) = Broker::alone(4, "") else {
        return;
    };
    for connection in broker.connections_spread::<16>() {
        connection.is_alive();
    }
}

/// The command line that runs `arguments` of the broker under limits on locked memory, in bytes.
fn under_memlock(soft: u64, hard: u64, arguments: &[String]) -> Vec<String> {
    let mut line = vec![
        format!("--memlock={soft}:{hard}"),
        binary().display().to_string(),
    ];
    line.extend_from_slice(arguments);
    line
}

#[test]
fn locked_memory_that_cannot_be_raised() {
    if another_broker_is_tested() {
        return;
    }
    let directory = scratch_directory();
    let arguments = sound_arguments(&directory, "127.0.0.1:0");
    let under = under_memlock(65_536, 65_536, &arguments);
    let words = ["locked memory", "64 KiB", "ulimit -l"];
    // Root raises any limit, unless it has given up the right to.
    let runs_as_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if runs_as_root {
        let give_up = "--bounding-set=-sys_resource".to_owned();
        let line = [vec![give_up, "prlimit".to_owned()], under].concat();
        expect_refusal(Path::new("setpriv"), &line, &words);
    } else {
        expect_refusal(Path::new("prlimit"), &under, &words);
    }
}

#[test]
fn open_files_that_are_too_few_to_start() {
    if another_broker_is_tested() {
        return;
    }
    let directory = scratch_directory();
    let file = configuration_file(directory.path(), "");
    let data = directory.path().join("data");
    let broker = arguments("127.0.0.1:0", 2, &data, &file);
    let limit = ["--nofile=20:20".to_owned(), binary().display().to_string()];
    let line = [&limit[..], &broker[..]].concat();
    let words = ["open files", "is 20", "ulimit -n"];
    expect_refusal(Path::new("prlimit"), &line, &words);
}

#[test]
fn more_cores_than_there_can_be() {
    if another_broker_is_tested() {
        return;
    }
    let arguments = ["--cores", "65"].map(str::to_owned);
    expect_refusal(&binary(), &arguments, &["65", "at most 64 cores"]);
}

#[test]
fn locked_memory_that_may_be_raised_is_raised() {
    if another_broker_is_tested() {
        return;
    }
    let directory = scratch_directory();
    let arguments = sound_arguments(&directory, "127.0.0.1:0");
    let line = under_memlock(65_536, 1_048_576, &arguments);
    let process = Process::start(Path::new("prlimit"), &line);
    process.line_with("Server startup complete");
}
