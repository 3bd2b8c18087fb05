//! The queues that a message goes to, grouped by the cores that hold them: what each of those cores is
//! told. Cleared and used again.

use crate::base::{CoreId, QueueId};
use crate::model::Topology;

/// Queues by core.
#[derive(Debug, Default)]
pub struct Addressees {
    groups: Vec<Group>,
    /// So many of them have a meaning; the others are there for their buffers.
    len: usize,
}

/// What a group that has no meaning keeps of its buffer.
const KEPT_BYTES: usize = 256;

/// The queues on one core.
#[derive(Debug)]
struct Group {
    core: CoreId,
    /// [`QueueId::to_bytes`] of each.
    queues: Vec<u8>,
}

impl Addressees {
    /// Nobody any more.
    fn clear(&mut self) {
        for group in &mut self.groups[..self.len] {
            group.queues.clear();
            group.queues.shrink_to(KEPT_BYTES);
        }
        self.len = 0;
    }

    /// These queues and no others, but for those that are gone.
    #[inline]
    pub fn set(&mut self, queues: &[QueueId], topology: &Topology) {
        self.clear();
        for &queue in queues {
            if let Some(definition) = topology.queue(queue) {
                self.add(definition.owner, queue);
            }
        }
    }

    /// A queue and the core that holds it.
    fn add(&mut self, core: CoreId, queue: QueueId) {
        let mut used = self.groups[..self.len].iter();
        let index = used.position(|group| group.core == core);
        let index = index.unwrap_or_else(|| self.begin_group(core));
        self.groups[index]
            .queues
            .extend_from_slice(&queue.to_bytes());
    }

    fn begin_group(&mut self, core: CoreId) -> usize {
        match self.groups.get_mut(self.len) {
            Some(group) => group.core = core,
            None => self.groups.push(Group {
                core,
                queues: Vec::new(),
            }),
        }
        self.len += 1;
        self.len - 1
    }

    /// How many cores there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the message goes nowhere.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The core at that place, and its queues: [`QueueId::to_bytes`] of each.
    pub fn at(&self, index: usize) -> (CoreId, &[u8]) {
        debug_assert!(index < self.len, "a group that has a meaning");
        let group = &self.groups[index];
        (group.core, &group.queues)
    }
}
