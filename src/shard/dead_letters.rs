//! From queues that let messages fall to their dead-letter exchanges.
//!
//! A letter is routed here and published to the queues' cores as any message is, with a confirm number.
//! The queue that it comes from forgets it only when those it went to have it for good: nothing is lost
//! between the two, whatever crashes, though a crash may leave it in both.
//!
//! ```text
//! fallen ─► waiting ─► (read from the log) ─► sent ─► settled there ─► forgotten here
//! ```

use std::collections::{HashMap, VecDeque};

use super::{Shard, ShardContext, find};
use crate::amqp::properties::Properties;
use crate::base::{CoreId, ExchangeId, MessageRef, Name, Notices, QueueId, limits};
use crate::log::{Located, Stretch};
use crate::mail::{Addressees, Confirms, News, Publisher};
use crate::model::Topology;
use crate::model::dead_letter::{Death, is_cycle, properties_of};
use crate::model::exchange::{RouteScratch, delayed, own_queue};
use crate::model::queue::{Fallen, Letter, Reason};
use crate::model::sender_selected;
use crate::model::topology::{Origin, Routed};

/// Letters on their way.
#[derive(Default)]
pub(super) struct DeadLetters {
    /// Not yet sent, and the queues that they come from.
    waiting: VecDeque<(QueueId, Letter)>,
    /// The first of them is being read from the log.
    is_reading: bool,
    /// The first of them isn't durable yet, so it can't be read.
    awaits_commit: bool,
    /// Sent and not yet settled: number, queue and slot.
    sent: VecDeque<(u64, QueueId, u32)>,
    confirms: Confirms,
    /// Queues that have more to let go than there is room for.
    held: Vec<QueueId>,
    /// The broker stops, and none is sent any more.
    is_closed: bool,
    scratch: RouteScratch,
    targets: Vec<QueueId>,
    addressees: Addressees,
}

impl DeadLetters {
    /// Whether queues should keep what they needn't let go.
    pub(super) fn is_full(&self) -> bool {
        self.is_closed || self.waiting.len() + self.sent.len() >= limits::DEAD_LETTERS_MAX
    }

    /// A queue has to wait for room.
    pub(super) fn hold(&mut self, queue: QueueId) {
        self.held.push(queue);
    }

    /// One more is to be sent.
    pub(super) fn push(&mut self, queue: QueueId, letter: Letter) {
        self.waiting.push_back((queue, letter));
    }

    /// The number up to which everything is where it was sent.
    pub(super) fn settled_upto(&self) -> u64 {
        self.confirms.settled_upto()
    }

    /// The next one goes to this queue.
    pub(super) fn address_to(&mut self, queue: QueueId) {
        self.targets.clear();
        self.targets.push(queue);
    }

    /// Whether the copy with this number is where it was sent.
    pub(super) fn is_settled(&self, number: u64) -> bool {
        self.confirms.is_settled(number)
    }

    /// The number up to which cores have all that they were sent, though they may be passing it on.
    pub(super) fn reported_upto(&self) -> u64 {
        self.confirms.reported_upto()
    }

    /// The next one is this message, and goes where an exchange sends it.
    pub(super) fn route(
        &mut self,
        start: (ExchangeId, Origin),
        message: &MessageRef<'_>,
        topology: &Topology,
    ) -> Routed {
        let properties = Properties::from_validated(message.properties);
        let mut keys = vec![message.routing_key];
        keys.extend(sender_selected::copies(
            properties.headers().unwrap_or_default(),
        ));
        self.targets.clear();
        let (scratch, targets) = (&mut self.scratch, &mut self.targets);
        topology.route_from(start, &keys, properties, scratch, targets)
    }

    /// Writes a message for each core with a queue that it goes to. Its number, if that is to be
    /// confirmed and there is one.
    pub(super) fn forward(
        &mut self,
        message: &MessageRef<'_>,
        is_confirmed: bool,
        context: &mut ShardContext<'_>,
    ) -> Option<u64> {
        self.addressees.clear();
        for target in &self.targets {
            if let Some(definition) = context.topology.queue(*target) {
                self.addressees.add(definition.owner, *target);
            }
        }
        if self.addressees.is_empty() {
            return None;
        }
        let number = is_confirmed.then(|| self.confirms.next_number());
        let publisher = Publisher::DeadLetters(context.outbox.own());
        for index in 0..self.addressees.len() {
            let addressee = self.addressees.at(index);
            if let Some(number) = number {
                self.confirms.sent(addressee.0, number);
            }
            let confirm = number.unwrap_or(0);
            context
                .outbox
                .publish(addressee, (publisher, confirm), message);
        }
        number
    }

