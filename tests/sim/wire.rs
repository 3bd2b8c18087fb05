//! Frames, as a client writes and reads them.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue, tx};
use amq_protocol::types::{AMQPValue, FieldTable};
use leveret::amqp::content::{self, ContentHeader};
use leveret::amqp::frame::{self, FrameKind};
use leveret::amqp::method;
use leveret::amqp::table::TableWriter;

use crate::exchanges::{DEDUPLICATING, DELAYED};
use crate::letters::{Deaths, read_deaths};
use crate::rules::{Overflow, QueueRules, Stamp};

/// What our clients agree to.
pub(crate) const FRAME_MAX: u32 = 16 * 1024;

/// A message's body: its number, and so many bytes that follow from it.
pub(crate) fn body(message: u64, len: usize) -> Vec<u8> {
    let mut body = message.to_le_bytes().to_vec();
    body.resize(8 + len, (message as u8).wrapping_mul(31));
    body
}

/// The message that a body belongs to, and how much followed its number; none if it is nobody's.
pub(crate) fn read_body(body: &[u8]) -> Option<(u64, usize)> {
    let (number, rest) = body.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    let filler = (number as u8).wrapping_mul(31);
    rest.iter()
        .all(|byte| *byte == filler)
        .then_some((number, rest.len()))
}

pub(crate) fn queue_name(queue: usize) -> String {
    format!("q{queue}")
}

pub(crate) fn exchange_name(exchange: usize) -> String {
    if exchange == 0 {
        String::new()
    } else {
        format!("x{exchange}")
    }
}

/// A routing key, and the pattern that it alone matches.
pub(crate) fn key_name(exchange: usize, key: usize) -> String {
    if exchange == 0 {
        queue_name(key)
    } else {
        format!("k.{key}")
    }
}

pub(crate) fn put(out: &mut Vec<u8>, channel: u16, class: AMQPClass) {
    method::encode(out, channel, &class);
}

/// All that opens a connection and a channel, in one breath.
pub(crate) fn hello(heartbeat: u16) -> Vec<u8> {
    let mut out = frame::PROTOCOL_HEADER.to_vec();
    let mut capabilities = FieldTable::default();
    for name in ["consumer_cancel_notify", "publisher_confirms", "basic.nack"] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut client_properties = FieldTable::default();
    let capabilities = AMQPValue::FieldTable(capabilities);
    client_properties.insert("capabilities".into(), capabilities);
    let start_ok = connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties,
        mechanism: "PLAIN".into(),
        response: "\0guest\0guest".into(),
        locale: "en_US".into(),
    });
    let tune_ok = connection::AMQPMethod::TuneOk(connection::TuneOk {
        channel_max: 100,
        frame_max: FRAME_MAX,
        heartbeat,
    });
    let open = connection::AMQPMethod::Open(connection::Open {
        virtual_host: "/".into(),
    });
    for one in [start_ok, tune_ok, open] {
        put(&mut out, 0, AMQPClass::Connection(one));
    }
    out
}

pub(crate) fn open_channel(out: &mut Vec<u8>, channel: u16) {
    put(
        out,
        channel,
        AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
    );
}

pub(crate) fn select_confirms(out: &mut Vec<u8>) {
    let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
    put(out, 1, AMQPClass::Confirm(select));
}

pub(crate) fn transaction(out: &mut Vec<u8>, commit: bool) {
    let one = if commit {
        tx::AMQPMethod::Commit(tx::Commit {})
    } else {
        tx::AMQPMethod::Select(tx::Select {})
    };
    put(out, 1, AMQPClass::Tx(one));
}

pub(crate) fn qos(out: &mut Vec<u8>, prefetch_count: u16) {
    basic_method(
        out,
        1,
        basic::AMQPMethod::Qos(basic::Qos {
            prefetch_count,
            global: false,
        }),
    );
}

pub(crate) fn basic_method(out: &mut Vec<u8>, channel: u16, one: basic::AMQPMethod) {
    put(out, channel, AMQPClass::Basic(one));
}

pub(crate) fn publish(
    out: &mut Vec<u8>,
    channel: u16,
    (exchange, key): (usize, usize),
    (persistent, mandatory, stamp): (bool, bool, Stamp),
    body: &[u8],
) {
    let publish = basic::Publish {
        exchange: exchange_name(exchange).into(),
        routing_key: key_name(exchange, key).into(),
        mandatory,
        immediate: false,
    };
    basic_method(out, channel, basic::AMQPMethod::Publish(publish));
    let known_by = read_body(body).filter(|_| stamp.is_compared);
    let known_by = known_by.map(|(message, _)| message);
    content::write_header(
        out,
        channel,
        body.len() as u64,
        &properties(persistent, stamp, known_by),
    );
    content::write_body(out, channel, body, FRAME_MAX as usize - 8);
}

