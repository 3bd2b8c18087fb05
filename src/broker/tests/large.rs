//! Messages that are larger than most.

use super::*;
use crate::base::limits;

#[test]
fn a_message_may_be_as_large_as_the_operator_says_however_large_that_is() {
    let largest = limits::CONTENT_BYTES_MAX + 1;
    let settings = Settings {
        message_bytes_max: largest as u64,
        ..Settings::default()
    };
    let mut world = World::with_settings(1, 1, settings);
    let client = world.client(0);
    world.call(client, &declare("q"));
    world.publish(client, "q", b"");
    world.run();
    world.heard(client);
    // The same by hand, since byte by byte it would take long.
    let mut publish = Vec::new();
    let method = basic::Publish {
        routing_key: "q".into(),
        ..basic::Publish::default()
    };
    let class = AMQPClass::Basic(basic::AMQPMethod::Publish(method));
    method::encode(&mut publish, 1, &class);
    content::write_header(&mut publish, 1, largest as u64, &[0, 0]);
    let mut piece = Vec::new();
    content::write_body(&mut piece, 1, &[7; 4088], 4088);
    let mut last = Vec::new();
    content::write_body(&mut last, 1, &vec![7; largest % 4088], 4088);
    let session = world.clients[client].session;
    world.cores[0].receive(Time(1), session, &publish);
    for _ in 0..largest / 4088 {
        world.cores[0].receive(Time(1), session, &piece);
    }
    world.cores[0].receive(Time(1), session, &last);
    world.turn(0);
    world.call(client, &declare("q"));
    world.run();
    let frames = world.heard(client);
    let [AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)))] = &frames[..]
    else {
        panic!("the connection goes on: {frames:?}")
    };
    assert_eq!(ok.message_count, 2);
}
