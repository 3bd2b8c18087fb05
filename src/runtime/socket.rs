//! A client's socket, read and written without ever waiting.
//!
//! While bytes come in, the turn reads a socket directly (`recv` with `MSG_DONTWAIT`). A socket that
//! has gone quiet is handed back to glommio, which asks the ring to report when it is readable again:
//! it is *armed*. The same goes for writing: directly, until the kernel's buffer is full. glommio's
//! `poll_read` and `poll_write` try the system call once more before they arm, so nothing that
//! happens in between is missed.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use super::ready::{ReadyList, Token};
use crate::base::Time;
use crate::broker::SessionIndex;

/// What came of an attempt to read or write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    /// So many bytes, at least one.
    Moved(usize),
    /// None now. If the attempt was to arm the socket, it is armed.
    WouldBlock,
    /// The connection is over.
    Closed,
}

/// One connection's socket and how it is being served.
pub(crate) struct Socket {
    stream: TcpStream,
    /// Reports to the core's [`ReadyList`].
    waker: Waker,
    pub(crate) token: Token,
    /// When bytes last came.
    pub(crate) last_bytes: Time,
    /// Whether the turn reads it directly. If not, it is armed for reading.
    pub(crate) polled: bool,
    /// Whether the turn has set it aside, since its connection is blocked.
    pub(crate) blocked: bool,
    /// Whether the kernel's buffer was full: then it is armed for writing.
    pub(crate) write_armed: bool,
}

impl Socket {
    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.stream`, which is borrowed as long as the result.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }
    }

    /// Reads what is there.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Attempt {
        match rustix::net::recv(self.fd(), buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Attempt::Closed,
            Ok((count, _)) => Attempt::Moved(count),
            Err(Errno::AGAIN | Errno::INTR) => Attempt::WouldBlock,
            Err(_) => Attempt::Closed,
        }
    }

    /// Reads what is there; if that is nothing, arms the socket.
    pub(crate) fn receive_or_arm(&mut self, buffer: &mut [u8]) -> Attempt {
        let mut context = Context::from_waker(&self.waker);
        let attempt = attempt(|| Pin::new(&mut self.stream).poll_read(&mut context, buffer));
        self.polled = attempt != Attempt::WouldBlock;
        attempt
    }

    /// Whether the peer will send nothing more than what may lie here unread.
    pub(crate) fn has_hung_up(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.fd(), PollFlags::RDHUP)];
        let at_once = Timespec::default();
        // Errors and a hang-up on both sides are reported unasked.
        matches!(poll(&mut polled, Some(&at_once)), Ok(1..))
    }

    /// Writes what the kernel has room for.
    pub(crate) fn send(&self, slices: &[IoSlice<'_>]) -> Attempt {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut no_control = SendAncillaryBuffer::default();
        match rustix::net::sendmsg(self.fd(), slices, &mut no_control, flags) {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => Attempt::WouldBlock,
            Ok(count) => Attempt::Moved(count),
            Err(_) => Attempt::Closed,
        }
    }

    /// Writes what the kernel has room for; if that is nothing, arms the socket.
    pub(crate) fn send_or_arm(&mut self, bytes: &[u8]) -> Attempt {
        let mut context = Context::from_waker(&self.waker);
        let attempt = attempt(|| Pin::new(&mut self.stream).poll_write(&mut context, bytes));
        self.write_armed = attempt == Attempt::WouldBlock;
        attempt
    }

    /// Ends the connection, in an orderly way if `gently`: what was written arrives, then the end.
    fn close(self, gently: bool, scratch: &mut [u8]) {
        if gently {
            // Closing a socket with unread bytes resets the connection, and a reset can overtake
            // what was written before. So what has come is read, once.
            self.receive(scratch);
        }
        // Not left to `drop`: a poll in flight holds the socket open until glommio has cancelled it.
        let how = if gently {
            Shutdown::Write
        } else {
            Shutdown::Both
        };
        // It fails if the peer was faster.
        let _ = rustix::net::shutdown(self.fd(), how);
    }
}

fn attempt(mut poll: impl FnMut() -> Poll<io::Result<usize>>) -> Attempt {
    loop {
        return match poll() {
            Poll::Ready(Ok(0)) => Attempt::Closed,
            Poll::Ready(Ok(count)) => Attempt::Moved(count),
            Poll::Pending => Attempt::WouldBlock,
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => continue,
            Poll::Ready(Err(_)) => Attempt::Closed,
        };
    }
}

/// The sockets of one core, by session.
pub(crate) struct Sockets {
    table: Vec<Option<Socket>>,
    accepted: u64,
    ready: Arc<ReadyList>,
}

impl Sockets {
    pub(crate) fn new(ready: Arc<ReadyList>) -> Self {
        Self {
            table: vec![],
            accepted: 0,
            ready,
        }
    }

    /// A new connection, to be read directly at first: its client speaks first.
    pub(crate) fn insert(&mut self, now: Time, session: SessionIndex, stream: TcpStream) -> Token {
        self.accepted += 1;
        let token = Token {
            index: session.0,
            tenant: self.accepted,
        };
        let place = session.0 as usize;
        if place >= self.table.len() {
            self.table.resize_with(place + 1, || None);
        }
        self.table[place] = Some(Socket {
            stream,
            waker: self.ready.waker(token),
            token,
            last_bytes: now,
            polled: true,
            blocked: false,
            write_armed: false,
        });
        token
    }

    /// The socket of a session, if it is still there.
    pub(crate) fn of(&mut self, session: SessionIndex) -> Option<&mut Socket> {
        self.table.get_mut(session.0 as usize)?.as_mut()
    }

    /// The socket that a token stands for, unless it has closed since.
    pub(crate) fn by_token(&mut self, token: Token) -> Option<&mut Socket> {
        let socket = self.of(SessionIndex(token.index))?;
        (socket.token == token).then_some(socket)
    }

    /// The socket of a session that has come from another core.
    pub(crate) fn adopt(&mut self, now: Time, session: SessionIndex, socket: OwnedFd) -> Token {
        // SAFETY: the descriptor is a connection's, and `into_raw_fd` gives up its owner.
        let stream = unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) };
        self.insert(now, session, stream)
    }

    /// Takes a session's socket away, for another core; none if it is lost.
    pub(crate) fn take(&mut self, session: SessionIndex) -> Option<OwnedFd> {
        let socket = self.table.get_mut(session.0 as usize)?.take()?;
        // glommio keeps a stream's descriptor for whatever it has armed there, all of which only asks whether the
        // socket is readable or writable, and goes with the stream: so the other core gets one of its own.
        socket.fd().try_clone_to_owned().ok()
    }

    /// Closes a session's socket and forgets it.
    pub(crate) fn close(&mut self, session: SessionIndex, gently: bool, scratch: &mut [u8]) {
        if let Some(place) = self.table.get_mut(session.0 as usize)
            && let Some(socket) = place.take()
        {
            socket.close(gently, scratch);
        }
    }

    /// Moves the sockets that glommio reported to the end of `tokens`.
    pub(crate) fn take_reported(&self, tokens: &mut Vec<Token>) {
        self.ready.take(tokens);
    }
}
