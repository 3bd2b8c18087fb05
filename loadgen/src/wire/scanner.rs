//! What we read in quantity: deliveries and confirms, by hopping from frame to frame.
//!
//! The scanner holds no bytes. It says how far it came, and the caller keeps the unfinished rest
//! (less than a frame) in front of the next read. Bodies are skipped wherever a read ends, so a
//! large message is never gathered.

use super::{
    BODY, FRAME_END, FRAME_HEAD_BYTES, FRAME_OVERHEAD_BYTES, HEADER, HEARTBEAT, METHOD, WireError,
    u16_at, u32_at, u64_at,
};

/// Class and method ids as one big-endian word.
const BASIC_RETURN: u32 = 60 << 16 | 50;
const BASIC_DELIVER: u32 = 60 << 16 | 60;
const BASIC_GET_OK: u32 = 60 << 16 | 71;
const BASIC_ACK: u32 = 60 << 16 | 80;
const BASIC_NACK: u32 = 60 << 16 | 120;

/// Who is told what was found.
pub(crate) trait FrameSink {
    /// A whole message was delivered, by itself or by basic.get. `time_ns` is its stamp, 0 if the body
    /// is shorter than that.
    fn delivered(&mut self, channel: u16, delivery_tag: u64, time_ns: u64);
    /// A whole message came back unroutable.
    fn returned(&mut self, channel: u16);
    /// Publishes up to (`multiple`) or at this number were confirmed, or nacked if not `accepted`.
    fn settled(&mut self, channel: u16, sequence: u64, multiple: bool, accepted: bool);
    /// A whole frame with any other method.
    fn method(&mut self, channel: u16, frame: &[u8]);
}

/// The content that is arriving on a channel.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    kind: Kind,
    delivery_tag: u64,
    time_ns: u64,
    body_left: u64,
    body_begun: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    None,
    Delivery,
    Return,
}

/// Reads one connection's frames across reads.
#[derive(Debug)]
pub(crate) struct Scanner {
    frame_max: usize,
    /// By channel number; 0, the connection itself, carries no content.
    contents: Vec<Content>,
    /// Bytes of the body frame under way that are still to pass, its end octet included.
    skip: usize,
    skip_channel: usize,
    skip_payload: u64,
}

impl Scanner {
    /// For a connection whose open channels are 1 to `channels`.
    pub(crate) fn new(channels: u16, frame_max: usize) -> Self {
        let contents = vec![Content::default(); usize::from(channels) + 1];
        Self {
            frame_max,
            contents,
            skip: 0,
            skip_channel: 0,
            skip_payload: 0,
        }
    }

