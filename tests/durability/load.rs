//! A load heavy enough that a kill always hits work in flight: prebuilt frames over blocking sockets, one thread each.
//!
//! A body says which message it is, and everything else about it follows from that:
//!
//! ```text
//! +-----------+--------+----------+----------+----------------------------+
//! | publisher | length | sequence | checksum | pattern of this message    |
//! |    u16    |  u16   |   u32    |   u64    | length - 16 bytes          |
//! +-----------+--------+----------+----------+----------------------------+
//! ```

use crate::support::login::Login;
use crate::support::wire;
use amq_protocol::protocol::{basic, channel, confirm, connection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Messages that a publisher has out and unconfirmed.
const WINDOW: u32 = 1000;
/// Bytes written at once, about.
const WRITE_BYTES: usize = 128 * 1024;
const ID_BYTES: usize = 16;
const BODY_BYTES_MAX: usize = 8192;
const PATTERN_BYTES: usize = 64 * 1024;
const DELIVER: [u8; 4] = [0, 60, 0, 60];
const ACK: [u8; 4] = [0, 60, 0, 80];
const NACK: [u8; 4] = [0, 60, 0, 120];
const CONNECTION_CLOSE: [u8; 4] = [0, 10, 0, 50];
const CONNECTION_CLOSE_OK: [u8; 4] = [0, 10, 0, 51];
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) publisher: u16,
    pub(crate) sequence: u32,
}

impl Id {
    /// The number from which all choices about this message are made.
    fn hash(self) -> u64 {
        mix((u64::from(self.publisher) << 32) | u64::from(self.sequence))
    }

    /// 16 B to 8 KiB, each power of two as often as the others.
    fn size(self) -> usize {
        let hash = self.hash();
        let largest = ID_BYTES << (hash % 10);
        let less = (hash >> 8) as usize % (largest / 2 + 1);
        (largest - less).max(ID_BYTES)
    }

    fn pattern(self) -> &'static [u8] {
        static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
        let words = || (0..PATTERN_BYTES as u64 / 8).flat_map(|word| mix(word).to_le_bytes());
        let pattern = PATTERN.get_or_init(|| words().collect());
        let start = (self.hash() >> 32) as usize % (PATTERN_BYTES - BODY_BYTES_MAX);
        &pattern[start..start + self.size() - ID_BYTES]
    }

    fn checksum(self) -> u64 {
        mix(self.hash() ^ self.size() as u64)
    }

    /// Appends the body.
    fn write(self, output: &mut Vec<u8>) {
        output.extend_from_slice(&self.publisher.to_be_bytes());
        output.extend_from_slice(&(self.size() as u16).to_be_bytes());
        output.extend_from_slice(&self.sequence.to_be_bytes());
        output.extend_from_slice(&self.checksum().to_be_bytes());
        output.extend_from_slice(self.pattern());
    }

    /// The message that this is the whole body of; none if a bit is wrong.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let (head, pattern) = body.split_first_chunk::<ID_BYTES>()?;
        let [p1, p2, l1, l2, s1, s2, s3, s4, checksum @ ..] = *head;
        let id = Self {
            publisher: u16::from_be_bytes([p1, p2]),
            sequence: u32::from_be_bytes([s1, s2, s3, s4]),
        };
        let is_whole = u64::from_be_bytes(checksum) == id.checksum()
            && usize::from(u16::from_be_bytes([l1, l2])) == body.len()
            && id.size() == body.len()
            && id.pattern() == pattern;
        is_whole.then_some(id)
    }
}

/// splitmix64's mixer.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Where a message goes: exchange and routing key.
pub(crate) type Route<'a> = (&'a str, &'a str);

/// What a publisher did.
pub(crate) struct Published {
    pub(crate) publisher: u16,
    pub(crate) first: u32,
    /// By sequence from `first` on: each message that was handed to the socket, and whether it was confirmed.
    pub(crate) confirmed: Vec<bool>,
    /// Why it ended.
    pub(crate) end: String,
}

impl Published {
    /// Each message, and whether it was confirmed.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (Id, bool)> {
        let of = |sequence| Id {
            publisher: self.publisher,
            sequence,
        };
        (self.first..).map(of).zip(self.confirmed.iter().copied())
    }
}

pub(crate) struct Publisher {
    frames: Frames,
    methods: Vec<Vec<u8>>,
    published: Published,
    outstanding: u32,
    /// All numbers below are confirmed.
    lowest: usize,
}

