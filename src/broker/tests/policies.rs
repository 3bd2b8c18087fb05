//! Policies that are set and cleared while queues hold messages.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;
use crate::mail::NumberedChange;
use crate::model::Change;
use crate::model::administration::Policy;
use crate::model::policy::PolicyKind;

/// Has every core carry the change out, as if the catalog had sent it. It takes the number of the last
/// change that the cores have reported, so that the catalog sees nothing new.
pub(super) fn carry_out(world: &mut World, number: u64, change: &Change) {
    let change = NumberedChange::Change {
        number,
        change: change.clone(),
    };
    for core in 0..world.cores.len() {
        world.cores[core].carry_out(&change);
        world.turn(core);
    }
    world.run();
    // The time is the same as before, so whoever wants to be looked at is due.
    for core in 0..world.cores.len() {
        while world.cores[core]
            .next_timer()
            .is_some_and(|due| due <= Time(1))
        {
            world.cores[core].expire(Time(1));
            world.turn(core);
        }
    }
    world.run();
}

pub(super) fn set(name: &str, definition: Json) -> Change {
    set_for("queues", name, definition)
}

fn set_for(apply_to: &str, name: &str, definition: Json) -> Change {
    let policy = Policy {
        vhost: "/".into(),
        name: name.into(),
        pattern: "^q".to_owned(),
        apply_to: apply_to.to_owned(),
        definition,
        priority: 0,
    };
    let kind = PolicyKind::User;
    Change::SetPolicy { kind, policy }
}

pub(super) fn clear(name: &str) -> Change {
    Change::ClearPolicy {
        kind: PolicyKind::User,
        vhost: "/".into(),
        name: name.into(),
    }
}

/// How many messages the queue says it has.
fn count(world: &mut World, client: usize, name: &str) -> u32 {
    world.heard(client);
    world.call(client, &declare(name));
    world.run();
    let frames = world.heard(client);
    let declared = frames.iter().find_map(|frame| match frame {
        AMQPFrame::Method(_, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(answer))) => {
            Some(answer.message_count)
        }
        _ => None,
    });
    declared.expect("the queue is declared again")
}

#[test]
fn a_limit_that_a_policy_sets_holds_at_once_for_what_is_there_and_until_it_is_cleared() {
    for cores in [1, 2, 4] {
        let mut world = World::new(cores, 3);
        let client = world.client(usize::from(cores) - 1);
        world.call(client, &declare("q"));
        world.call(client, &declare("other"));
        let publish = |world: &mut World, messages: u32| {
            for number in 0..messages {
                world.publish(client, "q", &number.to_le_bytes());
                world.publish(client, "other", &number.to_le_bytes());
            }
            world.run();
        };
        publish(&mut world, 100);
        carry_out(&mut world, 2, &set("short", json!({"max-length": 10})));
        assert_eq!(count(&mut world, client, "q"), 10, "what was too much goes");
        assert_eq!(count(&mut world, client, "other"), 100, "the pattern");
        publish(&mut world, 5);
        assert_eq!(count(&mut world, client, "q"), 10);
        world.call(client, &declare("q2"));
        for number in 0..20u32 {
            world.publish(client, "q2", &number.to_le_bytes());
        }
        world.run();
        assert_eq!(
            count(&mut world, client, "q2"),
            10,
            "queues that come have it, too"
        );
        carry_out(&mut world, 7, &set("short", json!({"max-length": 3})));
        assert_eq!(count(&mut world, client, "q"), 3, "set anew");
        carry_out(&mut world, 8, &clear("short"));
        publish(&mut world, 5);
        assert_eq!(count(&mut world, client, "q"), 8, "nothing holds any more");
    }
}

#[test]
fn a_queue_may_be_unused_from_the_policy_on_and_not_from_its_birth() {
    let mut world = World::new(1, 3);
    let client = world.client(0);
    world.call(client, &declare("q"));
    world.run();
    carry_out(&mut world, 1, &set("expiry", json!({"expires": 1000})));
    let due = world.cores[0].next_timer();
    assert_eq!(due, Some(Time(1) + Duration::from_secs(1)));
    assert_eq!(count(&mut world, client, "q"), 0, "it is still there");
}

