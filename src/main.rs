//! The command `leveret`: reads what the operator decided, and serves.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use leveret::config::{self, CommandLine, Flags, LogLevel};
use leveret::runtime;
use mimalloc::MiMalloc;
use tracing::level_filters::LevelFilter;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leveret: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let flags = match Flags::parse_line(env::args_os())? {
        CommandLine::Serve(flags) => flags,
        CommandLine::Print(text) => return Ok(io::stdout().write_all(text.as_bytes())?),
    };
    let options = config::load(flags, |name| env::var(name).ok())?;
    tracing_subscriber::fmt()
        .with_max_level(level(options.log_level))
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    Ok(runtime::serve(options)?)
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
