//! One seed: lives of a broker, each ended by a crash or a clean stop, and at the end everything is
//! drained.

use std::collections::BTreeSet;
use std::time::Duration;

use leveret::base::limits;
use leveret::broker::Core;
use leveret::log::LogName;

use crate::dice::Dice;
use crate::exchanges::DELAY_MAX_MS;
use crate::inspect::inspect;
use crate::memory;
use crate::oracle::{Standing, Stop, Verdict};
use crate::plan::{Extras, Plan};
use crate::trace;
use crate::world::World;

/// Files that a log may have when nothing is left in it: the segment that is being filled, free ones,
/// and what the closing batch has just given up.
const FILES_LEFT: usize = 6;

/// Bytes of memory that a core may hold beside messages: sessions, definitions, buffers that are used again.
const MEMORY_OF_CORE: usize = 256 * 1024;
/// The same where letters are tried again, all at once: the mail between cores keeps room for so many.
const MEMORY_OF_LETTERS: usize = 128 * 1024;
/// Bytes of messages in memory that each queue may have beyond what its core may, and the largest one besides.
const MEMORY_OF_QUEUE: usize = 32 * 1024;
/// Bytes of memory that a message may take beside its body, whether that is there or not.
const MEMORY_OF_MESSAGE: usize = 512;

/// Longer than a broker waits before it tries anything again.
const REST: Duration = Duration::from_secs(4);

/// Runs a seed.
pub(crate) fn run(seed: u64, extras: Extras) -> Verdict {
    let (plan, dice) = Plan::of_seed(seed, extras);
    run_plan(plan, dice, None).map(drop)
}

/// Runs a seed without other faults than this: the disk fails at an operation, counted from 1. Returns how
/// many operations there were before the end.
pub(crate) fn run_with_fault(seed: u64, fault_at: Option<u64>) -> Verdict<u64> {
    let (mut plan, dice) = Plan::of_seed(seed, Extras::RULES);
    (plan.clean_stops, plan.disk_full, plan.eio) = (false, false, false);
    run_plan(plan, dice, fault_at)
}

fn run_plan(plan: Plan, dice: Dice, fault_at: Option<u64>) -> Verdict<u64> {
    let lives = plan.lives;
    let mut world = World::new(plan, dice);
    world.disk.fault_at = fault_at;
    for _ in 0..lives {
        world.open()?;
        world.live()?;
        let rested = world.rest()?;
        if world.plan.clean_stops && world.dice.chance(1, 2) {
            world.stop()?;
            if world.plan.rots && world.dice.chance(1, 2) {
                world.rot()?;
            }
        } else {
            let memory = world.fold();
            // An open transaction holds what was published in it.
            if rested && !world.plan.transactions {
                world.check_memory(memory)?;
            }
            world.crash(Stop::Crash)?;
        }
    }
    let operations = world.disk.done;
    world.is_calm = true;
    world.disk.fault_at = None;
    world.disk.is_full = false;
    world.disk.eio_of = 0;
    world.open()?;
    world.drain_all()?;
    world.stop()?;
    world.check_leaks()?;
    Ok(operations)
}

impl World {
    /// Starts the broker, and crashes before it is open, and starts it again.
    fn open(&mut self) -> Verdict {
        loop {
            self.start()?;
            let crashes = !self.is_calm && self.dice.chance(self.plan.early_crashes, 8);
            let after = if crashes {
                self.dice.roll(12)
            } else {
                usize::MAX
            };
            let mut steps = 0;
            while !self.is_open() && steps < after && !self.disk.is_fatal {
                if !self.step()? {
                    return Err("the broker rests and isn't open".to_owned());
                }
                steps += 1;
            }
            if self.is_open() {
                return Ok(());
            }
            trace::count(|counts| counts.early_crashes += 1);
            self.crash(Stop::EarlyCrash)?;
        }
    }

    /// Clients come and go, and do what they do.
    fn live(&mut self) -> Verdict {
        for _ in 0..self.dice.between(1, self.plan.steps) {
            let living = self.clients.iter().filter(|client| !client.is_dead).count();
            if living < self.plan.clients && self.dice.chance(1, 6) {
                self.connect();
            }
            self.step()?;
            if self.disk.is_fatal {
                break;
            }
        }
        Ok(())
    }

