//! A session moves to the core whose queues it uses: decided from the messages that it has exchanged with each
//! core, and done between two breaths of its client, who notices nothing.
//!
//! ```text
//!            here                          every shard, that of the own core too      there
//! asked      Keep ───────────────────────────────────────────────────────────────►    keeps a place
//! stopping   (isn't read, until nothing    ◄──────────────────────────── Invited ─    for the session
//!            of it is under way)
//! leaving    Rebind ─────────────────────► consumers and window are
//!            (says nothing to any core)    those of the new place
//!            ◄──── last mail, Rebound ──   ─────────────────────── mail ─────────►    holds it
//! gone       the session, its socket ─────────────────────────────────────────────►   handles it, reads on
//! ```
//!
//! *Nothing under way* is: no open question, no publish to be confirmed, no channel that closes. So no core but
//! those of its consumers' queues knows the session by name, and nobody owes it an answer; a message that it may get
//! back behind an exchange that deduplicates is renamed there with them. What the client has
//! begun moves along, for it is plain data: half a frame, half a content, a transaction, deliveries that wait for
//! an acknowledgement, output that the socket hasn't taken. A session that doesn't come to that point within
//! [`limits::MOVE_STOP_MAX`] goes on where it is; so does one that is blocked by an alarm.
//!
//! From `Rebind` on there is no way back. What happens meanwhile is put off until the session is there: its
//! client hangs up, the broker stops, a consumer's time is over. Since the old core sends no more, and the new
//! one begins when every shard has read all that came from the old, nothing overtakes anything.

use super::channel::{Channel, Mode};
use super::publish::RouteCache;
use super::{Phase, Session, SessionContext};
use crate::base::{CoreId, SessionId, Time, limits};
use crate::mail::{Rebind, ToHost, ToShard};

/// Messages that a session has exchanged with each core since it was last looked at.
#[derive(Default)]
pub(super) struct Traffic {
    by_core: Vec<u32>,
    since: Time,
}

/// The core that nearly all of a session's messages were with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Favourite {
    core: CoreId,
    /// How many there are in [`limits::LOAD_INTERVAL`] if it goes on like that.
    rate: u64,
}

/// So much of its traffic must be with one core for a session to move there: 3/4. Publishing to a queue elsewhere
/// what it gets here is half.
const SHARE: (u64, u64) = (3, 4);

/// What came faster than within this part of [`limits::LOAD_INTERVAL`] was a burst, and no rate.
const SHORTEST: u64 = 100;

impl Traffic {
    #[inline]
    pub(super) fn count(&mut self, core: CoreId, messages: u32) {
        match self.by_core.get_mut(core.index()) {
            Some(count) => *count += messages,
            None => self.begin(core, messages),
        }
    }

    #[cold]
    fn begin(&mut self, core: CoreId, messages: u32) {
        self.by_core.resize(core.index() + 1, 0);
        self.by_core[core.index()] = messages;
    }

    /// Once there were `enough`: the core that nearly all were with, if there is one. Then counts anew.
    fn take_favourite(&mut self, enough: u64, now: Time) -> Option<Favourite> {
        let total: u64 = self.by_core.iter().map(|count| u64::from(*count)).sum();
        if total < enough {
            if total == 0 {
                self.since = now;
            }
            return None;
        }
        let counts = self.by_core.iter().enumerate();
        let most = counts.max_by_key(|(_, count)| **count);
        let (core, most) = most.map(|(core, most)| (CoreId(core as u16), u64::from(*most)))?;
        let interval = limits::LOAD_INTERVAL.as_nanos() as u64;
        let elapsed = now.since(self.since).as_nanos() as u64;
        let rate = total * interval / elapsed.max(interval / SHORTEST);
        self.by_core.fill(0);
        self.since = now;
        (most * SHARE.1 >= total * SHARE.0).then_some(Favourite { core, rate })
    }
}

