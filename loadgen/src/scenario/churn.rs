//! `churn`: how many connections, channels, queues, bindings or consumers a broker opens and closes per second.
//!
//! Each thread waits for every answer before it goes on, as a client does that opens something in
//! order to use it. So a thread's rate is the inverse of the latencies; more threads show what
//! the broker does at once.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, channel, queue};
use amq_protocol::types::FieldTable;
use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::{Client, short};
use crate::clock::now_ns;
use crate::options::{ChurnSettings, Operation};
use crate::plot::{self, Page};
use crate::report::{Live, Percentiles, Progress, grouped, microseconds, print_json, say, table};
use crate::run::is_interrupted;
use crate::stats::empty_histogram;

/// How often the time and interruption are looked at.
const LOOK_UP: Duration = Duration::from_millis(50);

/// The whole run, as --json prints it.
#[derive(Debug, Serialize)]
struct Churn<'a> {
    settings: &'a ChurnSettings,
    operations: Vec<Measured>,
}

/// One operation's figures.
#[derive(Debug, Serialize)]
struct Measured {
    operation: Operation,
    cycles: u64,
    elapsed_s: f64,
    /// Openings per second, each with its closing.
    rate: f64,
    open_latency_us: Option<Percentiles>,
    close_latency_us: Option<Percentiles>,
    #[serde(skip)]
    latencies: Latencies,
}

/// In nanoseconds.
#[derive(Debug)]
struct Latencies {
    open: Histogram<u64>,
    close: Histogram<u64>,
}

/// Runs it.
pub(super) fn run(settings: &ChurnSettings) -> Result<()> {
    let mut operations = Vec::new();
    for &operation in settings.of.iter().filter(|_| !is_interrupted()) {
        operations.push(measure(settings, operation)?);
    }
    let churn = Churn {
        settings,
        operations,
    };
    if settings.json {
        print_json(&churn)?;
    } else {
        churn.print()?;
    }
    match &settings.plot {
        Some(path) => churn.page().write(path),
        None => Ok(()),
    }
}

/// What the threads of one operation share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    cycles: AtomicU64,
    finished: AtomicUsize,
}

fn measure(settings: &ChurnSettings, operation: Operation) -> Result<Measured> {
    let churners: Vec<_> = (0..settings.threads)
        .map(|index| Churner::prepare(settings, operation, index))
        .collect::<Result<_>>()?;
    let shared = Shared::default();
    let (outcomes, elapsed_s) = thread::scope(|scope| {
        let coordinator = thread::current();
        let start_ns = now_ns();
        let spawned = churners.into_iter().map(|churner| {
            let (shared, coordinator) = (&shared, coordinator.clone());
            scope.spawn(move || {
                let outcome = churner.work(shared);
                shared.finished.fetch_add(1, Relaxed);
                coordinator.unpark();
                outcome
            })
        });
        let threads: Vec<_> = spawned.collect();
        coordinate(settings, operation, &shared);
        let elapsed_s = (now_ns() - start_ns) as f64 / 1e9;
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        (outcomes, elapsed_s)
    });
    let mut all = Latencies::new();
    for outcome in outcomes {
        let latencies = outcome.map_err(|_| anyhow!("a thread panicked"))??;
        all.open.add(&latencies.open).context("latencies")?;
        all.close.add(&latencies.close).context("latencies")?;
    }
    let cycles = shared.cycles.into_inner();
    Ok(Measured {
        operation,
        cycles,
        elapsed_s,
        rate: cycles as f64 / elapsed_s,
        open_latency_us: Percentiles::of(&all.open),
        close_latency_us: Percentiles::of(&all.close),
        latencies: all,
    })
}

/// Waits for the end, and prints the live lines meanwhile.
fn coordinate(settings: &ChurnSettings, operation: Operation, shared: &Shared) {
    let start_ns = now_ns();
    let interval_ns = (settings.interval_s * 1e9) as u64;
    let end_ns = start_ns + (settings.time_s * 1e9) as u64;
    let (mut last, mut last_ns) = (0, start_ns);
    let mut live = Live::new(settings.json);
    while shared.finished.load(Relaxed) < settings.threads as usize {
        let now_ns = now_ns();
        if now_ns >= end_ns || is_interrupted() {
            shared.stop.store(true, Relaxed);
            break;
        }
        if now_ns >= last_ns + interval_ns {
            let cycles = shared.cycles.load(Relaxed);
            let rate = (cycles - last) as f64 * 1e9 / (now_ns - last_ns) as f64;
            let time_s = (now_ns - start_ns) as f64 / 1e9;
            let name = operation.name();
            let line = format!("{name} churn, time {time_s:.3} s, opened and closed: {rate:.0}/s");
            live.tell(&line);
            (last, last_ns) = (cycles, now_ns);
        }
        let elapsed_s = (now_ns - start_ns) as f64 / 1e9;
        let progress = Progress::of_time(elapsed_s, settings.time_s);
        live.progress(progress, operation.name());
        let until = Duration::from_nanos(end_ns.min(last_ns + interval_ns) - now_ns);
        thread::park_timeout(until.min(LOOK_UP));
    }
    live.clear();
}

impl Latencies {
    fn new() -> Self {
        Self {
            open: empty_histogram(),
            close: empty_histogram(),
        }
    }
}

/// One thread's client, and what it opens.
#[derive(Debug)]
struct Churner<'a> {
    settings: &'a ChurnSettings,
    operation: Operation,
    /// Names what this thread declares; unique on the broker as long as this process lives.
    name: String,
    /// What the operation is done on, with channel 1 open; none for connections.
    client: Option<Client>,
    /// The connection that is open.
    opened: Option<Client>,
    cycle: u64,
}

