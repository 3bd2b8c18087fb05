//! What policies may ask for: their keys, the checks of their values with RabbitMQ's texts
//! (`rabbit_policies`), and what comes of a policy and a declaration that ask for the same thing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{PolicyFault, PolicyKind};
use crate::amqp::table::{TableWriter, Value};
use crate::base::Name;
use crate::base::name::SHORT_STRING_BYTES_MAX;
use crate::model::arguments::{Arguments, DEDUPLICATES, QueueArguments, QueueType};
use crate::model::exchange::deduplicating::{CACHE_PERSISTENCE, CACHE_SIZE, CACHE_TTL};
use crate::model::expiration::EXPIRY_MAX_MS;

/// What a policy asks for, by key.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PolicyRules(BTreeMap<&'static str, Setting>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Setting {
    Number(i64),
    Text(Arc<str>),
    Flag(bool),
}

/// One key that RabbitMQ knows.
struct Key {
    name: &'static str,
    check: Check,
    /// What a value is not if the check fails, or for keys of plugins what it must be.
    noun: &'static str,
    /// Bits of the types of queues that a policy with this key doesn't apply to.
    unfit_types: u8,
    for_operators: bool,
    has_effect: bool,
}

#[derive(Clone, Copy)]
enum Check {
    Anything,
    /// Names of exchanges and routing keys.
    ShortString,
    /// Whole numbers from so many up.
    AtLeast(i64),
    /// Milliseconds; more than a declaration may ask for counts as the most.
    Milliseconds(i64),
    OneOf(&'static [&'static str]),
    OneOrTwo,
    Age,
    Boolean,
}

const C: u8 = QueueType::Classic.bit();
const Q: u8 = QueueType::Quorum.bit();
const S: u8 = QueueType::Stream.bit();

const fn key(name: &'static str, check: Check, noun: &'static str, unfit_types: u8) -> Key {
    Key {
        name,
        check,
        noun,
        unfit_types,
        for_operators: false,
        has_effect: true,
    }
}

impl Key {
    const fn for_operators(self) -> Self {
        Self {
            for_operators: true,
            ..self
        }
    }

    /// Where to put replicas, how to store, or what RabbitMQ's plugins do changes nothing here.
    const fn without_effect(self) -> Self {
        Self {
            has_effect: false,
            ..self
        }
    }

    const fn ignored(name: &'static str, unfit_types: u8) -> Self {
        key(name, Check::Anything, "", unfit_types).without_effect()
    }

    fn fault(&self, value: &Json) -> PolicyFault {
        let (value, noun, name) = (erlang(value), self.noun, self.name);
        PolicyFault(match name.starts_with(PREFIX) {
            true => format!("'{name}' must be {noun}, got {value}"),
            false => format!("{value} is not a valid {noun}"),
        })
    }
}

const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
const DEAD_LETTER_EXCHANGE: &str = "dead-letter-exchange";
const DEAD_LETTER_ROUTING_KEY: &str = "dead-letter-routing-key";
const OVERFLOW: &str = "overflow";

