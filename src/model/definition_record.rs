//! The words of the definition log: what a change means for the durable part of the topology, told in
//! names, because ids differ from one run to the next. The log itself takes records for opaque bytes
//! and keeps checksums of its own; here they are made, written and read.
//!
//! ```text
//! queue          | 1 | incarnation | owner | flags | vhost | name | arguments |
//!                | 1 |      8      |   2   |   1   |  1+n  | 1+n  |    4+n    |
//!                +---+-------------+-------+-------+-------+------+-----------+
//! exchange       | 2 | flags | vhost | name | type | arguments |
//!                | 1 |   1   |  1+n  | 1+n  | 1+n  |    4+n    |
//!                +---+-------+-------+------+------+-----------+
//! binding        | 3 | leads to | vhost | source | destination | routing key | arguments |
//! binding gone   | 6 |          |       |        |             |             |           |
//!                | 1 |    1     |  1+n  |  1+n   |     1+n     |     1+n     |    4+n    |
//!                +---+----------+-------+--------+-------------+-------------+-----------+
//! queue gone     | 4 | vhost | name |
//! exchange gone  | 5 |       |      |
//!                | 1 |  1+n  | 1+n  |
//!                +---+-------+------+
//! counter        | 7 | next incarnation |
//!                | 1 |        8         |
//!                +---+------------------+
//! administered   | 8 | category | an object of RabbitMQ's definitions.json |
//!                | 1 |    1     |                  4+n                     |
//!                +---+----------+------------------------------------------+
//! policy gone    | 9 | category | vhost | name |
//!                | 1 |    1     |  1+n  | 1+n  |
//!                +---+----------+-------+------+
//! ```
//!
//! Numbers are little-endian. 1+n: the length of a text in one byte, then the text. 4+n: the length of
//! a table in four bytes, then its fields; or of an object, then its JSON. Flags: 1 auto-delete, 2
//! internal (exchanges only). Leads to: 0 a queue, 1 an exchange. Category: 1 vhost, 2 user,
//! 3 permission, 4 topic permission, 5 parameter, 6 global parameter, 7 policy, 8 operator policy. The
//! first byte of a record is never 0, so zeroed bytes are none.

mod administered;

use std::fmt;

use thiserror::Error;

use crate::amqp::error::ConnectionError;
use crate::base::{CoreId, Name};
use crate::model::administration::Administered;
use crate::model::arguments::Arguments;
use crate::model::definition::{
    Binding, Change, Destination, ExchangeDefinition, ExchangeKind, QueueDefinition,
};
use crate::model::policy::PolicyKind;
use crate::model::topology::Topology;

/// One step of the durable part of the topology. A thing that is there already is replaced by its
/// record, so writing one twice does no harm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DefinitionRecord {
    /// There is this queue.
    Queue(DurableQueue),
    /// There is this exchange. The predeclared ones have no records.
    Exchange(DurableExchange),
    /// There is this binding.
    Binding(DurableBinding),
    /// A queue went, and the bindings that lead to it.
    QueueGone {
        /// The vhost it lived in.
        vhost: Name,
        /// Its name.
        name: Name,
    },
    /// An exchange went, and the bindings from it and to it.
    ExchangeGone {
        /// The vhost it lived in.
        vhost: Name,
        /// Its name.
        name: Name,
    },
    /// A binding went.
    BindingGone(DurableBinding),
    /// Queues that are gone have had numbers too, which nobody else may get: written when their records
    /// are dropped.
    Counter {
        /// The lowest incarnation that no queue has or had.
        next_incarnation: u64,
    },
    /// An administrator defined this.
    Administered(Administered),
    /// An administrator took a policy away.
    PolicyGone {
        /// Whose it was.
        kind: PolicyKind,
        /// Where it was.
        vhost: Name,
        /// Its name.
        name: Name,
    },
}

/// A durable queue, as it was declared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DurableQueue {
    /// As [`QueueDefinition::incarnation`].
    pub incarnation: u64,
    /// The vhost it lives in.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// The core that holds its messages, of as many as there were at the time.
    pub owner: CoreId,
    /// As declared.
    pub arguments: Arguments,
}

