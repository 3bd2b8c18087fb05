//! A blocking AMQP client for all that happens before and after the measured time: handshake,
//! channels, declarations.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel, connection};
use amq_protocol::types::{AMQPValue, FieldTable};
use anyhow::{Context, Result, bail};
use thiserror::Error;

use crate::options::Broker;
use crate::stream::Stream;
use crate::wire::{self, HEARTBEAT_FRAME, PROTOCOL_HEADER, WireError};

/// The longest a broker may take to accept a connection or to answer one method.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest frame we agree to; what RabbitMQ proposes.
const FRAME_MAX_BYTES: u32 = 131_072;
/// Tries to be accepted by a certain core. With 64 cores, one run in some 7 million fails at it.
const CORE_TRIES: u32 = 1_000;

/// Why the broker didn't do as asked.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("the server closed the {scope}: {code} {text}")]
    Refused {
        scope: &'static str,
        code: u16,
        text: String,
    },
    #[error("the server closed the socket{0}")]
    Eof(&'static str),
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error("the server does not speak AMQP 0-9-1")]
    Protocol,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Io(std::io::Error),
}

/// A connection that is logged in.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream<TcpStream>,
    received: Vec<u8>,
    tuned: Tuned,
}

/// What was agreed in connection.tune.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuned {
    pub(crate) channel_max: u16,
    pub(crate) frame_max: usize,
    /// 0 for none.
    pub(crate) heartbeat_s: u16,
}

impl Client {
    /// Connects and logs in; with `core`, to that core of a Leveret broker.
    pub(crate) fn connect(broker: &Broker, core: Option<u32>) -> Result<Self> {
        let Some(wanted) = core else {
            let (client, _) = Self::reach(broker)?;
            return client.log_in(broker);
        };
        for _ in 0..CORE_TRIES {
            // The kernel picks the core by a hash of the addresses: another source port, another core.
            let (client, start) = Self::reach(broker)?;
            match announced_core(&start.server_properties) {
                None => bail!(
                    "the server at {broker} announces no leveret_core: it is not a Leveret broker"
                ),
                Some(core) if core == i64::from(wanted) => return client.log_in(broker),
                Some(_) => {}
            }
        }
        bail!(
            "in {CORE_TRIES} tries no connection was accepted by core {wanted}: has the broker such a core?"
        )
    }

