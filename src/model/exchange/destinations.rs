//! A counted set of destinations in a compact list, to be copied out at once.

use std::collections::HashMap;

use crate::model::Seeded;
use crate::model::definition::Destination;

/// From this size up a table finds a destination's place; below, looking through the list is faster.
const INDEXED_FROM: usize = 32;

/// Destinations, each once, with the number of bindings that lead there.
#[derive(Debug, Default)]
pub struct Destinations {
    list: Vec<Destination>,
    counts: Vec<u32>,
    #[allow(
        clippy::box_collection,
        reason = "most sets are small, and pay one word for it"
    )]
    places: Option<Box<HashMap<Destination, u32, Seeded>>>,
}

impl Destinations {
    pub(crate) fn add(&mut self, destination: Destination, hashing: &Seeded) {
        if let Some(place) = self.place(destination) {
            self.counts[place] += 1;
            return;
        }
        self.list.push(destination);
        self.counts.push(1);
        match &mut self.places {
            Some(places) => {
                places.insert(destination, self.list.len() as u32 - 1);
            }
            None if self.list.len() >= INDEXED_FROM => {
                let mut places = HashMap::with_hasher(hashing.clone());
                places.extend(self.list.iter().copied().zip(0..));
                self.places = Some(Box::new(places));
            }
            None => {}
        }
    }

    /// Takes one binding away; without any that leads there, nothing happens.
    pub(crate) fn remove(&mut self, destination: Destination) {
        let Some(place) = self.place(destination) else {
            return;
        };
        self.counts[place] -= 1;
        if self.counts[place] > 0 {
            return;
        }
        self.list.swap_remove(place);
        self.counts.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&destination);
            if let Some(moved) = self.list.get(place) {
                places.insert(*moved, place as u32);
            }
        }
    }

    fn place(&self, destination: Destination) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&destination).map(|place| *place as usize),
            None => self.list.iter().position(|other| *other == destination),
        }
    }

    /// Each destination once.
    pub fn as_slice(&self) -> &[Destination] {
        &self.list
    }

    /// Whether nothing leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::QueueId;

    fn queue(index: u32) -> Destination {
        let generation = 0;
        Destination::Queue(QueueId { index, generation })
    }

    proptest! {
        #[test]
        fn it_is_a_set_that_counts(steps in proptest::collection::vec((0u32..60, any::<bool>()), 0..600)) {
            let hashing = Seeded::with_seed(7);
            let mut set = Destinations::default();
            let mut model = std::collections::BTreeMap::<u32, u32>::new();
            for (index, add) in steps {
                let count = model.entry(index).or_default();
                if add {
                    set.add(queue(index), &hashing);
                    *count += 1;
                } else {
                    set.remove(queue(index));
                    *count = count.saturating_sub(1);
                }
            }
            let mut found: Vec<_> = set.as_slice().to_vec();
            found.sort_by_key(|destination| match destination {
                Destination::Queue(id) => id.index,
                Destination::Exchange(_) => u32::MAX,
            });
            let expected: Vec<_> =
                model.iter().filter(|(_, count)| **count > 0).map(|(index, _)| queue(*index)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