/// Whether a session moves.
#[derive(Default)]
pub(super) struct Moving {
    stage: Stage,
    /// How often it was tried.
    attempts: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Stage {
    /// It doesn't.
    #[default]
    Settled,
    /// It has asked another core for a place, and goes on.
    Asked,
    /// It has one, and isn't read until nothing is under way.
    Stopping { place: SessionId, deadline: Time },
    /// It has told every core; so many haven't answered.
    Leaving { place: SessionId, waiting: usize },
}

impl Moving {
    /// Whether it isn't read.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. } | Stage::Leaving { .. })
    }
}

impl Session {
    /// End of a turn: begins to move if that is worth it, and goes on with it when it can.
    #[inline]
    pub(super) fn advance_move(&mut self, context: &mut SessionContext<'_>) {
        match self.moving.stage {
            Stage::Settled => self.consider_move(context),
            Stage::Stopping { place, .. } if self.is_quiet() => self.leave_for(place, context),
            _ => {}
        }
    }

    fn consider_move(&mut self, context: &mut SessionContext<'_>) {
        let least = context.settings.move_messages;
        if least == 0 || !matches!(self.phase, Phase::Running) {
            return;
        }
        let doublings = self.moving.attempts.min(limits::MOVE_DOUBLINGS_MAX);
        let enough = u64::from(least) << doublings;
        let favourite = self.connection.traffic.take_favourite(enough, context.now);
        let session = self.connection.id;
        if let Some(Favourite { core, rate }) = favourite
            && core != session.core
            && !self.blocked
        {
            self.moving.attempts += 1;
            self.moving.stage = Stage::Asked;
            context.outbox.to(core).to_host.push(ToHost::Keep {
                session,
                load: context.load,
                // Given out here until now, and there taken in: it is both there from now on.
                brings: 2 * rate,
            });
        }
    }

    /// Another core's answer: a place there, unless it takes nobody in.
    pub fn invited(&mut self, place: Option<SessionId>, context: &mut SessionContext<'_>) {
        self.moving.stage = Stage::Settled;
        let Some(place) = place else { return };
        if !matches!(self.phase, Phase::Running) {
            context
                .outbox
                .to(place.core)
                .to_host
                .push(ToHost::Release { place });
            return;
        }
        let deadline = context.now + limits::MOVE_STOP_MAX;
        self.moving.stage = Stage::Stopping { place, deadline };
        self.new_deadline = Some(deadline);
    }

    /// It stays, if it can still choose to.
    pub(super) fn give_up_move(&mut self, context: &mut SessionContext<'_>) {
        if let Stage::Stopping { place, .. } = self.moving.stage {
            self.moving.stage = Stage::Settled;
            context
                .outbox
                .to(place.core)
                .to_host
                .push(ToHost::Release { place });
        }
    }

    /// Its timer: gives up if it has waited for too long. When to look again.
    pub(super) fn check_move(&mut self, context: &mut SessionContext<'_>) -> Option<Time> {
        let Stage::Stopping { deadline, .. } = self.moving.stage else {
            return None;
        };
        if context.now < deadline {
            return Some(deadline);
        }
        self.give_up_move(context);
        None
    }

    /// Whether nothing of it is under way on any core but deliveries.
    fn is_quiet(&self) -> bool {
        let channels = || self.channels.iter().flatten();
        let consumers: usize = channels().map(|channel| channel.consumers.len()).sum();
        !self.blocked
            && consumers <= limits::MOVE_CONSUMERS_MAX
            && self.connection.confirming.is_empty()
            && channels().all(|channel| channel.is_quiet())
    }

