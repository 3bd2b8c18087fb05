//! What a change of policies does to the queues that are there: other limits and times hold. Looking at
//! each queue is a job with so many steps a turn, begun anew whenever policies change again.

use super::{Shard, find};
use crate::base::{QueueId, limits};
use crate::model::Topology;

impl Shard {
    /// Policies have changed, or one has been cleared.
    pub fn policies_changed(&mut self) {
        self.to_review = Some(0);
    }

    /// Has the next queues take the limits and times that hold for them now.
    pub(super) fn review_some(&mut self, topology: &Topology) {
        let Some(start) = self.to_review else {
            return;
        };
        let end = self.queues.len().min(start + limits::REVIEWS_PER_TURN);
        for index in start..end {
            let Some(owned) = &mut self.queues[index] else {
                continue;
            };
            let id = owned.id;
            let is_changed = match topology.own_queue_arguments(id) {
                Some(arguments) => self.cache_changed(id, &arguments),
                None => self.rules_changed(id, topology),
            };
            if is_changed {
                self.look_after_at(id, self.now);
            }
        }
        self.to_review = (end < self.queues.len()).then_some(end);
    }

    fn rules_changed(&mut self, id: QueueId, topology: &Topology) -> bool {
        let (Some(arguments), Some(owned)) =
            (topology.queue_arguments(id), find(&mut self.queues, id))
        else {
            return false;
        };
        // Nobody asked before now how long the queue had been unused.
        let is_changed = owned.queue.set_rules(arguments);
        if is_changed {
            owned.unused_since = self.now;
            // They may find their way by the new rules, or need none any more.
            if let Some(undelivered) = &mut owned.undelivered {
                undelivered.hasten(self.now);
            }
        }
        is_changed
    }
}
