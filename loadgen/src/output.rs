//! What one connection has still to write: small control frames, and a buffer full of publishes.

use std::io::{self, Write};

use amq_protocol::protocol::AMQPClass;

use crate::wire::{PublishTemplate, push_method};

/// How much a connection's publishes gather to before they are written: small enough for the L2
/// cache, large enough that the system call is shared by some 1,600 messages of 16 bytes.
pub(crate) const BULK_BYTES: usize = 128 << 10;

/// Two buffers that never cut into each other's frames.
#[derive(Debug, Default)]
pub(crate) struct Output {
    control: Vec<u8>,
    control_at: usize,
    bulk: Vec<u8>,
    bulk_at: usize,
    bulk_end: usize,
    /// Which channel's only template of which size fills `bulk`, and how many copies of it lie
    /// there. Then the next fill has but to stamp them.
    laid: Option<((u16, usize), usize)>,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.control_at == self.control.len() && self.bulk_is_free()
    }

    /// Whether the next publishes may be laid out.
    pub(crate) fn bulk_is_free(&self) -> bool {
        self.bulk_at == self.bulk_end
    }

    /// Where whole control frames are appended.
    pub(crate) fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// Bytes of control frames that the peer hasn't taken yet.
    pub(crate) fn control_backlog_bytes(&self) -> usize {
        self.control.len() - self.control_at
    }

    /// Makes room for `count` copies of a template and returns them for stamping. `name` tells the
    /// templates of one connection apart: the channel and the number of the size.
    pub(crate) fn lay(
        &mut self,
        name: (u16, usize),
        template: &PublishTemplate,
        count: usize,
    ) -> &mut [u8] {
        let bytes = template.bytes();
        let laid = match self.laid {
            Some((laid_name, laid)) if laid_name == name => laid,
            _ => {
                self.bulk.clear();
                0
            }
        };
        for _ in laid..count {
            self.bulk.extend_from_slice(bytes);
        }
        self.laid = Some((name, laid.max(count)));
        (self.bulk_at, self.bulk_end) = (0, bytes.len() * count);
        &mut self.bulk[..self.bulk_end]
    }

    /// Starts a fill of messages from several templates.
    pub(crate) fn begin_mixed(&mut self) {
        self.bulk.clear();
        self.laid = None;
        (self.bulk_at, self.bulk_end) = (0, 0);
    }

    /// Adds one message to a mixed fill and returns it for stamping.
    pub(crate) fn push_mixed(&mut self, template: &PublishTemplate) -> &mut [u8] {
        self.bulk.extend_from_slice(template.bytes());
        let begin = std::mem::replace(&mut self.bulk_end, self.bulk.len());
        &mut self.bulk[begin..]
    }

    /// Adds a method behind a mixed fill.
    pub(crate) fn end_mixed_with(&mut self, channel: u16, method: AMQPClass) {
        push_method(&mut self.bulk, channel, method);
        self.bulk_end = self.bulk.len();
    }

    /// Writes once, as much as the socket takes. Control frames go first, so that acks don't wait
    /// behind publishes, but never into the middle of a message.
    pub(crate) fn write_once(&mut self, stream: &mut impl Write) -> io::Result<()> {
        if self.bulk_at == 0 && self.control_at < self.control.len() {
            self.control_at += stream.write(&self.control[self.control_at..])?;
            if self.control_at == self.control.len() {
                self.control.clear();
                self.control_at = 0;
            }
        } else {
            self.bulk_at += stream.write(&self.bulk[self.bulk_at..self.bulk_end])?;
            if self.bulk_at == self.bulk_end {
                (self.bulk_at, self.bulk_end) = (0, 0);
            }
        }
        Ok(())
    }
}
