//! From queues that let messages fall to their dead-letter exchanges.
//!
//! A letter is routed here and published to the queues' cores as any message is, with a confirm number.
//! The queue that it comes from forgets it only when those it went to have it for good: nothing is lost
//! between the two, whatever crashes, though a crash may leave it in both.
//!
//! ```text
//! fallen ─► waiting ─► (read from the log) ─► sent ─► settled there ─► forgotten here
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::confirms::tell;
use super::{Shard, ShardContext, find};
use crate::amqp::properties::Properties;
use crate::base::{CoreId, ExchangeId, Lsn, MessageRef, Name, Notices, QueueId, limits};
use crate::log::{Located, Stretch};
use crate::mail::{Addressees, Confirms, News, Publisher};
use crate::model::Topology;
use crate::model::dead_letter::{Death, is_cycle, properties_of};
use crate::model::exchange::{RouteScratch, delayed, own_queue};
use crate::model::queue::{Fallen, Letter, Reason};
use crate::model::sender_selected;
use crate::model::topology::{Origin, Routed};

/// Letters that may be on their way without more memory than an idle core keeps.
const LETTERS_KEPT: usize = 64;

/// Letters on their way.
#[derive(Default)]
pub(super) struct DeadLetters {
    /// Not yet sent, and the queues that they come from.
    waiting: VecDeque<(QueueId, Letter)>,
    /// The first of them is being read from the log.
    is_reading: bool,
    /// The first of them isn't durable yet, so it can't be read.
    awaits_commit: bool,
    /// Sent and not yet settled.
    sent: VecDeque<Sent>,
    /// The same of letters that a queue here has refused and dead-lettered in its turn: by number, and the core that
    /// keeps them until then under a number of its own. It may be this one, so that what is in front of them waits for
    /// them.
    passed_on: BTreeMap<u64, (Publisher, u64)>,
    confirms: Confirms,
    /// Queues that have more to let go than there is room for.
    held: Vec<QueueId>,
    /// The broker stops: what the log has of a queue stays there.
    is_closed: bool,
    scratch: RouteScratch,
    targets: Vec<QueueId>,
    addressees: Addressees,
}

/// A letter that isn't where it was sent, or not known to be.
struct Sent {
    /// Its number; the last of them if each target has one.
    number: u64,
    queue: QueueId,
    /// Without its message.
    letter: Letter,
    /// Where each number leads, if it matters who takes the letter.
    targets: Vec<QueueId>,
    /// Those of them that haven't taken it.
    untaken: Vec<QueueId>,
    /// Some of these would have had to.
    is_refused: bool,
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
        if !self.is_closed || !letter.lsn.is_some() {
            self.waiting.push_back((queue, letter));
        }
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
        self.addressees.set(&self.targets, context.topology);
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

    /// As [`DeadLetters::forward`], and confirmed by each queue alone: the last number, and whose they are.
    fn forward_apart(
        &mut self,
        taken_by: &[QueueId],
        message: &MessageRef<'_>,
        context: &mut ShardContext<'_>,
    ) -> Option<(u64, Vec<QueueId>)> {
        let mut last = None;
        let mut targets = std::mem::take(&mut self.targets);
        targets.retain(|target| {
            self.address_to(*target);
            let number = match taken_by.contains(target) {
                true => None,
                false => self.forward(message, true, context),
            };
            last = number.or(last);
            number.is_some()
        });
        Some((last?, targets))
    }

    /// The copy with this number isn't taken where it was sent, and was refused there or led no further.
    fn not_taken(&mut self, number: u64, is_refused: bool) {
        let index = self.sent.partition_point(|sent| sent.number < number);
        let Some(sent) = self.sent.get_mut(index) else {
            return;
        };
        // Others have the numbers between those of letters.
        let from_end = (sent.number - number) as usize;
        if let Some(target) = sent.targets.iter().rev().nth(from_end) {
            sent.untaken.push(*target);
            sent.is_refused |= is_refused;
        }
    }

    /// Whether the first one waits for a batch.
    pub(super) fn awaits_commit(&self) -> bool {
        self.awaits_commit
    }

