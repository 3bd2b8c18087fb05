//! Policies: what is refused, which one counts, and what comes of it and a declaration.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::amqp::table::{TableWriter, Value};
use crate::model::arguments::{Arguments, Overflow, QueueArguments};

fn defined(name: &str, priority: i64, apply_to: &str, definition: Json) -> administration::Policy {
    administration::Policy {
        vhost: Name::from("/"),
        name: Name::from(name),
        pattern: "^q".to_owned(),
        apply_to: apply_to.to_owned(),
        definition,
        priority,
    }
}

fn policy(name: &str, priority: i64, apply_to: &str, definition: Json) -> Policy {
    let defined = defined(name, priority, apply_to, definition);
    Policy::parse(PolicyKind::User, &defined).expect("a sensible policy")
}

fn fault(kind: PolicyKind, apply_to: &str, definition: Json) -> String {
    let defined = defined("p", 0, apply_to, definition);
    let fault = Policy::parse(kind, &defined).expect_err("at fault");
    fault.to_string()
}

fn rules(kind: PolicyKind, definition: Json) -> PolicyRules {
    let parsed = PolicyRules::parse(kind, &definition);
    parsed.expect("sensible rules").0
}

fn arguments(table: TableWriter) -> Arguments {
    Arguments::parse(&table.into_bytes()).expect("written by us")
}

fn merged(rules: &PolicyRules, table: TableWriter) -> QueueArguments {
    let merged = rules.merged_with(&arguments(table));
    QueueArguments::parse(&merged).expect("what comes of two that were checked is fine")
}

#[test]
fn values_that_make_no_sense_are_refused_in_rabbitmqs_words() {
    for (definition, expected) in [
        (json!({}), "no policy provided"),
        (json!([1]), "definition must be a dictionary: [1]"),
        (
            json!({"max-length": -1}),
            "-1 is not a valid maximum length",
        ),
        (
            json!({"max-length": "3"}),
            "<<\"3\">> is not a valid maximum length",
        ),
        (
            json!({"max-length-bytes": 1.5}),
            "1.5 is not a valid maximum length in bytes",
        ),
        (json!({"expires": 0}), "0 is not a valid queue expiry"),
        (
            json!({"message-ttl": null}),
            "null is not a valid message TTL",
        ),
        (
            json!({"overflow": "drop"}),
            "<<\"drop\">> is not a valid overflow value",
        ),
        (
            json!({"delivery-limit": true}),
            "true is not a valid delivery limit",
        ),
        (
            json!({"alternate-exchange": 1}),
            "1 is not a valid alternate exchange name",
        ),
        (
            json!({"dead-letter-exchange": [""]}),
            "[<<>>] is not a valid dead letter exchange name",
        ),
        (
            json!({"dead-letter-routing-key": {"a": 1}}),
            "#{<<\"a\">> => 1} is not a valid dead letter routing key",
        ),
        (
            json!({"dead-letter-strategy": "never"}),
            "<<\"never\">> is not a valid dead letter strategy",
        ),
        (
            json!({"queue-mode": "eager"}),
            "<<\"eager\">> is not a valid queue-mode value",
        ),
        (
            json!({"queue-version": 3}),
            "3 is not a valid queue-version value",
        ),
        (json!({"max-age": "7"}), "<<\"7\">> is not a valid max age"),
        (
            json!({"max-priority": 5}),
            "[{<<\"max-priority\">>,5}] are not recognised policy settings",
        ),
        (
            json!({"x-message-deduplication": "true"}),
            "'x-message-deduplication' must be a boolean, got <<\"true\">>",
        ),
        (
            json!({"x-cache-size": 0}),
            "'x-cache-size' must be an integer greater than 0, got 0",
        ),
        (
            json!({"x-cache-persistence": "tape"}),
            "'x-cache-persistence' must be either 'disk' or 'memory', got <<\"tape\">>",
        ),
    ] {
        assert_eq!(fault(PolicyKind::User, "all", definition), expected);
    }
    assert!(
        fault(PolicyKind::User, "everything", json!({"expires": 1})).starts_with(
            "apply-to 'everything' unrecognised; should be one of: 'queues', 'classic_queues', "
        )
    );
}

#[test]
fn operators_have_fewer_keys() {
    let definition = json!({"dead-letter-exchange": "dlx"});
    assert_eq!(
        fault(PolicyKind::Operator, "queues", definition),
        "[{<<\"dead-letter-exchange\">>,<<\"dlx\">>}] are not recognised policy settings"
    );
    let definition = json!({"max-length": 1, "overflow": "reject-publish", "delivery-limit": 2});
    let parsed = Policy::parse(PolicyKind::Operator, &defined("p", 0, "queues", definition));
    assert!(parsed.is_ok());
}