/// A durable exchange, as it was declared. Its alternate stands in its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DurableExchange {
    /// The vhost it lives in.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// How it routes; written by its name in `exchange.declare`.
    pub kind: ExchangeKind,
    /// Whether it goes with the last binding that it is the source of.
    pub auto_delete: bool,
    /// Whether clients may not publish to it.
    pub internal: bool,
    /// As declared.
    pub arguments: Arguments,
}

/// A binding between two that are durable. Two are the same if all parts are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DurableBinding {
    /// The vhost of both ends.
    pub vhost: Name,
    /// The exchange that messages come from.
    pub source: Name,
    /// Where they go.
    pub destination: DurableDestination,
    /// The key or the pattern.
    pub routing_key: Name,
    /// What a headers exchange compares with; other kinds only tell bindings apart by them.
    pub arguments: Arguments,
}

/// Where a binding leads, by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DurableDestination {
    /// To the queue of that name.
    Queue(Name),
    /// To the exchange of that name.
    Exchange(Name),
}

/// Why some bytes are no record. The log's checksums were right, so they were written so.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MalformedRecord {
    /// Perhaps of a later version.
    #[error("a definition record of the unknown kind {0}")]
    UnknownKind(u8),
    /// Bytes are missing.
    #[error("a definition record ends before or within its {0}")]
    Truncated(&'static str),
    /// Bytes are left over.
    #[error("a definition record has {0} bytes too many")]
    TooLong(usize),
    /// A text isn't one.
    #[error("the {0} in a definition record is not UTF-8")]
    NotUtf8(&'static str),
    /// A byte that says one of a few things says none of them.
    #[error("a definition record has {value} for its {part}")]
    UnknownValue {
        /// What the byte stands for.
        part: &'static str,
        /// The byte.
        value: u8,
    },
    /// Perhaps of a later version.
    #[error("a definition record has the unknown exchange type '{0}'")]
    UnknownExchangeKind(Name),
    /// The arguments aren't a table.
    #[error("the arguments in a definition record are no table: {0}")]
    InvalidArguments(ConnectionError),
    /// The object isn't what its category says.
    #[error("the object in a definition record: {0}")]
    InvalidObject(String),
}

const QUEUE: u8 = 1;
const EXCHANGE: u8 = 2;
const BINDING: u8 = 3;
const QUEUE_GONE: u8 = 4;
const EXCHANGE_GONE: u8 = 5;
const BINDING_GONE: u8 = 6;
const COUNTER: u8 = 7;
const ADMINISTERED: u8 = 8;
const POLICY_GONE: u8 = 9;

const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 2;

const TO_QUEUE: u8 = 0;
const TO_EXCHANGE: u8 = 1;

/// What there is to tell.
impl DefinitionRecord {
    /// What a change means for the log, if anything: transient and exclusive queues, transient exchanges
    /// and bindings with such an end are not written down. `topology` is as before the change.
    pub fn of(change: &Change, topology: &Topology) -> Option<Self> {
        Some(match change {
            Change::CreateQueue { definition, .. } => {
                Self::Queue(DurableQueue::of(definition, topology)?)
            }
            Change::TouchQueue { .. } => return None,
            Change::DeleteQueue { id } => {
                let queue = DurableQueue::of(topology.queue(*id)?, topology)?;
                let (vhost, name) = (queue.vhost, queue.name);
                Self::QueueGone { vhost, name }
            }
            Change::CreateExchange { definition, .. } => {
                Self::Exchange(DurableExchange::of(definition, topology)?)
            }
            Change::DeleteExchange { id } => {
                let exchange = DurableExchange::of(topology.exchange(*id)?, topology)?;
                let (vhost, name) = (exchange.vhost, exchange.name);
                Self::ExchangeGone { vhost, name }
            }
            Change::Bind(binding) => Self::Binding(DurableBinding::of(binding, topology)?),
            Change::Unbind(binding) => Self::BindingGone(DurableBinding::of(binding, topology)?),
            Change::SetPolicy { kind, policy } => {
                Self::Administered(Administered::policy(*kind, policy.clone()))
            }
            Change::ClearPolicy { kind, vhost, name } => Self::PolicyGone {
                kind: *kind,
                vhost: vhost.clone(),
                name: name.clone(),
            },
        })
    }
}

impl DurableQueue {
    /// `None` for a queue that isn't durable.
    pub(super) fn of(definition: &QueueDefinition, topology: &Topology) -> Option<Self> {
        definition.durable.then(|| Self {
            incarnation: definition.incarnation,
            vhost: topology.vhost_name(definition.vhost).clone(),
            name: definition.name.clone(),
            auto_delete: definition.auto_delete,
            owner: definition.owner,
            arguments: definition.arguments.clone(),
        })
    }
}

impl DurableExchange {
    /// `None` for an exchange that isn't durable.
    pub(super) fn of(definition: &ExchangeDefinition, topology: &Topology) -> Option<Self> {
        definition.durable.then(|| Self {
            vhost: topology.vhost_name(definition.vhost).clone(),
            name: definition.name.clone(),
            kind: definition.kind,
            auto_delete: definition.auto_delete,
            internal: definition.internal,
            arguments: definition.arguments.clone(),
        })
    }
}

impl DurableBinding {
    /// `None` for a binding with an end that isn't durable.
    pub(super) fn of(binding: &Binding, topology: &Topology) -> Option<Self> {
        let exchange_at = |id| topology.exchange(id).filter(|exchange| exchange.durable);
        let source = exchange_at(binding.source)?;
        let destination = match binding.destination {
            Destination::Queue(id) => {
                let queue = topology.queue(id).filter(|queue| queue.durable)?;
                DurableDestination::Queue(queue.name.clone())
            }
            Destination::Exchange(id) => {
                DurableDestination::Exchange(exchange_at(id)?.name.clone())
            }
        };
        Some(Self {
            vhost: topology.vhost_name(source.vhost).clone(),
            source: source.name.clone(),
            destination,
            routing_key: binding.routing_key.clone(),
            arguments: binding.arguments.clone(),
        })
    }
}

/// Writing.
impl DefinitionRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Queue(queue) => {
                out.push(QUEUE);
                out.extend_from_slice(&queue.incarnation.to_le_bytes());
                out.extend_from_slice(&queue.owner.0.to_le_bytes());
                out.push(flag(queue.auto_delete, AUTO_DELETE));
                put_text(out, queue.vhost.as_str());
                put_text(out, queue.name.as_str());
                put_arguments(out, &queue.arguments);
            }
            Self::Exchange(exchange) => {
                out.push(EXCHANGE);
                out.push(
                    flag(exchange.auto_delete, AUTO_DELETE) | flag(exchange.internal, INTERNAL),
                );
                put_text(out, exchange.vhost.as_str());
                put_text(out, exchange.name.as_str());
                put_text(out, exchange.kind.name());
                put_arguments(out, &exchange.arguments);
            }
            Self::Binding(binding) => put_binding(out, BINDING, binding),
            Self::QueueGone { vhost, name } => {
                out.push(QUEUE_GONE);
                put_text(out, vhost.as_str());
                put_text(out, name.as_str());
            }
            Self::ExchangeGone { vhost, name } => {
                out.push(EXCHANGE_GONE);
                put_text(out, vhost.as_str());
                put_text(out, name.as_str());
            }
            Self::BindingGone(binding) => put_binding(out, BINDING_GONE, binding),
            Self::Counter { next_incarnation } => {
                out.push(COUNTER);
                out.extend_from_slice(&next_incarnation.to_le_bytes());
            }
            Self::Administered(thing) => administered::put(out, thing),
            Self::PolicyGone { kind, vhost, name } => {
                out.extend_from_slice(&[POLICY_GONE, administered::category(*kind)]);
                put_text(out, vhost.as_str());
                put_text(out, name.as_str());
            }
        }
    }
}

