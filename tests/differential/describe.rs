//! What a broker sends, as text: the stream it belongs to, in which order matters, and everything it says but its
//! delivery tags.

use crate::encode::{Kind, PROPERTIES};
use crate::support::socket::Content;
use crate::value::{Reader, Value};
use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::channel::AMQPMethod as Channel;
use amq_protocol::protocol::queue::AMQPMethod as Queue;
use amq_protocol::protocol::{AMQPClass, connection};
use std::time::{SystemTime, UNIX_EPOCH};

/// A thing that came on a channel.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub(crate) struct Heard {
    /// Things of one stream come in an order that AMQP promises.
    pub(crate) stream: String,
    pub(crate) text: String,
}

/// A method as an answer or as what comes unasked. Acks and nacks of a publisher are the player's.
pub(crate) fn heard(method: &AMQPClass, content: Option<&Content>) -> Heard {
    let (stream, text) = match method {
        AMQPClass::Basic(Basic::Deliver(deliver)) => (
            format!("deliveries to {}", deliver.consumer_tag),
            format!(
                "basic.deliver {} {:?} {:?}{}",
                deliver.consumer_tag,
                deliver.exchange.as_str(),
                deliver.routing_key.as_str(),
                flag(deliver.redelivered, " redelivered")
            ),
        ),
        AMQPClass::Basic(Basic::Return(returned)) => (
            "returns".to_owned(),
            format!(
                "basic.return {} {} {:?} {:?}",
                returned.reply_code,
                returned.reply_text,
                returned.exchange.as_str(),
                returned.routing_key.as_str()
            ),
        ),
        AMQPClass::Basic(Basic::Cancel(cancel)) => (
            format!("deliveries to {}", cancel.consumer_tag),
            format!("basic.cancel {}", cancel.consumer_tag),
        ),
        answer => ("answers".to_owned(), answer_text(answer)),
    };
    let text = match content {
        Some(content) => format!("{text} {}", content_text(content)),
        None => text,
    };
    Heard { stream, text }
}

fn answer_text(answer: &AMQPClass) -> String {
    match answer {
        AMQPClass::Channel(Channel::Close(close)) => format!(
            "channel.close {} {} ({}, {})",
            close.reply_code,
            even_text(close.reply_text.as_str()),
            close.class_id,
            close.method_id
        ),
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => format!(
            "connection.close {} {} ({}, {})",
            close.reply_code, close.reply_text, close.class_id, close.method_id
        ),
        AMQPClass::Queue(Queue::DeclareOk(ok)) => format!(
            "queue.declare-ok {}: {} ready, {} consumers",
            ok.queue, ok.message_count, ok.consumer_count
        ),
        AMQPClass::Queue(Queue::DeleteOk(ok)) => format!("queue.delete-ok {}", ok.message_count),
        AMQPClass::Queue(Queue::PurgeOk(ok)) => format!("queue.purge-ok {}", ok.message_count),
        AMQPClass::Basic(Basic::ConsumeOk(ok)) => format!("basic.consume-ok {}", ok.consumer_tag),
        AMQPClass::Basic(Basic::CancelOk(ok)) => format!("basic.cancel-ok {}", ok.consumer_tag),
        AMQPClass::Basic(Basic::GetOk(ok)) => format!(
            "basic.get-ok {:?} {:?}{} ({} left)",
            ok.exchange.as_str(),
            ok.routing_key.as_str(),
            flag(ok.redelivered, " redelivered"),
            ok.message_count
        ),
        other => format!("{other:?}"),
    }
}

fn flag(is_set: bool, text: &str) -> &str {
    if is_set { text } else { "" }
}

/// Properties that are set, and the body.
fn content_text(content: &Content) -> String {
    let properties = properties(&content.properties);
    let properties = properties.unwrap_or_else(|| format!("PROPERTIES? {:?}", content.properties));
    format!("{properties}body \"{}\"", content.body.escape_ascii())
}

fn properties(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader(bytes);
    let flags = reader.number(2)?;
    let mut text = String::new();
    for (at, (name, kind)) in PROPERTIES.iter().enumerate() {
        if flags & (0x8000 >> at) == 0 {
            continue;
        }
        let value = match kind {
            Kind::Text => format!("{:?}", reader.short_text()?),
            Kind::Octet => reader.number(1)?.to_string(),
            Kind::Timestamp => Value::Timestamp(reader.number(8)?).to_string(),
            Kind::Table => {
                let table = reader.table()?;
                let was_empty = table.is_empty();
                let mut headers = Value::Table(table);
                normalize(&mut headers);
                if !was_empty && headers == Value::Table(Vec::new()) {
                    continue;
                }
                headers.to_string()
            }
        };
        text += &format!("{name}={value} ");
    }
    reader.0.is_empty().then_some(text)
}

/// The text of a close without the line breaks that Erlang puts into long terms, and without the kind of access that
/// newer RabbitMQ names: both are in COMPATIBILITY.md.
fn even_text(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').map(str::trim_start).collect();
    let kinds = ["configure", "write", "read"];
    kinds.iter().fold(lines.concat(), |text, kind| {
        text.replace(&format!("{kind} access to "), "access to ")
    })
}

/// Evens out what COMPATIBILITY.md lists for all messages: the order of a table's fields, `x-last-death-*`, an
/// `x-delivery-count` of 0. A time stamp of today is the broker's own, and becomes 0.
fn normalize(value: &mut Value) {
    const DAY: u64 = 86_400;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    match value {
        Value::Timestamp(time) if now.abs_diff(*time) < DAY => *time = 0,
        Value::Array(values) => values.iter_mut().for_each(normalize),
        Value::Table(table) => {
            table.retain(|(key, value)| {
                let is_uncounted = key == "x-delivery-count" && value.to_string() == "0i64";
                !key.starts_with("x-last-death-") && !is_uncounted
            });
            table.sort_by(|one, other| one.0.cmp(&other.0));
            table.iter_mut().for_each(|(_, value)| normalize(value));
        }
        _ => {}
    }
}
