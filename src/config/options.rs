//! The outcome: everything that starting the broker needs to know.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::flags::Flags;
use super::{ConfigError, file, value};
use crate::base::{Settings, limits};

const PORT: u16 = 5672;
const DATA_DIR: &str = "leveret-data";
/// Connections that the kernel holds for a listener until they are accepted.
const BACKLOG: u32 = 1024;

/// Everything that starting the broker needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Addresses, all distinct. `[::]` means both IP versions.
    pub listen: Vec<SocketAddr>,
    /// Where messages and definitions are kept.
    pub data_dir: PathBuf,
    /// Files with definitions in RabbitMQ's format, to be taken over at the start.
    pub load_definitions: Vec<PathBuf>,
    /// Where to run.
    pub cores: Cores,
    /// What the pure rooms need to know.
    pub settings: Settings,
    /// Connections that the kernel holds for a listener until they are accepted.
    pub backlog: u32,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// Memory of the process above which publishers are blocked.
    pub memory_limit: Amount,
    /// Free space on the data directory's disk below which publishers are blocked.
    pub disk_limit: Amount,
    /// What is written to stderr.
    pub log_level: LogLevel,
    /// What the operator should know but needn't mend.
    pub warnings: Vec<String>,
}

/// Where to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// On every CPU that the process may use.
    All,
    /// So many cores, on CPUs that the process may use, shared if there are fewer.
    Count(u16),
    /// On the CPUs of these numbers.
    Cpus(Vec<usize>),
}

/// How much memory or disk.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Amount {
    /// In bytes.
    Bytes(u64),
    /// A fraction of the RAM that the process may use, or a multiple of it.
    OfRam(f64),
}

impl Amount {
    /// In bytes, on a machine with so many bytes of RAM.
    pub fn to_bytes(self, ram: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::OfRam(fraction) => (ram as f64 * fraction) as u64,
        }
    }
}

/// What is written to stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Nothing.
    None,
    /// What went wrong on our side.
    Error,
    /// And what may be a mistake.
    Warning,
    /// And what happens rarely.
    Info,
    /// And more.
    Debug,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts the four sources together.
pub(super) fn assemble(flags: Flags, environment: Environment<'_>) -> Result<Options, ConfigError> {
    let path = flags
        .config
        .clone()
        .or_else(|| environment_file(environment));
    let mut file = match path {
        Some(path) => file::read(&path)?,
        None => file::File::default(),
    };
    for (name, field) in [
        ("RABBITMQ_DEFAULT_USER", &mut file.users.default_user),
        ("RABBITMQ_DEFAULT_PASS", &mut file.users.default_pass),
        ("RABBITMQ_DEFAULT_VHOST", &mut file.users.default_vhost),
    ] {
        if let Some(value) = environment(name).filter(|value| !value.is_empty()) {
            *field = Some(value);
        }
    }
    let listen = listen(&flags, environment, &file)?;
    let load_definitions = std::mem::take(&mut file.load_definitions);
    let (backlog, nodelay, log_level) = (file.backlog, file.nodelay, file.log_level);
    let memory_limit = file
        .memory_limit
        .or(Amount::OfRam(limits::MEMORY_WATERMARK));
    let disk_limit = file
        .disk_limit
        .or(Amount::Bytes(limits::DISK_FREE_MIN_BYTES));
    let (settings, warnings) = file.settings()?;
    Ok(Options {
        listen,
        data_dir: flags.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR)),
        load_definitions,
        cores: flags.cores.unwrap_or(Cores::All),
        settings,
        backlog: backlog.unwrap_or(BACKLOG),
        nodelay: nodelay.unwrap_or(true),
        memory_limit,
        disk_limit,
        log_level: log_level.unwrap_or(LogLevel::Info),
        warnings,
    })
}

/// RabbitMQ's variable may leave the extension out.
fn environment_file(environment: Environment<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(environment("RABBITMQ_CONFIG_FILE").filter(|path| !path.is_empty())?);
    let mut extended = path.clone().into_os_string();
    extended.push(".conf");
    let extended = PathBuf::from(extended);
    Some(if !path.is_file() && extended.is_file() {
        extended
    } else {
        path
    })
}