impl<'a> Churner<'a> {
    fn prepare(settings: &'a ChurnSettings, operation: Operation, index: u32) -> Result<Self> {
        let mut churner = Self {
            settings,
            operation,
            name: format!("leveret-loadgen-churn-{}-{index}", std::process::id()),
            client: None,
            opened: None,
            cycle: 0,
        };
        if operation != Operation::Connection {
            let mut client = Client::connect(&settings.broker, None)?;
            client.open_channels(u16::from(operation != Operation::Channel))?;
            if matches!(operation, Operation::Binding | Operation::Consumer) {
                // Exclusive: it goes with the connection.
                client.call(1, declare(&churner.name, false, true)?)?;
            }
            churner.client = Some(client);
        }
        Ok(churner)
    }

    fn work(mut self, shared: &Shared) -> Result<Latencies> {
        let outcome = self.until_stopped(shared);
        if outcome.is_err() {
            shared.stop.store(true, Relaxed);
        }
        if let Some(client) = self.client.take() {
            client.close();
        }
        outcome.with_context(|| format!("churn of a {}", self.operation.name()))
    }

    fn until_stopped(&mut self, shared: &Shared) -> Result<Latencies> {
        let mut latencies = Latencies::new();
        let count = self.settings.count.unwrap_or(u64::MAX);
        while self.cycle < count && !shared.stop.load(Relaxed) {
            let begun_ns = now_ns();
            self.open()?;
            let opened_ns = now_ns();
            self.close()?;
            latencies.open.saturating_record(opened_ns - begun_ns);
            latencies.close.saturating_record(now_ns() - opened_ns);
            self.cycle += 1;
            shared.cycles.fetch_add(1, Relaxed);
        }
        Ok(latencies)
    }

    fn open(&mut self) -> Result<()> {
        let method = match self.operation {
            Operation::Connection => {
                self.opened = Some(Client::connect(&self.settings.broker, None)?);
                return Ok(());
            }
            Operation::Channel => AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
            Operation::Queue => declare(&self.queue(), self.settings.durable, false)?,
            Operation::Binding => AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
                queue: short(&self.name)?,
                exchange: "amq.direct".into(),
                routing_key: short(&self.queue())?,
                nowait: false,
                arguments: FieldTable::default(),
            })),
            Operation::Consumer => AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
                queue: short(&self.name)?,
                consumer_tag: "churn".into(),
                no_local: false,
                no_ack: true,
                exclusive: false,
                nowait: false,
                arguments: FieldTable::default(),
            })),
        };
        self.call(method)
    }

    fn close(&mut self) -> Result<()> {
        let method = match self.operation {
            Operation::Connection => {
                let opened = self.opened.take().context("no connection is open")?;
                return Ok(opened.close_and_wait()?);
            }
            Operation::Channel => AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
                reply_code: 200,
                reply_text: "bye".into(),
                class_id: 0,
                method_id: 0,
            })),
            Operation::Queue => AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: short(&self.queue())?,
                if_unused: false,
                if_empty: false,
                nowait: false,
            })),
            Operation::Binding => AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
                queue: short(&self.name)?,
                exchange: "amq.direct".into(),
                routing_key: short(&self.queue())?,
                arguments: FieldTable::default(),
            })),
            Operation::Consumer => AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel {
                consumer_tag: "churn".into(),
                nowait: false,
            })),
        };
        self.call(method)
    }

    /// A name for each cycle, also as a routing key.
    fn queue(&self) -> String {
        format!("{}-{}", self.name, self.cycle)
    }

    fn call(&mut self, method: AMQPClass) -> Result<()> {
        let client = self.client.as_mut().context("no connection")?;
        client.call(1, method)?;
        Ok(())
    }
}

fn declare(name: &str, durable: bool, exclusive: bool) -> Result<AMQPClass> {
    Ok(AMQPClass::Queue(queue::AMQPMethod::Declare(
        queue::Declare {
            queue: short(name)?,
            passive: false,
            durable,
            exclusive,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::default(),
        },
    )))
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Channel => "channel",
            Self::Queue => "queue",
            Self::Binding => "binding",
            Self::Consumer => "consumer",
        }
    }
}

impl Churn<'_> {
    fn page(&self) -> Page {
        let rate = |measured: &Measured| {
            format!("{} {}/s", measured.operation.name(), grouped(measured.rate))
        };
        let rates: Vec<_> = self.operations.iter().map(rate).collect();
        let curves = |of: fn(&Latencies) -> &Histogram<u64>| {
            let curve = |measured: &Measured| {
                let name = measured.operation.name().to_owned();
                (name, of(&measured.latencies).clone())
            };
            self.operations.iter().map(curve).collect::<Vec<_>>()
        };
        let kinds = [
            ("Latency of opening", curves(|latencies| &latencies.open)),
            ("Latency of closing", curves(|latencies| &latencies.close)),
        ];
        plot::churn("Churn", rates.join("  ·  "), &kinds)
    }

    fn print(&self) -> Result<()> {
        let head = [
            "",
            "per second",
            "open: median",
            "99th",
            "max µs",
            "close: median",
            "99th",
            "max µs",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for measured in &self.operations {
            let mut row = vec![measured.operation.name().to_owned(), grouped(measured.rate)];
            for latency in [&measured.open_latency_us, &measured.close_latency_us] {
                row.extend(
                    latency.iter().flat_map(|latency| {
                        [latency.p50, latency.p99, latency.max].map(microseconds)
                    }),
                );
            }
            rows.push(row);
        }
        say(table(&rows).trim_end())
    }
}