fn flag(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

fn put_binding(out: &mut Vec<u8>, kind: u8, binding: &DurableBinding) {
    let (leads_to, destination) = match &binding.destination {
        DurableDestination::Queue(name) => (TO_QUEUE, name),
        DurableDestination::Exchange(name) => (TO_EXCHANGE, name),
    };
    out.extend_from_slice(&[kind, leads_to]);
    put_text(out, binding.vhost.as_str());
    put_text(out, binding.source.as_str());
    put_text(out, destination.as_str());
    put_text(out, binding.routing_key.as_str());
    put_arguments(out, &binding.arguments);
}

/// Of at most 255 bytes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("a name is a short string"));
    out.extend_from_slice(text.as_bytes());
}

fn put_arguments(out: &mut Vec<u8>, arguments: &Arguments) {
    let bytes = arguments.table().as_bytes();
    let length = u32::try_from(bytes.len()).expect("a table fits into a frame");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reading.
impl DefinitionRecord {
    /// Reads what [`DefinitionRecord::encode`] has written, and all of it.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedRecord> {
        let mut reader = Reader(bytes);
        let record = match reader.byte("kind")? {
            QUEUE => Self::Queue(reader.queue()?),
            EXCHANGE => Self::Exchange(reader.exchange()?),
            BINDING => Self::Binding(reader.binding()?),
            QUEUE_GONE => Self::QueueGone {
                vhost: reader.name("vhost")?,
                name: reader.name("queue name")?,
            },
            EXCHANGE_GONE => Self::ExchangeGone {
                vhost: reader.name("vhost")?,
                name: reader.name("exchange name")?,
            },
            BINDING_GONE => Self::BindingGone(reader.binding()?),
            COUNTER => Self::Counter {
                next_incarnation: u64::from_le_bytes(reader.array("next incarnation")?),
            },
            ADMINISTERED => Self::Administered(reader.administered()?),
            POLICY_GONE => Self::PolicyGone {
                kind: reader.policy_kind()?,
                vhost: reader.name("vhost")?,
                name: reader.name("policy name")?,
            },
            kind => return Err(MalformedRecord::UnknownKind(kind)),
        };
        match reader.0.len() {
            0 => Ok(record),
            left => Err(MalformedRecord::TooLong(left)),
        }
    }
}

