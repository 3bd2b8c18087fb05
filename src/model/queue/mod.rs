//! A queue: messages that wait, deliveries that are out, and the consumers that take them.
//!
//! It is a state machine without a clock or a socket: commands come in as method calls, deliveries
//! leave through the [`Sink`] that is handed in. A message goes from *ready* to *unsettled* when it
//! is delivered, and from there either away (acknowledged, discarded) or back to its place in ready.

mod consumers;
mod pages;
mod ready;
mod unsettled;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use consumers::{Consumer, ConsumerKey};
use consumers::{ConsumerHandle, Consumers, Turn};
pub use pages::{Paged, Pages};
use ready::{Entry, Ready};
use unsettled::{Unsettled, UnsettledEntry};

use crate::base::{Lsn, MessageRef, StoredMessage, limits};

/// Where deliveries go.
pub trait Sink {
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

/// A message on its way in: borrowed, and stored at most once however many queues keep it.
pub struct Incoming<'a> {
    message: MessageRef<'a>,
    stored: Option<StoredMessage>,
}

impl<'a> Incoming<'a> {
    /// A message that nobody has stored yet.
    pub fn new(message: MessageRef<'a>) -> Self {
        Self {
            message,
            stored: None,
        }
    }

    /// The message to keep.
    pub fn stored(&mut self) -> StoredMessage {
        self.stored
            .get_or_insert_with(|| StoredMessage::new(&self.message))
            .clone()
    }
}

/// How a message is kept if it must wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// Where the log will have it, if it shall.
    pub lsn: Lsn,
    /// In the log only; not in memory.
    pub paged: bool,
}

/// A message that is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Its place in the queue.
    pub position: u64,
    /// Where the log has it, if it does.
    pub lsn: Lsn,
}

/// What `basic.get` takes.
pub struct Taken {
    /// The message.
    pub message: StoredMessage,
    /// The delivery's slot, if it is to be acknowledged or the log has the message.
    pub slot: Option<u32>,
    /// Whether it was delivered before.
    pub redelivered: bool,
}

/// Messages that nobody wants any more. Dropping a million at once would hold up the turn.
pub struct Rubbish {
    ready: Ready,
    unsettled: Unsettled,
}

impl Rubbish {
    /// How many of them were ready.
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Drops up to `steps` messages, naming those that the log has; whether that was all.
    pub fn drop_some(&mut self, steps: usize, mut dropped: impl FnMut(Lsn)) -> bool {
        for _ in 0..steps {
            let one = self.ready.drop_one();
            match one.or_else(|| self.unsettled.drop_one()) {
                Some(lsn) if lsn.is_some() => dropped(lsn),
                Some(_) => {}
                None => return true,
            }
        }
        false
    }
}

/// A queue's messages and consumers.
#[derive(Default)]
pub struct Queue {
    ready: Ready,
    unsettled: Unsettled,
    consumers: Consumers,
    /// The position that the next message gets.
    next_position: u64,
}

impl Queue {
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

    /// What a start found in the log of this queue: everything waits, and new messages come behind.
    pub fn restore(&mut self, pages: Pages, next_position: u64) {
        self.ready.restore(pages);
        self.next_position = next_position;
    }

    /// One more message of that kind.
    pub fn restore_one(&mut self, paged: Paged) {
        self.next_position = self.next_position.max(paged.position + 1);
        self.ready.restore_one(paged);
    }

    /// A message was routed here: delivered at once if somebody waits for it, kept otherwise. Returns
    /// its position if it stays and the log is to have it.
    pub fn publish(
        &mut self,
        incoming: &mut Incoming<'_>,
        keep: Keep,
        sink: &mut impl Sink,
    ) -> Option<u64> {
        let position = self.next_position;
        self.next_position += 1;
        if self.ready.is_empty()
            && let Some(index) = self.next_consumer(sink)
        {
            self.deliver_incoming(index, (position, keep.lsn), incoming, sink);
            return keep.lsn.is_some().then_some(position);
        }
        if keep.paged {
            self.ready.push_paged(position, keep.lsn);
        } else {
            self.ready.push(Entry {
                position,
                lsn: keep.lsn,
                redelivered: false,
                message: incoming.stored(),
            });
        }
        if self.ready.len() == 1 {
            self.consumers.ask_for_credit(sink);
        }
        keep.lsn.is_some().then_some(position)
    }

    /// Bytes of the ready messages that are in memory.
    pub fn ready_bytes(&self) -> usize {
        self.ready.bytes()
    }

    /// Whether new messages must wait in the log, since some before them do.
    pub fn is_paging(&self) -> bool {
        !self.ready.pages().is_empty()
    }

    /// Whether messages wait and the first isn't in memory.
    pub fn is_starved(&self) -> bool {
        !self.ready.has_next() && self.is_paging()
    }

    /// What should be fetched from the log next: the first message that is only there, if what is in
    /// memory may soon be gone.
    pub fn wants_page(&self) -> Option<Lsn> {
        let low = self.ready.bytes() < limits::PAGE_IN_BYTES as usize;
        let first = self.ready.pages().front()?;
        low.then_some(first.lsn)
    }

    /// The first message that is only in the log.
    pub fn front_page(&self) -> Option<Paged> {
        self.ready.pages().front()
    }

    /// A message came from the log: taken in if it is the first that is only there.
    pub fn page_in(
        &mut self,
        position: u64,
        lsn: Lsn,
        message: impl FnOnce() -> StoredMessage,
    ) -> bool {
        let front = self.front_page();
        let is_it = front.is_some_and(|front| front.position == position && front.lsn == lsn);
        if is_it {
            self.ready.page_in(message());
        }
        is_it
    }

