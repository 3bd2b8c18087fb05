//! What an alarm does to a connection: from its next publish on it is *blocked*, that is, not read,
//! and told so if it has announced the capability `connection.blocked`. Whoever doesn't publish
//! notices nothing (RabbitMQ's page on alarms).
//!
//! ```text
//!            an alarm is on, a publish comes               no alarm is on any more
//! running ───────────────────────────────────► blocked ───────────────────────────► running
//!            connection.blocked                            connection.unblocked
//! ```
//!
//! What had come by then is handled as ever, the publish itself, its confirm and whatever stood behind
//! it in the same read; what has not come stays with the client and in the kernel's buffers. A
//! connection that ends is read again, or its client's `close-ok` would never be seen.

use amq_protocol::protocol::{AMQPClass, connection};

use super::{Phase, Session, SessionContext};

impl Session {
    /// A part of a publish came.
    #[inline]
    pub(super) fn publish_received(&mut self, context: &mut SessionContext<'_>) {
        if context.alarms.any() {
            self.block(context);
        }
    }

    fn block(&mut self, context: &mut SessionContext<'_>) {
        if self.blocked || !matches!(self.phase, Phase::Running) {
            return;
        }
        self.blocked = true;
        if let Some(reason) = context.alarms.reason() {
            let blocked = connection::Blocked {
                reason: reason.into(),
            };
            self.notify(connection::AMQPMethod::Blocked(blocked));
        }
    }

    /// No alarm is on any more.
    pub fn alarms_cleared(&mut self, context: &mut SessionContext<'_>) {
        if self.is_blocked() {
            // Its silence was ours.
            self.heartbeat.received(context.now);
            self.notify(connection::AMQPMethod::Unblocked(connection::Unblocked {}));
        }
        self.blocked = false;
    }

    /// Whether it is not read until the alarms clear.
    pub fn is_blocked(&self) -> bool {
        self.blocked && matches!(self.phase, Phase::Running)
    }

    fn notify(&mut self, method: connection::AMQPMethod) {
        if self.connection.client.connection_blocked {
            self.connection.send(0, &AMQPClass::Connection(method));
        }
    }
}
