//! Frames (AMQP 0-9-1, 4.2.3).
//!
//! ```text
//! +------+---------+------+=========+-----+
//! | type | channel | size | payload | 206 |
//! |  1   |    2    |  4   |  size   |  1  |   bytes, integers in network order
//! +------+---------+------+=========+-----+
//! type: 1 method, 2 content header, 3 content body, 8 heartbeat
//! ```

use super::error::ConnectionError;

/// Bytes before the payload.
pub const HEAD: usize = 7;
/// The last byte of every frame.
pub const END: u8 = 206;

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// A method and its arguments.
    Method = 1,
    /// Size and properties of a content.
    Header = 2,
    /// A piece of a content's body.
    Body = 3,
    /// Nothing but a sign of life.
    Heartbeat = 8,
}

/// A frame in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What stands between the head and the end octet.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Length with head and end octet.
    pub fn size(&self) -> usize {
        HEAD + self.payload.len() + 1
    }
}

/// The head of a frame whose payload may not be there yet.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel.
    pub channel: u16,
    /// Length of the payload.
    pub size: usize,
}

/// Reads the head of the frame at the front of `bytes`; none if it isn't complete. What can be wrong
/// with it is found as soon as the byte is there: `payload_max` bounds the payload.
#[inline]
pub fn head(bytes: &[u8], payload_max: u32) -> Result<Option<FrameHead>, ConnectionError> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let kind = match kind {
        1 => FrameKind::Method,
        2 => FrameKind::Header,
        3 => FrameKind::Body,
        8 => FrameKind::Heartbeat,
        other => return Err(ConnectionError::FrameType(other)),
    };
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([head[1], head[2]]);
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    if size > payload_max {
        return Err(ConnectionError::FrameTooLarge {
            size: u64::from(size),
            max: payload_max,
        });
    }
    Ok(Some(FrameHead {
        kind,
        channel,
        size: size as usize,
    }))
}

/// The complete frame at the front of `bytes`; none if more must come.
#[inline]
pub fn split(bytes: &[u8], payload_max: u32) -> Result<Option<Frame<'_>>, ConnectionError> {
    let Some(head) = head(bytes, payload_max)? else {
        return Ok(None);
    };
    let Some(&end) = bytes.get(HEAD + head.size) else {
        return Ok(None);
    };
    if end != END {
        return Err(ConnectionError::FrameEnd {
            channel: head.channel,
        });
    }
    Ok(Some(Frame {
        kind: head.kind,
        channel: head.channel,
        payload: &bytes[HEAD..HEAD + head.size],
    }))
}

/// A heartbeat.
pub const HEARTBEAT: [u8; HEAD + 1] = [FrameKind::Heartbeat as u8, 0, 0, 0, 0, 0, 0, END];

/// The protocol header of AMQP 0-9-1: what a client opens with, and what it is told if it opens with
/// something else.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// Begins a frame; [`end`] completes it. Returns where it began.
pub fn begin(out: &mut Vec<u8>, kind: FrameKind, channel: u16) -> usize {
    let start = out.len();
    let channel = channel.to_be_bytes();
    out.extend_from_slice(&[kind as u8, channel[0], channel[1], 0, 0, 0, 0]);
    start
}

/// Completes the frame that began at `start`: fills in the size, adds the end octet.
pub fn end(out: &mut Vec<u8>, start: usize) {
    let size = (out.len() - start - HEAD) as u32;
    out[start + 3..start + HEAD].copy_from_slice(&size.to_be_bytes());
    out.push(END);
}

/// Appends a frame as it came.
pub fn write(out: &mut Vec<u8>, frame: &Frame<'_>) {
    let start = begin(out, frame.kind, frame.channel);
    out.extend_from_slice(frame.payload);
    end(out, start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_once_its_last_byte_is_there() {
        let mut bytes = Vec::new();
        let start = begin(&mut bytes, FrameKind::Method, 7);
        bytes.extend_from_slice(b"payload");
        end(&mut bytes, start);
        for len in 0..bytes.len() {
            assert!(split(&bytes[..len], 100).is_ok_and(|frame| frame.is_none()));
        }
        let frame = split(&bytes, 100)
            .expect("it is valid")
            .expect("it is complete");
        assert_eq!((frame.kind, frame.channel), (FrameKind::Method, 7));
        assert_eq!(frame.payload, b"payload");
        assert_eq!(frame.size(), bytes.len());
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_head() {
        let result = split(&[3, 0, 1, 0, 0, 0, 101], 100).map(|_| ());
        let error = ConnectionError::FrameTooLarge {
            size: 101,
            max: 100,
        };
        assert_eq!(result, Err(error));
    }

    #[test]
    fn an_unknown_type_is_refused_by_its_first_byte() {
        assert_eq!(
            split(&[9], 100).map(|_| ()),
            Err(ConnectionError::FrameType(9))
        );
    }

    #[test]
    fn a_wrong_end_octet_is_refused() {
        let result = split(&[8, 0, 5, 0, 0, 0, 0, 0], 100).map(|_| ());
        assert_eq!(result, Err(ConnectionError::FrameEnd { channel: 5 }));
    }
}
