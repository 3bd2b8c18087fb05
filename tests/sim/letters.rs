//! Dead letters as the wire has them: how often a message died, where, and why. One that a delayed exchange has let
//! go is a letter from the queue where it waited.

use leveret::amqp::properties::Properties;
use leveret::amqp::table::Value;

/// Why a message left its queue for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    MaxLen,
    DeliveryLimit,
    /// It has waited as long as it should.
    Delayed,
}

/// Where delayed messages wait has no name by which a client knows it.
pub(crate) const NAMELESS: usize = usize::MAX;

/// An entry of `x-death`: so often in that queue for that reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Died {
    pub(crate) queue: usize,
    pub(crate) reason: Reason,
    pub(crate) count: usize,
}

/// All deaths of a message, the latest first.
pub(crate) type Deaths = Vec<Died>;

/// After one more.
pub(crate) fn died_again(deaths: &[Died], queue: usize, reason: Reason) -> Deaths {
    let is_it = |one: &Died| one.queue == queue && one.reason == reason;
    let before = deaths.iter().find(|one| is_it(one));
    let count = before.map_or(0, |one| one.count) + 1;
    let newest = Died {
        queue,
        reason,
        count,
    };
    let others = deaths.iter().filter(|one| !is_it(one));
    std::iter::once(newest).chain(others.copied()).collect()
}

/// The deaths that a message's properties tell of; none if the header is no broker's.
pub(crate) fn read_deaths(properties: &[u8]) -> Option<Deaths> {
    let headers = Properties::from_validated(properties).headers();
    let delay = headers.and_then(|headers| headers.get("x-delay")?.as_integer());
    let has_waited = delay.is_some_and(|delay| delay < 0).then_some(Died {
        queue: NAMELESS,
        reason: Reason::Delayed,
        count: 1,
    });
    let Some(header) = headers.and_then(|headers| headers.get("x-death")) else {
        return Some(has_waited.into_iter().collect());
    };
    let Value::Array(entries) = header else {
        return None;
    };
    let read = |entry: Value<'_>| {
        let Value::Table(entry) = entry else {
            return None;
        };
        let text = |name: &str| match entry.get(name) {
            Some(Value::LongString(text)) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        Some(Died {
            queue: text("queue")?.strip_prefix('q')?.parse().ok()?,
            reason: match text("reason")? {
                "rejected" => Reason::Rejected,
                "expired" => Reason::Expired,
                "maxlen" => Reason::MaxLen,
                "delivery_limit" => Reason::DeliveryLimit,
                _ => return None,
            },
            count: usize::try_from(entry.get("count")?.as_integer()?).ok()?,
        })
    };
    let deaths = entries.values().map(read);
    deaths.chain(has_waited.map(Some)).collect()
}