    /// Whether letters can be sent at once.
    pub(super) fn can_send(&self) -> bool {
        !self.waiting.is_empty()
            && !self.is_reading
            && !self.awaits_commit
            && self.sent.len() < limits::DEAD_LETTERS_MAX
    }
}

impl Shard {
    /// Whether letters are on their way.
    pub fn has_letters(&self) -> bool {
        let letters = &self.dead_letters;
        let is_idle = letters.waiting.is_empty()
            && letters.sent.is_empty()
            && letters.passed_on.is_empty()
            && self.deduplication.is_idle();
        !is_idle
    }

    /// The broker stops: what is to be sent and isn't yet stays where the log has it until the next start, and so
    /// does what expires or is due. What was sent is waited for.
    pub fn close_letters(&mut self) {
        let letters = &mut self.dead_letters;
        letters.is_closed = true;
        letters.waiting.retain(|(_, letter)| !letter.lsn.is_some());
    }

    /// Takes up what a queue has let fall.
    pub(super) fn gather(&mut self, id: QueueId) {
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        for fallen in owned.queue.take_fallen() {
            self.take_up(id, fallen);
        }
    }

    fn take_up(&mut self, id: QueueId, fallen: Fallen) {
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        match fallen {
            Fallen::Gone(gone) => owned.forget(Some(gone), &mut self.journal, self.now),
            Fallen::Letter(letter) if owned.queue.delays() => self.ahead.insert(id, letter),
            Fallen::Letter(letter) => self.dead_letters.push(id, letter),
        }
    }

    /// Sends the letters that wait, as far as there is room for them.
    pub(super) fn send_letters(&mut self, context: &mut ShardContext<'_>) {
        while self.dead_letters.can_send() && !context.outbox.is_any_overfull() {
            let Some((queue, letter)) = self.dead_letters.waiting.pop_front() else {
                break;
            };
            if letter.message.is_some() {
                self.send_letter(queue, letter, context);
            } else if let Some(letter) = self.read_letter(queue, letter) {
                self.dead_letters.waiting.push_front((queue, letter));
            }
        }
        give_back(&mut self.dead_letters.waiting);
        if !self.dead_letters.is_full() {
            for id in std::mem::take(&mut self.dead_letters.held) {
                self.look_after_at(id, self.now);
            }
        }
    }

    /// Has a letter read that only the log holds. None: it is gone.
    fn read_letter(&mut self, queue: QueueId, mut letter: Letter) -> Option<Letter> {
        let owned = find(&mut self.queues, queue)?;
        // It may have been written again since it fell.
        let lsn = owned.queue.unsettled_lsn(letter.slot?)?;
        let letters = &mut self.dead_letters;
        match self.journal.fetch_letter(lsn) {
            Located::Here(_) => letters.is_reading = true,
            Located::NotYet => {
                letter.message = self.journal.unwritten(lsn);
                letters.awaits_commit = letter.message.is_none();
            }
            Located::Nowhere => {
                self.forget_letter(queue, &letter);
                return None;
            }
        }
        Some(letter)
    }

    /// The batch is durable that a letter waited for.
    pub(super) fn letters_committed(&mut self) {
        self.dead_letters.awaits_commit = false;
    }

    /// A piece of the log was read for the letter with that number, and serves the others that are in it as well.
    pub(super) fn letters_read(
        &mut self,
        asked: Lsn,
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
        // What was written again while it was read is elsewhere now, and not lost.
        let lost = match bytes {
            Some(_) => asked..asked.next(),
            None => asked..stretch.end_lsn,
        };
        let mut left = 0;
        letters.waiting.retain(|(queue, letter)| {
            let owned = find(queues, *queue).filter(|_| letter.message.is_none());
            let (Some(owned), Some(slot)) = (owned, letter.slot) else {
                return true;
            };
            let lsn = owned.queue.unsettled_lsn(slot);
            let is_lost = lsn.is_some_and(|lsn| lost.contains(&lsn));
            if is_lost {
                // The log isn't told: a later start may be able to read it.
                owned.queue.leave_letter(letter);
                owned.account(&mut self.memory);
                left += 1;
            }
            !is_lost
        });
        if left > 0 {
            notices.add(|| {
                format!(
                    "{left} messages that should be dead-lettered can't be read from the log, where they stay"
                )
            });
        }
    }

