//! A world of cores with disks, which do what they are asked for until a test says that reads fail.

use std::time::Duration;

use super::*;
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
pub(super) struct Site {
    pub(super) world: World,
    files: Files,
    now: Time,
    /// So many reads fail from now on,
    pub(super) failing_reads: usize,
    /// each after so long,
    pub(super) read_span: Duration,
    /// and all in which that byte of a file is.
    pub(super) unreadable: Option<usize>,
    /// What counts from the next start on.
    pub(super) settings: Arc<Settings>,
}

pub(super) const CORES: [u16; 2] = [1, 2];
/// Declares what letters go to.
pub(super) const UNDERTAKER: usize = 0;
/// Declares the queue where messages die.
pub(super) const OWNER: usize = 1;

impl Site {
    pub(super) fn new(cores: u16) -> Self {
        let mut site = Self {
            world: World::new(cores, 5),
            files: Files::new(),
            now: Time(1),
            failing_reads: 0,
            read_span: Duration::ZERO,
            unreadable: None,
            settings: Arc::default(),
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
    pub(super) fn restart(mut self) -> Self {
        (self.failing_reads, self.unreadable) = (0, None);
        self.world.cut_all_and_check_nothing_is_left();
        assert!(!self.has_letters());
        for core in &mut self.world.cores {
            core.shard.close_letters();
            core.finish();
        }
        self.settle();
        assert!(self.world.cores.iter().all(Core::is_quiet));
        let read = RecoveredDefinitions::read(&mut OneLog(&self.files, 0, LogName::Definitions), 7);
        let mut log = Some(read.expect("the log is whole"));
        let definitions = log.as_ref().map(RecoveredDefinitions::definitions);
        let definitions = definitions.expect("it was read");
        let cores = self.world.cores.len();
        let mut world = World::new(cores as u16, 6);
        for core in 0..cores {
            let read = Recovered::read(&mut OneLog(&self.files, core, LogName::Messages));
            let stored = Stored {
                definitions: &definitions,
                definition_log: log.take(),
                messages: read.expect("the log is whole"),
            };
            let id = CoreId(core as u16);
            world.cores[core] = Core::new(id, cores as u16, Arc::clone(&self.settings), 7, stored);
        }
        self.world = world;
        self.connect();
        self
    }

    /// Everything is done that can be done without waiting.
    pub(super) fn settle(&mut self) {
        // What waits for company before it is written is due.
        let soon = self.now + limits::READ_RETRY / 2;
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
                let fails = self.failing_reads > 0;
                self.failing_reads -= usize::from(fails);
                let range = at..at + len;
                let fails = fails || self.unreadable.is_some_and(|byte| range.contains(&byte));
                self.now = self.now + self.read_span;
                core.read_done(self.now, log, read, Some(bytes).filter(|_| !fails));
            }
            DiskRequest::Remove { .. } | DiskRequest::Quarantine { .. } => {}
        }
        true
    }

    /// So long after the last letters were tried.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        for core in 0..self.world.cores.len() {
            self.world.cores[core].expire(self.now);
            self.world.turn(core);
        }
        self.settle();
    }

    pub(super) fn call(&mut self, client: usize, class: &AMQPClass) -> Vec<AMQPFrame> {
        self.world.heard(client);
        self.world.call(client, class);
        self.settle();
        self.world.heard(client)
    }

    pub(super) fn declare(&mut self, client: usize, name: &str, arguments: &[(&str, AMQPValue)]) {
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
    pub(super) fn declare_narrow_grave(&mut self) {
        let narrow = [
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-overflow", text("reject-publish")),
        ];
        self.declare(UNDERTAKER, "grave", &narrow);
    }

    pub(super) fn bind(&mut self, name: &str) {
        let bind = queue::AMQPMethod::Bind(queue::Bind {
            queue: name.into(),
            exchange: "dlx".into(),
            ..queue::Bind::default()
        });
        self.call(UNDERTAKER, &AMQPClass::Queue(bind));
    }

    /// The exchange `dlx`.
    pub(super) fn declare_exchange(&mut self) {
        let exchange = exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: "dlx".into(),
            kind: "fanout".into(),
            durable: true,
            ..exchange::Declare::default()
        });
        self.call(UNDERTAKER, &AMQPClass::Exchange(exchange));
    }

    pub(super) fn publish(&mut self, name: &str, persistent: bool, number: u32) {
        let properties: &[u8] = match persistent {
            true => &[0x10, 0, 2],
            false => &[0, 0],
        };
        self.publish_with(name, properties, &number.to_le_bytes());
    }

    /// The same with other properties, and a body that begins with its number.
    pub(super) fn publish_with(&mut self, name: &str, properties: &[u8], body: &[u8]) {
        let publish = basic::Publish {
            routing_key: name.into(),
            ..basic::Publish::default()
        };
        self.world.publish_with(OWNER, publish, properties, body);
        self.settle();
    }

    /// Flips a bit of a body that has been written.
    pub(super) fn spoil(&mut self, body: &[u8]) {
        let mut files = self.files.values_mut();
        let spoilt = files.find_map(|bytes| {
            let at = bytes.windows(body.len()).position(|place| place == body);
            at.map(|at| bytes[at] ^= 1)
        });
        spoilt.expect("it was written");
    }

    /// The numbers of all messages that a queue gives one after the other.
    pub(super) fn drain(&mut self, client: usize, name: &str, no_ack: bool) -> Vec<u32> {
        let mut numbers = Vec::new();
        loop {
            let get = basic::AMQPMethod::Get(basic::Get {
                queue: name.into(),
                no_ack,
            });
            let frames = self.call(client, &AMQPClass::Basic(get));
            match numbers_of(&frames).first() {
                Some(number) => numbers.push(*number),
                None => return numbers,
            }
        }
    }

    /// The numbers of the messages that have come to a client since it was last asked.
    pub(super) fn heard(&mut self, client: usize) -> Vec<u32> {
        numbers_of(&self.world.heard(client))
    }

    /// What has come to rest in a queue, which is empty then.
    pub(super) fn exhume(&mut self, name: &str) -> Vec<u32> {
        self.drain(UNDERTAKER, name, true)
    }

    /// So many messages die in `q`.
    pub(super) fn kill(&mut self, persistent: bool, messages: u32) {
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
    pub(super) fn has_letters(&self) -> bool {
        self.world.cores.iter().any(Core::has_letters)
    }
}

fn numbers_of(frames: &[AMQPFrame]) -> Vec<u32> {
    let bodies = frames.iter().filter_map(|frame| match frame {
        AMQPFrame::Body(_, bytes) => bytes.first_chunk(),
        _ => None,
    });
    bodies.map(|body| u32::from_le_bytes(*body)).collect()
}

pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
