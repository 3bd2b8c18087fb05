//! Where a shard and its journal meet: what a start brings back, what is fetched from the log and
//! what is written there again, and when confirms go out.

use std::collections::HashMap;

use super::journal::{Journal, Kept, LogQueue, Purpose, Recovered, Target};
use super::memory::{FETCH_LEAST, Memory};
use super::{Owned, Shard, ShardContext, find};
use crate::amqp::properties::Properties;
use crate::base::{CoreId, Lsn, Notices, QueueId, Settings, StoredMessage, Time};
use crate::log::{DiskRequest, FileNumber, Located, Placed, ReadId, Stretch};
use crate::mail::Outbox;
use crate::model::Topology;
use crate::model::deduplication::key_of;
use crate::model::queue::{Gone, Paged, Restored, Rubbish, priority_of};

/// A message of the oldest segment that is still needed.
struct Survivor {
    queue: QueueId,
    target: Target,
    priority: u8,
    /// Its delivery, if it is out.
    slot: Option<u32>,
    old: Lsn,
    message: StoredMessage,
}

/// What a shard asks of its log, and what it is told.
impl Shard {
    /// The queues of a core as they were at the last stop: those of the topology that it owns, with
    /// the messages of its log. `is_whole`: whether all queues are in the topology that there are; if
    /// not, the messages of those that aren't are kept. `seed`: drawn at random and kept secret.
    pub fn restore(
        core: CoreId,
        (topology, is_whole): (&Topology, bool),
        mut recovered: Recovered,
        seed: u64,
        settings: &Settings,
        notices: &mut Notices,
    ) -> Self {
        let mut owned = Vec::new();
        for id in topology.vhosts().flat_map(|vhost| topology.queues(vhost)) {
            if let Some(definition) = topology.queue(id)
                && definition.owner == core
            {
                let log = LogQueue::durable(definition.incarnation);
                owned.push((id, definition, recovered.take(log)));
            }
        }
        for line in recovered.damage() {
            notices.add(|| line.clone());
        }
        let (mut orphans, messages) = recovered.orphans();
        let mut garbage = settings.log_garbage_bytes;
        if messages > 0 {
            let fate = match is_whole {
                true => "",
                false => {
                    "; they are kept until the next start, so that the definitions can be put right before"
                }
            };
            notices.add(|| {
                format!(
                    "{messages} messages in the log of core {core} belong to queues that aren't here{fate}"
                )
            });
        }
        if !is_whole {
            recovered.keep_orphans();
            orphans.clear();
            // Survivors are known by their queues, which these don't have: nothing is written again.
            garbage = u64::MAX / 2;
        }
        let mut shard = Self::new(
            Journal::resume(recovered.into_found(), seed, garbage),
            settings.resident_bytes,
        );
        for (queue, end) in orphans {
            // Should the queue ever come here, from another core, these are not its messages any more.
            shard.journal.purge(queue, 0, end, Time::default());
        }
        for (id, definition, contents) in owned {
            shard.create(id, definition, topology);
            if let (Some(mut found), Some(owned)) = (contents, shard.owned(id)) {
                let next_position = found.next_position;
                owned.queue.restore_keys(found.take_keys().into_iter());
                owned.queue.restore(found.drain(), next_position);
                for (position, returns) in found.returned {
                    owned.queue.restore_returns(position, returns);
                }
                let next_expiry = owned.queue.next_expiry();
                shard.look_after_at_ms(id, next_expiry);
            }
        }
        shard
    }

    /// Takes in a message from the log of a core that there is no more, for a queue that came from
    /// there; one that is here already is left as it is. False: [`Shard::next_commit`] should come
    /// first, there is enough to write.
    pub fn take_in(&mut self, kept: Kept) -> bool {
        let id = self.logged.get(&kept.queue);
        let message = kept.message.as_ref();
        let priority = priority_of(&message);
        let key = key_of(Properties::from_validated(message.properties));
        if let Some(owned) = id.and_then(|id| find(&mut self.queues, *id))
            && owned.queue.ready_lsn(kept.position, priority).is_none()
        {
            let paged = Paged {
                position: kept.position,
                lsn: self.journal.upcoming_lsn(),
                expires: kept.expires,
                body_len: message.body_len() as u32,
                redelivered: kept.redelivered,
            };
            let target = Target {
                queue: kept.queue,
                position: kept.position,
                expires: kept.expires,
            };
            self.journal.append(kept.message, &[target], self.now);
            let key = key.map(|key| (kept.position, key));
            owned.queue.restore_keys(key.into_iter());
            owned.queue.restore_one(Restored { paged, priority });
        }
        !self.journal.is_overfull()
    }

