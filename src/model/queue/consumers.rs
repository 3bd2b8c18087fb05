//! The consumers of a queue, and whose turn it is.
//!
//! Those that can take a message stand in a ring and are served in turn. One that can't (prefetch
//! reached, no credit, paused, its connection full) steps out of the ring when it is its turn, and back to
//! its end when it can again, so that a choice costs the same however many consumers there are. Until
//! its turn it keeps its place: so does RabbitMQ, and who rejects the one message there is sees who is next.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use slab::Slab;

use super::Sink;
use crate::base::SessionId;

/// A consumer's session, and the number that the session gave it.
pub type ConsumerKey = (SessionId, u32);

/// A consumer of a queue.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its connection.
    pub session: SessionId,
    /// Its channel.
    pub channel: u16,
    /// As its session numbers it.
    pub number: u32,
    /// Whether messages are done with once they are sent.
    pub no_ack: bool,
    /// Whether it has the queue for itself.
    pub exclusive: bool,
    /// `x-priority`: those of lower priority get what it can't take.
    pub priority: i64,
    /// Deliveries it may leave unsettled; 0 is no limit.
    pub prefetch: u32,
    /// Deliveries it may still be sent under channel-wide prefetch; none if there is none.
    pub credits: Option<u32>,
    /// Whether its channel's flow is stopped.
    pub paused: bool,
}

impl Consumer {
    /// What it is found by.
    pub fn key(&self) -> ConsumerKey {
        (self.session, self.number)
    }
}

/// A consumer's place, with a serial number that no later consumer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ConsumerHandle {
    index: u32,
    serial: u32,
}

struct Member {
    consumer: Consumer,
    serial: u32,
    /// Deliveries it holds.
    unsettled: u32,
    in_ring: bool,
    /// Its connection is full; the sink will say when it isn't.
    waits_for_room: bool,
    /// Its session knows that it has no credit and the queue has messages.
    asked_for_credit: bool,
}

impl Member {
    fn can_take(&self) -> bool {
        self.is_within_limits()
            && !self.waits_for_room
            && (self.consumer.no_ack || self.consumer.credits != Some(0))
    }

    /// Whether it could take a message if it had room and credit.
    fn is_within_limits(&self) -> bool {
        let consumer = &self.consumer;
        !consumer.paused
            && (consumer.no_ack || consumer.prefetch == 0 || self.unsettled < consumer.prefetch)
    }

    fn needs_credit(&self) -> bool {
        !self.consumer.no_ack && self.consumer.credits == Some(0) && self.is_within_limits()
    }
}

/// The consumer whose turn it is.
pub(super) struct Turn<'a> {
    pub(super) index: usize,
    pub(super) consumer: &'a Consumer,
}

/// All consumers of a queue.
#[derive(Default)]
pub(super) struct Consumers {
    members: Slab<Member>,
    by_key: HashMap<ConsumerKey, usize>,
    /// The highest priority first.
    rings: Vec<Ring>,
    next_serial: u32,
    /// How many are under channel-wide prefetch: most queues have none.
    metered: usize,
    exclusive: bool,
    single: Option<Single>,
}

/// The consumers of one priority.
struct Ring {
    priority: i64,
    /// How many there are.
    count: usize,
    /// Those that can take messages, and some that no longer can.
    members: VecDeque<u32>,
}

/// Only one consumer is served, and another when it goes (`x-single-active-consumer`).
#[derive(Clone, Copy, Default)]
struct Single {
    active: Option<usize>,
}

impl Consumers {
    /// Of a queue with `x-single-active-consumer`.
    pub(super) fn single_active() -> Self {
        Self {
            single: Some(Single::default()),
            ..Self::default()
        }
    }

    pub(super) fn is_single_active(&self) -> bool {
        self.single.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.members.iter().map(|(_, member)| &member.consumer)
    }

    pub(super) fn at(&self, index: usize) -> &Consumer {
        &self.members[index].consumer
    }

