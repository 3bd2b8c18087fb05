//! What a user may do: each method under each grant, and the names that patterns are matched with.

use crate::support::broker::Broker;
use crate::support::channel::{Channel, binding};
use crate::support::client::Connection;
use crate::support::ids::{self, Ids};
use crate::support::login::Login;
use crate::support::methods::Method;
use crate::support::wire::{self, table, text};
use amq_protocol::protocol::{basic, channel, exchange, queue, tx};

/// Users who may do all there is of some kinds: c(onfigure), w(rite), r(ead); the password is `secret`.
const USERS: [&str; 8] = ["-", "c", "w", "r", "cw", "cr", "wr", "cwr"];

/// A method, and what it needs.
struct Row {
    what: &'static str,
    ids: Ids,
    /// In the order in which they are checked: `configure queue 'q'`.
    needs: &'static [&'static str],
    send: fn(&Channel),
    /// Hears that it was allowed, and undoes it.
    accepted: fn(&Channel),
}

const ROWS: [Row; 20] = [
    Row {
        what: "queue.declare of a new queue",
        ids: ids::QUEUE_DECLARE,
        needs: &["configure queue 'new'"],
        send: |channel| declare_queue(channel, "new", |_| {}),
        accepted: |channel| {
            channel.answer::<queue::DeclareOk>();
            channel.delete_queue("new");
        },
    },
    Row {
        what: "queue.declare of a queue that exists",
        ids: ids::QUEUE_DECLARE,
        needs: &["configure queue 'q'"],
        send: |channel| declare_queue(channel, "q", |_| {}),
        accepted: hears::<queue::DeclareOk>,
    },
    Row {
        what: "queue.declare, passive",
        ids: ids::QUEUE_DECLARE,
        needs: &[],
        send: |channel| declare_queue(channel, "q", |declare| declare.passive = true),
        accepted: hears::<queue::DeclareOk>,
    },
    Row {
        what: "queue.declare of a name by the server",
        ids: ids::QUEUE_DECLARE,
        needs: &["configure queue 'amq.gen-"],
        send: |channel| declare_queue(channel, "", |declare| declare.auto_delete = true),
        accepted: |channel| {
            let name = channel.answer::<queue::DeclareOk>().queue;
            channel.delete_queue(name.as_str());
        },
    },
    Row {
        what: "queue.declare with a dead-letter exchange",
        ids: ids::QUEUE_DECLARE,
        needs: &[
            "configure queue 'new'",
            "read queue 'new'",
            "write exchange 'dlx'",
        ],
        send: |channel| {
            declare_queue(channel, "new", |declare| {
                declare.arguments = table(&[("x-dead-letter-exchange", text("dlx"))]);
            });
        },
        accepted: |channel| {
            channel.answer::<queue::DeclareOk>();
            channel.delete_queue("new");
        },
    },
    Row {
        what: "queue.bind",
        ids: ids::QUEUE_BIND,
        needs: &["write queue 'q'", "read exchange 'x'"],
        send: |channel| channel.send(binding("q", "x", "key")),
        accepted: hears::<queue::BindOk>,
    },
    Row {
        what: "queue.unbind",
        ids: ids::QUEUE_UNBIND,
        needs: &["write queue 'q'", "read exchange 'x'"],
        send: |channel| {
            channel.send(queue::Unbind {
                queue: "q".into(),
                exchange: "x".into(),
                routing_key: "key".into(),
                ..Default::default()
            });
        },
        accepted: hears::<queue::UnbindOk>,
    },
    Row {
        what: "queue.purge",
        ids: ids::QUEUE_PURGE,
        needs: &["read queue 'q'"],
        send: |channel| {
            channel.send(queue::Purge {
                queue: "q".into(),
                nowait: false,
            });
        },
        accepted: hears::<queue::PurgeOk>,
    },
    Row {
        what: "queue.delete",
        ids: ids::QUEUE_DELETE,
        needs: &["configure queue 'none'"],
        send: |channel| {
            channel.send(queue::Delete {
                queue: "none".into(),
                ..Default::default()
            });
        },
        accepted: hears::<queue::DeleteOk>,
    },
    Row {
        what: "exchange.declare of a new exchange",
        ids: ids::EXCHANGE_DECLARE,
        needs: &["configure exchange 'new'"],
        send: |channel| declare_exchange(channel, "new", |_| {}),
        accepted: |channel| {
            channel.answer::<exchange::DeclareOk>();
            channel.delete_exchange("new");
        },
    },
    Row {
        what: "exchange.declare, passive",
        ids: ids::EXCHANGE_DECLARE,
        needs: &[],
        send: |channel| declare_exchange(channel, "x", |declare| declare.passive = true),
        accepted: hears::<exchange::DeclareOk>,
    },
    Row {
        what: "exchange.declare with an alternate exchange",
        ids: ids::EXCHANGE_DECLARE,
        needs: &[
            "configure exchange 'new'",
            "read exchange 'new'",
            "write exchange 'ae'",
        ],
        send: |channel| {
            declare_exchange(channel, "new", |declare| {
                declare.arguments = table(&[("alternate-exchange", text("ae"))]);
            });
        },
        accepted: |channel| {
            channel.answer::<exchange::DeclareOk>();
            channel.delete_exchange("new");
        },
    },
    Row {
        what: "exchange.delete",
        ids: ids::EXCHANGE_DELETE,
        needs: &["configure exchange 'none'"],
        send: |channel| {
            channel.send(exchange::Delete {
                exchange: "none".into(),
                ..Default::default()
            });
        },
        accepted: hears::<exchange::DeleteOk>,
    },
    Row {
        what: "exchange.bind",
        ids: ids::EXCHANGE_BIND,
        needs: &["write exchange 'y'", "read exchange 'x'"],
        send: |channel| {
            channel.send(exchange::Bind {
                destination: "y".into(),
                source: "x".into(),
                ..Default::default()
            });
        },
        accepted: hears::<exchange::BindOk>,
    },
    Row {
        what: "exchange.unbind",
        ids: ids::EXCHANGE_UNBIND,
        needs: &["write exchange 'y'", "read exchange 'x'"],
        send: |channel| {
            channel.send(exchange::Unbind {
                destination: "y".into(),
                source: "x".into(),
                ..Default::default()
            });
        },
        accepted: hears::<exchange::UnbindOk>,
    },
    Row {
        what: "basic.get",
        ids: ids::BASIC_GET,
        needs: &["read queue 'q'"],
        send: |channel| {
            channel.send(basic::Get {
                queue: "q".into(),
                no_ack: true,
            });
        },
        accepted: hears::<basic::GetEmpty>,
    },
    Row {
        what: "basic.consume",
        ids: ids::BASIC_CONSUME,
        needs: &["read queue 'q'"],
        send: |channel| {
            channel.send(basic::Consume {
                queue: "q".into(),
                ..Default::default()
            });
        },
        accepted: hears::<basic::ConsumeOk>,
    },
    Row {
        what: "basic.publish",
        ids: ids::BASIC_PUBLISH,
        needs: &["write exchange 'x'"],
        send: |channel| channel.publish("x", "nowhere", "text"),
        accepted: still_open,
    },
    Row {
        what: "basic.publish to the default exchange",
        ids: ids::BASIC_PUBLISH,
        needs: &["write exchange 'amq.default'"],
        send: |channel| channel.publish("", "nowhere", "text"),
        accepted: still_open,
    },
    Row {
        what: "basic.publish in a transaction",
        ids: ids::BASIC_PUBLISH,
        needs: &["write exchange 'x'"],
        send: |channel| {
            channel.call::<tx::SelectOk>(tx::Select {});
            channel.publish("x", "nowhere", "text");
        },
        accepted: |channel| {
            channel.call::<tx::CommitOk>(tx::Commit {});
        },
    },
];

