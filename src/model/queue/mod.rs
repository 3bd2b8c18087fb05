//! A queue: messages that wait, deliveries that are out, and the consumers that take them.
//!
//! It is a state machine without a clock or a socket: commands come in as method calls, deliveries
//! leave through the [`Sink`] that is handed in. A message goes from *ready* to *unsettled* when it
//! is delivered, and from there either away (acknowledged, discarded) or back to its place in ready.

mod consumers;
mod ready;
mod unsettled;

#[cfg(test)]
mod tests;

pub use consumers::{Consumer, ConsumerKey};
use consumers::{Consumers, Turn};
use ready::{Entry, Ready};
use unsettled::{Unsettled, UnsettledEntry};

use crate::base::{MessageRef, StoredMessage};

/// Where deliveries go.
pub trait Sink {
    /// Whether the consumer's connection has room for another message. If not, the sink remembers
    /// the consumer and calls [`Queue::resume`] for it when there is room again.
    fn has_room(&mut self, consumer: &Consumer) -> bool;

    /// Sends a message to the consumer. `slot` names the delivery when it is settled; none if it
    /// needs no acknowledgement.
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

    fn stored(&mut self) -> StoredMessage {
        self.stored
            .get_or_insert_with(|| StoredMessage::new(&self.message))
            .clone()
    }
}

/// What `basic.get` takes.
pub struct Taken {
    /// The message.
    pub message: StoredMessage,
    /// The delivery's slot, if it is to be acknowledged.
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

    /// Drops up to `steps` messages; whether that was all.
    pub fn drop_some(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            if self.ready.pop().is_none() && !self.unsettled.drop_one() {
                return true;
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

    /// A message was routed here: delivered at once if somebody waits for it, kept otherwise.
    pub fn publish(&mut self, incoming: &mut Incoming<'_>, sink: &mut impl Sink) {
        let position = self.next_position;
        self.next_position += 1;
        if self.ready.is_empty()
            && let Some(index) = self.next_consumer(sink)
        {
            self.deliver_incoming(index, position, incoming, sink);
            return;
        }
        self.ready.push(Entry {
            position,
            redelivered: false,
            message: incoming.stored(),
        });
        if self.ready.len() == 1 {
            self.consumers.ask_for_credit(sink);
        }
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
        let slot = (!no_ack).then(|| {
            self.unsettled.insert(UnsettledEntry {
                position: entry.position,
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
    pub fn settle(&mut self, slot: u32) {
        if let Some(entry) = self.unsettled.remove(slot)
            && let Some(consumer) = entry.consumer
        {
            self.consumers.settled(consumer);
        }
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

    /// Takes all ready messages away, to be dropped a few at a time.
    pub fn purge(&mut self, sink: &mut impl Sink) -> Rubbish {
        self.consumers.surrender_credit(sink);
        Rubbish {
            ready: std::mem::take(&mut self.ready),
            unsettled: Unsettled::default(),
        }
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
        while !self.ready.is_empty() {
            let Some(index) = self.next_consumer(sink) else {
                self.consumers.ask_for_credit(sink);
                return;
            };
            let entry = self.ready.pop().expect("it isn't empty");
            self.deliver_entry(index, entry, sink);
        }
        self.consumers.surrender_credit(sink);
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
        position: u64,
        incoming: &mut Incoming<'_>,
        sink: &mut impl Sink,
    ) {
        let slot = (!self.consumers.at(index).no_ack).then(|| {
            self.unsettled.insert(UnsettledEntry {
                position,
                consumer: Some(self.consumers.handle(index)),
                message: incoming.stored(),
            })
        });
        sink.deliver(self.consumers.at(index), slot, false, &incoming.message);
        self.consumers.served(index);
    }

    fn deliver_entry(&mut self, index: usize, entry: Entry, sink: &mut impl Sink) {
        let consumer = self.consumers.at(index);
        if consumer.no_ack {
            sink.deliver(consumer, None, entry.redelivered, &entry.message.as_ref());
        } else {
            let message = entry.message.clone();
            let slot = self.unsettled.insert(UnsettledEntry {
                position: entry.position,
                consumer: Some(self.consumers.handle(index)),
                message: entry.message,
            });
            sink.deliver(consumer, Some(slot), entry.redelivered, &message.as_ref());
        }
        self.consumers.served(index);
    }
}
