//! The differences that `COMPATIBILITY.md` lists, each under the id that it has there.

use crate::compare::Difference;
use crate::script::Step;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Recognizes a listed difference, told all steps up to the one that differs.
type Recognize = fn(&Difference, &[Step]) -> bool;

/// Evened out before anything is compared, in `describe`. What AMQP leaves open isn't in the list: see the README.
const NORMALIZED: [&str; 5] = [
    "access-kind",
    "delivery-count-zero",
    "line-breaks",
    "table-order",
    "x-last-death",
];

const ALLOWED: [(&str, Recognize); 19] = [
    ("bcc-of-dead-letters", |difference, steps| {
        let has_bcc = steps.iter().any(|step| has_field(step, "h.BCC"));
        let buries = steps
            .iter()
            .any(|step| has_field(step, "x-dead-letter-exchange"));
        has_bcc
            && buries
            && !difference.reference_says("close")
            && !difference.leveret_says("close")
    }),
    ("channel-flow-off", |difference, _| {
        difference.reference_says("540 NOT_IMPLEMENTED - active=false")
            && difference.leveret_says("FlowOk")
    }),
    ("consumer-timeout-compared", |difference, _| {
        difference.leveret_says("inequivalent arg 'x-consumer-timeout'")
            && difference.reference_says("queue.declare-ok")
    }),
    ("consumer-timeout-of-consumers", |difference, _| {
        difference.leveret_says("invalid arg 'x-consumer-timeout'")
            && difference.reference_says("basic.consume-ok")
    }),
    ("delivery-limit-on-classic", |difference, _| {
        difference.reference_says("invalid arg 'x-delivery-limit'")
            && difference.leveret_says("queue.declare-ok")
    }),
    ("delivery-limit-value", |difference, _| {
        difference.leveret_says("invalid arg 'x-delivery-limit'")
            && difference.reference_says("queue.declare-ok")
    }),
    ("exchange-type-text", |difference, _| {
        difference.reference_says("503 COMMAND_INVALID - invalid exchange type")
            && difference.leveret_says("503 COMMAND_INVALID - unknown exchange type")
    }),
    ("expiry-behind-the-head", |difference, steps| {
        let is_late = difference.reference_says("waited in vain for Ready")
            && steps.iter().any(has_expiration);
        let closes = difference.reference_says("close") || difference.leveret_says("close");
        is_late || steps.iter().any(expires_at_once) && !closes
    }),
    ("global-prefetch-turns", |difference, steps| {
        steps.iter().any(is_global_prefetch) && difference.is_about("basic.deliver")
    }),
    ("history-for-nobody", |difference, _| {
        difference.step_is("exchange.bind")
            && difference.reference_says("541 INTERNAL_ERROR")
            && difference.leveret_says("BindOk")
    }),
    ("history-order", |difference, steps| {
        let has_history = steps.iter().any(|step| has_word(step, "x-recent-history"));
        let binds = steps.iter().any(|step| is_of(step, "exchange.bind"));
        has_history && binds && difference.is_about("basic.get-ok")
    }),
    ("queue-type-name", |difference, _| {
        ["classic", "quorum"].iter().any(|name| {
            difference.reference_says(&format!("of queue type rabbit_{name}_queue"))
                && difference.leveret_says(&format!("of queue type {name}"))
        })
    }),
    ("leader-locator-on-classic", |difference, _| {
        difference.reference_says("invalid arg 'x-queue-leader-locator'")
            && difference.leveret_says("queue.declare-ok")
    }),
    ("next-active-at-once", |difference, steps| {
        let lets_go = ["basic.cancel", "channel.close"]
            .iter()
            .any(|method| difference.step_is(method));
        lets_go && steps.iter().any(has_single_active) && difference.leveret_says("basic.deliver")
    }),
    ("quorum-conditional-delete", |difference, _| {
        difference.step_is("queue.delete")
            && difference.reference_says("flag set are not supported by quorum queues")
    }),
    ("quorum-consumer-count", |difference, steps| {
        let before_consumers = |line: &String| line.split(" ready, ").next().map(str::to_owned);
        let messages = |lines: &[String]| lines.iter().map(before_consumers).collect::<Vec<_>>();
        difference.is_about(" consumers")
            && messages(&difference.reference) == messages(&difference.leveret)
            && steps.iter().any(is_of_quorum)
    }),
    ("quorum-global-prefetch", |difference, _| {
        difference.reference_says("does not support global qos")
            && difference.leveret_says("basic.consume-ok")
    }),
    ("reply-to-mandatory", |difference, _| {
        difference.reference_says("NO_ROUTE \"\" \"$reply") && difference.leveret.is_empty()
    }),
    ("returns-through-siblings", |difference, steps| {
        let sorted = |lines: &[String]| {
            let mut lines = lines.to_vec();
            lines.sort();
            lines
        };
        let other_order = difference.is_about("redelivered")
            && sorted(&difference.reference) == sorted(&difference.leveret);
        // What comes to one that doesn't acknowledge is gone.
        let takes = |step: &Step| is_of(step, "basic.consume") && has_word(step, "no-ack");
        let is_taken = difference.is_about(" consumers")
            && ready(&difference.reference) < ready(&difference.leveret)
            && steps.iter().any(takes);
        difference.step_is("basic.consume") && (other_order || is_taken)
    }),
];

