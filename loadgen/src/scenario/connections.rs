//! `connections`: what it costs a broker to have many clients that do nothing.
//!
//! Connections are opened by a few threads, held with their heartbeats, and each is asked for an
//! answer at the end: one that the broker dropped in silence doesn't count as alive.

use std::thread;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic};
use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::{Client, ClientError};
use crate::clock::now_ns;
use crate::limits::ensure_open_files;
use crate::options::ConnectionsSettings;
use crate::report::{Live, Percentiles, Progress, grouped, print_json, say};
use crate::run::is_interrupted;
use crate::stats::empty_histogram;

/// How often heartbeats and interruption are looked at while connections are held.
const LOOK_UP: Duration = Duration::from_millis(200);

/// The whole run, as --json prints it.
#[derive(Debug, Serialize)]
struct Held<'a> {
    settings: &'a ConnectionsSettings,
    opened: usize,
    opening_s: f64,
    /// Connections per second.
    opening_rate: f64,
    open_latency_us: Option<Percentiles>,
    held_s: f64,
    alive: usize,
    /// Of the broker's process, with --pid.
    resident: Option<Resident>,
}

/// Resident memory of the broker's process, in bytes.
#[derive(Debug, Serialize)]
struct Resident {
    before: u64,
    open: u64,
    held: u64,
    per_connection: f64,
}

/// Runs it.
pub(super) fn run(settings: &ConnectionsSettings) -> Result<()> {
    ensure_open_files(u64::from(settings.count))?;
    let before = resident_bytes(settings)?;
    let begun_ns = now_ns();
    let (mut clients, latencies) = open_all(settings)?;
    let opening_s = since_s(begun_ns);
    let open = resident_bytes(settings)?;
    let mut live = Live::new(settings.json);
    live.tell(&format!("{} connections are open", clients.len()));
    let held_ns = now_ns();
    hold(settings, &mut clients, &mut live);
    let held_s = since_s(held_ns);
    let held = resident_bytes(settings)?;
    let opened = clients.len();
    let resident = before
        .zip(open)
        .zip(held)
        .map(|((before, open), held)| Resident {
            before,
            open,
            held,
            per_connection: (held as f64 - before as f64) / opened as f64,
        });
    let report = Held {
        settings,
        opened,
        opening_s,
        opening_rate: opened as f64 / opening_s,
        open_latency_us: Percentiles::of(&latencies),
        held_s,
        alive: count_alive(settings, &mut clients),
        resident,
    };
    clients.into_iter().for_each(Client::close);
    report.print()?;
    ensure!(
        report.alive == opened,
        "{} of {opened} connections did not live to the end",
        opened - report.alive
    );
    Ok(())
}

/// Opens all of them, a share by each thread.
fn open_all(settings: &ConnectionsSettings) -> Result<(Vec<Client>, Histogram<u64>)> {
    let openers = settings.openers.min(settings.count);
    let outcomes = thread::scope(|scope| {
        let spawn = |index| scope.spawn(move || open_share(settings, index, openers));
        let threads: Vec<_> = (0..openers).map(spawn).collect();
        threads
            .into_iter()
            .map(|thread| thread.join())
            .collect::<Vec<_>>()
    });
    let (mut clients, mut latencies) = (Vec::new(), empty_histogram());
    for outcome in outcomes {
        let (share, times) = outcome.map_err(|_| anyhow!("a thread panicked"))??;
        clients.extend(share);
        latencies.add(&times).context("latencies")?;
    }
    ensure!(
        !clients.is_empty(),
        "interrupted before a connection was open"
    );
    Ok((clients, latencies))
}

fn open_share(
    settings: &ConnectionsSettings,
    index: u32,
    of: u32,
) -> Result<(Vec<Client>, Histogram<u64>)> {
    let (mut clients, mut latencies) = (Vec::new(), empty_histogram());
    for number in (index..settings.count).step_by(of as usize) {
        if is_interrupted() {
            break;
        }
        let begun_ns = now_ns();
        let open = || -> Result<Client> {
            let mut client = Client::connect(&settings.broker, None)?;
            client.open_channels(settings.channels)?;
            Ok(client)
        };
        clients.push(open().with_context(|| format!("connection {number}"))?);
        latencies.saturating_record(now_ns() - begun_ns);
    }
    Ok((clients, latencies))
}

/// Keeps them until the time is over, each with the heartbeats that it agreed to.
fn hold(settings: &ConnectionsSettings, clients: &mut [Client], live: &mut Live) {
    let start_ns = now_ns();
    let end_ns = start_ns + (settings.time_s * 1e9) as u64;
    let heartbeat_s = clients
        .iter()
        .map(|client| client.tuned().heartbeat_s)
        .filter(|&seconds| seconds > 0)
        .min();
    let interval_ns = heartbeat_s.map_or(u64::MAX, |seconds| u64::from(seconds) * 500_000_000);
    let mut next_ns = start_ns.saturating_add(interval_ns);
    while !is_interrupted() {
        let now_ns = now_ns();
        if now_ns >= end_ns {
            break;
        }
        if now_ns >= next_ns {
            // One that is dead already is found by the count at the end.
            for client in clients.iter_mut() {
                let _ = client.send_heartbeat();
            }
            next_ns += interval_ns;
        }
        let progress = Progress::of_time(since_s(start_ns), settings.time_s);
        live.progress(progress, "holding them");
        thread::sleep(LOOK_UP.min(Duration::from_nanos(end_ns - now_ns)));
    }
    live.clear();
}

/// Asks each for an answer.
fn count_alive(settings: &ConnectionsSettings, clients: &mut [Client]) -> usize {
    let answers = |client: &mut Client| -> Result<(), ClientError> {
        if settings.channels == 0 {
            return client.open_channel(1);
        }
        let qos = basic::Qos {
            prefetch_count: 1,
            global: false,
        };
        client
            .call(1, AMQPClass::Basic(basic::AMQPMethod::Qos(qos)))
            .map(drop)
    };
    clients
        .iter_mut()
        .filter_map(|client| answers(client).ok())
        .count()
}

/// Resident memory of the process of --pid.
fn resident_bytes(settings: &ConnectionsSettings) -> Result<Option<u64>> {
    let Some(pid) = settings.pid else {
        return Ok(None);
    };
    let path = format!("/proc/{pid}/status");
    let status =
        std::fs::read_to_string(&path).with_context(|| format!("--pid: cannot read {path}"))?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .with_context(|| format!("{path} has no VmRSS"))?;
    Ok(Some(kilobytes * 1024))
}

impl Held<'_> {
    fn print(&self) -> Result<()> {
        if self.settings.json {
            return print_json(self);
        }
        say(format_args!(
            "opened {} in {:.2} s: {} connections/s",
            self.opened,
            self.opening_s,
            grouped(self.opening_rate)
        ))?;
        if let Some(latency) = &self.open_latency_us {
            say(format_args!(
                "opening latency min/median/75th/95th/99th/99.9th/max {} µs",
                latency.total()
            ))?;
        }
        say(format_args!(
            "alive after {:.1} s: {} of {}",
            self.held_s, self.alive, self.opened
        ))?;
        if let Some(resident) = &self.resident {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            say(format_args!(
                "broker's resident memory: {:.1} MiB before, {:.1} MiB open, {:.1} MiB held: {} bytes per connection",
                mib(resident.before),
                mib(resident.open),
                mib(resident.held),
                grouped(resident.per_connection)
            ))?;
        }
        Ok(())
    }
}

fn since_s(begun_ns: u64) -> f64 {
    (now_ns() - begun_ns) as f64 / 1e9
}
