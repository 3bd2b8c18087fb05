//! Policies: arguments for all queues and exchanges whose names match, set by administrators and
//! changed at any time (<https://www.rabbitmq.com/docs/policies>, `rabbit_policy`).
//!
//! Of the users' policies that apply to a queue or an exchange the one of the highest priority counts,
//! and likewise of the operators'. The two are joined, and then meet the arguments of the declaration.

mod name_pattern;
mod rules;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::base::Name;
use crate::model::administration;
use crate::model::arguments::QueueType;
use name_pattern::NamePattern;

pub use rules::PolicyRules;

/// Whose policy it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PolicyKind {
    /// The users'.
    User,
    /// The operators': they keep users within bounds.
    Operator,
}

/// What is wrong with a policy, in RabbitMQ's words (without its `Validation failed`).
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct PolicyFault(String);

/// A policy, ready to be matched with names.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Name,
    pattern: NamePattern,
    apply_to: ApplyTo,
    priority: i64,
    rules: PolicyRules,
    /// Bits of the types of queues that have no use for one of its keys: it doesn't apply to them.
    unfit_types: u8,
}

/// What a policy may apply to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ApplyTo {
    All,
    Exchanges,
    Queues,
    QueuesOf(QueueType),
}

impl ApplyTo {
    fn parse(text: &str) -> Result<Self, PolicyFault> {
        Ok(match text {
            "all" => Self::All,
            "exchanges" => Self::Exchanges,
            "queues" => Self::Queues,
            "classic_queues" => Self::QueuesOf(QueueType::Classic),
            "quorum_queues" => Self::QueuesOf(QueueType::Quorum),
            "streams" => Self::QueuesOf(QueueType::Stream),
            other => {
                return Err(PolicyFault(format!(
                    "apply-to '{other}' unrecognised; should be one of: 'queues', 'classic_queues', \
                     'quorum_queues', 'streams', 'exchanges', or 'all'"
                )));
            }
        })
    }

    fn has_queues_of(self, queue_type: QueueType) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::Exchanges => false,
            Self::QueuesOf(only) => only == queue_type,
        }
    }
}

impl Policy {
    /// Checks and reads what an administrator defined.
    ///
    /// # Errors
    /// The pattern, what it applies to, a key or a value, whichever is wrong first.
    pub fn parse(kind: PolicyKind, policy: &administration::Policy) -> Result<Self, PolicyFault> {
        let pattern = NamePattern::parse(&policy.pattern).map_err(|reason| {
            let name = &policy.name;
            PolicyFault(format!(
                "{name} should be regular expression but is invalid: {reason}"
            ))
        })?;
        let apply_to = ApplyTo::parse(&policy.apply_to)?;
        let (rules, mut unfit_types) = PolicyRules::parse(kind, &policy.definition)?;
        if let ApplyTo::QueuesOf(only) = apply_to {
            // Who names the type means it: RabbitMQ would apply such a policy to nothing at all, and
            // here a delivery limit works for any queue.
            unfit_types &= !only.bit();
        }
        Ok(Self {
            name: policy.name.clone(),
            pattern,
            apply_to,
            priority: policy.priority,
            rules,
            unfit_types,
        })
    }

    fn applies_to_queue(&self, name: &Name, queue_type: QueueType) -> bool {
        self.apply_to.has_queues_of(queue_type)
            && self.unfit_types & queue_type.bit() == 0
            && self.pattern.matches(name)
    }

    fn applies_to_exchange(&self, name: &Name) -> bool {
        matches!(self.apply_to, ApplyTo::All | ApplyTo::Exchanges) && self.pattern.matches(name)
    }
}

/// All policies of one vhost.
#[derive(Debug, Default)]
pub struct Policies {
    users: Ranked,
    operators: Ranked,
}

impl Policies {
    /// Sets a policy, or sets it anew.
    pub fn set(&mut self, kind: PolicyKind, policy: Policy) {
        self.clear(kind, &policy.name);
        self.ranked(kind).insert(policy);
    }

    /// Takes a policy away; one that isn't there changes nothing.
    pub fn clear(&mut self, kind: PolicyKind, name: &Name) {
        self.ranked(kind).0.retain(|policy| policy.name != *name);
    }

    fn ranked(&mut self, kind: PolicyKind) -> &mut Ranked {
        match kind {
            PolicyKind::User => &mut self.users,
            PolicyKind::Operator => &mut self.operators,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.0.is_empty() && self.operators.0.is_empty()
    }

    /// What policies have to say of a queue.
    pub fn of_queue(&self, name: &Name, queue_type: QueueType) -> Effective<'_> {
        self.effective(|policy| policy.applies_to_queue(name, queue_type))
    }

    /// What policies have to say of an exchange.
    pub fn of_exchange(&self, name: &Name) -> Effective<'_> {
        self.effective(|policy| policy.applies_to_exchange(name))
    }

    fn effective(&self, applies: impl Fn(&Policy) -> bool) -> Effective<'_> {
        Effective {
            user: self.users.0.iter().find(|policy| applies(policy)),
            operator: self.operators.0.iter().find(|policy| applies(policy)),
        }
    }
}

/// The highest priority first. Equals by name, so that every core agrees: RabbitMQ leaves it open.
#[derive(Debug, Default)]
struct Ranked(Vec<Policy>);

impl Ranked {
    fn insert(&mut self, policy: Policy) {
        let place = self.0.partition_point(|other| {
            (other.priority, &policy.name) > (policy.priority, &other.name)
        });
        self.0.insert(place, policy);
    }
}

/// The policies that count for one queue or exchange.
#[derive(Clone, Copy, Debug)]
pub struct Effective<'a> {
    user: Option<&'a Policy>,
    operator: Option<&'a Policy>,
}

impl<'a> Effective<'a> {
    /// The name of the users' policy.
    pub fn user_policy(self) -> Option<&'a Name> {
        self.user.map(|policy| &policy.name)
    }

    /// The name of the operators'.
    pub fn operator_policy(self) -> Option<&'a Name> {
        self.operator.map(|policy| &policy.name)
    }

    /// What the two ask for together: the lower number, and otherwise the operators' word.
    pub fn rules(self) -> PolicyRules {
        let of = |policy: Option<&Policy>| policy.map(|policy| policy.rules.clone());
        let users = of(self.user).unwrap_or_default();
        users.joined_with(of(self.operator).unwrap_or_default())
    }
}
