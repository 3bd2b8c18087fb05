//! Where a message goes: from the exchange it was published to, from exchange to exchange, to queues.

use super::{Exchange, Topology};
use crate::amqp::properties::Properties;
use crate::base::limits::EXCHANGE_HOPS_MAX;
use crate::base::{ExchangeId, QueueId};
use crate::model::definition::{Destination, ExchangeKind};
use crate::model::exchange::{Bindings, RouteScratch, delayed, own_queue, recent_history};

/// What is worth knowing of one routing besides its targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Routed {
    /// Whether every message with this routing key goes the same ways, until the exchange's revision
    /// changes: no exchange was asked that looks at headers or properties, or leaves it to chance.
    pub is_cacheable: bool,
    /// Whether no queue has been added that somebody may take the message from.
    pub is_unroutable: bool,
}

impl Topology {
    /// Appends the queues that a message published to the exchange goes to, each at most once and none
    /// that is among the targets already. A dead exchange leads nowhere.
    pub fn route(
        &self,
        exchange: ExchangeId,
        routing_key: &[u8],
        properties: Properties<'_>,
        scratch: &mut RouteScratch,
        targets: &mut Vec<QueueId>,
    ) -> Routed {
        self.route_keys(exchange, &[routing_key], properties, scratch, targets)
    }

    /// As [`Topology::route`], for a message with several routing keys (headers CC and BCC).
    pub fn route_keys(
        &self,
        exchange: ExchangeId,
        routing_keys: &[&[u8]],
        properties: Properties<'_>,
        scratch: &mut RouteScratch,
        targets: &mut Vec<QueueId>,
    ) -> Routed {
        let (before, mut kept) = (targets.len(), 0);
        let mut routed = Routed {
            is_cacheable: true,
            is_unroutable: true,
        };
        if let Some(start) = self.exchange_at(exchange)
            && start.bindings.is_none()
        {
            for id in self.named_queues(start, routing_keys) {
                if !targets.contains(&id) {
                    targets.push(id);
                }
            }
            routed.is_unroutable = targets.len() == before;
            return routed;
        }
        let (mut collector, matching) = scratch.begin(targets);
        collector.visit(exchange);
        for _ in 0..EXCHANGE_HOPS_MAX {
            let Some(id) = collector.seen.pending.pop() else {
                break;
            };
            let Some(exchange) = self.exchange_at(id) else {
                continue;
            };
            collector.has_found = false;
            match &exchange.bindings {
                Some(bindings) => {
                    routed.is_cacheable &= bindings.follow_keys_alone();
                    let mark = collector.mark();
                    bindings.route(routing_keys, properties, matching, &mut collector);
                    // What leads nowhere need not wait for it.
                    if collector.has_found
                        && let Some(queue) = self.delays(exchange, properties)
                    {
                        collector.take_back(mark);
                        collector.add(Destination::Queue(queue));
                    }
                }
                None => {
                    for id in self.named_queues(exchange, routing_keys) {
                        collector.add(Destination::Queue(id));
                    }
                }
            }
            if let Some(queue) = self.keeps(exchange, properties) {
                collector.targets.push(queue);
                kept += 1;
            }
            if !collector.has_found
                && let Some(alternate) = self.alternate(exchange)
            {
                collector.visit(alternate);
            }
        }
        routed.is_unroutable = targets.len() == before + kept;
        routed
    }

    fn named_queues(
        &self,
        default_exchange: &Exchange,
        keys: &[&[u8]],
    ) -> impl Iterator<Item = QueueId> {
        let queues = &self.vhost(default_exchange.definition.vhost).queues;
        let queues = keys.iter().filter_map(|key| queues.get(*key).copied());
        // Those that are exchanges' own are nobody's to publish to.
        queues.filter(|id| {
            let queue = self.queue(*id);
            queue.is_some_and(|queue| own_queue::exchange_of(&queue.name).is_none())
        })
    }

    /// The queue that a message waits in which an exchange is to delay.
    fn delays(&self, exchange: &Exchange, properties: Properties<'_>) -> Option<QueueId> {
        let delays = exchange.definition.kind == ExchangeKind::Delayed;
        let (vhost, queue) = delays.then(|| own_queue::place(&exchange.definition))??;
        delayed::delay_ms(properties)?;
        self.queue_by_name(vhost, queue.as_str())
    }

    /// Where a message is kept for those that an exchange leads to later.
    fn keeps(&self, exchange: &Exchange, properties: Properties<'_>) -> Option<QueueId> {
        let keeps = exchange.definition.kind == ExchangeKind::RecentHistory;
        let (vhost, queue) = keeps.then(|| own_queue::place(&exchange.definition))??;
        let is_kept = recent_history::is_kept(properties);
        is_kept.then(|| self.queue_by_name(vhost, queue.as_str()))?
    }

    fn alternate(&self, exchange: &Exchange) -> Option<ExchangeId> {
        let name = exchange.alternate.as_ref()?;
        self.exchange_by_name(exchange.definition.vhost, name.as_str())
    }

    /// Whether an exchange can be reached from this one that looks at headers or properties, or leaves it
    /// to chance, so that where a message goes may depend on more than its routing key.
    pub fn depends_on_headers(&self, exchange: ExchangeId) -> bool {
        let mut reached = vec![exchange];
        let mut at = 0;
        while let Some(exchange) = reached.get(at).and_then(|id| self.exchange_at(*id)) {
            if !exchange
                .bindings
                .as_ref()
                .is_none_or(Bindings::follow_keys_alone)
            {
                return true;
            }
            let mut next: Vec<_> = self.alternate(exchange).into_iter().collect();
            if exchange.outgoing_to_exchanges > 0 {
                next.extend(
                    exchange
                        .outgoing
                        .iter()
                        .filter_map(|binding| binding.to_exchange()),
                );
            }
            for id in next {
                if !reached.contains(&id) {
                    reached.push(id);
                }
            }
            at += 1;
        }
        false
    }
}
