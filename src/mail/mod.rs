//! The only words spoken between cores, and between the rooms of one core. PURE.
//!
//! A core's sessions, shard and catalog never call each other: each writes into the [`Outbox`], one
//! [`Mail`] for each core, its own included. The postman differs (a function call here, a ring of
//! batches there), the words don't.
//!
//! ```text
//!              to_shard: publish, settle, consume, get, …
//!   session ────────────────────────────────────────────────► shard (the queue's core)
//!      ▲  ◄────────────────────────────────────────────────────  │
//!      │       to_session: deliver, confirmed, answers           │ to_catalog: delete this queue
//!      │ to_catalog: declare, bind, …                            ▼
//!      └────────────────────────────────────────────────────► catalog (core 0)
//!                                                                │
//!   every core's topology  ◄─────────────────────────────────────┘ to_replica: numbered changes
//! ```

mod addressees;
mod batch;
mod confirms;
mod outbox;
mod to_catalog;
mod to_host;
mod to_session;
mod to_shard;

pub use addressees::Addressees;
pub use batch::{Batch, MessageSpan, Span};
pub use confirms::{Confirms, News, Verdict};
pub use outbox::Outbox;
pub use to_catalog::{NumberedChange, ToCatalog};
pub use to_host::ToHost;
pub use to_session::{Answer, Deliver, Ease, Got, NO_SLOT, ToSession};
pub use to_shard::{Consume, Outcome, Publish, Publisher, Rebind, Settle, ToShard};

/// All that one core tells another in one turn.
#[derive(Debug, Default)]
pub struct Mail {
    /// For the queues of the receiving core.
    pub to_shard: Batch<ToShard>,
    /// For the connections of the receiving core.
    pub to_session: Batch<ToSession>,
    /// For the catalog; the receiver is core 0.
    pub to_catalog: Vec<ToCatalog>,
    /// For the table of the receiving core's connections.
    pub to_host: Vec<ToHost>,
    /// From the catalog: changes of the topology, in order.
    pub to_replica: Vec<NumberedChange>,
}

impl Mail {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.to_shard.is_empty()
            && self.to_session.is_empty()
            && self.to_catalog.is_empty()
            && self.to_host.is_empty()
            && self.to_replica.is_empty()
    }

    /// Records for queues and connections.
    pub fn messages(&self) -> usize {
        self.to_shard.records().len() + self.to_session.records().len()
    }

    /// About how many bytes it holds.
    pub fn size(&self) -> usize {
        self.to_shard.size() + self.to_session.size()
    }

    /// Empties it, keeping its memory for the next turn.
    pub fn clear(&mut self) {
        self.to_shard.clear();
        self.to_session.clear();
        self.to_catalog.clear();
        self.to_host.clear();
        self.to_replica.clear();
    }
}
