//! How many connections, channels and queues a user or a vhost may have, counted over all cores.

use crate::delayed::delayed;
use crate::support::broker::Broker;
use crate::support::client::Connection;
use crate::support::ids;
use crate::support::login::Login;
use crate::support::wire;
use amq_protocol::protocol::{channel, connection, queue};
use std::path::Path;

/// A broker with the users and the vhost of `definitions/limits.json`.
fn limited(cores: usize) -> Option<Broker> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let file = tests.join("definitions/limits.json");
    Broker::alone(cores, &format!("load_definitions = {}\n", file.display()))
}

fn login(user: &'static str, vhost: &'static str) -> Login {
    Login {
        user,
        password: "secret",
        vhost,
        ..Login::default()
    }
}

/// The vhost isn't opened: 530 with this text.
fn expect_refusal(broker: &Broker, login: &Login, text: &str) {
    let mut raw = login.ask_to_open(broker.address);
    let close = raw.expect::<connection::Close>(0);
    let ids = (close.class_id, close.method_id);
    let told = (close.reply_code, close.reply_text.as_str(), ids);
    assert_eq!(told, (530, text, ids::CONNECTION_OPEN));
}

/// Each test with 1, 2 and 4 cores, on a broker of its own.
macro_rules! with_limits {
    ($($name:ident: $test:ident;)*) => {
        $(#[test]
        fn $name() {
            for cores in [1, 2, 4] {
                if let Some(broker) = limited(cores) {
                    $test(&broker);
                }
            }
        })*
    };
}

with_limits! {
    a_user_has_no_more_connections_than_allowed: connections_of_a_user;
    a_vhost_has_no_more_connections_than_allowed: connections_of_a_vhost;
    a_user_has_no_more_channels_than_allowed: channels_of_a_user;
    a_vhost_has_no_more_queues_than_allowed: queues_of_a_vhost;
    what_is_said_before_the_connection_is_let_in_counts: one_breath;
}

fn connections_of_a_user(broker: &Broker) {
    let few = login("few", "/");
    let refusal =
        "NOT_ALLOWED - connection refused for user 'few': user connection limit (2) is reached";
    let mut held: Vec<Connection> = (0..2).map(|_| broker.login(&few)).collect();
    for _ in 0..3 {
        expect_refusal(broker, &few, refusal);
        held.pop().expect("it was kept").close();
        held.push(broker.login(&few));
        held.iter().for_each(Connection::is_alive);
    }
    let refusal =
        "NOT_ALLOWED - connection refused for user 'shut': user connection limit (0) is reached";
    expect_refusal(broker, &login("shut", "/"), refusal);
}

fn connections_of_a_vhost(broker: &Broker) {
    let (few, free) = (login("few", "small"), login("free", "small"));
    let (first, _second) = (broker.login(&few), broker.login(&free));
    let refusal = "NOT_ALLOWED - access to vhost 'small' refused for user 'free': connection limit (2) is reached";
    expect_refusal(broker, &free, refusal);
    // The other vhost has no limit.
    broker.login(&login("few", "/")).is_alive();
    first.close();
    // Users of the configuration open the file's vhosts that match their pattern.
    broker.login(&Login::alice("small")).is_alive();
}

fn channels_of_a_user(broker: &Broker) {
    let narrow = login("narrow", "/");
    let (one, other) = (broker.login(&narrow), broker.login(&narrow));
    let kept = one.open_channel(1);
    for _ in 0..3 {
        one.open_channel(7).close();
    }
    let last = one.open_channel(2);
    let too_many = other.unopened_channel(1);
    too_many.send(channel::Open {});
    let refusal = "NOT_ALLOWED - number of channels opened for user 'narrow' has reached the maximum allowed user \
                   limit of (2)";
    other.expect_close(530, refusal, ids::NONE);
    kept.own_queue();
    // A channel that ends by an error makes room as well.
    last.send(queue::Declare {
        queue: "none".into(),
        passive: true,
        ..Default::default()
    });
    last.expect_close(404, "no queue 'none'", ids::QUEUE_DECLARE);
    one.open_channel(3);
    one.close();
    let again = broker.login(&narrow);
    again.open_channel(1);
    again.open_channel(2);
}

fn queues_of_a_vhost(broker: &Broker) {
    let connection = broker.login(&login("free", "small"));
    let channel = connection.channel();
    // What an exchange keeps its messages in is no queue of the vhost's, nor is where replies go.
    delayed(&channel, "later", "direct");
    channel.consume_no_ack("amq.rabbitmq.reply-to");
    channel.queue("one");
    channel.queue("two");
    channel.queue("one");
    let refused = connection.channel();
    refused.send(queue::Declare {
        queue: "three".into(),
        ..Default::default()
    });
    let refusal = "PRECONDITION_FAILED - cannot declare queue 'three': queue limit in vhost 'small' (2) is reached";
    refused.expect_close(406, refusal, ids::QUEUE_DECLARE);
    channel.delete_queue("one");
    channel.queue("three");
}

fn one_breath(broker: &Broker) {
    let few = login("few", "/");
    let mut raw = few.authenticate(broker.address).0;
    let said = [
        wire::method(0, few.tune_ok()),
        wire::method(0, few.open()),
        wire::method(1, channel::Open {}),
        wire::method(
            1,
            queue::Declare {
                exclusive: true,
                ..Default::default()
            },
        ),
        wire::method(0, connection::Close::default()),
    ];
    raw.send(&said.concat());
    raw.expect::<connection::OpenOk>(0);
    raw.expect::<channel::OpenOk>(1);
    raw.expect::<queue::DeclareOk>(1);
    raw.expect::<connection::CloseOk>(0);
}

#[test]
fn a_vhost_without_limits_of_its_own_has_those_of_the_configuration() {
    let configuration = "default_limits.vhosts.1.pattern = ^ord\ndefault_limits.vhosts.1.max_connections = 1\n\
                         default_limits.vhosts.1.max_queues = 1\ndefault_limits.vhosts.2.pattern = .*\n";
    for cores in [1, 2, 4] {
        let Some(broker) = Broker::alone(cores, configuration) else {
            continue;
        };
        let orders = login("alice", "orders");
        let connection = broker.login(&orders);
        let refusal = "NOT_ALLOWED - access to vhost 'orders' refused for user 'alice': connection limit (1) is reached";
        expect_refusal(&broker, &orders, refusal);
        let channel = connection.channel();
        channel.queue("one");
        channel.send(queue::Declare {
            queue: "two".into(),
            ..Default::default()
        });
        let text = "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost 'orders' (1) is reached";
        channel.expect_close(406, text, ids::QUEUE_DECLARE);
        let (one, other) = (broker.connect(), broker.connect());
        for (channel, name) in [(one.channel(), "one"), (other.channel(), "two")] {
            channel.queue(name);
        }
    }
}
