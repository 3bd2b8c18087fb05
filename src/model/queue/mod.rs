//! A queue: messages that wait, deliveries that are out, and the consumers that take them.
//!
//! It is a state machine without a clock or a socket: commands come in as method calls, deliveries
//! leave through the [`Sink`] that is handed in. A message goes from *ready* to *unsettled* when it
//! is delivered, and from there either away (acknowledged, discarded) or back to its place in ready.
//! What leaves by the queue's own [`rules`](Queue::rules) (expired, one too many, come back too often, or rejected
//! where rejected messages go elsewhere) is *fallen*, and taken up by the queue's owner.

mod consumers;
mod duplicates;
mod fallen;
mod lane;
mod message;
mod pages;
mod ready;
mod rubbish;
mod settling;
mod unsettled;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use consumers::{Consumer, ConsumerKey};
use consumers::{ConsumerHandle, Consumers, Turn};
use duplicates::Duplicates;
pub use fallen::{Fallen, Letter, Reason};
use lane::Entry;
pub use lane::NEVER;
pub use message::{Admitted, Gone, Incoming, Keep, Restored, Taken, priority_of};
pub use pages::{Paged, Pages};
use ready::Ready;
pub use rubbish::Rubbish;
use unsettled::{Away, Out, Unsettled, UnsettledEntry};

use crate::amqp::properties::{self, Properties};
use crate::base::{Lsn, MessageRef, SessionId, StoredMessage, limits};
use crate::model::arguments::{Overflow, QueueArguments, QueueType};
use crate::model::exchange::deduplicating;

/// Where deliveries go.
pub trait Sink {
    /// What time it is, in milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// Messages of this LSN or a higher one are in the log, and aren't to be kept in memory, too, while they are out:
    /// [`Lsn::NEVER`] if there is enough of it.
    fn leave_from(&self) -> Lsn;

    /// Whether the consumer's connection has room for another message. If not, the sink remembers
    /// the consumer and calls [`Queue::resume`] for it when there is room again.
    fn has_room(&mut self, consumer: &Consumer) -> bool;

    /// Sends a message to the consumer. `slot` names the delivery when it is settled; none if that
    /// isn't waited for. Where a consumer that doesn't acknowledge has a slot, the log has the message,
    /// and it is to be settled once it has left for the consumer's socket.
    fn deliver(
        &mut self,
        consumer: &Consumer,
        slot: Option<u32>,
        redelivered: bool,
        message: &MessageRef<'_>,
    );

    /// The queue has messages for a consumer that needs credit and has none.
    fn hungry(&mut self, consumer: &Consumer);

    /// The queue ran dry: the consumer's credit goes back.
    fn surrender(&mut self, consumer: &Consumer, credits: u32);
}

/// A queue's messages and consumers.
#[derive(Default)]
pub struct Queue {
    ready: Ready,
    unsettled: Unsettled,
    consumers: Consumers,
    /// The position that the next message gets.
    next_position: u64,
    /// None if it has none: most have.
    rules: Option<Box<QueueArguments>>,
    /// Messages wait here as long as their headers say, and for nobody.
    delays: bool,
    /// Nothing is here but what a deduplicating exchange has noted; its messages only come by.
    notes: bool,
    /// None if it takes any message.
    duplicates: Option<Box<Duplicates>>,
    fallen: Vec<Fallen>,
    /// Letters that stay here until others have taken them, and aren't forgotten yet.
    letters_kept: u64,
    /// The log has messages of it that can't be read, and that aren't counted in this life.
    has_unread: bool,
}

impl Queue {
    /// A queue of that kind.
    pub fn new(arguments: QueueArguments) -> Self {
        let consumers = match arguments.single_active_consumer {
            true => Consumers::single_active(),
            false => Consumers::default(),
        };
        let mut queue = Self {
            ready: Ready::with_priorities(arguments.max_priority.unwrap_or(0)),
            consumers,
            ..Self::default()
        };
        queue.set_rules(arguments);
        queue
    }

