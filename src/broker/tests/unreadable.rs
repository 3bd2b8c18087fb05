//! Disks that fail to read: what passes soon is waited for, and what doesn't keeps nothing else back and is there again
//! when a later start can read it.

use std::time::Duration;

use super::site::{CORES, OWNER, Site, UNDERTAKER, text};
use super::*;
use crate::base::limits::{READ_RETRY, READ_TRIES};

/// How long messages of [`of_letters`] live.
const TTL: Duration = Duration::from_secs(3600);

/// Queues of which messages 0 and 1 are in the log alone, and will die.
fn of_letters(cores: u16) -> Site {
    let mut site = Site::new(cores);
    site.declare(UNDERTAKER, "grave", &[]);
    let arguments = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("grave")),
        ("x-message-ttl", AMQPValue::LongInt(TTL.as_millis() as i32)),
    ];
    site.declare(OWNER, "q", &arguments);
    site.publish("q", true, 0);
    site.publish("q", true, 1);
    site.restart()
}

/// A queue of which messages 0 and 1 are in the log alone.
fn of_pages(cores: u16) -> Site {
    let mut site = Site::new(cores);
    site.declare(OWNER, "q", &[]);
    site.publish("q", true, 0);
    site.publish("q", true, 1);
    site.restart()
}

#[test]
fn a_letter_that_can_not_be_read_at_once_is_read_a_little_later() {
    for cores in CORES {
        for failing in 1..READ_TRIES {
            let mut site = of_letters(cores);
            site.failing_reads = failing;
            site.pass(TTL);
            assert!(site.exhume("grave").is_empty());
            for _ in 0..failing {
                site.pass(READ_RETRY);
            }
            assert_eq!(site.exhume("grave"), [0, 1]);
        }
    }
}

#[test]
fn letters_that_can_not_be_read_at_all_are_left_in_the_log_and_keep_no_other_back() {
    for cores in CORES {
        let mut site = of_letters(cores);
        site.failing_reads = READ_TRIES;
        site.pass(TTL);
        for _ in 1..READ_TRIES {
            site.pass(READ_RETRY);
        }
        assert_eq!(site.failing_reads, 0);
        assert!(site.drain(OWNER, "q", true).is_empty());
        assert!(!site.has_letters());
        site.publish("q", true, 2);
        site.pass(TTL);
        assert_eq!(site.exhume("grave"), [2]);
        let mut site = site.restart();
        site.pass(TTL);
        assert_eq!(site.exhume("grave"), [0, 1]);
    }
}

#[test]
fn a_page_that_can_not_be_read_at_once_is_read_a_little_later() {
    for cores in CORES {
        for failing in 1..READ_TRIES {
            let mut site = of_pages(cores);
            site.failing_reads = failing;
            let waiting = site.drain(OWNER, "q", true);
            assert!(waiting.is_empty());
            for _ in 0..failing {
                assert!(site.heard(OWNER).is_empty());
                site.pass(READ_RETRY);
            }
            assert_eq!(site.heard(OWNER), [0]);
            assert_eq!(site.drain(OWNER, "q", true), [1]);
        }
    }
}

#[test]
fn a_page_that_can_not_be_read_at_all_is_left_in_the_log_and_keeps_no_other_back() {
    for cores in CORES {
        let mut site = of_pages(cores);
        site.failing_reads = READ_TRIES;
        assert!(site.drain(OWNER, "q", true).is_empty());
        for _ in 1..READ_TRIES {
            site.pass(READ_RETRY);
        }
        site.publish("q", true, 2);
        assert_eq!(site.drain(OWNER, "q", true), [2]);
        let mut site = site.restart();
        assert_eq!(site.drain(OWNER, "q", true), [0, 1]);
    }
}
