//! Heartbeats: sent when idle, expected of the client, off when the client says so.

use crate::support::PATIENCE;
use crate::support::broker::Broker;
use crate::support::cores::on_each_core_count;
use crate::support::login::Login;
use crate::support::raw::{Heard, Raw};
use crate::support::wire;
use amq_protocol::protocol::{channel, connection};
use std::time::{Duration, Instant};

on_each_core_count! {
    fn an_idle_broker_sends_heartbeats_twice_per_interval(broker: &Broker) {
        let mut raw = heartbeating(broker);
        let start = Instant::now();
        for _ in 0..4 {
            expect_heartbeat(&mut raw);
            // Ours keep the connection alive.
            raw.send(&wire::heartbeat());
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1200), "four heartbeats at interval 1 s came within {took:?}");
        // A loaded machine is late, an idle one isn't: the mean is half a second.
        assert!(took < Duration::from_secs(6), "four heartbeats at interval 1 s took {took:?}");
    }

    fn a_silent_client_is_cut(broker: &Broker) {
        let mut raw = heartbeating(broker);
        let start = Instant::now();
        raw.until_end_answering_close();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(900), "cut after {took:?}, before an interval was over");
    }

    fn any_frame_counts_as_a_sign_of_life(broker: &Broker) {
        let mut raw = heartbeating(broker);
        for id in 1..=6 {
            // Half a second passes with each heartbeat, three intervals in all.
            expect_heartbeat(&mut raw);
            raw.send_method(id, channel::Open {});
            raw.expect::<channel::OpenOk>(id);
        }
    }

    fn a_client_may_do_without(broker: &Broker) {
        let mut quiet = Login { heartbeat: 0, ..Login::default() }.raw(broker.address);
        let mut timed = heartbeating(broker);
        // The cut of the other shows that two intervals have passed.
        timed.until_end_answering_close();
        quiet.send_method(1, channel::Open {});
        quiet.expect::<channel::OpenOk>(1);
    }

    fn a_heartbeat_on_another_channel_is_no_heartbeat(broker: &Broker) {
        if broker.is_reference() {
            // RabbitMQ doesn't look at the channel. Leveret may answer 503 or do the same; it must live on.
            return;
        }
        let mut raw = Login::default().raw(broker.address);
        raw.send(&wire::frame(wire::HEARTBEAT, 1, &[]));
        raw.send_method(0, connection::Close { reply_code: 200, ..Default::default() });
        raw.finish_sending();
        raw.until_end_answering_close();
        broker.connect().is_alive();
    }
}

/// A connection with an interval of one second.
fn heartbeating(broker: &Broker) -> Raw {
    Login {
        heartbeat: 1,
        ..Login::default()
    }
    .raw(broker.address)
}

fn expect_heartbeat(raw: &mut Raw) {
    match raw.hear(PATIENCE) {
        Heard::Frame(frame) => {
            let heartbeat = (frame.kind, frame.channel, frame.payload.len());
            assert_eq!(
                heartbeat,
                (wire::HEARTBEAT, 0, 0),
                "a heartbeat is empty and on channel 0"
            );
        }
        other => panic!("expected a heartbeat, got {other:?}"),
    }
}
