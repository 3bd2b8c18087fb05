//! One connection in the event loop: its socket, its frames, and a producer or a consumer.
//!
//! A turn does one read and one write at most, so that neither side of a thread starves the
//! other: a publisher whose socket always takes more would otherwise never let a consumer read.

use std::io::{ErrorKind, Read, Write};

use amq_protocol::protocol::{AMQPClass, basic, channel, connection, tx};
use anyhow::{Context, Error, Result, anyhow, bail};
use mio::net::TcpStream;

use crate::clock::now_ns;
use crate::consumer::Consumer;
use crate::output::Output;
use crate::producer::Producer;
use crate::run::Run;
use crate::stats::Tally;
use crate::stream::Stream;
use crate::wire::{self, FrameSink, HEARTBEAT_FRAME, Scanner};

/// Acks that a broker may leave unread before we stop reading its deliveries.
const CONTROL_BACKLOG_MAX_BYTES: usize = 1 << 20;

/// What the connection is for.
#[derive(Debug)]
pub(crate) enum Role {
    Producer(Producer),
    Consumer(Consumer),
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A producer waiting for all consumers.
    Waiting,
    Running,
    /// We sent connection.close.
    Closing,
    Closed,
}

/// One non-blocking connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream<TcpStream>,
    role: Role,
    state: State,
    /// Whether a finished -C or -D was reported.
    finished: bool,
    scanner: Scanner,
    /// The unscanned end of the last read.
    carry: Vec<u8>,
    /// Whether `carry` may hold whole messages, left there by a consumer rate.
    carry_is_ripe: bool,
    output: Output,
    /// Edge-triggered: true until the socket says otherwise.
    readable: bool,
    writable: bool,
    heartbeat_ns: u64,
    last_write_ns: u64,
}

impl Connection {
    /// `heartbeat_s` is the negotiated one, 0 for none.
    pub(crate) fn new(
        stream: Stream<std::net::TcpStream>,
        role: Role,
        scanner: Scanner,
        heartbeat_s: u16,
    ) -> Self {
        let heartbeat_ns = match heartbeat_s {
            0 => u64::MAX,
            seconds => u64::from(seconds) * 1_000_000_000,
        };
        Self {
            stream: stream.map_socket(TcpStream::from_std),
            role,
            state: State::Waiting,
            finished: false,
            scanner,
            carry: Vec::new(),
            carry_is_ripe: false,
            output: Output::default(),
            readable: true,
            writable: true,
            heartbeat_ns,
            last_write_ns: now_ns(),
        }
    }

