//! Queues that take no message twice (`x-message-deduplication`): one whose key equals that of a message
//! that is there is dropped. It is there until it is acknowledged, dropped or dead-lettered, whoever has it.
//! A deduplicating exchange has such a queue for its notes.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Incoming, Queue};
use crate::amqp::properties::Properties;
use crate::base::limits;
use crate::model::deduplication::{Key, key_of};

/// The keys of the messages that are there.
#[derive(Default)]
pub(super) struct Duplicates {
    /// Where each is.
    places: HashMap<Key, u64>,
    keys: BTreeMap<u64, Key>,
}

impl Duplicates {
    /// A message comes to that position. False if one with its key is there.
    fn add(&mut self, key: Key, position: u64) -> bool {
        if self.places.contains_key(&key) {
            return false;
        }
        self.places.insert(key, position);
        self.keys.insert(position, key);
        if self.keys.len() > limits::DEDUPLICATION_KEYS_MAX
            && let Some((_, oldest)) = self.keys.pop_first()
        {
            self.places.remove(&oldest);
        }
        true
    }

    /// A start has found a message there. After a crash one may be back that had gone before its like came.
    fn restore(&mut self, key: Key, position: u64) {
        let place = self.places.get(&key).copied().unwrap_or(position);
        self.keys.remove(&place.min(position));
        self.places.remove(&key);
        self.add(key, place.max(position));
    }

    fn remove(&mut self, position: u64) {
        if let Some(key) = self.keys.remove(&position) {
            self.places.remove(&key);
        }
    }
}

impl Queue {
    /// Whether a message like this one is there. If not, its key is from now on.
    pub(super) fn is_duplicate(&mut self, incoming: &Incoming<'_>) -> bool {
        let position = self.next_position;
        let Some(duplicates) = &mut self.duplicates else {
            return false;
        };
        let key = key_of(Properties::from_validated(incoming.message.properties));
        key.is_some_and(|key| !duplicates.add(key, position))
    }

    /// The message of that position is done with.
    #[inline]
    pub(super) fn forget_key(&mut self, position: u64) {
        if let Some(duplicates) = &mut self.duplicates {
            duplicates.remove(position);
        }
    }

    /// Only the messages that are out are left.
    pub(super) fn forget_ready_keys(&mut self) {
        if let Some(duplicates) = &mut self.duplicates {
            let out: HashSet<u64> = self.unsettled.positions().collect();
            let keys = duplicates.keys.extract_if(.., |at, _| !out.contains(at));
            for (_, key) in keys {
                duplicates.places.remove(&key);
            }
        }
    }

    /// Keys of messages that a start has found, by position.
    pub fn restore_keys(&mut self, keys: impl Iterator<Item = (u64, Key)>) {
        if let Some(duplicates) = &mut self.duplicates {
            for (position, key) in keys {
                duplicates.restore(key, position);
            }
        }
    }

    /// Whether something with that key is there and its time isn't up. [`Queue::take_fallen`] is to follow.
    pub fn remembers(&mut self, key: &Key, now_ms: u64) -> bool {
        self.expire(now_ms, limits::JOB_STEPS_PER_TURN);
        let duplicates = self.duplicates.as_ref();
        duplicates.is_some_and(|duplicates| duplicates.places.contains_key(key))
    }
}
