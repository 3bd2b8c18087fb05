//! Several cores and several clients in one thread, with mail that takes its time: a seed decides
//! which core runs next, which ring delivers, and how the bytes are cut.

mod alarm;
mod at_least_once;
mod delays;
mod duplicates;
mod large;
mod moving;
mod policies;
mod site;
mod stuck;
mod unreadable;

use std::collections::{BTreeMap, VecDeque};

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use proptest::prelude::*;

use super::*;
use crate::amqp::content;
use crate::amqp::frame::PROTOCOL_HEADER;
use crate::amqp::method;
use crate::amqp::properties::{self, Properties};
use crate::amqp::table::TableWriter;
use crate::model::Definitions;

/// A client: what it has to say, and what it was told.
struct Client {
    core: usize,
    session: SessionIndex,
    /// Bytes not yet handed to its session.
    unsent: VecDeque<u8>,
    received: Vec<u8>,
    is_closed: bool,
    /// It reads nothing: its output stays with its session.
    is_stuck: bool,
}

struct World {
    cores: Vec<Core>,
    /// Mail under way, by sender and receiver.
    rings: BTreeMap<(usize, usize), VecDeque<Box<Mail>>>,
    clients: Vec<Client>,
    /// Sessions under way to another core, each with its client.
    travellers: Vec<(usize, Traveller)>,
    dice: u64,
}

/// Where the session of a client is that is under way.
const NOWHERE: usize = usize::MAX;

impl World {
    fn new(cores: u16, seed: u64) -> Self {
        Self::with_settings(cores, seed, Settings::default())
    }

    fn with_settings(cores: u16, seed: u64, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self {
            cores: (0..cores)
                .map(|core| {
                    let definitions = Definitions::new(7);
                    let stored = Stored::nothing(CoreId(core), &definitions);
                    Core::new(CoreId(core), cores, Arc::clone(&settings), 7, stored)
                })
                .collect(),
            rings: BTreeMap::new(),
            clients: Vec::new(),
            travellers: Vec::new(),
            dice: seed | 1,
        }
    }

