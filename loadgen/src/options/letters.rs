//! PerfTest's options of two or three letters behind one dash.
//!
//! Clap would read `-qp` as `-q p`. So those for which we have an equivalent are replaced by its
//! long name before clap sees them; any other argument passes unchanged.

use std::ffi::OsString;

/// PerfTest's short name, and ours in full. PerfTest's `-o` and `-i` have one letter already.
const SPELLED_OUT: [(&str, &str); 14] = [
    ("-ad", "--auto-delete"),
    ("-mp", "--message-properties"),
    ("-na", "--nack"),
    ("-pi", "--polling-interval"),
    ("-po", "--polling"),
    ("-qa", "--queue-args"),
    ("-qp", "--queue-pattern"),
    ("-qpf", "--queue-pattern-from"),
    ("-qpt", "--queue-pattern-to"),
    ("-qq", "--quorum-queue"),
    ("-re", "--requeue"),
    ("-vl", "--variable-latency"),
    ("-vr", "--variable-rate"),
    ("-vs", "--variable-size"),
];

/// The argument as clap understands it.
pub(super) fn spelled_out(argument: OsString) -> OsString {
    let known = |text: &str| SPELLED_OUT.iter().find(|(short, _)| *short == text);
    match argument.to_str().and_then(known) {
        Some((_, long)) => OsString::from(*long),
        None => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_arguments_are_replaced() {
        for (given, meant) in [
            ("-qp", "--queue-pattern"),
            ("-qpt", "--queue-pattern-to"),
            ("-q", "-q"),
            ("-q10", "-q10"),
            ("qp", "qp"),
            ("--qp", "--qp"),
        ] {
            assert_eq!(spelled_out(given.into()), OsString::from(meant));
        }
    }
}