/// Headers, delivery mode, priority and expiration.
fn properties(persistent: bool, stamp: Stamp, known_by: Option<u64>) -> Vec<u8> {
    const HEADERS: u16 = 0x2000;
    const DELIVERY_MODE: u16 = 0x1000;
    const PRIORITY: u16 = 0x0800;
    const EXPIRATION: u16 = 0x0100;
    let (mut flags, mut values) = (DELIVERY_MODE, Vec::new());
    let mut headers = TableWriter::new();
    let numbers = [
        ("x-delay", stamp.delay_ms),
        ("x-deduplication-header", known_by),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            headers = headers.long(name, value as i64);
        }
    }
    let headers = headers.into_bytes();
    if !headers.is_empty() {
        flags |= HEADERS;
        values.extend((headers.len() as u32).to_be_bytes());
        values.extend(headers);
    }
    values.push(1 + u8::from(persistent));
    if let Some(priority) = stamp.priority {
        flags |= PRIORITY;
        values.push(priority);
    }
    if let Some(ttl_ms) = stamp.ttl_ms {
        let text = ttl_ms.to_string();
        flags |= EXPIRATION;
        values.push(text.len() as u8);
        values.extend(text.bytes());
    }
    [flags.to_be_bytes().to_vec(), values].concat()
}

pub(crate) fn consume(out: &mut Vec<u8>, channel: u16, queue: usize, tag: &str, no_ack: bool) {
    let consume = basic::Consume {
        queue: queue_name(queue).into(),
        consumer_tag: tag.into(),
        no_ack,
        ..basic::Consume::default()
    };
    basic_method(out, channel, basic::AMQPMethod::Consume(consume));
}

pub(crate) fn declare_queue(out: &mut Vec<u8>, queue: usize, durable: bool, rules: QueueRules) {
    let declare = queue::Declare {
        queue: queue_name(queue).into(),
        durable,
        arguments: arguments(rules),
        ..queue::Declare::default()
    };
    put(
        out,
        1,
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)),
    );
}

fn arguments(rules: QueueRules) -> FieldTable {
    let mut arguments = FieldTable::default();
    let letters = rules.dead_letters;
    let letters_to = letters.map(|(exchange, _)| exchange_name(exchange));
    let letters_as = letters.map(|(exchange, key)| key_name(exchange, key));
    let overflow = match rules.overflow {
        Overflow::DropsHead => None,
        Overflow::RefusesToLetters => Some("reject-publish-dlx"),
        Overflow::Refuses => Some("reject-publish"),
    };
    let keeps = rules.keeps_letters();
    for (name, value) in [
        ("x-dead-letter-exchange", letters_to.as_deref()),
        ("x-dead-letter-routing-key", letters_as.as_deref()),
        ("x-overflow", overflow),
        ("x-queue-type", keeps.then_some("quorum")),
        ("x-dead-letter-strategy", keeps.then_some("at-least-once")),
    ] {
        if let Some(value) = value {
            arguments.insert(name.into(), AMQPValue::LongString(value.into()));
        }
    }
    let numbers = [
        ("x-message-ttl", rules.ttl_ms),
        ("x-max-length", rules.max_length),
        ("x-delivery-limit", rules.delivery_limit),
        ("x-max-priority", rules.max_priority.map(u64::from)),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            arguments.insert(name.into(), AMQPValue::LongLongInt(value as i64));
        }
    }
    arguments
}

/// A queue of the channel's own that everything comes to which an exchange lets go or pass, and a consumer.
pub(crate) fn wait_behind(out: &mut Vec<u8>, channel: u16, exchange: usize) {
    let queue = format!("behind {channel}");
    let declare = queue::AMQPMethod::Declare(queue::Declare {
        queue: queue.as_str().into(),
        ..queue::Declare::default()
    });
    let bind = queue::AMQPMethod::Bind(queue::Bind {
        queue: queue.as_str().into(),
        exchange: exchange_name(exchange).into(),
        ..queue::Bind::default()
    });
    for one in [declare, bind] {
        put(out, channel, AMQPClass::Queue(one));
    }
    let consume = basic::Consume {
        queue: queue.into(),
        no_ack: true,
        ..basic::Consume::default()
    };
    basic_method(out, channel, basic::AMQPMethod::Consume(consume));
}

pub(crate) fn delete_queue(out: &mut Vec<u8>, queue: usize) {
    let delete = queue::Delete {
        queue: queue_name(queue).into(),
        ..queue::Delete::default()
    };
    put(out, 1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete)));
}

