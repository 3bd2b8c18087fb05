//! The queues that a message goes to, grouped by the cores that hold them: what each of those cores is
//! told. Cleared and used again.

use crate::base::{CoreId, QueueId};

/// Queues by core.
#[derive(Debug, Default)]
pub struct Addressees {
    groups: Vec<Group>,
}

/// The queues on one core.
#[derive(Debug)]
struct Group {
    core: CoreId,
    /// [`QueueId::to_bytes`] of each.
    queues: Vec<u8>,
}

impl Addressees {
    /// Nobody any more.
    pub fn clear(&mut self) {
        self.groups.clear();
    }

    /// A queue and the core that holds it.
    pub fn add(&mut self, core: CoreId, queue: QueueId) {
        let position = self.groups.iter().position(|group| group.core == core);
        let index = position.unwrap_or_else(|| {
            self.groups.push(Group {
                core,
                queues: Vec::new(),
            });
            self.groups.len() - 1
        });
        self.groups[index]
            .queues
            .extend_from_slice(&queue.to_bytes());
    }

    /// How many cores there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether the message goes nowhere.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The core at that place, and its queues: [`QueueId::to_bytes`] of each.
    pub fn at(&self, index: usize) -> (CoreId, &[u8]) {
        let group = &self.groups[index];
        (group.core, &group.queues)
    }
}
