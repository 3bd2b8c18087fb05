//! Identities. An index says where a thing lives, a generation which of its successive tenants is
//! meant, so that mail for the dead never reaches the living.

use std::fmt;

/// One pinned executor of the broker, counted from 0. Core 0 holds the catalog.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The core that alone creates and deletes exchanges, queues and bindings.
    pub const CATALOG: Self = Self(0);

    /// As an index into tables with one entry a core.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A virtual host: a world of its own for exchanges and queues. Vhosts come from the configuration and from
/// definitions, and live as long as the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VhostId(pub u16);

impl VhostId {
    /// As an index into the table of vhosts.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A queue. The catalog hands out indices densely and reuses them with the next generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueId {
    /// Position in the topology's table of queues.
    pub index: u32,
    /// Which tenant of that position.
    pub generation: u32,
}

impl QueueId {
    /// Encoded as eight bytes, for arenas of mail.
    pub fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.generation) << 32 | u64::from(self.index)).to_le_bytes()
    }

    /// The inverse of [`QueueId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let word = u64::from_le_bytes(bytes);
        Self {
            index: (word & 0xffff_ffff) as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// An exchange, numbered like a queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExchangeId {
    /// Position in the topology's table of exchanges.
    pub index: u32,
    /// Which tenant of that position.
    pub generation: u32,
}

/// A client's connection, on the core that holds its socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId {
    /// The core that holds the socket.
    pub core: CoreId,
    /// Position in that core's table of sessions.
    pub index: u32,
    /// Which tenant of that position.
    pub generation: u32,
}

/// The number of a record in a core's log (log sequence number). It says how to find the record again,
/// and that others are older or younger. A record that is written again gets a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Of what isn't in the log.
    pub const NONE: Self = Self(0);
    /// The first one that is given out.
    pub const FIRST: Self = Self(1);
    /// Above all that are given out.
    pub const NEVER: Self = Self(u64::MAX);

    /// The one after.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Whether it is the number of a record.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}