fn hears<R: Method>(channel: &Channel) {
    channel.answer::<R>();
}

/// What needs no answer is followed by something that does.
fn still_open(channel: &Channel) {
    channel.passive("q");
}

fn declare_queue(channel: &Channel, name: &str, choose: impl FnOnce(&mut queue::Declare)) {
    let mut declare = queue::Declare {
        queue: name.into(),
        ..Default::default()
    };
    choose(&mut declare);
    channel.send(declare);
}

fn declare_exchange(channel: &Channel, name: &str, choose: impl FnOnce(&mut exchange::Declare)) {
    let mut declare = exchange::Declare {
        exchange: name.into(),
        kind: "direct".into(),
        ..Default::default()
    };
    choose(&mut declare);
    channel.send(declare);
}

/// A user of the configuration.
fn user(name: &str, configure: &str, write: &str, read: &str) -> String {
    let key = format!("default_users.{name}");
    format!(
        "{key}.password = secret\n{key}.configure = {configure}\n{key}.write = {write}\n{key}.read = {read}\n"
    )
}

fn login(broker: &Broker, user: &'static str) -> Connection {
    broker.login(&Login {
        user,
        password: "secret",
        ..Login::default()
    })
}

/// `configure queue 'q'` as it is told to `user`, up to the name.
fn refusal(need: &str, user: &str) -> String {
    let (permission, resource) = need.split_once(' ').expect("permission and resource");
    let refusal = format!("ACCESS_REFUSED - {permission} access to {resource}");
    if resource.ends_with('\'') {
        format!("{refusal} in vhost '/' refused for user '{user}'")
    } else {
        refusal
    }
}

