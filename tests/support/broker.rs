//! The broker under test: our binary, or with `LEVERET_PEER=host:port` a running reference such as RabbitMQ.
//!
//! The reference needs the virtual host `orders` and the user alice/secret with all permissions on `/` and `orders`.
//! Tests that want a process of their own (signals, settings, start-up errors) have nothing to do there and say so.

use super::client::Connection;
use super::home::Home;
use super::login::Login;
use super::process::Process;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// What every broker of the tests is configured with.
const CONFIGURATION: &str = "\
vhosts.1 = orders
default_users.alice.password = secret
default_users.alice.vhost_pattern = .*
default_users.alice.configure = .*
default_users.alice.read = .*
default_users.alice.write = .*
";

const PEER: &str = "LEVERET_PEER";

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    process: Option<Process>,
    /// Removed with the broker; none if it outlives the broker, or is somebody else's.
    _home: Option<Home>,
}

impl Broker {
    /// The broker that all tests of this process share for this number of cores.
    pub(crate) fn shared(cores: usize) -> Lent {
        static SHARED: [OnceLock<Broker>; 5] = [const { OnceLock::new() }; 5];
        Lent(SHARED[cores].get_or_init(|| Self::peer().unwrap_or_else(|| Self::start(cores, ""))))
    }

    /// A broker of one's own, to be stopped or configured at will; none when a reference is tested.
    pub(crate) fn alone(cores: usize, configuration: &str) -> Option<Self> {
        std::env::var_os(PEER)
            .is_none()
            .then(|| Self::start(cores, configuration))
    }

    /// True when the tests run against another product.
    pub(crate) fn is_reference(&self) -> bool {
        self.process.is_none()
    }

    pub(crate) fn process(&self) -> &Process {
        self.process
            .as_ref()
            .expect("only a broker that was started here has a process")
    }

    /// A name that no other test and no other run uses.
    pub(crate) fn name(&self, stem: &str) -> String {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        format!("{stem}-{}-{number}", std::process::id())
    }

    /// Logs in as guest.
    pub(crate) fn connect(&self) -> Connection {
        Login::default().connect(self.address)
    }

    pub(crate) fn login(&self, login: &Login) -> Connection {
        login.connect(self.address)
    }

    /// Enough connections that, with several cores, some land on different ones: the kernel picks the listener by a
    /// hash of the ports.
    pub(crate) fn connections_spread<const N: usize>(&self) -> [Connection; N] {
        std::array::from_fn(|_| self.connect())
    }

    fn peer() -> Option<Self> {
        let peer = std::env::var(PEER).ok()?;
        let address = peer
            .to_socket_addrs()
            .expect("LEVERET_PEER is host:port")
            .next();
        let address = address.expect("LEVERET_PEER resolves to an address");
        Some(Self {
            address,
            process: None,
            _home: None,
        })
    }

    fn start(cores: usize, configuration: &str) -> Self {
        let home = Home::new(configuration);
        let broker = home.start(cores);
        Self {
            _home: Some(home),
            ..broker
        }
    }

    /// A process that was just started, once it serves, or what it said instead.
    pub(crate) fn once_ready(process: Process) -> Result<Self, String> {
        let line = process.try_line_with("started TCP listener on ")?;
        let address = line
            .split("started TCP listener on ")
            .nth(1)
            .map(str::trim)
            .and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| format!("no address in `{line}`"))?;
        process.try_line_with("Server startup complete")?;
        Ok(Self {
            address,
            process: Some(process),
            _home: None,
        })
    }

    /// Ends it in order, as its operator does.
    pub(crate) fn stop(self) {
        let process = self.process();
        process.signal("TERM");
        assert!(process.wait().success(), "{}", process.tail());
    }

    /// Ends it at once: it doesn't get to write another byte.
    pub(crate) fn kill(self) {
        let process = self.process();
        process.signal("KILL");
        let status = process.wait();
        assert_eq!(status.signal(), Some(9), "{status}: {}", process.tail());
    }
}

/// A shared broker on loan to a test: shows what the process said last if the test fails.
pub(crate) struct Lent(&'static Broker);

impl Deref for Lent {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(process) = &self.0.process
            && std::thread::panicking()
        {
            eprintln!("{}", process.tail());
        }
    }
}

/// The binary that Cargo built for this test, or the one named in `LEVERET_BINARY`.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("LEVERET_BINARY").map(PathBuf::from);
    let built = option_env!("CARGO_BIN_EXE_leveret").map(PathBuf::from);
    named
        .or(built)
        .expect("Cargo builds the binary `leveret` for its integration tests")
}

/// The command line of a broker.
pub(crate) fn arguments(
    listen: &str,
    cores: usize,
    data: &Path,
    configuration: &Path,
) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let cores = cores.to_string();
    let flags = [
        "--listen",
        listen,
        "--cores",
        &cores,
        "--data-dir",
        &path(data),
        "--config",
        &path(configuration),
    ];
    flags.map(str::to_owned).to_vec()
}

/// Writes the tests' configuration and what this one adds to it.
pub(crate) fn configuration_file(directory: &Path, more: &str) -> PathBuf {
    let file = directory.join("leveret.conf");
    fs::write(&file, format!("{CONFIGURATION}{more}")).expect("the scratch directory is writable");
    file
}

/// A directory inside `target`. Shared brokers live in statics, which are never dropped: the directories that a
/// process left behind are removed by the next.
pub(crate) fn scratch_directory() -> TempDir {
    static SWEPT: OnceLock<PathBuf> = OnceLock::new();
    let place = SWEPT.get_or_init(|| {
        let place = PathBuf::from(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("/tmp"));
        sweep(&place);
        place
    });
    let prefix = format!("broker-{}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(place)
        .expect("target is writable")
}

fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix("broker-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another process may sweep at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