/// RabbitMQ 4's, with those of classic mirroring (RabbitMQ 3) and of plugins, so that old definitions
/// can be taken over. Which types a key is unfit for is what their `capabilities` say. The plugin
/// `rabbitmq-message-deduplication` calls its keys as the arguments that they replace.
const KEYS: [Key; 42] = [
    key(
        ALTERNATE_EXCHANGE,
        Check::ShortString,
        "alternate exchange name",
        0,
    ),
    key(
        DEAD_LETTER_EXCHANGE,
        Check::ShortString,
        "dead letter exchange name",
        S,
    ),
    key(
        DEAD_LETTER_ROUTING_KEY,
        Check::ShortString,
        "dead letter routing key",
        S,
    ),
    key(
        "dead-letter-strategy",
        Check::OneOf(&["at-most-once", "at-least-once"]),
        "dead letter strategy",
        C | S,
    ),
    key("message-ttl", Check::Milliseconds(0), "message TTL", S).for_operators(),
    key("expires", Check::Milliseconds(1), "queue expiry", S).for_operators(),
    key("max-length", Check::AtLeast(0), "maximum length", S).for_operators(),
    key(
        "max-length-bytes",
        Check::AtLeast(0),
        "maximum length in bytes",
        0,
    )
    .for_operators(),
    key(
        "max-in-memory-length",
        Check::AtLeast(0),
        "maximum memory in bytes",
        S,
    )
    .for_operators()
    .without_effect(),
    key(
        "max-in-memory-bytes",
        Check::AtLeast(0),
        "maximum memory in bytes",
        S,
    )
    .for_operators()
    .without_effect(),
    key(
        "queue-mode",
        Check::OneOf(&["default", "lazy"]),
        "queue-mode value",
        Q | S,
    )
    .without_effect(),
    key(
        "queue-version",
        Check::OneOrTwo,
        "queue-version value",
        Q | S,
    )
    .for_operators()
    .without_effect(),
    key(
        OVERFLOW,
        Check::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
        "overflow value",
        S,
    )
    .for_operators(),
    key("delivery-limit", Check::AtLeast(0), "delivery limit", C | S).for_operators(),
    key(
        "consumer-timeout",
        Check::Milliseconds(0),
        "consumer timeout",
        S,
    ),
    key("max-age", Check::Age, "max age", C | Q).without_effect(),
    key(
        "stream-max-segment-size-bytes",
        Check::AtLeast(0),
        "segment size",
        C | Q,
    )
    .without_effect(),
    key(
        "stream-filter-size-bytes",
        Check::AtLeast(16),
        "filter size",
        C | Q,
    )
    .without_effect(),
    key(
        "queue-leader-locator",
        Check::OneOf(&["client-local", "balanced", "random", "least-leaders"]),
        "queue leader locator value",
        0,
    )
    .without_effect(),
    key("initial-cluster-size", Check::AtLeast(0), "cluster size", C).without_effect(),
    key(
        "target-group-size",
        Check::AtLeast(1),
        "target count for replicas",
        C,
    )
    .for_operators()
    .without_effect(),
    key(DEDUPLICATES, Check::Boolean, "a boolean", 0),
    key(
        CACHE_SIZE,
        Check::AtLeast(1),
        "an integer greater than 0",
        0,
    ),
    key(
        CACHE_TTL,
        Check::Milliseconds(1),
        "an integer greater than 0",
        0,
    ),
    key(
        CACHE_PERSISTENCE,
        Check::OneOf(&["disk", "memory"]),
        "either 'disk' or 'memory'",
        0,
    ),
    Key::ignored("consumer-disconnected-timeout", C | S),
    Key::ignored("delayed-retry-type", C | S).for_operators(),
    Key::ignored("delayed-retry-min", C | S).for_operators(),
    Key::ignored("delayed-retry-max", C | S).for_operators(),
    Key::ignored("member-placement-tag", C),
    Key::ignored("queue-master-locator", Q | S),
    Key::ignored("ha-mode", Q | S),
    Key::ignored("ha-params", Q | S),
    Key::ignored("ha-sync-mode", Q | S),
    Key::ignored("ha-sync-batch-size", Q | S),
    Key::ignored("ha-promote-on-shutdown", Q | S),
    Key::ignored("ha-promote-on-failure", Q | S),
    Key::ignored("federation-upstream", 0),
    Key::ignored("federation-upstream-set", 0),
    Key::ignored("federation-upstream-pattern", 0),
    Key::ignored("shards-per-node", 0),
    Key::ignored("routing-key", 0),
];