    /// Notes what epoll said.
    pub(crate) fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether its due times matter to less than a millisecond.
    pub(crate) fn is_punctual(&self) -> bool {
        matches!(&self.role, Role::Consumer(consumer) if consumer.takes_a_while())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// One turn. `landing` is the thread's read buffer.
    pub(crate) fn turn(&mut self, landing: &mut [u8], run: &Run, tally: &mut Tally) -> Result<()> {
        match self.state {
            State::Closed => return Ok(()),
            State::Waiting => self.begin(run)?,
            State::Running | State::Closing => {}
        }
        if self.readable || self.carry_is_ripe {
            self.take_in(landing, run, tally)?;
        }
        if let (Role::Consumer(consumer), State::Running) = (&mut self.role, self.state) {
            consumer.work(now_ns(), self.output.control(), tally)?;
        }
        if self.writable {
            self.put_out(tally)?;
        }
        if !self.finished && self.state == State::Running {
            self.check_finished(run);
        }
        Ok(())
    }

    /// When this connection wants its next turn, unless an event comes first: 0 for at once.
    pub(crate) fn next_turn_ns(&self, now_ns: u64) -> u64 {
        match self.state {
            State::Closed => return u64::MAX,
            State::Waiting => return 0,
            State::Running | State::Closing => {}
        }
        if self.writable && (!self.output.is_empty() || self.stream.holds_output()) {
            return 0;
        }
        let heartbeat = match self.writable {
            true => self.last_write_ns.saturating_add(self.heartbeat_ns / 2),
            false => u64::MAX,
        };
        let waiting_input = self.readable || self.carry_is_ripe;
        let due = match &self.role {
            Role::Producer(_) if waiting_input => Some(0),
            Role::Producer(producer) if self.state == State::Running && self.writable => {
                producer.next_due_ns(now_ns)
            }
            Role::Producer(_) => None,
            Role::Consumer(consumer) if self.state == State::Running => {
                consumer.next_due_ns(waiting_input && !self.is_congested())
            }
            Role::Consumer(_) => waiting_input.then_some(0),
        };
        due.unwrap_or(u64::MAX).min(heartbeat)
    }

    /// Asks the server to close. What was begun is still written.
    pub(crate) fn close(&mut self) {
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        if let Role::Consumer(consumer) = &mut self.role {
            consumer.settle_rest(self.output.control());
        }
        let close = connection::Close {
            reply_code: 200,
            reply_text: "bye".into(),
            class_id: 0,
            method_id: 0,
        };
        wire::push_method(
            self.output.control(),
            0,
            AMQPClass::Connection(connection::AMQPMethod::Close(close)),
        );
        self.state = State::Closing;
    }

    fn begin(&mut self, run: &Run) -> Result<()> {
        match &mut self.role {
            Role::Consumer(consumer) => {
                consumer.begin(now_ns(), self.output.control())?;
                self.state = State::Running;
            }
            Role::Producer(producer) if run.consumers_are_ready() => {
                producer.begin(now_ns());
                self.state = State::Running;
            }
            Role::Producer(_) => {}
        }
        Ok(())
    }

    fn is_congested(&self) -> bool {
        self.output.control_backlog_bytes() > CONTROL_BACKLOG_MAX_BYTES
    }

    /// Reads once and scans it, or scans what a consumer rate has left over.
    fn take_in(&mut self, landing: &mut [u8], run: &Run, tally: &mut Tally) -> Result<()> {
        let allowance = match &self.role {
            Role::Consumer(consumer) if self.state == State::Running => {
                consumer.allowance(now_ns())
            }
            _ => u64::MAX,
        };
        if allowance == 0 || (self.is_congested() && self.state != State::Closing) {
            return Ok(());
        }
        let carried = self.carry.len();
        landing[..carried].copy_from_slice(&self.carry);
        let read = if self.carry_is_ripe {
            0
        } else {
            self.read(&mut landing[carried..])?
        };
        let bytes = &landing[..carried + read];
        let mut sink = Sink {
            now_ns: now_ns(),
            role: &mut self.role,
            state: &mut self.state,
            output: &mut self.output,
            run,
            tally,
            failure: None,
        };
        let scanned = self.scanner.scan(bytes, allowance, &mut sink);
        if let Some(failure) = sink.failure {
            return Err(failure);
        }
        let (consumed, delivered) = scanned?;
        self.carry.clear();
        self.carry.extend_from_slice(&bytes[consumed..]);
        self.carry_is_ripe = delivered == allowance && !self.carry.is_empty();
        Ok(())
    }

    fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        match self.stream.read(room) {
            Ok(0) if self.state == State::Closing => self.state = State::Closed,
            Ok(0) => bail!("the server closed the socket without a word"),
            Ok(count) => {
                // A short read emptied the socket: the next bytes make epoll report it again.
                self.readable = count == room.len() || self.stream.reads_in_parts();
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) if self.state == State::Closing => self.state = State::Closed,
            Err(error) => return Err(error).context("reading from the server"),
        }
        Ok(0)
    }