#[test]
fn a_bad_pattern_is_refused_with_the_reason() {
    let mut bad = defined("p", 0, "all", json!({"expires": 1}));
    bad.pattern = "(".to_owned();
    let fault = Policy::parse(PolicyKind::User, &bad).expect_err("no pattern");
    assert_eq!(
        fault.to_string(),
        "p should be regular expression but is invalid: unclosed group"
    );
}

#[test]
fn definitions_of_older_versions_and_of_plugins_are_taken_over() {
    let definition = json!({
        "ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic", "queue-master-locator": "min-masters",
        "federation-upstream-set": "all", "max-length": 10
    });
    let policy = policy("ha", 0, "queues", definition);
    assert!(policy.applies_to_queue(&Name::from("q"), QueueType::Classic));
    assert!(!policy.applies_to_queue(&Name::from("q"), QueueType::Quorum));
    assert_eq!(
        merged(&policy.rules, TableWriter::new()).max_length,
        Some(10)
    );
}

#[test]
fn the_highest_priority_that_applies_counts_and_only_that() {
    let mut policies = Policies::default();
    let (queue, other) = (Name::from("q1"), Name::from("other"));
    let of = |policies: &Policies, name: &Name, queue_type| {
        let effective = policies.of_queue(name, queue_type);
        effective.user_policy().map(|name| name.as_str().to_owned())
    };
    assert_eq!(of(&policies, &queue, QueueType::Classic), None);
    for policy in [
        policy("low", -1, "all", json!({"max-length": 1})),
        policy("b", 5, "queues", json!({"expires": 1})),
        policy("a", 5, "queues", json!({"message-ttl": 1})),
        policy("classic", 7, "classic_queues", json!({"message-ttl": 2})),
        policy(
            "exchanges",
            9,
            "exchanges",
            json!({"alternate-exchange": "x"}),
        ),
        policy("quorum only", 8, "queues", json!({"delivery-limit": 3})),
    ] {
        policies.set(PolicyKind::User, policy);
    }
    assert_eq!(
        of(&policies, &queue, QueueType::Classic).as_deref(),
        Some("classic")
    );
    assert_eq!(
        of(&policies, &queue, QueueType::Quorum).as_deref(),
        Some("quorum only")
    );
    assert_eq!(
        of(&policies, &queue, QueueType::Stream),
        None,
        "a stream takes no max-length"
    );
    assert_eq!(
        of(&policies, &other, QueueType::Classic),
        None,
        "the pattern"
    );
    let exchange = policies.of_exchange(&queue);
    assert_eq!(exchange.user_policy(), Some(&Name::from("exchanges")));
    assert_eq!(exchange.rules().alternate_exchange(), Some(Name::from("x")));
    policies.clear(PolicyKind::User, &Name::from("classic"));
    assert_eq!(
        of(&policies, &queue, QueueType::Classic).as_deref(),
        Some("a")
    );
    policies.set(
        PolicyKind::User,
        policy("a", -2, "queues", json!({"message-ttl": 1})),
    );
    assert_eq!(
        of(&policies, &queue, QueueType::Classic).as_deref(),
        Some("b"),
        "set anew"
    );
    assert_eq!(policies.of_exchange(&queue).operator_policy(), None);
}

#[test]
fn a_delivery_limit_is_for_classic_queues_only_if_they_are_named() {
    let limit = || json!({"delivery-limit": 3});
    let name = Name::from("q");
    assert!(!policy("p", 0, "queues", limit()).applies_to_queue(&name, QueueType::Classic));
    assert!(policy("p", 0, "classic_queues", limit()).applies_to_queue(&name, QueueType::Classic));
}

#[test]
fn of_two_numbers_the_lower_counts_whoever_says_it() {
    let users = rules(
        PolicyKind::User,
        json!({"max-length": 10, "message-ttl": 50, "expires": 9}),
    );
    let operators = rules(
        PolicyKind::Operator,
        json!({"max-length": 7, "message-ttl": 99}),
    );
    let both = users.joined_with(operators);
    let alone = merged(&both, TableWriter::new());
    assert_eq!(
        (alone.max_length, alone.message_ttl_ms),
        (Some(7), Some(50))
    );
    let lower = TableWriter::new()
        .signed_int("x-max-length", 3)
        .long("x-message-ttl", 60);
    let lower = merged(&both, lower);
    assert_eq!(
        (lower.max_length, lower.message_ttl_ms),
        (Some(3), Some(50))
    );
    assert_eq!((alone.expires_ms, lower.expires_ms), (Some(9), Some(9)));
}

