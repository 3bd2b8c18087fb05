//! To the catalog on core 0, and from it to every core's copy of the topology.

use crate::base::{CoreId, Name, QueueId, SessionId};
use crate::model::Change;
use crate::model::decide::Request;

/// A request to create or delete, or a report that a change was carried out.
#[derive(Debug)]
pub enum ToCatalog {
    /// A session asks; answered by [`Answer`](super::Answer) to this channel.
    Request {
        /// Who asks.
        session: SessionId,
        /// Which of its channels.
        channel: u16,
        /// On whose behalf: what it may ask for is the catalog's to check.
        user: Name,
        /// What.
        request: Request,
    },
    /// A session whom a limit concerns wants to open a vhost; answered to channel 0.
    Enter {
        /// Who asks.
        session: SessionId,
        /// Who has logged in.
        user: Name,
        /// Where to.
        vhost: Name,
    },
    /// Such a session has gone, with its channels; answered to channel 0.
    Leave {
        /// Which one.
        session: SessionId,
        /// What it was called when it entered.
        entered: SessionId,
    },
    /// Such a session wants to open a channel; answered to that channel.
    OpenChannel {
        /// Who asks.
        session: SessionId,
        /// What it was called when it entered.
        entered: SessionId,
        /// Which channel.
        channel: u16,
    },
    /// Such a session has closed a channel.
    CloseChannel {
        /// What it was called when it entered.
        entered: SessionId,
    },
    /// The owner of a queue has frozen it and proposes to delete it.
    DeleteQueue {
        /// The owner.
        owner: CoreId,
        /// The queue.
        queue: QueueId,
        /// The queue's touch count that the owner saw: a later declare refuses the proposal. None:
        /// a client asked for it, nothing refuses it.
        touched: Option<u64>,
        /// The channel that waits for `queue.delete-ok`.
        asked_by: Option<(SessionId, u16)>,
    },
    /// A core has carried out all changes up to `number`.
    Applied {
        /// The core.
        core: CoreId,
        /// The last change carried out.
        number: u64,
        /// How many ready messages went with queues that this core owned.
        messages_deleted: u64,
        /// What the core has to do of late, in messages: for the choice of a core for the next queue.
        load: u64,
    },
}

/// From the catalog to each core.
#[derive(Clone, Debug)]
pub enum NumberedChange {
    /// Carry this out, then report.
    Change {
        /// Position in the one order of all changes.
        number: u64,
        /// What changes.
        change: Change,
    },
    /// To the owner: the proposal to delete was refused, the queue lives on.
    Unfreeze(QueueId),
    /// To the owner: every core has forgotten the queue, as it proposed.
    Gone(QueueId),
}
