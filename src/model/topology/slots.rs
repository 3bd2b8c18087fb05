//! Places for queues and exchanges, so that an id is an index and a generation.

use std::collections::BTreeSet;

/// Tenants by index and generation. A vacated place is let again, the lowest first, with the next
/// generation, so every core that has applied the same changes would pick the same.
#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<Place<T>>,
    vacant: BTreeSet<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// Of the tenant, or of the next one.
    generation: u32,
    tenant: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            vacant: BTreeSet::new(),
        }
    }
}

impl<T> Slots<T> {
    pub(super) fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let place = self.places.get(index as usize)?;
        place
            .tenant
            .as_ref()
            .filter(|_| place.generation == generation)
    }

    pub(super) fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let place = self.places.get_mut(index as usize)?;
        place
            .tenant
            .as_mut()
            .filter(|_| place.generation == generation)
    }

    /// Index and generation for the next tenant.
    pub(super) fn vacant(&self) -> (u32, u32) {
        match self.vacant.first() {
            Some(index) => (*index, self.places[*index as usize].generation),
            None => (self.places.len() as u32, 0),
        }
    }

    /// Whether the place was free, and is the tenant's now.
    pub(super) fn insert(&mut self, index: u32, generation: u32, tenant: T) -> bool {
        while self.places.len() <= index as usize {
            self.vacant.insert(self.places.len() as u32);
            self.places.push(Place {
                generation: 0,
                tenant: None,
            });
        }
        if !self.vacant.remove(&index) {
            return false;
        }
        self.places[index as usize] = Place {
            generation,
            tenant: Some(tenant),
        };
        true
    }

    pub(super) fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        self.get(index, generation)?;
        let place = &mut self.places[index as usize];
        place.generation = generation.wrapping_add(1);
        self.vacant.insert(index);
        place.tenant.take()
    }
}
