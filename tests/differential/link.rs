//! One connection of a player: sends, listens, and keeps what later steps refer to — deliveries that aren't settled,
//! publishes that aren't confirmed.

use crate::encode::Call;
use crate::player::Outcome;
use crate::script::Operation;
use crate::support::raw::{Frame, Heard, Raw};
use crate::support::socket::Content;
use crate::support::wire;
use crate::tracks::Tracks;
use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::channel::AMQPMethod as Channel;
use amq_protocol::protocol::connection::{AMQPMethod as Connection, CloseOk};
use amq_protocol::protocol::queue::AMQPMethod as Queue;
use amq_protocol::protocol::{AMQPClass, basic, channel, exchange, parse_class, queue};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The player's own channel, which no script uses.
const CONTROL: u16 = 99;
/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that came for the script.
pub(crate) struct Arrival {
    pub(crate) channel: u16,
    pub(crate) method: AMQPClass,
    pub(crate) content: Option<Content>,
}

pub(crate) struct Link {
    raw: Raw,
    channels: BTreeMap<u16, Tracks>,
    /// Channels that we have closed and whose close-ok is to come.
    closing: Vec<u16>,
    /// Contents that are incomplete, with the size of their bodies.
    half: HashMap<u16, (AMQPClass, Option<(usize, Content)>)>,
    arrivals: Vec<Arrival>,
    control: Control,
    ending: bool,
    closed: bool,
    faults: Vec<String>,
}

/// What is known of the player's own channel.
#[derive(Default)]
struct Control {
    is_open: bool,
    /// Answers that haven't come.
    owed: usize,
    counts: Option<(u32, u32)>,
    closed_with: Option<u16>,
    returned: bool,
}

