//! The catalog, on core 0: puts changes of the topology in one order, and answers whoever asked for
//! one when every core has carried it out.

use std::collections::VecDeque;

use crate::base::{CoreId, QueueId, SessionId};
use crate::mail::{self, NumberedChange, Outbox, ToSession};
use crate::model::decide::{Answer, Decision, NameSource, Request, decide};
use crate::model::{Change, Topology};

/// The catalog.
pub(super) struct Catalog {
    names: NameSource,
    /// The number of the last change.
    last: u64,
    /// For each core, the last change it has carried out.
    applied: Vec<u64>,
    /// Answers that wait for changes to be carried out, in their order.
    waiting: VecDeque<Waiting>,
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
    pub(super) fn new(cores: u16, seed: u64) -> Self {
        Self {
            names: NameSource::new(seed),
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
        request: &Request,
        topology: &Topology,
        outbox: &mut Outbox,
    ) -> Vec<NumberedChange> {
        match decide(topology, request, &mut self.names) {
            Err(error) => {
                let answer = mail::Answer::Refused(error);
                send(session, channel, answer, outbox);
                Vec::new()
            }
            Ok(Decision { changes, answer }) => {
                let answer = match answer {
                    Answer::QueueDeclared { id, name } => {
                        mail::Answer::QueueDeclared { queue: id, name }
                    }
                    Answer::Done | Answer::Refused => mail::Answer::Done,
                };
                self.publish(changes, Asker::Channel(session, channel), answer, outbox)
            }
        }
    }

    /// The owner of a queue proposes to delete it.
    pub(super) fn delete_queue(
        &mut self,
        owner: CoreId,
        queue: QueueId,
        touched: Option<u64>,
        asked_by: Option<(SessionId, u16)>,
        topology: &Topology,
        outbox: &mut Outbox,
    ) -> Vec<NumberedChange> {
        let request = Request::DeleteQueue {
            id: queue,
            unless_touched_since: touched,
        };
        let decision = decide(topology, &request, &mut self.names);
        let Ok(Decision {
            changes,
            answer: Answer::Done,
        }) = decision
        else {
            let unfreeze = NumberedChange::Unfreeze(queue);
            if owner == outbox.own() {
                return vec![unfreeze];
            }
            outbox.to(owner).to_replica.push(unfreeze);
            return Vec::new();
        };
        let answer = mail::Answer::Removed { messages: 0 };
        let asker = match asked_by {
            Some((session, channel)) => Asker::Channel(session, channel),
            None => Asker::Owner(owner, queue),
        };
        self.publish(changes, asker, answer, outbox)
    }

    /// Numbers the changes and sends them to the other cores; what is returned is for this one.
    fn publish(
        &mut self,
        changes: Vec<Change>,
        to: Asker,
        answer: mail::Answer,
        outbox: &mut Outbox,
    ) -> Vec<NumberedChange> {
        let first = self.last + 1;
        let mut numbered = Vec::with_capacity(changes.len());
        for change in changes {
            self.last += 1;
            let number = self.last;
            numbered.push(NumberedChange::Change { number, change });
        }
        let own = outbox.own();
        for core in outbox.cores().filter(|core| *core != own) {
            outbox.to(core).to_replica.extend(numbered.iter().cloned());
        }
        // Even what changed nothing waits for the changes before it: the asker may rely on them.
        self.waiting.push_back(Waiting {
            first,
            last: self.last,
            messages_deleted: 0,
            to,
            answer,
        });
        self.answer(outbox);
        numbered
    }

    /// A core has carried out a change.
    pub(super) fn applied(
        &mut self,
        core: CoreId,
        number: u64,
        messages_deleted: u64,
        outbox: &mut Outbox,
    ) {
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

fn send(session: SessionId, channel: u16, answer: mail::Answer, outbox: &mut Outbox) {
    outbox.to(session.core).to_session.push(ToSession::Answer {
        session,
        channel,
        answer: Box::new(answer),
    });
}
