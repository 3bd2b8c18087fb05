//! Definitions in RabbitMQ's format: taken over when the broker starts and on the command line, kept, and written.
//!
//! `definitions/rabbitmq-3.10.json` is what `rabbitmqctl export_definitions` of RabbitMQ 3.10.8 wrote, indented.

use crate::support::broker::{Broker, binary};
use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::home::Home;
use crate::support::ids;
use crate::support::login::Login;
use crate::support::process::{Pipe, Process};
use crate::support::wire::{self, table, text};
use amq_protocol::protocol::{basic, queue, tx};
use amq_protocol::types::AMQPValue;
use std::fs;
use std::path::{Path, PathBuf};

fn exported_by_rabbitmq() -> PathBuf {
    file("rabbitmq-3.10.json")
}

fn file(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    tests.join("definitions").join(name)
}

/// The configuration that takes a file over at each start.
fn loading(file: &Path) -> String {
    format!("load_definitions = {}\n", file.display())
}

/// Runs `leveret definitions …` on a data directory; what it said, and how it ended.
fn command(arguments: &[&str], data: &Path) -> (bool, Vec<String>, Vec<String>) {
    let mut line: Vec<String> = vec!["definitions".to_owned()];
    line.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    line.extend(["--data-dir".to_owned(), data.display().to_string()]);
    let process = Process::start(&binary(), &line);
    let (out, err) = (process.all_lines(Pipe::Out), process.all_lines(Pipe::Err));
    (process.wait().success(), out, err)
}

fn login(
    broker: &Broker,
    user: &'static str,
    password: &'static str,
    vhost: &'static str,
) -> Connection {
    broker.login(&Login {
        user,
        password,
        vhost,
        ..Login::default()
    })
}

/// What the file says is so.
fn expect_what_rabbitmq_had(broker: &Broker) {
    let app = login(broker, "app", "secret", "orders");
    let channel = app.channel();
    channel.passive("incoming");
    channel.publish_content("orders", "order.app.1", wire::NO_PROPERTIES, b"hello");
    let got = channel.call_get("incoming");
    assert_eq!(got, Some("hello".to_owned()));
    channel.publish("orders", "order.bob.1", "not mine");
    let refusal = "ACCESS_REFUSED - write access to topic 'order.bob.1' in exchange 'orders' in vhost 'orders' \
                   refused for user 'app'";
    channel.expect_close(403, refusal, ids::BASIC_PUBLISH);
    // All keys count, in a transaction as well.
    for in_transaction in [false, true] {
        let channel = app.channel();
        if in_transaction {
            channel.call::<tx::SelectOk>(tx::Select {});
        }
        for key in ["CC", "BCC"] {
            let keys = AMQPValue::FieldArray(vec![text("order.app.2")].into());
            let headers = wire::headers(&[(key, keys)]);
            channel.publish_content("orders", "order.app.1", &headers, b"to both");
        }
        let keys = AMQPValue::FieldArray(vec![text("order.app.2"), text("order.bob.1")].into());
        let headers = wire::headers(&[("BCC", keys)]);
        channel.publish_content("orders", "order.app.1", &headers, b"not mine");
        channel.expect_close(403, refusal, ids::BASIC_PUBLISH);
    }
    let channel = app.channel();
    channel.call::<queue::PurgeOk>(queue::Purge {
        queue: "incoming".into(),
        nowait: false,
    });
    channel.send(basic::Get {
        queue: "audit".into(),
        no_ack: true,
    });
    let refusal =
        "ACCESS_REFUSED - read access to queue 'audit' in vhost 'orders' refused for user 'app'";
    channel.expect_close(403, refusal, ids::BASIC_GET);
    app.close();
    let big = login(broker, "big", "sha-512-secret", "orders");
    let channel = big.channel();
    let headers = wire::headers(&[
        ("priority", AMQPValue::LongInt(5)),
        ("vip", AMQPValue::Boolean(true)),
        ("region", text("eu")),
    ]);
    channel.confirm_select();
    channel.publish_content("by-header", "", &headers, b"by header");
    channel.confirmed(1..=1);
    assert_eq!(channel.call_get("audit"), Some("by header".to_owned()));
    channel.declare_queue("incoming", |declare| {
        declare.durable = true;
        declare.arguments = table(&[
            ("x-max-length", AMQPValue::LongInt(100_000)),
            ("x-dead-letter-exchange", text("dead")),
        ]);
    });
    big.close();
    let old = login(broker, "old", "md5-secret", "/");
    old.channel().passive("größe");
    old.close();
}

trait Gets {
    /// The next message of a queue, settled at once.
    fn call_get(&self, queue: &str) -> Option<String>;
}

