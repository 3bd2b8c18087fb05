//! How deliveries come to an end: away, back to their place, or out of the queue by its rules.

use super::lane::Entry;
use super::unsettled::{Away, Out, UnsettledEntry};
use super::{Gone, Paged, Queue, Reason};
use crate::base::limits;

impl Queue {
    /// A delivery is done with: acknowledged. Call [`Queue::pump`] after the last one.
    pub fn settle(&mut self, slot: u32) -> Option<Gone> {
        let entry = self.unsettled.remove(slot)?;
        if let Some(consumer) = entry.consumer {
            self.consumers.settled(consumer);
        }
        self.forget_key(entry.position);
        Some(Gone {
            position: entry.position,
            lsn: entry.lsn,
        })
    }

    /// A delivery was rejected, not to come again: it falls. Call [`Queue::pump`] after the last one.
    pub fn reject(&mut self, slot: u32) {
        if let Some(entry) = self.take_back(slot) {
            self.fall_back(entry, Reason::Rejected);
        }
    }

    /// A delivery goes back to its place, unless it has done so too often. Call [`Queue::pump`] after the
    /// last one.
    pub fn requeue(&mut self, slot: u32) {
        let Some(mut entry) = self.take_back(slot) else {
            return;
        };
        entry.returns = entry.returns.saturating_add(1);
        let limit = self.rules().and_then(|rules| rules.delivery_limit);
        if limit.is_some_and(|limit| u64::from(entry.returns) > limit) {
            self.fall_back(entry, Reason::DeliveryLimit);
            return;
        }
        match entry.message {
            Out::Here(message) => {
                let lane = self.ready.lane_for(&message.as_ref());
                let entry = Entry {
                    position: entry.position,
                    lsn: entry.lsn,
                    expires: entry.expires,
                    returns: entry.returns,
                    redelivered: true,
                    message,
                };
                self.ready.put_back(lane, entry);
            }
            Out::Logged(Away::Out { lane, body_len }) => {
                let paged = Paged {
                    position: entry.position,
                    lsn: entry.lsn,
                    expires: entry.expires,
                    body_len,
                    redelivered: true,
                };
                self.ready.put_back_paged(lane, paged, entry.returns);
            }
            // It has fallen: nobody knows its slot but those who wait to be rid of it.
            Out::Logged(Away::Fallen { .. }) => {}
        }
        self.shorten(limits::JOB_STEPS_PER_TURN);
    }

    fn take_back(&mut self, slot: u32) -> Option<UnsettledEntry> {
        let entry = self.unsettled.remove(slot)?;
        if let Some(consumer) = entry.consumer {
            self.consumers.settled(consumer);
        }
        Some(entry)
    }

    /// A delivery doesn't go back, but out of the queue.
    fn fall_back(&mut self, entry: UnsettledEntry, reason: Reason) {
        let message = match entry.message {
            Out::Here(message) => Some(message),
            Out::Logged(Away::Out { .. }) => None,
            Out::Logged(Away::Fallen { .. }) => return,
        };
        let place = (entry.position, entry.lsn, entry.expires);
        self.let_go(place, (entry.returns, true), message, reason);
    }
}
