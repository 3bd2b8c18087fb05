//! Sessions that move to the core whose queues they use: when, and that their clients notice nothing.

use std::ops::Range;

use amq_protocol::protocol::tx;

use super::*;
use crate::base::settings::DefaultLimits;
use crate::base::{Pattern, SessionId, limits};
use crate::mail::ToHost;

/// Messages before a session is asked whose queues it uses.
const FEW: u32 = 10;

fn restless(cores: u16, seed: u64) -> World {
    let settings = Settings {
        move_messages: FEW,
        spreads_queues: false,
        ..Settings::default()
    };
    World::with_settings(cores, seed, settings)
}

fn body(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn select_confirms() -> AMQPClass {
    let select = confirm::AMQPMethod::Select(confirm::Select::default());
    AMQPClass::Confirm(select)
}

/// The numbers of the messages that came back.
fn returns(frames: &[AMQPFrame]) -> Vec<u32> {
    let mut found = Vec::new();
    let mut is_return = false;
    for frame in frames {
        match frame {
            AMQPFrame::Method(_, class) => {
                is_return = matches!(class, AMQPClass::Basic(basic::AMQPMethod::Return(_)));
            }
            AMQPFrame::Body(_, bytes) if is_return => {
                let four = bytes.first_chunk().expect("bodies here have four bytes");
                found.push(u32::from_le_bytes(*four));
            }
            _ => {}
        }
    }
    found
}

fn qos(prefetch_count: u16, global: bool) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos {
        prefetch_count,
        global,
    }))
}

fn acknowledge(delivery_tag: u64) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
        delivery_tag,
        multiple: true,
    }))
}

fn close() -> Vec<u8> {
    let mut bytes = Vec::new();
    let method = connection::AMQPMethod::Close(connection::Close::default());
    method::encode(&mut bytes, 0, &AMQPClass::Connection(method));
    bytes
}

/// The tag of the last delivery; they ascend one by one from `first`.
fn last_tag(frames: &[AMQPFrame], first: u64) -> u64 {
    let mut next = first;
    for frame in frames {
        if let AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))) = frame {
            assert_eq!(deliver.delivery_tag, next, "tags ascend one by one");
            next += 1;
        }
    }
    next - 1
}

impl World {
    /// A client on core `core` that has declared a queue of that name there.
    fn owner(&mut self, core: usize, queue: &str) -> usize {
        let owner = self.client(core);
        self.call(owner, &declare(queue));
        self.run();
        owner
    }

    fn core_of(&self, client: usize) -> usize {
        self.clients[client].core
    }

    /// Runs until the client's session is on its way between two cores. Whether it ever was.
    fn run_until_under_way(&mut self, client: usize) -> bool {
        while self.core_of(client) != NOWHERE {
            if !self.step() {
                return false;
            }
        }
        true
    }

    /// The client publishes that many messages, each its number.
    fn publish_numbers(&mut self, client: usize, queue: &str, numbers: Range<u32>) {
        for number in numbers {
            self.publish(client, queue, &body(number));
        }
    }

