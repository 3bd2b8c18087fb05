//! What a player keeps of one channel from step to step.

use crate::encode::Call;
use crate::script::Operation;
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::channel::AMQPMethod as Channel;
use amq_protocol::protocol::confirm::AMQPMethod as Confirm;
use amq_protocol::protocol::tx::AMQPMethod as Tx;
use std::collections::{BTreeSet, VecDeque};

#[derive(Default)]
pub(crate) struct Tracks {
    pub(crate) is_open: bool,
    /// Round trips of the player's own that are under way.
    pub(crate) probes: usize,
    /// `channel.flow` of the script's that are under way.
    flows: usize,
    /// Consumers in the order of their consume-ok, with whether they don't acknowledge.
    consumers: Vec<(String, bool)>,
    consuming: VecDeque<bool>,
    getting: VecDeque<bool>,
    last_delivery: u64,
    unsettled: Vec<Delivery>,
    /// Came in this step.
    fresh: Vec<Delivery>,
    in_transaction: bool,
    /// `tx.commit` is under way: RabbitMQ takes no frame until it is answered.
    pub(crate) is_committing: bool,
    /// Settled in a transaction that isn't committed.
    settled: Vec<Delivery>,
    /// The number of the next publish, in confirm mode.
    next_publish: Option<u64>,
    unconfirmed: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    nacked: BTreeSet<u64>,
    pub(crate) faults: Vec<String>,
}

#[derive(Clone)]
struct Delivery {
    tag: u64,
    /// Which consumer got it; `usize::MAX` for basic.get.
    consumer: usize,
    /// Others came with it from other queues, in an order that AMQP leaves open.
    is_loose: bool,
}

