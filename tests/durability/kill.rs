//! `kill -9` under full confirm load, again and again on the same data directory and port.
//!
//! A cycle: publishers fill four queues with confirms, consumers empty two of them, the process dies 50 to 500 ms
//! after the first confirm, and the next one's queues are read to their end and compared with the ledger. One drain in
//! four gives everything back, so that some messages are recovered several times.
//!
//! `LEVERET_KILL_CYCLES` (10) says how often, `LEVERET_KILL_SEED` repeats a run's choices as far as time allows.

use crate::ledger::{Faults, Ledger, Source};
use crate::lives::{durable_exchange, durable_queue, queue_is_there};
use crate::load::{Consumer, Published, Publisher, Receipt, Route, mix};
use crate::support::broker::Broker;
use crate::support::home::Home;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const PUBLISHERS: usize = 4;
const QUEUES: [&str; 4] = ["consumed one", "consumed two", "kept one", "kept two"];
/// How many of the queues have a consumer under load: the first ones.
const CONSUMED: usize = 2;
const EXCHANGE: &str = "all";
/// One message in so many goes to all queues, the others to one.
const ROUTES: u32 = 16;
const PREFETCH: u16 = 2000;
/// Deliveries that a consumer never acknowledges, at the end of what it has.
const UNACKNOWLEDGED: u64 = 64;
/// How long a sync may take on a disk that others use as well.
const FIRST_CONFIRM: Duration = Duration::from_secs(30);

#[test]
fn kills_under_load_on_1_core() {
    kill_again_and_again(1);
}

#[test]
fn kills_under_load_on_2_cores() {
    kill_again_and_again(2);
}

/// What a run adds up to.
#[derive(Default)]
struct Totals {
    cycles: u64,
    published: u64,
    confirms: u64,
    consumed: u64,
    recovered: u64,
    missing_queues: u64,
    failed_starts: u64,
    under_load: Duration,
}

struct Run {
    home: Home,
    listen: String,
    cores: usize,
    chance: Chance,
    ledgers: Vec<Ledger>,
    next_sequences: [u32; PUBLISHERS],
    totals: Totals,
}

fn kill_again_and_again(cores: usize) {
    // One run at a time: two would halve each other's load, and might pick the same port.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cycles = number_from("LEVERET_KILL_CYCLES").unwrap_or(10);
    let seed =
        number_from("LEVERET_KILL_SEED").unwrap_or_else(|| mix(u64::from(std::process::id())));
    println!("{cycles} cycles with {cores} cores: LEVERET_KILL_SEED={seed}");
    let mut run = Run {
        home: Home::new(""),
        listen: free_address(),
        cores,
        chance: Chance(seed),
        ledgers: QUEUES.map(|_| Ledger::new(PUBLISHERS)).into(),
        next_sequences: [0; PUBLISHERS],
        totals: Totals::default(),
    };
    for _ in 0..cycles {
        if !run.cycle() {
            break;
        }
    }
    if run.totals.failed_starts == 0 {
        run.last_life();
    }
    let faults = run.report(seed);
    let Totals {
        missing_queues,
        failed_starts,
        confirms,
        ..
    } = run.totals;
    assert!(confirms > 0, "nothing was confirmed: there was no load");
    assert_eq!(
        (faults, missing_queues, failed_starts),
        (Faults::default(), 0, 0),
        "LEVERET_KILL_SEED={seed}"
    );
}

impl Run {
    /// One life, from start to kill; false if it didn't start.
    fn cycle(&mut self) -> bool {
        let Some(broker) = self.start() else {
            return false;
        };
        self.check_queues(&broker);
        if self.totals.cycles > 0 {
            let acknowledge = self.chance.below(4) != 0;
            self.drain(&broker, acknowledge);
        }
        let delay = Duration::from_millis(50 + self.chance.below(451));
        self.load_and_kill(broker, delay);
        self.totals.cycles += 1;
        true
    }

    /// After the last kill: what is left comes once more, and never again after an orderly stop.
    fn last_life(&mut self) {
        let Some(broker) = self.start() else {
            return;
        };
        self.check_queues(&broker);
        self.drain(&broker, true);
        broker.stop();
        for ledger in &mut self.ledgers {
            ledger.life_over(true);
        }
        if let Some(broker) = self.start() {
            self.check_queues(&broker);
            self.drain(&broker, true);
            broker.stop();
        }
    }

