//! What an operator may do to a broker that runs, and what it must live through.

use crate::support::broker::{Broker, binary};
use crate::support::home::Home;
use crate::support::login::Login;
use crate::support::process::{Pipe, Process};
use crate::support::wire;
use amq_protocol::protocol::queue;
use std::io::Read;
use std::net::TcpStream;
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
fn a_log_that_nobody_reads_holds_nobody_up() {
    let home = Home::new("");
    let pipe = home.data().with_extension("pipe").display().to_string();
    let into_a_full_pipe =
        "mkfifo \"$0\" && exec 3<>\"$0\" && head -c 65536 /dev/zero >&3 && exec \"$@\" 2>&3";
    let Some(broker) = started_by("sh", &["-c", into_a_full_pipe, &pipe], &home, 2) else {
        return;
    };
    // Its connection is closed with an error, which is worth a line.
    let mut raw = Login::default().raw(broker.address);
    raw.send(&wire::frame(wire::HEADER, 1, &[]));
    raw.until_end_answering_close();
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

#[test]
fn more_clients_than_descriptors_leave_the_logs_theirs() {
    let home = Home::new("");
    let few = ["--nofile=100:100"];
    let Some(broker) = started_by("prlimit", &few, &home, 1) else {
        return;
    };
    let keeper = broker.connect();
    let channel = keeper.channel();
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(broker.address).expect("the broker accepts connections"))
        .collect();
    // It was refused, as was everybody behind it.
    let mut last = clients.last().expect("there are some");
    assert!(matches!(last.read(&mut [0]), Ok(0) | Err(_)));
    // Neither log has a file so far.
    let durable = queue::Declare {
        queue: "kept".into(),
        durable: true,
        ..queue::Declare::default()
    };
    channel.call::<queue::DeclareOk>(durable);
    channel.confirm_select();
    channel.publish_content("", "kept", wire::PERSISTENT, b"a message");
    channel.confirmed(1..=1);
    drop(clients);
    keeper.close();
    broker.process().signal("TERM");
    assert!(broker.process().wait().success());
    let lines = broker.process().all_lines(Pipe::Err);
    let told = lines.iter().filter(|line| line.contains("ulimit -n"));
    assert_eq!(told.count(), 1, "{lines:?}");
}
