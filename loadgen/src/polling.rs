//! Consumers that ask for each message by basic.get instead of being sent them (-po, -pi).

/// When one consumer asks, and for what.
#[derive(Debug)]
pub(crate) struct Polling {
    /// From one answer, or the end of what is done with a message, to the next question.
    interval_ns: u64,
    /// How many queues it asks in turn.
    queues: usize,
    next_queue: usize,
    /// When it asks next; `None` while an answer is due.
    ask_at_ns: Option<u64>,
}

impl Polling {
    /// Asks from 0 on.
    pub(crate) fn new(interval_ns: u64, queues: usize) -> Self {
        Self {
            interval_ns,
            queues,
            next_queue: 0,
            ask_at_ns: Some(0),
        }
    }

    /// When it asks next, unless it waits for an answer.
    pub(crate) fn ask_at_ns(&self) -> Option<u64> {
        self.ask_at_ns
    }

    /// It asks: returns the index of the queue.
    pub(crate) fn ask(&mut self) -> usize {
        self.ask_at_ns = None;
        let queue = self.next_queue;
        self.next_queue = (queue + 1) % self.queues;
        queue
    }

    /// There was nothing, or there was a message and it is done.
    pub(crate) fn answered(&mut self, now_ns: u64) {
        self.ask_at_ns = Some(now_ns + self.interval_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_at_a_time_to_each_queue_in_turn() {
        let mut polling = Polling::new(500, 2);
        assert_eq!(polling.ask_at_ns(), Some(0));
        assert_eq!(polling.ask(), 0);
        assert_eq!(polling.ask_at_ns(), None);
        polling.answered(70);
        assert_eq!(polling.ask_at_ns(), Some(570));
        assert_eq!(polling.ask(), 1);
        polling.answered(600);
        assert_eq!(polling.ask(), 0);
    }
}
