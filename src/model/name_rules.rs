//! What names of queues and exchanges may look like: as lax as RabbitMQ, which enforces nothing of
//! the specification but the reserved prefix.

use crate::amqp::error::ChannelError;
use crate::base::Name;
use crate::base::name::SHORT_STRING_BYTES_MAX;

/// Names that begin so belong to the broker. It is refused on creation only: what exists may be
/// declared again, passively or (exchanges) with the same properties.
const RESERVED: &str = "amq.";

/// The queue name that stands for the replies to a channel's own requests
/// (<https://www.rabbitmq.com/docs/direct-reply-to>). The queues that they go to have names that begin so.
pub const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Whether a queue of that name takes the replies to some channel's requests. For clients it is no queue, but an
/// address: whoever knows it may publish to it and ask whether it is there, and that is all.
pub fn is_reply_address(queue: &Name) -> bool {
    queue.as_str().starts_with(DIRECT_REPLY_TO)
}

/// The name without carriage returns and line feeds, which RabbitMQ takes out before anything else.
pub fn strip_cr_lf(name: &Name) -> Name {
    if name.as_bytes().iter().any(|byte| is_cr_lf(*byte as char)) {
        Name::from(name.as_str().replace(is_cr_lf, ""))
    } else {
        name.clone()
    }
}

fn is_cr_lf(character: char) -> bool {
    character == '\r' || character == '\n'
}

/// Whether the name begins with the prefix that belongs to the broker.
pub fn is_reserved(name: &Name) -> bool {
    name.as_str().starts_with(RESERVED)
}

/// # Errors
/// `ReservedName` (403) for a name that begins with `amq.`.
pub fn check_not_reserved(entity: &'static str, name: &Name) -> Result<(), ChannelError> {
    if is_reserved(name) {
        return Err(ChannelError::ReservedName {
            entity,
            name: name.clone(),
        });
    }
    Ok(())
}

/// # Errors
/// `PreconditionFailed` (406) for a name that no short string can hold. Names off the wire always fit.
pub fn check_length(entity: &'static str, name: &Name) -> Result<(), ChannelError> {
    let len = name.as_bytes().len();
    if len > SHORT_STRING_BYTES_MAX {
        return Err(ChannelError::PreconditionFailed(format!(
            "{entity} name of {len} bytes is longer than {SHORT_STRING_BYTES_MAX}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_taken_out_of_names() {
        assert_eq!(strip_cr_lf(&Name::from("a\r\nb\n")), Name::from("ab"));
        assert_eq!(strip_cr_lf(&Name::from("plain")), Name::from("plain"));
    }

    #[test]
    fn only_the_exact_prefix_is_reserved() {
        for free in ["amq", "AMQ.x", "amqp.x", "x.amq.", ""] {
            assert_eq!(check_not_reserved("queue", &Name::from(free)), Ok(()));
        }
        let error = check_not_reserved("queue", &Name::from("amq.x")).expect_err("reserved");
        assert_eq!(
            error.to_string(),
            "queue name 'amq.x' contains reserved prefix 'amq.*'"
        );
    }

    #[test]
    fn names_longer_than_a_short_string_are_refused() {
        assert_eq!(check_length("queue", &Name::from("n".repeat(255))), Ok(()));
        assert!(check_length("queue", &Name::from("n".repeat(256))).is_err());
    }
}
