//! One core's share of the broker: its sessions, its shard, its copy of the topology, and on core 0
//! the catalog. PURE: bytes and mail in, bytes and mail out, and the time is an argument.
//!
//! The runtime (or the simulator) drives it in turns:
//!
//! ```text
//! deliver_mail / receive / disconnected / expire      inputs, each run to completion
//! settle                                              own mail, until none is left
//! take_mail per peer, next_dirty + output per socket  outputs, once a turn
//! next_traveller                                      sessions that move to another core
//! ```

mod attendance;
mod catalog;
mod definition_log;
mod load;
mod logins;
mod placement;
mod postman;
mod sessions;
mod storage;
mod travellers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use catalog::Catalog;
use load::Load;
use postman::Unreported;
use sessions::Sessions;

use crate::base::{Alarms, CoreId, Notices, SessionId, Settings, Time, WallClock, limits};
use crate::mail::{Mail, Outbox};
use crate::model::Topology;
use crate::model::access::PasswordCheck;
use crate::session::{Output, Scratch, Session, SessionContext};
use crate::shard::{Shard, ShardContext};

pub use self::definition_log::RecoveredDefinitions;
pub use self::storage::Stored;
pub use self::travellers::Traveller;
pub use crate::session::SocketFate;

/// A place in the core's table of sessions, valid from [`Core::connect`] until the runtime has called
/// [`Core::disconnected`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionIndex(pub u32);

/// One core's share of the broker.
pub struct Core {
    id: CoreId,
    settings: Arc<Settings>,
    topology: Topology,
    outbox: Outbox,
    shard: Shard,
    catalog: Option<Catalog>,
    sessions: Sessions,
    /// Passwords that are to be checked beside the core, and for whom.
    password_checks: VecDeque<(SessionId, PasswordCheck)>,
    /// Sessions that are to be taken to other cores.
    leaving: Vec<SessionIndex>,
    scratch: Scratch,
    notices: Notices,
    alarms: Alarms,
    clock: WallClock,
    timers: BTreeSet<(Time, SessionIndex)>,
    /// Changes that are carried out and not yet reported.
    unreported: VecDeque<Unreported>,
    /// Takes the place of own mail while that is handled.
    spare: Option<Box<Mail>>,
    /// The time of the last input.
    now: Time,
    load: Load,
    /// That of late, as of the last mail.
    recent_load: u64,
    /// Every client has been told that the broker goes.
    is_stopping: bool,
    /// The output of a session that isn't there.
    nobody: Output,
}

impl Core {
    /// A broker core that knows the vhosts of `settings` and what is stored. `seed` feeds hash tables,
    /// generated names and the keys of logs; draw it at random and give each core the same one.
    pub fn new(
        core: CoreId,
        cores: u16,
        settings: Arc<Settings>,
        seed: u64,
        stored: Stored<'_>,
    ) -> Self {
        let mut notices = Notices::default();
        let (topology, shard, catalog) = stored.restore(core, cores, &settings, seed, &mut notices);
        Self {
            id: core,
            topology,
            outbox: Outbox::new(core, cores),
            shard,
            catalog,
            sessions: Sessions::new(core),
            password_checks: VecDeque::new(),
            leaving: Vec::new(),
            scratch: Scratch::default(),
            notices,
            alarms: Alarms::default(),
            clock: WallClock::default(),
            timers: BTreeSet::new(),
            unreported: VecDeque::new(),
            spare: None,
            now: Time::default(),
            load: Load::default(),
            recent_load: 0,
            is_stopping: false,
            nobody: Output::default(),
            settings,
        }
    }

    /// A socket was accepted. `loopback`: whether the peer is on this machine.
    pub fn connect(&mut self, now: Time, loopback: bool) -> SessionIndex {
        let settings = Arc::clone(&self.settings);
        let index = self
            .sessions
            .add(|id| Session::new(id, loopback, now, &settings));
        self.schedule(now + settings.handshake_timeout, index);
        index
    }

    /// Bytes came from a session's socket. All complete frames are handled, the rest is kept.
    pub fn receive(&mut self, now: Time, session: SessionIndex, bytes: &[u8]) {
        self.with_session(now, session, |session, context| {
            session.receive(bytes, context);
        });
    }