    fn start(&mut self) -> Option<Broker> {
        match self.home.try_start(&self.listen, self.cores) {
            Ok(broker) => Some(broker),
            Err(error) => {
                println!("life {} did not start: {error}", self.totals.cycles);
                self.totals.failed_starts += 1;
                None
            }
        }
    }

    /// Declares what should be there, and counts what wasn't.
    fn check_queues(&mut self, broker: &Broker) {
        let connection = broker.connect();
        let missing = QUEUES.map(|queue| !queue_is_there(&connection, queue));
        if self.totals.cycles > 0 {
            self.totals.missing_queues += missing.map(u64::from).iter().sum::<u64>();
        }
        let channel = connection.channel();
        durable_exchange(&channel, EXCHANGE, "fanout");
        for (queue, is_missing) in QUEUES.into_iter().zip(missing) {
            durable_queue(&channel, queue);
            // A binding is bound once: if it doesn't come back, messages to all queues are lost.
            if is_missing {
                channel.bind(queue, EXCHANGE, "");
            }
        }
        connection.close();
    }

    /// Reads each queue to its end; all of it is then acknowledged, or given back.
    fn drain(&mut self, broker: &Broker, acknowledge: bool) {
        for (queue, ledger) in QUEUES.into_iter().zip(&mut self.ledgers) {
            self.totals.recovered += drain(broker, queue, ledger, acknowledge);
        }
    }

    fn load_and_kill(&mut self, broker: Broker, delay: Duration) {
        let address = broker.address;
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let first = self.next_sequences[publisher];
                Publisher::new(address, publisher as u16, first, &ROUTE_TABLE)
            })
            .collect();
        let consumers = QUEUES[..CONSUMED].iter();
        let consumers: Vec<_> = consumers
            .map(|queue| Consumer::new(address, queue, PREFETCH))
            .collect();
        let (tell, ended) = channel();
        let (tell_confirmed, confirmed) = channel();
        let start = Instant::now();
        let publishers = publishers.into_iter().map(|publisher| {
            let (tell, tell_confirmed) = (tell.clone(), tell_confirmed.clone());
            thread::spawn(move || {
                let confirmed = |count| {
                    // Nobody listens once the process was killed.
                    let _ = tell_confirmed.send(count);
                };
                let published = publisher.run(&AtomicBool::new(false), confirmed);
                let _ = tell.send(published.end.clone());
                published
            })
        });
        let publishers: Vec<_> = publishers.collect();
        let consumers = consumers.into_iter().map(|consumer| {
            let tell = tell.clone();
            thread::spawn(move || consume(consumer, &tell))
        });
        let consumers: Vec<_> = consumers.collect();
        // From the first confirm on the load is full, however slow the disk: a kill always has something to lose.
        confirmed
            .recv_timeout(FIRST_CONFIRM)
            .expect("a message is confirmed");
        let too_early = ended.recv_timeout(delay);
        assert!(too_early.is_err(), "before the kill: {too_early:?}");
        drop((ended, confirmed));
        self.totals.under_load += start.elapsed();
        broker.kill();
        let mut was_confirmed = [false; QUEUES.len()];
        for (publisher, next) in publishers.into_iter().zip(&mut self.next_sequences) {
            let published = publisher.join().expect("it has said why it ended");
            *next += published.confirmed.len() as u32;
            enter(&mut self.ledgers, &published, &mut was_confirmed);
            self.totals.published += published.confirmed.len() as u64;
            let confirmed = published.confirmed.iter().filter(|confirmed| **confirmed);
            self.totals.confirms += confirmed.count() as u64;
        }
        for (consumer, ledger) in consumers.into_iter().zip(&mut self.ledgers) {
            let (receipts, acknowledged) = consumer.join().expect("it has said why it ended");
            self.totals.consumed += receipts.len() as u64;
            for (number, receipt) in (1..).zip(receipts) {
                ledger.delivered(receipt, Source::Live);
                if let Some(id) = receipt.id.filter(|_| number <= acknowledged) {
                    ledger.acknowledged(id);
                }
            }
        }
        for (ledger, was_confirmed) in self.ledgers.iter_mut().zip(was_confirmed) {
            ledger.life_over(was_confirmed);
        }
    }

    /// Prints the table's line and adds up the faults.
    fn report(&self, seed: u64) -> Faults {
        let mut sum = Faults::default();
        for Ledger { faults, .. } in &self.ledgers {
            sum.lost += faults.lost;
            sum.corrupt += faults.corrupt;
            sum.unknown += faults.unknown;
            sum.resurrected += faults.resurrected;
            sum.doubled += faults.doubled;
            sum.misplaced += faults.misplaced;
            sum.unflagged += faults.unflagged;
        }
        let Totals {
            cycles,
            published,
            confirms,
            consumed,
            recovered,
            missing_queues,
            failed_starts,
            under_load,
        } = self.totals;
        let rate = confirms as f64 / under_load.as_secs_f64().max(0.001);
        println!(
            "cores {} | cycles {cycles} | published {published} | confirms {confirms} ({rate:.0}/s) | \
             consumed {consumed} | recovered {recovered} | {sum} | missing queues {missing_queues} | \
             failed starts {failed_starts} | seed {seed}",
            self.cores
        );
        sum
    }
}

