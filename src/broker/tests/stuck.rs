//! Clients that read nothing: neither their heartbeats nor the broker's end wait for them.

use std::time::Duration;

use super::*;

impl World {
    /// From now on the client reads nothing.
    fn stick(&mut self, client: usize) {
        self.clients[client].is_stuck = true;
    }

    /// Lets the timers of core 0 run for so long, counted from the start, and says what is to become of the
    /// client's socket then.
    fn fate_after(&mut self, client: usize, span: Duration) -> SocketFate {
        const STEP: Duration = Duration::from_millis(100);
        let core = &mut self.cores[0];
        for steps in 1..=span.as_millis() / STEP.as_millis() {
            core.expire(Time(1) + STEP * steps as u32);
        }
        core.output(self.clients[client].session).1
    }

    /// The client takes this many bytes of its output at that time.
    fn takes(&mut self, client: usize, count: usize, now: Time) {
        let session = self.clients[client].session;
        let (output, _) = self.cores[0].output(session);
        let before = output.len();
        while output.len() > before - count {
            let mut slices = [std::io::IoSlice::new(&[])];
            output.slices(&mut slices);
            let len = slices[0].len().min(output.len() + count - before);
            output.consume(len);
        }
        self.cores[0].written(now, session);
    }

    /// The runtime does what the session's fate says.
    fn close_and_check_that_only_others_are_left(&mut self, client: usize, others: usize) {
        self.cut(client);
        self.run();
        assert_eq!(self.cores[0].session_count(), others);
    }
}

/// A client that was sent what it doesn't read, with a heartbeat interval of so many seconds; and one that
/// publishes.
fn stuck_consumer(heartbeat: u16) -> (World, usize) {
    let mut world = World::new(1, 1);
    let consumer = world.client_with_heartbeat(0, heartbeat);
    world.call(consumer, &declare("q"));
    world.call(consumer, &consume("q"));
    world.run();
    world.stick(consumer);
    let publisher = world.client(0);
    world.publish(publisher, "q", b"\x01\0\0\0");
    world.run();
    let session = world.clients[consumer].session;
    let (output, fate) = world.cores[0].output(session);
    assert!(!output.is_empty() && fate == SocketFate::Open);
    (world, consumer)
}

fn say_goodbye(world: &mut World, client: usize) {
    let mut close = Vec::new();
    let method = connection::AMQPMethod::Close(connection::Close::default());
    method::encode(&mut close, 0, &AMQPClass::Connection(method));
    world.say(client, &close);
    world.run();
}

#[test]
fn a_client_that_misses_its_heartbeats_is_cut_whatever_it_has_not_read() {
    let (mut world, consumer) = stuck_consumer(1);
    let early = world.fate_after(consumer, Duration::from_millis(1900));
    assert_eq!(early, SocketFate::Open);
    let late = world.fate_after(consumer, Duration::from_secs(2));
    assert_eq!(late, SocketFate::CloseNow);
    world.close_and_check_that_only_others_are_left(consumer, 1);
}

#[test]
fn a_client_that_closes_and_reads_nothing_more_has_its_heartbeats_time_for_that() {
    let (mut world, consumer) = stuck_consumer(1);
    say_goodbye(&mut world, consumer);
    let early = world.fate_after(consumer, Duration::from_millis(1900));
    assert_eq!(early, SocketFate::CloseWhenWritten);
    let late = world.fate_after(consumer, Duration::from_secs(2));
    assert_eq!(late, SocketFate::CloseNow);
    world.close_and_check_that_only_others_are_left(consumer, 1);
}

#[test]
fn a_client_that_closes_and_reads_nothing_more_does_not_hold_up_the_brokers_end() {
    let (mut world, consumer) = stuck_consumer(0);
    say_goodbye(&mut world, consumer);
    world.cores[0].shut_down(Time(1));
    let late = world.fate_after(consumer, limits::CLOSE_TIMEOUT);
    assert_eq!(late, SocketFate::CloseNow);
}

#[test]
fn a_client_that_asks_for_more_than_it_reads_lives_as_long_as_it_reads() {
    let mut world = World::new(1, 1);
    let [asker, publisher] = [1, 0].map(|heartbeat| world.client_with_heartbeat(0, heartbeat));
    world.call(publisher, &declare("q"));
    let body = vec![7; 1 << 20];
    let messages = limits::OUTPUT_BYTES_MAX / body.len() + 2;
    for _ in 0..messages {
        world.publish(publisher, "q", &body);
    }
    world.run();
    world.stick(asker);
    let get = basic::Get {
        queue: "q".into(),
        no_ack: true,
    };
    for _ in 0..messages {
        world.call(
            asker,
            &AMQPClass::Basic(basic::AMQPMethod::Get(get.clone())),
        );
        world.run();
    }
    assert!(world.is_blocked(asker), "nothing more is read of it");
    let second = |number| Time(1) + Duration::from_secs(number);
    for number in 1..4 {
        world.takes(asker, 1000, second(number));
        let fate = world.fate_after(asker, Duration::from_secs(number + 1));
        assert_eq!(fate, SocketFate::Open);
    }
    let late = world.fate_after(asker, Duration::from_secs(5));
    assert_eq!(late, SocketFate::CloseNow);
}
