//! Dead letters of a queue that keeps them until they are taken (`x-dead-letter-strategy: at-least-once`), with disks
//! that do what they are asked for.

use std::time::Duration;

use serde_json::json;

use super::policies::{carry_out, clear, set};
use super::*;
use crate::base::limits::LETTER_RETRY;
use crate::log::{DiskRequest, FileNumber, Image, LogName, ReadError};
use crate::shard::Recovered;

/// What has been written: by core and log.
type Files = BTreeMap<(usize, LogName, FileNumber), Vec<u8>>;

/// One core's log.
struct OneLog<'a>(&'a Files, usize, LogName);

impl Image for OneLog<'_> {
    fn files(&self) -> Vec<(FileNumber, u64)> {
        let files = self.0.iter();
        let own = files.filter(|((core, log, _), _)| (*core, *log) == (self.1, self.2));
        own.map(|((.., file), bytes)| (*file, bytes.len() as u64))
            .collect()
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let bytes = &self.0[&(self.1, self.2, file)][offset as usize..];
        buffer.copy_from_slice(&bytes[..buffer.len()]);
        Ok(())
    }
}

/// A world with disks. One client on the first core, one on the last.
struct Site {
    world: World,
    files: Files,
    now: Time,
}

const CORES: [u16; 2] = [1, 2];
/// Declares what letters go to.
const UNDERTAKER: usize = 0;
/// Declares the queue where messages die.
const OWNER: usize = 1;

impl Site {
    fn new(cores: u16) -> Self {
        let mut site = Self {
            world: World::new(cores, 5),
            files: Files::new(),
            now: Time(1),
        };
        site.connect();
        site
    }

    fn connect(&mut self) {
        self.world.client(0);
        self.world.client(self.world.cores.len() - 1);
        self.settle();
    }

    /// A stop in order, which waits for all that a stop waits for, and the next start.
    fn restart(self) -> Self {
        let Self {
            mut world,
            files,
            now,
        } = self;
        world.cut_all_and_check_nothing_is_left();
        let cores = world.cores.len();
        let mut site = Self { world, files, now };
        assert!(!site.has_letters());
        for core in &mut site.world.cores {
            core.shard.close_letters();
            core.finish();
        }
        site.settle();
        assert!(site.world.cores.iter().all(Core::is_quiet));
        let read = RecoveredDefinitions::read(&mut OneLog(&site.files, 0, LogName::Definitions), 7);
        let mut log = Some(read.expect("the log is whole"));
        let definitions = log.as_ref().map(RecoveredDefinitions::definitions);
        let definitions = definitions.expect("it was read");
        let mut world = World::new(cores as u16, 6);
        for core in 0..cores {
            let read = Recovered::read(&mut OneLog(&site.files, core, LogName::Messages));
            let stored = Stored {
                definitions: &definitions,
                definition_log: log.take(),
                messages: read.expect("the log is whole"),
            };
            let id = CoreId(core as u16);
            world.cores[core] = Core::new(id, cores as u16, Arc::default(), 7, stored);
        }
        site.world = world;
        site.connect();
        site
    }

    /// Everything is done that can be done without waiting.
    fn settle(&mut self) {
        // What waits for company before it is written is due.
        let soon = self.now + Duration::from_secs(1);
        let mut is_busy = true;
        while is_busy {
            self.world.run();
            is_busy = false;
            for index in 0..self.world.cores.len() {
                is_busy |= self.use_disk(index, soon);
                self.world.turn(index);
            }
        }
    }

    /// Whether there was something to do for the disk of a core.
    fn use_disk(&mut self, index: usize, now: Time) -> bool {
        let core = &mut self.world.cores[index];
        if let Some((log, size)) = core.next_commit(now) {
            let mut buffer = vec![0; size];
            let placed = core.commit(now, log, &mut buffer).expect("it was due");
            let file = self.files.get_mut(&(index, log, placed.file));
            let at = placed.offset as usize;
            let place = &mut file.expect("it was made")[at..at + placed.len];
            place.copy_from_slice(&buffer[..placed.len]);
            core.committed(now, log);
            return true;
        }
        let Some((log, request)) = core.next_disk_request() else {
            return false;
        };
        match request {
            DiskRequest::Prepare { file, size } => {
                self.files
                    .insert((index, log, file), vec![0; size as usize]);
                core.prepared(now, log, file, true);
            }
            DiskRequest::Read {
                read,
                file,
                offset,
                len,
            } => {
                let at = offset as usize;
                let bytes = &self.files[&(index, log, file)][at..at + len];
                core.read_done(now, log, read, Some(bytes));
            }
            DiskRequest::Remove { .. } | DiskRequest::Quarantine { .. } => {}
        }
        true
    }