fn listen(
    flags: &Flags,
    environment: Environment<'_>,
    file: &file::File,
) -> Result<Vec<SocketAddr>, ConfigError> {
    let chosen = if !flags.listen.is_empty() {
        flags.listen.clone()
    } else if let Some(address) = environment_address(environment)? {
        vec![address]
    } else if file.no_listeners && file.listeners.is_empty() {
        let what = "listeners.tcp = none leaves no address to listen on: TLS is not served yet";
        return Err(ConfigError(what.to_owned()));
    } else if file.listeners.is_empty() {
        vec![value::everywhere(PORT)]
    } else {
        file.listeners.values().copied().collect()
    };
    let mut distinct: Vec<SocketAddr> = vec![];
    for address in chosen {
        if address.port() == 0 || !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    Ok(distinct)
}

/// From RABBITMQ_NODE_IP_ADDRESS and RABBITMQ_NODE_PORT, if either is set.
fn environment_address(environment: Environment<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    let (ip, port) = (set("RABBITMQ_NODE_IP_ADDRESS"), set("RABBITMQ_NODE_PORT"));
    if ip.is_none() && port.is_none() {
        return Ok(None);
    }
    let mistake = |name: &str, expected: &str, value: &str| {
        ConfigError(format!(
            "environment: {name}: expected {expected}, not '{value}'"
        ))
    };
    let mut address = value::everywhere(PORT);
    if let Some(text) = ip {
        let ip: IpAddr = text
            .parse()
            .map_err(|_| mistake("RABBITMQ_NODE_IP_ADDRESS", "an IP address", &text))?;
        address.set_ip(ip);
    }
    if let Some(text) = port {
        let port = text
            .parse()
            .map_err(|_| mistake("RABBITMQ_NODE_PORT", "a port from 0 to 65535", &text))?;
        address.set_port(port);
    }
    Ok(Some(address))
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use super::super::flags::CommandLine;
    use super::*;

    /// Options from a command line, variables `NAME=value`, and a file.
    fn options(line: &str, variables: &[&str], file: &str) -> Result<Options, ConfigError> {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("leveret.conf");
        fs::write(&path, file).expect("the scratch directory is writable");
        let line = format!("leveret --config {} {line}", path.display());
        let parsed = Flags::parse_line(line.split_whitespace().map(OsString::from));
        let Ok(CommandLine::Run(_, flags)) = parsed else {
            panic!("{parsed:?}")
        };
        assemble(flags, &|name| {
            let value = variables
                .iter()
                .find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
            value.map(str::to_owned)
        })
    }

    fn listen(line: &str, variables: &[&str], file: &str) -> Vec<String> {
        let options = options(line, variables, file).expect("no mistake");
        options.listen.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let options = options("", &[], "").expect("no mistake");
        assert_eq!(listen("", &[], ""), ["[::]:5672"]);
        assert_eq!(options.data_dir, PathBuf::from("leveret-data"));
        assert_eq!(options.cores, Cores::All);
        assert_eq!(
            (options.backlog, options.nodelay, options.log_level),
            (1024, true, LogLevel::Info)
        );
        assert_eq!(options.memory_limit, Amount::OfRam(0.6));
        assert_eq!(options.disk_limit, Amount::Bytes(50_000_000));
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file() {
        let file = "listeners.tcp.default = 3\n";
        let variables = ["RABBITMQ_NODE_PORT=2"];
        assert_eq!(listen("--listen [::]:1", &variables, file), ["[::]:1"]);
        assert_eq!(listen("", &variables, file), ["[::]:2"]);
        assert_eq!(listen("", &[], file), ["[::]:3"]);
        assert_eq!(
            listen("", &["RABBITMQ_NODE_IP_ADDRESS=127.0.0.1"], file),
            ["127.0.0.1:5672"]
        );
    }

    #[test]
    fn an_address_is_listened_on_once_but_port_0_as_often_as_it_is_given() {
        assert_eq!(
            listen("--listen [::]:1 --listen [::]:1", &[], ""),
            ["[::]:1"]
        );
        assert_eq!(
            listen("--listen [::]:0 --listen [::]:0", &[], ""),
            ["[::]:0", "[::]:0"]
        );
    }

    #[test]
    fn the_environment_names_the_default_user() {
        let variables = [
            "RABBITMQ_DEFAULT_USER=u",
            "RABBITMQ_DEFAULT_PASS=p",
            "RABBITMQ_DEFAULT_VHOST=v",
        ];
        let options = options("", &variables, "default_user = x\n").expect("no mistake");
        let user = &options.settings.users[0];
        assert_eq!(user.name.as_str(), "u");
        assert!(user.password.matches(b"p"));
        assert!(user.vhosts.matches(b"v") && !user.vhosts.matches(b"/"));
    }

    #[test]
    fn a_mistake_in_the_environment_is_named() {
        let error = |variable| {
            options("", &[variable], "")
                .expect_err("a mistake")
                .to_string()
        };
        assert_eq!(
            error("RABBITMQ_NODE_PORT=x"),
            "environment: RABBITMQ_NODE_PORT: expected a port from 0 to 65535, not 'x'"
        );
        assert_eq!(
            error("RABBITMQ_NODE_IP_ADDRESS=host"),
            "environment: RABBITMQ_NODE_IP_ADDRESS: expected an IP address, not 'host'"
        );
    }

    #[test]
    fn nothing_to_listen_on_is_a_mistake() {
        let error = options("", &[], "listeners.tcp = none\n")
            .expect_err("a mistake")
            .to_string();
        assert_eq!(
            error,
            "listeners.tcp = none leaves no address to listen on: TLS is not served yet"
        );
        assert_eq!(
            listen("--listen [::]:1", &[], "listeners.tcp = none\n"),
            ["[::]:1"]
        );
    }
}
