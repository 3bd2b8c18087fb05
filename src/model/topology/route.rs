//! Where a message goes: from the exchange it was published to, from exchange to exchange, to queues.

use super::{Exchange, Topology};
use crate::amqp::properties::Properties;
use crate::base::limits::EXCHANGE_HOPS_MAX;
use crate::base::{ExchangeId, QueueId};
use crate::model::definition::{Destination, ExchangeKind};
use crate::model::exchange::{RouteScratch, deduplicating, delayed, own_queue, recent_history};

/// What is worth knowing of one routing besides its targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Routed {
    /// Whether every message with this routing key goes the same ways, until the exchange's revision
    /// changes: no exchange was asked that looks at headers or properties, or leaves it to chance.
    pub is_cacheable: bool,
    /// Whether no queue has been added that somebody may take the message from.
    pub is_unroutable: bool,
    /// How many deduplicating exchanges lead further, if nothing else does of all that it has reached: whether
    /// the message goes anywhere is seen on their cores. Otherwise 0.
    pub open: usize,
}

/// Where a message comes from that is to be routed, for the deduplicating exchanges on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client. Whatever such an exchange leads anywhere goes to its core first, compared with others or not,
    /// so that messages don't overtake each other there.
    Client,
    /// A core. Only what such an exchange would know again goes to its core: no message runs in circles.
    Core,
    /// The same, and the exchange that it starts from has let it pass.
    Passed,
}

impl Topology {
    /// Appends the queues that a message published to the exchange goes to, each at most once and none
    /// that is among the targets already. A dead exchange leads nowhere.
    #[inline]
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
    #[inline]
    pub fn route_keys(
        &self,
        exchange: ExchangeId,
        routing_keys: &[&[u8]],
        properties: Properties<'_>,
        scratch: &mut RouteScratch,
        targets: &mut Vec<QueueId>,
    ) -> Routed {
        let start = (exchange, Origin::Client);
        self.route_from(start, routing_keys, properties, scratch, targets)
    }

    /// As [`Topology::route_keys`], for a message from anywhere.
    pub fn route_from(
        &self,
        (start, origin): (ExchangeId, Origin),
        routing_keys: &[&[u8]],
        properties: Properties<'_>,
        scratch: &mut RouteScratch,
        targets: &mut Vec<QueueId>,
    ) -> Routed {
        use ExchangeKind as K;
        let (before, mut kept, mut open) = (targets.len(), 0, 0);
        let mut routed = Routed {
            is_cacheable: true,
            is_unroutable: true,
            open: 0,
        };
        if let Some(default) = self.exchange_at(start)
            && default.bindings.is_none()
        {
            for id in self.named_queues(default, routing_keys) {
                if !targets.contains(&id) {
                    targets.push(id);
                }
            }
            routed.is_unroutable = targets.len() == before;
            return routed;
        }
        let (mut collector, matching) = scratch.begin(targets);
        collector.visit(start);
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
                    if matches!(exchange.definition.kind, K::Delayed | K::Deduplicating)
                        && collector.has_found
                        && !(origin == Origin::Passed && id == start)
                        && let Some(queue) = self.holds(exchange, origin, properties)
                    {
                        collector.take_back(mark);
                        collector.add(Destination::Queue(queue));
                        open += usize::from(exchange.definition.kind == K::Deduplicating);
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
        if targets.len() == before + kept + open {
            routed.open = open;
        }
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

    /// The queue by which a message goes that an exchange is to delay, or to compare with others.
    fn holds(
        &self,
        exchange: &Exchange,
        origin: Origin,
        properties: Properties<'_>,
    ) -> Option<QueueId> {
        let holds = match exchange.definition.kind {
            ExchangeKind::Delayed => delayed::delay_ms(properties).is_some(),
            ExchangeKind::Deduplicating => {
                origin == Origin::Client || deduplicating::is_noted(properties)
            }
            _ => false,
        };
        let (vhost, queue) = holds.then(|| own_queue::place(&exchange.definition))??;
        self.queue_by_name(vhost, queue.as_str())
    }

    /// Whether messages wait in this queue until they are routed anew: it is a delayed exchange's own.
    pub fn delays(&self, id: QueueId) -> bool {
        let exchange = self.exchange_with_own(id).and_then(|id| self.exchange(id));
        exchange.is_some_and(|exchange| exchange.kind == ExchangeKind::Delayed)
    }

    /// The exchange that has this queue for itself.
    pub fn exchange_with_own(&self, id: QueueId) -> Option<ExchangeId> {
        let queue = self.queue(id)?;
        let name = own_queue::exchange_of(&queue.name)?;
        self.exchange_by_name(queue.vhost, name)
    }

    /// Where a message is kept for those that an exchange leads to later.
    fn keeps(&self, exchange: &Exchange, properties: Properties<'_>) -> Option<QueueId> {
        let keeps = exchange.definition.kind == ExchangeKind::RecentHistory;
        let (vhost, queue) = keeps.then(|| own_queue::place(&exchange.definition))??;
        let is_kept = recent_history::is_kept(properties);
        is_kept.then(|| self.queue_by_name(vhost, queue.as_str()))?
    }

    /// Where an exchange's unroutable messages go, if that is there.
    pub fn alternate_exchange(&self, id: ExchangeId) -> Option<ExchangeId> {
        self.alternate(self.exchange_at(id)?)
    }

    fn alternate(&self, exchange: &Exchange) -> Option<ExchangeId> {
        let name = exchange.alternate.as_ref()?;
        self.exchange_by_name(exchange.definition.vhost, name.as_str())
    }

    /// Whether an exchange can be reached from this one that looks at headers or properties, or leaves it
    /// to chance, so that where a message goes may depend on more than its routing key.
    pub fn depends_on_headers(&self, exchange: ExchangeId) -> bool {
        let reached = self.reached_from([exchange].into());
        reached.iter().any(|id| {
            let bindings = self
                .exchange_at(*id)
                .and_then(|found| found.bindings.as_ref());
            bindings.is_some_and(|bindings| !bindings.follow_keys_alone())
        })
    }

    /// Whether what an exchange passes on may come to it again.
    pub fn leads_back(&self, id: ExchangeId) -> bool {
        let next = self.exchange_at(id).map(|exchange| self.next(exchange));
        self.reached_from(next.unwrap_or_default()).contains(&id)
    }

    /// Those exchanges and all that messages may come to from there.
    fn reached_from(&self, mut reached: Vec<ExchangeId>) -> Vec<ExchangeId> {
        let mut at = 0;
        while let Some(id) = reached.get(at) {
            let next = self.exchange_at(*id).map(|exchange| self.next(exchange));
            for id in next.unwrap_or_default() {
                if !reached.contains(&id) {
                    reached.push(id);
                }
            }
            at += 1;
        }
        reached
    }

    /// The exchanges that messages may go to from this one.
    fn next(&self, exchange: &Exchange) -> Vec<ExchangeId> {
        let mut next: Vec<_> = self.alternate(exchange).into_iter().collect();
        if exchange.outgoing_to_exchanges > 0 {
            let outgoing = exchange.outgoing.iter();
            next.extend(outgoing.filter_map(|binding| binding.to_exchange()));
        }
        next
    }
}
