//! amqprs: declare, bind, publish with confirms, consume, ack, nack, qos, returns, exclusive queues.

use super::run;
use crate::support::PATIENCE;
use crate::support::broker::Broker;
use crate::support::cores::on_each_core_count;
use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicCancelArguments, BasicConsumeArguments, BasicGetArguments,
    BasicNackArguments, BasicPublishArguments, BasicQosArguments, Channel, ConfirmSelectArguments,
    ExchangeDeclareArguments, ExchangeDeleteArguments, QueueBindArguments, QueueDeclareArguments,
    QueueDeleteArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};

type Result<T> = std::result::Result<T, amqprs::error::Error>;

on_each_core_count! {
    fn a_full_round(broker: &Broker) {
        run(async {
            let (publishing, consuming) = (connect(broker).await?, connect(broker).await?);
            let publisher = publishing.open_channel(None).await?;
            let consumer = consuming.open_channel(None).await?;
            let (exchange, queue) = (broker.name("amqprs"), broker.name("amqprs"));
            declare(&consumer, &exchange, &queue).await?;
            let confirms = listen(&publisher).await?;
            publisher.confirm_select(ConfirmSelectArguments::default()).await?;
            consumer.basic_qos(BasicQosArguments::new(0, 10, false)).await?;
            let (tag, mut deliveries) = consumer.basic_consume_rx(BasicConsumeArguments::new(&queue, "amqprs")).await?;
            for number in 0..50 {
                publish(&publisher, &exchange, &queue, &number.to_string()).await?;
            }
            expect_confirms(&confirms, 50);
            for number in 0..50 {
                let message = deliveries.recv().await.expect("the consumer lives");
                assert_eq!(message.content, Some(number.to_string().into_bytes()));
                let tag = message.deliver.expect("a delivery says so").delivery_tag();
                consumer.basic_ack(BasicAckArguments::new(tag, false)).await?;
            }
            consumer.basic_cancel(BasicCancelArguments::new(&tag)).await?;
            assert_eq!(consumer.queue_delete(QueueDeleteArguments::new(&queue)).await?, Some(0));
            consumer.exchange_delete(ExchangeDeleteArguments::new(&exchange)).await?;
            publisher.close().await?;
            consumer.close().await?;
            publishing.close().await?;
            consuming.close().await
        }).expect("amqprs is content");
    }

    fn nack_requeues_and_the_message_comes_again(broker: &Broker) {
        run(async {
            let connection = connect(broker).await?;
            let channel = connection.open_channel(None).await?;
            let queue = own_queue(&channel).await?;
            let (_, mut deliveries) = channel.basic_consume_rx(BasicConsumeArguments::new(&queue, "")).await?;
            publish(&channel, "", &queue, "again").await?;
            let first = deliveries.recv().await.and_then(|message| message.deliver).expect("the consumer lives");
            assert!(!first.redelivered());
            channel.basic_nack(BasicNackArguments::new(first.delivery_tag(), false, true)).await?;
            let second = deliveries.recv().await.and_then(|message| message.deliver).expect("the consumer lives");
            assert!(second.redelivered());
            channel.basic_ack(BasicAckArguments::new(second.delivery_tag(), false)).await?;
            channel.close().await?;
            connection.close().await
        }).expect("amqprs is content");
    }

    fn a_message_for_nobody_is_returned(broker: &Broker) {
        run(async {
            let connection = connect(broker).await?;
            let channel = connection.open_channel(None).await?;
            let heard = listen(&channel).await?;
            let mut arguments = BasicPublishArguments::new("amq.direct", "no-such-key-anywhere");
            arguments.mandatory(true);
            channel.basic_publish(BasicProperties::default(), b"back".to_vec(), arguments).await?;
            let returned = heard.recv_timeout(PATIENCE).expect("the message comes back");
            assert!(matches!(&returned, Heard::Returned(312, body) if body == b"back"), "{returned:?}");
            channel.close().await?;
            connection.close().await
        }).expect("amqprs is content");
    }

    fn an_exclusive_queue_is_got_from_by_its_owner(broker: &Broker) {
        run(async {
            let connection = connect(broker).await?;
            let channel = connection.open_channel(None).await?;
            let queue = own_queue(&channel).await?;
            publish(&channel, "", &queue, "mine").await?;
            let got = channel.basic_get(BasicGetArguments::new(&queue)).await?;
            let (got, _, body) = got.expect("a message is ready");
            assert_eq!((got.message_count(), body.as_slice()), (0, &b"mine"[..]));
            channel.close().await?;
            connection.close().await
        }).expect("amqprs is content");
    }
}

