//! Methods of an open channel, other than the content methods: what each asks for, and of whom.

use amq_protocol::protocol::{AMQPClass, access, basic, channel, confirm, exchange, queue, tx};

use super::SessionContext;
use super::channel::{Channel, Mode};
use super::connection::Connection;
use super::question::Question;
use crate::amqp::error::{AmqpError, ChannelError, ConnectionError};
use crate::amqp::method::Method;
use crate::amqp::table::Table;
use crate::base::{CoreId, Name, QueueId};
use crate::mail::{Confirms, Outcome, ToCatalog, ToShard};
use crate::model::access::{Permission, Resource};
use crate::model::arguments::Arguments;
use crate::model::decide::{self, Request};
use crate::model::name_rules;

impl SessionContext<'_> {
    /// A queue that the client named and may use, and its core.
    pub(super) fn usable_queue(
        &self,
        name: &Name,
        connection: &Connection,
    ) -> Result<(QueueId, CoreId), AmqpError> {
        let (vhost, session) = (connection.vhost, connection.first_id);
        let id = decide::check_usable_queue(self.topology, vhost, name, session)?;
        Ok((id, self.core_of(id)))
    }

    fn core_of(&self, queue: QueueId) -> CoreId {
        let owner = self.topology.queue(queue).map(|found| found.owner);
        owner.unwrap_or(CoreId::CATALOG)
    }
}

