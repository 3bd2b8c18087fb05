//! What we write in quantity: publishes, from a template that is only stamped, and acks.

use std::ops::Range;

use amq_protocol::frame::WriteContext;
use amq_protocol::protocol::basic::{AMQPProperties, gen_properties};

use super::{BODY, FRAME_END, FRAME_OVERHEAD_BYTES, HEADER, METHOD};

/// What all messages of one channel to one routing key have in common.
#[derive(Clone, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) mandatory: bool,
    pub(crate) properties: &'a AMQPProperties,
    pub(crate) size_bytes: usize,
}

/// One message's frames, contiguous and ready to send but for the stamp in the body.
#[derive(Debug)]
pub(crate) struct PublishTemplate {
    bytes: Vec<u8>,
    routing_key: Range<usize>,
    stamp: Stamp,
}

/// Where a message carries its time and sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stamp {
    /// The body is shorter than 8 bytes.
    None,
    /// Time alone, at this offset.
    Time(usize),
    /// Time and sequence number, from this offset.
    TimeAndSequence(usize),
}

impl PublishTemplate {
    /// Lays the frames out. The strings must be at most 255 bytes long; `frame_max` is the
    /// negotiated one, and a body that doesn't fit one frame is split.
    pub(crate) fn new(channel: u16, publication: &Publication<'_>, frame_max: usize) -> Self {
        let mut bytes = Vec::with_capacity(publication.size_bytes + 128);
        let mut routing_key = 0..0;
        push_frame(&mut bytes, METHOD, channel, |out| {
            out.extend_from_slice(&[0, 60, 0, 40, 0, 0]);
            push_short_string(out, publication.exchange);
            push_short_string(out, publication.routing_key);
            routing_key = out.len() - publication.routing_key.len()..out.len();
            out.push(u8::from(publication.mandatory));
        });
        push_frame(&mut bytes, HEADER, channel, |out| {
            out.extend_from_slice(&[0, 60, 0, 0]);
            out.extend_from_slice(&(publication.size_bytes as u64).to_be_bytes());
            out.extend_from_slice(&encoded(publication.properties));
        });
        let stamp_at = bytes.len() + super::FRAME_HEAD_BYTES;
        let mut left = publication.size_bytes;
        while left > 0 {
            let part = left.min(frame_max - FRAME_OVERHEAD_BYTES);
            push_frame(&mut bytes, BODY, channel, |out| {
                out.resize(out.len() + part, 0)
            });
            left -= part;
        }
        let stamp = match publication.size_bytes {
            0..8 => Stamp::None,
            8..16 => Stamp::Time(stamp_at),
            16.. => Stamp::TimeAndSequence(stamp_at),
        };
        Self {
            bytes,
            routing_key,
            stamp,
        }
    }

    /// The frames, with zeros for the stamp.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where a message has its routing key.
    pub(crate) fn routing_key(&self) -> Range<usize> {
        self.routing_key.clone()
    }

    /// Where `stamp` writes.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }
}

impl Stamp {
    /// Stamps one copy of the template.
    #[inline]
    pub(crate) fn write(self, message: &mut [u8], time_ns: u64, sequence: u64) {
        match self {
            Self::None => {}
            Self::Time(at) => message[at..at + 8].copy_from_slice(&time_ns.to_be_bytes()),
            Self::TimeAndSequence(at) => {
                let stamp = &mut message[at..at + 16];
                stamp[..8].copy_from_slice(&time_ns.to_be_bytes());
                stamp[8..].copy_from_slice(&sequence.to_be_bytes());
            }
        }
    }
}

/// Appends basic.ack.
#[inline]
pub(crate) fn push_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    push_settlement(out, channel, 80, delivery_tag, u8::from(multiple));
}

/// Appends basic.nack.
#[inline]
pub(crate) fn push_nack(
    out: &mut Vec<u8>,
    channel: u16,
    delivery_tag: u64,
    multiple: bool,
    requeue: bool,
) {
    let bits = u8::from(multiple) | u8::from(requeue) << 1;
    push_settlement(out, channel, 120, delivery_tag, bits);
}

