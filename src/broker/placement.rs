//! Which core a new queue lives on: the one whose client declares it, unless that has clearly more to do than another
//! or clearly more queues. A client that declares a whole topology is mostly not the one that uses it, and sessions
//! follow their queues (`session::moving`).

use super::load::has_room;
use crate::base::{CoreId, limits};
use crate::model::exchange::own_queue;
use crate::model::{QueueDefinition, Topology};

/// What the catalog knows of the cores.
pub(super) struct Placement {
    cores: Vec<Place>,
    /// Whether queues are placed at all, and don't stay with their declarers.
    spreads: bool,
}

/// A core.
#[derive(Clone, Copy, Default)]
struct Place {
    queues: usize,
    /// What it has to do, in messages, as of the last change that it has carried out.
    load: u64,
}

impl Placement {
    /// Of the queues of a topology.
    pub(super) fn new(cores: u16, spreads: bool, topology: &Topology) -> Self {
        let mut cores = vec![Place::default(); usize::from(cores)];
        let queues = topology.vhosts().flat_map(|vhost| topology.queues(vhost));
        for definition in queues.filter_map(|id| topology.queue(id)) {
            if let Some(place) = cores.get_mut(definition.owner.index()) {
                place.queues += 1;
            }
        }
        Self { cores, spreads }
    }

    /// A queue is to be created: its core is chosen if nobody cares which. One that goes with its connection or with
    /// its consumers, and an exchange's own, is its declarer's.
    pub(super) fn place(&mut self, definition: &mut QueueDefinition) {
        let is_shared = definition.exclusive.is_none()
            && !definition.auto_delete
            && own_queue::exchange_of(&definition.name).is_none();
        if is_shared && self.spreads {
            definition.owner = self.choose(definition.owner);
        }
        self.cores[definition.owner.index()].queues += 1;
    }

    /// A queue of this core is to be deleted.
    pub(super) fn deleted(&mut self, owner: CoreId) {
        self.cores[owner.index()].queues -= 1;
    }

    /// What a core has to do.
    pub(super) fn told(&mut self, core: CoreId, load: u64) {
        self.cores[core.index()].load = load;
    }

    fn choose(&self, declarer: CoreId) -> CoreId {
        let least = self.cores.iter().map(|place| place.load).min().unwrap_or(0);
        let rank = |core: CoreId| {
            let place = self.cores[core.index()];
            let handicap = usize::from(core != declarer) * limits::QUEUES_APART;
            (!has_room(place.load, least), place.queues + handicap)
        };
        let others = (0..self.cores.len() as u16).map(CoreId);
        let best = others.min_by_key(|core| rank(*core));
        best.filter(|best| rank(*best) < rank(declarer))
            .unwrap_or(declarer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Name, VhostId};
    use crate::model::arguments::Arguments;

    const CORES: u16 = 3;

    fn placement(spreads: bool) -> Placement {
        Placement {
            cores: vec![Place::default(); usize::from(CORES)],
            spreads,
        }
    }

    fn queue(name: &str, declarer: u16) -> QueueDefinition {
        QueueDefinition {
            vhost: VhostId(0),
            name: Name::from(name),
            durable: false,
            exclusive: None,
            auto_delete: false,
            arguments: Arguments::default(),
            owner: CoreId(declarer),
            incarnation: 0,
        }
    }

    fn place(placement: &mut Placement, mut definition: QueueDefinition) -> u16 {
        placement.place(&mut definition);
        definition.owner.0
    }

    #[test]
    fn a_few_queues_live_with_their_declarer_and_many_everywhere() {
        let mut placement = placement(true);
        assert_eq!(place(&mut placement, queue("q", 2)), 2);
        assert_eq!(place(&mut placement, queue("q", 2)), 2);
        for _ in 0..100 {
            place(&mut placement, queue("q", 2));
        }
        let queues: Vec<usize> = placement.cores.iter().map(|place| place.queues).collect();
        let (fewest, most) = (queues.iter().min(), queues.iter().max());
        assert!(
            fewest
                .zip(most)
                .is_some_and(|(fewest, most)| most - fewest <= 2),
            "{queues:?}"
        );
        for _ in 0..10 {
            placement.deleted(CoreId(0));
        }
        assert_eq!(place(&mut placement, queue("q", 2)), 0);
    }

    #[test]
    fn a_busy_core_gets_none_as_long_as_there_is_another() {
        let mut placement = placement(true);
        placement.told(CoreId(1), 3 * limits::LOAD_FREE);
        placement.told(CoreId(2), limits::LOAD_FREE);
        assert_eq!(place(&mut placement, queue("q", 1)), 0);
        placement.told(CoreId(0), 3 * limits::LOAD_FREE);
        placement.told(CoreId(2), 2 * limits::LOAD_FREE);
        assert_eq!(
            place(&mut placement, queue("q", 1)),
            1,
            "not much more than the others"
        );
        placement.told(CoreId(2), 0);
        assert_eq!(place(&mut placement, queue("q", 1)), 2);
        placement.told(CoreId(1), 0);
        assert_eq!(place(&mut placement, queue("q", 1)), 1);
    }

    #[test]
    fn what_belongs_to_one_connection_or_to_an_exchange_stays_with_its_declarer() {
        let mut placement = placement(true);
        for _ in 0..10 {
            let auto_delete = QueueDefinition {
                auto_delete: true,
                ..queue("q", 1)
            };
            assert_eq!(place(&mut placement, auto_delete), 1);
        }
        let mut placement = self::placement(false);
        for _ in 0..10 {
            assert_eq!(
                place(&mut placement, queue("q", 1)),
                1,
                "as its operator wants it"
            );
        }
    }
}
