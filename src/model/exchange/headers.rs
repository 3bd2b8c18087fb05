//! The headers exchange: a binding matches by its arguments, as `rabbit_exchange_type_headers` does.
//!
//! `x-match` says `all` (the default), `any`, `all-with-x` or `any-with-x`; the first two don't look at
//! arguments that begin with `x-`. An argument without a value (void) asks only whether the header is
//! there. Values are compared, not their types: 1 equals 1.0, and a text the same bytes.

use std::collections::HashMap;

use crate::amqp::error::ChannelError;
use crate::amqp::properties::Properties;
use crate::amqp::table::Value;
use crate::model::Seeded;
use crate::model::arguments::Arguments;
use crate::model::definition::Destination;

use super::destinations::Destinations;
use super::scratch::{Collector, HeaderIndex, Headers};

const X_MATCH: &str = "x-match";
const X: &[u8] = b"x-";

/// Destinations by arguments: bindings with the same arguments are matched once.
#[derive(Debug)]
pub struct HeadersBindings {
    list: Vec<Pattern>,
    places: HashMap<Arguments, usize, Seeded>,
}

#[derive(Debug)]
struct Pattern {
    mode: Mode,
    arguments: Arguments,
    destinations: Destinations,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mode {
    /// One match is enough, rather than all being needed.
    is_any: bool,
    with_x: bool,
}

/// Checks `x-match`.
///
/// # Errors
/// `PreconditionFailed` (406) for another value than the four, or another type.
pub fn check_arguments(arguments: &Arguments) -> Result<(), ChannelError> {
    let text = match arguments.get(X_MATCH) {
        None => return Ok(()),
        Some(Value::LongString(name)) if Mode::from_bytes(name).is_some() => return Ok(()),
        Some(value @ Value::LongString(_)) => format!(
            "Invalid x-match field value <<\"{value}\">>; expected all, any, all-with-x, or any-with-x"
        ),
        Some(value) => {
            let name = value.rabbit_type_name();
            format!("Invalid x-match field type {name} (value {value}); expected longstr")
        }
    };
    Err(ChannelError::PreconditionFailed(text))
}

impl Mode {
    fn from_bytes(name: &[u8]) -> Option<Self> {
        let (is_any, with_x) = match name {
            b"all" => (false, false),
            b"any" => (true, false),
            b"all-with-x" => (false, true),
            b"any-with-x" => (true, true),
            _ => return None,
        };
        Some(Self { is_any, with_x })
    }

    fn of(arguments: &Arguments) -> Self {
        let all = Self {
            is_any: false,
            with_x: false,
        };
        match arguments.get(X_MATCH) {
            Some(Value::LongString(name)) => Self::from_bytes(name).unwrap_or(all),
            _ => all,
        }
    }
}

impl HeadersBindings {
    pub(crate) fn new(hashing: &Seeded) -> Self {
        Self {
            list: Vec::new(),
            places: HashMap::with_hasher(hashing.clone()),
        }
    }

    pub(super) fn add(&mut self, arguments: &Arguments, destination: Destination) {
        let place = *self.places.entry(arguments.clone()).or_insert_with(|| {
            self.list.push(Pattern {
                mode: Mode::of(arguments),
                arguments: arguments.clone(),
                destinations: Destinations::default(),
            });
            self.list.len() - 1
        });
        self.list[place]
            .destinations
            .add(destination, self.places.hasher());
    }

    pub(super) fn remove(&mut self, arguments: &Arguments, destination: Destination) {
        let Some(&place) = self.places.get(arguments) else {
            return;
        };
        self.list[place].destinations.remove(destination);
        if self.list[place].destinations.is_empty() {
            self.list.swap_remove(place);
            self.places.remove(arguments);
            if let Some(moved) = self.list.get(place) {
                self.places.insert(moved.arguments.clone(), place);
            }
        }
    }

