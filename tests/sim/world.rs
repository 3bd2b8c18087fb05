//! Cores, rings, sockets and the disk in one thread: the dice say what happens next. What a core does
//! in a turn is what the runtime has it do.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use leveret::base::{Alarms, CoreId, Settings, Time, limits};
use leveret::broker::{Core, RecoveredDefinitions, SocketFate, Stored, Traveller};
use leveret::log::LogName;
use leveret::mail::Mail;
use leveret::shard::Recovered;

use crate::client::{Client, Mode};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::oracle::{Damage, Oracle, Verdict};
use crate::plan::Plan;
use crate::trace;

/// Builds the cores of a broker from what a disk holds, and what there is to say about damage.
pub(crate) fn recover(
    disk: &Disk,
    cores: u16,
    seed: u64,
    settings: Settings,
) -> Verdict<(Vec<Core>, Damage)> {
    // From a log that is rewritten as soon as more of it is dead than alive, to one that never is.
    let settings = Arc::new(Settings {
        log_garbage_bytes: [0, 1 << 20, 4 << 20, 1 << 30][seed as usize % 4],
        ..settings
    });
    let mut view = disk.view((0, LogName::Definitions));
    let read = RecoveredDefinitions::read(&mut view, seed);
    let log = read.map_err(|error| format!("the definitions can't be read: {error}"))?;
    let mut damage = Damage {
        definitions: log.damage(),
        messages: Vec::new(),
    };
    // The log moves to core 0, and every core needs what it says.
    let definitions = log.definitions();
    let mut log = Some(log);
    let mut built = Vec::new();
    for core in 0..cores {
        let mut view = disk.view((usize::from(core), LogName::Messages));
        let read = Recovered::read(&mut view);
        let messages = read.map_err(|error| format!("the messages can't be read: {error}"))?;
        damage.messages.extend_from_slice(messages.damage());
        let stored = Stored {
            definitions: &definitions,
            definition_log: log.take(),
            messages,
        };
        let settings = Arc::clone(&settings);
        built.push(Core::new(CoreId(core), cores, settings, seed, stored));
    }
    Ok((built, damage))
}

/// Bytes that a core wants written, up to `most`; and whether the socket is over.
pub(crate) fn drain(core: &mut Core, client: &Client, most: usize, now: Time) -> (Vec<u8>, bool) {
    let (output, fate) = core.output(client.session);
    if fate == SocketFate::CloseNow {
        return (Vec::new(), true);
    }
    let mut written = Vec::new();
    while written.len() < most {
        let mut slices = [IoSlice::new(&[]); 4];
        let filled = output.slices(&mut slices);
        let before = written.len();
        for slice in &slices[..filled] {
            let room = most - written.len();
            written.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = written.len() - before;
        if count == 0 {
            break;
        }
        output.consume(count);
    }
    let over = output.is_empty() && fate == SocketFate::CloseWhenWritten;
    if !written.is_empty() {
        core.written(now, client.session);
    }
    (written, over)
}

/// Where a client's session is that is under way.
const NOWHERE: usize = usize::MAX;
/// How old the world is where that matters.
const AGES: Duration = Duration::from_secs(1000);

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) now: Time,
    pub(crate) disk: Disk,
    pub(crate) cores: Vec<Core>,
    /// Mail under way, by sender and receiver.
    rings: Vec<VecDeque<Box<Mail>>>,
    /// Sessions under way to another core, each with its client's number.
    travellers: Vec<(usize, Traveller)>,
    pub(crate) clients: Vec<Client>,
    pub(crate) oracle: Oracle,
    /// Clients made so far.
    uids: u64,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    /// No client comes any more.
    pub(crate) is_stopping: bool,
}

impl World {
    pub(crate) fn new(plan: Plan, dice: Dice) -> Self {
        let mut oracle = Oracle::new(&plan);
        if plan.harsh {
            oracle.allow_damage();
        }
        let mut disk = Disk::default();
        disk.harsh = plan.harsh;
        disk.eio_of = if plan.eio { 4 } else { 0 };
        Self {
            // Where messages expire, inspections live before all that.
            now: if plan.has_times() {
                Time(1) + AGES
            } else {
                Time(1)
            },
            plan,
            dice,
            disk,
            cores: Vec::new(),
            rings: Vec::new(),
            travellers: Vec::new(),
            clients: Vec::new(),
            oracle,
            uids: 0,
            is_calm: false,
            is_stopping: false,
        }
    }

