//! The fanout exchange: every binding matches every message.

use crate::model::Seeded;
use crate::model::definition::Destination;

use super::destinations::Destinations;
use super::scratch::Collector;

/// All destinations, whatever the keys.
#[derive(Debug)]
pub struct FanoutBindings {
    destinations: Destinations,
    hashing: Seeded,
}

impl FanoutBindings {
    pub(crate) fn new(hashing: &Seeded) -> Self {
        Self {
            destinations: Destinations::default(),
            hashing: hashing.clone(),
        }
    }

    pub(super) fn add(&mut self, destination: Destination) {
        self.destinations.add(destination, &self.hashing);
    }

    pub(super) fn remove(&mut self, destination: Destination) {
        self.destinations.remove(destination);
    }

    pub(super) fn route(&self, collector: &mut Collector<'_>) {
        for destination in self.destinations.as_slice() {
            collector.add(*destination);
        }
    }
}
