//! lapin: declare, bind, publish with confirms, consume, ack, nack, qos, returns, exclusive queues, transactions.

use super::run;
use crate::support::PATIENCE;
use crate::support::broker::Broker;
use crate::support::cores::on_each_core_count;
use lapin::message::{Delivery, DeliveryResult};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeBindOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, Result,
};
use std::future::ready;
use std::sync::mpsc::{Receiver, channel};

on_each_core_count! {
    fn a_full_round(broker: &Broker) {
        run(async {
            let (publisher, consumer) = (connect(broker, "%2f").await?, connect(broker, "%2f").await?);
            let (publisher, consumer) = (publisher.create_channel().await?, consumer.create_channel().await?);
            let (exchange, queue) = (broker.name("lapin"), broker.name("lapin"));
            declare(&consumer, &exchange, &queue).await?;
            publisher.confirm_select(ConfirmSelectOptions::default()).await?;
            consumer.basic_qos(10, BasicQosOptions::default()).await?;
            let deliveries = consume(&consumer, &queue).await?;
            for number in 0..100 {
                let confirmed = publish(&publisher, &exchange, &format!("log.{number}"), number.to_string()).await?;
                assert_eq!(confirmed, Confirmation::Ack(None));
            }
            for number in 0..100 {
                let delivery = next(&deliveries);
                assert_eq!(delivery.data, number.to_string().into_bytes());
                assert_eq!(delivery.routing_key.as_str(), format!("log.{number}"));
                delivery.ack(BasicAckOptions::default()).await?;
            }
            consumer.basic_cancel("lapin".into(), BasicCancelOptions::default()).await?;
            let deleted = consumer.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
            assert_eq!(deleted, 0);
            consumer.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await
        }).expect("lapin is content");
    }

    fn nack_requeues_and_the_message_comes_again(broker: &Broker) {
        run(async {
            let channel = connect(broker, "%2f").await?.create_channel().await?;
            let queue = own_queue(&channel).await?;
            let deliveries = consume(&channel, &queue).await?;
            publish(&channel, "", &queue, "again".to_owned()).await?;
            let first = next(&deliveries);
            assert!(!first.redelivered);
            first.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
            let second = next(&deliveries);
            assert!(second.redelivered);
            second.ack(BasicAckOptions::default()).await?;
            channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await
        }).expect("lapin is content");
    }

    fn a_returned_message_comes_with_its_confirm(broker: &Broker) {
        run(async {
            let channel = connect(broker, "%2f").await?.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let properties = BasicProperties::default().with_message_id("mine".into());
            let confirmed = channel
                .basic_publish("amq.direct".into(), "no-such-key-anywhere".into(), options, b"back", properties)
                .await?
                .await?;
            let returned = confirmed.take_message().expect("it was returned");
            assert_eq!((returned.reply_code, returned.delivery.data.as_slice()), (312, &b"back"[..]));
            assert_eq!(returned.delivery.properties.message_id().as_ref().map(|id| id.as_str()), Some("mine"));
            Ok::<_, lapin::Error>(())
        }).expect("lapin is content");
    }

    fn an_error_closes_the_channel_and_tells_why(broker: &Broker) {
        run(async {
            let (owner, stranger) = (connect(broker, "%2f").await?, connect(broker, "%2f").await?);
            let (owner, channel) = (owner.create_channel().await?, stranger.create_channel().await?);
            let queue = own_queue(&owner).await?;
            let refused = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await;
            let text = refused.expect_err("the queue is exclusive to another").to_string();
            assert!(text.contains("RESOURCE") || text.contains("405"), "{text}");
            stranger.create_channel().await?;
            Ok::<_, lapin::Error>(())
        }).expect("lapin is content");
    }

    fn a_transaction_commits(broker: &Broker) {
        run(async {
            let channel = connect(broker, "orders").await?.create_channel().await?;
            let queue = own_queue(&channel).await?;
            channel.tx_select().await?;
            publish(&channel, "", &queue, "a".to_owned()).await?;
            channel.tx_rollback().await?;
            publish(&channel, "", &queue, "b".to_owned()).await?;
            channel.tx_commit().await?;
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await?;
            let got = got.expect("what was committed is there");
            assert_eq!((got.delivery.data.as_slice(), got.message_count), (&b"b"[..], 0));
            Ok::<_, lapin::Error>(())
        }).expect("lapin is content");
    }

    fn ten_thousand_confirms_at_once(broker: &Broker) {
        run(async {
            let channel = connect(broker, "%2f").await?.create_channel().await?;
            let queue = own_queue(&channel).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            for _ in 0..10_000 {
                let options = BasicPublishOptions::default();
                let properties = BasicProperties::default();
                // Kept by the channel until `wait_for_confirms`.
                drop(channel.basic_publish("".into(), queue.as_str().into(), options, b"x", properties).await?);
            }
            assert!(channel.wait_for_confirms().await?.is_empty());
            let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
            assert_eq!(purged, 10_000);
            Ok::<_, lapin::Error>(())
        }).expect("lapin is content");
    }
}

async fn connect(broker: &Broker, vhost: &str) -> Result<Connection> {
    let uri = format!("amqp://alice:secret@{}/{vhost}", broker.address);
    Connection::connect(&uri, ConnectionProperties::default()).await
}

/// A topic exchange bound to a queue through a fanout exchange.
async fn declare(channel: &Channel, exchange: &str, queue: &str) -> Result<()> {
    let none = FieldTable::default;
    let options = ExchangeDeclareOptions::default();
    let fanout = format!("{exchange}-fanout");
    channel
        .exchange_declare(exchange.into(), ExchangeKind::Topic, options, none())
        .await?;
    let options = ExchangeDeclareOptions {
        auto_delete: true,
        ..Default::default()
    };
    channel
        .exchange_declare(
            fanout.as_str().into(),
            ExchangeKind::Fanout,
            options,
            none(),
        )
        .await?;
    let options = ExchangeBindOptions::default();
    channel
        .exchange_bind(
            fanout.as_str().into(),
            exchange.into(),
            "log.#".into(),
            options,
            none(),
        )
        .await?;
    channel
        .queue_declare(queue.into(), QueueDeclareOptions::default(), none())
        .await?;
    channel
        .queue_bind(
            queue.into(),
            fanout.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            none(),
        )
        .await
}

async fn own_queue(channel: &Channel) -> Result<String> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    Ok(channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?
        .name()
        .to_string())
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: String,
) -> Result<Confirmation> {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default().with_delivery_mode(1);
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            options,
            body.as_bytes(),
            properties,
        )
        .await?
        .await
}

/// Starts the consumer `lapin`, whose deliveries come through a channel of ours.
async fn consume(channel_: &Channel, queue: &str) -> Result<Receiver<Delivery>> {
    let options = BasicConsumeOptions::default();
    let consumer = channel_
        .basic_consume(queue.into(), "lapin".into(), options, FieldTable::default())
        .await?;
    let (sender, receiver) = channel();
    consumer.set_delegate(move |result: DeliveryResult| {
        if let Ok(Some(delivery)) = result {
            // The test may be over.
            let _ = sender.send(delivery);
        }
        ready(())
    });
    Ok(receiver)
}

/// Blocks the test's own thread only: lapin runs on the runtime's.
fn next(deliveries: &Receiver<Delivery>) -> Delivery {
    deliveries
        .recv_timeout(PATIENCE)
        .expect("a delivery comes in time")
}