    fn put_out(&mut self, tally: &mut Tally) -> Result<()> {
        let now_ns = now_ns();
        if let (Role::Producer(producer), State::Running) = (&mut self.role, self.state)
            && self.output.bulk_is_free()
        {
            tally.sent += producer.fill(now_ns, &mut self.output);
        }
        if self.output.is_empty() && !self.stream.holds_output() {
            if now_ns.saturating_sub(self.last_write_ns) < self.heartbeat_ns / 2 {
                return Ok(());
            }
            self.output.control().extend_from_slice(&HEARTBEAT_FRAME);
        }
        let written = match self.output.is_empty() {
            true => self.stream.flush(),
            false => self.output.write_once(&mut self.stream),
        };
        match written {
            Ok(()) => self.last_write_ns = now_ns,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) if self.state == State::Closing => self.state = State::Closed,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                // The server hung up, but may have said why: what it sent is still to be read.
                (self.writable, self.readable) = (false, true);
            }
            Err(error) => return Err(error).context("writing to the server"),
        }
        Ok(())
    }

    fn check_finished(&mut self, run: &Run) {
        match &self.role {
            Role::Producer(producer) if producer.is_done() && self.output.is_empty() => {
                run.producer_finished()
            }
            Role::Consumer(consumer) if consumer.is_done() => {
                run.consumer_finished();
                // What it holds unacknowledged must not be lost to the other consumers.
                self.close();
            }
            _ => return,
        }
        self.finished = true;
    }
}

/// What the scanner reports to while a read is taken in.
struct Sink<'a> {
    now_ns: u64,
    role: &'a mut Role,
    state: &'a mut State,
    output: &'a mut Output,
    run: &'a Run,
    tally: &'a mut Tally,
    failure: Option<Error>,
}

impl FrameSink for Sink<'_> {
    #[inline]
    fn delivered(&mut self, channel: u16, delivery_tag: u64, time_ns: u64) {
        // After the close nothing counts any more.
        if let (Role::Consumer(consumer), State::Running) = (&mut *self.role, *self.state) {
            consumer.delivered(
                self.now_ns,
                channel,
                (delivery_tag, time_ns),
                self.output.control(),
                self.tally,
            );
        }
    }

    fn returned(&mut self, _channel: u16) {
        self.tally.returned += 1;
    }

    #[inline]
    fn settled(&mut self, channel: u16, sequence: u64, multiple: bool, accepted: bool) {
        if let Role::Producer(producer) = self.role {
            producer.settled(
                self.now_ns,
                channel,
                (sequence, multiple, accepted),
                self.tally,
            );
        }
    }

    fn method(&mut self, channel: u16, frame: &[u8]) {
        let handled = match wire::decode_method(frame) {
            Ok(Some((_, method))) => self.handle(channel, method),
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = handled
            && *self.state != State::Closing
        {
            self.failure.get_or_insert(error);
        }
    }
}

impl Sink<'_> {
    fn handle(&mut self, number: u16, method: AMQPClass) -> Result<()> {
        match method {
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)) => self.run.consumer_is_ready(),
            AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)) => {
                if let Role::Consumer(consumer) = self.role {
                    consumer.got_nothing(self.now_ns, number);
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(_)) => {
                bail!("the server cancelled a consumer: was its queue deleted?")
            }
            AMQPClass::Tx(tx::AMQPMethod::CommitOk(_)) => match self.role {
                Role::Producer(producer) => producer.committed(number),
                Role::Consumer(consumer) => consumer.committed(self.now_ns, number),
            },
            AMQPClass::Channel(channel::AMQPMethod::Flow(flow)) => {
                if let Role::Producer(producer) = self.role {
                    producer.pause(number, !flow.active);
                }
                let flow_ok = channel::FlowOk {
                    active: flow.active,
                };
                let method = AMQPClass::Channel(channel::AMQPMethod::FlowOk(flow_ok));
                wire::push_method(self.output.control(), number, method);
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                return Err(anyhow!(
                    "the server closed channel {number}: {} {}",
                    close.reply_code,
                    close.reply_text
                ));
            }
            AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
                return Err(anyhow!(
                    "the server closed the connection: {} {}",
                    close.reply_code,
                    close.reply_text
                ));
            }
            AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)) => {
                *self.state = State::Closed
            }
            AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)) => {
                eprintln!("blocked by the server: {}", blocked.reason);
            }
            AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)) => {
                eprintln!("unblocked by the server")
            }
            _ => {}
        }
        Ok(())
    }
}
