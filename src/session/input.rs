//! Received bytes, up to frames: a frame may come in any number of pieces.
//!
//! The core's landing buffer is not the session's to keep, so what is left of an unfinished frame is
//! carried over here. The body of a large message is the exception: its frame gets a buffer of its
//! own as soon as its head is read, and the socket's next bytes go straight into it.

use bytes::BytesMut;

use super::publish::landing_buffer;
use super::{Phase, Session, SessionContext};
use crate::amqp::error::ConnectionError;
use crate::amqp::frame::{self, END, FrameKind, HEAD};
use crate::base::limits;

/// What has come and could not be handled yet.
#[derive(Default)]
pub(super) struct Input {
    /// The front of an unfinished frame.
    carried: Vec<u8>,
    /// A large body frame that is coming in.
    in_place: Option<InPlace>,
    /// Bytes that wait in channels for an answer.
    pub(super) deferred: usize,
}

struct InPlace {
    channel: u16,
    /// The payload and the end octet.
    buffer: BytesMut,
    filled: usize,
}

impl Input {
    /// Nothing of what has come will be needed.
    pub(super) fn forget(&mut self) {
        self.carried = Vec::new();
        self.in_place = None;
    }

    /// How many bytes the carried frame lacks, as far as one can tell.
    fn missing(&self) -> usize {
        let len = self.carried.len();
        match self.carried.first_chunk::<HEAD>() {
            None => HEAD - len,
            Some(head) => {
                let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
                (HEAD + size as usize + 1).saturating_sub(len)
            }
        }
    }
}

impl Session {
    /// Bytes came from the socket.
    pub fn receive(&mut self, mut bytes: &[u8], context: &mut SessionContext<'_>) {
        self.heartbeat.received(context.now);
        if let Phase::Handshake(_) = self.phase {
            let Some(rest) = self.protocol_header(bytes, context) else {
                return;
            };
            bytes = rest;
        }
        while !bytes.is_empty() {
            if self.input.in_place.is_some() {
                bytes = self.fill_in_place(bytes, context);
            } else if !self.input.carried.is_empty() {
                bytes = self.complete_carried(bytes, context);
            } else {
                let used = self.handle(bytes, context);
                self.input.carried.extend_from_slice(&bytes[used..]);
                break;
            }
        }
    }

    /// The buffer that the socket's next bytes belong in, if a large body is coming in.
    pub fn landing(&mut self) -> Option<&mut [u8]> {
        let in_place = self.input.in_place.as_mut()?;
        Some(&mut in_place.buffer[in_place.filled..])
    }

    /// So many bytes were received into [`Session::landing`].
    pub fn received_in_place(&mut self, count: usize, context: &mut SessionContext<'_>) {
        self.heartbeat.received(context.now);
        if let Some(in_place) = &mut self.input.in_place {
            in_place.filled += count;
        }
        self.finish_in_place(context);
    }

    /// Handles all complete frames; how many bytes they took.
    fn handle(&mut self, bytes: &[u8], context: &mut SessionContext<'_>) -> usize {
        let mut at = 0;
        loop {
            let payload_max = self.read_max();
            match frame::split(&bytes[at..], payload_max) {
                Ok(Some(frame)) => {
                    at += frame.size();
                    at += self.frame(frame, &bytes[at..], context);
                }
                Ok(None) => break,
                Err(error) => {
                    self.frame_error(error, context);
                    return bytes.len();
                }
            }
        }
        at + self.begin_in_place(&bytes[at..])
    }

    /// Largest payload that is taken: many clients forget head and end octet in `frame_max`.
    fn read_max(&self) -> u32 {
        self.connection.payload_max + limits::FRAME_OVERHEAD as u32
    }

    /// Bytes that are no frame. Whoever hasn't logged in is not answered.
    fn frame_error(&mut self, error: ConnectionError, context: &mut SessionContext<'_>) {
        match &self.phase {
            Phase::Handshake(handshake) if !handshake.is_authenticated() => self.close_now(context),
            _ => self.fail(error, context),
        }
    }

    /// Adds to the carried frame what it lacks, and handles it once it is whole.
    fn complete_carried<'a>(
        &mut self,
        bytes: &'a [u8],
        context: &mut SessionContext<'_>,
    ) -> &'a [u8] {
        let take = self.input.missing().min(bytes.len());
        let (now, later) = bytes.split_at(take);
        self.input.carried.extend_from_slice(now);
        let mut carried = std::mem::take(&mut self.input.carried);
        let used = self.handle(&carried, context);
        carried.drain(..used);
        if self.input.carried.is_empty() && !carried.is_empty() {
            self.input.carried = carried;
        } else if self.input.carried.capacity() == 0 {
            // Keep the buffer for the next unfinished frame unless it is a large one.
            carried.clear();
            carried.shrink_to(limits::LARGE_BODY_BYTES);
            self.input.carried = carried;
        }
        later
    }

    /// If what is left is the front of a large body frame, gives it a buffer of its own. Returns how
    /// many bytes went there.
    fn begin_in_place(&mut self, rest: &[u8]) -> usize {
        let Ok(Some(head)) = frame::head(rest, self.read_max()) else {
            return 0;
        };
        if head.kind != FrameKind::Body || head.size < limits::LARGE_BODY_BYTES {
            return 0;
        }
        let Some(Some(channel)) = self.channels.get(usize::from(head.channel)) else {
            return 0;
        };
        let belongs = channel.is_open() && !channel.waits();
        if !belongs || !channel.content.takes_large_piece(head.size) {
            return 0;
        }
        let mut buffer = landing_buffer(head.size);
        let payload = &rest[HEAD..];
        buffer[..payload.len()].copy_from_slice(payload);
        self.input.in_place = Some(InPlace {
            channel: head.channel,
            buffer,
            filled: payload.len(),
        });
        rest.len()
    }

    /// Bytes for a large body that came through the landing buffer after all.
    fn fill_in_place<'a>(&mut self, bytes: &'a [u8], context: &mut SessionContext<'_>) -> &'a [u8] {
        let Some(in_place) = &mut self.input.in_place else {
            return bytes;
        };
        let room = &mut in_place.buffer[in_place.filled..];
        let (now, later) = bytes.split_at(room.len().min(bytes.len()));
        room[..now.len()].copy_from_slice(now);
        in_place.filled += now.len();
        self.finish_in_place(context);
        later
    }

    fn finish_in_place(&mut self, context: &mut SessionContext<'_>) {
        let whole = |in_place: &mut InPlace| in_place.filled == in_place.buffer.len();
        let Some(InPlace {
            channel: number,
            mut buffer,
            ..
        }) = self.input.in_place.take_if(whole)
        else {
            return;
        };
        if buffer.last() != Some(&END) {
            let error = ConnectionError::FrameEnd { channel: number };
            return self.fail(error, context);
        }
        buffer.truncate(buffer.len() - 1);
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        if !channel.is_open() {
            return;
        }
        let piece = buffer.freeze();
        let result = channel.content_large_piece(piece, &mut self.connection, context);
        if let Err(error) = result {
            self.refuse(number, error, context);
        }
        self.publish_received(context);
    }
}