/// Exchange and routing key by sequence, modulo their number.
static ROUTE_TABLE: [Route<'static>; ROUTES as usize] = {
    let mut routes = [(EXCHANGE, ""); ROUTES as usize];
    let mut number = 1;
    while number < routes.len() {
        routes[number] = ("", QUEUES[number % QUEUES.len()]);
        number += 1;
    }
    routes
};

/// The queues that a message goes to.
fn targets(sequence: u32) -> std::ops::Range<usize> {
    if sequence.is_multiple_of(ROUTES) {
        0..QUEUES.len()
    } else {
        let queue = (sequence % ROUTES) as usize % QUEUES.len();
        queue..queue + 1
    }
}

/// Reads a queue to its end; all of it is then acknowledged, or given back. How much it was.
pub(crate) fn drain(broker: &Broker, queue: &str, ledger: &mut Ledger, acknowledge: bool) -> u64 {
    let asking = broker.connect();
    let count = asking.channel().passive(queue).message_count;
    let mut receipts = Vec::with_capacity(count as usize);
    let mut consumer = Consumer::new(broker.address, queue, 0);
    while receipts.len() < count as usize {
        consumer
            .receive(&mut receipts)
            .expect("what the queue counted is delivered");
    }
    for receipt in receipts {
        ledger.delivered(receipt, Source::Recovered);
    }
    if acknowledge && count > 0 {
        let last = consumer.received;
        consumer.ack_up_to(last).expect("the broker takes acks");
    }
    consumer.close().expect("the broker says good-bye");
    if acknowledge {
        let left = asking.channel().passive(queue).message_count;
        assert_eq!(left, 0, "`{queue}` held more than it counted");
    }
    ledger.drained(acknowledge);
    asking.close();
    u64::from(count)
}

/// Writes down what a publisher did.
fn enter(ledgers: &mut [Ledger], published: &Published, was_confirmed: &mut [bool]) {
    for (id, confirmed) in published.messages() {
        for queue in targets(id.sequence) {
            ledgers[queue].published(id, confirmed);
            was_confirmed[queue] |= confirmed;
        }
    }
}

/// Consumes until the connection ends; returns what came, and how much of it was acknowledged.
fn consume(mut consumer: Consumer, tell: &Sender<String>) -> (Vec<Receipt>, u64) {
    let mut receipts = vec![];
    let mut acknowledged = 0;
    let error = loop {
        if let Err(error) = consumer.receive(&mut receipts) {
            break error;
        }
        let up_to = consumer.received.saturating_sub(UNACKNOWLEDGED);
        if up_to > acknowledged {
            acknowledged = up_to;
            if let Err(error) = consumer.ack_up_to(up_to) {
                break error;
            }
        }
    };
    // Nobody listens once the process was killed.
    let _ = tell.send(format!("a consumer: {error}"));
    (receipts, acknowledged)
}

/// A number that the environment names, if it does.
pub(crate) fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

/// An address below the ports that the kernel gives to clients, so that none of them takes it between two lives.
fn free_address() -> String {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let mut addresses = (first..32_000).map(|port| format!("127.0.0.1:{port}"));
    addresses
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("one of thousands of ports is free")
}

/// The choices of a run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % bound
    }
}
