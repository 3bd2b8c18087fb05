//! A disk that fails while publishers are at work: the broker says so and ends, confirms nothing more, and what it had
//! confirmed is there when the disk works again.
//!
//! ext4's own shutdown makes every operation end in EIO, and forgets what it had in memory only. Where there can't be a
//! file system for it, this test says so and passes.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::thread;

use crate::kill::{drain, number_from};
use crate::ledger::{Faults, Ledger};
use crate::lives::durable_queue;
use crate::load::Publisher;
use crate::small_disk::SmallDisk;

const QUEUE: &str = "queue";
/// So many confirms, times the number of the cycle, and the disk fails: in the first segment, and after it.
const CONFIRMS: u32 = 1500;

#[test]
fn a_failing_disk_ends_the_broker_and_nothing_that_was_confirmed_is_lost() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let home = disk.home();
    let cycles = number_from("LEVERET_DISK_FAILURES").unwrap_or(3) as u32;
    let (mut ledger, mut next, mut confirms) = (Ledger::new(1), 0, 0);
    for cycle in 1..=cycles {
        let cores = 1 + cycle as usize % 2;
        let broker = home.start(cores);
        durable_queue(&broker.connect().channel(), QUEUE);
        let publisher = Publisher::new(broker.address, 0, next, &[("", QUEUE)]);
        let (tell, progress) = channel();
        let published = thread::spawn(move || {
            publisher.run(&AtomicBool::new(false), |confirmed| {
                // After the failure nobody listens.
                let _ = tell.send(confirmed);
            })
        });
        let enough = CONFIRMS * (1 + cycle % 8);
        let mut sums = progress.iter().scan(0, |sum, confirmed| {
            *sum += confirmed;
            Some(*sum)
        });
        if !sums.any(|sum| sum >= enough) {
            let end = published.join().expect("it says why it ended").end;
            panic!(
                "cycle {cycle}: the disk works until then: {end}\n{}",
                broker.process().tail()
            );
        }
        disk.fail();
        assert_eq!(broker.process().wait().code(), Some(1));
        let reason = "Input/output error (os error 5): nothing more is confirmed, the broker stops";
        broker.process().log_line_with(reason);
        let published = published.join().expect("it has said why it ended");
        disk.mend();

        for (id, confirmed) in published.messages() {
            ledger.published(id, confirmed);
            confirms += u64::from(confirmed);
        }
        next += published.confirmed.len() as u32;
        ledger.life_over(true);
        // The disk may be full by now, and queues that move to another core need room.
        let broker = home.start(cores);
        drain(&broker, QUEUE, &mut ledger, true);
        broker.stop();
        ledger.life_over(true);
    }
    println!(
        "the disk failed {cycles} times | {confirms} confirms | {}",
        ledger.faults
    );
    assert_eq!(ledger.faults, Faults::default());
}
