//! The part of the topology that administrators define.

use super::Topology;
use crate::model::administration::{Administered, Administration};

impl Topology {
    /// All that administrators defined.
    pub fn administration(&self) -> &Administration {
        &self.administration
    }

    /// An administrator defines a thing, or defines it anew.
    pub fn administer(&mut self, thing: Administered) {
        self.administration.set(thing);
    }
}