    /// The numbers of the messages that the client got.
    fn numbers_heard(&mut self, client: usize) -> Vec<u32> {
        let came = deliveries(&self.heard(client));
        came.iter().map(|(number, ..)| *number).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// A publisher and a consumer, both on the wrong core: every message is confirmed, arrives once and in order,
    /// with tags that ascend, and no more are unacknowledged than the consumer wants.
    #[test]
    fn a_stream_goes_on_while_both_its_ends_move(
        cores in 2u16..5,
        seed in any::<u64>(),
        count in 40u32..150,
        prefetch in 0u16..12,
        global in any::<bool>(),
        no_ack in any::<bool>(),
        large in 0u32..150,
    ) {
        let mut world = restless(cores, seed);
        let home = world.roll(usize::from(cores));
        let [away, apart] = [1, 2].map(|by| (home + by) % usize::from(cores));
        world.owner(home, "q");
        let (publisher, consumer) = (world.client(away), world.client(apart));
        world.call(publisher, &select_confirms());
        world.call(consumer, &qos(prefetch, global));
        world.call(consumer, &AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
            queue: "q".into(),
            no_ack,
            ..basic::Consume::default()
        })));
        let bytes = |number: u32| {
            let mut bytes = body(number).to_vec();
            bytes.resize(if number == large { 20_000 } else { 4 }, 7);
            bytes
        };
        for number in 0..count {
            world.publish(publisher, "q", &bytes(number));
        }
        let (mut came, mut last) = (Vec::new(), 0);
        loop {
            world.run();
            let told = world.heard(consumer);
            let (before, now) = (last, last_tag(&told, last + 1));
            last = now;
            came.extend(deliveries(&told));
            if prefetch > 0 && !no_ack {
                prop_assert!(now - before <= u64::from(prefetch));
            }
            if now == before {
                break;
            }
            if !no_ack {
                world.call(consumer, &acknowledge(last));
            }
        }
        let expected: Vec<Summary> = (0..count).map(|number| (number, bytes(number).len(), false)).collect();
        prop_assert_eq!(came, expected);
        prop_assert_eq!(acknowledged_upto(&world.heard(publisher)), u64::from(count));
        prop_assert_eq!(world.core_of(publisher), home);
        prop_assert_eq!(world.core_of(consumer), home);
        world.cut_all_and_check_nothing_is_left();
    }

    /// Whenever the client hangs up: what it held goes back to its place.
    #[test]
    fn a_client_that_hangs_up_while_its_session_moves_leaves_nothing_behind(
        seed in any::<u64>(),
        steps in 0usize..60,
    ) {
        let mut world = restless(3, seed);
        let owner = world.owner(1, "q");
        let consumer = world.client(2);
        world.call(consumer, &consume("q"));
        world.run();
        world.publish_numbers(owner, "q", 0..2 * FEW);
        for _ in 0..steps {
            world.step();
        }
        world.cut(consumer);
        world.run();
        let heir = world.client(0);
        world.call(heir, &consume("q"));
        world.run();
        prop_assert_eq!(world.numbers_heard(heir), (0..2 * FEW).collect::<Vec<_>>());
        world.cut_all_and_check_nothing_is_left();
    }

    /// Whenever the broker stops: every client is told, and every session ends.
    #[test]
    fn a_broker_that_stops_while_sessions_move_ends_them_all(
        seed in any::<u64>(),
        steps in 0usize..60,
    ) {
        let mut world = restless(3, seed);
        let owner = world.owner(1, "q");
        let (publisher, consumer) = (world.client(2), world.client(0));
        world.call(consumer, &consume("q"));
        world.run();
        world.publish_numbers(publisher, "q", 0..3 * FEW);
        for _ in 0..steps {
            world.step();
        }
        for core in 0..3 {
            world.cores[core].shut_down(Time(1));
            world.turn(core);
        }
        world.run();
        for client in [owner, publisher, consumer] {
            let told = world.heard(client);
            let is_told = told.iter().any(|frame| matches!(
                frame,
                AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))
                    if close.reply_code == 320
            ));
            prop_assert!(is_told, "client {client} heard {told:?}");
        }
        world.cut_all_and_check_nothing_is_left();
    }
}

#[test]
fn a_connection_that_has_moved_counts_once_until_it_goes() {
    let of_vhost = DefaultLimits {
        vhosts: Pattern::exactly("/"),
        connections: Some(2),
        queues: None,
    };
    for seed in 0..20 {
        let settings = Settings {
            move_messages: FEW,
            spreads_queues: false,
            default_limits: vec![of_vhost.clone()],
            ..Settings::default()
        };
        let mut world = World::with_settings(3, seed, settings);
        world.owner(1, "q");
        let publisher = world.client(2);
        world.publish_numbers(publisher, "q", 0..2 * FEW);
        world.run();
        assert_eq!(world.core_of(publisher), 1, "seed {seed}");
        for (is_let_in, core) in [(false, 0), (false, 1), (true, 2), (false, 2)] {
            if is_let_in {
                world.cut(publisher);
                world.run();
            }
            let client = world.client(core);
            world.run();
            let told = world.heard(client);
            let opened = told.iter().any(|frame| {
                matches!(
                    frame,
                    AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::OpenOk(_)))
                )
            });
            assert_eq!(opened, is_let_in, "seed {seed}, core {core}: {told:?}");
        }
    }
}

#[test]
fn who_uses_queues_of_several_cores_alike_stays_where_it_is() {
    let mut world = restless(3, 5);
    world.owner(0, "zero");
    world.owner(1, "one");
    let publisher = world.client(2);
    for number in 0..20 * FEW {
        world.publish(publisher, ["zero", "one"][number as usize % 2], b"");
        world.run();
        assert_eq!(world.core_of(publisher), 2);
    }
}

#[test]
fn who_changes_its_mind_all_the_time_moves_ever_less_often() {
    let mut world = restless(2, 6);
    let queues = ["zero", "one"];
    for (core, queue) in queues.into_iter().enumerate() {
        world.owner(core, queue);
    }
    let publisher = world.client(0);
    let (mut moves, mut published) = (0, 0);
    for _ in 0..FEW << 8 {
        // The worst that can be: it uses the queue that isn't where it is.
        let before = world.core_of(publisher);
        world.publish(publisher, queues[1 - before], b"");
        world.run();
        published += 1;
        if world.core_of(publisher) != before {
            moves += 1;
            assert!(published >= FEW << (moves - 1), "after {published}");
            published = 0;
        }
    }
    assert_eq!(moves, 8);
}