    fn send_letter(&mut self, queue: QueueId, mut letter: Letter, context: &mut ShardContext<'_>) {
        let posted = self.post(queue, &letter, letter.slot.is_some(), context);
        letter.message = None;
        match posted {
            Some((number, targets)) => self.dead_letters.sent.push_back(Sent {
                number,
                queue,
                letter,
                targets,
                untaken: Vec::new(),
                is_refused: false,
            }),
            None => self.conclude_letter(queue, letter, false),
        }
    }

    /// A queue has refused a core's letter. If it is dead-lettered in its turn, that core keeps it until then.
    pub(super) fn pass_on_refused(
        &mut self,
        queue: QueueId,
        keeper: (Publisher, u64),
        context: &mut ShardContext<'_>,
    ) {
        let Some(owned) = find(&mut self.queues, queue) else {
            return;
        };
        for fallen in owned.queue.take_fallen() {
            match fallen {
                Fallen::Letter(letter) if letter.slot.is_none() => {
                    if let Some((next, _)) = self.post(queue, &letter, true, context) {
                        tell(keeper, News::Held, context.outbox);
                        self.dead_letters.passed_on.insert(next, keeper);
                    }
                }
                other => self.take_up(queue, other),
            }
        }
    }

    /// Routes a letter and writes it for each core with a queue of it. Its number, and where its numbers lead if
    /// it has one for each target; none if nobody is to confirm it.
    fn post(
        &mut self,
        queue: QueueId,
        letter: &Letter,
        is_confirmed: bool,
        context: &mut ShardContext<'_>,
    ) -> Option<(u64, Vec<QueueId>)> {
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
        // A delayed message had to know the way until now; nobody gets to see it.
        let stripped = match letter.reason {
            Reason::Delayed => sender_selected::without_bcc(validated),
            _ => None,
        };
        let message = MessageRef {
            properties: stripped.as_deref().unwrap_or(&properties),
            ..message
        };
        match &letter.taken_by {
            Some(taken_by) => letters.forward_apart(taken_by, &message, context),
            None => {
                let number = letters.forward(&message, is_confirmed, context)?;
                Some((number, Vec::new()))
            }
        }
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
            News::Refused => {
                self.dead_letters.not_taken(number, true);
                self.deduplication.refused(number);
            }
            News::Held => self.dead_letters.confirms.held(number),
            News::Nowhere => {
                self.dead_letters.not_taken(number, false);
                self.copy_leads_nowhere(number, context);
            }
            News::Released => {
                self.dead_letters.confirms.released(number);
                self.forget_letters(context);
            }
        }
    }

    fn forget_letters(&mut self, context: &mut ShardContext<'_>) {
        let letters = &mut self.dead_letters;
        let upto = letters.confirms.settled_upto();
        let confirms = &letters.confirms;
        letters.passed_on.retain(|number, keeper| {
            let is_there = confirms.is_settled(*number);
            if is_there {
                tell(*keeper, News::Released, context.outbox);
            }
            !is_there
        });
        while let Some(sent) = self
            .dead_letters
            .sent
            .pop_front_if(|sent| sent.number <= upto)
        {
            let mut letter = sent.letter;
            if let Some(taken_by) = &mut letter.taken_by {
                let targets = sent.targets.into_iter();
                taken_by.extend(targets.filter(|target| !sent.untaken.contains(target)));
            }
            self.conclude_letter(sent.queue, letter, sent.is_refused);
        }
        give_back(&mut self.dead_letters.sent);
        self.passages_settled(context);
    }
}

/// When all are gone that many letters once were, so is the memory that their number took.
fn give_back<T>(letters: &mut VecDeque<T>) {
    if letters.is_empty() {
        letters.shrink_to(LETTERS_KEPT);
    }
}