    /// Whether letters can be sent at once.
    pub(super) fn can_send(&self) -> bool {
        !self.waiting.is_empty()
            && !self.is_reading
            && !self.awaits_commit
            && !self.is_closed
            && self.sent.len() < limits::DEAD_LETTERS_MAX
    }
}

impl Shard {
    /// Whether letters are on their way.
    pub fn has_letters(&self) -> bool {
        let letters = &self.dead_letters;
        !letters.waiting.is_empty() || !letters.sent.is_empty() || !self.deduplication.is_idle()
    }

    /// The broker stops, and no letter of this core is on its way: those of which it is time from now on stay in their
    /// queues until the next start. Who takes them may have stopped by then, and they would be in both.
    pub fn close_letters(&mut self) {
        self.dead_letters.is_closed = true;
    }

    /// Takes up what a queue has let fall.
    pub(super) fn gather(&mut self, id: QueueId) {
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        let delays = owned.queue.delays();
        for fallen in owned.queue.take_fallen() {
            match fallen {
                Fallen::Gone(gone) => owned.forget(Some(gone), &mut self.journal, self.now),
                Fallen::Letter(letter) if delays => self.ahead.insert(id, letter),
                Fallen::Letter(letter) => self.dead_letters.push(id, letter),
            }
        }
    }

    /// Sends the letters that wait, as far as there is room for them.
    pub(super) fn send_letters(&mut self, context: &mut ShardContext<'_>) {
        while self.dead_letters.can_send() && !context.outbox.is_any_overfull() {
            let Some((queue, letter)) = self.dead_letters.waiting.pop_front() else {
                break;
            };
            if letter.message.is_some() {
                self.send_letter(queue, &letter, context);
            } else if let Some(letter) = self.read_letter(queue, letter) {
                self.dead_letters.waiting.push_front((queue, letter));
            }
        }
        if !self.dead_letters.is_full() {
            for id in std::mem::take(&mut self.dead_letters.held) {
                self.look_after_at(id, self.now);
            }
        }
    }

    /// Has a letter read that only the log holds. None: it is gone.
    fn read_letter(&mut self, queue: QueueId, letter: Letter) -> Option<Letter> {
        let owned = find(&mut self.queues, queue)?;
        // It may have been written again since it fell.
        let lsn = owned.queue.unsettled_lsn(letter.slot?)?;
        let letters = &mut self.dead_letters;
        match self.journal.fetch_letter(lsn) {
            Located::Here(_) => letters.is_reading = true,
            Located::NotYet => letters.awaits_commit = true,
            Located::Nowhere => {
                self.departed(queue, letter.slot?);
                return None;
            }
        }
        Some(letter)
    }

    /// The batch is durable that a letter waited for.
    pub(super) fn letters_committed(&mut self) {
        self.dead_letters.awaits_commit = false;
    }

    /// A piece of the log was read for the first letter, and serves those that are in it as well.
    pub(super) fn letters_read(
        &mut self,
        stretch: &Stretch,
        bytes: Option<&[u8]>,
        notices: &mut Notices,
    ) {
        let letters = &mut self.dead_letters;
        letters.is_reading = false;
        let (logged, queues) = (&self.logged, &mut self.queues);
        // By place in the log too: what a position held before the last start may stand there still.
        let waiting = letters.waiting.iter_mut();
        let mut wanted: HashMap<_, _> = waiting
            .filter(|(_, letter)| letter.message.is_none())
            .filter_map(|(queue, letter)| {
                let lsn = find(queues, *queue)?.queue.unsettled_lsn(letter.slot?)?;
                Some(((*queue, letter.position, lsn), letter))
            })
            .collect();
        self.journal
            .messages(stretch, bytes.unwrap_or(&[]), |lsn, message| {
                for target in message.targets() {
                    let id = logged.get(&target.queue);
                    let letter = id.and_then(|id| wanted.get_mut(&(*id, target.position, lsn)));
                    if let Some(letter) = letter {
                        letter.message = Some(message.store());
                    }
                }
            });
        let Some((queue, letter)) = letters
            .waiting
            .pop_front_if(|(_, letter)| letter.message.is_none())
        else {
            return;
        };
        let Some(owned) = find(&mut self.queues, queue) else {
            return;
        };
        let lsn = letter.slot.and_then(|slot| owned.queue.unsettled_lsn(slot));
        if lsn.is_some_and(|lsn| lsn >= stretch.end_lsn) {
            // It was written again while it was read, and where it was read may be another segment by now.
            self.dead_letters.waiting.push_front((queue, letter));
            return;
        }
        notices.add(|| {
            "a message that should be dead-lettered can't be read from the log: it is lost"
                .to_owned()
        });
        if let Some(slot) = letter.slot {
            self.departed(queue, slot);
        }
    }

