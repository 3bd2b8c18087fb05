//! What queues' limits and times mean across a restart: expiries, priorities, counts, and dead letters on their way.

use crate::lives::{Lives, after_each_end, durable_queue, keep};
use crate::support::channel::Channel;
use crate::support::wire::{properties, table, text};
use amq_protocol::protocol::basic::{self, AMQPProperties};
use amq_protocol::types::AMQPValue;

fn ruled(channel: &Channel, name: &str, arguments: &[(&str, AMQPValue)]) {
    channel.declare_queue(name, |declare| {
        declare.durable = true;
        declare.arguments = table(arguments);
    });
}

fn persistent() -> AMQPProperties {
    AMQPProperties::default().with_delivery_mode(2)
}

fn keep_with(channel: &Channel, queue: &str, all: &[(AMQPProperties, &str)]) {
    channel.confirm_select();
    for (one, text) in all {
        channel.publish_content("", queue, &properties(one), text.as_bytes());
    }
    channel.confirmed(1..=all.len() as u64);
}

fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

fn dead_letters_to(queue: &str) -> [(&'static str, AMQPValue); 2] {
    [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(queue)),
    ]
}

/// A durable delayed exchange `later` that leads to `queue`; the channel's publishes are confirmed from now on.
fn declare_delayed(channel: &Channel) {
    channel.declare_exchange("later", "x-delayed-message", |declare| {
        declare.durable = true;
        declare.arguments = table(&[("x-delayed-type", text("direct"))]);
    });
    durable_queue(channel, "queue");
    channel.bind("queue", "later", "key");
    channel.confirm_select();
}

/// A persistent message that `later` holds for so long.
fn publish_after(channel: &Channel, ms: i32, body: &str) {
    let delayed = persistent().with_headers(table(&[("x-delay", number(ms))]));
    channel.publish_content("later", "key", &properties(&delayed), body.as_bytes());
}

fn delivery_count(message: &[u8]) -> Option<AMQPValue> {
    let (_, properties) = basic::parse_properties(message).expect("well-formed");
    let headers = properties.headers().as_ref()?;
    headers.inner().get("x-delivery-count").cloned()
}

/// What comes until `last` does. What left a queue before a kill may come twice: the queue that it left didn't say so
/// in time.
fn came_until(channel: &Channel, last: &str) -> Vec<String> {
    let mut came = vec![channel.delivery().text()];
    while came.last().is_some_and(|text| text != last) {
        came.push(channel.delivery().text());
    }
    came.dedup();
    came
}

/// So many messages that were kept in `queue`, and then rejected at once, to go to `dead`: their bodies.
fn rejected(channel: &Channel, to: &str, count: usize) -> Vec<String> {
    durable_queue(channel, "dead");
    ruled(channel, "queue", &dead_letters_to(to));
    let bodies: Vec<String> = (0..count).map(|body| body.to_string()).collect();
    let all: Vec<_> = bodies
        .iter()
        .map(|body| (persistent(), body.as_str()))
        .collect();
    keep_with(channel, "queue", &all);
    channel.consume("queue");
    let tags: Vec<u64> = (0..count).map(|_| channel.delivery().tag()).collect();
    channel.nack(tags[count - 1], true, false);
    bodies
}

/// What is in these queues together; only a kill may leave a message in two of them.
fn in_all(lives: &Lives, queues: &[&str]) -> Vec<String> {
    let mut found: Vec<_> = queues.iter().flat_map(|queue| lives.texts(queue)).collect();
    found.sort_by_key(|body| body.parse::<usize>().expect("bodies are numbers"));
    if lives.are_killed() {
        found.dedup();
    }
    found
}