    /// Up to connection.start.
    fn reach(broker: &Broker) -> Result<(Self, connection::Start)> {
        let uri = &broker.uri;
        let address = (uri.host.as_str(), uri.port);
        let mut failure = None;
        let addresses = address
            .to_socket_addrs()
            .with_context(|| format!("cannot resolve {:?}", uri.host))?;
        for address in addresses {
            match TcpStream::connect_timeout(&address, ANSWER_TIMEOUT) {
                Ok(stream) => {
                    return Self::greet(stream, broker)
                        .with_context(|| format!("handshake with {uri} failed"));
                }
                Err(error) => failure = Some(error),
            }
        }
        let failure = failure.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into());
        Err(failure).with_context(|| format!("cannot connect to {}:{}", uri.host, uri.port))
    }

    fn greet(socket: TcpStream, broker: &Broker) -> Result<(Self, connection::Start)> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let stream = match &broker.tls {
            Some(config) => Stream::secured(socket, config, &broker.uri.host)?,
            None => Stream::plain(socket),
        };
        let tuned = Tuned {
            channel_max: 0,
            frame_max: 0,
            heartbeat_s: 0,
        };
        let mut client = Self {
            stream,
            received: Vec::new(),
            tuned,
        };
        client.stream.write_all(&PROTOCOL_HEADER)?;
        match client.next_method()? {
            AMQPClass::Connection(connection::AMQPMethod::Start(start)) => Ok((client, start)),
            other => bail!("expected connection.start, got {other:?}"),
        }
    }

    fn log_in(mut self, broker: &Broker) -> Result<Self> {
        let uri = &broker.uri;
        let response = format!("\0{}\0{}", uri.user, uri.password);
        let start_ok = connection::StartOk {
            client_properties: client_properties(),
            mechanism: "PLAIN".into(),
            response: response.into(),
            locale: "en_US".into(),
        };
        self.send(
            0,
            AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)),
        )?;
        let tune = match self.next_method() {
            Ok(AMQPClass::Connection(connection::AMQPMethod::Tune(tune))) => tune,
            Ok(other) => bail!("expected connection.tune, got {other:?}"),
            // Before AMQP 0-9-1's extensions a server refused a login by hanging up.
            Err(ClientError::Eof(_)) => {
                return Err(ClientError::Eof(" after the login: refused")).context(uri.to_string());
            }
            Err(error) => return Err(error).with_context(|| format!("login at {uri} refused")),
        };
        let frame_max = if tune.frame_max == 0 {
            FRAME_MAX_BYTES
        } else {
            tune.frame_max.min(FRAME_MAX_BYTES)
        };
        let channel_max = if tune.channel_max == 0 {
            u16::MAX
        } else {
            tune.channel_max
        };
        let heartbeat_s = agreed_heartbeat_s(broker.heartbeat_s, tune.heartbeat);
        self.tuned = Tuned {
            channel_max,
            frame_max: frame_max as usize,
            heartbeat_s,
        };
        let tune_ok = connection::TuneOk {
            channel_max,
            frame_max,
            heartbeat: heartbeat_s,
        };
        self.send(
            0,
            AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)),
        )?;
        let open = connection::Open {
            virtual_host: short(&uri.vhost)?,
        };
        self.call(0, AMQPClass::Connection(connection::AMQPMethod::Open(open)))
            .with_context(|| format!("cannot open vhost {:?}", uri.vhost))?;
        Ok(self)
    }

    pub(crate) fn tuned(&self) -> Tuned {
        self.tuned
    }

    /// Opens channels 1 to `count`.
    pub(crate) fn open_channels(&mut self, count: u16) -> Result<()> {
        let most = self.tuned.channel_max;
        anyhow::ensure!(
            count <= most,
            "the server allows {most} channels per connection, not {count}"
        );
        for number in 1..=count {
            self.open_channel(number)?;
        }
        Ok(())
    }

    pub(crate) fn open_channel(&mut self, number: u16) -> Result<(), ClientError> {
        let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
        self.call(number, open).map(drop)
    }

    /// Says that we live.
    pub(crate) fn send_heartbeat(&mut self) -> Result<(), ClientError> {
        self.stream
            .write_all(&HEARTBEAT_FRAME)
            .map_err(ClientError::Io)
    }

    /// Sends a method and waits for its answer.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        method: AMQPClass,
    ) -> Result<AMQPClass, ClientError> {
        self.send(channel, method)?;
        self.next_method()
    }

    /// The same on channels 1 to `channels`.
    pub(crate) fn call_on_each(
        &mut self,
        channels: u16,
        method: &AMQPClass,
    ) -> Result<(), ClientError> {
        (1..=channels).try_for_each(|number| self.call(number, method.clone()).map(drop))
    }

    pub(crate) fn send(&mut self, channel: u16, method: AMQPClass) -> Result<(), ClientError> {
        let mut frame = Vec::new();
        wire::push_method(&mut frame, channel, method);
        self.stream.write_all(&frame).map_err(ClientError::Io)
    }

    /// Closes the connection in the orderly way. Failures don't matter any more.
    pub(crate) fn close(self) {
        let _ = self.close_and_wait();
    }

    /// Closes the connection and waits for the server's agreement.
    pub(crate) fn close_and_wait(mut self) -> Result<(), ClientError> {
        let close = connection::Close {
            reply_code: 200,
            reply_text: "bye".into(),
            class_id: 0,
            method_id: 0,
        };
        self.call(
            0,
            AMQPClass::Connection(connection::AMQPMethod::Close(close)),
        )
        .map(drop)
    }

    /// Hands the socket over to the event loop.
    pub(crate) fn into_stream(self) -> Result<Stream<TcpStream>> {
        anyhow::ensure!(
            self.received.is_empty(),
            "the server sent frames that nobody asked for"
        );
        self.stream.socket().set_nonblocking(true)?;
        Ok(self.stream)
    }

    fn next_method(&mut self) -> Result<AMQPClass, ClientError> {
        loop {
            let Some(length) = self.frame_length()? else {
                self.read_more()?;
                continue;
            };
            let method = wire::decode_method(&self.received[..length])?;
            self.received.drain(..length);
            match method {
                None => {} // a heartbeat
                Some((_, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
                    return Err(refused(
                        "connection",
                        close.reply_code,
                        close.reply_text.as_str(),
                    ));
                }
                Some((number, AMQPClass::Channel(channel::AMQPMethod::Close(close)))) => {
                    self.send(
                        number,
                        AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})),
                    )?;
                    return Err(refused(
                        "channel",
                        close.reply_code,
                        close.reply_text.as_str(),
                    ));
                }
                Some((
                    _,
                    AMQPClass::Connection(
                        connection::AMQPMethod::Blocked(_) | connection::AMQPMethod::Unblocked(_),
                    ),
                )) => {}
                Some((_, method)) => return Ok(method),
            }
        }
    }

    fn frame_length(&self) -> Result<Option<usize>, ClientError> {
        if self.received.len() >= 4 && self.received.starts_with(b"AMQP") {
            return Err(ClientError::Protocol);
        }
        // Longer than any answer can be: this is no AMQP server, don't wait for its gigabytes.
        if self.received.len() > 2 * FRAME_MAX_BYTES as usize
            || self.received.first().is_some_and(|&kind| kind > 8)
        {
            return Err(ClientError::Protocol);
        }
        Ok(wire::complete_frame(&self.received))
    }

    fn read_more(&mut self) -> Result<(), ClientError> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(ClientError::Eof("")),
            Ok(count) => {
                self.received.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(ClientError::Timeout)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(ClientError::Eof("")),
            Err(error) => Err(ClientError::Io(error)),
        }
    }
}

