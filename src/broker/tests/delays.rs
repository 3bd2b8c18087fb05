//! Messages of a delayed exchange come in the order of their times, and those of one time in the order in which they
//! were published.

use super::*;

fn at_ms(ms: u64) -> Time {
    Time(ms * 1_000_000)
}

impl World {
    /// A client with a queue that is bound to a delayed exchange, and consumed from.
    fn delaying(&mut self) -> usize {
        let client = self.client(0);
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-delayed-type".into(),
            AMQPValue::LongString("fanout".into()),
        );
        let exchange = exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: "later".into(),
            kind: "x-delayed-message".into(),
            arguments,
            ..exchange::Declare::default()
        });
        let bind = queue::AMQPMethod::Bind(queue::Bind {
            queue: "q".into(),
            exchange: "later".into(),
            ..queue::Bind::default()
        });
        self.call(client, &AMQPClass::Exchange(exchange));
        self.call(client, &declare("q"));
        self.call(client, &AMQPClass::Queue(bind));
        self.call(client, &consume("q"));
        self.run();
        self.heard(client);
        client
    }

    fn publish_after(&mut self, client: usize, delay_ms: i64, number: u32) {
        let publish = basic::Publish {
            exchange: "later".into(),
            ..basic::Publish::default()
        };
        let properties = with_header(&[0, 0], "x-delay", delay_ms);
        self.publish_with(client, publish, &properties, &number.to_le_bytes());
    }

    fn come_by_ms(&mut self, client: usize, ms: u64) -> Vec<u32> {
        self.run();
        self.cores[0].expire(at_ms(ms));
        self.turn(0);
        self.run();
        let came = deliveries(&self.heard(client));
        came.iter().map(|delivery| delivery.0).collect()
    }
}

#[test]
fn those_that_are_late_come_in_their_order_with_others_between() {
    let mut world = World::new(1, 1);
    let client = world.delaying();
    for (number, delay_ms) in [50, 150, 50, 100, 50].into_iter().enumerate() {
        world.publish_after(client, delay_ms, number as u32);
    }
    assert_eq!(world.come_by_ms(client, 200), [0, 2, 4, 3, 1]);
}

#[test]
fn one_that_is_due_when_the_broker_stops_waits_for_the_next_start() {
    let mut world = World::new(1, 1);
    let client = world.delaying();
    for (number, delay_ms) in [(0, 50), (1, 100), (2, 9000)] {
        world.publish_after(client, delay_ms, number);
    }
    assert_eq!(world.come_by_ms(client, 60), [0]);
    world.cores[0].shut_down(at_ms(70));
    assert!(world.come_by_ms(client, 9000).is_empty());
}

#[test]
fn one_that_came_late_waits_for_those_that_left_their_queue_early() {
    let mut world = World::new(1, 1);
    let client = world.delaying();
    world.publish_after(client, 50, 0);
    assert!(world.come_by_ms(client, 10).is_empty(), "it is read ahead");
    world.publish_after(client, 50, 1);
    assert_eq!(world.come_by_ms(client, 60), [0, 1]);
}

#[test]
fn of_more_than_leave_at_once_the_first_come_first() {
    let mut world = World::new(1, 1);
    let client = world.delaying();
    for (number, delay_ms) in [50, 1000].into_iter().chain([60; 1500]).enumerate() {
        world.publish_after(client, delay_ms, number as u32);
    }
    assert_eq!(world.come_by_ms(client, 2000).first(), Some(&0));
}
