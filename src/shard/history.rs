//! What recent history exchanges of this core keep, and how a new binding gets it.
//!
//! The exchange's own queue is a place to send to, and nothing else: what comes for it is kept here. When
//! a binding from the exchange is new its messages go where it leads, as copies, with numbers among those
//! of dead letters; the binding is reported as done once they are there.

use super::{Shard, ShardContext};
use crate::base::{QueueId, StoredMessage};
use crate::model::definition::{Binding, Destination};
use crate::model::exchange::own_queue;
use crate::model::topology::Origin;

impl Shard {
    /// A message came for a queue that isn't one of the ordinary ones of this core.
    #[cold]
    pub(super) fn keep_history(&mut self, id: QueueId, message: impl FnOnce() -> StoredMessage) {
        if let Some(history) = self.histories.get_mut(&id) {
            history.keep(message());
        }
    }

    /// A binding is new. If its source is an exchange of this core that has a history, sends that; the
    /// number of the last copy, to be settled before the binding is done.
    pub fn send_history(&mut self, binding: &Binding, context: &mut ShardContext<'_>) -> u64 {
        if self.histories.is_empty() {
            return 0;
        }
        self.try_send_history(binding, context).unwrap_or(0)
    }

    fn try_send_history(
        &mut self,
        binding: &Binding,
        context: &mut ShardContext<'_>,
    ) -> Option<u64> {
        let topology = context.topology;
        let (vhost, name) = own_queue::place(topology.exchange(binding.source)?)?;
        let history = self
            .histories
            .get(&topology.queue_by_name(vhost, name.as_str())?)?;
        let mut last = None;
        for message in history.messages() {
            let message = message.as_ref();
            let letters = &mut self.dead_letters;
            match binding.destination {
                Destination::Queue(queue) => letters.address_to(queue),
                Destination::Exchange(exchange) => {
                    letters.route((exchange, Origin::Core), &message, topology);
                }
            }
            last = letters.forward(&message, true, context).or(last);
        }
        last
    }

    /// Whether the copies up to that number are where they were sent.
    pub fn is_history_settled(&self, number: u64) -> bool {
        self.dead_letters.settled_upto() >= number
    }
}
