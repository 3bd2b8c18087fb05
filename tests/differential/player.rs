//! Plays a script on one broker. After each operation it waits until the broker has nothing more to say, so that what
//! was heard belongs to that step on every broker, however it schedules.
//!
//! A broker is quiet when a round trip on each channel of the script, and one to each queue, brought nothing new, twice
//! over: a delivery that was under way has then overtaken no answer. `queue.declare` asks the queues, passively and on
//! a channel of the player's own; its counts are part of what is compared.

use crate::aliases::Aliases;
use crate::describe::{Heard, heard};
use crate::encode::Call;
use crate::link::{Arrival, Link};
use crate::script::{Condition, Operation, Script, Step};
use crate::support::login::Login;
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::queue::AMQPMethod as Queue;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a script may wait for one thing.
const PATIENCE: Duration = Duration::from_secs(6);
/// Rounds in which nothing new must come.
const QUIET_ROUNDS: usize = 2;
/// How long to listen between two looks at something that takes time.
const PACE: Duration = Duration::from_millis(5);

/// What came in one step: place and stream, and what was said there.
pub(crate) type Outcome = BTreeMap<String, Vec<String>>;

pub(crate) struct Player {
    address: SocketAddr,
    vhost: &'static str,
    links: BTreeMap<char, Link>,
    aliases: Aliases,
    /// Queues that may exist, with the connection that may ask for them.
    queues: BTreeMap<String, char>,
    exchanges: BTreeSet<String>,
}

impl Player {
    pub(crate) fn new(address: SocketAddr, vhost: &'static str) -> Self {
        Self {
            address,
            vhost,
            links: BTreeMap::new(),
            aliases: Aliases::default(),
            queues: BTreeMap::new(),
            exchanges: BTreeSet::new(),
        }
    }

    /// One outcome for each step. Leaves nothing behind but connections.
    pub(crate) fn play(&mut self, script: &Script) -> Vec<Outcome> {
        let outcomes = script.steps.iter().map(|step| self.step(step)).collect();
        self.clean_up();
        outcomes
    }

    fn step(&mut self, step: &Step) -> Outcome {
        let mut outcome = Outcome::new();
        match step {
            Step::Send {
                connection,
                channel,
                operation,
            } => {
                self.send(*connection, *channel, operation, &mut outcome);
                self.settle(&mut outcome);
            }
            Step::Await(condition) => self.wait_for(condition, &mut outcome),
        }
        for (name, link) in &mut self.links {
            link.end_step(*name, &mut outcome);
            if link.is_closed() {
                // What else its channels heard before the end is left to chance.
                outcome.retain(|place, _| {
                    !place.starts_with(*name) || !place.contains(" deliveries to ")
                });
            }
        }
        self.links.retain(|_, link| !link.is_closed());
        outcome
    }

    fn link(&mut self, name: char) -> &mut Link {
        let (address, vhost) = (self.address, self.vhost);
        self.links.entry(name).or_insert_with(|| {
            let login = match name {
                'm' => Login {
                    user: "mouse",
                    password: "cheese",
                    ..Login::default()
                },
                _ => Login::default(),
            };
            Link::new(Login { vhost, ..login }.raw(address))
        })
    }

    fn send(&mut self, name: char, channel: u16, operation: &Operation, outcome: &mut Outcome) {
        let mut operation = operation.clone();
        self.aliases.fill_in(&mut operation);
        if operation.method == "connection.cut" {
            self.links.remove(&name);
            return;
        }
        let link = self.link(name);
        link.open(channel);
        let Some(operation) = link.with_real_tag(channel, operation) else {
            let text = "nothing to settle".to_owned();
            outcome.insert(format!("{name}{channel} player"), vec![text]);
            return;
        };
        let call = match Call::of(&operation) {
            Ok(call) => call,
            Err(error) => panic!("{error}"),
        };
        link.send(channel, &call);
        self.remember(name, &call);
    }

    /// Keeps the names in a call that may exist from now on.
    fn remember(&mut self, name: char, call: &Call<'_>) {
        match call.method() {
            "queue.declare" | "queue.bind" | "basic.consume" | "basic.get" => {
                let queue = call.names[0].clone();
                if !queue.is_empty() && !queue.starts_with("amq.rabbitmq.") {
                    self.queues.entry(queue).or_insert(name);
                }
            }
            "exchange.declare" if !call.names[0].starts_with("amq.") => {
                self.exchanges.insert(call.names[0].clone());
            }
            _ => {}
        }
    }

    /// Listens until nothing more comes.
    fn settle(&mut self, outcome: &mut Outcome) {
        let deadline = Instant::now() + PATIENCE;
        let mut quiet = 0;
        let mut before = BTreeMap::new();
        while quiet < QUIET_ROUNDS {
            let (news, counts) = self.round(outcome);
            let changed = news > 0 || counts != before;
            quiet = if changed { 0 } else { quiet + 1 };
            before = counts;
            let owed = self.links.values().any(Link::awaits_confirms);
            if owed && quiet == QUIET_ROUNDS && Instant::now() < deadline {
                quiet = 0;
                self.listen(outcome);
            }
        }
        for (queue, (ready, consumers)) in before {
            let text = format!("{ready} ready, {consumers} consumers");
            outcome.insert(format!("queue {queue}"), vec![text]);
        }
    }