    /// Whether the log is ready for new messages.
    pub fn is_open(&self) -> bool {
        self.journal.is_open()
    }

    /// Whether the log can't grow, for want of space on the disk.
    pub fn is_disk_full(&self) -> bool {
        self.journal.is_full()
    }

    /// While the disk has little room, the log takes no more of it than it must.
    pub fn be_frugal(&mut self, is_frugal: bool) {
        self.journal.be_frugal(is_frugal);
    }

    /// Writes what a clean stop should keep. No session is left.
    pub fn finish(&mut self) {
        // That they have left for their sockets is still on its way from the sessions' cores.
        for (queue, slot) in self.links.take_departing() {
            self.departed(queue, slot);
        }
        let queues = self.queues.iter().flatten().filter(|owned| owned.durable);
        let flagged = queues.flat_map(|owned| {
            let positions = owned.queue.redelivered();
            positions.filter_map(|(position, returns)| Some((owned.log?, position, returns)))
        });
        self.journal.finish(flagged);
    }

    /// Whether everything is written.
    pub fn is_quiet(&self) -> bool {
        self.journal.is_quiet()
    }

    /// When [`Shard::next_commit`] should be asked at the latest.
    pub fn next_timer(&self) -> Option<Time> {
        let journal = self.journal.next_timer();
        let timers = self.timers.next().into_iter().chain(self.next_delayed());
        journal.into_iter().chain(timers).min()
    }

    /// How large a buffer the next batch of the log needs, if it is time for one.
    pub fn next_commit(&mut self, now: Time, outbox: &mut Outbox) -> Option<usize> {
        let size = self.journal.next_commit(now);
        self.confirm(outbox);
        size
    }

    /// Fills that buffer.
    pub fn commit(&mut self, buffer: &mut [u8], now: Time) -> Option<Placed> {
        self.journal.commit(buffer, now)
    }

    /// The batch is durable: publishers are told, and queues may have messages of it.
    pub fn committed(&mut self, context: &mut ShardContext<'_>) {
        self.journal.written();
        self.letters_ask_again();
        self.confirm(context.outbox);
        for id in std::mem::take(&mut self.starved) {
            if let Some(owned) = self.owned(id) {
                owned.is_fetching = false;
                self.fetch_and_serve(id, context);
            }
        }
    }

    /// Whether somebody waits for a message of a batch for which there is no room.
    pub(super) fn waits_in_vain(&self) -> bool {
        let waits = !self.starved.is_empty()
            || self.dead_letters.awaits_commit()
            || self.ahead.awaits_commit();
        waits && self.journal.is_stuck()
    }

    /// Serves those from memory, each with some: it is they who make room.
    pub(super) fn serve_unwritten(&mut self, context: &mut ShardContext<'_>) {
        self.letters_ask_again();
        for id in std::mem::take(&mut self.starved) {
            self.page_in_unwritten(id);
            // If it wants more, it is served in the next turn.
            self.serve(id, context);
        }
    }

    /// Letters that wait for a batch may have what they wait for.
    fn letters_ask_again(&mut self) {
        self.letters_committed();
        self.ahead.committed();
        self.read_ahead();
    }

    /// A queue has messages in memory that it hadn't.
    fn serve(&mut self, id: QueueId, context: &mut ShardContext<'_>) {
        self.with_queue(id, context, |queue, sink| queue.pump(sink));
        self.get_waiting(id, context);
    }

    fn page_in_unwritten(&mut self, id: QueueId) {
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        owned.is_fetching = false;
        let queue = &mut owned.queue;
        let enough = self.memory.fetch_upto(queue.resident_bytes().0);
        while queue.resident_bytes().0 < enough
            && queue.wants_page().is_some()
            && let Some(Paged { position, lsn, .. }) = queue.front_page()
            && let Some(message) = self.journal.unwritten(lsn)
        {
            let priority = priority_of(&message.as_ref());
            if !queue.page_in(position, lsn, priority, || message) {
                break;
            }
        }
        owned.account(&mut self.memory);
    }

    fn confirm(&mut self, outbox: &mut Outbox) {
        while let Some(waiter) = self.journal.next_settled() {
            self.confirms.settled(waiter);
        }
        self.confirms.send(outbox);
    }

    /// A file was made, or not.
    pub fn prepared(&mut self, file: FileNumber, made: bool, now: Time) {
        self.journal.prepared(file, made, now);
    }

    /// What the disk is to do next.
    pub fn next_disk_request(&mut self) -> Option<DiskRequest> {
        self.journal.next_request()
    }

