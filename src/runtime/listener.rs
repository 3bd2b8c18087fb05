//! Where clients arrive: each core listens on every address by itself (SO_REUSEPORT), so the kernel
//! spreads the connections and no core hands one on.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use glommio::Task;
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, getrlimit};

use super::StartError;
use crate::config::Options;

/// How long a core accepts nothing after an error that isn't a client's fault (no descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that a core accepts before it lets the reactor and its other tasks run, for so long.
const ACCEPTS_AT_ONCE: usize = 64;
const BREATH: Duration = Duration::from_micros(100);
/// Descriptors that clients don't get, as a part of all: without one for the next file of a log the broker
/// would end.
const KEPT_PART: u64 = 4;
/// The most of them: as many as the disks of all cores keep open.
const KEPT_MAX: u64 = 2048;
/// How long a port may stay taken by a process that is gone: the kernel closes the sockets that its
/// io_uring still waited on a moment after its end (up to some 100 ms seen).
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(1);
const LEFTOVER_RECHECK: Duration = Duration::from_millis(10);

/// Listening sockets that are open but not yet served.
pub(crate) struct Bound {
    /// The addresses, with their true ports.
    pub(crate) addresses: Vec<SocketAddr>,
    /// For each core one socket per address.
    pub(crate) per_core: Vec<Vec<OwnedFd>>,
}

/// Opens every listening socket of every core.
pub(crate) fn bind(options: &Options, cores: u16) -> Result<Bound, StartError> {
    let mut bound = Bound {
        addresses: vec![],
        per_core: (0..cores).map(|_| vec![]).collect(),
    };
    let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
    let listen: Vec<SocketAddr> = options
        .listen
        .iter()
        .map(|wanted| probe(*wanted))
        .collect::<Result<_, _>>()?;
    for wanted in listen {
        // Port 0 is whatever the first core gets.
        let mut address = wanted;
        for sockets in &mut bound.per_core {
            let socket = open(address, true).map_err(|errno| refused(wanted, errno))?;
            rustix::net::listen(&socket, backlog).map_err(|errno| refused(wanted, errno))?;
            address = local_address(&socket).map_err(|errno| refused(wanted, errno))?;
            sockets.push(socket);
        }
        bound.addresses.push(address);
    }
    Ok(bound)
}

/// Whether the address is free. SO_REUSEPORT would let a second broker share the port in silence, and
/// take half of the connections; this attempt without it does not. Where the machine has no IPv6, `[::]`
/// becomes `0.0.0.0`.
fn probe(wanted: SocketAddr) -> Result<SocketAddr, StartError> {
    let begun = Instant::now();
    let mut free = open(wanted, false);
    while matches!(free, Err(Errno::ADDRINUSE)) && begun.elapsed() < LEFTOVER_TIMEOUT {
        thread::sleep(LEFTOVER_RECHECK);
        free = open(wanted, false);
    }
    match free {
        Ok(_) => Ok(wanted),
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
            if wanted.is_ipv6() && wanted.ip().is_unspecified() =>
        {
            probe(SocketAddr::from((Ipv4Addr::UNSPECIFIED, wanted.port())))
        }
        Err(errno) => Err(refused(wanted, errno)),
    }
}

fn open(address: SocketAddr, share: bool) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A restart doesn't wait for the connections of the last run to leave TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if share {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

fn local_address(socket: &OwnedFd) -> rustix::io::Result<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket)?)
}

fn refused(address: SocketAddr, errno: Errno) -> StartError {
    let ip = if address.is_ipv6() {
        format!("[{}]", address.ip())
    } else {
        address.ip().to_string()
    };
    match errno {
        Errno::ADDRINUSE => StartError::PortInUse {
            ip,
            port: address.port(),
        },
        _ => StartError::Listen {
            ip,
            port: address.port(),
            source: errno.into(),
        },
    }
}

/// A connection that a session must be made for.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    /// Whether the client is on this machine.
    pub(crate) loopback: bool,
}

/// One core's listeners, each with a task that accepts.
pub(crate) struct Listeners {
    accepted: Rc<RefCell<VecDeque<Accepted>>>,
    tasks: Vec<Task<()>>,
    /// The tasks' sockets.
    sockets: Vec<RawFd>,
}

