//! Dead letters: where they go, and what they tell of how they came there.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::socket::{Content, Delivery};
use crate::support::wire::{headers, properties, table, text};
use amq_protocol::protocol::basic::{self, AMQPProperties};
use amq_protocol::types::{AMQPValue, FieldTable};

/// A queue with a dead-letter exchange.
fn mortal(
    channel: &Channel,
    exchange: &str,
    key: Option<&str>,
    more: &[(&str, AMQPValue)],
) -> String {
    let mut arguments = table(more);
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    if let Some(key) = key {
        arguments.insert("x-dead-letter-routing-key".into(), text(key));
    }
    let declared = channel.declare_queue("", |declare| {
        declare.exclusive = true;
        declare.arguments = arguments;
    });
    declared.queue.to_string()
}

/// A queue whose dead letters come to this channel.
fn watched(channel: &Channel, more: &[(&str, AMQPValue)]) -> String {
    let dead = channel.own_queue();
    channel.consume_no_ack(&dead);
    mortal(channel, "", Some(&dead), more)
}

fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

fn reject_first(channel: &Channel, queue: &str) {
    let got = channel.get(queue).expect("a message is there");
    channel.reject(got.method.delivery_tag, false);
}

fn decoded(content: &Content) -> AMQPProperties {
    let (rest, properties) = basic::parse_properties(&content.properties[..]).expect("well-formed");
    assert!(rest.is_empty());
    properties
}

fn headers_of(delivery: &Delivery) -> FieldTable {
    decoded(&delivery.content)
        .headers()
        .clone()
        .expect("a dead letter has headers")
}

fn get<'a>(table: &'a FieldTable, key: &str) -> Option<&'a AMQPValue> {
    table.inner().get(key)
}

fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
    let headers = headers_of(delivery);
    let Some(AMQPValue::FieldArray(deaths)) = get(&headers, "x-death") else {
        panic!("x-death is an array: {headers:?}");
    };
    let tables = deaths.as_slice().iter().map(|death| match death {
        AMQPValue::FieldTable(death) => death.clone(),
        other => panic!("{other:?} is no table"),
    });
    tables.collect()
}

fn is(death: &FieldTable, key: &str, value: &str) -> bool {
    get(death, key) == Some(&text(value))
}

