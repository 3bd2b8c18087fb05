//! Which publishes are settled here, to be told to their publishers once a batch is carried out.
//!
//! In memory a message is settled as soon as it is in its queues. One that the log is to have is
//! settled when it is durable: it waits in the [`journal`](super::journal).

use super::journal::Waiter;
use crate::mail::{News, Outbox, Publisher, ToSession, ToShard};

/// The highest settled confirm number of each publisher in this batch.
#[derive(Default)]
pub(super) struct Confirms {
    settled: Vec<Waiter>,
}

impl Confirms {
    /// A publisher's numbers come in ascending order; publishes of one mostly in a row.
    pub(super) fn settled(&mut self, waiter: Waiter) {
        if let Some(last) = self.settled.last_mut()
            && last.publisher == waiter.publisher
        {
            last.upto = waiter.upto;
            return;
        }
        self.settled.push(waiter);
    }

    pub(super) fn send(&mut self, outbox: &mut Outbox) {
        let core = outbox.own();
        for Waiter { publisher, upto } in self.settled.drain(..) {
            match publisher {
                Publisher::Channel {
                    session, channel, ..
                } => {
                    let confirmed = ToSession::Confirmed {
                        session,
                        channel,
                        upto,
                    };
                    outbox.to(session.core).to_session.push(confirmed);
                }
                Publisher::DeadLetters(source) => {
                    let settled = ToShard::LettersSettled { core, upto };
                    outbox.to(source).to_shard.push(settled);
                }
            }
        }
    }
}

/// Tells a publisher something of one publish alone. `number`: 0 if it waits for nothing.
pub(super) fn tell((publisher, number): (Publisher, u64), news: News, outbox: &mut Outbox) {
    if number == 0 {
        return;
    }
    match publisher {
        Publisher::Channel {
            session, channel, ..
        } => outbox.to(session.core).to_session.push(ToSession::News {
            session,
            channel,
            number,
            news,
        }),
        Publisher::DeadLetters(source) => {
            let to_shard = &mut outbox.to(source).to_shard;
            to_shard.push(ToShard::LetterNews { number, news });
        }
    }
}
