//! A well-behaved client's connection.
//!
//! Answers are awaited one at a time; deliveries, returns, confirms and cancels that come meanwhile wait in order until
//! a test asks for them. Nothing is ever thrown away in silence: a close that nobody expected fails the test.

use super::channel::Channel;
use super::methods::Method;
use super::raw::Raw;
use super::socket::Socket;
use amq_protocol::protocol::{channel, connection};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub(crate) struct Connection {
    socket: Rc<RefCell<Socket>>,
    last_channel: Cell<u16>,
}

impl Connection {
    pub(crate) fn new(raw: Raw, frame_max: usize) -> Self {
        Self {
            socket: Rc::new(RefCell::new(Socket::new(raw, frame_max))),
            last_channel: Cell::new(0),
        }
    }

    /// Opens the next channel.
    pub(crate) fn channel(&self) -> Channel {
        self.last_channel.set(self.last_channel.get() + 1);
        self.open_channel(self.last_channel.get())
    }

    /// Opens the channel with this number.
    pub(crate) fn open_channel(&self, id: u16) -> Channel {
        let channel = self.unopened_channel(id);
        channel.call::<channel::OpenOk>(channel::Open {});
        channel
    }

    /// A handle to a channel that nobody has opened.
    pub(crate) fn unopened_channel(&self, id: u16) -> Channel {
        Channel::new(id, Rc::clone(&self.socket))
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        self.socket.borrow_mut().raw.send(bytes);
    }

    /// The socket itself, for a test that goes on by hand. No channel may be in use any more.
    pub(crate) fn into_raw(self) -> Raw {
        let socket = Rc::into_inner(self.socket)
            .expect("no channel is in use")
            .into_inner();
        assert!(
            socket.waiting.is_empty(),
            "messages that nobody asked for: {:?}",
            socket.waiting
        );
        socket.raw
    }

    /// Closes in order: close, close-ok, end.
    pub(crate) fn close(self) {
        let mut socket = self.socket.borrow_mut();
        let goodbye = connection::Close {
            reply_code: 200,
            reply_text: "bye".into(),
            ..Default::default()
        };
        socket.raw.send_method(0, goodbye);
        socket.receive::<connection::CloseOk>(0, |_| true);
        // RabbitMQ leaves it to the client to hang up.
        socket.raw.finish_sending();
        socket.raw.expect_end();
    }

    /// Drops the socket without a word.
    pub(crate) fn cut(self) {
        drop(self);
    }

    /// The broker closes this connection; the texts are compared by "contains". Answers and expects the end.
    pub(crate) fn expect_close(&self, code: u16, text: &str, ids: (u16, u16)) {
        let mut socket = self.socket.borrow_mut();
        let close = socket.receive::<connection::Close>(0, |_| true).0;
        check_close(
            close.reply_code,
            close.reply_text.as_str(),
            (close.class_id, close.method_id),
            (code, text, ids),
        );
        socket.raw.send_method(0, connection::CloseOk {});
        socket.raw.expect_end();
    }

    /// A call on channel 0.
    pub(crate) fn call<R: Method>(&self, method: impl Method) -> R {
        let mut socket = self.socket.borrow_mut();
        socket.raw.send_method(0, method);
        socket.receive::<R>(0, |_| true).0
    }

    /// A round trip through the connection: it is alive, and all that was sent before has been read.
    pub(crate) fn is_alive(&self) {
        let channel = self.channel();
        channel.close();
        self.last_channel.set(self.last_channel.get() - 1);
    }
}

/// Compares what a close says with what it should say.
pub(crate) fn check_close(
    code: u16,
    text: &str,
    ids: (u16, u16),
    expected: (u16, &str, (u16, u16)),
) {
    let matches = code == expected.0 && text.contains(expected.1) && ids == expected.2;
    assert!(
        matches,
        "closed with {code} `{text}` for {ids:?}, expected {expected:?}"
    );
}
