//! Messages that come by this core's exchanges of type `x-message-deduplication`
//! ([`deduplicating`](crate::model::exchange::deduplicating)).
//!
//! One whose like has not passed goes on as a dead letter does, with a number among theirs, and its value is
//! reserved meanwhile. Once it is where it was sent, the exchange's own queue gets a note of it; once that is
//! durable too, its publisher has its confirm: whatever was confirmed is known again, and what is known again
//! is not lost. A crash between the two lets a second one pass.
//!
//! ```text
//! publish ─► known? ─ no ─► sent on, reserved ─► settled there ─► noted ─► settled here ─► released
//!              │ yes
//!              └─► to the alternate exchange, or back to its publisher, or dropped
//! ```
//!
//! A core's confirms are cumulative, and others' publishes must not wait for these: so a publish is *held*
//! here one by one. What comes while its like is on its way is held as long: if that is refused by a full
//! queue, so is this.
//!
//! Where only other such exchanges come next, their cores see whether the message goes anywhere, and say so if
//! it doesn't: then it is as if it had led nowhere from here. By then its publisher may be on another core.

use std::collections::{BTreeMap, HashMap};

use super::confirms::tell;
use super::{Shard, ShardContext, find};
use crate::amqp::properties::Properties;
use crate::base::{ExchangeId, MessageRef, QueueId, SessionId, StoredMessage, limits};
use crate::mail::{News, Publish, Publisher, ToSession};
use crate::model::arguments::Arguments;
use crate::model::deduplication::Key;
use crate::model::exchange::deduplicating::{Cache, Note};
use crate::model::queue::Queue;
use crate::model::topology::Origin;

/// What is known of messages that pass.
#[derive(Default)]
pub(super) struct Deduplication {
    /// By the queues of exchanges that compare messages.
    caches: HashMap<QueueId, Cache>,
    /// The exchanges, by their queues, that the publish at hand has come to; empty between publishes.
    pub(super) arrived: Vec<QueueId>,
    /// Of what is on its way or being noted: its number.
    reserved: HashMap<(QueueId, Key), u64>,
    /// By number.
    under_way: BTreeMap<u64, Passage>,
    /// Publishes that are held.
    held: usize,
}

/// Somebody who waits for a publish, and the number it has there.
type Waiting = (Publisher, u64);

/// A message on its way, or the note of one.
#[derive(Default)]
struct Passage {
    /// Whose publishes are held until it is there.
    waiting: Vec<Waiting>,
    /// What its exchange is to note, in which queue.
    note: Option<(QueueId, Note)>,
    /// That is done: what is under way is the note.
    is_noted: bool,
    /// Some queue hasn't taken it.
    is_refused: bool,
    /// Whether it goes anywhere is seen elsewhere.
    open: Option<Open>,
}

/// A message that goes nowhere but to other exchanges that compare it.
struct Open {
    /// Copies that may have gone somewhere.
    copies: usize,
    /// To be given back if none has; none if nobody wants it.
    message: Option<StoredMessage>,
}

impl Passage {
    fn leads_nowhere(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.copies == 0)
    }
}

/// Whether a message is known.
enum Known {
    /// Nothing like it has passed.
    No,
    /// Its like has this number and is on its way.
    Soon(u64),
    /// Its like has passed.
    Yes,
}

impl Deduplication {
    /// Whether so much is under way that publishers should wait.
    fn is_full(&self) -> bool {
        self.under_way.len() + self.held >= limits::DEAD_LETTERS_MAX
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// A queue hasn't taken the copy with this number, which may be a dead letter as well.
    pub(super) fn refused(&mut self, number: u64) {
        if let Some(passage) = self.under_way.get_mut(&number) {
            passage.is_refused = true;
        }
    }

    /// A session is called something else from now on.
    pub(super) fn rebind(&mut self, from: SessionId, to: SessionId) {
        let passages = self.under_way.values_mut();
        for (publisher, _) in passages.flat_map(|passage| &mut passage.waiting) {
            if let Publisher::Channel { session, .. } = publisher
                && *session == from
            {
                *session = to;
            }
        }
    }

    /// The queue of an exchange is gone.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.caches.remove(&queue);
    }

