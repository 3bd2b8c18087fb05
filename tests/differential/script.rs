//! Scripts of operations, and the text they are written in and printed as.
//!
//! ```text
//! == a title                                       begins a script
//! # a comment
//! a1: queue.declare q1 durable x-expires=1000      connection a, channel 1: method, names, flags, arguments
//! a1: basic.publish "" q1 body mandatory expiration="50" h.key=1
//! b1: basic.ack #1 multiple                        the first of the deliveries that b1 hasn't settled
//! await ready q1 0                                 waits until q1 has no message ready
//! ```
//!
//! A name in double quotes may be empty or hold spaces; `$queue1`, `$tag1` and `$reply1` are the first name of its kind
//! that the server has made up. Connections a to c are guest's, m belongs to a user with few permissions.

use crate::value::{NUMBERS, Table, Value};
use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Script {
    pub(crate) title: String,
    /// Written by chance, not by hand.
    pub(crate) is_random: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Step {
    /// Something that a client sends.
    Send {
        connection: char,
        channel: u16,
        operation: Operation,
    },
    Await(Condition),
}

/// A method with what it is told.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Operation {
    /// `queue.declare`, or a word of the player's own such as `connection.cut`.
    pub(crate) method: String,
    /// What has to be said, in order, and then flags.
    pub(crate) words: Vec<String>,
    /// Arguments; of a publish, its properties, headers with `h.` before their name.
    pub(crate) fields: Table,
}

/// What a script waits for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Condition {
    /// So many messages are ready in the queue.
    Ready(String, u32),
    /// The queue is gone; it is asked for in a way that isn't a use of it.
    Gone(String),
    /// So many things have come since the step before.
    Heard(usize),
}

/// All scripts of a text, or the line that makes no sense.
pub(crate) fn parse(text: &str) -> Result<Vec<Script>, String> {
    let mut scripts: Vec<Script> = vec![];
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(title) = line.strip_prefix("== ") {
            scripts.push(Script {
                title: title.to_owned(),
                ..Script::default()
            });
        } else if !line.is_empty() && !line.starts_with('#') {
            if scripts.is_empty() {
                scripts.push(Script::default());
            }
            let step = parse_step(line).ok_or_else(|| format!("line {}: {line}", number + 1))?;
            scripts.extend_last(step);
        }
    }
    Ok(scripts)
}

trait ExtendLast {
    fn extend_last(&mut self, step: Step);
}

impl ExtendLast for Vec<Script> {
    fn extend_last(&mut self, step: Step) {
        let last = self.last_mut().expect("a script was begun");
        last.steps.push(step);
    }
}

fn parse_step(line: &str) -> Option<Step> {
    if let Some(condition) = line.strip_prefix("await ") {
        let words: Vec<_> = condition.split_whitespace().collect();
        return Some(Step::Await(match *words {
            ["ready", queue, count] => Condition::Ready(queue.to_owned(), count.parse().ok()?),
            ["gone", queue] => Condition::Gone(queue.to_owned()),
            ["heard", count] => Condition::Heard(count.parse().ok()?),
            _ => return None,
        }));
    }
    let (place, rest) = line.split_once(": ")?;
    let connection = place.chars().next()?;
    let channel = place[connection.len_utf8()..].parse().ok()?;
    let mut parser = Parser(rest.chars().peekable());
    let mut operation = Operation {
        method: parser.word()?,
        ..Operation::default()
    };
    while parser.skip_spaces() {
        let word = parser.word()?;
        if parser.0.next_if_eq(&'=').is_some() {
            operation.fields.push((word, parser.value()?));
        } else {
            operation.words.push(word);
        }
    }
    Some(Step::Send {
        connection,
        channel,
        operation,
    })
}

struct Parser<'a>(Peekable<Chars<'a>>);

