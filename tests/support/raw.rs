//! A socket that sends any bytes and hears frames. Everything waits with a bound and fails with what it waited for.

use super::PATIENCE;
use super::methods::Method;
use super::wire;
use amq_protocol::protocol::{AMQPClass, parse_class};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// The ids of connection.close, as a payload begins with them.
const CLOSE: &[u8] = &[0, 10, 0, 50];

/// A frame as it came, its payload undecoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The method in this frame; panics if it holds none.
    pub(crate) fn method(&self) -> AMQPClass {
        assert_eq!(
            self.kind,
            wire::METHOD,
            "expected a method frame, got {self:?}"
        );
        match parse_class(self.payload.as_slice()) {
            Ok(([], class)) => class,
            other => panic!("the broker sent a method that doesn't parse: {other:?} in {self:?}"),
        }
    }
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Frame(Frame),
    /// The peer closed the socket, in order or by reset.
    End,
    Silence,
}

pub(crate) struct Raw {
    stream: TcpStream,
    /// Bytes read and not yet taken, from `taken` on.
    received: Vec<u8>,
    taken: usize,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect_timeout(&address, PATIENCE).expect("the broker accepts connections");
        stream
            .set_nodelay(true)
            .expect("TCP_NODELAY is always allowed");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("the time-out is not zero");
        Self {
            stream,
            received: Vec::new(),
            taken: 0,
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the broker takes what is sent");
    }

    /// Sends to a peer that may have hung up.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// One `write` per byte, with TCP_NODELAY: the broker sees every split there is.
    pub(crate) fn send_byte_by_byte(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(std::slice::from_ref(byte));
        }
    }

    pub(crate) fn send_method(&mut self, channel: u16, method: impl Method) {
        self.send(&wire::method(channel, method));
    }

    /// The socket itself, for a client with a loop of its own. Nothing that came may be left unread.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert_eq!(self.buffered(), 0, "bytes that nobody has read");
        self.stream
    }

    /// Ends our half: the broker reads end-of-file and may still write.
    pub(crate) fn finish_sending(&mut self) {
        // A peer that is gone already has nothing to be told.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Exactly `count` bytes, or what came before the end.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffered() < count && self.read_more(PATIENCE) == Took::Some {}
        let count = count.min(self.buffered());
        let bytes = self.received[self.taken..self.taken + count].to_vec();
        self.taken += count;
        bytes
    }

    /// The next frame, the end, or silence for `patience`.
    pub(crate) fn hear(&mut self, patience: Duration) -> Heard {
        loop {
            if let Some(frame) = self.take_frame() {
                return Heard::Frame(frame);
            }
            match self.read_more(patience) {
                Took::Some => {}
                Took::End => return Heard::End,
                Took::Nothing => return Heard::Silence,
            }
        }
    }

    pub(crate) fn frame(&mut self, awaited: &str) -> Frame {
        match self.hear(PATIENCE) {
            Heard::Frame(frame) => frame,
            Heard::End => panic!("the broker closed the socket, expected {awaited}"),
            Heard::Silence => panic!("nothing came for {PATIENCE:?}, expected {awaited}"),
        }
    }

    /// The next frame but heartbeats must be this method.
    pub(crate) fn expect<M: Method>(&mut self, channel: u16) -> M {
        let frame = loop {
            let frame = self.frame(M::NAME);
            if frame.kind != wire::HEARTBEAT {
                break frame;
            }
        };
        assert_eq!(
            frame.channel,
            channel,
            "{} on the wrong channel: {frame:?}",
            M::NAME
        );
        M::from_class(frame.method())
            .unwrap_or_else(|other| panic!("expected {}, got {other:?}", M::NAME))
    }

    /// The socket ends here, with nothing more than heartbeats before it.
    pub(crate) fn expect_end(&mut self) {
        let rest = self.until_end();
        assert!(
            rest.is_empty(),
            "expected the end of the connection, got {rest:?}"
        );
    }

    /// All frames but heartbeats until the broker closes the socket.
    pub(crate) fn until_end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.hear(PATIENCE) {
                Heard::Frame(frame) if frame.kind == wire::HEARTBEAT => {}
                Heard::Frame(frame) => frames.push(frame),
                Heard::End => return frames,
                Heard::Silence => {
                    panic!("the broker kept the socket open for {PATIENCE:?} after {frames:?}")
                }
            }
        }
    }

    /// All frames until the end of a connection that the broker ends for a fault of ours; close is answered.
    pub(crate) fn until_end_answering_close(&mut self) -> Vec<Frame> {
        let close = wire::raw_method(0, 10, 51, &[]);
        let mut frames = Vec::new();
        loop {
            match self.hear(PATIENCE) {
                Heard::Frame(frame) => {
                    if frame.kind == wire::METHOD && frame.payload.starts_with(CLOSE) {
                        // The broker may have hung up right after its close.
                        let _ = self.try_send(&close);
                    }
                    frames.push(frame);
                }
                Heard::End => return frames,
                Heard::Silence => {
                    panic!("the broker kept the socket open for {PATIENCE:?} after {frames:?}")
                }
            }
        }
    }

    /// After `finish_sending`: reads until the broker is done with us, by closing the socket or saying so. RabbitMQ
    /// waits a while for the close-ok that can't come.
    pub(crate) fn until_given_up(&mut self) {
        loop {
            match self.hear(PATIENCE) {
                Heard::Frame(frame)
                    if frame.kind != wire::METHOD || !frame.payload.starts_with(CLOSE) => {}
                Heard::Frame(_) | Heard::End => return,
                Heard::Silence => panic!("the broker kept the socket open for {PATIENCE:?}"),
            }
        }
    }

    /// Reads and forgets bytes, frames or not, until the broker closes the socket.
    pub(crate) fn until_hung_up(&mut self) {
        loop {
            self.taken = self.received.len();
            match self.read_more(PATIENCE) {
                Took::Some => {}
                Took::End => return,
                Took::Nothing => panic!("the broker kept the socket open for {PATIENCE:?}"),
            }
        }
    }

    fn buffered(&self) -> usize {
        self.received.len() - self.taken
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let rest = &self.received[self.taken..];
        let [kind, c1, c2, s1, s2, s3, s4, ..] = *rest else {
            return None;
        };
        let size = u32::from_be_bytes([s1, s2, s3, s4]) as usize;
        let end = *rest.get(7 + size)?;
        let channel = u16::from_be_bytes([c1, c2]);
        assert_eq!(
            end,
            wire::FRAME_END,
            "a frame of type {kind} on channel {channel} doesn't end with 206"
        );
        let payload = rest[7..7 + size].to_vec();
        self.taken += size + wire::FRAME_OVERHEAD;
        Some(Frame {
            kind,
            channel,
            payload,
        })
    }

    fn read_more(&mut self, patience: Duration) -> Took {
        if self.taken == self.received.len() {
            self.received.clear();
            self.taken = 0;
        }
        self.stream
            .set_read_timeout(Some(patience))
            .expect("the time-out is not zero");
        let mut landing = [0; 16 * 1024];
        match self.stream.read(&mut landing) {
            Ok(0) => Took::End,
            Ok(count) => {
                self.received.extend_from_slice(&landing[..count]);
                Took::Some
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Took::Nothing,
                ErrorKind::Interrupted => Took::Some,
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Took::End,
                _ => panic!("reading from the broker: {error}"),
            },
        }
    }
}

/// How one read ended.
#[derive(PartialEq, Eq)]
enum Took {
    Some,
    End,
    Nothing,
}