impl Link {
    pub(crate) fn new(raw: Raw) -> Self {
        Self {
            raw,
            channels: BTreeMap::new(),
            closing: vec![],
            half: HashMap::new(),
            arrivals: vec![],
            control: Control::default(),
            ending: false,
            closed: false,
            faults: vec![],
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Opens the channel unless it is open.
    pub(crate) fn open(&mut self, id: u16) {
        if id != 0 && !self.channels.contains_key(&id) {
            self.put(&wire::method(id, channel::Open {}));
            self.channels.insert(id, Tracks::default());
            self.pump(|link| link.channels.get(&id).is_none_or(|tracks| tracks.is_open));
        }
    }

    /// The operation with a delivery tag for `#2`; none if there is no such delivery.
    pub(crate) fn with_real_tag(&mut self, id: u16, operation: Operation) -> Option<Operation> {
        match self.channels.get_mut(&id) {
            Some(tracks) => tracks.with_real_tag(operation),
            None => Some(operation),
        }
    }

    pub(crate) fn send(&mut self, id: u16, call: &Call<'_>) {
        self.put(&call.frames(id));
        match call.method() {
            "channel.close" => {
                self.channels.remove(&id);
                self.closing.push(id);
            }
            "connection.close" => self.ending = true,
            _ => {
                if let Some(tracks) = self.channels.get_mut(&id) {
                    tracks.sent(call);
                }
            }
        }
        self.pump(|link| link.channels.values().all(|tracks| !tracks.is_committing));
    }

    pub(crate) fn awaits_confirms(&self) -> bool {
        self.channels.values().any(Tracks::awaits_confirms)
    }

    /// A round trip on each channel; everything that has come until then.
    pub(crate) fn flush(&mut self) -> Vec<Arrival> {
        let ids: Vec<u16> = self.channels.keys().copied().collect();
        for id in ids {
            self.put(&wire::method(id, channel::Flow { active: true }));
            if let Some(tracks) = self.channels.get_mut(&id) {
                tracks.probes += 1;
            }
        }
        self.pump(|link| {
            let answered = link.channels.values().all(|tracks| tracks.probes == 0);
            answered && link.closing.is_empty() && !link.ending
        });
        std::mem::take(&mut self.arrivals)
    }

    /// Whatever comes within that time.
    pub(crate) fn listen(&mut self, time: Duration) -> Vec<Arrival> {
        if !self.closed
            && let Heard::Frame(frame) = self.raw.hear(time)
        {
            self.take(frame);
        }
        std::mem::take(&mut self.arrivals)
    }

    /// Messages ready and consumers of a queue, or the code of the refusal.
    pub(crate) fn ask(&mut self, queue: &str) -> Result<(u32, u32), u16> {
        self.open_control();
        self.control.counts = None;
        self.put(&wire::method(
            CONTROL,
            queue::Declare {
                queue: queue.into(),
                passive: true,
                ..Default::default()
            },
        ));
        self.control.owed += 1;
        self.await_control();
        let refusal = self.control.closed_with.take().unwrap_or(0);
        self.control.counts.take().ok_or(refusal)
    }

    /// True if a message to a queue of this name comes back.
    pub(crate) fn is_unroutable(&mut self, queue: &str) -> bool {
        self.open_control();
        self.control.returned = false;
        let publish = basic::Publish {
            routing_key: queue.into(),
            mandatory: true,
            ..Default::default()
        };
        let content = wire::content(CONTROL, wire::NO_PROPERTIES, b"probe", 4096);
        self.put(&[wire::method(CONTROL, publish), content].concat());
        self.round_trip();
        self.control.returned
    }

    pub(crate) fn delete_queue(&mut self, queue: &str) {
        self.open_control();
        let queue = queue.into();
        self.put(&wire::method(
            CONTROL,
            queue::Delete {
                queue,
                ..Default::default()
            },
        ));
        self.control.owed += 1;
        self.await_control();
        self.control.closed_with = None;
    }

    pub(crate) fn delete_exchange(&mut self, exchange: &str) {
        self.open_control();
        let exchange = exchange.into();
        self.put(&wire::method(
            CONTROL,
            exchange::Delete {
                exchange,
                ..Default::default()
            },
        ));
        self.control.owed += 1;
        self.await_control();
        self.control.closed_with = None;
    }

    pub(crate) fn close_channels(&mut self) {
        for (id, _) in std::mem::take(&mut self.channels) {
            self.put(&wire::method(id, goodbye()));
            self.closing.push(id);
        }
        self.pump(|link| link.closing.is_empty());
        self.arrivals.clear();
    }

    /// Closes in order, so that the broker is done with it.
    pub(crate) fn close(mut self) {
        let close = wire::raw_method(0, 10, 50, &[0, 200, 0, 0, 0, 0, 0]);
        self.put(&close);
        self.pump(|_| false);
    }

    /// Adds what was gathered in a step to its outcome.
    pub(crate) fn end_step(&mut self, name: char, outcome: &mut Outcome) {
        for (id, tracks) in &mut self.channels {
            let settled = tracks.end_step();
            if !settled.is_empty() {
                outcome.insert(format!("{name}{id} confirms"), settled);
            }
            self.faults.append(&mut tracks.faults);
        }
        if !self.faults.is_empty() {
            outcome.insert(format!("{name} faults"), std::mem::take(&mut self.faults));
        }
    }
}

/// The player's own channel.
impl Link {
    fn open_control(&mut self) {
        if !self.control.is_open {
            self.put(&wire::method(CONTROL, channel::Open {}));
            self.control = Control {
                is_open: true,
                owed: 1,
                ..Control::default()
            };
            self.await_control();
        }
    }

    fn await_control(&mut self) {
        self.pump(|link| link.control.owed == 0 || !link.control.is_open);
    }

    fn round_trip(&mut self) {
        self.put(&wire::method(CONTROL, channel::Flow { active: true }));
        self.control.owed += 1;
        self.await_control();
    }

    fn take_control(&mut self, method: AMQPClass) {
        match method {
            AMQPClass::Basic(Basic::Return(_)) => {
                self.control.returned = true;
                return;
            }
            AMQPClass::Queue(Queue::DeclareOk(ok)) => {
                self.control.counts = Some((ok.message_count, ok.consumer_count));
            }
            AMQPClass::Channel(Channel::Close(close)) => {
                self.put(&wire::method(CONTROL, channel::CloseOk {}));
                self.control.closed_with = Some(close.reply_code);
                self.control.is_open = false;
                self.control.owed = 0;
                return;
            }
            _ => {}
        }
        self.control.owed = self.control.owed.saturating_sub(1);
    }
}

/// Frames.
impl Link {
    fn put(&mut self, bytes: &[u8]) {
        // A broker that has hung up is found out by listening to what it said before.
        let _ = self.raw.try_send(bytes);
    }

    /// Listens until the condition holds, the connection has ended, or patience has.
    fn pump(&mut self, done: impl Fn(&Self) -> bool) {
        while !self.closed && !done(self) {
            match self.raw.hear(PATIENCE) {
                Heard::Frame(frame) => self.take(frame),
                Heard::End => {
                    self.closed = true;
                    if !self.ending {
                        self.faults.push("the broker hung up".to_owned());
                    }
                }
                Heard::Silence => {
                    self.closed = true;
                    self.faults.push(format!("no answer for {PATIENCE:?}"));
                }
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame.kind {
            wire::METHOD => match parse_class(frame.payload.as_slice()) {
                Ok(([], method)) => self.take_method(frame.channel, method),
                other => self.faults.push(format!("not a method: {other:?}")),
            },
            wire::HEADER | wire::BODY => self.take_content(frame),
            wire::HEARTBEAT => {}
            other => self.faults.push(format!("a frame of type {other}")),
        }
    }

    fn take_method(&mut self, id: u16, method: AMQPClass) {
        use Basic::{Deliver, GetOk, Return};
        match method {
            AMQPClass::Basic(Deliver(_) | GetOk(_) | Return(_)) => {
                self.half.insert(id, (method, None));
            }
            _ => self.arrived(id, method, None),
        }
    }

    fn take_content(&mut self, frame: Frame) {
        let Some((method, header)) = self.half.remove(&frame.channel) else {
            return self.faults.push("content without its method".to_owned());
        };
        let (size, content) = match header {
            None if frame.kind == wire::HEADER && frame.payload.len() >= 14 => {
                let size = frame.payload[4..12]
                    .iter()
                    .fold(0, |size, byte| size << 8 | usize::from(*byte));
                let content = Content {
                    properties: frame.payload[12..].to_vec(),
                    body: vec![],
                    frames: vec![],
                };
                (size, content)
            }
            Some((size, mut content)) if frame.kind == wire::BODY => {
                content.body.extend_from_slice(&frame.payload);
                (size, content)
            }
            _ => return self.faults.push(format!("{frame:?} out of place")),
        };
        if content.body.len() >= size {
            self.arrived(frame.channel, method, Some(content));
        } else {
            self.half
                .insert(frame.channel, (method, Some((size, content))));
        }
    }

    fn arrived(&mut self, id: u16, method: AMQPClass, content: Option<Content>) {
        if id == CONTROL {
            return self.take_control(method);
        }
        match &method {
            AMQPClass::Channel(Channel::Close(_)) => {
                self.put(&wire::method(id, channel::CloseOk {}));
                self.channels.remove(&id);
            }
            AMQPClass::Channel(Channel::CloseOk(_)) => {
                self.closing.retain(|closing| *closing != id)
            }
            AMQPClass::Connection(Connection::Close(_)) => {
                self.put(&wire::method(0, CloseOk {}));
                self.closed = true;
            }
            AMQPClass::Connection(Connection::CloseOk(_)) => self.closed = true,
            _ => {
                if let Some(tracks) = self.channels.get_mut(&id)
                    && tracks.is_own(&method)
                {
                    return;
                }
            }
        }
        self.arrivals.push(Arrival {
            channel: id,
            method,
            content,
        });
    }
}

fn goodbye() -> channel::Close {
    channel::Close {
        reply_code: 200,
        reply_text: "bye".into(),
        ..Default::default()
    }
}