    pub(super) fn handle(&self, index: usize) -> ConsumerHandle {
        ConsumerHandle {
            index: index as u32,
            serial: self.members[index].serial,
        }
    }

    pub(super) fn admits(&self, exclusive: bool) -> bool {
        // That one is served alone is the queue's business there.
        !self.exclusive && (!exclusive || self.members.is_empty() && self.single.is_none())
    }

    pub(super) fn add(&mut self, consumer: Consumer) {
        self.exclusive = consumer.exclusive;
        self.metered += usize::from(consumer.credits.is_some());
        let key = consumer.key();
        self.next_serial = self.next_serial.wrapping_add(1);
        let index = self.members.insert(Member {
            consumer,
            serial: self.next_serial,
            unsettled: 0,
            in_ring: false,
            waits_for_room: false,
            asked_for_credit: false,
        });
        self.by_key.insert(key, index);
        self.join_ring(index);
        if let Some(Single { active }) = &mut self.single {
            active.get_or_insert(index);
        }
        self.enter_ring(index);
    }

    pub(super) fn remove(&mut self, key: ConsumerKey) -> bool {
        let Some(index) = self.by_key.remove(&key) else {
            return false;
        };
        let member = self.members.remove(index);
        self.metered -= usize::from(member.consumer.credits.is_some());
        self.exclusive = false;
        self.part_from_ring(index, &member);
        if let Some(Single { active }) = &mut self.single
            && *active == Some(index)
        {
            let members = self.members.iter();
            let rank = |member: &Member| (Reverse(member.consumer.priority), member.serial);
            *active = members
                .min_by_key(|(_, member)| rank(member))
                .map(|(index, _)| index);
            if let Some(next) = *active {
                self.enter_ring(next);
            }
        }
        true
    }