    /// A piece of the log was read; none if the disk failed.
    pub fn read_done(
        &mut self,
        now: Time,
        read: ReadId,
        bytes: Option<&[u8]>,
        notices: &mut Notices,
        context: &mut ShardContext<'_>,
    ) {
        self.now = now;
        let fetched = self.journal.fetched(read, bytes.is_none(), now);
        let Some((purpose, stretch)) = fetched else {
            return;
        };
        match purpose {
            Purpose::Page(queue, asked) => {
                let lost = self.page_in(queue, asked, &stretch, bytes);
                if lost > 0 {
                    notices.add(|| {
                        format!(
                            "{lost} messages of a queue can't be read from the log, where they stay: it goes on \
                             without them"
                        )
                    });
                }
                self.serve(queue, context);
            }
            Purpose::Letter(asked) => {
                self.letters_read(asked, &stretch, bytes, notices);
                self.send_letters(context);
            }
            Purpose::Ahead => self.ahead_read(&stretch, bytes),
            Purpose::Rewrite => {
                let survivors = self.survivors(&stretch, bytes.unwrap_or(&[]));
                self.rewrite(survivors);
            }
        }
    }

    /// Takes the messages in that a queue waits for, for the sake of the one that is `asked` for; how many can't
    /// be had.
    fn page_in(
        &mut self,
        id: QueueId,
        asked: Lsn,
        stretch: &Stretch,
        bytes: Option<&[u8]>,
    ) -> usize {
        let Some(owned) = find(&mut self.queues, id) else {
            return 0;
        };
        owned.is_fetching = false;
        let (Some(log), Some(wanted)) = (owned.log, owned.queue.front_page()) else {
            return 0;
        };
        let enough = self.memory.fetch_upto(owned.queue.resident_bytes().0);
        // The first that could be read behind the one that was wanted.
        let mut following = stretch.end_lsn;
        let queue = &mut owned.queue;
        self.journal
            .messages(stretch, bytes.unwrap_or(&[]), |lsn, message| {
                if lsn > wanted.lsn {
                    following = following.min(lsn);
                }
                for target in message.targets().filter(|target| target.queue == log) {
                    let (position, priority) = (target.position, message.priority());
                    // What stands in a batch before the one that is asked for has another priority, and time.
                    if lsn >= asked && queue.resident_bytes().0 < enough {
                        queue.page_in(position, lsn, priority, || message.store());
                    }
                }
            });
        let mut lost = 0;
        // There was room for the one that was asked for. If it was written again while it was read it is elsewhere
        // now, and not lost; nor is one whose turn came meanwhile, those of a higher priority having left.
        if wanted.lsn == asked
            && queue
                .front_page()
                .is_some_and(|front| front.lsn == wanted.lsn)
        {
            lost = queue.lose_pages(&(wanted.lsn..following.max(wanted.lsn.next())));
        }
        owned.account(&mut self.memory);
        lost
    }

    /// Answers the `basic.get`s that waited for messages of a queue.
    pub(super) fn get_waiting(&mut self, id: QueueId, context: &mut ShardContext<'_>) {
        let callers = self.owned(id).and_then(|owned| owned.callers.as_mut());
        let getting = callers.map(|callers| std::mem::take(&mut callers.getting));
        for getting in getting.unwrap_or_default() {
            self.get(id, getting, context);
        }
    }

    /// The messages of a stretch that are still needed.
    fn survivors(&mut self, stretch: &Stretch, bytes: &[u8]) -> Vec<Survivor> {
        let mut survivors = Vec::new();
        // For each queue, its deliveries that are out: looked through once.
        let mut unsettled: HashMap<QueueId, HashMap<u64, (Lsn, u32)>> = HashMap::new();
        let (queues, logged) = (&mut self.queues, &self.logged);
        self.journal.messages(stretch, bytes, |old, message| {
            for target in message.targets() {
                let id = logged.get(&target.queue);
                let Some(owned) = id.and_then(|id| find(queues, *id)) else {
                    continue;
                };
                let position = target.position;
                let slot = match owned.queue.ready_lsn(position, message.priority()) {
                    Some(lsn) if lsn == old => None,
                    Some(_) => continue,
                    None => {
                        let out = unsettled.entry(owned.id).or_insert_with(|| {
                            let lsns = owned.queue.unsettled_lsns();
                            lsns.map(|(position, lsn, slot)| (position, (lsn, slot)))
                                .collect()
                        });
                        match out.get(&position) {
                            Some((lsn, slot)) if *lsn == old => Some(*slot),
                            _ => continue,
                        }
                    }
                };
                survivors.push(Survivor {
                    queue: owned.id,
                    target,
                    priority: message.priority(),
                    slot,
                    old,
                    message: message.store(),
                });
            }
        });
        survivors
    }