    /// While a large body is coming in: the buffer that the next bytes of the socket belong in
    /// (non-empty), to be followed by [`Core::received_in_place`]. Saves the copy of `receive`.
    pub fn landing(&mut self, session: SessionIndex) -> Option<&mut [u8]> {
        self.sessions.at(session)?.landing()
    }

    /// `count` bytes were received into the buffer given by [`Core::landing`].
    pub fn received_in_place(&mut self, now: Time, session: SessionIndex, count: usize) {
        self.with_session(now, session, |session, context| {
            session.received_in_place(count, context);
        });
    }

    /// How many bytes may be read from the session's socket in this turn; 0: leave it alone for now
    /// (its channels wait, its output or an outbox is full). Ask again next turn.
    pub fn read_budget(&self, session: SessionIndex) -> usize {
        self.sessions
            .get(session)
            .map_or(0, |session| session.read_budget(self.now, &self.outbox))
    }

    /// Whether the session isn't read until the alarms clear: then its budget is 0 for long.
    pub fn is_blocked(&self, session: SessionIndex) -> bool {
        self.sessions.get(session).is_some_and(Session::is_blocked)
    }

    /// What the broker is short of from now on. Sessions that publish meanwhile are blocked; once no
    /// alarm is on, they go on. While the disk is short of room, the logs keep no more ready than they must.
    pub fn set_alarms(&mut self, now: Time, alarms: Alarms) {
        self.alarms = alarms;
        self.be_frugal(alarms.disk);
        if alarms.any() {
            return;
        }
        for index in self.sessions.indices() {
            if self.is_blocked(index) {
                self.with_session(now, index, |session, context| {
                    session.alarms_cleared(context);
                });
            }
        }
    }

    /// The socket is gone (closed by the peer, by an error, or as [`SocketFate`] asked).
    pub fn disconnected(&mut self, now: Time, session: SessionIndex) {
        if self.is_leaving(session) {
            // The core that it moves to tells it.
            self.sessions.socket_is_gone(session);
            return;
        }
        self.with_session(now, session, |session, context| {
            session.disconnected(context);
        });
        self.sessions.socket_is_gone(session);
    }

    /// A batch from another core. Handled wholly; left empty, to be given back to its sender.
    pub fn deliver_mail(&mut self, now: Time, from: CoreId, mail: &mut Mail) {
        self.handle_mail(now, from, mail);
    }

    /// Handles the core's own mail until none is left. Call at the end of each turn's inputs.
    pub fn settle(&mut self, now: Time) {
        self.now = now;
        /// Mail answers mail, but not for long; what is left then waits for the next turn.
        const ROUNDS_MAX: usize = 32;
        self.shard.set_time(now, self.clock);
        let mut context = ShardContext {
            topology: &self.topology,
            outbox: &mut self.outbox,
        };
        self.shard.begin_turn(&mut context);
        for session in self.sessions.next_to_review() {
            self.with_session(now, session, Session::policies_changed);
        }
        for _ in 0..ROUNDS_MAX {
            if !self.outbox.has_mail(self.id) {
                break;
            }
            let spare = self.spare.take().unwrap_or_default();
            let mut mail = self.outbox.take(self.id, spare);
            self.load.count(mail.messages());
            self.handle_mail(now, self.id, &mut mail);
            self.spare = Some(mail);
        }
    }

    /// The batch for `peer`, if there is anything in it; `spare` (empty) takes its place. Call it
    /// only when the ring to `peer` has room: what isn't taken stays and grows.
    pub fn take_mail(
        &mut self,
        peer: CoreId,
        spare: impl FnOnce() -> Box<Mail>,
    ) -> Option<Box<Mail>> {
        if peer == self.id || !self.outbox.has_mail(peer) {
            return None;
        }
        let mail = self.outbox.take(peer, spare());
        self.load.count(mail.messages());
        Some(mail)
    }

    /// The next session whose output or fate may have changed since it was last named here.
    pub fn next_dirty(&mut self) -> Option<SessionIndex> {
        while let Some((index, has_socket)) = self.sessions.next_dirty() {
            let now = self.now;
            self.with_clean_session(now, index, |session, context| session.end_turn(context));
            if has_socket {
                return Some(index);
            }
        }
        None
    }

