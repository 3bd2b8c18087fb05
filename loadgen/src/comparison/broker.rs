//! A broker that is started by a command line, waited for, and stopped; and processes on given CPUs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

/// The longest a broker may take to answer its first client; RabbitMQ takes some ten seconds.
const START_MAX: Duration = Duration::from_secs(60);
/// The longest it may take to end.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often either is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// What a client opens with, and a broker answers.
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// CPU numbers, as `0` or `2-3,6`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cpus(Vec<usize>);

/// A broker that runs; dropped, it is killed.
pub(super) struct Broker {
    process: Child,
    pub(super) uri: String,
    /// Of its data and its log.
    _home: TempDir,
}

impl Broker {
    /// Starts it and waits until it answers a client. In `command`, `{listen}` stands for an address and
    /// a port, `{port}` for the port alone, and `{data}` for a directory that is new each time.
    pub(super) fn start(command: &str, cpus: Option<&Cpus>, below: &Path) -> Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("leveret-ab-")
            .tempdir_in(below);
        let home = home.with_context(|| format!("a directory below {}", below.display()))?;
        let data = home.path().join("data");
        fs::create_dir(&data).context("the data directory")?;
        let log = home.path().join("log");
        let listen = free_address()?;
        let line = command
            .replace("{listen}", &listen)
            .replace("{port}", listen.rsplit(':').next().unwrap_or_default())
            .replace("{data}", &data.display().to_string());
        let output = File::create(&log).context("the broker's log")?;
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]);
        shell
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        // A group of its own, since what the shell starts is to be stopped as well.
        shell.process_group(0);
        let process = spawn_on(cpus, &mut shell).with_context(|| line.clone())?;
        let mut broker = Self {
            process,
            uri: format!("amqp://guest:guest@{listen}/"),
            _home: home,
        };
        let ready = broker.wait_until_ready(&listen);
        ready.with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{line}: {}", said.trim_end())
        })?;
        Ok(broker)
    }

    fn wait_until_ready(&mut self, listen: &str) -> Result<()> {
        let begun = Instant::now();
        while !answers(listen) {
            if let Some(status) = self.process.try_wait()? {
                bail!("the broker ended: {status}");
            }
            ensure!(
                begun.elapsed() < START_MAX,
                "no answer at {listen} within {START_MAX:?}"
            );
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub(super) fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while self.process.try_wait()?.is_none() {
            ensure!(
                begun.elapsed() < STOP_MAX,
                "the broker didn't end within {STOP_MAX:?} of SIGTERM"
            );
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may have ended already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.process.wait();
    }
}

fn free_address() -> Result<String> {
    let probe = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(probe.local_addr()?.to_string())
}

/// Whether somebody speaks AMQP there.
fn answers(listen: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(listen) else {
        return false;
    };
    let answered = stream
        .set_read_timeout(Some(START_MAX))
        .and_then(|()| stream.write_all(PROTOCOL_HEADER))
        .and_then(|()| stream.read_exact(&mut [0]));
    answered.is_ok()
}

/// Starts a process that may run on these CPUs only.
pub(super) fn spawn_on(cpus: Option<&Cpus>, command: &mut Command) -> Result<Child> {
    let Some(Cpus(cpus)) = cpus else {
        return Ok(command.spawn()?);
    };
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    // A process inherits what the thread that starts it is allowed.
    let spawn = || {
        sched_setaffinity(None, &set).with_context(|| format!("running on CPUs {cpus:?}"))?;
        Ok(command.spawn()?)
    };
    thread::scope(|scope| scope.spawn(spawn).join()).map_err(|_| anyhow!("a thread panicked"))?
}

impl std::str::FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| match text.parse::<usize>() {
            Ok(cpu) if cpu < CpuSet::MAX_CPU => Ok(cpu),
            _ => Err(format!("{text:?} is not a CPU number")),
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
                None => cpus.push(number(part)?),
            }
        }
        if cpus.is_empty() {
            return Err(format!("{text:?} names no CPU"));
        }
        Ok(Self(cpus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_lists_and_ranges() {
        assert_eq!("0".parse(), Ok(Cpus(vec![0])));
        assert_eq!("2-3,6".parse(), Ok(Cpus(vec![2, 3, 6])));
        for wrong in ["", "a", "3-2", "1-", "99999"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_broker_that_does_not_start_is_reported_with_what_it_said() {
        let below = std::env::temp_dir();
        let error = Broker::start("echo no room at {listen}; exit 3", None, &below).err();
        let error = format!("{:#}", error.expect("it ended"));
        assert!(error.contains("no room at 127.0.0.1:"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
