//! What the cores share: between each ordered pair a ring of batches, a ring of emptied ones for the way
//! back, and a ring of sessions that move; and for each core a bed, which says whether it sleeps, with a
//! bell beside it.
//!
//! ```text
//!   core A  ── ring of mail ──────────────►  core B
//!           ◄── ring of emptied batches ──
//!           ── ring of sessions ──────────►
//! ```
//!
//! A wake to a busy core costs both sides and helps nobody, so a core is woken only by the one who
//! flips its `sleeping` flag back:
//!
//! ```text
//!   sender                       sleeper
//!   push                         sleeping = true
//!   fence                        fence
//!   sleeping? take it, ring      rings still empty? park : sleeping = false
//! ```
//!
//! With the two fences at least one of them sees what the other did before its own (the same holds
//! for the order to stop and for an alarm in place of a push).
//!
//! A bell is a pair of sockets, on which the sleeper waits like on a client's. It could be a task's
//! waker, which glommio allows to be woken from another thread. But that goes by an eventfd on
//! glommio's *latency ring*, and a completion there at the wrong moment makes glommio 0.9 park over a
//! runnable task: `run_task_queues` leaves at once (`need_preempt`) and says that nothing was left to run.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

use crossbeam_utils::CachePadded;

use super::ring::{Consumer, Producer, ring};
use crate::base::{Alarms, CoreId, limits};
use crate::broker::Traveller;
use crate::mail::Mail;

/// The rings and beds of `cores` cores: one set of links for each.
pub(crate) fn mesh(cores: u16) -> io::Result<(Arc<Beds>, Vec<Links>)> {
    let mut made = vec![];
    let mut bells = vec![];
    for _ in 0..cores {
        let (rope, bell) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        made.push(CachePadded::new(Bed {
            sleeping: AtomicBool::new(false),
            rope,
        }));
        bells.push(bell);
    }
    let beds = Arc::new(Beds {
        cores: made.into_boxed_slice(),
        stopping: AtomicBool::new(false),
        alarms: AtomicU8::new(Alarms::default().to_bits()),
        full: AtomicU64::new(0),
        busy: AtomicUsize::new(usize::from(cores)),
    });
    let mut links: Vec<Links> = (0..cores)
        .zip(bells)
        .map(|(core, bell)| Links {
            core: CoreId(core),
            peers: Vec::with_capacity(usize::from(cores) - 1),
            beds: Arc::clone(&beds),
            bell: Some(bell),
        })
        .collect();
    for low in 0..links.len() {
        for high in low + 1..links.len() {
            let (there, back) = (lane(), lane());
            let (low_id, high_id) = (links[low].core, links[high].core);
            links[low].peers.push(Peer::new(high_id, there.0, back.1));
            links[high].peers.push(Peer::new(low_id, back.0, there.1));
        }
    }
    Ok((beds, links))
}

/// One direction between two cores: the sender's ends, and the receiver's.
fn lane() -> (Sending, Receiving) {
    let (mail, received) = ring(limits::RING_BATCHES);
    let (emptied, spare) = ring(limits::RING_BATCHES);
    let (passages, arrivals) = ring(limits::RING_TRAVELLERS);
    (
        Sending {
            mail,
            spare,
            passages,
        },
        Receiving {
            mail: received,
            emptied,
            arrivals,
        },
    )
}

struct Sending {
    mail: Producer<Box<Mail>>,
    spare: Consumer<Box<Mail>>,
    passages: Producer<Passage>,
}

struct Receiving {
    mail: Consumer<Box<Mail>>,
    emptied: Producer<Box<Mail>>,
    arrivals: Consumer<Passage>,
}

/// A session that moves to another core.
pub(crate) struct Passage {
    pub(crate) traveller: Traveller,
    /// Its socket, unless that was lost.
    pub(crate) socket: Option<OwnedFd>,
}

/// All that a core has to do with the others.
pub(crate) struct Links {
    core: CoreId,
    peers: Vec<Peer>,
    beds: Arc<Beds>,
    bell: Option<UnixStream>,
}