    /// A process starts.
    pub(crate) fn start(&mut self) -> Verdict {
        let seed = self.dice.word();
        trace::note("start", [seed, 0, 0]);
        if self.plan.has_times() {
            let off = [0, 10, 1000, 10_000][self.dice.roll(4)];
            let off = Duration::from_millis(self.dice.roll(off) as u64);
            self.set_time(self.now + off);
        }
        let settings = Settings {
            move_messages: self.plan.move_messages,
            spreads_queues: self.plan.move_messages > 0,
            resident_bytes: self.plan.resident_bytes,
            ..Settings::default()
        };
        (self.cores, _) = recover(&self.disk, self.plan.cores, seed, settings)?;
        let rings = self.cores.len() * self.cores.len();
        self.rings = (0..rings).map(|_| VecDeque::new()).collect();
        self.clients.clear();
        self.travellers.clear();
        self.is_stopping = false;
        for core in 0..self.cores.len() {
            self.turn(core)?;
        }
        Ok(())
    }

    pub(crate) fn set_time(&mut self, now: Time) {
        self.now = now;
        self.oracle.now_ms = now.0 / 1_000_000;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.cores.iter().all(Core::is_open)
    }

    /// A client connects.
    pub(crate) fn connect(&mut self) -> usize {
        let core = self.dice.roll(self.cores.len());
        let session = self.cores[core].connect(self.now, true);
        let transacts = self.plan.transactions && self.dice.chance(1, 3);
        let mode = if transacts {
            Mode::Transaction
        } else {
            Mode::Confirm
        };
        self.uids += 1;
        let (prefetch, heartbeat) = (self.plan.prefetch, self.plan.heartbeat);
        let client = Client::new(self.uids, core, session, mode, prefetch, heartbeat);
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// A client's socket is gone.
    pub(crate) fn cut(&mut self, client: usize) -> Verdict {
        let found = &mut self.clients[client];
        found.died(&mut self.oracle);
        let core = found.core;
        if core == NOWHERE {
            return Ok(());
        }
        self.cores[core].disconnected(self.now, found.session);
        self.turn(core)
    }

    /// Sessions leave a core.
    fn see_off(&mut self, index: usize) {
        while let Some((session, traveller)) = self.cores[index].next_traveller() {
            let is_it = |one: &Client| one.core == index && one.session == session;
            let living = self
                .clients
                .iter()
                .position(|one| is_it(one) && !one.is_dead);
            let client = living.or_else(|| self.clients.iter().rposition(is_it));
            let client = client.expect("every session had a client");
            trace::note("leaves", [self.clients[client].uid, index as u64, 0]);
            trace::count(|counts| counts.moves += 1);
            self.clients[client].core = NOWHERE;
            self.travellers.push((client, traveller));
        }
    }

    /// A session comes to another core.
    fn arrive(&mut self, number: usize) -> Verdict {
        let (client, traveller) = self.travellers.swap_remove(number);
        let core = traveller.core().index();
        let session = self.cores[core].arrive(self.now, traveller);
        let found = &mut self.clients[client];
        trace::note("arrives", [found.uid, core as u64, 0]);
        (found.core, found.session) = (core, session);
        if found.is_dead {
            self.cores[core].disconnected(self.now, session);
        } else if self.is_stopping {
            found.ended(&mut self.oracle);
        }
        self.turn(core)
    }

    /// The rest of a core's turn: timers, own mail, the disk, mail to peers, output to sockets.
    pub(crate) fn turn(&mut self, index: usize) -> Verdict {
        let now = self.now;
        // One core's full disk is everybody's; and others use it too, for a second now and then.
        let is_short = !self.is_calm && now.0 >> 30 & 3 == 3;
        let alarms = self.plan.alarms.then(|| Alarms {
            disk: is_short || self.cores.iter().any(Core::is_disk_full),
            ..Alarms::default()
        });
        let core = &mut self.cores[index];
        if core.next_timer().is_some_and(|time| time <= now) {
            core.expire(now);
        }
        core.settle(now);
        if let Some(alarms) = alarms {
            core.set_alarms(now, alarms);
        }
        while let Some((log, size)) = core.next_commit(now) {
            let mut buffer = vec![0xee; size];
            let placed = core.commit(now, log, &mut buffer);
            let placed = placed.ok_or("a commit was due and isn't written")?;
            buffer.truncate(placed.len);
            self.disk.begin_write((index, log), placed, buffer);
        }
        while let Some((log, request)) = core.next_disk_request() {
            self.disk.submit((index, log), request);
        }
        self.post(index);
        self.note_ended(index);
        self.flush(index)?;
        self.post(index);
        self.see_off(index);
        core_notices(&mut self.cores[index]);
        Ok(())
    }

    fn post(&mut self, index: usize) {
        let cores = self.cores.len();
        for peer in 0..cores {
            let mail = self.cores[index].take_mail(CoreId(peer as u16), Box::default);
            self.rings[index * cores + peer].extend(mail);
        }
    }

    /// A session may end long before its client knows: what that held has gone back by then.
    fn note_ended(&mut self, index: usize) {
        let clients = self.clients.iter_mut();
        for client in clients.filter(|one| one.core == index && !one.is_ended) {
            let (_, fate) = self.cores[index].output(client.session);
            if fate != SocketFate::Open {
                client.ended(&mut self.oracle);
            }
        }
    }

    /// Writes to the sockets that aren't stuck.
    fn flush(&mut self, index: usize) -> Verdict {
        while let Some(session) = self.cores[index].next_dirty() {
            let mut clients = self.clients.iter();
            let found =
                clients.position(|one| one.core == index && one.session == session && !one.is_dead);
            let client = found.ok_or("a session without a client")?;
            self.drain(client)?;
        }
        Ok(())
    }

    /// Sockets that were stuck take what has gathered for them.
    pub(crate) fn drain_stalled(&mut self) -> Verdict {
        for client in 0..self.clients.len() {
            self.drain(client)?;
        }
        for core in 0..self.cores.len() {
            self.turn(core)?;
        }
        Ok(())
    }

    /// A socket takes some of its output.
    fn drain(&mut self, client: usize) -> Verdict {
        let found = &mut self.clients[client];
        if found.is_dead || found.core == NOWHERE || found.stalled && !self.is_calm {
            return Ok(());
        }
        let partly = self.plan.stalls && !self.is_calm && self.dice.chance(1, 4);
        let most = if partly {
            self.dice.between(1, 2000)
        } else {
            usize::MAX
        };
        let core = found.core;
        let (bytes, over) = drain(&mut self.cores[core], found, most, self.now);
        found.hear(&bytes, &mut self.oracle)?;
        if over {
            found.died(&mut self.oracle);
            self.cores[core].disconnected(self.now, found.session);
            self.post(core);
        }
        Ok(())
    }

    /// Something happens. False: nothing is under way anywhere.
    pub(crate) fn step(&mut self) -> Verdict<bool> {
        trace::count(|counts| counts.steps += 1);
        let moment = Duration::from_micros(self.dice.roll(200) as u64);
        self.set_time(self.now + moment);
        let rings: Vec<usize> = (0..self.rings.len())
            .filter(|ring| !self.rings[*ring].is_empty())
            .collect();
        let talkers: Vec<usize> =
            self.who(|client| !client.unsent.is_empty() && client.core != NOWHERE);
        let actors: Vec<usize> = if self.is_calm || self.is_stopping {
            Vec::new()
        } else {
            self.who(|client| client.is_open && !client.is_ended)
        };
        let undrained =
            self.who(|client| client.core != NOWHERE && (client.is_open || self.is_calm));
        let weights = self.plan.weights.clone();
        let jobs = self.disk.pending();
        let weigh = |weight: usize, there: bool| if there { weight } else { 0 };
        let choices = [
            weigh(weights.ring, !rings.is_empty()),
            weigh(weights.bytes, !talkers.is_empty()),
            weigh(weights.act, !actors.is_empty()),
            weigh(weights.disk, jobs > 0),
            weigh(
                weights.drain,
                !undrained.is_empty() && self.plan.stalls && !self.is_calm,
            ),
            weigh(weights.time, !self.is_calm),
            weigh(weights.ring, !self.travellers.is_empty()),
        ];
        let total: usize = choices.iter().sum();
        if total == 0 {
            return self.idle();
        }
        let mut choice = self.dice.roll(total);
        let kind = choices.iter().position(|weight| {
            let is_it = choice < *weight;
            choice = choice.saturating_sub(*weight);
            is_it
        });
        match kind {
            Some(0) => {
                if let Some(ring) = self.dice.pick(&rings) {
                    self.deliver(ring)?;
                }
            }
            Some(1) => {
                if let Some(client) = self.dice.pick(&talkers) {
                    self.receive(client)?;
                }
            }
            Some(2) => {
                if let Some(client) = self.dice.pick(&actors) {
                    self.act(client)?;
                }
            }
            Some(3) => {
                let told = self
                    .disk
                    .complete(&mut self.dice, &mut self.cores, self.now);
                if let Some(core) = told {
                    self.turn(core)?;
                }
            }
            Some(4) => {
                if let Some(client) = self.dice.pick(&undrained) {
                    self.drain(client)?;
                    self.turn(self.clients[client].core)?;
                }
            }
            Some(6) => {
                let number = self.dice.roll(self.travellers.len());
                self.arrive(number)?;
            }
            _ => self.pass_time()?,
        }
        Ok(true)
    }

    fn who(&self, is_it: impl Fn(&Client) -> bool) -> Vec<usize> {
        let clients = self.clients.iter().enumerate();
        let found = clients.filter(|(_, client)| !client.is_dead && is_it(client));
        found.map(|(number, _)| number).collect()
    }

    /// A ring brings a batch.
    fn deliver(&mut self, ring: usize) -> Verdict {
        let cores = self.cores.len();
        let (from, to) = (ring / cores, ring % cores);
        if let Some(mut mail) = self.rings[ring].pop_front() {
            trace::note("mail", [from as u64, to as u64, 0]);
            self.cores[to].deliver_mail(self.now, CoreId(from as u16), &mut mail);
            if !mail.is_empty() {
                return Err("a mail is left empty".to_owned());
            }
        }
        self.turn(to)
    }

    /// A socket brings bytes, cut anywhere.
    fn receive(&mut self, client: usize) -> Verdict {
        let found = &mut self.clients[client];
        let (index, session) = (found.core, found.session);
        let budget = self.cores[index].read_budget(session);
        let most = [40, 400, 4000, 400_000][self.dice.roll(4)];
        let count = found.unsent.len().min(budget).min(1 + self.dice.roll(most));
        if count > 0 {
            found.handed_over += count as u64;
            let bytes: Vec<u8> = found.unsent.drain(..count).collect();
            let core = &mut self.cores[index];
            let mut at = 0;
            while at < bytes.len() {
                let rest = &bytes[at..];
                match core.landing(session).filter(|_| self.dice.chance(1, 2)) {
                    Some(room) => {
                        let some = room.len().min(rest.len());
                        room[..some].copy_from_slice(&rest[..some]);
                        core.received_in_place(self.now, session, some);
                        at += some;
                    }
                    None => {
                        core.receive(self.now, session, rest);
                        at = bytes.len();
                    }
                }
            }
        }
        self.turn(index)
    }

    /// Time passes, at times much of it.
    fn pass_time(&mut self) -> Verdict {
        let most = if self.plan.rules.keep_letters() && self.dice.chance(1, 16) {
            2 * limits::LETTER_RETRY.as_millis() as usize
        } else if self.plan.jumps && self.dice.chance(1, 8) {
            8000
        } else {
            60
        };
        let a_while = Duration::from_millis(self.dice.roll(most) as u64);
        self.set_time(self.now + a_while);
        if self.plan.disk_full && !self.is_calm && self.dice.chance(1, 4) {
            self.disk.is_full = !self.disk.is_full;
        }
        let core = self.dice.roll(self.cores.len());
        self.turn(core)
    }

    /// Nothing is under way: whatever waits for time gets it. False: nothing does.
    fn idle(&mut self) -> Verdict<bool> {
        let busy: Vec<usize> = (0..self.cores.len())
            .filter(|core| self.cores[*core].has_work())
            .collect();
        for core in &busy {
            self.turn(*core)?;
        }
        let stuck = self.who(|client| !client.unsent.is_empty());
        let timers = self.cores.iter().filter_map(Core::next_timer);
        let next = timers
            .min()
            .filter(|time| time.0 < self.now.0 + 5_000_000_000);
        if let Some(time) = next {
            self.set_time(self.now.max(time));
        }
        let full: Vec<usize> = (0..self.cores.len())
            .filter(|core| self.cores[*core].is_disk_full())
            .collect();
        for core in 0..self.cores.len() {
            self.turn(core)?;
        }
        Ok(!busy.is_empty() || next.is_some() || !stuck.is_empty() || !full.is_empty())
    }

    /// Runs until nothing is under way.
    pub(crate) fn run_until_idle(&mut self) -> Verdict {
        for _ in 0..200_000 {
            if !self.step()? {
                return Ok(());
            }
        }
        Err("the broker doesn't come to rest".to_owned())
    }
}

/// What a core tells its operator is for nobody here.
fn core_notices(core: &mut Core) {
    drop(core.notices().take());
}
