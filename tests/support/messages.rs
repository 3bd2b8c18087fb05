//! Messages on a channel: published, confirmed, consumed, got, settled.

use super::channel::{Channel, comes_unasked};
use super::socket::Message;
use super::wire;
use amq_protocol::protocol::{AMQPClass, basic, confirm};
use std::collections::BTreeSet;

impl Channel {
    pub(crate) fn publish(&self, exchange: &str, routing_key: &str, text: &str) {
        self.publish_content(exchange, routing_key, wire::NO_PROPERTIES, text.as_bytes());
    }

    pub(crate) fn publish_mandatory(&self, exchange: &str, routing_key: &str, text: &str) {
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            mandatory: true,
            ..Default::default()
        };
        self.publish_with(publish, wire::NO_PROPERTIES, text.as_bytes());
    }

    pub(crate) fn publish_content(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: &[u8],
        body: &[u8],
    ) {
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            ..Default::default()
        };
        self.publish_with(publish, properties, body);
    }

    pub(crate) fn publish_with(&self, publish: basic::Publish, properties: &[u8], body: &[u8]) {
        let mut socket = self.socket.borrow_mut();
        let content = wire::content(self.id, properties, body, socket.frame_max);
        socket
            .raw
            .send(&[wire::method(self.id, publish), content].concat());
    }

    /// Publishes each text to the queue through the default exchange.
    pub(crate) fn fill(&self, queue: &str, texts: &[&str]) {
        for text in texts {
            self.publish("", queue, text);
        }
    }

    pub(crate) fn confirm_select(&self) {
        self.call::<confirm::SelectOk>(confirm::Select { nowait: false });
    }

    /// Fills a queue so that it surely holds the messages, whatever connection looks at it next.
    pub(crate) fn fill_confirmed(&self, queue: &str, texts: &[&str]) {
        self.confirm_select();
        self.fill(queue, texts);
        self.confirmed(1..=texts.len() as u64);
    }

    /// Reads confirms until each of these numbers was acknowledged, exactly once. Returns how many acks it took.
    pub(crate) fn confirmed(&self, numbers: std::ops::RangeInclusive<u64>) -> usize {
        let mut outstanding: BTreeSet<u64> = numbers.collect();
        let mut acks = 0;
        while !outstanding.is_empty() {
            let ack = self.expect::<basic::Ack>();
            acks += 1;
            if ack.multiple {
                let later = outstanding.split_off(&(ack.delivery_tag + 1));
                assert!(!outstanding.is_empty(), "{ack:?} confirms nothing new");
                outstanding = later;
            } else {
                assert!(
                    outstanding.remove(&ack.delivery_tag),
                    "{ack:?} wasn't outstanding"
                );
            }
        }
        acks
    }

    pub(crate) fn qos(&self, prefetch_count: u16, global: bool) {
        self.call::<basic::QosOk>(basic::Qos {
            prefetch_count,
            global,
        });
    }

    pub(crate) fn consume_with(
        &self,
        queue: &str,
        choose: impl FnOnce(&mut basic::Consume),
    ) -> String {
        let mut consume = basic::Consume {
            queue: queue.into(),
            ..Default::default()
        };
        choose(&mut consume);
        self.call::<basic::ConsumeOk>(consume)
            .consumer_tag
            .to_string()
    }

    /// A consumer that acknowledges, tagged by the server.
    pub(crate) fn consume(&self, queue: &str) -> String {
        self.consume_with(queue, |_| {})
    }

    pub(crate) fn consume_no_ack(&self, queue: &str) -> String {
        self.consume_with(queue, |consume| consume.no_ack = true)
    }

    pub(crate) fn cancel(&self, tag: &str) {
        let cancelled = self.call::<basic::CancelOk>(basic::Cancel {
            consumer_tag: tag.into(),
            nowait: false,
        });
        assert_eq!(cancelled.consumer_tag.as_str(), tag);
    }

    pub(crate) fn ack(&self, delivery_tag: u64) {
        self.send(basic::Ack {
            delivery_tag,
            multiple: false,
        });
    }

    pub(crate) fn ack_up_to(&self, delivery_tag: u64) {
        self.send(basic::Ack {
            delivery_tag,
            multiple: true,
        });
    }

    pub(crate) fn reject(&self, delivery_tag: u64, requeue: bool) {
        self.send(basic::Reject {
            delivery_tag,
            requeue,
        });
    }

    pub(crate) fn nack(&self, delivery_tag: u64, multiple: bool, requeue: bool) {
        self.send(basic::Nack {
            delivery_tag,
            multiple,
            requeue,
        });
    }

    /// One message, to be acknowledged, or none.
    pub(crate) fn get(&self, queue: &str) -> Option<Message<basic::GetOk>> {
        self.get_with(basic::Get {
            queue: queue.into(),
            no_ack: false,
        })
    }

    /// One message, settled at once, or none.
    pub(crate) fn get_no_ack(&self, queue: &str) -> Option<Message<basic::GetOk>> {
        self.get_with(basic::Get {
            queue: queue.into(),
            no_ack: true,
        })
    }

    fn get_with(&self, get: basic::Get) -> Option<Message<basic::GetOk>> {
        self.send(get);
        let incoming = self
            .socket
            .borrow_mut()
            .take(self.id, "get-ok or get-empty", |method| {
                !comes_unasked(method)
            });
        match incoming.method {
            AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)) => None,
            AMQPClass::Basic(basic::AMQPMethod::GetOk(method)) => Some(Message {
                method,
                content: incoming.content.expect("get-ok carries a content"),
            }),
            other => panic!("expected get-ok or get-empty, got {other:?}"),
        }
    }

    /// Takes everything out of the queue by get, settled at once, as texts.
    pub(crate) fn drain(&self, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.get_no_ack(queue))
            .map(|message| message.text())
            .collect()
    }
}
