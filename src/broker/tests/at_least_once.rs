//! Dead letters of a queue that keeps them until they are taken (`x-dead-letter-strategy: at-least-once`), with disks
//! that do what they are asked for.

use std::time::Duration;

use serde_json::json;

use super::policies::{carry_out, clear, set};
use super::site::{CORES, OWNER, Site, UNDERTAKER, text};
use super::*;
use crate::base::limits::LETTER_RETRY;

/// A queue that keeps its dead letters, which go to `exchange` with the key `grave`.
fn keeping(exchange: &str) -> Vec<(&'static str, AMQPValue)> {
    let strategy = ("x-dead-letter-strategy", text("at-least-once"));
    let mut arguments = trying(exchange);
    arguments.push(strategy);
    arguments
}

/// The same, but what nobody takes is dropped.
fn trying(exchange: &str) -> Vec<(&'static str, AMQPValue)> {
    vec![
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-routing-key", text("grave")),
    ]
}

#[test]
fn letters_that_a_full_queue_refuses_come_one_after_the_other_as_it_is_drained() {
    for (cores, persistent) in CORES
        .into_iter()
        .zip([true, false])
        .chain([(1, false), (2, true)])
    {
        let mut site = Site::new(cores);
        site.declare_narrow_grave();
        site.declare(OWNER, "q", &keeping(""));
        site.kill(persistent, 3);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY / 2);
        assert!(site.exhume("grave").is_empty(), "it isn't time yet");
        site.pass(LETTER_RETRY / 2);
        assert_eq!(site.exhume("grave"), [1]);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [2]);
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty(), "none comes twice");
        assert!(site.drain(OWNER, "q", true).is_empty());
    }
}

#[test]
fn a_letter_waits_for_its_exchange_and_for_a_queue_there() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(UNDERTAKER, "grave", &[]);
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 2);
        site.pass(LETTER_RETRY);
        site.declare_exchange();
        site.pass(LETTER_RETRY);
        site.bind("grave");
        assert!(site.exhume("grave").is_empty());
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [0, 1]);
    }
}

#[test]
fn who_has_taken_a_letter_gets_it_no_second_time() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare_exchange();
        site.declare_narrow_grave();
        site.declare(OWNER, "wide", &[]);
        site.bind("grave");
        site.bind("wide");
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 3);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [1]);
        assert_eq!(site.exhume("wide"), [0, 1, 2]);
    }
}

#[test]
fn a_stop_doesnt_wait_for_letters_that_nobody_takes_and_they_are_in_their_queue_again() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 2);
        site.pass(LETTER_RETRY);
        let mut site = site.restart();
        site.declare_exchange();
        site.declare(UNDERTAKER, "grave", &[]);
        site.bind("grave");
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty());
        assert_eq!(site.drain(OWNER, "q", true), [0, 1]);
    }
}

#[test]
fn letters_of_which_it_is_time_while_the_broker_stops_stay_where_they_are() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 2);
        site.declare_exchange();
        site.declare(UNDERTAKER, "grave", &[]);
        site.bind("grave");
        for core in &mut site.world.cores {
            core.shard.close_letters();
        }
        site.pass(LETTER_RETRY);
        assert!(!site.has_letters());
        assert!(site.exhume("grave").is_empty());
    }
}

#[test]
fn a_letter_that_needs_nobody_to_take_it_is_dropped() {
    let over = |arguments: &mut Vec<(&str, AMQPValue)>| arguments[1].1 = text("drop-head");
    let mut dropping = keeping("");
    over(&mut dropping);
    for (cores, arguments) in CORES.into_iter().zip([trying(""), dropping]) {
        let mut site = Site::new(cores);
        site.declare_narrow_grave();
        site.declare(OWNER, "q", &arguments);
        site.kill(true, 3);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty());
    }
}

#[test]
fn letters_that_nobody_takes_count_where_their_queue_is_limited() {
    for cores in CORES {
        let mut site = Site::new(cores);
        let mut arguments = keeping("dlx");
        arguments.push(("x-max-length", AMQPValue::LongInt(2)));
        site.declare(OWNER, "q", &arguments);
        site.kill(false, 1);
        for number in 10..13 {
            site.publish("q", true, number);
        }
        assert_eq!(site.drain(OWNER, "q", true), [10]);
        site.declare_exchange();
        site.declare(UNDERTAKER, "grave", &[]);
        site.bind("grave");
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [0]);
        for number in 20..23 {
            site.publish("q", true, number);
        }
        assert_eq!(site.drain(OWNER, "q", true), [20, 21]);
    }
}

#[test]
fn letters_are_dropped_when_a_policy_says_no_more_that_they_stay() {
    for cores in CORES {
        let mut site = Site::new(cores);
        let mut arguments = trying("");
        arguments.truncate(2);
        site.declare_narrow_grave();
        site.declare(OWNER, "q", &arguments);
        let policy = json!({
            "dead-letter-exchange": "",
            "dead-letter-routing-key": "grave",
            "dead-letter-strategy": "at-least-once",
        });
        carry_out(&mut site.world, 2, &set("keep", policy));
        site.kill(true, 3);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [1]);
        carry_out(&mut site.world, 2, &clear("keep"));
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty());
        assert!(!site.has_letters());
    }
}

#[test]
fn letters_go_at_once_where_a_new_policy_leads_them() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(UNDERTAKER, "grave", &[]);
        let mut arguments = keeping("");
        arguments.retain(|(name, _)| !name.starts_with("x-dead-letter-routing"));
        site.declare(OWNER, "q", &arguments);
        let leading = |to: &str| set("lead", json!({"dead-letter-routing-key": to}));
        carry_out(&mut site.world, 2, &leading("nowhere"));
        site.kill(true, 2);
        site.pass(LETTER_RETRY);
        carry_out(&mut site.world, 2, &leading("grave"));
        site.pass(Duration::ZERO);
        assert_eq!(site.exhume("grave"), [0, 1]);
    }
}
