//! A run of producers and consumers from beginning to end: topology, connections, threads, the end
//! condition, the report.
//!
//! What the scenarios differ in is their [`Plan`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, confirm, tx};
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use core_affinity::CoreId;

use crate::client::Client;
use crate::clock::now_ns;
use crate::connection::{Connection, Role};
use crate::consumer::Consumer;
use crate::options::Settings;
use crate::plot::{self, Page};
use crate::producer::Producer;
use crate::report::{Reporter, Sinks, Summary};
use crate::run::{Run, is_interrupted};
use crate::stats::{Counts, WorkerStats};
use crate::topology::{self, share};
use crate::wire::Scanner;
use crate::worker::Worker;

/// A run with -C or -D ends with an error when nothing at all moved for so long.
const STALL_NS: u64 = 15_000_000_000;
/// With -C but without -D, consumers are done when nothing arrived for so long.
const DRAINED_NS: u64 = 1_000_000_000;
/// How often counts are looked at, when no worker wakes us.
const LOOK_AT_COUNTS: Duration = Duration::from_millis(20);
/// How often interruption is looked at. Each look may take a worker's core away from it.
const LOOK_UP: Duration = Duration::from_millis(200);

/// How the generator goes about its work, besides what the settings say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Bytes of publishes that are gathered for one write; one message at least.
    pub(super) write_bytes: usize,
    /// Messages that lie there to be received: the run ends when it has had them.
    pub(super) awaited: Option<u64>,
}

/// Declares, measures, deletes and reports.
pub(super) fn run_at(write_bytes: usize, settings: &Settings) -> Result<()> {
    let plan = Plan {
        write_bytes,
        awaited: None,
    };
    let mut sinks = Sinks::open(settings)?;
    let summary = with_topology(settings, || measure(plan, settings, &mut sinks))?;
    summary.report()?;
    draw(settings, || plot::load(settings.scenario.name(), &summary))
}

/// Writes the picture of --plot, if one is wanted.
pub(super) fn draw(settings: &Settings, page: impl FnOnce() -> Page) -> Result<()> {
    match &settings.plot {
        Some(path) => page().write(path),
        None => Ok(()),
    }
}

/// Declares what the settings name, does `work`, and deletes it again, whatever came of it.
pub(super) fn with_topology<T>(settings: &Settings, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let topology = topology::prepare(settings).context("preparing exchange and queues")?;
    let outcome = work();
    let deleted = topology
        .delete(settings)
        .context("deleting exchange and queues");
    outcome.and_then(|outcome| deleted.map(|()| outcome))
}

/// One measured time. An interrupted or failed run still has a summary, which is printed before the
/// failure is returned.
pub(super) fn measure(plan: Plan, settings: &Settings, sinks: &mut Sinks) -> Result<Summary> {
    let cores = pinned_cores(settings)?;
    let connections = connect_all(plan.write_bytes, settings)?;
    let producers = settings.producers as usize;
    let consumers = settings.consumers as usize;
    let consumer_channels = consumers * usize::from(settings.consumer_channels);
    let shares = (0..consumer_channels)
        .map(|index| share(index, consumer_channels, settings.queues.len()).len());
    let awaited = match settings.polling_interval_ms {
        None => shares.sum(),
        Some(_) => 0,
    };
    let run = Arc::new(Run::new(awaited, producers, consumers));
    // Reporting must not disturb the broker's cores, nor a worker if one core is left over.
    if let Some(core) = cores.last() {
        core_affinity::set_for_current(*core);
    }
    let (threads, stats) = spawn_workers(settings.busy_poll, connections, &cores, &run)?;
    let mut reporter = Reporter::new(settings, sinks, plan.awaited, stats, now_ns());
    let ended = coordinate(plan, settings, &run, &mut reporter);
    let frozen = reporter.freeze(now_ns());
    run.stop();
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow!("a worker thread panicked"))?;
    }
    let summary = reporter.summary();
    match run.take_failure().or_else(|| ended.and(frozen).err()) {
        None => Ok(summary),
        Some(failure) => {
            summary.report()?;
            Err(failure)
        }
    }
}

