//! Topic exchanges: words, `*` for one word, `#` for any number of them.

use crate::support::broker::Broker;
use crate::support::cores::on_each_core_count;
use std::time::{Duration, Instant};

/// pattern, keys that match, keys that don't
const TABLE: &[(&str, &[&str], &[&str])] = &[
    (
        "log.*",
        &["log.warn", "log."],
        &["log", "log.warn.timeout", "xlog.warn", "."],
    ),
    (
        "log.#",
        &["log", "log.warn", "log.warn.timeout", "log."],
        &["logs", "a.log", ""],
    ),
    ("#", &["", "a", "a.b", "a..b", "."], &[]),
    // An empty key has no word at all; a dot makes two empty ones.
    ("*", &["a", "*", "#"], &["", "a.b", "."]),
    ("#.#", &["", "a", "a.b.c"], &[]),
    (
        "#.a.#",
        &["a", "a.b", "b.a", "x.y.a.z", "a.a"],
        &["", "b", "aa.b"],
    ),
    ("*.#", &["a", "a.b.c"], &[""]),
    ("#.*", &["a", "a.b.c"], &[""]),
    (
        "*.*.rabbit",
        &["quick.orange.rabbit", "..rabbit"],
        &["rabbit", "orange.rabbit", "lazy.quick.orange.rabbit"],
    ),
    (
        "lazy.#.end",
        &["lazy.end", "lazy.a.end", "lazy.a.b.end"],
        &["lazy", "end", "lazy.a"],
    ),
    ("a.b", &["a.b"], &["a", "a.b.c", "a.B", "a.b."]),
    ("a..b", &["a..b"], &["a.b", "a.x.b"]),
    ("a.*.#.b", &["a.x.b", "a.x.y.z.b"], &["a.b"]),
    ("a*.b#", &["a*.b#"], &["ax.bx", "a.b"]),
    ("", &[""], &["a", "."]),
];

on_each_core_count! {
    fn patterns_match_what_they_should(broker: &Broker) {
        let channel = broker.connect().channel();
        channel.confirm_select();
        let mut published = 0;
        for (pattern, matching, others) in TABLE {
            let exchange = broker.name("topic");
            let queue = channel.own_queue();
            channel.exchange(&exchange, "topic");
            channel.bind(&queue, &exchange, pattern);
            for key in others.iter().chain(*matching) {
                channel.publish(&exchange, key, key);
            }
            let count = (others.len() + matching.len()) as u64;
            channel.confirmed(published + 1..=published + count);
            published += count;
            assert_eq!(channel.drain(&queue), *matching, "matched by `{pattern}`");
            channel.delete_exchange(&exchange);
        }
    }

    fn several_matching_patterns_give_one_copy(broker: &Broker) {
        let channel = broker.connect().channel();
        let exchange = broker.name("topic");
        let queue = channel.own_queue();
        channel.exchange(&exchange, "topic");
        for pattern in ["a.b", "a.*", "a.#", "#", "*.b", "#.b", "*.*"] {
            channel.bind(&queue, &exchange, pattern);
        }
        channel.confirm_select();
        channel.publish(&exchange, "a.b", "once");
        channel.confirmed(1..=1);
        assert_eq!(channel.drain(&queue), ["once"]);
    }

    fn unbinding_one_pattern_leaves_the_others(broker: &Broker) {
        let channel = broker.connect().channel();
        let exchange = broker.name("topic");
        let (kept, changed) = (channel.own_queue(), channel.own_queue());
        channel.exchange(&exchange, "topic");
        channel.bind(&kept, &exchange, "a.#");
        channel.bind(&changed, &exchange, "a.#");
        channel.bind(&changed, &exchange, "a.*.c");
        channel.unbind(&changed, &exchange, "a.#");
        channel.confirm_select();
        channel.publish(&exchange, "a.b", "a.b");
        channel.publish(&exchange, "a.b.c", "a.b.c");
        channel.confirmed(1..=2);
        assert_eq!(channel.drain(&kept), ["a.b", "a.b.c"]);
        assert_eq!(channel.drain(&changed), ["a.b.c"]);
    }

    fn amq_topic_routes_too(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        let word = broker.name("word");
        channel.bind(&queue, "amq.topic", &format!("{word}.#"));
        channel.confirm_select();
        channel.publish("amq.topic", &word, "a");
        channel.publish("amq.topic", &format!("{word}.x"), "b");
        channel.confirmed(1..=2);
        assert_eq!(channel.drain(&queue), ["a", "b"]);
    }
}

/// The cost is words times nodes of the trie, whatever the pattern. A naive matcher takes years for this.
/// The reference is such a one, so it is spared.
#[test]
fn consecutive_hashes_and_a_long_key_are_matched_fast() {
    let broker = Broker::shared(1);
    if broker.is_reference() {
        return;
    }
    let channel = broker.connect().channel();
    let exchange = broker.name("topic");
    let queue = channel.own_queue();
    channel.exchange(&exchange, "topic");
    channel.bind(&queue, &exchange, &format!("{}z", "#.".repeat(100)));
    channel.bind(&queue, &exchange, &format!("{}z", "#.a.".repeat(60)));
    channel.bind(&queue, &exchange, &format!("{}z", "*.#.".repeat(60)));
    channel.confirm_select();
    let key = vec!["a"; 127].join(".");
    let start = Instant::now();
    for _ in 0..100 {
        channel.publish(&exchange, &key, "no match");
    }
    channel.confirmed(1..=100);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "100 keys took {:?}",
        start.elapsed()
    );
    assert_eq!(channel.passive(&queue).message_count, 0);
}
