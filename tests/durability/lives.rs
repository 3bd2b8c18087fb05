//! The lives of a broker on one data directory, and what tests of restarts say all the time.

use crate::support::broker::Broker;
use crate::support::channel::Channel;
use crate::support::client::Connection;
use crate::support::home::Home;
use crate::support::login::Login;
use crate::support::methods::Method;
use crate::support::wire;
use amq_protocol::protocol::{AMQPClass, channel, exchange, queue};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
}

/// Text of the messages that `Lives::sure` leaves behind.
const FENCE: &str = "fence";

/// One broker after another with the same data.
pub(crate) struct Lives {
    broker: Option<Broker>,
    home: Home,
    end: End,
    cores: usize,
}

impl Lives {
    pub(crate) fn begin(cores: usize, end: End) -> Self {
        let home = Home::new("");
        Self {
            broker: Some(home.start(cores)),
            home,
            end,
            cores,
        }
    }

    /// Ends this life in the test's way, and begins the next.
    pub(crate) fn restart(&mut self) {
        self.restart_on(self.cores);
    }

    /// The same with another number of cores.
    pub(crate) fn restart_on(&mut self, cores: usize) {
        let broker = self.broker.take().expect("one life at a time");
        match self.end {
            End::Stop => broker.stop(),
            End::Kill => broker.kill(),
        }
        self.cores = cores;
        self.broker = Some(self.home.start(cores));
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("one life at a time")
    }

    pub(crate) fn connect(&self) -> Connection {
        self.broker().connect()
    }

    pub(crate) fn login(&self, login: &Login) -> Connection {
        self.broker().login(login)
    }

    pub(crate) fn are_killed(&self) -> bool {
        self.end == End::Kill
    }

    /// The flag of a message that came back and was, or wasn't, delivered before: exact after a stop, and after a
    /// kill always set, since deliveries aren't logged.
    pub(crate) fn redelivered(&self, was_delivered: bool) -> bool {
        was_delivered || self.end == End::Kill
    }

    /// Returns when all that this connection did to the queue before is certain to outlast the end of this life.
    /// Before a kill that takes a confirm, whose message stays: `texts` leaves it out.
    pub(crate) fn sure(&self, connection: &Connection, queue: &str) {
        let channel = connection.channel();
        match self.end {
            End::Stop => drop(channel.passive(queue)),
            End::Kill => keep_on(&channel, "", queue, &[FENCE]),
        }
        channel.close();
    }

    /// Takes everything out of a queue, as texts, without what `sure` left.
    pub(crate) fn texts(&self, queue: &str) -> Vec<String> {
        let mut texts = self.connect().channel().drain(queue);
        texts.retain(|text| text != FENCE);
        texts
    }

    /// The same with each message's redelivered flag.
    pub(crate) fn flagged_texts(&self, queue: &str) -> Vec<(String, bool)> {
        let channel = self.connect().channel();
        std::iter::from_fn(|| channel.get_no_ack(queue))
            .map(|message| (message.text(), message.method.redelivered))
            .filter(|(text, _)| text != FENCE)
            .collect()
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        if let Some(broker) = &self.broker
            && std::thread::panicking()
        {
            eprintln!("{}", broker.process().tail());
        }
    }
}

/// Each function becomes four tests: after a stop and after a kill, with 1 core and with 2.
macro_rules! after_each_end {
    ($($(#[$attribute:meta])* fn $name:ident($lives:ident: &mut Lives) $body:block)*) => {
        $($(#[$attribute])* fn $name($lives: &mut $crate::lives::Lives) $body)*

        $crate::lives::after_each_end!(@ stopped_on_1_core, 1, Stop: $($name)*);
        $crate::lives::after_each_end!(@ stopped_on_2_cores, 2, Stop: $($name)*);
        $crate::lives::after_each_end!(@ killed_on_1_core, 1, Kill: $($name)*);
        $crate::lives::after_each_end!(@ killed_on_2_cores, 2, Kill: $($name)*);
    };
    (@ $module:ident, $cores:literal, $end:ident: $($name:ident)*) => {
        mod $module {
            use $crate::lives::{End, Lives};
            $(#[test] fn $name() { super::$name(&mut Lives::begin($cores, End::$end)); })*
        }
    };
}

pub(crate) use after_each_end;

pub(crate) fn durable_queue(channel: &Channel, name: &str) {
    channel.declare_queue(name, |declare| declare.durable = true);
}

pub(crate) fn durable_exchange(channel: &Channel, name: &str, kind: &str) {
    channel.declare_exchange(name, kind, |declare| declare.durable = true);
}

/// Publishes persistent messages and takes their confirms.
pub(crate) fn keep(connection: &Connection, exchange: &str, routing_key: &str, texts: &[&str]) {
    let channel = connection.channel();
    keep_on(&channel, exchange, routing_key, texts);
    channel.close();
}

/// The same on a channel on which nothing was published yet.
fn keep_on(channel: &Channel, exchange: &str, routing_key: &str, texts: &[&str]) {
    channel.confirm_select();
    for text in texts {
        channel.publish_content(exchange, routing_key, wire::PERSISTENT, text.as_bytes());
    }
    channel.confirmed(1..=texts.len() as u64);
}

/// Whether there is a queue of that name.
pub(crate) fn queue_is_there(connection: &Connection, name: &str) -> bool {
    let declare = queue::Declare {
        queue: name.into(),
        passive: true,
        ..Default::default()
    };
    is_there(connection, declare)
}

/// Whether there is an exchange of that name.
pub(crate) fn exchange_is_there(connection: &Connection, name: &str) -> bool {
    let declare = exchange::Declare {
        exchange: name.into(),
        kind: "direct".into(),
        passive: true,
        ..Default::default()
    };
    is_there(connection, declare)
}

/// Whether a passive declaration succeeds.
fn is_there(connection: &Connection, declare: impl Method) -> bool {
    let asking = connection.channel();
    asking.send(declare);
    match asking.next("declare-ok or 404").method {
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))
        | AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_)) => {
            asking.close();
            true
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) if close.reply_code == 404 => {
            asking.send(channel::CloseOk {});
            false
        }
        other => panic!("expected declare-ok or 404, got {other:?}"),
    }
}
