//! The direct exchange: a binding matches the messages whose routing key is its own.

use crate::base::Name;
use crate::model::definition::Destination;
use crate::model::{NameKey, NameMap, Seeded};

use super::destinations::Destinations;
use super::scratch::Collector;

/// Destinations by key.
#[derive(Debug)]
pub struct DirectBindings {
    by_key: NameMap<Destinations>,
}

impl DirectBindings {
    pub(crate) fn new(hashing: &Seeded) -> Self {
        Self {
            by_key: NameMap::with_hasher(hashing.clone()),
        }
    }

    pub(super) fn add(&mut self, key: &Name, destination: Destination) {
        let hashing = self.by_key.hasher().clone();
        let destinations = self.by_key.entry(NameKey(key.clone())).or_default();
        destinations.add(destination, &hashing);
    }

    pub(super) fn remove(&mut self, key: &Name, destination: Destination) {
        if let Some(destinations) = self.by_key.get_mut(key.as_bytes()) {
            destinations.remove(destination);
            if destinations.is_empty() {
                self.by_key.remove(key.as_bytes());
            }
        }
    }

    pub(super) fn route(&self, key: &[u8], collector: &mut Collector<'_>) {
        if let Some(destinations) = self.by_key.get(key) {
            for destination in destinations.as_slice() {
                collector.add(*destination);
            }
        }
    }
}
