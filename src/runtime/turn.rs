//! The turn: what one core does over and over, and how it rests.
//!
//! ```text
//! finished I/O ─► drain the rings ─► accept ─► read ready sockets ─► due timers    inputs, each bounded
//! settle                                                              the core's own mail
//! one batch per peer ring ─► flush each dirty socket once ─► commits  outputs
//! ```
//!
//! Batching comes from running at one's own pace: take all that is there, do it, flush once. Turns
//! follow each other while there is work, with a pass of glommio's reactor every [`STRETCH`]. When the
//! work runs out the core first looks on for a while ([`Patience`]), since a park and a wake cost more than
//! that, then arms its sockets and parks; at once while a commit is under way, since the kernel needs
//! the CPU to end it.

mod ending;
mod logins;
mod travel;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use glommio::net::TcpStream;

use super::blocked::Blocked;
use super::checker::Checker;
use super::clock::Clock;
use super::disk::Disk;
use super::listener::Listeners;
use super::mesh::Links;
use super::nap::Nap;
use super::patience::{self, Patience};
use super::ready::{ReadyList, Token};
use super::socket::{Attempt, Sockets};
use ending::Stopping;

use crate::base::{Alarms, Time, limits};
use crate::broker::{Core, SessionIndex, SocketFate};

/// How long turns follow each other before glommio's reactor passes. A pass costs some microseconds of
/// system calls; whatever only the reactor sees (armed sockets, new connections) waits as long.
const STRETCH: Duration = Duration::from_micros(200);
/// The same while a commit is under way: the reactor alone sees that it is done.
const STRETCH_OF_COMMIT: Duration = Duration::from_micros(50);
/// A socket without bytes for so long is left to the ring even by a busy core, which looks there only
/// once in a [`STRETCH`]: the client was not waiting for us.
const QUIET: Duration = Duration::from_millis(1);
/// Sockets without bytes that a core reads directly all the same: each costs a system call a turn.
const POLLED_QUIET_MAX: usize = 8;
/// How soon what can't be waited for is looked at again: a read budget of 0, a ring that was full.
const RECHECK: Duration = Duration::from_millis(1);
/// Batches taken from one peer in a turn.
const BATCHES_PER_TURN: usize = 16;
/// Bytes read from all sockets in a turn, if no single read brings more.
const BYTES_PER_TURN: usize = 2 * limits::LANDING_BYTES;
/// Bytes read in a round of all sockets that have some. Each gets its share: a thousand publishers that
/// are read a landing buffer each make more output at a time than consumers' sockets and caches take.
const BYTES_PER_ROUND: usize = 32 * limits::LANDING_BYTES;
/// Less than this at a time would only multiply system calls.
const PORTION_MIN: usize = 32 * 1024;
/// Reads from one socket in a turn: the rest of a large body, and what follows it.
const READS_PER_SOCKET: usize = 4;
/// Parts of an output handed to the kernel at once.
const SLICES: usize = 64;
/// System calls spent on one socket's output in a turn.
const SENDS_PER_SOCKET: usize = 8;

/// What is due between two stretches.
enum Pause {
    /// More work: let the reactor pass.
    Pass,
    /// No work: sleep until woken, or until then.
    Park(Option<Time>),
    /// Every connection is closed, and the broker stops.
    End,
}

/// One core: its share of the broker, and all that it is driven by.
pub(crate) struct Turn {
    core: Core,
    links: Links,
    sockets: Sockets,
    listeners: Listeners,
    disk: Disk,
    checker: Checker,
    clock: Clock,
    /// When the running turn began.
    now: Time,
    /// When a turn last found something to do.
    last_work: Time,
    patience: Patience,
    /// The core is about to park: every socket is to be armed.
    dozing: bool,
    /// One landing buffer for all sockets.
    landing: Box<[u8]>,
    /// Sockets that the turn reads directly, the next one first.
    polled: VecDeque<Token>,
    /// Sockets whose read budget was 0 when last asked, for a moment.
    paused: usize,
    /// Sockets whose read budget stays 0 until the alarms clear.
    blocked: Blocked,
    /// The alarms that the broker's core was told of.
    alarms: Alarms,
    /// Whether its log had no room on the disk when last asked.
    is_full: bool,
    /// Sockets that glommio reported; empty between turns.
    reported: Vec<Token>,
    /// Sockets to be flushed although nothing new is in their output.
    unflushed: Vec<SessionIndex>,
    stopping: Option<Stopping>,
}

