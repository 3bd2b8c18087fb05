//! A connection's socket: frames become methods with their content, and wait in order until somebody asks.

use super::methods::Method;
use super::raw::{Frame, Raw};
use super::wire;
use amq_protocol::protocol::{AMQPClass, basic};
use std::collections::{HashMap, VecDeque};

/// A method and, if it carries one, its content.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) method: AMQPClass,
    pub(crate) content: Option<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Flags and values, as they came.
    pub(crate) properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// Payload sizes of the frames the body came in.
    pub(crate) frames: Vec<usize>,
}

/// A message that came by deliver, get-ok or return.
#[derive(Clone, Debug)]
pub(crate) struct Message<M> {
    pub(crate) method: M,
    pub(crate) content: Content,
}

pub(crate) type Delivery = Message<basic::Deliver>;

impl<M> Message<M> {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content.body).into_owned()
    }
}

impl Delivery {
    pub(crate) fn tag(&self) -> u64 {
        self.method.delivery_tag
    }
}

pub(crate) struct Socket {
    pub(crate) raw: Raw,
    pub(crate) frame_max: usize,
    /// What came and wasn't asked for yet.
    pub(crate) waiting: VecDeque<(u16, Incoming)>,
    /// Contents whose body isn't complete, by channel.
    half: HashMap<u16, Half>,
}

struct Half {
    method: AMQPClass,
    header: Option<(usize, Content)>,
}

impl Socket {
    pub(crate) fn new(raw: Raw, frame_max: usize) -> Self {
        Self {
            raw,
            frame_max,
            waiting: VecDeque::new(),
            half: HashMap::new(),
        }
    }

    /// The first thing on this channel that `wanted` takes; it must be an `M`.
    pub(crate) fn receive<M: Method>(
        &mut self,
        id: u16,
        wanted: impl Fn(&AMQPClass) -> bool,
    ) -> (M, Option<Content>) {
        let incoming = self.take(id, M::NAME, wanted);
        match M::from_class(incoming.method) {
            Ok(method) => (method, incoming.content),
            Err(other) => panic!("channel {id}: expected {}, got {other:?}", M::NAME),
        }
    }

    pub(crate) fn take(
        &mut self,
        id: u16,
        awaited: &str,
        wanted: impl Fn(&AMQPClass) -> bool,
    ) -> Incoming {
        let mut seen = 0;
        loop {
            let found = self
                .waiting
                .iter()
                .skip(seen)
                .position(|(on, one)| *on == id && wanted(&one.method));
            if let Some(position) = found {
                return self
                    .waiting
                    .remove(seen + position)
                    .expect("the position was just found")
                    .1;
            }
            seen = self.waiting.len();
            let frame = self.raw.frame(awaited);
            self.file(frame);
            if let Some((on @ 0, last)) = self.waiting.back()
                && id != 0
            {
                panic!(
                    "channel {id} waited for {awaited}, channel {on} got {:?}",
                    last.method
                );
            }
        }
    }

    /// Puts a frame where it belongs.
    fn file(&mut self, frame: Frame) {
        let fits = frame.payload.len() + wire::FRAME_OVERHEAD <= self.frame_max;
        assert!(
            fits,
            "a frame of {} bytes with frame_max {}",
            frame.payload.len() + 8,
            self.frame_max
        );
        match frame.kind {
            wire::METHOD => self.file_method(frame.channel, frame.method()),
            wire::HEADER | wire::BODY => self.file_content(frame),
            wire::HEARTBEAT => {}
            other => panic!("the broker sent a frame of type {other}"),
        }
    }

    fn file_method(&mut self, id: u16, method: AMQPClass) {
        use basic::AMQPMethod::{Deliver, GetOk, Return};
        assert!(
            !self.half.contains_key(&id),
            "channel {id}: {method:?} inside a content"
        );
        if matches!(method, AMQPClass::Basic(Deliver(_) | GetOk(_) | Return(_))) {
            self.half.insert(
                id,
                Half {
                    method,
                    header: None,
                },
            );
        } else {
            self.waiting.push_back((
                id,
                Incoming {
                    method,
                    content: None,
                },
            ));
        }
    }

    fn file_content(&mut self, frame: Frame) {
        let mut half = self
            .half
            .remove(&frame.channel)
            .expect("content follows a method that announces it");
        if frame.kind == wire::HEADER {
            assert!(
                half.header.is_none(),
                "two content headers for {:?}",
                half.method
            );
            assert_eq!(frame.payload[..4], [0, 60, 0, 0], "class 60, weight 0");
            let size = frame.payload[4..12].try_into().expect("eight bytes");
            let size = usize::try_from(u64::from_be_bytes(size)).expect("a body fits in memory");
            let content = Content {
                properties: frame.payload[12..].to_vec(),
                body: Vec::new(),
                frames: Vec::new(),
            };
            half.header = Some((size, content));
        } else {
            let (_, content) = half.header.as_mut().expect("a header before the body");
            content.frames.push(frame.payload.len());
            content.body.extend_from_slice(&frame.payload);
        }
        match half.header {
            Some((size, content)) if content.body.len() >= size => {
                assert_eq!(
                    content.body.len(),
                    size,
                    "a body as long as its header says"
                );
                self.waiting.push_back((
                    frame.channel,
                    Incoming {
                        method: half.method,
                        content: Some(content),
                    },
                ));
            }
            header => {
                self.half.insert(
                    frame.channel,
                    Half {
                        method: half.method,
                        header,
                    },
                );
            }
        }
    }
}
