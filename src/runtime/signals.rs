//! SIGTERM and SIGINT stop the broker in order, a second one at once. And what systemd wants to be
//! told about it.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::mesh::Beds;

/// Starts the thread that waits for signals. SIGPIPE needs no one: Rust ignores it from the start.
pub(crate) fn listen(beds: Arc<Beds>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        let mut told = false;
        for signal in signals.forever() {
            if std::mem::replace(&mut told, true) {
                process::exit(128 + signal);
            }
            tracing::info!("stopping");
            notify("STOPPING=1");
            beds.stop();
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
}

/// Tells systemd, or whoever named a socket in NOTIFY_SOCKET (sd_notify(3)).
pub(crate) fn notify(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        name => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!("cannot notify NOTIFY_SOCKET: {error}");
    }
}
