//! A million messages through the templates and the scanner, in memory: none is missed, and the speed
//! is printed by `cargo test --release -p leveret-loadgen speed -- --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use amq_protocol::protocol::basic::AMQPProperties;

use super::*;
use crate::output::{BULK_BYTES, Output};

/// Messages to time.
const MESSAGES: usize = 1_000_000;

#[derive(Default)]
struct Acks(Vec<u8>, u64);

impl FrameSink for Acks {
    fn delivered(&mut self, channel: u16, delivery_tag: u64, time_ns: u64) {
        self.1 = self.1.max(time_ns);
        push_ack(&mut self.0, channel, delivery_tag, false);
    }
    fn returned(&mut self, _: u16) {}
    fn settled(&mut self, _: u16, _: u64, _: bool, _: bool) {}
    fn method(&mut self, _: u16, _: &[u8]) {}
}

fn template() -> PublishTemplate {
    let properties = AMQPProperties::default();
    let publication = Publication {
        exchange: "",
        routing_key: "leveret-loadgen",
        mandatory: false,
        properties: &properties,
        size_bytes: 16,
    };
    PublishTemplate::new(1, &publication, 131_072)
}

fn report(what: &str, begun: Instant) {
    println!(
        "{what}: {:.1} M messages/s",
        MESSAGES as f64 / begun.elapsed().as_secs_f64() / 1e6
    );
}

#[test]
fn every_message_of_a_fill_is_stamped() {
    let template = template();
    let batch = BULK_BYTES / template.bytes().len();
    let mut output = Output::default();
    let begun = Instant::now();
    for fill in 0..MESSAGES / batch {
        let messages = output.lay((1, 0), &template, batch);
        for (message, sequence) in messages
            .chunks_exact_mut(template.bytes().len())
            .zip(0u64..)
        {
            template.stamp().write(message, fill as u64, sequence);
        }
        let last = &messages[messages.len() - 17..messages.len() - 1];
        let stamped = [
            (fill as u64).to_be_bytes(),
            (batch as u64 - 1).to_be_bytes(),
        ];
        assert_eq!(last, stamped.as_flattened(), "the body: time and number");
        black_box(&mut output);
    }
    report("stamp 16 B publishes", begun);
}

#[test]
fn every_delivery_is_scanned() {
    use amq_protocol::protocol::basic;
    let mut stream = Vec::new();
    let deliver = basic::Deliver {
        consumer_tag: "ctag-1".into(),
        delivery_tag: 7,
        redelivered: false,
        exchange: "".into(),
        routing_key: "leveret-loadgen".into(),
    };
    push_method(
        &mut stream,
        1,
        AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)),
    );
    let template = template();
    // The content of a publish is that of a delivery: cut the method off.
    let method_bytes = complete_frame(template.bytes()).expect("a template is whole");
    stream.extend_from_slice(&template.bytes()[method_bytes..]);
    let batch = (256 << 10) / stream.len();
    let stream = stream.repeat(batch);
    let mut scanner = Scanner::new(1, 131_072);
    let mut acks = Acks::default();
    let begun = Instant::now();
    for _ in 0..MESSAGES / batch {
        let (consumed, delivered) = scanner
            .scan(black_box(&stream), u64::MAX, &mut acks)
            .expect("a valid stream");
        assert_eq!((consumed, delivered), (stream.len(), batch as u64));
        black_box(&mut acks).0.clear();
    }
    report("scan 16 B deliveries, and encode an ack for each", begun);
}