on_each_core_count! {
    fn what_is_rejected_goes_to_the_exchange_with_its_story(broker: &Broker) {
        let channel = broker.connect().channel();
        let (source, sink) = (broker.name("source"), broker.name("sink"));
        channel.exchange(&source, "direct");
        channel.exchange(&sink, "fanout");
        let dead = channel.own_queue();
        channel.bind(&dead, &sink, "");
        channel.consume_no_ack(&dead);
        let queue = mortal(&channel, &sink, None, &[]);
        channel.bind(&queue, &source, "key");
        let own = AMQPProperties::default()
            .with_headers(table(&[("mine", text("kept"))]))
            .with_content_type("text/plain".into())
            .with_expiration("60000".into());
        channel.publish_content(&source, "key", &properties(&own), b"unwanted");
        reject_first(&channel, &queue);
        let letter = channel.delivery();
        assert_eq!(letter.text(), "unwanted");
        assert_eq!((letter.method.exchange.as_str(), letter.method.routing_key.as_str()), (sink.as_str(), "key"));
        assert!(!letter.method.redelivered);
        let told = decoded(&letter.content);
        assert_eq!(told.content_type().as_ref().map(|kind| kind.as_str()), Some("text/plain"));
        assert_eq!(*told.expiration(), None, "it would expire again");
        let headers = headers_of(&letter);
        assert_eq!(get(&headers, "mine"), Some(&text("kept")));
        for (key, value) in [("reason", "rejected"), ("queue", queue.as_str()), ("exchange", source.as_str())] {
            assert_eq!(get(&headers, &format!("x-first-death-{key}")), Some(&text(value)));
        }
        let [death] = &deaths(&letter)[..] else { panic!("it died once") };
        assert!(is(death, "reason", "rejected") && is(death, "queue", &queue) && is(death, "exchange", &source));
        assert!(is(death, "original-expiration", "60000"));
        assert_eq!(get(death, "count"), Some(&AMQPValue::LongLongInt(1)));
        assert!(matches!(get(death, "time"), Some(AMQPValue::Timestamp(1_700_000_000..))));
        let keys = AMQPValue::FieldArray(vec![text("key")].into());
        assert_eq!(get(death, "routing-keys"), Some(&keys));
    }

    fn nack_and_reject_dead_letter_in_order_and_requeue_does_not(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = watched(&channel, &[]);
        channel.fill_confirmed(&queue, &["a", "b", "c"]);
        let tags: Vec<_> = (0..3).filter_map(|_| channel.get(&queue)).map(|got| got.method.delivery_tag).collect();
        channel.nack(tags[1], true, false);
        assert_eq!(channel.delivered_texts(2), ["a", "b"]);
        channel.reject(tags[2], true);
        let again = loop {
            if let Some(got) = channel.get(&queue) {
                break got;
            }
        };
        assert_eq!(again.text(), "c");
    }

    fn a_key_of_the_queues_own_replaces_the_messages(broker: &Broker) {
        let channel = broker.connect().channel();
        let sink = broker.name("sink");
        channel.exchange(&sink, "direct");
        let dead = channel.own_queue();
        channel.bind(&dead, &sink, "other");
        channel.consume_no_ack(&dead);
        let queue = mortal(&channel, &sink, Some("other"), &[]);
        channel.publish("", &queue, "moved");
        reject_first(&channel, &queue);
        let letter = channel.delivery();
        assert_eq!(letter.method.routing_key.as_str(), "other");
        let keys = AMQPValue::FieldArray(vec![text(&queue)].into());
        assert_eq!(get(&deaths(&letter)[0], "routing-keys"), Some(&keys), "the key it was published with");
    }

    fn an_exchange_that_is_not_there_takes_nothing(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = mortal(&channel, &broker.name("nowhere"), None, &[]);
        channel.publish("", &queue, "dropped");
        reject_first(&channel, &queue);
        channel.nothing_more_from(&queue);
        assert_eq!(channel.passive(&queue).message_count, 0);
    }

    fn the_same_death_is_counted_and_others_stand_behind_it(broker: &Broker) {
        let channel = broker.connect().channel();
        let second = channel.own_queue();
        let first = mortal(&channel, "", Some(&second), &[]);
        channel.publish("", &first, "round");
        for _ in 0..2 {
            reject_first(&channel, &first);
            let letter = loop {
                if let Some(got) = channel.get_no_ack(&second) {
                    break got;
                }
            };
            channel.publish_content("", &first, &letter.content.properties, b"round");
        }
        reject_first(&channel, &first);
        channel.consume_no_ack(&second);
        let letter = channel.delivery();
        let deaths = deaths(&letter);
        assert_eq!(deaths.len(), 1);
        assert_eq!(get(&deaths[0], "count"), Some(&AMQPValue::LongLongInt(3)));
    }

    fn messages_go_round_only_if_somebody_rejects_them(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = broker.name("self");
        channel.declare_queue(&name, |declare| {
            declare.exclusive = true;
            declare.arguments = table(&[
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&name)),
                ("x-message-ttl", number(20)),
            ]);
        });
        channel.publish("", &name, "expires");
        let witness = watched(&channel, &[("x-message-ttl", number(100))]);
        channel.publish("", &witness, "later");
        assert_eq!(channel.delivery().text(), "later");
        assert_eq!(channel.passive(&name).message_count, 0, "a cycle that nobody is part of ends");
        channel.publish("", &name, "rejected");
        reject_first(&channel, &name);
        let again = loop {
            if let Some(got) = channel.get(&name) {
                break got;
            }
        };
        assert_eq!(again.text(), "rejected");
    }

    fn a_letter_may_reach_several_queues_wherever_they_are(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let sink = broker.name("sink");
        connections[0].channel().exchange(&sink, "fanout");
        let channels = connections.each_ref().map(|connection| connection.channel());
        for channel in &channels {
            let dead = channel.own_queue();
            channel.bind(&dead, &sink, "");
            channel.consume_no_ack(&dead);
        }
        let source = connections[0].channel();
        let queue = mortal(&source, &sink, None, &[]);
        source.publish("", &queue, "to all");
        reject_first(&source, &queue);
        for channel in &channels {
            assert_eq!(channel.delivery().text(), "to all");
        }
    }

    fn a_message_that_comes_back_too_often_is_dead_lettered(broker: &Broker) {
        if broker.is_reference() {
            return; // Only its quorum queues count.
        }
        let channel = broker.connect().channel();
        let queue = watched(&channel, &[("x-delivery-limit", number(2))]);
        channel.publish("", &queue, "poison");
        for count in 0..3 {
            let got = loop {
                if let Some(got) = channel.get(&queue) {
                    break got;
                }
            };
            let told = decoded(&got.content);
            let counted = told.headers().as_ref().and_then(|headers| get(headers, "x-delivery-count").cloned());
            assert_eq!(counted, (count > 0).then_some(AMQPValue::LongLongInt(count)));
            channel.reject(got.method.delivery_tag, true);
        }
        let letter = channel.delivery();
        assert!(is(&deaths(&letter)[0], "reason", "delivery_limit"));
    }

    fn a_header_of_that_name_that_is_no_array_is_replaced(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = watched(&channel, &[]);
        let odd = headers(&[("x-death", text("nonsense"))]);
        channel.publish_content("", &queue, &odd, b"odd");
        reject_first(&channel, &queue);
        assert_eq!(deaths(&channel.delivery()).len(), 1);
    }
}
