//! One core's queues: commands in, mail out. PURE.
//!
//! A shard owns queues and nobody else touches them. It is told what to do by mail ([`ToShard`]),
//! answers by mail, and learns from the catalog, through the topology's changes, which queues it has.
//! What must survive a crash it gives to its [`journal`], and what shall not take up memory as well.
//!
//! ```text
//!   taking, links, leaving        who takes messages; each session's window; how a queue goes
//!   confirms                      what publishers are told
//!   durable, journal, memory      what the log keeps and brings back, and how much stays in memory
//!   dead_letters, undelivered     letters, and those that are to be tried again
//!   ahead, deduplication, history what this core's exchanges send by themselves
//!   timers, policies, growth      when a queue is looked at: time, other rules, a flood
//! ```

mod ahead;
mod confirms;
mod dead_letters;
mod deduplication;
mod durable;
mod growth;
mod history;
mod journal;
mod leaving;
mod links;
mod memory;
mod policies;
mod taking;
mod timers;
mod undelivered;

use std::collections::HashMap;

use ahead::Ahead;
use confirms::{Confirms, tell};
use dead_letters::DeadLetters;
use deduplication::Deduplication;
use growth::Growth;
use journal::{Journal, LogQueue, Target, Waiter};
use leaving::Delete;
use links::{Deliveries, Links};
use memory::Memory;
use taking::{Callers, Getting};
use timers::Timers;
use undelivered::Undelivered;

use crate::amqp::error::ChannelError;
use crate::base::{Lsn, Name, QueueId, SessionId, Time, WallClock, limits};
use crate::mail::{
    Answer, Batch, Ease, Mail, News, Outbox, Outcome, Publish, Publisher, Settle, ToSession,
    ToShard,
};
use crate::model::exchange::own_queue;
use crate::model::exchange::recent_history::History;
use crate::model::queue::{Admitted, Incoming, Keep, NEVER, Queue, Rubbish};
use crate::model::{QueueDefinition, Topology};

pub use journal::{Kept, Recovered};

/// One core's queues.
pub struct Shard {
    /// By [`QueueId::index`]; queues of other cores leave holes.
    queues: Vec<Option<Box<Owned>>>,
    links: Links,
    journal: Journal,
    /// The queues that the log knows, by its name for them.
    logged: HashMap<LogQueue, QueueId>,
    confirms: Confirms,
    /// Messages to be dropped, and what the log calls the queue that they were in.
    rubbish: Vec<(Option<LogQueue>, Rubbish)>,
    memory: Memory,
    /// Queues that want messages from the log that are not durable yet.
    starved: Vec<QueueId>,
    /// The queues that the log is to have a message for; empty between publishes.
    targets: Vec<Target>,
    /// The queues that have let messages fall or that have one more that expires, and when; empty between
    /// publishes.
    changed: Vec<(QueueId, u64)>,
    dead_letters: DeadLetters,
    /// Delayed messages that will soon be due.
    ahead: Ahead,
    /// By the queues of exchanges that have one.
    histories: HashMap<QueueId, History>,
    deduplication: Deduplication,
    timers: Timers,
    /// The first of the queues that are to be looked at because policies have changed.
    to_review: Option<usize>,
    /// Auto-delete queues that are proposed for deletion, and whose last consumer's session did it.
    leaving: Vec<(QueueId, SessionId)>,
    /// Fences that wait for that.
    held: Vec<(QueueId, SessionId, u16)>,
    /// The time of this turn.
    now: Time,
    clock: WallClock,
}

/// A queue of this core.
struct Owned {
    id: QueueId,
    queue: Queue,
    /// What the log calls it, if it does.
    log: Option<LogQueue>,
    /// Whether its persistent messages survive a restart.
    durable: bool,
    /// What it has in [`Shard::memory`]: bytes of messages that are ready, and that are out.
    resident: (usize, usize),
    /// Messages are on their way from the log.
    is_fetching: bool,
    auto_delete: bool,
    /// A proposal to delete it is under way: what could change its mind waits.
    frozen: bool,
    /// None as long as nobody had to wait.
    callers: Option<Box<Callers>>,
    /// None as long as all its letters are taken.
    undelivered: Option<Box<Undelivered>>,
    /// When it stands in [`Timers`].
    due: Option<Time>,
    /// When it was last used, if nobody does. Only kept if it expires.
    unused_since: Time,
    growth: Growth,
}

/// A hundred thousand queues take a kilobyte each, with their names and definitions; the allocator's next
/// size is 640.
const _: () = assert!(size_of::<Owned>() <= 512);

/// What a shard works with besides its own state.
pub struct ShardContext<'a> {
    /// The core's copy of the topology.
    pub topology: &'a Topology,
    /// Where answers and deliveries go.
    pub outbox: &'a mut Outbox,
}