#[test]
fn a_session_that_never_gets_quiet_stays_and_is_read_again() {
    let mut world = restless(2, 7);
    world.owner(1, "q");
    let publisher = world.client(0);
    world.run();
    world.publish_numbers(publisher, "q", 0..FEW);
    while world.cores[1].session_count() == 1 {
        assert!(world.step(), "a place is kept");
    }
    // A question that nobody answers in time: its mail lies in the ring.
    world.call(publisher, &declare("other"));
    let (core, session) = (world.core_of(publisher), world.clients[publisher].session);
    let unsent: Vec<u8> = world.clients[publisher].unsent.drain(..).collect();
    world.cores[core].receive(Time(1), session, &unsent);
    world.cores[core].settle(Time(1));
    let invitation = world.rings.remove(&(1, 0)).expect("core 1 has answered");
    for mut mail in invitation {
        world.cores[core].deliver_mail(Time(1), CoreId(1), &mut mail);
    }
    assert_eq!(world.cores[core].read_budget(session), 0, "it isn't read");
    let late = Time(1) + limits::MOVE_STOP_MAX;
    world.cores[core].expire(late);
    assert!(world.cores[core].read_budget(session) > 0);
    world.turn(core);
    world.run();
    assert_eq!(world.core_of(publisher), 0);
    assert_eq!(world.cores[1].session_count(), 1, "the place is free again");
}

#[test]
fn exclusive_queues_stay_their_owners_wherever_that_is() {
    for seed in 0..20 {
        let mut world = restless(3, seed);
        world.owner(1, "q");
        let (owner, other) = (world.client(2), world.client(0));
        let exclusive = AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: "mine".into(),
            exclusive: true,
            ..queue::Declare::default()
        }));
        world.call(owner, &exclusive);
        world.publish_numbers(owner, "q", 0..2 * FEW);
        world.run();
        assert_eq!(world.core_of(owner), 1, "seed {seed}");
        // One that it declares there is its own as well.
        let late = AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: "late".into(),
            exclusive: true,
            ..queue::Declare::default()
        }));
        world.call(owner, &late);
        world.call(owner, &late);
        world.call(owner, &consume("mine"));
        world.publish(other, "mine", &body(7));
        world.run();
        assert_eq!(
            deliveries(&world.heard(owner)),
            [(7, 4, false)],
            "seed {seed}"
        );
        world.call(other, &consume("mine"));
        world.run();
        let refused = world.heard(other).into_iter().any(|frame| {
            matches!(frame, AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close)))
                if close.reply_code == 405)
        });
        assert!(refused, "seed {seed}");
        world.say(owner, &close());
        world.run();
        let heir = world.client(2);
        world.call(heir, &exclusive);
        world.run();
        let told = world.heard(heir);
        let declared = told.iter().any(|frame| {
            matches!(
                frame,
                AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_)))
            )
        });
        assert!(declared, "it went with its connection: {told:?}");
    }
}

