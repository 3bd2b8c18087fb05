//! The command `leveret`: reads what the operator decided, and serves.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::process::{self, ExitCode};

use leveret::config::{self, Action, CommandLine, Flags, LogLevel};
use leveret::runtime::{self, StandardError};
use mimalloc::MiMalloc;
use tracing::level_filters::LevelFilter;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    end_with_any_thread();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There may be nobody to hear it, or no room where it goes; `eprintln` would panic then.
            let _ = writeln!(io::stderr(), "leveret: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A core that has panicked takes its queues and its answers with it, and the others would wait for
/// them.
fn end_with_any_thread() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        process::abort();
    }));
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (action, flags) = match Flags::parse_line(env::args_os())? {
        CommandLine::Run(action, flags) => (action, flags),
        CommandLine::Print(text) => return Ok(io::stdout().write_all(text.as_bytes())?),
    };
    let options = config::load(flags, |name| env::var(name).ok())?;
    tracing_subscriber::fmt()
        .with_max_level(level(options.log_level))
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(|| StandardError)
        // It would tell of a line that can't be written on standard error, too, and panic if that fails: a log
        // on a full disk, or whose reader is gone, must not end the broker.
        .log_internal_errors(false)
        .init();
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    match action {
        Action::Serve => Ok(runtime::serve(options)?),
        Action::Definitions(what) => Ok(runtime::definitions(&what, &options)?),
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::None => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}
