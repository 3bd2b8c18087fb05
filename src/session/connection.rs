//! What all channels of a session share: who it is, what was negotiated, its output, and the account
//! of deliveries that went into it.

use amq_protocol::protocol::AMQPClass;
use bytes::Bytes;

use super::Output;
use super::admission::Counted;
use super::moving::Traffic;
use crate::amqp::content;
use crate::amqp::frame::END;
use crate::amqp::method;
use crate::base::{CoreId, MessageRef, Name, QueueId, SessionId, VhostId, limits};
use crate::mail::{Outbox, ToShard};
use crate::model::Topology;

/// The shared part of a session.
pub(super) struct Connection {
    /// Where mail reaches it.
    pub(super) id: SessionId,
    /// The id that it began with, and nobody else has ever had: exclusive queues and the catalog's counts know it
    /// by that, wherever it is now.
    pub(super) first_id: SessionId,
    pub(super) output: Output,
    /// Who has logged in.
    pub(super) user: Name,
    /// Whether messages may name another user as theirs.
    pub(super) is_impersonator: bool,
    pub(super) counted: Counted,
    /// The catalog counts its channels, too.
    pub(super) counts_channels: bool,
    /// Set by `connection.open`.
    pub(super) vhost: VhostId,
    /// Largest payload of a frame: `frame_max` less head and end octet.
    pub(super) payload_max: u32,
    pub(super) channel_max: u16,
    pub(super) heartbeat_s: u16,
    pub(super) client: ClientCapabilities,
    /// Bytes of contents that are not complete, over all channels.
    pub(super) content_bytes: usize,
    /// Queues that go with the connection.
    pub(super) exclusive_queues: Vec<QueueId>,
    /// Channels with confirms to be sent at the end of the turn.
    pub(super) confirming: Vec<u16>,
    /// The highest confirm number of channels that are gone: cores may still have something to say of it.
    pub(super) last_confirm: u64,
    /// Channels whose consumers have a time to acknowledge in.
    pub(super) timed: Vec<u16>,
    /// Deliveries written to the output for each core, not yet given back to its windows.
    credit: Vec<Credit>,
    pub(super) traffic: Traffic,
    /// It is on its way to another core: nothing is sent to any core until it has arrived.
    pub(super) is_leaving: bool,
    /// Nothing is written any more: the socket is gone or going.
    pub(super) mute: bool,
}

/// What the client said it understands (`client-properties.capabilities`).
#[derive(Clone, Copy, Default)]
pub(super) struct ClientCapabilities {
    pub(super) authentication_failure_close: bool,
    pub(super) consumer_cancel_notify: bool,
    pub(super) connection_blocked: bool,
}

#[derive(Clone, Copy, Default)]
struct Credit {
    messages: u32,
    bytes: u32,
}

impl Connection {
    pub(super) fn new(id: SessionId) -> Self {
        Self {
            id,
            first_id: id,
            output: Output::default(),
            user: Name::from(""),
            is_impersonator: false,
            counted: Counted::No,
            counts_channels: false,
            vhost: VhostId(0),
            payload_max: limits::FRAME_MIN - limits::FRAME_OVERHEAD as u32,
            channel_max: 0,
            heartbeat_s: 0,
            client: ClientCapabilities::default(),
            content_bytes: 0,
            exclusive_queues: Vec::new(),
            confirming: Vec::new(),
            last_confirm: 0,
            timed: Vec::new(),
            credit: Vec::new(),
            traffic: Traffic::default(),
            is_leaving: false,
            mute: false,
        }
    }

    /// Writes a method.
    pub(super) fn send(&mut self, channel: u16, class: &AMQPClass) {
        if !self.mute {
            method::encode(self.output.block(), channel, class);
        }
    }

    /// An exclusive queue was declared. Those deleted since are forgotten now and then.
    pub(super) fn owns(&mut self, queue: QueueId, topology: &Topology) {
        const FEW: usize = 64;
        let queues = &mut self.exclusive_queues;
        if queues.len() >= FEW && queues.len().is_power_of_two() {
            queues.retain(|queue| topology.queue(*queue).is_some());
        }
        if queues.last() != Some(&queue) {
            queues.push(queue);
        }
    }

    /// A delivery from `core` was written (or dropped): its window is due so much.
    pub(super) fn owe(&mut self, core: CoreId, weight: u32) {
        if self.credit.len() <= core.index() {
            self.credit.resize(core.index() + 1, Credit::default());
        }
        let credit = &mut self.credit[core.index()];
        credit.messages += 1;
        credit.bytes += weight;
    }

    /// The output has drained: what was delivered may come again.
    pub(super) fn give_credit_back(&mut self, outbox: &mut Outbox) {
        if self.is_leaving {
            return;
        }
        for (index, credit) in self.credit.iter_mut().enumerate() {
            if credit.messages > 0 {
                let Credit { messages, bytes } = std::mem::take(credit);
                let core = CoreId(index as u16);
                self.traffic.count(core, messages);
                outbox.to(core).to_shard.push(ToShard::WindowReturn {
                    session: self.id,
                    messages,
                    bytes,
                });
            }
        }
    }
}

impl Connection {
    /// Writes a message's header and body frames.
    #[inline]
    pub(super) fn send_content(&mut self, channel: u16, message: &MessageRef<'_>) {
        let body_len = message.body_len() as u64;
        let out = self.output.block();
        content::write_header(out, channel, body_len, message.properties);
        let payload_max = self.payload_max as usize;
        content::write_body(out, channel, message.body, payload_max);
        if !message.large_body.is_empty() {
            self.send_large_body(channel, message.large_body);
        }
    }

    /// Writes a large body as slices, re-cut to what this client takes as a frame.
    fn send_large_body(&mut self, channel: u16, pieces: &[Bytes]) {
        let payload_max = self.payload_max as usize;
        let mut missing: usize = pieces.iter().map(Bytes::len).sum();
        let mut room = 0;
        for piece in pieces {
            let mut at = 0;
            while at < piece.len() {
                if room == 0 {
                    room = missing.min(payload_max);
                    content::write_body_head(self.output.block(), channel, room);
                }
                let len = room.min(piece.len() - at);
                self.output.splice(piece.slice(at..at + len));
                at += len;
                room -= len;
                missing -= len;
                if room == 0 {
                    self.output.block().push(END);
                }
            }
        }
    }
}
