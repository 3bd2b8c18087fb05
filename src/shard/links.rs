//! The way from this shard to each session: how much may still be on it, and who waits for room.

use std::collections::VecDeque;

use crate::base::{Lsn, MessageRef, QueueId, SessionId, limits};
use crate::mail::{Deliver, Ease, NO_SLOT, Outbox, ToSession};
use crate::model::queue::{Consumer, Sink};

/// The windows of all sessions that were ever delivered to, by core and index.
#[derive(Default)]
pub(super) struct Links {
    by_core: Vec<Vec<Link>>,
    /// Bytes by which windows were widened, of all sessions.
    widened: i64,
    /// Sessions that were told to ease in this batch: once is enough.
    eased: Option<SessionId>,
}

#[derive(Default)]
struct Link {
    generation: u32,
    /// How often the window was doubled.
    doublings: u32,
    /// Deliveries and bytes that may still be sent; bytes go below zero by one message at most.
    messages: u32,
    bytes: i64,
    /// Consumers that found no room.
    waiting: Vec<(QueueId, u32)>,
    /// How many deliveries were sent, and how many of them have left for the socket.
    sent: u64,
    departed: u64,
    /// Deliveries that are to be settled when they have left: which they were, queue and slot.
    departing: VecDeque<(u64, QueueId, u32)>,
}

impl Links {
    fn link(&mut self, session: SessionId) -> &mut Link {
        let (core, index) = (session.core.index(), session.index as usize);
        if self.by_core.len() <= core {
            self.by_core.resize_with(core + 1, Vec::new);
        }
        let links = &mut self.by_core[core];
        if links.len() <= index {
            links.resize_with(index + 1, Link::default);
        }
        let link = &mut links[index];
        if link.generation != session.generation {
            self.widened -= link.widened();
            *link = Link {
                generation: session.generation,
                messages: limits::WINDOW_MESSAGES_MIN,
                bytes: i64::from(limits::WINDOW_BYTES_MIN),
                ..Link::default()
            };
        }
        link
    }

    /// Of those that leave for the socket with the next `messages` deliveries, the first that is to be
    /// settled: its queue and slot.
    pub(super) fn next_departed(
        &mut self,
        session: SessionId,
        messages: u32,
    ) -> Option<(QueueId, u32)> {
        let link = self.link(session);
        let departed = link.departed + u64::from(messages);
        let (_, queue, slot) = link
            .departing
            .pop_front_if(|(number, ..)| *number < departed)?;
        Some((queue, slot))
    }

    /// All that wait to leave, queue and slot of each: no session is left that could tell.
    pub(super) fn take_departing(&mut self) -> Vec<(QueueId, u32)> {
        let links = self.by_core.iter_mut().flatten();
        links
            .flat_map(|link| std::mem::take(&mut link.departing))
            .map(|(_, queue, slot)| (queue, slot))
            .collect()
    }

    /// Deliveries have left for the socket; the consumers that waited for that. If there are any, the
    /// window was too small for a session that drains: it is doubled.
    pub(super) fn give_back(
        &mut self,
        session: SessionId,
        messages: u32,
        bytes: u32,
    ) -> Vec<(QueueId, u32)> {
        let may_widen = self.widened < limits::WINDOWS_WIDENED_MAX;
        let link = self.link(session);
        link.departed += u64::from(messages);
        link.messages += messages;
        link.bytes += i64::from(bytes);
        let waiting = std::mem::take(&mut link.waiting);
        if !waiting.is_empty() && may_widen && link.doublings < limits::WINDOW_DOUBLINGS_MAX {
            let before = link.widened();
            link.messages += limits::WINDOW_MESSAGES_MIN << link.doublings;
            link.doublings += 1;
            let more = link.widened() - before;
            link.bytes += more;
            self.widened += more;
        }
        waiting
    }

    /// Asks a publisher to be read a little slower.
    pub(super) fn ease(&mut self, session: SessionId, how: Ease, outbox: &mut Outbox) {
        if self.eased != Some(session) {
            self.eased = Some(session);
            outbox
                .to(session.core)
                .to_session
                .push(ToSession::Ease { session, how });
        }
    }

    /// A batch is carried out: sessions may be asked again.
    pub(super) fn end_batch(&mut self) {
        self.eased = None;
    }

    /// A session moves, and its window with it.
    pub(super) fn rebind(&mut self, from: SessionId, to: SessionId) {
        let moved = std::mem::take(self.link(from));
        let generation = to.generation;
        *self.link(to) = Link {
            generation,
            ..moved
        };
    }

    /// A session is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        let link = self.link(session);
        link.waiting = Vec::new();
        link.departing = VecDeque::new();
        let widened = link.widened();
        link.doublings = 0;
        self.widened -= widened;
    }
}

impl Link {
    /// Bytes by which its window was widened.
    fn widened(&self) -> i64 {
        (i64::from(limits::WINDOW_BYTES_MIN) << self.doublings)
            - i64::from(limits::WINDOW_BYTES_MIN)
    }
}

/// The deliveries of one queue.
pub(super) struct Deliveries<'a> {
    queue: QueueId,
    /// In milliseconds since 1970.
    now_ms: u64,
    leave_from: Lsn,
    links: &'a mut Links,
    outbox: &'a mut Outbox,
    /// How many there were.
    pub(super) delivered: u32,
}