/// Waits for the end of the run, and prints the live lines meanwhile.
fn coordinate(
    plan: Plan,
    settings: &Settings,
    run: &Run,
    reporter: &mut Reporter<'_>,
) -> Result<()> {
    let start_ns = now_ns();
    let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
    let interval_ns = nanoseconds(settings.interval_s);
    let end_ns = settings
        .time_s
        .map_or(u64::MAX, |seconds| start_ns + nanoseconds(seconds));
    let pause_s = settings.rate.map_or(0.0, |rate| 1.0 / rate);
    let pause_s = pause_s.max(settings.consumer_pause_s());
    let round_s: f64 = settings.variable_rate.iter().map(|step| step.seconds).sum();
    let stall_ns = STALL_NS.max(nanoseconds(3.0 * pause_s)) + nanoseconds(round_s);
    let mut next_line_ns = start_ns + interval_ns;
    let mut progress = Progress::default();
    let counted = settings.has_count_limit() || plan.awaited.is_some();
    let look = if counted { LOOK_AT_COUNTS } else { LOOK_UP };
    loop {
        let now_ns = now_ns();
        if run.is_stopped() || is_interrupted() || now_ns >= end_ns {
            return Ok(());
        }
        if now_ns >= next_line_ns {
            reporter.live_line(now_ns)?;
            next_line_ns += interval_ns * ((now_ns - next_line_ns) / interval_ns + 1);
        }
        reporter.show_progress(now_ns);
        if counted {
            let counts = reporter.counts();
            if is_complete(plan, settings, run, &counts, now_ns) {
                return Ok(());
            }
            if progress.stalled_ns(&counts, now_ns) > stall_ns {
                bail!(
                    "nothing moved for {} s: the counts that were asked for cannot be reached",
                    stall_ns / 1_000_000_000
                );
            }
        }
        let until = next_line_ns.min(end_ns).saturating_sub(now_ns);
        std::thread::park_timeout(look.min(Duration::from_nanos(until)));
    }
}

/// Whether the counts of -C and -D are reached.
fn is_complete(plan: Plan, settings: &Settings, run: &Run, counts: &Counts, now_ns: u64) -> bool {
    if let Some(awaited) = plan.awaited {
        return counts.received >= awaited;
    }
    if settings.producer_messages.is_some() && !run.producers_are_finished() {
        return false;
    }
    // Producers and consumers say that they are done a moment before their last messages are counted.
    if let Some(all) = settings.messages_to_receive() {
        return run.consumers_are_finished() && counts.received >= all;
    }
    let settled = match settings.confirm {
        Some(_) => counts.confirmed + counts.nacked,
        None => counts.sent,
    };
    if settings
        .messages_to_send()
        .is_some_and(|all| counts.sent.min(settled) < all)
    {
        return false;
    }
    // What one queue was sent, another may get too, or nobody: so the lull counts as well.
    let lull_ns = now_ns.saturating_sub(counts.last_received_ns.max(counts.last_sent_ns));
    let pause_ns = (settings.consumer_pause_s() * 1e9) as u64;
    settings.consumers == 0
        || counts.received >= counts.sent * settings.copies()
        || lull_ns > DRAINED_NS + pause_ns
}

/// Remembers when the counts last changed.
#[derive(Debug, Default)]
struct Progress {
    counts: Counts,
    since_ns: u64,
}

impl Progress {
    fn stalled_ns(&mut self, counts: &Counts, now_ns: u64) -> u64 {
        if self.since_ns == 0 || self.counts != *counts {
            (self.counts, self.since_ns) = (*counts, now_ns);
        }
        now_ns - self.since_ns
    }
}

fn pinned_cores(settings: &Settings) -> Result<Vec<CoreId>> {
    let available = core_affinity::get_core_ids().context("reading the CPU affinity")?;
    let find = |&id: &usize| {
        let core = available.iter().find(|core| core.id == id).copied();
        core.with_context(|| format!("--cores: this process may not run on CPU {id}"))
    };
    settings.cores.iter().map(find).collect()
}

fn connect_all(write_bytes: usize, settings: &Settings) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for index in 0..settings.producers as usize {
        connections.push(
            connect_producer(write_bytes, settings, index)
                .with_context(|| format!("producer {index}"))?,
        );
    }
    for index in 0..settings.consumers as usize {
        connections
            .push(connect_consumer(settings, index).with_context(|| format!("consumer {index}"))?);
    }
    Ok(connections)
}

fn connect_producer(write_bytes: usize, settings: &Settings, index: usize) -> Result<Connection> {
    let mut client = Client::connect(&settings.broker, settings.producer_core)?;
    client.open_channels(settings.producer_channels)?;
    if settings.confirm.is_some() {
        let select = confirm::Select { nowait: false };
        let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(select));
        client.call_on_each(settings.producer_channels, &select)?;
    }
    if settings.producer_transaction.is_some() {
        client.call_on_each(settings.producer_channels, &tx_select())?;
    }
    let queues = channel_queues(
        settings,
        index,
        settings.producers,
        settings.producer_channels,
    );
    let producer = Producer::new(
        settings,
        index,
        &queues,
        client.tuned().frame_max,
        write_bytes,
    );
    into_connection(client, settings.producer_channels, Role::Producer(producer))
}

fn connect_consumer(settings: &Settings, index: usize) -> Result<Connection> {
    let mut client = Client::connect(&settings.broker, settings.consumer_core)?;
    client.open_channels(settings.consumer_channels)?;
    for (prefetch_count, global) in [(settings.prefetch, false), (settings.global_prefetch, true)] {
        if prefetch_count > 0 {
            let qos = basic::Qos {
                prefetch_count,
                global,
            };
            let qos = AMQPClass::Basic(basic::AMQPMethod::Qos(qos));
            client.call_on_each(settings.consumer_channels, &qos)?;
        }
    }
    if settings.consumer_transaction.is_some() {
        client.call_on_each(settings.consumer_channels, &tx_select())?;
    }
    let queues = channel_queues(
        settings,
        index,
        settings.consumers,
        settings.consumer_channels,
    );
    if settings.queue_kind.exclusive {
        let names: BTreeSet<_> = queues.iter().flatten().collect();
        for name in names {
            let declared = topology::declare_exclusive(&mut client, settings, name);
            declared.with_context(|| format!("queue {name:?}"))?;
        }
    }
    into_connection(
        client,
        settings.consumer_channels,
        Role::Consumer(Consumer::new(settings, &queues)),
    )
}