/// What is left of a record. The names of parts are for the errors.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn queue(&mut self) -> Result<DurableQueue, MalformedRecord> {
        let incarnation = u64::from_le_bytes(self.array("incarnation")?);
        let owner = CoreId(u16::from_le_bytes(self.array("owner")?));
        let flags = self.flags(AUTO_DELETE)?;
        Ok(DurableQueue {
            incarnation,
            vhost: self.name("vhost")?,
            name: self.name("queue name")?,
            auto_delete: flags & AUTO_DELETE != 0,
            owner,
            arguments: self.arguments()?,
        })
    }

    fn exchange(&mut self) -> Result<DurableExchange, MalformedRecord> {
        let flags = self.flags(AUTO_DELETE | INTERNAL)?;
        let (vhost, name) = (self.name("vhost")?, self.name("exchange name")?);
        let kind = self.name("exchange type")?;
        Ok(DurableExchange {
            vhost,
            name,
            kind: ExchangeKind::from_name(kind.as_str())
                .ok_or(MalformedRecord::UnknownExchangeKind(kind))?,
            auto_delete: flags & AUTO_DELETE != 0,
            internal: flags & INTERNAL != 0,
            arguments: self.arguments()?,
        })
    }

    fn binding(&mut self) -> Result<DurableBinding, MalformedRecord> {
        let part = "kind of destination";
        let leads_to = match self.byte(part)? {
            TO_QUEUE => DurableDestination::Queue,
            TO_EXCHANGE => DurableDestination::Exchange,
            value => return Err(MalformedRecord::UnknownValue { part, value }),
        };
        Ok(DurableBinding {
            vhost: self.name("vhost")?,
            source: self.name("source")?,
            destination: leads_to(self.name("destination")?),
            routing_key: self.name("routing key")?,
            arguments: self.arguments()?,
        })
    }

    fn flags(&mut self, known: u8) -> Result<u8, MalformedRecord> {
        let part = "flags";
        match self.byte(part)? {
            value if value & !known != 0 => Err(MalformedRecord::UnknownValue { part, value }),
            flags => Ok(flags),
        }
    }

    fn name(&mut self, part: &'static str) -> Result<Name, MalformedRecord> {
        let length = self.byte(part)?;
        let bytes = self.take(usize::from(length), part)?;
        let text = std::str::from_utf8(bytes).map_err(|_| MalformedRecord::NotUtf8(part))?;
        Ok(Name::from(text))
    }

    fn arguments(&mut self) -> Result<Arguments, MalformedRecord> {
        let part = "arguments";
        let length = u32::from_le_bytes(self.array(part)?);
        let bytes = self.take(length as usize, part)?;
        Arguments::parse(bytes).map_err(MalformedRecord::InvalidArguments)
    }

    fn byte(&mut self, part: &'static str) -> Result<u8, MalformedRecord> {
        self.array(part).map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], MalformedRecord> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or(MalformedRecord::Truncated(part))?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, count: usize, part: &'static str) -> Result<&'a [u8], MalformedRecord> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(MalformedRecord::Truncated(part))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl fmt::Display for DurableQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue '{}' in vhost '{}'", self.name, self.vhost)
    }
}

