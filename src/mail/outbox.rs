//! What a core has to say to each core, itself included, since the last push.

use super::{Mail, Publish, Publisher, ToShard};
use crate::base::{CoreId, MessageRef, limits};

/// One mail for each core.
#[derive(Debug)]
pub struct Outbox {
    own: CoreId,
    #[expect(
        clippy::vec_box,
        reason = "mails move into rings: a pointer each, not their tables"
    )]
    mails: Vec<Box<Mail>>,
}

impl Outbox {
    /// An empty outbox of core `own` among `cores`.
    pub fn new(own: CoreId, cores: u16) -> Self {
        Self {
            own,
            mails: (0..cores).map(|_| Box::default()).collect(),
        }
    }

    /// The core that writes here.
    pub fn own(&self) -> CoreId {
        self.own
    }

    /// Every core.
    pub fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.mails.len() as u16).map(CoreId)
    }

    /// What is written to `core`, to be added to.
    pub fn to(&mut self, core: CoreId) -> &mut Mail {
        &mut self.mails[core.index()]
    }

    /// Whether anything waits for `core`.
    pub fn has_mail(&self, core: CoreId) -> bool {
        !self.mails[core.index()].is_empty()
    }

    /// Whether so much waits for `core` that nobody should add to it who can wait.
    pub fn is_overfull(&self, core: CoreId) -> bool {
        self.mails[core.index()].size() > limits::OUTBOX_BYTES_MAX
    }

    /// Whether that is so for any core.
    pub fn is_any_overfull(&self) -> bool {
        self.cores().any(|core| self.is_overfull(core))
    }

    /// Writes a message for queues of `core`: `queues` is [`QueueId::to_bytes`](crate::base::QueueId::to_bytes)
    /// of each, `confirm` the publisher's number for it or 0.
    pub fn publish(
        &mut self,
        (core, queues): (CoreId, &[u8]),
        (publisher, confirm): (Publisher, u64),
        message: &MessageRef<'_>,
    ) {
        let batch = &mut self.to(core).to_shard;
        let queues = batch.write(queues);
        let message = batch.write_message(message);
        batch.push(ToShard::Publish(Publish {
            publisher,
            confirm,
            queues,
            message,
        }));
    }

    /// Takes what is written to `core`; `empty` takes its place.
    pub fn take(&mut self, core: CoreId, empty: Box<Mail>) -> Box<Mail> {
        std::mem::replace(&mut self.mails[core.index()], empty)
    }
}
