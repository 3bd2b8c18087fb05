//! The catalog, on core 0: puts changes of the topology in one order, has what is durable written to
//! the definition log, and answers whoever asked for a change when every core has carried it out.
//!
//! ```text
//!   request ──► decide ──► definition log ──► broadcast, numbered ──► applied everywhere ──► answer
//! ```
//!
//! It decides on a topology of its own, which is ahead of those that messages are routed by: nothing is
//! published to a queue that a crash would take back.

use std::collections::VecDeque;

use super::attendance::Attendance;
use super::definition_log::DefinitionLog;
use super::placement::Placement;
use crate::amqp::error::ConnectionError;
use crate::base::{CoreId, Lsn, Name, QueueId, SessionId};
use crate::mail::{self, NumberedChange, Outbox, ToSession};
use crate::model::access::authorise;
use crate::model::decide::{Answer, Decision, NameSource, Request, decide};
use crate::model::{Change, DefinitionRecord, Topology};

/// The catalog.
pub(super) struct Catalog {
    names: NameSource,
    /// What has been decided.
    topology: Topology,
    /// What of that is durable, or on its way to be.
    pub(super) log: DefinitionLog,
    /// Who of those is there whom a limit concerns.
    pub(super) attendance: Attendance,
    /// Decisions that wait until all before this LSN is durable.
    decided: VecDeque<(Lsn, Decided)>,
    /// The number of the last change.
    last: u64,
    /// For each core, the last change it has carried out.
    applied: Vec<u64>,
    /// Answers that wait for changes to be carried out, in their order.
    waiting: VecDeque<Waiting>,
    placement: Placement,
}

/// Changes that are yet to be told to the cores.
struct Decided {
    changes: Vec<Change>,
    to: Asker,
    answer: mail::Answer,
}

/// An answer that waits.
struct Waiting {
    /// The changes it stands for; `first > last` if there were none.
    first: u64,
    last: u64,
    /// Ready messages that went with deleted queues.
    messages_deleted: u64,
    to: Asker,
    answer: mail::Answer,
}

/// Who waits for an answer.
#[derive(Clone, Copy)]
enum Asker {
    /// A channel with an open question.
    Channel(SessionId, u16),
    /// The owner of a queue that it proposed to delete.
    Owner(CoreId, QueueId),
}

impl Catalog {
    /// The catalog of a topology as every core begins with it.
    pub(super) fn new(
        cores: u16,
        spreads_queues: bool,
        seed: u64,
        topology: Topology,
        log: DefinitionLog,
    ) -> Self {
        Self {
            placement: Placement::new(cores, spreads_queues, &topology),
            names: NameSource::new(seed),
            topology,
            log,
            attendance: Attendance::default(),
            decided: VecDeque::new(),
            last: 0,
            applied: vec![0; usize::from(cores)],
            waiting: VecDeque::new(),
        }
    }

    /// A session asks.
    pub(super) fn request(
        &mut self,
        session: SessionId,
        channel: u16,
        user: &Name,
        request: &Request,
        outbox: &mut Outbox,
    ) {
        let allowed = authorise(&self.topology, user, request, &self.names);
        let decision = match allowed {
            Ok(()) => decide(&self.topology, request, &mut self.names),
            Err(refused) => {
                // It may have told the name that would have come next: nobody gets that one.
                self.names.skip();
                Err(refused.into())
            }
        };
        match decision {
            Err(error) => {
                let answer = mail::Answer::Refused(error);
                send(session, channel, answer, outbox);
            }
            Ok(Decision { changes, answer }) => {
                let answer = match answer {
                    Answer::QueueDeclared { id, name } => {
                        mail::Answer::QueueDeclared { queue: id, name }
                    }
                    Answer::Done | Answer::Refused => mail::Answer::Done,
                };
                let to = Asker::Channel(session, channel);
                self.decided(changes, to, answer, outbox);
            }
        }
    }

    /// A session whom a limit concerns wants to open a vhost.
    pub(super) fn enter(
        &mut self,
        session: SessionId,
        user: Name,
        vhost: Name,
        outbox: &mut Outbox,
    ) {
        let access = self.topology.access();
        let result = self.attendance.enter(session, user, vhost, access);
        send(session, 0, allowed(result), outbox);
    }

    /// Such a session has gone.
    pub(super) fn leave(&mut self, session: SessionId, entered: SessionId, outbox: &mut Outbox) {
        self.attendance.leave(entered);
        send(session, 0, mail::Answer::Done, outbox);
    }

    /// Such a session wants to open a channel.
    pub(super) fn open_channel(
        &mut self,
        session: SessionId,
        entered: SessionId,
        channel: u16,
        outbox: &mut Outbox,
    ) {
        let access = self.topology.access();
        let result = self.attendance.open_channel(entered, access);
        send(session, channel, allowed(result), outbox);
    }