impl Turn {
    /// A core that has done nothing yet. To be built by the main task of its executor.
    pub(crate) fn new(
        core: Core,
        links: Links,
        listeners: Listeners,
        disk: Disk,
        ready: Arc<ReadyList>,
        clock: Clock,
        spins: bool,
    ) -> Self {
        let now = clock.now();
        let checker = Checker::new(links.core(), links.share_beds());
        Self {
            core,
            checker,
            links,
            sockets: Sockets::new(ready),
            listeners,
            disk,
            clock,
            now,
            last_work: now,
            patience: Patience::new(spins),
            dozing: false,
            landing: vec![0; limits::LANDING_BYTES].into_boxed_slice(),
            polled: VecDeque::new(),
            paused: 0,
            blocked: Blocked::default(),
            alarms: Alarms::default(),
            is_full: false,
            reported: vec![],
            unflushed: vec![],
            stopping: None,
        }
    }

    /// Runs until the broker stops. `opened` is called when clients may come.
    pub(crate) async fn run(mut self, opened: impl FnOnce()) {
        let mut nap = Nap::new(self.links.take_bell());
        while !self.core.is_open() {
            self.disk.submit(&mut self.core, self.now);
            self.log();
            match self.disk.is_busy() {
                true => nap.one_pass().await,
                // The disk is full, and is tried again.
                false => nap.until_woken(Some(limits::DISK_RETRY)).await,
            }
            self.read_clocks();
            self.disk.collect(&mut self.core, self.now);
        }
        opened();
        loop {
            match self.stretch() {
                Pause::Pass => nap.one_pass().await,
                Pause::Park(until) => {
                    if self.fall_asleep() {
                        nap.until_woken(until.map(|until| until.since(self.now)))
                            .await;
                    }
                    self.links.wake_up();
                }
                Pause::End => return,
            }
            self.read_clocks();
        }
    }

    fn read_clocks(&mut self) {
        self.now = self.clock.now();
        self.core.set_wall_clock(self.now, Clock::unix_ms());
    }

    /// Turns until the reactor must pass or there is nothing to do.
    fn stretch(&mut self) -> Pause {
        let begun = self.now;
        loop {
            let awaited_disk = self.disk.is_urgent();
            let worked = self.turn();
            if self.is_over() {
                return Pause::End;
            }
            let looked_on = self.now.since(self.last_work);
            self.read_clocks();
            if worked || self.core.has_work() {
                // The disk's silence says nothing of the clients'.
                if awaited_disk {
                    self.patience.forget();
                } else {
                    self.patience.heard_after(looked_on);
                }
                self.last_work = self.now;
                self.dozing = false;
            } else if looked_on >= self.patience.span() || self.disk.is_urgent() {
                if self.dozing {
                    return Pause::Park(self.wake_time());
                }
                // One more turn, which arms every socket.
                self.dozing = true;
            } else {
                patience::look_away(&self.clock, self.now);
            }
            let committing = self.disk.is_urgent();
            let stretch = if committing {
                STRETCH_OF_COMMIT
            } else {
                STRETCH
            };
            if self.disk.wants_pass() || self.now.since(begun) >= stretch {
                if committing {
                    // The kernel ends it on this CPU, and would wait for the scheduler's tick: 4 ms
                    // instead of 0.2 (see `disk`).
                    thread::yield_now();
                }
                return Pause::Pass;
            }
        }
    }

    /// One turn; whether there was anything to do.
    fn turn(&mut self) -> bool {
        let mut worked = self.heed_stop();
        worked |= self.heed_alarms();
        worked |= self.disk.collect(&mut self.core, self.now);
        worked |= self.drain_rings();
        worked |= self.accept();
        worked |= self.check_passwords();
        worked |= self.take_in();
        worked |= self.look_at_blocked();
        worked |= self.read();
        worked |= self.expire();
        self.core.settle(self.now);
        worked |= self.send_mail();
        worked |= self.flush();
        // What was written gives credit back to the queues' cores: it must not wait for another turn.
        worked |= self.send_mail();
        worked |= self.see_off();
        worked |= self.disk.submit(&mut self.core, self.now);
        self.log();
        worked
    }

