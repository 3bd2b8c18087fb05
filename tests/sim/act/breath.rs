//! Publishes and purges in one breath: more than a batch holds, and a purge behind it, and more of those, so that
//! much is still to be dropped when the next batch is sealed.

use super::BACKLOG;
use crate::client::{Call, Mode};
use crate::oracle::Standing;
use crate::rules::Stamp;
use crate::trace;
use crate::wire;
use crate::world::World;

impl World {
    pub(super) fn act_breath(&mut self, client: usize) {
        let queue = self.dice.roll(self.plan.queues.len());
        let known = &self.oracle.queues[queue];
        let is_ready = known.standing == Standing::Present && !known.busy;
        let is_full = known.records.len() > BACKLOG / 10;
        if !is_ready || is_full || self.clients[client].mode() == Mode::Transaction {
            return;
        }
        let first = self.oracle.messages.len() as u64;
        for _ in 0..self.dice.between(2, 8) {
            let len = self.dice.between(10_000, 150_000);
            let how = (true, false, Stamp::default());
            self.clients[client].publish((0, queue), how, len, &mut self.oracle);
        }
        let published: Vec<u64> = (first..self.oracle.messages.len() as u64).collect();
        let more = self.dice.roll(8);
        self.oracle.queues[queue].busy = true;
        let sure = self.oracle.purging(queue, &published);
        let uid = self.clients[client].uid;
        trace::note("purges", [uid, queue as u64, sure.len() as u64]);
        let call = Call::Purge { queue, sure, more };
        self.clients[client].ask(call, |out| {
            for _ in 0..=more {
                wire::purge_queue(out, queue);
            }
        });
    }
}
