//! The table of a core's sessions. A place is reused when its session has left nothing behind on any
//! core, with the next generation.

use super::SessionIndex;
use crate::base::{CoreId, SessionId, Time, limits};
use crate::mail::{Batch, ToSession};
use crate::session::Session;

/// All sessions of a core.
pub(super) struct Sessions {
    core: CoreId,
    places: Vec<Place>,
    vacant: Vec<u32>,
    /// Sessions that may have something to write.
    dirty: Vec<SessionIndex>,
    /// Policies have changed: the first one that doesn't know it yet.
    to_review: Option<usize>,
    /// Places that are kept for sessions of other cores.
    kept: usize,
}

/// Mail for a session that has not yet come, by the core that sent it.
pub(super) type Early = Vec<(CoreId, Batch<ToSession>)>;

#[derive(Default)]
struct Place {
    generation: u32,
    session: Option<Box<Session>>,
    is_dirty: bool,
    due: Time,
    socket_is_gone: bool,
    /// The place is kept for a session that moves here.
    early: Option<Box<Early>>,
}

impl Sessions {
    pub(super) fn new(core: CoreId) -> Self {
        Self {
            core,
            places: Vec::new(),
            vacant: Vec::new(),
            dirty: Vec::new(),
            to_review: None,
            kept: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    pub(super) fn add(&mut self, make: impl FnOnce(SessionId) -> Session) -> SessionIndex {
        let id = self.take_place();
        self.places[id.index as usize].session = Some(Box::new(make(id)));
        SessionIndex(id.index)
    }

    fn take_place(&mut self) -> SessionId {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        // From 1 up: shards take generation 0 for nobody.
        place.generation = place.generation.wrapping_add(1).max(1);
        place.socket_is_gone = false;
        SessionId {
            core: self.core,
            index,
            generation: place.generation,
        }
    }

    /// A place for a session of another core that is to move here.
    pub(super) fn keep(&mut self) -> SessionId {
        let id = self.take_place();
        self.places[id.index as usize].early = Some(Box::default());
        self.kept += 1;
        id
    }

    /// The session doesn't come. It has told nobody of this place.
    pub(super) fn release(&mut self, id: SessionId) {
        if self.take_early(id).is_some() {
            self.vacant.push(id.index);
        }
    }

    /// A session has come to the place that was kept for it; the mail that was there before it.
    pub(super) fn seat(&mut self, id: SessionId, session: Box<Session>) -> Early {
        let early = self.take_early(id);
        self.places[id.index as usize].session = Some(session);
        early.expect("a session moves to a place that was kept for it")
    }

    fn take_early(&mut self, id: SessionId) -> Option<Early> {
        let place = self.places.get_mut(id.index as usize)?;
        let early = place.early.take_if(|_| place.generation == id.generation)?;
        self.kept -= 1;
        Some(*early)
    }

    /// Whether places are kept.
    pub(super) fn keeps_any(&self) -> bool {
        self.kept > 0
    }

    /// What came from `core` for a session that is yet to come; none if there is no such session.
    pub(super) fn early(&mut self, id: SessionId, core: CoreId) -> Option<&mut Batch<ToSession>> {
        let place = self.places.get_mut(id.index as usize)?;
        let early = place.early.as_mut()?;
        if place.generation != id.generation {
            return None;
        }
        if !early.iter().any(|(from, _)| *from == core) {
            early.push((core, Batch::default()));
        }
        let found = early.iter_mut().find(|(from, _)| *from == core);
        found.map(|(_, batch)| batch)
    }

    /// Takes a session away that has left for another core, with its place.
    pub(super) fn take(&mut self, index: SessionIndex) -> Option<Box<Session>> {
        let session = self.places.get_mut(index.0 as usize)?.session.take()?;
        self.vacant.push(index.0);
        Some(session)
    }

    #[inline]
    pub(super) fn at(&mut self, index: SessionIndex) -> Option<&mut Session> {
        self.places
            .get_mut(index.0 as usize)?
            .session
            .as_deref_mut()
    }

    pub(super) fn get(&self, index: SessionIndex) -> Option<&Session> {
        self.places.get(index.0 as usize)?.session.as_deref()
    }

    /// The session that mail is for; none if it is gone.
    #[inline]
    pub(super) fn of(&mut self, id: SessionId) -> Option<&mut Session> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.generation != id.generation {
            return None;
        }
        place.session.as_deref_mut()
    }

    pub(super) fn indices(&self) -> Vec<SessionIndex> {
        let places = self.places.iter().enumerate();
        places
            .filter(|(_, place)| place.session.is_some())
            .map(|(index, _)| SessionIndex(index as u32))
            .collect()
    }

    /// Policies have changed: every session is to hear of it.
    pub(super) fn policies_changed(&mut self) {
        self.to_review = Some(0);
    }

    /// Whether sessions are left that haven't.
    pub(super) fn is_reviewing(&self) -> bool {
        self.to_review.is_some()
    }

    /// The next of them.
    pub(super) fn next_to_review(&mut self) -> Vec<SessionIndex> {
        let Some(start) = self.to_review else {
            return Vec::new();
        };
        let end = self
            .places
            .len()
            .min(start + limits::SESSION_REVIEWS_PER_TURN);
        self.to_review = (end < self.places.len()).then_some(end);
        let some = (start..end).filter(|index| self.places[*index].session.is_some());
        some.map(|index| SessionIndex(index as u32)).collect()
    }

    /// When the session's timer is due.
    pub(super) fn set_due(&mut self, index: SessionIndex, time: Time) {
        if let Some(place) = self.places.get_mut(index.0 as usize) {
            place.due = time;
        }
    }

    /// Whether the session's timer is the one that was set for this time.
    pub(super) fn is_due(&self, index: SessionIndex, time: Time) -> bool {
        let place = self.places.get(index.0 as usize);
        place.is_some_and(|place| place.due == time && place.session.is_some())
    }

    #[inline]
    pub(super) fn mark_dirty(&mut self, index: SessionIndex) {
        if let Some(place) = self.places.get_mut(index.0 as usize)
            && !place.is_dirty
        {
            place.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// The next one, and whether it has a socket still: one without may have a turn to end as well.
    pub(super) fn next_dirty(&mut self) -> Option<(SessionIndex, bool)> {
        while let Some(index) = self.dirty.pop() {
            let place = &mut self.places[index.0 as usize];
            place.is_dirty = false;
            if place.session.is_some() {
                return Some((index, !place.socket_is_gone));
            }
        }
        None
    }

    pub(super) fn socket_is_gone(&mut self, index: SessionIndex) {
        if let Some(place) = self.places.get_mut(index.0 as usize) {
            place.socket_is_gone = true;
        }
        self.forget_if_finished(index);
    }

    /// Gives the place of a session free that is through with everything.
    pub(super) fn forget_if_finished(&mut self, index: SessionIndex) {
        let Some(place) = self.places.get_mut(index.0 as usize) else {
            return;
        };
        if place.socket_is_gone
            && place
                .session
                .take_if(|session| session.is_finished())
                .is_some()
        {
            self.vacant.push(index.0);
        }
    }
}
