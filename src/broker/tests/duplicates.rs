//! A queue that takes no message twice drops one whose like isn't on the disk yet: its confirm waits for that.

use super::*;
use crate::log::DiskRequest;

impl World {
    /// The disk does all that it is asked for, until nothing is left to be done.
    fn use_disk(&mut self) {
        let mut is_busy = true;
        while is_busy {
            self.run();
            let core = &mut self.cores[0];
            let commit = core.next_commit(Time(1));
            if let Some((log, size)) = commit {
                core.commit(Time(1), log, &mut vec![0; size]);
                core.committed(Time(1), log);
            }
            let request = core.next_disk_request();
            if let Some((log, DiskRequest::Prepare { file, .. })) = request {
                core.prepared(Time(1), log, file, true);
            }
            is_busy = request.is_some() || commit.is_some();
            self.turn(0);
        }
    }

    fn publish_persistent(&mut self, client: usize, queue: &str, known_by: i64) {
        let publish = basic::Publish {
            routing_key: queue.into(),
            ..basic::Publish::default()
        };
        // Delivery mode 2.
        let properties = with_header(&[0x10, 0, 2], "x-deduplication-header", known_by);
        self.publish_with(client, publish, &properties, b"x");
    }
}

#[test]
fn the_confirm_of_a_duplicate_waits_until_its_like_is_durable() {
    let mut world = World::new(1, 1);
    let [hasty, careful] = [(); 2].map(|()| world.client(0));
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-deduplication".into(), AMQPValue::Boolean(true));
    let declare = queue::AMQPMethod::Declare(queue::Declare {
        queue: "q".into(),
        durable: true,
        arguments,
        ..queue::Declare::default()
    });
    let select = confirm::AMQPMethod::Select(confirm::Select::default());
    world.call(hasty, &AMQPClass::Queue(declare));
    world.call(careful, &AMQPClass::Confirm(select));
    world.use_disk();
    world.publish_persistent(hasty, "q", 1);
    world.run();
    world.publish_persistent(careful, "q", 1);
    world.run();
    assert_eq!(
        acknowledged_upto(&world.heard(careful)),
        0,
        "it could be lost"
    );
    world.use_disk();
    assert_eq!(acknowledged_upto(&world.heard(careful)), 1);
}