    /// The log can't give the messages of these numbers: those of them that come next are lost. Returns
    /// how many.
    pub fn lose_pages(&mut self, lsns: &Range<Lsn>) -> usize {
        let mut lost = 0;
        while let Some(front) = self.ready.pages().front()
            && lsns.contains(&front.lsn)
        {
            self.ready.drop_page();
            lost += 1;
        }
        lost
    }

    /// Where the log has the ready message of that position.
    pub fn ready_lsn(&self, position: u64) -> Option<Lsn> {
        self.ready.lsn(position)
    }

    /// Where the log has the messages of deliveries that are out, by position; and their slots.
    pub fn unsettled_lsns(&self) -> impl Iterator<Item = (u64, Lsn, u32)> {
        self.unsettled.lsns()
    }

    /// The log has a ready message elsewhere now.
    pub fn relocate_ready(&mut self, position: u64, lsn: Lsn) {
        self.ready.relocate(position, lsn);
    }

    /// The log has the message of a delivery elsewhere now.
    pub fn relocate_unsettled(&mut self, slot: u32, lsn: Lsn) {
        self.unsettled.relocate(slot, lsn);
    }

    /// Positions of ready messages that the log has and that were delivered before.
    pub fn redelivered(&self) -> impl Iterator<Item = u64> {
        self.ready.redelivered()
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

    /// Takes the first ready message, to be acknowledged or not.
    pub fn get(&mut self, no_ack: bool) -> Option<Taken> {
        let entry = self.ready.pop()?;
        let message = entry.message.clone();
        let redelivered = entry.redelivered;
        let slot = (!no_ack || entry.lsn.is_some()).then(|| {
            self.unsettled.insert(UnsettledEntry {
                position: entry.position,
                lsn: entry.lsn,
                consumer: None,
                message: entry.message,
            })
        });
        Some(Taken {
            message,
            slot,
            redelivered,
        })
    }

    /// A delivery is done with: acknowledged or discarded. Call [`Queue::pump`] after the last one.
    pub fn settle(&mut self, slot: u32) -> Option<Gone> {
        let entry = self.unsettled.remove(slot)?;
        if let Some(consumer) = entry.consumer {
            self.consumers.settled(consumer);
        }
        Some(Gone {
            position: entry.position,
            lsn: entry.lsn,
        })
    }

    /// A delivery goes back to its place. Call [`Queue::pump`] after the last one.
    pub fn requeue(&mut self, slot: u32) {
        let Some(entry) = self.unsettled.remove(slot) else {
            return;
        };
        if let Some(consumer) = entry.consumer {
            self.consumers.settled(consumer);
        }
        self.ready.put_back(Entry {
            position: entry.position,
            lsn: entry.lsn,
            redelivered: true,
            message: entry.message,
        });
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

    /// A consumer that [`Sink::has_room`] refused has room again.
    pub fn resume(&mut self, key: ConsumerKey, sink: &mut impl Sink) {
        self.consumers.resume(key);
        self.pump(sink);
    }

    /// Takes all ready messages away, to be dropped a few at a time. Also returned: ranges of their
    /// positions, as first and count.
    pub fn purge(&mut self, sink: &mut impl Sink) -> (Rubbish, Vec<(u64, u64)>) {
        self.consumers.surrender_credit(sink);
        let ranges = self.ready.ranges(self.next_position);
        let rubbish = Rubbish {
            ready: std::mem::take(&mut self.ready),
            unsettled: Unsettled::default(),
        };
        (rubbish, ranges)
    }

    /// The queue is deleted: all its messages, to be dropped a few at a time.
    pub fn into_rubbish(self) -> Rubbish {
        Rubbish {
            ready: self.ready,
            unsettled: self.unsettled,
        }
    }

    /// Delivers ready messages as long as consumers can take them.
    pub fn pump(&mut self, sink: &mut impl Sink) {
        while self.ready.has_next() {
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
            self.consumers.wait_for_room();
        }
        None
    }

    fn deliver_incoming(
        &mut self,
        index: usize,
        (position, lsn): (u64, Lsn),
        incoming: &mut Incoming<'_>,
        sink: &mut impl Sink,
    ) {
        let holder = self.holder(index);
        let slot = (holder.is_some() || lsn.is_some()).then(|| {
            self.unsettled.insert(UnsettledEntry {
                position,
                lsn,
                consumer: holder,
                message: incoming.stored(),
            })
        });
        sink.deliver(self.consumers.at(index), slot, false, &incoming.message);
        self.consumers.served(index);
    }

    fn deliver_entry(&mut self, index: usize, entry: Entry, sink: &mut impl Sink) {
        let holder = self.holder(index);
        let consumer = self.consumers.at(index);
        if holder.is_none() && !entry.lsn.is_some() {
            sink.deliver(consumer, None, entry.redelivered, &entry.message.as_ref());
        } else {
            let message = entry.message.clone();
            let slot = self.unsettled.insert(UnsettledEntry {
                position: entry.position,
                lsn: entry.lsn,
                consumer: holder,
                message: entry.message,
            });
            sink.deliver(consumer, Some(slot), entry.redelivered, &message.as_ref());
        }
        self.consumers.served(index);
    }

    /// The consumer, if it acknowledges what it takes.
    fn holder(&self, index: usize) -> Option<ConsumerHandle> {
        (!self.consumers.at(index).no_ack).then(|| self.consumers.handle(index))
    }
}
