//! The part of the topology that administrators define.

use std::sync::Arc;

use super::Topology;
use crate::base::VhostId;
use crate::model::access::Access;
use crate::model::administration::{Administered, Administration};
use crate::model::arguments::QueueType;
use crate::model::policy::{PolicyFault, PolicyKind};

impl Topology {
    /// All that administrators defined.
    pub fn administration(&self) -> &Administration {
        &self.administration
    }

    /// Who may do what. Nobody, before [`Topology::grant`].
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// An administrator defines a thing, or defines it anew. A policy takes effect at once.
    ///
    /// # Errors
    /// A policy that makes no sense: it is kept, and has no effect.
    pub fn administer(&mut self, thing: Administered) -> Result<(), PolicyFault> {
        self.administration.set(thing.clone());
        match thing {
            Administered::Policy(policy) => self.enact(PolicyKind::User, &policy),
            Administered::OperatorPolicy(policy) => self.enact(PolicyKind::Operator, &policy),
            _ => Ok(()),
        }
    }

    /// What queues of a vhost are that are declared without a type, if somebody has said it.
    pub fn default_queue_type(&self, vhost: VhostId) -> Option<QueueType> {
        let of_vhost = self
            .administration
            .default_queue_type(self.vhost_name(vhost));
        of_vhost.or(self.default_queue_type)
    }

    /// What they are in vhosts of which nobody says it.
    pub fn set_default_queue_type(&mut self, default: Option<QueueType>) {
        self.default_queue_type = default;
    }

    /// Everybody's rights from now on.
    pub fn grant(&mut self, access: Arc<Access>) {
        self.access = access;
    }
}
