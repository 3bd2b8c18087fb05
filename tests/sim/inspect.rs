//! What is on a disk, asked of a broker that is built from it, drained, and thrown away. It writes to
//! files of its own, so the disk may be used afterwards as if nobody had looked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, channel, exchange};
use leveret::base::{CoreId, Settings, Time};
use leveret::broker::Core;
use leveret::log::{DiskRequest, Image};
use leveret::mail::Mail;

use crate::client::{Client, Mode};
use crate::disk::{Disk, LogId};
use crate::exchanges::ignores_keys;
use crate::letters::Deaths;
use crate::oracle::{FoundMessage, Inspection, Oracle, Verdict};
use crate::rules::Stamp;
use crate::trace;
use crate::wire::{self, Ear, Heard};
use crate::world;

/// Channels that ask for exchanges begin here; those that ask for queues at 1.
const EXCHANGES: u16 = 30;
/// Channels that wait for delayed messages, and for those that pass.
const WAITER: u16 = 60;
const PASSER: u16 = 61;
/// The message that is published to see where it goes has this bit and the number of its route.
const PROBE: u64 = 1 << 63;
/// Simulated time in which the broker says what it has to say.
const PATIENCE: Duration = Duration::from_millis(400);
/// Times that nothing happens but for time.
const WAITS_MAX: usize = 20;

struct Inspector<'a> {
    disk: &'a Disk,
    cores: Vec<Core>,
    client: Client,
    ear: Ear,
    now: Time,
    /// Files that were made meanwhile, and copies of those that were written to.
    made: BTreeMap<(LogId, u32), Vec<u8>>,
}

/// Looks at a disk.
pub(crate) fn inspect(
    disk: &Disk,
    cores: u16,
    oracle: &Oracle,
    keys: usize,
) -> Verdict<Inspection> {
    trace::count(|counts| counts.images += 1);
    let quiet = Settings {
        move_messages: 0,
        spreads_queues: false,
        ..Settings::default()
    };
    let (mut built, damage) = world::recover(disk, cores, 1, quiet)?;
    let now = Time(1);
    let session = built[0].connect(now, true);
    let client = Client::new(0, 0, session, Mode::Confirm, 0, 0);
    let ear = Ear::default();
    let mut inspector = Inspector {
        disk,
        cores: built,
        client,
        ear,
        now,
        made: BTreeMap::new(),
    };
    let queues = oracle.named_queues();
    let mut found = Inspection {
        queues: vec![None; oracle.queues.len()],
        exchanges: vec![true; oracle.exchanges.len()],
        bindings: BTreeSet::new(),
        passed: Vec::new(),
        damage,
    };
    let mut hello: Vec<u8> = inspector.client.unsent.drain(..).collect();
    for queue in 0..queues {
        let channel = 1 + queue as u16;
        if channel > 1 {
            wire::open_channel(&mut hello, channel);
        }
        wire::consume(&mut hello, channel, queue, &queue.to_string(), true);
    }
    for (number, exchange) in oracle.exchanges.iter().enumerate().skip(1) {
        let channel = EXCHANGES + number as u16;
        wire::open_channel(&mut hello, channel);
        wire::declare_exchange(
            &mut hello,
            channel,
            number,
            exchange.kind,
            (exchange.durable, true),
        );
    }
    for heard in inspector.talk(&hello)? {
        note_heard(&heard, &mut found)?;
    }
    inspector.find_bindings(oracle, keys, &mut found)?;
    if let Some((exchange, noted)) = oracle.noted()
        && found.exchanges[exchange]
    {
        found.passed = inspector.find_passing(exchange, &noted)?;
    }
    if let Some((room, exchange)) = oracle.waiting_room()
        && found.exchanges[exchange]
    {
        found.queues[room] = Some(inspector.find_waiting(exchange)?);
    }
    Ok(found)
}

fn note_heard(heard: &Heard, found: &mut Inspection) -> Verdict {
    match &heard.method {
        AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)) => {
            found.queues[usize::from(heard.channel) - 1].get_or_insert_default();
        }
        AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) => {
            let (message, _) =
                wire::read_body(&heard.body).ok_or("a recovered body is nobody's")?;
            let redelivered = deliver.redelivered;
            let queue = &mut found.queues[usize::from(heard.channel) - 1];
            queue.get_or_insert_default().push(FoundMessage {
                message,
                deaths: heard.deaths.clone(),
                redelivered,
            });
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) if close.reply_code == 404 => {
            if heard.channel > EXCHANGES {
                found.exchanges[usize::from(heard.channel - EXCHANGES)] = false;
            }
        }
        AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_))
        | AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))
        | AMQPClass::Connection(_)
        | AMQPClass::Confirm(_)
        | AMQPClass::Basic(basic::AMQPMethod::QosOk(_)) => {}
        other => return Err(format!("the recovered broker says {other:?}")),
    }
    Ok(())
}

