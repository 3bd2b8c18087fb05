//! What queues are that are declared without a type: their vhost may say it, or the configuration
//! (<https://www.rabbitmq.com/docs/vhosts#default-queue-type>, `rabbit_amqqueue:augment_declare_args`).
//!
//! The type is put into the arguments, so that declaring with and without it are the same, and that it stays
//! if the default changes.

use crate::amqp::table::TableWriter;
use crate::model::arguments::{Arguments, QUEUE_TYPE, QueueType};

/// A type as definitions and configurations name it: as `x-queue-type` does, or as RabbitMQ's module for it is
/// called: `rabbit_quorum_queue`.
pub fn parse(name: &str) -> Option<QueueType> {
    let module = name
        .strip_prefix("rabbit_")
        .and_then(|rest| rest.strip_suffix("_queue"));
    QueueType::from_bytes(module.unwrap_or(name).as_bytes())
}

/// The arguments of a declaration, with the default type if they say none. `is_lasting`: the queue is durable,
/// everybody's and not to be deleted when unused; one that isn't is classic whatever the default is.
pub fn applied(default: Option<QueueType>, arguments: &Arguments, is_lasting: bool) -> Arguments {
    match default {
        Some(default)
            if arguments.get(QUEUE_TYPE).is_none()
                && (is_lasting || default == QueueType::Classic) =>
        {
            let table = TableWriter::copy_without(arguments.table(), &[]);
            let table = table.long_string(QUEUE_TYPE, default.name());
            Arguments::parse(&table.into_bytes()).expect("fields of a checked table and our own")
        }
        _ => arguments.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_their_names_and_those_of_rabbitmqs_modules() {
        for (name, known) in [
            ("classic", Some(QueueType::Classic)),
            ("quorum", Some(QueueType::Quorum)),
            ("rabbit_quorum_queue", Some(QueueType::Quorum)),
            ("rabbit_stream_queue", Some(QueueType::Stream)),
            ("rabbit_quorum", None),
            ("Quorum", None),
            ("", None),
        ] {
            assert_eq!(parse(name), known, "{name}");
        }
    }

    #[test]
    fn the_default_counts_where_no_type_is_said_and_the_queue_can_be_of_it() {
        let arguments = |table: TableWriter| Arguments::parse(&table.into_bytes()).expect("fine");
        let plain = arguments(TableWriter::new().long("x-max-length", 5));
        let typed = |name| {
            let table = TableWriter::new().long_string(QUEUE_TYPE, name);
            arguments(table.long("x-max-length", 5))
        };
        let (classic, quorum) = (Some(QueueType::Classic), Some(QueueType::Quorum));
        assert_eq!(applied(None, &plain, true), plain);
        assert_eq!(applied(quorum, &plain, true), typed("quorum"));
        assert_eq!(applied(quorum, &plain, false), plain);
        assert_eq!(applied(classic, &plain, false), typed("classic"));
        assert_eq!(applied(quorum, &typed("classic"), true), typed("classic"));
    }
}