impl Listeners {
    /// Starts to accept. `main_task` is woken for each connection.
    pub(crate) fn start(sockets: Vec<OwnedFd>, nodelay: bool, main_task: &Waker) -> Self {
        let accepted = Rc::new(RefCell::new(VecDeque::new()));
        let clients_end = clients_end(getrlimit(Resource::Nofile).current);
        let numbers = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let tasks = sockets
            .into_iter()
            .map(|socket| {
                // SAFETY: the descriptor is a listening socket, and `into_raw_fd` gives up its owner.
                let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
                let accepted = Rc::clone(&accepted);
                glommio::spawn_local(accept_for_ever(
                    listener,
                    nodelay,
                    clients_end,
                    accepted,
                    main_task.clone(),
                ))
            })
            .collect();
        Self {
            accepted,
            tasks,
            sockets: numbers,
        }
    }

    /// The oldest connection not yet taken.
    pub(crate) fn next_accepted(&self) -> Option<Accepted> {
        self.accepted.borrow_mut().pop_front()
    }

    /// Accepts no more. Dropping a task of glommio's cancels it, and with it goes its socket; but the
    /// ring holds the socket until the process is gone and longer. So it is shut down first, which frees
    /// the port at once: a broker that is started next finds it.
    pub(crate) fn close(&mut self) {
        for socket in self.sockets.drain(..) {
            // SAFETY: the descriptor belongs to one of the tasks, which are dropped below.
            let socket = unsafe { BorrowedFd::borrow_raw(socket) };
            // It can't fail for a listening socket; if it did, the end of the process would do.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
        self.tasks.clear();
        self.accepted.borrow_mut().clear();
    }
}

async fn accept_for_ever(
    listener: TcpListener,
    nodelay: bool,
    clients_end: RawFd,
    accepted: Rc<RefCell<VecDeque<Accepted>>>,
    main_task: Waker,
) {
    let mut warned = false;
    let mut at_once = 0;
    loop {
        match listener.accept().await {
            // The kernel gives away the lowest number that is free.
            Ok(stream) if stream.as_raw_fd() >= clients_end => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        "connections are refused: {clients_end} descriptors are in use, and the others are for \
                         the logs; raise the limit on open files (ulimit -n)"
                    );
                }
                at_once += 1;
            }
            Ok(stream) => {
                // It fails if the client has gone already.
                if let Ok(loopback) = prepare(&stream, nodelay) {
                    accepted
                        .borrow_mut()
                        .push_back(Accepted { stream, loopback });
                    main_task.wake_by_ref();
                }
                at_once += 1;
            }
            Err(error) => {
                let error = io::Error::from(error);
                if is_the_clients(&error) {
                    continue;
                }
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        "cannot accept connections: {error}; trying again every {ACCEPT_PAUSE:?}"
                    );
                }
                Timer::new(ACCEPT_PAUSE).await;
            }
        }
        if at_once == ACCEPTS_AT_ONCE {
            at_once = 0;
            Timer::new(BREATH).await;
        }
    }
}

/// The first descriptor that no client gets, if there may be so many.
fn clients_end(limit: Option<u64>) -> RawFd {
    let limit = limit.unwrap_or(u64::MAX);
    let kept = (limit / KEPT_PART).min(KEPT_MAX);
    RawFd::try_from(limit - kept).unwrap_or(RawFd::MAX)
}

/// Sets the socket up; whether the client is on this machine.
fn prepare(stream: &TcpStream, nodelay: bool) -> Result<bool, glommio::GlommioError<()>> {
    stream.set_nodelay(nodelay)?;
    Ok(stream.peer_addr()?.ip().to_canonical().is_loopback())
}

/// Whether the error concerns one connection that is gone already.
fn is_the_clients(error: &io::Error) -> bool {
    const NONE_LEFT: [Errno; 5] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::INVAL,
    ];
    !NONE_LEFT
        .iter()
        .any(|errno| Some(errno.raw_os_error()) == error.raw_os_error())
}
