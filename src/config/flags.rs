//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use super::options::Cores;
use super::{ConfigError, value};

/// What the command line says.
#[derive(Clone, Default, Debug, Parser)]
#[command(
    name = "leveret",
    version,
    about = "AMQP 0-9-1 message broker: thread-per-core on io_uring"
)]
pub struct Flags {
    #[allow(rustdoc::broken_intra_doc_links, reason = "an address, and no link")]
    /// Where to listen; may be given several times [default: [::]:5672, both IP versions]
    #[arg(long, value_name = "ADDR:PORT", value_parser = value::address)]
    pub(super) listen: Vec<SocketAddr>,
    /// Where messages and definitions are kept [default: ./leveret-data]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) data_dir: Option<PathBuf>,
    /// How many cores to use, or which CPUs: 4, or 0,2 or 0-3 [default: all]
    #[arg(long, value_name = "N|LIST", value_parser = value::cores)]
    pub(super) cores: Option<Cores>,
    /// A configuration file in the format of rabbitmq.conf
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Users, permissions, policies, queues, exchanges and bindings as RabbitMQ's definitions.json
    #[command(subcommand)]
    Definitions(Definitions),
}

/// What is to be done with the definitions of a data directory.
#[derive(Clone, PartialEq, Eq, Debug, Subcommand)]
pub enum Definitions {
    /// Take a file over into the data directory of a broker that doesn't run
    Import {
        /// As `rabbitmqctl export_definitions` or this program's export writes it
        file: PathBuf,
    },
    /// Write what the data directory of a broker that doesn't run holds
    Export {
        /// Where to [default: standard output]
        file: Option<PathBuf>,
    },
}

/// What a command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Be the broker.
    Serve,
    /// Carry definitions into a data directory, or out of it.
    Definitions(Definitions),
}

/// What to do about a command line.
#[derive(Debug)]
pub enum CommandLine {
    /// Do that, with these flags.
    Run(Action, Flags),
    /// Print this and end.
    Print(String),
}

impl Flags {
    /// Parses a command line, the program's name first.
    pub fn parse_line(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<CommandLine, ConfigError> {
        match Self::try_parse_from(arguments) {
            Ok(mut flags) => {
                let action = match flags.command.take() {
                    None => Action::Serve,
                    Some(Command::Definitions(what)) => Action::Definitions(what),
                };
                Ok(CommandLine::Run(action, flags))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                ) =>
            {
                Ok(CommandLine::Print(error.to_string()))
            }
            Err(error) => Err(ConfigError(one_line(&error.to_string()))),
        }
    }
}

/// clap explains itself at length; the first line is what matters.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    format!("{line}: see leveret --help")
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, ConfigError> {
        Flags::parse_line(line.split(' ').map(OsString::from))
    }

    fn error(line: &str) -> String {
        parse(line).expect_err("a mistake").to_string()
    }

    #[test]
    fn every_flag_is_read() {
        let line =
            "leveret --listen 127.0.0.1:1 --listen [::1]:2 --data-dir d --cores 0-1 --config f";
        let Ok(CommandLine::Run(Action::Serve, flags)) = parse(line) else {
            panic!("it is correct")
        };
        let listen: Vec<String> = flags.listen.iter().map(SocketAddr::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(flags.data_dir, Some(PathBuf::from("d")));
        assert_eq!(flags.cores, Some(Cores::Cpus(vec![0, 1])));
        assert_eq!(flags.config, Some(PathBuf::from("f")));
    }

    #[test]
    fn definitions_are_imported_and_exported() {
        let action = |line| match parse(line) {
            Ok(CommandLine::Run(Action::Definitions(what), flags)) => (what, flags.data_dir),
            other => panic!("{other:?}"),
        };
        let (file, dir) = (PathBuf::from("f"), || Some(PathBuf::from("d")));
        assert_eq!(
            action("leveret definitions import f --data-dir d"),
            (Definitions::Import { file: file.clone() }, dir())
        );
        assert_eq!(
            action("leveret --data-dir d definitions export f"),
            (Definitions::Export { file: Some(file) }, dir())
        );
        let export = action("leveret definitions export");
        assert_eq!(export, (Definitions::Export { file: None }, None));
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        assert_eq!(
            error("leveret --lisen x"),
            "unexpected argument '--lisen' found: see leveret --help"
        );
        assert_eq!(
            error("leveret --cores none"),
            "invalid value 'none' for '--cores <N|LIST>': expected a count such as 4 or a list of CPUs such as 0,2 \
             or 0-3: see leveret --help"
        );
        assert_eq!(
            error("leveret --listen here"),
            "invalid value 'here' for '--listen <ADDR:PORT>': expected an address and a port such as 127.0.0.1:5672 \
             or [::]:5672: see leveret --help"
        );
        assert_eq!(
            error("leveret file"),
            "unrecognized subcommand 'file': see leveret --help"
        );
    }

    #[test]
    fn help_and_version_are_printed() {
        for flag in ["--help", "--version"] {
            let printed = parse(&format!("leveret {flag}"));
            assert!(
                matches!(printed, Ok(CommandLine::Print(text)) if text.contains("leveret") || text.contains("--listen"))
            );
        }
    }
}
