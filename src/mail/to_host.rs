//! To the table of a core's connections, from a connection on another core that is to move there.

use crate::base::SessionId;

/// About a session that is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToHost {
    /// Keep a place for it. Answered by [`Invited`](super::ToSession::Invited).
    Keep {
        /// Which session, on its core.
        session: SessionId,
        /// What that core has to do, in messages.
        load: u64,
        /// What the session has added to the other's load of late.
        brings: u64,
    },
    /// It doesn't come.
    Release {
        /// The place that was kept for it.
        place: SessionId,
    },
}
