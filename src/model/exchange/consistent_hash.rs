//! The consistent hash exchange (`x-consistent-hash`): each message goes to one destination, chosen by
//! a hash of its routing key, a header or a property; a binding's key is its weight
//! (`rabbit_exchange_type_consistent_hash`).
//!
//! The choice is weighted rendezvous hashing: every destination draws a number from the message's hash
//! and its own name, and the best one for its weight wins. So only keys of a destination that goes
//! move, and to a new one only those that it wins; a weight costs nothing however large; and the
//! choice depends on what is bound alone, not on the order, so it is the same after a restart.

use std::collections::{BTreeMap, HashMap};

use twox_hash::XxHash3_64;

use crate::amqp::error::ChannelError;
use crate::amqp::properties::Properties;
use crate::amqp::table::{Table, Value};
use crate::base::Name;
use crate::base::limits::BINDING_WEIGHT_MAX;
use crate::model::Seeded;
use crate::model::arguments::Arguments;
use crate::model::definition::Destination;

use super::scratch::Collector;

const HASH_HEADER: &str = "hash-header";
const HASH_PROPERTY: &str = "hash-property";

/// What of a message is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HashOn {
    RoutingKey,
    Header(Box<[u8]>),
    CorrelationId,
    MessageId,
    Timestamp,
}

impl HashOn {
    /// Reads the arguments of `exchange.declare`.
    ///
    /// # Errors
    /// `PreconditionFailed` (406) for both at once, for a property that can't be hashed, and for a value
    /// that is no text.
    pub(super) fn parse(arguments: &Arguments) -> Result<Self, ChannelError> {
        let text = |argument| match arguments.get(argument) {
            None => Ok(None),
            Some(Value::LongString(text)) => Ok(Some(text)),
            Some(value) => Err(ChannelError::PreconditionFailed(format!(
                "{argument} must be a longstr, not a {}",
                value.rabbit_type_name()
            ))),
        };
        match (text(HASH_HEADER)?, text(HASH_PROPERTY)?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(Box::from(header))),
            (None, Some(b"correlation_id")) => Ok(Self::CorrelationId),
            (None, Some(b"message_id")) => Ok(Self::MessageId),
            (None, Some(b"timestamp")) => Ok(Self::Timestamp),
            (None, Some(property)) => Err(ChannelError::PreconditionFailed(format!(
                "Unsupported property: {}",
                String::from_utf8_lossy(property)
            ))),
            (Some(_), Some(_)) => Err(ChannelError::PreconditionFailed(
                "hash-header and hash-property are mutually exclusive".to_owned(),
            )),
        }
    }

    /// Of several keys (CC, BCC) the first counts. What isn't there hashes as nothing.
    fn hash(&self, keys: &[&[u8]], properties: Properties<'_>) -> u64 {
        let bytes = match self {
            Self::RoutingKey => keys.first().copied(),
            Self::Header(name) => properties
                .headers()
                .and_then(|headers| field(headers, name)),
            Self::CorrelationId => properties.correlation_id(),
            Self::MessageId => properties.message_id(),
            Self::Timestamp => {
                let timestamp = properties.timestamp().map(u64::to_be_bytes);
                return XxHash3_64::oneshot(timestamp.as_ref().map_or(&[], |bytes| &bytes[..]));
            }
        };
        XxHash3_64::oneshot(bytes.unwrap_or_default())
    }
}

/// A field's bytes, with its name and type: the text 1 is another value than the number.
fn field<'a>(table: Table<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let mut walk = table.fields();
    let mut before = walk.rest();
    while let Some((found, _)) = walk.next() {
        let rest = walk.rest();
        if found == name {
            return Some(&before[..before.len() - rest.len()]);
        }
        before = rest;
    }
    None
}

/// Checks a binding's key: a weight in decimal digits, from 1 to [`BINDING_WEIGHT_MAX`].
///
/// # Errors
/// `PreconditionFailed` (406).
pub(super) fn check_weight(key: &Name) -> Result<(), ChannelError> {
    let digits = key.as_str().trim_start_matches(['+', '-']);
    let is_number = key.as_str().len() - digits.len() <= 1
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    let text = if key.as_str().is_empty() {
        "The binding key must be an integer: <<>>".to_owned()
    } else if !is_number {
        format!("The binding key must be an integer: <<\"{key}\">>")
    } else if key.as_str().starts_with('-') || digits.bytes().all(|byte| byte == b'0') {
        "The binding key must be greater than 0".to_owned()
    } else if weight(key).is_none() {
        format!("The binding key must be at most {BINDING_WEIGHT_MAX}")
    } else {
        return Ok(());
    };
    Err(ChannelError::PreconditionFailed(text))
}