impl Gets for Channel {
    fn call_get(&self, queue: &str) -> Option<String> {
        self.send(basic::Get {
            queue: queue.into(),
            no_ack: true,
        });
        Some(self.expect_message::<basic::GetOk>().text())
    }
}

#[test]
fn a_file_of_rabbitmq_is_taken_over_at_the_start_and_kept() {
    let home = Home::new(&loading(&exported_by_rabbitmq()));
    let broker = home.start(2);
    expect_what_rabbitmq_had(&broker);
    let left_out = "queue 'transient' in vhost '/' is left out";
    broker.stop();
    let again = home.start(4);
    expect_what_rabbitmq_had(&again);
    let process = again.process();
    process.signal("TERM");
    let lines = process.all_lines(Pipe::Err);
    assert!(
        lines.iter().any(|line| line.contains(left_out)),
        "{lines:?}"
    );
    let without = Home::with_data_in(home.data().to_owned(), "");
    let broker = without.start(1);
    expect_what_rabbitmq_had(&broker);
    broker.kill();
    expect_what_rabbitmq_had(&without.start(3));
}

#[test]
fn a_file_is_taken_over_into_a_data_directory_and_its_messages_stay() {
    let home = Home::new("");
    // On the one core whose directory the definitions are written beside.
    let broker = home.start(1);
    let channel = broker.connect().channel();
    channel.declare_queue("kept", |declare| declare.durable = true);
    channel.confirm_select();
    let persistent = wire::properties(&basic::AMQPProperties::default().with_delivery_mode(2));
    channel.publish_content("", "kept", &persistent, b"before");
    channel.confirmed(1..=1);
    let file = exported_by_rabbitmq().display().to_string();
    let (success, _, err) = command(&["import", &file], home.data());
    assert!(
        !success
            && err
                .iter()
                .any(|line| line.contains("is in use by another Leveret")),
        "{err:?}"
    );
    broker.stop();
    let (success, out, err) = command(&["import", &file], home.data());
    assert!(success, "{out:?} {err:?}");
    let broker = home.start(2);
    expect_what_rabbitmq_had(&broker);
    assert_eq!(
        broker.connect().channel().call_get("kept"),
        Some("before".to_owned())
    );
}

#[test]
fn what_is_exported_can_be_imported_and_is_the_same_again() {
    let first = Home::new("");
    let file = exported_by_rabbitmq().display().to_string();
    let (success, _, err) = command(&["import", &file], first.data());
    assert!(success, "{err:?}");
    let (success, exported, err) = command(&["export"], first.data());
    assert!(success && exported.len() > 100, "{err:?}");
    let second = Home::new("");
    let between = first.data().join("../definitions.json");
    let between = between.display().to_string();
    let (success, _, err) = command(&["export", &between], first.data());
    assert!(success, "{err:?}");
    let (success, _, err) = command(&["import", &between], second.data());
    assert!(success, "{err:?}");
    let (_, again, _) = command(&["export"], second.data());
    assert_eq!(again, exported);
    expect_what_rabbitmq_had(&second.start(2));
}

#[test]
fn a_queue_that_is_unlike_stops_the_start_and_changes_nothing() {
    let data = Home::new("");
    let broker = data.start(1);
    let channel = broker.connect().channel();
    channel.declare_queue("größe", |declare| declare.durable = true);
    broker.stop();
    let loading = Home::with_data_in(data.data().to_owned(), &loading(&exported_by_rabbitmq()));
    let error = loading
        .try_start("127.0.0.1:0", 1)
        .err()
        .expect("it is refused");
    let reason = "rabbitmq-3.10.json: queue 'größe' in vhost '/': there is one of that name already, with other \
                  properties or arguments";
    assert!(error.contains(reason), "{error}");
    let broker = data.start(1);
    let channel = broker.connect().channel();
    assert_eq!(channel.passive("größe").message_count, 0);
    let passive = queue::Declare {
        queue: "incoming".into(),
        passive: true,
        ..Default::default()
    };
    channel.send(passive);
    channel.expect_close(404, "no queue 'incoming'", ids::QUEUE_DECLARE);
}

