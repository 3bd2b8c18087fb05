//! Deliveries: from a queue's mail to the client's socket.

use super::channel::Channel;
use super::connection::Connection;
use super::unacked::Delivery;
use crate::amqp::content;
use crate::base::{CoreId, MessageRef};
use crate::mail::{Deliver, NO_SLOT};

impl Channel {
    /// A message for one of the channel's consumers, from the queue's core.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        core: CoreId,
        deliver: &Deliver,
        message: &MessageRef<'_>,
        connection: &mut Connection,
    ) {
        connection.owe(core, message.weight());
        self.last_delivery_tag += 1;
        let tag = self.last_delivery_tag;
        // A delivery that comes too late for the client is kept all the same: it goes back to its
        // queue with the others.
        if deliver.slot != NO_SLOT {
            self.unacked.push(Delivery {
                tag,
                core,
                queue: deliver.queue,
                slot: deliver.slot,
                consumer: deliver.consumer,
            });
            self.consumers.delivered(deliver.consumer);
        }
        if connection.mute || !self.is_open() {
            return;
        }
        let Some(consumer) = self.consumers.get(deliver.consumer) else {
            return;
        };
        content::write_deliver(
            connection.output.block(),
            self.number,
            consumer.tag.as_bytes(),
            tag,
            deliver.redelivered,
            message,
        );
        connection.send_content(self.number, message);
    }
}