    /// Writes what the broker has to say to its operator.
    fn log(&mut self) {
        if !self.core.notices().is_empty() {
            for line in self.core.notices().take() {
                tracing::warn!("{line}");
            }
        }
    }

    /// Handles the mail that the other cores have sent.
    fn drain_rings(&mut self) -> bool {
        let mut worked = false;
        for peer in self.links.peers() {
            for _ in 0..BATCHES_PER_TURN {
                let Some(mut mail) = peer.receive() else {
                    break;
                };
                self.core.deliver_mail(self.now, peer.id(), &mut mail);
                peer.give_back(mail);
                worked = true;
            }
        }
        worked
    }

    /// Makes sessions of new connections.
    fn accept(&mut self) -> bool {
        let mut worked = false;
        while let Some(accepted) = self.listeners.next_accepted() {
            self.connect(accepted.stream, accepted.loopback);
            worked = true;
        }
        worked
    }

    fn connect(&mut self, stream: TcpStream, loopback: bool) {
        let session = self.core.connect(self.now, loopback);
        let token = self.sockets.insert(self.now, session, stream);
        self.polled.push_back(token);
    }

    /// Reads from the sockets that have bytes, round-robin.
    fn read(&mut self) -> bool {
        self.take_reports();
        self.paused = 0;
        let mut worked = false;
        let mut bytes = 0;
        for _ in 0..self.polled.len() {
            if bytes >= BYTES_PER_TURN {
                break;
            }
            let Some(token) = self.polled.pop_front() else {
                break;
            };
            let read = self.read_one(token);
            bytes += read;
            worked |= read > 0;
            if self
                .sockets
                .by_token(token)
                .is_some_and(|socket| socket.polled && !socket.blocked)
            {
                self.polled.push_back(token);
            }
        }
        worked
    }

    /// Sorts what glommio has reported: to be read, or to be flushed.
    fn take_reports(&mut self) {
        self.sockets.take_reported(&mut self.reported);
        for token in self.reported.drain(..) {
            let Some(socket) = self.sockets.by_token(token) else {
                continue;
            };
            if !socket.polled {
                socket.polled = true;
                self.polled.push_back(token);
            }
            // Perhaps it was readable only: then the next attempt to write arms it again.
            if socket.write_armed {
                socket.write_armed = false;
                self.unflushed.push(SessionIndex(token.index));
            }
        }
    }

    /// Reads one socket as far as its budget goes; how many bytes came. Closes it if it is over, arms
    /// it if it is quiet.
    fn read_one(&mut self, token: Token) -> usize {
        let session = SessionIndex(token.index);
        let budget = self.core.read_budget(session);
        if budget == 0 {
            self.pause(token);
            return 0;
        }
        let share = BYTES_PER_ROUND / (self.polled.len() + 1);
        let budget = budget.min(share.max(PORTION_MIN));
        let mut total = 0;
        for _ in 0..READS_PER_SOCKET {
            let Some(socket) = self.sockets.by_token(token) else {
                break;
            };
            let quiet = self.now.since(socket.last_bytes) >= QUIET;
            let arm = self.dozing || quiet || self.polled.len() >= POLLED_QUIET_MAX;
            let in_place = self.core.landing(session);
            let lands_in_place = in_place.is_some();
            let buffer = in_place.unwrap_or(&mut self.landing);
            let room = buffer.len().min(budget - total);
            let buffer = &mut buffer[..room];
            let mut attempt = socket.receive(buffer);
            if attempt == Attempt::WouldBlock && arm {
                attempt = socket.receive_or_arm(buffer);
            }
            match attempt {
                Attempt::Moved(count) => {
                    socket.last_bytes = self.now;
                    if lands_in_place {
                        self.core.received_in_place(self.now, session, count);
                    } else {
                        self.core.receive(self.now, session, &self.landing[..count]);
                    }
                    total += count;
                    if count < room || total == budget {
                        break;
                    }
                }
                Attempt::WouldBlock => break,
                Attempt::Closed => {
                    self.close(session, false);
                    total += 1;
                    break;
                }
            }
        }
        total
    }

