//! What leaves a queue by the queue's own rules, and why. Where the queue has a dead-letter exchange it
//! becomes a [`Letter`], and stays in the queue's books until somebody else has it.

use super::lane::{Entry, NEVER, Removed};
use super::unsettled::{Away, Out, UnsettledEntry};
use super::{Gone, Incoming, Overflow, Queue};
use crate::base::{Lsn, QueueId, StoredMessage};

/// A message that the queue has let go.
pub enum Fallen {
    /// It is done with.
    Gone(Gone),
    /// It is to be dead-lettered.
    Letter(Letter),
}

/// A message on its way to a dead-letter exchange.
pub struct Letter {
    /// Why.
    pub reason: Reason,
    /// To be settled once the message is safe elsewhere; none if nothing is lost by forgetting it.
    pub slot: Option<u32>,
    /// Its place in the queue.
    pub position: u64,
    /// Where the log has it, if it does.
    pub lsn: Lsn,
    /// When it is to go, in milliseconds since 1970: later than now for a delayed message that leaves early.
    pub due_ms: u64,
    /// None if only the log has it.
    pub message: Option<StoredMessage>,
    /// The queues that have it, if it is to stay here until all have that it goes to; none if it is only tried.
    pub taken_by: Option<Vec<QueueId>>,
}

/// Why a message is dead-lettered (<https://www.rabbitmq.com/docs/dlx>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A consumer didn't want it, nor want it requeued.
    Rejected,
    /// Its time was up.
    Expired,
    /// The queue was full.
    MaxLen,
    /// It came back too often.
    DeliveryLimit,
    /// It didn't die: it has waited as long as it should.
    Delayed,
}

impl Reason {
    /// As in the header `x-death`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
            Self::Delayed => "delayed",
        }
    }
}

impl Queue {
    /// Whether messages have fallen that [`Queue::take_fallen`] would give.
    pub fn has_fallen(&self) -> bool {
        !self.fallen.is_empty()
    }

    /// What has fallen since it was last taken. A message of a publish is to be in the log's hands before.
    pub fn take_fallen(&mut self) -> Vec<Fallen> {
        std::mem::take(&mut self.fallen)
    }

    /// When the next message expires, in milliseconds since 1970, or [`NEVER`].
    pub fn next_expiry(&self) -> u64 {
        self.ready.next_expiry()
    }

    /// Whether messages are only here until their time has come: they may leave early, to be ready then.
    pub fn delays(&self) -> bool {
        self.delays
    }

    /// Lets messages go whose time is up then, wherever they stand, `most` of them at most. Whether that was
    /// all.
    pub fn expire(&mut self, now_ms: u64, most: usize) -> bool {
        for _ in 0..most {
            let Some(removed) = self.ready.pop_expired(now_ms) else {
                return true;
            };
            self.fall_removed(removed, Reason::Expired);
        }
        self.ready.next_expiry() > now_ms
    }

    /// What is at the head must not be delivered if its time is up.
    pub(super) fn drop_expired_head(&mut self, now_ms: u64) {
        while self.ready.has_next() && self.ready.front_expiry() <= now_ms {
            if let Some(entry) = self.ready.pop() {
                self.fall(entry, Reason::Expired);
            }
        }
    }

    /// Whether the queue is full, and such that it takes no more then. A message that it might deliver at
    /// once is refused as well, and letters that nobody has taken yet count, as with RabbitMQ.
    pub(super) fn refuses(&mut self, incoming: &mut Incoming<'_>) -> bool {
        let Some(rules) = self.rules() else {
            return false;
        };
        if rules.overflow == Overflow::DropHead
            || !self.is_over(1 + self.letters_kept, incoming.message.body_len() as u64)
        {
            return false;
        }
        if rules.overflow == Overflow::RejectPublishDlx && rules.dead_letter_exchange.is_some() {
            self.fallen.push(Fallen::Letter(Letter {
                reason: Reason::MaxLen,
                slot: None,
                position: self.next_position,
                lsn: Lsn::NONE,
                due_ms: 0,
                message: Some(incoming.stored()),
                taken_by: None,
            }));
        }
        true
    }

