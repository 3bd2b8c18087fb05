//! The handshake: whole, with everything a client may choose in `Login`, or step by step for those who misbehave.

use super::client::Connection;
use super::raw::Raw;
use super::wire;
use amq_protocol::protocol::connection;
use amq_protocol::types::{AMQPValue, FieldTable};
use std::net::SocketAddr;

/// What a client says of itself in start-ok, tune-ok and open.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) mechanism: &'static str,
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
    pub(crate) vhost: &'static str,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: u16,
    /// Names of the capabilities that the client claims.
    pub(crate) capabilities: &'static [&'static str],
}

impl Default for Login {
    fn default() -> Self {
        Self {
            mechanism: "PLAIN",
            user: "guest",
            password: "guest",
            vhost: "/",
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
            capabilities: &[
                "authentication_failure_close",
                "consumer_cancel_notify",
                "basic.nack",
                "publisher_confirms",
            ],
        }
    }
}

impl Login {
    pub(crate) fn alice(vhost: &'static str) -> Self {
        Self {
            user: "alice",
            password: "secret",
            vhost,
            ..Self::default()
        }
    }

    pub(crate) fn start_ok(&self) -> connection::StartOk {
        connection::StartOk {
            client_properties: self.client_properties(),
            mechanism: self.mechanism.into(),
            response: self.response().into(),
            locale: "en_US".into(),
        }
    }

    pub(crate) fn tune_ok(&self) -> connection::TuneOk {
        connection::TuneOk {
            channel_max: self.channel_max,
            frame_max: self.frame_max,
            heartbeat: self.heartbeat,
        }
    }

    pub(crate) fn open(&self) -> connection::Open {
        connection::Open {
            virtual_host: self.vhost.into(),
        }
    }

    /// All that a client sends to get in, for those who don't wait for answers.
    pub(crate) fn in_one_breath(&self) -> Vec<u8> {
        [
            wire::PROTOCOL_HEADER.to_vec(),
            wire::method(0, self.start_ok()),
            wire::method(0, self.tune_ok()),
            wire::method(0, self.open()),
        ]
        .concat()
    }

    /// Up to `tune`: the client has said who it is.
    pub(crate) fn authenticate(&self, address: SocketAddr) -> (Raw, connection::Tune) {
        let (mut raw, _) = begin(address);
        raw.send_method(0, self.start_ok());
        let tune = raw.expect::<connection::Tune>(0);
        (raw, tune)
    }

    /// Up to `open`: what comes next is open-ok or the refusal.
    pub(crate) fn ask_to_open(&self, address: SocketAddr) -> Raw {
        let (mut raw, _) = self.authenticate(address);
        raw.send_method(0, self.tune_ok());
        raw.send_method(0, self.open());
        raw
    }

    /// The whole handshake on a raw socket.
    pub(crate) fn raw(&self, address: SocketAddr) -> Raw {
        let mut raw = self.ask_to_open(address);
        raw.expect::<connection::OpenOk>(0);
        raw
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> Connection {
        Connection::new(self.raw(address), self.frame_max as usize)
    }

    fn client_properties(&self) -> FieldTable {
        let claimed: Vec<_> = self
            .capabilities
            .iter()
            .map(|name| (*name, AMQPValue::Boolean(true)))
            .collect();
        let capabilities = AMQPValue::FieldTable(wire::table(&claimed));
        wire::table(&[
            ("product", wire::text("conformance")),
            ("capabilities", capabilities),
        ])
    }

    fn response(&self) -> Vec<u8> {
        if self.mechanism == "AMQPLAIN" {
            let field = |name: &str, value: &str| {
                [
                    wire::short_string(name.as_bytes()),
                    b"S".to_vec(),
                    wire::long_string(value.as_bytes()),
                ]
                .concat()
            };
            [field("LOGIN", self.user), field("PASSWORD", self.password)].concat()
        } else {
            format!("\0{}\0{}", self.user, self.password).into_bytes()
        }
    }
}

/// Sends the protocol header and hears `start`.
pub(crate) fn begin(address: SocketAddr) -> (Raw, connection::Start) {
    let mut raw = Raw::connect(address);
    raw.send(wire::PROTOCOL_HEADER);
    let start = raw.expect::<connection::Start>(0);
    (raw, start)
}
