//! Scripts that chance writes from a grammar: few channels, few names and few arguments, so that they collide.

use crate::dice::Dice;
use crate::script::{Operation, Script, Step};
use crate::value::Value;

/// Connections with their channels; the first is picked most often.
const PLACES: [(char, u16); 4] = [('a', 1), ('a', 1), ('a', 2), ('b', 1)];
const QUEUES: [&str; 3] = ["q1", "q2", "q3"];
const EXCHANGES: [&str; 3] = ["x1", "x2", "x3"];
const KINDS: [&str; 4] = ["direct", "fanout", "topic", "headers"];
const KEYS: [&str; 5] = ["q1", "q2", "k", "k.l", ""];
const PATTERNS: [&str; 6] = ["q1", "k", "k.l", "k.*", "#", "*.l"];
const TAGS: [&str; 3] = ["t1", "t2", "t3"];
/// Operations of a script behind its first declares.
const LENGTHS: (usize, usize) = (6, 24);

/// The script of a seed.
pub(crate) fn script(seed: u64) -> Script {
    let mut dice = Dice::new(seed);
    let mut script = Script {
        title: format!("seed {seed}"),
        is_random: true,
        steps: vec![],
    };
    let count = dice.between(LENGTHS.0, LENGTHS.1);
    let mut author = Author {
        dice,
        // Under channel-wide prefetch the order between queues is open: such scripts consume from one.
        may_go_global: false,
        published: 0,
    };
    author.may_go_global = author.dice.chance(1, 5);
    for _ in 0..author.dice.between(1, 3) {
        let declare = author.declare_queue();
        script.steps.push(author.step(declare));
    }
    while script.steps.len() < count {
        let operation = author.operation();
        script.steps.push(author.step(operation));
    }
    script
}

struct Author {
    dice: Dice,
    may_go_global: bool,
    published: usize,
}

impl Author {
    fn step(&mut self, operation: Operation) -> Step {
        let (connection, channel) = self.pick(&PLACES);
        Step::Send {
            connection,
            channel,
            operation,
        }
    }

    fn operation(&mut self) -> Operation {
        match self.dice.roll(100) {
            0..8 => self.declare_queue(),
            8..13 => self.declare_exchange(),
            13..20 => self.bind(),
            20..22 => self.unbind(),
            22..25 => self.delete(),
            25..27 => operation("queue.purge", &[self.queue()]),
            27..55 => self.publish(),
            55..66 => self.consume(),
            66..69 => {
                let tag = self.pick(&TAGS);
                operation("basic.cancel", &[tag])
            }
            69..75 => {
                let queue = self.queue();
                let get = operation("basic.get", &[queue]);
                self.with_flags(get, &[("no-ack", 1, 3)])
            }
            75..88 => self.settle(),
            88..91 => self.qos(),
            91..93 => operation("basic.recover", &["requeue"]),
            93..96 => operation("confirm.select", &[]),
            96..99 => {
                let method = self.pick(&["tx.select", "tx.commit", "tx.rollback"]);
                operation(method, &[])
            }
            _ => operation("channel.close", &[]),
        }
    }

    fn declare_queue(&mut self) -> Operation {
        let queue = self.pick(&QUEUES);
        let declare = operation("queue.declare", &[queue]);
        let flags = [
            ("durable", 1, 4),
            ("auto-delete", 1, 12),
            ("exclusive", 1, 20),
            ("passive", 1, 12),
        ];
        let mut declare = self.with_flags(declare, &flags);
        let arguments = [
            ("x-max-length", number(2)),
            ("x-max-length", number(1)),
            ("x-overflow", Value::text("reject-publish")),
            ("x-overflow", Value::text("drop-head")),
            ("x-max-priority", number(5)),
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-exchange", Value::text("x1")),
            ("x-dead-letter-routing-key", Value::text("q2")),
            ("x-single-active-consumer", Value::Boolean(true)),
            ("x-max-length-bytes", number(3)),
        ];
        while self.dice.chance(1, 3) {
            let (key, value) = &arguments[self.dice.roll(arguments.len())];
            declare.fields.retain(|(known, _)| known != key);
            declare.fields.push(((*key).to_owned(), value.clone()));
        }
        declare
    }

    fn declare_exchange(&mut self) -> Operation {
        let (exchange, kind) = (self.pick(&EXCHANGES), self.pick(&KINDS));
        let declare = operation("exchange.declare", &[exchange, kind]);
        let flags = [
            ("auto-delete", 1, 8),
            ("internal", 1, 12),
            ("passive", 1, 12),
        ];
        let mut declare = self.with_flags(declare, &flags);
        if self.dice.chance(1, 5) {
            let alternate = Value::text(self.pick(&EXCHANGES));
            declare
                .fields
                .push(("alternate-exchange".to_owned(), alternate));
        }
        declare
    }

