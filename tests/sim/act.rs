//! What clients do: one random act at a time, of those that the plan has switched on.

mod breath;

use crate::client::{Call, Mode};
use crate::exchanges::ignores_keys;
use crate::oracle::{Standing, Verdict};
use crate::trace;
use crate::wire;
use crate::world::World;

/// Messages that a queue may hold before nobody publishes more.
const BACKLOG: usize = 400;
/// Publishes that a client may have under way.
const UNCONFIRMED: usize = 60;

impl World {
    /// A client does something.
    pub(crate) fn act(&mut self, client: usize) -> Verdict {
        let found = &self.clients[client];
        if found.unsent.len() > 500_000 {
            return Ok(());
        }
        let asks = found.call.is_none();
        if !(asks || self.plan.pipelines && self.dice.chance(1, 4)) {
            return Ok(());
        }
        if self.plan.rules.breaths && asks && self.dice.chance(1, 8) {
            self.act_breath(client);
            return Ok(());
        }
        match self.dice.roll(20) {
            0..=7 => self.act_publish(client),
            8..=12 => self.act_settle(client),
            13..=14 if asks => self.act_consume(client),
            15 if asks && self.plan.gets => self.act_get(client),
            16..=17 if asks => self.act_define(client),
            18 if self.plan.stalls => {
                let found = &mut self.clients[client];
                found.stalled = !found.stalled;
            }
            19 if self.plan.cuts
                && self.dice.chance(1, 6)
                && !self.clients[client].is_defining() =>
            {
                trace::note("cut", [self.clients[client].uid, 0, 0]);
                return self.cut(client);
            }
            _ => {}
        }
        Ok(())
    }

    fn act_publish(&mut self, client: usize) {
        if self.clients[client].unconfirmed() > UNCONFIRMED {
            if self.clients[client].mode() == Mode::Transaction
                && self.clients[client].call.is_none()
            {
                self.clients[client].commit(&mut self.oracle);
            }
            return;
        }
        let exchange = self.dice.roll(self.oracle.exchanges.len());
        if self.oracle.exchanges[exchange].standing != Standing::Present {
            return;
        }
        let is_default = exchange == 0;
        let keys = if is_default {
            self.plan.queues.len()
        } else {
            self.plan.keys
        };
        let key = self.dice.roll(keys);
        let most = if self.plan.bulk {
            BACKLOG / 20
        } else {
            BACKLOG
        };
        let mut queues = self.oracle.queues.iter();
        let full = queues.any(|queue| queue.records.len() > most);
        if full {
            return;
        }
        for _ in 0..self.dice.between(1, 4) {
            let persistent = !self.dice.chance(self.plan.transients, 8);
            let mut mandatory = self.plan.mandatory && self.dice.chance(1, 4);
            let mut stamp = self.plan.rules.stamp(&mut self.dice);
            let delays = self.plan.delays.as_ref();
            if let Some(delays) = delays.filter(|one| one.exchange == exchange) {
                delays.stamp(&mut stamp, &mut self.dice);
            }
            if self.oracle.compares(exchange) {
                if let Some(message) = self.oracle.one_to_repeat(&mut self.dice) {
                    self.clients[client].repeat((exchange, key), message, &mut self.oracle);
                    continue;
                }
                // A duplicate would come back.
                (mandatory, stamp.is_compared) = (false, self.dice.chance(7, 8));
            }
            let len = match self.dice.roll(400) {
                _ if self.plan.bulk => self.dice.between(100, 100_000),
                0 if self.plan.large && self.dice.chance(1, 8) => {
                    self.dice.between(1_000_000, 1_500_000)
                }
                0..=8 if self.plan.large => self.dice.between(8_000, 100_000),
                _ => self.dice.roll(60),
            };
            let found = &mut self.clients[client];
            found.publish(
                (exchange, key),
                (persistent, mandatory, stamp),
                len,
                &mut self.oracle,
            );
        }
        let commits = self.clients[client].mode() == Mode::Transaction
            && self.clients[client].call.is_none()
            && self.dice.chance(1, 2);
        if commits {
            self.clients[client].commit(&mut self.oracle);
        }
    }

    fn act_settle(&mut self, client: usize) {
        let found = &self.clients[client];
        if matches!(found.call, Some(Call::Recover)) {
            return;
        }
        // An ack in a transaction waits for the commit: those clients only publish.
        if found.held_count() == 0 || found.mode() == Mode::Transaction {
            return;
        }
        for _ in 0..self.dice.between(1, 4) {
            let held = self.clients[client].held_count();
            if held == 0 {
                break;
            }
            let at = if self.dice.chance(1, 2) {
                0
            } else {
                self.dice.roll(held)
            };
            let multiple = self.plan.multiple && self.dice.chance(1, 4);
            let requeue = match self.dice.roll(8) {
                0 if self.plan.requeues => Some(true),
                1 => Some(false),
                2..=3 if self.plan.rules.any() => Some(false),
                _ => None,
            };
            self.clients[client].settle(at, multiple, requeue, &mut self.oracle);
        }
        if self.plan.requeues && self.clients[client].call.is_none() && self.dice.chance(1, 30) {
            self.clients[client].recover(&mut self.oracle);
        }
    }