impl Tracks {
    pub(crate) fn awaits_confirms(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// The delivery that `#2` stands for, taken off the list.
    pub(crate) fn with_real_tag(&mut self, mut operation: Operation) -> Option<Operation> {
        let settles =
            ["basic.ack", "basic.nack", "basic.reject"].contains(&operation.method.as_str());
        if !settles {
            return Some(operation);
        }
        let multiple = operation.words.iter().any(|word| word == "multiple");
        let tag = match operation.words.first()?.strip_prefix('#') {
            Some(number) => {
                let at = number.parse::<usize>().ok()?.checked_sub(1)?;
                let delivery = self.unsettled.get(at)?;
                if multiple && self.unsettled.iter().any(|delivery| delivery.is_loose) {
                    return None;
                }
                delivery.tag
            }
            None => operation.words[0].parse().ok()?,
        };
        operation.words[0] = tag.to_string();
        let is_meant = |delivery: &Delivery| {
            delivery.tag == tag || multiple && (tag == 0 || delivery.tag < tag)
        };
        let (settled, left) = self.unsettled.drain(..).partition(is_meant);
        self.unsettled = left;
        if self.in_transaction {
            self.settled.extend::<Vec<_>>(settled);
        }
        Some(operation)
    }

    /// Keeps what its answer won't say.
    pub(crate) fn sent(&mut self, call: &Call<'_>) {
        match call.method() {
            "channel.flow" => self.flows += 1,
            "tx.commit" => self.is_committing = true,
            "basic.consume" if call.has("nowait") => {
                self.consumers
                    .push((call.names[1].clone(), call.has("no-ack")));
            }
            "basic.consume" => self.consuming.push_back(call.has("no-ack")),
            "basic.get" => self.getting.push_back(call.has("no-ack")),
            "basic.recover-async" => self.unsettled.clear(),
            "confirm.select" if call.has("nowait") => self.begin_confirms(),
            "basic.publish" => {
                if let Some(number) = &mut self.next_publish {
                    self.unconfirmed.insert(*number);
                    *number += 1;
                }
            }
            _ => {}
        }
    }

    /// Takes note of what came; true if it answers the player and not the script.
    pub(crate) fn is_own(&mut self, method: &AMQPClass) -> bool {
        match method {
            AMQPClass::Channel(Channel::OpenOk(_)) => {
                return !std::mem::replace(&mut self.is_open, true);
            }
            AMQPClass::Channel(Channel::FlowOk(_)) if self.flows > 0 => self.flows -= 1,
            AMQPClass::Channel(Channel::FlowOk(_)) => {
                self.probes = self.probes.saturating_sub(1);
                return true;
            }
            AMQPClass::Confirm(Confirm::SelectOk(_)) => self.begin_confirms(),
            AMQPClass::Basic(method) => self.heard(method),
            AMQPClass::Tx(Tx::SelectOk(_)) => self.in_transaction = true,
            AMQPClass::Tx(Tx::CommitOk(_)) => {
                self.is_committing = false;
                self.settled.clear();
            }
            AMQPClass::Tx(Tx::RollbackOk(_)) => {
                self.unsettled.append(&mut self.settled);
                self.unsettled.sort_by_key(|delivery| delivery.tag);
            }
            _ => {}
        }
        false
    }

    fn begin_confirms(&mut self) {
        self.next_publish.get_or_insert(1);
    }

    fn heard(&mut self, method: &Basic) {
        match method {
            Basic::ConsumeOk(ok) => {
                let no_ack = self.consuming.pop_front().unwrap_or(false);
                self.consumers.push((ok.consumer_tag.to_string(), no_ack));
            }
            Basic::Deliver(deliver) => {
                let is_its = |(tag, _): &(String, bool)| *tag == deliver.consumer_tag.as_str();
                match self.consumers.iter().rposition(is_its) {
                    Some(at) => self.delivered(deliver.delivery_tag, at, self.consumers[at].1),
                    None => self
                        .faults
                        .push(format!("a delivery to {}, unknown", deliver.consumer_tag)),
                }
            }
            Basic::GetOk(ok) => {
                let no_ack = self.getting.pop_front().unwrap_or(false);
                self.delivered(ok.delivery_tag, usize::MAX, no_ack);
            }
            Basic::GetEmpty(_) => {
                self.getting.pop_front();
            }
            Basic::RecoverOk(_) => self.unsettled.clear(),
            Basic::Ack(ack) => self.confirmed(ack.delivery_tag, ack.multiple, true),
            Basic::Nack(nack) => self.confirmed(nack.delivery_tag, nack.multiple, false),
            _ => {}
        }
    }

    fn delivered(&mut self, tag: u64, consumer: usize, no_ack: bool) {
        if tag != self.last_delivery + 1 {
            self.faults
                .push(format!("delivery tag {tag} behind {}", self.last_delivery));
        }
        self.last_delivery = tag;
        if !no_ack {
            self.fresh.push(Delivery {
                tag,
                consumer,
                is_loose: false,
            });
        }
    }

    fn confirmed(&mut self, number: u64, multiple: bool, is_ack: bool) {
        let is_meant = |one: &u64| *one == number || multiple && (*one < number || number == 0);
        let meant: BTreeSet<u64> = self.unconfirmed.iter().copied().filter(is_meant).collect();
        if meant.is_empty() {
            self.faults
                .push(format!("{number} is confirmed and wasn't outstanding"));
        }
        self.unconfirmed.retain(|one| !is_meant(one));
        let to = if is_ack {
            &mut self.acked
        } else {
            &mut self.nacked
        };
        to.extend(meant);
    }

    /// Puts this step's deliveries in an order that doesn't hang on the broker, and tells its confirms.
    pub(crate) fn end_step(&mut self) -> Vec<String> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_by_key(|delivery| delivery.consumer);
        let is_loose = fresh
            .windows(2)
            .any(|two| two[0].consumer != two[1].consumer);
        fresh
            .iter_mut()
            .for_each(|delivery| delivery.is_loose = is_loose);
        self.unsettled.append(&mut fresh);
        let mut lines = vec![];
        for (what, numbers) in [("acked", &mut self.acked), ("nacked", &mut self.nacked)] {
            let numbers = std::mem::take(numbers);
            if !numbers.is_empty() {
                lines.push(format!("{what} {numbers:?}"));
            }
        }
        if !self.unconfirmed.is_empty() {
            lines.push(format!("not confirmed {:?}", self.unconfirmed));
        }
        lines
    }
}