/// A name as AMQP's short string.
pub(crate) fn short(text: &str) -> Result<amq_protocol::types::ShortString> {
    amq_protocol::types::ShortString::try_new(text)
        .with_context(|| format!("{text:?} is longer than 255 bytes"))
}

fn refused(scope: &'static str, code: u16, text: &str) -> ClientError {
    // RabbitMQ's texts begin with the code's name, as in "NOT_FOUND - no queue 'x'".
    ClientError::Refused {
        scope,
        code,
        text: text.to_owned(),
    }
}

fn announced_core(properties: &FieldTable) -> Option<i64> {
    match properties.inner().get("leveret_core")? {
        AMQPValue::LongInt(core) => Some(i64::from(*core)),
        AMQPValue::LongUInt(core) => Some(i64::from(*core)),
        AMQPValue::LongLongInt(core) => Some(*core),
        _ => None,
    }
}

/// The shorter one of what both sides want; who says 0 leaves it to the other, as RabbitMQ's clients do.
fn agreed_heartbeat_s(wanted_s: u16, proposed_s: u16) -> u16 {
    match (wanted_s, proposed_s) {
        (0, other_s) | (other_s, 0) => other_s,
        (wanted_s, proposed_s) => wanted_s.min(proposed_s),
    }
}

fn client_properties() -> FieldTable {
    let mut capabilities = FieldTable::default();
    let wanted = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ];
    for capability in wanted {
        capabilities.insert(capability.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert(
        "product".into(),
        AMQPValue::LongString("leveret-loadgen".into()),
    );
    properties.insert(
        "version".into(),
        AMQPValue::LongString(env!("CARGO_PKG_VERSION").into()),
    );
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_heartbeat_counts() {
        for (wanted_s, proposed_s, agreed_s) in
            [(0, 60, 60), (5, 60, 5), (90, 60, 60), (5, 0, 5), (0, 0, 0)]
        {
            assert_eq!(agreed_heartbeat_s(wanted_s, proposed_s), agreed_s);
        }
    }
}
