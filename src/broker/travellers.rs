//! Sessions that move between this core and another: places that are kept for them, the mail that comes before
//! them, and the way out and in. What a session does itself is in `session::moving`.

use super::load::has_room;
use super::{Core, SessionIndex};
use crate::base::{CoreId, SessionId, Time};
use crate::mail::{Batch, Deliver, ToHost, ToSession};
use crate::session::Session;

/// A session on its way to another core, with all that belongs to it but its socket.
pub struct Traveller {
    place: SessionId,
    session: Box<Session>,
}

impl Traveller {
    /// Where it is to [arrive](Core::arrive).
    pub fn core(&self) -> CoreId {
        self.place.core
    }
}

impl Core {
    /// The next session that leaves for another core. Its index here stands for nobody any more: its socket, if there
    /// is one still, goes with it.
    pub fn next_traveller(&mut self) -> Option<(SessionIndex, Traveller)> {
        let index = self.leaving.pop()?;
        let session = self.sessions.take(index)?;
        let place = session.destination()?;
        Some((index, Traveller { place, session }))
    }

    /// A session comes from another core; the index is that of its socket from now on. If the socket was lost on the
    /// way, [`Core::disconnected`] is to follow.
    pub fn arrive(&mut self, now: Time, traveller: Traveller) -> SessionIndex {
        let Traveller { place, session } = traveller;
        let index = SessionIndex(place.index);
        let early = self.sessions.seat(place, session);
        self.with_session(now, index, |session, context| session.arrive(context));
        for (from, mut batch) in early {
            self.hand_to_sessions(now, from, &mut batch);
        }
        if self.is_stopping {
            self.with_session(now, index, |session, context| session.shut_down(context));
        }
        index
    }

    /// Another core asks for a place, or gives it up.
    pub(super) fn host(&mut self, word: ToHost) {
        match word {
            ToHost::Keep {
                session,
                load,
                brings,
            } => {
                let comes = !self.is_stopping && has_room(self.recent_load, load);
                if comes {
                    // Others that ask now are to find it here.
                    self.load.count(brings as usize);
                    self.recent_load += brings;
                }
                let place = comes.then(|| self.sessions.keep());
                let to_session = &mut self.outbox.to(session.core).to_session;
                to_session.push(ToSession::Invited { session, place });
            }
            ToHost::Release { place } => self.sessions.release(place),
        }
    }

    /// The answer to a session that has asked for a place: it may be gone by now.
    pub(super) fn invite(&mut self, now: Time, session: SessionId, place: Option<SessionId>) {
        if self.sessions.of(session).is_some() {
            self.tell(now, session, |session, context| {
                session.invited(place, context)
            });
        } else if let Some(place) = place {
            let to_host = &mut self.outbox.to(place.core).to_host;
            to_host.push(ToHost::Release { place });
        }
    }

    /// Whether the session has told every core that it moves.
    pub(super) fn is_leaving(&self, index: SessionIndex) -> bool {
        let session = self.sessions.get(index);
        session.is_some_and(|session| session.destination().is_some())
    }

    /// A core has nothing more for a session that moves.
    pub(super) fn rebound(&mut self, id: SessionId) {
        if self.sessions.of(id).is_some_and(Session::rebound) {
            self.leaving.push(SessionIndex(id.index));
        }
    }

    /// Puts records of `batch` by that are for sessions yet to come, and leaves the others.
    #[cold]
    pub(super) fn hold_early(
        &mut self,
        from: CoreId,
        records: &mut Vec<ToSession>,
        batch: &Batch<ToSession>,
    ) {
        for record in std::mem::take(records) {
            let Some(early) = self.sessions.early(record.session(), from) else {
                records.push(record);
                continue;
            };
            let held = match record {
                ToSession::Deliver(deliver) => {
                    let message = early.write_message(&batch.message(&deliver.message));
                    ToSession::Deliver(Deliver { message, ..deliver })
                }
                ToSession::Returned {
                    session,
                    channel,
                    message,
                } => ToSession::Returned {
                    session,
                    channel,
                    message: early.write_message(&batch.message(&message)),
                },
                other => other,
            };
            early.push(held);
        }
    }
}
