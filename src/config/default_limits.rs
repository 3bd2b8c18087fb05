//! The limits that a configuration file gives to vhosts by their names: `default_limits.vhosts.ID.*`, with
//! RabbitMQ's keys. The first ID whose pattern matches counts, in the order of the IDs.

use std::collections::BTreeMap;

use super::ConfigError;
use super::file::Refused;
use super::users::pattern;
use super::value;
use crate::base::Pattern;
use crate::base::settings::DefaultLimits;

/// More than this is as good as no limit.
const LIMIT_MAX: u64 = u32::MAX as u64;

/// By ID.
#[derive(Default, Debug)]
pub(super) struct Vhosts(BTreeMap<String, Stated>);

#[derive(Default, Debug)]
struct Stated {
    pattern: Option<Pattern>,
    connections: Option<u64>,
    queues: Option<u64>,
}

impl Vhosts {
    /// Takes a key over: what stands behind `default_limits.vhosts`.
    pub(super) fn set(&mut self, id: &str, key: &str, text: &str) -> Result<(), Refused> {
        let stated = self.0.entry(id.to_owned()).or_default();
        match key {
            "pattern" => stated.pattern = Some(pattern(text)?),
            "max_connections" => {
                stated.connections = Some(value::number(text, 0..=LIMIT_MAX, "connections")?);
            }
            "max_queues" => stated.queues = Some(value::number(text, 0..=LIMIT_MAX, "queues")?),
            _ => return Err(Refused::Key),
        }
        Ok(())
    }

    /// All of them, in the order in which they are tried.
    pub(super) fn limits(self) -> Result<Vec<DefaultLimits>, ConfigError> {
        let limits = self.0.into_iter().map(|(id, stated)| {
            let vhosts = stated.pattern.ok_or_else(|| {
                ConfigError(format!(
                    "default_limits.vhosts.{id} has no pattern: say which vhosts it is for"
                ))
            })?;
            Ok(DefaultLimits {
                vhosts,
                connections: stated.connections,
                queues: stated.queues,
            })
        });
        limits.collect()
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use crate::config::file::{File, parse};

    #[test]
    fn limits_are_read_in_the_order_of_their_ids() {
        let text = "default_limits.vhosts.2.pattern = .*\ndefault_limits.vhosts.2.max_connections = 7\n\
                    default_limits.vhosts.1.pattern = ^a\ndefault_limits.vhosts.1.max_queues = 0\n";
        let (settings, warnings) = parse("f", text).and_then(File::settings).expect("correct");
        assert!(warnings.is_empty(), "{warnings:?}");
        let read = settings.default_limits.iter();
        let read: Vec<_> = read
            .map(|one| (one.vhosts.matches(b"b"), one.connections, one.queues))
            .collect();
        assert_eq!(read, [(false, None, Some(0)), (true, Some(7), None)]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, told) in [
            (
                "default_limits.vhosts.1.max_queues = 3",
                "default_limits.vhosts.1 has no pattern: say which vhosts it is for",
            ),
            (
                "default_limits.vhosts.1.max_queues = few",
                "f line 1: default_limits.vhosts.1.max_queues: expected queues from 0 to 4294967295, not 'few'",
            ),
            (
                "default_limits.vhosts.1.max_shards = 1",
                "unknown key 'default_limits.vhosts.1.max_shards' in f line 1",
            ),
        ] {
            let error = parse("f", text).and_then(File::settings);
            assert_eq!(error.expect_err("wrong").to_string(), told);
        }
    }
}