    fn act_consume(&mut self, client: usize) {
        let found = &self.clients[client];
        if !self.plan.consumes || found.mode() == Mode::Transaction {
            return;
        }
        let live: Vec<usize> = (0..found.consumers.len())
            .filter(|consumer| !found.consumers[*consumer].is_over)
            .collect();
        if let Some(consumer) = self.dice.pick(&live)
            && self.dice.chance(1, 3)
        {
            return self.clients[client].cancel(consumer);
        }
        let queue = self.dice.roll(self.plan.queues.len());
        let known = &self.oracle.queues[queue];
        if known.standing != Standing::Present || known.busy || live.len() >= 3 {
            return;
        }
        let no_ack = self.plan.no_ack && self.dice.chance(1, 3);
        self.clients[client].consume(queue, no_ack, &mut self.oracle);
    }

    fn act_get(&mut self, client: usize) {
        let queue = self.dice.roll(self.plan.queues.len());
        let known = &self.oracle.queues[queue];
        let transacts = self.clients[client].mode() == Mode::Transaction;
        if known.standing != Standing::Present || known.busy || transacts {
            return;
        }
        let no_ack = self.plan.no_ack && self.dice.chance(1, 3);
        self.clients[client].get(queue, no_ack, &mut self.oracle);
    }

    /// Whether somebody asks for something of this queue at present.
    fn is_asked_for(&self, queue: usize) -> bool {
        self.clients.iter().any(|client| {
            !client.is_dead
                && match &client.call {
                    Some(Call::Get { queue: asked, .. }) => *asked == queue,
                    Some(Call::Consume) => client
                        .consumers
                        .last()
                        .is_some_and(|one| one.queue == queue),
                    _ => false,
                }
        })
    }

    fn act_define(&mut self, client: usize) {
        let exchanges = self.oracle.exchanges.len();
        if exchanges > 1 && self.dice.chance(1, 4) {
            let exchange = self.dice.between(1, exchanges - 1);
            let known = &mut self.oracle.exchanges[exchange];
            if known.busy || known.standing == Standing::Present && self.dice.chance(3, 4) {
                return;
            }
            known.busy = true;
            if known.standing == Standing::Absent {
                known.standing = Standing::Coming;
            }
            let (kind, durable) = (known.kind, known.durable);
            self.clients[client].ask(Call::DeclareExchange(exchange), |out| {
                wire::declare_exchange(out, 1, exchange, kind, (durable, false));
            });
            return;
        }
        let queue = self.dice.roll(self.plan.queues.len());
        if self.oracle.queues[queue].busy {
            return;
        }
        let standing = self.oracle.queues[queue].standing;
        if standing == Standing::Absent || self.dice.chance(1, 8) {
            return self.define_queue(client, queue);
        }
        match self.dice.roll(8) {
            0 if self.plan.purges => {
                self.oracle.queues[queue].busy = true;
                let sure = self.oracle.purging(queue, &[]);
                trace::note(
                    "purge",
                    [self.clients[client].uid, queue as u64, sure.len() as u64],
                );
                let more = 0;
                let call = Call::Purge { queue, sure, more };
                self.clients[client].ask(call, |out| wire::purge_queue(out, queue));
            }
            1 if self.plan.deletes && !self.is_asked_for(queue) => self.delete_queue(client, queue),
            2..=6 => self.define_binding(client, queue),
            _ => {}
        }
    }

    pub(crate) fn delete_queue(&mut self, client: usize, queue: usize) {
        trace::note("delete", [self.clients[client].uid, queue as u64, 0]);
        self.oracle.queues[queue].busy = true;
        self.oracle.queues[queue].standing = Standing::Going;
        self.oracle.reroute();
        self.clients[client].ask(Call::Delete(queue), |out| wire::delete_queue(out, queue));
    }

    fn define_queue(&mut self, client: usize, queue: usize) {
        let known = &mut self.oracle.queues[queue];
        known.busy = true;
        if known.standing == Standing::Absent {
            known.standing = Standing::Coming;
        }
        let (durable, rules) = (known.durable, known.rules);
        trace::note(
            "declare",
            [self.clients[client].uid, queue as u64, u64::from(durable)],
        );
        self.oracle.reroute();
        self.clients[client].ask(Call::DeclareQueue(queue), |out| {
            wire::declare_queue(out, queue, durable, rules);
        });
    }

    fn define_binding(&mut self, client: usize, queue: usize) {
        let exchanges = self.oracle.exchanges.len();
        if exchanges == 1 {
            return;
        }
        let exchange = self.dice.between(1, exchanges - 1);
        let known = &self.oracle.exchanges[exchange];
        if known.standing != Standing::Present {
            return;
        }
        if self.plan.forbids(exchange, queue) {
            return;
        }
        let key = if ignores_keys(known.kind) {
            0
        } else {
            self.dice.roll(self.plan.keys)
        };
        let binding = (exchange, key, queue);
        let is_bound = self.oracle.bindings.contains_key(&binding);
        if is_bound && !(self.plan.unbinds && self.dice.chance(1, 2)) {
            return;
        }
        trace::note(
            "bind",
            [self.clients[client].uid, exchange as u64, queue as u64],
        );
        self.oracle.queues[queue].busy = true;
        let (call, standing) = if is_bound {
            (Call::Unbind(binding), Standing::Going)
        } else {
            (Call::Bind(binding), Standing::Coming)
        };
        self.oracle.bindings.insert(binding, standing);
        self.oracle.reroute();
        self.clients[client].ask(call, |out| wire::bind(out, binding, !is_bound));
    }
}