    /// The queue of a delayed exchange.
    pub fn delaying() -> Self {
        Self {
            delays: true,
            ..Self::default()
        }
    }

    /// The queue of a deduplicating exchange, for so many notes.
    pub fn noting(size: u64) -> Self {
        Self {
            notes: true,
            ..Self::new(rules_of_notes(size))
        }
    }

    /// As [`Queue::set_rules`]: so many notes from now on.
    pub fn set_notes_max(&mut self, size: u64) -> bool {
        self.set_rules(rules_of_notes(size))
    }

    /// Other limits and times hold from now on; whether they are others. Priorities and how consumers
    /// take turns stay, and when a message that is here expires. One that begins to drop duplicates knows
    /// those of messages that come from now on. [`Queue::shorten`] is to follow.
    pub fn set_rules(&mut self, arguments: QueueArguments) -> bool {
        if arguments.deduplicates != self.duplicates.is_some() {
            self.duplicates = arguments.deduplicates.then(Box::default);
        }
        let has_any = arguments != QueueArguments::default();
        let rules = has_any.then(|| Box::new(arguments));
        let is_changed = self.rules != rules;
        self.rules = rules;
        is_changed
    }

    /// The limits and times that hold, if any.
    pub fn rules(&self) -> Option<&QueueArguments> {
        self.rules.as_deref()
    }

    /// Ready messages.
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Deliveries that are out.
    pub fn unsettled_count(&self) -> usize {
        self.unsettled.len()
    }