impl Links {
    /// Which core these belong to.
    pub(crate) fn core(&self) -> CoreId {
        self.core
    }

    /// Where a byte arrives when somebody wakes this core; to be taken once.
    pub(crate) fn take_bell(&mut self) -> UnixStream {
        self.bell
            .take()
            .expect("the bell is taken once, by the core's main task")
    }

    /// Every other core.
    pub(crate) fn peers(&mut self) -> &mut [Peer] {
        &mut self.peers
    }

    /// Whether the ring to some peer was full when last looked at.
    pub(crate) fn is_held_back(&self) -> bool {
        let mut peers = self.peers.iter();
        peers.any(|peer| peer.held_back || !peer.departing.is_empty())
    }

    /// What all cores see of each other.
    pub(crate) fn beds(&self) -> &Beds {
        &self.beds
    }

    /// The same, for a thread beside this core.
    pub(crate) fn share_beds(&self) -> Arc<Beds> {
        Arc::clone(&self.beds)
    }

    /// Sends a batch to the peer at `position`, and wakes it if it sleeps. There must be room.
    pub(crate) fn send(&mut self, position: usize, mail: Box<Mail>) {
        let peer = &mut self.peers[position];
        let pushed = peer.sending.mail.push(mail);
        assert!(pushed.is_ok(), "mail is sent only after has_room");
        self.beds.rouse(peer.id);
    }

    /// A session is to go to the core that it moves to.
    pub(crate) fn depart(&mut self, passage: Passage) {
        let core = passage.traveller.core();
        let peer = self.peers.iter_mut().find(|peer| peer.id == core);
        let peer = peer.expect("a session moves to another core of this broker");
        peer.departing.push_back(passage);
    }

    /// Sends sessions off for which there is room in the rings. Whether there were any.
    pub(crate) fn send_travellers(&mut self) -> bool {
        let mut sent = false;
        for peer in &mut self.peers {
            while peer.sending.passages.has_room()
                && let Some(passage) = peer.departing.pop_front()
            {
                let pushed = peer.sending.passages.push(passage);
                assert!(pushed.is_ok(), "a session is sent only after has_room");
                self.beds.rouse(peer.id);
                sent = true;
            }
        }
        sent
    }

    /// Announces that this core sleeps from now on; false if there is a reason not to.
    pub(crate) fn fall_asleep(&mut self) -> bool {
        let sleeping = &self.beds.cores[self.core.index()].sleeping;
        sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let something = self
            .peers
            .iter_mut()
            .any(|peer| !peer.receiving.mail.is_empty() || !peer.receiving.arrivals.is_empty());
        if something {
            sleeping.store(false, Ordering::Relaxed);
        }
        !something
    }

    /// This core is awake, whoever woke it.
    pub(crate) fn wake_up(&self) {
        let sleeping = &self.beds.cores[self.core.index()].sleeping;
        sleeping.store(false, Ordering::Relaxed);
    }
}

/// The two lanes between a core and one other.
pub(crate) struct Peer {
    id: CoreId,
    sending: Sending,
    receiving: Receiving,
    /// Whether the ring to this peer was full when last looked at: its mail waits in the outbox.
    pub(crate) held_back: bool,
    /// Sessions that wait for room in their ring.
    departing: VecDeque<Passage>,
}

impl Peer {
    fn new(id: CoreId, sending: Sending, receiving: Receiving) -> Self {
        Self {
            id,
            sending,
            receiving,
            held_back: false,
            departing: VecDeque::new(),
        }
    }

    /// The other core.
    pub(crate) fn id(&self) -> CoreId {
        self.id
    }

    /// Whether a batch can be sent.
    pub(crate) fn has_room(&mut self) -> bool {
        self.sending.mail.has_room()
    }

    /// An empty batch: one that came back, or a new one.
    pub(crate) fn spare(&mut self) -> Box<Mail> {
        self.sending.spare.pop().unwrap_or_default()
    }