#[test]
fn a_mistake_on_the_command_line_is_told_in_a_line() {
    let home = Home::new("");
    let (success, _, err) = command(&["export"], home.data());
    assert!(!success);
    let expected = format!(
        "leveret: there is no data directory {}: name it with --data-dir",
        home.data().display()
    );
    assert_eq!(err, [expected]);
    let (success, _, err) = command(&["import", "/nonexistent.json"], home.data());
    assert!(!success);
    assert_eq!(
        err,
        ["leveret: definitions in /nonexistent.json: No such file or directory (os error 2)"]
    );
    let file = home.data().join("../broken.json");
    fs::write(&file, "{\"queues\": [\n").expect("the scratch directory is writable");
    let (success, _, err) = command(&["import", &file.display().to_string()], home.data());
    assert!(!success);
    assert!(
        err[0].ends_with("EOF while parsing a list at line 2 column 0"),
        "{err:?}"
    );
}

/// Declares a durable queue, of a type if one is given.
fn declare_durable(channel: &Channel, name: &str, kind: Option<&str>) {
    channel.declare_queue(name, |declare| {
        declare.durable = true;
        let kind = kind.map(|kind| ("x-queue-type", text(kind)));
        declare.arguments = table(kind.as_slice());
    });
}

/// The queue is of the one type and not of the other.
fn expect_type(connection: &Connection, name: &str, (kind, other): (&str, &str)) {
    declare_durable(&connection.channel(), name, Some(kind));
    let channel = connection.channel();
    channel.send(queue::Declare {
        queue: name.into(),
        durable: true,
        arguments: table(&[("x-queue-type", text(other))]),
        ..Default::default()
    });
    let unlike = "inequivalent arg 'x-queue-type'";
    channel.expect_close(406, unlike, ids::QUEUE_DECLARE);
}

#[test]
fn a_queue_that_says_no_type_is_of_its_vhosts() {
    let (quorum, classic) = (("quorum", "classic"), ("classic", "quorum"));
    let home = Home::new(&loading(&file("default-queue-type.json")));
    let broker = home.start(2);
    for (vhost, expected) in [
        ("quorum", quorum),
        ("quorum-by-metadata", quorum),
        ("none", classic),
        ("/", classic),
    ] {
        let connection = login(&broker, "app", "secret", vhost);
        let channel = connection.channel();
        declare_durable(&channel, "plain", None);
        declare_durable(&channel, "plain", None);
        assert_eq!(channel.passive("plain").message_count, 0);
        expect_type(&connection, "plain", expected);
        declare_durable(&channel, "typed", Some("classic"));
        expect_type(&connection, "typed", classic);
        // Only classic ones can be for a while, or somebody's own.
        for set in [
            (|declare| declare.exclusive = true) as fn(&mut queue::Declare),
            |declare| (declare.durable, declare.auto_delete) = (true, true),
            |_| {},
        ] {
            let name = channel.declare_queue("", set).queue;
            channel.declare_queue(name.as_str(), |declare| declare.passive = true);
            channel.declare_queue("passing", set);
            channel.declare_queue("passing", |declare| {
                set(declare);
                declare.arguments = table(&[("x-queue-type", text("classic"))]);
            });
            channel.delete_queue("passing");
        }
    }
    let connection = login(&broker, "app", "secret", "quorum");
    let channel = connection.channel();
    channel.send(queue::Declare {
        durable: true,
        ..Default::default()
    });
    let unnamed = "Cannot declare a server-named queue for type rabbit_quorum_queue";
    channel.expect_close(406, unnamed, ids::QUEUE_DECLARE);
    expect_type(&connection, "imported", quorum);
    expect_type(&connection, "imported-classic", classic);
    connection.close();
    broker.stop();
    // The file is taken over anew, and then not any more.
    home.start(1).stop();
    let without = Home::with_data_in(home.data().to_owned(), "");
    let broker = without.start(2);
    let connection = login(&broker, "app", "secret", "quorum");
    for name in ["plain", "imported", "new"] {
        declare_durable(&connection.channel(), name, None);
        expect_type(&connection, name, quorum);
    }
    let (_, exported, _) = {
        connection.close();
        broker.stop();
        command(&["export"], without.data())
    };
    let told = exported
        .iter()
        .filter(|line| line.contains("\"default_queue_type\": \"quorum\""));
    assert!(told.count() >= 1, "{exported:?}");
}

#[test]
fn a_queue_that_says_no_type_is_of_the_configurations_where_its_vhost_says_none() {
    let home = Home::new("default_queue_type = quorum\n");
    let broker = home.start(1);
    let connection = broker.connect();
    declare_durable(&connection.channel(), "plain", None);
    expect_type(&connection, "plain", ("quorum", "classic"));
    let own = connection.channel().own_queue();
    assert_eq!(connection.channel().passive(&own).message_count, 0);
    broker.stop();
    let without = Home::with_data_in(home.data().to_owned(), "");
    let broker = without.start(1);
    expect_type(&broker.connect(), "plain", ("quorum", "classic"));
}