    /// Lets a little time pass, in which something may come.
    fn listen(&mut self, outcome: &mut Outcome) -> usize {
        let mut news = 0;
        if let Some((name, link)) = self.links.iter_mut().next() {
            let arrivals = link.listen(PACE);
            let name = *name;
            news = self.file(name, arrivals, outcome);
        }
        news
    }

    /// A round trip on each channel and to each queue: how many things came, and the queues' counts.
    fn round(&mut self, outcome: &mut Outcome) -> (usize, BTreeMap<String, (u32, u32)>) {
        let mut news = 0;
        let names: Vec<char> = self.links.keys().copied().collect();
        for name in &names {
            let arrivals = self.link(*name).flush();
            news += self.file(*name, arrivals, outcome);
        }
        let mut counts = BTreeMap::new();
        for queue in self.queues.keys().cloned().collect::<Vec<_>>() {
            let Some(found) = self.ask(&queue, &names) else {
                self.queues.remove(&queue);
                continue;
            };
            counts.insert(self.aliases.hide(&queue), found);
        }
        (news, counts)
    }

    /// The counts of a queue, asked by whoever may; none if it is gone.
    fn ask(&mut self, queue: &str, names: &[char]) -> Option<(u32, u32)> {
        let favourite = self.queues.get(queue).copied();
        let mut order: Vec<char> = favourite.into_iter().chain(names.iter().copied()).collect();
        order.push('a');
        for name in order {
            let link = self.link(name);
            let answer = link.ask(queue);
            match answer {
                Ok(counts) => {
                    self.queues.insert(queue.to_owned(), name);
                    return Some(counts);
                }
                Err(404) => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Sorts what came into the outcome; how much it was.
    fn file(&mut self, name: char, arrivals: Vec<Arrival>, outcome: &mut Outcome) -> usize {
        let news = arrivals.len();
        for arrival in arrivals {
            self.learn(&arrival.method);
            if let AMQPClass::Queue(Queue::DeclareOk(ok)) = &arrival.method {
                self.queues.entry(ok.queue.to_string()).or_insert(name);
            }
            if matches!(
                arrival.method,
                AMQPClass::Basic(Basic::Ack(_) | Basic::Nack(_))
            ) {
                continue; // the link keeps them by number
            }
            let Heard { stream, text } = heard(&arrival.method, arrival.content.as_ref());
            if let Some(address) = text.split("reply-to=\"amq.rabbitmq.reply-to.").nth(1) {
                let opaque = address.split('"').next().unwrap_or_default();
                self.aliases
                    .learn("reply", &format!("amq.rabbitmq.reply-to.{opaque}"));
            }
            let place = self
                .aliases
                .hide(&format!("{name}{} {stream}", arrival.channel));
            let text = self
                .aliases
                .hide(&text)
                .replace(&format!("'{}'", self.vhost), "VHOST");
            outcome.entry(place).or_default().push(text);
        }
        news
    }

    fn learn(&mut self, method: &AMQPClass) {
        match method {
            AMQPClass::Queue(Queue::DeclareOk(ok)) if ok.queue.as_str().starts_with("amq.gen") => {
                self.aliases.learn("queue", ok.queue.as_str());
            }
            AMQPClass::Basic(Basic::ConsumeOk(ok))
                if ok.consumer_tag.as_str().starts_with("amq.ctag") =>
            {
                self.aliases.learn("tag", ok.consumer_tag.as_str());
            }
            _ => {}
        }
    }

    fn wait_for(&mut self, condition: &Condition, outcome: &mut Outcome) {
        let deadline = Instant::now() + PATIENCE;
        let mut news = 0;
        while Instant::now() < deadline {
            let met = match condition {
                Condition::Ready(queue, wanted) => {
                    let queue = self.aliases.real(queue);
                    let names: Vec<char> = self.links.keys().copied().collect();
                    self.ask(&queue, &names)
                        .is_some_and(|(ready, _)| ready == *wanted)
                }
                Condition::Gone(queue) => {
                    let queue = self.aliases.real(queue);
                    self.link('a').is_unroutable(&queue)
                }
                Condition::Heard(wanted) => news >= *wanted,
            };
            if met {
                return self.settle(outcome);
            }
            news += self.listen(outcome);
        }
        outcome.insert(
            "player".to_owned(),
            vec![format!("waited in vain for {condition:?}")],
        );
    }

    /// Ends every channel and deletes what the script may have declared.
    fn clean_up(&mut self) {
        for (name, link) in std::mem::take(&mut self.links) {
            if ('a'..='c').contains(&name) {
                self.links.insert(name, link);
            } else {
                link.close();
            }
        }
        for queue in std::mem::take(&mut self.queues) {
            let owner = if self.links.contains_key(&queue.1) {
                queue.1
            } else {
                'a'
            };
            self.link(owner).delete_queue(&queue.0);
        }
        for link in self.links.values_mut() {
            link.close_channels();
        }
        for exchange in std::mem::take(&mut self.exchanges) {
            self.link('a').delete_exchange(&exchange);
        }
        self.aliases = Aliases::default();
    }
}
