//! Plays scripts of operations on RabbitMQ and on Leveret, and compares everything that comes back over the wire.
//!
//! ```text
//!   script    what is played, and its text          describe  what comes, as text
//!   value     field values, as text and bytes       aliases   names that the server makes up
//!   encode    operations as frames                  compare   the first difference, and its shortest script
//!   player    one broker: plays, and listens        random    scripts that chance writes
//!   link      one of its connections                allowed   what COMPATIBILITY.md lists
//!   tracks    one of its channels
//! ```
//!
//! `tests/differential/run` starts both brokers and this. It ends with 1 if a difference isn't listed.

#[path = "../sim/dice.rs"]
#[allow(dead_code)]
mod dice;
#[path = "../support/mod.rs"]
mod support;

mod aliases;
mod allowed;
mod compare;
mod describe;
mod encode;
mod link;
mod player;
mod random;
mod script;
mod tracks;
mod value;

use compare::{Pair, Verdict};
use player::Player;
use script::Script;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One for each worker, which so has all names to itself.
const VHOSTS: [&str; 4] = ["w0", "w1", "w2", "w3"];
/// Differences of one kind that are shrunk and shown, of scripts that chance wrote.
const SHOWN_OF_A_KIND: usize = 2;

struct Options {
    rabbitmq: SocketAddr,
    leveret: SocketAddr,
    scripts: Vec<Script>,
    /// Every listed difference has to show.
    expects_all: bool,
}

/// What all workers have found.
#[derive(Default)]
struct Report {
    same: usize,
    listed: BTreeMap<&'static str, usize>,
    different: BTreeMap<String, usize>,
}

fn main() -> ExitCode {
    let options = match allowed::check_list().and_then(|()| options(std::env::args().skip(1))) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let begun = Instant::now();
    let (report, next) = (Mutex::new(Report::default()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for vhost in VHOSTS {
            let (report, next, options) = (&report, &next, &options);
            scope.spawn(move || work(vhost, options, next, report));
        }
    });
    let report = report
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let differences: usize = report.different.values().sum();
    println!(
        "{} scripts in {} s: {} the same, {} with a listed difference {:?}, {differences} with another",
        options.scripts.len(),
        begun.elapsed().as_secs(),
        report.same,
        report.listed.values().sum::<usize>(),
        report.listed
    );
    for (kind, count) in &report.different {
        println!("{count:6} {kind}");
    }
    let not_seen = allowed::not_seen(&report.listed);
    if options.expects_all && !not_seen.is_empty() {
        println!("COMPATIBILITY.md lists what doesn't differ: {not_seen:?}");
        return ExitCode::FAILURE;
    }
    let judged = report.same + report.listed.values().sum::<usize>() + differences;
    if differences == 0 && judged == options.scripts.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Takes scripts until there are none.
fn work(vhost: &'static str, options: &Options, next: &AtomicUsize, report: &Mutex<Report>) {
    let mut pair = Pair {
        reference: Player::new(options.rabbitmq, vhost),
        leveret: Player::new(options.leveret, vhost),
    };
    while let Some(script) = options.scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
        let verdict = pair.judge(script);
        let lock = || {
            report
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        match verdict {
            Verdict::Same => lock().same += 1,
            Verdict::Listed(id) => *lock().listed.entry(id).or_default() += 1,
            Verdict::Different(difference) => {
                let seen = {
                    let mut report = lock();
                    let seen = report.different.entry(difference.kind()).or_default();
                    *seen += 1;
                    *seen
                };
                if seen <= SHOWN_OF_A_KIND || !script.is_random {
                    let (shortest, difference) = pair.shrink(script, difference);
                    println!("{shortest}{difference}");
                }
            }
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut rabbitmq, mut leveret, mut scripts, mut random, mut seed) = (None, None, vec![], 0, 1);
    let mut expects_all = false;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("{argument} needs a value"))
        };
        let address = |value: String| value.parse().map_err(|_| format!("{value}: not ADDR:PORT"));
        let number = |value: String| value.parse().map_err(|_| format!("{value}: not a number"));
        match argument.as_str() {
            "--expect-all-listed" => expects_all = true,
            "--rabbitmq" => rabbitmq = Some(address(value()?)?),
            "--leveret" => leveret = Some(address(value()?)?),
            "--random" => random = number(value()?)?,
            "--seed" => seed = number(value()?)?,
            file => {
                let text =
                    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
                let read = script::parse(&text).map_err(|error| format!("{file}: {error}"))?;
                scripts.extend(read);
            }
        }
    }
    scripts.extend((seed..seed + random).map(random::script));
    Ok(Options {
        rabbitmq: rabbitmq.ok_or("--rabbitmq ADDR:PORT is missing")?,
        leveret: leveret.ok_or("--leveret ADDR:PORT is missing")?,
        scripts,
        expects_all,
    })
}