    /// Writes messages again, at the front of the log.
    fn rewrite(&mut self, survivors: Vec<Survivor>) {
        for survivor in survivors {
            let Target {
                queue: log,
                position,
                ..
            } = survivor.target;
            let lsn = self.journal.upcoming_lsn();
            if let Some(owned) = self.owned(survivor.queue) {
                match survivor.slot {
                    Some(slot) => owned.queue.relocate_unsettled(slot, lsn),
                    None => owned.queue.relocate_ready(position, survivor.priority, lsn),
                }
                self.journal
                    .append_again(survivor.message, survivor.target, self.now);
                self.journal.forget(log, survivor.old);
            }
        }
    }

    /// A delivery to a consumer that doesn't acknowledge has left for its socket.
    pub(super) fn departed(&mut self, queue: QueueId, slot: u32) {
        if let Some(owned) = find(&mut self.queues, queue) {
            let gone = owned.queue.settle(slot);
            owned.forget(gone, &mut self.journal, self.now);
            owned.account(&mut self.memory);
        }
    }

    /// Forgets messages that were purged; the log is told at once.
    pub(super) fn purged(&mut self, id: QueueId, rubbish: Rubbish, ranges: &[(u64, u64)]) {
        let Some(owned) = find(&mut self.queues, id) else {
            return;
        };
        if let Some(log) = owned.log.filter(|_| owned.durable) {
            for &(first, count) in ranges {
                self.journal.purge(log, first, count, self.now);
            }
        }
        self.rubbish.push((owned.log, rubbish));
    }

    /// Has messages fetched that a queue will soon need. Whoever waits for one that the log has lost is
    /// served with what comes behind it.
    pub(super) fn fetch_and_serve(&mut self, id: QueueId, context: &mut ShardContext<'_>) {
        if self.fetch(id) > 0 {
            self.with_queue(id, context, |queue, sink| queue.pump(sink));
        }
        if self.owned(id).is_some_and(|owned| !owned.is_fetching) {
            self.get_waiting(id, context);
        }
    }

    /// Has messages fetched that a queue will soon need, if it isn't done already; how many the log has lost.
    fn fetch(&mut self, id: QueueId) -> usize {
        let Some(owned) = find(&mut self.queues, id) else {
            return 0;
        };
        // If nobody is there to take them, they may as well stay where they are.
        let callers = owned.callers.as_ref();
        let is_getting = callers.is_some_and(|callers| !callers.getting.is_empty());
        let is_wanted = owned.queue.consumer_count() > 0 || is_getting;
        if owned.is_fetching || !is_wanted {
            return 0;
        }
        if self.memory.is_full() {
            if !owned.queue.is_starved() {
                return 0;
            }
            // What was fetched before those in front of it came back, or before more urgent ones came.
            if owned.queue.resident_bytes().0 > FETCH_LEAST {
                owned.queue.page_out(self.journal.oldest_lsn());
                owned.account(&mut self.memory);
            }
        }
        let mut lost = 0;
        while let Some(lsn) = owned.queue.wants_page() {
            match self.journal.fetch(id, lsn) {
                Located::Here(_) => owned.is_fetching = true,
                Located::NotYet => {
                    owned.is_fetching = true;
                    self.starved.push(id);
                }
                Located::Nowhere => {
                    lost += owned.queue.lose_pages(&(lsn..lsn.next()));
                    continue;
                }
            }
            break;
        }
        lost
    }
}

impl Owned {
    /// What the log calls the queue: it gets a name when it is first mentioned there.
    pub(super) fn log_name(
        &mut self,
        journal: &mut Journal,
        logged: &mut HashMap<LogQueue, QueueId>,
    ) -> LogQueue {
        *self.log.get_or_insert_with(|| {
            let name = journal.name_volatile();
            logged.insert(name, self.id);
            name
        })
    }

    /// A message of the queue is done with.
    pub(super) fn forget(&self, gone: Option<Gone>, journal: &mut Journal, now: Time) {
        if let (Some(Gone { position, lsn }), Some(log)) = (gone, self.log)
            && lsn.is_some()
        {
            journal.settle(log, position, lsn, now);
        }
    }

    /// Counts what the queue has in memory.
    pub(super) fn account(&mut self, memory: &mut Memory) {
        memory.gone(self.resident);
        self.resident = self.queue.resident_bytes();
        memory.came(self.resident);
    }
}