impl fmt::Display for DurableExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exchange '{}' in vhost '{}'", self.name, self.vhost)
    }
}

impl fmt::Display for DurableBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, vhost, key) = (&self.source, &self.vhost, &self.routing_key);
        let (what, name) = match &self.destination {
            DurableDestination::Queue(name) => ("queue", name),
            DurableDestination::Exchange(name) => ("exchange", name),
        };
        write!(
            f,
            "binding '{key}' from exchange '{source}' to {what} '{name}' in vhost '{vhost}'"
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::table::TableWriter;
    use crate::base::{QueueId, SessionId, VhostId};

    fn name() -> impl Strategy<Value = Name> {
        prop_oneof![
            4 => ".{0,20}".prop_map(Name::from),
            1 => Just(Name::from("n".repeat(255))),
        ]
    }

    fn arguments() -> impl Strategy<Value = Arguments> {
        let field = ("[a-z-]{0,8}", any::<i64>(), proptest::option::of(".{0,9}"));
        proptest::collection::vec(field, 0..4).prop_map(|fields| {
            let mut table = TableWriter::new();
            for (name, number, text) in fields {
                table = match text {
                    Some(text) => {
                        let inner = TableWriter::new().long_string(&name, &text);
                        table.table(&name, &inner)
                    }
                    None => table.long(&name, number),
                };
            }
            Arguments::parse(&table.into_bytes()).expect("written by us")
        })
    }

    fn queue() -> impl Strategy<Value = DurableQueue> {
        let numbers = (any::<u64>(), any::<u16>(), any::<bool>());
        (numbers, name(), name(), arguments()).prop_map(|(numbers, vhost, name, arguments)| {
            let (incarnation, owner, auto_delete) = numbers;
            DurableQueue {
                incarnation,
                vhost,
                name,
                auto_delete,
                owner: CoreId(owner),
                arguments,
            }
        })
    }

    fn exchange() -> impl Strategy<Value = DurableExchange> {
        let kind = proptest::sample::select(&ExchangeKind::ALL[..]);
        let how = (kind, any::<bool>(), any::<bool>());
        (how, name(), name(), arguments()).prop_map(|(how, vhost, name, arguments)| {
            let (kind, auto_delete, internal) = how;
            DurableExchange {
                vhost,
                name,
                kind,
                auto_delete,
                internal,
                arguments,
            }
        })
    }

    fn binding() -> impl Strategy<Value = DurableBinding> {
        let destination = prop_oneof![
            name().prop_map(DurableDestination::Queue),
            name().prop_map(DurableDestination::Exchange),
        ];
        (name(), name(), destination, name(), arguments()).prop_map(
            |(vhost, source, destination, routing_key, arguments)| DurableBinding {
                vhost,
                source,
                destination,
                routing_key,
                arguments,
            },
        )
    }

    fn record() -> impl Strategy<Value = DefinitionRecord> {
        let gone = |record: fn((Name, Name)) -> DefinitionRecord| (name(), name()).prop_map(record);
        prop_oneof![
            queue().prop_map(DefinitionRecord::Queue),
            exchange().prop_map(DefinitionRecord::Exchange),
            binding().prop_map(DefinitionRecord::Binding),
            gone(|(vhost, name)| DefinitionRecord::QueueGone { vhost, name }),
            gone(|(vhost, name)| DefinitionRecord::ExchangeGone { vhost, name }),
            binding().prop_map(DefinitionRecord::BindingGone),
            any::<u64>()
                .prop_map(|next_incarnation| DefinitionRecord::Counter { next_incarnation }),
        ]
    }

    fn encoded(record: &DefinitionRecord) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_less_or_more(record in record()) {
            let mut bytes = encoded(&record);
            prop_assert_eq!(DefinitionRecord::decode(&bytes), Ok(record));
            for length in 0..bytes.len() {
                let cut = DefinitionRecord::decode(&bytes[..length]);
                prop_assert!(matches!(cut, Err(MalformedRecord::Truncated(_))), "{:?}", cut);
            }
            bytes.push(0);
            prop_assert_eq!(DefinitionRecord::decode(&bytes), Err(MalformedRecord::TooLong(1)));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_what_can_be_read_can_be_written(
            record in record(),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..5),
            noise in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut mutated = encoded(&record);
            for (at, byte) in changes {
                let at = at % mutated.len();
                mutated[at] = byte;
            }
            for bytes in [mutated, noise] {
                if let Ok(record) = DefinitionRecord::decode(&bytes) {
                    prop_assert_eq!(DefinitionRecord::decode(&encoded(&record)), Ok(record));
                }
            }
        }
    }

    #[test]
    fn the_bytes_of_a_queue_are_those_that_were_drawn() {
        let arguments = Arguments::parse(&TableWriter::new().bool("b", true).into_bytes());
        let record = DefinitionRecord::Queue(DurableQueue {
            incarnation: 0x0102,
            vhost: Name::from("/"),
            name: Name::from("qu"),
            auto_delete: true,
            owner: CoreId(3),
            arguments: arguments.expect("written by us"),
        });
        let expected = b"\x01\x02\x01\0\0\0\0\0\0\x03\0\x01\x01/\x02qu\x04\0\0\0\x01bt\x01";
        assert_eq!(encoded(&record), expected);
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        let cases: [(&[u8], &str); 9] = [
            (b"", "a definition record ends before or within its kind"),
            (b"\0", "a definition record of the unknown kind 0"),
            (
                b"\x04\x01/\x02q",
                "a definition record ends before or within its queue name",
            ),
            (
                b"\x05\x01/\x01\xff",
                "the exchange name in a definition record is not UTF-8",
            ),
            (b"\x02\x04", "a definition record has 4 for its flags"),
            (
                b"\x03\x02",
                "a definition record has 2 for its kind of destination",
            ),
            (
                b"\x02\0\x01/\x01x\x03odd\0\0\0\0",
                "a definition record has the unknown exchange type 'odd'",
            ),
            (
                b"\x07\x01\0\0\0\0\0\0\0..",
                "a definition record has 2 bytes too many",
            ),
            (
                b"\x02\0\x01/\x01x\x05topic\x02\0\0\0\x01b",
                "the arguments in a definition record are no table: ",
            ),
        ];
        for (bytes, text) in cases {
            let error = DefinitionRecord::decode(bytes).expect_err("malformed");
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }

    #[test]
    fn what_is_not_durable_leaves_no_record() {
        let mut topology = Topology::new(&[Name::from("/")], 1);
        let source = topology
            .exchange_by_name(VhostId(0), "amq.topic")
            .expect("predeclared");
        let create = |id: QueueId, durable: bool| Change::CreateQueue {
            id,
            definition: QueueDefinition {
                vhost: VhostId(0),
                name: Name::from(id.index.to_string()),
                durable,
                exclusive: (!durable).then_some(SessionId {
                    core: CoreId(0),
                    index: 0,
                    generation: 0,
                }),
                auto_delete: false,
                arguments: Arguments::default(),
                owner: CoreId(0),
                incarnation: u64::from(durable),
            },
        };
        for durable in [true, false] {
            let id = topology.vacant_queue_id();
            let binding = Binding {
                source,
                destination: Destination::Queue(id),
                routing_key: Name::from("key"),
                arguments: Arguments::default(),
            };
            let (bind, unbind) = (Change::Bind(binding.clone()), Change::Unbind(binding));
            let delete = Change::DeleteQueue { id };
            for change in [&create(id, durable), &bind, &unbind, &delete] {
                let record = DefinitionRecord::of(change, &topology);
                assert_eq!(record.is_some(), durable, "{change:?}");
                if *change != delete {
                    topology.apply(change);
                }
            }
            let touch = Change::TouchQueue { id };
            assert_eq!(DefinitionRecord::of(&touch, &topology), None);
        }
    }
}
