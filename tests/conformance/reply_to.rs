//! Direct reply-to: replies without a queue of one's own (<https://www.rabbitmq.com/docs/direct-reply-to>).

use crate::support::broker::Broker;
use crate::support::channel::{Channel, binding};
use crate::support::cores::on_each_core_count;
use crate::support::{ids, wire};
use amq_protocol::protocol::{basic, queue};

const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

/// Properties before and behind `reply-to`, so that its exchange shows if it harms its neighbours.
fn request_properties() -> Vec<u8> {
    let properties = basic::AMQPProperties::default()
        .with_content_type("text/plain".into())
        .with_correlation_id("one".into())
        .with_reply_to(PSEUDO_QUEUE.into())
        .with_message_id("id-1".into());
    wire::properties(&properties)
}

/// Asks, and gives the address that the responder is told.
fn ask(requester: &Channel, responder: &Channel, queue: &str) -> String {
    requester.publish_content("", queue, &request_properties(), b"question");
    let question = responder.delivery();
    assert_eq!(question.text(), "question");
    let (_, properties) =
        basic::parse_properties(&question.content.properties[..]).expect("they are properties");
    let told = (
        properties.content_type(),
        properties.correlation_id(),
        properties.message_id(),
    );
    let [kind, id, message] = ["text/plain", "one", "id-1"].map(|text| Some(text.into()));
    assert_eq!(told, (&kind, &id, &message));
    let address = properties
        .reply_to()
        .as_ref()
        .expect("it asks for a reply")
        .to_string();
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    address
}

fn responder(broker: &Broker) -> (Channel, String) {
    let channel = broker.connect().channel();
    let queue = channel.own_queue();
    channel.consume_no_ack(&queue);
    (channel, queue)
}

