//! All bindings of an exchange in one order, for the kinds that choose one of them: by chance
//! (`x-random`, `x-local-random`) or by the routing key's hash modulo their number (`x-modulus-hash`).
//!
//! The order is by key and destination's name, as RabbitMQ's: so a key leads to the same queue again
//! after a restart.

use twox_hash::XxHash3_64;

use crate::base::Name;
use crate::model::Seeded;
use crate::model::definition::Destination;

use super::scratch::{Chance, Collector};

/// The bindings, sorted.
#[derive(Debug, Default)]
pub struct BindingList {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Name,
    name: Name,
    destination: Destination,
}

impl BindingList {
    pub(super) fn add(&mut self, key: &Name, destination: Destination, name: &Name) {
        let place = self
            .entries
            .partition_point(|entry| (&entry.key, &entry.name) < (key, name));
        let entry = Entry {
            key: key.clone(),
            name: name.clone(),
            destination,
        };
        self.entries.insert(place, entry);
    }

    pub(super) fn remove(&mut self, key: &Name, destination: Destination) {
        let start = self.entries.partition_point(|entry| entry.key < *key);
        let place = self.entries[start..]
            .iter()
            .take_while(|entry| entry.key == *key)
            .position(|entry| entry.destination == destination);
        if let Some(place) = place {
            self.entries.remove(start + place);
        }
    }

    /// One binding, each as likely as any other, however many keys the message has.
    pub(super) fn route_by_chance(
        &self,
        hashing: &Seeded,
        chance: &mut Chance,
        collector: &mut Collector<'_>,
    ) {
        if !self.entries.is_empty() {
            let place = chance.below(self.entries.len(), hashing);
            collector.add(self.entries[place].destination);
        }
    }

    /// The binding that the keys' hash says.
    pub(super) fn route_by_modulus(&self, keys: &[&[u8]], collector: &mut Collector<'_>) {
        if self.entries.is_empty() {
            return;
        }
        // Not seeded by the process: the same key must lead to the same queue after a restart.
        let hash = keys
            .iter()
            .fold(0, |seed, key| XxHash3_64::oneshot_with_seed(seed, key));
        let place = hash % self.entries.len() as u64;
        collector.add(self.entries[place as usize].destination);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::QueueId;
    use crate::model::exchange::RouteScratch;

    fn queue(index: u32) -> Destination {
        Destination::Queue(QueueId {
            index,
            generation: 0,
        })
    }

    fn chosen(route: impl FnOnce(&mut Chance, &mut Collector<'_>)) -> Vec<u32> {
        let mut targets = Vec::new();
        let mut scratch = RouteScratch::new();
        let (mut collector, matching) = scratch.begin(&mut targets);
        route(&mut matching.chance, &mut collector);
        targets.iter().map(|id| id.index).collect()
    }

    fn list(numbers: &[u32]) -> BindingList {
        let mut list = BindingList::default();
        for number in numbers {
            let name = Name::from(format!("q{number}"));
            list.add(&Name::from("key"), queue(*number), &name);
        }
        list
    }

    #[test]
    fn chance_gives_each_binding_its_share_and_counts_bindings_not_queues() {
        let mut list = list(&[0, 1, 2]);
        list.add(&Name::from("more"), queue(2), &Name::from("q2"));
        let (hashing, mut chance) = (Seeded::with_seed(5), Chance::default());
        let mut counts = BTreeMap::<u32, u32>::new();
        for _ in 0..4000 {
            let found = chosen(|_, collector| {
                list.route_by_chance(&hashing, &mut chance, collector);
            });
            assert_eq!(found.len(), 1);
            *counts.entry(found[0]).or_default() += 1;
        }
        for (number, expected) in [(0, 1000), (1, 1000), (2, 2000)] {
            let count = counts[&number];
            assert!(
                count.abs_diff(expected) < 150,
                "queue {number}: {count} times"
            );
        }
    }

    #[test]
    fn the_modulus_depends_on_the_bindings_and_not_on_the_order_they_came_in() {
        let (one, mut other) = (list(&[0, 1, 2, 3, 4]), list(&[4, 2, 7, 0, 3, 1]));
        other.remove(&Name::from("key"), queue(7));
        other.remove(&Name::from("no such key"), queue(1));
        let mut counts = BTreeMap::<u32, u32>::new();
        for number in 0..1000 {
            let key = format!("key {number}");
            let route = |list: &BindingList| {
                chosen(|_, collector| list.route_by_modulus(&[key.as_bytes()], collector))
            };
            assert_eq!(route(&one), route(&other));
            *counts.entry(route(&one)[0]).or_default() += 1;
        }
        assert!(counts.len() == 5 && counts.values().all(|count| *count > 140));
    }

    #[test]
    fn an_empty_list_leads_nowhere() {
        let mut list = list(&[1]);
        list.remove(&Name::from("key"), queue(1));
        let hashing = Seeded::with_seed(5);
        let by_chance = chosen(|chance, collector| {
            list.route_by_chance(&hashing, chance, collector);
        });
        let by_modulus = chosen(|_, collector| list.route_by_modulus(&[b"a"], collector));
        assert_eq!((by_chance, by_modulus), (vec![], vec![]));
    }
}