    /// xorshift64: a number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as usize % sides
    }

    /// A client on `core` that has opened its connection and channel 1.
    fn client(&mut self, core: usize) -> usize {
        self.client_with_heartbeat(core, 0)
    }

    /// The same, with an interval in seconds.
    fn client_with_heartbeat(&mut self, core: usize, heartbeat: u16) -> usize {
        let session = self.cores[core].connect(Time(1), true);
        self.clients.push(Client {
            core,
            session,
            unsent: VecDeque::new(),
            received: Vec::new(),
            is_closed: false,
            is_stuck: false,
        });
        let client = self.clients.len() - 1;
        let mut hello = PROTOCOL_HEADER.to_vec();
        let methods = [
            connection::AMQPMethod::StartOk(connection::StartOk {
                mechanism: "PLAIN".into(),
                response: "\0guest\0guest".into(),
                locale: "en_US".into(),
                client_properties: client_properties(),
            }),
            connection::AMQPMethod::TuneOk(connection::TuneOk {
                channel_max: 10,
                frame_max: 4096,
                heartbeat,
            }),
            connection::AMQPMethod::Open(connection::Open {
                virtual_host: "/".into(),
            }),
        ];
        for one in methods {
            method::encode(&mut hello, 0, &AMQPClass::Connection(one));
        }
        let open = channel::AMQPMethod::Open(channel::Open {});
        method::encode(&mut hello, 1, &AMQPClass::Channel(open));
        self.say(client, &hello);
        client
    }

    fn say(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].unsent.extend(bytes);
    }

    fn call(&mut self, client: usize, class: &AMQPClass) {
        let mut bytes = Vec::new();
        method::encode(&mut bytes, 1, class);
        self.say(client, &bytes);
    }

    fn publish(&mut self, client: usize, routing_key: &str, body: &[u8]) {
        let publish = basic::Publish {
            routing_key: routing_key.into(),
            ..basic::Publish::default()
        };
        self.publish_with(client, publish, &[0, 0], body);
    }

    /// Publishes a number, which is what the message is known again by.
    fn publish_known(&mut self, client: usize, publish: basic::Publish, number: u32) {
        let properties = with_header(&[0, 0], "x-deduplication-header", i64::from(number));
        self.publish_with(client, publish, &properties, &number.to_le_bytes());
    }

    fn publish_with(
        &mut self,
        client: usize,
        publish: basic::Publish,
        properties: &[u8],
        body: &[u8],
    ) {
        let mut bytes = Vec::new();
        let class = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        method::encode(&mut bytes, 1, &class);
        content::write_header(&mut bytes, 1, body.len() as u64, properties);
        content::write_body(&mut bytes, 1, body, 4088);
        self.say(client, &bytes);
    }

    /// The client's socket breaks.
    fn cut(&mut self, client: usize) {
        let Client { core, session, .. } = self.clients[client];
        self.clients[client].is_closed = true;
        self.clients[client].unsent.clear();
        if core == NOWHERE {
            return;
        }
        self.cores[core].disconnected(Time(1), session);
        self.turn(core);
    }

    /// Whether the client's connection isn't read.
    fn is_blocked(&self, client: usize) -> bool {
        let Client { core, session, .. } = self.clients[client];
        core == NOWHERE || self.cores[core].read_budget(session) == 0
    }

    /// A session comes to the core that it moves to.
    fn arrive(&mut self, number: usize) {
        let (client, traveller) = self.travellers.swap_remove(number);
        let core = traveller.core().index();
        let session = self.cores[core].arrive(Time(1), traveller);
        let client = &mut self.clients[client];
        (client.core, client.session) = (core, session);
        if client.is_closed {
            self.cores[core].disconnected(Time(1), session);
        }
        self.turn(core);
    }

    /// One random step; false if nothing is left to be done anywhere.
    fn step(&mut self) -> bool {
        let waiting: Vec<_> = self
            .rings
            .iter()
            .filter(|ring| !ring.1.is_empty())
            .collect();
        let rings: Vec<_> = waiting.iter().map(|ring| *ring.0).collect();
        let talkers: Vec<_> = (0..self.clients.len())
            .filter(|client| !self.clients[*client].unsent.is_empty() && !self.is_blocked(*client))
            .collect();
        let choices = rings.len() + talkers.len() + self.travellers.len();
        if choices == 0 {
            let busy: Vec<_> = (0..self.cores.len())
                .filter(|core| self.cores[*core].has_work())
                .collect();
            for core in &busy {
                self.turn(*core);
            }
            return !busy.is_empty();
        }
        let choice = self.roll(choices);
        if let Some(&(from, to)) = rings.get(choice) {
            let mail = self
                .rings
                .get_mut(&(from, to))
                .and_then(VecDeque::pop_front);
            let mut mail = mail.expect("the ring was not empty");
            self.cores[to].deliver_mail(Time(1), CoreId(from as u16), &mut mail);
            assert!(mail.is_empty());
            self.turn(to);
        } else if choice >= rings.len() + talkers.len() {
            self.arrive(choice - rings.len() - talkers.len());
        } else {
            let client = talkers[choice - rings.len()];
            let count = 1 + self.roll(200);
            let Client {
                core,
                session,
                ref mut unsent,
                ..
            } = self.clients[client];
            let bytes: Vec<u8> = unsent.drain(..count.min(unsent.len())).collect();
            self.cores[core].receive(Time(1), session, &bytes);
            self.turn(core);
        }
        true
    }

    /// The rest of a core's turn: own mail, mail to peers, output to sockets.
    fn turn(&mut self, index: usize) {
        let core = &mut self.cores[index];
        core.settle(Time(1));
        while let Some(session) = core.next_dirty() {
            let is_it = |one: &&Client| one.core == index && one.session == session;
            if self.clients.iter().filter(is_it).any(|one| one.is_stuck) {
                continue;
            }
            let (output, fate) = core.output(session);
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let mut written = Vec::new();
            loop {
                let filled = output.slices(&mut slices);
                if filled == 0 {
                    break;
                }
                let before = written.len();
                for slice in &slices[..filled] {
                    written.extend_from_slice(slice);
                }
                slices = [std::io::IoSlice::new(&[]); 4];
                output.consume(written.len() - before);
            }
            core.written(Time(1), session);
            let mut clients = self.clients.iter_mut();
            let client = clients
                .find(|one| one.core == index && one.session == session && !one.is_closed)
                .expect("sessions here have clients");
            client.received.extend(written);
            if fate != SocketFate::Open {
                client.is_closed = true;
                core.disconnected(Time(1), session);
            }
        }
        while let Some((session, traveller)) = self.cores[index].next_traveller() {
            let is_it = |one: &Client| one.core == index && one.session == session;
            let living = self
                .clients
                .iter()
                .position(|one| is_it(one) && !one.is_closed);
            let client = living.or_else(|| self.clients.iter().rposition(is_it));
            let client = client.expect("sessions here have clients");
            self.clients[client].core = NOWHERE;
            self.travellers.push((client, traveller));
        }
        for peer in 0..self.cores.len() {
            let mail = self.cores[index].take_mail(CoreId(peer as u16), Box::default);
            self.rings.entry((index, peer)).or_default().extend(mail);
        }
    }

    fn run(&mut self) {
        while self.step() {}
    }

    fn cut_all_and_check_nothing_is_left(&mut self) {
        for client in 0..self.clients.len() {
            if !self.clients[client].is_closed {
                self.cut(client);
            }
        }
        self.run();
        for core in &self.cores {
            let left = core.session_count();
            assert_eq!(left, 0, "nothing of a session is left behind");
        }
    }

    /// What the client was told since it was asked last.
    fn heard(&mut self, client: usize) -> Vec<AMQPFrame> {
        let received = std::mem::take(&mut self.clients[client].received);
        let mut rest = &received[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let (after, frame) = parse_frame(rest).expect("we write what can be read");
            frames.push(frame);
            rest = after;
        }
        frames
    }
}