async fn connect(broker: &Broker) -> Result<Connection> {
    let (host, port) = (broker.address.ip().to_string(), broker.address.port());
    Connection::open(&OpenConnectionArguments::new(
        &host, port, "alice", "secret",
    ))
    .await
}

async fn declare(channel: &Channel, exchange: &str, queue: &str) -> Result<()> {
    channel
        .exchange_declare(ExchangeDeclareArguments::new(exchange, "direct"))
        .await?;
    channel
        .queue_declare(QueueDeclareArguments::new(queue))
        .await?;
    channel
        .queue_bind(QueueBindArguments::new(queue, exchange, queue))
        .await
}

async fn own_queue(channel: &Channel) -> Result<String> {
    let declared = channel
        .queue_declare(QueueDeclareArguments::exclusive_server_named())
        .await?;
    Ok(declared.expect("declare is answered").0)
}

async fn publish(channel: &Channel, exchange: &str, key: &str, text: &str) -> Result<()> {
    let arguments = BasicPublishArguments::new(exchange, key);
    channel
        .basic_publish(
            BasicProperties::default(),
            text.as_bytes().to_vec(),
            arguments,
        )
        .await
}

/// Each number once, alone or as one of a multiple.
fn expect_confirms(heard: &Receiver<Heard>, count: u64) {
    let mut outstanding: std::collections::BTreeSet<u64> = (1..=count).collect();
    while !outstanding.is_empty() {
        match heard.recv_timeout(PATIENCE).expect("confirms come in time") {
            Heard::Confirmed(tag, true) => outstanding = outstanding.split_off(&(tag + 1)),
            Heard::Confirmed(tag, false) => {
                assert!(outstanding.remove(&tag), "{tag} was not outstanding")
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a channel hears beside answers and deliveries.
#[derive(Debug)]
enum Heard {
    Confirmed(u64, bool),
    Refused,
    Returned(u16, Vec<u8>),
    Closed,
    Cancelled,
}

struct Ear(Sender<Heard>);

impl Ear {
    fn hear(&self, heard: Heard) {
        // The test may be over.
        let _ = self.0.send(heard);
    }
}

async fn listen(channel_: &Channel) -> Result<Receiver<Heard>> {
    let (sender, receiver) = channel();
    channel_.register_callback(Ear(sender)).await?;
    Ok(receiver)
}

/// What `async_trait` makes of an `async fn`, written out: `name(arguments) -> output` with a body that doesn't await.
macro_rules! callbacks {
    ($($name:ident($self:ident $(, $argument:ident: $type:ty)*) -> $output:ty $body:block)*) => { $(
        fn $name<'a, 'b, 'c>(
            &'a mut $self,
            _: &'b Channel,
            $($argument: $type),*
        ) -> Pin<Box<dyn Future<Output = $output> + Send + 'c>>
        where
            'a: 'c,
            'b: 'c,
            Self: 'c,
        {
            let heard = $body;
            Box::pin(std::future::ready(heard))
        }
    )* };
}

impl ChannelCallback for Ear {
    callbacks! {
        close(self, _close: CloseChannel) -> Result<()> { self.hear(Heard::Closed); Ok(()) }
        cancel(self, _cancel: Cancel) -> Result<()> { self.hear(Heard::Cancelled); Ok(()) }
        flow(self, _active: bool) -> Result<bool> { Ok(true) }
        publish_ack(self, ack: Ack) -> () { self.hear(Heard::Confirmed(ack.delivery_tag(), ack.mutiple())) }
        publish_nack(self, _nack: Nack) -> () { self.hear(Heard::Refused) }
        publish_return(self, returned: Return, _properties: BasicProperties, content: Vec<u8>) -> () {
            self.hear(Heard::Returned(returned.reply_code(), content))
        }
    }
}