fn each_method_needs_its_permissions(cores: usize) {
    let granted = |user: &str, kind| if user.contains(kind) { ".*" } else { "^$" };
    let users = USERS.map(|name| {
        user(
            name,
            granted(name, 'c'),
            granted(name, 'w'),
            granted(name, 'r'),
        )
    });
    let Some(broker) = Broker::alone(cores, &users.concat()) else {
        return;
    };
    let everything = broker.connect().channel();
    everything.queue("q");
    everything.exchange("x", "direct");
    everything.exchange("y", "fanout");
    for user in USERS {
        let connection = login(&broker, user);
        for row in &ROWS {
            let channel = connection.channel();
            (row.send)(&channel);
            let missing = row.needs.iter().find(|need| !user.contains(&need[..1]));
            // Shown if the test fails.
            println!("{} by {user}: expecting {missing:?}", row.what);
            match missing {
                Some(need) => channel.expect_close(403, &refusal(need, user), row.ids),
                None => {
                    (row.accepted)(&channel);
                    channel.close();
                }
            }
        }
        connection.close();
    }
}

#[test]
fn each_method_needs_its_permissions_on_1_core() {
    each_method_needs_its_permissions(1);
}

#[test]
fn each_method_needs_its_permissions_on_2_cores() {
    each_method_needs_its_permissions(2);
}

#[test]
fn each_method_needs_its_permissions_on_4_cores() {
    each_method_needs_its_permissions(4);
}

#[test]
fn patterns_are_matched_with_names() {
    let users = user("app", "^app-", "^(app-|amq\\.default$)", "-(in|out)$");
    let Some(broker) = Broker::alone(2, &users) else {
        return;
    };
    let connection = login(&broker, "app");
    let channel = connection.channel();
    channel.queue("app-in");
    channel.publish("", "app-in", "to be read");
    assert_eq!(channel.passive("app-in").message_count, 1);
    channel.consume_no_ack("app-in");
    channel.delivery();
    declare_queue(&channel, "my-app-in", |_| {});
    let refusal = refusal("configure queue 'my-app-in'", "app");
    channel.expect_close(403, &refusal, ids::QUEUE_DECLARE);
    // Whether it exists isn't told.
    let channel = connection.channel();
    channel.publish("amq.topic", "key", "text");
    channel.expect_close(
        403,
        "write access to exchange 'amq.topic'",
        ids::BASIC_PUBLISH,
    );
    let channel = connection.channel();
    channel.publish("amq.none", "key", "text");
    channel.expect_close(
        403,
        "write access to exchange 'amq.none'",
        ids::BASIC_PUBLISH,
    );
    let channel = connection.channel();
    channel.publish("app-none", "key", "text");
    channel.expect_close(404, "no exchange 'app-none'", ids::BASIC_PUBLISH);
}

#[test]
fn what_was_allowed_once_says_nothing_of_another_exchange() {
    let users = user("app", "^$", "^amq\\.fanout$", "^$");
    let Some(broker) = Broker::alone(1, &users) else {
        return;
    };
    let connection = login(&broker, "app");
    let channel = connection.channel();
    channel.confirm_select();
    channel.publish("amq.fanout", "key", "one");
    channel.publish("amq.fanout", "other", "two");
    channel.confirmed(1..=2);
    channel.publish("amq.direct", "key", "three");
    channel.expect_close(
        403,
        "write access to exchange 'amq.direct'",
        ids::BASIC_PUBLISH,
    );
}

#[test]
fn who_is_refused_a_name_by_the_server_learns_none_that_is_used() {
    let Some(broker) = Broker::alone(1, &user("none", "^$", "^$", "^$")) else {
        return;
    };
    let connection = login(&broker, "none");
    let refused = || {
        let channel = connection.channel();
        declare_queue(&channel, "", |_| {});
        let text = channel.answer::<channel::Close>().reply_text.to_string();
        channel.send(channel::CloseOk {});
        text
    };
    let (one, two) = (refused(), refused());
    assert_ne!(one, two);
    let used = broker.connect().channel().own_queue();
    assert!(!one.contains(&used) && !two.contains(&used), "{used}");
}

#[test]
fn an_impersonator_publishes_as_anybody() {
    let users = user("relay", ".*", ".*", ".*") + "default_users.relay.tags = impersonator\n";
    let Some(broker) = Broker::alone(1, &users) else {
        return;
    };
    let connection = login(&broker, "relay");
    let channel = connection.channel();
    channel.confirm_select();
    let properties = basic::AMQPProperties::default().with_user_id("alice".into());
    let properties = wire::properties(&properties);
    channel.publish_content("", "nowhere", &properties, b"text");
    channel.confirmed(1..=1);
}