    /// A socket may not be read now: it is asked again soon, or if an alarm is the reason, set aside.
    fn pause(&mut self, token: Token) {
        if !self.core.is_blocked(SessionIndex(token.index)) {
            self.paused += 1;
        } else if let Some(socket) = self.sockets.by_token(token) {
            socket.blocked = true;
            self.blocked.add(token, self.now);
        }
    }

    /// Reads the sockets again that aren't blocked any more, and closes those of clients that are gone.
    fn look_at_blocked(&mut self) -> bool {
        let mut worked = false;
        for token in self.blocked.take_due(self.now) {
            let session = SessionIndex(token.index);
            let Some(socket) = self.sockets.by_token(token) else {
                continue;
            };
            if !self.core.is_blocked(session) {
                socket.blocked = false;
                self.polled.push_back(token);
            } else if socket.has_hung_up() {
                self.close(session, false);
            } else {
                self.blocked.add(token, self.now);
                continue;
            }
            worked = true;
        }
        worked
    }

    /// Timers of the broker.
    fn expire(&mut self) -> bool {
        let due = self.core.next_timer().is_some_and(|time| time <= self.now);
        if due {
            self.core.expire(self.now);
        }
        due
    }

    /// One batch to each peer for which there is something and whose ring has room.
    fn send_mail(&mut self) -> bool {
        let mut worked = false;
        for position in 0..self.links.peers().len() {
            let peer = &mut self.links.peers()[position];
            let id = peer.id();
            peer.held_back = !peer.has_room();
            if peer.held_back {
                continue;
            }
            if let Some(mail) = self.core.take_mail(id, || peer.spare()) {
                self.links.send(position, mail);
                worked = true;
            }
        }
        worked
    }

    /// Writes what the sessions have to say, each socket once.
    fn flush(&mut self) -> bool {
        let mut worked = false;
        for session in std::mem::take(&mut self.unflushed) {
            worked |= self.flush_one(session);
        }
        while let Some(session) = self.core.next_dirty() {
            worked |= self.flush_one(session);
        }
        worked
    }

    fn flush_one(&mut self, session: SessionIndex) -> bool {
        let Some(socket) = self.sockets.of(session) else {
            return false;
        };
        let (output, fate) = self.core.output(session);
        if fate == SocketFate::CloseNow {
            self.close(session, false);
            return true;
        }
        if socket.write_armed {
            return false;
        }
        let mut total = 0;
        let mut over = false;
        let mut full = false;
        for _ in 0..SENDS_PER_SOCKET {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = output.slices(&mut slices);
            let slices = &slices[..filled];
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            if offered == 0 {
                break;
            }
            let mut attempt = if full {
                Attempt::WouldBlock
            } else {
                socket.send(slices)
            };
            if attempt == Attempt::WouldBlock {
                attempt = socket.send_or_arm(&slices[0]);
            }
            match attempt {
                Attempt::Moved(count) => {
                    output.consume(count);
                    total += count;
                    full = count < offered;
                }
                Attempt::WouldBlock => break,
                Attempt::Closed => {
                    over = true;
                    break;
                }
            }
        }
        let left = !output.is_empty();
        let armed = socket.write_armed;
        if total > 0 {
            self.core.written(self.now, session);
        }
        if over {
            self.close(session, false);
        } else if !left && fate == SocketFate::CloseWhenWritten {
            self.close(session, true);
        } else if left && !armed {
            self.unflushed.push(session);
        }
        true
    }

    fn close(&mut self, session: SessionIndex, gently: bool) {
        self.sockets.close(session, gently, &mut self.landing);
        self.core.disconnected(self.now, session);
    }

    /// When to wake at the latest.
    fn wake_time(&self) -> Option<Time> {
        let stuck = self.paused > 0 || self.links.is_held_back();
        let recheck = stuck.then(|| self.now + RECHECK);
        let deadline = self.stopping.as_ref().map(|stopping| stopping.deadline);
        let blocked = self.blocked.next_look();
        [self.core.next_timer(), recheck, deadline, blocked]
            .into_iter()
            .flatten()
            .min()
    }

    /// Announces the sleep; false if something came up.
    fn fall_asleep(&mut self) -> bool {
        let asleep = self.links.fall_asleep() && !self.checker.has_answer();
        let beds = self.links.beds();
        asleep
            && beds.is_stopping() == self.stopping.is_some()
            && beds.alarms() == self.alarms
            && (self.disk.is_busy() || !beds.have_all_closed())
    }
}