on_each_core_count! {
    fn replies_come_back_to_the_channel_that_asked(broker: &Broker) {
        let owner = broker.connect().channel();
        let queue = broker.name("questions");
        owner.queue(&queue);
        owner.consume_no_ack(&queue);
        for connection in broker.connections_spread::<4>() {
            let requester = connection.channel();
            requester.consume_no_ack(PSEUDO_QUEUE);
            let addresses = [(); 2].map(|()| ask(&requester, &owner, &queue));
            assert_eq!(addresses[0], addresses[1], "one channel, one address");
            owner.publish("", &addresses[0], "answer");
            assert_eq!(requester.delivery().text(), "answer");
        }
        owner.delete_queue(&queue);
    }

    fn each_channel_has_an_address_of_its_own(broker: &Broker) {
        let (owner, queue) = responder(broker);
        let connection = broker.connect();
        let channels = [(); 2].map(|()| connection.channel());
        let addresses = channels.each_ref().map(|channel| {
            channel.consume_no_ack(PSEUDO_QUEUE);
            ask(channel, &owner, &queue)
        });
        assert_ne!(addresses[0], addresses[1]);
        for (channel, address) in channels.iter().zip(&addresses) {
            owner.publish("", address, address);
            assert_eq!(&channel.delivery().text(), address);
        }
    }

    fn a_reply_consumer_must_not_acknowledge(broker: &Broker) {
        let channel = broker.connect().channel();
        channel.send(basic::Consume { queue: PSEUDO_QUEUE.into(), ..Default::default() });
        channel.expect_close(406, "reply consumer cannot acknowledge", ids::BASIC_CONSUME);
    }

    fn there_is_one_reply_consumer_a_channel(broker: &Broker) {
        let channel = broker.connect().channel();
        channel.consume_no_ack(PSEUDO_QUEUE);
        channel.send(basic::Consume { queue: PSEUDO_QUEUE.into(), no_ack: true, ..Default::default() });
        channel.expect_close(406, "reply consumer already set", ids::BASIC_CONSUME);
        // Even if it is wrong in another way too.
        let channel = broker.connect().channel();
        channel.consume_no_ack(PSEUDO_QUEUE);
        channel.send(basic::Consume { queue: PSEUDO_QUEUE.into(), ..Default::default() });
        channel.expect_close(406, "reply consumer already set", ids::BASIC_CONSUME);
    }

    fn asking_without_a_reply_consumer_is_406(broker: &Broker) {
        let channel = broker.connect().channel();
        let queue = channel.own_queue();
        channel.publish_content("", &queue, &request_properties(), b"question");
        channel.expect_close(406, "fast reply consumer does not exist", ids::BASIC_PUBLISH);
    }

    fn a_cancelled_reply_consumer_may_be_set_again(broker: &Broker) {
        let (owner, queue) = responder(broker);
        let channel = broker.connect().channel();
        let tag = channel.consume_no_ack(PSEUDO_QUEUE);
        channel.cancel(&tag);
        channel.consume_no_ack(PSEUDO_QUEUE);
        let address = ask(&channel, &owner, &queue);
        owner.publish("", &address, "answer");
        assert_eq!(channel.delivery().text(), "answer");
    }

    fn a_reply_to_one_who_has_gone_is_returned_if_mandatory(broker: &Broker) {
        let (owner, queue) = responder(broker);
        let connection = broker.connect();
        let requester = connection.channel();
        requester.consume_no_ack(PSEUDO_QUEUE);
        let address = ask(&requester, &owner, &queue);
        requester.close();
        owner.publish_mandatory("", &address, "too late");
        assert_eq!(owner.expect_message::<basic::Return>().text(), "too late");
    }

    fn the_pseudo_queue_is_there_for_whoever_declares_it(broker: &Broker) {
        let channel = broker.connect().channel();
        for declared in [channel.passive(PSEUDO_QUEUE), channel.declare_queue(PSEUDO_QUEUE, |_| {})] {
            let counts = (declared.message_count, declared.consumer_count);
            assert_eq!((declared.queue.as_str(), counts), (PSEUDO_QUEUE, (0, 1)));
        }
    }

    fn an_address_is_no_queue_to_whoever_knows_it(broker: &Broker) {
        let (owner, queue) = responder(broker);
        for connection in broker.connections_spread::<2>() {
            let requester = connection.channel();
            requester.consume_no_ack(PSEUDO_QUEUE);
            let address = ask(&requester, &owner, &queue);
            let no_queue = format!("NOT_FOUND - no queue '{address}' in vhost '/'");
            let refused = |ids, try_it: &dyn Fn(&Channel)| {
                // Not even to the one that it leads to.
                for connection in [&connection, &broker.connect()] {
                    let channel = connection.channel();
                    try_it(&channel);
                    channel.expect_close(404, &no_queue, ids);
                }
            };
            let named = || address.as_str().into();
            refused(ids::BASIC_CONSUME, &|channel| {
                channel.send(basic::Consume { queue: named(), no_ack: true, ..Default::default() });
            });
            refused(ids::BASIC_GET, &|channel| {
                channel.send(basic::Get { queue: named(), no_ack: true });
            });
            refused(ids::QUEUE_PURGE, &|channel| {
                channel.send(queue::Purge { queue: named(), nowait: false });
            });
            refused(ids::QUEUE_BIND, &|channel| channel.send(binding(&address, "amq.direct", "key")));
            owner.unbind(&address, "amq.direct", "key");
            assert_eq!(owner.delete_queue(&address), 0);
            let declared = owner.passive(&address);
            assert_eq!((declared.message_count, declared.consumer_count), (0, 1));
            owner.publish("", &address, "answer");
            assert_eq!(requester.delivery().text(), "answer");
            requester.close();
            owner.publish_mandatory("", &address, "too late");
            assert_eq!(owner.expect_message::<basic::Return>().text(), "too late");
            assert_eq!(owner.delete_queue(&address), 0);
            refused(ids::QUEUE_DECLARE, &|channel| {
                channel.send(queue::Declare { queue: named(), passive: true, ..Default::default() });
            });
        }
    }
}
