//! Connections that move to the core whose queues they use. Clients notice nothing; the tags of consumers that the
//! broker names tell on which core it is done.

use crate::support::broker::Broker;
use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::wire;
use amq_protocol::protocol::basic;

/// Messages of one portion.
const PORTION: u64 = 200;
/// Portions after which a connection must have moved: ten times as many messages as it takes.
const PORTIONS_MAX: u64 = 200;
/// Attempts to get a connection to a certain core of two.
const ATTEMPTS: usize = 64;

/// The core that serves the connection now.
fn core_of(connection: &Connection) -> String {
    let channel = connection.channel();
    let queue = channel.own_queue();
    let tag = channel.consume(&queue);
    channel.delete_queue(&queue);
    let place = tag
        .strip_prefix("amq.ctag-")
        .and_then(|place| place.split('.').next());
    place.expect("such a tag begins with a place").to_owned()
}

/// A connection that is served by another core than this.
fn connection_apart(broker: &Broker, core: &str) -> Connection {
    let mut attempts = (0..ATTEMPTS).map(|_| broker.connect());
    let found = attempts.find(|connection| core_of(connection) != core);
    found.expect("the kernel spreads connections over the cores")
}

struct Flow {
    owner: Connection,
    home: String,
    queue: String,
    published: u64,
    delivered: u64,
}

impl Flow {
    /// A queue, and the core that it lives on.
    fn new(broker: &Broker) -> Self {
        let owner = broker.connect();
        let home = core_of(&owner);
        let queue = broker.name("flow");
        owner
            .channel()
            .declare_queue(&queue, |declare| declare.durable = true);
        Self {
            owner,
            home,
            queue,
            published: 0,
            delivered: 0,
        }
    }

    /// Some more messages, each published, confirmed and delivered in order. All but the last are acknowledged.
    fn portion(&mut self, publisher: &Channel, consumer: &Channel) {
        let first = self.published + 1;
        self.published += PORTION;
        for number in first..=self.published {
            // Its confirm waits for the disk, so that some are always under way.
            let persistent = basic::AMQPProperties::default().with_delivery_mode(2);
            let (properties, text) = (wire::properties(&persistent), number.to_string());
            publisher.publish_content("", &self.queue, &properties, text.as_bytes());
        }
        publisher.confirmed(first..=self.published);
        for number in first..=self.published {
            let delivery = consumer.delivery();
            self.delivered += 1;
            assert_eq!(delivery.text(), number.to_string());
            assert_eq!(delivery.method.delivery_tag, self.delivered);
            assert!(!delivery.method.redelivered);
        }
        consumer.ack_up_to(self.delivered - 1);
    }
}

#[test]
fn a_publisher_and_a_consumer_move_to_the_core_of_their_queue() {
    let Some(broker) = Broker::alone(2, "") else {
        return;
    };
    let mut flow = Flow::new(&broker);
    let [publishing, consuming] = [(); 2].map(|()| connection_apart(&broker, &flow.home));
    let (publisher, consumer) = (publishing.channel(), consuming.channel());
    let mine = broker.name("mine");
    consumer.declare_queue(&mine, |declare| declare.exclusive = true);
    publisher.confirm_select();
    consumer.consume(&flow.queue);
    let mut portions = 0;
    while [&publishing, &consuming]
        .iter()
        .any(|one| core_of(one) != flow.home)
    {
        flow.portion(&publisher, &consumer);
        portions += 1;
        assert!(portions < PORTIONS_MAX, "nobody moves");
    }
    flow.portion(&publisher, &consumer);
    // What it took there is its own still, here: its queue, and the delivery that it hasn't acknowledged.
    consumer.publish("", &mine, "mine");
    assert_eq!(
        consumer.get(&mine).map(|message| message.text()).as_deref(),
        Some("mine")
    );
    consumer.ack(flow.delivered);
    consuming.close();
    let heir = flow.owner.channel();
    assert_eq!(heir.passive(&flow.queue).message_count, 0);
    heir.queue(&mine);
    broker.stop();
}

#[test]
fn connections_that_are_cut_while_they_move_leave_their_messages_in_order() {
    let Some(broker) = Broker::alone(2, "") else {
        return;
    };
    let flow = Flow::new(&broker);
    let drain = flow.owner.channel();
    drain.consume_no_ack(&flow.queue);
    const ROUNDS: u64 = 8;
    for round in 0..ROUNDS {
        let connection = connection_apart(&broker, &flow.home);
        let channel = connection.channel();
        let publish = basic::Publish {
            routing_key: flow.queue.as_str().into(),
            ..Default::default()
        };
        let mut flood = Vec::new();
        // Each round ends at another point: some before the move, some in the middle of it, some behind.
        let count = 3_900 + 100 * round;
        for number in 0..count {
            let text = format!("{round} {number}");
            flood.extend(wire::method(channel.id, publish.clone()));
            flood.extend(wire::content(
                channel.id,
                wire::NO_PROPERTIES,
                text.as_bytes(),
                4096,
            ));
        }
        connection.send_bytes(&flood);
        connection.cut();
        for number in 0..count {
            assert_eq!(drain.delivery().text(), format!("{round} {number}"));
        }
    }
    broker.stop();
}

#[test]
fn a_broker_stops_in_order_whoever_moves() {
    for _ in 0..3 {
        let Some(broker) = Broker::alone(2, "") else {
            return;
        };
        let flow = Flow::new(&broker);
        let connections: Vec<_> = (0..4)
            .map(|_| connection_apart(&broker, &flow.home))
            .collect();
        for connection in &connections {
            let channel = connection.channel();
            let publish = basic::Publish {
                routing_key: flow.queue.as_str().into(),
                ..Default::default()
            };
            let one = wire::method(channel.id, publish);
            let content = wire::content(channel.id, wire::NO_PROPERTIES, b"x", 4096);
            connection.send_bytes(&[one, content].concat().repeat(5_000));
        }
        broker.stop();
    }
}