    fn begin(&mut self, number: u64, passage: Passage) {
        if let Some((queue, note)) = &passage.note {
            self.reserved.insert((*queue, note.key), number);
        }
        self.under_way.insert(number, passage);
    }

    fn release(&mut self, waiting: Waiting, context: &mut ShardContext<'_>) {
        self.held -= 1;
        tell(waiting, News::Released, context.outbox);
    }
}

impl Shard {
    /// The queue that an exchange of this core has for itself.
    pub(super) fn queue_of_exchange(&mut self, id: QueueId, arguments: &Arguments) -> Queue {
        match Cache::declared(arguments) {
            Some(cache) => {
                self.deduplication.caches.insert(id, cache);
                Queue::noting(cache.size)
            }
            None => Queue::delaying(),
        }
    }

    /// Policies have changed, and with them what an exchange of this core is to remember. Whether how much.
    pub(super) fn cache_changed(&mut self, id: QueueId, arguments: &Arguments) -> bool {
        let (Some(cache), Some(owned)) = (Cache::declared(arguments), find(&mut self.queues, id))
        else {
            return false;
        };
        self.deduplication.caches.insert(id, cache);
        owned.queue.set_notes_max(cache.size)
    }

    /// A message has come to exchanges that compare it with others. Whether its publisher should wait before
    /// it sends more.
    #[cold]
    pub(super) fn let_pass(
        &mut self,
        publish: &Publish,
        message: &MessageRef<'_>,
        context: &mut ShardContext<'_>,
    ) -> bool {
        while let Some(queue) = self.deduplication.arrived.pop() {
            tell(
                (publish.publisher, publish.confirm),
                News::Held,
                context.outbox,
            );
            self.deduplication.held += 1;
            self.let_pass_by(queue, publish, message, context);
        }
        self.deduplication.is_full()
            || self.journal.is_overfull()
            || context.outbox.is_any_overfull()
    }

    /// By one exchange.
    fn let_pass_by(
        &mut self,
        queue: QueueId,
        publish: &Publish,
        message: &MessageRef<'_>,
        context: &mut ShardContext<'_>,
    ) {
        let properties = Properties::from_validated(message.properties);
        let cache = self.deduplication.caches.get(&queue);
        let note = cache.and_then(|cache| cache.note(properties));
        let exchange = context.topology.exchange_with_own(queue);
        let known = match &note {
            Some(note) => self.known(queue, note.key),
            None => Known::No,
        };
        let (start, passage) = match known {
            Known::No => {
                let note = note.map(|note| (queue, note));
                let passage = Passage {
                    note,
                    ..Passage::default()
                };
                (exchange.map(|exchange| (exchange, Origin::Passed)), passage)
            }
            Known::Soon(_) | Known::Yes => {
                let topology = context.topology;
                let alternate = exchange.and_then(|exchange| topology.alternate_exchange(exchange));
                let start = alternate.map(|alternate| (alternate, Origin::Core));
                (start, Passage::default())
            }
        };
        let sent = start.and_then(|start| self.send_on(start, message, context));
        let waiting = (publish.publisher, publish.confirm);
        if let Some((number, open)) = sent {
            let passage = Passage {
                waiting: vec![waiting],
                open: (open > 0).then(|| Open {
                    copies: open,
                    message: wants_it_back(publish.publisher).then(|| StoredMessage::new(message)),
                }),
                ..passage
            };
            return self.deduplication.begin(number, passage);
        }
        leads_nowhere(waiting, Some(message), context);
        // What a core sends in a circle must not wait for itself.
        let is_circle = || {
            let exchange =
                exchange.filter(|_| matches!(publish.publisher, Publisher::DeadLetters(_)));
            exchange.is_some_and(|exchange| context.topology.leads_back(exchange))
        };
        if let Known::Soon(number) = known
            && !is_circle()
            && let Some(passage) = self.deduplication.under_way.get_mut(&number)
        {
            passage.waiting.push(waiting);
        } else {
            self.deduplication.release(waiting, context);
        }
    }