impl Parser<'_> {
    /// False at the end of the line.
    fn skip_spaces(&mut self) -> bool {
        while self.0.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        self.0.peek().is_some()
    }

    /// A word up to a space or `=`, or a text in quotes.
    fn word(&mut self) -> Option<String> {
        if self.0.peek() == Some(&'"') {
            return String::from_utf8(self.quoted()?).ok();
        }
        Some(self.bare())
    }

    fn bare(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self
            .0
            .next_if(|c| !c.is_whitespace() && !"=,]}".contains(*c))
        {
            word.push(c);
        }
        word
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        self.0.next_if_eq(&'"')?;
        let mut bytes = vec![];
        loop {
            match self.0.next()? {
                '"' => return Some(bytes),
                '\\' => match self.0.next()? {
                    'x' => {
                        let digits: String = self.0.by_ref().take(2).collect();
                        bytes.push(u8::from_str_radix(&digits, 16).ok()?);
                    }
                    'n' => bytes.push(b'\n'),
                    'r' => bytes.push(b'\r'),
                    't' => bytes.push(b'\t'),
                    other => bytes.push(u8::try_from(other).ok()?),
                },
                other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        Some(match *self.0.peek()? {
            '"' => Value::Text(self.quoted()?),
            '[' => {
                self.0.next();
                let mut values = vec![];
                while self.skip_spaces() && self.0.next_if_eq(&']').is_none() {
                    values.push(self.value()?);
                }
                Value::Array(values)
            }
            '{' => {
                self.0.next();
                let mut table = vec![];
                while self.skip_spaces() && self.0.next_if_eq(&'}').is_none() {
                    let key = self.word()?;
                    self.0.next_if_eq(&'=')?;
                    table.push((key, self.value()?));
                }
                Value::Table(table)
            }
            'x' => {
                self.0.next();
                Value::Bytes(self.quoted()?)
            }
            _ => bare_value(&self.bare())?,
        })
    }
}

fn bare_value(word: &str) -> Option<Value> {
    match word {
        "true" => return Some(Value::Boolean(true)),
        "false" => return Some(Value::Boolean(false)),
        "void" => return Some(Value::Void),
        _ => {}
    }
    if let Some(seconds) = word.strip_prefix('@') {
        return Some(Value::Timestamp(seconds.parse().ok()?));
    }
    if let Some(float) = word.strip_suffix("f32") {
        return Some(Value::Float(float.parse().ok()?));
    }
    if let Some((scale, number)) = word.split_once('d') {
        return Some(Value::Decimal(scale.parse().ok()?, number.parse().ok()?));
    }
    if word.contains(['.', 'e', 'N']) {
        return Some(Value::Double(word.parse().ok()?));
    }
    let end = word.find(['i', 'u']).unwrap_or(word.len());
    let (kind, ..) = NUMBERS
        .iter()
        .find(|(_, suffix, _)| *suffix == &word[end..])?;
    Some(Value::Number(*kind, word[..end].parse().ok()?))
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "== {}", self.title)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send {
                connection,
                channel,
                operation,
            } => write!(f, "{connection}{channel}: {operation}"),
            Self::Await(Condition::Ready(queue, count)) => write!(f, "await ready {queue} {count}"),
            Self::Await(Condition::Gone(queue)) => write!(f, "await gone {queue}"),
            Self::Await(Condition::Heard(count)) => write!(f, "await heard {count}"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.method)?;
        for word in &self.words {
            let is_plain = !word.is_empty()
                && !word.contains([' ', '"', '=', ',', '\\', '\n', '\r', ']', '}']);
            if is_plain {
                write!(f, " {word}")?;
            } else {
                write!(f, " \"{}\"", word.as_bytes().escape_ascii())?;
            }
        }
        for (key, value) in &self.fields {
            write!(f, " {key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_was_read() {
        let text = concat!(
            "== one\n",
            "a1: queue.declare q1 durable x-expires=1000 x-a=[1i64, \"b\", {k=void}] x-d=-1.5\n",
            "b2: basic.publish \"\" \"a b\" body expiration=\"50\" h.CC=[\"q2\"] h.t=@5 h.x=x\"\\x00\" h.n=2d5\n",
            "await ready q1 0\n",
            "== two\n",
            "await gone q1\n",
        );
        let scripts = parse(text).expect("it is sound");
        let printed: String = scripts.iter().map(Script::to_string).collect();
        assert_eq!(printed, text);
    }

    #[test]
    fn a_line_without_sense_is_named() {
        let error =
            parse("a1: queue.declare q1\nqueue.declare q1\n").expect_err("no place is named");
        assert_eq!(error, "line 2: queue.declare q1");
    }
}
