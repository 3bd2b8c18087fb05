//! Alarms: whoever publishes is blocked until they clear, and nothing of what it said is lost.

use super::*;
use crate::base::{Alarms, limits};

const MEMORY: Alarms = Alarms {
    memory: true,
    disk: false,
};
const BOTH: Alarms = Alarms {
    memory: true,
    disk: true,
};

impl World {
    fn set_alarms(&mut self, alarms: Alarms) {
        for core in 0..self.cores.len() {
            self.cores[core].set_alarms(Time(1), alarms);
            self.turn(core);
        }
    }

    /// The reasons of `connection.blocked`, and "" for `connection.unblocked`, since asked last.
    fn notifications(&mut self, client: usize) -> Vec<String> {
        let frames = self.heard(client);
        let of_frame = |frame: &AMQPFrame| match frame {
            AMQPFrame::Method(0, AMQPClass::Connection(method)) => match method {
                connection::AMQPMethod::Blocked(blocked) => Some(blocked.reason.to_string()),
                connection::AMQPMethod::Unblocked(_) => Some(String::new()),
                _ => None,
            },
            _ => None,
        };
        frames.iter().filter_map(of_frame).collect()
    }
}

fn numbers(deliveries: &[Summary]) -> Vec<u32> {
    deliveries.iter().map(|delivery| delivery.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// However often alarms come and go between the bytes of a publisher: every message arrives once
    /// and in order, and each `blocked` is followed by its `unblocked`.
    #[test]
    fn no_message_is_lost_while_alarms_come_and_go(
        cores in 1u16..4,
        seed in any::<u64>(),
        count in 1u32..40,
        steps in prop::collection::vec(0usize..20, 0..20),
    ) {
        let mut world = World::new(cores, seed);
        let [publisher, consumer] = [(); 2].map(|()| {
            let core = world.roll(usize::from(cores));
            world.client(core)
        });
        world.call(consumer, &declare("q"));
        world.call(consumer, &consume("q"));
        world.run();
        world.call(publisher, &declare("q"));
        for number in 0..count {
            // Some bodies are large, and come in many frames.
            let mut body = number.to_le_bytes().to_vec();
            body.resize(if number % 5 == 3 { 2 * limits::LARGE_BODY_BYTES } else { 4 }, 7);
            world.publish(publisher, "q", &body);
        }
        for (index, steps) in steps.into_iter().enumerate() {
            world.set_alarms(if index % 2 == 0 { MEMORY } else { Alarms::default() });
            for _ in 0..steps {
                world.step();
            }
        }
        world.set_alarms(Alarms::default());
        world.run();
        let expected: Vec<u32> = (0..count).collect();
        prop_assert_eq!(numbers(&deliveries(&world.heard(consumer))), expected);
        let told = world.notifications(publisher);
        for pair in told.chunks(2) {
            prop_assert_eq!(pair, ["low on memory", ""]);
        }
    }
}

#[test]
fn a_publisher_is_blocked_with_its_publish_and_goes_on_when_all_alarms_are_clear() {
    let mut world = World::new(2, 1);
    let [publisher, consumer] = [1, 0].map(|core| world.client(core));
    world.call(consumer, &declare("q"));
    world.call(consumer, &consume("q"));
    world.set_alarms(BOTH);
    world.run();
    assert!(!world.is_blocked(publisher), "it has not published yet");
    world.publish(publisher, "q", b"\x01\0\0\0");
    world.run();
    assert!(world.is_blocked(publisher));
    let Client { core, session, .. } = world.clients[publisher];
    assert_eq!(world.cores[core].read_budget(session), 0);
    assert_eq!(world.notifications(publisher), ["low on memory & disk"]);
    // One alarm less is no reason to go on, nor to say anything.
    world.set_alarms(MEMORY);
    world.set_alarms(BOTH);
    assert!(world.is_blocked(publisher));
    assert!(world.notifications(publisher).is_empty());
    world.set_alarms(Alarms::default());
    assert!(!world.is_blocked(publisher));
    assert!(world.cores[core].read_budget(session) > 0);
    assert_eq!(world.notifications(publisher), [""]);
    world.publish(publisher, "q", b"\x02\0\0\0");
    world.run();
    assert_eq!(numbers(&deliveries(&world.heard(consumer))), [1, 2]);
    assert!(world.notifications(publisher).is_empty());
}

#[test]
fn a_blocked_connection_that_the_broker_ends_is_read_again() {
    let mut world = World::new(1, 1);
    let publisher = world.client(0);
    world.set_alarms(MEMORY);
    world.call(publisher, &declare("q"));
    world.publish(publisher, "q", b"\x01\0\0\0");
    world.run();
    assert!(world.is_blocked(publisher));
    world.cores[0].shut_down(Time(1));
    world.turn(0);
    assert!(!world.is_blocked(publisher), "its close-ok must be seen");
    let mut close_ok = Vec::new();
    let method = connection::AMQPMethod::CloseOk(connection::CloseOk {});
    method::encode(&mut close_ok, 0, &AMQPClass::Connection(method));
    world.say(publisher, &close_ok);
    world.run();
    assert_eq!(world.cores[0].session_count(), 0);
}

#[test]
fn the_deadline_of_a_blocked_clients_heartbeats_rests() {
    let mut world = World::new(1, 1);
    let publisher = world.client_with_heartbeat(0, 1);
    let Client { session, .. } = world.clients[publisher];
    world.set_alarms(MEMORY);
    world.publish(publisher, "nowhere", b"\x01\0\0\0");
    world.run();
    world.heard(publisher);
    assert!(world.is_blocked(publisher));
    let core = &mut world.cores[0];
    // At twice per interval, ten times last for five.
    for _ in 0..10 {
        let due = core.next_timer().expect("an open connection has a timer");
        core.expire(due);
    }
    let (output, fate) = core.output(session);
    assert_eq!(fate, SocketFate::Open);
    assert!(!output.is_empty(), "ours are sent all the same");
}