    /// So long after the last letters were tried.
    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        for core in 0..self.world.cores.len() {
            self.world.cores[core].expire(self.now);
            self.world.turn(core);
        }
        self.settle();
    }

    fn call(&mut self, client: usize, class: &AMQPClass) -> Vec<AMQPFrame> {
        self.world.heard(client);
        self.world.call(client, class);
        self.settle();
        self.world.heard(client)
    }

    fn declare(&mut self, client: usize, name: &str, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let declare = queue::AMQPMethod::Declare(queue::Declare {
            queue: name.into(),
            durable: true,
            arguments: table,
            ..queue::Declare::default()
        });
        self.call(client, &AMQPClass::Queue(declare));
    }

    /// A queue `grave` that takes one message and then no more.
    fn declare_narrow_grave(&mut self) {
        let narrow = [
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-overflow", text("reject-publish")),
        ];
        self.declare(UNDERTAKER, "grave", &narrow);
    }

    fn bind(&mut self, name: &str) {
        let bind = queue::AMQPMethod::Bind(queue::Bind {
            queue: name.into(),
            exchange: "dlx".into(),
            ..queue::Bind::default()
        });
        self.call(UNDERTAKER, &AMQPClass::Queue(bind));
    }

    /// The exchange `dlx`.
    fn declare_exchange(&mut self) {
        let exchange = exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: "dlx".into(),
            kind: "fanout".into(),
            durable: true,
            ..exchange::Declare::default()
        });
        self.call(UNDERTAKER, &AMQPClass::Exchange(exchange));
    }

    fn publish(&mut self, name: &str, persistent: bool, number: u32) {
        let publish = basic::Publish {
            routing_key: name.into(),
            ..basic::Publish::default()
        };
        let properties: &[u8] = match persistent {
            true => &[0x10, 0, 2],
            false => &[0, 0],
        };
        self.world
            .publish_with(OWNER, publish, properties, &number.to_le_bytes());
        self.settle();
    }

    /// The numbers of all messages that a queue gives one after the other.
    fn drain(&mut self, client: usize, name: &str, no_ack: bool) -> Vec<u32> {
        let mut numbers = Vec::new();
        loop {
            let get = basic::AMQPMethod::Get(basic::Get {
                queue: name.into(),
                no_ack,
            });
            let frames = self.call(client, &AMQPClass::Basic(get));
            let body = frames.iter().find_map(|frame| match frame {
                AMQPFrame::Body(_, bytes) => bytes.first_chunk(),
                _ => None,
            });
            let Some(body) = body else {
                return numbers;
            };
            numbers.push(u32::from_le_bytes(*body));
        }
    }

    /// What has come to rest in a queue, which is empty then.
    fn exhume(&mut self, name: &str) -> Vec<u32> {
        self.drain(UNDERTAKER, name, true)
    }

    /// So many messages die in `q`.
    fn kill(&mut self, persistent: bool, messages: u32) {
        for number in 0..messages {
            self.publish("q", persistent, number);
        }
        assert_eq!(self.drain(OWNER, "q", false).len(), messages as usize);
        let reject = basic::AMQPMethod::Nack(basic::Nack {
            multiple: true,
            requeue: false,
            ..basic::Nack::default()
        });
        self.call(OWNER, &AMQPClass::Basic(reject));
    }

    /// Whether a stop would wait for letters.
    fn has_letters(&self) -> bool {
        self.world.cores.iter().any(Core::has_letters)
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A queue that keeps its dead letters, which go to `exchange` with the key `grave`.
fn keeping(exchange: &str) -> Vec<(&'static str, AMQPValue)> {
    let strategy = ("x-dead-letter-strategy", text("at-least-once"));
    let mut arguments = trying(exchange);
    arguments.push(strategy);
    arguments
}

/// The same, but what nobody takes is dropped.
fn trying(exchange: &str) -> Vec<(&'static str, AMQPValue)> {
    vec![
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-routing-key", text("grave")),
    ]
}

#[test]
fn letters_that_a_full_queue_refuses_come_one_after_the_other_as_it_is_drained() {
    for (cores, persistent) in CORES
        .into_iter()
        .zip([true, false])
        .chain([(1, false), (2, true)])
    {
        let mut site = Site::new(cores);
        site.declare_narrow_grave();
        site.declare(OWNER, "q", &keeping(""));
        site.kill(persistent, 3);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY / 2);
        assert!(site.exhume("grave").is_empty(), "it isn't time yet");
        site.pass(LETTER_RETRY / 2);
        assert_eq!(site.exhume("grave"), [1]);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [2]);
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty(), "none comes twice");
        assert!(site.drain(OWNER, "q", true).is_empty());
    }
}