impl Publisher {
    /// A publisher whose message `sequence` takes the route `routes[sequence % routes.len()]`.
    pub(crate) fn new(
        address: SocketAddr,
        publisher: u16,
        first: u32,
        routes: &[Route<'_>],
    ) -> Self {
        let methods = routes.iter().map(|(exchange, routing_key)| {
            let publish = basic::Publish {
                exchange: (*exchange).into(),
                routing_key: (*routing_key).into(),
                ..Default::default()
            };
            wire::method(1, publish)
        });
        let methods = methods.collect();
        let hello = [wire::method(1, confirm::Select { nowait: false })];
        Self {
            frames: Frames::open(address, &hello),
            methods,
            published: Published {
                publisher,
                first,
                confirmed: vec![],
                end: String::new(),
            },
            outstanding: 0,
            lowest: 0,
        }
    }

    /// The longest that a confirm may take.
    pub(crate) fn wait_for_confirms(&self, span: Duration) {
        let timeout = self.frames.stream.set_read_timeout(Some(span));
        timeout.expect("it is not zero");
    }

    /// Publishes with a full window until `stop`, and then takes the last confirms; or until the connection ends.
    /// `progress` hears how many each read confirmed.
    pub(crate) fn run(mut self, stop: &AtomicBool, mut progress: impl FnMut(u32)) -> Published {
        let mut output = Vec::with_capacity(2 * WRITE_BYTES);
        loop {
            while self.outstanding < WINDOW && !stop.load(Ordering::Relaxed) {
                self.fill(&mut output, stop);
                if let Err(error) = self.frames.stream.write_all(&output) {
                    return self.end(format!("writing: {error}"));
                }
                output.clear();
            }
            if self.outstanding == 0 && stop.load(Ordering::Relaxed) {
                return self.end("told to stop".to_owned());
            }
            let before = self.outstanding;
            match self.frames.fill() {
                Ok(()) => {}
                Err(error) => return self.end(format!("reading: {error}")),
            }
            if let Err(reason) = self.take_confirms() {
                return self.end(reason);
            }
            if self.outstanding < before {
                progress(before - self.outstanding);
            }
        }
    }

    /// As many messages as the window and one write take.
    fn fill(&mut self, output: &mut Vec<u8>, stop: &AtomicBool) {
        while self.outstanding < WINDOW
            && output.len() < WRITE_BYTES
            && !stop.load(Ordering::Relaxed)
        {
            let id = Id {
                publisher: self.published.publisher,
                sequence: self.published.first + self.published.confirmed.len() as u32,
            };
            let route = id.sequence as usize % self.methods.len();
            output.extend_from_slice(&self.methods[route]);
            write_content(output, id);
            self.published.confirmed.push(false);
            self.outstanding += 1;
        }
    }

    fn take_confirms(&mut self) -> Result<(), String> {
        while let Some((kind, payload)) = self.frames.next() {
            if kind != wire::METHOD {
                continue;
            }
            let Some((method, arguments)) = payload.split_first_chunk::<4>() else {
                return Err(format!("a method of {} bytes", payload.len()));
            };
            match (*method, arguments) {
                (ACK | NACK, [number @ .., bits]) if number.len() == 8 => {
                    let number = number.iter().fold(0, |sum, byte| sum << 8 | *byte as usize);
                    let from = if bits & 1 == 1 {
                        self.lowest
                    } else {
                        number - 1
                    };
                    let of_this_ack = &mut self.published.confirmed[from..number];
                    let fresh = of_this_ack.iter().filter(|known| !**known).count() as u32;
                    // Nothing here gives a broker a reason to refuse.
                    if *method == NACK {
                        return Err(format!("number {number} was refused"));
                    }
                    of_this_ack.fill(true);
                    self.outstanding -= fresh;
                    let confirmed = &self.published.confirmed[self.lowest..];
                    self.lowest += confirmed.iter().take_while(|known| **known).count();
                }
                (CONNECTION_CLOSE | CHANNEL_CLOSE, _) => {
                    return Err(format!("close: {}", String::from_utf8_lossy(arguments)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn end(mut self, reason: String) -> Published {
        self.published.end = reason;
        self.published
    }
}

/// Header and body frame of a persistent message.
fn write_content(output: &mut Vec<u8>, id: Id) {
    // Class 60, weight 0, size, properties with the delivery mode alone.
    const HEADER: [u8; 11] = [wire::HEADER, 0, 1, 0, 0, 0, 15, 0, 60, 0, 0];
    let size = id.size();
    output.extend_from_slice(&HEADER);
    output.extend_from_slice(&(size as u64).to_be_bytes());
    output.extend_from_slice(wire::PERSISTENT);
    output.extend_from_slice(&[wire::FRAME_END, wire::BODY, 0, 1]);
    output.extend_from_slice(&(size as u32).to_be_bytes());
    id.write(output);
    output.push(wire::FRAME_END);
}

/// A delivery, its body reduced to what matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    /// None if the body isn't the whole of a message of ours.
    pub(crate) id: Option<Id>,
    pub(crate) redelivered: bool,
}

pub(crate) struct Consumer {
    frames: Frames,
    /// Deliveries so far: with one consumer on its channel, this is the last delivery tag too.
    pub(crate) received: u64,
    half: Half,
}

/// A delivery whose body isn't complete.
#[derive(Default)]
struct Half {
    redelivered: bool,
    size: usize,
    body: Vec<u8>,
}

impl Consumer {
    pub(crate) fn new(address: SocketAddr, queue: &str, prefetch_count: u16) -> Self {
        let qos = basic::Qos {
            prefetch_count,
            global: false,
        };
        let consume = basic::Consume {
            queue: queue.into(),
            ..Default::default()
        };
        let hello = [wire::method(1, qos), wire::method(1, consume)];
        Self {
            frames: Frames::open(address, &hello),
            received: 0,
            half: Half::default(),
        }
    }

    /// Waits for something to come, and takes all deliveries that are complete by then.
    pub(crate) fn receive(&mut self, receipts: &mut Vec<Receipt>) -> io::Result<()> {
        self.frames.fill()?;
        while let Some((kind, payload)) = self.frames.next() {
            match kind {
                wire::METHOD if payload.starts_with(&DELIVER) => {
                    // Consumer tag (one length byte), delivery tag, redelivered.
                    let tag_length = usize::from(payload[4]);
                    self.half.redelivered = payload[5 + tag_length + 8] & 1 == 1;
                }
                wire::METHOD
                    if payload.starts_with(&CONNECTION_CLOSE)
                        || payload.starts_with(&CHANNEL_CLOSE) =>
                {
                    let text = String::from_utf8_lossy(payload).into_owned();
                    return Err(io::Error::other(format!("close: {text}")));
                }
                wire::HEADER => {
                    let size = payload[4..12].iter();
                    self.half.size = size.fold(0, |sum, byte| sum << 8 | *byte as usize);
                    self.half.body.clear();
                }
                wire::BODY => self.half.body.extend_from_slice(payload),
                _ => continue,
            }
            if kind == wire::METHOD || self.half.body.len() < self.half.size {
                continue;
            }
            self.received += 1;
            receipts.push(Receipt {
                id: Id::of(&self.half.body),
                redelivered: self.half.redelivered,
            });
        }
        Ok(())
    }

    pub(crate) fn ack_up_to(&mut self, delivery_tag: u64) -> io::Result<()> {
        let ack = basic::Ack {
            delivery_tag,
            multiple: true,
        };
        self.frames.stream.write_all(&wire::method(1, ack))
    }

    /// Says good-bye and awaits the answer: by then the broker has done all that was asked, and has taken back what
    /// was not acknowledged.
    pub(crate) fn close(mut self) -> io::Result<()> {
        let goodbye = connection::Close {
            reply_code: 200,
            ..Default::default()
        };
        self.frames.stream.write_all(&wire::method(0, goodbye))?;
        loop {
            self.frames.fill()?;
            while let Some((_, payload)) = self.frames.next() {
                if payload.starts_with(&CONNECTION_CLOSE_OK) {
                    return Ok(());
                }
            }
        }
    }
}

/// Frames out of a socket, without a copy or an allocation for each.
struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What was read and not yet taken lies from here...
    taken: usize,
    /// ... to here.
    filled: usize,
}

impl Frames {
    /// Logs in, opens channel 1 and says what comes first there; the answers are still to come.
    fn open(address: SocketAddr, hello: &[Vec<u8>]) -> Self {
        let mut stream = Login::default().raw(address).into_stream();
        stream
            .set_read_timeout(Some(crate::support::PATIENCE))
            .expect("the time-out is not zero");
        let open = wire::method(1, channel::Open {});
        stream
            .write_all(&[open, hello.concat()].concat())
            .expect("the broker takes what is sent");
        Self {
            stream,
            buffer: vec![0; 512 * 1024],
            taken: 0,
            filled: 0,
        }
    }

    /// Waits for bytes. An end is an error here.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        match self.stream.read(&mut self.buffer[self.filled..])? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }

    /// The next complete frame: its kind and payload.
    fn next(&mut self) -> Option<(u8, &[u8])> {
        let rest = &self.buffer[self.taken..self.filled];
        let [kind, _, _, s1, s2, s3, s4, ..] = *rest else {
            return None;
        };
        let size = u32::from_be_bytes([s1, s2, s3, s4]) as usize;
        let end = *rest.get(7 + size)?;
        assert_eq!(end, wire::FRAME_END, "a frame doesn't end with 206");
        let payload = self.taken + 7..self.taken + 7 + size;
        self.taken += size + wire::FRAME_OVERHEAD;
        Some((kind, &self.buffer[payload]))
    }
}

#[test]
fn a_body_is_known_again_and_no_other_is() {
    let ids = (0..2000).map(|sequence| Id {
        publisher: 3,
        sequence,
    });
    let mut sizes = (usize::MAX, 0);
    for id in ids {
        let mut body = vec![];
        id.write(&mut body);
        sizes = (sizes.0.min(body.len()), sizes.1.max(body.len()));
        assert_eq!(Id::of(&body), Some(id));
        let place = id.hash() as usize % body.len();
        body[place] ^= 1;
        assert_eq!(Id::of(&body), None, "byte {place} of {id:?} was changed");
        body[place] ^= 1;
        assert_eq!(Id::of(&body[..body.len() - 1]), None);
        body.push(0);
        assert_eq!(Id::of(&body), None);
    }
    assert_eq!(sizes.0, ID_BYTES);
    assert!((8000..=BODY_BYTES_MAX).contains(&sizes.1), "{sizes:?}");
}