/// Messages that are ready in queues, by what is said of them.
fn ready(lines: &[String]) -> u64 {
    let words = lines.iter().filter_map(|line| line.split_once(" ready, "));
    let counts = words.filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

fn has_expiration(step: &Step) -> bool {
    has_field(step, "expiration")
}

/// A message that expires where it stands.
fn expires_at_once(step: &Step) -> bool {
    matches!(step, Step::Send { operation, .. }
        if operation.fields.contains(&("expiration".to_owned(), Value::text("0"))))
}

fn has_single_active(step: &Step) -> bool {
    has_field(step, "x-single-active-consumer")
}

fn is_of_quorum(step: &Step) -> bool {
    matches!(step, Step::Send { operation, .. }
        if operation.fields.contains(&("x-queue-type".to_owned(), Value::text("quorum"))))
}

fn has_field(step: &Step, name: &str) -> bool {
    matches!(step, Step::Send { operation, .. } if operation.fields.iter().any(|(key, _)| key == name))
}

fn is_of(step: &Step, method: &str) -> bool {
    matches!(step, Step::Send { operation, .. } if operation.method == method)
}

fn has_word(step: &Step, word: &str) -> bool {
    matches!(step, Step::Send { operation, .. } if operation.words.iter().any(|one| one == word))
}

fn is_global_prefetch(step: &Step) -> bool {
    is_of(step, "basic.qos") && has_word(step, "global")
}

/// The id under which a difference is listed.
pub(crate) fn id_of(difference: &Difference, steps: &[Step]) -> Option<&'static str> {
    let found = ALLOWED
        .iter()
        .find(|(_, recognize)| recognize(difference, steps));
    found.map(|(id, _)| *id)
}

/// Ids that no script has come upon: their rows are out of date.
pub(crate) fn not_seen<T>(seen: &BTreeMap<&'static str, T>) -> Vec<&'static str> {
    let ids = ALLOWED.iter().map(|(id, _)| *id);
    ids.filter(|id| !seen.contains_key(id)).collect()
}

/// Fails unless `COMPATIBILITY.md` lists exactly what is allowed here: the rows of its table begin with the id.
pub(crate) fn check_list() -> Result<(), String> {
    let listed: BTreeSet<&str> = include_str!("../../COMPATIBILITY.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let allowed: BTreeSet<&str> = ALLOWED
        .iter()
        .map(|(id, _)| *id)
        .chain(NORMALIZED)
        .collect();
    if listed == allowed {
        return Ok(());
    }
    Err(format!(
        "COMPATIBILITY.md and allowed.rs differ: {:?}",
        listed.symmetric_difference(&allowed)
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_allowed_is_listed() {
        super::check_list().expect("each id stands in both");
    }
}