    /// Nothing goes wrong for a while, if the dice say so: whatever a client waits for comes. Whether it was so.
    fn rest(&mut self) -> Verdict<bool> {
        let rests = self
            .plan
            .rests
            .as_mut()
            .is_some_and(|dice| dice.chance(1, 4));
        if !rests || self.disk.is_fatal {
            return Ok(false);
        }
        trace::note("rest", [0, 0, 0]);
        trace::count(|counts| counts.rests += 1);
        let calm = std::mem::replace(&mut self.is_calm, true);
        let eio = std::mem::take(&mut self.disk.eio_of);
        self.disk.is_full = false;
        self.drain_stalled()?;
        // Heartbeats never come to rest.
        let until = self.now + REST;
        while self.now < until && self.step()? {
            // Clients that aren't read keep the world busy, and who waits for a timer mustn't wait for them.
            for core in 0..self.cores.len() {
                let timer = self.cores[core].next_timer();
                if timer.is_some_and(|time| time <= self.now) {
                    self.turn(core)?;
                }
            }
        }
        let waiting = self.clients.iter().find_map(|client| client.waits_for());
        (self.is_calm, self.disk.eio_of) = (calm, eio);
        waiting.map_or(Ok(true), |what| Err(format!("all is at rest, and {what}")))
    }

    fn crash(&mut self, stop: Stop) -> Verdict {
        trace::note("crash", [0, 0, 0]);
        self.fold();
        self.clients.clear();
        self.disk.crash(&mut self.dice);
        self.judge(stop)
    }

    /// The process ends; how many bytes of memory it held.
    fn fold(&mut self) -> usize {
        memory::freed_by(|| self.cores.clear())
    }

    /// Nothing is under way: what ready messages take in memory has its limit, and all else is little.
    fn check_memory(&self, bytes: usize) -> Verdict {
        let (count, largest) = self.oracle.kept();
        let ahead = match self.plan.delays {
            Some(_) => limits::DELAYS_AHEAD_BYTES,
            None => 0,
        };
        let letters = match self.plan.rules.keep_letters() {
            true => MEMORY_OF_LETTERS,
            false => 0,
        };
        let core = self.plan.resident_bytes + ahead + letters + MEMORY_OF_CORE;
        let cores = usize::from(self.plan.cores) * core;
        let heads = self.oracle.queues.len() * (MEMORY_OF_QUEUE + largest);
        let most = cores + heads + count * MEMORY_OF_MESSAGE;
        if bytes > most {
            return Err(format!(
                "the broker holds {bytes} bytes of memory, and needs {most} at most"
            ));
        }
        Ok(())
    }

    fn judge(&mut self, stop: Stop) -> Verdict {
        let found = inspect(&self.disk, self.plan.cores, &self.oracle, self.plan.keys)?;
        let ruled = u64::from(self.plan.rules.any());
        trace::count(|counts| counts.ruled += ruled);
        let lossy = std::mem::take(&mut self.disk.failed_reads) > 0;
        self.oracle.judge(&found, stop, lossy)
    }

    /// While the broker is stopped some bits of its disk flip. The next start says so, and what is left
    /// is served.
    fn rot(&mut self) -> Verdict {
        let (messages, definitions) = match self.plan.rots_definitions {
            true => [(true, false), (false, true), (true, true)][self.dice.roll(3)],
            false => (true, false),
        };
        let mut rotten = BTreeSet::new();
        for (log, does_rot, most) in [
            (LogName::Messages, messages, 30),
            (LogName::Definitions, definitions, 4),
        ] {
            let count = if does_rot {
                self.dice.between(1, most)
            } else {
                0
            };
            for _ in 0..count {
                self.disk.rot(log, &mut self.dice, &mut rotten);
            }
        }
        self.oracle.allow_damage();
        self.judge(Stop::Rot)
    }