#[test]
fn a_letter_waits_for_its_exchange_and_for_a_queue_there() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(UNDERTAKER, "grave", &[]);
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 2);
        site.pass(LETTER_RETRY);
        site.declare_exchange();
        site.pass(LETTER_RETRY);
        site.bind("grave");
        assert!(site.exhume("grave").is_empty());
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [0, 1]);
    }
}

#[test]
fn who_has_taken_a_letter_gets_it_no_second_time() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare_exchange();
        site.declare_narrow_grave();
        site.declare(OWNER, "wide", &[]);
        site.bind("grave");
        site.bind("wide");
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 3);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [1]);
        assert_eq!(site.exhume("wide"), [0, 1, 2]);
    }
}

#[test]
fn a_stop_doesnt_wait_for_letters_that_nobody_takes_and_they_are_in_their_queue_again() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 2);
        site.pass(LETTER_RETRY);
        let mut site = site.restart();
        site.declare_exchange();
        site.declare(UNDERTAKER, "grave", &[]);
        site.bind("grave");
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty());
        assert_eq!(site.drain(OWNER, "q", true), [0, 1]);
    }
}

#[test]
fn letters_of_which_it_is_time_while_the_broker_stops_stay_where_they_are() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(OWNER, "q", &keeping("dlx"));
        site.kill(true, 2);
        site.declare_exchange();
        site.declare(UNDERTAKER, "grave", &[]);
        site.bind("grave");
        for core in &mut site.world.cores {
            core.shard.close_letters();
        }
        site.pass(LETTER_RETRY);
        assert!(!site.has_letters());
        assert!(site.exhume("grave").is_empty());
    }
}

#[test]
fn a_letter_that_needs_nobody_to_take_it_is_dropped() {
    let over = |arguments: &mut Vec<(&str, AMQPValue)>| arguments[1].1 = text("drop-head");
    let mut dropping = keeping("");
    over(&mut dropping);
    for (cores, arguments) in CORES.into_iter().zip([trying(""), dropping]) {
        let mut site = Site::new(cores);
        site.declare_narrow_grave();
        site.declare(OWNER, "q", &arguments);
        site.kill(true, 3);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty());
    }
}

#[test]
fn letters_that_nobody_takes_count_where_their_queue_is_limited() {
    for cores in CORES {
        let mut site = Site::new(cores);
        let mut arguments = keeping("dlx");
        arguments.push(("x-max-length", AMQPValue::LongInt(2)));
        site.declare(OWNER, "q", &arguments);
        site.kill(false, 1);
        for number in 10..13 {
            site.publish("q", true, number);
        }
        assert_eq!(site.drain(OWNER, "q", true), [10]);
        site.declare_exchange();
        site.declare(UNDERTAKER, "grave", &[]);
        site.bind("grave");
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [0]);
        for number in 20..23 {
            site.publish("q", true, number);
        }
        assert_eq!(site.drain(OWNER, "q", true), [20, 21]);
    }
}

#[test]
fn letters_are_dropped_when_a_policy_says_no_more_that_they_stay() {
    for cores in CORES {
        let mut site = Site::new(cores);
        let mut arguments = trying("");
        arguments.truncate(2);
        site.declare_narrow_grave();
        site.declare(OWNER, "q", &arguments);
        let policy = json!({
            "dead-letter-exchange": "",
            "dead-letter-routing-key": "grave",
            "dead-letter-strategy": "at-least-once",
        });
        carry_out(&mut site.world, 2, &set("keep", policy));
        site.kill(true, 3);
        assert_eq!(site.exhume("grave"), [0]);
        site.pass(LETTER_RETRY);
        assert_eq!(site.exhume("grave"), [1]);
        carry_out(&mut site.world, 2, &clear("keep"));
        site.pass(LETTER_RETRY);
        assert!(site.exhume("grave").is_empty());
        assert!(!site.has_letters());
    }
}

#[test]
fn letters_go_at_once_where_a_new_policy_leads_them() {
    for cores in CORES {
        let mut site = Site::new(cores);
        site.declare(UNDERTAKER, "grave", &[]);
        let mut arguments = keeping("");
        arguments.retain(|(name, _)| !name.starts_with("x-dead-letter-routing"));
        site.declare(OWNER, "q", &arguments);
        let leading = |to: &str| set("lead", json!({"dead-letter-routing-key": to}));
        carry_out(&mut site.world, 2, &leading("nowhere"));
        site.kill(true, 2);
        site.pass(LETTER_RETRY);
        carry_out(&mut site.world, 2, &leading("grave"));
        site.pass(Duration::ZERO);
        assert_eq!(site.exhume("grave"), [0, 1]);
    }
}