    fn send_letter(&mut self, queue: QueueId, letter: &Letter, context: &mut ShardContext<'_>) {
        let number = self.post(queue, letter, context);
        match (number, letter.slot) {
            (Some(number), Some(slot)) => {
                self.dead_letters.sent.push_back((number, queue, slot));
            }
            (None, Some(slot)) => self.departed(queue, slot),
            (_, None) => {}
        }
    }

    /// Routes a letter and writes it for each core with a queue of it. Its number; none if nobody is to
    /// confirm it.
    fn post(
        &mut self,
        queue: QueueId,
        letter: &Letter,
        context: &mut ShardContext<'_>,
    ) -> Option<u64> {
        let topology = context.topology;
        let definition = topology.queue(queue)?;
        let message = letter.message.as_ref()?.as_ref();
        let (exchange_name, key, properties);
        if letter.reason == Reason::Delayed {
            exchange_name = own_queue::exchange_of(&definition.name)?;
            key = None;
            properties = delayed::released(Properties::from_validated(message.properties));
        } else {
            let time_s = self.clock.ms(self.now) / 1000;
            let rules = find(&mut self.queues, queue)?.queue.rules()?;
            exchange_name = rules.dead_letter_exchange.as_ref()?.as_str();
            key = rules.dead_letter_routing_key.as_ref();
            let death = Death {
                reason: letter.reason,
                queue: definition.name.as_str(),
                time_s,
            };
            properties = properties_of(&message, death, key.is_none());
        }
        // One that isn't there (yet) takes nothing, as with RabbitMQ.
        let exchange = topology.exchange_by_name(definition.vhost, exchange_name)?;
        let validated = Properties::from_validated(&properties);
        let message = MessageRef {
            exchange: match letter.reason {
                Reason::Delayed => message.exchange,
                _ => exchange_name.as_bytes(),
            },
            routing_key: key.map_or(message.routing_key, Name::as_bytes),
            properties: &properties,
            ..message
        };
        let letters = &mut self.dead_letters;
        letters.route((exchange, Origin::Core), &message, topology);
        if !matches!(letter.reason, Reason::Rejected | Reason::Delayed) {
            letters.targets.retain(|target| {
                let target = topology.queue(*target);
                target.is_some_and(|target| !is_cycle(validated, target.name.as_str()))
            });
        }
        // It had to know the way here; nobody gets to see it.
        let stripped = sender_selected::without_bcc(validated);
        let message = MessageRef {
            properties: stripped.as_deref().unwrap_or(&properties),
            ..message
        };
        letters.forward(&message, letter.slot.is_some(), context)
    }

    /// A core has taken letters over: they are forgotten here.
    pub(super) fn letters_settled(
        &mut self,
        core: CoreId,
        upto: u64,
        context: &mut ShardContext<'_>,
    ) {
        self.dead_letters.confirms.settled(core, upto);
        self.forget_letters(context);
    }

    /// What a core says of one copy alone, of a dead letter or of what passes.
    pub(super) fn letter_news(&mut self, number: u64, news: News, context: &mut ShardContext<'_>) {
        match news {
            News::Refused => self.deduplication.refused(number),
            News::Held => self.dead_letters.confirms.held(number),
            News::Nowhere => self.copy_leads_nowhere(number, context),
            News::Released => {
                self.dead_letters.confirms.released(number);
                self.forget_letters(context);
            }
        }
    }

    fn forget_letters(&mut self, context: &mut ShardContext<'_>) {
        let letters = &mut self.dead_letters;
        let upto = letters.confirms.settled_upto();
        while let Some((_, queue, slot)) = self
            .dead_letters
            .sent
            .pop_front_if(|(number, ..)| *number <= upto)
        {
            self.departed(queue, slot);
        }
        self.passages_settled(context);
    }
}
