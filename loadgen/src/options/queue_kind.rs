//! What kind of queues a run declares.

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::pairs::{Pairs, Value, parse_pairs};

/// The argument by which a queue's type is chosen.
const QUEUE_TYPE: &str = "x-queue-type";

#[derive(Args, Debug)]
pub(super) struct QueueOptions {
    /// Arguments to declare the queues with, repeatable: true and false are booleans, numbers are longs, all
    /// else is text (-qa)
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_pairs, conflicts_with = "predeclared")]
    queue_args: Vec<Pairs>,
    /// Declare quorum queues: x-queue-type=quorum, durable, with persistent messages as by -f persistent (-qq)
    #[arg(long)]
    quorum_queue: bool,
    /// Whether the queues are deleted when their last consumer goes, and not only at the end [default: false] (-ad)
    #[arg(long, value_name = "BOOL", conflicts_with = "predeclared")]
    auto_delete: Option<bool>,
    /// Exclusive queues, each declared by the connection that consumes from it
    #[arg(short = 'E', long, conflicts_with_all = ["predeclared", "keep", "queue_core"])]
    exclusive: bool,
}

/// What kind of queues a run declares, besides their being durable.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct QueueKind {
    pub(crate) arguments: Pairs,
    pub(crate) auto_delete: bool,
    pub(crate) exclusive: bool,
}

impl QueueOptions {
    /// The kind, and whether queues and messages are to survive a restart whatever the flags say.
    pub(super) fn into_kind(self) -> Result<(QueueKind, bool)> {
        let mut arguments = Pairs::merged(self.queue_args);
        let auto_delete = self.auto_delete.unwrap_or(false);
        if self.quorum_queue {
            ensure!(
                !auto_delete && !self.exclusive,
                "-qq with -ad true or -E: quorum queues are neither auto-delete nor exclusive"
            );
            let quorum = Value::Text("quorum".to_owned());
            ensure!(
                arguments.get(QUEUE_TYPE).is_none_or(|it| *it == quorum),
                "-qq and another {QUEUE_TYPE} in -qa exclude each other"
            );
            arguments.insert(QUEUE_TYPE, quorum);
        }
        let kind = QueueKind {
            arguments,
            auto_delete,
            exclusive: self.exclusive,
        };
        Ok((kind, self.quorum_queue))
    }
}

impl QueueKind {
    /// Whether a queue that is there already may be of another kind.
    pub(crate) fn is_particular(&self) -> bool {
        self.auto_delete || !self.arguments.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use crate::options::tests::settings;

    #[test]
    fn a_quorum_queue_is_durable_and_so_are_its_messages() {
        let quorum = settings("lg throughput -qq -qa x-max-length=5").expect("valid");
        assert!(quorum.persistent);
        let arguments = serde_json::to_value(&quorum.queue_kind.arguments).expect("a map");
        let expected = serde_json::json!({"x-queue-type": "quorum", "x-max-length": 5});
        assert_eq!(arguments, expected);
        assert!(settings("lg throughput -qq -qa x-queue-type=quorum").is_ok());
    }

    #[test]
    fn queues_are_of_the_usual_kind_unless_asked_for() {
        let usual = settings("lg throughput").expect("valid");
        assert!(!usual.queue_kind.is_particular() && !usual.persistent);
        let auto_delete = settings("lg throughput -ad true").expect("valid");
        assert!(auto_delete.queue_kind.auto_delete);
        let kept = settings("lg throughput -ad false").expect("valid");
        assert!(!kept.queue_kind.auto_delete);
    }

    #[test]
    fn an_exclusive_queue_has_one_connection() {
        for good in [
            "throughput -E",
            "throughput -E -Y 4",
            "throughput -E -y 2 -qp q%d -qpt 2",
            "throughput -E -y 2 -qp q%d -qpt 5",
            "throughput -E -y 2 -Y 2 -qp q%d -qpt 4",
            "fanout -E",
            "queues -E --queues 20 --connections 5",
        ] {
            assert!(settings(&format!("lg {good}")).is_ok(), "{good}");
        }
        for bad in [
            "throughput -E -y 2",
            "throughput -E -y 0",
            "throughput -E -y 3 -qp q%d -qpt 2",
            "throughput -E -y 2 -Y 2 -qp q%d -qpt 2",
            "throughput -E -p",
            "throughput -E --keep",
            "throughput -E --queue-core 0",
            "backlog -E",
        ] {
            assert!(settings(&format!("lg {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_that_no_queue_can_have_are_refused() {
        for bad in [
            "-qq -ad true",
            "-qq -E",
            "-qq -qa x-queue-type=classic",
            "-ad maybe",
            "-qa =5",
            "-qa a=1 -p",
            "-ad true -p",
        ] {
            assert!(settings(&format!("lg throughput {bad}")).is_err(), "{bad}");
        }
    }
}
