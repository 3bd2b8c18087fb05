//! The part of the topology that administrators define.

use std::sync::Arc;

use super::Topology;
use crate::model::access::Access;
use crate::model::administration::{Administered, Administration};
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

    /// Everybody's rights from now on.
    pub fn grant(&mut self, access: Arc<Access>) {
        self.access = access;
    }
}
