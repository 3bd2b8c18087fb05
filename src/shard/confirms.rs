//! Which publishes are settled here, to be told to their sessions once a batch is carried out.
//!
//! In memory a message is settled as soon as it is in its queues. With a log between, this is where a
//! persistent one waits for the write that holds it.

use crate::base::SessionId;
use crate::mail::{Outbox, ToSession};

/// The highest settled confirm number of each channel that published in this batch.
#[derive(Default)]
pub(super) struct Confirms {
    settled: Vec<(SessionId, u16, u64)>,
}

impl Confirms {
    /// A channel's numbers come in ascending order; publishes of one channel mostly in a row.
    pub(super) fn settled(&mut self, session: SessionId, channel: u16, number: u64) {
        if let Some((last_session, last_channel, upto)) = self.settled.last_mut()
            && *last_session == session
            && *last_channel == channel
        {
            *upto = number;
            return;
        }
        self.settled.push((session, channel, number));
    }

    pub(super) fn send(&mut self, outbox: &mut Outbox) {
        for (session, channel, upto) in self.settled.drain(..) {
            outbox
                .to(session.core)
                .to_session
                .push(ToSession::Confirmed {
                    session,
                    channel,
                    upto,
                });
        }
    }
}
