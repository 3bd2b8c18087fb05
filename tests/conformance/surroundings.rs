//! What an operator may do to a broker that runs, and what it must live through.

use crate::support::broker::{Broker, binary};
use crate::support::home::Home;
use crate::support::process::Process;
use std::path::Path;

/// A broker that `program` starts, which takes a command line behind its own arguments; none when a reference
/// is tested.
fn started_by(program: &str, own: &[&str], home: &Home, cores: usize) -> Option<Broker> {
    if std::env::var_os("LEVERET_PEER").is_some() {
        return None;
    }
    let mut line: Vec<String> = own.iter().map(|one| (*one).to_owned()).collect();
    line.push(binary().display().to_string());
    line.extend(home.arguments("127.0.0.1:0", cores));
    let broker = Broker::once_ready(Process::start(Path::new(program), &line));
    Some(broker.unwrap_or_else(|error| panic!("the broker did not start: {error}")))
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_it() {
    let home = Home::new("");
    let into_a_full_disk = ["-c", "exec \"$@\" 2>/dev/full", "sh"];
    let Some(broker) = started_by("sh", &into_a_full_disk, &home, 2) else {
        return;
    };
    broker.connect().is_alive();
    broker.stop();
}

#[test]
fn a_mistake_that_cannot_be_told_is_no_crash() {
    if std::env::var_os("LEVERET_PEER").is_some() {
        return;
    }
    let line = ["-c", "exec \"$@\" 2>/dev/full", "sh"].map(str::to_owned);
    let leveret = [binary().display().to_string(), "--colour".to_owned()];
    let process = Process::start(Path::new("sh"), &[&line[..], &leveret].concat());
    assert_eq!(process.wait().code(), Some(1));
}