impl Channel {
    /// A method on an open channel that waits for nothing.
    pub(super) fn method(
        &mut self,
        method: Method<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let table = method.table;
        match method.class {
            AMQPClass::Exchange(method) => self.exchange_method(method, table, connection, context),
            AMQPClass::Queue(method) => self.queue_method(method, table, connection, context),
            AMQPClass::Basic(basic::AMQPMethod::Qos(qos)) => {
                self.qos(&qos, method.arguments, connection, context)
            }
            AMQPClass::Basic(method) => self.basic_method(method, table, connection, context),
            AMQPClass::Tx(method) => self.tx_method(&method, connection, context),
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => {
                self.select_confirms(connection)?;
                if !select.nowait {
                    let method = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
                    connection.send(self.number, &AMQPClass::Confirm(method));
                }
                Ok(())
            }
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                // A relic of 0-9: every ticket is number 1 and nobody looks at it.
                let method = access::AMQPMethod::RequestOk(access::RequestOk {});
                connection.send(self.number, &AMQPClass::Access(method));
                Ok(())
            }
            AMQPClass::Channel(channel::AMQPMethod::Flow(flow)) => {
                self.flow(flow.active, connection, context);
                Ok(())
            }
            AMQPClass::Channel(channel::AMQPMethod::FlowOk(_)) => Ok(()),
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                Err(ConnectionError::ChannelOpenTwice.into())
            }
            _ => Err(ConnectionError::CommandInvalid("unimplemented method").into()),
        }
    }

    fn select_confirms(&mut self, connection: &Connection) -> Result<(), ChannelError> {
        match self.mode {
            Mode::Transaction(_) => return Err(ChannelError::TxToConfirm),
            Mode::Confirm(_) => {}
            Mode::Plain => self.mode = Mode::Confirm(Confirms::after(connection.last_confirm)),
        }
        Ok(())
    }

    fn tx_method(
        &mut self,
        method: &tx::AMQPMethod,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let answer = match method {
            tx::AMQPMethod::Select(_) => {
                self.select_transaction(connection)?;
                tx::AMQPMethod::SelectOk(tx::SelectOk {})
            }
            tx::AMQPMethod::Rollback(_) => {
                self.rollback()?;
                tx::AMQPMethod::RollbackOk(tx::RollbackOk {})
            }
            tx::AMQPMethod::Commit(_) => return self.commit(connection, context),
            _ => return Err(ConnectionError::CommandInvalid("unimplemented method").into()),
        };
        connection.send(self.number, &AMQPClass::Tx(answer));
        Ok(())
    }

    fn basic_method(
        &mut self,
        method: basic::AMQPMethod,
        table: Table<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let answer = match method {
            basic::AMQPMethod::Consume(consume) => {
                return self.consume(&consume, table, connection, context);
            }
            basic::AMQPMethod::Cancel(cancel) => {
                self.cancel(&cancel, connection, context);
                return Ok(());
            }
            // The client's answer to our own cancel, which needs none.
            basic::AMQPMethod::CancelOk(_) => return Ok(()),
            basic::AMQPMethod::Get(get) => return self.get(&get, connection, context),
            basic::AMQPMethod::Recover(basic::Recover { requeue })
            | basic::AMQPMethod::RecoverAsync(basic::RecoverAsync { requeue })
                if !requeue =>
            {
                return Err(ConnectionError::NotImplemented("requeue=false").into());
            }
            basic::AMQPMethod::RecoverAsync(_) => {
                self.recover(connection, context);
                return Ok(());
            }
            basic::AMQPMethod::Recover(_) => {
                self.recover(connection, context);
                basic::AMQPMethod::RecoverOk(basic::RecoverOk {})
            }
            _ => return Err(ConnectionError::CommandInvalid("unimplemented method").into()),
        };
        connection.send(self.number, &AMQPClass::Basic(answer));
        Ok(())
    }

    fn recover(&mut self, connection: &Connection, context: &mut SessionContext<'_>) {
        self.settle_all(Outcome::Requeue, context);
        self.lend_credit(connection, context);
    }

    fn get(
        &mut self,
        get: &basic::Get,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let name = self.queue_name(get.queue.as_str())?;
        let (queue, core) = context.readable_queue(&name, connection)?;
        if !get.no_ack {
            self.mind_timeout(queue, connection, context);
        }
        self.touch(core);
        context.outbox.to(core).to_shard.push(ToShard::Get {
            session: connection.id,
            channel: self.number,
            queue,
            no_ack: get.no_ack,
        });
        self.ask(Question::Get);
        Ok(())
    }

    fn exchange_method(
        &mut self,
        method: exchange::AMQPMethod,
        table: Table<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        use exchange::AMQPMethod as M;
        let vhost = connection.vhost;
        let (request, ok, nowait) = match method {
            M::Declare(declare) => {
                let ok = M::DeclareOk(exchange::DeclareOk {});
                let name = Name::from(declare.exchange.as_str());
                if declare.passive {
                    let name = name_rules::strip_cr_lf(&name);
                    decide::check_passive_exchange(context.topology, vhost, &name)?;
                    if !declare.nowait {
                        connection.send(self.number, &AMQPClass::Exchange(ok));
                    }
                    return Ok(());
                }
                let request = Request::DeclareExchange {
                    vhost,
                    name,
                    kind: Name::from(declare.kind.as_str()),
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: Arguments::parse(table.as_bytes())?,
                    owner: connection.id.core,
                };
                (request, ok, declare.nowait)
            }
            M::Delete(delete) => {
                let request = Request::DeleteExchange {
                    vhost,
                    name: Name::from(delete.exchange.as_str()),
                    if_unused: delete.if_unused,
                };
                (request, M::DeleteOk(exchange::DeleteOk {}), delete.nowait)
            }
            M::Bind(bind) => {
                let request = Request::BindExchange {
                    vhost,
                    destination: Name::from(bind.destination.as_str()),
                    source: Name::from(bind.source.as_str()),
                    routing_key: Name::from(bind.routing_key.as_str()),
                    arguments: Arguments::parse(table.as_bytes())?,
                };
                (request, M::BindOk(exchange::BindOk {}), bind.nowait)
            }
            M::Unbind(unbind) => {
                let request = Request::UnbindExchange {
                    vhost,
                    destination: Name::from(unbind.destination.as_str()),
                    source: Name::from(unbind.source.as_str()),
                    routing_key: Name::from(unbind.routing_key.as_str()),
                    arguments: Arguments::parse(table.as_bytes())?,
                };
                (request, M::UnbindOk(exchange::UnbindOk {}), unbind.nowait)
            }
            _ => return Err(ConnectionError::CommandInvalid("unimplemented method").into()),
        };
        let ok = (!nowait).then_some(AMQPClass::Exchange(ok));
        self.ask_catalog(request, Question::Catalog { ok }, connection, context);
        Ok(())
    }

    fn queue_method(
        &mut self,
        method: queue::AMQPMethod,
        table: Table<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        use queue::AMQPMethod as M;
        let vhost = connection.vhost;
        let session = connection.first_id;
        let (request, ok, nowait) = match method {
            M::Declare(declare) => return self.declare_queue(&declare, table, connection, context),
            M::Purge(purge) => return self.purge(&purge, connection, context),
            M::Delete(delete) => return self.delete_queue(&delete, connection, context),
            M::Bind(bind) => {
                let queue = self.queue_name(bind.queue.as_str())?;
                // With neither queue nor key given, the key is the queue's name as well.
                let routing_key =
                    if bind.queue.as_str().is_empty() && bind.routing_key.as_str().is_empty() {
                        queue.clone()
                    } else {
                        Name::from(bind.routing_key.as_str())
                    };
                let request = Request::BindQueue {
                    vhost,
                    queue,
                    exchange: Name::from(bind.exchange.as_str()),
                    routing_key,
                    arguments: Arguments::parse(table.as_bytes())?,
                    session,
                };
                (request, M::BindOk(queue::BindOk {}), bind.nowait)
            }
            M::Unbind(unbind) => {
                let request = Request::UnbindQueue {
                    vhost,
                    queue: self.queue_name(unbind.queue.as_str())?,
                    exchange: Name::from(unbind.exchange.as_str()),
                    routing_key: Name::from(unbind.routing_key.as_str()),
                    arguments: Arguments::parse(table.as_bytes())?,
                    session,
                };
                (request, M::UnbindOk(queue::UnbindOk {}), false)
            }
            _ => return Err(ConnectionError::CommandInvalid("unimplemented method").into()),
        };
        let ok = (!nowait).then_some(AMQPClass::Queue(ok));
        self.ask_catalog(request, Question::Catalog { ok }, connection, context);
        Ok(())
    }

    fn declare_queue(
        &mut self,
        declare: &queue::Declare,
        table: Table<'_>,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let name = Name::from(declare.queue.as_str());
        if name.as_str() == name_rules::DIRECT_REPLY_TO {
            // It is there for whoever asks, with one consumer.
            if !declare.nowait {
                self.send_declare_ok(&name, 0, 1, connection);
            }
            return Ok(());
        }
        // Nobody makes those that replies go to: who declares one asks whether it is there.
        if declare.passive || name_rules::is_reply_address(&name) {
            // An empty name asks for a queue of no name here, not for the last one.
            let (vhost, session) = (connection.vhost, connection.first_id);
            let queue = decide::check_passive_queue(context.topology, vhost, &name, session)?;
            self.last_queue = Some(name.clone());
            if !declare.nowait {
                let core = context.core_of(queue);
                context.outbox.to(core).to_shard.push(ToShard::Count {
                    session: connection.id,
                    channel: self.number,
                    queue,
                });
                self.ask(Question::Count { queue: name });
            }
            return Ok(());
        }
        let request = Request::DeclareQueue {
            vhost: connection.vhost,
            name: Name::from(declare.queue.as_str()),
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: Arguments::parse(table.as_bytes())?,
            session: connection.first_id,
            owner: connection.id.core,
        };
        let question = Question::DeclareQueue {
            nowait: declare.nowait,
            exclusive: declare.exclusive,
        };
        self.ask_catalog(request, question, connection, context);
        Ok(())
    }

    fn purge(
        &mut self,
        purge: &queue::Purge,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let name = self.queue_name(purge.queue.as_str())?;
        let (queue, core) = context.readable_queue(&name, connection)?;
        context.outbox.to(core).to_shard.push(ToShard::Purge {
            session: connection.id,
            channel: self.number,
            queue,
        });
        self.ask(Question::Purge {
            nowait: purge.nowait,
        });
        Ok(())
    }

    fn delete_queue(
        &mut self,
        delete: &queue::Delete,
        connection: &mut Connection,
        context: &mut SessionContext<'_>,
    ) -> Result<(), AmqpError> {
        let name = name_rules::strip_cr_lf(&self.queue_name(delete.queue.as_str())?);
        context.check_permission(Permission::Configure, Resource::Queue(&name), connection)?;
        let (queue, core) = match context.usable_queue(&name, connection) {
            Ok(found) => found,
            // Deleting what isn't there is fine (RabbitMQ since 3.2).
            Err(AmqpError::Channel(ChannelError::NoQueue { .. })) => {
                if !delete.nowait {
                    let delete_ok = queue::DeleteOk { message_count: 0 };
                    let method = queue::AMQPMethod::DeleteOk(delete_ok);
                    connection.send(self.number, &AMQPClass::Queue(method));
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        context.outbox.to(core).to_shard.push(ToShard::Delete {
            session: connection.id,
            channel: self.number,
            queue,
            if_unused: delete.if_unused,
            if_empty: delete.if_empty,
        });
        self.ask(Question::Delete {
            nowait: delete.nowait,
        });
        Ok(())
    }

    pub(super) fn ask_catalog(
        &mut self,
        request: Request,
        question: Question,
        connection: &Connection,
        context: &mut SessionContext<'_>,
    ) {
        context
            .outbox
            .to(CoreId::CATALOG)
            .to_catalog
            .push(ToCatalog::Request {
                session: connection.id,
                channel: self.number,
                user: connection.user.clone(),
                request,
            });
        self.ask(question);
    }
}
