//! `leveret-loadgen`: loads an AMQP 0-9-1 broker and says what it bore.
//!
//! It must never be the bottleneck itself: a broker's core moves millions of messages per second,
//! and one thread here has to publish and to consume that many. So publishes are stamped copies
//! of a template, deliveries are hopped over rather than decoded, and each system call moves as
//! much as it can. The map of the house, top down:
//!
//! ```text
//! options     the command line, PerfTest's letters        uri       amqp://..., amqps://...
//! scenario    a run from beginning to end                 topology  exchange and queues of a run
//!   load: throughput, fanout, queues                      report    live lines, summary, JSON, CSV, HDR log
//!   latency, ladder, backlog, churn, connections          plot      SVG and HTML
//! worker      a thread: an epoll loop                     run       what the threads share
//! connection  one socket's turn: a read, a write          stats     counters and histograms
//! producer    allowances and stamps                       schedule  open-loop due times
//! consumer    acks and latencies                          confirms  unconfirmed publishes
//! handler     what a consumer takes for each (-L)         polling   basic.get instead of consumers
//! output      bytes still to write                        client    blocking handshake and calls
//! stream      a socket, plain or under TLS                clock, limits, routing_key
//! wire        templates and the scanner                   comparison  suites of scenarios, two brokers compared
//! ```

mod client;
mod clock;
mod comparison;
mod confirms;
mod connection;
mod consumer;
mod handler;
mod limits;
mod options;
mod output;
mod plot;
mod polling;
mod producer;
mod report;
mod routing_key;
mod run;
mod scenario;
mod schedule;
mod stats;
mod stream;
mod topology;
mod uri;
mod wire;
mod worker;

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::comparison::Comparison;
use crate::options::Options;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if Comparison::is_asked_for() {
        return Comparison::main();
    }
    let options = match Options::parse_line(std::env::args_os()) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            let asked_for = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return if asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
    };
    let ran = options.into_command().and_then(|command| {
        run::catch_signals()?;
        limits::raise_open_files();
        scenario::run(&command)
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leveret-loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