    pub(super) fn route(
        &self,
        properties: Properties<'_>,
        index: &mut HeaderIndex,
        collector: &mut Collector<'_>,
    ) {
        let headers = index.build(properties);
        for pattern in &self.list {
            if pattern.matches(headers) {
                for destination in pattern.destinations.as_slice() {
                    collector.add(*destination);
                }
            }
        }
    }
}

impl Pattern {
    fn matches(&self, headers: Headers<'_, '_>) -> bool {
        for (name, wanted) in self.arguments.table().fields() {
            if name == X_MATCH.as_bytes() || (!self.mode.with_x && name.starts_with(X)) {
                continue;
            }
            let is_match = headers
                .get(name)
                .is_some_and(|value| wanted == Value::Void || wanted.matches(value));
            if is_match == self.mode.is_any {
                return is_match;
            }
        }
        // No one decided it: of none, all match, and not any.
        !self.mode.is_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::table::TableWriter;
    use crate::base::QueueId;
    use crate::model::exchange::RouteScratch;

    const QUEUE: QueueId = QueueId {
        index: 0,
        generation: 0,
    };

    fn arguments(table: TableWriter) -> Arguments {
        Arguments::parse(&table.into_bytes()).expect("written by us")
    }

    fn properties(headers: TableWriter) -> Vec<u8> {
        let table = headers.into_bytes();
        [&[0x20, 0][..], &(table.len() as u32).to_be_bytes(), &table].concat()
    }

    fn route(bindings: &HeadersBindings, headers: TableWriter) -> usize {
        let bytes = properties(headers);
        let mut scratch = RouteScratch::new();
        let mut targets = Vec::new();
        let (mut collector, matching) = scratch.begin(&mut targets);
        let properties = Properties::from_validated(&bytes);
        bindings.route(properties, &mut matching.headers, &mut collector);
        targets.len()
    }

    fn matches(pattern: TableWriter, headers: TableWriter) -> bool {
        let mut bindings = HeadersBindings::new(&Seeded::with_seed(1));
        bindings.add(&arguments(pattern), Destination::Queue(QUEUE));
        route(&bindings, headers) == 1
    }

    fn new(mode: &str) -> TableWriter {
        TableWriter::new().long_string("x-match", mode)
    }

    #[test]
    fn all_wants_every_argument_and_any_wants_one() {
        let message = || {
            TableWriter::new()
                .long_string("format", "pdf")
                .signed_int("pages", 3)
        };
        for (mode, one_of_two) in [("all", false), ("any", true)] {
            let both = new(mode).long_string("format", "pdf").long("pages", 3);
            let half = new(mode).long_string("format", "pdf").long("pages", 4);
            let none = new(mode).long_string("format", "txt").long("size", 4);
            assert!(matches(both, message()));
            assert_eq!(matches(half, message()), one_of_two);
            assert!(!matches(none, message()));
        }
    }

    #[test]
    fn without_x_match_all_are_wanted_and_of_none_all_match() {
        assert!(!matches(
            TableWriter::new().long("a", 1).long("b", 1),
            TableWriter::new().long("a", 1)
        ));
        assert!(matches(TableWriter::new(), TableWriter::new().long("a", 1)));
        assert!(matches(new("all"), TableWriter::new()));
        assert!(!matches(new("any"), TableWriter::new().long("a", 1)));
    }

    #[test]
    fn arguments_that_begin_with_x_count_only_with_x() {
        let message = || TableWriter::new().long("x-a", 1).long("b", 1);
        assert!(matches(new("all").long("x-a", 2).long("b", 1), message()));
        assert!(!matches(
            new("all-with-x").long("x-a", 2).long("b", 1),
            message()
        ));
        assert!(!matches(new("any").long("x-a", 1), message()));
        assert!(matches(new("any-with-x").long("x-a", 1), message()));
    }

    #[test]
    fn void_asks_only_for_presence() {
        let wanted = || new("all").field("a", Value::Void);
        assert!(matches(
            wanted(),
            TableWriter::new().long_string("a", "whatever")
        ));
        assert!(!matches(wanted(), TableWriter::new().long("b", 1)));
    }

    #[test]
    fn values_match_whatever_their_types() {
        let wanted = || new("all").signed_int("a", 1);
        assert!(matches(
            wanted(),
            TableWriter::new().field("a", Value::Double(1.0))
        ));
        assert!(!matches(wanted(), TableWriter::new().long_string("a", "1")));
    }

    #[test]
    fn the_first_of_two_headers_of_one_name_counts() {
        let message = || TableWriter::new().long("b", 0).long("a", 1).long("a", 2);
        assert!(matches(new("all").long("a", 1), message()));
        assert!(!matches(new("all").long("a", 2), message()));
    }

    #[test]
    fn bindings_with_the_same_arguments_come_and_go_one_by_one() {
        let mut bindings = HeadersBindings::new(&Seeded::with_seed(1));
        let one = arguments(new("all").long("a", 1));
        let other = arguments(new("any").long("a", 1));
        bindings.add(&one, Destination::Queue(QUEUE));
        bindings.add(&one, Destination::Queue(QUEUE));
        bindings.add(&other, Destination::Queue(QUEUE));
        bindings.remove(&one, Destination::Queue(QUEUE));
        bindings.remove(&one, Destination::Queue(QUEUE));
        assert_eq!(route(&bindings, TableWriter::new().long("a", 1)), 1);
        bindings.remove(&other, Destination::Queue(QUEUE));
        assert_eq!(route(&bindings, TableWriter::new().long("a", 1)), 0);
    }

    #[test]
    fn another_x_match_is_refused() {
        for mode in ["all", "any", "all-with-x", "any-with-x"] {
            assert_eq!(check_arguments(&arguments(new(mode))), Ok(()));
        }
        let error = check_arguments(&arguments(new("some"))).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x"
        );
        let number = arguments(TableWriter::new().long("x-match", 1));
        let error = check_arguments(&number).expect_err("a number");
        assert_eq!(
            error.to_string(),
            "Invalid x-match field type long (value 1); expected longstr"
        );
    }
}