impl ShardContext<'_> {
    fn answer(&mut self, session: SessionId, channel: u16, answer: Answer) {
        self.outbox
            .to(session.core)
            .to_session
            .push(ToSession::Answer {
                session,
                channel,
                answer: Box::new(answer),
            });
    }
}

impl Shard {
    fn new(journal: Journal, resident_max: usize) -> Self {
        Self {
            queues: Vec::new(),
            links: Links::default(),
            journal,
            logged: HashMap::new(),
            confirms: Confirms::default(),
            rubbish: Vec::new(),
            memory: Memory::new(resident_max),
            starved: Vec::new(),
            targets: Vec::new(),
            changed: Vec::new(),
            dead_letters: DeadLetters::default(),
            ahead: Ahead::default(),
            histories: HashMap::new(),
            deduplication: Deduplication::default(),
            timers: Timers::default(),
            to_review: None,
            leaving: Vec::new(),
            held: Vec::new(),
            now: Time::default(),
            clock: WallClock::default(),
        }
    }

    /// What time it is, and what the clock on the wall shows.
    pub fn set_time(&mut self, now: Time, clock: WallClock) {
        let was_set = clock != self.clock;
        (self.now, self.clock) = (now, clock);
        if was_set {
            let ids: Vec<_> = self.queues.iter().flatten().map(|owned| owned.id).collect();
            for id in ids {
                self.look_after_at(id, now);
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.ms(self.now)
    }

    /// Carries out a batch of commands.
    pub fn handle(&mut self, mail: &Mail, context: &mut ShardContext<'_>) {
        let batch = &mail.to_shard;
        for command in batch.records() {
            match command {
                ToShard::Publish(publish) => self.publish(publish, batch, context),
                ToShard::Settle(settle) => self.settle(settle, batch, context),
                other => self.command(other, context),
            }
        }
        self.send_letters(context);
        self.confirms.send(context.outbox);
        self.links.end_batch();
    }

    /// A queue of this core was created; the topology has it.
    pub fn create(&mut self, id: QueueId, definition: &QueueDefinition, topology: &Topology) {
        if own_queue::exchange_of(&definition.name).is_some()
            && let Some(history) = History::declared(&definition.arguments)
        {
            self.histories.insert(id, history);
            return;
        }
        let index = id.index as usize;
        if self.queues.len() <= index {
            self.queues.resize_with(index + 1, || None);
        }
        let log = definition
            .durable
            .then(|| LogQueue::durable(definition.incarnation));
        if let Some(log) = log {
            self.logged.insert(log, id);
        }
        let queue = match topology.own_queue_arguments(id) {
            Some(arguments) => self.queue_of_exchange(id, &arguments),
            None => Queue::new(topology.queue_arguments(id).unwrap_or_default()),
        };
        self.queues[index] = Some(Box::new(Owned {
            id,
            queue,
            log,
            durable: definition.durable,
            resident: (0, 0),
            is_fetching: false,
            auto_delete: definition.auto_delete,
            frozen: false,
            callers: None,
            undelivered: None,
            due: None,
            unused_since: self.now,
            growth: Growth::default(),
        }));
        self.used(id);
    }

    /// Whether [`Shard::begin_turn`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.rubbish.is_empty()
            || self.dead_letters.can_send()
            || self.to_review.is_some()
            || self.waits_in_vain()
    }

    /// Begins a turn, with its share of the work that needs no input: dropping the messages of purged
    /// and deleted queues, sending dead letters, what policies have changed, and what can't wait for the log.
    pub fn begin_turn(&mut self, context: &mut ShardContext<'_>) {
        self.review_some(context.topology);
        if self.waits_in_vain() {
            self.serve_unwritten(context);
        }
        self.send_letters(context);
        // What was purged still counts as alive in the log until it is dropped here.
        if self.rubbish.is_empty() {
            self.journal.rewrite(self.now);
        }
        let journal = &mut self.journal;
        if let Some((log, rubbish)) = self.rubbish.last_mut()
            && rubbish.drop_some(limits::JOB_STEPS_PER_TURN, |lsn| {
                if let Some(log) = *log {
                    journal.forget(log, lsn);
                }
            })
        {
            self.rubbish.pop();
        }
    }

    fn owned(&mut self, id: QueueId) -> Option<&mut Owned> {
        find(&mut self.queues, id)
    }

    fn publish(
        &mut self,
        publish: &Publish,
        batch: &Batch<ToShard>,
        context: &mut ShardContext<'_>,
    ) {
        let mut incoming = Incoming::new(batch.message(&publish.message));
        let (ids, _) = batch.bytes(publish.queues).as_chunks::<8>();
        let persistent = publish.message.persistent();
        let (is_full, is_crowded) = (self.memory.is_full(), self.memory.is_crowded());
        let leave_from = self.memory.leave_from(&self.journal);
        let lsn = self.journal.upcoming_lsn();
        let (mut ease, mut is_refused, mut waits) = (None, false, false);
        let now_ms = self.now_ms();
        for id in ids {
            let id = QueueId::from_bytes(*id);
            // A queue that was deleted while the message was on its way takes it along.
            let Some(owned) = find(&mut self.queues, id) else {
                self.keep_history(id, || incoming.stored());
                continue;
            };
            let paged = owned.queue.is_paging() || is_full && owned.queue.ready_count() > 0;
            let logs = paged || is_full || persistent && owned.durable;
            let keep = Keep {
                lsn: if logs { lsn } else { Lsn::NONE },
                paged,
            };
            let mut sink = Deliveries::new(id, now_ms, leave_from, &mut self.links, context.outbox);
            let admitted = owned.queue.publish(&mut incoming, keep, &mut sink);
            owned.growth.departed(self.now, sink.delivered);
            let backlog = owned.queue.ready_count();
            ease = ease.max(owned.growth.eases(self.now, backlog, is_crowded));
            owned.account(&mut self.memory);
            match admitted {
                Admitted::Taken { position, expires } => {
                    if logs {
                        let queue = owned.log_name(&mut self.journal, &mut self.logged);
                        self.targets.push(Target {
                            queue,
                            position,
                            expires,
                        });
                    }
                    if expires != NEVER || owned.queue.has_fallen() {
                        let is_long = owned.queue.is_too_long();
                        self.changed
                            .push((id, if is_long { now_ms } else { expires }));
                    }
                }
                // Its like may still wait for the disk, and be another publisher's.
                Admitted::Duplicate => waits = !self.journal.is_durable(),
                Admitted::ComesBy => self.deduplication.arrived.push(id),
                Admitted::Refused => {
                    is_refused = true;
                    match publish.publisher {
                        Publisher::DeadLetters(_) if publish.confirm != 0 => {
                            let waiting = (publish.publisher, publish.confirm);
                            self.pass_on_refused(id, waiting, context);
                        }
                        _ => self.changed.push((id, NEVER)),
                    }
                }
            }
        }
        let logs = !self.targets.is_empty();
        if logs {
            let message = incoming.stored();
            self.journal.append(message, &self.targets, self.now);
            self.targets.clear();
            if self.journal.is_overfull() {
                ease = Some(Ease::Waits);
            }
        }
        // Now that the log knows the message, it may be told that it is gone.
        while let Some((id, expires)) = self.changed.pop() {
            self.gather(id);
            self.look_after_at_ms(id, expires);
        }
        if self.dead_letters.is_full()
            || !self.deduplication.arrived.is_empty()
                && self.let_pass(publish, &batch.message(&publish.message), context)
        {
            ease = Some(Ease::Waits);
        }
        if publish.confirm != 0 {
            if is_refused {
                let waiting = (publish.publisher, publish.confirm);
                tell(waiting, News::Refused, context.outbox);
            }
            let waiter = Waiter {
                publisher: publish.publisher,
                upto: publish.confirm,
            };
            if !self.journal.wait(waiter, logs || waits) {
                self.confirms.settled(waiter);
            }
        }
        if let Some(how) = ease
            && let Publisher::Channel { session, .. } = publish.publisher
        {
            self.links.ease(session, how, context.outbox);
        }
    }

    fn settle(&mut self, settle: &Settle, batch: &Batch<ToShard>, context: &mut ShardContext<'_>) {
        let Some(owned) = find(&mut self.queues, settle.queue) else {
            return;
        };
        let (slots, _) = batch.bytes(settle.slots).as_chunks::<4>();
        for slot in slots {
            let slot = u32::from_le_bytes(*slot);
            match settle.outcome {
                Outcome::Ack => {
                    let gone = owned.queue.settle(slot);
                    owned.forget(gone, &mut self.journal, self.now);
                }
                Outcome::Discard => owned.queue.reject(slot),
                Outcome::Requeue => owned.queue.requeue(slot),
            }
        }
        let next_expiry = match settle.outcome {
            Outcome::Requeue => owned.queue.next_expiry(),
            _ => NEVER,
        };
        self.look_after_at_ms(settle.queue, next_expiry);
        self.with_queue(settle.queue, context, |queue, sink| queue.pump(sink));
    }

    /// Everything that isn't a message or its acknowledgement.
    fn command(&mut self, command: &ToShard, context: &mut ShardContext<'_>) {
        match *command {
            ToShard::Publish(_) | ToShard::Settle(_) => {}
            ToShard::WindowReturn {
                session,
                messages,
                bytes,
            } => self.window_return(session, messages, bytes, context),
            ToShard::Consume(ref consume) => self.consume(consume, context),
            ToShard::Cancel {
                session,
                consumer,
                queue,
            } => self.cancel(session, consumer, queue, context),
            ToShard::Grant {
                session,
                channel,
                consumer,
                queue,
                credits,
            } => {
                let left = self.with_queue(queue, context, |queue, sink| {
                    queue.grant((session, consumer), credits, sink)
                });
                if let Some(credits @ 1..) = left.or(Some(credits)) {
                    context
                        .outbox
                        .to(session.core)
                        .to_session
                        .push(ToSession::Surrender {
                            session,
                            channel,
                            consumer,
                            credits,
                        });
                }
            }
            ToShard::Meter {
                session,
                consumer,
                queue,
                metered,
            } => {
                self.with_queue(queue, context, |queue, sink| {
                    queue.meter((session, consumer), metered, sink);
                });
            }
            ToShard::Pause {
                session,
                consumer,
                queue,
                paused,
            } => {
                self.with_queue(queue, context, |queue, sink| {
                    queue.pause((session, consumer), paused, sink);
                });
            }
            ToShard::Get {
                session,
                channel,
                queue,
                no_ack,
            } => {
                let getting = Getting {
                    session,
                    channel,
                    no_ack,
                };
                self.used(queue);
                self.get(queue, getting, context);
            }
            ToShard::Count {
                session,
                channel,
                queue,
            } => self.count((session, channel), queue, context),
            ToShard::Purge {
                session,
                channel,
                queue,
            } => self.purge(session, channel, queue, context),
            ToShard::Delete {
                session,
                channel,
                queue,
                if_unused,
                if_empty,
            } => self.propose_delete(
                Delete {
                    session,
                    channel,
                    queue,
                    if_unused,
                    if_empty,
                },
                context,
            ),
            ToShard::Fence { session, channel } => self.fence(session, channel, context),
            ToShard::LettersSettled { core, upto } => self.letters_settled(core, upto, context),
            ToShard::LetterNews { number, news } => self.letter_news(number, news, context),
            ToShard::Rebind(ref rebind) => self.rebind(rebind, context),
            ToShard::SessionGone { session } => self.links.forget(session),
        }
    }

    /// Runs `act` on a queue with a sink for its deliveries; none if the queue is gone.
    fn with_queue<R>(
        &mut self,
        id: QueueId,
        context: &mut ShardContext<'_>,
        act: impl FnOnce(&mut Queue, &mut Deliveries<'_>) -> R,
    ) -> Option<R> {
        let owned = find(&mut self.queues, id)?;
        let now_ms = self.clock.ms(self.now);
        let leave_from = self.memory.leave_from(&self.journal);
        let mut sink = Deliveries::new(id, now_ms, leave_from, &mut self.links, context.outbox);
        let result = act(&mut owned.queue, &mut sink);
        owned.growth.departed(self.now, sink.delivered);
        owned.account(&mut self.memory);
        let (is_paging, has_fallen) = (owned.queue.is_paging(), owned.queue.has_fallen());
        if is_paging {
            self.fetch_and_serve(id, context);
        }
        if has_fallen {
            self.gather(id);
        }
        Some(result)
    }

    fn window_return(
        &mut self,
        session: SessionId,
        messages: u32,
        bytes: u32,
        context: &mut ShardContext<'_>,
    ) {
        while let Some((queue, slot)) = self.links.next_departed(session, messages) {
            self.departed(queue, slot);
        }
        for (queue, consumer) in self.links.give_back(session, messages, bytes) {
            self.with_queue(queue, context, |queue, sink| {
                queue.resume((session, consumer), sink);
            });
        }
    }

    fn purge(
        &mut self,
        session: SessionId,
        channel: u16,
        id: QueueId,
        context: &mut ShardContext<'_>,
    ) {
        let rubbish = self.with_queue(id, context, |queue, sink| queue.purge(sink));
        let mut messages = 0;
        if let Some((rubbish, ranges)) = rubbish {
            messages = rubbish.ready_count() as u64;
            self.purged(id, rubbish, &ranges);
        }
        context.answer(session, channel, Answer::Removed { messages });
    }
}

/// The queue with that id, if it is (still) there. Borrows nothing else of the shard.
fn find(queues: &mut [Option<Box<Owned>>], id: QueueId) -> Option<&mut Owned> {
    let owned = queues.get_mut(id.index as usize)?.as_deref_mut()?;
    (owned.id == id).then_some(owned)
}

/// The queue's and its vhost's names, for an error.
fn names(id: QueueId, topology: &Topology) -> (Name, Name) {
    match topology.queue(id) {
        Some(definition) => (
            definition.name.clone(),
            topology.vhost_name(definition.vhost).clone(),
        ),
        None => (Name::from(""), Name::from("")),
    }
}

fn no_queue(id: QueueId, topology: &Topology) -> ChannelError {
    let (queue, vhost) = names(id, topology);
    ChannelError::NoQueue { queue, vhost }
}
