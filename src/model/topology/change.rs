//! How a topology becomes the next one, and which exchanges route differently from then on.

use super::{BindingSet, DEFAULT_EXCHANGE, Exchange, Incoming, Queue, Topology};
use crate::base::{ExchangeId, Name, QueueId};
use crate::model::NameKey;
use crate::model::administration::Administered;
use crate::model::definition::{Binding, Change, Destination, ExchangeDefinition, QueueDefinition};
use crate::model::exchange::{Bindings, own_queue};
use crate::model::name_rules::is_reply_address;

impl Topology {
    /// Takes one step. The same steps in the same order give every core the same topology; a step that
    /// doesn't fit (its subject is gone, or was there before) changes nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::CreateQueue { id, definition } => self.create_queue(*id, definition),
            Change::TouchQueue { id } => {
                if let Some(queue) = self.queues.get_mut(id.index, id.generation) {
                    queue.touches += 1;
                }
            }
            Change::DeleteQueue { id } => self.delete_queue(*id),
            Change::CreateExchange { id, definition } => self.create_exchange(*id, definition),
            Change::DeleteExchange { id } => self.delete_exchange(*id),
            Change::Bind(binding) => self.bind(binding),
            Change::Unbind(binding) => self.unbind(binding),
            Change::SetPolicy { kind, policy } => {
                let thing = Administered::policy(*kind, policy.clone());
                let passed = self.administer(thing);
                debug_assert_eq!(passed, Ok(()), "the catalog has checked it");
            }
            Change::ClearPolicy { kind, vhost, name } => self.clear_policy(*kind, vhost, name),
        }
    }

    fn create_queue(&mut self, id: QueueId, definition: &QueueDefinition) {
        let queue = Queue {
            definition: definition.clone(),
            touches: 0,
            incoming: None,
        };
        if self.queues.insert(id.index, id.generation, queue) {
            let vhost = &mut self.vhosts[definition.vhost.index()];
            vhost.queues.insert(NameKey(definition.name.clone()), id);
            vhost.undeclared_queues += usize::from(is_undeclared(&definition.name));
            let default_exchange = self.exchange_by_name(definition.vhost, DEFAULT_EXCHANGE);
            self.revise(default_exchange.into_iter().collect());
        }
    }

    fn delete_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(id.index, id.generation) else {
            return;
        };
        let QueueDefinition { vhost, name, .. } = queue.definition;
        let of_vhost = &mut self.vhosts[vhost.index()];
        of_vhost.queues.remove(name.as_bytes());
        of_vhost.undeclared_queues -= usize::from(is_undeclared(&name));
        let mut changed = Vec::new();
        for binding in queue.incoming.as_deref().into_iter().flatten() {
            self.detach_from_source(binding);
            changed.push(binding.source);
        }
        changed.extend(self.exchange_by_name(vhost, DEFAULT_EXCHANGE));
        self.revise(changed);
    }

    pub(super) fn create_exchange(&mut self, id: ExchangeId, definition: &ExchangeDefinition) {
        let is_default = definition.name.as_str() == DEFAULT_EXCHANGE;
        let exchange = Exchange {
            definition: definition.clone(),
            alternate: None,
            bindings: (!is_default)
                .then(|| Bindings::new(definition.kind, &definition.arguments, &self.hashing)),
            outgoing: BindingSet::with_hasher(self.hashing.clone()),
            incoming: None,
            outgoing_to_exchanges: 0,
            revision: 0,
        };
        if self.exchanges.insert(id.index, id.generation, exchange) {
            let vhost = &mut self.vhosts[definition.vhost.index()];
            vhost.exchanges.insert(NameKey(definition.name.clone()), id);
            self.set_alternate(id, self.alternate_of(definition));
            self.revise(vec![id]);
        }
    }

    fn delete_exchange(&mut self, id: ExchangeId) {
        // First, while its name and its bindings still tell who leads to it.
        self.revise(vec![id]);
        self.set_alternate(id, None);
        let Some(exchange) = self.exchanges.remove(id.index, id.generation) else {
            return;
        };
        let definition = &exchange.definition;
        let vhost = &mut self.vhosts[definition.vhost.index()];
        vhost.exchanges.remove(definition.name.as_bytes());
        for binding in &exchange.outgoing {
            self.detach_from_destination(binding);
        }
        for binding in exchange.incoming.as_deref().into_iter().flatten() {
            self.detach_from_source(binding);
        }
    }

    fn bind(&mut self, binding: &Binding) {
        let hashing = self.hashing.clone();
        let Some((name, incoming)) = self.destination_mut(binding.destination) else {
            return;
        };
        let name = name.clone();
        let incoming = incoming.get_or_insert_with(|| Box::new(BindingSet::with_hasher(hashing)));
        let is_new = incoming.insert(binding.clone());
        let Some(source) = self.exchange_at_mut(binding.source) else {
            self.detach_from_destination(binding);
            return;
        };
        if !is_new {
            return;
        }
        if let Some(bindings) = &mut source.bindings {
            bindings.add(
                &binding.routing_key,
                &binding.arguments,
                binding.destination,
                &name,
            );
        }
        source.outgoing_to_exchanges += usize::from(binding.to_exchange().is_some());
        source.outgoing.insert(binding.clone());
        self.revise(vec![binding.source]);
    }

    fn unbind(&mut self, binding: &Binding) {
        if self.has_binding(binding) {
            self.detach_from_source(binding);
            self.detach_from_destination(binding);
            self.revise(vec![binding.source]);
        }
    }

    fn detach_from_source(&mut self, binding: &Binding) {
        if let Some(source) = self.exchange_at_mut(binding.source)
            && source.outgoing.remove(binding)
        {
            source.outgoing_to_exchanges -= usize::from(binding.to_exchange().is_some());
            if let Some(bindings) = &mut source.bindings {
                bindings.remove(
                    &binding.routing_key,
                    &binding.arguments,
                    binding.destination,
                );
            }
        }
    }

    fn detach_from_destination(&mut self, binding: &Binding) {
        if let Some((_, incoming)) = self.destination_mut(binding.destination)
            && let Some(bindings) = incoming
        {
            bindings.remove(binding);
            if bindings.is_empty() {
                *incoming = None;
            }
        }
    }

    fn destination_mut(&mut self, destination: Destination) -> Option<(&Name, &mut Incoming)> {
        match destination {
            Destination::Queue(id) => self
                .queues
                .get_mut(id.index, id.generation)
                .map(|queue| (&queue.definition.name, &mut queue.incoming)),
            Destination::Exchange(id) => self
                .exchange_at_mut(id)
                .map(|exchange| (&exchange.definition.name, &mut exchange.incoming)),
        }
    }

    /// Gives a new revision to these exchanges and to all from which one of them can be reached, by
    /// bindings or as an alternate.
    pub(super) fn revise(&mut self, mut changed: Vec<ExchangeId>) {
        self.last_revision += 1;
        let revision = self.last_revision;
        while let Some(id) = changed.pop() {
            let Some(exchange) = self.exchange_at_mut(id) else {
                continue;
            };
            if std::mem::replace(&mut exchange.revision, revision) == revision {
                continue;
            }
            let incoming = exchange.incoming.as_deref().into_iter().flatten();
            changed.extend(incoming.map(|binding| binding.source));
            let (vhost, name) = (exchange.definition.vhost, exchange.definition.name.clone());
            let users = self.vhost(vhost).alternate_of.get(name.as_bytes());
            changed.extend(users.into_iter().flatten());
        }
    }
}

/// Whether a queue of that name comes and goes with something else. Clients can declare none that is called so.
pub(super) fn is_undeclared(queue: &Name) -> bool {
    own_queue::exchange_of(queue).is_some() || is_reply_address(queue)
}