    /// Whose turn it is of those that can take a message.
    pub(super) fn front(&mut self) -> Option<Turn<'_>> {
        for ring in &mut self.rings {
            while let Some(&index) = ring.members.front() {
                let member = &mut self.members[index as usize];
                if member.can_take() {
                    let index = index as usize;
                    return Some(Turn {
                        index,
                        consumer: &self.members[index].consumer,
                    });
                }
                member.in_ring = false;
                ring.members.pop_front();
            }
        }
        None
    }

    /// The connection of the consumer whose turn it is is full.
    pub(super) fn wait_for_room(&mut self, index: usize) {
        let member = &mut self.members[index];
        member.waits_for_room = true;
        member.in_ring = false;
        let priority = member.consumer.priority;
        self.ring(priority).pop_front();
    }

    /// The consumer whose turn it was was sent a message: to the end.
    pub(super) fn served(&mut self, index: usize) {
        let member = &mut self.members[index];
        if !member.consumer.no_ack {
            member.unsettled += 1;
            if let Some(credits) = &mut member.consumer.credits {
                *credits -= 1;
            }
        }
        let priority = member.consumer.priority;
        let ring = self.ring(priority);
        if ring.len() > 1 {
            ring.rotate_left(1);
        }
    }

    /// A delivery of a consumer was settled.
    pub(super) fn settled(&mut self, handle: ConsumerHandle) {
        let index = handle.index as usize;
        if let Some(member) = self.members.get_mut(index)
            && member.serial == handle.serial
        {
            member.unsettled -= 1;
            self.enter_ring(index);
        }
    }

    pub(super) fn grant(&mut self, key: ConsumerKey, credits: u32) -> bool {
        let Some(&index) = self.by_key.get(&key) else {
            return false;
        };
        let member = &mut self.members[index];
        let Some(held) = &mut member.consumer.credits else {
            return false;
        };
        *held += credits;
        member.asked_for_credit = false;
        self.enter_ring(index);
        true
    }

    /// The queue ran dry: unused credit goes back, for other queues of the same channels.
    pub(super) fn surrender_credit(&mut self, sink: &mut impl Sink) {
        if self.metered == 0 {
            return;
        }
        for (_, member) in &mut self.members {
            if let Some(credits @ 1..) = member.consumer.credits {
                member.consumer.credits = Some(0);
                sink.surrender(&member.consumer, credits);
            }
        }
    }

    pub(super) fn meter(&mut self, key: ConsumerKey, metered: bool) {
        if let Some(&index) = self.by_key.get(&key) {
            let member = &mut self.members[index];
            let was_metered = member.consumer.credits.is_some();
            member.consumer.credits = metered.then(|| member.consumer.credits.unwrap_or(0));
            member.asked_for_credit = false;
            self.metered += usize::from(metered);
            self.metered -= usize::from(was_metered);
            self.enter_ring(index);
        }
    }

    pub(super) fn pause(&mut self, key: ConsumerKey, paused: bool) {
        if let Some(&index) = self.by_key.get(&key) {
            self.members[index].consumer.paused = paused;
            self.enter_ring(index);
        }
    }

    /// The consumer's session is another one from now on.
    pub(super) fn rebind(&mut self, key: ConsumerKey, session: SessionId) {
        if let Some(index) = self.by_key.remove(&key) {
            let consumer = &mut self.members[index].consumer;
            consumer.session = session;
            self.by_key.insert(consumer.key(), index);
        }
    }

    pub(super) fn resume(&mut self, key: ConsumerKey) {
        if let Some(&index) = self.by_key.get(&key) {
            self.members[index].waits_for_room = false;
            self.enter_ring(index);
        }
    }

    /// The queue has messages: tells the sessions of consumers that only lack credit, once each.
    /// Those that can't use what they have, because of their own limits, give it back.
    pub(super) fn ask_for_credit(&mut self, sink: &mut impl Sink) {
        if self.metered == 0 {
            return;
        }
        let single = self.single;
        for (index, member) in &mut self.members {
            if single.is_some_and(|Single { active }| active != Some(index)) {
                continue;
            }
            if let Some(credits @ 1..) = member.consumer.credits
                && !member.is_within_limits()
            {
                member.consumer.credits = Some(0);
                sink.surrender(&member.consumer, credits);
            }
            if member.needs_credit() && !member.asked_for_credit {
                member.asked_for_credit = true;
                sink.hungry(&member.consumer);
            }
        }
    }

    fn enter_ring(&mut self, index: usize) {
        if let Some(Single { active }) = self.single
            && active != Some(index)
        {
            return;
        }
        let member = &mut self.members[index];
        if !member.in_ring && member.can_take() {
            member.in_ring = true;
            let priority = member.consumer.priority;
            self.ring(priority).push_back(index as u32);
        }
    }

    fn join_ring(&mut self, index: usize) {
        let priority = self.members[index].consumer.priority;
        let at = self.ring_place(priority).unwrap_or_else(|at| {
            let ring = Ring {
                priority,
                count: 0,
                members: VecDeque::new(),
            };
            self.rings.insert(at, ring);
            at
        });
        self.rings[at].count += 1;
    }

    fn part_from_ring(&mut self, index: usize, member: &Member) {
        let Ok(at) = self.ring_place(member.consumer.priority) else {
            return;
        };
        let ring = &mut self.rings[at];
        ring.count -= 1;
        if ring.count == 0 {
            self.rings.remove(at);
        } else if member.in_ring {
            ring.members.retain(|&other| other as usize != index);
        }
    }

    fn ring(&mut self, priority: i64) -> &mut VecDeque<u32> {
        let at = self.ring_place(priority);
        let at = at.expect("a consumer's ring is there as long as the consumer is");
        &mut self.rings[at].members
    }

    fn ring_place(&self, priority: i64) -> Result<usize, usize> {
        self.rings
            .binary_search_by_key(&Reverse(priority), |ring| Reverse(ring.priority))
    }
}