impl Inspector<'_> {
    /// Publishes through every exchange, and sees where it goes.
    fn find_bindings(&mut self, oracle: &Oracle, keys: usize, found: &mut Inspection) -> Verdict {
        let mut routes = Vec::new();
        let mut say = Vec::new();
        for (number, exchange) in oracle.exchanges.iter().enumerate().skip(1) {
            let keys = if ignores_keys(exchange.kind) { 1 } else { keys };
            for key in (0..keys).filter(|_| found.exchanges[number]) {
                let body = wire::body(PROBE | routes.len() as u64, 0);
                let channel = EXCHANGES + number as u16;
                let how = (false, false, Stamp::default());
                wire::publish(&mut say, channel, (number, key), how, &body);
                routes.push((number, key));
            }
        }
        for heard in self.talk(&say)? {
            let (message, _) = wire::read_body(&heard.body).ok_or("a probe came back changed")?;
            let Some((exchange, key)) = routes.get((message & !PROBE) as usize) else {
                return Err(format!("message {message} came after everything else"));
            };
            found
                .bindings
                .insert((*exchange, *key, usize::from(heard.channel) - 1));
        }
        Ok(())
    }

    /// Publishes messages again that an exchange must know; those that pass.
    fn find_passing(&mut self, exchange: usize, noted: &[u64]) -> Verdict<Vec<u64>> {
        let mut say = Vec::new();
        wire::open_channel(&mut say, PASSER);
        wire::wait_behind(&mut say, PASSER, exchange);
        let stamp = Stamp {
            is_compared: true,
            ..Stamp::default()
        };
        for message in noted {
            let (how, body) = ((false, false, stamp), wire::body(*message, 0));
            wire::publish(&mut say, PASSER, (exchange, 0), how, &body);
        }
        let heard = self.talk(&say)?;
        let passed = heard.iter().filter(|heard| heard.channel == PASSER);
        let passed = passed.filter_map(|heard| wire::read_body(&heard.body));
        Ok(passed.map(|(message, _)| message).collect())
    }

    /// Binds a queue of its own to a delayed exchange, and sees what comes when everything is due.
    fn find_waiting(&mut self, exchange: usize) -> Verdict<Vec<FoundMessage>> {
        let mut say = Vec::new();
        wire::open_channel(&mut say, WAITER);
        wire::wait_behind(&mut say, WAITER, exchange);
        self.talk(&say)?;
        self.now = Time(u64::MAX / 2);
        for core in &mut self.cores {
            core.expire(self.now);
        }
        let mut waiting = Vec::new();
        for heard in self.talk(&[])? {
            if heard.channel != WAITER {
                continue;
            }
            let (message, _) = wire::read_body(&heard.body).ok_or("what waits is nobody's")?;
            waiting.push(FoundMessage {
                message,
                deaths: Deaths::new(),
                redelivered: false,
            });
        }
        Ok(waiting)
    }

    /// Says something, and listens until nothing more comes.
    fn talk(&mut self, bytes: &[u8]) -> Verdict<Vec<Heard>> {
        self.cores[0].receive(self.now, self.client.session, bytes);
        let mut heard = Vec::new();
        let until = self.now + PATIENCE;
        let mut waits = 0;
        loop {
            let mut worked = false;
            for index in 0..self.cores.len() {
                worked |= self.turn(index, &mut heard)?;
            }
            if worked {
                continue;
            }
            // What is written again while it is asked for can be had once a batch is due.
            let timers = self.cores.iter().filter_map(Core::next_timer);
            waits += 1;
            let due = timers
                .min()
                .filter(|time| *time <= until && waits < WAITS_MAX);
            let Some(next) = due else {
                return Ok(heard);
            };
            self.now = self.now.max(next);
            for core in &mut self.cores {
                core.expire(self.now);
            }
        }
    }

    fn turn(&mut self, index: usize, heard: &mut Vec<Heard>) -> Verdict<bool> {
        let mut worked = self.cores[index].has_work();
        self.cores[index].settle(self.now);
        worked |= self.use_disk(index)?;
        while let Some(session) = self.cores[index].next_dirty() {
            if session != self.client.session || index != 0 {
                continue;
            }
            let core = &mut self.cores[index];
            let (bytes, _) = world::drain(core, &self.client, usize::MAX, self.now);
            self.ear.hear(&bytes);
            heard.extend(self.ear.take()?);
            worked |= !bytes.is_empty();
        }
        for peer in 0..self.cores.len() {
            let mail = self.cores[index].take_mail(CoreId(peer as u16), Box::<Mail>::default);
            if let Some(mut mail) = mail {
                let from = CoreId(index as u16);
                self.cores[peer].deliver_mail(self.now, from, &mut mail);
                worked = true;
            }
        }
        Ok(worked)
    }

    /// Whatever is asked of the disk is done at once.
    fn use_disk(&mut self, index: usize) -> Verdict<bool> {
        let mut worked = false;
        let core = &mut self.cores[index];
        while let Some((log, size)) = core.next_commit(self.now) {
            let mut bytes = vec![0; size];
            let placed = core.commit(self.now, log, &mut bytes);
            let placed = placed.ok_or("a commit was due and isn't written")?;
            let own = self.made.entry(((index, log), placed.file.0));
            let file = own.or_insert_with(|| self.disk.view((index, log)).copy(placed.file));
            let at = placed.offset as usize;
            file[at..at + placed.len].copy_from_slice(&bytes[..placed.len]);
            core.committed(self.now, log);
            worked = true;
        }
        while let Some((log, request)) = core.next_disk_request() {
            worked = true;
            match request {
                DiskRequest::Read {
                    read,
                    file,
                    offset,
                    len,
                } => {
                    let mut bytes = vec![0; len];
                    let at = offset as usize;
                    match self.made.get(&((index, log), file.0)) {
                        Some(made) => bytes.copy_from_slice(&made[at..at + len]),
                        None => {
                            let mut view = self.disk.view((index, log));
                            let result = view.read(file, offset, &mut bytes);
                            result.map_err(|error| error.to_string())?;
                        }
                    }
                    core.read_done(self.now, log, read, Some(&bytes));
                }
                DiskRequest::Prepare { file, size } => {
                    self.made
                        .insert(((index, log), file.0), vec![0; size as usize]);
                    core.prepared(self.now, log, file, true);
                }
                DiskRequest::Remove { .. } | DiskRequest::Quarantine { .. } => {}
            }
        }
        Ok(worked)
    }
}