    /// Tells every core, since any may have something for it. There is no way back from here.
    fn leave_for(&mut self, place: SessionId, context: &mut SessionContext<'_>) {
        self.connection.is_leaving = true;
        let mut waiting = 0;
        for core in context.outbox.cores() {
            let channels = self.channels.iter().flatten();
            let consumers = channels.flat_map(|channel| channel.consumers.addresses());
            let here = consumers.filter(|(owner, ..)| *owner == core);
            let rebind = Rebind {
                from: self.connection.id,
                to: place,
                consumers: here.map(|(_, queue, number)| (queue, number)).collect(),
            };
            let to_shard = &mut context.outbox.to(core).to_shard;
            to_shard.push(ToShard::Rebind(Box::new(rebind)));
            waiting += 1;
        }
        self.moving.stage = Stage::Leaving { place, waiting };
    }

    /// A core has nothing more for it here. Whether none has: then it is to be taken to its new place.
    pub fn rebound(&mut self) -> bool {
        let Stage::Leaving { waiting, .. } = &mut self.moving.stage else {
            return false;
        };
        *waiting -= 1;
        *waiting == 0
    }

    /// Where it moves to, once it has told everybody so.
    pub fn destination(&self) -> Option<SessionId> {
        match self.moving.stage {
            Stage::Leaving { place, .. } => Some(place),
            _ => None,
        }
    }

    /// It is at its new place, and takes up what it had put off.
    pub fn arrive(&mut self, context: &mut SessionContext<'_>) {
        if let Stage::Leaving { place, .. } = self.moving.stage {
            self.connection.id = place;
        }
        self.moving.stage = Stage::Settled;
        self.connection.is_leaving = false;
        self.new_deadline = Some(context.now);
        if self.connection.output.len() <= limits::OUTPUT_LOW_BYTES {
            self.connection.give_credit_back(context.outbox);
        }
        for channel in self.channels.iter_mut().flatten() {
            // This core may be behind the other with the topology's changes, or ahead of it.
            channel.route = RouteCache::default();
            channel.lend_credit(&self.connection, context);
        }
        self.policies_changed(context);
    }
}

impl Channel {
    /// Whether no core owes it anything but deliveries.
    fn is_quiet(&self) -> bool {
        let settled = match &self.mode {
            Mode::Plain => true,
            Mode::Confirm(confirms) => confirms.all_settled(),
            Mode::Transaction(transaction) => transaction.confirms.all_settled(),
        };
        settled && self.is_open() && !self.waits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: CoreId = CoreId(0);
    const THERE: CoreId = CoreId(3);

    fn favourite(traffic: &mut Traffic, enough: u64) -> Option<CoreId> {
        let favourite = traffic.take_favourite(enough, Time(1));
        favourite.map(|favourite| favourite.core)
    }

    #[test]
    fn a_core_is_favoured_that_has_three_quarters_of_enough_messages() {
        let mut traffic = Traffic::default();
        traffic.count(THERE, 74);
        assert_eq!(favourite(&mut traffic, 75), None, "too few");
        traffic.count(HERE, 25);
        assert_eq!(favourite(&mut traffic, 99), None, "74 of 99");
        traffic.count(THERE, 75);
        assert_eq!(favourite(&mut traffic, 75), Some(THERE), "counted anew");
        traffic.count(HERE, 25);
        traffic.count(THERE, 75);
        assert_eq!(favourite(&mut traffic, 100), Some(THERE));
        assert_eq!(favourite(&mut traffic, 1), None, "counted anew");
    }

    #[test]
    fn how_fast_it_was_is_counted_from_the_first_message() {
        let mut traffic = Traffic::default();
        let mut now = Time(1) + 100 * limits::LOAD_INTERVAL;
        assert_eq!(traffic.take_favourite(10, now), None);
        now = now + 4 * limits::LOAD_INTERVAL;
        traffic.count(THERE, 20);
        let (core, rate) = (THERE, 5);
        assert_eq!(
            traffic.take_favourite(10, now),
            Some(Favourite { core, rate })
        );
        traffic.count(THERE, 20);
        let rate = 20 * SHORTEST;
        assert_eq!(
            traffic.take_favourite(10, now),
            Some(Favourite { core, rate }),
            "no time at all"
        );
    }
}