    /// The oldest batch that the peer sent.
    pub(crate) fn receive(&mut self) -> Option<Box<Mail>> {
        self.receiving.mail.pop()
    }

    /// The next session that comes from the peer.
    pub(crate) fn next_arrival(&mut self) -> Option<Passage> {
        self.receiving.arrivals.pop()
    }

    /// Gives an emptied batch back to its sender.
    pub(crate) fn give_back(&mut self, emptied: Box<Mail>) {
        // A peer that sends little doesn't collect: then the ring is full and the batch is freed.
        drop(self.receiving.emptied.push(emptied));
    }
}

/// What all cores and the threads beside them see.
pub(crate) struct Beds {
    cores: Box<[CachePadded<Bed>]>,
    stopping: AtomicBool,
    /// [`Alarms::to_bits`]
    alarms: AtomicU8,
    /// A bit for each core whose log has no room on the disk.
    full: AtomicU64,
    /// Cores that still have connections to close.
    busy: AtomicUsize,
}

struct Bed {
    sleeping: AtomicBool,
    /// Rings the bell.
    rope: UnixStream,
}

impl Beds {
    /// Wakes `core` if it sleeps. To be called after what it shall see was stored.
    pub(crate) fn rouse(&self, core: CoreId) {
        fence(Ordering::SeqCst);
        let bed = &self.cores[core.index()];
        // The load keeps a busy peer's cache line shared; only a true one is worth the swap.
        if bed.sleeping.load(Ordering::Relaxed) && bed.sleeping.swap(false, Ordering::AcqRel) {
            // It fails if the core has ended, or if so many bytes lie there that it can't oversleep.
            let _ = (&bed.rope).write(&[0]);
        }
    }

