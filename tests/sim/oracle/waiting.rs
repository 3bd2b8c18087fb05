//! Messages that wait: in the queue of a delayed exchange, which stands behind those that clients can name, until
//! their time has come. Then they go on as letters.

use super::{Oracle, Record};
use crate::exchanges::ignores_keys;
use crate::letters::Reason;
use crate::plan::Plan;
use crate::rules::QueueRules;

/// The queue of a plan's delayed exchange, if it has one: whether it is durable, its rules, and that it is such a one.
pub(super) fn room(plan: &Plan) -> Option<(bool, QueueRules, bool)> {
    let exchange = plan.delays.as_ref()?.exchange;
    let (kind, durable) = plan.exchanges[exchange];
    assert!(ignores_keys(kind), "letters of any key go the same way");
    let rules = QueueRules {
        dead_letters: Some((exchange, 0)),
        ..QueueRules::default()
    };
    Some((durable, rules, true))
}

impl Oracle {
    /// How many queues there are that clients can name.
    pub(crate) fn named_queues(&self) -> usize {
        self.queues.iter().filter(|queue| !queue.waits).count()
    }

    /// Where messages wait, and for which exchange.
    pub(crate) fn waiting_room(&self) -> Option<(usize, usize)> {
        let room = self.queues.iter().position(|queue| queue.waits)?;
        Some((room, self.queues[room].rules.dead_letters?.0))
    }

    /// Where a message goes at first, and whether surely: a full queue may refuse it. One with a delay waits if it
    /// leads anywhere.
    pub(super) fn ways(&self, message: u64, exchange: usize, key: usize) -> Vec<(usize, bool)> {
        let routes = self.routes(exchange, key);
        let delay_ms = self.messages[message as usize].stamp.delay_ms;
        match self.waiting_room().filter(|_| delay_ms.is_some()) {
            Some(_) if routes.is_empty() => routes,
            Some((room, _)) => vec![(room, routes.iter().any(|(_, sure)| *sure))],
            None => {
                let may_refuse = |queue: usize| self.queues[queue].rules.may_refuse();
                let ways = routes.into_iter();
                ways.map(|(queue, sure)| (queue, sure && !may_refuse(queue)))
                    .collect()
            }
        }
    }

    /// Whether a message has perhaps waited long enough.
    pub(super) fn is_due(&self, message: u64, record: &Record) -> bool {
        let delay_ms = self.messages[message as usize].stamp.delay_ms;
        delay_ms.is_some_and(|delay_ms| record.since.1 + delay_ms <= self.now_ms)
    }

    /// Whether a crash has perhaps made two of a message, or a client that repeats it: those of the second time come
    /// behind all of the first.
    pub(crate) fn may_be_late(&self, queue: usize, message: u64) -> bool {
        let record = self.queues[queue].records.get(&message);
        record.is_some_and(|record| record.is_doubled) || self.is_repeated(message)
    }

    /// Whose a message is, and its turn among those: they come in order.
    pub(crate) fn turn(&self, message: u64) -> (u64, u64) {
        let found = &self.messages[message as usize];
        match &found.letter {
            Some(letter) if letter.reason == Reason::Delayed => {
                (self.messages[letter.root as usize].publisher, letter.root)
            }
            _ => (found.publisher, message),
        }
    }
}