impl<'a> Deliveries<'a> {
    pub(super) fn new(
        queue: QueueId,
        now_ms: u64,
        leave_from: Lsn,
        links: &'a mut Links,
        outbox: &'a mut Outbox,
    ) -> Self {
        Self {
            queue,
            now_ms,
            leave_from,
            links,
            outbox,
            delivered: 0,
        }
    }
}

impl Sink for Deliveries<'_> {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn leave_from(&self) -> Lsn {
        self.leave_from
    }

    fn has_room(&mut self, consumer: &Consumer) -> bool {
        let link = self.links.link(consumer.session);
        let room = link.messages > 0 && link.bytes > 0;
        if !room {
            link.waiting.push((self.queue, consumer.number));
        }
        room
    }

    fn deliver(
        &mut self,
        consumer: &Consumer,
        slot: Option<u32>,
        redelivered: bool,
        message: &MessageRef<'_>,
    ) {
        self.delivered += 1;
        let link = self.links.link(consumer.session);
        link.messages -= 1;
        if consumer.no_ack
            && let Some(slot) = slot
        {
            link.departing.push_back((link.sent, self.queue, slot));
        }
        link.sent += 1;
        link.bytes -= i64::from(message.weight());
        let batch = &mut self.outbox.to(consumer.session.core).to_session;
        let span = batch.write_message(message);
        batch.push(ToSession::Deliver(Deliver {
            session: consumer.session,
            channel: consumer.channel,
            redelivered,
            consumer: consumer.number,
            queue: self.queue,
            slot: slot.filter(|_| !consumer.no_ack).unwrap_or(NO_SLOT),
            message: span,
        }));
    }

    fn hungry(&mut self, consumer: &Consumer) {
        self.outbox
            .to(consumer.session.core)
            .to_session
            .push(ToSession::Hungry {
                session: consumer.session,
                channel: consumer.channel,
                consumer: consumer.number,
            });
    }

    fn surrender(&mut self, consumer: &Consumer, credits: u32) {
        self.outbox
            .to(consumer.session.core)
            .to_session
            .push(ToSession::Surrender {
                session: consumer.session,
                channel: consumer.channel,
                consumer: consumer.number,
                credits,
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::CoreId;

    fn session(index: u32, generation: u32) -> SessionId {
        SessionId {
            core: CoreId(0),
            index,
            generation,
        }
    }

    /// The session's consumer has used its window up and waits, and all of it has left for the socket.
    fn exhausts(links: &mut Links, session: SessionId) {
        let queue = QueueId {
            index: 0,
            generation: 0,
        };
        links.link(session).waiting.push((queue, 1));
        links.give_back(session, 0, 0);
    }

    fn window_bytes(links: &mut Links, session: SessionId) -> i64 {
        links.link(session).bytes
    }

    #[test]
    fn a_session_that_exhausts_its_window_gets_a_wider_one_up_to_a_limit() {
        let mut links = Links::default();
        for _ in 0..10 {
            exhausts(&mut links, session(0, 1));
        }
        let widest = i64::from(limits::WINDOW_BYTES_MIN) << limits::WINDOW_DOUBLINGS_MAX;
        assert_eq!(window_bytes(&mut links, session(0, 1)), widest);
    }

    #[test]
    fn a_session_that_moves_takes_its_window_along_and_what_is_on_its_way() {
        let mut links = Links::default();
        let (from, to) = (session(3, 1), session(9, 4));
        exhausts(&mut links, from);
        let (widened, queue) = (
            links.widened,
            QueueId {
                index: 5,
                generation: 2,
            },
        );
        let link = links.link(from);
        (link.messages, link.bytes, link.sent) = (7, -20, 2);
        link.departing.push_back((1, queue, 33));
        link.waiting.push((queue, 8));
        links.rebind(from, to);
        let link = links.link(to);
        assert_eq!((link.messages, link.bytes, link.sent), (7, -20, 2));
        assert_eq!(links.next_departed(to, 1), None, "the first was another");
        assert_eq!(links.next_departed(to, 2), Some((queue, 33)));
        assert_eq!(links.give_back(to, 2, 20), [(queue, 8)]);
        links.forget(to);
        assert!(widened > 0 && links.widened == 0);
        assert_eq!(links.next_departed(from, u32::MAX), None);
    }

    #[test]
    fn all_windows_together_are_widened_up_to_a_limit_and_what_a_session_leaves_another_gets() {
        let mut links = Links::default();
        for _ in 0..10 {
            for index in 0..1000 {
                exhausts(&mut links, session(index, 1));
            }
        }
        let narrow = i64::from(limits::WINDOW_BYTES_MIN);
        let widened: i64 = (0..1000)
            .map(|index| window_bytes(&mut links, session(index, 1)) - narrow)
            .sum();
        let last_step = narrow << (limits::WINDOW_DOUBLINGS_MAX - 1);
        assert!(widened <= limits::WINDOWS_WIDENED_MAX + last_step);
        exhausts(&mut links, session(1000, 1));
        assert_eq!(window_bytes(&mut links, session(1000, 1)), narrow);
        links.forget(session(0, 1));
        // Another connection at the same place counts anew.
        window_bytes(&mut links, session(1, 2));
        exhausts(&mut links, session(1000, 1));
        assert_eq!(window_bytes(&mut links, session(1000, 1)), 2 * narrow);
    }
}