fn weight(key: &Name) -> Option<u32> {
    let weight = key.as_str().parse().ok();
    weight.filter(|weight| (1..=BINDING_WEIGHT_MAX).contains(weight))
}

/// Destinations with their weights.
#[derive(Debug)]
pub struct ConsistentHashBindings {
    hash_on: HashOn,
    members: Vec<Member>,
    places: HashMap<Destination, usize, Seeded>,
    /// How many members have which weight.
    weights: BTreeMap<u32, usize>,
}

#[derive(Debug)]
struct Member {
    destination: Destination,
    /// A hash of its name: ids differ from one run to the next.
    identity: u64,
    /// The keys of its bindings, sorted. As with RabbitMQ only one of them counts: the first here, so
    /// that what is bound alone decides.
    keys: Vec<Name>,
    weight: u32,
}

impl ConsistentHashBindings {
    /// Arguments that [`HashOn::parse`] would refuse were refused at the door.
    pub(super) fn new(arguments: &Arguments, hashing: &Seeded) -> Self {
        Self {
            hash_on: HashOn::parse(arguments).unwrap_or(HashOn::RoutingKey),
            members: Vec::new(),
            places: HashMap::with_hasher(hashing.clone()),
            weights: BTreeMap::new(),
        }
    }

    pub(super) fn hashes_routing_key(&self) -> bool {
        self.hash_on == HashOn::RoutingKey
    }

    pub(super) fn add(&mut self, key: &Name, destination: Destination, name: &Name) {
        let place = *self.places.entry(destination).or_insert_with(|| {
            let kind = u64::from(matches!(destination, Destination::Exchange(_)));
            self.members.push(Member {
                destination,
                identity: XxHash3_64::oneshot_with_seed(kind, name.as_bytes()),
                keys: Vec::new(),
                weight: 0,
            });
            self.members.len() - 1
        });
        let keys = &mut self.members[place].keys;
        keys.insert(keys.partition_point(|other| other < key), key.clone());
        self.weigh(place);
    }

    pub(super) fn remove(&mut self, key: &Name, destination: Destination) {
        let Some(&place) = self.places.get(&destination) else {
            return;
        };
        let keys = &mut self.members[place].keys;
        if let Ok(found) = keys.binary_search(key) {
            keys.remove(found);
        }
        self.weigh(place);
        if self.members[place].keys.is_empty() {
            self.places.remove(&destination);
            self.members.swap_remove(place);
            if let Some(moved) = self.members.get(place) {
                self.places.insert(moved.destination, place);
            }
        }
    }

    /// Has the first key count.
    fn weigh(&mut self, place: usize) {
        let member = &mut self.members[place];
        let now = match member.keys.first() {
            None => 0,
            Some(key) => weight(key).unwrap_or(1),
        };
        let before = std::mem::replace(&mut member.weight, now);
        if let Some(count) = self.weights.get_mut(&before) {
            *count -= 1;
            if *count == 0 {
                self.weights.remove(&before);
            }
        }
        if now > 0 {
            *self.weights.entry(now).or_default() += 1;
        }
    }

    pub(super) fn route(
        &self,
        keys: &[&[u8]],
        properties: Properties<'_>,
        collector: &mut Collector<'_>,
    ) {
        let hash = self.hash_on.hash(keys, properties);
        let best = if self.weights.len() <= 1 {
            self.members.iter().max_by_key(|member| member.draw(hash))
        } else {
            let score = |member: &&Member| member.score(hash);
            self.members
                .iter()
                .map(|member| (score(&member), member))
                .max_by(|(one, _), (other, _)| one.total_cmp(other))
                .map(|(_, member)| member)
        };
        if let Some(member) = best {
            collector.add(member.destination);
        }
    }
}

