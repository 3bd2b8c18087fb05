//! Sockets of connections that an alarm has blocked.
//!
//! An alarm may last for hours, so they are taken out of the turn: not read, not armed for reading (it
//! would report unread bytes for ever), and not asked for their budget each millisecond. Now and then
//! each is looked at: whether the connection goes on, and whether its client has hung up. The kernel
//! tells that, however much lies unread before the end (POLLRDHUP); what lies there is then lost, as it
//! is to RabbitMQ when a heartbeat to such a client fails. Nothing of it was ever confirmed.

use super::ready::Token;
use crate::base::{Time, limits};

/// The blocked sockets of a core.
#[derive(Default)]
pub(crate) struct Blocked {
    tokens: Vec<Token>,
    next_look: Time,
}

impl Blocked {
    /// A socket isn't read any more.
    pub(crate) fn add(&mut self, token: Token, now: Time) {
        if self.tokens.is_empty() {
            self.next_look = now + limits::BLOCKED_LOOK_INTERVAL;
        }
        self.tokens.push(token);
    }

    /// When they are to be looked at next, if there are any.
    pub(crate) fn next_look(&self) -> Option<Time> {
        (!self.tokens.is_empty()).then_some(self.next_look)
    }

    /// Something has changed for all of them.
    pub(crate) fn look_now(&mut self) {
        self.next_look = Time::default();
    }

    /// All of them if it is time to look: those that stay blocked are to be added again.
    pub(crate) fn take_due(&mut self, now: Time) -> Vec<Token> {
        if self.next_look().is_some_and(|time| time <= now) {
            std::mem::take(&mut self.tokens)
        } else {
            vec![]
        }
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    #[test]
    fn they_are_looked_at_in_their_time_or_at_once_when_told() {
        let token = |index| Token { index, tenant: 1 };
        let mut blocked = Blocked::default();
        assert!(blocked.next_look().is_none());
        let start = Time(5);
        blocked.add(token(1), start);
        blocked.add(token(2), start + limits::BLOCKED_LOOK_INTERVAL / 2);
        let due = start + limits::BLOCKED_LOOK_INTERVAL;
        assert_eq!(blocked.next_look(), Some(due));
        assert!(blocked.take_due(Time(due.0 - 1)).is_empty());
        assert_eq!(blocked.take_due(due), [token(1), token(2)]);
        blocked.add(token(2), due);
        assert!(blocked.take_due(due).is_empty());
        blocked.look_now();
        assert_eq!(blocked.take_due(due), [token(2)]);
        assert!(blocked.next_look().is_none());
    }
}