    /// Tells every core to close its connections and to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.rouse_all();
    }

    /// Whether [`Beds::stop`] was called.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Tells every core what the broker is short of.
    pub(crate) fn set_alarms(&self, alarms: Alarms) {
        self.alarms.store(alarms.to_bits(), Ordering::Release);
        self.rouse_all();
    }

    /// Tells every core whether the log of `core` has room on the disk.
    pub(crate) fn set_full(&self, core: CoreId, is_full: bool) {
        let bit = 1 << core.0;
        if is_full {
            self.full.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.full.fetch_and(!bit, Ordering::AcqRel);
        }
        self.rouse_all();
    }

    /// What the broker is short of.
    pub(crate) fn alarms(&self) -> Alarms {
        let measured = Alarms::from_bits(self.alarms.load(Ordering::Acquire));
        Alarms {
            disk: measured.disk || self.full.load(Ordering::Acquire) != 0,
            ..measured
        }
    }

    /// A core has closed its last connection while stopping; called once a core.
    pub(crate) fn has_closed_all(&self) {
        if self.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.rouse_all();
        }
    }

    /// Whether every core has closed its last connection: until then all go on, for closing one may
    /// need answers from any core.
    pub(crate) fn have_all_closed(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }

    fn rouse_all(&self) {
        for core in 0..self.cores.len() {
            self.rouse(CoreId(core as u16));
        }
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use std::io::Read;
    use std::thread;

    use super::*;

    /// A full set for `cores` cores.
    fn links(cores: u16) -> Vec<Links> {
        mesh(cores).expect("there are descriptors").1
    }

    fn two() -> (Arc<Beds>, Links, Links) {
        let (beds, links) = mesh(2).expect("there are descriptors");
        let [first, second] = <[Links; 2]>::try_from(links).unwrap_or_else(|_| panic!("two cores"));
        (beds, first, second)
    }

    /// How often the bell has rung since it was last asked.
    fn rings(bell: &mut UnixStream) -> usize {
        bell.set_nonblocking(true).expect("it is a socket");
        bell.read(&mut [0; 64]).unwrap_or(0)
    }

    #[test]
    fn every_core_has_a_lane_to_every_other() {
        let mut links = links(4);
        for from in &mut links {
            let own = from.core();
            let ids: Vec<CoreId> = from.peers().iter().map(Peer::id).collect();
            let expected: Vec<CoreId> = (0..4).map(CoreId).filter(|id| *id != own).collect();
            assert_eq!(ids, expected);
            for position in 0..3 {
                let mail = from.peers()[position].spare();
                from.send(position, mail);
            }
        }
        for to in &mut links {
            for peer in to.peers() {
                assert!(peer.receive().is_some());
                assert!(peer.receive().is_none());
            }
        }
    }

    #[test]
    fn an_emptied_batch_goes_back_to_its_sender() {
        let (_, mut first, mut second) = two();
        let mail = first.peers()[0].spare();
        let address = &raw const *mail;
        first.send(0, mail);
        let received = second.peers()[0].receive().expect("it was sent");
        second.peers()[0].give_back(received);
        assert_eq!(&raw const *first.peers()[0].spare(), address);
    }

    #[test]
    fn a_full_ring_has_no_room_until_the_peer_reads() {
        let (_, mut first, mut second) = two();
        for _ in 0..limits::RING_BATCHES {
            assert!(first.peers()[0].has_room());
            first.send(0, Box::default());
        }
        assert!(!first.peers()[0].has_room());
        assert!(second.peers()[0].receive().is_some());
        assert!(first.peers()[0].has_room());
    }

    #[test]
    fn nobody_falls_asleep_over_unread_mail() {
        let (_, mut first, mut second) = two();
        assert!(second.fall_asleep());
        second.wake_up();
        first.send(0, Box::default());
        assert!(!second.fall_asleep());
    }

    #[test]
    fn a_busy_core_is_not_woken_and_a_sleeping_one_only_once() {
        let (_, mut first, mut second) = two();
        let mut bell = second.take_bell();
        first.send(0, Box::default());
        assert_eq!(rings(&mut bell), 0);
        assert!(second.peers()[0].receive().is_some());
        assert!(second.fall_asleep());
        first.send(0, Box::default());
        first.send(0, Box::default());
        assert_eq!(rings(&mut bell), 1);
    }

    /// A lost wake would leave the sleeper waiting for ever, and the test with it.
    #[test]
    fn no_batch_is_left_lying_while_its_receiver_sleeps() {
        const COUNT: usize = 100_000;
        let (_, mut first, mut second) = two();
        let mut bell = second.take_bell();
        let sender = thread::spawn(move || {
            for _ in 0..COUNT {
                while !first.peers()[0].has_room() {
                    thread::yield_now();
                }
                first.send(0, Box::default());
            }
            first
        });
        let mut received = 0;
        while received < COUNT {
            match second.peers()[0].receive() {
                Some(mail) => {
                    received += 1;
                    second.peers()[0].give_back(mail);
                }
                None if second.fall_asleep() => {
                    let rung = bell.read(&mut [0]).expect("the other end is open");
                    assert_eq!(rung, 1);
                    second.wake_up();
                }
                None => {}
            }
        }
        sender.join().expect("the sender doesn't panic");
    }

    #[test]
    fn an_alarm_is_seen_by_every_core_and_wakes_sleepers() {
        let (beds, first, mut second) = two();
        let mut bell = second.take_bell();
        assert!(second.fall_asleep());
        let alarms = Alarms {
            disk: true,
            ..Alarms::default()
        };
        beds.set_alarms(alarms);
        assert_eq!(first.beds().alarms(), alarms);
        assert_eq!(second.beds().alarms(), alarms);
        assert_eq!(rings(&mut bell), 1);
    }

    #[test]
    fn the_order_to_stop_wakes_sleepers_and_ends_when_all_have_closed() {
        let (beds, _first, mut second) = two();
        let mut bell = second.take_bell();
        assert!(second.fall_asleep());
        assert!(!beds.is_stopping());
        beds.stop();
        assert!(beds.is_stopping());
        assert_eq!(rings(&mut bell), 1);
        beds.has_closed_all();
        assert!(!beds.have_all_closed());
        assert!(second.fall_asleep());
        beds.has_closed_all();
        assert!(beds.have_all_closed());
        assert_eq!(rings(&mut bell), 1);
    }
}