    /// The owner of a queue proposes to delete it.
    pub(super) fn delete_queue(
        &mut self,
        owner: CoreId,
        queue: QueueId,
        touched: Option<u64>,
        asked_by: Option<(SessionId, u16)>,
        outbox: &mut Outbox,
    ) {
        let request = Request::DeleteQueue {
            id: queue,
            unless_touched_since: touched,
        };
        let Ok(Decision {
            changes,
            answer: Answer::Done,
        }) = decide(&self.topology, &request, &mut self.names)
        else {
            let unfreeze = NumberedChange::Unfreeze(queue);
            outbox.to(owner).to_replica.push(unfreeze);
            return;
        };
        let answer = mail::Answer::Removed { messages: 0 };
        let to = match asked_by {
            Some((session, channel)) => Asker::Channel(session, channel),
            None => Asker::Owner(owner, queue),
        };
        self.decided(changes, to, answer, outbox);
    }

    /// Takes decided changes over, and has the durable ones written.
    fn decided(
        &mut self,
        mut changes: Vec<Change>,
        to: Asker,
        answer: mail::Answer,
        outbox: &mut Outbox,
    ) {
        for change in &mut changes {
            match change {
                Change::CreateQueue { definition, .. } => {
                    self.placement.place(definition);
                    if definition.durable {
                        definition.incarnation = self.log.next_incarnation();
                    }
                }
                Change::DeleteQueue { id } => {
                    if let Some(found) = self.topology.queue(*id) {
                        self.placement.deleted(found.owner);
                    }
                }
                _ => {}
            }
            if let Some(record) = DefinitionRecord::of(change, &self.topology) {
                self.log.append(&record);
            }
            self.topology.apply(change);
        }
        // What isn't durable doesn't overtake what is.
        let decided = Decided {
            changes,
            to,
            answer,
        };
        self.decided.push_back((self.log.upcoming_lsn(), decided));
        self.publish(outbox);
    }

    /// Numbers the changes that are durable, or need not be, and sends them to every core.
    pub(super) fn publish(&mut self, outbox: &mut Outbox) {
        let durable = self.log.durable_lsn();
        while let Some((_, decided)) = self.decided.pop_front_if(|(lsn, _)| *lsn <= durable) {
            let first = self.last + 1;
            let mut numbered = Vec::with_capacity(decided.changes.len());
            for change in decided.changes {
                self.last += 1;
                let number = self.last;
                numbered.push(NumberedChange::Change { number, change });
            }
            for core in outbox.cores() {
                outbox.to(core).to_replica.extend(numbered.iter().cloned());
            }
            // Even what changed nothing waits for the changes before it: the asker may rely on them.
            self.waiting.push_back(Waiting {
                first,
                last: self.last,
                messages_deleted: 0,
                to: decided.to,
                answer: decided.answer,
            });
            self.answer(outbox);
        }
    }

    /// How large a buffer the next batch of the definition log needs, if it is time for one.
    pub(super) fn next_commit(&mut self, now: crate::base::Time) -> Option<usize> {
        self.log.next_commit(&self.topology, now)
    }

    /// A core has carried out a change, and tells what it has to do.
    pub(super) fn applied(
        &mut self,
        core: CoreId,
        number: u64,
        (messages_deleted, load): (u64, u64),
        outbox: &mut Outbox,
    ) {
        self.placement.told(core, load);
        self.applied[core.index()] = number;
        if messages_deleted > 0 {
            let mut concerned = self.waiting.iter_mut();
            if let Some(waiting) = concerned.find(|one| (one.first..=one.last).contains(&number)) {
                waiting.messages_deleted += messages_deleted;
            }
        }
        self.answer(outbox);
    }

    /// Sends the answers whose changes every core has carried out.
    fn answer(&mut self, outbox: &mut Outbox) {
        let everywhere = self.applied.iter().copied().min().unwrap_or(self.last);
        while self
            .waiting
            .front()
            .is_some_and(|front| front.last <= everywhere)
        {
            let Some(done) = self.waiting.pop_front() else {
                break;
            };
            let answer = match done.answer {
                mail::Answer::Removed { .. } => mail::Answer::Removed {
                    messages: done.messages_deleted,
                },
                other => other,
            };
            match done.to {
                Asker::Channel(session, channel) => send(session, channel, answer, outbox),
                Asker::Owner(core, queue) => {
                    let gone = NumberedChange::Gone(queue);
                    outbox.to(core).to_replica.push(gone);
                }
            }
        }
    }
}

fn allowed(result: Result<(), ConnectionError>) -> mail::Answer {
    match result {
        Ok(()) => mail::Answer::Done,
        Err(error) => mail::Answer::Refused(error.into()),
    }
}

fn send(session: SessionId, channel: u16, answer: mail::Answer, outbox: &mut Outbox) {
    outbox.to(session.core).to_session.push(ToSession::Answer {
        session,
        channel,
        answer: Box::new(answer),
    });
}