impl PolicyRules {
    /// Reads a definition, and which types of queues have no use for one of its keys.
    pub(super) fn parse(kind: PolicyKind, definition: &Json) -> Result<(Self, u8), PolicyFault> {
        let Json::Object(definition) = definition else {
            let text = format!("definition must be a dictionary: {}", erlang(definition));
            return Err(PolicyFault(text));
        };
        if definition.is_empty() {
            return Err(PolicyFault("no policy provided".to_owned()));
        }
        let (mut rules, mut unfit_types) = (Self::default(), 0);
        let mut unknown = Vec::new();
        for (name, value) in definition {
            let known = KEYS
                .iter()
                .filter(|key| key.for_operators || kind == PolicyKind::User)
                .find(|key| key.name == name);
            let Some(key) = known else {
                unknown.push(format!("{{<<\"{name}\">>,{}}}", erlang(value)));
                continue;
            };
            let setting = key.check.read(value).ok_or_else(|| key.fault(value))?;
            unfit_types |= key.unfit_types;
            if let (Some(setting), true) = (setting, key.has_effect) {
                rules.0.insert(key.name, setting);
            }
        }
        if unknown.is_empty() {
            return Ok((rules, unfit_types));
        }
        Err(PolicyFault(format!(
            "[{}] are not recognised policy settings",
            unknown.join(",")
        )))
    }

    /// Users' and operators' rules together: of two numbers the lower, else the operators' word.
    pub(super) fn joined_with(mut self, operators: Self) -> Self {
        for (name, theirs) in operators.0 {
            let setting = match (self.0.get(name), theirs) {
                (Some(Setting::Number(ours)), Setting::Number(theirs)) => {
                    Setting::Number(theirs.min(*ours))
                }
                (_, theirs) => theirs,
            };
            self.0.insert(name, setting);
        }
        self
    }

    /// Where an exchange's unroutable messages go, unless its declaration says so.
    pub fn alternate_exchange(&self) -> Option<Name> {
        match self.0.get(ALTERNATE_EXCHANGE)? {
            Setting::Text(name) => Some(Name::from(&**name)),
            Setting::Number(_) | Setting::Flag(_) => None,
        }
    }

    /// What a deduplicating exchange is to remember, if it was declared with these arguments: the plugin has
    /// policies replace them.
    pub fn replacing_cache(&self, declared: &Arguments) -> Arguments {
        let replaces = |name: &str| {
            let is_of_cache = [CACHE_SIZE, CACHE_TTL, CACHE_PERSISTENCE].contains(&name);
            self.0.get(name).filter(|_| is_of_cache)
        };
        let mut replaced = TableWriter::new();
        for (name, value) in declared.table().fields() {
            if let Ok(name) = std::str::from_utf8(name)
                && replaces(name).is_none()
            {
                replaced = replaced.field(name, value);
            }
        }
        for name in self.0.keys() {
            replaced = match replaces(name) {
                Some(setting) => setting.write(name, replaced),
                None => replaced,
            };
        }
        Arguments::parse(&replaced.into_bytes()).expect("fields of a checked table and our own")
    }

    /// A queue's arguments as if they had been declared with these rules in mind: of two numbers the
    /// lower counts, and otherwise the declaration, but for the overflow of a quorum queue
    /// (`rabbit_queue_type_util:args_policy_lookup` and who asks it), and for what the plugin compares.
    pub fn merged_with(&self, declared: &Arguments) -> Arguments {
        if self.0.is_empty() {
            return declared.clone();
        }
        let queue_type = QueueArguments::parse(declared)
            .map(|arguments| arguments.queue_type)
            .unwrap_or_default();
        let is_quorum = queue_type == QueueType::Quorum;
        let takes = |key: &str| {
            let mut known = queue_type.compared_arguments();
            key == DEDUPLICATES || known.any(|known| known.strip_prefix(PREFIX) == Some(key))
        };
        let mut left = self.0.clone();
        left.retain(|key, _| takes(key));
        let has = |key: &str| left.contains_key(key) || declared.get(&argument(key)).is_some();
        if !has(DEAD_LETTER_EXCHANGE) {
            left.remove(DEAD_LETTER_ROUTING_KEY);
        }
        let mut merged = TableWriter::new();
        for (name, value) in declared.table().fields() {
            // Arguments that we know have names that are texts.
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            let key = name.strip_prefix(PREFIX).unwrap_or_default();
            let number = value.as_integer();
            let rule = left.remove(key).or_else(|| left.remove(name));
            merged = match (rule, number) {
                (Some(Setting::Number(rule)), Some(number)) => merged.long(name, rule.min(number)),
                (Some(Setting::Flag(rule)), _) => merged.bool(name, rule),
                (Some(Setting::Text(rule)), _) if is_quorum && key == OVERFLOW => {
                    merged.long_string(name, &rule)
                }
                _ => merged.field(name, value),
            };
        }
        for (key, setting) in left {
            merged = setting.write(&argument(key), merged);
        }
        Arguments::parse(&merged.into_bytes()).expect("fields of a checked table and our own")
    }
}