#[test]
fn a_consumer_timeout_that_a_policy_sets_holds_for_what_consumers_have_already() {
    for cores in [1, 2] {
        let mut world = World::new(cores, 3);
        let client = world.client(0);
        world.call(client, &declare("q"));
        world.call(client, &consume("q"));
        world.publish(client, "q", b"kept");
        world.run();
        world.heard(client);
        let timeout = set("slow", json!({"consumer-timeout": 1000}));
        carry_out(&mut world, 1, &timeout);
        let due = world.cores[0].next_timer().expect("it is minded");
        assert!(
            due >= Time(1) + Duration::from_secs(1),
            "not before its time"
        );
        assert!(due <= Time(1) + Duration::from_millis(1001), "{due:?}");
        carry_out(&mut world, 1, &clear("slow"));
        world.cores[0].expire(due);
        world.turn(0);
        world.run();
        assert!(world.heard(client).is_empty(), "cleared in time");
        carry_out(&mut world, 1, &timeout);
        let due = world.cores[0].next_timer().expect("it is minded again");
        world.cores[0].expire(due);
        world.turn(0);
        world.run();
        let heard = world.heard(client);
        let closed = |frame: &AMQPFrame| {
            matches!(frame, AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close)))
                if close.reply_code == 406)
        };
        assert!(heard.iter().any(closed), "{heard:?}");
    }
}

#[test]
fn a_queue_that_a_policy_has_compare_messages_knows_those_that_come_until_it_is_cleared() {
    for cores in [1, 2] {
        let mut world = World::new(cores, 3);
        let client = world.client(usize::from(cores) - 1);
        world.call(client, &declare("q"));
        let publish = |world: &mut World, number| {
            let publish = basic::Publish {
                routing_key: "q".into(),
                ..basic::Publish::default()
            };
            world.publish_known(client, publish, number);
            world.run();
            count(world, client, "q")
        };
        assert_eq!(publish(&mut world, 1), 1);
        let policy = set("once", json!({"x-message-deduplication": true}));
        carry_out(&mut world, 2, &policy);
        let counts = [1, 1, 2, 2].map(|number| publish(&mut world, number));
        assert_eq!(counts, [2, 2, 3, 3], "from now on");
        carry_out(&mut world, 6, &clear("once"));
        assert_eq!(publish(&mut world, 2), 4, "nobody asks any more");
        carry_out(&mut world, 7, &policy);
        let counts = [2, 2].map(|number| publish(&mut world, number));
        assert_eq!(counts, [5, 5], "what it knew is forgotten");
    }
}

#[test]
fn a_policy_says_how_much_an_exchange_remembers_until_it_is_cleared() {
    for cores in [1, 2] {
        let mut world = World::new(cores, 3);
        let client = world.client(usize::from(cores) - 1);
        world.call(client, &deduplicating_exchange("q.once"));
        world.call(client, &declare("all"));
        let bind = queue::AMQPMethod::Bind(queue::Bind {
            queue: "all".into(),
            exchange: "q.once".into(),
            ..queue::Bind::default()
        });
        world.call(client, &AMQPClass::Queue(bind));
        let publish = |world: &mut World, number| {
            let publish = basic::Publish {
                exchange: "q.once".into(),
                ..basic::Publish::default()
            };
            world.publish_known(client, publish, number);
            world.run();
            count(world, client, "all")
        };
        let counts = [1, 2, 1, 2].map(|number| publish(&mut world, number));
        assert_eq!(counts, [1, 2, 2, 2]);
        let one = set_for("exchanges", "one", json!({"x-cache-size": 1}));
        carry_out(&mut world, 8, &one);
        let counts = [2, 1, 1, 2, 1].map(|number| publish(&mut world, number));
        assert_eq!(counts, [2, 3, 3, 4, 5], "the last one only, at once");
        carry_out(
            &mut world,
            13,
            &set_for("queues", "one", json!({"x-cache-size": 1})),
        );
        let counts = [2, 1, 2].map(|number| publish(&mut world, number));
        assert_eq!(
            counts,
            [6, 6, 6],
            "what is said of queues is said of no exchange's own"
        );
        carry_out(&mut world, 16, &one);
        carry_out(&mut world, 16, &clear("one"));
        let counts = [3, 4, 3, 4].map(|number| publish(&mut world, number));
        assert_eq!(counts, [7, 8, 8, 8]);
    }
}
