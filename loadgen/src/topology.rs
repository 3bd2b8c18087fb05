//! The exchange and the queues of a run: declared, bound and purged before, deleted after it,
//! and spread over the producers and consumers.

use amq_protocol::protocol::{AMQPClass, exchange, queue};
use amq_protocol::types::FieldTable;
use anyhow::{Context, Result};

use crate::client::{Client, ClientError, short};
use crate::options::Settings;

/// What this run declared itself, and so deletes at the end.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    exchange: Option<String>,
    queues: Vec<String>,
}

/// Declares what isn't there and purges the queues that are. A run without producers is there to
/// drain, so it doesn't purge.
pub(crate) fn prepare(settings: &Settings) -> Result<Topology> {
    let mut client = Client::connect(&settings.broker, settings.queue_core)?;
    client.open_channels(1)?;
    let mut topology = Topology::default();
    if !settings.exchange.is_empty() && prepare_exchange(&mut client, settings)? {
        topology.exchange = Some(settings.exchange.clone());
    }
    let queues = match settings.queue_kind.exclusive {
        true => &[][..],
        false => &settings.queues,
    };
    for name in queues {
        if prepare_queue(&mut client, settings, name).with_context(|| format!("queue {name:?}"))? {
            topology.queues.push(name.clone());
        }
    }
    client.close();
    Ok(topology)
}

impl Topology {
    /// Deletes what `prepare` declared.
    pub(crate) fn delete(self, settings: &Settings) -> Result<()> {
        if settings.keep || (self.queues.is_empty() && self.exchange.is_none()) {
            return Ok(());
        }
        let mut client = Client::connect(&settings.broker, None)?;
        client.open_channels(1)?;
        for name in &self.queues {
            let delete = queue::Delete {
                queue: short(name)?,
                if_unused: false,
                if_empty: false,
                nowait: false,
            };
            client.call(1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete)))?;
        }
        if let Some(name) = &self.exchange {
            let delete = exchange::Delete {
                exchange: short(name)?,
                if_unused: false,
                nowait: false,
            };
            client.call(1, AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete)))?;
        }
        client.close();
        Ok(())
    }
}

/// The indices of the queues that one of `of` producers or consumers serves. With more queues
/// than them each serves several; otherwise each serves one.
pub(crate) fn share(index: usize, of: usize, queues: usize) -> Vec<usize> {
    if of >= queues {
        vec![index % queues]
    } else {
        (index..queues).step_by(of).collect()
    }
}

/// Returns whether the exchange was declared now.
fn prepare_exchange(client: &mut Client, settings: &Settings) -> Result<bool> {
    let name = &settings.exchange;
    let declare = |passive| -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Declare(
            exchange::Declare {
                exchange: short(name)?,
                kind: short(&settings.exchange_type)?,
                passive,
                durable: settings.persistent,
                auto_delete: false,
                internal: false,
                nowait: false,
                arguments: FieldTable::default(),
            },
        )))
    };
    let context = || format!("exchange {name:?}");
    let there = is_there(client, declare(true)?, settings).with_context(context)?;
    if !there {
        client.call(1, declare(false)?).with_context(context)?;
    }
    Ok(!there)
}

/// Returns whether the queue was declared now.
fn prepare_queue(client: &mut Client, settings: &Settings, name: &str) -> Result<bool> {
    let there = is_there(client, declare_queue(settings, name, true)?, settings)?;
    if settings.predeclared {
        return Ok(false);
    }
    // Of one that is there this asks whether it is of the kind that is wanted.
    if !there || settings.queue_kind.is_particular() {
        client.call(1, declare_queue(settings, name, false)?)?;
    }
    if there && settings.producers > 0 {
        let purge = queue::Purge {
            queue: short(name)?,
            nowait: false,
        };
        client.call(1, AMQPClass::Queue(queue::AMQPMethod::Purge(purge)))?;
    }
    bind_queue(client, settings, name)?;
    Ok(!there)
}

/// Declares an exclusive queue on the connection that will consume from it.
pub(crate) fn declare_exclusive(
    client: &mut Client,
    settings: &Settings,
    name: &str,
) -> Result<()> {
    client.call(1, declare_queue(settings, name, false)?)?;
    bind_queue(client, settings, name)
}

fn declare_queue(settings: &Settings, name: &str, passive: bool) -> Result<AMQPClass> {
    let declare = queue::Declare {
        queue: short(name)?,
        passive,
        durable: settings.persistent,
        exclusive: settings.queue_kind.exclusive,
        auto_delete: settings.queue_kind.auto_delete,
        nowait: false,
        arguments: settings.queue_kind.arguments.to_table(),
    };
    Ok(AMQPClass::Queue(queue::AMQPMethod::Declare(declare)))
}

fn bind_queue(client: &mut Client, settings: &Settings, name: &str) -> Result<()> {
    if settings.exchange.is_empty() {
        return Ok(());
    }
    let bind = queue::Bind {
        queue: short(name)?,
        exchange: short(&settings.exchange)?,
        routing_key: short(settings.routing_key_of(name))?,
        nowait: false,
        arguments: FieldTable::default(),
    };
    client.call(1, AMQPClass::Queue(queue::AMQPMethod::Bind(bind)))?;
    Ok(())
}

/// Sends a passive declare. "Not found" costs the channel, which is opened anew, unless the user
/// said that the thing is there.
fn is_there(client: &mut Client, passive_declare: AMQPClass, settings: &Settings) -> Result<bool> {
    match client.call(1, passive_declare) {
        Ok(_) => Ok(true),
        Err(ClientError::Refused {
            scope: "channel",
            code: 404,
            ..
        }) if !settings.predeclared => {
            client.open_channels(1)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_served_and_every_server_has_a_queue() {
        assert_eq!(
            (0..4).map(|index| share(index, 4, 2)).collect::<Vec<_>>(),
            [[0], [1], [0], [1]]
        );
        assert_eq!(
            (0..2).map(|index| share(index, 2, 5)).collect::<Vec<_>>(),
            [vec![0, 2, 4], vec![1, 3]]
        );
    }
}
