//! What policies make of queues and exchanges. A policy that is set or cleared has its effect on those
//! that are there at once.

use std::time::Duration;

use super::change::is_undeclared;
use super::{DEFAULT_EXCHANGE, Exchange, Topology};
use crate::base::{ExchangeId, Name, QueueId, VhostId};
use crate::model::NameKey;
use crate::model::administration;
use crate::model::arguments::{Arguments, CONSUMER_TIMEOUT, QueueArguments};
use crate::model::definition::{ExchangeDefinition, ExchangeKind};
use crate::model::exchange::{deduplicating, own_queue};
use crate::model::policy::{Effective, Policy, PolicyFault, PolicyKind};

impl Topology {
    /// What a queue's declaration and the policies that count for it ask for together, unless the queue
    /// is gone. It changes whenever a policy of the vhost does.
    pub fn queue_arguments(&self, id: QueueId) -> Option<QueueArguments> {
        let declared = &self.queue(id)?.arguments;
        let merged = self.policies_of_queue(id)?.rules().merged_with(declared);
        QueueArguments::parse(&merged).ok()
    }

    /// The policies that count for a queue, unless it is gone. None do for those that nobody declared: an exchange's
    /// own, and where direct replies go.
    pub fn policies_of_queue(&self, id: QueueId) -> Option<Effective<'_>> {
        let queue = self.queue(id)?;
        if is_undeclared(&queue.name) {
            return None;
        }
        let queue_type = QueueArguments::parse(&queue.arguments)
            .map(|arguments| arguments.queue_type)
            .unwrap_or_default();
        let policies = &self.vhost(queue.vhost).policies;
        Some(policies.of_queue(&queue.name, queue_type))
    }

    /// The arguments of an exchange's own queue, with what policies for the exchange say instead; none for any
    /// other queue.
    pub fn own_queue_arguments(&self, id: QueueId) -> Option<Arguments> {
        let queue = self.queue(id)?;
        let exchange = Name::from(own_queue::exchange_of(&queue.name)?);
        if !deduplicating::is_cache(&queue.arguments) {
            return Some(queue.arguments.clone());
        }
        let policies = &self.vhost(queue.vhost).policies;
        let rules = policies.of_exchange(&exchange).rules();
        let replaced = rules.replacing_cache(&queue.arguments);
        own_queue::arguments(ExchangeKind::Deduplicating, &replaced)
    }

    /// How long consumers of a queue may keep a delivery, if not for ever; `default`, if neither its
    /// declaration nor a policy says it.
    pub fn consumer_timeout(&self, id: QueueId, default: Option<Duration>) -> Option<Duration> {
        let queue = self.queue(id)?;
        let is_plain = queue.arguments.get(CONSUMER_TIMEOUT).is_none()
            && self.vhost(queue.vhost).policies.is_empty();
        if is_plain {
            return default;
        }
        match self.queue_arguments(id)?.consumer_timeout_ms {
            None => default,
            Some(0) => None,
            Some(ms) => Some(Duration::from_millis(ms)),
        }
    }

    /// The policies that count for an exchange, unless it is gone.
    pub fn policies_of_exchange(&self, id: ExchangeId) -> Option<Effective<'_>> {
        let exchange = self.exchange(id)?;
        let policies = &self.vhost(exchange.vhost).policies;
        Some(policies.of_exchange(&exchange.name))
    }

    pub(super) fn enact(
        &mut self,
        kind: PolicyKind,
        policy: &administration::Policy,
    ) -> Result<(), PolicyFault> {
        let Some(vhost) = self.vhost_by_name(policy.vhost.as_str()) else {
            return Ok(());
        };
        let parsed = Policy::parse(kind, policy);
        let policies = &mut self.vhosts[vhost.index()].policies;
        policies.clear(kind, &policy.name);
        let result = parsed.map(|policy| policies.set(kind, policy));
        self.review_exchanges(vhost);
        result
    }

    pub(super) fn clear_policy(&mut self, kind: PolicyKind, vhost: &Name, name: &Name) {
        self.administration.clear_policy(kind, vhost, name);
        if let Some(vhost) = self.vhost_by_name(vhost.as_str()) {
            self.vhosts[vhost.index()].policies.clear(kind, name);
            self.review_exchanges(vhost);
        }
    }

    /// Has every exchange of the vhost take the alternate that it has now.
    fn review_exchanges(&mut self, vhost: VhostId) {
        let mut changed = Vec::new();
        for id in self.exchanges(vhost).collect::<Vec<_>>() {
            let Some(exchange) = self.exchange_at(id) else {
                continue;
            };
            let alternate = self.alternate_of(&exchange.definition);
            if exchange.alternate != alternate {
                self.set_alternate(id, alternate);
                changed.push(id);
            }
        }
        self.revise(changed);
    }

    /// Where an exchange's unroutable messages go, by its declaration or else by a policy. The default
    /// exchange has no alternate, whatever a policy says.
    pub(super) fn alternate_of(&self, definition: &ExchangeDefinition) -> Option<Name> {
        if definition.name.as_str() == DEFAULT_EXCHANGE {
            return None;
        }
        let policies = &self.vhost(definition.vhost).policies;
        let by_policy = || policies.of_exchange(&definition.name).rules();
        let declared = definition.alternate.clone();
        declared.or_else(|| by_policy().alternate_exchange())
    }

    /// Changes where an exchange's unroutable messages go, and who is known to send some there.
    pub(super) fn set_alternate(&mut self, id: ExchangeId, alternate: Option<Name>) {
        let Some(Exchange {
            definition,
            alternate: current,
            ..
        }) = self.exchanges.get_mut(id.index, id.generation)
        else {
            return;
        };
        let users = &mut self.vhosts[definition.vhost.index()].alternate_of;
        if let Some(before) = std::mem::replace(current, alternate.clone())
            && let Some(those) = users.get_mut(before.as_bytes())
        {
            those.retain(|user| *user != id);
            if those.is_empty() {
                users.remove(before.as_bytes());
            }
        }
        if let Some(alternate) = alternate {
            users.entry(NameKey(alternate)).or_default().push(id);
        }
    }
}