#[test]
fn a_transaction_that_is_open_moves_along() {
    for seed in 0..20 {
        let mut world = restless(2, seed);
        let owner = world.owner(1, "q");
        let publisher = world.client(0);
        let select = tx::AMQPMethod::Select(tx::Select {});
        world.call(publisher, &AMQPClass::Tx(select));
        let commit = AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}));
        world.publish_numbers(publisher, "q", 0..FEW);
        world.call(publisher, &commit);
        // These are gathered while it moves, and are half a frame at times.
        world.publish_numbers(publisher, "q", FEW..2 * FEW);
        world.run();
        assert_eq!(world.core_of(publisher), 1, "seed {seed}");
        world.call(publisher, &commit);
        world.call(owner, &consume("q"));
        world.run();
        let came = world.numbers_heard(owner);
        assert_eq!(came, (0..2 * FEW).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn replies_find_a_requester_that_has_moved() {
    let mut world = restless(3, 8);
    let server = world.owner(1, "requests");
    world.call(server, &consume("requests"));
    let requester = world.client(2);
    let replies = basic::AMQPMethod::Consume(basic::Consume {
        queue: "amq.rabbitmq.reply-to".into(),
        no_ack: true,
        ..basic::Consume::default()
    });
    world.call(requester, &AMQPClass::Basic(replies));
    world.run();
    world.heard(requester);
    let name = b"amq.rabbitmq.reply-to";
    let asks_for_reply = [&[0x02, 0, name.len() as u8], &name[..]].concat();
    for number in 0..2 * FEW {
        let publish = basic::Publish {
            routing_key: "requests".into(),
            ..basic::Publish::default()
        };
        world.publish_with(requester, publish, &asks_for_reply, &body(number));
    }
    world.run();
    assert_eq!(world.core_of(requester), 1);
    let reply_to = world
        .heard(server)
        .into_iter()
        .rev()
        .find_map(|frame| match frame {
            AMQPFrame::Header(_, header) => header.properties.reply_to().clone(),
            _ => None,
        });
    let reply_to = reply_to.expect("a request says where its reply goes");
    world.publish(server, reply_to.as_str(), &body(99));
    world.run();
    assert_eq!(deliveries(&world.heard(requester)), [(99, 4, false)]);
}

#[test]
fn a_mandatory_message_that_turns_out_to_lead_nowhere_comes_back_to_a_publisher_that_has_moved() {
    for seed in 0..60 {
        let mut world = restless(4, seed);
        let [first, second, publisher] = [1, 2, 0].map(|core| world.client(core));
        for (client, name) in [(first, "first"), (second, "second")] {
            world.call(client, &deduplicating_exchange(name));
        }
        world.run();
        let to_second = exchange::AMQPMethod::Bind(exchange::Bind {
            destination: "second".into(),
            source: "first".into(),
            ..exchange::Bind::default()
        });
        let to_queue = queue::AMQPMethod::Bind(queue::Bind {
            queue: "q".into(),
            exchange: "second".into(),
            ..queue::Bind::default()
        });
        world.call(second, &AMQPClass::Exchange(to_second));
        world.call(second, &declare("q"));
        world.call(second, &AMQPClass::Queue(to_queue));
        world.run();
        let numbers = 0..3 * FEW;
        for (client, exchange) in [(second, "second"), (publisher, "first")] {
            for number in numbers.clone() {
                let publish = basic::Publish {
                    exchange: exchange.into(),
                    mandatory: true,
                    ..basic::Publish::default()
                };
                world.publish_known(client, publish, number);
            }
            world.run();
        }
        assert_eq!(world.core_of(publisher), 1, "seed {seed}");
        let returned = returns(&world.heard(publisher));
        assert_eq!(returned, numbers.collect::<Vec<_>>(), "seed {seed}");
        world.cut_all_and_check_nothing_is_left();
    }
}

#[test]
fn a_queue_that_is_deleted_while_its_consumer_is_under_way_cancels_it() {
    for seed in 0..40 {
        let mut world = restless(3, seed);
        let owner = world.owner(1, "q");
        let consumer = world.client(2);
        world.call(consumer, &consume("q"));
        world.run();
        world.publish_numbers(owner, "q", 0..2 * FEW);
        let was_under_way = world.run_until_under_way(consumer);
        assert!(was_under_way, "seed {seed}");
        let delete = queue::AMQPMethod::Delete(queue::Delete {
            queue: "q".into(),
            ..queue::Delete::default()
        });
        world.call(owner, &AMQPClass::Queue(delete));
        world.run();
        assert_eq!(world.core_of(consumer), 1);
        let told = world.heard(consumer);
        last_tag(&told, 1);
        // The name is free, and a consumer tag as well, which a consumer that wasn't cancelled would hold.
        world.call(consumer, &declare("q"));
        world.call(consumer, &consume("q"));
        world.run();
        world.publish(owner, "q", &body(5));
        world.run();
        assert_eq!(
            deliveries(&world.heard(consumer)),
            [(5, 4, false)],
            "seed {seed}"
        );
    }
}

#[test]
fn a_core_that_has_much_to_do_takes_nobody_in_from_one_that_has_little() {
    let mut world = restless(2, 9);
    world.owner(0, "q");
    let publisher = world.client(1);
    world.run();
    let busy = Mail {
        to_host: vec![ToHost::Keep {
            session: SessionId {
                core: CoreId(1),
                index: u32::MAX,
                generation: 1,
            },
            load: 0,
            brings: 2 * limits::LOAD_FREE,
        }],
        ..Mail::default()
    };
    // The first that asks is still let in, and doesn't come.
    world
        .rings
        .entry((1, 0))
        .or_default()
        .push_back(Box::new(busy));
    world.run();
    assert_eq!(world.cores[0].session_count(), 1, "its place is free again");
    world.publish_numbers(publisher, "q", 0..2 * FEW);
    world.run();
    assert_eq!(world.core_of(publisher), 1);
}
