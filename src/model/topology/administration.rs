//! The part of the topology that administrators define.

use std::sync::Arc;

use super::Topology;
use crate::model::access::Access;
use crate::model::administration::{Administered, Administration};

impl Topology {
    /// All that administrators defined.
    pub fn administration(&self) -> &Administration {
        &self.administration
    }

    /// Who may do what. Nobody, before [`Topology::grant`].
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// An administrator defines a thing, or defines it anew.
    pub fn administer(&mut self, thing: Administered) {
        self.administration.set(thing);
    }

    /// Everybody's rights from now on.
    pub fn grant(&mut self, access: Arc<Access>) {
        self.access = access;
    }
}