fn tx_select() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}))
}

fn into_connection(client: Client, channels: u16, role: Role) -> Result<Connection> {
    let tuned = client.tuned();
    let scanner = Scanner::new(channels, tuned.frame_max);
    Ok(Connection::new(
        client.into_stream()?,
        role,
        scanner,
        tuned.heartbeat_s,
    ))
}

/// The queues of each channel of the connection with this index, of `connections` alike.
fn channel_queues(
    settings: &Settings,
    index: usize,
    connections: u32,
    channels: u16,
) -> Vec<Vec<String>> {
    let channels = usize::from(channels);
    let of = connections as usize * channels;
    let names = |position| share(position, of, settings.queues.len()).into_iter();
    (0..channels)
        .map(|channel| {
            names(index * channels + channel)
                .map(|queue| settings.queues[queue].clone())
                .collect()
        })
        .collect()
}

type Workers = (Vec<JoinHandle<()>>, Vec<Arc<WorkerStats>>);

/// Deals the connections out to one thread per core, or to one thread.
fn spawn_workers(
    busy_poll: bool,
    connections: Vec<Connection>,
    cores: &[CoreId],
    run: &Arc<Run>,
) -> Result<Workers> {
    let count = cores.len().clamp(1, connections.len());
    let mut hands: Vec<Vec<Connection>> = (0..count).map(|_| Vec::new()).collect();
    for (index, connection) in connections.into_iter().enumerate() {
        hands[index % count].push(connection);
    }
    let mut workers = Vec::new();
    for hand in hands {
        let stats = Arc::new(WorkerStats::new());
        workers.push((
            Worker::new(hand, busy_poll, Arc::clone(run), Arc::clone(&stats))?,
            stats,
        ));
    }
    let mut threads = Vec::new();
    let mut all_stats = Vec::new();
    for (index, (worker, stats)) in workers.into_iter().enumerate() {
        let core = cores.get(index).copied();
        let run = Arc::clone(run);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(
                move || match core.is_none_or(core_affinity::set_for_current) {
                    true => worker.work(),
                    false => run.fail(pinning_failed(core)),
                },
            );
        threads.push(thread.context("starting a thread")?);
        all_stats.push(stats);
    }
    ensure!(!threads.is_empty(), "no threads");
    Ok((threads, all_stats))
}

fn pinning_failed(core: Option<CoreId>) -> Error {
    anyhow!("cannot pin a thread on CPU {:?}", core.map(|core| core.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::settings;
    use crate::output::BULK_BYTES;

    /// Whether a run is complete whose producer and consumers are done, 10 ms after the last message was counted.
    fn is_over(line: &str, sent: u64, received: u64) -> bool {
        is_over_with_confirms(line, sent, received, 0)
    }

    fn is_over_with_confirms(line: &str, sent: u64, received: u64, confirmed: u64) -> bool {
        let settings = settings(line).expect("valid");
        let run = Run::new(0, 1, settings.consumers as usize);
        run.producer_finished();
        (0..settings.consumers).for_each(|_| run.consumer_finished());
        let counts = Counts {
            sent,
            received,
            confirmed,
            last_sent_ns: 1_000_000_000 * u64::from(sent > 0),
            ..Counts::default()
        };
        let plan = Plan {
            write_bytes: BULK_BYTES,
            awaited: None,
        };
        is_complete(plan, &settings, &run, &counts, 1_010_000_000)
    }

    #[test]
    fn a_run_waits_until_what_its_producers_sent_is_counted() {
        let line = "lg throughput -C 500";
        assert!(!is_over(line, 0, 0));
        assert!(!is_over(line, 400, 400));
        assert!(is_over(line, 500, 500));
    }

    #[test]
    fn a_run_waits_until_its_confirms_are_counted() {
        let line = "lg throughput -y 0 -C 500 -c 100";
        assert!(!is_over_with_confirms(line, 500, 0, 480));
        assert!(is_over_with_confirms(line, 500, 0, 500));
    }

    #[test]
    fn a_run_waits_until_what_its_consumers_received_is_counted() {
        let line = "lg throughput -y 2 -Y 3 -D 10";
        assert!(!is_over(line, 60, 59));
        assert!(is_over(line, 60, 60));
    }

    #[test]
    fn a_fanout_waits_for_every_copy() {
        let line = "lg fanout --queues 3 -C 500";
        assert!(!is_over(line, 500, 500));
        assert!(!is_over(line, 500, 1_499));
        assert!(is_over(line, 500, 1_500));
    }
}
