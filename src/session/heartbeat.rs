//! Heartbeats both ways, and the session's other deadlines.
//!
//! We send one when nothing else was sent for half the interval, and give the peer up when nothing
//! came for two intervals (AMQP 0-9-1, 4.2.7). While we don't read, its silence is ours; but where
//! that is because it takes none of its output, it lives as long as it takes some. A peer that was
//! given up isn't waited for: what it hasn't taken by then, it never will.

use std::time::Duration;

use super::{Ending, Phase, Session, SessionContext, SocketFate};
use crate::amqp::frame;
use crate::base::Time;

/// When a session last gave and got a sign of life.
pub(super) struct Heartbeat {
    interval: Duration,
    last_sent: Time,
    last_received: Time,
}

impl Heartbeat {
    pub(super) fn new(now: Time) -> Self {
        Self {
            interval: Duration::ZERO,
            last_sent: now,
            last_received: now,
        }
    }

    pub(super) fn set_interval(&mut self, seconds: u16, now: Time) {
        self.interval = Duration::from_secs(u64::from(seconds));
        self.last_received = now;
    }

    /// When it is to be looked at again.
    pub(super) fn next(&self, now: Time) -> Time {
        if self.interval.is_zero() {
            return now + LEISURE;
        }
        let to_send = self.last_sent + self.interval / 2;
        let to_receive = self.last_received + 2 * self.interval;
        to_send.min(to_receive)
    }

    /// When the peer is given up if nothing comes from it any more; never without an interval.
    pub(super) fn give_up_at(&self) -> Option<Time> {
        (!self.interval.is_zero()).then(|| self.last_received + 2 * self.interval)
    }

    #[inline]
    pub(super) fn sent(&mut self, now: Time) {
        self.last_sent = now;
    }

    #[inline]
    pub(super) fn received(&mut self, now: Time) {
        self.last_received = now;
    }
}

/// How often an open connection without heartbeats is looked at, to give memory back.
const LEISURE: Duration = Duration::from_secs(10);

impl Session {
    /// Does what is due; when it wants to be called again.
    pub fn on_timer(&mut self, context: &mut SessionContext<'_>) -> Option<Time> {
        let now = context.now;
        match &self.phase {
            Phase::Handshake(handshake) => {
                if now < handshake.deadline {
                    return Some(handshake.deadline);
                }
                self.close_now(context);
                None
            }
            // The core that it moves to begins with a look.
            Phase::Running if self.connection.is_leaving => None,
            Phase::Running => {
                let next = self.check_heartbeat(context)?;
                let timeout_due = self.close_timed_out(context);
                let give_up = self.check_move(context);
                [timeout_due, give_up, Some(next)]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Phase::Ending(ending) => {
                let deadline = ending.deadline?;
                if now < deadline {
                    return Some(deadline);
                }
                // The client doesn't answer: it is not waited for any longer.
                self.fate = SocketFate::CloseNow;
                None
            }
        }
    }

    fn check_heartbeat(&mut self, context: &mut SessionContext<'_>) -> Option<Time> {
        let now = context.now;
        self.connection.output.shrink();
        let interval = self.heartbeat.interval;
        if interval.is_zero() {
            return Some(self.heartbeat.next(now));
        }
        if self.read_budget(now, context.outbox) == 0 && !self.is_stuffed() {
            self.heartbeat.last_received = now;
        }
        if now.since(self.heartbeat.last_received) >= 2 * interval {
            let user = &self.connection.user;
            context
                .notices
                .add(|| format!("connection of user '{user}' closed: missed heartbeats"));
            self.fate = SocketFate::CloseNow;
            self.end(Ending::default(), context);
            return None;
        }
        if now.since(self.heartbeat.last_sent) >= interval / 2 {
            if self.connection.output.is_empty() {
                let out = self.connection.output.block();
                out.extend_from_slice(&frame::HEARTBEAT);
            }
            self.heartbeat.last_sent = now;
        }
        Some(self.heartbeat.next(now))
    }
}