    /// What is to be written to the session's socket, and what is to become of it.
    pub fn output(&mut self, session: SessionIndex) -> (&mut Output, SocketFate) {
        match self.sessions.at(session) {
            Some(session) => session.output(),
            None => (&mut self.nobody, SocketFate::CloseNow),
        }
    }

    /// The session's output was written as far as the socket took it: gives credit back.
    pub fn written(&mut self, now: Time, session: SessionIndex) {
        self.with_clean_session(now, session, |session, context| session.written(context));
    }

    /// When [`Core::expire`] wants to be called next.
    pub fn next_timer(&self) -> Option<Time> {
        let session = self.timers.first().map(|(time, _)| *time);
        session.into_iter().chain(self.storage_timer()).min()
    }

    /// What the clock on the wall shows, in milliseconds since 1970: for what expires and survives a
    /// restart. To be told once before anything else, and whenever it was set.
    pub fn set_wall_clock(&mut self, now: Time, unix_ms: u64) {
        if self.clock.ms(now).abs_diff(unix_ms) > limits::WALL_CLOCK_SLACK_MS {
            self.clock = WallClock::showing(unix_ms, now);
            self.shard.set_time(now, self.clock);
        }
    }

    /// Handles every timer that is due.
    pub fn expire(&mut self, now: Time) {
        let mut context = ShardContext {
            topology: &self.topology,
            outbox: &mut self.outbox,
        };
        self.shard.expire(now, &mut context);
        while let Some(&(time, index)) = self.timers.first() {
            if time > now {
                break;
            }
            self.timers.pop_first();
            if !self.sessions.is_due(index, time) {
                continue;
            }
            let mut next = None;
            self.with_session(now, index, |session, context| {
                next = session.on_timer(context);
            });
            if let Some(next) = next {
                self.schedule(next, index);
            }
        }
    }

    /// Whether there is work left that needs no further input (own mail, a resumable job).
    pub fn has_work(&self) -> bool {
        self.outbox.has_mail(self.id) || self.shard.has_work() || self.sessions.is_reviewing()
    }

    /// Lines for the log since it was last asked for; to be written once a turn.
    pub fn notices(&mut self) -> &mut Notices {
        &mut self.notices
    }

    /// Tells every client 320 CONNECTION_FORCED. Done when [`Core::session_count`] is 0.
    pub fn shut_down(&mut self, now: Time) {
        self.is_stopping = true;
        self.shard.close_letters();
        for index in self.sessions.indices() {
            self.with_session(now, index, |session, context| session.shut_down(context));
        }
    }

    /// Sessions that are not yet forgotten: their sockets are not reported gone, or other cores still
    /// hold something of theirs.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Whether dead letters are on their way from this core's queues.
    pub fn has_letters(&self) -> bool {
        self.shard.has_letters()
    }

    /// Runs `act` on a session and notes that it may have something to write.
    fn with_session(
        &mut self,
        now: Time,
        index: SessionIndex,
        act: impl FnOnce(&mut Session, &mut SessionContext<'_>),
    ) {
        self.with_clean_session(now, index, act);
        self.sessions.mark_dirty(index);
    }

    fn with_clean_session(
        &mut self,
        now: Time,
        index: SessionIndex,
        act: impl FnOnce(&mut Session, &mut SessionContext<'_>),
    ) {
        let Some(session) = self.sessions.at(index) else {
            return;
        };
        let mut context = SessionContext {
            now,
            topology: &self.topology,
            outbox: &mut self.outbox,
            settings: &self.settings,
            notices: &mut self.notices,
            alarms: self.alarms,
            scratch: &mut self.scratch,
            password_checks: &mut self.password_checks,
            load: self.recent_load,
        };
        act(session, &mut context);
        if let Some(deadline) = session.take_new_deadline() {
            self.schedule(deadline, index);
        }
        self.sessions.forget_if_finished(index);
    }

    /// The session's timer; one that was set before doesn't count any more.
    fn schedule(&mut self, time: Time, index: SessionIndex) {
        self.sessions.set_due(index, time);
        self.timers.insert((time, index));
    }
}