after_each_end! {
    fn what_expires_meanwhile_is_gone_and_the_rest_expires_on_time(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "dead");
        ruled(&channel, "queue", &dead_letters_to("dead"));
        let lives_for = |ms: &str| persistent().with_expiration(ms.into());
        keep_with(&channel, "queue", &[
            (persistent(), "stays"),
            (lives_for("1"), "goes at once"),
            (lives_for("2500"), "goes later"),
            (lives_for("600000"), "goes much later"),
        ]);
        lives.restart();

        let channel = lives.connect().channel();
        channel.consume_no_ack("dead");
        let gone = came_until(&channel, "goes later");
        assert_eq!(gone, ["goes at once", "goes later"]);
        assert_eq!(channel.drain("queue"), ["stays", "goes much later"]);
    }

    fn priorities_come_back(lives: &mut Lives) {
        let channel = lives.connect().channel();
        ruled(&channel, "queue", &[("x-max-priority", number(9))]);
        let urgent = |priority| persistent().with_priority(priority);
        keep_with(&channel, "queue", &[
            (urgent(1), "low"),
            (persistent(), "none"),
            (urgent(9), "high"),
            (urgent(1), "low too"),
            (urgent(200), "higher counts as high"),
        ]);
        lives.restart();

        let order = ["high", "higher counts as high", "low", "low too", "none"];
        assert_eq!(lives.connect().channel().drain("queue"), order);
    }

    fn how_often_a_message_came_back_is_exact_after_a_stop(lives: &mut Lives) {
        let channel = lives.connect().channel();
        ruled(&channel, "queue", &[("x-delivery-limit", number(5))]);
        keep_with(&channel, "queue", &[(persistent(), "twice"), (persistent(), "never")]);
        for _ in 0..2 {
            let got = channel.get("queue").expect("it is there");
            channel.reject(got.method.delivery_tag, true);
            channel.passive("queue");
        }
        lives.restart();

        let channel = lives.connect().channel();
        let counted = |count| (!lives.are_killed()).then_some(AMQPValue::LongLongInt(count));
        for (text, count) in [("twice", counted(2)), ("never", None)] {
            let got = channel.get("queue").expect("it was kept");
            assert_eq!((got.text().as_str(), delivery_count(&got.content.properties)), (text, count));
        }
    }

    fn delayed_messages_go_on_time_after_a_restart(lives: &mut Lives) {
        let channel = lives.connect().channel();
        declare_delayed(&channel);
        for (ms, body) in [(3000, "later"), (1500, "sooner"), (600_000, "much later")] {
            publish_after(&channel, ms, body);
        }
        channel.confirmed(1..=3);
        lives.restart();

        let channel = lives.connect().channel();
        channel.consume_no_ack("queue");
        let came = came_until(&channel, "later");
        assert_eq!(came, ["sooner", "later"]);
        channel.nothing_more_from("queue");
    }

    // They leave the queue ahead of their time, and are read from the log together, whichever is due first.
    fn many_delayed_messages_come_once_and_in_the_order_of_their_times(lives: &mut Lives) {
        const GROUPS: i32 = 6;
        const MESSAGES: i32 = 2400;
        let channel = lives.connect().channel();
        declare_delayed(&channel);
        let group = |number: i32| number * 7 % GROUPS;
        for number in 0..MESSAGES {
            let ms = 1500 + 700 * (GROUPS - group(number));
            publish_after(&channel, ms, &number.to_string());
        }
        channel.confirmed(1..=MESSAGES as u64);
        lives.restart();

        let channel = lives.connect().channel();
        channel.consume_no_ack("queue");
        let groups = (0..GROUPS).rev();
        let expected = groups.flat_map(|one| (0..MESSAGES).filter(move |number| group(*number) == one));
        let expected: Vec<String> = expected.map(|number| number.to_string()).collect();
        assert_eq!(channel.delivered_texts(MESSAGES as usize), expected);
        channel.nothing_more_from("queue");
    }

    fn a_queue_is_as_full_as_it_was(lives: &mut Lives) {
        let channel = lives.connect().channel();
        ruled(&channel, "count", &[("x-max-length", number(2))]);
        ruled(&channel, "bytes", &[("x-max-length-bytes", number(8))]);
        keep(&lives.connect(), "", "count", &["a", "b"]);
        keep(&lives.connect(), "", "bytes", &["four", "4444"]);
        ruled(&channel, "uneven", &[("x-max-length-bytes", number(20))]);
        keep(&lives.connect(), "", "uneven", &["fifteen letters", "b", "c", "d"]);
        lives.restart();

        let connection = lives.connect();
        keep(&connection, "", "count", &["c"]);
        keep(&connection, "", "bytes", &["more"]);
        keep(&connection, "", "uneven", &["ten bytes!"]);
        let channel = connection.channel();
        assert_eq!(channel.drain("count"), ["b", "c"]);
        assert_eq!(channel.drain("bytes"), ["4444", "more"]);
        assert_eq!(channel.drain("uneven"), ["b", "c", "d", "ten bytes!"]);
    }

    fn a_dead_letter_is_in_its_new_queue_once(lives: &mut Lives) {
        const COUNT: usize = 500;
        let connection = lives.connect();
        let channel = connection.channel();
        let bodies = rejected(&channel, "dead", COUNT);
        while (channel.passive("dead").message_count as usize) < COUNT {}
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("dead"), bodies);
        assert!(lives.texts("queue").is_empty());
    }

    fn a_message_is_never_in_neither_queue(lives: &mut Lives) {
        const COUNT: usize = 2000;
        let channel = lives.connect().channel();
        let bodies = rejected(&channel, "dead", COUNT);
        // The end comes while they are on their way.
        while channel.passive("dead").message_count == 0 {}
        lives.restart();
        assert_eq!(in_all(lives, &["queue", "dead"]), bodies);
    }

    fn a_letter_that_a_full_queue_refuses_is_never_in_no_queue(lives: &mut Lives) {
        const COUNT: usize = 2000;
        let channel = lives.connect().channel();
        let mut rules = dead_letters_to("dead").to_vec();
        rules.extend([("x-max-length", number(1)), ("x-overflow", text("reject-publish-dlx"))]);
        ruled(&channel, "full", &rules);
        let bodies = rejected(&channel, "full", COUNT);
        while channel.passive("dead").message_count == 0 {}
        lives.restart();
        assert_eq!(in_all(lives, &["queue", "full", "dead"]), bodies);
    }

    fn duplicates_are_dropped_of_what_was_there_before(lives: &mut Lives) {
        let like = |value| persistent().with_headers(table(&[("x-deduplication-header", text(value))]));
        let channel = lives.connect().channel();
        ruled(&channel, "queue", &[("x-message-deduplication", AMQPValue::Boolean(true))]);
        keep_with(&channel, "queue", &[(like("a"), "1"), (like("b"), "2"), (like("c"), "3")]);
        let first = channel.get("queue").expect("the first");
        channel.ack(first.method.delivery_tag);
        lives.sure(&lives.connect(), "queue");
        lives.restart_on(3);

        let channel = lives.connect().channel();
        keep_with(&channel, "queue", &[(like("a"), "4"), (like("b"), "5"), (like("c"), "6")]);
        let texts = lives.texts("queue");
        assert_eq!(texts, ["2", "3", "4"], "only the first was gone");
    }

    fn an_exchange_knows_what_it_has_let_pass(lives: &mut Lives) {
        let like = |value, ttl_ms| {
            let headers = [("x-deduplication-header", text(value)), ("x-cache-ttl", number(ttl_ms))];
            persistent().with_headers(table(&headers))
        };
        const LONG: i32 = 600_000;
        let channel = lives.connect().channel();
        durable_queue(&channel, "queue");
        for (exchange, place) in [("once", "disk"), ("once a life", "memory")] {
            channel.declare_exchange(exchange, "x-message-deduplication", |declare| {
                declare.durable = true;
                declare.arguments = table(&[("x-cache-size", number(100)), ("x-cache-persistence", text(place))]);
            });
            channel.bind("queue", exchange, "");
        }
        let publish = |channel: &Channel, exchange: &str, like: &AMQPProperties, body: &str| {
            let mode = if body == "transient" { 1 } else { 2 };
            let properties = properties(&like.clone().with_delivery_mode(mode));
            channel.publish_content(exchange, "", &properties, body.as_bytes());
        };
        channel.confirm_select();
        for (value, ttl_ms, body) in [("a", LONG, "1"), ("b", 1, "2"), ("c", LONG, "transient"), ("a", LONG, "3")] {
            publish(&channel, "once", &like(value, ttl_ms), body);
        }
        publish(&channel, "once a life", &like("a", LONG), "4");
        channel.confirmed(1..=5);
        lives.restart_on(3);

        let channel = lives.connect().channel();
        channel.confirm_select();
        for (value, body) in [("a", "5"), ("b", "6"), ("c", "7"), ("d", "8")] {
            publish(&channel, "once", &like(value, LONG), body);
        }
        publish(&channel, "once a life", &like("a", LONG), "9");
        channel.confirmed(1..=5);
        lives.restart();

        let channel = lives.connect().channel();
        channel.confirm_select();
        for (value, body) in [("b", "10"), ("d", "11"), ("e", "12")] {
            publish(&channel, "once", &like(value, LONG), body);
        }
        channel.confirmed(1..=3);
        assert_eq!(lives.texts("queue"), ["1", "2", "4", "6", "8", "9", "12"]);
    }
}
