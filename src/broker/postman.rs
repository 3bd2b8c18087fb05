//! Takes mail apart: each record to the room it is for.

use super::{Core, SessionIndex};
use crate::base::{CoreId, SessionId, Time};
use crate::mail::{Batch, Mail, NumberedChange, ToCatalog, ToSession};
use crate::model::arguments::QueueArguments;
use crate::model::{Change, QueueDefinition};
use crate::session::{Session, SessionContext};
use crate::shard::ShardContext;

/// A change that this core has carried out.
pub(super) struct Unreported {
    number: u64,
    messages_deleted: u64,
    /// Copies up to this number are to be where they belong before.
    copies_upto: u64,
}

impl Core {
    /// Handles a mail from any core, this one included, and leaves it empty.
    pub(super) fn handle_mail(&mut self, now: Time, from: CoreId, mail: &mut Mail) {
        self.shard.set_time(now, self.clock);
        self.recent_load = self.load.recent(now);
        self.load.count(mail.messages());
        for change in mail.to_replica.drain(..) {
            self.carry_out(&change);
        }
        for record in mail.to_catalog.drain(..) {
            self.hand_to_catalog(record);
        }
        for word in mail.to_host.drain(..) {
            self.host(word);
        }
        if !mail.to_shard.is_empty() {
            let mut context = ShardContext {
                topology: &self.topology,
                outbox: &mut self.outbox,
            };
            self.shard.handle(mail, &mut context);
            self.report_changes();
        }
        if !mail.to_session.is_empty() {
            self.hand_to_sessions(now, from, &mut mail.to_session);
        }
        mail.clear();
    }

    pub(super) fn hand_to_sessions(
        &mut self,
        now: Time,
        from: CoreId,
        batch: &mut Batch<ToSession>,
    ) {
        let mut records = batch.take_records();
        if self.sessions.keeps_any() {
            self.hold_early(from, &mut records, batch);
        }
        for record in records.drain(..) {
            match record {
                ToSession::Deliver(deliver) => {
                    let id = deliver.session;
                    if let Some(session) = self.sessions.of(id) {
                        let message = batch.message(&deliver.message);
                        session.deliver(from, &deliver, &message);
                        self.sessions.mark_dirty(SessionIndex(id.index));
                    }
                }
                other => self.hand_to_session(now, from, other, batch),
            }
        }
        batch.restore_records(records);
    }

    /// Everything that isn't a delivery.
    fn hand_to_session(
        &mut self,
        now: Time,
        from: CoreId,
        record: ToSession,
        batch: &Batch<ToSession>,
    ) {
        match record {
            ToSession::Deliver(_) => {}
            ToSession::Confirmed {
                session,
                channel,
                upto,
            } => self.tell(now, session, |session, _| {
                session.confirmed(from, channel, upto);
            }),
            ToSession::News {
                session,
                channel,
                number,
                news,
            } => self.tell(now, session, |session, _| {
                session.heard_of(channel, number, news);
            }),
            ToSession::Returned {
                session,
                channel,
                message,
            } => {
                let message = batch.message(&message);
                self.tell(now, session, |session, _| {
                    session.returned(channel, &message)
                });
            }
            ToSession::Answer {
                session,
                channel,
                answer,
            } => self.tell(now, session, |session, context| {
                session.answered(channel, *answer, context);
            }),
            ToSession::Hungry {
                session,
                channel,
                consumer,
            } => self.tell(now, session, |session, context| {
                session.hungry(channel, consumer, context);
            }),
            ToSession::Surrender {
                session,
                channel,
                consumer,
                credits,
            } => self.tell(now, session, |session, context| {
                session.surrendered(channel, consumer, credits, context);
            }),
            ToSession::ConsumerCancelled {
                session,
                channel,
                consumer,
            } => self.tell(now, session, |session, _| {
                session.consumer_cancelled(channel, consumer);
            }),
            ToSession::Invited { session, place } => self.invite(now, session, place),
            ToSession::Rebound { session } => self.rebound(session),
            ToSession::Ease { session, how } => {
                self.tell(now, session, |session, _| session.ease(how, now));
            }
        }
    }

