//! To the table of a core's connections, from a connection on another core that is to move there.

use crate::base::SessionId;

/// About a session that is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToHost {
    /// Keep a place for it. Answered by [`Invited`](super::ToSession::Invited).
    Keep {
        /// Which session, on its core.
        session: SessionId,
    },
    /// It doesn't come.
    Release {
        /// The place that was kept for it.
        place: SessionId,
    },
}