impl Member {
    /// A number that looks random, and is the same for the same message and the same member: the
    /// finalizer of MurmurHash3.
    fn draw(&self, hash: u64) -> u64 {
        let mut bits = hash ^ self.identity;
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        bits ^ (bits >> 33)
    }

    /// With u drawn evenly from 0 to 1, ln(u) / weight is the largest of all with a probability in
    /// proportion to the weight.
    fn score(&self, hash: u64) -> f64 {
        const BITS: u32 = f64::MANTISSA_DIGITS;
        let drawn = (self.draw(hash) >> (u64::BITS - BITS)) as f64 + 0.5;
        (drawn / (1u64 << BITS) as f64).ln() / f64::from(self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::table::TableWriter;
    use crate::base::QueueId;
    use crate::model::exchange::RouteScratch;

    const MESSAGES: u32 = 6000;

    fn queue(index: u32) -> Destination {
        Destination::Queue(QueueId {
            index,
            generation: 0,
        })
    }

    fn arguments(table: TableWriter) -> Arguments {
        Arguments::parse(&table.into_bytes()).expect("written by us")
    }

    fn exchange(table: TableWriter) -> ConsistentHashBindings {
        ConsistentHashBindings::new(&arguments(table), &Seeded::with_seed(1))
    }

    fn bound(weights: &[(u32, &str)]) -> ConsistentHashBindings {
        let mut bindings = exchange(TableWriter::new());
        for (index, weight) in weights {
            add(&mut bindings, *index, weight);
        }
        bindings
    }

    fn add(bindings: &mut ConsistentHashBindings, index: u32, weight: &str) {
        let name = Name::from(format!("queue {index}"));
        bindings.add(&Name::from(weight), queue(index), &name);
    }

    fn choice(bindings: &ConsistentHashBindings, keys: &[&[u8]], properties: &[u8]) -> Option<u32> {
        let mut targets = Vec::new();
        let mut scratch = RouteScratch::new();
        let (mut collector, _) = scratch.begin(&mut targets);
        bindings.route(keys, Properties::from_validated(properties), &mut collector);
        assert!(targets.len() <= 1);
        targets.first().map(|id| id.index)
    }

    /// Where each of many keys leads.
    fn choices(bindings: &ConsistentHashBindings) -> Vec<Option<u32>> {
        (0..MESSAGES)
            .map(|number| choice(bindings, &[format!("key {number}").as_bytes()], &[0, 0]))
            .collect()
    }

    fn share(choices: &[Option<u32>], index: u32) -> f64 {
        let count = choices
            .iter()
            .filter(|choice| **choice == Some(index))
            .count();
        count as f64 / f64::from(MESSAGES)
    }

    #[test]
    fn each_destination_gets_its_weights_share() {
        let cases: [&[(u32, &str)]; 3] = [
            &[(0, "1"), (1, "1"), (2, "1")],
            &[(0, "1"), (1, "2"), (2, "3")],
            &[(0, "4294967295"), (1, "4294967295"), (2, "+2147483647")],
        ];
        let expected = [[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [2.0, 2.0, 1.0]];
        for (weights, expected) in cases.into_iter().zip(expected) {
            let choices = choices(&bound(weights));
            let total: f64 = expected.iter().sum();
            for (index, expected) in (0..).zip(expected) {
                let (share, expected) = (share(&choices, index), expected / total);
                assert!(
                    (share - expected).abs() < 0.03,
                    "{index}: {share} of {weights:?}"
                );
            }
        }
    }

    #[test]
    fn only_the_keys_of_a_destination_that_comes_or_goes_move() {
        for weight in ["1", "3"] {
            let mut bindings = bound(&[(0, "1"), (1, "1"), (2, "1")]);
            let before = choices(&bindings);
            add(&mut bindings, 3, weight);
            for (before, after) in before.iter().zip(choices(&bindings)) {
                assert!(*before == after || after == Some(3));
            }
            bindings.remove(&Name::from(weight), queue(3));
            assert_eq!(choices(&bindings), before);
        }
    }

    #[test]
    fn the_order_of_bindings_is_of_no_consequence_and_one_key_per_destination_counts() {
        let one = bound(&[(0, "1"), (1, "2"), (2, "3")]);
        let mut other = bound(&[(5, "7"), (2, "3"), (0, "4"), (1, "2"), (0, "1"), (5, "1")]);
        other.remove(&Name::from("7"), queue(5));
        other.remove(&Name::from("1"), queue(5));
        other.remove(&Name::from("1"), queue(9));
        assert_eq!(choices(&one), choices(&other));
        other.remove(&Name::from("1"), queue(0));
        assert!(share(&choices(&other), 0) > 0.35, "now 4 of 9");
    }

    #[test]
    fn nothing_bound_leads_nowhere() {
        let mut bindings = bound(&[(0, "1")]);
        assert_eq!(choice(&bindings, &[b"a"], &[0, 0]), Some(0));
        bindings.remove(&Name::from("1"), queue(0));
        assert_eq!(choice(&bindings, &[b"a"], &[0, 0]), None);
        assert!(bindings.weights.is_empty());
    }

    #[test]
    fn a_header_or_a_property_is_hashed_in_place_of_the_key() {
        let headers = |table: TableWriter| {
            let table = table.into_bytes();
            [&[0x20, 0][..], &(table.len() as u32).to_be_bytes(), &table].concat()
        };
        let message_id = |id: &str| [&[0, 0x80, id.len() as u8][..], id.as_bytes()].concat();
        let correlation_id = |id: &str| [&[4, 0, id.len() as u8][..], id.as_bytes()].concat();
        let timestamp = |number: u64| [&[0, 0x40][..], &number.to_be_bytes()].concat();
        type Make<'a> = Box<dyn Fn(u64) -> Vec<u8> + 'a>;
        let cases: [(TableWriter, Make<'_>); 4] = [
            (
                TableWriter::new().long_string(HASH_HEADER, "h"),
                Box::new(|number| headers(TableWriter::new().long("h", number as i64))),
            ),
            (
                TableWriter::new().long_string(HASH_PROPERTY, "message_id"),
                Box::new(|number| message_id(&number.to_string())),
            ),
            (
                TableWriter::new().long_string(HASH_PROPERTY, "correlation_id"),
                Box::new(|number| correlation_id(&number.to_string())),
            ),
            (
                TableWriter::new().long_string(HASH_PROPERTY, "timestamp"),
                Box::new(timestamp),
            ),
        ];
        for (table, properties) in cases {
            let mut bindings = exchange(table);
            assert!(!bindings.hashes_routing_key());
            for index in 0..4 {
                add(&mut bindings, index, "1");
            }
            let mut reached = [false; 4];
            for number in 0..100 {
                let bytes = properties(number);
                let found = choice(&bindings, &[b"a"], &bytes);
                assert_eq!(found, choice(&bindings, &[b"b"], &bytes), "not by the key");
                reached[found.expect("somebody is bound") as usize] = true;
            }
            assert_eq!(reached, [true; 4]);
            let without = choice(&bindings, &[b"a"], &[0, 0]);
            assert_eq!(without, choice(&bindings, &[b"b"], &[0, 0]));
        }
    }

    #[test]
    fn weights_that_are_none_are_refused_in_rabbitmqs_words() {
        for key in ["1", "+1", "007", "4294967295"] {
            assert_eq!(check_weight(&Name::from(key)), Ok(()));
        }
        for (key, expected) in [
            ("", "The binding key must be an integer: <<>>"),
            ("a", "The binding key must be an integer: <<\"a\">>"),
            ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
            ("+-1", "The binding key must be an integer: <<\"+-1\">>"),
            ("0", "The binding key must be greater than 0"),
            ("-7", "The binding key must be greater than 0"),
            ("4294967296", "The binding key must be at most 4294967295"),
        ] {
            let error = check_weight(&Name::from(key)).expect_err("no weight");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn arguments_that_contradict_each_other_are_refused() {
        let both = TableWriter::new()
            .long_string(HASH_HEADER, "h")
            .long_string(HASH_PROPERTY, "message_id");
        let cases = [
            (both, "hash-header and hash-property are mutually exclusive"),
            (
                TableWriter::new().long_string(HASH_PROPERTY, "app_id"),
                "Unsupported property: app_id",
            ),
            (
                TableWriter::new().long(HASH_HEADER, 1),
                "hash-header must be a longstr, not a long",
            ),
        ];
        for (table, expected) in cases {
            let error = HashOn::parse(&arguments(table)).expect_err("refused");
            assert_eq!(error.to_string(), expected);
        }
    }
}