#[inline]
fn push_settlement(out: &mut Vec<u8>, channel: u16, method: u8, delivery_tag: u64, bits: u8) {
    let mut frame = [
        METHOD, 0, 0, 0, 0, 0, 13, 0, 60, 0, method, 0, 0, 0, 0, 0, 0, 0, 0, bits, FRAME_END,
    ];
    frame[1..3].copy_from_slice(&channel.to_be_bytes());
    frame[11..19].copy_from_slice(&delivery_tag.to_be_bytes());
    out.extend_from_slice(&frame);
}

/// Property flags and properties, as a header frame has them.
fn encoded(properties: &AMQPProperties) -> Vec<u8> {
    let encoded = gen_properties(properties)(WriteContext::from(Vec::new()));
    encoded
        .expect("writing to memory cannot fail")
        .into_inner()
        .0
}

fn push_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let size_at = out.len();
    out.extend_from_slice(&[0; 4]);
    payload(out);
    let size = (out.len() - size_at - 4) as u32;
    out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

fn push_short_string(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).expect("options refuse names over 255 bytes");
    out.push(length);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
    use amq_protocol::protocol::{AMQPClass, basic};
    use proptest::prelude::*;

    use super::*;

    fn encoded(frame: &AMQPFrame) -> Vec<u8> {
        gen_frame(frame)(WriteContext::from(Vec::new()))
            .expect("writing to memory cannot fail")
            .into_inner()
            .0
    }

    /// The same message as the crate amq-protocol writes it.
    fn oracle(
        channel: u16,
        publication: &Publication<'_>,
        body: &[u8],
        frame_max: usize,
    ) -> Vec<u8> {
        let publish = basic::Publish {
            exchange: publication.exchange.into(),
            routing_key: publication.routing_key.into(),
            mandatory: publication.mandatory,
            immediate: false,
        };
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: body.len() as u64,
            properties: publication.properties.clone(),
        };
        let method = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        let mut bytes = encoded(&AMQPFrame::Method(channel, method));
        bytes.extend(encoded(&AMQPFrame::Header(channel, header)));
        for part in body.chunks(frame_max - FRAME_OVERHEAD_BYTES) {
            bytes.extend(encoded(&AMQPFrame::Body(channel, part.to_vec())));
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_stamped_template_is_what_amq_protocol_writes(
            channel in 1..2000u16,
            exchange in "[a-z.]{0,20}",
            routing_key in "[a-zé%-]{0,60}",
            (mandatory, persistent) in any::<(bool, bool)>(),
            size_bytes in prop_oneof![0..40usize, 4_000..13_000usize],
            (time_ns, sequence) in any::<(u64, u64)>(),
        ) {
            let frame_max = 4096;
            let mut properties = AMQPProperties::default();
            if persistent {
                properties = properties.with_delivery_mode(2).with_reply_to("all".into());
            }
            let properties = &properties;
            let publication =
                Publication { exchange: &exchange, routing_key: &routing_key, mandatory, properties, size_bytes };
            let mut body = vec![0; size_bytes];
            if size_bytes >= 8 {
                body[..8].copy_from_slice(&time_ns.to_be_bytes());
            }
            if size_bytes >= 16 {
                body[8..16].copy_from_slice(&sequence.to_be_bytes());
            }
            let template = PublishTemplate::new(channel, &publication, frame_max);
            let mut message = template.bytes().to_vec();
            template.stamp().write(&mut message, time_ns, sequence);
            prop_assert_eq!(&message[template.routing_key()], routing_key.as_bytes());
            prop_assert_eq!(message, oracle(channel, &publication, &body, frame_max));
        }

        #[test]
        fn acks_are_what_amq_protocol_writes(channel: u16, delivery_tag: u64, multiple: bool) {
            let mut out = Vec::new();
            push_ack(&mut out, channel, delivery_tag, multiple);
            let method = AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }));
            prop_assert_eq!(out, encoded(&AMQPFrame::Method(channel, method)));
        }

        #[test]
        fn nacks_are_what_amq_protocol_writes(
            channel: u16,
            delivery_tag: u64,
            (multiple, requeue) in any::<(bool, bool)>(),
        ) {
            let mut out = Vec::new();
            push_nack(&mut out, channel, delivery_tag, multiple, requeue);
            let nack = basic::Nack { delivery_tag, multiple, requeue };
            let method = AMQPClass::Basic(basic::AMQPMethod::Nack(nack));
            prop_assert_eq!(out, encoded(&AMQPFrame::Method(channel, method)));
        }
    }
}