    /// Consumers, whether they can take messages now or not.
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// Every consumer.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.iter()
    }

    /// What a start found in the log of this queue, in the order of positions. Everything waits, and new
    /// messages come behind.
    pub fn restore(&mut self, restored: impl Iterator<Item = Restored>, next_position: u64) {
        for one in restored {
            let lane = self.ready.lane_of(one.priority);
            self.ready.restore(lane, one.paged);
        }
        self.next_position = next_position;
    }

    /// One more message of that kind, in any order.
    pub fn restore_one(&mut self, one: Restored) {
        self.next_position = self.next_position.max(one.paged.position + 1);
        let lane = self.ready.lane_of(one.priority);
        self.ready.restore_one(lane, one.paged);
    }

    /// A restored message came back that often before the last stop.
    pub fn restore_returns(&mut self, position: u64, returns: u32) {
        self.ready.restore_returns(position, returns);
    }

    /// A message was routed here: delivered at once if somebody waits for it, kept otherwise.
    pub fn publish(
        &mut self,
        incoming: &mut Incoming<'_>,
        keep: Keep,
        sink: &mut impl Sink,
    ) -> Admitted {
        if self.rules.is_some() {
            if self.notes && !deduplicating::is_note(&incoming.message) {
                return Admitted::ComesBy;
            }
            if self.refuses(incoming) {
                return Admitted::Refused;
            }
            if self.is_duplicate(incoming) {
                return Admitted::Duplicate;
            }
        }
        let position = self.next_position;
        self.next_position += 1;
        let expires = self.expiry(incoming, sink);
        let admitted = Admitted::Taken { position, expires };
        if self.ready.is_empty()
            && let Some(index) = self.next_consumer(sink)
        {
            self.deliver_incoming(index, (position, keep.lsn, expires), incoming, sink);
            return admitted;
        }
        let lane = self.ready.lane_for(&incoming.message);
        let body_len = incoming.message.body_len() as u64;
        if keep.paged {
            let paged = Paged {
                position,
                lsn: keep.lsn,
                expires,
                body_len: body_len as u32,
                redelivered: false,
            };
            self.ready.push_paged(lane, paged);
        } else {
            let entry = Entry {
                position,
                lsn: keep.lsn,
                expires,
                returns: 0,
                redelivered: false,
                message: incoming.stored(),
            };
            self.ready.push(lane, entry, body_len);
        }
        self.shorten(limits::JOB_STEPS_PER_TURN);
        if expires != NEVER && expires <= sink.now_ms() {
            self.expire(expires, limits::DEAD_LETTERS_MAX);
        }
        if self.ready.len() == 1 {
            self.consumers.ask_for_credit(sink);
        }
        admitted
    }

    /// When a message is to go that comes now.
    fn expiry(&self, incoming: &Incoming<'_>, sink: &impl Sink) -> u64 {
        if self.delays {
            let delay_ms = incoming.delay_ms().unwrap_or(0);
            return sink.now_ms().saturating_add(delay_ms);
        }
        let own = incoming.ttl_ms;
        let of_queue = self.rules().and_then(|rules| rules.message_ttl_ms);
        let ttl_ms = own.into_iter().chain(of_queue).min();
        ttl_ms.map_or(NEVER, |ttl_ms| sink.now_ms().saturating_add(ttl_ms))
    }

    /// Bytes of the messages that are in memory: of those that are ready, and of those that are out.
    pub fn resident_bytes(&self) -> (usize, usize) {
        (self.ready.bytes(), self.unsettled.bytes())
    }

    /// Whether new messages must wait in the log, since some before them do.
    pub fn is_paging(&self) -> bool {
        self.ready.is_paging()
    }

    /// Whether messages wait and the first isn't in memory.
    pub fn is_starved(&self) -> bool {
        !self.ready.has_next() && !self.ready.is_empty()
    }

    /// What should be fetched from the log next: the first message that is only there, if what is in
    /// memory may soon be gone.
    pub fn wants_page(&self) -> Option<Lsn> {
        let lane = self.ready.front_lane();
        let low = lane.bytes() < limits::PAGE_IN_BYTES as usize || !lane.has_next();
        let first = lane.first_paged()?;
        low.then_some(first.lsn)
    }

    /// Of those whose turn is next, the first that is only in the log.
    pub fn front_page(&self) -> Option<Paged> {
        self.ready.front_lane().first_paged()
    }

    /// A message came from the log: taken in if it is the first of its priority that is only there.
    pub fn page_in(
        &mut self,
        position: u64,
        lsn: Lsn,
        priority: u8,
        message: impl FnOnce() -> StoredMessage,
    ) -> bool {
        let lane = self.ready.lane_of(priority);
        self.ready.page_in(lane, position, lsn, message)
    }

    /// Messages of LSNs from `oldest` on leave memory, which the log has: for a queue whose next one isn't in memory,
    /// so that none of these are needed soon.
    pub fn page_out(&mut self, oldest: Lsn) {
        self.ready.page_out(oldest);
    }

    /// The log can't give the messages of these numbers: those of them that come next are lost. Returns
    /// how many.
    pub fn lose_pages(&mut self, lsns: &Range<Lsn>) -> usize {
        let mut lost = 0;
        while let Some(front) = self.front_page()
            && lsns.contains(&front.lsn)
        {
            self.ready.drop_paged();
            self.forget_key(front.position);
            self.has_unread = true;
            lost += 1;
        }
        lost
    }

    /// Where the log has the ready message of that position.
    pub fn ready_lsn(&self, position: u64, priority: u8) -> Option<Lsn> {
        self.ready.lsn(self.ready.lane_of(priority), position)
    }

    /// Where the log has the messages of deliveries that are out, by position; and their slots.
    pub fn unsettled_lsns(&self) -> impl Iterator<Item = (u64, Lsn, u32)> {
        self.unsettled.lsns()
    }

    /// Where the log has the message of a delivery that is out, or that has fallen.
    pub fn unsettled_lsn(&self, slot: u32) -> Option<Lsn> {
        self.unsettled.lsn(slot)
    }

    /// The log has a ready message elsewhere now.
    pub fn relocate_ready(&mut self, position: u64, priority: u8, lsn: Lsn) {
        let lane = self.ready.lane_of(priority);
        self.ready.relocate(lane, position, lsn);
    }

    /// The log has the message of a delivery elsewhere now.
    pub fn relocate_unsettled(&mut self, slot: u32, lsn: Lsn) {
        self.unsettled.relocate(slot, lsn);
    }

    /// Positions of messages that the log has and that were delivered before, and how often they came back: of those
    /// that are ready, and of those that have fallen and not yet arrived where they go.
    pub fn redelivered(&self) -> impl Iterator<Item = (u64, u32)> {
        self.ready.redelivered().chain(self.unsettled.fallen())
    }

    /// Whether `basic.get` is refused: of quorum queues with one active consumer, as by RabbitMQ.
    pub fn is_consumed_only(&self) -> bool {
        let rules = self.rules();
        let is_quorum = rules.is_some_and(|rules| rules.queue_type == QueueType::Quorum);
        is_quorum && self.consumers.is_single_active()
    }

    /// Whether another consumer may attach: not if one has the queue for itself, nor if it wants
    /// that and isn't the first.
    pub fn admits(&self, exclusive: bool) -> bool {
        self.consumers.admits(exclusive)
    }

    /// Attaches a consumer that the queue [admits](Queue::admits) and delivers what it can take.
    pub fn consume(&mut self, consumer: Consumer, sink: &mut impl Sink) {
        self.consumers.add(consumer);
        self.pump(sink);
    }

    /// Detaches a consumer. What it holds stays unsettled, credit it holds is forgotten. Returns
    /// whether it was there.
    pub fn cancel(&mut self, key: ConsumerKey) -> bool {
        self.consumers.remove(key)
    }

    /// Takes the first ready message, to be acknowledged or not. `leave_from` as [`Sink::leave_from`].
    pub fn get(&mut self, no_ack: bool, now_ms: u64, leave_from: Lsn) -> Option<Taken> {
        self.drop_expired_head(now_ms);
        let entry = self.ready.pop()?;
        let message = entry.message.clone();
        let redelivered = entry.redelivered;
        let properties = self.told(&message.as_ref(), entry.returns);
        let slot = self.hand_out(entry, (None, !no_ack), leave_from);
        Some(Taken {
            properties,
            message,
            slot,
            redelivered,
        })
    }

    /// Lends credit to a consumer. Returns what it can't use because it is gone.
    pub fn grant(&mut self, key: ConsumerKey, credits: u32, sink: &mut impl Sink) -> u32 {
        if !self.consumers.grant(key, credits) {
            return credits;
        }
        self.pump(sink);
        0
    }

    /// Puts a consumer under channel-wide prefetch, or takes it from there.
    pub fn meter(&mut self, key: ConsumerKey, metered: bool, sink: &mut impl Sink) {
        self.consumers.meter(key, metered);
        self.pump(sink);
    }

    /// Stops or resumes a consumer.
    pub fn pause(&mut self, key: ConsumerKey, paused: bool, sink: &mut impl Sink) {
        self.consumers.pause(key, paused);
        self.pump(sink);
    }

    /// A consumer's session has another name from now on.
    pub fn rebind(&mut self, key: ConsumerKey, session: SessionId) {
        self.consumers.rebind(key, session);
    }

    /// A consumer that [`Sink::has_room`] refused has room again.
    pub fn resume(&mut self, key: ConsumerKey, sink: &mut impl Sink) {
        self.consumers.resume(key);
        self.pump(sink);
    }

    /// Delivers ready messages as long as consumers can take them.
    pub fn pump(&mut self, sink: &mut impl Sink) {
        while self.ready.has_next() {
            if self.ready.front_expiry() != NEVER {
                self.drop_expired_head(sink.now_ms());
                if !self.ready.has_next() {
                    break;
                }
            }
            let Some(index) = self.next_consumer(sink) else {
                self.consumers.ask_for_credit(sink);
                return;
            };
            let entry = self.ready.pop().expect("it isn't empty");
            self.deliver_entry(index, entry, sink);
        }
        if self.ready.is_empty() {
            self.consumers.surrender_credit(sink);
        }
    }

    /// The consumer whose turn it is, of those that can take a message now.
    fn next_consumer(&mut self, sink: &mut impl Sink) -> Option<usize> {
        while let Some(Turn { index, consumer }) = self.consumers.front() {
            if sink.has_room(consumer) {
                return Some(index);
            }
            self.consumers.wait_for_room(index);
        }
        None
    }

    fn deliver_incoming(
        &mut self,
        index: usize,
        (position, lsn, expires): (u64, Lsn, u64),
        incoming: &mut Incoming<'_>,
        sink: &mut impl Sink,
    ) {
        let holder = self.holder(index);
        let slot = (holder.is_some() || lsn.is_some()).then(|| {
            let message = match lsn >= sink.leave_from() {
                true => self.logged(&incoming.message),
                false => Out::Here(incoming.stored()),
            };
            self.unsettled.insert(UnsettledEntry {
                position,
                lsn,
                expires,
                returns: 0,
                consumer: holder,
                message,
            })
        });
        if slot.is_none() {
            self.forget_key(position);
        }
        sink.deliver(self.consumers.at(index), slot, false, &incoming.message);
        self.consumers.served(index);
    }

    fn deliver_entry(&mut self, index: usize, entry: Entry, sink: &mut impl Sink) {
        let holder = self.holder(index);
        let (message, redelivered) = (entry.message.clone(), entry.redelivered);
        let told = self.told(&message.as_ref(), entry.returns);
        let taker = (holder, holder.is_some());
        let slot = self.hand_out(entry, taker, sink.leave_from());
        let mut message = message.as_ref();
        if let Some(properties) = &told {
            message.properties = properties;
        }
        sink.deliver(self.consumers.at(index), slot, redelivered, &message);
        self.consumers.served(index);
    }

    /// A message goes out, to a consumer or not, and is acknowledged or not; its slot, if it is to be settled.
    fn hand_out(
        &mut self,
        entry: Entry,
        (consumer, acknowledges): (Option<ConsumerHandle>, bool),
        leave_from: Lsn,
    ) -> Option<u32> {
        if !acknowledges && !entry.lsn.is_some() {
            self.forget_key(entry.position);
            return None;
        }
        let message = match entry.lsn >= leave_from {
            true => self.logged(&entry.message.as_ref()),
            false => Out::Here(entry.message),
        };
        Some(self.unsettled.insert(UnsettledEntry {
            position: entry.position,
            lsn: entry.lsn,
            expires: entry.expires,
            returns: entry.returns,
            consumer,
            message,
        }))
    }

    /// A message that is out and that only the log keeps.
    fn logged(&self, message: &MessageRef<'_>) -> Out {
        Out::Logged(Away::Out {
            lane: self.ready.lane_for(message),
            body_len: message.body_len() as u32,
        })
    }

    /// The properties that tell a consumer how often a message came back, where that is counted.
    fn told(&self, message: &MessageRef<'_>, returns: u32) -> Option<Vec<u8>> {
        let counts = returns > 0 && self.rules()?.delivery_limit.is_some();
        let properties = Properties::from_validated(message.properties);
        counts.then(|| properties::with_delivery_count(properties, returns))
    }

    /// The consumer, if it acknowledges what it takes.
    fn holder(&self, index: usize) -> Option<ConsumerHandle> {
        (!self.consumers.at(index).no_ack).then(|| self.consumers.handle(index))
    }
}

fn rules_of_notes(size: u64) -> QueueArguments {
    let mut rules = QueueArguments::default();
    rules.deduplicates = true;
    rules.max_length = Some(size);
    rules
}
