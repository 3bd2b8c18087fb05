//! Disks that fail to read: what passes soon is waited for, and what doesn't keeps nothing else back and is there again
//! when a later start can read it.

use std::time::Duration;

use super::site::{CORES, OWNER, Site, UNDERTAKER, text};
use super::*;
use crate::base::limits::{READ_RETRY, READ_TRIES};

/// How long messages of [`of_letters`] live.
const TTL: Duration = Duration::from_secs(3600);

/// Arguments of a queue whose messages will die.
fn letters() -> [(&'static str, AMQPValue); 3] {
    [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("grave")),
        ("x-message-ttl", AMQPValue::LongInt(TTL.as_millis() as i32)),
    ]
}

/// A queue of which messages 0 and 1 are in the log alone, and will die.
fn of_letters(cores: u16) -> Site {
    let mut site = Site::new(cores);
    site.declare(UNDERTAKER, "grave", &[]);
    site.declare(OWNER, "q", &letters());
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

/// A read has failed once, and fails each time that it is tried again.
fn until_given_up(site: &mut Site) {
    for _ in 1..READ_TRIES {
        site.pass(READ_RETRY);
    }
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
fn a_read_that_fails_late_is_tried_again_no_sooner() {
    for cores in CORES {
        let mut site = of_pages(cores);
        (site.failing_reads, site.read_span) = (1, 10 * READ_RETRY);
        assert!(site.drain(OWNER, "q", true).is_empty());
        site.pass(READ_RETRY / 2);
        assert!(site.heard(OWNER).is_empty());
        site.pass(READ_RETRY / 2);
        assert_eq!(site.heard(OWNER), [0]);
    }
}

#[test]
fn letters_that_can_not_be_read_at_all_are_left_in_the_log_and_keep_no_other_back() {
    for cores in CORES {
        let mut site = of_letters(cores);
        site.failing_reads = READ_TRIES;
        site.pass(TTL);
        until_given_up(&mut site);
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
        until_given_up(&mut site);
        site.publish("q", true, 2);
        assert_eq!(site.drain(OWNER, "q", true), [2]);
        let mut site = site.restart();
        assert_eq!(site.drain(OWNER, "q", true), [0, 1]);
    }
}

/// Queues of which so many messages are in the log alone, each in a batch of its own.
fn of_many(count: u32, arguments: &[(&str, AMQPValue)]) -> Site {
    let mut site = Site::new(1);
    site.declare(UNDERTAKER, "grave", &[]);
    site.declare(OWNER, "q", arguments);
    (0..count).for_each(|number| site.publish("q", true, number));
    site.restart()
}

/// A byte in the middle of what `of_many(60, …)` writes: of three pieces that can be read by themselves it spoils one.
const UNREADABLE: usize = 120_000;

/// What came are most messages, in order, and the first and the last; what didn't is there after a restart.
fn few_are_missing(mut site: Site, came: &[u32]) {
    assert!(came.is_sorted() && came.len() > 60 / 2, "{came:?}");
    assert_eq!((came.first(), came.last()), (Some(&0), Some(&59)));
    let missing: Vec<u32> = (0..60).filter(|number| !came.contains(number)).collect();
    assert!(!missing.is_empty());
    site = site.restart();
    site.pass(TTL);
    let mut there = site.drain(OWNER, "q", true);
    there.extend(site.exhume("grave"));
    assert_eq!(there, missing);
}

#[test]
fn a_sector_that_can_not_be_read_keeps_little_of_a_queue_back() {
    let mut site = of_many(60, &[]);
    site.unreadable = Some(UNREADABLE);
    let mut came = site.drain(OWNER, "q", true);
    for _ in 0..20 {
        site.pass(READ_RETRY);
        came.extend(site.heard(OWNER));
        came.extend(site.drain(OWNER, "q", true));
    }
    few_are_missing(site, &came);
}

#[test]
fn a_sector_that_can_not_be_read_keeps_few_letters_back() {
    let mut site = of_many(60, &letters());
    site.unreadable = Some(UNREADABLE);
    site.pass(TTL);
    let mut came = site.exhume("grave");
    for _ in 0..20 {
        site.pass(READ_RETRY);
        came.extend(site.exhume("grave"));
    }
    few_are_missing(site, &came);
}

#[test]
fn a_purge_takes_what_can_not_be_read_along() {
    for cores in CORES {
        let mut letters = of_letters(cores);
        letters.failing_reads = READ_TRIES;
        letters.pass(TTL);
        let mut pages = of_pages(cores);
        pages.failing_reads = READ_TRIES;
        assert!(pages.drain(OWNER, "q", true).is_empty());
        for mut site in [letters, pages] {
            until_given_up(&mut site);
            let purge = queue::AMQPMethod::Purge(queue::Purge {
                queue: "q".into(),
                ..queue::Purge::default()
            });
            site.call(OWNER, &AMQPClass::Queue(purge));
            let mut site = site.restart();
            site.pass(TTL);
            assert!(site.drain(OWNER, "q", true).is_empty());
            assert!(site.exhume("grave").is_empty());
        }
    }
}

/// Memory is full, so that what was read behind a message that is damaged leaves it again; that must not be the end of
/// it.
#[test]
fn a_damaged_message_keeps_less_urgent_ones_back_no_longer_than_it_is_looked_for() {
    let mut site = Site::new(1);
    site.declare(OWNER, "q", &[("x-max-priority", AMQPValue::LongInt(5))]);
    let body = |number: u32| [&number.to_le_bytes()[..], &[0x55; 4000]].concat();
    let urgent = [&[0, 0, 0, 0][..], b"the urgent one"].concat();
    site.publish_with("q", &[0x18, 0, 2, 5], &urgent);
    for number in 1..30 {
        site.publish_with("q", &[0x18, 0, 2, 0], &body(number));
    }
    site.settings = Arc::new(Settings {
        resident_bytes: 0,
        ..Settings::default()
    });
    let mut site = site.restart();
    site.spoil(&urgent);
    assert_eq!(site.drain(OWNER, "q", true), Vec::from_iter(1..30));
}