#[test]
fn what_is_no_number_is_the_declarations_to_say() {
    let definition = json!({
        "dead-letter-exchange": "policy", "dead-letter-routing-key": "key", "overflow": "reject-publish"
    });
    let rules = rules(PolicyKind::User, definition);
    let declared = || {
        TableWriter::new()
            .long_string("x-dead-letter-exchange", "declared")
            .long_string("x-overflow", "drop-head")
            .long("x-max-priority", 7)
    };
    let both = merged(&rules, declared());
    assert_eq!(both.dead_letter_exchange, Some(Name::from("declared")));
    assert_eq!(both.dead_letter_routing_key, Some(Name::from("key")));
    assert_eq!(
        (both.overflow, both.max_priority),
        (Overflow::DropHead, Some(7))
    );
    let quorum = TableWriter::new()
        .long_string("x-queue-type", "quorum")
        .long_string("x-overflow", "drop-head");
    assert_eq!(merged(&rules, quorum).overflow, Overflow::RejectPublish);
    let alone = merged(&rules, TableWriter::new());
    assert_eq!(alone.dead_letter_exchange, Some(Name::from("policy")));
    assert_eq!(alone.overflow, Overflow::RejectPublish);
}

#[test]
fn policies_replace_what_a_declaration_says_of_duplicates() {
    let declared = |is| TableWriter::new().bool("x-message-deduplication", is);
    for is in [true, false] {
        let rules = rules(PolicyKind::User, json!({"x-message-deduplication": is}));
        for table in [TableWriter::new(), declared(true), declared(false)] {
            assert_eq!(merged(&rules, table).deduplicates, is);
        }
    }
    let unsaid = rules(PolicyKind::User, json!({"x-cache-size": 5}));
    assert!(merged(&unsaid, declared(true)).deduplicates);
    assert_eq!(
        merged(&unsaid, TableWriter::new()),
        QueueArguments::default()
    );
}

#[test]
fn policies_replace_what_an_exchange_is_to_remember() {
    let rules = rules(
        PolicyKind::User,
        json!({"x-cache-size": 5, "x-cache-persistence": "memory", "max-length": 1}),
    );
    let declared = TableWriter::new()
        .long("x-cache-size", 9)
        .long("x-cache-ttl", 7);
    let expected = TableWriter::new()
        .long("x-cache-size", 5)
        .long("x-cache-ttl", 7)
        .long_string("x-cache-persistence", "memory");
    assert_eq!(
        rules.replacing_cache(&arguments(declared)),
        arguments(expected)
    );
}

#[test]
fn a_dead_letter_routing_key_without_an_exchange_says_nothing() {
    let rules = rules(PolicyKind::User, json!({"dead-letter-routing-key": "key"}));
    assert_eq!(
        merged(&rules, TableWriter::new()),
        QueueArguments::default()
    );
}

#[test]
fn operators_have_the_last_word_on_overflow() {
    let users = rules(PolicyKind::User, json!({"overflow": "reject-publish"}));
    let operators = rules(PolicyKind::Operator, json!({"overflow": "drop-head"}));
    let both = merged(&users.joined_with(operators), TableWriter::new());
    assert_eq!(both.overflow, Overflow::DropHead);
}

fn number() -> impl Strategy<Value = Option<i64>> {
    proptest::option::of(1i64..100)
}

proptest! {
    #[test]
    fn any_policies_and_any_declaration_give_arguments_that_can_be_read(
        users in (number(), number(), number()),
        operators in (number(), number(), number()),
        declared in (number(), number(), number()),
        queue_type in proptest::sample::select(vec!["classic", "quorum", "stream"]),
        unfit in any::<bool>(),
    ) {
        let definition = |(length, bytes, ttl): (Option<i64>, Option<i64>, Option<i64>)| {
            let mut definition = serde_json::Map::new();
            for (key, number) in [("max-length", length), ("max-length-bytes", bytes), ("message-ttl", ttl)] {
                if let Some(number) = number {
                    definition.insert(key.to_owned(), json!(number));
                }
            }
            if unfit {
                definition.insert("delivery-limit".to_owned(), json!(4));
                definition.insert("queue-version".to_owned(), json!(2));
            }
            Json::Object(definition)
        };
        let parse = |kind, numbers| {
            PolicyRules::parse(kind, &definition(numbers)).map(|parsed| parsed.0).unwrap_or_default()
        };
        let both = parse(PolicyKind::User, users).joined_with(parse(PolicyKind::Operator, operators));
        let mut table = TableWriter::new().long_string("x-queue-type", queue_type);
        let is_stream = queue_type == "stream";
        for (name, number, is_fit) in [
            ("x-max-length", declared.0, !is_stream),
            ("x-max-length-bytes", declared.1, true),
            ("x-message-ttl", declared.2, !is_stream),
        ] {
            if let (Some(number), true) = (number, is_fit) {
                table = table.field(name, Value::Long(number));
            }
        }
        let found = merged(&both, table);
        let lowest = |one: Option<i64>, two: Option<i64>, three: Option<i64>| {
            [one, two, three].into_iter().flatten().min().map(|number| number as u64)
        };
        prop_assert_eq!(found.max_length_bytes, lowest(users.1, operators.1, declared.1));
        let length = lowest(users.0, operators.0, declared.0);
        prop_assert_eq!(found.max_length, length.filter(|_| !is_stream));
    }
}