    pub(super) fn tell(
        &mut self,
        now: Time,
        id: SessionId,
        act: impl FnOnce(&mut Session, &mut SessionContext<'_>),
    ) {
        if self.sessions.of(id).is_some() {
            self.with_session(now, SessionIndex(id.index), act);
        }
    }

    fn hand_to_catalog(&mut self, record: ToCatalog) {
        let Some(catalog) = &mut self.catalog else {
            return;
        };
        let outbox = &mut self.outbox;
        match record {
            ToCatalog::Request {
                session,
                channel,
                user,
                request,
            } => catalog.request(session, channel, &user, &request, outbox),
            ToCatalog::Enter {
                session,
                user,
                vhost,
            } => catalog.enter(session, user, vhost, outbox),
            ToCatalog::Leave { session, entered } => catalog.leave(session, entered, outbox),
            ToCatalog::OpenChannel {
                session,
                entered,
                channel,
            } => catalog.open_channel(session, entered, channel, outbox),
            ToCatalog::CloseChannel { entered } => catalog.attendance.close_channel(entered),
            ToCatalog::DeleteQueue {
                owner,
                queue,
                touched,
                asked_by,
            } => catalog.delete_queue(owner, queue, touched, asked_by, outbox),
            ToCatalog::Applied {
                core,
                number,
                messages_deleted,
                load,
            } => catalog.applied(core, number, (messages_deleted, load), outbox),
        }
    }

    /// A queue was declared with arguments that are accepted and not acted upon: nobody should find
    /// that out by losing what they asked for.
    fn warn_of_unsupported(&mut self, definition: &QueueDefinition) {
        let Ok(arguments) = QueueArguments::parse(&definition.arguments) else {
            return;
        };
        if !arguments.unsupported().is_empty() {
            let vhost = self.topology.vhost_name(definition.vhost);
            self.notices.add(|| {
                let (name, unsupported) = (&definition.name, arguments.unsupported().join(", "));
                format!("queue '{name}' in vhost '{vhost}': not supported yet, and ignored: {unsupported}")
            });
        }
    }

    /// Carries a change of the topology out on this core, and reports it.
    pub(super) fn carry_out(&mut self, change: &NumberedChange) {
        let (number, change) = match change {
            NumberedChange::Change { number, change } => (*number, change),
            NumberedChange::Unfreeze(queue) | NumberedChange::Gone(queue) => {
                let mut context = ShardContext {
                    topology: &self.topology,
                    outbox: &mut self.outbox,
                };
                self.shard.unfreeze(*queue, &mut context);
                return;
            }
        };
        let mut messages_deleted = 0;
        if let Change::DeleteQueue { id } = change
            && self.topology.queue(*id).map(|found| found.owner) == Some(self.id)
        {
            let mut context = ShardContext {
                topology: &self.topology,
                outbox: &mut self.outbox,
            };
            messages_deleted = self.shard.delete(*id, &mut context);
        }
        self.topology.apply(change);
        let mut copies_upto = 0;
        match change {
            Change::Bind(binding) => {
                let mut context = ShardContext {
                    topology: &self.topology,
                    outbox: &mut self.outbox,
                };
                copies_upto = self.shard.send_history(binding, &mut context);
            }
            Change::CreateQueue { id, definition } if definition.owner == self.id => {
                self.shard.create(*id, definition, &self.topology);
                self.warn_of_unsupported(definition);
            }
            Change::SetPolicy { .. } | Change::ClearPolicy { .. } => {
                self.shard.policies_changed();
                self.sessions.policies_changed();
            }
            _ => {}
        }
        self.unreported.push_back(Unreported {
            number,
            messages_deleted,
            copies_upto,
        });
        self.report_changes();
    }

    /// Tells the catalog which changes have been carried out, in their order. Whoever bound a queue to an
    /// exchange with a history finds it there when it hears that the queue is bound.
    fn report_changes(&mut self) {
        let (shard, core, load) = (&self.shard, self.id, self.recent_load);
        while let Some(change) = self
            .unreported
            .pop_front_if(|change| shard.is_history_settled(change.copies_upto))
        {
            self.outbox
                .to(CoreId::CATALOG)
                .to_catalog
                .push(ToCatalog::Applied {
                    core,
                    number: change.number,
                    messages_deleted: change.messages_deleted,
                    load,
                });
        }
    }
}