    fn bind(&mut self) -> Operation {
        let (queue, exchange, pattern) = (self.queue(), self.exchange(), self.pick(&PATTERNS));
        let other = self.pick(&EXCHANGES);
        let mut bind = match self.dice.roll(3) {
            0 => operation("exchange.bind", &[other, exchange, pattern]),
            _ => operation("queue.bind", &[queue, exchange, pattern]),
        };
        if self.dice.chance(1, 5) {
            let matching = Value::text(self.pick(&["all", "any"]));
            bind.fields.push(("x-match".to_owned(), matching));
            bind.fields.push(("h".to_owned(), number(1)));
        }
        bind
    }

    fn unbind(&mut self) -> Operation {
        let names = [self.queue(), self.exchange(), self.pick(&PATTERNS)];
        operation("queue.unbind", &names)
    }

    fn delete(&mut self) -> Operation {
        let (queue, exchange) = (self.queue(), self.pick(&EXCHANGES));
        match self.dice.roll(3) {
            0 => {
                let delete = operation("exchange.delete", &[exchange]);
                self.with_flags(delete, &[("if-unused", 1, 3)])
            }
            _ => {
                let delete = operation("queue.delete", &[queue]);
                self.with_flags(delete, &[("if-unused", 1, 4), ("if-empty", 1, 4)])
            }
        }
    }

    fn publish(&mut self) -> Operation {
        self.published += 1;
        let body = format!("m{}", self.published);
        let (exchange, queue, key) = (self.exchange(), self.queue(), self.pick(&KEYS));
        let names = match self.dice.roll(3) {
            0 => [exchange, key, &body],
            _ => ["", queue, &body],
        };
        let publish = operation("basic.publish", &names);
        let mut publish = self.with_flags(publish, &[("mandatory", 1, 4)]);
        let fields = [
            ("delivery-mode", number(2), 3),
            ("priority", number(self.dice.roll(8) as i64), 4),
            (
                "h.CC",
                Value::Array(vec![Value::text("q2"), Value::text("k")]),
                12,
            ),
            ("h.BCC", Value::Array(vec![Value::text("q3")]), 15),
            ("h.h", number(1), 6),
            ("expiration", Value::text("60000"), 12),
            ("expiration", Value::text("0"), 60),
        ];
        for (key, value, of) in fields {
            let is_new = publish.fields.iter().all(|(known, _)| known != key);
            if is_new && self.dice.chance(1, of) {
                publish.fields.push((key.to_owned(), value));
            }
        }
        publish
    }

    fn consume(&mut self) -> Operation {
        let queue = if self.may_go_global {
            QUEUES[0]
        } else {
            self.queue()
        };
        let tag = self.pick(&TAGS);
        let consume = operation("basic.consume", &[queue, tag]);
        let mut consume = self.with_flags(consume, &[("no-ack", 1, 4), ("exclusive", 1, 12)]);
        if self.dice.chance(1, 6) {
            let priority = self.dice.roll(3) as i64 - 1;
            consume
                .fields
                .push(("x-priority".to_owned(), number(priority)));
        }
        consume
    }

    fn settle(&mut self) -> Operation {
        let number = format!("#{}", self.dice.between(1, 3));
        match self.dice.roll(3) {
            0 => {
                let ack = operation("basic.ack", &[&number]);
                self.with_flags(ack, &[("multiple", 1, 4)])
            }
            1 => {
                let nack = operation("basic.nack", &[&number]);
                self.with_flags(nack, &[("multiple", 1, 4), ("requeue", 1, 2)])
            }
            _ => {
                let reject = operation("basic.reject", &[&number]);
                self.with_flags(reject, &[("requeue", 1, 2)])
            }
        }
    }

    fn qos(&mut self) -> Operation {
        let count = self.pick(&["0", "1", "2"]);
        let qos = operation("basic.qos", &["0", count]);
        let global = usize::from(self.may_go_global);
        self.with_flags(qos, &[("global", global, 2)])
    }

    fn queue(&mut self) -> &'static str {
        self.pick(&QUEUES)
    }

    fn exchange(&mut self) -> &'static str {
        let name = self.pick(&EXCHANGES);
        if self.dice.chance(1, 6) {
            "amq.topic"
        } else {
            name
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.dice.roll(from.len())]
    }

    /// Sets each flag so many times out of so many.
    fn with_flags(
        &mut self,
        mut operation: Operation,
        flags: &[(&str, usize, usize)],
    ) -> Operation {
        for (flag, times, of) in flags {
            if self.dice.chance(*times, *of) {
                operation.words.push((*flag).to_owned());
            }
        }
        operation
    }
}

fn operation(method: &str, words: &[&str]) -> Operation {
    Operation {
        method: method.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        fields: vec![],
    }
}

fn number(number: i64) -> Value {
    Value::Number(b'I', number)
}
