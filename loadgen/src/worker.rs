//! A worker thread: an epoll loop over its share of the connections.
//!
//! With --busy-poll, and so in the latency scenario, it never sleeps (epoll with a zero timeout), so that
//! its own wake-ups are not in the figures; otherwise it sleeps until something is due or ready. Epoll counts its
//! sleeps in milliseconds, which the batches of a publisher bear, but not a consumer that takes 100 µs
//! for a message: where there are such, a timer ends the sleep.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock::{now_ns, thread_cpu_ns, timespec};
use crate::connection::Connection;
use crate::run::Run;
use crate::stats::{Tally, WorkerStats};

/// One read's most. Large, because each read costs a system call whatever it brings; at least
/// two of the largest frames we agree to, so that a carried rest always leaves room.
const LANDING_BYTES: usize = 256 << 10;
/// The longest sleep: so soon a stop is seen.
const SLEEP_MAX_NS: u64 = 20_000_000;
/// What epoll calls the timer; connections have their index.
const TIMER: Token = Token(usize::MAX);
/// How long servers may take to answer connection.close.
const CLOSE_TIMEOUT_NS: u64 = 5_000_000_000;

/// One thread's connections.
#[derive(Debug)]
pub(crate) struct Worker {
    poll: Poll,
    connections: Vec<Connection>,
    landing: Vec<u8>,
    busy_poll: bool,
    /// Where due times matter to less than a millisecond.
    timer: Option<OwnedFd>,
    run: Arc<Run>,
    stats: Arc<WorkerStats>,
}

impl Worker {
    pub(crate) fn new(
        mut connections: Vec<Connection>,
        busy_poll: bool,
        run: Arc<Run>,
        stats: Arc<WorkerStats>,
    ) -> Result<Self> {
        let poll = Poll::new().context("epoll")?;
        for (index, connection) in connections.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(connection.stream.socket_mut(), Token(index), interest)
                .context("epoll")?;
        }
        let punctual = !busy_poll && connections.iter().any(Connection::is_punctual);
        let timer = punctual.then(|| timer(&poll)).transpose()?;
        Ok(Self {
            poll,
            connections,
            landing: vec![0; LANDING_BYTES],
            busy_poll,
            timer,
            run,
            stats,
        })
    }

    /// Works until the run is stopped, then closes the connections. Failures stop the run.
    pub(crate) fn work(mut self) {
        let worked = self.until_stopped();
        self.stats.set_cpu_ns(thread_cpu_ns());
        if let Err(error) = worked.and_then(|()| self.close_all()) {
            self.run.fail(error);
        }
    }

    fn until_stopped(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut tally = Tally::default();
        let mut next_turn_ns = 0;
        while !self.run.is_stopped() {
            self.turn(&mut events, next_turn_ns, &mut tally)?;
            let now_ns = now_ns();
            next_turn_ns = match self.busy_poll {
                true => 0,
                false => self.next_turn_ns(now_ns),
            };
        }
        Ok(())
    }

    fn close_all(&mut self) -> Result<()> {
        self.connections.iter_mut().for_each(Connection::close);
        let mut events = Events::with_capacity(1024);
        let mut uncounted = Tally::default();
        let deadline_ns = now_ns() + CLOSE_TIMEOUT_NS;
        while now_ns() < deadline_ns && !self.connections.iter().all(Connection::is_closed) {
            let next_turn_ns = self.next_turn_ns(now_ns());
            self.turn(&mut events, next_turn_ns, &mut uncounted)?;
        }
        Ok(())
    }

    fn turn(&mut self, events: &mut Events, next_turn_ns: u64, tally: &mut Tally) -> Result<()> {
        let sleep_ns = match next_turn_ns {
            0 => 0,
            due_ns => due_ns.saturating_sub(now_ns()).min(SLEEP_MAX_NS),
        };
        if let (Some(timer), 1..SLEEP_MAX_NS) = (&self.timer, sleep_ns) {
            let due = Itimerspec {
                it_interval: Timespec::default(),
                it_value: timespec(next_turn_ns),
            };
            timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &due).context("timerfd")?;
        }
        match self.poll.poll(events, Some(Duration::from_nanos(sleep_ns))) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(error).context("epoll");
            }
            _ => {}
        }
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let readable = event.is_readable() || event.is_error() || event.is_read_closed();
            self.connections[event.token().0].ready(readable, event.is_writable());
        }
        let now_ns = now_ns();
        for connection in &mut self.connections {
            // Of thousands of connections, few have something to do in any one turn.
            if connection.next_turn_ns(now_ns) > now_ns {
                continue;
            }
            connection.turn(&mut self.landing, &self.run, tally)?;
            self.stats.add(tally, now_ns);
        }
        Ok(())
    }

    fn next_turn_ns(&self, now_ns: u64) -> u64 {
        self.connections
            .iter()
            .map(|connection| connection.next_turn_ns(now_ns))
            .min()
            .unwrap_or(u64::MAX)
    }
}

/// A timer whose expiry ends a sleep in epoll.
fn timer(poll: &Poll) -> Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK);
    let timer = timer.context("timerfd")?;
    let source = &mut SourceFd(&timer.as_raw_fd());
    let registered = poll.registry().register(source, TIMER, Interest::READABLE);
    registered.context("epoll")?;
    Ok(timer)
}