fn client_properties() -> FieldTable {
    let mut capabilities = FieldTable::default();
    capabilities.insert("connection.blocked".into(), AMQPValue::Boolean(true));
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

fn declare(name: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: name.into(),
        ..queue::Declare::default()
    }))
}

/// Encoded properties, and a header.
fn with_header(properties: &[u8], name: &str, value: i64) -> Vec<u8> {
    let headers = TableWriter::new().long(name, value);
    properties::with_headers(Properties::from_validated(properties), headers.as_table())
}

/// An exchange that knows 100 messages again.
fn deduplicating_exchange(name: &str) -> AMQPClass {
    let mut arguments = FieldTable::default();
    arguments.insert("x-cache-size".into(), AMQPValue::LongInt(100));
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: name.into(),
        kind: "x-message-deduplication".into(),
        arguments,
        ..exchange::Declare::default()
    }))
}

fn consume(name: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: name.into(),
        ..basic::Consume::default()
    }))
}

/// A delivery: the number its body begins with, the body's length, whether it was redelivered.
type Summary = (u32, usize, bool);

fn deliveries(frames: &[AMQPFrame]) -> Vec<Summary> {
    let mut found: Vec<(Vec<u8>, bool)> = Vec::new();
    for frame in frames {
        match frame {
            AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))) => {
                found.push((Vec::new(), deliver.redelivered));
            }
            AMQPFrame::Body(_, bytes) => {
                if let Some(last) = found.last_mut() {
                    last.0.extend(bytes);
                }
            }
            _ => {}
        }
    }
    let number = |body: &[u8]| {
        body.first_chunk()
            .map_or(u32::MAX, |four| u32::from_le_bytes(*four))
    };
    let summary = |(body, redelivered): &(Vec<u8>, bool)| (number(body), body.len(), *redelivered);
    found.iter().map(summary).collect()
}