impl Setting {
    fn write(&self, name: &str, table: TableWriter) -> TableWriter {
        match self {
            Self::Number(number) => table.long(name, *number),
            Self::Text(text) => table.field(name, Value::LongString(text.as_bytes())),
            Self::Flag(is) => table.bool(name, *is),
        }
    }
}

/// A queue's arguments have the names of policies' keys with this before them, if those haven't got it.
const PREFIX: &str = "x-";

fn argument(key: &str) -> String {
    match key.starts_with(PREFIX) {
        true => key.to_owned(),
        false => format!("{PREFIX}{key}"),
    }
}

impl Check {
    /// What the value says, or nothing if it is wrong. A value that is no text and no number says
    /// nothing that has an effect.
    fn read(self, value: &Json) -> Option<Option<Setting>> {
        let text = |text: &str| Some(Setting::Text(Arc::from(text)));
        match (self, value) {
            (Self::Anything, _) => Some(None),
            (Self::ShortString, Json::String(name)) => {
                (name.len() <= SHORT_STRING_BYTES_MAX).then(|| text(name))
            }
            (Self::AtLeast(min), Json::Number(_)) => {
                let number = whole(value).filter(|number| *number >= min);
                number.map(|number| Some(Setting::Number(number)))
            }
            (Self::Milliseconds(min), Json::Number(_)) => {
                let number = whole(value).filter(|number| *number >= min);
                number.map(|number| Some(Setting::Number(number.min(EXPIRY_MAX_MS as i64))))
            }
            (Self::OneOf(names), Json::String(name)) => {
                names.contains(&name.as_str()).then(|| text(name))
            }
            (Self::OneOrTwo, Json::Number(_)) => {
                matches!(whole(value), Some(1 | 2)).then_some(None)
            }
            (Self::Age, Json::String(age)) => is_age(age).then(|| text(age)),
            (Self::Boolean, Json::Bool(is)) => Some(Some(Setting::Flag(*is))),
            _ => None,
        }
    }
}

/// A number without a fraction. What is beyond 63 bits counts as the highest.
fn whole(value: &Json) -> Option<i64> {
    let highest = || value.as_u64().map(|_| i64::MAX);
    value.as_i64().or_else(highest)
}

/// A number and a unit, such as `7D` (`rabbit_amqqueue:check_max_age`).
fn is_age(text: &str) -> bool {
    let number = text.trim_end_matches(['Y', 'M', 'D', 'h', 'm', 's']);
    text.len() == number.len() + 1
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// A value as Erlang prints it (`~p`), in the tongue of RabbitMQ's errors.
fn erlang(value: &Json) -> String {
    let mut out = String::new();
    write_erlang(&mut out, value);
    out
}

/// The recursion is as deep as the value is nested, which its parser has bounded.
fn write_erlang(out: &mut String, value: &Json) {
    match value {
        Json::String(text) if text.is_empty() => out.push_str("<<>>"),
        Json::String(text) => {
            let _ = write!(out, "<<\"{text}\">>");
        }
        Json::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write_erlang(out, value);
            }
            out.push(']');
        }
        Json::Object(fields) => {
            out.push_str("#{");
            for (at, (name, value)) in fields.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                let _ = write!(out, "{comma}<<\"{name}\">> => ");
                write_erlang(out, value);
            }
            out.push('}');
        }
        plain => {
            let _ = write!(out, "{plain}");
        }
    }
}