    /// Whether so much more would be too much.
    fn is_over(&self, messages: u64, bytes: u64) -> bool {
        let rules = self.rules();
        let max_length = rules.and_then(|rules| rules.max_length);
        let max_bytes = rules.and_then(|rules| rules.max_length_bytes);
        max_length.is_some_and(|max| self.ready.len() as u64 + messages > max)
            || max_bytes.is_some_and(|max| self.ready.body_bytes() + bytes > max)
    }

    /// Whether there are more messages than may be, and those at the head are to go.
    pub fn is_too_long(&self) -> bool {
        let drops = self.rules().map(|rules| rules.overflow) == Some(Overflow::DropHead);
        drops && self.is_over(0, 0)
    }

    /// Drops messages from the head as long as there are too many, `most` of them at most. Whether that
    /// was all. Of a queue with priorities these are the highest, as with RabbitMQ.
    pub fn shorten(&mut self, most: usize) -> bool {
        for _ in 0..most {
            if !self.is_too_long() {
                return true;
            }
            let Some(removed) = self.ready.pop_any() else {
                return true;
            };
            self.fall_removed(removed, Reason::MaxLen);
        }
        !self.is_too_long()
    }

    /// The message of a letter that is kept, unless the log has it.
    pub fn letter_message(&self, letter: &Letter) -> Option<StoredMessage> {
        self.unsettled.message(letter.slot?).cloned()
    }

    /// A letter is safe elsewhere, or lost.
    pub fn forget_letter(&mut self, letter: &Letter) -> Option<Gone> {
        self.letters_kept -= u64::from(letter.taken_by.is_some());
        self.settle(letter.slot?)
    }

    /// A letter can't be read from the log, and stays there.
    pub fn leave_letter(&mut self, letter: &Letter) {
        self.has_unread = true;
        self.forget_letter(letter);
    }

    fn fall_removed(&mut self, removed: Removed, reason: Reason) {
        match removed {
            Removed::Entry(entry) => self.fall(entry, reason),
            Removed::Paged(paged, returns) => {
                let place = (paged.position, paged.lsn, paged.expires);
                self.let_go(place, (returns, paged.redelivered), None, reason);
            }
        }
    }

    pub(super) fn fall(&mut self, entry: Entry, reason: Reason) {
        let place = (entry.position, entry.lsn, entry.expires);
        let history = (entry.returns, entry.redelivered);
        self.let_go(place, history, Some(entry.message), reason);
    }

    /// `returns` and `redelivered`: how often it came back, and whether it had been out.
    pub(super) fn let_go(
        &mut self,
        (position, lsn, expires): (u64, Lsn, u64),
        (returns, redelivered): (u32, bool),
        message: Option<StoredMessage>,
        reason: Reason,
    ) {
        self.forget_key(position);
        let rules = self.rules.as_deref();
        let has_exchange = rules.is_some_and(|rules| rules.dead_letter_exchange.is_some());
        let keeps = rules.is_some_and(|rules| rules.keeps_letters);
        let reason = if self.delays { Reason::Delayed } else { reason };
        self.fallen.push(if has_exchange || self.delays {
            self.letters_kept += u64::from(keeps);
            let slot = (lsn.is_some() || keeps).then(|| {
                self.unsettled.insert(UnsettledEntry {
                    position,
                    lsn,
                    expires: NEVER,
                    returns,
                    consumer: None,
                    message: match &message {
                        Some(message) if !lsn.is_some() => Out::Here(message.clone()),
                        _ => Out::Logged(Away::Fallen { redelivered }),
                    },
                })
            });
            Fallen::Letter(Letter {
                reason,
                slot,
                position,
                lsn,
                due_ms: if self.delays { expires } else { 0 },
                message,
                taken_by: keeps.then(Vec::new),
            })
        } else {
            Fallen::Gone(Gone { position, lsn })
        });
    }
}