pub(crate) fn purge_queue(out: &mut Vec<u8>, queue: usize) {
    let purge = queue::Purge {
        queue: queue_name(queue).into(),
        nowait: false,
    };
    put(out, 1, AMQPClass::Queue(queue::AMQPMethod::Purge(purge)));
}

pub(crate) fn bind(out: &mut Vec<u8>, (exchange, key, queue): (usize, usize, usize), binds: bool) {
    let (queue, exchange_name) = (queue_name(queue).into(), exchange_name(exchange).into());
    let routing_key = key_name(exchange, key).into();
    let one = if binds {
        queue::AMQPMethod::Bind(queue::Bind {
            queue,
            exchange: exchange_name,
            routing_key,
            ..queue::Bind::default()
        })
    } else {
        queue::AMQPMethod::Unbind(queue::Unbind {
            queue,
            exchange: exchange_name,
            routing_key,
            arguments: FieldTable::default(),
        })
    };
    put(out, 1, AMQPClass::Queue(one));
}

pub(crate) fn declare_exchange(
    out: &mut Vec<u8>,
    channel: u16,
    exchange: usize,
    kind: &str,
    (durable, passive): (bool, bool),
) {
    let mut arguments = FieldTable::default();
    if kind == DELAYED {
        let name = AMQPValue::LongString("fanout".into());
        arguments.insert("x-delayed-type".into(), name);
    }
    if kind == DEDUPLICATING {
        // More than there ever are.
        let size = AMQPValue::LongInt(100_000);
        arguments.insert("x-cache-size".into(), size);
    }
    let declare = exchange::Declare {
        exchange: exchange_name(exchange).into(),
        kind: kind.into(),
        durable,
        passive,
        arguments,
        ..exchange::Declare::default()
    };
    put(
        out,
        channel,
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)),
    );
}

/// What the broker says: a method, with its content if it has one.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) channel: u16,
    pub(crate) method: AMQPClass,
    pub(crate) body: Vec<u8>,
    /// How the content has died so far.
    pub(crate) deaths: Deaths,
}

/// Puts what a socket brings together.
#[derive(Default)]
pub(crate) struct Ear {
    bytes: Vec<u8>,
    /// A method whose content is coming, and how much of that is missing.
    partial: Option<(Heard, u64)>,
}

impl Ear {
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Everything that is complete.
    pub(crate) fn take(&mut self) -> Result<Vec<Heard>, String> {
        let mut heard = Vec::new();
        let mut at = 0;
        loop {
            let split = frame::split(&self.bytes[at..], FRAME_MAX);
            let Some(one) =
                split.map_err(|error| format!("the broker sent no frame: {error:?}"))?
            else {
                break;
            };
            let raw = &self.bytes[at..at + one.size()];
            at += one.size();
            match (one.kind, self.partial.take()) {
                (FrameKind::Method, None) => {
                    let Ok((_, AMQPFrame::Method(channel, method))) = parse_frame(raw) else {
                        return Err(format!("the broker sent no method: {raw:?}"));
                    };
                    let has_content = matches!(
                        &method,
                        AMQPClass::Basic(
                            basic::AMQPMethod::Deliver(_)
                                | basic::AMQPMethod::GetOk(_)
                                | basic::AMQPMethod::Return(_)
                        )
                    );
                    let one = Heard {
                        channel,
                        method,
                        body: Vec::new(),
                        deaths: Deaths::new(),
                    };
                    if has_content {
                        self.partial = Some((one, u64::MAX));
                    } else {
                        heard.push(one);
                    }
                }
                (FrameKind::Header, Some((mut method, u64::MAX))) => {
                    let header = ContentHeader::read(one.payload);
                    let header = header.map_err(|error| format!("no header: {error:?}"))?;
                    let deaths = read_deaths(header.properties);
                    method.deaths = deaths.ok_or("an x-death that no broker writes")?;
                    self.partial = Some((method, header.body_size));
                }
                (FrameKind::Body, Some((mut method, missing))) => {
                    method.body.extend_from_slice(one.payload);
                    let left = missing.checked_sub(one.payload.len() as u64);
                    let left = left.ok_or("a body is longer than announced")?;
                    self.partial = Some((method, left));
                }
                (FrameKind::Heartbeat, partial) => self.partial = partial,
                (kind, partial) => {
                    return Err(format!("a frame out of place: {kind:?} in {partial:?}"));
                }
            }
            if let Some((method, _)) = self.partial.take_if(|(_, missing)| *missing == 0) {
                heard.push(method);
            }
        }
        self.bytes.drain(..at);
        Ok(heard)
    }
}
