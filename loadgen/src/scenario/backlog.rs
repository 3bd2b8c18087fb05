//! `backlog`: fill a queue while nobody consumes, then drain it while nobody publishes.
//!
//! The fill ends when all is confirmed, so that none of it is still on its way when the drain
//! begins. What the broker does to hold a backlog (paging, flow control) shows in the rate of the
//! fill, what it does to bring it back in that of the drain.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::load::{Plan, draw, measure, with_topology};
use crate::options::Settings;
use crate::output::BULK_BYTES;
use crate::plot;
use crate::report::{Sinks, Summary, print_json, say};

/// Both phases, as --json prints them.
#[derive(Debug, Serialize)]
struct Backlog<'a> {
    settings: &'a Settings,
    messages: u64,
    fill_rate: f64,
    drain_rate: f64,
    fill: &'a Summary,
    drain: &'a Summary,
}

/// Runs it.
pub(super) fn run(settings: &Settings) -> Result<()> {
    let mut sinks = Sinks::open(settings)?;
    let (fill, drain) = with_topology(settings, || {
        let fill = measure(
            Plan {
                write_bytes: BULK_BYTES,
                awaited: None,
            },
            &filling(settings),
            &mut sinks,
        )?;
        sinks.live.tell("filled, draining");
        ensure!(fill.sent > 0, "nothing was published to drain");
        let awaited = Some(fill.sent * settings.copies());
        let drain = measure(
            Plan {
                write_bytes: BULK_BYTES,
                awaited,
            },
            &draining(settings),
            &mut sinks,
        )?;
        Ok((fill, drain))
    })?;
    let backlog = Backlog {
        settings,
        messages: drain.received,
        fill_rate: fill.sending_rate_avg,
        drain_rate: drain.receiving_rate_avg,
        fill: &fill,
        drain: &drain,
    };
    backlog.report()?;
    draw(settings, || plot::backlog("Backlog", &fill, &drain))
}

impl Backlog<'_> {
    fn report(&self) -> Result<()> {
        let settings = self.settings;
        if settings.json {
            return print_json(self);
        }
        say("fill:")?;
        self.fill.print()?;
        say("drain:")?;
        self.drain.print()?;
        say(format_args!(
            "backlog of {}: filled at {:.0} msg/s, drained at {:.0} msg/s",
            self.messages, self.fill_rate, self.drain_rate
        ))
    }
}

fn filling(settings: &Settings) -> Settings {
    Settings {
        consumers: 0,
        ..settings.part("fill".to_owned())
    }
}

fn draining(settings: &Settings) -> Settings {
    Settings {
        producers: 0,
        producer_messages: None,
        rate: None,
        confirm: None,
        time_s: None,
        ..settings.part("drain".to_owned())
    }
}