fn acknowledged_upto(frames: &[AMQPFrame]) -> u64 {
    let acks = frames.iter().filter_map(|frame| match frame {
        AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => {
            Some(ack.delivery_tag)
        }
        _ => None,
    });
    acks.max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whatever the rings' delays and the cuts of the byte streams: a client that declares and
    /// publishes in one breath loses nothing, order holds, and what a broken connection held comes
    /// back in its place.
    #[test]
    fn messages_cross_cores_in_order_and_come_back_from_broken_connections(
        cores in 1u16..5,
        seed in any::<u64>(),
        count in 1u32..60,
        large in 0u32..60,
    ) {
        let mut world = World::new(cores, seed);
        let [publisher, first, second] = [(); 3].map(|()| {
            let core = world.roll(usize::from(cores));
            world.client(core)
        });
        world.call(publisher, &declare("q"));
        let select = confirm::AMQPMethod::Select(confirm::Select::default());
        world.call(publisher, &AMQPClass::Confirm(select));
        let body = |number: u32| {
            let mut body = number.to_le_bytes().to_vec();
            body.resize(if number == large { 20_000 } else { 4 }, 7);
            body
        };
        for number in 0..count {
            world.publish(publisher, "q", &body(number));
        }
        world.run();
        let told = world.heard(publisher);
        prop_assert_eq!(acknowledged_upto(&told), u64::from(count));
        world.call(first, &consume("q"));
        world.run();
        let expected = |redelivered| {
            let numbers = 0..count;
            let all = numbers.map(|number| (number, body(number).len(), redelivered));
            all.collect::<Vec<_>>()
        };
        let told = world.heard(first);
        prop_assert_eq!(deliveries(&told), expected(false));
        world.cut(first);
        world.call(second, &consume("q"));
        world.run();
        let came = deliveries(&world.heard(second));
        prop_assert_eq!(came, expected(true));
        world.cut_all_and_check_nothing_is_left();
    }
}

#[test]
fn a_clean_close_is_answered_once_everything_is_given_back() {
    let mut world = World::new(3, 42);
    let [owner, other] = [1, 2].map(|core| world.client(core));
    let exclusive = queue::AMQPMethod::Declare(queue::Declare {
        queue: "mine".into(),
        exclusive: true,
        ..queue::Declare::default()
    });
    world.call(owner, &AMQPClass::Queue(exclusive));
    world.call(owner, &consume("mine"));
    world.run();
    let mut close = Vec::new();
    let method = connection::AMQPMethod::Close(connection::Close::default());
    method::encode(&mut close, 0, &AMQPClass::Connection(method));
    world.say(owner, &close);
    world.run();
    let last = world.heard(owner).pop();
    let close_ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
    let expected = AMQPFrame::Method(0, AMQPClass::Connection(close_ok));
    assert_eq!(last, Some(expected));
    // The name is free again.
    world.call(other, &declare("mine"));
    world.run();
    let told = world.heard(other);
    let declared = told.iter().any(|frame| {
        matches!(frame, AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)))
            if ok.consumer_count == 0)
    });
    assert!(declared, "{told:?}");
}

#[test]
fn what_was_said_before_a_close_counts_even_if_it_had_to_wait() {
    for seed in 0..50 {
        let mut world = World::new(3, seed);
        let [hasty, other] = [1, 2].map(|core| world.client(core));
        world.run();
        // The publish waits for the declaration's answer when the close comes, or the hang-up.
        world.call(hasty, &declare("kept"));
        world.publish(hasty, "kept", b"\x01\0\0\0");
        let mut close = Vec::new();
        let method = connection::AMQPMethod::Close(connection::Close::default());
        method::encode(&mut close, 0, &AMQPClass::Connection(method));
        world.say(hasty, &close);
        world.run();
        world.call(other, &declare("kept"));
        world.call(other, &consume("kept"));
        world.run();
        assert_eq!(
            deliveries(&world.heard(other)),
            [(1, 4, false)],
            "seed {seed}"
        );
    }
}
