//! One channel of a client: methods sent and heard, exchanges, queues and bindings. Messages are in `messages`.

use super::client::check_close;
use super::methods::Method;
use super::socket::{Delivery, Incoming, Message, Socket};
use amq_protocol::protocol::{AMQPClass, basic, channel, exchange, queue};
use std::cell::RefCell;
use std::rc::Rc;

/// Methods that come when the broker likes, not as an answer.
pub(super) fn comes_unasked(method: &AMQPClass) -> bool {
    use basic::AMQPMethod::{Ack, Cancel, Deliver, Nack, Return};
    matches!(
        method,
        AMQPClass::Basic(Deliver(_) | Return(_) | Ack(_) | Nack(_) | Cancel(_))
    )
}

pub(crate) struct Channel {
    pub(crate) id: u16,
    pub(super) socket: Rc<RefCell<Socket>>,
}

/// The parts: send, call, receive.
impl Channel {
    pub(crate) fn new(id: u16, socket: Rc<RefCell<Socket>>) -> Self {
        Self { id, socket }
    }

    pub(crate) fn send(&self, method: impl Method) {
        self.socket.borrow_mut().raw.send_method(self.id, method);
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        self.socket.borrow_mut().raw.send(bytes);
    }

    /// Sends a method and awaits its answer; what comes unasked meanwhile waits.
    pub(crate) fn call<R: Method>(&self, method: impl Method) -> R {
        self.send(method);
        self.answer()
    }

    /// The next answer to something that was sent.
    pub(crate) fn answer<R: Method>(&self) -> R {
        self.socket
            .borrow_mut()
            .receive::<R>(self.id, |method| !comes_unasked(method))
            .0
    }

    /// The next method of any kind must be this one.
    pub(crate) fn expect<M: Method>(&self) -> M {
        self.socket.borrow_mut().receive::<M>(self.id, |_| true).0
    }

    /// The next method of any kind must be this one, with a content.
    pub(crate) fn expect_message<M: Method>(&self) -> Message<M> {
        let (method, content) = self.socket.borrow_mut().receive::<M>(self.id, |_| true);
        Message {
            method,
            content: content.expect("this method carries a content"),
        }
    }

    /// The next thing on this channel, whatever it is.
    pub(crate) fn next(&self, awaited: &str) -> Incoming {
        self.socket.borrow_mut().take(self.id, awaited, |_| true)
    }

    pub(crate) fn delivery(&self) -> Delivery {
        self.expect_message::<basic::Deliver>()
    }

    /// So many deliveries, their bodies as text.
    pub(crate) fn delivered_texts(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.delivery().text()).collect()
    }

    /// The broker closes this channel; the texts are compared by "contains". Answers with close-ok.
    pub(crate) fn expect_close(&self, code: u16, text: &str, ids: (u16, u16)) {
        let is_close = |method: &AMQPClass| !comes_unasked(method);
        let close = self
            .socket
            .borrow_mut()
            .receive::<channel::Close>(self.id, is_close)
            .0;
        check_close(
            close.reply_code,
            close.reply_text.as_str(),
            (close.class_id, close.method_id),
            (code, text, ids),
        );
        self.send(channel::CloseOk {});
    }

    pub(crate) fn close(&self) {
        let goodbye = channel::Close {
            reply_code: 200,
            reply_text: "bye".into(),
            ..Default::default()
        };
        self.call::<channel::CloseOk>(goodbye);
    }

    /// A round trip to `queue` and back, after which nothing came unasked. The second trip is for RabbitMQ, whose
    /// channel answers the first before it looks at deliveries already in its mailbox.
    pub(crate) fn nothing_more_from(&self, queue: &str) {
        self.passive(queue);
        self.passive(queue);
        let socket = self.socket.borrow();
        let left: Vec<_> = socket
            .waiting
            .iter()
            .filter(|(id, _)| *id == self.id)
            .collect();
        assert!(left.is_empty(), "nothing should have come, but {left:?}");
    }

    /// How many things came unasked and weren't looked at yet.
    pub(crate) fn waiting(&self) -> usize {
        self.socket
            .borrow()
            .waiting
            .iter()
            .filter(|(id, _)| *id == self.id)
            .count()
    }
}

/// Exchanges, queues, bindings.
impl Channel {
    pub(crate) fn declare_queue(
        &self,
        name: &str,
        choose: impl FnOnce(&mut queue::Declare),
    ) -> queue::DeclareOk {
        let mut declare = queue::Declare {
            queue: name.into(),
            ..Default::default()
        };
        choose(&mut declare);
        self.call(declare)
    }

    /// A plain queue: transient, shared, not auto-deleted.
    pub(crate) fn queue(&self, name: &str) {
        self.declare_queue(name, |_| {});
    }

    /// A queue of this connection alone, named by the server.
    pub(crate) fn own_queue(&self) -> String {
        self.declare_queue("", |declare| declare.exclusive = true)
            .queue
            .to_string()
    }

    pub(crate) fn passive(&self, name: &str) -> queue::DeclareOk {
        self.declare_queue(name, |declare| declare.passive = true)
    }

    pub(crate) fn declare_exchange(
        &self,
        name: &str,
        kind: &str,
        choose: impl FnOnce(&mut exchange::Declare),
    ) {
        let mut declare = exchange::Declare {
            exchange: name.into(),
            kind: kind.into(),
            ..Default::default()
        };
        choose(&mut declare);
        self.call::<exchange::DeclareOk>(declare);
    }

    pub(crate) fn exchange(&self, name: &str, kind: &str) {
        self.declare_exchange(name, kind, |_| {});
    }

    pub(crate) fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        self.call::<queue::BindOk>(binding(queue, exchange, routing_key));
    }

    pub(crate) fn unbind(&self, queue: &str, exchange: &str, routing_key: &str) {
        let queue::Bind {
            queue,
            exchange,
            routing_key,
            arguments,
            ..
        } = binding(queue, exchange, routing_key);
        self.call::<queue::UnbindOk>(queue::Unbind {
            queue,
            exchange,
            routing_key,
            arguments,
        });
    }

    pub(crate) fn bind_exchange(&self, destination: &str, source: &str, routing_key: &str) {
        self.call::<exchange::BindOk>(exchange::Bind {
            destination: destination.into(),
            source: source.into(),
            routing_key: routing_key.into(),
            ..Default::default()
        });
    }

    pub(crate) fn delete_queue(&self, name: &str) -> u32 {
        let delete = queue::Delete {
            queue: name.into(),
            ..Default::default()
        };
        self.call::<queue::DeleteOk>(delete).message_count
    }

    pub(crate) fn delete_exchange(&self, name: &str) {
        let delete = exchange::Delete {
            exchange: name.into(),
            ..Default::default()
        };
        self.call::<exchange::DeleteOk>(delete);
    }
}

pub(crate) fn binding(queue: &str, exchange: &str, routing_key: &str) -> queue::Bind {
    queue::Bind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..Default::default()
    }
}