    /// Reads `bytes` until they end or `most` messages were delivered. Returns the number of bytes
    /// consumed and of messages delivered; the next call must begin with the unconsumed rest.
    #[inline]
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        most: u64,
        sink: &mut impl FrameSink,
    ) -> Result<(usize, u64), WireError> {
        let mut at = 0;
        let mut delivered = 0;
        while delivered < most {
            let rest = &bytes[at..];
            if self.skip > 0 {
                if rest.is_empty() {
                    break;
                }
                let step = self.skip.min(rest.len());
                self.skip -= step;
                at += step;
                if self.skip == 0 {
                    end_octet(rest[step - 1])?;
                    delivered += self.body_frame_passed(sink);
                }
                continue;
            }
            if rest.len() < FRAME_HEAD_BYTES {
                break;
            }
            let (channel, size) = (u16_at(rest, 1), u32_at(rest, 3) as usize);
            if size + FRAME_OVERHEAD_BYTES > self.frame_max {
                return Err(WireError::FrameSize(size + FRAME_OVERHEAD_BYTES));
            }
            if rest[0] == BODY {
                // Enough to hold the stamp must be there; what follows is hopped over.
                if rest.len() < FRAME_HEAD_BYTES + size.min(8) {
                    break;
                }
                self.body_frame(channel, size, &rest[FRAME_HEAD_BYTES..])?;
                at += FRAME_HEAD_BYTES;
                continue;
            }
            let Some(frame) = rest.get(..size + FRAME_OVERHEAD_BYTES) else {
                break;
            };
            end_octet(frame[frame.len() - 1])?;
            at += frame.len();
            match frame[0] {
                METHOD => self.method_frame(channel, frame, sink)?,
                HEADER => delivered += self.header_frame(channel, frame, sink)?,
                HEARTBEAT => {}
                other => return Err(WireError::FrameType(other)),
            }
        }
        Ok((at, delivered))
    }

    #[inline]
    fn method_frame(
        &mut self,
        channel: u16,
        frame: &[u8],
        sink: &mut impl FrameSink,
    ) -> Result<(), WireError> {
        if frame.len() < FRAME_OVERHEAD_BYTES + 4 {
            return Err(WireError::Method);
        }
        match u32_at(frame, 7) {
            BASIC_DELIVER => {
                self.delivery(channel, frame, 12 + usize::from(frame[11]))?;
            }
            BASIC_GET_OK => self.delivery(channel, frame, 11)?,
            BASIC_RETURN => {
                *self.content(channel)? = Content {
                    kind: Kind::Return,
                    ..Content::default()
                }
            }
            id @ (BASIC_ACK | BASIC_NACK) => {
                if frame.len() < 21 {
                    return Err(WireError::Method);
                }
                sink.settled(
                    channel,
                    u64_at(frame, 11),
                    frame[19] & 1 == 1,
                    id == BASIC_ACK,
                );
            }
            _ => sink.method(channel, frame),
        }
        Ok(())
    }

    #[inline]
    fn delivery(&mut self, channel: u16, frame: &[u8], tag_at: usize) -> Result<(), WireError> {
        if frame.len() < tag_at + 8 {
            return Err(WireError::Method);
        }
        *self.content(channel)? = Content {
            kind: Kind::Delivery,
            delivery_tag: u64_at(frame, tag_at),
            ..Content::default()
        };
        Ok(())
    }

    /// Returns the number of messages delivered: 1 for a delivery with an empty body.
    #[inline]
    fn header_frame(
        &mut self,
        channel: u16,
        frame: &[u8],
        sink: &mut impl FrameSink,
    ) -> Result<u64, WireError> {
        if frame.len() < 22 {
            return Err(WireError::UnexpectedContent(channel));
        }
        let content = self.content(channel)?;
        if content.kind == Kind::None {
            return Err(WireError::UnexpectedContent(channel));
        }
        content.body_left = u64_at(frame, 11);
        Ok(if content.body_left == 0 {
            content.complete(channel, sink)
        } else {
            0
        })
    }

    #[inline]
    fn body_frame(&mut self, channel: u16, size: usize, payload: &[u8]) -> Result<(), WireError> {
        let content = self.content(channel)?;
        if content.kind == Kind::None || size as u64 > content.body_left {
            return Err(WireError::UnexpectedContent(channel));
        }
        if !content.body_begun && size >= 8 {
            content.time_ns = u64_at(payload, 0);
        }
        content.body_begun = true;
        (self.skip, self.skip_channel, self.skip_payload) =
            (size + 1, usize::from(channel), size as u64);
        Ok(())
    }

    #[inline]
    fn body_frame_passed(&mut self, sink: &mut impl FrameSink) -> u64 {
        let content = &mut self.contents[self.skip_channel];
        content.body_left -= self.skip_payload;
        if content.body_left == 0 {
            content.complete(self.skip_channel as u16, sink)
        } else {
            0
        }
    }

    #[inline]
    fn content(&mut self, channel: u16) -> Result<&mut Content, WireError> {
        self.contents
            .get_mut(usize::from(channel))
            .ok_or(WireError::UnknownChannel(channel))
    }
}

impl Content {
    #[inline]
    fn complete(&mut self, channel: u16, sink: &mut impl FrameSink) -> u64 {
        let kind = std::mem::take(&mut self.kind);
        match kind {
            Kind::Delivery => sink.delivered(channel, self.delivery_tag, self.time_ns),
            Kind::Return => sink.returned(channel),
            Kind::None => {}
        }
        u64::from(kind == Kind::Delivery)
    }
}

#[inline]
fn end_octet(octet: u8) -> Result<(), WireError> {
    if octet == FRAME_END {
        Ok(())
    } else {
        Err(WireError::FrameEnd)
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
