//! Which publishes are settled here, to be told to their sessions once a batch is carried out.
//!
//! In memory a message is settled as soon as it is in its queues. One that the log is to have is
//! settled when it is durable: it waits in the [`journal`](super::journal).

use super::journal::Waiter;
use crate::mail::{Outbox, ToSession};

/// The highest settled confirm number of each channel that published in this batch.
#[derive(Default)]
pub(super) struct Confirms {
    settled: Vec<Waiter>,
}

impl Confirms {
    /// A channel's numbers come in ascending order; publishes of one channel mostly in a row.
    pub(super) fn settled(&mut self, waiter: Waiter) {
        if let Some(last) = self.settled.last_mut()
            && (last.session, last.channel) == (waiter.session, waiter.channel)
        {
            last.upto = waiter.upto;
            return;
        }
        self.settled.push(waiter);
    }

    pub(super) fn send(&mut self, outbox: &mut Outbox) {
        for waiter in self.settled.drain(..) {
            outbox
                .to(waiter.session.core)
                .to_session
                .push(ToSession::Confirmed {
                    session: waiter.session,
                    channel: waiter.channel,
                    upto: waiter.upto,
                });
        }
    }
}