    fn known(&mut self, queue: QueueId, key: Key) -> Known {
        if let Some(number) = self.deduplication.reserved.get(&(queue, key)) {
            return Known::Soon(*number);
        }
        let now_ms = self.now_ms();
        let Some(owned) = find(&mut self.queues, queue) else {
            return Known::No;
        };
        let is_known = owned.queue.remembers(&key, now_ms);
        owned.account(&mut self.memory);
        self.gather(queue);
        if is_known { Known::Yes } else { Known::No }
    }

    /// Sends a message where an exchange leads it. Its number, and how many of its copies may lead nowhere if
    /// all may; none if it leads nowhere.
    fn send_on(
        &mut self,
        start: (ExchangeId, Origin),
        message: &MessageRef<'_>,
        context: &mut ShardContext<'_>,
    ) -> Option<(u64, usize)> {
        let letters = &mut self.dead_letters;
        let routed = letters.route(start, message, context.topology);
        let number = letters.forward(message, true, context)?;
        (!routed.is_unroutable).then_some((number, routed.open))
    }

    /// A copy with this number has led nowhere.
    pub(super) fn copy_leads_nowhere(&mut self, number: u64, context: &mut ShardContext<'_>) {
        let passage = self.deduplication.under_way.get_mut(&number);
        if let Some(passage) = passage
            && let Some(open) = &mut passage.open
            && open.copies > 0
        {
            open.copies -= 1;
            if open.copies == 0
                && let Some(first) = passage.waiting.first()
            {
                let message = open.message.take();
                let message = message.as_ref().map(StoredMessage::as_ref);
                leads_nowhere(*first, message.as_ref(), context);
            }
        }
    }

    /// Copies have been settled, of dead letters or of what passes: goes on with those that are.
    pub(super) fn passages_settled(&mut self, context: &mut ShardContext<'_>) {
        let letters = &self.dead_letters;
        let under_way = self.deduplication.under_way.keys();
        let under_way = under_way.take_while(|number| **number <= letters.reported_upto());
        let settled: Vec<u64> = under_way
            .filter(|number| letters.is_settled(**number))
            .copied()
            .collect();
        for number in settled {
            if let Some(passage) = self.deduplication.under_way.remove(&number) {
                self.arrived(passage, context);
            }
        }
    }

    /// A message is where it was sent, or the note of one is.
    fn arrived(&mut self, mut passage: Passage, context: &mut ShardContext<'_>) {
        if let Some((queue, note)) = &passage.note {
            let is_to_be_noted =
                !passage.is_noted && !passage.is_refused && !passage.leads_nowhere();
            if is_to_be_noted {
                self.dead_letters.address_to(*queue);
                if let Some(number) = self.dead_letters.forward(&note.message(), true, context) {
                    passage.is_noted = true;
                    return self.deduplication.begin(number, passage);
                }
            }
            self.deduplication.reserved.remove(&(*queue, note.key));
        }
        for waiting in passage.waiting {
            if passage.is_refused {
                tell(waiting, News::Refused, context.outbox);
            }
            self.deduplication.release(waiting, context);
        }
    }
}

fn wants_it_back(publisher: Publisher) -> bool {
    matches!(
        publisher,
        Publisher::Channel {
            mandatory: true,
            ..
        }
    )
}

/// A message goes nowhere, or no further since its like has passed: one that is mandatory goes back, as with
/// the plugin, and a core that has passed it on hears of it.
fn leads_nowhere(
    waiting: Waiting,
    message: Option<&MessageRef<'_>>,
    context: &mut ShardContext<'_>,
) {
    match waiting.0 {
        Publisher::Channel {
            session,
            channel,
            mandatory: true,
        } => {
            let Some(message) = message else { return };
            let batch = &mut context.outbox.to(session.core).to_session;
            let message = batch.write_message(message);
            batch.push(ToSession::Returned {
                session,
                channel,
                message,
            });
        }
        Publisher::Channel { .. } => {}
        Publisher::DeadLetters(_) => tell(waiting, News::Nowhere, context.outbox),
    }
}