    /// A clean stop.
    fn stop(&mut self) -> Verdict {
        trace::note("stop", [0, 0, 0]);
        trace::count(|counts| counts.clean_stops += 1);
        (self.is_stopping, self.disk.is_full) = (true, false);
        let calm = std::mem::replace(&mut self.is_calm, true);
        for client in self.clients.iter_mut().filter(|client| !client.is_dead) {
            client.was_heard(&mut self.oracle);
        }
        for core in 0..self.cores.len() {
            self.cores[core].shut_down(self.now);
            // What they held may go to sessions of other cores, which end later.
            for client in self.clients.iter_mut().filter(|one| one.core == core) {
                client.ended(&mut self.oracle);
            }
            self.turn(core)?;
        }
        for client in 0..self.clients.len() {
            if !self.clients[client].is_dead {
                self.cut(client)?;
            }
        }
        self.until("every session is forgotten", |core| {
            core.session_count() == 0 && !core.has_letters()
        })?;
        for core in 0..self.cores.len() {
            self.cores[core].finish();
            self.turn(core)?;
        }
        self.until("everything is written", Core::is_quiet)?;
        let memory = self.fold();
        self.check_memory(memory)?;
        self.clients.clear();
        self.disk.crash(&mut self.dice);
        self.is_calm = calm;
        self.judge(Stop::Clean)
    }

    fn until(&mut self, what: &str, is_it: impl Fn(&Core) -> bool) -> Verdict {
        for _ in 0..100_000 {
            if self.cores.iter().all(&is_it) {
                return Ok(());
            }
            if !self.step()? && !self.cores.iter().all(&is_it) {
                break;
            }
        }
        Err(format!("at a clean stop: never that {what}"))
    }

    /// One client takes everything from every queue.
    fn drain_all(&mut self) -> Verdict {
        self.plan.transactions = false;
        (self.plan.heartbeat, self.plan.prefetch) = (0, 7);
        let client = self.connect();
        self.run_until_idle()?;
        if self.plan.delays.is_some() {
            self.set_time(self.now + Duration::from_millis(DELAY_MAX_MS));
            self.run_until_idle()?;
        }
        for queue in 0..self.plan.queues.len() {
            if self.oracle.queues[queue].standing == Standing::Present {
                self.clients[client].consume(queue, false, &mut self.oracle);
                // What is there now comes in the order of priorities.
                let consumer = self.clients[client].consumers.last_mut();
                let consumer = consumer.filter(|_| !self.oracle.is_grave(queue));
                if let Some(consumer) = consumer {
                    consumer.last_lane = Some(u8::MAX);
                }
                self.run_until_idle()?;
            }
        }
        while self.settle_all(client)? || self.has_retried_letters(client)? {}
        self.oracle.all_drained()?;
        // Letters that lead nowhere stay as long as their queue.
        for queue in 0..self.plan.queues.len() {
            let is_there = self.oracle.queues[queue].standing == Standing::Present;
            if is_there && self.plan.rules.of(queue).keeps_letters() {
                self.delete_queue(client, queue);
                self.run_until_idle()?;
            }
        }
        // What nobody waits for is written, and the log is closed.
        for _ in 0..4 {
            self.set_time(self.now + Duration::from_secs(1));
            for core in 0..self.cores.len() {
                self.turn(core)?;
            }
            self.run_until_idle()?;
        }
        self.check_leaks()
    }

    /// Whether the client had any message.
    fn settle_all(&mut self, client: usize) -> Verdict<bool> {
        self.run_until_idle()?;
        let held = self.clients[client].held_count();
        if held > 0 {
            self.clients[client].settle(held - 1, true, None, &mut self.oracle);
        }
        Ok(held > 0)
    }

    /// Whether the client has got letters that weren't taken before, now that they are tried again.
    fn has_retried_letters(&mut self, client: usize) -> Verdict<bool> {
        if !self.plan.rules.keep_letters() {
            return Ok(false);
        }
        self.set_time(self.now + limits::LETTER_RETRY);
        self.run_until_idle()?;
        Ok(self.clients[client].held_count() > 0)
    }

    /// Nothing is in the queues: little is on the disk.
    fn check_leaks(&self) -> Verdict {
        if self.oracle.noted().is_some() {
            // A deduplicating exchange's notes stay.
            return Ok(());
        }
        for core in 0..usize::from(self.plan.cores) {
            for log in [LogName::Messages, LogName::Definitions] {
                let (files, bytes) = self.disk.usage((core, log));
                if files > FILES_LEFT {
                    return Err(format!(
                        "everything is drained, and the log {log:?} of core {core} has {files} files, {bytes} bytes"
                    ));
                }
            }
        }
        Ok(())
    }
}
